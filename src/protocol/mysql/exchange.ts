import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { SqlExchange, TransactionState } from '../../exchange/sql.ts';
import type { Connection } from '../../flow/connection.ts';
import type { SqlStatement } from '../../sql/statement.ts';

/** A statement in the making: what later stages see of it, and what only the parser needs to know. */
export class MysqlExchange implements SqlExchange {
  readonly protocol = 'mysql';
  readonly connection: Connection;
  system: 'mysql' | 'mariadb';
  statement: SqlStatement | undefined;
  namespace: string;
  prepared = false;
  batchSize = 1;
  batchIndex = 0;
  batchCount = 1;
  transaction: TransactionState;
  traceparent = '';
  tracestate = '';
  statusCode = '';
  sqlState = '';
  failed = false;
  startUs = 0;
  responseStartUs = 0;
  firstRowUs = 0;
  endUs = 0;
  returnedRows = -1;
  affectedRows = -1;
  requestBytes = 0;
  responseBytes = 0;
  traceOffset = 0;
  streamOffset = 0;
  incomplete: IncompleteReason | undefined = undefined;

  /** Part of it was lost for good, though its end may still be seen. */
  damage: IncompleteReason | undefined = undefined;
  /** One of its results is whole; the last one was a result set. */
  answered = false;
  hasRows = false;
  /** Results of several statements that cannot be distinguished: their numbers belong to none of them. */
  mixed = false;

  constructor(
    connection: Connection,
    system: 'mysql' | 'mariadb',
    statement: SqlStatement | undefined,
    namespace: string,
    transaction: TransactionState,
  ) {
    this.connection = connection;
    this.system = system;
    this.statement = statement;
    this.namespace = namespace;
    this.transaction = transaction;
  }
}
