/** What the spans of all protocols have alike: whose they are, their ids, their parents, whether they are made. */
import { ROOT_CONTEXT, type SpanKind } from '@opentelemetry/api';
import type { SamplingDecision } from '@opentelemetry/sdk-trace-node';
import type { IncompleteReason } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import type { Clock } from '../telemetry/clock.ts';
import { type Counters, count } from '../telemetry/counters.ts';
import type { WireContext } from './context.ts';
import { connectionSeed, writeTraceId } from './ids.ts';
import type { ConnectionPeers, Peer, PeerDirectory } from './peer.ts';
import { Relays } from './relays.ts';
import type { Resource, ResourceResolver, Watched } from './resource.ts';
import { type Sampling, sampleAll } from './sampling.ts';
import type { Side } from './side.ts';
import { PARENT_SPAN_ID, SPAN_ID, type Span } from './span.ts';
import { UnknownResources } from './unknown.ts';

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
  readonly sampling?: Sampling;
  /** See ids.ts: random bytes in an agent, empty in replay. */
  readonly idSalt?: Buffer;
  /** How an end that no process is known of is called; default: by its address in replay perspectives, else unknown_service. */
  readonly unknownNames?: 'address' | 'unknown_service';
}

const RECORD_AND_SAMPLED: SamplingDecision.RECORD_AND_SAMPLED = 2;

export class Common {
  readonly counters: Counters;
  readonly clock: Clock;
  private readonly perspective: Perspective;
  private readonly resources: ResourceResolver;
  /** Asked for what is watched; missing: everything is. */
  private readonly pods: Required<Pick<ResourceResolver, 'knowledgeOf' | 'watchedOf'>> | undefined;
  readonly peers: PeerDirectory | undefined;
  /** What processes of this machine are to those at the other end. */
  private readonly localPeers = new WeakMap<Resource, Peer>();
  private readonly sampling: Sampling;
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
    this.sampling = options.sampling ?? sampleAll;
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
    return connectionSeed(connection, this.salt, this.relays.hasGiven(connection));
  }

  /** What the HTTP and gRPC spans of a connection share: made with its first one. */
  sidesOf(connection: Connection): ConnectionSides {
    const known = connection.spanState;
    if (known instanceof ConnectionSides) return known;
    const sides = new ConnectionSides(this.seedOf(connection), this.newPeers());
    connection.spanState = sides;
    return sides;
  }

  /**
   * Decides over the trace: its id, flags and state.
   *
   * @param traceOffset names the trace within the connection
   * @param name what a sampler may know of it
   * @param context what came on the wire
   * @returns false when it is not sampled
   */
  identify(
    span: Span,
    kind: SpanKind,
    seed: Int32Array,
    traceOffset: number,
    name: string,
    context: WireContext | undefined,
  ): boolean {
    const { followParent, root } = this.sampling;
    if (context?.hasTraceId) context.ids.copy(span.ids, 0, 0, SPAN_ID);
    else writeTraceId(span.ids, seed, traceOffset);
    span.flags = context?.hasTraceId ? context.flags | 1 : 1;
    span.traceState = context?.traceState ?? '';
    if (followParent && context?.sampled !== undefined) return context.sampled;
    if (root === undefined) return true;
    const result = root.shouldSample(ROOT_CONTEXT, span.traceId, name, kind, {}, []);
    if (result.traceState !== undefined && span.traceState === '') span.traceState = result.traceState.serialize();
    return result.decision === RECORD_AND_SAMPLED;
  }

  /** Puts `to` into the trace of `from`. */
  copyTrace(from: Span, to: Span): void {
    from.ids.copy(to.ids, 0, 0, SPAN_ID);
    to.flags = from.flags;
    to.traceState = from.traceState;
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
