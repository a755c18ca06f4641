import { K, keywordSet } from './keywords.ts';
import { Token } from './lexer.ts';
import type { Opening } from './opening.ts';
import { PostgresCalls } from './postgres-calls.ts';
import type { SessionEffect } from './statement.ts';

type Text = (start: number, end: number) => string;

const SEMICOLON = 0x3b;
const COMMA = 0x2c;
const OPEN = 0x28;
const CLOSE = 0x29;
const DOT = 0x2e;
const EQUALS = 0x3d;

/** Settings may have changed, and nobody can say how. */
const SETTINGS: SessionEffect = { kind: 'unknown', settings: true };

/** Words that stand before the name of what is declared, closed, released, deallocated. */
const beforeName = keywordSet('SAVEPOINT', 'PREPARE', 'TRANSACTION', 'WORK', 'TO');

/**
 * What a statement of PostgreSQL changes: its search path, its prepared statements, its savepoints. The one place where a literal is
 * looked into: a schema's name may be written as one.
 *
 * What the triggers, rules and views behind a statement do to the search path is not seen in its text, and not taken into account.
 */
export class PostgresEffects {
  private readonly opening: Opening;
  private readonly calls = new PostgresCalls();
  /** Of PREPARE name [(types)] AS: where the statement begins. */
  bodyStart = -1;
  private parentheses = 0;
  private bodyFollows = false;

  constructor(opening: Opening) {
    this.opening = opening;
  }

  begin(): void {
    this.calls.begin();
    this.bodyStart = -1;
    this.parentheses = 0;
    this.bodyFollows = false;
  }

  token(kind: number, keyword: number, character: number, bytes: Buffer, start: number, end: number): void {
    if (this.opening.keywords[0] !== K.PREPARE) this.calls.token(kind, keyword, character, bytes, start, end);
    else if (this.bodyStart < 0) this.prepareToken(keyword, character, start);
  }

  private prepareToken(keyword: number, character: number, start: number): void {
    if (this.bodyFollows) this.bodyStart = start;
    else if (character === OPEN) this.parentheses++;
    else if (character === CLOSE) this.parentheses--;
    // PREPARE as AS: the second one.
    else this.bodyFollows = keyword === K.AS && this.parentheses === 0 && this.opening.length > 2;
  }

  get dependsOnLiterals(): boolean {
    return this.calls.setConfig;
  }

  result(text: Text): SessionEffect | undefined {
    const { opening } = this;
    if (opening.length === 0) return undefined;
    switch (opening.keywords[0]) {
      case K.SET:
        return this.set(text);
      case K.RESET:
        if (opening.keyword(1) === K.ALL) return { kind: 'search_path', schema: '' };
        return this.resetOne(text);
      case K.DISCARD:
        return opening.keyword(1) === K.ALL ? { kind: 'discard_all' } : undefined;
      case K.SAVEPOINT:
        return this.named('savepoint', text);
      case K.RELEASE:
        return this.named('release', text);
      case K.ROLLBACK:
      case K.ABORT:
        return this.has(K.TO) ? this.named('rollback_to', text) : undefined;
      case K.PREPARE:
        if (opening.keyword(1) === K.TRANSACTION || !opening.isName(1)) return undefined;
        return { kind: 'prepare', name: identifier(opening.text(1, text)), statement: undefined };
      case K.EXECUTE:
        return this.calls.unknown ? SETTINGS : this.named('execute', text);
      case K.DEALLOCATE:
        return this.has(K.ALL) ? { kind: 'deallocate' } : this.named('deallocate', text);
      case K.DECLARE:
        return this.named('cursor', text);
      case K.CLOSE:
        return this.has(K.ALL) ? { kind: 'cursor' } : this.named('cursor', text);
      case K.DROP:
      case K.ALTER:
        return this.schemasGone(text);
      case K.DO:
      case K.CALL:
        return SETTINGS;
      default:
        return this.called(text);
    }
  }

  private resetOne(text: Text): SessionEffect | undefined {
    const isPath = this.isPath(1, text);
    if (isPath === undefined) return SETTINGS;
    return isPath ? { kind: 'search_path', schema: '' } : undefined;
  }

  /** What the functions do that are called in the statement. */
  private called(text: Text): SessionEffect | undefined {
    const { calls } = this;
    if (!calls.unknown && !calls.setConfig) return undefined;
    return calls.unknown ? SETTINGS : this.setConfig(text);
  }

  /** SELECT [pg_catalog.]set_config('search_path', 'schema', is_local), and nothing else, runs once and sets what it says. */
  private setConfig(text: Text): SessionEffect | undefined {
    const { opening, calls } = this;
    const isPath = calls.isPath(text);
    if (isPath !== true) return isPath === undefined ? SETTINGS : undefined;
    let at = opening.keyword(0) === K.SELECT ? 1 : -1;
    if (at > 0 && opening.character(at + 1) === DOT) at += 2;
    const shape = at > 0 && opening.character(at + 1) === OPEN && opening.character(at + 3) === COMMA;
    const last = at + 7;
    if (!shape || opening.character(at + 5) !== COMMA || opening.character(last) !== CLOSE || !this.endsAt(last + 1)) {
      return SETTINGS;
    }
    const value = opening.isLiteral(at + 4) ? plainString(opening.text(at + 4, text)) : undefined;
    const local = opening.text(at + 6, text).toLowerCase();
    if (value === undefined || (local !== 'true' && local !== 'false')) return SETTINGS;
    const schema = firstSchema(value);
    if (schema === '') return SETTINGS;
    return local === 'true' ? { kind: 'search_path', schema, local: true } : { kind: 'search_path', schema };
  }

  private endsAt(at: number): boolean {
    const { opening } = this;
    return (
      !opening.cut && (opening.length === at || (opening.length === at + 1 && opening.character(at) === SEMICOLON))
    );
  }

  /** SET [SESSION | LOCAL] search_path {TO | =} {value, ... | DEFAULT}; SET [SESSION | LOCAL] SCHEMA 'value'. */
  private set(text: Text): SessionEffect | undefined {
    const { opening } = this;
    const scope = opening.keyword(1);
    let at = scope === K.SESSION || scope === K.LOCAL ? 2 : 1;
    const isPath = this.isPath(at, text);
    if (isPath === undefined) return SETTINGS;
    if (!isPath && opening.keyword(at) !== K.SCHEMA) return undefined;
    at++;
    if (isPath) {
      if (opening.keyword(at) !== K.TO && opening.character(at) !== EQUALS) return SETTINGS;
      at++;
    }
    const isDefault = opening.keyword(at) === K.DEFAULT;
    const schema = isDefault ? '' : this.schemaFrom(at, text);
    if (schema === '' && !isDefault) return SETTINGS;
    return scope === K.LOCAL ? { kind: 'search_path', schema, local: true } : { kind: 'search_path', schema };
  }

  /** Names of settings are compared without case, also those in quotes. Undefined: nobody can say. */
  private isPath(at: number, text: Text): boolean | undefined {
    const { opening } = this;
    if (opening.keyword(at) === K.SEARCH_PATH) return true;
    if (at >= opening.length || opening.kinds[at] !== Token.NAME) return false;
    const written = opening.text(at, text);
    // U&"..." may stand for anything.
    return written.startsWith('"') ? written.toLowerCase() === '"search_path"' : undefined;
  }

  /** The first schema that is named; "$user" stands for one that nobody knows to exist. Empty when it is not known. */
  private schemaFrom(from: number, text: Text): string {
    const { opening } = this;
    for (let at = from; at < opening.length; at++) {
      const kind = opening.kinds[at];
      if (kind === Token.PUNCTUATION) continue;
      if (kind === Token.PLACEHOLDER) return '';
      const schema = unquoted(opening.text(at, text));
      if (schema !== '$user') return schema;
    }
    return '';
  }

  private has(keyword: number): boolean {
    const { opening } = this;
    for (let at = 1; at < opening.length; at++) if (opening.keywords[at] === keyword) return true;
    return false;
  }

  private named(
    kind: 'savepoint' | 'release' | 'rollback_to' | 'execute' | 'deallocate' | 'cursor',
    text: Text,
  ): SessionEffect | undefined {
    const { opening } = this;
    let at = 1;
    // A word that may stand before the name is the name itself, when none follows: SAVEPOINT savepoint.
    while (beforeName[opening.keyword(at)] === 1 && opening.isName(at + 1)) at++;
    return opening.isName(at) ? { kind, name: identifier(opening.text(at, text)) } : undefined;
  }

  /** DROP SCHEMA [IF EXISTS] a, b; ALTER SCHEMA a RENAME TO b; DROP OWNED BY role. */
  private schemasGone(text: Text): SessionEffect | undefined {
    const { opening } = this;
    if (opening.keyword(1) !== K.SCHEMA) {
      const owned = opening.isName(1) && opening.text(1, text).toLowerCase() === 'owned';
      return owned && opening.keyword(0) === K.DROP ? SETTINGS : undefined;
    }
    if (opening.keyword(0) === K.ALTER && opening.keyword(3) !== K.RENAME) return undefined;
    if (opening.cut) return SETTINGS;
    const schemas: string[] = [];
    for (let at = 2; at < opening.length; at++)
      if (opening.isName(at)) schemas.push(identifier(opening.text(at, text)));
    return { kind: 'schemas_gone', schemas };
  }
}

/**
 * The first schema of a search path as a setting's value. `"$user"` is passed over, as in a statement's text: nobody sees whether there
 * is such a schema.
 */
export function firstSchema(path: string): string {
  for (const [, quoted, plain] of path.matchAll(/"((?:[^"]|"")*)"|([^\s",]+)/g)) {
    const schema = quoted === undefined ? plain!.toLowerCase() : quoted.replaceAll('""', '"');
    if (schema !== '$user') return schema;
  }
  return '';
}

/** The content of a plain string, undefined when it is of a rare form. */
function plainString(written: string): string | undefined {
  return /^'[^'\\]*'$/.test(written) ? written.slice(1, -1) : undefined;
}

/** A name or a string as PostgreSQL reads it; names that are not quoted are in lower case. Empty when it is of a rare form. */
function unquoted(written: string): string {
  if (written.startsWith('"')) return written.slice(1, -1).replaceAll('""', '"');
  const string = plainString(written);
  if (string !== undefined) return string;
  return /^[\p{L}_][\p{L}\p{N}_$]*$/u.test(written) ? written.toLowerCase() : '';
}

/** A name as PostgreSQL reads it. */
function identifier(written: string): string {
  return written.startsWith('"') ? written.slice(1, -1).replaceAll('""', '"') : written.toLowerCase();
}
