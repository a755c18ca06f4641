import { feedLimits } from '../config/limits.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { ExchangeView } from './view.ts';
import type { Seen } from './views.ts';

/** Gets every exchange that is published. It keeps what it needs, within a bound of its own, and does not throw. */
export type FeedReader = (view: ExchangeView) => void;

export interface FeedLimits {
  readonly readers: number;
  readonly exchangesPerSecond: number;
}

/** The feed's budget is refilled in so many parts of a second. */
const REFILLS_PER_SECOND = 10;

/**
 * Every exchange with its verdict, before sampling: those that became spans, and those that were left out, and why (`leftOut` of their endpoints).
 * Without a reader it costs a comparison per exchange. With readers its cost is bounded: a view is made of so many exchanges per second, and
 * the others are counted:
 *
 *   rate_limited   more exchanges came than feedLimits.exchangesPerSecond
 *   reader_failed  a reader threw, which is a defect of ours: it gets nothing more
 */
export class Feed {
  readonly #limits: FeedLimits;
  readonly #counts: ReasonCounts;
  readonly #readers = new Set<FeedReader>();
  #left: number;
  #missed = 0;

  /** @param counts what readers did not get, by reason */
  constructor(counts: ReasonCounts, limits: FeedLimits = feedLimits) {
    this.#limits = limits;
    this.#counts = counts;
    this.#left = limits.exchangesPerSecond;
  }

  get isRead(): boolean {
    return this.#readers.size > 0;
  }

  /** No more readers can subscribe. */
  get isFull(): boolean {
    return this.#readers.size >= this.#limits.readers;
  }

  /** Exchanges that no reader got because of the rate, in all. */
  get missed(): number {
    return this.#missed;
  }

  /** @returns what ends the subscription, or undefined where there are too many */
  subscribe(reader: FeedReader): (() => void) | undefined {
    if (this.isFull) return undefined;
    this.#readers.add(reader);
    return () => void this.#readers.delete(reader);
  }

  /** To be called for each exchange while `isRead`. */
  publish(seen: Seen): void {
    if (this.#left <= 0) {
      this.#missed++;
      count(this.#counts, 'rate_limited');
      return;
    }
    this.#left--;
    const { view } = seen;
    for (const reader of this.#readers) {
      try {
        reader(view);
      } catch {
        this.#readers.delete(reader);
        count(this.#counts, 'reader_failed');
      }
    }
  }

  /** To be called REFILLS_PER_SECOND times a second, or more seldom. */
  tick(): void {
    const rate = this.#limits.exchangesPerSecond;
    this.#left = Math.min(rate, this.#left + Math.ceil(rate / REFILLS_PER_SECOND));
  }
}
