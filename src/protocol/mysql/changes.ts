import type { ReadingRules } from '../../sql/reading.ts';
import { UNKNOWN } from '../../sql/scanner.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import type { LayerContext } from '../layer.ts';
import { type Yield, Yields } from './attribution.ts';
import { encodingOfName } from './charset.ts';
import type { MysqlLimits } from './limits.ts';
import { NamedStatements } from './statements.ts';
import { ER_NO_DB_ERROR, SERVER_STATUS_DB_DROPPED, SERVER_STATUS_NO_BACKSLASH_ESCAPES } from './wire.ts';

/** What a statement can change of a session, and what the server said with its last result: session.ts is it. */
export interface ChangingSession {
  readonly context: LayerContext<MysqlLimits>;
  readonly rules: ReadingRules;
  namespace: string;
  readonly status: number | undefined;
  readonly toldSchema: string | undefined;
  readonly toldEncoding: string | undefined;
}

const ROWS = /^(?:show|describe|desc|explain|values)$/i;
const NO_ROWS =
  /^(?:set|use|commit|rollback|start|savepoint|create|drop|truncate|prepare|deallocate|do|lock|unlock|grant|revoke)$/i;
/** What makes an OK packet of a SELECT, and rows of an INSERT, a DELETE or a REPLACE. */
const INTO = /\binto\b/i;
const RETURNING = /\breturning\b/i;
/** They change nothing by themselves of what later statements depend on. Routines and triggers may run, whose settings are restored. */
const HARMLESS =
  /^(?:select|insert|update|delete|replace|with|values|table|create|alter|truncate|load|show|explain|analyze|commit|rollback)$/i;

/** What changes nothing. */
export const NO_CHANGE: SqlStatement = {
  ...UNKNOWN,
  effect: { kind: 'set', encoding: undefined, mode: 'kept', tracking: false },
};

/**
 * What running a statement does to the session's rules of reading: `none`; `set`, it sets sql_mode; `during`, sets it while it runs;
 * `doubt`, it may do anything.
 */
type Influence = 'none' | 'set' | 'during' | 'doubt';

/**
 * What statements change for those after them on the same connection: the current database, the character set, how backslashes are read,
 * what names of prepared statements stand for; and so what is known of how they are answered.
 *
 * Of backslashes the server tells by a flag of each OK and EOF packet. The flag follows each SET of sql_mode, also one within a routine,
 * behind which the mode is restored and the flag is not; and SET STATEMENT, whose own answer has it, only (sp_head::execute and
 * mysql_execute_command of MariaDB 10.11). So a flag is believed when a statement sets the mode itself, and one that changes otherwise leaves the rule unknown.
 * The first answer may differ from the greeting by init_connect.
 */
export class Changes {
  private readonly session: ChangingSession;
  /** By PREPARE. */
  private readonly named: NamedStatements;
  /** SERVER_STATUS_NO_BACKSLASH_ESCAPES as it was said last. */
  private flag: boolean | undefined = undefined;
  /** No answer has confirmed what the greeting said. */
  private fresh = true;
  /** The server tells each change of the current database. */
  private tracksSchema = false;

  constructor(session: ChangingSession) {
    this.session = session;
    this.named = new NamedStatements(session.context.limits.sqlPreparedStatements);
  }

  /** What is held (memory/cost.ts). */
  get cost(): number {
    return this.named.cost;
  }

  get heldEntries(): number {
    return this.named.size;
  }

  // --- How statements are answered -----------------------------------------------------------------------------------------------------

  /** @param namesHold what the names of prepared statements stand for is known */
  yieldOf(statement: SqlStatement | undefined, namesHold: boolean): Yield {
    if (isUnknown(statement)) return Yields.ANY;
    const { effect, operation, text, truncated } = statement;
    if (effect?.kind === 'execute_text') {
      const runs = effect.runs ?? (namesHold ? this.named.get(effect.name) : undefined);
      return runs === undefined ? Yields.ANY : this.yieldOf(runs, false);
    }
    if (effect?.kind === 'set_statement') return this.yieldOf(effect.runs, namesHold);
    if (effect?.kind === 'block') return Yields.CALL;
    if (effect?.kind === 'anything') return Yields.ANY;
    if (isCall(statement)) return Yields.CALL;
    if (ROWS.test(operation)) return Yields.ROWS;
    if (NO_ROWS.test(operation)) return Yields.OK;
    if (/^select$/i.test(operation)) return truncated || text === '' || INTO.test(text) ? Yields.ONE : Yields.ROWS;
    if (/^(?:insert|replace|delete)$/i.test(operation))
      return truncated || text === '' || RETURNING.test(text) ? Yields.ONE : Yields.OK;
    return Yields.ONE;
  }

  /** Whether several results may be those of this one statement. */
  mayHaveMore(statement: SqlStatement | undefined): boolean {
    if (statement === undefined) return true;
    const yields = this.yieldOf(statement, true);
    return !isUnknown(statement) && (yields === Yields.CALL || yields === Yields.ANY);
  }

  /** Whether a text that is sent behind this statement may be read by other rules than one before it. */
  changesRules(statement: SqlStatement | undefined): boolean {
    if (isUnknown(statement)) return true;
    const { effect } = statement;
    switch (effect?.kind) {
      case 'set':
        return effect.encoding !== undefined || effect.mode !== 'kept';
      case 'set_statement':
      case 'execute_text':
        return effect.runs === undefined || this.changesRules(effect.runs);
      case 'block':
        return effect.sets;
      default:
        return effect?.kind === 'anything';
    }
  }

  // --- What has happened ---------------------------------------------------------------------------------------------------------------

  /** The server has said how it begins, by its greeting or by accepting the client. */
  began(status: number): void {
    this.flag = flagOf(status);
    this.fresh = true;
  }

  /** A command that is no statement has succeeded. */
  passed(): void {
    const { session } = this;
    this.readFlag('none');
    if (session.toldEncoding !== undefined) session.rules.saidEncoding(encodingOfName(session.toldEncoding));
  }

  /** COM_INIT_DB, COM_CHANGE_USER. */
  selected(database: string): void {
    const { session } = this;
    const told = session.toldSchema;
    if (told === undefined && session.namespace !== database) this.tracksSchema = false;
    session.namespace = told ?? database;
  }

  /** COM_DROP_DB; DROP DATABASE. Whether names differ by the case of their letters depends on the server's file system. */
  dropped(database: string): void {
    const { session } = this;
    if (session.toldSchema !== undefined) session.namespace = session.toldSchema;
    else if (database === '' || database.toLowerCase() === session.namespace.toLowerCase()) session.namespace = '';
  }

  /** COM_RESET_CONNECTION, COM_CHANGE_USER. */
  forget(): void {
    this.named.clear();
    this.flag = undefined;
    this.fresh = true;
  }

  agreed(sessionTrack: boolean): void {
    this.tracksSchema = sessionTrack;
  }

  /** What the client sent may have been lost. */
  lost(): void {
    this.flag = undefined;
    this.fresh = true;
    this.named.clear();
    this.session.rules.lost();
  }

  /**
   * A result of a statement has come.
   *
   * @param hasRows it was a result set, not an OK packet
   * @param ends the statement has no other result behind it
   * @param only it is all that was run of its text, so that it is one statement, though its text may not be certain
   */
  succeeded(statement: SqlStatement | undefined, hasRows: boolean, ends: boolean, only: boolean): void {
    const { session } = this;
    const told = session.toldSchema !== undefined || session.toldEncoding !== undefined;
    if (!told && statement !== undefined && statement.effect === undefined && !isCall(statement)) {
      // What nearly all are.
      this.readFlag('none');
      if (ends && isDropped(session.status)) this.databaseDoubted();
      return;
    }
    const unknown = isUnknown(statement) && !isHarmless(statement, hasRows, only);
    const influence = unknown ? 'doubt' : this.influenceOf(statement);
    this.readFlag(influence);
    this.readEncoding(statement, influence);
    if (session.toldSchema !== undefined) {
      session.namespace = session.toldSchema;
      this.tracksSchema = true;
    } else if (ends) this.apply(statement, unknown, hasRows);
    if (ends) this.rename(statement, unknown);
  }

  failed(statement: SqlStatement | undefined, code: number): void {
    const { session } = this;
    const effect = statement?.effect;
    if (effect?.kind === 'prepare_text') this.named.delete(effect.name);
    if (code === ER_NO_DB_ERROR && effect?.kind !== 'use') session.namespace = '';
    // A block may have changed something before it failed.
    const unknown = isUnknown(statement);
    const part = unknown || this.influenceOf(statement) === 'doubt' || effect?.kind === 'block' || isCall(statement);
    if (!part) return;
    this.named.clear();
    if (isCall(statement)) return;
    session.rules.saidBackslash('unknown');
    session.rules.doubtEncoding();
    this.databaseDoubted();
  }

  // --- Rules of reading ----------------------------------------------------------------------------------------------------------------

  private influenceOf(statement: SqlStatement | undefined): Influence {
    const effect = statement?.effect;
    switch (effect?.kind) {
      case 'set':
        return effect.mode === 'kept' ? 'none' : effect.mode === 'set' ? 'set' : 'doubt';
      case 'set_statement':
        return effect.runs !== undefined && this.influenceOf(effect.runs) === 'none' ? 'during' : 'doubt';
      case 'execute_text': {
        const runs = effect.runs ?? this.named.get(effect.name);
        return runs === undefined ? 'doubt' : this.influenceOf(runs);
      }
      case 'block':
        return effect.sets ? 'doubt' : 'none';
      default:
        return effect?.kind === 'anything' ? 'doubt' : 'none';
    }
  }

  private readFlag(influence: Influence): void {
    const { rules, status } = this.session;
    if (influence === 'doubt') rules.saidBackslash('unknown');
    if (status === undefined || influence === 'during') return;
    const flag = flagOf(status);
    if (
      influence === 'set' ||
      (influence === 'none' && this.fresh && (this.flag === undefined || this.flag === flag))
    ) {
      rules.saidBackslash(flag ? 'literal' : 'escape');
    } else if (flag !== this.flag) rules.saidBackslash('unknown');
    this.flag = flag;
    this.fresh = false;
  }

  private readEncoding(statement: SqlStatement | undefined, influence: Influence): void {
    const { rules, toldEncoding } = this.session;
    const named = this.encodingOf(statement);
    const told = toldEncoding === undefined ? undefined : encodingOfName(toldEncoding);
    if (told !== undefined && (named !== undefined || influence !== 'none' || told === 'unsafe'))
      rules.saidEncoding(told);
    // What a routine sets is reported, too, and then restored, which is not.
    else if (named === '' || influence === 'doubt' || told !== undefined) rules.doubtEncoding();
    else if (named !== undefined) rules.saidEncoding(encodingOfName(named));
  }

  private encodingOf(statement: SqlStatement | undefined): string | undefined {
    const effect = statement?.effect;
    if (effect?.kind === 'set') return effect.encoding;
    if (effect?.kind !== 'execute_text') return undefined;
    const runs = effect.runs ?? this.named.get(effect.name);
    return runs === undefined ? '' : this.encodingOf(runs);
  }

  // --- The current database ------------------------------------------------------------------------------------------------------------

  private apply(statement: SqlStatement | undefined, unknown: boolean, hasRows: boolean): void {
    const { session } = this;
    const effect = statement?.effect;
    switch (effect?.kind) {
      case 'use':
        if (session.namespace !== effect.database) this.tracksSchema = false;
        session.namespace = effect.database;
        return;
      case 'drop_database':
        this.dropped(effect.database);
        return;
      case 'execute_text': {
        const runs = effect.runs ?? this.named.get(effect.name);
        if (runs !== undefined) this.apply(runs, false, hasRows);
        else if (!hasRows) this.databaseDoubted();
        return;
      }
      case 'set':
        if (effect.tracking) this.tracksSchema = false;
        return;
      case 'set_statement':
        if (effect.runs === undefined) this.databaseDoubted();
        else this.apply(effect.runs, false, hasRows);
        return;
      default: {
        const anything = unknown || effect?.kind === 'anything' || (effect?.kind === 'block' && effect.executes);
        if (anything || isDropped(session.status)) this.databaseDoubted();
      }
    }
  }

  /** It may be another one, or none. */
  private databaseDoubted(): void {
    if (!this.tracksSchema) this.session.namespace = '';
  }

  // --- Names ---------------------------------------------------------------------------------------------------------------------------

  private rename(statement: SqlStatement | undefined, unknown: boolean): void {
    const effect = statement?.effect;
    if (effect?.kind === 'prepare_text') {
      if (effect.runs === undefined) this.named.delete(effect.name);
      else this.named.set(effect.name, effect.runs);
    } else if (effect?.kind === 'deallocate_text') this.named.delete(effect.name);
    else if (effect?.kind === 'execute_text' || effect?.kind === 'set_statement') {
      const runs = effect.runs ?? (effect.kind === 'execute_text' ? this.named.get(effect.name) : undefined);
      if (runs === undefined || isCall(runs) || runs.effect !== undefined) this.named.clear();
    } else if (unknown || effect?.kind === 'block' || effect?.kind === 'anything' || isCall(statement))
      this.named.clear();
  }
}

/** What it does is not known; its text may hold several statements. */
function isUnknown(statement: SqlStatement | undefined): statement is undefined {
  return statement === undefined || statement.effect?.kind === 'unknown';
}

/** Of a statement whose text is not certain. */
function isHarmless(statement: SqlStatement | undefined, hasRows: boolean, only: boolean): boolean {
  const operation = statement?.operation ?? '';
  return operation === '' ? hasRows : only && HARMLESS.test(operation);
}

function isCall(statement: SqlStatement | undefined): boolean {
  const operation = statement?.operation;
  return operation?.length === 4 && operation.toLowerCase() === 'call';
}

/** A database was dropped, whichever. */
function isDropped(status: number | undefined): boolean {
  return status !== undefined && (status & SERVER_STATUS_DB_DROPPED) !== 0;
}

function flagOf(status: number): boolean {
  return (status & SERVER_STATUS_NO_BACKSLASH_ESCAPES) !== 0;
}
