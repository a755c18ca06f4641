/** What the drivers of all protocols share: which endpoints have spans, whose they are, whether they are made. */
import { SpanKind } from '@opentelemetry/api';
import { defaultLimits, type Limits } from '../config/limits.ts';
import type { Connection } from '../flow/connection.ts';
import type { Clock } from '../telemetry/clock.ts';
import { type Counters, count } from '../telemetry/counters.ts';
import { KEY } from './attributes.ts';
import { Candidate } from './candidate.ts';
import type { WireContext } from './context.ts';
import type { Durations } from './durations.ts';
import { ConnectionEndpoints } from './endpoint.ts';
import { type FilterOptions, Filters } from './filters.ts';
import { connectionSeed, hasSequences, writeTraceId } from './ids.ts';
import type { ConnectionPeers, Peer, PeerDirectory } from './peer.ts';
import { Relays } from './relays.ts';
import type { Resource, ResourceResolver, Watched } from './resource.ts';
import { Decision, defaultSamplingOptions, type SamplingOptions } from './sampling.ts';
import { type EndpointName, SPAN_ID, Span } from './span.ts';
import { type Signal, TelemetrySenders } from './telemetry-senders.ts';
import { UnknownResources } from './unknown.ts';
import { Verdict } from './verdict.ts';

/**
 * Whose spans are made of an exchange; see also `SpanMapping.primary`.
 *
 * - `auto`: of the endpoints whose socket is on this machine. Primary server (HTTP): a CLIENT span, a SERVER span, or both; with neither known, a
 *   SERVER span. Primary client (SQL): a CLIENT span; a SERVER span only where the client is elsewhere, so that no statement counts twice.
 * - `replay`: a span of the primary endpoint. Files know no sockets.
 */
export type Perspective = 'auto' | 'replay' | 'client' | 'server' | 'both';

export interface CommonOptions {
  readonly perspective: Perspective;
  readonly resources: ResourceResolver;
  /** Who has which address, where there is somebody to ask. */
  readonly peers?: PeerDirectory | undefined;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly sampling?: SamplingOptions;
  readonly filters?: FilterOptions;
  /** Make no spans of processes that were seen to export spans of their own. */
  readonly avoidInstrumented?: boolean;
  readonly limits?: Pick<Limits, 'sampledServices' | 'instrumentedProcesses'>;
  /** Where exchanges are measured, whichever become spans. */
  readonly durations?: Durations | undefined;
  /** See ids.ts: random bytes in an agent, empty in replay. */
  readonly idSalt?: Buffer;
  /** The name of an endpoint without a known process; default: by its address in replay perspectives, else unknown_service. */
  readonly unknownNames?: 'address' | 'unknown_service';
}

/** What is made of an exchange, and what it is judged by: filled again for each. */
export class Draft {
  readonly candidate = new Candidate();
  readonly clientSpan = new Span('client');
  readonly serverSpan = new Span('server');
}

/** Which endpoints of an exchange: a sum of them. */
export const NO_ENDPOINT = 0;
export const CLIENT_ENDPOINT = 1;
export const SERVER_ENDPOINT = 2;
export type Endpoints = 0 | 1 | 2 | 3;

function endpointsOf(client: boolean, server: boolean): Endpoints {
  return client ? (server ? 3 : CLIENT_ENDPOINT) : server ? SERVER_ENDPOINT : NO_ENDPOINT;
}

/** W3C Trace Context level 2: the trace is sampled; the last 56 bits of its id are random. */
const SAMPLED = 1;
const SAMPLED_AND_RANDOM = 3;

export class Common {
  readonly verdict = new Verdict();
  readonly counters: Counters;
  readonly clock: Clock;
  private readonly perspective: Perspective;
  private readonly resources: ResourceResolver;
  /** Asked for what is watched; missing: everything is. */
  private readonly pods: Required<Pick<ResourceResolver, 'knowledgeOf' | 'watchedOf'>> | undefined;
  readonly peers: PeerDirectory | undefined;
  readonly durations: Durations | undefined;
  /** What processes of this machine are to those at the other endpoint. */
  private readonly localPeers = new WeakMap<Resource, Peer>();
  private readonly senders: TelemetrySenders;
  private readonly avoidsInstrumented: boolean;
  private readonly decision: Decision | undefined;
  private readonly unknown: UnknownResources;
  private readonly salt: Buffer;
  private readonly relays = new Relays();

  constructor(options: CommonOptions) {
    this.counters = options.counters;
    this.clock = options.clock;
    this.perspective = options.perspective;
    this.resources = options.resources;
    this.pods = podsOf(options.resources);
    this.peers = options.peers;
    this.durations = options.durations;
    const { sampledServices, instrumentedProcesses } = options.limits ?? defaultLimits;
    const { services } = options.counters;
    this.senders = new TelemetrySenders(instrumentedProcesses, services);
    this.avoidsInstrumented = options.avoidInstrumented ?? false;
    this.decision = Decision.of({
      sampling: options.sampling ?? defaultSamplingOptions,
      filters: options.filters && Filters.of(options.filters),
      avoided: this.avoidsInstrumented ? this.senders : undefined,
      maxServices: sampledServices,
      onEviction: () => count(services, 'rate_forgotten'),
    });
    const live = options.perspective === 'auto';
    this.salt = options.idSalt ?? (live ? randomSalt() : Buffer.alloc(0));
    this.unknown = new UnknownResources(options.unknownNames ?? (live ? 'unknown_service' : 'address'));
  }

  /**
   * For which endpoints there is to be a span.
   *
   * @param counted what is not wanted is counted; once for each exchange
   */
  wanted(
    connection: Connection,
    primary: EndpointName,
    peers: ConnectionPeers | undefined,
    counted: boolean,
  ): Endpoints {
    const client = this.wants('client', connection, primary, peers, counted);
    return endpointsOf(client, this.wants('server', connection, primary, peers, counted));
  }

  private wants(
    endpoint: EndpointName,
    connection: Connection,
    primary: EndpointName,
    peers: ConnectionPeers | undefined,
    counted: boolean,
  ): boolean {
    if (!this.has(endpoint, connection, primary) || !this.isWatched(endpoint, connection, counted)) return false;
    if (primary === 'server' || endpoint === 'client') return true;
    // The agent at the client makes the span of what is seen once; a second one would count it twice.
    if (connection.client.socket !== 0 || peers === undefined) return true;
    if (!this.peerOf(connection, 'server', peers)?.watched) return true;
    if (counted) count(this.counters.spans.leftOut, 'seen_by_client');
    this.verdict[endpoint] = 'seen_by_client';
    return false;
  }

  /** No endpoint that is here is watched: nothing of this connection is wanted. */
  isUnwatched({ client, server }: Connection): boolean {
    const { pods } = this;
    if (pods === undefined || (client.socket === 0 && server.socket === 0)) return false;
    const isOf = (socket: number, way: keyof Watched): boolean =>
      socket !== 0 && (pods.watchedOf(socket)[way] || pods.knowledgeOf(socket) === 'pending');
    return !isOf(client.socket, 'out') && !isOf(server.socket, 'in');
  }

  private isWatched(endpoint: EndpointName, connection: Connection, counted: boolean): boolean {
    const { socket } = connection[endpoint];
    if (this.pods === undefined || socket === 0) return true;
    const watched = this.pods.watchedOf(socket);
    if (endpoint === 'client' ? watched.out : watched.in) return true;
    if (counted) count(this.counters.spans.leftOut, 'not_watched');
    this.verdict[endpoint] = 'not_watched';
    return false;
  }

  private has(endpoint: EndpointName, connection: Connection, primary: EndpointName): boolean {
    switch (this.perspective) {
      case 'both':
        return true;
      case 'client':
      case 'server':
        return this.perspective === endpoint;
      case 'replay':
        return endpoint === primary;
      case 'auto':
        if (endpoint === 'client') return connection.client.socket !== 0;
        return connection.client.socket === 0 || (primary === 'server' && connection.server.socket !== 0);
    }
  }

  /** A CLIENT span may be made of an exchange's other endpoint, here or by another agent; else its id is the parent of nobody. */
  makesClients(primary: EndpointName): boolean {
    return this.perspective !== 'server' && (this.perspective !== 'replay' || primary === 'client');
  }

  /** Once for each connection: what it says may be another thing later. */
  seedOf(connection: Connection): Int32Array {
    const { relays, salt } = this;
    if (connection.tls?.clientRandom !== undefined && !relays.hasGiven(connection))
      return connectionSeed(connection, salt);
    const isTaken = hasSequences(connection) && relays.hasGivenSequences(connection);
    return connectionSeed(connection, salt, isTaken ? 'place' : 'sequences');
  }

  /** What the spans of a connection share: made with its first exchange. */
  endpointsOf(connection: Connection): ConnectionEndpoints {
    const known = connection.spanState;
    if (known instanceof ConnectionEndpoints) return known;
    const endpoints = new ConnectionEndpoints(this.newPeers());
    connection.spanState = endpoints;
    return endpoints;
  }

  /** Exchanges have to be described as candidates before they are admitted. */
  get decides(): boolean {
    return this.decision !== undefined;
  }

  /**
   * Decides which of the wanted endpoints have a span, and counts those that have none. Their spans have then the trace's id, flags and state.
   *
   * @param traceOffset names the trace within the connection
   * @param context what came on the wire
   * @param draft its candidate is described when that `decides`
   * @param counted false: what is left out is counted another time
   */
  admit(
    { candidate, clientSpan, serverSpan }: Draft,
    connection: Connection,
    wanted: Endpoints,
    seed: Int32Array,
    traceOffset: number,
    context: WireContext | undefined,
    counted = true,
  ): Endpoints {
    if (wanted === NO_ENDPOINT) return NO_ENDPOINT;
    const { decision } = this;
    if (decision === undefined && context?.sampled === false) {
      this.leaveOut('unsampled', wanted, counted);
      return NO_ENDPOINT;
    }
    const first = (wanted & CLIENT_ENDPOINT) === 0 ? serverSpan : clientSpan;
    if (context?.hasTraceId) context.ids.copy(first.ids, 0, 0, SPAN_ID);
    else writeTraceId(first.ids, seed, traceOffset);
    first.flags = context?.hasTraceId ? context.flags | SAMPLED : SAMPLED_AND_RANDOM;
    first.traceState = context?.traceState ?? '';
    if (wanted === (CLIENT_ENDPOINT | SERVER_ENDPOINT)) {
      // Faster than copy() for so few bytes.
      for (let i = 0; i < SPAN_ID; i++) serverSpan.ids[i] = first.ids[i]!;
      serverSpan.flags = first.flags;
      serverSpan.traceState = first.traceState;
    }
    if (decision === undefined) return wanted;
    let admitted: Endpoints = NO_ENDPOINT;
    for (const endpoint of [CLIENT_ENDPOINT, SERVER_ENDPOINT] as const) {
      if ((wanted & endpoint) === 0) continue;
      const resource = this.resourceOf(connection, endpoint === CLIENT_ENDPOINT ? 'client' : 'server');
      const reason = decision.decide(
        endpoint === CLIENT_ENDPOINT ? clientSpan : serverSpan,
        resource,
        context,
        candidate,
      );
      if (reason === '') admitted = (admitted | endpoint) as Endpoints;
      else this.leaveOut(reason, endpoint, counted);
    }
    return admitted;
  }

  /** Makes no spans of an export of telemetry by another process, which is telemetry about telemetry; but remembers who makes spans. */
  leaveOutExport(connection: Connection, signal: Signal, wanted: Endpoints, counted = true): void {
    this.senders.saw(this.processOf(connection, 'client'), this.processOf(connection, 'server'), signal);
    this.leaveOut('otlp_export', wanted, counted);
  }

  /** Counts the wanted spans under the reason that they are not made for. */
  leaveOut(reason: string, wanted: Endpoints, counted = true): void {
    if ((wanted & CLIENT_ENDPOINT) !== 0) this.verdict.client = reason;
    if ((wanted & SERVER_ENDPOINT) !== 0) this.verdict.server = reason;
    if (counted) count(this.counters.spans.leftOut, reason, wanted === (CLIENT_ENDPOINT | SERVER_ENDPOINT) ? 2 : 1);
  }

  /** Whether exchanges are measured at this endpoint. Those of processes that export metrics of their own are not where these are to be avoided. */
  measures(connection: Connection, endpoint: EndpointName): boolean {
    if (!this.avoidsInstrumented || !this.senders.any) return true;
    if (!this.senders.sends(this.resourceOf(connection, endpoint), 'metrics')) return true;
    count(this.counters.metrics, 'avoided_service');
    return false;
  }

  /**
   * To be asked of each CLIENT and SERVER span, once it is filled: where the application's own span stands for the exchange, ours is of a
   * kind that no metric of requests counts.
   *
   * @param proven the wire carries the id of the client's own span
   */
  stepBack(span: Span, proven: boolean): void {
    if (!this.senders.any || !this.senders.sends(span.resource, 'traces')) return;
    // A client that puts no context on the wire has no span of its own, as far as anybody can tell.
    if (span.kind === SpanKind.CLIENT && !proven) return;
    span.set(KEY.spanKind, span.kind === SpanKind.CLIENT ? 'client' : 'server');
    span.kind = SpanKind.INTERNAL;
  }

  resourceOf(connection: Connection, endpoint: EndpointName): Resource {
    const { address, port } = connection[endpoint];
    // A client's port says nothing, and there are many.
    return this.processOf(connection, endpoint) ?? this.unknown.resourceOf(address, endpoint === 'server' ? port : 0);
  }

  /** @returns `undefined` where there is no directory of peers */
  private newPeers(): ConnectionPeers | undefined {
    return this.peers === undefined ? undefined : { revision: -1, client: undefined, server: undefined };
  }

  /** Who is at the other endpoint for this one. */
  peerOf(connection: Connection, endpoint: EndpointName, known: ConnectionPeers | undefined): Peer | undefined {
    if (this.peers === undefined || known === undefined) return undefined;
    const local = this.processOf(connection, endpoint === 'client' ? 'server' : 'client');
    if (local !== undefined) return this.localPeer(local);
    if (known.revision !== this.peers.revision) {
      const { client, server } = connection;
      const begunMs = this.begunMs(connection);
      known.revision = this.peers.revision;
      known.client = server.socket === 0 ? this.peers.find(server.address, server.port, begunMs) : undefined;
      known.server = client.socket === 0 ? this.peers.find(client.address, 0, begunMs) : undefined;
    }
    return known[endpoint];
  }

  private localPeer(resource: Resource): Peer {
    let peer = this.localPeers.get(resource);
    if (peer === undefined) {
      const namespace = resource.attributes['service.namespace'];
      peer = {
        name: resource.name,
        namespace: typeof namespace === 'string' ? namespace : '',
        serviceName: '',
        watched: true,
      };
      this.localPeers.set(resource, peer);
    }
    return peer;
  }

  private begunMs(connection: Connection): number {
    return this.clock.unixUs(connection.startUs) / 1000;
  }

  /** The process at that endpoint, when it is on this machine and known. */
  processOf(connection: Connection, endpoint: EndpointName): Resource | undefined {
    const { socket } = connection[endpoint];
    return socket === 0 ? undefined : this.resources.resourceOf(socket);
  }
}

function podsOf(
  resources: ResourceResolver,
): Required<Pick<ResourceResolver, 'knowledgeOf' | 'watchedOf'>> | undefined {
  const { knowsPods, knowledgeOf, watchedOf } = resources;
  if (knowsPods !== true || knowledgeOf === undefined || watchedOf === undefined) return undefined;
  return { knowledgeOf: knowledgeOf.bind(resources), watchedOf: watchedOf.bind(resources) };
}

function randomSalt(): Buffer {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(16)));
}
