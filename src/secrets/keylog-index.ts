/**
 * Where the secrets of a key log lie, for files that are larger than what memory should hold: 8 bytes for each run of lines of one client
 * random. A connection that asks for its secrets has them read from the file.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { parseKeyLogLine } from './keylog.ts';
import { KeyLogLines } from './keylog-lines.ts';

/** A label, and the 32 bytes of a client random. */
const NAMED_LINE = /^\s*[A-Z][A-Z0-9_]*\s+([0-9A-Fa-f]{64})\s/;
/** Hexadecimal digits of the random that are kept: 24 bits. The offset has 40. */
const KEY_DIGITS = 6;
const OFFSET_HIGH_BITS = 8;
const TWO_32 = 2 ** 32;
const READ_BYTES = 4096;

export class KeyLogIndex {
  readonly #fd: number;
  readonly #maxEntries: number;
  readonly #chunk = Buffer.alloc(READ_BYTES);
  /** Two words for each entry, the lower one first: a 64-bit number of key and offset, so that they can be sorted as such. */
  #words = new Uint32Array(2048);
  #entries = 0;
  #last = '';
  #sorted = false;
  /** Lines that found no place. */
  dropped = 0;

  /** @param maxEntries what lies beyond is dropped, and counted */
  constructor(path: string, maxEntries: number) {
    this.#fd = openSync(path, 'r');
    this.#maxEntries = maxEntries;
  }

  /**
   * Notes where a line lies.
   *
   * @param offset of its first byte in the file
   * @returns false for a line that names no client random
   */
  add(line: string, offset: number): boolean {
    const random = NAMED_LINE.exec(line)?.[1];
    if (random === undefined) {
      // A run of lines ends where #read() ends.
      this.#last = '';
      return false;
    }
    // Its lines mostly stand together, and are read together.
    if (random === this.#last) return true;
    this.#last = random;
    if (this.#entries >= this.#maxEntries || offset >= TWO_32 * 2 ** OFFSET_HIGH_BITS) {
      this.dropped++;
      return true;
    }
    const at = 2 * this.#entries++;
    if (at >= this.#words.length) {
      const larger = new Uint32Array(2 * this.#words.length);
      larger.set(this.#words);
      this.#words = larger;
    }
    this.#words[at] = offset % TWO_32;
    this.#words[at + 1] = keyOf(random) * 2 ** OFFSET_HIGH_BITS + Math.floor(offset / TWO_32);
    this.#sorted = false;
    return true;
  }

  /** Hands on the lines of a client random. @throws Error of the file system */
  lookUp(clientRandom: Buffer, onLine: (line: string) => void): void {
    const words = this.#words;
    const random = clientRandom.toString('hex');
    const key = keyOf(random);
    for (let i = this.#firstOf(key); i < this.#entries; i++) {
      const high = words[2 * i + 1]!;
      if (high >>> OFFSET_HIGH_BITS !== key) break;
      this.#read((high & (2 ** OFFSET_HIGH_BITS - 1)) * TWO_32 + words[2 * i]!, random, onLine);
    }
  }

  close(): void {
    closeSync(this.#fd);
    this.#chunk.fill(0);
    this.#entries = 0;
  }

  /** The first entry whose key is not below this one. */
  #firstOf(key: number): number {
    if (!this.#sorted) new BigUint64Array(this.#words.buffer, 0, this.#entries).sort();
    this.#sorted = true;
    let low = 0;
    let high = this.#entries;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#words[2 * middle + 1]! >>> OFFSET_HIGH_BITS < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The run of lines that begins there, if it is of this random. */
  #read(start: number, random: string, onLine: (line: string) => void): void {
    let over = false;
    const lines = new KeyLogLines((line) => {
      if (over) return;
      over = NAMED_LINE.exec(line)?.[1]?.toLowerCase() !== random;
      if (!over && typeof parseKeyLogLine(line) === 'object') onLine(line);
    });
    for (let at = start; !over; ) {
      const length = readSync(this.#fd, this.#chunk, 0, READ_BYTES, at);
      if (length === 0) break;
      lines.push(this.#chunk.subarray(0, length));
      at += length;
    }
    lines.finish();
  }
}

function keyOf(random: string): number {
  return Number.parseInt(random.slice(0, KEY_DIGITS), 16);
}
