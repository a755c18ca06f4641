/**
 * A bounded reader: every multi-byte read of a wire format that is not on the per-packet path goes through it.
 *
 * Reading past the end never throws and never reads foreign bytes: the read yields 0 (or an empty view), `failed` becomes
 * true and stays so. A parser reads a whole structure and checks `failed` once, at its end.
 */
export class Reader {
  readonly bytes: Buffer;
  position: number;
  readonly end: number;
  failed = false;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.position = start;
    this.end = end;
  }

  /** Bytes that are left. */
  get remaining(): number {
    return this.end - this.position;
  }

  get isEmpty(): boolean {
    return this.position >= this.end;
  }

  u8(): number {
    return this.advance(1) ? this.bytes[this.position - 1]! : 0;
  }

  u16(): number {
    return this.advance(2) ? this.bytes.readUInt16BE(this.position - 2) : 0;
  }

  u24(): number {
    return this.advance(3) ? this.bytes.readUIntBE(this.position - 3, 3) : 0;
  }

  u32(): number {
    return this.advance(4) ? this.bytes.readUInt32BE(this.position - 4) : 0;
  }

  /** The next `length` bytes as a view: borrowed, so copy what outlives the turn. */
  take(length: number): Buffer {
    return this.advance(length) ? this.bytes.subarray(this.position - length, this.position) : EMPTY;
  }

  /** A reader over the next `length` bytes; a length prefix becomes a sub-reader, so that it cannot read past itself. */
  sub(length: number): Reader {
    const start = this.position;
    if (this.advance(length)) return new Reader(this.bytes, start, start + length);
    const reader = new Reader(EMPTY);
    reader.failed = true;
    return reader;
  }

  /** All that is left. */
  rest(): Buffer {
    return this.take(this.remaining);
  }

  skip(length: number): void {
    this.advance(length);
  }

  private advance(length: number): boolean {
    if (length < 0 || length > this.end - this.position) {
      this.failed = true;
      this.position = this.end;
      return false;
    }
    this.position += length;
    return true;
  }
}

const EMPTY = Buffer.alloc(0);
