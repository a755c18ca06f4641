import { sameBytes, textHash } from './text-hash.ts';

const WAYS = 4;

interface Entry<T> {
  readonly hash: number;
  readonly seed: number;
  readonly bytes: Buffer;
  readonly value: T;
}

/** Values by the bytes of a text. Its size is fixed: each text has four places, and the newest of them takes the oldest one's. */
export class TextTable<T> {
  private readonly sets: number;
  private readonly entries: (Entry<T> | undefined)[];
  private readonly next: Uint8Array;

  /** @param entries how many texts it holds, rounded up to a power of two */
  constructor(entries: number) {
    this.sets = 2 ** Math.ceil(Math.log2(Math.max(entries, WAYS) / WAYS));
    this.entries = new Array<Entry<T> | undefined>(this.sets * WAYS).fill(undefined);
    this.next = new Uint8Array(this.sets);
  }

  hash(bytes: Buffer, start: number, end: number, seed: number): number {
    return textHash(bytes, start, end, seed);
  }

  find(hash: number, seed: number, bytes: Buffer, start: number, end: number): T | undefined {
    const first = (hash & (this.sets - 1)) * WAYS;
    for (let way = 0; way < WAYS; way++) {
      const entry = this.entries[first + way];
      if (entry === undefined) return undefined;
      if (entry.hash === hash && entry.seed === seed && sameBytes(entry.bytes, bytes, start, end)) return entry.value;
    }
    return undefined;
  }

  /** Copies the bytes. */
  add(hash: number, seed: number, bytes: Buffer, start: number, end: number, value: T): void {
    const set = hash & (this.sets - 1);
    const way = this.next[set]!;
    this.next[set] = (way + 1) % WAYS;
    // Not from the pool of small buffers: a long-lived text would hold its neighbours.
    const copy = Buffer.allocUnsafeSlow(end - start);
    bytes.copy(copy, 0, start, end);
    this.entries[set * WAYS + way] = { hash, seed, bytes: copy, value };
  }
}
