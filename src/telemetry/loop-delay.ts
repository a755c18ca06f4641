import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

/** How long a window is; the value covers the last one to two. */
const WINDOW_MS = 30_000;

/** How late a timer of the event loop comes: what everything else on it has to wait. */
export class LoopDelay {
  readonly #periodMs: number;
  #now: RecordableHistogram = createHistogram();
  #before: RecordableHistogram = createHistogram();
  #windowMs = 0;
  #lastMs = 0;

  /** @param periodMs of the timer that calls tick() */
  constructor(periodMs: number) {
    this.#periodMs = periodMs;
  }

  /** @param nowMs of a clock that never goes back */
  tick(nowMs: number): void {
    if (this.#lastMs !== 0) {
      const lateMs = nowMs - this.#lastMs - this.#periodMs;
      // In whole nanoseconds, at least one.
      this.#now.record(Math.max(1, Math.round(lateMs * 1e6)));
    }
    this.#lastMs = nowMs;
    if (nowMs - this.#windowMs < WINDOW_MS) return;
    this.#windowMs = nowMs;
    [this.#before, this.#now] = [this.#now, this.#before];
    this.#now.reset();
  }

  /** In seconds, by the last part of the semantic conventions' names; empty before there is anything to tell. */
  read(): Record<string, number> {
    const both = createHistogram();
    both.add(this.#before);
    both.add(this.#now);
    if (both.count === 0) return {};
    const { min, max, mean, stddev } = both;
    const seconds = {
      min,
      max,
      mean,
      stddev,
      p50: both.percentile(50),
      p90: both.percentile(90),
      p99: both.percentile(99),
    };
    return Object.fromEntries(Object.entries(seconds).map(([which, ns]) => [which, ns / 1e9]));
  }
}
