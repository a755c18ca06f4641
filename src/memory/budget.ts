import { count, type ReasonCounts } from '../telemetry/counters.ts';
import { SHARED_ENTRY_COST } from './cost.ts';

/** What a stage keeps in memory, and can give up. */
export interface Holder {
  /** The word under which it is counted when it is given up. */
  readonly kind: string;
  /** Lets go of what it holds, or of a good part of it. Called between packets, never from within `Account.charge`. */
  giveUp(timeUs: number): void;
}

/** Sizes below this are one class. */
const LEAST_BITS = 10;
/** Each power of two has so many classes: what is given up is the largest holder, but for an eighth of its size. */
const STEPS_BITS = 3;
const CLASSES = ((31 - LEAST_BITS) << STEPS_BITS) + 2;
const MOST_BYTES = 2 ** 31 - 1;
/** Accounts of the largest class that are compared. */
const COMPARED = 32;

/** What one holder has in memory. A charge costs two additions and a comparison. */
export class Account {
  readonly holder: Holder | undefined;
  /** Bytes charged to it, and those of what it shares with others: by their sum the largest holder is found. */
  plain = 0;
  shared = 0;
  closed = false;
  previous: Account | undefined = undefined;
  next: Account | undefined = undefined;
  /** Its list in the budget, -1: in none. No lower than that of its size; a size that has shrunk is noticed when it matters. */
  place = -1;
  private readonly budget: MemoryBudget;

  constructor(budget: MemoryBudget, holder: Holder | undefined) {
    this.budget = budget;
    this.holder = holder;
  }

  get bytes(): number {
    return this.plain + this.shared;
  }

  /** @param bytes more than before, or less */
  charge(bytes: number): void {
    if (this.closed) return;
    this.plain += bytes;
    this.budget.bytes += bytes;
    if (bytes > 0 && classOf(this.plain + this.shared) > this.place) this.budget.place(this);
  }

  /**
   * Keeps an object that others may keep as well: all together it counts once, and for each as a whole when the largest is looked for.
   *
   * @param bytes that it costs; the same at each call for one object, and at `release`
   */
  retain(thing: object, bytes: number): void {
    if (this.closed) return;
    this.shared += bytes;
    this.budget.retain(thing, bytes);
    if (classOf(this.plain + this.shared) > this.place) this.budget.place(this);
  }

  release(thing: object, bytes: number): void {
    if (this.closed) return;
    this.shared -= bytes;
    this.budget.release(thing, bytes);
  }

  /** Its holder is no more. What it should have released before counts no longer. */
  close(): void {
    if (this.closed) return;
    this.budget.bytes -= this.plain;
    this.plain = 0;
    this.shared = 0;
    this.closed = true;
    this.budget.remove(this);
  }
}

/**
 * One sum over everything that grows with its input, whatever the caps of a single connection are. Each holder has an account. When the
 * sum passes the limit, the largest holder is given up, then the next one, until it does not.
 *
 * What is charged is an estimate of what an object costs in memory (cost.ts): capacity of buffers, not their length; strings, objects,
 * entries of tables. Garbage is not in it, nor what the process needs by itself.
 */
export class MemoryBudget {
  readonly limitBytes: number;
  /** Bytes held in all. */
  bytes = 0;
  /** The most that was held since `takePeak`. */
  private peakBytes = 0;
  private readonly counts: ReasonCounts;
  private readonly lists: (Account | undefined)[] = new Array<Account | undefined>(CLASSES).fill(undefined);
  private highest = 0;
  private readonly sharedThings = new Map<object, number>();

  /** @param counts counts what was given up, by its kind */
  constructor(limitBytes: number, counts: ReasonCounts = {}) {
    this.limitBytes = limitBytes;
    this.counts = counts;
  }

  /** @param holder undefined: what is charged counts, but cannot be given up */
  open(holder?: Holder): Account {
    return new Account(this, holder);
  }

  /** @returns the most that was held since the last call */
  takePeak(): number {
    const peak = Math.max(this.peakBytes, this.bytes);
    this.peakBytes = this.bytes;
    return peak;
  }

  /** Objects that holders share. */
  get sharedCount(): number {
    return this.sharedThings.size;
  }

  get isExceeded(): boolean {
    return this.bytes > this.limitBytes;
  }

  /**
   * To be called between packets: gives up the largest holders until the rest has room.
   *
   * @returns whether anything was given up
   */
  relieve(timeUs: number): boolean {
    if (this.bytes > this.peakBytes) this.peakBytes = this.bytes;
    let any = false;
    while (this.bytes > this.limitBytes) {
      const largest = this.largest();
      if (largest === undefined) break;
      any = true;
      const before = largest.bytes;
      count(this.counts, largest.holder!.kind);
      largest.holder!.giveUp(timeUs);
      // A holder that cannot let go is not asked again before it has grown.
      if (!largest.closed && largest.bytes >= before) this.remove(largest);
    }
    return any;
  }

  /** The holder with the most bytes, of those that can be given up. */
  largest(): Account | undefined {
    for (; this.highest >= 0; this.highest--) {
      let found: Account | undefined;
      let compared = 0;
      for (let account = this.lists[this.highest]; account !== undefined && compared < COMPARED; ) {
        const { next } = account;
        if (classOf(account.bytes) < this.highest) this.place(account);
        else {
          compared++;
          if (found === undefined || account.bytes > found.bytes) found = account;
        }
        account = next;
      }
      if (found !== undefined) return found;
    }
    this.highest = 0;
    return undefined;
  }

  // --- For accounts --------------------------------------------------------------------------------------------------------------------

  /** Puts an account into the list of its size. */
  place(account: Account): void {
    if (account.holder === undefined) return;
    this.remove(account);
    const { bytes } = account;
    if (bytes <= 0) return;
    const place = classOf(bytes);
    const first = this.lists[place];
    account.place = place;
    account.next = first;
    if (first !== undefined) first.previous = account;
    this.lists[place] = account;
    if (place > this.highest) this.highest = place;
  }

  remove(account: Account): void {
    const { previous, next, place } = account;
    if (place < 0) return;
    if (previous === undefined) this.lists[place] = next;
    else previous.next = next;
    if (next !== undefined) next.previous = previous;
    account.previous = undefined;
    account.next = undefined;
    account.place = -1;
  }

  retain(thing: object, bytes: number): void {
    const holders = this.sharedThings.get(thing);
    this.sharedThings.set(thing, (holders ?? 0) + 1);
    if (holders === undefined) this.bytes += bytes + SHARED_ENTRY_COST;
  }

  release(thing: object, bytes: number): void {
    const holders = this.sharedThings.get(thing);
    if (holders === undefined) return;
    if (holders > 1) this.sharedThings.set(thing, holders - 1);
    else {
      this.sharedThings.delete(thing);
      this.bytes -= bytes + SHARED_ENTRY_COST;
    }
  }
}

/** Without a limit: nothing is ever given up. */
export function unlimitedMemory(): MemoryBudget {
  return new MemoryBudget(Number.POSITIVE_INFINITY);
}

function classOf(bytes: number): number {
  if (bytes < 1 << LEAST_BITS) return 0;
  const size = Math.min(bytes, MOST_BYTES);
  const exponent = 31 - Math.clz32(size);
  const step = (size >>> (exponent - STEPS_BITS)) & ((1 << STEPS_BITS) - 1);
  return ((exponent - LEAST_BITS) << STEPS_BITS) + step + 1;
}

/**
 * What one stage of a connection holds at the moment, as one number: the account gets the difference. A stage that holds nothing
 * charges nothing.
 */
export class Charge {
  private held = 0;
  private readonly account: Account;

  constructor(account: Account) {
    this.account = account;
  }

  set(bytes: number): void {
    if (bytes === this.held) return;
    this.account.charge(bytes - this.held);
    this.held = bytes;
  }
}
