import { type Account, type Holder, type MemoryBudget, unlimitedMemory } from '../memory/budget.ts';
import { BUFFER_COST } from '../memory/cost.ts';
import { sameBytes, textHash } from './text-hash.ts';

const WAYS = 4;
/** An entry's object. */
const ENTRY_COST = 64;
/** What would take a larger part than one in so many of the room is not held. */
const LEAST_SHARE = 8;

interface Entry<T> {
  readonly hash: number;
  readonly seed: number;
  readonly bytes: Buffer;
  readonly value: T;
}

export interface TextTableOptions<T> {
  /** How many texts it holds, rounded up to a power of two. */
  readonly entries: number;
  /** Bytes that texts and values may cost (memory/cost.ts). */
  readonly maxBytes: number;
  readonly memory?: MemoryBudget | undefined;
  /** Called with a value that is held from now on. @returns what it costs; what it shares with others is retained in the account */
  readonly keep: (value: T, account: Account) => number;
  /** It is held no longer. @returns the same number */
  readonly letGo: (value: T, account: Account) => number;
  /** What it would cost. */
  readonly costOf: (value: T) => number;
}

/**
 * Values by the bytes of a text. The number of places is fixed: each text has four, and the newest of them takes the oldest one's. Where all
 * together have too many bytes, places are emptied in turn.
 */
export class TextTable<T> implements Holder {
  readonly kind = 'sql_texts';
  private readonly options: TextTableOptions<T>;
  private readonly account: Account;
  private readonly sets: number;
  private readonly entries: (Entry<T> | undefined)[];
  private readonly next: Uint8Array;
  private emptied = 0;

  constructor(options: TextTableOptions<T>) {
    this.options = options;
    this.account = (options.memory ?? unlimitedMemory()).open(this);
    this.sets = 2 ** Math.ceil(Math.log2(Math.max(options.entries, WAYS) / WAYS));
    this.entries = new Array<Entry<T> | undefined>(this.sets * WAYS).fill(undefined);
    this.next = new Uint8Array(this.sets);
  }

  /** Bytes that it holds, as they are charged. */
  get bytes(): number {
    return this.account.bytes;
  }

  hash(bytes: Buffer, start: number, end: number, seed: number): number {
    return textHash(bytes, start, end, seed);
  }

  find(hash: number, seed: number, bytes: Buffer, start: number, end: number): T | undefined {
    const first = (hash & (this.sets - 1)) * WAYS;
    for (let way = 0; way < WAYS; way++) {
      const entry = this.entries[first + way];
      if (entry === undefined) continue;
      if (entry.hash === hash && entry.seed === seed && sameBytes(entry.bytes, bytes, start, end)) return entry.value;
    }
    return undefined;
  }

  /** Copies the bytes. A text that is too large for the room is not taken. */
  add(hash: number, seed: number, bytes: Buffer, start: number, end: number, value: T): void {
    const { maxBytes, costOf, keep } = this.options;
    const cost = ENTRY_COST + BUFFER_COST + end - start;
    const whole = cost + costOf(value);
    if (whole > maxBytes / LEAST_SHARE) return;
    const set = hash & (this.sets - 1);
    const way = this.next[set]!;
    this.next[set] = (way + 1) % WAYS;
    this.empty(set * WAYS + way);
    for (let n = this.entries.length; n > 0 && this.account.bytes + whole > maxBytes; n--) {
      this.empty(this.emptied);
      this.emptied = (this.emptied + 1) % this.entries.length;
    }
    // Not from the pool of small buffers: a long-lived text would hold its neighbours.
    const copy = Buffer.allocUnsafeSlow(end - start);
    bytes.copy(copy, 0, start, end);
    this.entries[set * WAYS + way] = { hash, seed, bytes: copy, value };
    this.account.charge(cost + keep(value, this.account));
  }

  /** Memory is full: all of it can be found out again. */
  giveUp(): void {
    for (let place = 0; place < this.entries.length; place++) this.empty(place);
  }

  private empty(place: number): void {
    const entry = this.entries[place];
    if (entry === undefined) return;
    this.entries[place] = undefined;
    const cost = ENTRY_COST + BUFFER_COST + entry.bytes.length;
    this.account.charge(-cost - this.options.letGo(entry.value, this.account));
  }
}
