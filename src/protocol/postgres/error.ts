import type { PostgresExchange } from './exchange.ts';

const SQLSTATE_FIELD = 0x43;
const SQLSTATE_LENGTH = 5;
const POSITION_FIELD = 0x50;
const FILE_FIELD = 0x46;

/**
 * Calls back with the fields of an ErrorResponse ("Error and Notice Message Fields": each a type byte and a string). The texts among them
 * quote values: they are passed over.
 *
 * @param bytes the body, or the beginning of it, is bytes[start..end)
 * @returns whether it was there to its end
 */
function eachField(
  bytes: Buffer,
  start: number,
  end: number,
  take: (field: number, from: number, to: number) => void,
): boolean {
  let position = start;
  while (position < end && bytes[position] !== 0) {
    const field = bytes[position]!;
    const from = ++position;
    while (position < end && bytes[position] !== 0) position++;
    if (position < end) take(field, from, position);
    position++;
  }
  return position < end;
}

/** @returns the SQLSTATE of an ErrorResponse, empty when it has none */
export function readError(bytes: Buffer, start: number, end: number): string {
  let code = '';
  eachField(bytes, start, end, (field, from, to) => {
    if (field === SQLSTATE_FIELD && to - from === SQLSTATE_LENGTH) code = bytes.toString('latin1', from, to);
  });
  return /^[0-9A-Z]*$/.test(code) ? code : '';
}

/**
 * What refuses a text before any statement of it is run: the encoding and the protocol (SQLSTATE), and the source files of PostgreSQL that
 * read a text as a whole, which the server names (exec_simple_query: pg_parse_query comes first).
 */
const TEXT_CODES: ReadonlySet<string> = new Set(['22021', '22P05', '08P01']);
const TEXT_FILES: ReadonlySet<string> = new Set([
  'scan.l',
  'gram.y',
  'parser.c',
  'scansup.c',
  'mbutils.c',
  'pqformat.c',
]);

/**
 * Which statement of a text an ErrorResponse means that comes before any of them was answered.
 *
 * @param ends where the statements end, in characters; the last one has the rest
 * @returns its index from 0; -1 when it means the text as a whole, or nobody can say which one
 */
export function placeOfError(bytes: Buffer, start: number, end: number, ends: readonly number[]): number {
  let place = 0;
  let file = '';
  const whole = eachField(bytes, start, end, (field, from, to) => {
    if (field === POSITION_FIELD) place = Number(bytes.toString('latin1', from, to));
    else if (field === FILE_FIELD) file = bytes.toString('latin1', from, Math.min(to, from + 64));
  });
  if (place > 0) {
    // "The first character has index 1, and positions are measured in characters not bytes."
    const at = ends.findIndex((statementEnd) => place <= statementEnd);
    return at < 0 ? ends.length : at;
  }
  if (!whole || TEXT_FILES.has(file) || TEXT_CODES.has(readError(bytes, start, end))) return -1;
  return 0;
}

/** Class 00 is success, class 01 a warning; without a code, an ErrorResponse is an error nevertheless. */
export function isFailure(sqlState: string): boolean {
  return !sqlState.startsWith('00') && !sqlState.startsWith('01');
}

/** Says in the exchange that it failed, by the ErrorResponse of `size` bytes whose body is bytes[start..end). */
export function setError(exchange: PostgresExchange, bytes: Buffer, start: number, end: number, size: number): void {
  exchange.responseBytes += size;
  exchange.statusCode = readError(bytes, start, end);
  exchange.failed = isFailure(exchange.statusCode);
}
