/**
 * How a protocol's exchanges become spans. A protocol gives a mapping; the driver (driver.ts) does with it what is the same for all: which
 * endpoints have spans, ids and parents, durations and their exemplars, sampling, INTERNAL spans.
 *
 * The least that a mapping needs (test/unit/span/driver.test.ts runs this one):
 *
 * ```ts
 * class PingSpans implements SpanMapping<PingExchange> {
 *   readonly protocols = ['ping'];
 *   readonly primary = 'server';
 *
 *   begin(exchange: PingExchange, facts: ExchangeFacts): void {
 *     facts.startUs = exchange.startUs;
 *     facts.endUs = exchange.endUs;
 *     facts.traceOffset = facts.spanOffset = exchange.streamOffset;
 *   }
 *   readContext(): boolean {
 *     return false;
 *   }
 *   describe(exchange: PingExchange, candidate: Candidate): void {
 *     candidate.method = 'PING';
 *     candidate.failed = exchange.incomplete !== undefined;
 *     candidate.setTimes(exchange.startUs, exchange.endUs);
 *   }
 *   identify(_exchange: PingExchange, _endpoint: EndpointName, key: EndpointKey): void {
 *     key.system = 'ping';
 *   }
 *   describeEndpoint(exchange: PingExchange): EndpointDescription {
 *     const { address, port } = exchange.connection.server;
 *     const protocol = [[KEY.networkProtocolName, 'ping']] as const;
 *     return { system: [], serverAddress: address, serverPort: port, protocol, origin: '', askedName: '' };
 *   }
 *   fill(span: Span, exchange: PingExchange): void {
 *     span.name = span.summary = 'PING';
 *     setOutcome(span, exchange.incomplete, errorOfIncomplete(exchange.incomplete));
 *   }
 * }
 * ```
 */
import type { ExchangeBase } from '../exchange/exchange.ts';
import type { MemoryBudget } from '../memory/budget.ts';
import type { Counters } from '../telemetry/counters.ts';
import type { AttributeKey } from './attributes.ts';
import type { Candidate } from './candidate.ts';
import type { WireContext } from './context.ts';
import type { Describe, Instrument } from './durations.ts';
import type { ConnectionEndpoints, EndpointAttributes, EndpointDescription, EndpointKey } from './endpoint.ts';
import type { Peer } from './peer.ts';
import type { Resource } from './resource.ts';
import type { RouteLearnerLimits } from './route-learner.ts';
import type { EndpointName, Span } from './span.ts';
import type { Signal } from './telemetry-senders.ts';

/** The span has no parent in its own connection beyond what the driver knows. */
export const NO_OFFSET = -1;

/** What the driver has to know of one exchange. Before `begin` all fields are as they are here. */
export class ExchangeFacts {
  /** When the exchange began and ended, microseconds; where that was not seen, the first and last that was seen of it. */
  startUs = 0;
  endUs = 0;
  /** Offsets in the client's stream that name the trace and the span; no two exchanges of a connection share a `spanOffset`. */
  traceOffset = 0;
  spanOffset = 0;
  /** The spans are children of those that the exchange with this `spanOffset` has at the same endpoint; else NO_OFFSET. */
  parentOffset: number = NO_OFFSET;
  /** Set: the exchange goes on, and its spans are INTERNAL and have this attribute. They are neither measured nor counted as left out. */
  interimKey: AttributeKey | undefined = undefined;
  /** Set: with this exchange another process exports telemetry. It has no spans and is not measured. */
  exportedSignal: Signal | undefined = undefined;
  /** Why the exchange is measured, but has no spans: a key of the statistics; empty: it may have some. */
  leftOut = '';

  clear(): void {
    this.startUs = 0;
    this.endUs = 0;
    this.traceOffset = 0;
    this.spanOffset = 0;
    this.parentOffset = NO_OFFSET;
    this.interimKey = undefined;
    this.exportedSignal = undefined;
    this.leftOut = '';
  }
}

/** In which series an exchange counts, besides what its endpoint says. */
export class SeriesFacts {
  /** Route, method, summary: what there may be many of. */
  name = '';
  code = 0;
  /** The value of error.type; empty when the exchange did not fail. */
  error = '';
}

/** The durations that a protocol measures. */
export interface Instruments {
  readonly client: Instrument;
  readonly server: Instrument;
  /** Makes the attributes of a series of `SeriesFacts`. */
  readonly describe: Describe;
}

/**
 * What a protocol says of its exchanges. One object serves all of them in turn: what `begin` finds out may be kept in the mapping until
 * the next `begin`. Objects that are passed in are reused; nothing may be kept of them.
 */
export interface SpanMapping<E extends ExchangeBase> {
  /** Values of `ExchangeBase.protocol`. */
  readonly protocols: readonly string[];
  /**
   * `server`: each endpoint that is here has a span; in replay the server has one.
   * `client`: an exchange is seen once. The server has a span only where the client is elsewhere and not watched; in replay the client has one.
   */
  readonly primary: EndpointName;
  /** Undefined: nothing is measured. */
  readonly instruments?: Instruments | undefined;

  /** Comes first for each exchange, wanted or not: it changes nothing but the mapping's own fields. */
  begin(exchange: E, facts: ExchangeFacts): void;

  /**
   * Reads the trace context that came with the exchange. Called once for each exchange that is not left out.
   *
   * @param state of its connection: `ofMapping` is the mapping's own
   * @returns whether there is one
   */
  readContext(exchange: E, context: WireContext, state: ConnectionEndpoints): boolean;

  /** Fills what filters and sampling read; only called when there are such rules. */
  describe(exchange: E, candidate: Candidate): void;

  /** Sets every field of the key that the protocol uses. */
  identify(exchange: E, endpoint: EndpointName, key: EndpointKey): void;

  /**
   * Called where the key, TLS or the peer are other than before.
   *
   * @param peer who is at the other endpoint
   */
  describeEndpoint(exchange: E, endpoint: EndpointName, key: EndpointKey, peer: Peer | undefined): EndpointDescription;

  /** Needed with `instruments`: sets every field. */
  setSeries?(exchange: E, endpoint: EndpointName, resource: Resource, series: SeriesFacts): void;

  /**
   * Fills name, summary, status and the span's own attributes. Its ids, parent, times, kind, resource and shared attributes are set.
   *
   * @param own the shared attributes of the span's endpoint
   */
  fill(span: Span, exchange: E, own: EndpointAttributes): void;
}

/** What a mapping may be made of. One object per builder: mappings can share what they make of it. */
export interface MappingOptions<Config = unknown> {
  /** The module's sections of the configuration. */
  readonly config: Config;
  readonly limits: RouteLearnerLimits;
  readonly memory: MemoryBudget | undefined;
  readonly counters: Counters;
}

/** What a module states once, and its mapping uses (protocol/module.ts). */
export interface MappedModule {
  readonly name: string;
  readonly ports: readonly number[];
  readonly systems: readonly string[];
}

/** Makes the mapping of a module for a builder. */
export type MappingFactory<Config = unknown> = (
  options: MappingOptions<Config>,
  module: MappedModule,
) => SpanMapping<ExchangeBase>;
