import type { IncompleteReason } from '../../exchange/exchange.ts';
import { type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import { BINARY, beginsFrame, CLOSE, CONTINUATION, FrameHeader, MAX_HEADER_BYTES, readHeader, TEXT } from './frames.ts';

/** States of one direction; layer.ts says what leads from one to the other. */
const HEADER = 0;
const PAYLOAD = 1;
const LOST = 2;
const ENDED = 3;
type State = typeof HEADER | typeof PAYLOAD | typeof LOST | typeof ENDED;

/** Status codes that stand for what no frame says (RFC 6455 section 7.4.1). */
export const NO_STATUS = 1005;
export const ABNORMAL = 1006;
/** A Close frame whose code was lost. */
export const UNKNOWN_CODE = 0;

/** Whether a message of several frames is under way. */
type Open = 'yes' | 'no' | 'unknown';

/** What a direction says to the connection that it is one of. */
export interface FrameSink {
  /** Nothing more is read. */
  readonly over: boolean;
  parseError(timeUs: number): void;
  closeFrame(direction: Direction, code: number, timeUs: number): void;
  lost(reason: IncompleteReason): void;
}

/** One direction: frames, one after the other. Payload is passed over by length; of a Close frame the code is read. */
export class FrameReader {
  /** Messages that are whole, and octets of payload of all of them, as transferred. */
  messages = 0;
  bytes = 0;
  /** A message was compressed (RFC 7692). */
  compressed = false;
  /** Its Close frame was seen. */
  closed = false;
  private readonly direction: Direction;
  private readonly session: FrameSink;
  /** Whether its frames are masked: as they should be, until one is not. */
  private masked: boolean;
  private maskWasWrong = false;
  private readonly header = new FrameHeader();
  private state: State = HEADER;
  private open: Open = 'no';
  /** Octets of the payload that are still to come. */
  private remaining = 0;
  /** The code of a Close frame: octets of it so far, -1 when some were lost, and its value. */
  private codeBytes = 0;
  private code = 0;
  /** A header that is cut. */
  private carry: Uint8Array | undefined;
  private carried = 0;

  constructor(direction: Direction, session: FrameSink) {
    this.direction = direction;
    this.session = session;
    this.masked = direction === FROM_CLIENT;
  }

  /** Its place in the stream is not known: a Close frame may have gone by. */
  get lostPlace(): boolean {
    return this.state === LOST;
  }

  /** Bytes held between calls. */
  get heldBytes(): number {
    return this.carry?.length ?? 0;
  }

  data(bytes: Uint8Array, start: number, end: number, timeUs: number): void {
    if (this.state === LOST && beginsFrame(bytes, start, end, this.masked)) {
      this.state = HEADER;
      this.open = 'unknown';
    }
    let position = start;
    while (position < end) {
      if (this.state === PAYLOAD) position = this.readPayload(bytes, position, end, timeUs);
      else if (this.state === HEADER) position = this.readHeader(bytes, position, end, timeUs);
      else return;
    }
  }

  private readHeader(bytes: Uint8Array, start: number, end: number, timeUs: number): number {
    const { header, masked, carried } = this;
    let size: number;
    if (carried === 0) size = readHeader(header, bytes, start, end, masked);
    else {
      const carry = this.carry!;
      const more = Math.min(MAX_HEADER_BYTES - carried, end - start);
      carry.set(bytes.subarray(start, start + more), carried);
      size = readHeader(header, carry, 0, carried + more, masked);
    }
    if (size === 0) {
      this.keep(bytes, start, end);
      return end;
    }
    this.carried = 0;
    if (size < 0 || !this.inOrder()) {
      this.lose('protocol_error');
      this.session.parseError(timeUs);
      return end;
    }
    if (header.masked !== masked) this.wrongMask(timeUs);
    if (this.session.over) return end;
    this.begin(timeUs);
    return start + size - carried;
  }

  /** Section 5.1 has its peer close the connection; some do not, and nothing is lost by it. */
  private wrongMask(timeUs: number): void {
    this.masked = this.header.masked;
    if (this.maskWasWrong) return;
    this.maskWasWrong = true;
    this.session.parseError(timeUs);
  }

  private keep(bytes: Uint8Array, start: number, end: number): void {
    this.carry ??= new Uint8Array(MAX_HEADER_BYTES);
    this.carry.set(bytes.subarray(start, end), this.carried);
    this.carried += end - start;
  }

  /** Section 5.4: frames of different messages are not interleaved, control frames may come between them. */
  private inOrder(): boolean {
    const { opcode } = this.header;
    if (opcode >= CLOSE || this.open === 'unknown') return true;
    return (opcode === CONTINUATION) === (this.open === 'yes');
  }

  private begin(timeUs: number): void {
    const { opcode, compressed, length } = this.header;
    if (compressed && opcode !== CONTINUATION) this.compressed = true;
    this.remaining = length;
    this.codeBytes = 0;
    this.code = 0;
    this.state = PAYLOAD;
    if (length === 0) this.frameDone(timeUs);
  }

  private readPayload(bytes: Uint8Array, start: number, end: number, timeUs: number): number {
    const n = Math.min(this.remaining, end - start);
    if (this.header.opcode === CLOSE) this.readCode(bytes, start, start + n);
    this.pass(n, timeUs);
    return start + n;
  }

  private readCode(bytes: Uint8Array, start: number, end: number): void {
    const { key0, key1 } = this.header;
    for (let i = start; i < end && this.codeBytes >= 0 && this.codeBytes < 2; i++) {
      this.code = this.code * 256 + (bytes[i]! ^ (this.codeBytes === 0 ? key0 : key1));
      this.codeBytes++;
    }
  }

  /** `n` octets of payload went by, seen or lost. */
  private pass(n: number, timeUs: number): void {
    if (this.header.opcode <= BINARY) this.bytes += n;
    this.remaining -= n;
    if (this.remaining === 0) this.frameDone(timeUs);
  }

  private frameDone(timeUs: number): void {
    const { opcode, fin } = this.header;
    this.state = HEADER;
    if (opcode === CLOSE) this.close(timeUs);
    else if (opcode === CONTINUATION || opcode === TEXT || opcode === BINARY) {
      this.open = fin ? 'no' : 'yes';
      if (fin) this.messages++;
    }
  }

  /** Section 5.5.1: nothing follows a Close frame. */
  private close(timeUs: number): void {
    const code = this.codeBytes < 0 ? UNKNOWN_CODE : this.codeBytes < 2 ? NO_STATUS : this.code;
    this.state = ENDED;
    this.closed = true;
    this.session.closeFrame(this.direction, code, timeUs);
  }

  /** @param length -1 when it is not known how much was lost, or whether anything */
  gap(length: number, timeUs: number): void {
    if (this.state === ENDED) return;
    if (this.state !== PAYLOAD || length < 0) {
      this.lose('gap');
      return;
    }
    if (this.codeBytes < 2) this.codeBytes = -1;
    const behind = length - this.remaining;
    this.pass(Math.min(length, this.remaining), timeUs);
    if (behind > 0 && !this.closed) this.lose('gap');
  }

  /** The place in the stream is not known. */
  private lose(reason: IncompleteReason): void {
    this.state = LOST;
    this.carried = 0;
    this.session.lost(reason);
  }

  /** No more bytes of this direction. */
  end(timeUs: number): void {
    // Its reason is cut; that it is a Close frame is known.
    if (this.state === PAYLOAD && this.header.opcode === CLOSE) this.close(timeUs);
    if (this.state !== LOST) this.state = ENDED;
    this.carry = undefined;
    this.carried = 0;
  }
}
