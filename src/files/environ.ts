import { readerLimits } from '../config/limits.ts';
import { readChunks, type Tally, wipeChunk } from './read.ts';

const NUL = 0;

/**
 * The values of some variables in /proc/PID/environ: `NAME=VALUE` entries, each ended by a NUL. The rest, which holds secrets, is neither kept
 * nor decoded, and what the read leaves behind is zeroed. As getenv(3), the first of two entries of one name counts.
 *
 * @param path of the file; it may say that it is as long as its process wants
 * @returns the values that are there; undefined when the file cannot be read. One that is longer than its cap is left out, counted.
 */
export function readEnvironment(path: string, names: readonly string[], tally: Tally): Map<string, string> | undefined {
  const search = new EnvironmentSearch(names);
  const isRead = readChunks(path, readerLimits.environmentBytes, tally, 'environment_bytes_limit', (bytes) =>
    search.take(bytes),
  );
  wipeChunk();
  const values = search.end();
  return isRead ? values : undefined;
}

/** What is looked for, in pieces of any size: an entry may be cut anywhere. */
export class EnvironmentSearch {
  readonly #keys: { name: string; key: Buffer }[];
  readonly #values = new Map<string, string>();
  /** The entry that began in an earlier piece: its first bytes, as long as they may be what is looked for. */
  readonly #entry = Buffer.alloc(readerLimits.environmentValueBytes);
  #kept = 0;
  /** Nothing more of the entry is wanted. */
  #passing = false;

  constructor(names: readonly string[]) {
    this.#keys = names.map((name) => ({ name, key: Buffer.from(`${name}=`) }));
  }

  /** @returns false when all was found */
  take(bytes: Buffer): boolean {
    let start = 0;
    while (start < bytes.length) {
      if (this.#passing || this.#kept > 0) {
        const nul = bytes.indexOf(NUL, start);
        const end = nul < 0 ? bytes.length : nul;
        this.#keep(bytes, start, end);
        if (nul < 0) break;
        this.#finish();
        start = nul + 1;
      } else {
        start = this.#entriesOf(bytes, start);
      }
    }
    return this.#values.size < this.#keys.length;
  }

  /** The last entry may have no NUL. */
  end(): Map<string, string> {
    this.#finish();
    return this.#values;
  }

  /** Looks for the keys in a piece that begins with an entry. @returns where the entry begins that is cut, or the end */
  #entriesOf(bytes: Buffer, start: number): number {
    // The last entry may go on in the next piece. The keys are searched for as such: a megabyte of NULs costs no more than one search.
    const last = Math.max(start, bytes.lastIndexOf(NUL) + 1);
    for (const { name, key } of this.#keys) {
      for (let at = bytes.indexOf(key, start); at >= 0 && at < last; at = bytes.indexOf(key, at + key.length)) {
        if (at > start && bytes[at - 1] !== NUL) continue;
        const end = bytes.indexOf(NUL, at);
        this.#add(name, bytes.subarray(at + key.length, end));
        break;
      }
    }
    if (last < bytes.length) this.#keep(bytes, last, bytes.length);
    return bytes.length;
  }

  #keep(bytes: Buffer, start: number, end: number): void {
    if (this.#passing) return;
    const room = this.#entry.length - this.#kept;
    if (end - start > room) {
      this.#passing = true;
      return;
    }
    bytes.copy(this.#entry, this.#kept, start, end);
    this.#kept += end - start;
    const isAny = this.#keys.some(({ key }) => {
      const length = Math.min(key.length, this.#kept);
      return key.compare(this.#entry, 0, length, 0, length) === 0;
    });
    if (!isAny) this.#passing = true;
  }

  #finish(): void {
    if (!this.#passing) {
      for (const { name, key } of this.#keys) {
        if (this.#kept >= key.length && key.compare(this.#entry, 0, key.length) === 0) {
          this.#add(name, this.#entry.subarray(key.length, this.#kept));
        }
      }
    }
    this.#entry.fill(0, 0, this.#kept);
    this.#kept = 0;
    this.#passing = false;
  }

  #add(name: string, value: Buffer): void {
    if (!this.#values.has(name) && value.length <= readerLimits.environmentValueBytes) {
      this.#values.set(name, value.toString('utf8'));
    }
  }
}
