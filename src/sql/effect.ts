import { MysqlEffects, type StatementOf } from './mysql-effects.ts';
import { Opening } from './opening.ts';
import { PostgresEffects } from './postgres-effects.ts';
import type { SessionEffect, SqlDialect } from './statement.ts';

/** Collects from the tokens of a statement what it changes of its session. */
export class Effects {
  private readonly opening = new Opening();
  private readonly postgres: PostgresEffects | undefined;
  private readonly mysql: MysqlEffects;

  /** @param statementOf reads the statement that stands in a literal */
  constructor(dialect: SqlDialect, statementOf: StatementOf) {
    this.postgres = dialect === 'postgresql' ? new PostgresEffects(this.opening) : undefined;
    this.mysql = new MysqlEffects(statementOf);
  }

  begin(): void {
    if (this.postgres === undefined) {
      this.mysql.begin();
      return;
    }
    this.opening.begin();
    this.postgres.begin();
  }

  token(kind: number, keyword: number, character: number, bytes: Buffer, start: number, end: number): void {
    if (this.postgres === undefined) {
      this.mysql.token(kind, keyword, character, start, end);
      return;
    }
    this.opening.token(kind, keyword, character, start, end);
    this.postgres.token(kind, keyword, character, bytes, start, end);
  }

  /** MySQL: what comes is run by some servers, and passed over by others. */
  hide(): void {
    this.mysql.hide();
  }

  /** MySQL: what the statement changes is not known. */
  doubt(): void {
    this.mysql.doubt();
  }

  /** What two statements with the same text but for their literals may differ by. */
  get dependsOnLiterals(): boolean {
    return this.postgres === undefined ? this.mysql.isWanted : this.postgres.dependsOnLiterals;
  }

  /** Of PREPARE: where the statement begins that is prepared; -1 when there is none. */
  get bodyStart(): number {
    return this.postgres?.bodyStart ?? -1;
  }

  /** Of the statement that has ended. `text` gives the characters of the statement's bytes. */
  result(text: (start: number, end: number) => string): SessionEffect | undefined {
    return this.postgres === undefined ? this.mysql.result(text) : this.postgres.result(text);
  }
}
