import { K, keywordSet } from './keywords.ts';
import { Token } from './lexer.ts';
import type { SqlDialect } from './statement.ts';

const { BEGIN, ATOMIC, CASE, END, CREATE, NOT } = K;
const routines = {
  postgresql: keywordSet('FUNCTION', 'PROCEDURE'),
  mysql: keywordSet('PROCEDURE', 'FUNCTION', 'TRIGGER', 'EVENT', 'PACKAGE'),
} as const;
/** MySQL: words that open a block where a statement begins. */
const opensBlock = keywordSet('IF', 'WHILE', 'LOOP', 'REPEAT', 'FOR', 'CASE');
/** A statement begins behind these: within a body, or where the body of a routine begins. */
const beforeStatement = keywordSet(
  ...([
    'THEN',
    'ELSE',
    'BEGIN',
    'DO',
    'LOOP',
    'REPEAT',
    'ROW',
    'DETERMINISTIC',
    'SQL',
    'DATA',
    'DEFINER',
    'INVOKER',
  ] as const),
);
/** CREATE, then options such as OR REPLACE and DEFINER=..., then the kind of object: no further than this many tokens. */
const MAX_HEADER_TOKENS = 24;

/**
 * Tells which semicolon ends a statement and which stands in the body of a routine: "CREATE FUNCTION ... BEGIN ATOMIC" of PostgreSQL,
 * "Compound Statement Syntax" of MySQL, BEGIN NOT ATOMIC of MariaDB.
 */
export class Blocks {
  private readonly dialect: SqlDialect;
  private parentheses = 0;
  private depth = 0;
  private tokens = 0;
  private first = 0;
  private routine = false;
  private previous = 0;
  private statementBegins = false;

  constructor(dialect: SqlDialect) {
    this.dialect = dialect;
  }

  begin(): void {
    this.parentheses = 0;
    this.depth = 0;
    this.tokens = 0;
    this.first = 0;
    this.routine = false;
    this.previous = 0;
    this.statementBegins = false;
  }

  /** A semicolon here ends the statement. */
  get ends(): boolean {
    return this.parentheses === 0 && this.depth === 0;
  }

  token(kind: number, keyword: number, character: number): void {
    if (this.tokens++ === 0) this.first = keyword;
    if (kind === Token.PUNCTUATION) {
      if (character === 0x28) this.parentheses++;
      else if (character === 0x29 && this.parentheses > 0) this.parentheses--;
    } else if (keyword !== 0) {
      this.word(keyword);
    }
    this.previous = keyword;
    this.statementBegins =
      keyword !== 0
        ? beforeStatement[keyword] === 1
        : kind === Token.LITERAL ||
          (kind === Token.PUNCTUATION && (character === 0x3b || character === 0x29 || character === 0x3a));
  }

  private word(keyword: number): void {
    if (this.first === CREATE && this.tokens <= MAX_HEADER_TOKENS && this.parentheses === 0) {
      this.routine ||= routines[this.dialect][keyword] === 1;
    }
    if (this.dialect === 'postgresql') this.postgres(keyword);
    else this.mysql(keyword);
  }

  private postgres(keyword: number): void {
    if (!this.routine) return;
    if (keyword === ATOMIC && this.previous === BEGIN) this.depth = 1;
    else if (keyword === CASE && this.depth > 0) this.depth++;
    else if (keyword === END && this.depth > 0) this.depth--;
  }

  private mysql(keyword: number): void {
    if (!this.routine) {
      // BEGIN NOT ATOMIC and other compound statements outside of routines (MariaDB).
      this.routine =
        this.tokens === 1 ? opensBlock[keyword] === 1 : this.first === BEGIN && this.tokens === 2 && keyword === NOT;
      if (this.routine) this.depth = 1;
      return;
    }
    // END IF, END CASE: the word behind END opens nothing.
    if (keyword === END) this.depth -= this.depth > 0 ? 1 : 0;
    else if (this.previous === END) return;
    else if (keyword === BEGIN) this.depth++;
    else if (keyword === CASE) this.depth++;
    else if (opensBlock[keyword] === 1 && this.statementBegins) this.depth++;
  }
}
