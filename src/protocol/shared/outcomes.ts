import type { Exchange, IncompleteReason } from '../../exchange/exchange.ts';
import { type Counters, count } from '../../telemetry/counters.ts';

/** What is used of the world (protocol/layer.ts). */
interface OutcomeContext<Emitted> {
  readonly counters: Counters;
  emit(exchange: Emitted): void;
}

/** Counts the exchanges of one connection, and the messages that cannot be parsed, so that every number adds up. */
export class Outcomes<Emitted extends { readonly incomplete: IncompleteReason | undefined } = Exchange> {
  private readonly context: OutcomeContext<Emitted>;
  private readonly protocol: string;
  private readonly maxParseErrors: number;
  private parseErrors = 0;

  /**
   * @param protocol its name in statistics
   * @param maxParseErrors beyond it the connection is given up
   */
  constructor(context: OutcomeContext<Emitted>, protocol: string, maxParseErrors: number) {
    this.context = context;
    this.protocol = protocol;
    this.maxParseErrors = maxParseErrors;
  }

  emit(exchange: Emitted): void {
    const { counters } = this.context;
    count(counters.exchanges, this.protocol);
    if (exchange.incomplete !== undefined) count(counters.incomplete, exchange.incomplete);
    this.context.emit(exchange);
  }

  /** A message cannot be parsed. @returns whether there were too many: the connection is given up, and counted as that */
  parseError(): boolean {
    const { counters } = this.context;
    count(counters.parseErrors, this.protocol);
    if (++this.parseErrors <= this.maxParseErrors) return false;
    count(counters.connections.givenUp, 'protocol_error');
    return true;
  }
}
