/* The words of replies that say what became of a command. */

const CR = 0x0d;

/** Words of simple strings that are looked at. */
export const OK = 'OK';
export const QUEUED = 'QUEUED';
const STATUS_WORDS = [OK, QUEUED, 'FULLRESYNC', 'CONTINUE'].map((word) => ({
  word,
  bytes: Buffer.from(word, 'latin1'),
}));

/** @returns one of the words above, else an empty one */
export function statusWord(bytes: Buffer, start: number, end: number): string {
  for (const { word, bytes: expected } of STATUS_WORDS) {
    const after = start + expected.length;
    if (after > end || bytes[start] !== expected[0]) continue;
    if ((after === end || bytes[after] === SPACE) && expected.compare(bytes, start, after) === 0) return word;
  }
  return '';
}

const SPACE = 0x20;
const LONGEST_ERROR = 32;

/**
 * @returns what stands before the first space: "The first upper-case word after the -, up to the first space or newline, represents the kind
 *   of error returned"; empty when it is no such word
 */
export function errorWord(bytes: Buffer, start: number, end: number): string {
  let at = start;
  for (; at < end && at - start < LONGEST_ERROR; at++) {
    const byte = bytes[at]!;
    const isLetter = byte >= 0x41 && byte <= 0x5a;
    if (!isLetter && (at === start || !((byte >= 0x30 && byte <= 0x39) || byte === 0x5f))) break;
  }
  if (at === start || (at < end && bytes[at] !== SPACE && bytes[at] !== CR)) return '';
  return bytes.toString('latin1', start, at);
}

/** Kinds of pushes. */
export const SUBSCRIBED = 'subscribe';
export const UNSUBSCRIBED = 'unsubscribe';
export const OTHER_PUSH = 'other';

/** @returns the kind, without what names its sort of channel: `psubscribe` and `ssubscribe` are SUBSCRIBED */
export function pushWord(bytes: Buffer, start: number, end: number): string {
  if (end - start < 9 || end - start > 12) return OTHER_PUSH;
  const word = bytes.toString('latin1', start, end);
  if (word.endsWith(UNSUBSCRIBED)) return UNSUBSCRIBED;
  return word.endsWith(SUBSCRIBED) ? SUBSCRIBED : OTHER_PUSH;
}
