import type { Limits } from '../config/limits.ts';
import type { Account } from '../memory/budget.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { Direction } from './connection.ts';

/** How far two sequence numbers are apart, whichever is first; signed integers serve as well as unsigned ones. */
export function sequenceDistance(a: number, b: number): number {
  return Math.abs((a - b) | 0);
}

/**
 * Reassembly of one direction of a TCP connection (RFC 9293 3.4, 3.10), seen from outside.
 *
 * `next` is the sequence number of the byte that the receiver of the stream waits for. A segment that begins there is delivered
 * at once, borrowed; one that lies behind is a retransmission; one ahead is copied and held, sorted, without overlap (the first
 * copy of a byte wins). A hole before held bytes is given up, as a gap of known length, when the other end has acknowledged it
 * (it will not be sent again, so the capture has lost it), when it stays for too long, when the held bytes pass a cap, or when
 * the connection ends.
 *
 * Time. What a segment brings to the receiver has the time of that segment: so has what was held behind the hole that it fills, since
 * the receiver could not have it before. What is held behind a hole that only the capture has was there for the receiver when it
 * was seen, however long the hole was waited for.
 *
 * Sequence numbers are unsigned 32-bit integers; differences of them are taken modulo 2^32 as signed ones.
 */
export class Half {
  /** Changes when client and server change places. */
  direction: Direction;
  /** `next` is known. */
  started = false;
  /** Sequence number of the byte that is delivered next. */
  next = 0;
  /** Sequence number of the FIN, -1 until seen. */
  finSequence = -1;
  /** All up to the FIN is delivered, or the connection is closed. */
  ended = false;
  /** The packets of this direction were seen at the socket that sends them. */
  seenAtSender = false;
  private readonly owner: HalfOwner;
  private readonly reassembly: Reassembly;
  private readonly held: Held[] = [];
  private heldBytes = 0;
  private finUs = 0;
  /** When `next` last moved while there was a hole: a hole that shrinks is not given up. */
  private progressUs = 0;
  private holeSinceUs = 0;
  /** End of a segment that was refused because it lay outside the window, -1: none. */
  private strayEnd = -1;

  constructor(direction: Direction, owner: HalfOwner, reassembly: Reassembly) {
    this.direction = direction;
    this.owner = owner;
    this.reassembly = reassembly;
  }

  /** Says where the stream begins. */
  start(sequence: number): void {
    this.started = true;
    this.next = sequence;
  }

  /**
   * Takes a segment.
   *
   * @param start, end the captured payload in `bytes`, borrowed
   * @param sequence of its first byte
   * @param length of the payload, captured or not, at least end - start: what was not captured is a gap
   */
  segment(bytes: Buffer, start: number, end: number, sequence: number, length: number, timeUs: number): void {
    if (sequence === this.next && this.held.length === 0 && this.finSequence < 0) {
      this.deliver(bytes, start, end, length, timeUs);
      return;
    }
    let ahead = (sequence - this.next) | 0;
    const window = this.reassembly.limits.reassemblyWindowBytes;
    if (ahead > window || ahead + length < -window) {
      if (!this.resynchronize(sequence, length, timeUs)) return;
      ahead = (sequence - this.next) | 0;
    }
    const past = this.bytesPastFin(sequence, length);
    if (past > 0) {
      count(this.reassembly.counts, 'after_fin');
      length -= past;
      if (end - start > length) end = start + length;
    }
    if (ahead < 0) {
      if (ahead + length <= 0) {
        count(this.reassembly.counts, length <= 1 && ahead === -1 ? 'keep_alive' : 'retransmission');
        return;
      }
      count(this.reassembly.counts, 'partial_retransmission');
      start = Math.min(end, start - ahead);
      length += ahead;
      ahead = 0;
    }
    if (length <= 0) return;
    if (ahead === 0) {
      this.progressUs = timeUs;
      this.fill(bytes, start, end, length, timeUs);
    } else {
      this.hold(bytes, start, end, sequence, length, timeUs);
    }
    this.settle();
  }

  /** @param sequence of the FIN, one after the last byte */
  fin(sequence: number, timeUs: number): void {
    if (this.ended) return;
    const ahead = (sequence - this.next) | 0;
    if (this.finSequence >= 0 || ahead < 0 || ahead > this.reassembly.limits.reassemblyWindowBytes) {
      count(this.reassembly.counts, this.finSequence === sequence ? 'retransmission' : 'bad_fin');
      return;
    }
    const last = this.held.at(-1);
    if (last !== undefined && ((last.end - sequence) | 0) > 0) {
      count(this.reassembly.counts, 'bad_fin');
      return;
    }
    this.finSequence = sequence;
    this.finUs = timeUs;
    this.settle();
  }

  /** The other end has received all before `sequence`. */
  acknowledged(sequence: number, timeUs: number): void {
    if (this.ended) return;
    if (this.finSequence >= 0 && ((sequence - this.finSequence) | 0) > 0) sequence = this.finSequence;
    const ahead = (sequence - this.next) | 0;
    if (ahead <= 0) return;
    if (ahead > this.reassembly.limits.reassemblyWindowBytes) {
      count(this.reassembly.counts, 'ack_out_of_window');
      return;
    }
    // One more than what was seen may be a FIN that was lost: a gap of one byte would break what a FIN ends in order.
    if (ahead === 1 && this.held.length === 0 && this.finSequence < 0) return;
    count(this.reassembly.counts, 'acked_unseen');
    for (;;) {
      const left = (sequence - this.next) | 0;
      if (left <= 0 || this.ended) break;
      const first = this.held[0];
      if (first === undefined || left < (first.sequence - this.next) >>> 0) this.gap(left, timeUs);
      else this.giveUpHole();
    }
    this.settle();
  }

  /** Whether all of [sequence, sequence + length) lies before `next`. */
  covers(sequence: number, length: number): boolean {
    return ((sequence + length - this.next) | 0) <= 0;
  }

  /** How far a sequence number is from `next`, in either direction. */
  distance(sequence: number): number {
    return sequenceDistance(sequence, this.next);
  }

  /** Gives up holes that have stayed for too long. @returns when the next one is due, Infinity when there is none */
  expire(timeUs: number): number {
    while (this.hasHole()) {
      const dueUs = this.holeSinceUs + this.reassembly.limits.reassemblyHoleUs;
      if (dueUs > timeUs) return dueUs;
      count(this.reassembly.counts, 'hole_timeout');
      this.giveUpHole();
      this.settle();
    }
    return Infinity;
  }

  /** Delivers all that is held, holes as gaps; no more holes afterwards. */
  flush(): void {
    while (this.hasHole()) this.giveUpHole();
    this.settle();
  }

  /** Forgets all that is held. */
  discard(): void {
    this.charge(-this.heldBytes);
    this.held.length = 0;
    this.reassembly.holes.delete(this);
  }

  /** Gives up the first hole: the gap, and what was held behind it. */
  giveUpHole(): void {
    const first = this.held[0];
    const until = first === undefined ? this.finSequence : first.sequence;
    let seenUs = Math.max(this.progressUs, first?.timeUs ?? this.finUs);
    this.gap((until - this.next) >>> 0, seenUs);
    for (let piece = this.held[0]; piece?.sequence === this.next; piece = this.held[0]) {
      seenUs = Math.max(seenUs, piece.timeUs);
      this.drainFirst(seenUs);
    }
    this.progressUs = seenUs;
  }

  hasHole(): boolean {
    return this.held.length > 0 || (this.finSequence >= 0 && !this.ended && this.finSequence !== this.next);
  }

  /** New bytes at `next`, maybe overlapping what is held. */
  private fill(bytes: Buffer, start: number, end: number, length: number, timeUs: number): void {
    while (length > 0) {
      const first = this.held[0];
      const room = first === undefined ? length : (first.sequence - this.next) >>> 0;
      const part = Math.min(room, length);
      if (part > 0) this.deliver(bytes, start, Math.min(end, start + part), part, timeUs);
      start += part;
      length -= part;
      if (length <= 0) break;
      if (first === undefined || this.held[0] !== first) return; // the owner lost interest in between
      const common = Math.min(first.length, length);
      this.compare(first, 0, bytes, start, Math.min(end, start + common));
      this.drainFirst(timeUs);
      start += common;
      length -= common;
    }
    this.drain(timeUs);
  }

  /** Copies a segment that is ahead, but for what is held already. */
  private hold(bytes: Buffer, start: number, end: number, sequence: number, length: number, timeUs: number): void {
    count(this.reassembly.counts, 'out_of_order');
    const held = this.held;
    let index = this.indexAfter(sequence);
    while (length > 0) {
      const other = held[index];
      const room = other === undefined ? length : (other.sequence - sequence) | 0;
      if (room > 0) {
        const part = Math.min(room, length);
        this.insert(index++, bytes, start, Math.min(end, start + part), sequence, part, timeUs);
        sequence = (sequence + part) >>> 0;
        start += part;
        length -= part;
        continue;
      }
      // Overlaps: the first copy wins (as most receivers do; a receiver may differ, which is why a difference is counted).
      const skip = -room;
      const common = Math.min(other!.length - skip, length);
      this.compare(other!, skip, bytes, start, Math.min(end, start + common));
      sequence = (sequence + common) >>> 0;
      start += common;
      length -= common;
      index++;
    }
  }

  /** Index of the first held piece that ends after `sequence`. */
  private indexAfter(sequence: number): number {
    const held = this.held;
    const last = held.at(-1);
    if (last === undefined || ((last.end - sequence) | 0) <= 0) return held.length;
    let low = 0;
    let high = held.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (((held[middle]!.end - sequence) | 0) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private insert(
    index: number,
    bytes: Buffer,
    start: number,
    end: number,
    sequence: number,
    length: number,
    timeUs: number,
  ): void {
    // A Buffer of its own: one from Node's pool would keep the pool's whole slab.
    const copy = Buffer.allocUnsafeSlow(Math.max(0, end - start));
    bytes.copy(copy, 0, start, end);
    const piece: Held = { sequence, end: (sequence + length) >>> 0, length, bytes: copy, timeUs };
    if (index === this.held.length) this.held.push(piece);
    else this.held.splice(index, 0, piece);
    this.charge(copy.length + HELD_OVERHEAD_BYTES);
  }

  /** Compares a new copy of bytes with the held one, from offset `skip` of it on. */
  private compare(held: Held, skip: number, bytes: Buffer, start: number, end: number): void {
    const heldEnd = Math.min(held.bytes.length, skip + (end - start));
    count(this.reassembly.counts, 'overlap');
    if (skip >= heldEnd || end <= start) return;
    if (bytes.compare(held.bytes, skip, heldEnd, start, start + (heldEnd - skip)) !== 0) {
      count(this.reassembly.counts, 'overlap_differs');
    }
  }

  /** Delivers the held pieces that follow `next` without a hole. */
  private drain(timeUs: number): void {
    while (this.held.length > 0 && this.held[0]!.sequence === this.next) this.drainFirst(timeUs);
  }

  private drainFirst(timeUs: number): void {
    const piece = this.held.shift()!;
    this.charge(-(piece.bytes.length + HELD_OVERHEAD_BYTES));
    this.deliver(piece.bytes, 0, piece.bytes.length, piece.length, timeUs);
  }

  private deliver(bytes: Buffer, start: number, end: number, length: number, timeUs: number): void {
    this.next = (this.next + length) >>> 0;
    if (end > start) this.owner.deliver(this.direction, bytes, start, end, timeUs);
    const lost = length - Math.max(0, end - start);
    if (lost > 0) this.reportGap(lost, 'not_captured', timeUs);
  }

  private gap(length: number, timeUs: number): void {
    if (length <= 0) return;
    this.next = (this.next + length) >>> 0;
    this.reportGap(length, 'gap', timeUs);
  }

  private reportGap(length: number, reason: 'gap' | 'not_captured', timeUs: number): void {
    count(this.reassembly.counts, reason);
    count(this.reassembly.counts, reason === 'gap' ? 'gap_bytes' : 'not_captured_bytes', length);
    this.owner.deliverGap(this.direction, length, timeUs);
  }

  /**
   * A segment outside the window is garbage, or the capture has lost more than a window of the stream. A second one that follows
   * it without a hole decides.
   *
   * @returns whether the stream now goes on at `sequence`
   */
  private resynchronize(sequence: number, length: number, timeUs: number): boolean {
    count(this.reassembly.counts, 'out_of_window');
    if (sequence !== this.strayEnd || this.finSequence >= 0) {
      this.strayEnd = (sequence + length) >>> 0;
      return false;
    }
    this.strayEnd = -1;
    count(this.reassembly.counts, 'resynchronized');
    this.flush();
    const ahead = (sequence - this.next) | 0;
    if (ahead > 0 || ahead < -this.reassembly.limits.reassemblyWindowBytes) this.gap(ahead >>> 0, timeUs);
    return true;
  }

  /** How many of a segment's bytes lie behind the FIN. */
  private bytesPastFin(sequence: number, length: number): number {
    if (this.finSequence < 0) return 0;
    const past = (sequence + length - this.finSequence) | 0;
    return past > 0 ? Math.min(past, length) : 0;
  }

  private charge(bytes: number): void {
    this.owner.memory.charge(bytes);
    this.heldBytes += bytes;
    this.reassembly.heldBytes += bytes;
  }

  /** After every change: keeps the caps, the hole's time and the end. */
  private settle(): void {
    this.settleOwn();
    const { limits, counts, holes } = this.reassembly;
    while (this.reassembly.heldBytes > limits.reassemblyBytes) {
      const [oldest] = holes;
      if (oldest === undefined) return;
      count(counts, 'total_held_bytes_limit');
      oldest.giveUpHole();
      oldest.settleOwn();
    }
  }

  private settleOwn(): void {
    const { limits, counts, holes } = this.reassembly;
    while (
      this.heldBytes > limits.reassemblyBytesPerDirection ||
      this.held.length > limits.reassemblyPiecesPerDirection
    ) {
      count(counts, 'held_bytes_limit');
      this.giveUpHole();
    }
    if (this.finSequence >= 0 && this.next === this.finSequence && !this.ended) {
      this.ended = true;
      this.owner.halfEnded(this.direction, Math.max(this.progressUs, this.finUs));
    }
    if (!this.hasHole()) {
      if (holes.size > 0) holes.delete(this);
      return;
    }
    const sinceUs = Math.max(this.progressUs, this.held[0]?.timeUs ?? this.finUs);
    if (sinceUs === this.holeSinceUs && holes.has(this)) return;
    this.holeSinceUs = sinceUs;
    holes.delete(this);
    holes.add(this);
  }
}

/** The receiver of a direction's bytes. */
export interface HalfOwner {
  readonly memory: Account;
  deliver(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void;
  deliverGap(direction: Direction, length: number, timeUs: number): void;
  /** All up to the FIN was delivered. */
  halfEnded(direction: Direction, timeUs: number): void;
}

/** What all directions of all connections share. */
export interface Reassembly {
  readonly limits: Limits;
  readonly counts: ReasonCounts;
  /** Bytes held in all. */
  heldBytes: number;
  /** Directions with a hole, roughly by age. */
  readonly holes: Set<Half>;
}

/** What a held piece costs beside its bytes: counted, so that many tiny ones cannot pass the caps. */
const HELD_OVERHEAD_BYTES = 256;

interface Held {
  readonly sequence: number;
  readonly end: number;
  readonly length: number;
  /** The captured bytes: shorter than `length` when the capture cut the packet. */
  readonly bytes: Buffer;
  readonly timeUs: number;
}
