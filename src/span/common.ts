/** What the spans of all protocols have alike: whose they are, their ids, their parents, whether they are made. */
import { ROOT_CONTEXT, type SpanKind } from '@opentelemetry/api';
import type { SamplingDecision } from '@opentelemetry/sdk-trace-node';
import type { IncompleteReason } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import type { Clock } from '../telemetry/clock.ts';
import type { Counters } from '../telemetry/counters.ts';
import type { WireContext } from './context.ts';
import { connectionSeed, writeTraceId } from './ids.ts';
import type { Resource, ResourceResolver } from './resource.ts';
import { type Sampling, sampleAll } from './sampling.ts';
import type { Side } from './side.ts';
import { PARENT_SPAN_ID, SPAN_ID, type Span } from './span.ts';
import { UnknownResources } from './unknown.ts';

/** Of one connection: the seed of its ids, and what its spans have alike at each end. */
export class ConnectionSides {
  readonly seed: Int32Array;
  client: Side | undefined = undefined;
  server: Side | undefined = undefined;

  constructor(seed: Int32Array) {
    this.seed = seed;
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
  private readonly sampling: Sampling;
  private readonly unknown: UnknownResources;
  private readonly salt: Buffer;

  constructor(options: CommonOptions) {
    this.counters = options.counters;
    this.clock = options.clock;
    this.perspective = options.perspective;
    this.resources = options.resources;
    this.sampling = options.sampling ?? sampleAll;
    const live = options.perspective === 'auto';
    this.salt = options.idSalt ?? (live ? randomSalt() : Buffer.alloc(0));
    this.unknown = new UnknownResources(options.unknownNames ?? (live ? 'unknown_service' : 'address'));
  }

  wantsHttp(end: 'client' | 'server', connection: Connection): boolean {
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

  wantsSql(end: 'client' | 'server', connection: Connection): boolean {
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

  seedOf(connection: Connection): Int32Array {
    return connectionSeed(connection, this.salt);
  }

  /** What the HTTP and gRPC spans of a connection share: made with its first one. */
  sidesOf(connection: Connection): ConnectionSides {
    const known = connection.spanState;
    if (known instanceof ConnectionSides) return known;
    const sides = new ConnectionSides(this.seedOf(connection));
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

function randomSalt(): Buffer {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(16)));
}
