import { EXCHANGE_COST, waitingCost } from '../../memory/cost.ts';
import { count } from '../../telemetry/counters.ts';
import type { PostgresExchange } from './exchange.ts';
import { Portal } from './names.ts';
import type { DialogueParts } from './parts.ts';

/** The statements of one connection that PortalSuspended interrupted, and that the next Execute of their portal goes on with. */
export class Cursors {
  private readonly dialogue: DialogueParts;
  /** What they cost (memory/cost.ts). */
  cost = 0;
  private portals: Portal[] = [];

  constructor(dialogue: DialogueParts) {
    this.dialogue = dialogue;
  }

  get length(): number {
    return this.portals.length;
  }

  suspend(portal: Portal, exchange: PostgresExchange): void {
    portal.suspended = exchange;
    if (portal.doubted) exchange.incomplete = 'gap';
    this.portals.push(portal);
    this.cost += costOf(exchange);
    const { limits, counters } = this.dialogue.context;
    if (this.portals.length <= limits.sqlPortals) return;
    count(counters.sql, 'portal_evicted');
    this.finish(this.portals[0]);
  }

  /** @param subject of an Execute; its statement is taken, when it is a portal that has one */
  resume(subject: unknown): PostgresExchange | undefined {
    if (!(subject instanceof Portal) || subject.suspended === undefined) return undefined;
    const exchange = subject.suspended;
    subject.suspended = undefined;
    this.portals.splice(this.portals.indexOf(subject), 1);
    this.cost -= costOf(exchange);
    return exchange;
  }

  /** No Execute will go on with it: it returned what it returned. */
  finish(subject: unknown): void {
    const exchange = this.resume(subject);
    if (exchange !== undefined) this.dialogue.emit(exchange);
  }

  /** Messages of the client were lost: any of them may have been continued unseen. */
  doubtAll(): void {
    for (const { suspended } of this.portals) if (suspended !== undefined) suspended.incomplete = 'gap';
  }

  finishUnnamed(): void {
    if (this.portals.length > 0) this.finish(this.portals.find((portal) => portal.name === ''));
  }

  finishAll(): void {
    while (this.portals.length > 0) this.finish(this.portals[0]);
  }
}

function costOf({ statement }: PostgresExchange): number {
  return EXCHANGE_COST + (statement === undefined ? 0 : waitingCost([statement]));
}
