/** What protocols that carry SQL share: the exchange of one statement. */
import type { Connection } from '../flow/connection.ts';
import type { SqlStatement } from '../sql/statement.ts';
import type { ExchangeBase, IncompleteReason } from './exchange.ts';

/** How a transaction block stands: PostgreSQL's ReadyForQuery, MySQL's SERVER_STATUS_IN_TRANS. Empty: not known. */
export type TransactionState = '' | 'idle' | 'active' | 'failed';

/** One SQL statement that a server was asked to run, with its outcome, or without. Its name in statistics is its protocol's. */
export interface SqlExchange extends ExchangeBase {
  readonly connection: Connection;
  /** db.system.name, as the server's greeting tells. */
  system: string;
  /** Undefined when its text was never seen (prepared before the capture began, lost), or when it is none (a function call). */
  statement: SqlStatement | undefined;
  /** db.namespace when the statement began; empty when not known. PostgreSQL `database|schema` or `database`. */
  namespace: string;
  /** The statement was prepared apart from its execution. */
  prepared: boolean;
  /**
   * Executions that were sent as one: parameter sets of a bulk execution, else 1. Statements of one multi-statement text are exchanges
   * of their own, see batchIndex.
   */
  batchSize: number;
  /** Position among the statements of one message, from 0; and how many there are, as far as known. 0 and 1 for a statement alone. */
  batchIndex: number;
  batchCount: number;
  /** When the statement began. */
  transaction: TransactionState;
  /** Context sent with the statement but not in its text (MySQL query attributes); empty when there is none. */
  traceparent: string;
  tracestate: string;
  /** SQLSTATE (PostgreSQL), the vendor's error number (MySQL); empty when none was seen: also for success in MySQL. */
  statusCode: string;
  /** The SQLSTATE beside the vendor's number (MySQL). */
  sqlState?: string;
  /** The server said that it failed. Which codes say so is the protocol's: a warning has a code, too. */
  failed: boolean;
  /**
   * First byte of the statement's own message (of Query, of Execute); first byte of the answer; first byte of the first row; last byte of its
   * own completion. 0 = not seen. The end of an incomplete exchange is the time at which it was given up.
   */
  startUs: number;
  responseStartUs: number;
  firstRowUs: number;
  endUs: number;
  /** Rows sent to the client, rows inserted, changed or deleted (COPY: copied); -1 when the server did not say or it has no meaning. */
  returnedRows: number;
  affectedRows: number;
  /** Bytes of the messages of the request and of the answer, with their headers. */
  requestBytes: number;
  responseBytes: number;
  /** Offset of the message in the client's application byte stream: the trace's id. */
  traceOffset: number;
  /** The same, plus batchIndex: the span's id. A message has more bytes than statements, so it is unique. */
  streamOffset: number;
  incomplete: IncompleteReason | undefined;
}
