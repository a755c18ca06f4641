import type { TransactionState } from '../../exchange/exchange.ts';
import type { TextEncoding } from '../../sql/analyser.ts';
import { ReadingRules } from '../../sql/reading.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { optionOf } from './startup.ts';
import { TAG_BEGIN, TAG_COMMIT, TAG_ROLLBACK } from './tag.ts';

/** The client encodings whose multi-byte characters contain bytes of ASCII: backslashes and quotes among them. */
const UNSAFE_ENCODINGS: ReadonlySet<string> = new Set([
  'SJIS',
  'MSKANJI',
  'SHIFTJIS',
  'WIN932',
  'WINDOWS932',
  'SHIFTJIS2004',
  'BIG5',
  'WIN950',
  'WINDOWS950',
  'GBK',
  'WIN936',
  'WINDOWS936',
  'UHC',
  'WIN949',
  'WINDOWS949',
  'GB18030',
  'JOHAB',
]);
const UTF8_ENCODINGS: ReadonlySet<string> = new Set(['UTF8', 'UNICODE', 'SQLASCII']);

const IDLE_STATUS = 0x49;
const IN_BLOCK_STATUS = 0x54;
const FAILED_STATUS = 0x45;

/** What is known of a session beside its statements: the state that its statements and parameters change. */
export class Session {
  /** `database|schema`, or `database` when the schema is not known; empty when neither is. */
  namespace = '';
  transaction: TransactionState = '';
  readonly reading = new ReadingRules();
  private database = '';
  /** First schema of the search path now, after a commit, after a rollback, and as the client asked for it at the start. */
  private schema = '';
  private pendingSchema = '';
  private committedSchema = '';
  private defaultSchema = '';
  /** What was done since the last ReadyForQuery in an idle state is undone by then. */
  private rolledBack = false;

  /** The connection is one of physical replication: its commands are no SQL ("Streaming Replication Protocol"). */
  isWalSender = false;

  /** A parameter of StartupMessage. */
  startupParameter(name: string, value: string): void {
    switch (name) {
      case 'database':
        this.database = value;
        break;
      case 'user':
        // "database: ... Defaults to the user name."
        if (this.database === '') this.database = value;
        break;
      case 'client_encoding':
        this.reading.saidEncoding(encodingOf(value));
        break;
      case 'options': {
        const path = optionOf(value, 'search_path');
        if (path !== undefined) this.startWithSchema(firstSchema(path));
        const encoding = optionOf(value, 'client_encoding');
        if (encoding !== undefined) this.reading.saidEncoding(encodingOf(encoding));
        break;
      }
      case 'search_path':
        this.startWithSchema(firstSchema(value));
        break;
      case 'replication':
        // A boolean, or `database` for logical replication, which takes SQL as well.
        this.isWalSender = /^(?:t(?:r(?:ue?)?)?|y(?:es?)?|on|1)$/i.test(value);
        break;
    }
    this.updateNamespace();
  }

  /** ParameterStatus: the value that holds from now on. */
  parameterStatus(name: string, value: string): void {
    switch (name) {
      case 'client_encoding':
        this.reading.saidEncoding(encodingOf(value));
        break;
      case 'standard_conforming_strings':
        this.reading.saidBackslash(value === 'on' ? 'literal' : value === 'off' ? 'escape' : 'unknown');
        break;
      case 'search_path':
        // PostgreSQL 18 and later report it, after a rollback too.
        this.schema = firstSchema(value);
        this.pendingSchema = this.schema;
        this.committedSchema = this.schema;
        break;
    }
    this.updateNamespace();
  }

  /** What the server said of settings may have been lost. */
  lost(): void {
    this.reading.lost();
  }

  /** A statement succeeded; `tag` is a kind of tag.ts. */
  succeeded(statement: SqlStatement | undefined, tag: number): void {
    const effect = statement?.effect;
    if (effect !== undefined && effect.kind === 'search_path') {
      this.schema = effect.schema === '' ? this.defaultSchema : effect.schema;
      if (effect.local !== true) this.pendingSchema = this.schema;
      this.updateNamespace();
    }
    if (tag === TAG_BEGIN) this.transaction = 'active';
    else if (tag === TAG_COMMIT && !/\band\s+chain\b/i.test(statement?.text ?? '')) {
      this.transaction = 'idle';
      this.commit();
    } else if (tag === TAG_ROLLBACK) this.rollback(statement);
  }

  /** A statement failed, and what its transaction has done so far with it. */
  failed(): void {
    if (this.transaction === 'active') this.transaction = 'failed';
    else this.rolledBack = true;
  }

  /** ReadyForQuery. @returns whether the session is in no transaction */
  ready(status: number): boolean {
    switch (status) {
      case IDLE_STATUS:
        this.transaction = 'idle';
        if (this.rolledBack) this.restoreSchema();
        else this.commit();
        this.rolledBack = false;
        return true;
      case IN_BLOCK_STATUS:
        this.transaction = 'active';
        return false;
      case FAILED_STATUS:
        this.transaction = 'failed';
        return false;
      default:
        this.transaction = '';
        return false;
    }
  }

  private rollback(statement: SqlStatement | undefined): void {
    const text = statement?.text ?? '';
    if (/\bto\b/i.test(text)) {
      // Which of the changes were made after the savepoint is not kept.
      this.transaction = 'active';
      if (this.schema !== this.committedSchema) this.schema = '';
      if (this.pendingSchema !== this.committedSchema) this.pendingSchema = '';
      this.updateNamespace();
      return;
    }
    this.restoreSchema();
    if (!/\band\s+chain\b/i.test(text)) this.transaction = 'idle';
  }

  private commit(): void {
    this.committedSchema = this.pendingSchema;
    this.restoreSchema();
  }

  private restoreSchema(): void {
    this.pendingSchema = this.committedSchema;
    if (this.schema === this.committedSchema) return;
    this.schema = this.committedSchema;
    this.updateNamespace();
  }

  private startWithSchema(schema: string): void {
    this.schema = schema;
    this.pendingSchema = schema;
    this.committedSchema = schema;
    this.defaultSchema = schema;
  }

  private updateNamespace(): void {
    this.namespace = this.schema === '' || this.database === '' ? this.database : `${this.database}|${this.schema}`;
  }
}

/** Names of encodings are compared without case and without what is neither letter nor digit (pg_char_to_encoding). */
function encodingOf(name: string): TextEncoding | undefined {
  const clean = name.replace(/[^a-z0-9]/gi, '').toUpperCase();
  // The client's own: libpq asks for it by `auto`, and sends what it stands for.
  if (clean === '' || clean === 'AUTO' || clean === 'DEFAULT') return undefined;
  if (UNSAFE_ENCODINGS.has(clean)) return 'unsafe';
  return UTF8_ENCODINGS.has(clean) ? 'utf8' : 'latin1';
}

/**
 * The first schema of a search path as a setting's value. `"$user"` is passed over, as in a statement's text: nobody sees whether there
 * is such a schema.
 */
function firstSchema(path: string): string {
  for (const [, quoted, plain] of path.matchAll(/"((?:[^"]|"")*)"|([^\s",]+)/g)) {
    const schema = quoted === undefined ? plain!.toLowerCase() : quoted.replaceAll('""', '"');
    if (schema !== '$user') return schema;
  }
  return '';
}
