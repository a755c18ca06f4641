/** More digits than any length that a server takes. */
const MAX_DIGITS = 15;
const CR = 0x0d;
const LF = 0x0a;

/** What `NumberReader.read` says instead of a number. */
export const NEED_MORE = -2;
export const NO_NUMBER = -3;

/** Reads lengths and counts: decimal digits and CR LF. `-1`, the length of a null, is a number, too. */
export class NumberReader {
  /** Behind the CR LF of the last number. */
  next = 0;

  /** @returns a number from -1 on, NEED_MORE or NO_NUMBER */
  read(bytes: Buffer, start: number, end: number): number {
    let at = start;
    const isNegative = at < end && bytes[at] === 0x2d;
    if (isNegative) at++;
    const first = at;
    let value = 0;
    for (; at < end; at++) {
      const digit = bytes[at]! - 0x30;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    if (at - first > MAX_DIGITS) return NO_NUMBER;
    if (at === end) return NEED_MORE;
    if (at === first || bytes[at] !== CR) return NO_NUMBER;
    if (at + 1 === end) return NEED_MORE;
    if (bytes[at + 1] !== LF) return NO_NUMBER;
    this.next = at + 2;
    if (!isNegative) return value;
    return value === 1 ? -1 : NO_NUMBER;
  }
}
