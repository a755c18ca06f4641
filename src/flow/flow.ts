import type { Limits } from '../config/limits.ts';
import type { Account, Holder, MemoryBudget } from '../memory/budget.ts';
import { bufferCost, CONNECTION_COST, LAYER_COST } from '../memory/cost.ts';
import { type Counters, count } from '../telemetry/counters.ts';
import {
  type Connection,
  type Direction,
  type Endpoint,
  type EndReason,
  FROM_CLIENT,
  FROM_SERVER,
  type Layer,
  opposite,
  type RelayedClient,
  type TlsInfo,
} from './connection.ts';
import type { Deferred } from './deferral.ts';
import { Half, type HalfOwner, type Reassembly } from './half.ts';
import { type Rival, SCALE_UNKNOWN } from './handshake.ts';
import type { Linked, LinkedList } from './list.ts';
import type { Tuple, Tupled } from './lookup.ts';
import type { Doubt } from './reset.ts';

/** What the upper layers may ask of a connection. */
export interface FlowControl {
  /** What the connection's layers hold is charged here. */
  readonly memory: Account;
  /** Nothing more of this connection is needed. Its layer gets no more data, only the ends and `close`. */
  mute(): void;
  /** Whether the layer's `tick` is called. */
  wantTicks(wanted: boolean): void;
  /** The guess of the roles was wrong: client and server change places. @returns false when it was no guess */
  swapRoles(): boolean;
  /** Nothing follows in either direction: the connection ends after the packet in hand. */
  finish(): void;
  /** What comes from now on is for this layer. */
  replaceLayer(layer: Layer): void;
}

export interface FlowTableOptions {
  limits: Limits;
  counters: Counters;
  /** Without it nothing is given up for want of memory. */
  memory?: MemoryBudget;
  /** Called at the first byte (or gap) of a connection, so that connections that carry nothing cost nothing above. */
  open: (connection: Connection, control: FlowControl) => Layer;
  /** The packets of this socket may be dropped from now on; SYN, FIN and RST are still wanted. */
  mute?: (socketCookie: number) => void;
  /** Called once for every connection, after its layer was closed, and also when it never had one. */
  onConnectionEnd?: (connection: Connection, reason: EndReason) => void;
  /**
   * A layer threw, which none should: the connection is given up and the error reported. Without it (tests) the error passes through.
   */
  onLayerError?: (error: unknown, connection: Connection) => void;
}

/** What all flows share. */
export interface FlowShared {
  readonly options: FlowTableOptions;
  readonly reassembly: Reassembly;
  readonly memory: MemoryBudget;
  /** Flows whose layer wants ticks; each knows its place. Not a Set, see TupleTable. */
  readonly ticking: Flow[];
  /** All was seen up to both FINs. */
  finished(flow: Flow, timeUs: number): void;
  /** Nothing of it is worth its memory any more. */
  forget(flow: Flow, timeUs: number): void;
  /** Its packets that wait are not needed. */
  dropDeferred(flow: Flow): void;
}

/** A Connection as its owner sees it. */
interface OwnConnection extends Connection {
  client: Endpoint;
  server: Endpoint;
  initialSequence: [number, number];
}

/** One TCP connection: both directions, its layer, and its places in the table's lists. */
export class Flow implements HalfOwner, FlowControl, Holder, Linked<Flow>, Tupled<Flow> {
  readonly kind = 'connection';
  readonly connection: OwnConnection;
  readonly memory: Account;
  tuple: Tuple;
  halves: readonly [Half, Half];
  /** The socket of the end that sends this direction was seen sending, not only announced. */
  socketConfirmed: [boolean, boolean] = [false, false];
  /** Time of the last packet, and that by which the table's lists are ordered (at most a second older). */
  lastUs: number;
  queuedUs: number;
  closed = false;
  muted = false;
  /** Its layer said that nothing follows. */
  complete = false;
  /** Payload was seen. */
  carriedData = false;
  /** The packet in hand is of a later connection, whose start was not seen. */
  superseded = false;
  /** What may become another connection in place of this one; a reset that may have been refused; packets that wait for others. */
  rival: Rival | undefined = undefined;
  doubt: Doubt | undefined = undefined;
  deferred: Deferred | undefined = undefined;
  /** The window scales that the SYNs of both directions have named, see handshake.ts. */
  scales: [number, number] = [SCALE_UNKNOWN, SCALE_UNKNOWN];
  previous: Flow | undefined = undefined;
  next: Flow | undefined = undefined;
  list: LinkedList<Flow> | undefined = undefined;
  nextInBucket: Flow | undefined = undefined;
  private layer: Layer | undefined = undefined;
  /** In `ticking`, -1: not there. */
  private tickingAt = -1;
  private closing = false;
  private readonly shared: FlowShared;

  constructor(
    shared: FlowShared,
    tuple: Tuple,
    identity: { id: number; client: Endpoint; server: Endpoint; startSeen: boolean },
    timeUs: number,
  ) {
    this.shared = shared;
    this.tuple = tuple;
    this.connection = {
      ...identity,
      initialSequence: [-1, -1],
      startUs: timeUs,
      tls: undefined as TlsInfo | undefined,
      relayedFor: undefined as RelayedClient | undefined,
      awaitingSecret: false,
      spanState: undefined as object | undefined,
    };
    this.memory = shared.memory.open(this);
    this.memory.charge(CONNECTION_COST);
    this.halves = [new Half(FROM_CLIENT, this, shared.reassembly), new Half(FROM_SERVER, this, shared.reassembly)];
    this.lastUs = timeUs;
    this.queuedUs = timeUs;
  }

  /** The end that sends `direction`. */
  sender(direction: Direction): Endpoint {
    return direction === FROM_CLIENT ? this.connection.client : this.connection.server;
  }

  mute(): void {
    if (this.muted) return;
    this.muted = true;
    for (const half of this.halves) half.discard();
    this.shared.dropDeferred(this);
    this.wantTicks(false);
    this.muteSocket(this.connection.client.socket);
    this.muteSocket(this.connection.server.socket);
  }

  /** @param cookie 0 is passed over */
  muteSocket(cookie: number): void {
    if (cookie !== 0) this.shared.options.mute?.(cookie);
  }

  wantTicks(wanted: boolean): void {
    const { ticking } = this.shared;
    if (wanted && !this.closed && !this.muted) {
      if (this.tickingAt < 0) this.tickingAt = ticking.push(this) - 1;
    } else if (this.tickingAt >= 0) {
      const last = ticking.pop()!;
      if (last !== this) {
        ticking[this.tickingAt] = last;
        last.tickingAt = this.tickingAt;
      }
      this.tickingAt = -1;
    }
  }

  finish(): void {
    this.complete = true;
  }

  replaceLayer(layer: Layer): void {
    if (this.layer !== undefined) this.layer = layer;
  }

  /**
   * Memory is full, and this connection holds the most of it: its layer ends, with what waits in it, and its packets are passed over. Where
   * that was done before, the connection itself is forgotten.
   */
  giveUp(timeUs: number): void {
    if (this.muted || this.closing) {
      this.shared.forget(this, timeUs);
      return;
    }
    count(this.shared.options.counters.connections.givenUp, 'memory');
    this.closeLayer('memory', timeUs);
    this.mute();
    this.connection.spanState = undefined;
  }

  swapRoles(): boolean {
    const { connection, halves, socketConfirmed, tuple } = this;
    if (connection.startSeen) return false;
    [connection.client, connection.server] = [connection.server, connection.client];
    connection.initialSequence = [connection.initialSequence[1], connection.initialSequence[0]];
    this.halves = [halves[1], halves[0]];
    for (const half of halves) half.direction = opposite(half.direction);
    this.socketConfirmed = [socketConfirmed[1], socketConfirmed[0]];
    this.scales = [this.scales[1], this.scales[0]];
    if (this.rival !== undefined) this.rival = { ...this.rival, direction: opposite(this.rival.direction) };
    if (this.doubt !== undefined) this.doubt = { ...this.doubt, direction: opposite(this.doubt.direction) };
    this.tuple = {
      ...tuple,
      client: tuple.server,
      server: tuple.client,
      clientPort: tuple.serverPort,
      serverPort: tuple.clientPort,
    };
    return true;
  }

  tick(timeUs: number): void {
    try {
      this.layer?.tick?.(timeUs);
    } catch (error) {
      this.layerFailed(error, timeUs);
    }
  }

  deliver(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void {
    if (this.muted || this.closed) return;
    try {
      (this.layer ?? this.openLayer(timeUs)).data(direction, bytes, start, end, timeUs);
    } catch (error) {
      this.layerFailed(error, timeUs);
    }
  }

  deliverGap(direction: Direction, length: number, timeUs: number): void {
    if (this.muted || this.closed) return;
    try {
      (this.layer ?? this.openLayer(timeUs)).gap(direction, length, timeUs);
    } catch (error) {
      this.layerFailed(error, timeUs);
    }
  }

  halfEnded(direction: Direction, timeUs: number): void {
    this.endLayer(direction, 'fin', timeUs);
    if (this.halves[opposite(direction)].ended && !this.closing) this.shared.finished(this, timeUs);
  }

  setRival(rival: Rival): void {
    const before = this.rival === undefined ? 0 : bufferCost(this.rival.payload);
    this.memory.charge(bufferCost(rival.payload) - before);
    this.rival = rival;
  }

  replaced(): void {
    this.superseded = true;
  }

  /** A FIN of a muted connection: sequence numbers mean nothing any more, as the kernel drops what lies between. */
  mutedFin(direction: Direction, timeUs: number): void {
    const half = this.halves[direction];
    if (half.ended) return;
    half.ended = true;
    this.halfEnded(direction, timeUs);
  }

  /** Ends both directions and the layer. Idempotent. */
  close(reason: EndReason, timeUs: number): void {
    if (this.closed || this.closing) return;
    this.closing = true;
    for (const half of this.halves) if (!half.ended && !this.muted) half.flush();
    for (const half of this.halves) {
      if (half.ended) continue;
      half.ended = true;
      this.endLayer(half.direction, reason, timeUs);
    }
    this.closeLayer(reason, timeUs);
    for (const half of this.halves) half.discard();
    this.connection.spanState = undefined;
    this.closed = true;
    this.memory.close();
    this.wantTicks(false);
    const { options } = this.shared;
    count(options.counters.connections.ended, reason);
    options.onConnectionEnd?.(this.connection, reason);
  }

  private endLayer(direction: Direction, reason: EndReason, timeUs: number): void {
    try {
      this.layer?.end(direction, reason, timeUs);
    } catch (error) {
      this.layerFailed(error, timeUs);
    }
  }

  private closeLayer(reason: EndReason, timeUs: number): void {
    const layer = this.layer;
    if (layer === undefined) return;
    this.layer = undefined;
    try {
      layer.close(reason, timeUs);
    } catch (error) {
      this.layerFailed(error, timeUs);
    }
    this.memory.charge(-LAYER_COST);
  }

  /** What a peer sends must not end the process, nor cost another connection anything. */
  private layerFailed(error: unknown, timeUs: number): void {
    const { onLayerError } = this.shared.options;
    if (onLayerError === undefined) throw error;
    onLayerError(error, this.connection);
    count(this.shared.options.counters.connections.givenUp, 'internal_error');
    // Its state cannot be trusted, but it may hold keys and memory that all share.
    this.closeLayer('unreadable', timeUs);
    this.mute();
  }

  private openLayer(timeUs: number): Layer {
    const layer = this.shared.options.open(this.connection, this);
    this.layer = layer;
    this.memory.charge(LAYER_COST);
    for (const half of this.halves) if (half.ended) layer.end(half.direction, 'fin', timeUs); // before any data
    return layer;
  }
}
