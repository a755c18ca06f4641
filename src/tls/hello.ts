/** The bodies of the handshake messages that are read: RFC 8446 section 4, RFC 5246 section 7.4, and the extensions that matter. */
import { Reader } from '../bytes/reader.ts';

export const HELLO_REQUEST = 0;
export const CLIENT_HELLO = 1;
export const SERVER_HELLO = 2;
export const END_OF_EARLY_DATA = 5;
export const ENCRYPTED_EXTENSIONS = 8;
export const FINISHED = 20;
export const KEY_UPDATE = 24;
export const MESSAGE_HASH = 254;

const SERVER_NAME = 0;
const TRUNCATED_HMAC = 4;
const ALPN = 16;
const ENCRYPT_THEN_MAC = 22;
const PRE_SHARED_KEY = 41;
const EARLY_DATA = 42;
const SUPPORTED_VERSIONS = 43;

const RANDOM_LENGTH = 32;

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
  random: Buffer;
  cipherSuite: number;
  compression: number;
  isHelloRetryRequest: boolean;
  usesPreSharedKey: boolean;
  encryptThenMac: boolean;
  truncatedHmac: boolean;
  alpn: string | undefined;
}

/** @param body without the message header. @returns undefined when it is malformed */
export function parseClientHello(body: Buffer): ClientHello | undefined {
  const reader = new Reader(body);
  reader.u16(); // legacy_version
  const random = Buffer.from(reader.take(RANDOM_LENGTH));
  reader.skip(reader.u8()); // legacy_session_id
  reader.skip(reader.u16()); // cipher_suites
  reader.skip(reader.u8()); // legacy_compression_methods
  const hello: ClientHello = { random, serverName: undefined, offersEarlyData: false };
  const ok = eachExtension(reader, (type, data) => {
    if (type === SERVER_NAME) hello.serverName = parseServerName(data);
    else if (type === EARLY_DATA) hello.offersEarlyData = true;
  });
  return ok ? hello : undefined;
}

/** @param body without the message header. @returns undefined when it is malformed */
export function parseServerHello(body: Buffer): ServerHello | undefined {
  const reader = new Reader(body);
  const version = reader.u16();
  const random = Buffer.from(reader.take(RANDOM_LENGTH));
  reader.skip(reader.u8());
  const hello: ServerHello = {
    version,
    random,
    cipherSuite: reader.u16(),
    compression: reader.u8(),
    isHelloRetryRequest: random.equals(HELLO_RETRY_RANDOM),
    usesPreSharedKey: false,
    encryptThenMac: false,
    truncatedHmac: false,
    alpn: undefined,
  };
  const ok = eachExtension(reader, (type, data) => {
    if (type === SUPPORTED_VERSIONS) hello.version = data.u16();
    else if (type === PRE_SHARED_KEY) hello.usesPreSharedKey = true;
    else if (type === ENCRYPT_THEN_MAC) hello.encryptThenMac = true;
    else if (type === TRUNCATED_HMAC) hello.truncatedHmac = true;
    else if (type === ALPN) hello.alpn = parseAlpn(data);
  });
  return ok ? hello : undefined;
}

export interface EncryptedExtensions {
  alpn: string | undefined;
  acceptsEarlyData: boolean;
}

export function parseEncryptedExtensions(body: Buffer): EncryptedExtensions | undefined {
  const extensions: EncryptedExtensions = { alpn: undefined, acceptsEarlyData: false };
  const ok = eachExtension(new Reader(body), (type, data) => {
    if (type === ALPN) extensions.alpn = parseAlpn(data);
    else if (type === EARLY_DATA) extensions.acceptsEarlyData = true;
  });
  return ok ? extensions : undefined;
}

/** RFC 5246 7.4.1.4: a hello may end before the extensions. @returns whether all was well formed */
function eachExtension(reader: Reader, visit: (type: number, data: Reader) => void): boolean {
  if (reader.failed) return false;
  if (reader.isEmpty) return true;
  const extensions = reader.sub(reader.u16());
  while (!extensions.isEmpty) {
    const type = extensions.u16();
    const data = extensions.sub(extensions.u16());
    if (extensions.failed) return false;
    visit(type, data);
    if (data.failed) return false;
  }
  return !reader.failed && !extensions.failed;
}

/** RFC 6066 3: the entry of type host_name. */
function parseServerName(data: Reader): string | undefined {
  const list = data.sub(data.u16());
  let name: string | undefined;
  while (!list.isEmpty) {
    const type = list.u8();
    const value = list.take(list.u16());
    if (type === 0 && name === undefined && !list.failed) name = printable(value);
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
