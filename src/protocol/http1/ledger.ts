import type { IncompleteReason } from '../../exchange/exchange.ts';
import { EXCHANGE_COST, latin1Cost } from '../../memory/cost.ts';
import { count } from '../../telemetry/counters.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { LayerContext } from '../layer.ts';
import { ExchangeQueue, PendingExchange } from './pending.ts';

/**
 * The exchanges of one connection that are under way, in the order of their requests, and the responses whose request was not
 * seen (orphans). Everything that is emitted or counted as an exchange goes through here.
 */
export class Ledger {
  private readonly context: LayerContext<HttpLimits>;
  private readonly queue = new ExchangeQueue();
  /** Responses without a request so far, in their order. */
  private readonly orphans: PendingExchange[] = [];
  /** What all of them cost (memory/cost.ts). */
  cost = 0;
  /** Exchanges that came out whole. */
  whole = 0;
  private requests = 0;
  /** Requests below this number may have lost their response. */
  private doubtBelow = 0;
  private doubtReason: IncompleteReason = 'gap';
  /** The server sent something since the last request. */
  private serverMoved = true;
  private ticking = false;

  constructor(context: LayerContext<HttpLimits>) {
    this.context = context;
  }

  /** Exchanges that wait. */
  get length(): number {
    return this.queue.length;
  }

  get orphanCount(): number {
    return this.orphans.length;
  }

  at(index: number): PendingExchange | undefined {
    return this.queue.at(index);
  }

  get last(): PendingExchange | undefined {
    return this.queue.at(this.queue.length - 1);
  }

  /** @returns false when more requests wait than the limit allows */
  push(exchange: PendingExchange): boolean {
    exchange.ordinal = this.requests++;
    exchange.sequential = this.serverMoved;
    this.serverMoved = false;
    this.queue.push(exchange);
    this.addCost(exchange, EXCHANGE_COST + latin1Cost(exchange.target));
    if (!this.ticking) {
      this.ticking = true;
      this.context.wantTicks(true);
    }
    return this.queue.length <= this.context.limits.httpPipelineDepth;
  }

  /** @param cost of what was added to an exchange, or an orphan, that is held here */
  addCost(exchange: PendingExchange, cost: number): void {
    exchange.cost += cost;
    this.cost += cost;
  }

  /** The server sent bytes, seen or lost. */
  noteServerBytes(): void {
    this.serverMoved = true;
  }

  /** Bytes of the client were lost or went by unread: there may have been requests behind the last one. */
  noteLossBehind(reason: IncompleteReason): void {
    if (this.last !== undefined) this.last.lossBehind ??= reason;
  }

  /** Bytes of the server went by unread: they may have been the response to any request so far. */
  doubtResponses(reason: IncompleteReason): void {
    this.doubtBelow = this.requests;
    this.doubtReason = reason;
  }

  /** Emits the exchange when its request is done and its response whole, or when what it lost will not come. */
  finishIfWhole(exchange: PendingExchange): void {
    if (!exchange.answered || !exchange.requestDone || this.queue.at(0) !== exchange) return;
    this.finish(exchange, exchange.damage, exchange.endUs);
  }

  /** The server asked for the body of the first request that has no answer. */
  continueFirst(): void {
    const first = this.queue.at(0);
    if (first !== undefined && !first.answered) first.expectsContinue = false;
  }

  /** Takes the first exchange off the queue and emits it. */
  finish(exchange: PendingExchange, incomplete: IncompleteReason | undefined, timeUs: number): void {
    this.takeFirst();
    const { counters } = this.context;
    exchange.requestDone = true;
    if (incomplete === undefined) this.whole++;
    else {
      exchange.incomplete = incomplete;
      exchange.endUs = timeUs;
      count(counters.incomplete, incomplete);
    }
    const { observer } = exchange;
    exchange.observer = undefined;
    const emitted = observer === undefined ? exchange : observer.finish(exchange, true);
    count(counters.exchanges, emitted.protocol);
    this.context.emit(emitted);
  }

  /** The first exchange is another's from now on. */
  takeFirst(): void {
    this.cost -= this.queue.shift()?.cost ?? 0;
  }

  /** Emits the first exchange as it is: whole when its response is, else incomplete. */
  giveUp(exchange: PendingExchange, reason: IncompleteReason, timeUs: number): void {
    if (exchange.answered) this.finish(exchange, exchange.damage, exchange.endUs);
    else this.finish(exchange, exchange.ordinal < this.doubtBelow ? this.doubtReason : reason, timeUs);
  }

  giveUpAll(reason: IncompleteReason, timeUs: number): void {
    for (let n = this.queue.length; n > 0; n--) this.giveUp(this.queue.at(0)!, reason, timeUs);
  }

  /** What waits was read from bytes that were no requests: none of it was an exchange. */
  discard(): void {
    if (this.queue.length > 0) count(this.context.counters.parseErrors, 'http', this.queue.length);
    this.clearQueue();
  }

  newOrphan(): PendingExchange {
    if (this.orphans.length >= this.context.limits.httpOrphanResponses) this.dropOrphan();
    const orphan = new PendingExchange(this.context.connection);
    this.orphans.push(orphan);
    this.addCost(orphan, EXCHANGE_COST);
    return orphan;
  }

  /** The oldest response without a request that may be the one to this request; older ones answer no request. */
  takeOrphan(exchange: PendingExchange): PendingExchange | undefined {
    while (this.orphans.length > 0 && this.orphans[0]!.responseStartUs < exchange.startUs) this.dropOrphan();
    if (this.queue.at(0) !== exchange) return undefined;
    const orphan = this.orphans.shift();
    if (orphan !== undefined) this.addCost(exchange, orphan.cost);
    this.cost -= orphan?.cost ?? 0;
    return orphan;
  }

  private dropOrphan(): void {
    this.cost -= this.orphans.shift()?.cost ?? 0;
    count(this.context.counters.incomplete, 'request_not_seen');
  }

  /** No request waits: time need not pass here. */
  stopTicks(): void {
    if (this.ticking) this.context.wantTicks(false);
    this.ticking = false;
  }

  private clearQueue(): void {
    this.queue.clear();
    this.cost = 0;
    for (const orphan of this.orphans) this.cost += orphan.cost;
  }

  release(): void {
    while (this.orphans.length > 0) this.dropOrphan();
    this.clearQueue();
    this.stopTicks();
  }
}
