import type { PostgresExchange } from './exchange.ts';

const SQLSTATE_FIELD = 0x43;
const SQLSTATE_LENGTH = 5;

/**
 * The SQLSTATE of an ErrorResponse ("Error and Notice Message Fields": each a type byte and a string). Nothing else of it is read: its
 * texts quote values.
 *
 * @param bytes the body, or the beginning of it, is bytes[start..end)
 * @returns empty when it has none
 */
export function readError(bytes: Buffer, start: number, end: number): string {
  let position = start;
  while (position < end && bytes[position] !== 0) {
    const field = bytes[position]!;
    const from = ++position;
    while (position < end && bytes[position] !== 0) position++;
    if (field === SQLSTATE_FIELD) {
      const code = bytes.toString('latin1', from, position);
      return code.length === SQLSTATE_LENGTH && /^[0-9A-Z]+$/.test(code) ? code : '';
    }
    position++;
  }
  return '';
}

/** Class 00 is success, class 01 a warning; without a code, an ErrorResponse is an error all the same. */
export function isFailure(sqlState: string): boolean {
  return !sqlState.startsWith('00') && !sqlState.startsWith('01');
}

/** Says in the exchange that it failed, by the ErrorResponse of `size` bytes whose body is bytes[start..end). */
export function setError(exchange: PostgresExchange, bytes: Buffer, start: number, end: number, size: number): void {
  exchange.responseBytes += size;
  exchange.statusCode = readError(bytes, start, end);
  exchange.failed = isFailure(exchange.statusCode);
}
