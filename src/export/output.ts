import type { Exchange } from '../exchange/exchange.ts';
import type { Span } from '../span/span.ts';

/** Where spans go. */
export interface Output {
  /**
   * Takes one exchange with its spans. Never blocks and never throws: what cannot be kept is counted with a reason.
   *
   * @param spans filled again after the call; may be empty when all were left out
   */
  exchange(exchange: Exchange, spans: readonly Span[]): void;
  /**
   * For sources that can wait, such as a file: undefined while there is room, else a promise that resolves when there is room again.
   * A live capture does not ask.
   */
  ready(): Promise<void> | undefined;
  /**
   * Delivers what is held, within `deadlineMs` milliseconds from now, then counts the rest as dropped and lets go of everything.
   * Called once; exchanges that come later are counted as dropped.
   */
  shutdown(deadlineMs: number): Promise<void>;
}
