import type { Direction, EndReason } from '../flow/connection.ts';

/** Something that arrived and waits. */
export type PendingEvent =
  | { kind: 'data'; order: number; timeUs: number; bytes: Buffer; position: number }
  | { kind: 'gap'; order: number; timeUs: number; length: number }
  | { kind: 'end'; order: number; timeUs: number; reason: EndReason };

/** What an event costs beside its bytes, so that many small ones are bounded too. */
export const EVENT_COST_BYTES = 128;

/** The events of both directions that wait, each with its place in the order of arrival. */
export class PendingQueue {
  readonly #queues: [PendingEvent[], PendingEvent[]] = [[], []];
  readonly #heads: [number, number] = [0, 0];
  #order = 0;
  /** What is held, with EVENT_COST_BYTES for each event. */
  bytes = 0;

  get isEmpty(): boolean {
    return this.#head(0) === undefined && this.#head(1) === undefined;
  }

  /** When the event that waits for longest came. */
  get oldestUs(): number {
    return Math.min(this.#head(0)?.timeUs ?? Infinity, this.#head(1)?.timeUs ?? Infinity);
  }

  has(direction: Direction): boolean {
    return this.#head(direction) !== undefined;
  }

  nextOrder(): number {
    return this.#order++;
  }

  push(direction: Direction, event: PendingEvent): void {
    this.bytes += costOf(event);
    this.#queues[direction].push(event);
  }

  /** Puts back what was begun: it stays the first. */
  unshift(direction: Direction, event: PendingEvent): void {
    this.bytes += costOf(event);
    const queue = this.#queues[direction];
    if (this.#heads[direction] > 0) queue[--this.#heads[direction]] = event;
    else queue.unshift(event);
  }

  /** The direction whose first event came before the other's, of those that may proceed; undefined when there is none. */
  next(blocked: readonly [boolean, boolean]): Direction | undefined {
    const a = blocked[0] ? undefined : this.#head(0);
    const b = blocked[1] ? undefined : this.#head(1);
    if (a === undefined) return b === undefined ? undefined : 1;
    return b === undefined || a.order < b.order ? 0 : 1;
  }

  shift(direction: Direction): PendingEvent | undefined {
    const queue = this.#queues[direction];
    const event = this.#head(direction);
    if (event === undefined) return undefined;
    this.bytes -= costOf(event);
    if (++this.#heads[direction] === queue.length) {
      queue.length = 0;
      this.#heads[direction] = 0;
    }
    return event;
  }

  clear(): void {
    for (const direction of [0, 1] as const) {
      this.#queues[direction].length = 0;
      this.#heads[direction] = 0;
    }
    this.bytes = 0;
  }

  #head(direction: Direction): PendingEvent | undefined {
    return this.#queues[direction][this.#heads[direction]];
  }
}

function costOf(event: PendingEvent): number {
  return EVENT_COST_BYTES + (event.kind === 'data' ? event.bytes.length : 0);
}
