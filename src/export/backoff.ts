export interface RetryPolicy {
  readonly initialMs: number;
  readonly maxMs: number;
  /**
   * A batch that has failed for this long is given up, if another one was delivered meanwhile: then it is the batch and not the backend.
   * A source that waits for room goes on after an outage of this length.
   */
  readonly giveUpMs: number;
}

export const defaultRetryPolicy: RetryPolicy = { initialMs: 1000, maxMs: 30_000, giveUpMs: 300_000 };

/** Each wait is this much longer than the last, and up to this share shorter, so that agents do not come back all at once. */
const BACKOFF_FACTOR = 1.5;
const JITTER = 0.3;
/** What the backend asks for is exceeded by up to this share, for the same reason. */
const SERVER_JITTER = 0.1;
/** A backend may ask for a longer wait; it is asked again after this. */
const MAX_SERVER_DELAY_MS = 3_600_000;

/** When to try again: exponential backoff with jitter, or what the backend asks for. */
export class Backoff {
  readonly #policy: RetryPolicy;
  /** From 0 to 1. */
  readonly #random: () => number;
  #failures = 0;
  #pausedUntilMs = 0;
  #lastFailureMs = 0;
  #failingSinceMs = 0;

  constructor(policy: RetryPolicy, random: () => number = Math.random) {
    this.#policy = policy;
    this.#random = random;
  }

  /** Whether the last answer that says something was a failure. */
  get isFailing(): boolean {
    return this.#failures > 0;
  }

  /** Milliseconds to wait from now on; not above 0: none. */
  waitMs(nowMs: number): number {
    return this.#pausedUntilMs - nowMs;
  }

  /** How long nothing could be delivered. */
  failingMs(nowMs: number): number {
    return this.#failures > 0 ? nowMs - this.#failingSinceMs : 0;
  }

  /** The wait that is due is over. */
  resume(): void {
    this.#pausedUntilMs = 0;
  }

  /** @returns whether it failed before */
  succeeded(): boolean {
    const wasFailing = this.#failures > 0;
    this.#failures = 0;
    return wasFailing;
  }

  /**
   * @param sentMs when the request was sent that failed now
   * @param serverDelayMs what the backend asks for
   */
  failed(sentMs: number, nowMs: number, serverDelayMs: number | undefined): void {
    // Asking for no wait at all is to say nothing.
    const askedMs =
      Math.min(Math.max(0, serverDelayMs ?? 0), MAX_SERVER_DELAY_MS) * (1 + SERVER_JITTER * this.#random());
    if (this.#failures > 0 && sentMs < this.#lastFailureMs) {
      // Sent before the last failure, so it says nothing new.
      this.#pausedUntilMs = Math.max(this.#pausedUntilMs, nowMs + askedMs);
      return;
    }
    if (this.#failures === 0) this.#failingSinceMs = nowMs;
    const { initialMs, maxMs } = this.#policy;
    const backoffMs = Math.min(initialMs * BACKOFF_FACTOR ** this.#failures, maxMs) * (1 - JITTER * this.#random());
    this.#failures++;
    this.#lastFailureMs = nowMs;
    this.#pausedUntilMs = nowMs + (askedMs > 0 ? askedMs : backoffMs);
  }
}
