import type { Account } from '../../memory/budget.ts';
import { latin1Cost, MAP_ENTRY_COST, statementCost, waitingCost } from '../../memory/cost.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import type { PostgresExchange } from './exchange.ts';

/** A thing that a client has named. */
interface Named {
  /** One character per byte, of the bytes that the server looks at. */
  readonly name: string;
  /** Looked up since the last search for room. */
  used: boolean;
  /** What it costs (memory/cost.ts), without the statements, which connections share. */
  readonly cost: number;
  /** It is in a table: what it stands for is kept there, undefined: no longer. */
  account: Account | undefined;
}

/** A name of either kind, without its characters, and what it stands for. */
const NAMED_COST = 288 + MAP_ENTRY_COST;

/** A text that Parse or PREPARE gave a name. */
export class Prepared {
  readonly place: StatementName;
  readonly statement: SqlStatement | undefined;
  /** Number of ReadyForQuery messages before it was accepted. */
  series = -1;
  /** It was run in a later series, or has a name: prepared apart from its execution. */
  apart: boolean;
  private sharedCost = -1;

  constructor(place: StatementName, statement: SqlStatement | undefined) {
    this.place = place;
    this.statement = statement;
    this.apart = place.name !== '';
  }

  keep(account: Account): void {
    if (this.statement === undefined) return;
    if (this.sharedCost < 0) this.sharedCost = statementCost(this.statement);
    account.retain(this.statement, this.sharedCost);
  }

  letGo(account: Account): void {
    if (this.statement !== undefined) account.release(this.statement, this.sharedCost);
  }

  /** What it costs where it is in no table. */
  get ownCost(): number {
    return this.statement === undefined ? 0 : waitingCost([this.statement]);
  }
}

/** Holds statements for one name, and says so to the account of its table. */
class Holding {
  readonly name: string;
  readonly cost: number;
  used = false;
  private owner: Account | undefined = undefined;
  private first: Prepared | undefined = undefined;
  private second: Prepared | undefined = undefined;

  constructor(name: string) {
    this.name = name;
    this.cost = NAMED_COST + latin1Cost(name);
  }

  get account(): Account | undefined {
    return this.owner;
  }

  set account(account: Account | undefined) {
    if (this.owner !== undefined) {
      this.first?.letGo(this.owner);
      this.second?.letGo(this.owner);
    }
    this.owner = account;
    if (account === undefined) return;
    this.first?.keep(account);
    this.second?.keep(account);
  }

  get prepared(): Prepared | undefined {
    return this.first;
  }

  set prepared(prepared: Prepared | undefined) {
    if (this.owner !== undefined) {
      prepared?.keep(this.owner);
      this.first?.letGo(this.owner);
    }
    this.first = prepared;
  }

  protected get other(): Prepared | undefined {
    return this.second;
  }

  protected set other(prepared: Prepared | undefined) {
    if (this.owner !== undefined) {
      prepared?.keep(this.owner);
      this.second?.letGo(this.owner);
    }
    this.second = prepared;
  }

  /** What the statements cost of a name that is in no table. */
  get ownCost(): number {
    const both = this.second === this.first ? 0 : (this.second?.ownCost ?? 0);
    return both + (this.first?.ownCost ?? 0);
  }
}

/** The name of a prepared statement: what the server has under it, as far as its answers go. */
export class StatementName extends Holding implements Named {
  /** What the client asked for last under this name; answered, it is `prepared`. */
  get sent(): Prepared | undefined {
    return this.other;
  }

  set sent(prepared: Prepared | undefined) {
    this.other = prepared;
  }
}

/** The name of a portal: what Bind put under it, as far as the server's answers go, and how far that was run. */
export class Portal extends Holding implements Named {
  /** The statement that PortalSuspended interrupted: the next Execute goes on with it. */
  suspended: PostgresExchange | undefined = undefined;
  /** Its statement was given up: what comes of it still is a part. */
  partLost = false;
  /** Messages were lost since: it may be continued unseen, or under its name as a thing that is not known. */
  doubted = false;
  /** The client asked for a part of it. */
  inParts = false;

  /** BindComplete. */
  bind(prepared: Prepared | undefined): void {
    this.prepared = prepared;
    this.partLost = false;
    this.doubted = false;
  }
}

/**
 * Things by their name, found by the bytes of a message without making a string of them. Of two whose hashes are the same, the
 * later takes the place of the earlier; when it is full, one that was not used lately makes room.
 */
export class NameTable<T extends Named> {
  /** What they cost (memory/cost.ts), without their statements. */
  cost = 0;
  private readonly byHash = new Map<number, T>();
  private readonly capacity: number;
  private readonly account: Account;
  private readonly onEviction: () => void;

  /** @param account of the statements, which connections share */
  constructor(capacity: number, account: Account, onEviction: () => void) {
    this.capacity = capacity;
    this.account = account;
    this.onEviction = onEviction;
  }

  get size(): number {
    return this.byHash.size;
  }

  /** @param bytes the name is bytes[start..whole) */
  find(bytes: Buffer, start: number, whole: number): T | undefined {
    const end = nameEnd(start, whole);
    const found = this.byHash.get(hash(bytes, start, end));
    if (found === undefined || !isName(found.name, bytes, start, end)) return undefined;
    found.used = true;
    return found;
  }

  set(thing: T): void {
    const key = keyOf(thing.name);
    const before = this.byHash.get(key);
    if (before === undefined && this.byHash.size >= this.capacity) this.makeRoom();
    if (before !== undefined) {
      if (before.name !== thing.name) this.onEviction();
      this.drop(before);
    }
    this.byHash.set(key, thing);
    this.cost += thing.cost;
    thing.account = this.account;
  }

  /** Forgets a thing, unless its name has gone over to another. */
  remove(thing: T): void {
    const key = keyOf(thing.name);
    if (this.byHash.get(key) !== thing) return;
    this.byHash.delete(key);
    this.drop(thing);
  }

  all(): IterableIterator<T> {
    return this.byHash.values();
  }

  clear(): void {
    for (const thing of this.byHash.values()) this.drop(thing);
    this.byHash.clear();
  }

  private drop(thing: T): void {
    this.cost -= thing.cost;
    thing.account = undefined;
  }

  private makeRoom(): void {
    for (const [key, thing] of this.byHash) {
      this.byHash.delete(key);
      if (!thing.used) {
        this.drop(thing);
        break;
      }
      // A second chance: behind all others. After one round none is marked.
      thing.used = false;
      this.byHash.set(key, thing);
    }
    this.onEviction();
  }
}

function keyOf(name: string): number {
  const bytes = Buffer.from(name, 'latin1');
  return hash(bytes, 0, bytes.length);
}

function isName(name: string, bytes: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) !== bytes[start + i]) return false;
  return true;
}

/** Of a longer name the server looks at the first bytes (NAMEDATALEN). */
const MAX_NAME_BYTES = 63;

/** The end of what counts of the name bytes[start..end). */
export function nameEnd(start: number, end: number): number {
  return Math.min(end, start + MAX_NAME_BYTES);
}

/** FNV-1a, in 30 bits. */
function hash(bytes: Buffer, start: number, end: number): number {
  let h = 0x811c9dc5 | 0;
  for (let i = start; i < end; i++) h = Math.imul(h ^ bytes[i]!, 0x01000193);
  return h & 0x3fffffff;
}
