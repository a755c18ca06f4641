import type { Exemplar, ExponentialBuckets, HistogramPoint } from './metric.ts';

/** Bytes of a trace id and a span id that stand behind each other. */
const TRACE_ID = 16;
const IDS = 24;
/** An exemplar stands for this long before a newer one takes its place. */
const EXEMPLAR_US = 1_000_000;

/** Values by explicit bounds, and, when asked for, by exponential buckets as well. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  readonly #exponential: ExponentialHistogram | undefined;
  count = 0;
  #sum = 0;
  #min = 0;
  #max = 0;
  #exemplarIds: Buffer | undefined;
  #exemplarValues: number[] = [];
  #exemplarUnixUs: number[] = [];

  /** @param bounds upper bounds, ascending */
  constructor(bounds: readonly number[], exponential: boolean) {
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
    this.#exponential = exponential ? new ExponentialHistogram() : undefined;
  }

  /** @param value not negative */
  record(value: number): void {
    this.#counts[this.#bucketOf(value)]!++;
    if (this.count === 0 || value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
    this.count++;
    this.#sum += value;
    this.#exponential?.record(value);
  }

  /** A recorded value is that of a span. @param ids of it: 16 bytes of the trace, then 8 of the span */
  exemplify(value: number, ids: Buffer, unixUs: number): void {
    const bucket = this.#bucketOf(value);
    if (this.#exemplarIds === undefined) {
      this.#exemplarIds = Buffer.alloc(IDS * this.#counts.length);
      this.#exemplarValues = new Array<number>(this.#counts.length).fill(0);
      this.#exemplarUnixUs = new Array<number>(this.#counts.length).fill(0);
    } else if (Math.abs(unixUs - this.#exemplarUnixUs[bucket]!) < EXEMPLAR_US) return;
    ids.copy(this.#exemplarIds, IDS * bucket, 0, IDS);
    this.#exemplarValues[bucket] = value;
    this.#exemplarUnixUs[bucket] = unixUs;
  }

  /** What it holds now, without the attributes that it belongs to. */
  read(): Omit<HistogramPoint, 'attributes' | 'startUnixUs'> {
    return {
      count: this.count,
      sum: this.#sum,
      min: this.#min,
      max: this.#max,
      counts: this.#counts.slice(),
      exponential: this.#exponential?.buckets(),
      exemplars: this.#exemplars(),
    };
  }

  #exemplars(): readonly (Exemplar | undefined)[] {
    const ids = this.#exemplarIds;
    if (ids === undefined) return [];
    return this.#exemplarUnixUs.map((unixUs, bucket) => {
      if (unixUs === 0) return undefined;
      const at = IDS * bucket;
      return {
        value: this.#exemplarValues[bucket]!,
        unixUs,
        traceId: ids.toString('hex', at, at + TRACE_ID),
        spanId: ids.toString('hex', at + TRACE_ID, at + IDS),
      };
    });
  }

  /** The first whose bound is not below the value. There are few, and most values are in the first ones. */
  #bucketOf(value: number): number {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
    return bucket;
  }
}

/** As the SDK specification has it by default. */
const MAX_BUCKETS = 160;
const MAX_SCALE = 20;
/** A value is at least this: what is smaller has no bucket that a double could tell. */
const SMALLEST = 2.2250738585072014e-308;

/**
 * Buckets of base 2^(2^-scale) ("Metrics Data Model", ExponentialHistogram). It begins with the finest scale and takes the next coarser
 * one, in which two buckets become one, whenever the values do not fit into MAX_BUCKETS.
 */
export class ExponentialHistogram {
  #scale = MAX_SCALE;
  #bucketsPerDoubling = 2 ** MAX_SCALE;
  #zeroCount = 0;
  /** counts[i] is of the bucket with the index #first + i. */
  #counts: number[] = [];
  #first = 0;

  /** @param value not negative */
  record(value: number): void {
    if (value < SMALLEST) {
      this.#zeroCount++;
      return;
    }
    let index = this.#indexOf(value);
    if (this.#counts.length === 0) this.#first = index;
    while (!this.#fits(index)) {
      this.#coarsen();
      index = this.#indexOf(value);
    }
    this.#reach(index);
    this.#counts[index - this.#first]!++;
  }

  buckets(): ExponentialBuckets {
    return { scale: this.#scale, zeroCount: this.#zeroCount, offset: this.#first, counts: this.#counts.slice() };
  }

  /** ceil(log_base(value)) - 1. log2 is exact for powers of two, which are bounds of every scale. */
  #indexOf(value: number): number {
    return Math.ceil(Math.log2(value) * this.#bucketsPerDoubling) - 1;
  }

  #fits(index: number): boolean {
    const last = this.#first + this.#counts.length - 1;
    return Math.max(last, index) - Math.min(this.#first, index) < MAX_BUCKETS;
  }

  #reach(index: number): void {
    if (index < this.#first) {
      this.#counts.unshift(...new Array<number>(this.#first - index).fill(0));
      this.#first = index;
    }
    while (index >= this.#first + this.#counts.length) this.#counts.push(0);
  }

  #coarsen(): void {
    this.#scale--;
    this.#bucketsPerDoubling = 2 ** this.#scale;
    const first = this.#first >> 1;
    const coarser: number[] = [];
    for (const [at, count] of this.#counts.entries()) {
      const to = ((this.#first + at) >> 1) - first;
      coarser[to] = (coarser[to] ?? 0) + count;
    }
    this.#first = first;
    this.#counts = coarser;
  }
}
