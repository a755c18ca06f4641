import type { Exchange } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import { Common, type CommonOptions } from './common.ts';
import { GrpcSpans } from './grpc.ts';
import { type HttpSpanOptions, HttpSpans } from './http.ts';
import type { Span } from './span.ts';
import { defaultSqlSpanOptions, type SqlSpanOptions, SqlSpans } from './sql.ts';
import { WebSocketSpans } from './websocket.ts';

export type { Perspective } from './common.ts';
export { defaultHttpSpanOptions, type HttpSpanOptions, keptHeaders, requiredHeaders } from './http.ts';
export { defaultSqlSpanOptions, type SqlSpanOptions } from './sql.ts';

export interface SpanBuilderOptions extends CommonOptions {
  readonly http: HttpSpanOptions;
  readonly sql?: SqlSpanOptions;
}

/** Makes spans of exchanges. */
export class SpanBuilder {
  private readonly common: Common;
  private readonly http: HttpSpans;
  private readonly grpc: GrpcSpans;
  private readonly sql: SqlSpans;
  private readonly webSocket: WebSocketSpans;
  private readonly spans: Span[] = [];

  constructor(options: SpanBuilderOptions) {
    const common = new Common(options);
    this.common = common;
    this.http = new HttpSpans(common, options.http);
    this.grpc = new GrpcSpans(common, options.http);
    this.sql = new SqlSpans(common, options.sql ?? defaultSqlSpanOptions);
    this.webSocket = new WebSocketSpans(common, options.http);
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
    switch (exchange.protocol) {
      case 'http':
        this.http.build(exchange, spans);
        return spans;
      case 'grpc':
        this.grpc.build(exchange, spans);
        return spans;
      case 'postgresql':
      case 'mysql':
        this.sql.build(exchange, spans);
        return spans;
      case 'websocket':
        this.webSocket.build(exchange, spans);
        return spans;
      default:
        return exchange satisfies never;
    }
  }
}
