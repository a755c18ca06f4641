import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { SqlExchange, TransactionState } from '../../exchange/sql.ts';
import type { Connection } from '../../flow/connection.ts';
import type { SqlStatement } from '../../sql/statement.ts';

/** A statement in the making. */
export class PostgresExchange implements SqlExchange {
  readonly protocol = 'postgresql';
  readonly connection: Connection;
  system = 'postgresql' as const;
  statement: SqlStatement | undefined;
  namespace: string;
  prepared: boolean;
  batchSize = 1;
  batchIndex: number;
  batchCount: number;
  transaction: TransactionState;
  traceparent = '';
  tracestate = '';
  statusCode = '';
  failed = false;
  startUs: number;
  responseStartUs = 0;
  firstRowUs = 0;
  endUs = 0;
  returnedRows = -1;
  affectedRows = -1;
  requestBytes: number;
  responseBytes = 0;
  traceOffset: number;
  streamOffset: number;
  incomplete: IncompleteReason | undefined = undefined;

  constructor(
    connection: Connection,
    statement: SqlStatement | undefined,
    prepared: boolean,
    namespace: string,
    transaction: TransactionState,
    startUs: number,
    offset: number,
    requestBytes: number,
    batchIndex: number,
    batchCount: number,
  ) {
    this.connection = connection;
    this.statement = statement;
    this.prepared = prepared;
    this.namespace = namespace;
    this.transaction = transaction;
    this.startUs = startUs;
    this.traceOffset = offset;
    this.streamOffset = offset + batchIndex;
    this.requestBytes = requestBytes;
    this.batchIndex = batchIndex;
    this.batchCount = batchCount;
  }
}
