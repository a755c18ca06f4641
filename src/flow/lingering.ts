import { DIRECTION_EGRESS, type PacketRecord } from '../capture/records.ts';
import type { Limits } from '../config/limits.ts';
import type { Segment } from '../packet/decode.ts';
import { type Direction, FROM_CLIENT, FROM_SERVER } from './connection.ts';
import type { Flow } from './flow.ts';
import { sequenceDistance } from './half.ts';
import { type Linked, LinkedList } from './list.ts';
import { type Tuple, type Tupled, TupleTable } from './lookup.ts';

/** One direction of a connection that has ended. Sequence numbers as signed integers, which need no object of their own. */
interface ClosedHalf {
  readonly initial: number;
  readonly initialKnown: boolean;
  readonly next: number;
  readonly started: boolean;
  /** The cookie of the socket that was seen sending it, 0 for none. */
  readonly socket: number;
  /** Its packets were seen at the socket that sends them. */
  seenAtSender: boolean;
}

/** What is left of a connection: what it takes to know its late packets, and nothing that its spans were made of. */
export class ClosedFlow implements Linked<ClosedFlow>, Tupled<ClosedFlow> {
  readonly tuple: Tuple;
  readonly closedUs: number;
  /** The end whose reset has ended it. */
  readonly resetBy: Direction | undefined;
  readonly #client: ClosedHalf;
  readonly #server: ClosedHalf;
  previous: ClosedFlow | undefined = undefined;
  next: ClosedFlow | undefined = undefined;
  list: LinkedList<ClosedFlow> | undefined = undefined;
  nextInBucket: ClosedFlow | undefined = undefined;

  constructor(flow: Flow, closedUs: number, resetBy: Direction | undefined) {
    this.tuple = flow.tuple;
    this.closedUs = closedUs;
    this.resetBy = flow.muted ? undefined : resetBy;
    this.#client = closedHalf(flow, FROM_CLIENT);
    this.#server = closedHalf(flow, FROM_SERVER);
  }

  half(direction: Direction): ClosedHalf {
    return direction === FROM_CLIENT ? this.#client : this.#server;
  }
}

function closedHalf(flow: Flow, direction: Direction): ClosedHalf {
  const half = flow.halves[direction];
  const initial = flow.connection.initialSequence[direction];
  return {
    initial: initial | 0,
    initialKnown: initial !== -1,
    next: half.next | 0,
    started: half.started,
    socket: flow.socketConfirmed[direction] ? flow.sender(direction).socket : 0,
    seenAtSender: half.seenAtSender,
  };
}

type LingeringLimits = Pick<Limits, 'lingerUs' | 'lingeringConnections' | 'reassemblyWindowBytes'>;

/** Connections that have ended in order, for a while: a late copy of one of their packets must not look like a new connection. */
export class Lingering {
  readonly #limits: LingeringLimits;
  readonly #tuples: TupleTable<ClosedFlow>;
  /** By time of closing. */
  readonly #list = new LinkedList<ClosedFlow>();

  /** @param seed of the table that the flows come from */
  constructor(limits: LingeringLimits, seed: number) {
    this.#limits = limits;
    this.#tuples = new TupleTable(seed);
  }

  get size(): number {
    return this.#list.size;
  }

  /** The direction of the segment last found. */
  get direction(): Direction {
    return this.#tuples.direction;
  }

  add(flow: Flow, timeUs: number, resetBy?: Direction): void {
    const closed = new ClosedFlow(flow, timeUs, resetBy);
    this.#tuples.add(closed);
    this.#list.push(closed);
    if (this.size > this.#limits.lingeringConnections) this.forgetOldest();
  }

  find(bytes: Buffer, segment: Segment, scope: number): ClosedFlow | undefined {
    return this.#list.size === 0 ? undefined : this.#tuples.find(bytes, segment, scope);
  }

  /** Whether payload comes from a later connection with the same addresses and ports, whose SYN was not seen. */
  isOther(closed: ClosedFlow, record: PacketRecord, segment: Segment): boolean {
    const half = closed.half(this.direction);
    if (record.cookie !== 0 && record.direction === DIRECTION_EGRESS && half.socket !== 0) {
      return half.socket !== record.cookie;
    }
    // An end that has reset its connection sends nothing more: the reset was not its own, and nobody has heeded it.
    if (closed.resetBy === this.direction && half.started && ((segment.seq - half.next) | 0) >= 0) return true;
    return half.started && sequenceDistance(segment.seq, half.next) > this.#limits.reassemblyWindowBytes;
  }

  remove(closed: ClosedFlow): void {
    this.#tuples.remove(closed);
    this.#list.remove(closed);
  }

  /** @returns false when there is none */
  forgetOldest(): boolean {
    const oldest = this.#list.first;
    if (oldest === undefined) return false;
    this.remove(oldest);
    return true;
  }

  tick(timeUs: number): void {
    for (;;) {
      const oldest = this.#list.first;
      if (oldest === undefined || oldest.closedUs + this.#limits.lingerUs > timeUs) return;
      this.remove(oldest);
    }
  }

  clear(): void {
    while (this.forgetOldest());
  }
}
