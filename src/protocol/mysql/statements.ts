import type { SqlStatement } from '../../sql/statement.ts';
import type { MysqlExchange } from './exchange.ts';

/** A prepared statement of one connection. */
export class Prepared {
  readonly id: number;
  readonly statement: SqlStatement | undefined;
  /** -1 when the answer to its COM_STMT_PREPARE was not seen. */
  readonly parameters: number;
  /** The server refused to prepare it. */
  refused = false;
  /** Parts of parameters were sent by COM_STMT_SEND_LONG_DATA: they are not in the next COM_STMT_EXECUTE. */
  longData = false;
  /** Types of the parameters, as the last COM_STMT_BULK_EXECUTE that had them sent them. */
  bulkTypes: Uint8Array | undefined = undefined;
  /** The execution whose rows wait to be fetched. */
  cursor: MysqlExchange | undefined = undefined;

  constructor(id: number, statement: SqlStatement | undefined, parameters: number) {
    this.id = id;
    this.statement = statement;
    this.parameters = parameters;
  }
}

/** The prepared statements of one connection by their number. When there is no more room, the one used least recently goes. */
export class StatementTable {
  private readonly entries = new Map<number, Prepared>();
  private readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  get size(): number {
    return this.entries.size;
  }

  use(id: number): Prepared | undefined {
    const found = this.entries.get(id);
    // The order of use matters only once room becomes scarce.
    if (found !== undefined && this.entries.size * 2 > this.limit) {
      this.entries.delete(id);
      this.entries.set(id, found);
    }
    return found;
  }

  /** @returns what had to make room */
  set(id: number, prepared: Prepared): Prepared | undefined {
    let evicted = this.entries.get(id);
    this.entries.delete(id);
    if (evicted === undefined && this.entries.size >= this.limit) {
      for (const [oldest, entry] of this.entries) {
        evicted = entry;
        this.entries.delete(oldest);
        break;
      }
    }
    this.entries.set(id, prepared);
    return evicted;
  }

  delete(id: number): Prepared | undefined {
    const found = this.entries.get(id);
    if (found !== undefined) this.entries.delete(id);
    return found;
  }

  *values(): Iterable<Prepared> {
    yield* this.entries.values();
  }

  clear(): void {
    this.entries.clear();
  }
}

/** What SQL's PREPARE gave a name, by that name. When there is no more room, the oldest goes: what its EXECUTE runs is not known any more. */
export class NamedStatements {
  private readonly entries = new Map<string, SqlStatement>();
  private readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  get size(): number {
    return this.entries.size;
  }

  get(name: string): SqlStatement | undefined {
    return this.entries.get(name.toLowerCase());
  }

  set(name: string, statement: SqlStatement): void {
    this.delete(name);
    if (this.entries.size >= this.limit) {
      for (const oldest of this.entries.keys()) {
        this.entries.delete(oldest);
        break;
      }
    }
    this.entries.set(name.toLowerCase(), statement);
  }

  delete(name: string): void {
    this.entries.delete(name.toLowerCase());
  }

  clear(): void {
    this.entries.clear();
  }
}
