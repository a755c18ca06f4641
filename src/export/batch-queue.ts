import type { Batch } from './batch.ts';
import type { SpoolRecord } from './spool.ts';

/** A batch on its way. */
export interface QueuedBatch extends Batch {
  /** When it was sent first; 0: not yet. */
  firstSentMs: number;
  /** Where it lies on disk, when it was read from there. */
  readonly record: SpoolRecord | undefined;
}

/** Batches that wait, the oldest first, within bounds of spans and bytes that the owner enforces. */
export class BatchQueue {
  readonly #maxSpans: number;
  readonly #maxBytes: number;
  readonly #batches: QueuedBatch[] = [];
  #spans = 0;
  #bytes = 0;

  constructor(maxSpans: number, maxBytes: number) {
    this.#maxSpans = maxSpans;
    this.#maxBytes = maxBytes;
  }

  get length(): number {
    return this.#batches.length;
  }

  get spans(): number {
    return this.#spans;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** More waits than may. */
  get isOver(): boolean {
    return this.#spans > this.#maxSpans || this.#bytes > this.#maxBytes;
  }

  /** @param share of the bounds */
  isFuller(share: number): boolean {
    return this.#spans > this.#maxSpans * share || this.#bytes > this.#maxBytes * share;
  }

  push(batch: QueuedBatch): void {
    this.#batches.push(batch);
    this.#count(batch, 1);
  }

  /** For one that was taken already: it is the oldest again. */
  putBack(batch: QueuedBatch): void {
    this.#batches.unshift(batch);
    this.#count(batch, 1);
  }

  /** Takes the oldest. */
  shift(): QueuedBatch | undefined {
    const batch = this.#batches.shift();
    if (batch !== undefined) this.#count(batch, -1);
    return batch;
  }

  /** Takes the oldest that passes; the oldest of all when none does. */
  shiftFirst(passes: (batch: QueuedBatch) => boolean): QueuedBatch | undefined {
    const at = this.#batches.findIndex(passes);
    if (at <= 0) return this.shift();
    const [batch] = this.#batches.splice(at, 1);
    this.#count(batch!, -1);
    return batch;
  }

  #count(batch: QueuedBatch, sign: 1 | -1): void {
    this.#spans += sign * batch.spans;
    this.#bytes += sign * batch.byteLength;
  }
}
