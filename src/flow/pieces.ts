import type { Limits } from '../config/limits.ts';
import type { Account } from '../memory/budget.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';

/** What is held of all directions of all connections. */
export interface HeldPieces {
  readonly limits: Limits;
  readonly counts: ReasonCounts;
  /** Bytes held in all. */
  heldBytes: number;
}

/** What a held piece costs beside its bytes: counted, so that many tiny ones cannot pass the caps. */
const HELD_OVERHEAD_BYTES = 256;

/** Part of a stream that came before what precedes it. */
export interface Piece {
  readonly sequence: number;
  readonly end: number;
  readonly length: number;
  /** The captured bytes: shorter than `length` when the capture cut the packet. */
  readonly bytes: Buffer;
  readonly timeUs: number;
  readonly pushed: boolean;
  /** It lies beyond the window that the receiver had announced. */
  readonly foreign: boolean;
}

/** A segment that is ahead of its stream; its payload is borrowed. */
export interface Ahead {
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
  readonly sequence: number;
  readonly length: number;
  readonly timeUs: number;
  readonly pushed: boolean;
  readonly foreign: boolean;
}

/** The pieces of one direction that are held: copies, sorted, without overlap. */
export class Pieces {
  readonly list: Piece[] = [];
  /** What they cost. */
  bytes = 0;
  private readonly reassembly: HeldPieces;
  private readonly memory: Account;

  constructor(reassembly: HeldPieces, memory: Account) {
    this.reassembly = reassembly;
    this.memory = memory;
  }

  /**
   * Copies a segment, but for what is held already: the first copy of a byte wins (as with most receivers; one may differ, which is why a
   * difference is counted), unless the receiver has refused it.
   *
   * @param acked what the receiver has acknowledged, see isForeign()
   */
  hold(segment: Ahead, acked: number): void {
    const { bytes, end } = segment;
    let { start, sequence, length } = segment;
    let index = this.indexAfter(sequence);
    while (length > 0) {
      const other = this.list[index];
      const room = other === undefined ? length : (other.sequence - sequence) | 0;
      let part = Math.min(room, length);
      if (room > 0) {
        this.insert(index++, segment, start, Math.min(end, start + part), sequence, part);
      } else if (!segment.foreign && isForeign(other!, acked)) {
        this.removeAt(index);
        continue;
      } else {
        part = Math.min(other!.length + room, length);
        this.compare(other!, -room, bytes, start, Math.min(end, start + part));
        index++;
      }
      sequence = (sequence + part) >>> 0;
      start += part;
      length -= part;
    }
  }

  /** Compares a new copy of bytes with the held one, from offset `skip` of it on. */
  compare(held: Piece, skip: number, bytes: Buffer, start: number, end: number): void {
    const { counts } = this.reassembly;
    const heldEnd = Math.min(held.bytes.length, skip + (end - start));
    count(counts, 'overlap');
    if (skip >= heldEnd || end <= start) return;
    if (bytes.compare(held.bytes, skip, heldEnd, start, start + (heldEnd - skip)) !== 0) {
      count(counts, 'overlap_differs');
    }
  }

  removeAt(index: number): Piece {
    // splice() makes an array.
    const piece = index === 0 ? this.list.shift()! : this.list.splice(index, 1)[0]!;
    this.charge(-(piece.bytes.length + HELD_OVERHEAD_BYTES));
    return piece;
  }

  clear(): void {
    this.charge(-this.bytes);
    this.list.length = 0;
  }

  /** Index of the first piece that ends after `sequence`. */
  private indexAfter(sequence: number): number {
    const { list } = this;
    const last = list.at(-1);
    if (last === undefined || ((last.end - sequence) | 0) <= 0) return list.length;
    let low = 0;
    let high = list.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (((list[middle]!.end - sequence) | 0) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private insert(index: number, from: Ahead, start: number, end: number, sequence: number, length: number): void {
    // A Buffer of its own: one from Node's pool would keep the pool's whole slab.
    const copy = Buffer.allocUnsafeSlow(Math.max(0, end - start));
    from.bytes.copy(copy, 0, start, end);
    const { timeUs, pushed, foreign } = from;
    const piece: Piece = { sequence, end: (sequence + length) >>> 0, length, bytes: copy, timeUs, pushed, foreign };
    if (index === this.list.length) this.list.push(piece);
    else this.list.splice(index, 0, piece);
    this.charge(copy.length + HELD_OVERHEAD_BYTES);
  }

  private charge(bytes: number): void {
    this.memory.charge(bytes);
    this.bytes += bytes;
    this.reassembly.heldBytes += bytes;
  }
}

/** Whether the receiver has refused a piece, as far as is known: it lay beyond its window, and was not acknowledged since. */
export function isForeign(piece: Piece, acked: number): boolean {
  return piece.foreign && ((acked - piece.end) | 0) < 0;
}
