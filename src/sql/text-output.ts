const FIRST_BYTES = 512;
const QUESTION_MARK = 0x3f;
const BLANK = 0x20;
/** Runs that are longer are copied by one native call. */
const LONG_RUN_BYTES = 48;

/** The text of one statement as it grows, up to a number of bytes. What comes later is dropped, and `truncated` says so. */
export class TextOutput {
  private readonly maxBytes: number;
  bytes: Buffer;
  length = 0;
  /** Length without the white space at the end. */
  solid = 0;
  truncated = false;
  /** A comment was left out here: what it separated must stay apart. */
  private gap = false;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
    this.bytes = Buffer.allocUnsafe(Math.min(FIRST_BYTES, maxBytes));
  }

  begin(): void {
    this.length = 0;
    this.solid = 0;
    this.truncated = false;
    this.gap = false;
  }

  /** White space; at the beginning it is left out. */
  space(source: Buffer, start: number, end: number): void {
    if (this.length === 0) return;
    this.copy(source, start, Math.min(end, start + this.room(end - start)));
  }

  comment(): void {
    this.gap = true;
  }

  append(source: Buffer, start: number, end: number): void {
    this.bridge();
    const room = this.room(end - start);
    if (room < end - start) this.truncated = true;
    this.copy(source, start, start + room);
    this.solid = this.length;
  }

  placeholder(): void {
    this.bridge();
    if (this.room(1) === 0) {
      this.truncated = true;
      return;
    }
    this.bytes[this.length++] = QUESTION_MARK;
    this.solid = this.length;
  }

  /** Goes back to a place that has been reached, as if nothing had come since. */
  rewind(length: number): void {
    this.length = length;
    this.solid = length;
    this.truncated = false;
  }

  /** The length at which the text ends with a whole character of UTF-8. */
  wholeLength(): number {
    let at = this.solid;
    if (!this.truncated) return at;
    let back = 0;
    while (at > 0 && back < 4 && (this.bytes[at - 1]! & 0xc0) === 0x80) {
      at--;
      back++;
    }
    if (at === 0) return this.solid;
    const lead = this.bytes[at - 1]!;
    const needed = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    return back >= needed ? this.solid : at - 1;
  }

  /** Bytes of so many that still find room. */
  private room(bytes: number): number {
    if (this.length + bytes <= this.bytes.length) return bytes;
    if (this.bytes.length < this.maxBytes) {
      const grown = Buffer.allocUnsafe(Math.min(this.maxBytes, Math.max(this.bytes.length * 2, this.length + bytes)));
      this.bytes.copy(grown, 0, 0, this.length);
      this.bytes = grown;
    }
    return Math.min(bytes, this.bytes.length - this.length);
  }

  private bridge(): void {
    if (!this.gap) return;
    this.gap = false;
    if (this.length > 0 && this.length === this.solid && this.room(1) === 1) this.bytes[this.length++] = BLANK;
  }

  private copy(source: Buffer, start: number, end: number): void {
    const target = this.bytes;
    let to = this.length;
    if (end - start > LONG_RUN_BYTES) {
      source.copy(target, to, start, end);
      to += end - start;
    } else {
      for (let at = start; at < end; at++) target[to++] = source[at]!;
    }
    this.length = to;
  }
}
