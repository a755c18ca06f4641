import { K } from './keywords.ts';
import { Token } from './lexer.ts';
import type { SessionEffect, SqlDialect } from './statement.ts';

/** A list of schemas that is longer says nothing new: the first counts. */
const MAX_TOKENS = 16;

/**
 * Collects the first tokens of a statement that changes the session's database or schema, and tells the change. The one place
 * where a literal is looked into: a schema's name may be written as one.
 */
export class Effects {
  private readonly dialect: SqlDialect;
  private readonly kinds = new Uint8Array(MAX_TOKENS);
  private readonly keywords = new Uint16Array(MAX_TOKENS);
  private readonly characters = new Uint8Array(MAX_TOKENS);
  private readonly starts = new Int32Array(MAX_TOKENS);
  private readonly ends = new Int32Array(MAX_TOKENS);
  private tokens = 0;
  private wanted = true;

  constructor(dialect: SqlDialect) {
    this.dialect = dialect;
  }

  begin(): void {
    this.tokens = 0;
    this.wanted = true;
  }

  token(kind: number, keyword: number, character: number, start: number, end: number): void {
    if (!this.wanted) return;
    if (this.tokens === 0) {
      this.wanted = keyword === K.SET || keyword === K.RESET || keyword === K.DISCARD || keyword === K.USE;
      if (!this.wanted) return;
    }
    if (this.tokens === MAX_TOKENS) return;
    this.kinds[this.tokens] = kind;
    this.keywords[this.tokens] = keyword;
    this.characters[this.tokens] = character;
    this.starts[this.tokens] = start;
    this.ends[this.tokens++] = end;
  }

  /** Of the statement that has ended. `text` gives the characters of the statement's bytes. */
  result(text: (start: number, end: number) => string): SessionEffect | undefined {
    if (!this.wanted || this.tokens < 2) return undefined;
    const first = this.keywords[0];
    if (this.dialect === 'mysql') return first === K.USE && this.isName(1) ? this.use(text) : undefined;
    if (first === K.RESET || first === K.DISCARD) {
      const resets = this.keywords[1] === K.ALL || (first === K.RESET && this.keywords[1] === K.SEARCH_PATH);
      return resets ? { kind: 'search_path', schema: '' } : undefined;
    }
    return first === K.SET ? this.set(text) : undefined;
  }

  private use(text: (start: number, end: number) => string): SessionEffect {
    const name = text(this.starts[1]!, this.ends[1]!);
    return { kind: 'use', database: name.startsWith('`') ? name.slice(1, -1).replaceAll('``', '`') : name };
  }

  /** SET [SESSION | LOCAL] search_path {TO | =} {value, ... | DEFAULT}; SET [SESSION | LOCAL] SCHEMA 'value'. */
  private set(text: (start: number, end: number) => string): SessionEffect | undefined {
    const scoped = this.keywords[1] === K.SESSION || this.keywords[1] === K.LOCAL;
    const local = this.keywords[1] === K.LOCAL;
    let at = scoped ? 2 : 1;
    const isPath = this.keywords[at] === K.SEARCH_PATH;
    if (!isPath && this.keywords[at] !== K.SCHEMA) return undefined;
    at++;
    if (isPath) {
      if (this.keywords[at] !== K.TO && this.characters[at] !== 0x3d) return undefined;
      at++;
    }
    const schema = this.schemaFrom(at, text);
    return local ? { kind: 'search_path', schema, local: true } : { kind: 'search_path', schema };
  }

  /** The first schema that is named; "$user" stands for one that nobody knows to exist. */
  private schemaFrom(from: number, text: (start: number, end: number) => string): string {
    for (let at = from; at < this.tokens; at++) {
      const kind = this.kinds[at];
      if (kind === Token.PUNCTUATION) continue;
      const written = text(this.starts[at]!, this.ends[at]!);
      if (this.keywords[at] === K.DEFAULT || kind === Token.PLACEHOLDER) return '';
      const schema = unquoted(written);
      if (schema !== '$user') return schema;
    }
    return '';
  }

  private isName(at: number): boolean {
    return this.kinds[at] === Token.WORD || this.kinds[at] === Token.NAME;
  }
}

/** A name or a string as PostgreSQL reads it; names that are not quoted are in lower case. Empty when it is of a rare form. */
function unquoted(written: string): string {
  if (written.startsWith('"')) return written.slice(1, -1).replaceAll('""', '"');
  if (/^'[^'\\]*'$/.test(written)) return written.slice(1, -1);
  return /^[\p{L}_][\p{L}\p{N}_$]*$/u.test(written) ? written.toLowerCase() : '';
}
