/** The bodies of the handshake messages that are read: RFC 8446 section 4, RFC 5246 section 7.4, and the extensions that matter. */
import { Reader } from '../bytes/reader.ts';

export const HELLO_REQUEST = 0;
export const CLIENT_HELLO = 1;
export const SERVER_HELLO = 2;
export const END_OF_EARLY_DATA = 5;
export const ENCRYPTED_EXTENSIONS = 8;
export const FINISHED = 20;
export const KEY_UPDATE = 24;

const SERVER_NAME = 0;
const TRUNCATED_HMAC = 4;
const ALPN = 16;
const ENCRYPT_THEN_MAC = 22;
const PRE_SHARED_KEY = 41;
const EARLY_DATA = 42;
const SUPPORTED_VERSIONS = 43;

const TLS_1_3 = 0x0304;
const RANDOM_LENGTH = 32;
/** RFC 1035 section 2.3.4: what is longer is the name of no host. */
const MAX_NAME_BYTES = 255;
const NO_RANDOM = Buffer.alloc(0);

/** SHA-256 of "HelloRetryRequest", the random of a ServerHello that is one (RFC 8446 4.1.3). */
const HELLO_RETRY_RANDOM = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');

export interface ClientHello {
  /** 32 bytes, a copy. */
  random: Buffer;
  serverName: string | undefined;
  /** What the client offers, for want of the server's choice. */
  offersEarlyData: boolean;
}

export interface ServerHello {
  /** The version that was agreed on, such as 0x0304. */
  version: number;
  /** 32 bytes, a copy; empty in TLS 1.3, where nobody needs it. */
  random: Buffer;
  cipherSuite: number;
  compression: number;
  isHelloRetryRequest: boolean;
  usesPreSharedKey: boolean;
  encryptThenMac: boolean;
  truncatedHmac: boolean;
  alpn: string | undefined;
}

/** @param bytes the body is bytes[start..end), without the message header. @returns undefined when it is malformed */
export function parseClientHello(bytes: Buffer, start: number, end: number): ClientHello | undefined {
  const reader = new Reader(bytes, start, end);
  reader.skip(2); // legacy_version
  const randomAt = reader.position;
  reader.skip(RANDOM_LENGTH);
  reader.skip(reader.u8()); // legacy_session_id
  reader.skip(reader.u16()); // cipher_suites
  reader.skip(reader.u8()); // legacy_compression_methods
  if (reader.failed) return undefined;
  const random = copyOf(bytes, randomAt, RANDOM_LENGTH);
  const hello: ClientHello = { random, serverName: undefined, offersEarlyData: false };
  const ok = eachExtension(reader, (type, from, to) => {
    if (type === EARLY_DATA) hello.offersEarlyData = true;
    if (type !== SERVER_NAME) return true;
    const data = new Reader(bytes, from, to);
    hello.serverName = parseServerName(data);
    return !data.failed;
  });
  return ok ? hello : undefined;
}

/** @param bytes the body is bytes[start..end), without the message header. @returns undefined when it is malformed */
export function parseServerHello(bytes: Buffer, start: number, end: number): ServerHello | undefined {
  const reader = new Reader(bytes, start, end);
  const version = reader.u16();
  const randomAt = reader.position;
  reader.skip(RANDOM_LENGTH);
  reader.skip(reader.u8());
  const cipherSuite = reader.u16();
  const compression = reader.u8();
  if (reader.failed) return undefined;
  const hello: ServerHello = {
    version,
    random: NO_RANDOM,
    cipherSuite,
    compression,
    isHelloRetryRequest: HELLO_RETRY_RANDOM.compare(bytes, randomAt, randomAt + RANDOM_LENGTH) === 0,
    usesPreSharedKey: false,
    encryptThenMac: false,
    truncatedHmac: false,
    alpn: undefined,
  };
  const ok = eachExtension(reader, (type, from, to) => {
    if (type === PRE_SHARED_KEY) hello.usesPreSharedKey = true;
    else if (type === ENCRYPT_THEN_MAC) hello.encryptThenMac = true;
    else if (type === TRUNCATED_HMAC) hello.truncatedHmac = true;
    if (type !== SUPPORTED_VERSIONS && type !== ALPN) return true;
    const data = new Reader(bytes, from, to);
    if (type === ALPN) hello.alpn = parseAlpn(data);
    else hello.version = data.u16();
    return !data.failed;
  });
  if (!ok) return undefined;
  if (hello.version !== TLS_1_3) hello.random = copyOf(bytes, randomAt, RANDOM_LENGTH);
  return hello;
}

export interface EncryptedExtensions {
  alpn: string | undefined;
  acceptsEarlyData: boolean;
}

/** @param bytes the body is bytes[start..end), without the message header. @returns undefined when it is malformed */
export function parseEncryptedExtensions(bytes: Buffer, start: number, end: number): EncryptedExtensions | undefined {
  const extensions: EncryptedExtensions = { alpn: undefined, acceptsEarlyData: false };
  const ok = eachExtension(new Reader(bytes, start, end), (type, from, to) => {
    if (type === EARLY_DATA) extensions.acceptsEarlyData = true;
    if (type !== ALPN) return true;
    const data = new Reader(bytes, from, to);
    extensions.alpn = parseAlpn(data);
    return !data.failed;
  });
  return ok ? extensions : undefined;
}

/**
 * RFC 5246 7.4.1.4: a hello may end before the extensions.
 * @param visit of the extension's data from..to; says whether it was well formed. @returns whether all was
 */
function eachExtension(reader: Reader, visit: (type: number, from: number, to: number) => boolean): boolean {
  if (reader.failed) return false;
  if (reader.isEmpty) return true;
  const end = reader.u16() + reader.position;
  if (reader.failed || end > reader.end) return false;
  while (reader.position < end) {
    const type = reader.u16();
    const length = reader.u16();
    const from = reader.position;
    if (reader.failed || from + length > end) return false;
    reader.skip(length);
    if (!visit(type, from, from + length)) return false;
  }
  return reader.position === end;
}

function copyOf(bytes: Buffer, start: number, length: number): Buffer {
  const copy = Buffer.allocUnsafe(length);
  bytes.copy(copy, 0, start, start + length);
  return copy;
}

/** RFC 6066 3: the entry of type host_name. */
function parseServerName(data: Reader): string | undefined {
  const list = data.sub(data.u16());
  let name: string | undefined;
  while (!list.isEmpty) {
    const type = list.u8();
    const value = list.take(list.u16());
    if (type === 0 && name === undefined && !list.failed && value.length <= MAX_NAME_BYTES) name = printable(value);
  }
  if (list.failed) data.failed = true;
  return name;
}

/** RFC 7301 3.1: the server's list has the one protocol that it chose. */
function parseAlpn(data: Reader): string | undefined {
  const list = data.sub(data.u16());
  const name = list.take(list.u8());
  if (list.failed) data.failed = true;
  return name.length > 0 ? printable(name) : undefined;
}

/** Names from the wire end in spans and on terminals: no control characters, nothing but ASCII. */
function printable(value: Buffer): string {
  return value.toString('latin1').replace(/[^\x20-\x7e]/g, '?');
}
