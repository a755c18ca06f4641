import type { MetricGroup } from '../metric/metric.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { Log } from '../telemetry/log.ts';
import { adviceFor } from './advice.ts';
import type { BatchExporter, ExportOutcome } from './batch.ts';
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
    if (this.#round !== undefined) return this.#round;
    const { encoder, collect } = this.#options;
    const requests = encoder.encode(collect(), Date.now() * 1000);
    this.#round = Promise.all(requests.map((request) => this.#send(request))).then(() => {
      this.#round = undefined;
    });
    return this.#round;
  }

  #send({ payload, points }: EncodedMetrics): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#inFlight += points;
    this.#options.exporter.exportBatch({ payload, spans: points, byteLength: payload.length }, (outcome) => {
      this.#inFlight -= points;
      this.#finished(points, outcome);
      resolve();
    });
    return promise;
  }

  #finished(points: number, outcome: ExportOutcome): void {
    const { log } = this.#options;
    if (outcome.delivered) {
      const rejected = Math.min(Math.max(0, Math.trunc(outcome.rejected)), points);
      this.#exported += points - rejected;
      if (this.#failing) log.info('metrics are delivered again');
      this.#failing = false;
      if (rejected === 0) return;
      count(this.#dropped, 'rejected', rejected);
      log.warn('the backend rejected metrics', { points: rejected, message: outcome.message.slice(0, 128) });
      return;
    }
    const { status } = outcome.failure;
    const reason = outcome.reason.replace(/\s+/g, ' ').trim();
    count(this.#dropped, status, points);
    if (!this.#failing) {
      log.warn('metrics cannot be delivered at the moment', { status, reason, advice: adviceFor(status, reason) });
    }
    this.#failing = true;
  }
}
