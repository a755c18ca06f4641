import type { Exchange } from '../exchange/exchange.ts';
import type { Span } from '../span/span.ts';
import { count, type Deliveries } from '../telemetry/counters.ts';
import type { Log } from '../telemetry/log.ts';
import { type EncoderScope, OtlpEncoder } from './otlp-encoder.ts';
import type { Output, OutputState } from './output.ts';
import type { ReadableBatcher } from './readable-span.ts';
import type { Batch, BatchExporter, NotDelivered } from './trace-exporter.ts';

/** `export` of the configuration has this shape. */
export interface OtlpLimits {
  /** Spans, and MiB of them, that wait; those under way come on top. The oldest are dropped. */
  readonly queueSpans: number;
  readonly queueMib: number;
  readonly batchSpans: number;
  /** A batch that is not full is sent after this time. */
  readonly batchDelayMs: number;
  /** Requests under way at once. */
  readonly inFlight: number;
}

export const defaultOtlpLimits: OtlpLimits = {
  queueSpans: 65_536,
  queueMib: 32,
  batchSpans: 1024,
  batchDelayMs: 1000,
  inFlight: 4,
};

export interface RetryPolicy {
  readonly initialMs: number;
  readonly maxMs: number;
  /** A batch that was first sent longer ago than this is given up. */
  readonly giveUpMs: number;
}

export const defaultRetryPolicy: RetryPolicy = { initialMs: 1000, maxMs: 30_000, giveUpMs: 300_000 };

export interface OtlpOptions {
  /** As in the statistics. */
  readonly name: string;
  /** Where spans are counted. */
  readonly deliveries: Deliveries;
  readonly log: Log;
  readonly scope: EncoderScope;
  readonly limits?: OtlpLimits;
  readonly retry?: RetryPolicy;
  /** Sends the batches. */
  readonly exporter: BatchExporter;
  /** Makes them of spans. Default: our encoder. */
  readonly batcher?: OtlpEncoder | ReadableBatcher;
  /** From 0 to 1; for tests. */
  readonly random?: () => number;
}

/** Collectors accept messages of 4 MiB unless told otherwise; some room is left for what a proxy may add. */
const MAX_BATCH_BYTES = 4 * 1024 * 1024 - 64 * 1024;
/** A source that can wait does so while the queue is fuller than this share, or holds more than a few batches: a longer one gains nothing. */
const HIGH_WATER = 0.5;
const HIGH_WATER_BATCHES = 6;
/** Each wait is this much longer than the last, and up to this share shorter, so that agents do not come back all at once. */
const BACKOFF_FACTOR = 1.5;
const JITTER = 0.3;

interface QueuedBatch extends Batch {
  /** 0 until it was sent. */
  firstSentMs: number;
}

/**
 * Exports over OTLP.
 *
 * Spans are encoded into an open batch as they arrive. A batch that is full or old enough is queued; as many as `inFlight` are under
 * way. A failure that may pass stops all sending for a growing time, then one batch at a time probes until one arrives. Every span
 * that was taken ends in exactly one place: `exported` of its deliveries, or `dropped` under
 *   queue_full      more waited than may; the oldest went
 *   too_large       no request could hold it
 *   rejected        the backend did not accept it (partial success)
 *   export_failed   the backend refused the request, or was out of reach for too long
 *   deadline        not delivered when the time for shutdown was over
 *   shutdown        came after shutdown
 */
export class OtlpOutput implements Output {
  private readonly name: string;
  private readonly deliveries: Deliveries;
  private readonly log: Log;
  private readonly limits: OtlpLimits;
  private readonly retry: RetryPolicy;
  private readonly random: () => number;
  private readonly exporter: BatchExporter;
  private readonly batcher: OtlpEncoder | ReadableBatcher;
  private readonly maxBatchSpans: number;
  private readonly maxBatchBytes: number;
  private readonly maxQueueBytes: number;
  private readonly highWaterSpans: number;

  private readonly queue: QueuedBatch[] = [];
  private queuedSpans = 0;
  private queuedBytes = 0;
  private readonly underWay = new Set<QueuedBatch>();
  private batchTimer: NodeJS.Timeout | undefined;
  private retryTimer: NodeJS.Timeout | undefined;
  /** Failures in a row; sends that failed together count as one. */
  private failures = 0;
  private retries = 0;
  private lastExportMs: number | undefined;
  private pausedUntilMs = 0;
  private lastFailureMs = 0;
  private readonly waiting: (() => void)[] = [];
  private phase: 'open' | 'closing' | 'closed' = 'open';
  private idle: (() => void) | undefined;

  constructor(options: OtlpOptions) {
    this.name = options.name;
    this.deliveries = options.deliveries;
    this.log = options.log;
    this.limits = options.limits ?? defaultOtlpLimits;
    this.retry = options.retry ?? defaultRetryPolicy;
    this.random = options.random ?? Math.random;
    this.exporter = options.exporter;
    this.batcher = options.batcher ?? new OtlpEncoder(options.scope);
    this.maxQueueBytes = this.limits.queueMib * 1024 * 1024;
    this.maxBatchSpans = Math.min(this.limits.batchSpans, this.limits.queueSpans);
    this.maxBatchBytes = Math.min(MAX_BATCH_BYTES, this.maxQueueBytes);
    this.highWaterSpans = HIGH_WATER_BATCHES * this.maxBatchSpans;
  }

  exchange(_exchange: Exchange, spans: readonly Span[]): void {
    if (this.phase !== 'open') {
      this.drop('shutdown', spans.length);
      return;
    }
    const { batcher } = this;
    for (const span of spans) {
      if (!batcher.add(span, this.maxBatchBytes)) {
        if (batcher.spans > 0) this.seal();
        if (!batcher.add(span, this.maxBatchBytes)) {
          this.drop('too_large', 1);
          continue;
        }
      }
      if (batcher.spans >= this.maxBatchSpans) this.seal();
      else if (this.batchTimer === undefined) {
        this.batchTimer = setTimeout(() => this.seal(), this.limits.batchDelayMs).unref();
      }
    }
  }

  ready(): Promise<void> | undefined {
    if (this.phase === 'closed' || !this.isCrowded()) return undefined;
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  async shutdown(deadlineMs: number): Promise<void> {
    if (this.phase !== 'open') return;
    this.phase = 'closing';
    this.seal();
    // A last try at once, whatever the wait that was due.
    this.pausedUntilMs = 0;
    this.pump();
    if (this.queue.length > 0 || this.underWay.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadlineMs);
        this.idle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.close();
  }

  state(): OutputState {
    return {
      name: this.name,
      queueSpans: this.queuedSpans + this.batcher.spans,
      queueBytes: this.queuedBytes + this.batcher.bytes,
      queueSpansLimit: this.limits.queueSpans,
      queueBytesLimit: this.maxQueueBytes,
      inFlight: this.underWay.size,
      retries: this.retries,
      lastExportMs: this.lastExportMs,
      exported: this.deliveries.exported,
      dropped: this.deliveries.dropped,
    };
  }

  private close(): void {
    this.phase = 'closed';
    clearTimeout(this.batchTimer);
    clearTimeout(this.retryTimer);
    // A request under way may yet arrive; nobody will tell us.
    let lost = this.queuedSpans;
    for (const batch of this.underWay) lost += batch.spans;
    if (lost > 0) {
      this.drop('deadline', lost);
      this.log.warn('spans were not delivered before the deadline of shutdown', { spans: lost });
    }
    this.queue.length = 0;
    this.queuedSpans = 0;
    this.queuedBytes = 0;
    this.underWay.clear();
    for (const resolve of this.waiting.splice(0)) resolve();
    // It waits for requests under way, whose results no longer matter.
    void this.exporter.shutdown().catch(() => {});
  }

  /** Queues the open batch. */
  private seal(): void {
    clearTimeout(this.batchTimer);
    this.batchTimer = undefined;
    if (this.batcher.spans === 0) return;
    const { payload, spans, byteLength } = this.batcher.take();
    this.queue.push({ payload, spans, byteLength, firstSentMs: 0 });
    this.queuedSpans += spans;
    this.queuedBytes += byteLength;
    this.pump();
    this.makeRoom();
  }

  private makeRoom(): void {
    while (this.queuedSpans > this.limits.queueSpans || this.queuedBytes > this.maxQueueBytes) {
      const oldest = this.unqueue();
      if (oldest === undefined) return;
      this.drop('queue_full', oldest.spans);
      this.log.warn('the export queue is full; the oldest spans were dropped', { spans: oldest.spans });
    }
  }

  private unqueue(): QueuedBatch | undefined {
    const batch = this.queue.shift();
    if (batch === undefined) return undefined;
    this.queuedSpans -= batch.spans;
    this.queuedBytes -= batch.byteLength;
    return batch;
  }

  /** Sends what may be sent now. */
  private pump(): void {
    if (this.queue.length === 0) return;
    const waitMs = this.pausedUntilMs - performance.now();
    if (waitMs > 0) {
      this.retryTimer ??= setTimeout(() => {
        this.retryTimer = undefined;
        this.pump();
      }, Math.ceil(waitMs)).unref();
      return;
    }
    // While the backend fails one batch at a time asks whether it is back.
    const most = this.failures > 0 ? 1 : this.limits.inFlight;
    while (this.underWay.size < most) {
      const batch = this.unqueue();
      if (batch === undefined) break;
      this.send(batch);
    }
    if (this.waiting.length > 0 && !this.isCrowded()) for (const resolve of this.waiting.splice(0)) resolve();
  }

  private isCrowded(): boolean {
    return (
      this.queuedSpans + this.batcher.spans > Math.min(this.limits.queueSpans * HIGH_WATER, this.highWaterSpans) ||
      this.queuedBytes + this.batcher.bytes > this.maxQueueBytes * HIGH_WATER
    );
  }

  private send(batch: QueuedBatch): void {
    const sentMs = performance.now();
    if (batch.firstSentMs === 0) batch.firstSentMs = sentMs;
    else this.retries++;
    this.underWay.add(batch);
    this.exporter.exportBatch(batch, (outcome) => {
      // After the deadline it was counted as lost.
      if (this.phase === 'closed' || !this.underWay.delete(batch)) return;
      if (outcome.delivered) {
        this.lastExportMs = performance.now() - sentMs;
        this.delivered(batch, outcome.rejected, outcome.message);
      } else if (this.failed(batch, outcome, sentMs) === 'kept') {
        this.pump();
        return;
      }
      // The call has ended, so gRPC is done with the bytes.
      if (Buffer.isBuffer(batch.payload) && this.batcher instanceof OtlpEncoder) this.batcher.recycle(batch.payload);
      this.pump();
      if (this.queue.length === 0 && this.underWay.size === 0) this.idle?.();
    });
  }

  private delivered(batch: QueuedBatch, rejectedSpans: number, message: string): void {
    if (this.failures > 0) {
      this.failures = 0;
      this.log.info('spans are delivered again');
    }
    const rejected = Math.min(Math.max(0, Math.trunc(rejectedSpans)), batch.spans);
    this.deliveries.exported += batch.spans - rejected;
    if (rejected > 0) {
      this.drop('rejected', rejected);
      this.log.warn('the backend rejected spans', { spans: rejected, message: message.slice(0, 256) });
    } else if (message !== '') {
      // Partial success without rejected spans is the backend's way to warn.
      this.log.warn('the backend accepted spans with a warning', { message: message.slice(0, 256) });
    }
  }

  private failed(batch: QueuedBatch, outcome: NotDelivered, sentMs: number): 'kept' | 'dropped' {
    const { reason } = outcome;
    const { status, retryable, retryDelayMs } = outcome.failure;
    const nowMs = performance.now();
    if (!retryable || nowMs - batch.firstSentMs > this.retry.giveUpMs) {
      this.drop('export_failed', batch.spans);
      this.log.error('spans could not be exported', { spans: batch.spans, status, reason });
      if (!retryable) return 'dropped';
    } else {
      this.queue.unshift(batch);
      this.queuedSpans += batch.spans;
      this.queuedBytes += batch.byteLength;
      this.makeRoom();
    }
    const kept = this.queue.includes(batch) ? 'kept' : 'dropped';
    // Requests that were sent before the last failure say nothing new.
    if (this.failures === 0 || sentMs >= this.lastFailureMs) {
      if (this.failures === 0)
        this.log.warn('spans cannot be delivered at the moment; trying again', { status, reason });
      const backoffMs = Math.min(this.retry.initialMs * BACKOFF_FACTOR ** this.failures, this.retry.maxMs);
      this.failures++;
      this.lastFailureMs = nowMs;
      this.pausedUntilMs = nowMs + (retryDelayMs ?? backoffMs * (1 - JITTER * this.random()));
    } else if (retryDelayMs !== undefined) {
      this.pausedUntilMs = Math.max(this.pausedUntilMs, nowMs + retryDelayMs);
    }
    return kept;
  }

  private drop(reason: string, spans: number): void {
    if (spans > 0) count(this.deliveries.dropped, reason, spans);
  }
}
