/** What holds for all exchanges of a connection as seen from one of its ends, made once and shared by their spans. */
import type { Connection } from '../flow/connection.ts';
import { AttributeBlock, type AttributeKey, KEY } from './attributes.ts';
import type { SeriesGroup } from './durations.ts';
import { type Peer, type PeerDirectory, setPeer } from './peer.ts';
import type { AttributeValue, Resource } from './resource.ts';
import { defaultPort, formatAuthority, isAddress, parseAuthority } from './url.ts';

/** A proxied server's clients are not the connection's. */
type Role = 'client' | 'server' | 'proxied server' | 'grpc client' | 'grpc server' | 'proxied grpc server';

/** Attributes that hold for a whole connection, as long as what they were made of stays the same. */
export interface Side {
  readonly role: Role;
  readonly authority: string | undefined;
  readonly scheme: string;
  readonly version: string;
  readonly tlsVersion: string;
  /** Who is at the other end. */
  readonly peer: Peer | undefined;
  /** `scheme://host[:port]`. */
  readonly origin: string;
  readonly block: AttributeBlock;
  /** See Measured. */
  durations: SeriesGroup | undefined;
  durationsOf: Resource | undefined;
}

/** What of an exchange stands in it. */
interface Seen {
  readonly connection: Connection;
  /** Of HTTP; empty for another protocol. */
  readonly version: string;
}

/**
 * @param peer who is at the other end
 * @param names where the other end is looked up by the name that the client asked for, when nobody knows its address
 * @returns `side` when it still holds, else a new one
 */
export function currentSide(
  side: Side | undefined,
  authority: string | undefined,
  scheme: string,
  exchange: Seen,
  role: Role,
  peer: Peer | undefined,
  names: PeerDirectory | undefined,
): Side {
  const { tls } = exchange.connection;
  const tlsVersion = tls?.version ?? '';
  if (
    side !== undefined &&
    side.role === role &&
    side.authority === authority &&
    side.scheme === scheme &&
    side.version === exchange.version &&
    side.tlsVersion === tlsVersion &&
    side.peer === peer
  ) {
    return side;
  }
  return newSide(authority, scheme, exchange, role, tlsVersion, peer, names);
}

function newSide(
  authority: string | undefined,
  scheme: string,
  exchange: Seen,
  role: Role,
  tlsVersion: string,
  peer: Peer | undefined,
  names: PeerDirectory | undefined,
): Side {
  const { connection } = exchange;
  const { tls } = connection;
  const rpc = role.includes('grpc');
  const ofClient = role.endsWith('client');
  const other = ofClient ? connection.server : connection.client;
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
  // An address that stands for a Service says less than its name.
  const serviceName = ofClient && isAddress(address) ? (peer?.serviceName ?? '') : '';
  set(KEY.serverAddress, serviceName || address);
  set(KEY.serverPort, port);
  set(KEY.networkPeerAddress, other.address);
  set(KEY.networkPeerPort, other.port);
  if (rpc) set(KEY.networkProtocolName, 'http');
  if (exchange.version !== '') set(KEY.networkProtocolVersion, exchange.version);
  if (!ofClient && !rpc) set(KEY.urlScheme, scheme);
  if (!ofClient && !role.startsWith('proxied')) setClient(set, connection);
  if (tlsVersion !== '') {
    set(KEY.tlsProtocolVersion, tlsVersion);
    if (tls?.cipherSuite) set(KEY.tlsCipher, tls.cipherSuite);
  }
  if (!connection.startSeen) set(KEY.connectionJoined, true);
  setPeer(set, peer ?? (ofClient ? names?.findName(tls?.serverName || address) : undefined));
  return {
    role,
    authority,
    scheme,
    version: exchange.version,
    tlsVersion,
    peer,
    origin: `${scheme}://${formatAuthority(address, port, scheme)}`,
    block: new AttributeBlock(keys, values),
    durations: undefined,
    durationsOf: undefined,
  };
}

/** client.address of a SERVER span: of whom a proxy relays the connection for, as its PROXY header says, else the socket's. */
export function setClient(
  set: (key: AttributeKey, value: AttributeValue) => void,
  { client, relayedFor }: Connection,
): void {
  set(KEY.clientAddress, relayedFor?.address ?? client.address);
  if (relayedFor !== undefined && relayedFor.port > 0) set(KEY.clientPort, relayedFor.port);
}
