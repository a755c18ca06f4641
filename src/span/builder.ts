import { defaultLimits } from '../config/limits.ts';
import type { Exchange, ExchangeBase } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import type { MemoryBudget } from '../memory/budget.ts';
import type { Counters } from '../telemetry/counters.ts';
import { Common, type CommonOptions } from './common.ts';
import { SpanDriver } from './driver.ts';
import type { MappingOptions, SpanMapping } from './mapping.ts';
import type { RouteLearnerLimits } from './route-learner.ts';
import type { Span } from './span.ts';
import type { Verdict } from './verdict.ts';

export type { Perspective } from './common.ts';
export { Durations, type DurationsOptions } from './durations.ts';

export interface SpanBuilderOptions extends CommonOptions {
  readonly limits?: CommonOptions['limits'] & RouteLearnerLimits;
  /** The sections of all protocols. */
  readonly config: unknown;
  readonly memory?: MemoryBudget;
  /** How the exchanges of each protocol become spans. */
  readonly mappings: readonly ((options: MappingOptions) => SpanMapping<ExchangeBase>)[];
}

/** Makes spans of exchanges. */
export class SpanBuilder {
  private readonly common: Common;
  /** By `exchange.protocol`. */
  private readonly drivers = new Map<string, SpanDriver<ExchangeBase>>();
  private readonly counters: Counters;
  private readonly spans: Span[] = [];

  constructor(options: SpanBuilderOptions) {
    const { config, memory, counters, mappings } = options;
    this.common = new Common(options);
    this.counters = counters;
    const parts: MappingOptions = { config, limits: options.limits ?? defaultLimits, memory, counters };
    for (const create of mappings) {
      const mapping = create(parts);
      const driver = new SpanDriver(this.common, mapping);
      for (const protocol of mapping.protocols) this.drivers.set(protocol, driver);
    }
  }

  /** Why the endpoints of the last exchange have no span. */
  get verdict(): Verdict {
    return this.common.verdict;
  }

  /** No span is ever made of this connection: neither of its endpoints is watched. */
  isUnwatched(connection: Connection): boolean {
    return this.common.isUnwatched(connection);
  }

  /**
   * Makes the spans of one exchange: none, a CLIENT span, a SERVER span, or both in this order.
   *
   * @returns an array and spans that the next call fills again
   */
  build(exchange: Exchange): readonly Span[] {
    const { spans } = this;
    spans.length = 0;
    this.common.verdict.reset();
    const driver = this.drivers.get(exchange.protocol);
    if (driver === undefined) throw new Error(`no spans are known of ${exchange.protocol}`);
    driver.build(exchange, spans);
    this.counters.spans.made += spans.length;
    return spans;
  }
}
