import { type Connection, type Direction, FROM_CLIENT } from '../flow/connection.ts';
import type { Detection } from '../protocol/layer.ts';
import { CLIENT_HELLO, SERVER_HELLO } from './hello.ts';
import { detectHello2 } from './hello2.ts';
import {
  ALERT,
  APPLICATION_DATA,
  CHANGE_CIPHER_SPEC,
  HANDSHAKE,
  MAX_FRAGMENT_LENGTH,
  RECORD_HEADER_LENGTH,
} from './record-stream.ts';

/** Of a hello: type, length, and the first byte of its version. */
const HELLO_START_LENGTH = 5;

/**
 * Whether the first bytes of a direction are TLS: the records with the beginning of a ClientHello or ServerHello, however it is cut into records;
 * where the start of the connection was not seen also any other record, whose successor, as far as it is there, is one too.
 *
 * A server's alert alone is no evidence: servers answer so what is no ClientHello, such as a probe that only connects. It is in keeping with a
 * ClientHello that was seen before it.
 */
export function detectTls(
  direction: Direction,
  bytes: Buffer,
  start: number,
  end: number,
  connection: Connection,
): Detection {
  if (end <= start) return 'maybe';
  const first = recordAt(bytes, start, end);
  if (first === 'no') return direction === FROM_CLIENT && connection.startSeen ? detectHello2(bytes, start, end) : 'no';
  const type = bytes[start]!;
  if (type === HANDSHAKE) {
    const hello = helloAt(direction, bytes, start, end);
    if (hello !== 'no' || connection.startSeen) return hello;
  }
  if (connection.startSeen) return type === ALERT && direction !== FROM_CLIENT ? 'maybe' : 'no';
  if (first === 'maybe' || isAlertAlone(bytes, start, end)) return 'maybe';
  const next = start + RECORD_HEADER_LENGTH + bytes.readUInt16BE(start + 3);
  return next < end && recordAt(bytes, next, end) === 'no' ? 'no' : 'yes';
}

/** Whether all that there is is one alert that is not encrypted (RFC 8446 6): a record of two bytes, or the beginning of one. */
export function isAlertAlone(bytes: Buffer, start: number, end: number): boolean {
  if (end - start > RECORD_HEADER_LENGTH + 2 || bytes[start] !== ALERT || recordAt(bytes, start, end) === 'no')
    return false;
  return end - start < RECORD_HEADER_LENGTH || bytes.readUInt16BE(start + 3) === 2;
}

/** A record header of RFC 8446 5.1, or as much of one as there is. */
function recordAt(bytes: Buffer, at: number, end: number): Detection {
  const type = bytes[at]!;
  if (type < CHANGE_CIPHER_SPEC || type > APPLICATION_DATA) return 'no';
  if (at + 1 < end && bytes[at + 1] !== 3) return 'no';
  if (at + 2 < end && bytes[at + 2]! > 4) return 'no';
  if (at + RECORD_HEADER_LENGTH > end) return 'maybe';
  const length = bytes.readUInt16BE(at + 3);
  if (length > MAX_FRAGMENT_LENGTH || (length === 0 && type !== APPLICATION_DATA)) return 'no';
  if (type === CHANGE_CIPHER_SPEC && length !== 1) return 'no';
  return 'yes';
}

/** The first bytes of a hello, from the record at `at` on: RFC 8446 5.1 lets a message begin in one record and go on in the next. */
function helloAt(direction: Direction, bytes: Buffer, at: number, end: number): Detection {
  let seen = 0;
  for (;;) {
    if (at >= end) return 'maybe';
    const record = recordAt(bytes, at, end);
    if (record === 'no' || bytes[at] !== HANDSHAKE) return 'no';
    if (record === 'maybe') return 'maybe';
    const next = at + RECORD_HEADER_LENGTH + bytes.readUInt16BE(at + 3);
    for (let i = at + RECORD_HEADER_LENGTH; i < next; i++) {
      if (i >= end) return 'maybe';
      if (!fitsHello(direction, seen++, bytes[i]!)) return 'no';
      if (seen === HELLO_START_LENGTH) return 'yes';
    }
    at = next;
  }
}

function fitsHello(direction: Direction, index: number, byte: number): boolean {
  switch (index) {
    case 0:
      return byte === (direction === FROM_CLIENT ? CLIENT_HELLO : SERVER_HELLO);
    case 1:
      return byte === 0; // no hello is as long as 64 KiB
    case 4:
      return byte === 3; // legacy_version 0x03xx
    default:
      return true;
  }
}
