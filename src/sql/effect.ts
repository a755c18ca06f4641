import { K } from './keywords.ts';
import { Opening } from './opening.ts';
import { PostgresEffects } from './postgres-effects.ts';
import type { SessionEffect, SqlDialect } from './statement.ts';

/** Collects from the tokens of a statement what it changes of its session. */
export class Effects {
  private readonly opening = new Opening();
  private readonly postgres: PostgresEffects | undefined;

  constructor(dialect: SqlDialect) {
    this.postgres = dialect === 'postgresql' ? new PostgresEffects(this.opening) : undefined;
  }

  begin(): void {
    this.opening.begin();
    this.postgres?.begin();
  }

  token(kind: number, keyword: number, character: number, bytes: Buffer, start: number, end: number): void {
    this.opening.token(kind, keyword, character, start, end);
    this.postgres?.token(kind, keyword, character, bytes, start, end);
  }

  /** What two statements with the same text but for their literals may differ by. */
  get dependsOnLiterals(): boolean {
    return this.postgres?.dependsOnLiterals === true;
  }

  /** Of PREPARE: where the statement begins that is prepared; -1 when there is none. */
  get bodyStart(): number {
    return this.postgres?.bodyStart ?? -1;
  }

  /** Of the statement that has ended. `text` gives the characters of the statement's bytes. */
  result(text: (start: number, end: number) => string): SessionEffect | undefined {
    return this.postgres === undefined ? this.use(text) : this.postgres.result(text);
  }

  private use(text: (start: number, end: number) => string): SessionEffect | undefined {
    const { opening } = this;
    if (opening.keywords[0] !== K.USE || !opening.isName(1)) return undefined;
    const name = opening.text(1, text);
    return { kind: 'use', database: name.startsWith('`') ? name.slice(1, -1).replaceAll('``', '`') : name };
  }
}
