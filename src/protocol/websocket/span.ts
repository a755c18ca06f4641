import { type AttributeKey, KEY } from '../../span/attributes.ts';
import type { Candidate } from '../../span/candidate.ts';
import type { WireContext } from '../../span/context.ts';
import type { EndpointAttributes, EndpointDescription, EndpointKey } from '../../span/endpoint.ts';
import type { ExchangeFacts, MappingFactory, SpanMapping } from '../../span/mapping.ts';
import { errorOfIncomplete, setOutcome } from '../../span/outcome.ts';
import type { Peer } from '../../span/peer.ts';
import type { AttributeValue } from '../../span/resource.ts';
import type { EndpointName, Span } from '../../span/span.ts';
import { type Forwarded, parseForwarded, Redactor, Target } from '../../span/url.ts';
import type { HttpConfig, WithHttp } from '../http/config.ts';
import { describeHttpEndpoint, fullUrl, identifyHttp, isProxied, withQuery } from '../http/span-endpoint.ts';
import { type Router, sharedRouter } from '../http/span-router.ts';
import type { WebSocketExchange } from './exchange.ts';

/** Added to the handshake's offset, it names the connection in the ids: no request is so short that another may begin there. */
const BEHIND_HANDSHAKE = 1;

/**
 * How the life of a WebSocket connection becomes spans: a CLIENT span, a SERVER span, or both, as for HTTP. Each is the child of the
 * handshake's span of the same endpoint, so that the graph of services counts the call once, and is named `WebSocket` (a SERVER span also
 * with the route), so that a connection of hours stays out of the latencies of requests.
 */
export class WebSocketSpans implements SpanMapping<WebSocketExchange> {
  readonly protocols = ['websocket'];
  readonly primary = 'server';
  private readonly redactor: Redactor;
  private readonly router: Router;
  private readonly target = new Target();
  /** What the handshake's proxy says. */
  private forwarded: Forwarded | undefined = undefined;

  /** @param router finds the routes of paths */
  constructor(options: HttpConfig, router: Router) {
    this.redactor = new Redactor(options.redactQueryKeys, options.redactPaths);
    this.router = router;
  }

  begin({ handshake, startUs, endUs }: WebSocketExchange, facts: ExchangeFacts): void {
    this.target.parse(handshake.method, handshake.target, this.redactor);
    this.forwarded = parseForwarded(handshake.requestHeaders);
    facts.startUs = startUs;
    facts.endUs = Math.max(startUs, endUs);
    facts.traceOffset = handshake.streamOffset;
    facts.parentOffset = handshake.streamOffset;
    facts.spanOffset = handshake.streamOffset + BEHIND_HANDSHAKE;
  }

  readContext({ handshake }: WebSocketExchange, context: WireContext): boolean {
    return context.read(handshake.requestHeaders);
  }

  /** As the handshake was, whose trace it belongs to; a long life is nothing slow. */
  describe(exchange: WebSocketExchange, candidate: Candidate): void {
    const { handshake } = exchange;
    candidate.method = handshake.method;
    candidate.path = this.target.path;
    candidate.failed = errorType(exchange) !== '';
    candidate.setTimes(handshake.startUs, handshake.endUs);
  }

  identify({ handshake }: WebSocketExchange, endpoint: EndpointName, key: EndpointKey): void {
    identifyHttp(handshake, this.target, endpoint === 'client' ? undefined : this.forwarded, key);
    key.system = webSocketScheme(key.system);
  }

  describeEndpoint(
    { connection }: WebSocketExchange,
    endpoint: EndpointName,
    key: EndpointKey,
    peer: Peer | undefined,
  ): EndpointDescription {
    const protocol: [AttributeKey, AttributeValue][] = endpoint === 'server' ? [[KEY.urlScheme, key.system]] : [];
    return describeHttpEndpoint(connection, endpoint, key, peer, [], protocol);
  }

  fill(span: Span, exchange: WebSocketExchange, { endpoint, origin }: EndpointAttributes): void {
    this.fillBoth(span, exchange);
    const { target, forwarded } = this;
    if (endpoint === 'client') {
      span.set(KEY.urlFull, fullUrl(target, origin));
      span.name = 'WebSocket';
      return;
    }
    if (isProxied(forwarded)) span.set(KEY.clientAddress, forwarded.address);
    span.set(KEY.urlPath, target.path);
    if (target.query !== '') span.set(KEY.urlQuery, target.query);
    const route = this.router.routeOf(target.path, span.resource, exchange.handshake.statusCode);
    if (route !== '') span.set(KEY.httpRoute, route);
    span.name = route === '' ? 'WebSocket' : `WebSocket ${route}`;
  }

  /** What CLIENT and SERVER spans have alike. */
  private fillBoth(span: Span, exchange: WebSocketExchange): void {
    const { client, server, closeCode, closedBy, incomplete, handshake } = exchange;
    span.summary = withQuery(this.target.path, this.target.query);
    span.set(KEY.networkProtocolName, 'websocket');
    span.set(KEY.webSocketClientMessages, client.messages);
    span.set(KEY.webSocketClientSize, client.bytes);
    span.set(KEY.webSocketServerMessages, server.messages);
    span.set(KEY.webSocketServerSize, server.bytes);
    if (exchange.compressed) span.set(KEY.webSocketCompressed, true);
    if (closeCode !== 0) span.set(KEY.webSocketCloseCode, closeCode);
    if (closedBy !== '') span.set(KEY.webSocketClosedBy, closedBy);
    const userAgent = handshake.requestHeaders.get('user-agent');
    if (userAgent !== undefined) span.set(KEY.userAgentOriginal, userAgent[0]!);
    setOutcome(span, incomplete, errorType(exchange));
  }
}

/** RFC 6455 section 3. */
function webSocketScheme(http: string): string {
  if (http === 'https') return 'wss';
  return http === 'http' ? 'ws' : http;
}

/**
 * The value of error.type: a close code that names an error, at both endpoints. The codes of libraries and applications (from 3000) mean what
 * these want, and are none.
 */
export function errorType({ closeCode, incomplete }: WebSocketExchange): string {
  if (closeCode === 0) return errorOfIncomplete(incomplete);
  const orderly = closeCode === 1000 || closeCode === 1001 || closeCode === 1005;
  return orderly || closeCode >= 3000 ? '' : String(closeCode);
}

export const webSocketSpans: MappingFactory<WithHttp> = (options) =>
  new WebSocketSpans(options.config.http, sharedRouter(options));
