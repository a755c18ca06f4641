import type { IncompleteReason } from '../../exchange/exchange.ts';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../flow/connection.ts';
import type { Stream } from './stream.ts';

/** How often the place in each direction of a connection was lost, when the last time, and why. */
export class Losses {
  /** By direction. */
  readonly counts: [number, number];
  readonly reasons: [IncompleteReason, IncompleteReason] = ['gap', 'gap'];
  lastUs = 0;

  /** @param joined the beginning of the connection was not seen */
  constructor(joined: boolean) {
    this.counts = joined ? [1, 1] : [0, 0];
  }

  add(direction: Direction, reason: IncompleteReason, timeUs: number): void {
    this.counts[direction]++;
    this.reasons[direction] = reason;
    this.lastUs = timeUs;
  }

  /** The end of the stream's request may have been lost. */
  requestInDoubt(stream: Stream): boolean {
    return !stream.requestDone && stream.clientMark !== this.counts[FROM_CLIENT];
  }

  /** The end of one of its directions may have been lost. */
  inDoubt(stream: Stream): boolean {
    return this.requestInDoubt(stream) || (!stream.answered && stream.serverMark !== this.counts[FROM_SERVER]);
  }

  /** Why that end may have been lost. */
  reasonOf(stream: Stream): IncompleteReason {
    return this.reasons[this.requestInDoubt(stream) ? FROM_CLIENT : FROM_SERVER];
  }

  /** Since when nothing is known of the stream. */
  since(stream: Stream): number {
    return Math.max(stream.lastUs, this.lastUs);
  }
}
