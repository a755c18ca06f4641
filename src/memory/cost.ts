/**
 * What things cost in V8's heap and beside it, in bytes: estimates that err to the high side. Measured with Node 24 by heap snapshots and by
 * filling a process with each.
 */

/** A Buffer of its own: the view, its ArrayBuffer, the backing store's bookkeeping, malloc's header. */
export const BUFFER_COST = 256;
/** A string's header and its alignment; one-byte characters come on top. */
export const STRING_COST = 24;
/** An entry of a Map, with the growth of its table. */
export const MAP_ENTRY_COST = 48;
/** An entry among the things that holders share. */
export const SHARED_ENTRY_COST = 64;
const WIDE = /[\u0100-\uffff]/;
/** A Map with its first table. */
const MAP_COST = 240;
/** An array with one element. */
const ARRAY_COST = 64;
/** A connection: its object, both directions, its places in tables, what detects its protocol. */
export const CONNECTION_COST = 2048;
/** The parsers of both directions of one connection. */
export const LAYER_COST = 3072;
/** The handshake and the record streams of one TLS connection, with the contexts of its ciphers. */
export const TLS_COST = 6144;
/** An exchange of HTTP in the making: numbers that are no small integers are objects of their own. */
export const EXCHANGE_COST = 640;
/** What looks into the bodies of an exchange. */
export const OBSERVER_COST = 512;
/** A statement's object without its texts. */
const STATEMENT_COST = 160;

export function bufferCost(buffer: { readonly length: number } | undefined): number {
  return buffer === undefined || buffer.length === 0 ? 0 : buffer.length + BUFFER_COST;
}

/** One byte for each character, or two where one of them is not of latin1. */
export function textCost(text: string): number {
  if (text.length === 0) return 0;
  return STRING_COST + (WIDE.test(text) ? 2 * text.length : text.length);
}

/** A text that was read as latin1. */
export function latin1Cost(text: string): number {
  return text.length === 0 ? 0 : STRING_COST + text.length;
}

/** Header fields by their name; the names are shared. */
export function headersCost(headers: ReadonlyMap<string, readonly string[]>): number {
  if (headers.size === 0) return 0;
  let cost = MAP_COST;
  for (const values of headers.values()) {
    cost += MAP_ENTRY_COST + ARRAY_COST;
    for (const value of values) cost += STRING_COST + 8 + value.length;
  }
  return cost;
}

/** The same of statements that wait for their answer, without a look into their texts. */
export function waitingCost(statements: readonly Pick<Statement, 'text' | 'effect'>[]): number {
  let cost = 0;
  for (const { text, effect } of statements) {
    cost += STATEMENT_COST + STRING_COST + text.length;
    if (effect !== undefined) cost += effectCost(effect);
  }
  return cost;
}

/** Of a statement of SQL, what its cost depends on: see sql/statement.ts. */
interface Statement {
  readonly text: string;
  readonly summary: string;
  readonly collection: string;
  readonly storedProcedure: string;
  readonly traceparent: string;
  readonly tracestate: string;
  readonly effect: object | undefined;
}

interface Effect {
  readonly name?: string;
  readonly schema?: string;
  readonly database?: string;
  readonly runs?: Statement | undefined;
  readonly statement?: Statement | undefined;
}

/** A statement of SQL, with its texts, and with a statement that it names. */
export function statementCost(statement: Statement): number {
  const { text, summary, collection, storedProcedure, traceparent, tracestate, effect } = statement;
  const names = textCost(summary) + textCost(collection) + textCost(storedProcedure);
  const cost = STATEMENT_COST + textCost(text) + names + textCost(traceparent) + textCost(tracestate);
  return effect === undefined ? cost : cost + effectCost(effect);
}

function effectCost({ name, schema, database, runs, statement }: Effect): number {
  const texts = textCost(name ?? '') + textCost(schema ?? '') + textCost(database ?? '');
  const inner = runs ?? statement;
  return texts + 64 + (inner === undefined ? 0 : statementCost(inner));
}
