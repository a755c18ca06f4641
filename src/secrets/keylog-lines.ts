/** Longer than any line that can be one: a label, a random of 32 bytes and a secret of 64 in hexadecimal. */
const MAX_LINE_BYTES = 2048;
const LF = 0x0a;

/**
 * Cuts the bytes of a key log into lines, however they come, and holds the beginning of one line at most. Of a line that is too long to be one
 * the first bytes are handed on, which are no entry, and the rest is passed over.
 */
export class KeyLogLines {
  readonly #onLine: (line: string, offset: number) => void;
  readonly #carry = Buffer.alloc(MAX_LINE_BYTES);
  #carried = 0;
  #skipping = false;
  /** Bytes before those at hand, and where the line began. */
  #passed = 0;
  #lineStart = 0;

  /** @param onLine takes one line without its line feed, and the offset of its first byte in all bytes */
  constructor(onLine: (line: string, offset: number) => void) {
    this.#onLine = onLine;
  }

  push(bytes: Buffer): void {
    for (let start = 0; start < bytes.length; ) {
      const newline = bytes.indexOf(LF, start);
      const end = newline < 0 ? bytes.length : newline;
      this.#part(bytes, start, end);
      if (newline >= 0) {
        this.finish();
        this.#lineStart = this.#passed + newline + 1;
      }
      start = end + 1;
    }
    this.#passed += bytes.length;
  }

  /** What there is of a line is the whole of it. */
  finish(): void {
    if (this.#carried > 0) this.#hand();
    this.#skipping = false;
  }

  /** Forgets what there is of a line. */
  reset(): void {
    this.#carry.fill(0, 0, this.#carried);
    this.#carried = 0;
    this.#skipping = false;
    this.#passed = 0;
    this.#lineStart = 0;
  }

  #part(bytes: Buffer, start: number, end: number): void {
    if (this.#skipping) return;
    const room = MAX_LINE_BYTES - this.#carried;
    this.#carried += bytes.copy(this.#carry, this.#carried, start, Math.min(end, start + room));
    if (end - start <= room) return;
    this.#hand();
    this.#skipping = true;
  }

  #hand(): void {
    const line = this.#carry.toString('latin1', 0, this.#carried);
    this.#carry.fill(0, 0, this.#carried);
    this.#carried = 0;
    this.#onLine(line, this.#lineStart);
  }
}
