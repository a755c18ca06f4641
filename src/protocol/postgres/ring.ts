/**
 * The messages of the client that wait for their answer, in their order. Kept in columns, so that a message costs no object.
 */
import { PendingRing } from '../shared/ring.ts';

export const NONE = 0;
export const REQUEST_STARTUP = 1;
/** Its subject: the statements of its text, `readonly SqlStatement[]`. Its target: where they end, `readonly number[]`. */
export const REQUEST_QUERY = 2;
export const REQUEST_FUNCTION_CALL = 3;
export const REQUEST_SYNC = 4;
/** Its subject: the Prepared. */
export const REQUEST_PARSE = 5;
/** Their subject: the StatementName. Their target: the Portal. */
export const REQUEST_BIND = 6;
export const REQUEST_BIND_UNNAMED = 7;
/** Their subject: the StatementName or the Portal. */
export const REQUEST_DESCRIBE = 8;
/** Its subject: the Portal. */
export const REQUEST_EXECUTE = 9;
export const REQUEST_CLOSE = 10;
/** CopyDone or CopyFail: has no answer of its own, but tells where the copy ends among the client's messages. */
export const REQUEST_COPY_END = 11;

/** Whether ReadyForQuery is the end of its answer. */
function endsWithReady(kind: number): boolean {
  return kind <= REQUEST_SYNC;
}

/** More than prepare one execution: Parse, two times Describe, Bind, Close. */
const LAST_REQUESTS = 6;
const MOST_LOOKED_AT = 64;
const LEAST_CAPACITY = 16;
/** Of one place, in all columns. */
const PLACE_COST = 49;

export class RequestRing extends PendingRing {
  /** What their subjects cost that nothing else holds. */
  subjectCost = 0;
  /** Requests that ReadyForQuery answers. */
  syncs = 0;
  private kinds = new Uint8Array(LEAST_CAPACITY);
  private starts = new Float64Array(LEAST_CAPACITY);
  private offsets = new Float64Array(LEAST_CAPACITY);
  private sizes = new Float64Array(LEAST_CAPACITY);
  private costs = new Float64Array(LEAST_CAPACITY);
  private subjects: unknown[] = new Array(LEAST_CAPACITY).fill(undefined);
  private targets: unknown[] = new Array(LEAST_CAPACITY).fill(undefined);

  /** @param limit of requests held at once */
  constructor(limit: number) {
    super(limit, LEAST_CAPACITY);
  }

  /** What is held (memory/cost.ts). */
  get cost(): number {
    return this.subjectCost + this.costOf(PLACE_COST);
  }

  /** Of the first request; NONE when there is none. */
  get kind(): number {
    return this.length === 0 ? NONE : this.kinds[this.head]!;
  }

  get startUs(): number {
    return this.starts[this.head]!;
  }

  get offset(): number {
    return this.offsets[this.head]!;
  }

  get size(): number {
    return this.sizes[this.head]!;
  }

  get subject(): unknown {
    return this.subjects[this.head];
  }

  get target(): unknown {
    return this.targets[this.head];
  }

  /** @returns false when there are too many: it was not taken */
  push(
    kind: number,
    startUs: number,
    offset: number,
    size: number,
    subject: unknown,
    target?: unknown,
    cost = 0,
  ): boolean {
    const at = this.add();
    if (at < 0) return false;
    this.kinds[at] = kind;
    this.starts[at] = startUs;
    this.offsets[at] = offset;
    this.sizes[at] = size;
    this.subjects[at] = subject;
    this.targets[at] = target;
    this.costs[at] = cost;
    this.subjectCost += cost;
    if (endsWithReady(kind)) this.syncs++;
    return true;
  }

  shift(): void {
    if (this.length === 0) return;
    const { head } = this;
    if (endsWithReady(this.kinds[head]!)) this.syncs--;
    this.subjects[head] = undefined;
    this.targets[head] = undefined;
    this.subjectCost -= this.costs[head]!;
    this.drop();
  }

  /**
   * Drops what stands between the first request and the next CopyDone or CopyFail.
   *
   * @returns whether there is one
   */
  dropToCopyEnd(): boolean {
    let end = 1;
    while (end < this.length && this.kindAt(end) !== REQUEST_COPY_END) end++;
    for (let i = 1; i < end && i < this.length; i++) if (endsWithReady(this.kindAt(i))) this.syncs--;
    const found = end < this.length;
    const dropped = Math.min(end, this.length) - 1;
    if (dropped > 0) this.moveHead(dropped);
    return found;
  }

  /** How many requests stand before the one statement that was asked for, when the rest is only that and what ends its series; else -1. */
  beforeOnlyStatement(): number {
    if (this.syncs !== 1) return -1;
    let at = -1;
    for (let i = 0; i < this.length; i++) {
      const kind = this.kindAt(i);
      if (kind !== REQUEST_QUERY && kind !== REQUEST_EXECUTE) continue;
      if (at >= 0) return -1;
      at = i;
    }
    return at;
  }

  /** Whether a request may wait that is to put something under the target's name. */
  mayTarget(target: unknown): boolean {
    if (this.length > MOST_LOOKED_AT) return true;
    for (let i = 0; i < this.length; i++) {
      if (this.targets[this.placeOf(i)] === target) return true;
    }
    return false;
  }

  /** Whether an Execute waits that no Sync came behind. Only the last requests are looked at. */
  endsInBatch(): boolean {
    const from = Math.max(0, this.length - LAST_REQUESTS);
    for (let i = this.length - 1; i >= from; i--) {
      const kind = this.kindAt(i);
      if (kind === REQUEST_EXECUTE) return true;
      if (endsWithReady(kind)) return false;
    }
    return false;
  }

  /** Takes the CopyDone or CopyFail that follows the first request. @returns the bytes copied, 0 when none follows */
  takeCopyEnd(): number {
    if (this.length < 2 || this.kindAt(1) !== REQUEST_COPY_END) return 0;
    const size = this.sizes[this.placeOf(1)]!;
    this.moveHead(1);
    return size;
  }

  override clear(): void {
    this.syncs = 0;
    this.subjectCost = 0;
    super.clear();
  }

  private kindAt(index: number): number {
    return this.kinds[this.placeOf(index)]!;
  }

  /** Puts the first request in the place of the one that is `distance` behind it. */
  private moveHead(distance: number): void {
    const from = this.head;
    const to = this.placeOf(distance);
    this.kinds[to] = this.kinds[from]!;
    this.starts[to] = this.starts[from]!;
    this.offsets[to] = this.offsets[from]!;
    this.sizes[to] = this.sizes[from]!;
    this.subjects[to] = this.subjects[from];
    this.targets[to] = this.targets[from];
    // The first one's stays, in its new place; those between are dropped.
    for (let i = 1; i <= distance; i++) this.subjectCost -= this.costs[this.placeOf(i)]!;
    this.costs[to] = this.costs[from]!;
    for (let i = 0; i < distance; i++) {
      this.subjects[this.placeOf(i)] = undefined;
      this.targets[this.placeOf(i)] = undefined;
    }
    this.drop(distance);
  }

  protected override reallocate(capacity: number): void {
    this.kinds = this.moved(this.kinds, new Uint8Array(capacity));
    this.starts = this.moved(this.starts, new Float64Array(capacity));
    this.offsets = this.moved(this.offsets, new Float64Array(capacity));
    this.sizes = this.moved(this.sizes, new Float64Array(capacity));
    this.costs = this.moved(this.costs, new Float64Array(capacity));
    this.subjects = this.moved(this.subjects, new Array(capacity).fill(undefined));
    this.targets = this.moved(this.targets, new Array(capacity).fill(undefined));
  }
}
