import { defaultLimits } from '../config/limits.ts';
import type { Exchange } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import type { MemoryBudget } from '../memory/budget.ts';
import type { Counters } from '../telemetry/counters.ts';
import { Common, type CommonOptions } from './common.ts';
import { GrpcSpans } from './grpc.ts';
import { type HttpSpanOptions, HttpSpans } from './http.ts';
import { RouteLearner, type RouteLearnerLimits } from './route-learner.ts';
import { Router } from './routes.ts';
import type { Span } from './span.ts';
import { defaultSqlSpanOptions, type SqlSpanOptions, SqlSpans } from './sql.ts';
import type { Verdict } from './verdict.ts';
import { WebSocketSpans } from './websocket.ts';

export type { Perspective } from './common.ts';
export { Durations, type DurationsOptions } from './durations.ts';
export { defaultHttpSpanOptions, type HttpSpanOptions, keptHeaders, requiredHeaders } from './http.ts';
export { defaultSqlSpanOptions, type SqlSpanOptions } from './sql.ts';

export interface SpanBuilderOptions extends CommonOptions {
  readonly limits?: CommonOptions['limits'] & RouteLearnerLimits;
  readonly http: HttpSpanOptions;
  readonly sql?: SqlSpanOptions;
  readonly memory?: MemoryBudget;
}

/** Makes spans of exchanges. */
export class SpanBuilder {
  private readonly common: Common;
  private readonly http: HttpSpans;
  private readonly grpc: GrpcSpans;
  private readonly sql: SqlSpans;
  private readonly webSocket: WebSocketSpans;
  private readonly counters: Counters;
  private readonly spans: Span[] = [];

  constructor(options: SpanBuilderOptions) {
    const common = new Common(options);
    this.common = common;
    const { routes, learnRoutes } = options.http;
    const limits = options.limits ?? defaultLimits;
    const { memory } = options;
    const learner = learnRoutes ? new RouteLearner(limits, options.counters.services, memory) : undefined;
    const router = new Router(routes, learner);
    this.counters = options.counters;
    this.http = new HttpSpans(common, options.http, router);
    this.grpc = new GrpcSpans(common, options.http);
    this.sql = new SqlSpans(common, options.sql ?? defaultSqlSpanOptions, memory);
    this.webSocket = new WebSocketSpans(common, options.http, router);
  }

  /** Why the ends of the last exchange have no span. */
  get verdict(): Verdict {
    return this.common.verdict;
  }

  /** No span is ever made of this connection: neither of its ends is watched. */
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
    this.add(exchange);
    this.counters.spans.made += spans.length;
    return spans;
  }

  private add(exchange: Exchange): void {
    const { spans } = this;
    switch (exchange.protocol) {
      case 'http':
        this.http.build(exchange, spans);
        break;
      case 'grpc':
        this.grpc.build(exchange, spans);
        break;
      case 'postgresql':
      case 'mysql':
        this.sql.build(exchange, spans);
        break;
      case 'websocket':
        this.webSocket.build(exchange, spans);
        break;
      default:
        exchange satisfies never;
    }
  }
}
