import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { SqlExchange } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import type { MemoryBudget } from '../memory/budget.ts';
import type { SqlStatement } from '../sql/statement.ts';
import { KEY } from './attributes.ts';
import { CLIENT_END, type Common, Draft, endsOf, errorOfIncomplete, NO_END, SERVER_END } from './common.ts';
import { WireContext } from './context.ts';
import type { Recorder } from './durations.ts';
import { writeClientSpanId, writeServerSpanId } from './ids.ts';
import type { ConnectionPeers } from './peer.ts';
import { PARENT_SPAN_ID, SPAN_ID, type Span } from './span.ts';
import { currentSqlSide, type SqlSide } from './sql-side.ts';
import { StatementBlocks } from './statement-blocks.ts';

/** `sql` of the configuration has these keys. */
export interface SqlSpanOptions {
  /** Statements that took less become no spans, unless they failed; 0: all become spans. */
  readonly minDurationUs: number;
  /** Say db.response.returned_rows, which the semantic conventions call opt-in. */
  readonly captureReturnedRows: boolean;
  /** Say db.operation.name and db.collection.name, which the semantic conventions do not want to be taken from a text. */
  readonly captureOperationAndCollection: boolean;
}

export const defaultSqlSpanOptions: SqlSpanOptions = {
  minDurationUs: 0,
  captureReturnedRows: true,
  captureOperationAndCollection: false,
};

/** A series of durations: its error is what the server said. */
const STATUS_SAID = 1;
/** Prepared statements with a context in their text that are remembered per connection. */
const MAX_CONTEXTS = 64;

class ConnectionState {
  readonly seed: Int32Array;
  readonly peers: ConnectionPeers | undefined;
  client: SqlSide | undefined = undefined;
  server: SqlSide | undefined = undefined;
  /** Prepared statements whose context was used. */
  used: Set<SqlStatement> | undefined = undefined;

  constructor(seed: Int32Array, peers: ConnectionPeers | undefined) {
    this.seed = seed;
    this.peers = peers;
  }
}

/**
 * Makes the spans of SQL statements (semantic conventions for database client spans, 1.44).
 *
 * All statements of one message belong to one trace, that of the message's offset; each has a span id of its own.
 */
export class SqlSpans {
  private readonly common: Common;
  private readonly options: SqlSpanOptions;
  private readonly blocks: StatementBlocks;
  private readonly durations: { readonly client: Recorder; readonly server: Recorder } | undefined;
  private readonly context = new WireContext();
  private readonly draft = new Draft();
  private readonly clientSpan = this.draft.clientSpan;
  private readonly serverSpan = this.draft.serverSpan;

  constructor(common: Common, options: SqlSpanOptions, memory?: MemoryBudget) {
    this.common = common;
    this.options = options;
    this.blocks = new StatementBlocks(options.captureOperationAndCollection, memory);
    this.durations = common.durations && {
      client: common.durations.recorder('dbClient', describeDuration),
      server: common.durations.recorder('dbServer', describeDuration),
    };
  }

  /** Adds the spans of one exchange: none, a CLIENT span, a SERVER span, or both in this order. */
  build(exchange: SqlExchange, spans: Span[]): void {
    const { common } = this;
    const { connection } = exchange;
    const state = this.stateOf(connection);
    const wantClient = common.wantsSql('client', connection, state.peers);
    const wantServer = common.wantsSql('server', connection, state.peers);
    const wanted = endsOf(wantClient, wantServer);
    if (wanted === NO_END) return;
    const error = errorType(exchange);
    // A statement that began before the capture has no first byte; its end, if not seen, is the last that was seen of it.
    const startUs = exchange.startUs || exchange.responseStartUs || exchange.endUs;
    const endUs = Math.max(exchange.endUs, exchange.firstRowUs, exchange.responseStartUs, startUs);
    const startUnixUs = common.clock.unixUs(startUs);
    const endUnixUs = startUnixUs + (endUs - startUs);
    let client: SqlSide | undefined;
    let server: SqlSide | undefined;
    const { durations } = this;
    if (durations !== undefined) {
      const seconds = (endUs - startUs) / 1e6;
      if (wantClient && common.measures(connection, 'client')) {
        client = this.sideOf('client', exchange, state);
        this.measure(durations.client, client, exchange, error, seconds, startUnixUs);
      }
      if (wantServer && common.measures(connection, 'server')) {
        server = this.sideOf('server', exchange, state);
        this.measure(durations.server, server, exchange, error, seconds, startUnixUs);
      }
    }
    const why = this.reasonToLeaveOut(exchange, error);
    if (why !== '') {
      common.leaveOut(why, wanted);
      return;
    }

    const context = this.contextOf(exchange, state) ? this.context : undefined;
    const name = spanName(exchange);
    if (common.decides) this.describe(exchange, error);
    const ends = common.admit(this.draft, connection, wanted, state.seed, exchange.traceOffset, context);
    if (ends === NO_END) return;

    if ((ends & CLIENT_END) !== 0) {
      const span = this.clientSpan;
      writeClientSpanId(span.ids, SPAN_ID, state.seed, exchange.streamOffset);
      // The wire's span is the application's own, in the same process: ours is its child.
      if (context?.hasSpanId) common.setParent(span, context.ids, false);
      else span.hasParent = false;
      span.kind = SpanKind.CLIENT;
      span.resource = client?.durationsOf ?? common.resourceOf(connection, 'client');
      const side = client ?? this.sideOf('client', exchange, state);
      span.peerName =
        (ends & SERVER_END) !== 0 ? '' : (side.peer?.name ?? common.processOf(connection, 'server')?.name ?? '');
      span.shared = side.block;
      this.finish(span, exchange, name, error, startUnixUs, endUnixUs);
      if (client !== undefined) durations?.client.exemplify(span);
      common.stepBack(span, context?.hasSpanId === true);
      spans.push(span);
    }
    if ((ends & SERVER_END) !== 0) {
      const span = this.serverSpan;
      this.setServerIds(span, exchange, state, context);
      span.kind = SpanKind.SERVER;
      span.resource = server?.durationsOf ?? common.resourceOf(connection, 'server');
      span.shared = (server ?? this.sideOf('server', exchange, state)).block;
      this.finish(span, exchange, name, error, startUnixUs, endUnixUs);
      if (server !== undefined) durations?.server.exemplify(span);
      common.stepBack(span, context?.hasSpanId === true);
      spans.push(span);
    }
  }

  private describe(exchange: SqlExchange, error: string): void {
    const { candidate } = this.draft;
    candidate.method = exchange.statement?.operation ?? '';
    candidate.database = exchange.namespace;
    candidate.failed = error !== '';
    candidate.setTimes(exchange.startUs, exchange.endUs);
  }

  private sideOf(end: 'client' | 'server', exchange: SqlExchange, state: ConnectionState): SqlSide {
    const { common } = this;
    const peer = common.peerOf(exchange.connection, end, state.peers);
    const side = currentSqlSide(state[end], exchange, end, peer, common.peers);
    state[end] = side;
    return side;
  }

  /** Of every statement, before anything decides whether it becomes a span. */
  private measure(
    recorder: Recorder,
    side: SqlSide,
    exchange: SqlExchange,
    error: string,
    seconds: number,
    startUnixUs: number,
  ): void {
    const { statement, batchSize, statusCode } = exchange;
    const summary = statement?.summary ?? '';
    const isBatch = batchSize >= 2 && summary !== '';
    const resource = this.common.resourceOf(exchange.connection, side.end);
    const code = error !== '' && error === statusCode ? STATUS_SAID : 0;
    recorder.record(resource, side, isBatch ? `BATCH ${summary}` : summary, code, error, seconds, startUnixUs);
  }

  private reasonToLeaveOut(exchange: SqlExchange, error: string): string {
    if (exchange.statement?.ignored) return 'ignored';
    const { minDurationUs } = this.options;
    // What did not begin in sight may have taken any time.
    if (minDurationUs > 0 && error === '' && exchange.startUs !== 0) {
      if (exchange.endUs - exchange.startUs < minDurationUs) return 'below_min_duration';
    }
    return '';
  }

  private stateOf(connection: Connection): ConnectionState {
    const known = connection.spanState;
    if (known instanceof ConnectionState) return known;
    const state = new ConnectionState(this.common.seedOf(connection), this.common.newPeers());
    connection.spanState = state;
    return state;
  }

  /**
   * Reads the context beside the statement, else (also when that is malformed) that of its comment
   * (https://google.github.io/sqlcommenter/spec/).
   *
   * A comment names the span in which the text was written. A statement that was prepared with it and is executed again belongs to
   * whatever the application does by then.
   */
  private contextOf(exchange: SqlExchange, state: ConnectionState): boolean {
    if (this.context.readTraceparent(exchange.traceparent, exchange.tracestate)) return true;
    const { statement } = exchange;
    if (statement === undefined || statement.traceparent === '') return false;
    if (exchange.prepared) {
      state.used ??= new Set();
      if (state.used.has(statement)) return false;
      if (state.used.size >= MAX_CONTEXTS) state.used.clear();
      state.used.add(statement);
    }
    return this.context.readTraceparent(statement.traceparent, statement.tracestate);
  }

  private setServerIds(
    span: Span,
    exchange: SqlExchange,
    state: ConnectionState,
    context: WireContext | undefined,
  ): void {
    writeServerSpanId(span.ids, state.seed, exchange.streamOffset);
    if (context?.hasSpanId) {
      this.common.setParent(span, context.ids, true);
    } else if (!this.common.makesSqlClients) {
      // Where no CLIENT span is ever made, its id would be the parent of nobody's span.
      span.hasParent = false;
    } else {
      writeClientSpanId(span.ids, PARENT_SPAN_ID, state.seed, exchange.streamOffset);
      span.hasParent = true;
      span.parentIsRemote = true;
    }
  }

  /** What CLIENT and SERVER spans have alike. */
  private finish(
    span: Span,
    exchange: SqlExchange,
    name: string,
    error: string,
    startUnixUs: number,
    endUnixUs: number,
  ): void {
    const { statement, statusCode, incomplete, transaction } = exchange;
    span.startUnixUs = startUnixUs;
    span.endUnixUs = endUnixUs;
    span.name = name;
    span.summary = readable(exchange);
    span.count = 0;
    span.sharedToo = undefined;
    if (exchange.batchSize >= 2) span.set(KEY.dbOperationBatchSize, exchange.batchSize);
    if (statement !== undefined) this.blocks.describe(span, statement, exchange.batchSize >= 2);

    if (this.options.captureReturnedRows && exchange.returnedRows >= 0) {
      span.set(KEY.dbResponseReturnedRows, exchange.returnedRows);
    }
    if (exchange.affectedRows >= 0) span.set(KEY.affectedRows, exchange.affectedRows);
    span.set(KEY.dbRequestSize, exchange.requestBytes);
    if (exchange.responseStartUs !== 0) span.set(KEY.dbResponseSize, exchange.responseBytes);
    if (exchange.firstRowUs !== 0 && exchange.startUs !== 0) {
      // Whole nanoseconds: no digits that were never measured.
      const us = Math.max(0, exchange.firstRowUs - exchange.startUs);
      span.set(KEY.timeToFirstRow, Math.round(us * 1000) / 1e9);
    }
    if (exchange.batchCount > 1) {
      span.set(KEY.batchIndex, exchange.batchIndex);
      span.set(KEY.batchCount, exchange.batchCount);
    }
    if (transaction !== '') span.set(KEY.transaction, transaction);
    if (statusCode !== '') span.set(KEY.dbResponseStatusCode, statusCode);
    if (exchange.sqlState) span.set(KEY.sqlState, exchange.sqlState);
    if (incomplete !== undefined) span.set(KEY.incomplete, incomplete);
    if (error !== '') span.set(KEY.errorType, error);
    span.status = error === '' ? SpanStatusCode.UNSET : SpanStatusCode.ERROR;
  }
}

/** Semantic conventions for database metrics. */
function describeDuration(summary: string, code: number, error: string): Record<string, string> {
  return {
    ...(summary !== '' && { [KEY.dbQuerySummary.name]: summary }),
    ...(code === STATUS_SAID && { [KEY.dbResponseStatusCode.name]: error }),
    ...(error !== '' && { [KEY.errorType.name]: error }),
  };
}

/** `{db.query.summary}`, else `{operation} {target}`, else `{target}`, else the system's name. */
function spanName(exchange: SqlExchange): string {
  const { statement } = exchange;
  let name: string;
  if (statement !== undefined && statement.summary !== '') name = statement.summary;
  else if (statement !== undefined && statement.operation !== '') {
    const target = statement.collection || statement.storedProcedure;
    name = target === '' ? statement.operation : `${statement.operation} ${target}`;
  } else name = statement?.storedProcedure || exchange.namespace || exchange.system;
  return exchange.batchSize >= 2 ? `BATCH ${name}` : name;
}

/** Empty when nothing is known of the statement. */
export function readable(exchange: SqlExchange): string {
  const { statement } = exchange;
  const text = statement?.summary || statement?.operation || statement?.storedProcedure || '';
  return exchange.batchSize >= 2 && text !== '' ? `BATCH ${text}` : text;
}

/**
 * The value of error.type, empty when the statement did not fail. PostgreSQL: a SQLSTATE of class 02 and above is an error; MySQL:
 * every number is one, and it sends none with success.
 */
export function errorType(exchange: SqlExchange): string {
  const { statusCode } = exchange;
  if (exchange.failed) return statusCode || '_OTHER';
  if (exchange.protocol === 'postgresql' && statusCode >= '02') return statusCode;
  return errorOfIncomplete(exchange.incomplete);
}
