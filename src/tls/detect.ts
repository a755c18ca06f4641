import { type Connection, type Direction, FROM_CLIENT } from '../flow/connection.ts';
import type { Detection } from '../protocol/layer.ts';
import { CLIENT_HELLO, SERVER_HELLO } from './hello.ts';
import {
  ALERT,
  APPLICATION_DATA,
  CHANGE_CIPHER_SPEC,
  HANDSHAKE,
  MAX_FRAGMENT_LENGTH,
  RECORD_HEADER_LENGTH,
} from './record-stream.ts';

/**
 * Whether the first bytes of a direction are TLS: a record with the beginning of a ClientHello or ServerHello; where the start of the
 * connection was not seen also any other record, whose successor, as far as it is there, is one too.
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
  if (first === 'no') return 'no';
  const type = bytes[start]!;
  if (type === HANDSHAKE) {
    const hello = helloAt(direction, bytes, start + RECORD_HEADER_LENGTH, end);
    if (hello !== 'no' || connection.startSeen) return hello;
  }
  if (connection.startSeen) {
    // A server that refuses answers with an alert alone.
    return type === ALERT && direction !== FROM_CLIENT ? first : 'no';
  }
  if (first === 'maybe') return 'maybe';
  const next = start + RECORD_HEADER_LENGTH + bytes.readUInt16BE(start + 3);
  return next < end && recordAt(bytes, next, end) === 'no' ? 'no' : 'yes';
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

/** The first bytes of a hello: type, length, version. */
function helloAt(direction: Direction, bytes: Buffer, at: number, end: number): Detection {
  if (at >= end) return 'maybe';
  if (bytes[at] !== (direction === FROM_CLIENT ? CLIENT_HELLO : SERVER_HELLO)) return 'no';
  if (at + 1 < end && bytes[at + 1]! > 0) return 'no'; // no hello is as long as 64 KiB
  if (at + 4 < end && bytes[at + 4] !== 3) return 'no'; // legacy_version 0x03xx
  return at + 4 < end ? 'yes' : 'maybe';
}
