import type { TransactionState } from '../../exchange/sql.ts';
import type { TextEncoding } from '../../sql/analyser.ts';
import { firstSchema } from '../../sql/postgres-effects.ts';
import { ReadingRules } from '../../sql/reading.ts';
import { UNKNOWN } from '../../sql/scanner.ts';
import type { SessionEffect, SqlStatement } from '../../sql/statement.ts';
import { count, type ReasonCounts } from '../../telemetry/counters.ts';
import { SearchPath } from './search-path.ts';
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
  private readonly path: SearchPath;
  /** What the namespace was made of. */
  private namedDatabase = '';
  private namedSchema = '';
  /** What was done since the last ReadyForQuery in an idle state is undone by then. */
  private rolledBack = false;

  /** The connection is one of physical replication: its commands are no SQL ("Streaming Replication Protocol"). */
  isWalSender = false;

  constructor(maxSavepoints: number, counters: ReasonCounts) {
    this.path = new SearchPath(maxSavepoints, () => count(counters, 'savepoint_evicted'));
  }

  /** What its texts cost (memory/cost.ts). */
  get cost(): number {
    return 2 * (this.namespace.length + this.database.length) + this.path.cost;
  }

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
        if (path !== undefined) this.path.start(firstSchema(path));
        const encoding = optionOf(value, 'client_encoding');
        if (encoding !== undefined) this.reading.saidEncoding(encodingOf(encoding));
        break;
      }
      case 'search_path':
        this.path.start(firstSchema(value));
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
        this.path.report(firstSchema(value));
        break;
    }
    this.updateNamespace();
  }

  /** What the server said of settings may have been lost. */
  lost(): void {
    this.reading.lost();
    this.path.loseReport();
    this.updateNamespace();
  }

  /** A statement that changes the search path may have been passed over. */
  pathLost(): void {
    this.path.lose();
    this.updateNamespace();
  }

  /** A statement succeeded; `tag` is a kind of tag.ts. @returns whether its transaction is over, and with it the portals */
  succeeded(statement: SqlStatement | undefined, tag: number): boolean {
    const effect = statement === undefined ? UNKNOWN.effect : statement.effect;
    let ends = false;
    if (tag === TAG_BEGIN) this.transaction = 'active';
    else if (tag === TAG_COMMIT) ends = this.ended(statement, false);
    else if (tag === TAG_ROLLBACK) {
      if (effect?.kind === 'unknown') this.path.lose();
      else if (effect?.kind === 'rollback_to') this.transaction = 'active';
      else ends = this.ended(statement, true);
    }
    if (effect !== undefined && tag !== TAG_BEGIN && tag !== TAG_COMMIT) this.apply(effect);
    else this.updateNamespace();
    return ends;
  }

  /** What running a statement does to the search path. */
  apply(effect: SessionEffect): void {
    const { path } = this;
    switch (effect.kind) {
      case 'search_path':
        if (effect.schema === '') path.reset(effect.local === true);
        else path.set(effect.schema, effect.local === true);
        break;
      case 'discard_all':
        path.reset(false);
        break;
      case 'unknown':
        if (effect.settings === true) path.doubt();
        else path.doubtAll();
        break;
      case 'schemas_gone':
        path.drop(effect.schemas);
        break;
      case 'savepoint':
        path.savepoint(effect.name);
        break;
      case 'release':
        path.release(effect.name);
        break;
      case 'rollback_to':
        path.rollbackTo(effect.name);
        break;
    }
    this.updateNamespace();
  }

  /** A statement failed, and what its transaction has done so far with it. */
  failed(): void {
    if (this.transaction === 'active') this.transaction = 'failed';
    else this.rolledBack = true;
  }

  /** ReadyForQuery. @returns whether the session is in no transaction */
  ready(status: number): boolean {
    const idle = status === IDLE_STATUS;
    if (idle) {
      this.transaction = 'idle';
      if (this.rolledBack) this.path.rollback();
      else this.path.commit();
      this.rolledBack = false;
    } else if (status === IN_BLOCK_STATUS) this.transaction = 'active';
    else if (status === FAILED_STATUS) this.transaction = 'failed';
    else this.transaction = '';
    this.path.settle();
    this.updateNamespace();
    return idle;
  }

  private ended(statement: SqlStatement | undefined, rolledBack: boolean): boolean {
    if (rolledBack) this.path.rollback();
    else this.path.commit();
    if (!/\band\s+chain\b/i.test(statement?.text ?? '')) this.transaction = 'idle';
    return true;
  }

  private updateNamespace(): void {
    const schema = this.path.now;
    if (schema === this.namedSchema && this.database === this.namedDatabase) return;
    this.namedSchema = schema;
    this.namedDatabase = this.database;
    this.namespace = schema === '' || this.database === '' ? this.database : `${this.database}|${schema}`;
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
