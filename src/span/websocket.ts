import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { WebSocketExchange } from '../exchange/exchange.ts';
import { KEY } from './attributes.ts';
import { CLIENT_END, type Common, Draft, endsOf, errorOfIncomplete, NO_END, SERVER_END } from './common.ts';
import { WireContext } from './context.ts';
import type { HttpSpanOptions } from './http.ts';
import { writeClientSpanId, writeServerSpanId } from './ids.ts';
import type { Router } from './routes.ts';
import { currentSide, type Side } from './side.ts';
import { PARENT_SPAN_ID, SPAN_ID, type Span } from './span.ts';
import { type Forwarded, parseForwarded, Redactor, Target } from './url.ts';

/** Added to the handshake's offset, it names the connection in the ids: no request is so short that another may begin there. */
const BEHIND_HANDSHAKE = 1;

/**
 * Makes the spans of the life of a WebSocket connection: a CLIENT span, a SERVER span, or both, as for HTTP. Each is the child of the
 * handshake's span of the same end, so that the graph of services counts the call once, and is named `WebSocket` (a SERVER span also
 * with the route), so that a connection of hours stays out of the latencies of requests.
 */
export class WebSocketSpans {
  private readonly common: Common;
  private readonly redactor: Redactor;
  private readonly router: Router;
  private readonly target = new Target();
  private readonly context = new WireContext();
  private readonly draft = new Draft();
  private readonly clientSpan = this.draft.clientSpan;
  private readonly serverSpan = this.draft.serverSpan;

  constructor(common: Common, options: HttpSpanOptions, router: Router) {
    this.common = common;
    this.redactor = new Redactor(options.redactQueryKeys, options.redactPaths);
    this.router = router;
  }

  /** Adds the spans of one connection. */
  build(exchange: WebSocketExchange, spans: Span[]): void {
    const { common } = this;
    const { connection, handshake } = exchange;
    const wantClient = common.wantsHttp('client', connection);
    const wantServer = common.wantsHttp('server', connection);
    const wanted = endsOf(wantClient, wantServer);
    if (wanted === NO_END) return;
    this.target.parse(handshake.method, handshake.target, this.redactor);
    const context = this.context.read(handshake.requestHeaders) ? this.context : undefined;
    const { seed } = common.sidesOf(connection);

    if (common.decides) this.describe(exchange);
    const ends = common.admit(this.draft, connection, wanted, seed, handshake.streamOffset, context);
    if ((ends & CLIENT_END) !== 0) {
      this.fill(this.clientSpan, SpanKind.CLIENT, exchange);
      this.finishClient(this.clientSpan, exchange, seed);
      common.stepBack(this.clientSpan, context?.hasSpanId === true);
      spans.push(this.clientSpan);
    }
    if ((ends & SERVER_END) !== 0) {
      this.fill(this.serverSpan, SpanKind.SERVER, exchange);
      this.finishServer(this.serverSpan, exchange, seed);
      common.stepBack(this.serverSpan, context?.hasSpanId === true);
      spans.push(this.serverSpan);
    }
  }

  /** As the handshake was, whose trace it belongs to; a long life is nothing slow. */
  private describe(exchange: WebSocketExchange): void {
    const { candidate } = this.draft;
    const { target } = this;
    const { handshake } = exchange;
    candidate.method = handshake.method;
    candidate.path = target.path;
    candidate.failed = errorType(exchange) !== '';
    candidate.setTimes(handshake.startUs, handshake.endUs);
  }

  private finishClient(span: Span, exchange: WebSocketExchange, seed: Int32Array): void {
    const { target } = this;
    const { streamOffset } = exchange.handshake;
    writeClientSpanId(span.ids, PARENT_SPAN_ID, seed, streamOffset);
    writeClientSpanId(span.ids, SPAN_ID, seed, streamOffset + BEHIND_HANDSHAKE);
    span.resource = this.common.resourceOf(exchange.connection, 'client');
    const side = this.side(exchange, undefined, 'client');
    span.shared = side.block;
    const rest = target.query === '' ? target.path : `${target.path}?${target.query}`;
    const origin = target.hasUserInfo ? side.origin.replace('://', '://REDACTED:REDACTED@') : side.origin;
    span.set(KEY.urlFull, origin + rest);
    span.name = 'WebSocket';
  }

  private finishServer(span: Span, exchange: WebSocketExchange, seed: Int32Array): void {
    const { target } = this;
    const { streamOffset, requestHeaders } = exchange.handshake;
    // Ids of SERVER spans are written to one place.
    writeServerSpanId(span.ids, seed, streamOffset);
    span.ids.copy(span.ids, PARENT_SPAN_ID, SPAN_ID, PARENT_SPAN_ID);
    writeServerSpanId(span.ids, seed, streamOffset + BEHIND_HANDSHAKE);
    span.resource = this.common.resourceOf(exchange.connection, 'server');
    const forwarded = parseForwarded(requestHeaders);
    const proxied = forwarded !== undefined && forwarded.address !== '';
    if (proxied) span.set(KEY.clientAddress, forwarded.address);
    span.shared = this.side(exchange, forwarded, proxied ? 'proxied server' : 'server').block;
    span.set(KEY.urlPath, target.path);
    if (target.query !== '') span.set(KEY.urlQuery, target.query);
    const route = this.router.routeOf(target.path, span.resource, exchange.handshake.statusCode);
    if (route !== '') span.set(KEY.httpRoute, route);
    span.name = route === '' ? 'WebSocket' : `WebSocket ${route}`;
  }

  private side(
    { connection, handshake }: WebSocketExchange,
    forwarded: Forwarded | undefined,
    role: Side['role'],
  ): Side {
    const { target } = this;
    const http =
      forwarded?.proto || target.scheme || handshake.scheme || (connection.tls === undefined ? 'http' : 'https');
    const authority = forwarded?.host || target.authority || handshake.requestHeaders.get('host')?.[0];
    const { common } = this;
    const peer = common.peerOf(connection, role === 'client' ? 'client' : 'server', common.newPeers());
    const seen = { connection, version: '' };
    return currentSide(undefined, authority, webSocketScheme(http), seen, role, peer, common.peers);
  }

  /** What CLIENT and SERVER spans have alike. */
  private fill(span: Span, kind: SpanKind, exchange: WebSocketExchange): void {
    const { client, server, closeCode, closedBy, incomplete, handshake } = exchange;
    const { target } = this;
    span.kind = kind;
    span.startUnixUs = this.common.clock.unixUs(exchange.startUs);
    span.endUnixUs = span.startUnixUs + Math.max(0, exchange.endUs - exchange.startUs);
    span.hasParent = true;
    span.parentIsRemote = false;
    span.count = 0;
    span.summary = target.query === '' ? target.path : `${target.path}?${target.query}`;
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
    if (incomplete !== undefined) span.set(KEY.incomplete, incomplete);
    const error = errorType(exchange);
    if (error !== '') span.set(KEY.errorType, error);
    span.status = error === '' ? SpanStatusCode.UNSET : SpanStatusCode.ERROR;
  }
}

/** RFC 6455 section 3. */
function webSocketScheme(http: string): string {
  if (http === 'https') return 'wss';
  return http === 'http' ? 'ws' : http;
}

/**
 * The value of error.type: a close code that names an error, at both ends. The codes of libraries and applications (from 3000) mean what
 * these want, and are none.
 */
export function errorType({ closeCode, incomplete }: WebSocketExchange): string {
  if (closeCode === 0) return errorOfIncomplete(incomplete);
  const orderly = closeCode === 1000 || closeCode === 1001 || closeCode === 1005;
  return orderly || closeCode >= 3000 ? '' : String(closeCode);
}
