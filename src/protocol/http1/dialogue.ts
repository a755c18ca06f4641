import type { IncompleteReason } from '../../exchange/exchange.ts';
import { FROM_CLIENT, type Layer } from '../../flow/connection.ts';
import { count } from '../../telemetry/counters.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { StreamObserver, StreamProtocol } from '../http2/observer.ts';
import type { LayerContext } from '../layer.ts';
import type { FieldTable } from './fields.ts';
import type { HeadReader } from './head.ts';
import { Ledger } from './ledger.ts';
import type { PendingExchange } from './pending.ts';
import { RequestReader } from './request.ts';
import { ResponseReader } from './response.ts';

/**
 * Makes the layer for a connection that goes on as HTTP/2.
 *
 * @param request what the new layer's stream 1 answers
 * @param offsets bytes of each direction that went before
 */
export type UpgradeToHttp2 = (
  context: LayerContext<HttpLimits>,
  request: HttpExchange,
  offsets: readonly [number, number],
) => Layer;

/**
 * Makes the layer for what follows a 101 (RFC 9110 section 15.2.2).
 *
 * @param handshake the request and its 101
 */
export type UpgradeLayer = (context: LayerContext<HttpLimits>, handshake: HttpExchange) => Layer;

/** What reads a connection after a 101; one that has no reader is opaque. */
export interface Upgrades {
  readonly upgradeToHttp2?: UpgradeToHttp2;
  /** By the token in the Upgrade field, in lower case. */
  readonly upgrades?: Readonly<Record<string, UpgradeLayer>>;
}

/** What both directions of a connection share. */
export class Dialogue {
  readonly context: LayerContext<HttpLimits>;
  readonly ledger: Ledger;
  readonly requests: RequestReader;
  readonly responses: ResponseReader;
  /** A request was seen to be sent before the response to the one before it began. */
  pipelines = false;
  /** Time of the last bytes of either direction. */
  lastDataUs: number;
  /** Requests are counted, and no more. */
  onlyCounts = false;
  /** Nothing more is read. */
  over = false;
  /** Whose the rest of the connection is. */
  successor: Layer | undefined = undefined;
  private readonly upgrades: Upgrades;
  private readonly protocols: readonly StreamProtocol[];
  private parseErrors = 0;

  constructor(
    context: LayerContext<HttpLimits>,
    table: FieldTable,
    upgrades: Upgrades,
    protocols: readonly StreamProtocol[],
  ) {
    this.context = context;
    this.upgrades = upgrades;
    this.protocols = protocols;
    this.ledger = new Ledger(context);
    this.requests = new RequestReader(this, table);
    this.responses = new ResponseReader(this, table);
    this.lastDataUs = context.connection.startUs;
  }

  /** @returns what looks into the bodies of this request and its response */
  observe(request: HttpExchange): StreamObserver | undefined {
    if (this.protocols.length === 0) return undefined;
    const contentType = request.requestHeaders.get('content-type')?.[0];
    if (contentType === undefined) return undefined;
    for (const protocol of this.protocols) {
      const observer = protocol.open(contentType, request, this.context);
      if (observer !== undefined) return observer;
    }
    return undefined;
  }

  countBadLines(head: HeadReader): void {
    if (head.badLines > 0) count(this.context.counters.parseErrors, 'http', head.badLines);
    head.badLines = 0;
  }

  parseError(timeUs: number): void {
    count(this.context.counters.parseErrors, 'http');
    if (++this.parseErrors > this.context.limits.httpParseErrors) this.die('protocol_error', timeUs);
  }

  /**
   * More requests wait than may: all of them are given up, and which response answers which request is not known any more. The client's direction
   * is still read, so that its requests are counted.
   */
  overflow(timeUs: number): void {
    count(this.context.counters.connections.givenUp, 'pipeline_limit');
    this.responses.cut('limit', timeUs);
    this.responses.release();
    this.ledger.giveUpAll('limit', timeUs);
    this.onlyCounts = true;
  }

  /** Gives the connection up. */
  die(reason: IncompleteReason, timeUs: number): void {
    count(this.context.counters.connections.givenUp, reason);
    this.responses.cut(reason, timeUs);
    this.ledger.giveUpAll(reason, timeUs);
    this.leave();
  }

  /**
   * The server agreed to go on as HTTP/2 (RFC 7540 section 3.2): what it sends from now on is the successor's.
   *
   * @param serverOffset bytes of the server that went before
   * @returns false when that is not read here
   */
  upgrade(request: HttpExchange, serverOffset: number, timeUs: number): boolean {
    const { requests, ledger } = this;
    const { upgradeToHttp2 } = this.upgrades;
    if (upgradeToHttp2 === undefined || ledger.at(0) !== request) return false;
    const inStep = requests.betweenMessages && ledger.length === 1;
    const clientOffset = requests.bytesSeen;
    ledger.takeFirst();
    ledger.discard();
    this.release();
    const successor = upgradeToHttp2(this.context, request, [clientOffset, serverOffset]);
    // Its preface came too early, or with a hole.
    if (!inStep) successor.gap(FROM_CLIENT, 0, timeUs);
    this.successor = successor;
    return true;
  }

  /**
   * The server agreed to go on in another protocol: the exchange is over, and the rest is the successor's.
   *
   * @param token names the protocol, as the Upgrade field does
   * @returns false when that is not read here
   */
  switchTo(token: string, handshake: PendingExchange, timeUs: number): boolean {
    const { requests, ledger } = this;
    const { upgrades } = this.upgrades;
    if (upgrades === undefined || !Object.hasOwn(upgrades, token) || ledger.at(0) !== handshake) return false;
    const inStep = requests.betweenMessages && ledger.length === 1;
    ledger.finish(handshake, handshake.damage, timeUs);
    ledger.discard();
    this.release();
    const successor = upgrades[token]!(this.context, handshake);
    if (!inStep) successor.gap(FROM_CLIENT, 0, timeUs);
    this.successor = successor;
    return true;
  }

  /** The rest of the connection is not for this parser. */
  leave(): void {
    this.release();
    this.context.mute();
  }

  release(): void {
    this.over = true;
    this.ledger.release();
    this.requests.release();
    this.responses.release();
  }
}
