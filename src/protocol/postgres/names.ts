import type { SqlStatement } from '../../sql/statement.ts';
import type { PostgresExchange } from './exchange.ts';

/** A thing that a client has named. */
interface Named {
  /** One character per byte. */
  readonly name: string;
  /** Looked up since the last search for room. */
  used: boolean;
}

/** A statement that Parse made. */
export class Prepared implements Named {
  readonly name: string;
  readonly statement: SqlStatement | undefined;
  /** The series of messages, up to a Sync, in which it was made. */
  readonly series: number;
  /** It was run in a later one, or has a name: prepared apart from its execution. */
  apart: boolean;
  used = false;

  constructor(name: string, statement: SqlStatement | undefined, series: number) {
    this.name = name;
    this.statement = statement;
    this.series = series;
    this.apart = name !== '';
  }
}

/** A portal that Bind made. One that is run to its end by a single Execute needs no object if it has no name. */
export class Portal implements Named {
  readonly name: string;
  readonly prepared: Prepared | undefined;
  /** The statement that PortalSuspended interrupted: the next Execute goes on with it. */
  suspended: PostgresExchange | undefined = undefined;
  /** Its statement was given up: what comes of it still is a part. */
  partLost = false;
  /** Messages were lost since: it may be continued unseen, or under its name as a thing that is not known. */
  doubted = false;
  used = false;

  constructor(name: string, prepared: Prepared | undefined) {
    this.name = name;
    this.prepared = prepared;
  }
}

/**
 * Things by their name, found by the bytes of a message without making a string of them. Of two whose hashes are the same, the
 * later takes the place of the earlier; when it is full, one that was not used lately makes room.
 */
export class NameTable<T extends Named> {
  private readonly byHash = new Map<number, T>();
  private readonly capacity: number;
  private readonly onEviction: () => void;

  constructor(capacity: number, onEviction: () => void) {
    this.capacity = capacity;
    this.onEviction = onEviction;
  }

  get size(): number {
    return this.byHash.size;
  }

  /** @param bytes the name is bytes[start..end) */
  find(bytes: Buffer, start: number, end: number): T | undefined {
    const found = this.byHash.get(hash(bytes, start, end));
    if (found === undefined || !isName(found.name, bytes, start, end)) return undefined;
    found.used = true;
    return found;
  }

  set(bytes: Buffer, start: number, end: number, thing: T): void {
    const key = hash(bytes, start, end);
    const before = this.byHash.get(key);
    if (before === undefined && this.byHash.size >= this.capacity) this.makeRoom();
    if (before !== undefined && before.name !== thing.name) this.onEviction();
    this.byHash.set(key, thing);
  }

  /** Forgets a thing, unless its name has gone over to another. */
  remove(thing: T): void {
    const name = Buffer.from(thing.name, 'latin1');
    const key = hash(name, 0, name.length);
    if (this.byHash.get(key) === thing) this.byHash.delete(key);
  }

  all(): IterableIterator<T> {
    return this.byHash.values();
  }

  clear(): void {
    this.byHash.clear();
  }

  private makeRoom(): void {
    for (const [key, thing] of this.byHash) {
      this.byHash.delete(key);
      if (!thing.used) break;
      // A second chance: behind all others. After one round none is marked.
      thing.used = false;
      this.byHash.set(key, thing);
    }
    this.onEviction();
  }
}

function isName(name: string, bytes: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) !== bytes[start + i]) return false;
  return true;
}

/** FNV-1a, in 30 bits. */
function hash(bytes: Buffer, start: number, end: number): number {
  let h = 0x811c9dc5 | 0;
  for (let i = start; i < end; i++) h = Math.imul(h ^ bytes[i]!, 0x01000193);
  return h & 0x3fffffff;
}
