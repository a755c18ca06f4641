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
import { signalOf } from '../../span/telemetry-senders.ts';
import { type Forwarded, parseForwarded } from '../../span/url.ts';
import type { WithHttp } from '../http/config.ts';
import type { HttpExchange } from '../http/exchange.ts';
import { describeHttpEndpoint, identifyHttp } from '../http/span-endpoint.ts';
import { type CapturedHeaders, headerKeys, setHeaders } from '../http/span-headers.ts';
import type { GrpcExchange } from './exchange.ts';
import { NO_STATUS, type StatusName, statusCode, statusName } from './status.ts';

/** Semantic conventions for gRPC: what is an error for the server. For the client everything but OK is. */
const SERVER_ERRORS: ReadonlySet<StatusName> = new Set([
  'UNKNOWN',
  'DEADLINE_EXCEEDED',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
]);

const OTHER_METHOD = '_OTHER';
/** `/package.Service/Method`, of gRPC-Web also below a prefix. Longer ones are no methods. */
const METHOD = /^(?:\/[^?#]*)?\/([!"$-.0->@-~]{1,255}\/[!"$-.0->@-~]{1,255})$/;
/** Targets whose methods are remembered: more, and all are forgotten. */
const MAX_METHODS = 1024;
const MAX_TARGET_CHARACTERS = 512;
const OTLP_EXPORT = /^opentelemetry\.proto\.collector\.(\w+)\./;

/** Semantic conventions for RPC metrics. */
function describeDuration(method: string, code: number, error: string): Record<string, string> {
  const status = statusName(code);
  return {
    [KEY.rpcMethod.name]: method,
    ...(status !== undefined && { [KEY.rpcStatusCode.name]: status }),
    ...(error !== '' && { [KEY.errorType.name]: error }),
  };
}

const INSTRUMENTS: Instruments = {
  client: {
    name: 'rpc.client.call.duration',
    description: 'Duration of outgoing remote procedure calls.',
    bounds: REQUEST_BOUNDS,
    keys: [KEY.rpcSystemName, KEY.serverAddress, KEY.serverPort],
  },
  server: {
    name: 'rpc.server.call.duration',
    description: 'Duration of incoming remote procedure calls.',
    bounds: REQUEST_BOUNDS,
    keys: [KEY.rpcSystemName, KEY.serverAddress, KEY.serverPort],
  },
  describe: describeDuration,
};

/**
 * How gRPC calls become spans (semantic conventions for RPC and gRPC, 1.45). Ids and parents are those of the request that carries the call;
 * what is known of a call that goes on is a child of the span that comes at its end.
 */
export class GrpcSpans implements SpanMapping<GrpcExchange> {
  readonly protocols = ['grpc'];
  readonly primary = 'server';
  readonly instruments = INSTRUMENTS;
  private readonly requestHeaders: readonly (readonly [string, AttributeKey])[];
  private readonly responseHeaders: readonly (readonly [string, AttributeKey])[];
  private readonly methods = new Map<string, string>();
  /** Of this call: `package.Service/Method`, and what its proxy says, once that was asked for. */
  private method = '';
  private forwarded: Forwarded | undefined = undefined;

  /** @param options which fields become attributes */
  constructor(options: CapturedHeaders) {
    this.requestHeaders = headerKeys('rpc.request.header.', options.captureRequestHeaders);
    this.responseHeaders = headerKeys('rpc.response.header.', options.captureResponseHeaders);
  }

  begin({ http, interimUs }: GrpcExchange, facts: ExchangeFacts): void {
    this.method = this.methodOf(http.target);
    this.forwarded = undefined;
    // A call that began before the capture has no first byte; its end, if not seen, is the last that was seen of it.
    const startUs = http.startUs || http.responseStartUs || http.endUs;
    facts.startUs = startUs;
    facts.endUs = interimUs || Math.max(http.endUs, http.responseStartUs, http.requestEndUs, startUs);
    facts.traceOffset = http.streamOffset;
    facts.spanOffset = http.streamOffset;
    if (interimUs !== 0) {
      facts.interimKey = KEY.rpcInterim;
      facts.parentOffset = http.streamOffset;
      // No request begins at the second byte of another.
      facts.spanOffset = http.streamOffset + 1;
    }
    const exported = OTLP_EXPORT.exec(this.method)?.[1];
    if (exported !== undefined) facts.exportedSignal = signalOf(exported);
  }

  readContext({ http }: GrpcExchange, context: WireContext): boolean {
    return context.read(http.requestHeaders);
  }

  describe(exchange: GrpcExchange, candidate: Candidate): void {
    const { http, interimUs } = exchange;
    candidate.method = this.method;
    candidate.path = http.target;
    candidate.failed = errorType(http, 'client', statusOf(exchange, 'client')) !== '';
    candidate.setTimes(http.startUs || http.responseStartUs, interimUs || http.endUs);
  }

  identify({ http }: GrpcExchange, endpoint: EndpointName, key: EndpointKey): void {
    identifyHttp(http, undefined, endpoint === 'client' ? undefined : this.forwardedOf(http), key);
    key.detail = http.version;
  }

  describeEndpoint(
    { connection }: GrpcExchange,
    endpoint: EndpointName,
    key: EndpointKey,
    peer: Peer | undefined,
  ): EndpointDescription {
    const protocol: [AttributeKey, AttributeValue][] = [[KEY.networkProtocolName, 'http']];
    if (key.detail !== '') protocol.push([KEY.networkProtocolVersion, key.detail]);
    return describeHttpEndpoint(connection, endpoint, key, peer, [[KEY.rpcSystemName, 'grpc']], protocol);
  }

  setSeries(exchange: GrpcExchange, endpoint: EndpointName, _resource: Resource, series: SeriesFacts): void {
    const status = statusOf(exchange, endpoint);
    // A client may ask for methods without number that its server does not have.
    series.name = this.method === '' || status === 'UNIMPLEMENTED' ? OTHER_METHOD : this.method;
    series.code = status === undefined ? NO_STATUS : statusCode(status);
    series.error = errorType(exchange.http, endpoint, status);
  }

  fill(span: Span, exchange: GrpcExchange, { endpoint }: EndpointAttributes): void {
    const { method } = this;
    const { http } = exchange;
    const address = endpoint === 'client' ? '' : this.forwardedOf(http).address;
    if (address !== '') span.set(KEY.clientAddress, address);
    span.name = method === '' ? 'grpc' : method;
    span.summary = method === '' ? '?' : method;
    span.set(KEY.rpcMethod, method === '' ? OTHER_METHOD : method);
    const status = statusOf(exchange, endpoint);
    if (status !== undefined) span.set(KEY.rpcStatusCode, status);
    // With any other the answer is not that of a server of gRPC.
    if (http.statusCode !== 0 && http.statusCode !== 200) span.set(KEY.httpResponseStatusCode, http.statusCode);
    setCounts(span, exchange);
    if (exchange.timeoutUs > 0) span.set(KEY.rpcTimeout, exchange.timeoutUs / 1e6);
    const userAgent = http.requestHeaders.get('user-agent')?.[0];
    if (userAgent !== undefined) span.set(KEY.userAgentOriginal, userAgent);
    setOutcome(span, http.incomplete, errorType(http, endpoint, status));
    if (this.requestHeaders.length > 0) setHeaders(span, this.requestHeaders, http.requestHeaders);
    if (this.responseHeaders.length > 0) setHeaders(span, this.responseHeaders, http.responseHeaders);
  }

  /** @returns `package.Service/Method`, the same object for each; empty for a path that is none */
  private methodOf(target: string): string {
    let method = this.methods.get(target);
    if (method === undefined) {
      method = readMethod(target);
      if (target.length > MAX_TARGET_CHARACTERS) return method;
      if (this.methods.size >= MAX_METHODS) this.methods.clear();
      this.methods.set(target, method);
    }
    return method;
  }

  private forwardedOf({ requestHeaders }: HttpExchange): Forwarded {
    this.forwarded ??= parseForwarded(requestHeaders);
    return this.forwarded;
  }
}

/** @returns `package.Service/Method`; empty for a path that is none */
export function readMethod(target: string): string {
  return METHOD.exec(target)?.[1] ?? '';
}

function setCounts(span: Span, exchange: GrpcExchange): void {
  if (exchange.requestMessages >= 0) {
    span.set(KEY.rpcRequestMessages, exchange.requestMessages);
    span.set(KEY.rpcRequestSize, exchange.requestMessageBytes);
    if (exchange.requestCompressed > 0) span.set(KEY.rpcRequestCompressed, exchange.requestCompressed);
  }
  if (exchange.responseMessages >= 0) {
    span.set(KEY.rpcResponseMessages, exchange.responseMessages);
    span.set(KEY.rpcResponseSize, exchange.responseMessageBytes);
    if (exchange.responseCompressed > 0) span.set(KEY.rpcResponseCompressed, exchange.responseCompressed);
  }
  setDelay(span, KEY.timeToFirstMessage, exchange.http.startUs, exchange.firstMessageUs);
}

export function statusOf({ statusCode, http }: GrpcExchange, endpoint: EndpointName): StatusName | undefined {
  const said = statusName(statusCode);
  if (said !== undefined || endpoint !== 'client') return said;
  // What a client makes of a connection that ends before its server has said how the call went.
  return http.incomplete === 'connection_closed' || http.incomplete === 'connection_reset' ? 'UNAVAILABLE' : undefined;
}

/** The value of error.type, empty when the call did not fail as seen from that endpoint. */
export function errorType(http: HttpExchange, endpoint: EndpointName, status: StatusName | undefined): string {
  if (status === undefined) return http.errorCode || errorOfIncomplete(http.incomplete);
  if (endpoint === 'server') return SERVER_ERRORS.has(status) ? status : '';
  return status === 'OK' ? '' : status;
}

export const grpcSpans: MappingFactory<WithHttp> = ({ config }) => new GrpcSpans(config.http);
