import type { Account } from '../memory/budget.ts';
import { count } from '../telemetry/counters.ts';
import type { Direction } from './connection.ts';
import { type Ahead, type HeldPieces, isForeign, type Piece, Pieces } from './pieces.ts';

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
 * the connection ends. While the receiver says, by what it acknowledges, that it lacks the same bytes, they must be sent again: a hole
 * is then waited for longer.
 *
 * What lies ahead of the window that the receiver has announced is refused by it (RFC 9293 3.10.7.4). It is held apart, as foreign: an
 * acknowledgement shows that the receiver has taken it nevertheless, and that it is the window that was not seen; else it is never delivered.
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
  /** That of one that lay beyond the receiver's window: it counts when it is acknowledged. */
  private refusedFin = -1;
  /** All up to the FIN is delivered, or the connection is closed. */
  ended = false;
  /** The packets of this direction were seen at the socket that sends them. */
  seenAtSender = false;
  /** What the receiver has said last: it has all before `acked` (a signed integer), and has room for `ackWindow` more, not scaled. */
  ackKnown = false;
  acked = 0;
  ackWindow = 0;
  /** How far the receiver's window is shifted (RFC 7323 2.3); the most that is allowed while that is not known. */
  windowShift = MAX_WINDOW_SHIFT;
  private ackUs = 0;
  /** RFC 7323 2.2: the window of a SYN is never scaled. */
  private ackScaled = true;
  private readonly owner: HalfOwner;
  private readonly reassembly: Reassembly;
  private readonly pieces: Pieces;
  private readonly held: readonly Piece[];
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
    this.pieces = new Pieces(reassembly, owner.memory);
    this.held = this.pieces.list;
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
   * @param pushed its PSH bit
   */
  segment(
    bytes: Buffer,
    start: number,
    end: number,
    sequence: number,
    length: number,
    timeUs: number,
    pushed: boolean,
  ): void {
    if (length === 1 && !pushed && this.isProbe(sequence)) {
      count(this.reassembly.counts, 'keep_alive');
      this.gap(1, timeUs);
      this.settle();
      return;
    }
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
      const foreign = this.ackKnown && ((sequence - this.windowEnd) | 0) >= 0;
      this.hold({ bytes, start, end, sequence, length, timeUs, pushed, foreign });
    }
    this.settle();
  }

  /** @param sequence of the FIN, one after the last byte */
  fin(sequence: number, timeUs: number): void {
    if (this.ended) return;
    const ahead = (sequence - this.next) | 0;
    const isRefused = ahead > 0 && this.ackKnown && ((sequence - this.windowEnd) | 0) > 0;
    if (this.finSequence >= 0 || ahead < 0 || ahead > this.reassembly.limits.reassemblyWindowBytes || isRefused) {
      if (isRefused) this.refusedFin = sequence;
      count(this.reassembly.counts, this.finSequence === sequence ? 'retransmission' : 'bad_fin');
      return;
    }
    const last = this.lastOwn();
    if (last !== undefined && ((last.end - sequence) | 0) > 0) {
      count(this.reassembly.counts, 'bad_fin');
      return;
    }
    while (this.held.length > 0 && this.held.at(-1) !== last) this.pieces.removeAt(this.held.length - 1);
    this.finSequence = sequence;
    this.finUs = timeUs;
    this.settle();
  }

  /** All that was delivered is acknowledged, in the middle of a connection: what nearly every packet says. */
  noteAll(window: number, timeUs: number): void {
    const value = this.next | 0;
    if (this.ackKnown && ((value - this.acked) | 0) < 0) return;
    this.ackKnown = true;
    this.acked = value;
    this.ackWindow = window;
    this.ackScaled = true;
    if (this.held.length > 0 || this.finSequence >= 0) this.ackUs = timeUs;
  }

  /** What the other end says in passing: all before `sequence` has arrived, and there is room for `window` more. */
  noteAck(sequence: number, window: number, timeUs: number, isScaled: boolean): void {
    const value = sequence | 0;
    if (this.ackKnown && ((value - this.acked) | 0) < 0) return;
    if (this.started && sequenceDistance(value, this.next) > this.reassembly.limits.reassemblyWindowBytes) return;
    this.ackKnown = true;
    this.acked = value;
    this.ackWindow = window;
    this.ackScaled = isScaled;
    this.ackUs = timeUs;
  }

  /** The end of the window that the receiver has announced, as a signed integer. Meaningless before `ackKnown`. */
  get windowEnd(): number {
    return (this.acked + (this.ackWindow << (this.ackScaled ? this.windowShift : 0))) | 0;
  }

  /** The sequence number behind all that is known to have been sent, the FIN included. */
  get highest(): number {
    let end = this.next;
    if (this.finSequence >= 0) end = (this.finSequence + 1) >>> 0;
    else end = this.lastOwn()?.end ?? end;
    return this.ackKnown && ((this.acked - end) | 0) > 0 ? this.acked >>> 0 : end;
  }

  /**
   * Whether an acknowledgement of all before `sequence` speaks of bytes that were not delivered yet.
   *
   * @param evenOne also where it is one that may be a FIN
   */
  lacks(sequence: number, evenOne = false): boolean {
    if (this.ended) return false;
    if (this.finSequence >= 0 && ((sequence - this.finSequence) | 0) > 0) sequence = this.finSequence;
    const ahead = (sequence - this.next) | 0;
    if (ahead <= 0 || ahead > this.reassembly.limits.reassemblyWindowBytes) return false;
    // One more than what was seen may be a FIN that was lost: a gap of one byte would break what a FIN ends in order.
    return ahead > 1 || evenOne || this.lastOwn() !== undefined || this.finSequence >= 0;
  }

  /** The other end has received all before `sequence`. */
  acknowledged(sequence: number, timeUs: number): void {
    if (this.ended) return;
    if (this.finSequence < 0 && this.refusedFin >= 0 && ((sequence - this.refusedFin) | 0) === 1) {
      this.finSequence = this.refusedFin;
      this.finUs = timeUs;
    }
    if (this.finSequence >= 0 && ((sequence - this.finSequence) | 0) > 0) sequence = this.finSequence;
    const ahead = (sequence - this.next) | 0;
    if (ahead <= 0) return;
    if (ahead > this.reassembly.limits.reassemblyWindowBytes) {
      count(this.reassembly.counts, 'ack_out_of_window');
      return;
    }
    if (!this.lacks(sequence)) return;
    count(this.reassembly.counts, 'acked_unseen');
    this.dropProbe(sequence);
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

  /** Whether a segment of this direction is one that its receiver heeds, as far as its number tells: garbage must not acknowledge. */
  isPlausible(sequence: number, length: number): boolean {
    if (!this.started) return true;
    if (this.ackKnown && ((sequence + Math.min(length, 1) - this.windowEnd) | 0) > 0) return false;
    return this.distance(sequence) <= this.reassembly.limits.reassemblyWindowBytes;
  }

  /** How far a sequence number is from `next`, in either direction. */
  distance(sequence: number): number {
    return sequenceDistance(sequence, this.next);
  }

  /** Gives up holes that have stayed for too long. @returns whether there is one that is not due, like all that are younger */
  expire(timeUs: number): boolean {
    const { reassemblyHoleUs, reassemblyRetransmitUs } = this.reassembly.limits;
    while (this.hasHole()) {
      const isAwaited = this.receiverLacks();
      if (this.holeSinceUs + (isAwaited ? reassemblyRetransmitUs : reassemblyHoleUs) > timeUs) return !isAwaited;
      count(this.reassembly.counts, 'hole_timeout');
      this.giveUpHole();
      this.settle();
    }
    return false;
  }

  /** Delivers all that is held, holes as gaps; no more holes afterwards. */
  flush(): void {
    while (this.hasHole()) this.giveUpHole();
    this.settle();
  }

  /** Forgets all that is held. */
  discard(): void {
    this.pieces.clear();
    this.reassembly.holes.delete(this);
  }

  /** Gives up the first hole: the gap, and what was held behind it. */
  giveUpHole(): void {
    this.dropForeign();
    if (!this.hasHole()) return;
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
      if (first !== undefined && room < length && isForeign(first, this.acked)) {
        this.pieces.removeAt(0);
        continue;
      }
      const part = Math.min(room, length);
      if (part > 0) this.deliver(bytes, start, Math.min(end, start + part), part, timeUs);
      start += part;
      length -= part;
      if (length <= 0) break;
      if (first === undefined || this.held[0] !== first) return; // the owner lost interest in between
      const common = Math.min(first.length, length);
      this.pieces.compare(first, 0, bytes, start, Math.min(end, start + common));
      this.drainFirst(timeUs);
      start += common;
      length -= common;
    }
    this.drain(timeUs);
  }

  /** Holds a segment that is ahead. */
  private hold(segment: Ahead): void {
    count(this.reassembly.counts, 'out_of_order');
    if (segment.foreign) count(this.reassembly.counts, 'beyond_window');
    this.pieces.hold(segment, this.acked);
  }

  /** Delivers the held pieces that follow `next` without a hole. */
  private drain(timeUs: number): void {
    while (this.held.length > 0 && this.held[0]!.sequence === this.next) {
      if (isForeign(this.held[0]!, this.acked)) this.pieces.removeAt(0);
      else this.drainFirst(timeUs);
    }
  }

  /** The last held piece that the receiver has not refused. */
  private lastOwn(): Piece | undefined {
    for (let i = this.held.length - 1; i >= 0; i--) {
      const piece = this.held[i]!;
      if (!isForeign(piece, this.acked)) return piece;
    }
    return undefined;
  }

  private dropForeign(): void {
    while (this.held.length > 0 && isForeign(this.held[0]!, this.acked)) this.pieces.removeAt(0);
  }

  /** Whether a byte alone, which was acknowledged before it was seen, asks whether the other end is there: see dropProbe(). */
  private isProbe(sequence: number): boolean {
    return sequence === this.next && this.ackKnown && ((this.acked - sequence) | 0) > 0;
  }

  /**
   * What an idle end sends to see whether the other one is there, the byte before the next one (RFC 9293 3.8.4), holds garbage in some systems:
   * it must not fill a hole in what was acknowledged long ago.
   */
  private dropProbe(acked: number): void {
    const [first] = this.held;
    if (first === undefined || first.length !== 1 || first.pushed || first.end !== acked) return;
    count(this.reassembly.counts, 'keep_alive');
    this.pieces.removeAt(0);
  }

  /** The receiver has seen what is behind the hole, and still waits for what is in it: it is sent again. */
  private receiverLacks(): boolean {
    const sinceUs = this.held[0]?.timeUs ?? this.finUs;
    return this.ackKnown && ((this.acked - this.next) | 0) <= 0 && this.ackUs >= sinceUs;
  }

  private drainFirst(timeUs: number): void {
    const piece = this.pieces.removeAt(0);
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
    const ahead = (sequence - this.next) | 0;
    if (ahead < 0) {
      // No loss makes a stream go back: these are the numbers of another connection.
      this.owner.replaced();
      return false;
    }
    this.flush();
    const left = (sequence - this.next) | 0;
    if (left > 0) this.gap(left, timeUs);
    return true;
  }

  /** How many of a segment's bytes lie behind the FIN. */
  private bytesPastFin(sequence: number, length: number): number {
    if (this.finSequence < 0) return 0;
    const past = (sequence + length - this.finSequence) | 0;
    return past > 0 ? Math.min(past, length) : 0;
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
      this.pieces.bytes > limits.reassemblyBytesPerDirection ||
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
  /** The segment in hand, which was not taken, is that of a later connection. */
  replaced(): void;
}

/** What all directions of all connections share. */
export interface Reassembly extends HeldPieces {
  /** Directions with a hole, roughly by age. */
  readonly holes: Set<Half>;
}

/** RFC 7323 2.3. */
export const MAX_WINDOW_SHIFT = 14;
