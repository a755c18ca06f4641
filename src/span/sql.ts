import type { SqlExchange } from '../exchange/sql.ts';
import { EXCHANGE_COST, statementCost } from '../memory/cost.ts';
import type { SqlConfig } from '../sql/config.ts';
import type { SqlStatement } from '../sql/statement.ts';
import { KEY } from './attributes.ts';
import type { Candidate } from './candidate.ts';
import type { WireContext } from './context.ts';
import { DATABASE_CLIENT, DATABASE_SERVER, describeDatabaseEndpoint } from './database.ts';
import type { ConnectionEndpoints, EndpointDescription, EndpointKey } from './endpoint.ts';
import type { ExchangeFacts, Instruments, MappedModule, MappingOptions, SeriesFacts, SpanMapping } from './mapping.ts';
import { errorOfIncomplete, setDelay, setOutcome } from './outcome.ts';
import type { Peer } from './peer.ts';
import type { Resource } from './resource.ts';
import type { EndpointName, Span } from './span.ts';
import { StatementBlocks } from './statement-blocks.ts';

/** A series of durations: its error is what the server said. */
const STATUS_SAID = 1;
/** Prepared statements with a context in their text that are remembered per connection. */
const MAX_CONTEXTS = 64;

/** Semantic conventions for database metrics. */
function describeDuration(summary: string, code: number, error: string): Record<string, string> {
  return {
    ...(summary !== '' && { [KEY.dbQuerySummary.name]: summary }),
    ...(code === STATUS_SAID && { [KEY.dbResponseStatusCode.name]: error }),
    ...(error !== '' && { [KEY.errorType.name]: error }),
  };
}

const INSTRUMENTS: Instruments = { client: DATABASE_CLIENT, server: DATABASE_SERVER, describe: describeDuration };

/** Prepared statements whose context was used. */
class UsedContexts {
  readonly statements = new Set<SqlStatement>();

  /** @returns whether it is the first time */
  use(statement: SqlStatement): boolean {
    const { statements } = this;
    if (statements.has(statement)) return false;
    if (statements.size >= MAX_CONTEXTS) statements.clear();
    statements.add(statement);
    return true;
  }
}

/**
 * How SQL statements become spans (semantic conventions for database client spans, 1.44).
 *
 * All statements of one message belong to one trace, that of the message's offset; each has a span id of its own.
 */
export class SqlSpans implements SpanMapping<SqlExchange> {
  readonly protocols: readonly string[];
  readonly primary = 'client';
  readonly instruments = INSTRUMENTS;
  private readonly ports: readonly number[];
  private readonly options: SqlConfig;
  private readonly blocks: StatementBlocks;
  /** Of this statement. */
  private error = '';

  constructor({ name, ports }: MappedModule, options: SqlConfig, blocks: StatementBlocks) {
    this.protocols = [name];
    this.ports = ports;
    this.options = options;
    this.blocks = blocks;
  }

  begin(exchange: SqlExchange, facts: ExchangeFacts): void {
    this.error = errorType(exchange);
    // A statement that began before the capture has no first byte; its end, if not seen, is the last that was seen of it.
    const startUs = exchange.startUs || exchange.responseStartUs || exchange.endUs;
    facts.startUs = startUs;
    facts.endUs = Math.max(exchange.endUs, exchange.firstRowUs, exchange.responseStartUs, startUs);
    facts.traceOffset = exchange.traceOffset;
    facts.spanOffset = exchange.streamOffset;
    facts.leftOut = this.reasonToLeaveOut(exchange);
  }

  /**
   * Reads the context beside the statement, else (also when that is malformed) that of its comment
   * (https://google.github.io/sqlcommenter/spec/).
   *
   * A comment names the span in which the text was written. A statement that was prepared with it and is executed again belongs to
   * whatever the application does by then.
   */
  readContext(exchange: SqlExchange, context: WireContext, state: ConnectionEndpoints): boolean {
    if (context.readTraceparent(exchange.traceparent, exchange.tracestate)) return true;
    const { statement } = exchange;
    if (statement === undefined || statement.traceparent === '') return false;
    if (exchange.prepared) {
      if (!(state.ofMapping instanceof UsedContexts)) state.ofMapping = new UsedContexts();
      if (!(state.ofMapping as UsedContexts).use(statement)) return false;
    }
    return context.readTraceparent(statement.traceparent, statement.tracestate);
  }

  describe(exchange: SqlExchange, candidate: Candidate): void {
    candidate.method = exchange.statement?.operation ?? '';
    candidate.database = exchange.namespace;
    candidate.failed = this.error !== '';
    candidate.setTimes(exchange.startUs, exchange.endUs);
  }

  identify({ system, namespace }: SqlExchange, _endpoint: EndpointName, key: EndpointKey): void {
    key.system = system;
    key.detail = namespace;
  }

  describeEndpoint(
    { connection }: SqlExchange,
    endpoint: EndpointName,
    key: EndpointKey,
    peer: Peer | undefined,
  ): EndpointDescription {
    return describeDatabaseEndpoint(connection, endpoint, key, this.ports, peer);
  }

  setSeries(exchange: SqlExchange, _endpoint: EndpointName, _resource: Resource, series: SeriesFacts): void {
    const { statement, batchSize, statusCode } = exchange;
    const summary = statement?.summary ?? '';
    series.name = batchSize >= 2 && summary !== '' ? `BATCH ${summary}` : summary;
    series.code = this.error !== '' && this.error === statusCode ? STATUS_SAID : 0;
    series.error = this.error;
  }

  fill(span: Span, exchange: SqlExchange): void {
    const { statement, statusCode, transaction } = exchange;
    span.name = spanName(exchange);
    span.summary = readable(exchange);
    if (exchange.batchSize >= 2) span.set(KEY.dbOperationBatchSize, exchange.batchSize);
    if (statement !== undefined) this.blocks.describe(span, statement, exchange.batchSize >= 2);

    if (this.options.captureReturnedRows && exchange.returnedRows >= 0) {
      span.set(KEY.dbResponseReturnedRows, exchange.returnedRows);
    }
    if (exchange.affectedRows >= 0) span.set(KEY.affectedRows, exchange.affectedRows);
    span.set(KEY.dbRequestSize, exchange.requestBytes);
    if (exchange.responseStartUs !== 0) span.set(KEY.dbResponseSize, exchange.responseBytes);
    setDelay(span, KEY.timeToFirstRow, exchange.startUs, exchange.firstRowUs);
    if (exchange.batchCount > 1) {
      span.set(KEY.batchIndex, exchange.batchIndex);
      span.set(KEY.batchCount, exchange.batchCount);
    }
    if (transaction !== '') span.set(KEY.transaction, transaction);
    if (statusCode !== '') span.set(KEY.dbResponseStatusCode, statusCode);
    if (exchange.sqlState) span.set(KEY.sqlState, exchange.sqlState);
    setOutcome(span, exchange.incomplete, this.error);
  }

  private reasonToLeaveOut(exchange: SqlExchange): string {
    if (exchange.statement?.ignored) return 'ignored';
    const { minDurationUs } = this.options;
    // What did not begin in sight may have taken any time.
    if (minDurationUs > 0 && this.error === '' && exchange.startUs !== 0) {
      if (exchange.endUs - exchange.startUs < minDurationUs) return 'below_min_duration';
    }
    return '';
  }
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

/** The value of error.type, empty when the statement did not fail. */
export function errorType(exchange: SqlExchange): string {
  return exchange.failed ? exchange.statusCode || '_OTHER' : errorOfIncomplete(exchange.incomplete);
}

type SqlMappingOptions = MappingOptions<{ readonly sql: SqlConfig }>;

const allBlocks = new WeakMap<SqlMappingOptions, StatementBlocks>();

/** Makes the mapping of a database; those of one builder remember statements together. */
export function sqlSpans(options: SqlMappingOptions, module: MappedModule): SqlSpans {
  const { config, memory } = options;
  let blocks = allBlocks.get(options);
  if (blocks === undefined) {
    blocks = new StatementBlocks(config.sql.captureOperationAndCollection, memory);
    allBlocks.set(options, blocks);
  }
  return new SqlSpans(module, config.sql, blocks);
}

/** @returns bytes that a finished statement costs while it is kept (memory/cost.ts) */
export function sqlCost({ statement }: SqlExchange): number {
  return EXCHANGE_COST + (statement === undefined ? 0 : statementCost(statement));
}
