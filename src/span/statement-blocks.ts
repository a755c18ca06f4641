import { type Account, type Holder, type MemoryBudget, unlimitedMemory } from '../memory/budget.ts';
import { statementCost } from '../memory/cost.ts';
import type { SqlStatement } from '../sql/statement.ts';
import { AttributeBlock, type AttributeKey, KEY } from './attributes.ts';
import type { AttributeValue } from './resource.ts';
import type { Span } from './span.ts';

/** Statements remembered per generation; there are two. What is forgotten is made again. */
const MAX_STATEMENTS = 1024;
/** And so many bytes of them. */
const MAX_BYTES = 8 * 1024 * 1024;
/** An entry; a block beside its texts. */
const ENTRY_COST = 64;
const BLOCK_COST = 768;

/**
 * The attributes of statements. Those of a statement that comes again are put into a block, which encoders encode once for all
 * connections; most texts with literals never come again, and are not worth one.
 */
export class StatementBlocks implements Holder {
  readonly kind = 'sql_texts';
  private readonly account: Account;
  private readonly withOperation: boolean;
  /** undefined: seen once. */
  private recent = new Map<SqlStatement, AttributeBlock | undefined>();
  private older = new Map<SqlStatement, AttributeBlock | undefined>();
  private recentBytes = 0;
  private readonly keys: AttributeKey[] = [];
  private readonly values: AttributeValue[] = [];

  /** @param withOperation also db.operation.name and db.collection.name */
  constructor(withOperation: boolean, memory: MemoryBudget = unlimitedMemory()) {
    this.account = memory.open(this);
    this.withOperation = withOperation;
  }

  /** Says of a span which statement it ran. */
  describe(span: Span, statement: SqlStatement, isBatch: boolean): void {
    let block = this.recent.get(statement);
    if (block === undefined) block = this.lookUp(statement, isBatch);
    if (block !== undefined && !isBatch) {
      span.sharedToo = block;
      return;
    }
    const length = this.collect(statement, isBatch);
    for (let i = 0; i < length; i++) span.set(this.keys[i]!, this.values[i]!);
  }

  /** @returns nothing the first time */
  private lookUp(statement: SqlStatement, isBatch: boolean): AttributeBlock | undefined {
    if (isBatch) return undefined;
    let block: AttributeBlock | undefined;
    if (this.recent.has(statement)) block = this.newBlock(statement);
    else if (this.older.has(statement)) block = this.older.get(statement) ?? this.newBlock(statement);
    if (this.recent.size >= MAX_STATEMENTS || this.recentBytes >= MAX_BYTES) this.rotate();
    const known = this.recent.has(statement);
    if (known) this.recentBytes -= this.letGo(statement, this.recent.get(statement));
    this.recentBytes += this.keep(statement, block);
    this.recent.set(statement, block);
    return block;
  }

  private rotate(): void {
    for (const [statement, block] of this.older) this.letGo(statement, block);
    this.older = this.recent;
    this.recent = new Map();
    this.recentBytes = 0;
  }

  /** Memory is full: all blocks can be made again. */
  giveUp(): void {
    this.rotate();
    this.rotate();
  }

  private keep(statement: SqlStatement, block: AttributeBlock | undefined): number {
    const shared = statementCost(statement);
    this.account.retain(statement, shared);
    const cost = costOf(shared, block);
    this.account.charge(cost);
    return shared + cost;
  }

  private letGo(statement: SqlStatement, block: AttributeBlock | undefined): number {
    const shared = statementCost(statement);
    this.account.release(statement, shared);
    const cost = costOf(shared, block);
    this.account.charge(-cost);
    return shared + cost;
  }

  private newBlock(statement: SqlStatement): AttributeBlock {
    const length = this.collect(statement, false);
    return new AttributeBlock(this.keys.slice(0, length), this.values.slice(0, length));
  }

  /** Fills keys[0..length), values[0..length). */
  private collect(statement: SqlStatement, isBatch: boolean): number {
    const batch = isBatch ? 'BATCH ' : '';
    let length = this.put(0, KEY.dbQueryText, statement.text);
    if (statement.summary !== '') length = this.put(length, KEY.dbQuerySummary, batch + statement.summary);
    length = this.put(length, KEY.dbStoredProcedureName, statement.storedProcedure);
    if (this.withOperation) {
      if (statement.operation !== '') length = this.put(length, KEY.dbOperationName, batch + statement.operation);
      length = this.put(length, KEY.dbCollectionName, statement.collection);
    }
    return statement.truncated ? this.put(length, KEY.queryTextTruncated, true) : length;
  }

  private put(at: number, key: AttributeKey, value: AttributeValue): number {
    if (value === '') return at;
    this.keys[at] = key;
    this.values[at] = value;
    return at + 1;
  }
}

/** A block has the statement's texts once more, encoded. */
function costOf(statementCost: number, block: AttributeBlock | undefined): number {
  return block === undefined ? ENTRY_COST : ENTRY_COST + BLOCK_COST + statementCost;
}
