/** What the spans of all protocols have alike: whose they are, their ids, their parents, whether they are made. */
import { SpanKind } from '@opentelemetry/api';
import { defaultLimits, type Limits } from '../config/limits.ts';
import type { IncompleteReason } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import type { Clock } from '../telemetry/clock.ts';
import { type Counters, count } from '../telemetry/counters.ts';
import { KEY } from './attributes.ts';
import type { WireContext } from './context.ts';
import type { Durations } from './durations.ts';
import { type FilterOptions, Filters } from './filters.ts';
import { connectionSeed, hasSequences, writeTraceId } from './ids.ts';
import type { ConnectionPeers, Peer, PeerDirectory } from './peer.ts';
import { Relays } from './relays.ts';
import type { Resource, ResourceResolver, Watched } from './resource.ts';
import { Candidate, Decision, defaultSamplingOptions, type SamplingOptions } from './sampling.ts';
import type { Side } from './side.ts';
import { PARENT_SPAN_ID, SPAN_ID, Span } from './span.ts';
import { type Signal, TelemetrySenders } from './telemetry-senders.ts';
import { UnknownResources } from './unknown.ts';
import { Verdict } from './verdict.ts';

/** Of one connection: the seed of its ids, and what its spans have alike at each end. */
export class ConnectionSides {
  readonly seed: Int32Array;
  readonly peers: ConnectionPeers | undefined;
  client: Side | undefined = undefined;
  server: Side | undefined = undefined;

  constructor(seed: Int32Array, peers: ConnectionPeers | undefined) {
    this.seed = seed;
    this.peers = peers;
  }
}

/**
 * Whose spans are made of an exchange.
 *
 * - `auto`: of the ends whose socket is on this machine. HTTP: a CLIENT span, a SERVER span, or both; with neither known, a SERVER span.
 *   SQL: a CLIENT span; a SERVER span only where the client is elsewhere, so that no statement counts twice.
 * - `replay`: HTTP: a SERVER span; SQL: a CLIENT span. Files know no sockets.
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
  /** How an end that no process is known of is called; default: by its address in replay perspectives, else unknown_service. */
  readonly unknownNames?: 'address' | 'unknown_service';
}

/** What a builder makes of an exchange, and judges it by: filled again for each. */
export class Draft {
  readonly candidate = new Candidate();
  readonly clientSpan = new Span('client');
  readonly serverSpan = new Span('server');
}

/** Which ends of an exchange: a sum of them. */
export const NO_END = 0;
export const CLIENT_END = 1;
export const SERVER_END = 2;
export type Ends = 0 | 1 | 2 | 3;

export function endsOf(client: boolean, server: boolean): Ends {
  return client ? (server ? 3 : CLIENT_END) : server ? SERVER_END : NO_END;
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
  /** What processes of this machine are to those at the other end. */
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
   * Whether there is to be a span for this end.
   * @param counted what is not watched is counted; once for each exchange
   */
  wantsHttp(end: 'client' | 'server', connection: Connection, counted = true): boolean {
    return this.hasHttp(end, connection) && this.isWatched(end, connection, counted);
  }

  /** The same of a statement. */
  wantsSql(end: 'client' | 'server', connection: Connection, peers: ConnectionPeers | undefined): boolean {
    if (!this.hasSql(end, connection) || !this.isWatched(end, connection, true)) return false;
    // The agent at the client makes the span of its statement; a second one would count it twice.
    if (end === 'client' || connection.client.socket !== 0 || peers === undefined) return true;
    if (!this.peerOf(connection, 'server', peers)?.watched) return true;
    count(this.counters.spans.leftOut, 'seen_by_client');
    this.verdict[end] = 'seen_by_client';
    return false;
  }

  /** No end that is here is watched: nothing of this connection is of use. */
  isUnwatched({ client, server }: Connection): boolean {
    const { pods } = this;
    if (pods === undefined || (client.socket === 0 && server.socket === 0)) return false;
    const isOf = (socket: number, side: keyof Watched): boolean =>
      socket !== 0 && (pods.watchedOf(socket)[side] || pods.knowledgeOf(socket) === 'pending');
    return !isOf(client.socket, 'out') && !isOf(server.socket, 'in');
  }

  private isWatched(end: 'client' | 'server', connection: Connection, counted: boolean): boolean {
    const { socket } = connection[end];
    if (this.pods === undefined || socket === 0) return true;
    const watched = this.pods.watchedOf(socket);
    if (end === 'client' ? watched.out : watched.in) return true;
    if (counted) count(this.counters.spans.leftOut, 'not_watched');
    this.verdict[end] = 'not_watched';
    return false;
  }

  private hasHttp(end: 'client' | 'server', connection: Connection): boolean {
    switch (this.perspective) {
      case 'both':
        return true;
      case 'client':
      case 'server':
        return this.perspective === end;
      case 'replay':
        return end === 'server';
      case 'auto':
        return end === 'client'
          ? connection.client.socket !== 0
          : connection.server.socket !== 0 || connection.client.socket === 0;
    }
  }

  private hasSql(end: 'client' | 'server', connection: Connection): boolean {
    switch (this.perspective) {
      case 'both':
        return true;
      case 'client':
      case 'server':
        return this.perspective === end;
      case 'replay':
        return end === 'client';
      case 'auto':
        return (end === 'client') === (connection.client.socket !== 0);
    }
  }

  /** A CLIENT span may be made of an exchange's other end, here or by another agent; else its id is the parent of nobody. */
  get makesHttpClients(): boolean {
    return this.perspective !== 'server' && this.perspective !== 'replay';
  }

  get makesSqlClients(): boolean {
    return this.perspective !== 'server';
  }

  /** Once for each connection: what it says may be another thing later. */
  seedOf(connection: Connection): Int32Array {
    const { relays, salt } = this;
    if (connection.tls?.clientRandom !== undefined && !relays.hasGiven(connection))
      return connectionSeed(connection, salt);
    const isTaken = hasSequences(connection) && relays.hasGivenSequences(connection);
    return connectionSeed(connection, salt, isTaken ? 'place' : 'sequences');
  }

  /** What the HTTP and gRPC spans of a connection share: made with its first one. */
  sidesOf(connection: Connection): ConnectionSides {
    const known = connection.spanState;
    if (known instanceof ConnectionSides) return known;
    const sides = new ConnectionSides(this.seedOf(connection), this.newPeers());
    connection.spanState = sides;
    return sides;
  }

  /** Exchanges have to be described as candidates before they are admitted. */
  get decides(): boolean {
    return this.decision !== undefined;
  }

  /**
   * Decides which of the wanted ends have a span, and counts those that have none. Their spans have then the trace's id, flags and state.
   *
   * @param traceOffset names the trace within the connection
   * @param context what came on the wire
   * @param draft its candidate is described when that `decides`
   * @param counted false: what is left out is counted another time
   */
  admit(
    { candidate, clientSpan, serverSpan }: Draft,
    connection: Connection,
    wanted: Ends,
    seed: Int32Array,
    traceOffset: number,
    context: WireContext | undefined,
    counted = true,
  ): Ends {
    if (wanted === NO_END) return NO_END;
    const { decision } = this;
    if (decision === undefined && context?.sampled === false) {
      this.leaveOut('unsampled', wanted, counted);
      return NO_END;
    }
    const first = (wanted & CLIENT_END) === 0 ? serverSpan : clientSpan;
    if (context?.hasTraceId) context.ids.copy(first.ids, 0, 0, SPAN_ID);
    else writeTraceId(first.ids, seed, traceOffset);
    first.flags = context?.hasTraceId ? context.flags | SAMPLED : SAMPLED_AND_RANDOM;
    first.traceState = context?.traceState ?? '';
    if (wanted === (CLIENT_END | SERVER_END)) {
      // Faster than copy() for so few bytes.
      for (let i = 0; i < SPAN_ID; i++) serverSpan.ids[i] = first.ids[i]!;
      serverSpan.flags = first.flags;
      serverSpan.traceState = first.traceState;
    }
    if (decision === undefined) return wanted;
    let admitted: Ends = NO_END;
    for (const end of [CLIENT_END, SERVER_END] as const) {
      if ((wanted & end) === 0) continue;
      const resource = this.resourceOf(connection, end === CLIENT_END ? 'client' : 'server');
      const reason = decision.decide(end === CLIENT_END ? clientSpan : serverSpan, resource, context, candidate);
      if (reason === '') admitted = (admitted | end) as Ends;
      else this.leaveOut(reason, end, counted);
    }
    return admitted;
  }

  /** Makes no spans of an export of telemetry by another process, which is telemetry about telemetry; but remembers who makes spans. */
  leaveOutExport(connection: Connection, signal: Signal, wanted: Ends, counted = true): void {
    this.senders.saw(this.processOf(connection, 'client'), this.processOf(connection, 'server'), signal);
    this.leaveOut('otlp_export', wanted, counted);
  }

  /** Counts the wanted spans under the reason that they are not made for. */
  leaveOut(reason: string, wanted: Ends, counted = true): void {
    if ((wanted & CLIENT_END) !== 0) this.verdict.client = reason;
    if ((wanted & SERVER_END) !== 0) this.verdict.server = reason;
    if (counted) count(this.counters.spans.leftOut, reason, wanted === (CLIENT_END | SERVER_END) ? 2 : 1);
  }

  /** Whether exchanges are measured at this end. Those of processes that export metrics of their own are not where these are to be avoided. */
  measures(connection: Connection, end: 'client' | 'server'): boolean {
    if (!this.avoidsInstrumented || !this.senders.any) return true;
    if (!this.senders.sends(this.resourceOf(connection, end), 'metrics')) return true;
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

  setParent(span: Span, ids: Buffer, remote: boolean): void {
    ids.copy(span.ids, PARENT_SPAN_ID, PARENT_SPAN_ID);
    span.hasParent = true;
    span.parentIsRemote = remote;
  }

  resourceOf(connection: Connection, end: 'client' | 'server'): Resource {
    const endpoint = connection[end];
    // A client's port says nothing, and there are many.
    return (
      this.processOf(connection, end) ?? this.unknown.resourceOf(endpoint.address, end === 'server' ? endpoint.port : 0)
    );
  }

  /** To be kept with a connection. @returns `undefined` where nobody tells of peers */
  newPeers(): ConnectionPeers | undefined {
    return this.peers === undefined ? undefined : { revision: -1, client: undefined, server: undefined };
  }

  /** Who is at the other end for this one. */
  peerOf(connection: Connection, end: 'client' | 'server', known: ConnectionPeers | undefined): Peer | undefined {
    if (this.peers === undefined || known === undefined) return undefined;
    const local = this.processOf(connection, end === 'client' ? 'server' : 'client');
    if (local !== undefined) return this.localPeer(local);
    if (known.revision !== this.peers.revision) {
      const { client, server } = connection;
      const begunMs = this.begunMs(connection);
      known.revision = this.peers.revision;
      known.client = server.socket === 0 ? this.peers.find(server.address, server.port, begunMs) : undefined;
      known.server = client.socket === 0 ? this.peers.find(client.address, 0, begunMs) : undefined;
    }
    return known[end];
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

  /** The process at that end, when it is on this machine and known. */
  processOf(connection: Connection, end: 'client' | 'server'): Resource | undefined {
    const { socket } = connection[end];
    return socket === 0 ? undefined : this.resources.resourceOf(socket);
  }
}

/** @returns the value of error.type for an exchange that is not whole; empty when that is no error of the observed */
export function errorOfIncomplete(incomplete: IncompleteReason | undefined): string {
  switch (incomplete) {
    case 'connection_reset':
    case 'connection_closed':
    case 'stream_reset':
    case 'timeout':
    case 'protocol_error':
      return incomplete;
    // Limits of the observer are no errors of the observed.
    case 'gap':
    case 'shutdown':
    case 'limit':
    case 'memory':
    case undefined:
      return '';
    default:
      return incomplete satisfies never;
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
