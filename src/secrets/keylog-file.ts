/**
 * Follows an NSS key log on disk as programs append to it (SSLKEYLOGFILE): reads what is new, hands on whole lines.
 * A file that is missing is waited for; one that shrinks or is replaced is read from its start again.
 */
import { closeSync, fstatSync, readSync, statSync } from 'node:fs';
import { newTally, openRegular } from '../files/read.ts';
import { KeyLogLines } from './keylog-lines.ts';

const CHUNK_BYTES = 64 * 1024;
/** Of one poll: programs write the file, and one that is filled with anything else must not hold up the rest. */
const MAX_POLL_BYTES = 1024 * 1024;
/** Polls at the end. */
const LAST_POLLS = 64;

export class KeyLogFile {
  readonly path: string;
  readonly #lines: KeyLogLines;
  readonly #chunk = Buffer.alloc(CHUNK_BYTES);
  #fd = -1;
  #inode = 0;
  #position = 0;

  /** @param onLine takes one line without its line feed */
  constructor(path: string, onLine: (line: string) => void) {
    this.path = path;
    this.#lines = new KeyLogLines(onLine);
  }

  /**
   * Reads all that was appended since the last call.
   * @returns whether the file is there and readable
   */
  poll(): boolean {
    try {
      if (!this.#open()) return false;
      const end = this.#position + MAX_POLL_BYTES;
      while (this.#position < end) {
        const length = readSync(this.#fd, this.#chunk, 0, CHUNK_BYTES, this.#position);
        if (length === 0) return true;
        this.#position += length;
        this.#lines.push(this.#chunk.subarray(0, length));
      }
      return true;
    } catch {
      this.#close();
      return false;
    } finally {
      this.#chunk.fill(0);
    }
  }

  /** Reads what is left, a last line without a line feed included, and closes the file. */
  close(): void {
    for (let polls = 0, before = -1; polls < LAST_POLLS && before !== this.#position; polls++) {
      before = this.#position;
      this.poll();
    }
    this.#lines.finish();
    this.#close();
  }

  #open(): boolean {
    const current = statSync(this.path, { throwIfNoEntry: false });
    if (this.#fd >= 0) {
      const replaced = current !== undefined && current.ino !== this.#inode;
      if (!replaced && fstatSync(this.#fd).size >= this.#position) return true;
      this.#close();
    }
    if (current === undefined) return false;
    // A pipe would be waited for.
    const fd = openRegular(this.path, newTally());
    if (fd === undefined) return false;
    this.#fd = fd;
    this.#inode = fstatSync(this.#fd).ino;
    this.#position = 0;
    this.#lines.reset();
    return true;
  }

  #close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
