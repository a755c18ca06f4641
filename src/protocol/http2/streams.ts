import { EXCHANGE_COST, MAP_ENTRY_COST } from '../../memory/cost.ts';
import type { Stream } from './stream.ts';

/** A stream, and its place in the table. */
const STREAM_COST = EXCHANGE_COST + MAP_ENTRY_COST;

/** The open streams of one connection by their id, in the order in which they came, and what they cost (memory/cost.ts). */
export class StreamTable {
  cost = 0;
  private readonly byId = new Map<number, Stream>();

  get size(): number {
    return this.byId.size;
  }

  get(id: number): Stream | undefined {
    return this.byId.get(id);
  }

  has(id: number): boolean {
    return this.byId.has(id);
  }

  values(): IterableIterator<Stream> {
    return this.byId.values();
  }

  add(stream: Stream): void {
    stream.cost += STREAM_COST;
    this.byId.set(stream.id, stream);
    this.cost += stream.cost;
  }

  /** @param cost of what a stream holds from now on, whether it is in the table or will be */
  addCost(stream: Stream, cost: number): void {
    stream.cost += cost;
    if (this.byId.get(stream.id) === stream) this.cost += cost;
  }

  remove(stream: Stream): void {
    if (this.byId.delete(stream.id)) this.cost -= stream.cost;
  }

  clear(): void {
    this.byId.clear();
    this.cost = 0;
  }
}
