import { type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import type { StreamObserver } from '../http2/observer.ts';
import { CHUNKED, type Framing, INVALID_FRAMING, UNTIL_CLOSE } from './framing.ts';
import { CR, isBlank, LF } from './grammar.ts';

/** States of BodyReader: one message body, by the framing that RFC 9112 sections 6 and 7 give it. */
const NONE = 0;
const LENGTH = 1;
const CLOSE = 2;
const CHUNK_SIZE_START = 3;
const CHUNK_SIZE = 4;
const CHUNK_EXTENSION = 5;
const CHUNK_DATA = 6;
const CHUNK_DATA_END = 7;
const TRAILER_START = 8;
const TRAILER = 9;
const DONE = 10;
const INVALID = 11;
type State =
  | typeof NONE
  | typeof LENGTH
  | typeof CLOSE
  | typeof CHUNK_SIZE_START
  | typeof CHUNK_SIZE
  | typeof CHUNK_EXTENSION
  | typeof CHUNK_DATA
  | typeof CHUNK_DATA_END
  | typeof TRAILER_START
  | typeof TRAILER
  | typeof DONE
  | typeof INVALID;

/** What a body belongs to; its observer goes when it ends. */
export interface BodyOwner {
  readonly observer: StreamObserver | undefined;
}

/**
 * Counts the bytes of a body and finds its end. Content is passed over by length, shown to an observer if there is one; only chunk framing
 * is read.
 *
 * chunked-body (RFC 9112 section 7.1), a line ending in LF with or without CR:
 *
 *     CHUNK_SIZE_START -hex-> CHUNK_SIZE -;-> CHUNK_EXTENSION -LF-> CHUNK_DATA -all-> CHUNK_DATA_END -LF-> CHUNK_SIZE_START
 *                                        -LF-> CHUNK_DATA                       size 0 -LF-> TRAILER_START
 *     TRAILER_START -LF-> DONE, else TRAILER -LF-> TRAILER_START
 */
export class BodyReader {
  /** Content bytes so far, without framing. */
  bytes = 0;
  /** It is invalid because a line of its framing is longer than the limit. */
  overLimit = false;
  private state: State = NONE;
  private remaining = 0;
  private framingBytes = 0;
  private readonly maxFramingBytes: number;
  private owner: BodyOwner | undefined = undefined;
  private direction: Direction = FROM_CLIENT;

  /** @param maxFramingBytes limit of one chunk's line, and of the trailer section */
  constructor(maxFramingBytes: number) {
    this.maxFramingBytes = maxFramingBytes;
  }

  /** @param owner whose body it is: its observer, if any, sees the content */
  begin(framing: Framing, owner?: BodyOwner, direction: Direction = FROM_CLIENT): void {
    this.owner = owner;
    this.direction = direction;
    this.bytes = 0;
    this.overLimit = false;
    this.remaining = Math.max(framing, 0);
    this.framingBytes = 0;
    if (framing === CHUNKED) this.state = CHUNK_SIZE_START;
    else if (framing === UNTIL_CLOSE) this.state = CLOSE;
    else if (framing === INVALID_FRAMING) this.state = INVALID;
    else this.state = framing === 0 ? DONE : LENGTH;
  }

  get done(): boolean {
    return this.state === DONE;
  }

  /** The framing is not that of RFC 9112, or too long: where this message ends cannot be known. */
  get invalid(): boolean {
    return this.state === INVALID;
  }

  /** Nothing of it was read, framing included. */
  get untouched(): boolean {
    return this.bytes === 0 && this.framingBytes === 0 && (this.state === LENGTH || this.state === CHUNK_SIZE_START);
  }

  /** Bytes of content that are to come, as far as it is known. */
  get announced(): number {
    return this.state === LENGTH ? this.remaining : Number.POSITIVE_INFINITY;
  }

  get untilClose(): boolean {
    return this.state === CLOSE;
  }

  /** @returns the position behind the body's part of bytes[start..end) */
  consume(bytes: Buffer, start: number, end: number, timeUs = 0, firstUs = timeUs): number {
    let position = start;
    while (position < end) {
      switch (this.state) {
        case LENGTH:
        case CHUNK_DATA: {
          const n = Math.min(this.remaining, end - position);
          this.owner?.observer?.data(this.direction, bytes, position, position + n, timeUs, firstUs);
          this.pass(n);
          position += n;
          if (this.done) return position;
          break;
        }
        case CLOSE:
          this.owner?.observer?.data(this.direction, bytes, position, end, timeUs, firstUs);
          this.bytes += end - position;
          return end;
        case DONE:
        case INVALID:
        case NONE:
          return position;
        default:
          this.framingByte(bytes[position++]!);
      }
    }
    return position;
  }

  /**
   * Bytes were lost. Inside content only their number matters; framing that was lost cannot be made up.
   *
   * @returns how many of the lost bytes lie behind the end of the body (then `done`), 0 when all of them lie inside,
   *   -1 when framing was lost
   */
  gap(length: number, timeUs = 0): number {
    switch (this.state) {
      case CLOSE:
        this.owner?.observer?.gap(this.direction, length, timeUs);
        this.bytes += length;
        return 0;
      case LENGTH: {
        const inside = Math.min(length, this.remaining);
        this.owner?.observer?.gap(this.direction, inside, timeUs);
        this.pass(inside);
        return length - inside;
      }
      case CHUNK_DATA: {
        const known = length <= this.remaining;
        this.owner?.observer?.gap(this.direction, known ? length : -1, timeUs);
        if (!known) return -1;
        this.pass(length);
        return 0;
      }
      default:
        this.owner?.observer?.gap(this.direction, -1, timeUs);
        return -1;
    }
  }

  private pass(n: number): void {
    this.bytes += n;
    this.remaining -= n;
    if (this.remaining > 0) return;
    if (this.state === LENGTH) this.state = DONE;
    else {
      this.state = CHUNK_DATA_END;
      this.framingBytes = 0;
    }
  }

  /** One byte of chunk framing or of the trailer section. */
  private framingByte(c: number): void {
    if (++this.framingBytes > this.maxFramingBytes) {
      this.overLimit = true;
      this.state = INVALID;
      return;
    }
    switch (this.state) {
      case CHUNK_SIZE_START: {
        this.remaining = hexDigit(c);
        this.state = this.remaining < 0 ? INVALID : CHUNK_SIZE;
        return;
      }
      case CHUNK_SIZE: {
        const digit = hexDigit(c);
        if (digit >= 0) {
          this.remaining = this.remaining * 16 + digit;
          if (this.remaining > Number.MAX_SAFE_INTEGER) this.state = INVALID;
        } else if (c === LF) this.chunkLineEnd();
        else this.state = c === 0x3b || c === CR || isBlank(c) ? CHUNK_EXTENSION : INVALID;
        return;
      }
      case CHUNK_EXTENSION:
        if (c === LF) this.chunkLineEnd();
        return;
      case CHUNK_DATA_END:
        if (c === LF) {
          this.state = CHUNK_SIZE_START;
          this.framingBytes = 0;
        } else if (c !== CR) this.state = INVALID;
        return;
      case TRAILER_START:
        if (c === LF) this.state = DONE;
        else if (c !== CR) this.state = TRAILER;
        return;
      case TRAILER:
        if (c === LF) this.state = TRAILER_START;
        return;
    }
  }

  private chunkLineEnd(): void {
    this.framingBytes = 0;
    this.state = this.remaining === 0 ? TRAILER_START : CHUNK_DATA;
  }
}

function hexDigit(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30;
  const letter = c | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
