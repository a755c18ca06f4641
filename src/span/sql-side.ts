/** What holds for all statements of a connection as seen from one of its ends, made once and shared by their spans. */
import type { SqlExchange } from '../exchange/exchange.ts';
import { AttributeBlock, type AttributeKey, KEY } from './attributes.ts';
import type { SeriesGroup } from './durations.ts';
import { type Peer, type PeerDirectory, setPeer } from './peer.ts';
import type { AttributeValue, Resource } from './resource.ts';
import { setClient } from './side.ts';

/** Attributes that hold for a whole connection, as long as what they were made of stays the same. */
export interface SqlSide {
  readonly end: 'client' | 'server';
  readonly system: SqlExchange['system'];
  readonly namespace: string;
  readonly tlsVersion: string;
  /** Who is at the other end. */
  readonly peer: Peer | undefined;
  readonly block: AttributeBlock;
  /** See Measured. */
  durations: SeriesGroup | undefined;
  durationsOf: Resource | undefined;
}

/** Ports registered with IANA: server.port is said where the server has another. */
const DEFAULT_PORTS: Readonly<Record<SqlExchange['system'], number>> = { postgresql: 5432, mysql: 3306, mariadb: 3306 };

/**
 * @param peer who is at the other end
 * @param names where the other end is looked up by the name that the client asked for, when nobody knows its address
 * @returns `side` when it still holds, else a new one
 */
export function currentSqlSide(
  side: SqlSide | undefined,
  exchange: SqlExchange,
  end: 'client' | 'server',
  peer: Peer | undefined,
  names: PeerDirectory | undefined,
): SqlSide {
  const tlsVersion = exchange.connection.tls?.version ?? '';
  if (
    side !== undefined &&
    side.end === end &&
    side.system === exchange.system &&
    side.namespace === exchange.namespace &&
    side.tlsVersion === tlsVersion &&
    side.peer === peer
  ) {
    return side;
  }
  return newSide(exchange, end, tlsVersion, peer, names);
}

function newSide(
  exchange: SqlExchange,
  end: 'client' | 'server',
  tlsVersion: string,
  peer: Peer | undefined,
  names: PeerDirectory | undefined,
): SqlSide {
  const { connection, system, namespace } = exchange;
  const { client, server, tls } = connection;
  const other = end === 'client' ? server : client;
  const keys: AttributeKey[] = [];
  const values: AttributeValue[] = [];
  const set = (key: AttributeKey, value: AttributeValue): void => {
    keys.push(key);
    values.push(value);
  };
  set(KEY.dbSystemName, system);
  if (namespace !== '') set(KEY.dbNamespace, namespace);
  // The name that the client was configured with, where it says it (RFC 6066 section 3); that of the Service that the address stands for.
  set(KEY.serverAddress, tls?.serverName || (end === 'client' && peer?.serviceName) || server.address);
  if (server.port !== DEFAULT_PORTS[system]) set(KEY.serverPort, server.port);
  set(KEY.networkPeerAddress, other.address);
  set(KEY.networkPeerPort, other.port);
  if (end === 'server') setClient(set, connection);
  if (tlsVersion !== '') {
    set(KEY.tlsProtocolVersion, tlsVersion);
    if (tls?.cipherSuite) set(KEY.tlsCipher, tls.cipherSuite);
  }
  if (!connection.startSeen) set(KEY.connectionJoined, true);
  setPeer(set, peer ?? (end === 'client' && tls?.serverName ? names?.findName(tls.serverName) : undefined));
  return {
    end,
    system,
    namespace,
    tlsVersion,
    peer,
    block: new AttributeBlock(keys, values),
    durations: undefined,
    durationsOf: undefined,
  };
}
