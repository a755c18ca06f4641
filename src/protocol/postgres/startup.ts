/**
 * The packets that begin a connection: they have a length and a code, but no type ("Message Formats": StartupMessage, SSLRequest,
 * GSSENCRequest, CancelRequest).
 */
import type { Detection } from '../layer.ts';

const CANCEL_REQUEST_CODE = 80_877_102;
const SSL_REQUEST_CODE = 80_877_103;
const GSSENC_REQUEST_CODE = 80_877_104;
const MAJOR_VERSION = 3;

export const PACKET_HEADER_BYTES = 8;
/** MAX_STARTUP_PACKET_LENGTH of the server. */
export const MAX_PACKET_BYTES = 10_000;
/** Process id, and a key of 4 bytes, or of up to 256 in protocol 3.2. */
const CANCEL_LEAST_BYTES = 16;
const CANCEL_MOST_BYTES = 12 + 256;

export type PacketKind = 'startup' | 'ssl' | 'gssenc' | 'cancel';

/** @returns what a packet is by its first 8 bytes, `undefined` when it is none of these */
export function packetKind(bytes: Buffer, start: number): PacketKind | undefined {
  const length = bytes.readUInt32BE(start);
  const code = bytes.readUInt32BE(start + 4);
  switch (code) {
    case SSL_REQUEST_CODE:
      return length === PACKET_HEADER_BYTES ? 'ssl' : undefined;
    case GSSENC_REQUEST_CODE:
      return length === PACKET_HEADER_BYTES ? 'gssenc' : undefined;
    case CANCEL_REQUEST_CODE:
      return length >= CANCEL_LEAST_BYTES && length <= CANCEL_MOST_BYTES ? 'cancel' : undefined;
    default:
      return code >>> 16 === MAJOR_VERSION && length > PACKET_HEADER_BYTES && length <= MAX_PACKET_BYTES
        ? 'startup'
        : undefined;
  }
}

/** Calls back with each parameter of a StartupMessage whose body, after the version, is bytes[start..end). */
export function readParameters(
  bytes: Buffer,
  start: number,
  end: number,
  parameter: (name: string, value: string) => void,
): void {
  let position = start;
  while (position < end && bytes[position] !== 0) {
    const nameEnd = bytes.indexOf(0, position);
    if (nameEnd < 0 || nameEnd >= end) return;
    const valueEnd = bytes.indexOf(0, nameEnd + 1);
    if (valueEnd < 0 || valueEnd >= end) return;
    parameter(bytes.toString('utf8', position, nameEnd), bytes.toString('utf8', nameEnd + 1, valueEnd));
    position = valueEnd + 1;
  }
}

/**
 * The value of a setting in the `options` parameter: `-c name=value`, `-cname=value` or `--name=value`, words parted by white space
 * that no backslash stands before. The last one counts.
 */
export function optionOf(options: string, wanted: string): string | undefined {
  const words = options.match(/(?:\\.|[^\\\s])+/gs) ?? [];
  let found: string | undefined;
  for (let i = 0; i < words.length; i++) {
    let word = words[i]!.replace(/\\(.)/gs, '$1');
    if (word === '-c') word = (words[++i] ?? '').replace(/\\(.)/gs, '$1');
    else if (word.startsWith('--')) word = word.slice(2);
    else if (word.startsWith('-c')) word = word.slice(2);
    else continue;
    const equals = word.indexOf('=');
    // Dashes stand for underscores in names (ParseLongOption).
    if (equals > 0 && word.slice(0, equals).replaceAll('-', '_').toLowerCase() === wanted)
      found = word.slice(equals + 1);
  }
  return found;
}

/** Whether bytes[start..end) begin a connection of PostgreSQL's. */
export function probePacket(bytes: Buffer, start: number, end: number): Detection {
  const available = end - start;
  if (available < PACKET_HEADER_BYTES) return couldBeHeader(bytes, start, available) ? 'maybe' : 'no';
  const kind = packetKind(bytes, start);
  if (kind === undefined) return 'no';
  if (kind !== 'startup') return 'yes';
  return probeParameters(bytes, start + PACKET_HEADER_BYTES, Math.min(end, start + bytes.readUInt32BE(start)), end);
}

function couldBeHeader(bytes: Buffer, start: number, available: number): boolean {
  if (available > 0 && bytes[start] !== 0) return false;
  if (available > 1 && bytes[start + 1] !== 0) return false;
  if (available <= 4) return true;
  const first = bytes[start + 4]!;
  if (first === 0) return available < 6 || bytes[start + 5] === MAJOR_VERSION;
  return first === 0x04 && (available < 6 || bytes[start + 5] === 0xd2);
}

/** Names are words, `user` is among them (mandatory), and a NUL ends the list with the packet. */
function probeParameters(bytes: Buffer, start: number, packetEnd: number, end: number): Detection {
  let position = start;
  let isName = true;
  let user = false;
  while (position < packetEnd) {
    const stringEnd = bytes.indexOf(0, position);
    if (stringEnd < 0 || stringEnd >= packetEnd) return isName && !isWord(bytes, position, packetEnd) ? 'no' : 'maybe';
    if (isName) {
      if (stringEnd === position) return user && position + 1 === packetEnd ? 'yes' : 'no';
      if (!isWord(bytes, position, stringEnd)) return 'no';
      user ||= bytes.toString('latin1', position, stringEnd) === 'user';
    }
    isName = !isName;
    position = stringEnd + 1;
  }
  return packetEnd === end ? 'maybe' : 'no';
}

/** Settings of extensions have a dot; `_pq_.` begins options of the protocol. */
function isWord(bytes: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const c = bytes[i]!;
    const letter = (c | 0x20) >= 0x61 && (c | 0x20) <= 0x7a;
    const other = (c >= 0x30 && c <= 0x39) || c === 0x5f || c === 0x2e || c === 0x2d;
    if (!letter && !other) return false;
  }
  return true;
}
