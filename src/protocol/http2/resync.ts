import type { Direction } from '../../flow/connection.ts';
import { FRAME_HEADER_BYTES, isPlausible, streamIdAt, uint24At } from './frames.ts';

/** Frame headers in a row, each where the one before says, that prove a boundary. */
const PROOF = 3;
/** The same, where the bytes at hand begin with them or end with them. */
const ALIGNED_PROOF = 2;
const PREDICTIONS = 16;
/** Frames that follow each other are of streams whose ids are not further apart, and not further ahead of the last that is known. */
const ID_SPREAD = 0x2_0000;
const TAIL_BYTES = FRAME_HEADER_BYTES - 1;

/** A place at which a header has to stand if those before it were some. */
interface Prediction {
  /** Offset in the stream. */
  at: number;
  /** Headers in a row so far. */
  headers: number;
}

/**
 * Finds the next frame boundary in a stream whose place was lost.
 *
 * Each place is tried: does a header stand there that peers send, and another one behind the payload that it announces? Where the
 * bytes at hand end before that is proven, the place of the next header is predicted and looked at when it comes. So large frames cost no
 * memory: only what may be the beginning of a header is kept.
 */
export class Resync {
  /** The bytes in which look() found a boundary. */
  bytes: Buffer;
  private readonly direction: Direction;
  private readonly tail = Buffer.allocUnsafeSlow(TAIL_BYTES);
  private tailLength = 0;
  private predictions: Prediction[] = [];
  private mostId = 0;

  constructor(direction: Direction) {
    this.direction = direction;
    this.bytes = this.tail;
  }

  /** The place was lost. */
  begin(): void {
    this.tailLength = 0;
    this.predictions = [];
  }

  /** The bytes in which a boundary was found are borrowed. */
  letGo(): void {
    this.bytes = this.tail;
  }

  /**
   * @param offset of bytes[start] in the stream
   * @param most the largest payload of a frame
   * @param lastId the highest stream id that is known, 0 for none
   * @returns the position in `this.bytes` of a frame header, behind which everything of bytes[start..end) follows; -1 while there is none
   */
  look(bytes: Buffer, start: number, end: number, offset: number, most: number, lastId: number): number {
    this.mostId = lastId === 0 ? 0x7fff_ffff : lastId + ID_SPREAD;
    const from = this.tailLength;
    let all = bytes;
    let first = start;
    let last = end;
    if (from > 0) {
      all = Buffer.concat([this.tail.subarray(0, from), bytes.subarray(start, end)]);
      first = 0;
      last = all.length;
    }
    /** Of position 0 of `all`. */
    const base = offset - from - first;
    for (let at = first; at + FRAME_HEADER_BYTES <= last; at++) {
      if (!isPlausible(all, at, FRAME_HEADER_BYTES, this.direction, most)) continue;
      if (!this.proven(all, at, last, at === first + from, base, most)) continue;
      this.bytes = all;
      this.begin();
      return at;
    }
    this.forget(base + last);
    this.tailLength = Math.min(TAIL_BYTES, last - first);
    all.copy(this.tail, 0, last - this.tailLength, last);
    return -1;
  }

  private proven(bytes: Buffer, start: number, end: number, aligned: boolean, base: number, most: number): boolean {
    let headers = this.predictedAt(base + start);
    const before = headers;
    let at = start;
    let lowest = this.mostId;
    let highest = 0;
    while (at + FRAME_HEADER_BYTES <= end) {
      if (!isPlausible(bytes, at, FRAME_HEADER_BYTES, this.direction, most)) return false;
      const id = streamIdAt(bytes, at + 5);
      if (id > 0) {
        lowest = Math.min(lowest, id);
        highest = Math.max(highest, id);
        if (id > this.mostId || highest - lowest > ID_SPREAD) return false;
      }
      headers++;
      at += FRAME_HEADER_BYTES + uint24At(bytes, at);
    }
    const enough = aligned ? (at === end ? 1 : ALIGNED_PROOF) : at === end ? ALIGNED_PROOF : PROOF;
    if (headers >= enough) return true;
    if (headers > before && this.predictions.every((prediction) => prediction.at !== base + at)) {
      if (this.predictions.length === PREDICTIONS) this.predictions.shift();
      this.predictions.push({ at: base + at, headers });
    }
    return false;
  }

  private predictedAt(at: number): number {
    for (const prediction of this.predictions) if (prediction.at === at) return prediction.headers;
    return 0;
  }

  /** Drops the predictions of places that were seen whole. */
  private forget(seen: number): void {
    if (this.predictions.length > 0) {
      this.predictions = this.predictions.filter(({ at }) => at + FRAME_HEADER_BYTES > seen);
    }
  }
}
