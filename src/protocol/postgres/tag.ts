import { UNKNOWN } from '../../sql/scanner.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import type { PostgresExchange } from './exchange.ts';

/** What a CommandComplete's tag says of the statement. */
export const TAG_OTHER = 0;
/** SELECT n, FETCH n: rows that were returned (or, by SELECT INTO and CREATE TABLE AS, inserted). */
export const TAG_SELECT = 1;
export const TAG_FETCH = 2;
/** INSERT oid n, UPDATE n, DELETE n, MERGE n. */
export const TAG_CHANGE = 3;
export const TAG_COPY = 4;
export const TAG_BEGIN = 5;
export const TAG_COMMIT = 6;
/** Also of ROLLBACK TO SAVEPOINT, and of a COMMIT that could only roll back. */
export const TAG_ROLLBACK = 7;
/** Of SQL statements that make or drop prepared statements. */
export const TAG_PREPARED = 8;

const LONGEST_WORD = 17; // START TRANSACTION

const KINDS: Readonly<Record<string, number>> = {
  FETCH: TAG_FETCH,
  COPY: TAG_COPY,
  BEGIN: TAG_BEGIN,
  'START TRANSACTION': TAG_BEGIN,
  COMMIT: TAG_COMMIT,
  'PREPARE TRANSACTION': TAG_COMMIT,
  ROLLBACK: TAG_ROLLBACK,
  INSERT: TAG_CHANGE,
  UPDATE: TAG_CHANGE,
  DELETE: TAG_CHANGE,
  MERGE: TAG_CHANGE,
  SELECT: TAG_SELECT,
  PREPARE: TAG_PREPARED,
  DEALLOCATE: TAG_PREPARED,
  'DEALLOCATE ALL': TAG_PREPARED,
  'DISCARD ALL': TAG_PREPARED,
};

/** Reads tags; the last one read stands in its fields. */
export class TagReader {
  kind = TAG_OTHER;
  /** The number at the end, -1 when there is none. */
  rows = -1;

  /** @param bytes the tag is bytes[start..end), up to its NUL */
  read(bytes: Buffer, start: number, end: number): void {
    let last = end;
    while (last > start && bytes[last - 1] === 0) last--;
    let rows = 0;
    let scale = 1;
    let at = last - 1;
    for (; at > start; at--) {
      const digit = bytes[at]! - 0x30;
      if (digit < 0 || digit > 9) break;
      rows += digit * scale;
      scale *= 10;
    }
    const numbered = scale > 1 && bytes[at] === 0x20;
    this.rows = numbered ? rows : -1;
    this.kind = kindOf(bytes, start, last);
  }
}

/** By its first letters, as it stands at the end of every statement; words that begin alike are compared in full. */
function kindOf(bytes: Buffer, start: number, end: number): number {
  const first = bytes[start]!;
  const second = bytes[start + 1]!;
  if (first === 0x53 && second === 0x45 && bytes[start + 2] === 0x4c) return TAG_SELECT;
  if (first === 0x49 && bytes[start + 2] === 0x53) return TAG_CHANGE; // INSERT
  if (first === 0x55 && bytes[start + 1] === 0x50) return TAG_CHANGE; // UPDATE
  return KINDS[tagWords(bytes, start, end)] ?? TAG_OTHER;
}

/** A tag without its numbers: `CREATE TABLE`, `INSERT`. */
function tagWords(bytes: Buffer, start: number, end: number): string {
  const text = bytes.toString('latin1', start, Math.min(end, start + LONGEST_WORD + 24));
  const words = /^[A-Z]+(?: [A-Z]+)*/.exec(text)?.[0] ?? '';
  return words;
}

const synthesised = new Map<string, SqlStatement>();
const MAX_SYNTHESISED = 512;

/** What may be said of a statement whose text was not seen: its operation, from the tag of its completion. */
export function statementFromTag(bytes: Buffer, start: number, end: number): SqlStatement | undefined {
  const operation = tagWords(bytes, start, end);
  if (operation === '') return undefined;
  const known = synthesised.get(operation);
  if (known !== undefined) return known;
  const statement: SqlStatement = {
    text: '',
    truncated: false,
    summary: operation,
    operation,
    collection: '',
    storedProcedure: '',
    traceparent: '',
    tracestate: '',
    ignored: false,
    effect: UNKNOWN.effect,
  };
  // There are about 200 tags; what is no server of PostgreSQL could send any number of them.
  if (synthesised.size < MAX_SYNTHESISED) synthesised.set(operation, statement);
  return statement;
}

/** Nothing is known of it: its text was not seen, or nobody can say what stands in it. */
export function isUnknown(statement: SqlStatement | undefined): boolean {
  return (
    statement === undefined || (statement.operation === '' && statement.summary === '' && statement.traceparent === '')
  );
}

/**
 * Says in the exchange how many rows were sent and changed.
 *
 * @param rows DataRows that were seen
 * @param described the server said which columns they have, though there may be none
 * @param copiedOut it was a copy to the client
 */
export function setRows(
  exchange: PostgresExchange,
  tag: TagReader,
  rows: number,
  described: boolean,
  copiedOut: boolean,
): void {
  const sent = rows > 0 || described ? rows : -1;
  switch (tag.kind) {
    case TAG_SELECT:
      // SELECT INTO and CREATE TABLE AS have the tag of SELECT, and send none of their rows.
      if (sent < 0 && tag.rows > 0) exchange.affectedRows = tag.rows;
      else exchange.returnedRows = rows;
      break;
    case TAG_FETCH:
      exchange.returnedRows = rows;
      break;
    case TAG_CHANGE:
      exchange.affectedRows = tag.rows;
      exchange.returnedRows = sent;
      break;
    case TAG_COPY:
      exchange.affectedRows = tag.rows;
      exchange.returnedRows = copiedOut ? tag.rows : -1;
      break;
    default:
      exchange.returnedRows = sent;
  }
}
