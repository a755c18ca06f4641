/**
 * A bounded reader of the protocol's data types (all integers little-endian). As `Reader` in bytes/: reading past the end yields 0, and
 * `failed` becomes true and stays so. Reused by `reset`, so that reading makes no object.
 */
export class FieldReader {
  bytes: Buffer = NOTHING;
  position = 0;
  end = 0;
  failed = false;

  reset(bytes: Buffer, start: number, end: number): this {
    this.bytes = bytes;
    this.position = start;
    this.end = end;
    this.failed = false;
    return this;
  }

  get remaining(): number {
    return this.end - this.position;
  }

  /** Protocol::FixedLengthInteger. */
  u8(): number {
    return this.skip(1) ? this.bytes[this.position - 1]! : 0;
  }

  u16(): number {
    return this.skip(2) ? this.bytes.readUInt16LE(this.position - 2) : 0;
  }

  u24(): number {
    return this.skip(3) ? this.bytes.readUIntLE(this.position - 3, 3) : 0;
  }

  u32(): number {
    return this.skip(4) ? this.bytes.readUInt32LE(this.position - 4) : 0;
  }

  /** Protocol::LengthEncodedInteger. Exact up to 2^53. */
  lengthEncoded(): number {
    const first = this.u8();
    if (first < 0xfb) return first;
    if (first === 0xfc) return this.u16();
    if (first === 0xfd) return this.u24();
    if (first === 0xfe) {
      const low = this.u32();
      return low + this.u32() * 2 ** 32;
    }
    this.failed = true;
    return 0;
  }

  /** Protocol::LengthEncodedString, passed over. */
  skipString(): boolean {
    return this.skip(this.lengthEncoded());
  }

  /** Protocol::LengthEncodedString. */
  string(): string {
    const length = this.lengthEncoded();
    return this.skip(length) ? this.bytes.toString('utf8', this.position - length, this.position) : '';
  }

  /** Protocol::NulTerminatedString; the NUL is passed over. A string that ends with the packet has none. */
  terminated(): string {
    const start = this.position;
    const end = this.terminator();
    return this.bytes.toString('utf8', start, end);
  }

  skipTerminated(): void {
    this.terminator();
  }

  skip(length: number): boolean {
    if (!(length >= 0 && length <= this.end - this.position)) {
      this.failed = true;
      this.position = this.end;
      return false;
    }
    this.position += length;
    return true;
  }

  private terminator(): number {
    const found = this.bytes.indexOf(0, this.position);
    if (found < 0 || found >= this.end) {
      this.position = this.end;
      return this.end;
    }
    this.position = found + 1;
    return found;
  }
}

const NOTHING = Buffer.alloc(0);
