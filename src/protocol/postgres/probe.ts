/**
 * Whether bytes are messages of PostgreSQL's, where nothing but the bytes tells: to recognise a connection that is older than the
 * capture, and to find the way back after a hole. Bodies are looked at in full, so that nothing else is taken for it.
 */
import type { Detection } from '../layer.ts';
import {
  AUTHENTICATION,
  AUTHENTICATION_RESPONSE,
  BACKEND_KEY_DATA,
  BIND,
  backendMessages,
  CLOSE,
  COMMAND_COMPLETE,
  COPY_BOTH_RESPONSE,
  COPY_DATA,
  COPY_FAIL,
  COPY_IN_RESPONSE,
  COPY_OUT_RESPONSE,
  DATA_ROW,
  DESCRIBE,
  ERROR_RESPONSE,
  EXECUTE,
  FUNCTION_CALL,
  frontendMessages,
  HEADER_BYTES,
  type MessageTable,
  NOTICE_RESPONSE,
  NOTIFICATION_RESPONSE,
  PARAMETER_DESCRIPTION,
  PARAMETER_STATUS,
  PARSE,
  QUERY,
  READY_FOR_QUERY,
  READY_FOR_QUERY_BYTES,
  ROW_DESCRIPTION,
} from './messages.ts';

/** The server may send a larger one; as the first that is seen it is too rare to be believed. */
const MAX_BELIEVED_LENGTH = 0xffffff;
const SURE = 2;
/** MaxTupleAttributeNumber. */
const MAX_COLUMNS = 1664;

const frontend = frontendMessages(0);

/** @returns how much a whole body says for PostgreSQL: 0 nothing, SURE all that is needed; -1 it cannot be one */
type Judge = (type: number, bytes: Buffer, start: number, end: number) => number;

/** Whether messages of a client begin at `start`. */
export function probeFrontend(bytes: Buffer, start: number, end: number): Detection {
  return probe(bytes, start, end, frontend, judgeFrontend);
}

/** Whether messages of a server begin at `start`. */
export function probeBackend(bytes: Buffer, start: number, end: number): Detection {
  const verdict = probe(bytes, start, end, backendMessages, judgeBackend);
  return verdict === 'yes' && !endsWithReady(bytes, start, end) ? 'maybe' : verdict;
}

/** Whether the last message is ReadyForQuery, wherever it begins: a server sends at once what ends with it. */
export function endsWithReady(bytes: Buffer, start: number, end: number): boolean {
  const at = end - READY_FOR_QUERY_BYTES;
  return at >= start && bytes[at] === READY_FOR_QUERY && bytes.readUInt32BE(at + 1) === 5 && isStatus(bytes[at + 5]!);
}

/** COMPLETION_TAG_BUFSIZE. */
const MAX_TAG_BYTES = 64;

/** @returns where the CommandComplete begins that stands right before the ReadyForQuery at the end, -1 when none does */
export function lastCompletion(bytes: Buffer, start: number, end: number): number {
  const ready = end - READY_FOR_QUERY_BYTES;
  for (let size = 2; size <= MAX_TAG_BYTES; size++) {
    const at = ready - size - HEADER_BYTES;
    if (at < start) return -1;
    if (bytes[at] !== COMMAND_COMPLETE || bytes.readUInt32BE(at + 1) !== size + 4) continue;
    if (judgeBackend(COMMAND_COMPLETE, bytes, at + HEADER_BYTES, ready) > 0) return at;
  }
  return -1;
}

function probe(bytes: Buffer, start: number, end: number, table: MessageTable, judge: Judge): Detection {
  let position = start;
  let evidence = 0;
  while (position < end) {
    const type = bytes[position]!;
    if (table.maxLength[type] === 0) return 'no';
    if (end - position < HEADER_BYTES) return 'maybe';
    const length = bytes.readUInt32BE(position + 1);
    if (length < 4 || length > table.maxLength[type]! || length > MAX_BELIEVED_LENGTH) return 'no';
    const body = position + HEADER_BYTES;
    const next = position + 1 + length;
    if (next > end) {
      if (table === frontend ? !mayBeRequest(type, bytes, body, end) : !mayBeAnswer(type, bytes, body, end))
        return 'no';
      return evidence > SURE ? 'yes' : 'maybe';
    }
    const says = judge(type, bytes, body, next);
    if (says < 0) return 'no';
    evidence += says;
    position = next;
  }
  return evidence >= SURE ? 'yes' : 'maybe';
}

/** Of a message only the beginning of its body is there. */
function mayBeRequest(type: number, bytes: Buffer, start: number, end: number): boolean {
  return (type !== QUERY && type !== PARSE) || isText(bytes, start, end);
}

function mayBeAnswer(type: number, bytes: Buffer, start: number, end: number): boolean {
  if (type !== DATA_ROW && type !== ROW_DESCRIPTION) return true;
  return end - start < 2 || bytes.readUInt16BE(start) <= MAX_COLUMNS;
}

function judgeFrontend(type: number, bytes: Buffer, start: number, end: number): number {
  switch (type) {
    case QUERY: {
      const textEnd = bytes.indexOf(0, start);
      if (textEnd !== end - 1 || !isText(bytes, start, textEnd)) return -1;
      return textEnd > start ? SURE : 0;
    }
    case PARSE: {
      const nameEnd = bytes.indexOf(0, start);
      const textEnd = bytes.indexOf(0, nameEnd + 1);
      if (nameEnd < 0 || textEnd < 0 || textEnd + 3 > end || !isText(bytes, start, textEnd)) return -1;
      return textEnd + 3 + 4 * bytes.readUInt16BE(textEnd + 1) === end ? SURE : -1;
    }
    case BIND:
      return isBind(bytes, start, end) ? 1 : -1;
    case DESCRIBE:
    case CLOSE: {
      const what = bytes[start];
      return (what === 0x53 || what === 0x50) && bytes.indexOf(0, start) === end - 1 ? 1 : -1;
    }
    case EXECUTE:
      return bytes.indexOf(0, start) === end - 5 && isText(bytes, start, end - 5) ? 1 : -1;
    case COPY_FAIL:
      return bytes.indexOf(0, start) === end - 1 ? 0 : -1;
    case COPY_DATA:
    case AUTHENTICATION_RESPONSE:
      return 0;
    case FUNCTION_CALL:
      return end - start >= 10 ? 0 : -1;
    default:
      return 1;
  }
}

function judgeBackend(type: number, bytes: Buffer, start: number, end: number): number {
  switch (type) {
    case READY_FOR_QUERY:
      return end - start === 1 && isStatus(bytes[start]!) ? SURE : -1;
    case COMMAND_COMPLETE: {
      const first = bytes[start]!;
      return first >= 0x41 && first <= 0x5a && bytes.indexOf(0, start) === end - 1 && isText(bytes, start, end - 1)
        ? 1
        : -1;
    }
    case DATA_ROW:
      return isRow(bytes, start, end) ? 1 : -1;
    case ROW_DESCRIPTION:
      return isRowDescription(bytes, start, end) ? 1 : -1;
    case ERROR_RESPONSE:
    case NOTICE_RESPONSE:
      return isFields(bytes, start, end) ? 1 : -1;
    case PARAMETER_STATUS:
      return isStrings(bytes, start, end, 2) ? 1 : -1;
    case NOTIFICATION_RESPONSE:
      return isStrings(bytes, start + 4, end, 2) ? 1 : -1;
    case PARAMETER_DESCRIPTION:
      return end - start >= 2 && end - start === 2 + 4 * bytes.readUInt16BE(start) ? 1 : -1;
    case COPY_IN_RESPONSE:
    case COPY_OUT_RESPONSE:
    case COPY_BOTH_RESPONSE:
      return end - start >= 3 && bytes[start]! <= 1 && end - start === 3 + 2 * bytes.readUInt16BE(start + 1) ? 1 : -1;
    case AUTHENTICATION:
      return end - start >= 4 && bytes.readUInt32BE(start) <= 12 ? 0 : -1;
    case BACKEND_KEY_DATA:
      return end - start >= 8 ? 0 : -1;
    default:
      return 0;
  }
}

function isStatus(status: number): boolean {
  return status === 0x49 || status === 0x54 || status === 0x45;
}

const TEXT_BYTES_LOOKED_AT = 256;

/** No control characters but white space, and NUL where it parts strings. */
function isText(bytes: Buffer, start: number, end: number): boolean {
  const last = Math.min(end, start + TEXT_BYTES_LOOKED_AT);
  for (let i = start; i < last; i++) {
    const c = bytes[i]!;
    if (c < 0x20 && c !== 0 && (c < 0x09 || c > 0x0d)) return false;
  }
  return true;
}

/** Two strings, format codes, values with their lengths, format codes of the result. */
function isBind(bytes: Buffer, start: number, end: number): boolean {
  const portalEnd = bytes.indexOf(0, start);
  const nameEnd = bytes.indexOf(0, portalEnd + 1);
  if (portalEnd < 0 || nameEnd < 0 || nameEnd + 3 > end) return false;
  let position = nameEnd + 3 + 2 * bytes.readUInt16BE(nameEnd + 1);
  if (position + 2 > end) return false;
  const values = bytes.readUInt16BE(position);
  position += 2;
  for (let i = 0; i < values; i++) {
    position = valueEnd(bytes, position, end);
    if (position < 0) return false;
  }
  return position + 2 <= end && position + 2 + 2 * bytes.readUInt16BE(position) === end;
}

function isRow(bytes: Buffer, start: number, end: number): boolean {
  if (end - start < 2) return false;
  const columns = bytes.readUInt16BE(start);
  let position = start + 2;
  for (let i = 0; i < columns; i++) {
    position = valueEnd(bytes, position, end);
    if (position < 0) return false;
  }
  return position === end;
}

/** A length, -1 for NULL, and so many bytes. @returns -1 when it does not fit */
function valueEnd(bytes: Buffer, position: number, end: number): number {
  if (position + 4 > end) return -1;
  const length = bytes.readInt32BE(position);
  const next = position + 4 + Math.max(0, length);
  return length < -1 || next > end ? -1 : next;
}

/** For each column a name and 18 bytes. */
function isRowDescription(bytes: Buffer, start: number, end: number): boolean {
  if (end - start < 2) return false;
  const columns = bytes.readUInt16BE(start);
  let position = start + 2;
  for (let i = 0; i < columns; i++) {
    const nameEnd = bytes.indexOf(0, position);
    if (nameEnd < 0 || nameEnd + 19 > end) return false;
    position = nameEnd + 19;
  }
  return position === end;
}

/** Letters, each with a string, then a NUL. */
function isFields(bytes: Buffer, start: number, end: number): boolean {
  let position = start;
  while (position < end - 1) {
    const field = bytes[position]! | 0x20;
    if (field < 0x61 || field > 0x7a) return false;
    const stringEnd = bytes.indexOf(0, position + 1);
    if (stringEnd < 0 || stringEnd >= end) return false;
    position = stringEnd + 1;
  }
  return position === end - 1 && bytes[position] === 0 && position > start;
}

function isStrings(bytes: Buffer, start: number, end: number, number: number): boolean {
  let position = start;
  for (let i = 0; i < number; i++) {
    const stringEnd = bytes.indexOf(0, position);
    if (stringEnd < 0 || stringEnd >= end) return false;
    position = stringEnd + 1;
  }
  return position === end;
}
