/** Exchanges whose endpoints are not known well enough yet: they wait for a short while, and are few. */
import type { Exchange } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import { type Account, type Holder, type MemoryBudget, unlimitedMemory } from '../memory/budget.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { Knowledge, ResourceResolver } from './resource.ts';

export interface WaitingRoomOptions {
  readonly resources: ResourceResolver;
  /** Exchanges that wait at once. */
  readonly limit: number;
  /** `waited`: all that did. Of these, `timeout` and `memory`; and besides them, `no_room`: all three left with what was known. */
  readonly counts: ReasonCounts;
  readonly memory?: MemoryBudget;
  /** Bytes that an exchange costs while it is kept; always the same for one exchange. */
  readonly costOf: (exchange: Exchange) => number;
  readonly deliver: (exchange: Exchange) => void;
  /** The last exchange of a connection that has ended was delivered. */
  readonly released: (connection: Connection) => void;
}

/** For how long is not decided here: what has been waited for long enough is pending no more. */
export class WaitingRoom implements Holder {
  readonly kind = 'waiting_exchanges';
  readonly #options: WaitingRoomOptions;
  /** In the order in which they came. */
  #waiting: Exchange[] = [];
  /** How many of a connection wait. */
  readonly #byConnection = new Map<Connection, { waiting: number; ended: boolean }>();

  readonly #memory: Account;

  constructor(options: WaitingRoomOptions) {
    this.#options = options;
    this.#memory = (options.memory ?? unlimitedMemory()).open(this);
  }

  /** @returns whether it waits, and is delivered later */
  hold(exchange: Exchange): boolean {
    const { connection } = exchange;
    // A call that goes on changes while it would wait.
    if (!this.#is('pending', connection) || (exchange.interimUs ?? 0) > 0) return false;
    const { limit, counts } = this.#options;
    if (this.#waiting.length >= limit) {
      count(counts, 'no_room');
      return false;
    }
    count(counts, 'waited');
    this.#waiting.push(exchange);
    this.#memory.charge(this.#options.costOf(exchange));
    const state = this.#byConnection.get(connection);
    if (state === undefined) this.#byConnection.set(connection, { waiting: 1, ended: false });
    else state.waiting++;
    return true;
  }

  /** @returns whether exchanges of it wait: it is then released later, and its sockets must be remembered until then */
  holds(connection: Connection): boolean {
    const state = this.#byConnection.get(connection);
    if (state !== undefined) state.ended = true;
    return state !== undefined;
  }

  /** Lets go of what need not wait any more. */
  tick(): void {
    if (this.#waiting.length === 0) return;
    const before = this.#waiting;
    this.#waiting = [];
    for (const exchange of before) {
      if (this.#is('pending', exchange.connection)) this.#waiting.push(exchange);
      else this.#release(exchange);
    }
  }

  /** Lets go of all. */
  flush(): void {
    const before = this.#waiting;
    this.#waiting = [];
    for (const exchange of before) this.#release(exchange);
  }

  /** Memory is full: the older half leaves with what is known. */
  giveUp(): void {
    const leaving = this.#waiting.splice(0, Math.ceil(this.#waiting.length / 2));
    count(this.#options.counts, 'memory', leaving.length);
    for (const exchange of leaving) this.#release(exchange);
  }

  #release(exchange: Exchange): void {
    const { connection } = exchange;
    this.#memory.charge(-this.#options.costOf(exchange));
    if (this.#is('given_up', connection)) count(this.#options.counts, 'timeout');
    this.#options.deliver(exchange);
    const state = this.#byConnection.get(connection);
    if (state === undefined || --state.waiting > 0) return;
    this.#byConnection.delete(connection);
    if (state.ended) this.#options.released(connection);
  }

  /** Whether that is so of one of the endpoints that are here. */
  #is(knowledge: Knowledge, { client, server }: Connection): boolean {
    const { resources } = this.#options;
    if (resources.knowledgeOf === undefined) return false;
    return (
      (client.socket !== 0 && resources.knowledgeOf(client.socket) === knowledge) ||
      (server.socket !== 0 && resources.knowledgeOf(server.socket) === knowledge)
    );
  }
}
