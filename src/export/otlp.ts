import type { Exchange } from '../exchange/exchange.ts';
import { REQUEST_BOUNDS } from '../metric/bounds.ts';
import { Histogram } from '../metric/histogram.ts';
import type { Span } from '../span/span.ts';
import { count, type Deliveries } from '../telemetry/counters.ts';
import type { Log, LogFields } from '../telemetry/log.ts';
import { adviceFor } from './advice.ts';
import { Backoff, defaultRetryPolicy, type RetryPolicy } from './backoff.ts';
import { type BatchExporter, type Delivered, type NotDelivered, partialSuccess, reasonOf } from './batch.ts';
import { BatchQueue, type QueuedBatch } from './batch-queue.ts';
import { type EncoderScope, OtlpEncoder } from './otlp-encoder.ts';
import type { Output, OutputState } from './output.ts';
import type { ReadableBatcher } from './readable-span.ts';
import { Spool } from './spool.ts';

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

/** Where spans go that do not fit into memory. */
export interface SpoolPlace {
  readonly folder: string;
  readonly maxBytes: number;
}

export interface OtlpOptions {
  /** As in the statistics. */
  readonly name: string;
  /** otel.component.type */
  readonly type?: string;
  /** Where spans are counted. */
  readonly deliveries: Deliveries;
  readonly log: Log;
  readonly scope: EncoderScope;
  readonly limits?: OtlpLimits;
  readonly retry?: RetryPolicy;
  /** Sends the batches. With a spool it must leave their payloads where they are. */
  readonly exporter: BatchExporter;
  /** Makes them of spans. Default: our encoder. */
  readonly batcher?: OtlpEncoder | ReadableBatcher;
  readonly spool?: SpoolPlace | undefined;
  /** From 0 to 1; for tests. */
  readonly random?: () => number;
}

/** Collectors accept messages of 4 MiB by default; some room is left for what a proxy may add. */
const MAX_BATCH_BYTES = 4 * 1024 * 1024 - 64 * 1024;
/** A source that can wait does so while the queue is fuller than this share, or holds more than a few batches: a longer one gains nothing. */
const HIGH_WATER = 0.5;
const HIGH_WATER_BATCHES = 6;
/** What backends say about spans that they reject: so many different texts are counted, the rest as one. */
const MAX_MESSAGES = 16;
/** For what is left at shutdown to be written to the spool. */
const SPOOL_CLOSE_MS = 3000;

/**
 * Exports over OTLP.
 *
 * Spans are encoded into an open batch as they arrive. A batch that is full or old enough is queued; as many as `inFlight` are under
 * way. A failure that may pass stops all sending for a growing time, then one batch at a time probes until one arrives. When more waits
 * than may, the oldest batch goes: to the spool, when there is one, else it is dropped. The spool is sent, the oldest first, while less
 * than half of what may wait in memory does. Every span that was taken, or found in the spool, ends in exactly one place: `exported` of
 * its deliveries, the spool, or `dropped` under
 *   queue_full      more waited than may; the oldest went
 *   too_large       no request could hold it
 *   rejected        the backend did not accept it (partial success)
 *   export_failed   the backend refused the request; or could not take this one, while it took others
 *   deadline        not delivered when the time for shutdown was over
 *   shutdown        came after shutdown
 * and the reasons of the spool. A request whose answer did not come may have arrived nevertheless.
 */
export class OtlpOutput implements Output {
  private readonly name: string;
  private readonly type: string;
  private readonly deliveries: Deliveries;
  private readonly log: Log;
  private readonly limits: OtlpLimits;
  private readonly retry: RetryPolicy;
  private readonly exporter: BatchExporter;
  private readonly batcher: OtlpEncoder | ReadableBatcher;
  private readonly maxBatchSpans: number;
  private readonly maxBatchBytes: number;
  private readonly maxQueueBytes: number;
  private readonly highWaterSpans: number;

  private readonly queue: BatchQueue;
  private readonly underWay = new Set<QueuedBatch>();
  private readonly backoff: Backoff;
  private batchTimer: NodeJS.Timeout | undefined;
  private retryTimer: NodeJS.Timeout | undefined;
  private retries = 0;
  private lastExportMs: number | undefined;
  private readonly durations = new Map<string, Histogram>();
  private deliveredMs = 0;
  private lastTrouble = '';
  private readonly waiting: (() => void)[] = [];
  private phase: 'open' | 'closing' | 'closed' = 'open';
  private idle: (() => void) | undefined;

  private readonly spool: Spool | undefined;
  /** Batches of the spool that are in memory and not under way: at most as many as may be under way. */
  private readonly fromSpool: QueuedBatch[] = [];
  private isReadingSpool = false;

  /** @throws Error that says why the spool cannot be used */
  constructor(options: OtlpOptions) {
    this.name = options.name;
    this.type = options.type ?? 'otlp_grpc_span_exporter';
    this.deliveries = options.deliveries;
    this.log = options.log;
    this.limits = options.limits ?? defaultOtlpLimits;
    this.retry = options.retry ?? defaultRetryPolicy;
    this.backoff = new Backoff(this.retry, options.random);
    this.exporter = options.exporter;
    this.batcher = options.batcher ?? new OtlpEncoder(options.scope);
    this.maxQueueBytes = this.limits.queueMib * 1024 * 1024;
    this.maxBatchSpans = Math.min(this.limits.batchSpans, this.limits.queueSpans);
    this.maxBatchBytes = Math.min(MAX_BATCH_BYTES, this.maxQueueBytes);
    this.highWaterSpans = HIGH_WATER_BATCHES * this.maxBatchSpans;
    this.queue = new BatchQueue(this.limits.queueSpans, this.maxQueueBytes);
    if (options.spool !== undefined) this.spool = this.openSpool(options.spool);
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

  get heldBytes(): number {
    return this.queue.bytes + this.batcher.bytes;
  }

  state(): OutputState {
    return {
      name: this.name,
      type: this.type,
      queueSpans: this.queue.spans + this.batcher.spans,
      queueBytes: this.heldBytes,
      queueSpansLimit: this.limits.queueSpans,
      queueBytesLimit: this.maxQueueBytes,
      inFlight: this.underWay.size,
      inFlightSpans: [...this.underWay].reduce((spans, batch) => spans + batch.spans, 0),
      retries: this.retries,
      lastExportMs: this.lastExportMs,
      durations: this.durations,
      spoolSpans: this.spool?.spans ?? 0,
      spoolBytes: this.spool?.bytes ?? 0,
      spoolRecovered: this.spool?.recovered ?? 0,
      spoolDamagedBytes: this.spool?.damagedBytes ?? 0,
      exported: this.deliveries.exported,
      dropped: this.deliveries.dropped,
      rejections: this.deliveries.rejections ?? {},
    };
  }

  async shutdown(deadlineMs: number): Promise<void> {
    if (this.phase !== 'open') return;
    this.phase = 'closing';
    this.seal();
    // A last try at once, whatever the wait that was due.
    this.backoff.resume();
    this.pump();
    if (!this.isIdle) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadlineMs);
        this.idle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    await this.close();
  }

  private async close(): Promise<void> {
    this.phase = 'closed';
    clearTimeout(this.batchTimer);
    clearTimeout(this.retryTimer);
    // A request under way may yet arrive; we will not learn it.
    const left = [...this.underWay];
    for (let batch = this.queue.shift(); batch !== undefined; batch = this.queue.shift()) left.push(batch);
    this.underWay.clear();
    let lost = 0;
    for (const batch of left) {
      if (batch.record === undefined && this.spool?.store(batch, () => {}) !== true) lost += batch.spans;
    }
    this.drop('deadline', lost);
    if (lost > 0)
      this.log.warn('spans were not delivered before the deadline of shutdown', this.fields({ spans: lost }));
    for (const resolve of this.waiting.splice(0)) resolve();
    // It waits for requests under way, whose results no longer matter.
    void this.exporter.shutdown().catch(() => {});
    await this.closeSpool();
  }

  /** Queues the open batch. */
  private seal(): void {
    clearTimeout(this.batchTimer);
    this.batchTimer = undefined;
    if (this.batcher.spans === 0) return;
    const { payload, spans, byteLength } = this.batcher.take();
    this.queue.push({ payload, spans, byteLength, firstSentMs: 0, record: undefined });
    this.pump();
    this.makeRoom();
  }

  private makeRoom(): void {
    while (this.queue.isOver) {
      const oldest = this.queue.shift();
      if (oldest === undefined) return;
      if (this.spool?.store(oldest, () => this.recycle(oldest)) === true) continue;
      this.recycle(oldest);
      this.drop('queue_full', oldest.spans);
      this.log.warn('the export queue is full; the oldest spans were dropped', this.fields({ spans: oldest.spans }));
    }
  }

  /** Sends what may be sent now. */
  private pump(): void {
    this.readSpool();
    if (this.queue.length === 0 && this.fromSpool.length === 0) return;
    const waitMs = this.backoff.waitMs(performance.now());
    if (waitMs > 0) {
      this.retryTimer ??= setTimeout(() => {
        this.retryTimer = undefined;
        this.pump();
      }, Math.ceil(waitMs)).unref();
      return;
    }
    // While the backend fails one batch at a time asks whether it is back.
    const most = this.backoff.isFailing ? 1 : this.limits.inFlight;
    while (this.underWay.size < most) {
      const batch = this.nextBatch();
      if (batch === undefined) break;
      this.send(batch);
    }
  }

  private nextBatch(): QueuedBatch | undefined {
    const { queue, fromSpool } = this;
    // While the backend fails, one that has failed for long may be why: another one shows whether it is.
    const patientMs = this.backoff.isFailing ? performance.now() - this.retry.giveUpMs : 0;
    const isNew = ({ firstSentMs }: QueuedBatch): boolean => firstSentMs === 0 || firstSentMs > patientMs;
    const [spooled] = fromSpool;
    // At the end, what is not on disk goes first.
    const isTurnOfSpool = this.phase === 'open' ? !queue.isFuller(HIGH_WATER) : queue.length === 0;
    if (spooled !== undefined && isTurnOfSpool) {
      if (isNew(spooled) || queue.length === 0) {
        fromSpool.shift();
        this.readSpool();
        return spooled;
      }
    }
    return queue.shiftFirst(isNew);
  }

  private releaseWaiting(): void {
    if (this.waiting.length > 0 && !this.isCrowded()) for (const resolve of this.waiting.splice(0)) resolve();
  }

  /** A source that can wait does not wait for ever. */
  private isCrowded(): boolean {
    if (this.backoff.failingMs(performance.now()) > this.retry.giveUpMs) return false;
    return (
      this.queue.spans + this.batcher.spans > Math.min(this.limits.queueSpans * HIGH_WATER, this.highWaterSpans) ||
      this.queue.bytes + this.batcher.bytes > this.maxQueueBytes * HIGH_WATER
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
      if (outcome.delivered) this.delivered(batch, sentMs, outcome);
      else this.failed(batch, sentMs, outcome);
      this.pump();
      this.releaseWaiting();
      if (this.isIdle) this.idle?.();
    });
  }

  /** Nothing is left that shutdown would wait for: the spool is, while the backend takes it. */
  private get isIdle(): boolean {
    if (this.queue.length > 0 || this.underWay.size > 0) return false;
    if (this.spool === undefined || this.backoff.isFailing) return true;
    return this.fromSpool.length === 0 && !this.isReadingSpool && !this.spool.hasMore;
  }

  private delivered(batch: QueuedBatch, sentMs: number, outcome: Delivered): void {
    const nowMs = performance.now();
    this.lastExportMs = nowMs - sentMs;
    this.deliveredMs = nowMs;
    this.lastTrouble = '';
    if (this.backoff.succeeded()) this.log.info('spans are delivered again', this.fields());
    const { rejected, message } = partialSuccess(outcome, batch.spans);
    this.deliveries.exported += batch.spans - rejected;
    if (rejected > 0) this.rejected(rejected, message);
    else if (message !== '') {
      // Partial success without rejected spans is the backend's way to warn.
      this.log.warn('the backend accepted spans with a warning', this.fields({ reason: message }));
    }
    this.finish(batch, rejected > 0 ? 'rejected' : '', true);
  }

  private rejected(spans: number, message: string): void {
    this.drop('rejected', spans);
    this.log.warn('the backend rejected spans', this.fields({ spans, reason: message }));
    this.deliveries.rejections ??= {};
    const { rejections } = this.deliveries;
    const known = message in rejections || Object.keys(rejections).length < MAX_MESSAGES;
    count(rejections, known ? message : 'other', spans);
  }

  private failed(batch: QueuedBatch, sentMs: number, outcome: NotDelivered): void {
    const reason = reasonOf(outcome);
    const { status, retryable, retryDelayMs } = outcome.failure;
    const nowMs = performance.now();
    const advice = adviceFor(status, reason);
    const trouble = status + (advice ?? reason);
    if (retryable && !this.backoff.isFailing) {
      this.log.warn('spans cannot be delivered at the moment; trying again', this.fields({ status, reason, advice }));
    } else if (retryable && this.lastTrouble !== trouble) {
      this.log.warn('spans can still not be delivered', this.fields({ status, reason, advice }));
    }
    this.lastTrouble = trouble;
    // A backend that took others since does not take this one.
    const isHopeless = nowMs - batch.firstSentMs > this.retry.giveUpMs && this.deliveredMs > batch.firstSentMs;
    if (!retryable || isHopeless) {
      this.drop('export_failed', batch.spans);
      this.log.error('spans could not be exported', this.fields({ spans: batch.spans, status, reason, advice }));
      this.finish(batch, status, false);
    } else if (batch.record !== undefined) this.fromSpool.unshift(batch);
    else this.queue.putBack(batch);
    if (retryable) this.backoff.failed(sentMs, nowMs, retryDelayMs);
    this.makeRoom();
  }

  /** Nothing more will be done with it. @param errorType what was wrong; empty when all of it was accepted */
  private finish(batch: QueuedBatch, errorType: string, delivered: boolean): void {
    let durations = this.durations.get(errorType);
    if (durations === undefined) {
      durations = new Histogram(REQUEST_BOUNDS, false);
      this.durations.set(errorType, durations);
    }
    durations.record((performance.now() - batch.firstSentMs) / 1000);
    if (batch.record !== undefined) this.spool?.acknowledge(batch.record);
    this.recycle(batch, delivered);
  }

  /** @param unread nobody reads the bytes any more; of a request that failed some may still be on their way */
  private recycle({ payload, firstSentMs }: QueuedBatch, unread = firstSentMs === 0): void {
    if (Buffer.isBuffer(payload) && this.batcher instanceof OtlpEncoder) this.batcher.recycle(payload, unread);
  }

  private openSpool(place: SpoolPlace): Spool {
    const { log, deliveries } = this;
    const onLost = (reason: string, spans: number): void => this.drop(reason, spans);
    let spool: Spool;
    try {
      spool = new Spool({ ...place, log, onLost });
    } catch (error) {
      throw new Error(`the spool in ${place.folder} cannot be used: ${(error as Error).message}`);
    }
    const { recovered, damagedBytes } = spool;
    deliveries.spool = { recovered, damagedBytes, left: 0 };
    if (recovered > 0) log.info('spans of an earlier run were found in the spool', this.fields({ spans: recovered }));
    if (damagedBytes > 0)
      log.warn('the spool ends in what was not wholly written', this.fields({ bytes: damagedBytes }));
    setImmediate(() => this.pump());
    return spool;
  }

  /** Keeps as many batches of the spool at hand as may be under way. */
  private readSpool(): void {
    const { spool } = this;
    if (spool === undefined || this.isReadingSpool || this.phase === 'closed' || this.backoff.isFailing) return;
    if (this.fromSpool.length >= this.limits.inFlight || !spool.hasMore) return;
    this.isReadingSpool = true;
    void spool.take().then((batch) => {
      this.isReadingSpool = false;
      if (batch !== undefined) this.fromSpool.push({ ...batch, firstSentMs: 0 });
      if (this.phase === 'closed') return;
      this.pump();
      if (this.isIdle) this.idle?.();
    });
  }

  private async closeSpool(): Promise<void> {
    const { spool, deliveries } = this;
    if (spool === undefined) return;
    await spool.close(SPOOL_CLOSE_MS);
    if (deliveries.spool !== undefined) deliveries.spool.left = spool.spans;
    if (spool.spans > 0)
      this.log.info('spans are left in the spool for the next run', this.fields({ spans: spool.spans }));
  }

  private fields(fields: LogFields = {}): LogFields {
    return this.name === 'otlp' ? fields : { output: this.name, ...fields };
  }

  private drop(reason: string, spans: number): void {
    if (spans > 0) count(this.deliveries.dropped, reason, spans);
  }
}
