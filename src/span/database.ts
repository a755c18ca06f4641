/** What the spans of all databases have alike: their endpoints, and the pair of metrics that their durations are in. */
import type { Connection } from '../flow/connection.ts';
import { DATABASE_BOUNDS } from '../metric/bounds.ts';
import { type AttributeKey, KEY } from './attributes.ts';
import type { Instrument } from './durations.ts';
import type { EndpointDescription, EndpointKey } from './endpoint.ts';
import type { Peer } from './peer.ts';
import type { AttributeValue } from './resource.ts';
import type { EndpointName } from './span.ts';

/** Semantic conventions for database client metrics. */
export const DATABASE_CLIENT: Instrument = {
  name: 'db.client.operation.duration',
  description: 'Duration of database client operations.',
  bounds: DATABASE_BOUNDS,
  keys: [KEY.dbSystemName, KEY.dbNamespace, KEY.serverAddress, KEY.serverPort],
};

/** The conventions know nothing of the kind: where the client is elsewhere, and nobody sees it. */
export const DATABASE_SERVER: Instrument = {
  name: 'wirespan.db.server.operation.duration',
  description: 'Duration of database operations whose clients are on other machines.',
  bounds: DATABASE_BOUNDS,
  keys: [KEY.dbSystemName, KEY.dbNamespace],
};

/**
 * @param key its `system` is db.system.name, its `detail` db.namespace
 * @param ports registered with IANA: server.port is set where the server has another
 */
export function describeDatabaseEndpoint(
  { server, tls }: Connection,
  endpoint: EndpointName,
  key: EndpointKey,
  ports: readonly number[],
  peer: Peer | undefined,
): EndpointDescription {
  const system: [AttributeKey, AttributeValue][] = [[KEY.dbSystemName, key.system]];
  if (key.detail !== '') system.push([KEY.dbNamespace, key.detail]);
  return {
    system,
    // The name that the client was configured with, where TLS has it (RFC 6066 section 3); that of the Service behind the address.
    serverAddress: tls?.serverName || (endpoint === 'client' && peer?.serviceName) || server.address,
    serverPort: ports.includes(server.port) ? undefined : server.port,
    protocol: [],
    origin: '',
    askedName: '',
  };
}
