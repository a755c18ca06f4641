/** What the spans of HTTP, of gRPC and of WebSocket connections say alike of their endpoints: server, origin, proxies. */

import type { Connection } from '../../flow/connection.ts';
import type { AttributeKey } from '../../span/attributes.ts';
import type { EndpointDescription, EndpointKey } from '../../span/endpoint.ts';
import type { Peer } from '../../span/peer.ts';
import type { AttributeValue } from '../../span/resource.ts';
import type { EndpointName } from '../../span/span.ts';
import {
  defaultPort,
  type Forwarded,
  formatAuthority,
  isAddress,
  parseAuthority,
  type Target,
} from '../../span/url.ts';
import type { HttpExchange } from './exchange.ts';

type Attribute = readonly [AttributeKey, AttributeValue];

/**
 * Sets authority, scheme (as `system`) and whether it is proxied.
 *
 * @param target undefined: its form says nothing
 * @param forwarded what a proxy says; undefined at the client's endpoint
 */
export function identifyHttp(
  { connection, scheme, requestHeaders }: HttpExchange,
  target: Target | undefined,
  forwarded: Forwarded | undefined,
  key: EndpointKey,
): void {
  // RFC 9112 section 3.2.2: the absolute form overrides Host.
  key.authority = forwarded?.host || target?.authority || requestHeaders.get('host')?.[0];
  key.system = forwarded?.proto || target?.scheme || scheme || (connection.tls === undefined ? 'http' : 'https');
  key.isProxied = isProxied(forwarded);
}

/**
 * @param system first attributes
 * @param protocol attributes behind network.peer.*
 */
export function describeHttpEndpoint(
  connection: Connection,
  endpoint: EndpointName,
  { authority, system: scheme }: EndpointKey,
  peer: Peer | undefined,
  system: readonly Attribute[],
  protocol: readonly Attribute[],
): EndpointDescription {
  // Without a usable Host the server is called by its address.
  const named = authority === undefined ? undefined : parseAuthority(authority.trim());
  const address = named?.host ?? connection.server.address;
  const port = named === undefined ? connection.server.port : named.port < 0 ? defaultPort(scheme) : named.port;
  // An address that stands for a Service says less than its name.
  const serviceName = endpoint === 'client' && isAddress(address) ? peer?.serviceName : undefined;
  const origin = `${scheme}://${formatAuthority(address, port, scheme)}`;
  return { system, serverAddress: serviceName || address, serverPort: port, protocol, origin, askedName: address };
}

/** Behind a proxy each request of a connection may come from somebody else. */
export function isProxied(forwarded: Forwarded | undefined): forwarded is Forwarded {
  return forwarded !== undefined && forwarded.address !== '';
}

/** The value of url.full. */
export function fullUrl({ path, query, hasUserInfo }: Target, origin: string): string {
  const visible = hasUserInfo ? origin.replace('://', '://REDACTED:REDACTED@') : origin;
  // RFC 9112 section 3.3: the asterisk form has no path.
  return visible + withQuery(path === '*' ? '' : path, query);
}

export function withQuery(path: string, query: string): string {
  return query === '' ? path : `${path}?${query}`;
}
