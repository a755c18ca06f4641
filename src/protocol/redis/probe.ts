import type { Detection } from '../layer.ts';
import { isKnownName } from './commands.ts';
import { NEED_MORE, NumberReader } from './number.ts';
import { isReplyType } from './reply-types.ts';

const ARRAY = 0x2a;
const BULK = 0x24;
const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
/** A server closes the connection of a client that has not yet authenticated and sends more arguments; others seldom send more. */
const MAX_ARGUMENTS = 1_048_576;
const MAX_NAME_BYTES = 64;
const MAX_INLINE_BYTES = 512;

const number = new NumberReader();

/**
 * What these bytes say, when a command of a client may begin there.
 *
 * @returns `yes` for an array of bulk strings whose first one is the name of a command, `likely` for one with another name and for an inline
 *   command
 */
export function probeRequest(bytes: Buffer, start: number, end: number): Detection {
  if (bytes[start] !== ARRAY) return probeInline(bytes, start, end);
  const count = number.read(bytes, start + 1, end);
  if (count === NEED_MORE) return 'maybe';
  if (count < 1 || count > MAX_ARGUMENTS) return 'no';
  const at = number.next;
  if (at === end) return 'maybe';
  if (bytes[at] !== BULK) return 'no';
  const length = number.read(bytes, at + 1, end);
  if (length === NEED_MORE) return 'maybe';
  if (length < 1 || length > MAX_NAME_BYTES) return 'no';
  const name = number.next;
  const nameEnd = name + length;
  for (let i = name; i < nameEnd && i < end; i++) if (bytes[i]! <= SPACE || bytes[i]! > 0x7e) return 'no';
  if (nameEnd + 2 > end) return 'maybe';
  if (bytes[nameEnd] !== CR || bytes[nameEnd + 1] !== LF) return 'no';
  return isKnownName(bytes, name, nameEnd) ? 'yes' : 'likely';
}

/** A line whose first word is the name of a command: many protocols have such lines. */
function probeInline(bytes: Buffer, start: number, end: number): Detection {
  let wordEnd = start;
  while (wordEnd < end && bytes[wordEnd]! > SPACE && bytes[wordEnd]! < 0x7f && wordEnd - start < MAX_NAME_BYTES)
    wordEnd++;
  if (wordEnd === start || wordEnd - start === MAX_NAME_BYTES) return 'no';
  if (wordEnd === end) return 'maybe';
  if (!isKnownName(bytes, start, wordEnd)) return 'no';
  for (let at = wordEnd; at < end && at - start < MAX_INLINE_BYTES; at++) {
    const byte = bytes[at]!;
    if (byte === LF) return 'likely';
    if (byte < SPACE && byte !== CR && byte !== 0x09) return 'no';
  }
  return end - start < MAX_INLINE_BYTES ? 'maybe' : 'no';
}

const SIMPLE_STRING = 0x2b;
const SIMPLE_ERROR = 0x2d;
/** So much of the line is looked at. */
const MAX_LINE_BYTES = 1024;
/** A simple string of a server is a word, or that of FULLRESYNC with its arguments. */
const STATUS = /^\+[A-Za-z][\w ./:-]*$/;
const ERROR = /^-[A-Z][A-Z0-9_]* /;
const NUMERIC = /^[:(][+-]?\d+$/;
const LENGTH = /^[$*%~>|!=](?:-1|\d{1,12}|\?)$/;
const WORD = /^(?:_|#[tf]|,[\w.+-]+)$/;

/** What these bytes say, when a reply of a server may begin there: at most `likely`, which asks for the other end's word, too. */
export function probeReply(bytes: Buffer, start: number, end: number): Detection {
  const first = bytes[start]!;
  if (!isReplyType(first)) return 'no';
  const limit = Math.min(end, start + MAX_LINE_BYTES);
  let lf = start;
  while (lf < limit && bytes[lf] !== LF) {
    // An error is in UTF-8; all else is in ASCII.
    if (bytes[lf]! < SPACE && bytes[lf] !== CR) return 'no';
    lf++;
  }
  if (lf === limit) return limit === end ? 'maybe' : 'no';
  if (bytes[lf - 1] !== CR) return 'no';
  const line = bytes.toString('latin1', start, lf - 1);
  if (first === SIMPLE_STRING) return STATUS.test(line) ? 'likely' : 'no';
  if (first === SIMPLE_ERROR) return ERROR.test(line) ? 'likely' : 'no';
  return NUMERIC.test(line) || LENGTH.test(line) || WORD.test(line) ? 'likely' : 'no';
}
