/** What holds for all exchanges of a connection as seen from one of its ends, made once and shared by their spans. */
import type { Connection } from '../flow/connection.ts';
import { AttributeBlock, type AttributeKey, KEY } from './attributes.ts';
import type { AttributeValue } from './resource.ts';
import { defaultPort, formatAuthority, parseAuthority } from './url.ts';

/** A proxied server's clients are not the connection's. */
type Role = 'client' | 'server' | 'proxied server' | 'grpc client' | 'grpc server' | 'proxied grpc server';

/** Attributes that hold for a whole connection, as long as what they were made of stays the same. */
export interface Side {
  readonly role: Role;
  readonly authority: string | undefined;
  readonly scheme: string;
  readonly version: string;
  readonly tlsVersion: string;
  /** `scheme://host[:port]`. */
  readonly origin: string;
  readonly block: AttributeBlock;
}

/** What of an exchange stands in it. */
interface Seen {
  readonly connection: Connection;
  /** Of HTTP; empty for another protocol. */
  readonly version: string;
}

/** @returns `side` when it still holds, else a new one */
export function currentSide(
  side: Side | undefined,
  authority: string | undefined,
  scheme: string,
  exchange: Seen,
  role: Role,
): Side {
  const { tls } = exchange.connection;
  const tlsVersion = tls?.version ?? '';
  if (
    side !== undefined &&
    side.role === role &&
    side.authority === authority &&
    side.scheme === scheme &&
    side.version === exchange.version &&
    side.tlsVersion === tlsVersion
  ) {
    return side;
  }
  return newSide(authority, scheme, exchange, role, tlsVersion);
}

function newSide(authority: string | undefined, scheme: string, exchange: Seen, role: Role, tlsVersion: string): Side {
  const { connection } = exchange;
  const rpc = role.includes('grpc');
  const ofClient = role.endsWith('client');
  const peer = ofClient ? connection.server : connection.client;
  // Without a usable Host the server is called by its address.
  const named = authority === undefined ? undefined : parseAuthority(authority.trim());
  const address = named?.host ?? connection.server.address;
  const port = named === undefined ? connection.server.port : named.port < 0 ? defaultPort(scheme) : named.port;
  const keys: AttributeKey[] = [];
  const values: AttributeValue[] = [];
  const set = (key: AttributeKey, value: AttributeValue): void => {
    keys.push(key);
    values.push(value);
  };
  if (rpc) set(KEY.rpcSystemName, 'grpc');
  set(KEY.serverAddress, address);
  set(KEY.serverPort, port);
  set(KEY.networkPeerAddress, peer.address);
  set(KEY.networkPeerPort, peer.port);
  if (rpc) set(KEY.networkProtocolName, 'http');
  if (exchange.version !== '') set(KEY.networkProtocolVersion, exchange.version);
  if (!ofClient && !rpc) set(KEY.urlScheme, scheme);
  if (!ofClient && !role.startsWith('proxied')) set(KEY.clientAddress, peer.address);
  if (tlsVersion !== '') {
    set(KEY.tlsProtocolVersion, tlsVersion);
    if (connection.tls?.cipherSuite) set(KEY.tlsCipher, connection.tls.cipherSuite);
  }
  return {
    role,
    authority,
    scheme,
    version: exchange.version,
    tlsVersion,
    origin: `${scheme}://${formatAuthority(address, port, scheme)}`,
    block: new AttributeBlock(keys, values),
  };
}
