import type { Limits } from '../config/limits.ts';
import type { Exchange } from '../exchange/exchange.ts';
import type { Connection, Direction, Layer } from '../flow/connection.ts';
import type { Account } from '../memory/budget.ts';
import type { Counters } from '../telemetry/counters.ts';

/**
 * What a layer may use of the world.
 *
 * @typeParam Own the values of its protocol's limits: the object holds those of all protocols
 */
export interface LayerContext<Own extends object = object> {
  readonly connection: Connection;
  readonly limits: Limits & Own;
  readonly counters: Counters;
  /** What the layer holds between calls is charged here; all of it is released by the end of `close`. */
  readonly memory: Account;
  /** A finished exchange; the layer gives up its ownership. */
  emit(exchange: Exchange): void;
  /** Nothing more of this connection is needed: its packets may be dropped as early as in the kernel. */
  mute(): void;
  /** Call `tick` of the connection's layers from now on, until `wantTicks(false)`. */
  wantTicks(wanted: boolean): void;
  /**
   * The client is at the other end than was guessed: from now on directions, and the connection's ends, are the other way round.
   *
   * @returns false when the roles are certain
   */
  swapRoles?(): boolean;
  /**
   * The bytes that follow in both directions are TLS, after a request within the protocol (SSLRequest). The layer that asks passes them,
   * and gaps, ends, ticks and the close, on to the layer that it gets; `next` makes the layer for what is inside. Missing inside TLS.
   */
  startTls?(next: (context: LayerContext<Own>) => Layer): Layer;
  /** Nothing follows in either direction: the connection ends now, without waiting for what its sockets say. */
  finish?(): void;
  /** What comes from now on is for this layer instead of the one that asks, `close` included. */
  replaceLayer?(layer: Layer): void;
  /** Reports an error that no stage should have thrown, where the caller of the layer is another connection's business. */
  internalError?(error: unknown): void;
}

/** What the first bytes of one direction say of a protocol. `likely` is a yes when both directions say so, else a `maybe`. */
export type Detection = 'yes' | 'no' | 'maybe' | 'likely';

/** One protocol that can be recognised in the bytes of a connection and parsed. */
export interface Protocol {
  readonly name: string;
  /** ALPN identifiers (RFC 7301, IANA registry) that name it. */
  readonly alpn?: readonly string[];
  /** Those of its module, which the registry sets: a hint where more than one protocol knows the bytes. */
  readonly ports?: readonly number[];
  /**
   * @param direction whose bytes these are
   * @param bytes the first bytes seen in that direction (bytes[start..end)), of the stream's start when connection.startSeen
   */
  detect(direction: Direction, bytes: Buffer, start: number, end: number, connection: Connection): Detection;
  create(context: LayerContext): Layer;
}
