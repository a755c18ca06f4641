/** The lexical rules that a statement's text follows. MariaDB's are MySQL's. */
export type SqlDialect = 'postgresql' | 'mysql';

/** What running a statement of MySQL or MariaDB changes for those after it on the same connection. Names are as the server reads them; empty: not known. */
export type MysqlEffect =
  /** `USE name`. */
  | { readonly kind: 'use'; readonly database: string }
  /** `DROP DATABASE name`. */
  | { readonly kind: 'drop_database'; readonly database: string }
  | {
      /** Assignments: those that matter here. */
      readonly kind: 'set';
      /** The client's character set by its name, in lower case; empty: one that is not known; undefined: it stays. */
      readonly encoding: string | undefined;
      /** sql_mode: whether the session's value stays, is set, or may be. */
      readonly mode: 'kept' | 'set' | 'doubtful';
      /** What the server reports of the session's state changes. */
      readonly tracking: boolean;
    }
  /** `SET STATEMENT variable = value FOR statement` (MariaDB). */
  | { readonly kind: 'set_statement'; readonly runs: SqlStatement | undefined }
  /** `PREPARE name FROM 'statement'`: what it is to run, unless that is not written there. */
  | { readonly kind: 'prepare_text'; readonly name: string; readonly runs: SqlStatement | undefined }
  /** `EXECUTE name`; `EXECUTE IMMEDIATE 'statement'` has no name. */
  | { readonly kind: 'execute_text'; readonly name: string; readonly runs: SqlStatement | undefined }
  /** `DEALLOCATE PREPARE name`. */
  | { readonly kind: 'deallocate_text'; readonly name: string }
  /**
   * A compound statement outside of a routine (MariaDB). Whether it may run what is not written there, which may be USE; and whether
   * it may set variables.
   */
  | { readonly kind: 'block'; readonly executes: boolean; readonly sets: boolean }
  /** Part of it is run by some servers only: it may change anything. */
  | { readonly kind: 'anything' };

/** What running a statement changes for those after it on the same connection. */
export type SessionEffect =
  | MysqlEffect
  /** Nobody can say what: a text that was not understood, a function of the user's. Of PostgreSQL's settings alone with `settings`. */
  | { readonly kind: 'unknown'; readonly settings?: true }
  /** PostgreSQL: `SET search_path TO first, ...`; empty when it is reset or set to its default. */
  | {
      readonly kind: 'search_path';
      readonly schema: string;
      /** SET LOCAL: until the transaction ends; without one it has no effect. */
      readonly local?: true;
    }
  | { readonly kind: 'discard_all' }
  /** PostgreSQL: schemas that are dropped or get another name. */
  | { readonly kind: 'schemas_gone'; readonly schemas: readonly string[] }
  | { readonly kind: 'savepoint' | 'release' | 'rollback_to'; readonly name: string }
  /** PostgreSQL: `PREPARE name AS statement`, `EXECUTE name`, `DEALLOCATE name`; no name: ALL. */
  | { readonly kind: 'prepare'; readonly name: string; readonly statement: SqlStatement | undefined }
  | { readonly kind: 'execute'; readonly name: string }
  | { readonly kind: 'deallocate'; readonly name?: string }
  /** PostgreSQL: DECLARE and CLOSE take the name of a portal; no name: ALL. */
  | { readonly kind: 'cursor'; readonly name?: string };

/**
 * What may be said of one SQL statement. Made once per distinct text and shared by all exchanges that run it. An empty string
 * means: not known, or none.
 */
export interface SqlStatement {
  /** Every literal replaced by `?`, comments stripped, cut to the configured length. Empty when the lexer is not sure of it. */
  readonly text: string;
  /** `text` was cut. */
  readonly truncated: boolean;
  /** db.query.summary: operations and targets in source order, at most 255 characters. */
  readonly summary: string;
  /** The first operation, in the case of the source: `SELECT`. */
  readonly operation: string;
  /** The one target, when there is exactly one. */
  readonly collection: string;
  /** What CALL, or PostgreSQL's equivalent, calls. */
  readonly storedProcedure: string;
  /** What sqlcommenter's comment said, unescaped. */
  readonly traceparent: string;
  readonly tracestate: string;
  /** A configured pattern says that no span is wanted. */
  readonly ignored: boolean;
  readonly effect: SessionEffect | undefined;
}
