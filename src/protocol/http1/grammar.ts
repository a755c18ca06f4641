/** The grammar of HTTP/1.1 messages that is needed to find their parts (RFC 9110 section 5.6, RFC 9112 sections 2 to 4). */
import type { Detection } from '../layer.ts';

export const LF = 0x0a;
export const CR = 0x0d;
export const SP = 0x20;
export const HT = 0x09;
export const COLON = 0x3a;

/** tchar of RFC 9110 section 5.6.2: 1 where the byte may stand in a token. */
const TOKEN = new Uint8Array(256);
for (const c of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
  TOKEN[c.charCodeAt(0)] = 1;

export function isToken(bytes: Buffer, start: number, end: number): boolean {
  if (start >= end) return false;
  for (let i = start; i < end; i++) if (TOKEN[bytes[i]!] === 0) return false;
  return true;
}

export function isBlank(byte: number | undefined): boolean {
  return byte === SP || byte === HT;
}

/** The most common methods first: strings that are not made again and again. Then the others of IANA's registry, and two of caches and UPnP. */
const METHODS = [
  ...['GET', 'POST', 'PUT', 'HEAD', 'DELETE', 'PATCH', 'OPTIONS', 'CONNECT', 'TRACE', 'PROPFIND', 'REPORT'],
  ...['ACL', 'BASELINE-CONTROL', 'BIND', 'CHECKIN', 'CHECKOUT', 'COPY', 'LABEL', 'LINK', 'LOCK', 'MERGE', 'MKACTIVITY'],
  ...['MKCALENDAR', 'MKCOL', 'MKREDIRECTREF', 'MKWORKSPACE', 'MOVE', 'ORDERPATCH', 'PROPPATCH', 'QUERY', 'REBIND'],
  ...['SEARCH', 'UNBIND', 'UNCHECKOUT', 'UNLINK', 'UNLOCK', 'UPDATE', 'UPDATEREDIRECTREF', 'VERSION-CONTROL'],
  ...['PURGE', 'NOTIFY', 'SUBSCRIBE', 'UNSUBSCRIBE', 'M-SEARCH'],
];

/** @returns whether bytes[start..end) are the characters of `text` (ASCII) */
export function equalsAscii(bytes: Buffer, start: number, end: number, text: string): boolean {
  if (end - start !== text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[start + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** The method in bytes[start..end), without a new string for a known one; `undefined` when it is not a token. */
export function methodAt(bytes: Buffer, start: number, end: number): string | undefined {
  for (const method of METHODS) if (equalsAscii(bytes, start, end, method)) return method;
  return isToken(bytes, start, end) ? bytes.toString('latin1', start, end) : undefined;
}

/**
 * HTTP-version of major version 1 (RFC 9112 section 2.3; case-sensitive) in the eight bytes at `at`.
 *
 * @returns the minor version, -1 when there is none
 */
export function minorVersionAt(bytes: Buffer, at: number): number {
  if (
    bytes[at] !== 0x48 ||
    bytes[at + 1] !== 0x54 ||
    bytes[at + 2] !== 0x54 ||
    bytes[at + 3] !== 0x50 ||
    bytes[at + 4] !== 0x2f ||
    bytes[at + 5] !== 0x31 ||
    bytes[at + 6] !== 0x2e
  ) {
    return -1;
  }
  const minor = bytes[at + 7]! - 0x30;
  return minor >= 0 && minor <= 9 ? minor : -1;
}

const VERSIONS = ['1.0', '1.1', '1.2', '1.3', '1.4', '1.5', '1.6', '1.7', '1.8', '1.9'];
export const VERSION_LENGTH = 8;

/** @returns empty when no digit stood in its place */
export function versionOf(minor: number): string {
  return VERSIONS[minor] ?? '';
}

/**
 * Content-Length, one field or several joined by commas (RFC 9110 section 8.6: equal values count as one).
 *
 * @returns bytes, -1 when the value is invalid or its members differ
 */
export function parseContentLength(text: string): number {
  let length = -1;
  for (let at = 0; at <= text.length; ) {
    const comma = text.indexOf(',', at);
    const member = (comma < 0 ? text.slice(at) : text.slice(at, comma)).trim();
    const value = parseDigits(member);
    if (value < 0 || (length >= 0 && length !== value)) return -1;
    length = value;
    if (comma < 0) break;
    at = comma + 1;
  }
  return length;
}

function parseDigits(text: string): number {
  if (text.length === 0) return -1;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
    if (value > Number.MAX_SAFE_INTEGER) return -1;
  }
  return value;
}

/** What Transfer-Encoding says of the framing (RFC 9112 section 6.1). */
export type TransferCoding =
  /** Nothing: no field, or only the `identity` that RFC 2616 knew. */
  | 'none'
  /** `chunked` is the last coding. */
  | 'chunked'
  /** Some other coding is the last one: it does not give the length. */
  | 'other';

export function parseTransferEncoding(text: string): TransferCoding {
  if (text === 'chunked') return 'chunked';
  let coding: TransferCoding = 'none';
  for (const member of text.toLowerCase().split(',')) {
    const name = member.split(';', 1)[0]!.trim();
    if (name === 'chunked') coding = 'chunked';
    else if (name !== '' && name !== 'identity') coding = 'other';
  }
  return coding;
}

/** A method this long is none, though a token may have any length. */
const METHOD_LENGTH_MAX = 256;
/** A method and this many bytes of a target are enough, so that a target of any length is recognised. */
const TARGET_EVIDENCE_BYTES = 1024;
/** The same of a known method where HTTP was spoken before. */
const TARGET_EVIDENCE_BYTES_KNOWN = 128;

const SLASH = 0x2f;
const DEL = 0x7f;

/** Where the parts of a request line lie, as findRequestLine() last found them. */
export const requestLine = {
  methodEnd: 0,
  targetStart: 0,
  targetEnd: 0,
  /** -1: no digit follows `HTTP/1.`. */
  minor: -1,
  /** Bytes stand in the target that no target may have. */
  hasControls: false,
};

/** What findRequestLine() says: the line is as RFC 9112 has it, or so that servers read it nevertheless. */
export const LINE_NONE = 0;
export const LINE_DOUBTFUL = 1;
export const LINE_SURE = 2;

/**
 * Finds the parts of request-line = method SP request-target SP HTTP-version (RFC 9112 section 3) in bytes[start..lineEnd), which has
 * no line end.
 *
 * Servers read more than that, and answer what they do not read: blanks of any kind and number stand between the words (section 3
 * allows it), and a target with blanks in it is kept whole. Behind `HTTP/1.` anything may stand. A target with control characters, which
 * servers refuse by a status, is doubtful: a status line has to confirm it.
 */
export function findRequestLine(
  bytes: Buffer,
  start: number,
  lineEnd: number,
): typeof LINE_NONE | typeof LINE_DOUBTFUL | typeof LINE_SURE {
  let end = lineEnd;
  while (end > start && (isBlank(bytes[end - 1]) || bytes[end - 1] === CR)) end--;
  let methodEnd = start;
  while (methodEnd < end && TOKEN[bytes[methodEnd]!] === 1) methodEnd++;
  if (methodEnd === start || !isBlank(bytes[methodEnd])) return LINE_NONE;
  let targetStart = methodEnd;
  while (isBlank(bytes[targetStart])) targetStart++;
  const line = requestLine;
  // As nearly all lines have it.
  let versionStart = end - VERSION_LENGTH;
  line.minor =
    versionStart > targetStart && isBlank(bytes[versionStart - 1]) ? minorVersionAt(bytes, versionStart) : -1;
  if (line.minor < 0) {
    versionStart = end;
    while (versionStart > targetStart && !isBlank(bytes[versionStart - 1])) versionStart--;
    if (!equalsAscii(bytes, versionStart, Math.min(versionStart + 7, end), 'HTTP/1.')) return LINE_NONE;
    if (versionStart + VERSION_LENGTH <= end) line.minor = minorVersionAt(bytes, versionStart);
  }
  line.methodEnd = methodEnd;
  line.targetStart = targetStart;
  let targetEnd = versionStart;
  while (targetEnd > targetStart && isBlank(bytes[targetEnd - 1])) targetEnd--;
  if (targetEnd === targetStart) return LINE_NONE;
  line.targetEnd = targetEnd;
  line.hasControls = false;
  for (let i = targetStart; i < targetEnd; i++) {
    const c = bytes[i]!;
    if (c < SP || c === DEL) line.hasControls = true;
  }
  return line.hasControls ? LINE_DOUBTFUL : LINE_SURE;
}

/** bytes[start..end) as latin1, with control characters as a URI has them (RFC 3986 section 2.1). */
export function withoutControls(bytes: Buffer, start: number, end: number): string {
  return (
    bytes
      .toString('latin1', start, end)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      .replace(/[\x00-\x1f\x7f]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0').toUpperCase()}`)
  );
}

/**
 * Whether bytes[start..end) begin with a request line of HTTP/1.x; `maybe`, too, where it takes a status line to say so.
 *
 * @param knownMethodsOnly where the bytes may begin inside a request line, since the rest of a method is a token as well; and only what is
 *   sure then
 */
export function probeRequest(bytes: Buffer, start: number, end: number, knownMethodsOnly = false): Detection {
  let at = start;
  // RFC 9112 section 2.2: empty lines before a request line are ignored.
  while (at < end && (bytes[at] === CR || bytes[at] === LF)) at++;
  const methodStart = at;
  while (at < end && TOKEN[bytes[at]!] === 1) at++;
  const methodEnd = at;
  if (methodEnd - methodStart > METHOD_LENGTH_MAX) return 'no';
  if (at === end) return 'maybe';
  if (methodEnd === methodStart || !isBlank(bytes[at])) return 'no';
  const known = isKnownMethod(bytes, methodStart, methodEnd);
  if (knownMethodsOnly && !known) return 'no';
  let hasControls = false;
  for (at++; at < end && bytes[at] !== LF; at++) {
    const c = bytes[at]!;
    if (c < SP && c !== HT && c !== CR) hasControls = true;
  }
  // Controls speak of another protocol, unless a method or a version speaks against that.
  if (hasControls && knownMethodsOnly) return 'no';
  if (at === end) {
    if (hasControls) return known ? 'maybe' : 'no';
    return at - methodEnd > (knownMethodsOnly ? TARGET_EVIDENCE_BYTES_KNOWN : TARGET_EVIDENCE_BYTES) &&
      looksLikeTarget(bytes, methodEnd, end)
      ? 'yes'
      : 'maybe';
  }
  const line = findRequestLine(bytes, methodStart, at);
  if (line === LINE_SURE) return 'yes';
  return line === LINE_DOUBTFUL && !knownMethodsOnly ? 'maybe' : 'no';
}

/** Whether what follows a method begins like a path or a URI, rather than like the argument of some other command. */
function looksLikeTarget(bytes: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end && isBlank(bytes[at])) at++;
  if (bytes[at] === SLASH) return true;
  while (at < end && TOKEN[bytes[at]!] === 1) at++;
  return bytes[at] === COLON && bytes[at + 1] === SLASH && bytes[at + 2] === SLASH;
}

function isKnownMethod(bytes: Buffer, start: number, end: number): boolean {
  for (const method of METHODS) if (equalsAscii(bytes, start, end, method)) return true;
  return false;
}

/** `HTTP/1.1 200` and what delimits it. */
const STATUS_EVIDENCE_BYTES = 13;

/** Whether bytes[start..end) begin with a status line of HTTP/1.x. */
export function probeResponse(bytes: Buffer, start: number, end: number): Detection {
  let at = start;
  while (at < end && (bytes[at] === CR || bytes[at] === LF)) at++;
  if (end - at < STATUS_EVIDENCE_BYTES) {
    const prefix = Math.min(end - at, 7);
    return equalsAscii(bytes, at, at + prefix, 'HTTP/1.'.slice(0, prefix)) ? 'maybe' : 'no';
  }
  return minorVersionAt(bytes, at) >= 0 && statusAt(bytes, at + VERSION_LENGTH, end) >= 0 ? 'yes' : 'no';
}

/**
 * The status code behind the version at `at`: SP 3DIGIT and then SP or the line's end (RFC 9112 section 4).
 *
 * @returns 100 to 999, -1 when there is none
 */
export function statusAt(bytes: Buffer, at: number, end: number): number {
  if (end - at < 4 || bytes[at] !== SP) return -1;
  const a = bytes[at + 1]! - 0x30;
  const b = bytes[at + 2]! - 0x30;
  const c = bytes[at + 3]! - 0x30;
  if (a < 1 || a > 9 || b < 0 || b > 9 || c < 0 || c > 9) return -1;
  if (end - at > 4) {
    const next = bytes[at + 4]!;
    if (!isBlank(next) && next !== CR && next !== LF) return -1;
  }
  return a * 100 + b * 10 + c;
}
