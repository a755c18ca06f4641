/** Writes the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) into one buffer that grows. */

/** Longer strings go through Node's own writer, shorter ones are faster by hand. */
const SHORT_STRING = 64;
/** The same for bytes. */
const SHORT_COPY = 48;
/** A length that is not known yet gets two bytes, which hold up to this; spans seldom need more. */
const TWO_BYTE_LENGTH = 1 << 14;
export const LENGTH_BYTES = 2;
const KEEP_BYTES = 64 * 1024;

let nextEpoch = 0;

export class ProtobufWriter {
  buffer: Buffer;
  position = 0;
  /** As long as it stays the same, what was written stays where it is; unique in the process. */
  epoch = nextEpoch++;
  private most = 0;

  /** @param buffer to write into, as long as there is room in it */
  constructor(capacity: number, buffer?: Buffer) {
    this.buffer = buffer ?? Buffer.allocUnsafeSlow(Math.max(capacity, 16));
  }

  /** Makes room for `bytes` more. */
  reserve(bytes: number): void {
    if (this.buffer.length - this.position < bytes) this.grow(bytes);
  }

  /** Begins again. A buffer that was far larger than what it held lately is given back. */
  reset(): void {
    this.most = Math.max(this.position, this.most >>> 1);
    this.back(0);
    if (this.buffer.length > KEEP_BYTES && this.buffer.length > 4 * this.most) {
      this.buffer = Buffer.allocUnsafeSlow(Math.max(this.most, 16));
    }
  }

  /** Undoes what was written from `position` on. */
  back(position: number): void {
    this.position = position;
    this.epoch = nextEpoch++;
  }

  /** A copy of what was written from `start` on. */
  copy(start: number): Uint8Array {
    return Uint8Array.prototype.slice.call(this.buffer, start, this.position);
  }

  byte(value: number): void {
    if (this.position >= this.buffer.length) this.grow(1);
    this.buffer[this.position++] = value;
  }

  /** @param value not negative, at most 2^53 - 1 */
  varint(value: number): void {
    this.reserve(10);
    this.position = putVarint(this.buffer, this.position, value);
  }

  /** An int64, negative numbers included. */
  int64(value: number): void {
    if (value >= 0) {
      this.varint(value);
      return;
    }
    this.reserve(10);
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest > 0x7fn) {
      this.buffer[this.position++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.buffer[this.position++] = Number(rest);
  }

  fixed32(value: number): void {
    this.reserve(4);
    put32(this.buffer, this.position, value);
    this.position += 4;
  }

  double(value: number): void {
    this.reserve(8);
    this.position = this.buffer.writeDoubleLE(value, this.position);
  }

  /** Microseconds since the epoch (below 2^53) as fixed64 nanoseconds, exactly: the product needs more than 53 bits. */
  unixNanos(us: number): void {
    this.reserve(8);
    this.unixNanosAt(this.position, us);
    this.position += 8;
  }

  /** The same over what was written; so are the next ones. */
  unixNanosAt(at: number, us: number): void {
    const whole = Math.floor(us);
    const nanos = Math.round((us - whole) * 1000);
    // whole * 1000 = upper * 2^16 + lower, all of them exact.
    const upper = Math.floor(whole / 65536) * 1000;
    const lower = (whole % 65536) * 1000 + nanos;
    const low = (upper % 65536) * 65536 + lower;
    put32(this.buffer, at, low % 4294967296);
    put32(this.buffer, at + 4, Math.floor(upper / 65536) + Math.floor(low / 4294967296));
  }

  bytesAt(at: number, bytes: Buffer, from: number, length: number): void {
    const { buffer } = this;
    for (let i = 0; i < length; i++) buffer[at + i] = bytes[from + i]!;
  }

  doubleAt(at: number, value: number): void {
    DOUBLE[0] = value;
    put32(this.buffer, at, WORDS[0]!);
    put32(this.buffer, at + 4, WORDS[1]!);
  }

  varintAt(at: number, value: number): void {
    putVarint(this.buffer, at, value);
  }

  /** @returns false, with garbage written, when the text is not ASCII */
  asciiAt(at: number, text: string): boolean {
    return putAscii(this.buffer, at, text) >= 0;
  }

  /** Writes `length` bytes from `at` on once more. */
  repeat(at: number, length: number): void {
    this.reserve(length);
    this.buffer.copyWithin(this.position, at, at + length);
    this.position += length;
  }

  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.position = putBytes(this.buffer, this.position, bytes);
  }

  /** The first `length` bytes of `bytes`. */
  rawPart(bytes: Buffer, length: number): void {
    this.reserve(length);
    bytes.copy(this.buffer, this.position, 0, length);
    this.position += length;
  }

  /** A field of `length` bytes, less than 128, from `from`. */
  fixedBytes(tag: number, bytes: Buffer, from: number, length: number): void {
    this.reserve(length + 2);
    const { buffer } = this;
    let at = this.position;
    buffer[at++] = tag;
    buffer[at++] = length;
    for (let i = 0; i < length; i++) buffer[at++] = bytes[from + i]!;
    this.position = at;
  }

  bytes(tag: number, bytes: Uint8Array): void {
    this.byte(tag);
    this.varint(bytes.length);
    this.raw(bytes);
  }

  string(tag: number, text: string): void {
    this.reserve(11 + 3 * text.length);
    this.buffer[this.position++] = tag;
    const start = this.position;
    const at = putVarint(this.buffer, start, text.length);
    const end = putAscii(this.buffer, at, text);
    if (end >= 0) {
      this.position = end;
      return;
    }
    this.position = putVarint(this.buffer, start, Buffer.byteLength(text));
    this.position += this.buffer.write(text, this.position);
  }

  /**
   * A KeyValue with a string_value.
   *
   * @param key its field `key`, whole
   */
  stringAttribute(tag: number, key: Uint8Array, text: string): void {
    this.reserve(40 + key.length + 3 * text.length);
    const start = this.position;
    if (this.putStringAttribute(tag, key, text, text.length, false)) return;
    this.position = start;
    this.putStringAttribute(tag, key, text, Buffer.byteLength(text), true);
  }

  /** A KeyValue with an int_value, which is not negative. */
  intAttribute(tag: number, key: Uint8Array, value: number): void {
    this.reserve(32 + key.length);
    const { buffer } = this;
    const length = varintLength(value);
    let at = this.position;
    buffer[at++] = tag;
    at = putVarint(buffer, at, key.length + 3 + length);
    at = putBytes(buffer, at, key);
    buffer[at++] = 0x12;
    buffer[at++] = 1 + length;
    buffer[at++] = 0x18;
    this.position = putVarint(buffer, at, value);
  }

  /** A KeyValue with a double_value. */
  doubleAttribute(tag: number, key: Uint8Array, value: number): void {
    this.reserve(32 + key.length);
    const { buffer } = this;
    let at = this.position;
    buffer[at++] = tag;
    at = putVarint(buffer, at, key.length + 11);
    at = putBytes(buffer, at, key);
    buffer[at++] = 0x12;
    buffer[at++] = 9;
    buffer[at++] = 0x21;
    this.doubleAt(at, value);
    this.position = at + 8;
  }

  /** Leaves room for a length that `finishLength` fills in. */
  skipLength(): number {
    this.reserve(LENGTH_BYTES);
    const at = this.position;
    this.position += LENGTH_BYTES;
    return at;
  }

  /**
   * Writes the length of everything since `skipLength` where it left room.
   *
   * @returns false when there was not the right room, and everything was moved
   */
  finishLength(at: number): boolean {
    const { buffer } = this;
    const length = this.position - at - LENGTH_BYTES;
    if (length >= 128 && length < TWO_BYTE_LENGTH) {
      buffer[at] = (length & 0x7f) | 0x80;
      buffer[at + 1] = length >>> 7;
      return true;
    }
    const needed = varintLength(length);
    this.reserve(needed);
    this.buffer.copyWithin(at + needed, at + LENGTH_BYTES, this.position);
    putVarint(this.buffer, at, length);
    this.position += needed - LENGTH_BYTES;
    return false;
  }

  /** @returns false, with garbage written, when the text is not ASCII though it was not said to be UTF-8 */
  private putStringAttribute(tag: number, key: Uint8Array, text: string, bytes: number, utf8: boolean): boolean {
    const { buffer } = this;
    const value = 1 + varintLength(bytes) + bytes;
    let at = this.position;
    buffer[at++] = tag;
    at = putVarint(buffer, at, key.length + 1 + varintLength(value) + value);
    at = putBytes(buffer, at, key);
    buffer[at++] = 0x12;
    at = putVarint(buffer, at, value);
    buffer[at++] = 0x0a;
    at = putVarint(buffer, at, bytes);
    const end = utf8 ? at + buffer.write(text, at) : putAscii(buffer, at, text);
    this.position = end;
    return end >= 0;
  }

  private grow(bytes: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.buffer.length, this.position + bytes));
    this.buffer.copy(larger, 0, 0, this.position);
    this.buffer = larger;
  }
}

/** The words of a double, little-endian, as is every processor of src/arch/. */
const DOUBLE = new Float64Array(1);
const WORDS = new Uint32Array(DOUBLE.buffer);

/** Bytes that `value` (not negative) takes as a varint. */
export function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length++;
  return length;
}

function putVarint(buffer: Buffer, position: number, value: number): number {
  let at = position;
  let rest = value;
  while (rest > 0x7fffffff) {
    buffer[at++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  while (rest > 0x7f) {
    buffer[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[at++] = rest;
  return at;
}

function putBytes(buffer: Buffer, position: number, bytes: Uint8Array): number {
  const { length } = bytes;
  if (length > SHORT_COPY) buffer.set(bytes, position);
  else for (let i = 0; i < length; i++) buffer[position + i] = bytes[i]!;
  return position + length;
}

function put32(buffer: Buffer, at: number, value: number): void {
  buffer[at] = value;
  buffer[at + 1] = value >>> 8;
  buffer[at + 2] = value >>> 16;
  buffer[at + 3] = value >>> 24;
}

/** @returns the position after the text, -1 when it is not ASCII */
function putAscii(buffer: Buffer, position: number, text: string): number {
  const { length } = text;
  if (length > SHORT_STRING) {
    const written = buffer.write(text, position);
    // Each other character takes more than one byte, so as many bytes as characters means ASCII.
    return written === length ? position + length : -1;
  }
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return -1;
    buffer[position + i] = code;
  }
  return position + length;
}
