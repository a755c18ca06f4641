import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { defaultRedactedQueryKeys, forbiddenHeaders } from '../config/http.ts';
import type { HttpExchange } from '../exchange/exchange.ts';
import { AttributeKey, KEY } from './attributes.ts';
import {
  CLIENT_END,
  type Common,
  type ConnectionSides,
  Draft,
  endsOf,
  errorOfIncomplete,
  NO_END,
  SERVER_END,
} from './common.ts';
import { CONTEXT_HEADERS, WireContext } from './context.ts';
import type { Recorder } from './durations.ts';
import { writeClientSpanId, writeServerSpanId } from './ids.ts';
import type { Router } from './routes.ts';
import { currentSide, type Side } from './side.ts';
import { PARENT_SPAN_ID, SPAN_ID, type Span } from './span.ts';
import { type Signal, signalOf } from './telemetry-senders.ts';
import { type Forwarded, parseForwarded, Redactor, Target } from './url.ts';

/** `http` of the configuration has this shape. */
export interface HttpSpanOptions {
  /** Query parameters whose values are replaced in url.full and url.query. */
  readonly redactQueryKeys: readonly string[];
  /** Patterns that are shown instead of the paths that match them. */
  readonly redactPaths: readonly string[];
  /** Fields that become http.request.header.NAME; credentials never do, whatever stands here. */
  readonly captureRequestHeaders: readonly string[];
  readonly captureResponseHeaders: readonly string[];
  /** Patterns of http.route: `/orders/{id}`, `/orders/:id`, `/static/*`. */
  readonly routes: readonly string[];
  /** Learn the routes of other paths. */
  readonly learnRoutes: boolean;
}

export const defaultHttpSpanOptions: HttpSpanOptions = {
  redactQueryKeys: defaultRedactedQueryKeys,
  redactPaths: [],
  captureRequestHeaders: [],
  captureResponseHeaders: [],
  routes: [],
  learnRoutes: false,
};

/** Lower-case names of the request fields that the builder reads. */
export const requiredHeaders: ReadonlySet<string> = new Set([
  'host',
  'user-agent',
  'content-type',
  'upgrade',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  ...CONTEXT_HEADERS,
]);

/** The fields that a parser must keep for these options: of requests and of responses. */
export function keptHeaders(options: HttpSpanOptions): { request: ReadonlySet<string>; response: ReadonlySet<string> } {
  return {
    request: new Set([...requiredHeaders, ...allowed(options.captureRequestHeaders)]),
    response: new Set(allowed(options.captureResponseHeaders)),
  };
}

function allowed(names: readonly string[]): string[] {
  return names.map((name) => name.toLowerCase()).filter((name) => !forbiddenHeaders.has(name));
}

/** RFC 9110 section 9, RFC 5789, and QUERY, which the conventions know too. Any other is `_OTHER`. */
const METHODS: readonly string[] = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
  'QUERY',
];
const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS);
/** A series of durations is told apart by method and status in one number. */
const STATUS_CODES = 1024;

/** Makes the spans of HTTP exchanges. */
export class HttpSpans {
  private readonly common: Common;
  private readonly redactor: Redactor;
  private readonly router: Router;
  private readonly requestHeaders: readonly (readonly [string, AttributeKey])[];
  private readonly responseHeaders: readonly (readonly [string, AttributeKey])[];
  private readonly durations: { readonly client: Recorder; readonly server: Recorder } | undefined;
  private readonly target = new Target();
  /** Of the server's end that was measured last. */
  private measuredRoute = '';
  private readonly context = new WireContext();
  private readonly draft = new Draft();
  private readonly clientSpan = this.draft.clientSpan;
  private readonly serverSpan = this.draft.serverSpan;

  constructor(common: Common, options: HttpSpanOptions, router: Router) {
    this.common = common;
    this.redactor = new Redactor(options.redactQueryKeys, options.redactPaths);
    this.router = router;
    this.requestHeaders = headerKeys('http.request.header.', options.captureRequestHeaders);
    this.responseHeaders = headerKeys('http.response.header.', options.captureResponseHeaders);
    this.durations = common.durations && {
      client: common.durations.recorder('httpClient', describeDuration),
      server: common.durations.recorder('httpServer', describeDuration),
    };
  }

  /** Adds the spans of one exchange: none, a CLIENT span, a SERVER span, or both in this order. */
  build(exchange: HttpExchange, spans: Span[]): void {
    const { connection, requestHeaders } = exchange;
    const { common } = this;
    const wantClient = common.wantsHttp('client', connection);
    const wantServer = common.wantsHttp('server', connection);
    const wanted = endsOf(wantClient, wantServer);
    if (wanted === NO_END) return;

    this.target.parse(exchange.method, exchange.target, this.redactor);
    const signal = exportedSignal(exchange, this.target.path);
    if (signal !== undefined) {
      common.leaveOutExport(connection, signal, wanted);
      return;
    }

    // Most requests carry a host and a user agent and nothing else of interest: do not ask for each name.
    const plain =
      (requestHeaders.has('host') ? 1 : 0) + (requestHeaders.has('user-agent') ? 1 : 0) === requestHeaders.size;
    const context = !plain && this.context.read(requestHeaders) ? this.context : undefined;
    const forwarded = plain ? undefined : parseForwarded(requestHeaders);

    const state = common.sidesOf(connection);
    // An exchange that began before the capture has no first byte; its end, if not seen, is the last that was seen of it.
    const startUs = exchange.startUs || exchange.responseStartUs || exchange.endUs;
    const endUs = Math.max(exchange.endUs, exchange.responseStartUs, exchange.requestEndUs, startUs);
    const startUnixUs = common.clock.unixUs(startUs);
    const endUnixUs = startUnixUs + (endUs - startUs);
    let client: Side | undefined;
    let server: Side | undefined;
    const { durations } = this;
    if (durations !== undefined) {
      const seconds = (endUs - startUs) / 1e6;
      if (wantClient && common.measures(connection, 'client')) {
        client = this.clientSide(exchange, state);
        this.measure(durations.client, client, exchange, seconds, startUnixUs);
      }
      if (wantServer && common.measures(connection, 'server')) {
        server = this.serverSide(exchange, state, forwarded);
        this.measure(durations.server, server, exchange, seconds, startUnixUs);
      }
    }

    if (common.decides) this.describe(exchange);
    const ends = common.admit(this.draft, connection, wanted, state.seed, exchange.streamOffset, context);
    if (ends === NO_END) return;

    if ((ends & CLIENT_END) !== 0) {
      const span = this.clientSpan;
      this.start(span, SpanKind.CLIENT, exchange, startUnixUs, endUnixUs);
      this.finishClient(span, state, exchange, context, client);
      if (client !== undefined) durations?.client.exemplify(span);
      common.stepBack(span, context?.hasSpanId === true);
      spans.push(span);
    }
    if ((ends & SERVER_END) !== 0) {
      const span = this.serverSpan;
      this.start(span, SpanKind.SERVER, exchange, startUnixUs, endUnixUs);
      this.finishServer(span, state, exchange, context, forwarded, server);
      if (server !== undefined) durations?.server.exemplify(span);
      common.stepBack(span, context?.hasSpanId === true);
      spans.push(span);
    }
  }

  private describe(exchange: HttpExchange): void {
    const { candidate } = this.draft;
    candidate.method = exchange.method;
    candidate.path = this.target.path;
    candidate.failed = errorType(exchange, SpanKind.CLIENT) !== '';
    candidate.setTimes(exchange.startUs || exchange.responseStartUs, exchange.endUs);
  }

  /** @param measured what was found out already */
  private finishClient(
    span: Span,
    state: ConnectionSides,
    exchange: HttpExchange,
    context: WireContext | undefined,
    measured: Side | undefined,
  ): void {
    const { connection } = exchange;
    const { target } = this;
    writeClientSpanId(span.ids, SPAN_ID, state.seed, exchange.streamOffset);
    // The wire's span is the application's own client span, in the same process: ours is its child.
    if (context?.hasSpanId) this.common.setParent(span, context.ids, false);
    else span.hasParent = false;
    span.resource = measured?.durationsOf ?? this.common.resourceOf(connection, 'client');

    const side = measured ?? this.clientSide(exchange, state);
    span.peerName = side.peer?.name ?? '';
    span.shared = side.block;
    // RFC 9112 section 3.3: the asterisk form has no path.
    const path = target.path === '*' ? '' : target.path;
    const rest = target.query === '' ? path : `${path}?${target.query}`;
    span.set(
      KEY.urlFull,
      target.hasUserInfo ? side.origin.replace('://', '://REDACTED:REDACTED@') + rest : side.origin + rest,
    );
    span.name = knownMethod(exchange.method) ? exchange.method : 'HTTP';
  }

  private finishServer(
    span: Span,
    state: ConnectionSides,
    exchange: HttpExchange,
    context: WireContext | undefined,
    forwarded: Forwarded | undefined,
    measured: Side | undefined,
  ): void {
    const { connection } = exchange;
    const { target } = this;
    writeServerSpanId(span.ids, state.seed, exchange.streamOffset);
    if (context?.hasSpanId) this.common.setParent(span, context.ids, true);
    // Where no CLIENT span is ever made, its id would be the parent of nobody's span.
    else if (!this.common.makesHttpClients) span.hasParent = false;
    else {
      writeClientSpanId(span.ids, PARENT_SPAN_ID, state.seed, exchange.streamOffset);
      span.hasParent = true;
      span.parentIsRemote = true;
    }
    span.resource = measured?.durationsOf ?? this.common.resourceOf(connection, 'server');

    if (isProxied(forwarded)) span.set(KEY.clientAddress, forwarded.address);
    span.shared = (measured ?? this.serverSide(exchange, state, forwarded)).block;
    span.set(KEY.urlPath, target.path);
    if (target.query !== '') span.set(KEY.urlQuery, target.query);
    // Whoever asks for a route teaches it: once for each exchange.
    const route =
      measured === undefined
        ? this.router.routeOf(target.path, span.resource, exchange.statusCode)
        : this.measuredRoute;
    const method = knownMethod(exchange.method) ? exchange.method : 'HTTP';
    if (route !== '') {
      span.set(KEY.httpRoute, route);
      span.name = `${method} ${route}`;
    } else {
      span.name = method;
    }
  }

  private clientSide(exchange: HttpExchange, state: ConnectionSides): Side {
    const { connection } = exchange;
    const { common, target } = this;
    const scheme = target.scheme || exchange.scheme || (connection.tls === undefined ? 'http' : 'https');
    // RFC 9112 section 3.2.2: the absolute form overrides Host.
    const authority = target.authority || exchange.requestHeaders.get('host')?.[0];
    const peer = common.peerOf(connection, 'client', state.peers);
    state.client = currentSide(state.client, authority, scheme, exchange, 'client', peer, common.peers);
    return state.client;
  }

  private serverSide(exchange: HttpExchange, state: ConnectionSides, forwarded: Forwarded | undefined): Side {
    const { connection } = exchange;
    const { common, target } = this;
    const scheme =
      forwarded?.proto || target.scheme || exchange.scheme || (connection.tls === undefined ? 'http' : 'https');
    const authority = forwarded?.host || target.authority || exchange.requestHeaders.get('host')?.[0];
    const peer = common.peerOf(connection, 'server', state.peers);
    const role = isProxied(forwarded) ? 'proxied server' : 'server';
    state.server = currentSide(state.server, authority, scheme, exchange, role, peer, common.peers);
    return state.server;
  }

  /** Of every exchange, before anything decides whether it becomes a span. */
  private measure(recorder: Recorder, side: Side, exchange: HttpExchange, seconds: number, startUnixUs: number): void {
    const { statusCode } = exchange;
    const isClient = side.role === 'client';
    const resource = this.common.resourceOf(exchange.connection, isClient ? 'client' : 'server');
    if (!isClient) this.measuredRoute = this.router.routeOf(this.target.path, resource, statusCode);
    const route = isClient ? '' : this.measuredRoute;
    const code = METHODS.indexOf(exchange.method) * STATUS_CODES + statusCode;
    const error = errorType(exchange, isClient ? SpanKind.CLIENT : SpanKind.SERVER);
    recorder.record(resource, side, route, code, error, seconds, startUnixUs);
  }

  /** What CLIENT and SERVER spans have alike. */
  private start(span: Span, kind: SpanKind, exchange: HttpExchange, startUnixUs: number, endUnixUs: number): void {
    const { method, statusCode, incomplete } = exchange;
    span.kind = kind;
    span.startUnixUs = startUnixUs;
    span.endUnixUs = endUnixUs;
    span.count = 0;
    span.summary = this.target.readable;

    if (knownMethod(method)) {
      span.set(KEY.httpRequestMethod, method);
    } else {
      span.set(KEY.httpRequestMethod, '_OTHER');
      if (method !== '') span.set(KEY.httpRequestMethodOriginal, method);
    }
    if (statusCode !== 0) {
      span.set(KEY.httpResponseStatusCode, statusCode);
      span.set(KEY.httpResponseBodySize, exchange.responseBodyBytes);
    }
    span.set(KEY.httpRequestBodySize, exchange.requestBodyBytes);
    const userAgent = exchange.requestHeaders.get('user-agent');
    if (userAgent !== undefined) span.set(KEY.userAgentOriginal, userAgent[0]!);
    if (exchange.responseStartUs !== 0 && exchange.startUs !== 0) {
      // Whole nanoseconds: no digits that were never measured.
      const us = Math.max(0, exchange.responseStartUs - exchange.startUs);
      span.set(KEY.timeToFirstByte, Math.round(us * 1000) / 1e9);
    }
    if (incomplete !== undefined) span.set(KEY.incomplete, incomplete);
    const error = errorType(exchange, kind);
    if (error !== '') span.set(KEY.errorType, error);
    span.status = error === '' ? SpanStatusCode.UNSET : SpanStatusCode.ERROR;
    if (this.requestHeaders.length > 0) setHeaders(span, this.requestHeaders, exchange.requestHeaders);
    if (this.responseHeaders.length > 0) setHeaders(span, this.responseHeaders, exchange.responseHeaders);
  }
}

/** @param prefix of the attributes' names */
export function headerKeys(prefix: string, names: readonly string[]): (readonly [string, AttributeKey])[] {
  return allowed(names).map((name) => [name, new AttributeKey(prefix + name)]);
}

export function setHeaders(
  span: Span,
  wanted: readonly (readonly [string, AttributeKey])[],
  headers: ReadonlyMap<string, readonly string[]>,
): void {
  for (const [name, key] of wanted) {
    const values = headers.get(name);
    if (values !== undefined) span.set(key, values);
  }
}

/** Semantic conventions for HTTP metrics. */
function describeDuration(route: string, code: number, error: string): Record<string, string | number> {
  const method = METHODS[Math.floor(code / STATUS_CODES)] ?? '_OTHER';
  const status = ((code % STATUS_CODES) + STATUS_CODES) % STATUS_CODES;
  return {
    [KEY.httpRequestMethod.name]: method,
    ...(status !== 0 && { [KEY.httpResponseStatusCode.name]: status }),
    ...(route !== '' && { [KEY.httpRoute.name]: route }),
    ...(error !== '' && { [KEY.errorType.name]: error }),
  };
}

/** Behind a proxy each request of a connection may come from somebody else. */
function isProxied(forwarded: Forwarded | undefined): forwarded is Forwarded {
  return forwarded !== undefined && forwarded.address !== '';
}

function knownMethod(method: string): boolean {
  return method === 'GET' || KNOWN_METHODS.has(method);
}

/** The value of error.type, empty when the exchange did not fail from where the span stands. */
export function errorType(exchange: HttpExchange, kind: SpanKind): string {
  const { statusCode, incomplete, errorCode } = exchange;
  // A 4xx is the client's error; from where the server stands it did its work.
  if (statusCode >= 500 || (statusCode >= 400 && kind === SpanKind.CLIENT)) return String(statusCode);
  return errorCode || errorOfIncomplete(incomplete);
}

/** Of gRPC no other service has such a name: on an HTTP/2 connection that is older than the agent the content type is not known. */
const OTLP_PATH = /\/v1(?:development)?\/(traces|metrics|logs|profiles)$|^\/opentelemetry\.proto\.collector\.(\w+)\./;

/** @returns what another process exports by OTLP with it, over HTTP or gRPC; undefined when it is no export */
function exportedSignal(exchange: HttpExchange, path: string): Signal | undefined {
  if (exchange.method !== 'POST') return undefined;
  const match = OTLP_PATH.exec(path);
  if (match === null) return undefined;
  if (match[2] !== undefined) return signalOf(match[2]);
  const type = exchange.requestHeaders.get('content-type')?.[0] ?? '';
  return /^application\/(?:x-protobuf|json)\s*(?:;|$)/i.test(type) ? signalOf(match[1]!) : undefined;
}
