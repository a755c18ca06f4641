/**
 * Requests that wait for their answers, in the order of the client.
 *
 * A protocol extends it with a column for each fact that it keeps of a request, so that a request costs no object. The ring has a limit: beyond
 * it `add` refuses, and the protocol gives up all that wait, by `limit`.
 */

/** A ring that has grown beyond this does not stay so once it is empty. */
const CAPACITY_FOR_GOOD = 1024;

interface Column<Value> {
  readonly length: number;
  [index: number]: Value;
}

export abstract class PendingRing {
  /** Requests that wait. */
  length = 0;
  /** The place of the first request in each column. */
  protected head = 0;
  private capacity: number;
  private readonly least: number;
  private readonly limit: number;

  /**
   * @param limit of requests that wait at once, a power of two
   * @param least places that each column has from the beginning, a power of two
   */
  constructor(limit: number, least: number) {
    this.limit = limit;
    this.least = least;
    this.capacity = least;
  }

  clear(): void {
    this.length = 0;
    this.resize(this.least);
  }

  /** Gives each column that many places, by `moved`. */
  protected abstract reallocate(capacity: number): void;

  /** Takes a request at the end. @returns its place in each column; -1 when there are too many: it was not taken */
  protected add(): number {
    if (this.length === this.capacity && !this.grow()) return -1;
    return (this.head + this.length++) & (this.capacity - 1);
  }

  /** Takes the first requests off; the protocol has cleared what their places hold. */
  protected drop(count = 1): void {
    this.head = this.placeOf(count);
    this.length -= count;
    if (this.length === 0 && this.capacity > CAPACITY_FOR_GOOD) this.resize(this.least);
  }

  /** @param index of a request, 0 for the first. @returns its place in each column */
  protected placeOf(index: number): number {
    return (this.head + index) & (this.capacity - 1);
  }

  /** What the columns cost beyond those that each connection has (memory/cost.ts). @param placeCost of one place, in all columns */
  protected costOf(placeCost: number): number {
    return this.capacity === this.least ? 0 : this.capacity * placeCost;
  }

  /** @returns `to`, with the requests of `from` in their order */
  protected moved<To extends Column<Value>, Value>(from: Column<Value>, to: To): To {
    for (let i = 0; i < this.length; i++) to[i] = from[this.placeOf(i)]!;
    return to;
  }

  private grow(): boolean {
    if (this.capacity >= this.limit) return false;
    this.resize(this.capacity * 2);
    return true;
  }

  private resize(capacity: number): void {
    this.reallocate(capacity);
    this.head = 0;
    this.capacity = capacity;
  }
}
