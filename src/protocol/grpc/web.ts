/** What gRPC-Web does otherwise (doc/PROTOCOL-WEB.md): trailers in the body, and bodies in base64. */
import type { MessageReader, TrailerSink } from './messages.ts';

const LF = 0x0a;
/** Longer lines hold something else than a status. */
const MAX_LINE_BYTES = 64;

/** Finds grpc-status in trailers that are lines of `name: value`; keeps nothing else of them. */
export class WebTrailers implements TrailerSink {
  /** Of grpc-status; empty without one. */
  status = '';
  /** There were trailers that cannot be read. */
  unread = false;
  private line = '';
  private skips = false;

  begin(compressed: boolean): void {
    this.line = '';
    this.skips = compressed;
    if (compressed) this.unread = true;
  }

  take(bytes: Buffer, start: number, end: number): void {
    if (this.skips) return;
    for (let at = start; at < end; ) {
      const newline = bytes.indexOf(LF, at);
      const stop = newline < 0 || newline >= end ? end : newline;
      const room = MAX_LINE_BYTES - this.line.length;
      if (room > 0) this.line += bytes.toString('latin1', at, Math.min(stop, at + room));
      if (stop < end) this.lineEnds();
      at = stop + 1;
    }
  }

  end(): void {
    this.lineEnds();
  }

  private lineEnds(): void {
    const value = /^grpc-status\s*:\s*(\d+)\s*$/i.exec(this.line)?.[1];
    if (value !== undefined && this.status === '') this.status = value;
    this.line = '';
  }
}

const PAD = 0x3d;
const SCRATCH_BYTES = 3072;
const scratch = Buffer.alloc(SCRATCH_BYTES);

/** The value of each octet in base64, -1 for what is none (RFC 4648 section 4, and section 5's two others). */
const VALUES = new Int8Array(256).fill(-1);
for (const alphabet of ['+/', '-_']) {
  const all = `ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789${alphabet}`;
  for (let i = 0; i < all.length; i++) VALUES[all.charCodeAt(i)] = i;
}

/** Decodes a body of base64 in which each piece may end in padding of its own. */
export class Base64Reader {
  private readonly messages: MessageReader;
  private bits = 0;
  /** Digits of a group of four so far. */
  private digits = 0;

  constructor(messages: MessageReader) {
    this.messages = messages;
  }

  data(bytes: Buffer, start: number, end: number, firstUs: number): void {
    const { messages } = this;
    let length = 0;
    for (let at = start; at < end && !messages.lost; at++) {
      const octet = bytes[at]!;
      const value = VALUES[octet]!;
      if (value < 0) {
        if (octet === PAD) length = this.pad(length);
        // Line breaks; anything else is no base64.
        else if (octet > 0x20) messages.lost = true;
      } else {
        this.bits = (this.bits << 6) | value;
        if (++this.digits === 4) length = this.group(3, length);
      }
      if (length > SCRATCH_BYTES - 3) {
        messages.data(scratch, 0, length, firstUs);
        length = 0;
      }
    }
    messages.data(scratch, 0, length, firstUs);
  }

  gap(): void {
    this.messages.lost = true;
  }

  /** The first `=` of a group ends it; a second one says nothing new. */
  private pad(length: number): number {
    const octets = this.digits - 1;
    if (octets < 1) {
      this.digits = 0;
      return length;
    }
    this.bits <<= 6 * (4 - this.digits);
    return this.group(octets, length);
  }

  private group(octets: number, length: number): number {
    for (let i = 0; i < octets; i++) scratch[length + i] = (this.bits >> (16 - 8 * i)) & 0xff;
    this.bits = 0;
    this.digits = 0;
    return length + octets;
  }
}
