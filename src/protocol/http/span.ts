import { REQUEST_BOUNDS } from '../../metric/bounds.ts';
import { type AttributeKey, KEY } from '../../span/attributes.ts';
import type { Candidate } from '../../span/candidate.ts';
import type { WireContext } from '../../span/context.ts';
import type { EndpointAttributes, EndpointDescription, EndpointKey } from '../../span/endpoint.ts';
import type { ExchangeFacts, Instruments, MappingFactory, SeriesFacts, SpanMapping } from '../../span/mapping.ts';
import { errorOfIncomplete, setDelay, setOutcome } from '../../span/outcome.ts';
import type { Peer } from '../../span/peer.ts';
import type { AttributeValue, Resource } from '../../span/resource.ts';
import type { EndpointName, Span } from '../../span/span.ts';
import { type Signal, signalOf } from '../../span/telemetry-senders.ts';
import { type Forwarded, parseForwarded, Redactor, Target } from '../../span/url.ts';
import type { HttpConfig, WithHttp } from './config.ts';
import type { HttpExchange } from './exchange.ts';
import { describeHttpEndpoint, fullUrl, identifyHttp, isProxied } from './span-endpoint.ts';
import { headerKeys, setHeaders } from './span-headers.ts';
import { type Router, sharedRouter } from './span-router.ts';

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
/** A series of durations is identified by method and status in one number. */
const STATUS_CODES = 1024;

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

const INSTRUMENTS: Instruments = {
  client: {
    name: 'http.client.request.duration',
    description: 'Duration of HTTP client requests.',
    bounds: REQUEST_BOUNDS,
    keys: [KEY.serverAddress, KEY.serverPort, KEY.networkProtocolVersion],
  },
  server: {
    name: 'http.server.request.duration',
    description: 'Duration of HTTP server requests.',
    bounds: REQUEST_BOUNDS,
    keys: [KEY.urlScheme, KEY.networkProtocolVersion],
  },
  describe: describeDuration,
};

/** How HTTP exchanges become spans (semantic conventions for HTTP spans, 1.45). */
export class HttpSpans implements SpanMapping<HttpExchange> {
  readonly protocols = ['http'];
  readonly primary = 'server';
  readonly instruments = INSTRUMENTS;
  private readonly redactor: Redactor;
  private readonly router: Router;
  private readonly requestHeaders: readonly (readonly [string, AttributeKey])[];
  private readonly responseHeaders: readonly (readonly [string, AttributeKey])[];
  private readonly target = new Target();
  /** Of this exchange: it has fields besides the usual ones; what its proxy says; its route, once that was asked for. */
  private isPlain = true;
  private forwarded: Forwarded | undefined = undefined;
  private route: string | undefined = undefined;

  /** @param router finds the routes of paths */
  constructor(options: HttpConfig, router: Router) {
    this.redactor = new Redactor(options.redactQueryKeys, options.redactPaths);
    this.router = router;
    this.requestHeaders = headerKeys('http.request.header.', options.captureRequestHeaders);
    this.responseHeaders = headerKeys('http.response.header.', options.captureResponseHeaders);
  }

  begin(exchange: HttpExchange, facts: ExchangeFacts): void {
    const { requestHeaders } = exchange;
    this.target.parse(exchange.method, exchange.target, this.redactor);
    // Most requests carry a host and a user agent and nothing else of interest: do not ask for each name.
    this.isPlain =
      (requestHeaders.has('host') ? 1 : 0) + (requestHeaders.has('user-agent') ? 1 : 0) === requestHeaders.size;
    this.forwarded = this.isPlain ? undefined : parseForwarded(requestHeaders);
    this.route = undefined;
    // An exchange that began before the capture has no first byte; its end, if not seen, is the last that was seen of it.
    const startUs = exchange.startUs || exchange.responseStartUs || exchange.endUs;
    facts.startUs = startUs;
    facts.endUs = Math.max(exchange.endUs, exchange.responseStartUs, exchange.requestEndUs, startUs);
    facts.traceOffset = exchange.streamOffset;
    facts.spanOffset = exchange.streamOffset;
    facts.exportedSignal = exportedSignal(exchange, this.target.path);
  }

  readContext({ requestHeaders }: HttpExchange, context: WireContext): boolean {
    return !this.isPlain && context.read(requestHeaders);
  }

  describe(exchange: HttpExchange, candidate: Candidate): void {
    candidate.method = exchange.method;
    candidate.path = this.target.path;
    candidate.failed = errorType(exchange, 'client') !== '';
    candidate.setTimes(exchange.startUs || exchange.responseStartUs, exchange.endUs);
  }

  identify(exchange: HttpExchange, endpoint: EndpointName, key: EndpointKey): void {
    const forwarded = endpoint === 'server' ? this.forwarded : undefined;
    identifyHttp(exchange, this.target, forwarded, key);
    key.detail = exchange.version;
  }

  describeEndpoint(
    { connection }: HttpExchange,
    endpoint: EndpointName,
    key: EndpointKey,
    peer: Peer | undefined,
  ): EndpointDescription {
    const protocol: [AttributeKey, AttributeValue][] = [];
    if (key.detail !== '') protocol.push([KEY.networkProtocolVersion, key.detail]);
    if (endpoint === 'server') protocol.push([KEY.urlScheme, key.system]);
    return describeHttpEndpoint(connection, endpoint, key, peer, [], protocol);
  }

  setSeries(exchange: HttpExchange, endpoint: EndpointName, resource: Resource, series: SeriesFacts): void {
    series.name = endpoint === 'client' ? '' : this.routeOf(exchange, resource);
    series.code = METHODS.indexOf(exchange.method) * STATUS_CODES + exchange.statusCode;
    series.error = errorType(exchange, endpoint);
  }

  fill(span: Span, exchange: HttpExchange, { endpoint, origin }: EndpointAttributes): void {
    this.fillBoth(span, exchange, endpoint);
    const { target, forwarded } = this;
    const method = knownMethod(exchange.method) ? exchange.method : 'HTTP';
    if (endpoint === 'client') {
      span.set(KEY.urlFull, fullUrl(target, origin));
      span.name = method;
      return;
    }
    if (isProxied(forwarded)) span.set(KEY.clientAddress, forwarded.address);
    span.set(KEY.urlPath, target.path);
    if (target.query !== '') span.set(KEY.urlQuery, target.query);
    const route = this.routeOf(exchange, span.resource);
    if (route !== '') span.set(KEY.httpRoute, route);
    span.name = route === '' ? method : `${method} ${route}`;
  }

  /** What CLIENT and SERVER spans have alike. */
  private fillBoth(span: Span, exchange: HttpExchange, endpoint: EndpointName): void {
    const { method, statusCode } = exchange;
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
    setDelay(span, KEY.timeToFirstByte, exchange.startUs, exchange.responseStartUs);
    setOutcome(span, exchange.incomplete, errorType(exchange, endpoint));
    if (this.requestHeaders.length > 0) setHeaders(span, this.requestHeaders, exchange.requestHeaders);
    if (this.responseHeaders.length > 0) setHeaders(span, this.responseHeaders, exchange.responseHeaders);
  }

  /** Each question teaches the router a path: it is asked once for an exchange. */
  private routeOf({ statusCode }: HttpExchange, resource: Resource): string {
    this.route ??= this.router.routeOf(this.target.path, resource, statusCode);
    return this.route;
  }
}

function knownMethod(method: string): boolean {
  return method === 'GET' || KNOWN_METHODS.has(method);
}

/** The value of error.type, empty when the exchange did not fail as seen from that endpoint. */
export function errorType(exchange: HttpExchange, endpoint: EndpointName): string {
  const { statusCode, incomplete, errorCode } = exchange;
  // A 4xx is the client's error; the server did its work.
  if (statusCode >= 500 || (statusCode >= 400 && endpoint === 'client')) return String(statusCode);
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

export const httpSpans: MappingFactory<WithHttp> = (options) =>
  new HttpSpans(options.config.http, sharedRouter(options));
