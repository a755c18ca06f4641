import type { MetricGroup } from '../metric/metric.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { Log } from '../telemetry/log.ts';
import { adviceFor } from './advice.ts';
import { type BatchExporter, type ExportOutcome, partialSuccess, reasonOf } from './batch.ts';
import type { EncodedMetrics, MetricsEncoder } from './metrics-encoder.ts';

export interface MetricsPushOptions {
  readonly exporter: BatchExporter;
  readonly encoder: MetricsEncoder;
  readonly collect: () => readonly MetricGroup[];
  readonly intervalMs: number;
  readonly log: Log;
}

/** What became of data points, for the agent's own metrics. */
export interface PushState {
  readonly inFlight: number;
  readonly exported: number;
  readonly dropped: Readonly<ReasonCounts>;
}

/**
 * Sends all metrics every so often. What could not be delivered is not sent again: all of it is cumulative, so the next round says it too.
 * A round that comes while the last one is still under way is left out.
 */
export class MetricsPush {
  readonly #options: MetricsPushOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #dropped: ReasonCounts = {};
  #inFlight = 0;
  #exported = 0;
  #failing = false;
  #round: Promise<void> | undefined;

  constructor(options: MetricsPushOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.#push(), options.intervalMs).unref();
  }

  state(): PushState {
    return { inFlight: this.#inFlight, exported: this.#exported, dropped: this.#dropped };
  }

  /** Sends the last values, and waits no longer than that for them to arrive. */
  async shutdown(deadlineMs: number): Promise<void> {
    clearInterval(this.#timer);
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, deadlineMs);
    const last = async (): Promise<void> => {
      await this.#round;
      await this.#push();
    };
    await Promise.race([promise, last()]);
    clearTimeout(timer);
    void this.#options.exporter.shutdown().catch(() => {});
  }

  #push(): Promise<void> {
    this.#round ??= this.#pushAll().finally(() => {
      this.#round = undefined;
    });
    return this.#round;
  }

  /** One request after another: a backend that takes them slowly is not sent all at once. Never rejects: nobody waits for a round. */
  async #pushAll(): Promise<void> {
    const { encoder, collect, log } = this.#options;
    let failed = false;
    try {
      for (const request of encoder.encode(collect(), Date.now() * 1000)) {
        const outcome = await this.#send(request);
        failed ||= !outcome.delivered;
        this.#finished(request.points, outcome);
      }
    } catch (error) {
      failed = true;
      this.#tellFailure('internal', error instanceof Error ? error.message : String(error));
    }
    if (this.#failing && !failed) log.info('metrics are delivered again');
    this.#failing = failed;
  }

  async #send({ payload, points }: EncodedMetrics): Promise<ExportOutcome> {
    const { promise, resolve } = Promise.withResolvers<ExportOutcome>();
    this.#inFlight += points;
    try {
      this.#options.exporter.exportBatch({ payload, spans: points, byteLength: payload.length }, resolve);
      return await promise;
    } finally {
      this.#inFlight -= points;
    }
  }

  #finished(points: number, outcome: ExportOutcome): void {
    const { log } = this.#options;
    if (outcome.delivered) {
      const { rejected, message } = partialSuccess(outcome, points);
      this.#exported += points - rejected;
      if (rejected > 0) {
        count(this.#dropped, 'rejected', rejected);
        log.warn('the backend rejected metrics', { points: rejected, reason: message });
      } else if (message !== '') {
        // Partial success without rejected points is the backend's way to warn.
        log.warn('the backend accepted metrics with a warning', { reason: message });
      }
      return;
    }
    const { status } = outcome.failure;
    count(this.#dropped, status, points);
    this.#tellFailure(status, reasonOf(outcome));
  }

  /** Once, until all of a round is delivered. */
  #tellFailure(status: string, reason: string): void {
    if (this.#failing) return;
    this.#failing = true;
    const advice = adviceFor(status, reason);
    this.#options.log.warn('metrics cannot be delivered at the moment', { status, reason, advice });
  }
}
