import { type Connection, type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import type { Detection } from '../layer.ts';
import { FieldReader } from './fields.ts';
import { PROTOCOL_VERSION, readClientHello, readGreeting } from './handshake.ts';
import * as wire from './wire.ts';

const HEADER_BYTES = 4;
/** No greeting, and no answer to one, is longer. */
const MAX_GREETING = 512;
const MAX_HELLO = 64 * 1024;
/** Fixed fields of HandshakeResponse41, and where the 19 bytes of filler begin in it. */
const HELLO_FIXED = 32;
const HELLO_FILLER = 9;
/** Catalog of each Column Definition: always `def`, after its length. */
const DEF = 0x66656403;
/** Enough of a text to see that it is one. */
const TEXT_EVIDENCE = 64;

const fields = new FieldReader();

/**
 * What the first bytes of a direction say. A server speaks first, and its greeting cannot be mistaken; a client waits for it. Of a
 * connection whose beginning was not seen, a server's answer is evidence where a client's command is none alone.
 */
export function detectMysql(
  direction: Direction,
  bytes: Buffer,
  start: number,
  end: number,
  connection: Connection,
): Detection {
  return direction === FROM_CLIENT
    ? detectClient(bytes, start, end, connection.startSeen)
    : detectServer(bytes, start, end);
}

function detectClient(bytes: Buffer, start: number, end: number, startSeen: boolean): Detection {
  if (end - start < HEADER_BYTES) return 'maybe';
  if (bytes[start + 3] === 1) return detectHello(bytes, start, end);
  if (startSeen) return 'no';
  return isCommand(bytes, start, end) ? 'maybe' : 'no';
}

/** The greeting was lost. */
function detectHello(bytes: Buffer, start: number, end: number): Detection {
  const length = wire.packetLength(bytes, start);
  if (length < HELLO_FIXED || length > MAX_HELLO) return 'no';
  const payload = start + HEADER_BYTES;
  const known = Math.min(end, payload + HELLO_FILLER + 19);
  for (let at = payload + HELLO_FILLER; at < known; at++) if (bytes[at] !== 0) return 'no';
  if (end - payload >= 2 && (bytes.readUInt16LE(payload) & wire.CLIENT_PROTOCOL_41) === 0) return 'no';
  if (end - payload < length) return 'maybe';
  return readClientHello(fields.reset(bytes, payload, payload + length)) === undefined ? 'no' : 'yes';
}

function detectServer(bytes: Buffer, start: number, end: number): Detection {
  const available = end - start;
  // The length's upper byte is 0 in a greeting, and in the first packet of nearly every answer.
  if (available >= 3 && bytes[start + 2] !== 0) return 'no';
  if (available < HEADER_BYTES) return 'maybe';
  if (bytes[start + 3] === 1) return detectAnswer(bytes, start, end);
  if (bytes[start + 3] !== 0) return 'no';
  const length = wire.packetLength(bytes, start);
  const payload = start + HEADER_BYTES;
  if (length === 0 || length > MAX_GREETING) return 'no';
  if (payload === end) return 'maybe';
  if (bytes[payload] === wire.ERR_HEADER) return detectRefusal(bytes, payload, end, length);
  if (bytes[payload] !== PROTOCOL_VERSION) return 'no';
  if (payload + 1 < end && !isDigit(bytes[payload + 1]!)) return 'no';
  if (end - payload < length) return 'maybe';
  return readGreeting(fields.reset(bytes, payload, payload + length)) === undefined ? 'no' : 'yes';
}

/** An ERR packet in place of the greeting, such as 1040 "Too many connections" or 1130: before it is known whom the server talks to it has no SQLSTATE. */
function detectRefusal(bytes: Buffer, payload: number, end: number, length: number): Detection {
  if (end - payload < length) return 'maybe';
  if (length < 5) return 'no';
  const code = bytes.readUInt16LE(payload + 1);
  if (code < 1000 || code > 4999) return 'no';
  return isText(bytes, payload + 3, payload + length) ? 'yes' : 'no';
}

/** @returns whether bytes that begin a segment are the beginning of an answer */
export function detectAnswer(bytes: Buffer, start: number, end: number): Detection {
  if (end - start < HEADER_BYTES) return 'maybe';
  const length = wire.packetLength(bytes, start);
  const payload = start + HEADER_BYTES;
  if (bytes[start + 3] !== 1 || length === 0) return 'no';
  if (payload >= end) return 'maybe';
  const first = bytes[payload]!;
  const whole = end - payload >= length;
  if (first === wire.ERR_HEADER) {
    if (length < 9) return 'no';
    if (end - payload < 9) return 'maybe';
    return bytes[payload + 3] === 0x23 && isState(bytes, payload + 4) ? 'yes' : 'no';
  }
  if (first === wire.OK_HEADER) {
    if (length < 7) return 'no';
    if (!whole) return 'maybe';
    return isOk(bytes, payload, payload + length, end) ? 'yes' : 'no';
  }
  // A column count, then the first Column Definition.
  if (first >= wire.LOCAL_INFILE_HEADER || length > 4) return 'no';
  const second = payload + length;
  if (end - second < HEADER_BYTES + 4) return 'maybe';
  return bytes[second + 3] === 2 && bytes.readUInt32LE(second + HEADER_BYTES) === DEF ? 'yes' : 'no';
}

/** OK_Packet, or COM_STMT_PREPARE_OK with the definitions that follow it. */
function isOk(bytes: Buffer, start: number, packetEnd: number, end: number): boolean {
  if (packetEnd - start === 12 && bytes[start + 9] === 0) {
    if (end - packetEnd < HEADER_BYTES + 4) return packetEnd === end && bytes.readUInt32LE(start + 5) === 0;
    if (bytes[packetEnd + 3] === 2 && bytes.readUInt32LE(packetEnd + HEADER_BYTES) === DEF) return true;
  }
  if (packetEnd !== end) return false;
  fields.reset(bytes, start + 1, packetEnd);
  fields.lengthEncoded();
  fields.lengthEncoded();
  const status = fields.u16();
  fields.u16();
  if (fields.failed) return false;
  // Autocommit or a transaction: a session that is neither is rare enough to be joined later.
  if ((status & 0x0003) === 0) return false;
  return fields.remaining === 0 || (fields.skipString() && !fields.failed) || isText(bytes, fields.position, packetEnd);
}

/**
 * @returns whether bytes that begin a segment are one whole command, or the beginning of a long one. What may be said of a connection whose
 * capabilities are not known.
 */
export function isCommand(bytes: Buffer, start: number, end: number): boolean {
  const available = end - start - HEADER_BYTES;
  if (available < 1 || bytes[start + 3] !== 0) return false;
  const length = wire.packetLength(bytes, start);
  const payload = start + HEADER_BYTES;
  if (length > available) {
    const long =
      bytes[payload] === wire.COM_QUERY ||
      bytes[payload] === wire.COM_STMT_PREPARE ||
      bytes[payload] === wire.COM_STMT_EXECUTE;
    if (!long || length < 512) return false;
  } else if (length < available || length === 0) return false;
  switch (bytes[payload]) {
    case wire.COM_QUERY:
      return isStatementText(bytes, payload + 1, end, true);
    case wire.COM_STMT_PREPARE:
      return isStatementText(bytes, payload + 1, end, false);
    case wire.COM_STMT_EXECUTE:
      // statement_id, flags, iteration_count: always 1
      return available >= 10 && bytes[payload + 5]! <= 0x0f && bytes.readUInt32LE(payload + 6) === 1;
    case wire.COM_STMT_FETCH:
      return length === 9;
    case wire.COM_STMT_RESET:
    case wire.COM_STMT_CLOSE:
      return length === 5;
    case wire.COM_INIT_DB:
      return length > 1 && length <= 257 && isText(bytes, payload + 1, end);
    case wire.COM_PING:
    case wire.COM_STATISTICS:
    case wire.COM_RESET_CONNECTION:
      return length === 1;
    case wire.COM_SET_OPTION:
      return length === 3;
    default:
      return false;
  }
}

/** Begins as a statement does: a word, a comment, a bracket; without control characters but white space. */
function isStatementText(bytes: Buffer, start: number, end: number, mayHaveAttributes: boolean): boolean {
  let at = start;
  // No attributes, one set of them.
  if (mayHaveAttributes && bytes[at] === 0 && bytes[at + 1] === 1) at += 2;
  while (at < end && isSpace(bytes[at]!)) at++;
  if (at >= end) return false;
  const first = bytes[at]!;
  const letter = (first | 0x20) >= 0x61 && (first | 0x20) <= 0x7a;
  if (!letter && first !== 0x28 && first !== 0x2f && first !== 0x2d && first !== 0x23) return false;
  return isText(bytes, at, Math.min(end, at + TEXT_EVIDENCE));
}

function isText(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    if ((byte < 0x20 && !isSpace(byte)) || byte === 0x7f) return false;
  }
  return true;
}

/** SQLSTATE: five digits and upper-case letters. */
function isState(bytes: Buffer, start: number): boolean {
  for (let at = start; at < start + 5; at++) {
    const byte = bytes[at]!;
    if (!isDigit(byte) && !(byte >= 0x41 && byte <= 0x5a)) return false;
  }
  return true;
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
