/**
 * What is the same for the exchanges of all protocols on their way to spans: which endpoints have spans, durations, sampling, ids and parents,
 * exemplars, INTERNAL spans. A new rule of that kind is written here, once. What differs is a mapping (mapping.ts).
 */
import { SpanKind } from '@opentelemetry/api';
import type { ExchangeBase } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import { CLIENT_ENDPOINT, type Common, Draft, type Endpoints, NO_ENDPOINT, SERVER_ENDPOINT } from './common.ts';
import { WireContext } from './context.ts';
import type { Recorder } from './durations.ts';
import { type ConnectionEndpoints, EndpointAttributes, EndpointKey } from './endpoint.ts';
import { writeClientSpanId, writeServerSpanId } from './ids.ts';
import { ExchangeFacts, NO_OFFSET, SeriesFacts, type SpanMapping } from './mapping.ts';
import { type EndpointName, PARENT_SPAN_ID, SPAN_ID, type Span } from './span.ts';

/** Makes the spans of the exchanges of one mapping. */
export class SpanDriver<E extends ExchangeBase> {
  private readonly common: Common;
  private readonly mapping: SpanMapping<E>;
  private readonly makesClients: boolean;
  private readonly recorders: { readonly client: Recorder; readonly server: Recorder } | undefined;
  private readonly facts = new ExchangeFacts();
  private readonly key = new EndpointKey();
  private readonly series = new SeriesFacts();
  private readonly context = new WireContext();
  private readonly draft = new Draft();
  private startUnixUs = 0;
  private endUnixUs = 0;
  /** Of the endpoints at which this exchange was measured. */
  private measuredClient: EndpointAttributes | undefined = undefined;
  private measuredServer: EndpointAttributes | undefined = undefined;

  constructor(common: Common, mapping: SpanMapping<E>) {
    this.common = common;
    this.mapping = mapping;
    this.makesClients = common.makesClients(mapping.primary);
    const { instruments } = mapping;
    this.recorders = instruments &&
      common.durations && {
        client: common.durations.recorder(instruments.client, instruments.describe),
        server: common.durations.recorder(instruments.server, instruments.describe),
      };
  }

  /** Adds the spans of one exchange: none, a CLIENT span, a SERVER span, or both in this order. */
  build(exchange: E, spans: Span[]): void {
    const { common, mapping, facts, draft } = this;
    const { connection } = exchange;
    facts.clear();
    mapping.begin(exchange, facts);
    const isCounted = facts.interimKey === undefined;
    const state = common.endpointsOf(connection);
    const wanted = common.wanted(connection, mapping.primary, state.peers, isCounted);
    if (wanted === NO_ENDPOINT) return;
    if (facts.exportedSignal !== undefined) {
      common.leaveOutExport(connection, facts.exportedSignal, wanted, isCounted);
      return;
    }

    state.seed ??= common.seedOf(connection);
    this.startUnixUs = common.clock.unixUs(facts.startUs);
    this.endUnixUs = this.startUnixUs + (facts.endUs - facts.startUs);
    this.measure(exchange, state, isCounted ? wanted : NO_ENDPOINT);
    if (facts.leftOut !== '') {
      common.leaveOut(facts.leftOut, wanted);
      return;
    }

    const context = mapping.readContext(exchange, this.context, state) ? this.context : undefined;
    if (common.decides) mapping.describe(exchange, draft.candidate);
    const made = common.admit(draft, connection, wanted, state.seed, facts.traceOffset, context, isCounted);
    if ((made & CLIENT_ENDPOINT) !== 0) spans.push(this.clientSpan(exchange, state, state.seed, context, made));
    if ((made & SERVER_ENDPOINT) !== 0) spans.push(this.serverSpan(exchange, state, state.seed, context));
  }

  /** Every exchange, before anything decides whether it becomes a span. */
  private measure(exchange: E, state: ConnectionEndpoints, wanted: Endpoints): void {
    const { recorders, common } = this;
    const { connection } = exchange;
    this.measuredClient = undefined;
    this.measuredServer = undefined;
    if (recorders === undefined) return;
    if ((wanted & CLIENT_ENDPOINT) !== 0 && common.measures(connection, 'client'))
      this.measuredClient = this.record(recorders.client, exchange, 'client', state);
    if ((wanted & SERVER_ENDPOINT) !== 0 && common.measures(connection, 'server'))
      this.measuredServer = this.record(recorders.server, exchange, 'server', state);
  }

  private record(
    recorder: Recorder,
    exchange: E,
    endpoint: EndpointName,
    state: ConnectionEndpoints,
  ): EndpointAttributes {
    const { series, facts } = this;
    const own = this.attributesOf(exchange, endpoint, state);
    const resource = this.common.resourceOf(exchange.connection, endpoint);
    this.mapping.setSeries!(exchange, endpoint, resource, series);
    const seconds = (facts.endUs - facts.startUs) / 1e6;
    recorder.record(resource, own, series.name, series.code, series.error, seconds, this.startUnixUs);
    return own;
  }

  private clientSpan(
    exchange: E,
    state: ConnectionEndpoints,
    seed: Int32Array,
    context: WireContext | undefined,
    made: Endpoints,
  ): Span {
    const { facts, common, draft } = this;
    const { connection } = exchange;
    const span = draft.clientSpan;
    span.kind = SpanKind.CLIENT;
    writeClientSpanId(span.ids, SPAN_ID, seed, facts.spanOffset);
    if (facts.parentOffset !== NO_OFFSET) {
      writeClientSpanId(span.ids, PARENT_SPAN_ID, seed, facts.parentOffset);
      setParent(span, false);
    } else if (context?.hasSpanId) {
      // The wire's span is the application's own, in the same process: ours is its child.
      context.ids.copy(span.ids, PARENT_SPAN_ID, PARENT_SPAN_ID);
      setParent(span, false);
    } else span.hasParent = false;
    const measured = this.measuredClient;
    span.resource = measured?.durationsOf ?? common.resourceOf(connection, 'client');
    const own = measured ?? this.attributesOf(exchange, 'client', state);
    span.peerName = (made & SERVER_ENDPOINT) !== 0 ? '' : peerNameOf(connection, own, common);
    this.finish(span, exchange, own, context);
    if (measured !== undefined) this.recorders?.client.exemplify(span);
    return span;
  }

  private serverSpan(
    exchange: E,
    state: ConnectionEndpoints,
    seed: Int32Array,
    context: WireContext | undefined,
  ): Span {
    const { facts, common, draft } = this;
    const span = draft.serverSpan;
    span.kind = SpanKind.SERVER;
    if (facts.parentOffset !== NO_OFFSET) {
      // Ids of SERVER spans are written to one place.
      writeServerSpanId(span.ids, seed, facts.parentOffset);
      span.ids.copy(span.ids, PARENT_SPAN_ID, SPAN_ID, PARENT_SPAN_ID);
      setParent(span, false);
    } else if (context?.hasSpanId) {
      context.ids.copy(span.ids, PARENT_SPAN_ID, PARENT_SPAN_ID);
      setParent(span, true);
    } else if (this.makesClients) {
      writeClientSpanId(span.ids, PARENT_SPAN_ID, seed, facts.spanOffset);
      setParent(span, true);
    } else span.hasParent = false;
    writeServerSpanId(span.ids, seed, facts.spanOffset);
    const measured = this.measuredServer;
    span.resource = measured?.durationsOf ?? common.resourceOf(exchange.connection, 'server');
    this.finish(span, exchange, measured ?? this.attributesOf(exchange, 'server', state), context);
    if (measured !== undefined) this.recorders?.server.exemplify(span);
    return span;
  }

  /** What both endpoints' spans have alike. */
  private finish(span: Span, exchange: E, own: EndpointAttributes, context: WireContext | undefined): void {
    const { interimKey } = this.facts;
    span.startUnixUs = this.startUnixUs;
    span.endUnixUs = this.endUnixUs;
    span.shared = own.block;
    span.sharedToo = undefined;
    span.count = 0;
    this.mapping.fill(span, exchange, own);
    this.common.stepBack(span, context?.hasSpanId === true);
    if (interimKey === undefined) return;
    // Of a kind that no metric of exchanges counts: the one that comes at its end is counted.
    span.kind = SpanKind.INTERNAL;
    span.set(interimKey, true);
  }

  private attributesOf(exchange: E, endpoint: EndpointName, state: ConnectionEndpoints): EndpointAttributes {
    const { common, mapping, key } = this;
    const { connection } = exchange;
    mapping.identify(exchange, endpoint, key);
    const peer = common.peerOf(connection, endpoint, state.peers);
    const known = endpoint === 'client' ? state.client : state.server;
    if (known?.holdFor(mapping, key, connection.tls?.version ?? '', peer)) return known;
    const description = mapping.describeEndpoint(exchange, endpoint, key, peer);
    const made = new EndpointAttributes(mapping, endpoint, key, description, connection, peer, common.peers);
    if (endpoint === 'client') state.client = made;
    else state.server = made;
    return made;
  }
}

function setParent(span: Span, remote: boolean): void {
  span.hasParent = true;
  span.parentIsRemote = remote;
}

function peerNameOf(connection: Connection, { peer }: EndpointAttributes, common: Common): string {
  return peer?.name ?? common.processOf(connection, 'server')?.name ?? '';
}
