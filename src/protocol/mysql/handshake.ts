import type { FieldReader } from './fields.ts';
import {
  CLIENT_CONNECT_WITH_DB,
  CLIENT_LONG_PASSWORD,
  CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA,
  CLIENT_PROTOCOL_41,
  CLIENT_SECURE_CONNECTION,
  CLIENT_SSL,
} from './wire.ts';

/** The only protocol version that servers since 1998 greet with. */
export const PROTOCOL_VERSION = 10;
/** Bytes of SSLRequest: the first fields of HandshakeResponse41, and nothing else. */
const SSL_REQUEST_BYTES = 32;
const FILLER_BYTES = 19;

/** Protocol::HandshakeV10. */
export interface Greeting {
  readonly system: 'mysql' | 'mariadb';
  readonly version: string;
  readonly capabilities: number;
  /** MariaDB's bits 32 and up. */
  readonly extended: number;
  readonly status: number;
  /** The server's own collation, by its number. */
  readonly collation: number;
}

/** @returns undefined when it is no greeting. The authentication data is passed over. */
export function readGreeting(fields: FieldReader): Greeting | undefined {
  if (fields.u8() !== PROTOCOL_VERSION) return undefined;
  const version = fields.terminated();
  // thread id, auth-plugin-data-part-1, filler
  fields.skip(4 + 8);
  if (fields.u8() !== 0) return undefined;
  let capabilities = fields.u16();
  if (fields.failed || !isVersion(version)) return undefined;
  let status = 0;
  let extended = 0;
  let collation = 0;
  if (fields.remaining > 0) {
    collation = fields.u8();
    status = fields.u16();
    capabilities |= fields.u16() << 16;
    fields.skip(1 + 6);
    extended = fields.u32();
  }
  // MariaDB says by a cleared CLIENT_LONG_PASSWORD (its CLIENT_MYSQL) that the last four bytes of the filler are its own.
  const extends_ = (capabilities & CLIENT_LONG_PASSWORD) === 0 && extended !== 0;
  const system = extends_ || /mariadb/i.test(version) || version.startsWith('5.5.5-') ? 'mariadb' : 'mysql';
  return { system, version, capabilities, extended: extends_ ? extended : 0, status, collation };
}

/** `8.0.36`, `5.5.5-10.11.6-MariaDB-1`, `8.4.0-cluster`. */
function isVersion(version: string): boolean {
  return version.length <= 128 && /^\d+\.[\x20-\x7e]*$/.test(version);
}

/** What a client says of itself: Protocol::HandshakeResponse41, HandshakeResponse320 or SSLRequest. Who it is and how it proves it is passed over. */
export interface ClientHello {
  readonly capabilities: number;
  readonly extended: number;
  readonly collation: number;
  readonly database: string;
  /** The rest follows within TLS. */
  readonly sslRequest: boolean;
}

/** @returns undefined when it is none of these */
export function readClientHello(fields: FieldReader): ClientHello | undefined {
  const length = fields.remaining;
  const low = fields.u16();
  if (fields.failed) return undefined;
  if ((low & CLIENT_PROTOCOL_41) === 0) return readOldHello(fields, low, length);
  const capabilities = low | (fields.u16() << 16);
  // max_packet_size
  fields.skip(4);
  const collation = fields.u8();
  fields.skip(FILLER_BYTES);
  const tail = fields.u32();
  if (fields.failed) return undefined;
  const extended = (capabilities & CLIENT_LONG_PASSWORD) === 0 ? tail : 0;
  const sslRequest = (capabilities & CLIENT_SSL) !== 0 && length === SSL_REQUEST_BYTES;
  if (sslRequest) return { capabilities, extended, collation, database: '', sslRequest };
  fields.skipTerminated();
  if ((capabilities & CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA) !== 0) fields.skipString();
  else if ((capabilities & CLIENT_SECURE_CONNECTION) !== 0) fields.skip(fields.u8());
  else fields.skipTerminated();
  const database = (capabilities & CLIENT_CONNECT_WITH_DB) === 0 ? '' : fields.terminated();
  return fields.failed ? undefined : { capabilities, extended, collation, database, sslRequest };
}

/** Protocol::HandshakeResponse320. Its SSLRequest is the capabilities and the packet size. */
function readOldHello(fields: FieldReader, capabilities: number, length: number): ClientHello | undefined {
  fields.u24();
  if (fields.failed) return undefined;
  const plain = { capabilities, extended: 0, collation: 0, database: '' };
  if ((capabilities & CLIENT_SSL) !== 0 && length === 5) return { ...plain, sslRequest: true };
  fields.skipTerminated();
  if ((capabilities & CLIENT_CONNECT_WITH_DB) === 0) return { ...plain, sslRequest: false };
  fields.skipTerminated();
  return { ...plain, database: fields.terminated(), sslRequest: false };
}
