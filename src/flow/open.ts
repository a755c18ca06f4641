import type { Limits } from '../config/limits.ts';
import { type Direction, type EndReason, FROM_CLIENT, FROM_SERVER } from './connection.ts';
import type { Flow } from './flow.ts';
import { LinkedList } from './list.ts';

/**
 * The connections that are open, each in one list, ordered by last packet: `embryonic` (no payload yet), `active`, `halfClosed` (by the direction
 * of the FIN).
 */
export class OpenFlows {
  private readonly embryonic = new LinkedList<Flow>();
  private readonly active = new LinkedList<Flow>();
  /** By the direction that has ended. */
  private readonly halfClosed: readonly [LinkedList<Flow>, LinkedList<Flow>] = [new LinkedList(), new LinkedList()];

  get size(): number {
    const [byClient, byServer] = this.halfClosed;
    return this.embryonic.size + this.active.size + byClient.size + byServer.size;
  }

  add(flow: Flow): void {
    this.embryonic.push(flow);
  }

  /** Payload was seen. */
  carriesData(flow: Flow): void {
    flow.carriedData = true;
    this.active.push(flow);
  }

  /** One end has said that it is done. Which one matters: a server that has closed takes nothing any more, a client may wait for long. */
  halfClose(flow: Flow, direction: Direction, timeUs: number): void {
    if (flow.closed) return;
    flow.queuedUs = timeUs;
    this.halfClosed[direction].push(flow);
  }

  /** Keeps the lists in order of last packet, to the second: not one list operation per packet. */
  touch(flow: Flow, timeUs: number): void {
    flow.lastUs = timeUs;
    if (timeUs - flow.queuedUs < 1_000_000) return;
    flow.queuedUs = timeUs;
    flow.list?.push(flow);
  }

  /** The one that makes room when there are too many. */
  get leastUseful(): Flow | undefined {
    const [byClient, byServer] = this.halfClosed;
    return byServer.first ?? this.embryonic.first ?? byClient.first ?? this.active.first;
  }

  /** Those that have been silent for too long. @param end ends a connection, and takes it out of its list */
  endSilent(limits: Limits, timeUs: number, end: (flow: Flow, reason: EndReason) => void): void {
    const endList = (list: LinkedList<Flow>, limitUs: number, reason: EndReason): void => {
      for (let flow = list.first; flow !== undefined; flow = list.first) {
        if (flow.queuedUs + limitUs > timeUs) return;
        end(flow, reason);
      }
    };
    endList(this.embryonic, limits.unusedUs, 'idle');
    endList(this.active, limits.idleUs, 'idle');
    endList(this.halfClosed[FROM_CLIENT], limits.clientClosedUs, 'fin');
    endList(this.halfClosed[FROM_SERVER], limits.serverClosedUs, 'fin');
  }

  /** All of them, each of which `end` takes out of its list. */
  endAll(end: (flow: Flow) => void): void {
    for (const list of [this.embryonic, this.active, ...this.halfClosed]) {
      for (let flow = list.first; flow !== undefined; flow = list.first) end(flow);
    }
  }
}
