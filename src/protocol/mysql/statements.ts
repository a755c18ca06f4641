import type { Account } from '../../memory/budget.ts';
import { EXCHANGE_COST, MAP_ENTRY_COST, statementCost, textCost, waitingCost } from '../../memory/cost.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import type { MysqlExchange } from './exchange.ts';

/** A prepared statement, without its text; with a cursor that may be open. */
const PREPARED_COST = 160 + MAP_ENTRY_COST;

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
  /** What it costs in the table (memory/cost.ts), and what its statement does, which others may share. */
  cost = 0;
  sharedCost = 0;
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
  /** What they cost (memory/cost.ts), without the statements' texts. */
  cost = 0;
  private readonly entries = new Map<number, Prepared>();
  private readonly limit: number;
  private readonly account: Account;

  /** @param account of the statements' texts, which connections share */
  constructor(limit: number, account: Account) {
    this.limit = limit;
    this.account = account;
  }

  get size(): number {
    return this.entries.size;
  }

  use(id: number): Prepared | undefined {
    const found = this.entries.get(id);
    // The order of use decides which one makes room: half full is early enough to keep it.
    if (found !== undefined && this.entries.size * 2 > this.limit) {
      this.entries.delete(id);
      this.entries.set(id, found);
    }
    return found;
  }

  /** @returns what had to make room */
  set(id: number, prepared: Prepared): Prepared | undefined {
    let evicted = this.delete(id);
    if (evicted === undefined && this.entries.size >= this.limit) {
      for (const [oldest, entry] of this.entries) {
        evicted = entry;
        this.delete(oldest);
        break;
      }
    }
    this.entries.set(id, prepared);
    prepared.cost = PREPARED_COST + EXCHANGE_COST;
    this.cost += prepared.cost;
    if (prepared.statement !== undefined) {
      prepared.sharedCost = statementCost(prepared.statement);
      this.account.retain(prepared.statement, prepared.sharedCost);
    }
    return evicted;
  }

  delete(id: number): Prepared | undefined {
    const found = this.entries.get(id);
    if (found !== undefined) {
      this.entries.delete(id);
      this.drop(found);
    }
    return found;
  }

  /** Keeps the types of a bulk execution. */
  setBulkTypes(prepared: Prepared, types: Uint8Array | undefined): void {
    const change = (types?.length ?? 0) - (prepared.bulkTypes?.length ?? 0);
    prepared.bulkTypes = types;
    if (prepared.cost === 0) return; // in no table
    prepared.cost += change;
    this.cost += change;
  }

  private drop(prepared: Prepared): void {
    this.cost -= prepared.cost;
    prepared.cost = 0;
    if (prepared.statement !== undefined) this.account.release(prepared.statement, prepared.sharedCost);
  }

  *values(): Iterable<Prepared> {
    yield* this.entries.values();
  }

  clear(): void {
    for (const prepared of this.entries.values()) this.drop(prepared);
    this.entries.clear();
  }
}

/** What SQL's PREPARE gave a name, by that name. When there is no more room, the oldest goes: what its EXECUTE runs is not known any more. */
export class NamedStatements {
  /** What they cost (memory/cost.ts). */
  cost = 0;
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
        this.delete(oldest);
        break;
      }
    }
    const key = name.toLowerCase();
    this.entries.set(key, statement);
    this.cost += namedCost(key, statement);
  }

  delete(name: string): void {
    const key = name.toLowerCase();
    const before = this.entries.get(key);
    if (before === undefined) return;
    this.entries.delete(key);
    this.cost -= namedCost(key, before);
  }

  clear(): void {
    this.entries.clear();
    this.cost = 0;
  }
}

function namedCost(name: string, statement: SqlStatement): number {
  return MAP_ENTRY_COST + textCost(name) + waitingCost([statement]);
}
