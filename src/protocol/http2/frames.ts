/** Frames (RFC 9113 sections 4 and 6): their numbers, and what a header may say. */
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../flow/connection.ts';
import type { Detection } from '../layer.ts';

export const FRAME_HEADER_BYTES = 9;

export const DATA = 0x0;
export const HEADERS = 0x1;
export const PRIORITY = 0x2;
export const RST_STREAM = 0x3;
export const SETTINGS = 0x4;
export const PUSH_PROMISE = 0x5;
export const PING = 0x6;
export const GOAWAY = 0x7;
export const WINDOW_UPDATE = 0x8;
export const CONTINUATION = 0x9;
/** RFC 7838 section 4, RFC 8336 section 2, RFC 9218 section 7.1. */
const ALTSVC = 0xa;
const ORIGIN = 0xc;
const PRIORITY_UPDATE = 0x10;

export const FLAG_END_STREAM = 0x1;
export const FLAG_ACK = 0x1;
export const FLAG_END_HEADERS = 0x4;
export const FLAG_PADDED = 0x8;
export const FLAG_PRIORITY = 0x20;

export const SETTINGS_MAX_FRAME_SIZE = 0x5;
/** SETTINGS_MAX_FRAME_SIZE before anything else was said (section 6.5.2). */
export const INITIAL_FRAME_BYTES = 16_384;

export const NO_ERROR = 0;
/** Section 7. */
const ERROR_NAMES = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
  'INADEQUATE_SECURITY',
  'HTTP_1_1_REQUIRED',
] as const;
/** What stands for a request that a GOAWAY without an error left out: like one that was refused, it was not processed (section 8.7). */
export const REFUSED_STREAM = 'REFUSED_STREAM';

/** @returns the name of an error code; `_OTHER` for one that the specification does not know */
export function errorName(code: number): string {
  return ERROR_NAMES[code] ?? '_OTHER';
}

/** Starts the client's stream (section 3.4). */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
const PREFACE_EVIDENCE_BYTES = 16;

/** Big-endian numbers at a place that is known to be there. */
export function uint24At(bytes: Buffer, at: number): number {
  return (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
}

export function uint32At(bytes: Buffer, at: number): number {
  return (bytes[at]! * 2 ** 24 + uint24At(bytes, at + 1)) >>> 0;
}

/** A stream identifier, without the reserved bit. */
export function streamIdAt(bytes: Buffer, at: number): number {
  return uint32At(bytes, at) & 0x7fff_ffff;
}

/** @returns whether a header breaks a rule that makes it an error of the connection; unknown types break none (section 4.1) */
export function isConnectionError(type: number, length: number, streamId: number, maxFrameBytes: number): boolean {
  if (length > maxFrameBytes) return true;
  switch (type) {
    case DATA:
    case HEADERS:
    case PRIORITY:
    case CONTINUATION:
    case PUSH_PROMISE:
      return streamId === 0;
    case RST_STREAM:
      return streamId === 0 || length !== 4;
    case SETTINGS:
      return streamId !== 0 || length % 6 !== 0;
    case PING:
      return streamId !== 0 || length !== 8;
    case GOAWAY:
      return streamId !== 0 || length < 8;
    case WINDOW_UPDATE:
      return length !== 4;
    default:
      return false;
  }
}

/**
 * Whether a frame header may begin at bytes[at], judged strictly: only types and flags that are defined, nothing that peers do not
 * send. For places where it is not known that one begins.
 *
 * @param available bytes that may be looked at; the rest of a header that is cut is taken for right
 */
export function isPlausible(bytes: Buffer, at: number, available: number, direction: Direction, most: number): boolean {
  // Beyond 64 KiB nobody goes who did not agree on it.
  if (bytes[at] !== 0 && most < 0x1_0000) return false;
  if (available < 4) return true;
  const length = uint24At(bytes, at);
  const type = bytes[at + 3]!;
  if (length > most || !lengthFits(type, length)) return false;
  if (!sends(direction, type)) return false;
  if (available < 5) return true;
  const flags = bytes[at + 4]!;
  if ((flags & ~definedFlags(type)) !== 0) return false;
  if (type === SETTINGS && (flags & FLAG_ACK) !== 0 && length !== 0) return false;
  if (type === DATA && (flags & FLAG_PADDED) !== 0 && length === 0) return false;
  // An empty DATA frame that ends nothing is what zeroes look like.
  if (type === DATA && length === 0 && flags === 0) return false;
  if (available < FRAME_HEADER_BYTES) return true;
  if ((bytes[at + 5]! & 0x80) !== 0) return false;
  const streamId = streamIdAt(bytes, at + 5);
  if ((type === HEADERS || type === CONTINUATION) && direction === FROM_CLIENT && (streamId & 1) === 0) return false;
  if (type === ALTSVC || type === WINDOW_UPDATE) return true;
  return connectionOnly(type) === (streamId === 0);
}

function sends(direction: Direction, type: number): boolean {
  switch (type) {
    case PUSH_PROMISE:
    case ALTSVC:
    case ORIGIN:
      return direction === FROM_SERVER;
    case PRIORITY_UPDATE:
      return direction === FROM_CLIENT;
    default:
      return true;
  }
}

function connectionOnly(type: number): boolean {
  return type === SETTINGS || type === PING || type === GOAWAY || type === ORIGIN || type === PRIORITY_UPDATE;
}

function lengthFits(type: number, length: number): boolean {
  switch (type) {
    case DATA:
    case ALTSVC:
    case ORIGIN:
      return true;
    case PRIORITY_UPDATE:
      return length >= 4;
    case HEADERS:
    case CONTINUATION:
      return length > 0;
    case PRIORITY:
      return length === 5;
    case RST_STREAM:
    case WINDOW_UPDATE:
      return length === 4;
    case SETTINGS:
      return length % 6 === 0;
    case PUSH_PROMISE:
      return length > 4;
    case PING:
      return length === 8;
    case GOAWAY:
      return length >= 8;
    default:
      return false;
  }
}

function definedFlags(type: number): number {
  switch (type) {
    case DATA:
      return FLAG_END_STREAM | FLAG_PADDED;
    case HEADERS:
      return FLAG_END_STREAM | FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY;
    case PUSH_PROMISE:
      return FLAG_END_HEADERS | FLAG_PADDED;
    case CONTINUATION:
      return FLAG_END_HEADERS;
    case SETTINGS:
    case PING:
      return FLAG_ACK;
    default:
      return 0;
  }
}

/** Frames in a row that are evidence enough; one less with a header block among them. */
const EVIDENCE_FRAMES = 3;

/** Whether bytes[start..end) are the client's connection preface, or frames of an HTTP/2 connection that began earlier. */
export function probeHttp2(direction: Direction, bytes: Buffer, start: number, end: number): Detection {
  if (end === start) return 'maybe';
  if (direction === FROM_CLIENT) {
    const length = Math.min(end - start, PREFACE.length);
    if (PREFACE.compare(bytes, start, start + length, 0, length) === 0) {
      return length < PREFACE_EVIDENCE_BYTES ? 'maybe' : 'yes';
    }
  }
  let evidence = 0;
  let blocks = 0;
  for (let at = start; at < end; ) {
    const available = end - at;
    if (!isPlausible(bytes, at, available, direction, INITIAL_FRAME_BYTES)) return 'no';
    if (available < FRAME_HEADER_BYTES) break;
    evidence++;
    const flags = bytes[at + 4]!;
    if (bytes[at + 3] === HEADERS && (flags & FLAG_END_HEADERS) !== 0) {
      blocks = 1;
      const first = at + FRAME_HEADER_BYTES;
      const plain = (flags & (FLAG_PADDED | FLAG_PRIORITY)) === 0;
      if (plain && first < end && sentBy(bytes[first]!) === 1 - direction) return 'no';
    }
    at += FRAME_HEADER_BYTES + uint24At(bytes, at);
  }
  return evidence + blocks >= EVIDENCE_FRAMES ? 'yes' : 'maybe';
}

/**
 * Who sends a header block that begins like this, as far as its first octet tells: pseudo-header fields come first (section 8.3),
 * and those of requests and of responses stand at different places of HPACK's static table.
 */
function sentBy(first: number): Direction | undefined {
  // Indexed: `:method` to `:scheme`, and `:status`.
  if (first >= 0x82 && first <= 0x87) return FROM_CLIENT;
  if (first >= 0x88 && first <= 0x8e) return FROM_SERVER;
  return undefined;
}
