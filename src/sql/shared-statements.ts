import type { MemoryBudget } from '../memory/budget.ts';
import { statementCost } from '../memory/cost.ts';
import type { SqlStatement } from './statement.ts';
import { TextTable } from './text-table.ts';

/** Statements by their text with literals replaced, so that the many texts that differ by their values make one object. */
export class SharedStatements {
  private readonly table: TextTable<SqlStatement>;

  /** @param entries statements, @param maxBytes what they may cost */
  constructor(entries: number, maxBytes: number, memory: MemoryBudget | undefined) {
    this.table = new TextTable<SqlStatement>({
      entries,
      maxBytes,
      memory,
      costOf: statementCost,
      keep(statement, account) {
        account.retain(statement, statementCost(statement));
        return 0;
      },
      letGo(statement, account) {
        account.release(statement, statementCost(statement));
        return 0;
      },
    });
  }

  find(text: Buffer, length: number, latin1: boolean): SqlStatement | undefined {
    const seed = latin1 ? 1 : 0;
    return this.table.find(this.table.hash(text, 0, length, seed), seed, text, 0, length);
  }

  add(text: Buffer, length: number, latin1: boolean, statement: SqlStatement): void {
    const seed = latin1 ? 1 : 0;
    this.table.add(this.table.hash(text, 0, length, seed), seed, text, 0, length, statement);
  }
}
