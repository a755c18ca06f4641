/** What holds for all exchanges of a connection as seen from one of its endpoints: made once, and shared by their spans. */
import type { Connection } from '../flow/connection.ts';
import { AttributeBlock, type AttributeKey, KEY } from './attributes.ts';
import type { Measured, SeriesGroup } from './durations.ts';
import { type ConnectionPeers, type Peer, type PeerDirectory, setPeer } from './peer.ts';
import type { AttributeValue, Resource } from './resource.ts';
import type { EndpointName } from './span.ts';

type Attribute = readonly [AttributeKey, AttributeValue];

/** What the shared attributes are made of, besides the connection, its TLS session and the peer: the same key makes the same attributes. */
export class EndpointKey {
  /** What the exchange calls the server, such as the authority of HTTP. */
  authority: string | undefined = undefined;
  /** What is spoken: the scheme of a URL, the system of a database. */
  system = '';
  /** Within it: the version of HTTP, the namespace of a database. */
  detail = '';
  /** A proxy speaks for several clients: client.address is that of an exchange, not that of the connection. */
  isProxied = false;
}

/** What a mapping says of an endpoint; the driver adds what every connection has. */
export interface EndpointDescription {
  /** First in the block: what is spoken. */
  readonly system: readonly Attribute[];
  readonly serverAddress: string;
  /** Undefined: server.port is left out. */
  readonly serverPort: number | undefined;
  /** Behind network.peer.*: protocol, version, scheme. */
  readonly protocol: readonly Attribute[];
  /** `scheme://host[:port]`, where URLs begin with it; else empty. */
  readonly origin: string;
  /** The name by which the client asked for the server, to look up who that is when nobody knows its address; else empty. */
  readonly askedName: string;
}

/** Shared attributes of one endpoint, valid as long as what they were made of stays the same. */
export class EndpointAttributes implements Measured {
  readonly endpoint: EndpointName;
  /** Who is at the other endpoint. */
  readonly peer: Peer | undefined;
  readonly origin: string;
  readonly block: AttributeBlock;
  durations: SeriesGroup | undefined = undefined;
  durationsOf: Resource | undefined = undefined;
  private readonly madeBy: object;
  private readonly authority: string | undefined;
  private readonly system: string;
  private readonly detail: string;
  private readonly isProxied: boolean;
  private readonly tlsVersion: string;

  /**
   * @param madeBy the mapping that describes it
   * @param peer who is at the other endpoint
   * @param names where the other endpoint is looked up by the name that the client asked for, when nobody knows its address
   */
  constructor(
    madeBy: object,
    endpoint: EndpointName,
    key: EndpointKey,
    description: EndpointDescription,
    connection: Connection,
    peer: Peer | undefined,
    names: PeerDirectory | undefined,
  ) {
    this.madeBy = madeBy;
    this.endpoint = endpoint;
    this.authority = key.authority;
    this.system = key.system;
    this.detail = key.detail;
    this.isProxied = key.isProxied;
    this.tlsVersion = connection.tls?.version ?? '';
    this.peer = peer;
    this.origin = description.origin;
    this.block = newBlock(endpoint, key, description, connection, peer, names);
  }

  /** Whether they still hold. */
  holdFor(madeBy: object, key: EndpointKey, tlsVersion: string, peer: Peer | undefined): boolean {
    return (
      this.madeBy === madeBy &&
      this.authority === key.authority &&
      this.system === key.system &&
      this.detail === key.detail &&
      this.isProxied === key.isProxied &&
      this.tlsVersion === tlsVersion &&
      this.peer === peer
    );
  }
}

/** What the span stage keeps with a connection. */
export class ConnectionEndpoints {
  /** Of the ids of its spans (ids.ts): made for the first exchange that may have some. */
  seed: Int32Array | undefined = undefined;
  readonly peers: ConnectionPeers | undefined;
  client: EndpointAttributes | undefined = undefined;
  server: EndpointAttributes | undefined = undefined;
  /** What the connection's mapping remembers from one exchange to the next. */
  ofMapping: object | undefined = undefined;

  constructor(peers: ConnectionPeers | undefined) {
    this.peers = peers;
  }
}

function newBlock(
  endpoint: EndpointName,
  { isProxied }: EndpointKey,
  { system, serverAddress, serverPort, protocol, askedName }: EndpointDescription,
  connection: Connection,
  peer: Peer | undefined,
  names: PeerDirectory | undefined,
): AttributeBlock {
  const { tls, client, server, relayedFor } = connection;
  const ofClient = endpoint === 'client';
  const other = ofClient ? server : client;
  const keys: AttributeKey[] = [];
  const values: AttributeValue[] = [];
  const set = (key: AttributeKey, value: AttributeValue): void => {
    keys.push(key);
    values.push(value);
  };
  for (const [key, value] of system) set(key, value);
  set(KEY.serverAddress, serverAddress);
  if (serverPort !== undefined) set(KEY.serverPort, serverPort);
  set(KEY.networkPeerAddress, other.address);
  set(KEY.networkPeerPort, other.port);
  for (const [key, value] of protocol) set(key, value);
  if (!ofClient && !isProxied) {
    // Of whom a proxy relays the connection for, as its PROXY header says, else the socket's.
    set(KEY.clientAddress, relayedFor?.address ?? client.address);
    if (relayedFor !== undefined && relayedFor.port > 0) set(KEY.clientPort, relayedFor.port);
  }
  if (tls !== undefined && tls.version !== '') {
    set(KEY.tlsProtocolVersion, tls.version);
    if (tls.cipherSuite) set(KEY.tlsCipher, tls.cipherSuite);
  }
  if (!connection.startSeen) set(KEY.connectionJoined, true);
  setPeer(set, peer ?? (ofClient ? named(tls?.serverName || askedName, names) : undefined));
  return new AttributeBlock(keys, values);
}

function named(name: string, names: PeerDirectory | undefined): Peer | undefined {
  return name === '' ? undefined : names?.findName(name);
}
