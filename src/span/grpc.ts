import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { GrpcExchange, HttpExchange } from '../exchange/exchange.ts';
import { NO_STATUS, type StatusName, statusCode, statusName } from '../protocol/grpc/status.ts';
import { type AttributeKey, KEY } from './attributes.ts';
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
import { WireContext } from './context.ts';
import type { Recorder } from './durations.ts';
import { type HttpSpanOptions, headerKeys, setHeaders } from './http.ts';
import { writeClientSpanId, writeServerSpanId } from './ids.ts';
import { currentSide, type Side } from './side.ts';
import { PARENT_SPAN_ID, SPAN_ID, type Span } from './span.ts';
import { signalOf } from './telemetry-senders.ts';
import { parseForwarded } from './url.ts';

/** Semantic conventions for gRPC: what is an error from where the server stands. For the client everything but OK is. */
const SERVER_ERRORS: ReadonlySet<StatusName> = new Set([
  'UNKNOWN',
  'DEADLINE_EXCEEDED',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
]);

const OTHER_METHOD = '_OTHER';
/** `/package.Service/Method`, of gRPC-Web also below a prefix. Longer ones are nobody's methods. */
const METHOD = /^(?:\/[^?#]*)?\/([!"$-.0->@-~]{1,255}\/[!"$-.0->@-~]{1,255})$/;
/** Targets whose methods are remembered: more, and all are forgotten. */
const MAX_METHODS = 1024;
const MAX_TARGET_CHARACTERS = 512;
const OTLP_EXPORT = /^opentelemetry\.proto\.collector\.(\w+)\./;

/** Makes the spans of gRPC calls (semantic conventions for RPC and gRPC, 1.45). Ids and parents are those of the request that carries the call. */
export class GrpcSpans {
  private readonly common: Common;
  private readonly requestHeaders: readonly (readonly [string, AttributeKey])[];
  private readonly responseHeaders: readonly (readonly [string, AttributeKey])[];
  private readonly methods = new Map<string, string>();
  private readonly durations: { readonly client: Recorder; readonly server: Recorder } | undefined;
  private readonly context = new WireContext();
  private readonly draft = new Draft();
  private readonly clientSpan = this.draft.clientSpan;
  private readonly serverSpan = this.draft.serverSpan;

  /** @param options which fields become attributes */
  constructor(common: Common, options: Pick<HttpSpanOptions, 'captureRequestHeaders' | 'captureResponseHeaders'>) {
    this.common = common;
    this.requestHeaders = headerKeys('rpc.request.header.', options.captureRequestHeaders);
    this.responseHeaders = headerKeys('rpc.response.header.', options.captureResponseHeaders);
    this.durations = common.durations && {
      client: common.durations.recorder('rpcClient', describeDuration),
      server: common.durations.recorder('rpcServer', describeDuration),
    };
  }

  /** Adds the spans of one exchange: none, a CLIENT span, a SERVER span, or both in this order. */
  build(exchange: GrpcExchange, spans: Span[]): void {
    const { common } = this;
    const { connection, http } = exchange;
    const counted = exchange.interimUs === 0;
    const wantClient = common.wantsHttp('client', connection, counted);
    const wantServer = common.wantsHttp('server', connection, counted);
    const wanted = endsOf(wantClient, wantServer);
    if (wanted === NO_END) return;
    const method = this.methodOf(http.target);
    const signal = OTLP_EXPORT.exec(method)?.[1];
    if (signal !== undefined) {
      common.leaveOutExport(connection, signalOf(signal), wanted, counted);
      return;
    }
    const context = this.context.read(http.requestHeaders) ? this.context : undefined;
    const state = common.sidesOf(connection);
    let client: Side | undefined;
    let server: Side | undefined;
    const { durations } = this;
    if (durations !== undefined && counted) {
      if (wantClient && common.measures(connection, 'client')) {
        client = this.clientSide(exchange, state);
        this.measure(durations.client, client, exchange, method);
      }
      if (wantServer && common.measures(connection, 'server')) {
        server = this.serverSide(exchange, state);
        this.measure(durations.server, server, exchange, method);
      }
    }
    if (common.decides) this.describe(exchange, method);
    const ends = common.admit(this.draft, connection, wanted, state.seed, http.streamOffset, context, counted);
    if ((ends & CLIENT_END) !== 0) {
      this.finishClient(this.clientSpan, state, exchange, context, client);
      this.finish(this.clientSpan, exchange, method);
      common.stepBack(this.clientSpan, context?.hasSpanId === true);
      if (!counted) makeInterim(this.clientSpan, state.seed, exchange);
      else if (client !== undefined) durations?.client.exemplify(this.clientSpan);
      spans.push(this.clientSpan);
    }
    if ((ends & SERVER_END) !== 0) {
      this.finishServer(this.serverSpan, state, exchange, context, server);
      this.finish(this.serverSpan, exchange, method);
      common.stepBack(this.serverSpan, context?.hasSpanId === true);
      if (!counted) makeInterim(this.serverSpan, state.seed, exchange);
      else if (server !== undefined) durations?.server.exemplify(this.serverSpan);
      spans.push(this.serverSpan);
    }
  }

  private describe(exchange: GrpcExchange, method: string): void {
    const { candidate } = this.draft;
    const { http, interimUs } = exchange;
    candidate.method = method;
    candidate.path = http.target;
    candidate.failed = errorType(http, SpanKind.CLIENT, statusOf(exchange, SpanKind.CLIENT)) !== '';
    candidate.setTimes(http.startUs || http.responseStartUs, interimUs || http.endUs);
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

  /** @param measured what was found out already */
  private finishClient(
    span: Span,
    state: ConnectionSides,
    exchange: GrpcExchange,
    context: WireContext | undefined,
    measured: Side | undefined,
  ): void {
    const { connection, http } = exchange;
    span.kind = SpanKind.CLIENT;
    span.count = 0;
    writeClientSpanId(span.ids, SPAN_ID, state.seed, http.streamOffset);
    // The wire's span is the application's own, in the same process: ours is its child.
    if (context?.hasSpanId) this.common.setParent(span, context.ids, false);
    else span.hasParent = false;
    span.resource = measured?.durationsOf ?? this.common.resourceOf(connection, 'client');
    const side = measured ?? this.clientSide(exchange, state);
    span.peerName = side.peer?.name ?? '';
    span.shared = side.block;
  }

  private finishServer(
    span: Span,
    state: ConnectionSides,
    exchange: GrpcExchange,
    context: WireContext | undefined,
    measured: Side | undefined,
  ): void {
    const { connection, http } = exchange;
    span.kind = SpanKind.SERVER;
    span.count = 0;
    writeServerSpanId(span.ids, state.seed, http.streamOffset);
    if (context?.hasSpanId) this.common.setParent(span, context.ids, true);
    // Where no CLIENT span is ever made, its id would be the parent of nobody's span.
    else if (!this.common.makesHttpClients) span.hasParent = false;
    else {
      writeClientSpanId(span.ids, PARENT_SPAN_ID, state.seed, http.streamOffset);
      span.hasParent = true;
      span.parentIsRemote = true;
    }
    span.resource = measured?.durationsOf ?? this.common.resourceOf(connection, 'server');
    const { address } = parseForwarded(http.requestHeaders);
    if (address !== '') span.set(KEY.clientAddress, address);
    span.shared = (measured ?? this.serverSide(exchange, state)).block;
  }

  private clientSide({ connection, http }: GrpcExchange, state: ConnectionSides): Side {
    const { common } = this;
    const authority = http.requestHeaders.get('host')?.[0];
    const peer = common.peerOf(connection, 'client', state.peers);
    state.client = currentSide(state.client, authority, schemeOf(http), http, 'grpc client', peer, common.peers);
    return state.client;
  }

  private serverSide({ connection, http }: GrpcExchange, state: ConnectionSides): Side {
    const { common } = this;
    const forwarded = parseForwarded(http.requestHeaders);
    const authority = forwarded.host || http.requestHeaders.get('host')?.[0];
    const scheme = forwarded.proto || schemeOf(http);
    const peer = common.peerOf(connection, 'server', state.peers);
    const role = forwarded.address === '' ? 'grpc server' : 'proxied grpc server';
    state.server = currentSide(state.server, authority, scheme, http, role, peer, common.peers);
    return state.server;
  }

  /** Of every call, before anything decides whether it becomes a span. */
  private measure(recorder: Recorder, side: Side, exchange: GrpcExchange, method: string): void {
    const { connection, http } = exchange;
    const { common } = this;
    const isClient = side.role === 'grpc client';
    const kind = isClient ? SpanKind.CLIENT : SpanKind.SERVER;
    const status = statusOf(exchange, kind);
    // A client may ask for methods without number that its server does not have.
    const name = method === '' || status === 'UNIMPLEMENTED' ? OTHER_METHOD : method;
    const code = status === undefined ? NO_STATUS : statusCode(status);
    const { startUs, endUs } = timesOf(exchange);
    const resource = common.resourceOf(connection, isClient ? 'client' : 'server');
    const startUnixUs = common.clock.unixUs(startUs);
    recorder.record(resource, side, name, code, errorType(http, kind, status), (endUs - startUs) / 1e6, startUnixUs);
  }

  /** What CLIENT and SERVER spans have alike. */
  private finish(span: Span, exchange: GrpcExchange, method: string): void {
    const { http } = exchange;
    const { startUs, endUs } = timesOf(exchange);
    span.startUnixUs = this.common.clock.unixUs(startUs);
    span.endUnixUs = span.startUnixUs + (endUs - startUs);
    span.name = method === '' ? 'grpc' : method;
    span.summary = method === '' ? '?' : method;
    span.set(KEY.rpcMethod, method === '' ? OTHER_METHOD : method);
    const status = statusOf(exchange, span.kind);
    if (status !== undefined) span.set(KEY.rpcStatusCode, status);
    // With any other the answer is not that of a server of gRPC.
    if (http.statusCode !== 0 && http.statusCode !== 200) span.set(KEY.httpResponseStatusCode, http.statusCode);
    setCounts(span, exchange);
    if (exchange.timeoutUs > 0) span.set(KEY.rpcTimeout, exchange.timeoutUs / 1e6);
    const userAgent = http.requestHeaders.get('user-agent')?.[0];
    if (userAgent !== undefined) span.set(KEY.userAgentOriginal, userAgent);
    if (http.incomplete !== undefined) span.set(KEY.incomplete, http.incomplete);
    const error = errorType(http, span.kind, status);
    if (error !== '') span.set(KEY.errorType, error);
    span.status = error === '' ? SpanStatusCode.UNSET : SpanStatusCode.ERROR;
    if (this.requestHeaders.length > 0) setHeaders(span, this.requestHeaders, http.requestHeaders);
    if (this.responseHeaders.length > 0) setHeaders(span, this.responseHeaders, http.responseHeaders);
  }
}

/** @returns `package.Service/Method`; empty for a path that is none */
export function readMethod(target: string): string {
  return METHOD.exec(target)?.[1] ?? '';
}

/** A call that began before the capture has no first byte; its end, if not seen, is the last that was seen of it. */
function timesOf({ http, interimUs }: GrpcExchange): { startUs: number; endUs: number } {
  const startUs = http.startUs || http.responseStartUs || http.endUs;
  return { startUs, endUs: interimUs || Math.max(http.endUs, http.responseStartUs, http.requestEndUs, startUs) };
}

/** Semantic conventions for RPC metrics. */
function describeDuration(method: string, code: number, error: string): Record<string, string> {
  const status = statusName(code);
  return {
    [KEY.rpcMethod.name]: method,
    ...(status !== undefined && { [KEY.rpcStatusCode.name]: status }),
    ...(error !== '' && { [KEY.errorType.name]: error }),
  };
}

/** What is known of a call that goes on: a child of the span that comes at its end, of a kind that no metric of calls counts. */
function makeInterim(span: Span, seed: Int32Array, { http }: GrpcExchange): void {
  span.ids.copy(span.ids, PARENT_SPAN_ID, SPAN_ID, PARENT_SPAN_ID);
  span.hasParent = true;
  span.parentIsRemote = false;
  // No request begins at the second byte of another.
  if (span.end === 'client') writeClientSpanId(span.ids, SPAN_ID, seed, http.streamOffset + 1);
  else writeServerSpanId(span.ids, seed, http.streamOffset + 1);
  span.kind = SpanKind.INTERNAL;
  span.set(KEY.rpcInterim, true);
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
  const { firstMessageUs, http } = exchange;
  if (firstMessageUs === 0 || http.startUs === 0) return;
  // Whole nanoseconds: no digits that were never measured.
  span.set(KEY.timeToFirstMessage, Math.round(Math.max(0, firstMessageUs - http.startUs) * 1000) / 1e9);
}

function schemeOf(http: HttpExchange): string {
  return http.scheme || (http.connection.tls === undefined ? 'http' : 'https');
}

export function statusOf({ statusCode, http }: GrpcExchange, kind: SpanKind): StatusName | undefined {
  const said = statusName(statusCode);
  if (said !== undefined || kind !== SpanKind.CLIENT) return said;
  // What a client makes of a connection that ends before its server has said how the call went.
  return http.incomplete === 'connection_closed' || http.incomplete === 'connection_reset' ? 'UNAVAILABLE' : undefined;
}

/** The value of error.type, empty when the call did not fail from where the span stands. */
export function errorType(http: HttpExchange, kind: SpanKind, status: StatusName | undefined): string {
  if (status === undefined) return http.errorCode || errorOfIncomplete(http.incomplete);
  if (kind === SpanKind.SERVER) return SERVER_ERRORS.has(status) ? status : '';
  return status === 'OK' ? '' : status;
}
