import type { Connection } from '../flow/connection.ts';
import type { SqlStatement } from '../sql/statement.ts';

/** How an exchange that is not whole ended; a word that also stands in error.type and in the `incomplete` statistics. */
export type IncompleteReason =
  /** The connection was reset before the response was whole. */
  | 'connection_reset'
  /** The connection was closed in order before the response was whole. */
  | 'connection_closed'
  /** One of the ends gave this exchange up, not its connection (HTTP/2: RST_STREAM, GOAWAY); `errorCode` says why. */
  | 'stream_reset'
  /** No response within the time that the limits give. */
  | 'timeout'
  /** A hole in the capture: what was lost is not known. Not an error of the exchange. */
  | 'gap'
  /** The agent stopped before the response was whole. */
  | 'shutdown'
  /** A limit was reached (pipeline depth, header size). */
  | 'limit'
  /** Memory was full, and its connection held more than any other. */
  | 'memory'
  /** What stood in the response's place is no response of the protocol. */
  | 'protocol_error';

/** What every stage knows of an exchange, whatever its protocol. A protocol's own type extends it; only its own folder reads more. */
export interface ExchangeBase {
  /** The name of its module (protocol/modules.ts). */
  readonly protocol: string;
  readonly connection: Connection;
  readonly incomplete: IncompleteReason | undefined;
  /** More than 0: the exchange goes on, and this is its state at that time. */
  readonly interimUs?: number;
}

export type Exchange = ExchangeBase;

/** One HTTP request with its response, or without. */
export interface HttpExchange extends ExchangeBase {
  readonly protocol: 'http';
  readonly connection: Connection;
  /** `1.0`, `1.1`, `2`. */
  version: string;
  /** As on the wire; the span stage maps unknown ones to `_OTHER`. */
  method: string;
  /** The request target as on the wire (latin1). Empty when the request was not seen. */
  target: string;
  /** HTTP/2: the scheme that the request names. Empty: none; it follows from the target or the connection. */
  scheme: string;
  /** 0 while no response was seen. */
  statusCode: number;
  /** Lower-case name to values in wire order; only the fields that the parser was asked to keep. */
  requestHeaders: ReadonlyMap<string, readonly string[]>;
  responseHeaders: ReadonlyMap<string, readonly string[]>;
  /** The same of the fields behind the body (HTTP/2). */
  responseTrailers: ReadonlyMap<string, readonly string[]>;
  /**
   * Time of the first byte of the request, of the last byte of the request, of the first and last byte of the response; 0 = not seen.
   * The end of an incomplete exchange is the time at which it was given up or its connection ended.
   */
  startUs: number;
  requestEndUs: number;
  responseStartUs: number;
  endUs: number;
  /** Body bytes as transferred, without chunk framing. */
  requestBodyBytes: number;
  responseBodyBytes: number;
  /**
   * Offset of the request's first byte in the client's application byte stream; the same at both ends when startSeen. Of a request that
   * the server promised (HTTP/2 PUSH_PROMISE): 2^52 more than its offset in the server's stream.
   */
  streamOffset: number;
  incomplete: IncompleteReason | undefined;
  /** The name of the HTTP/2 error code that ended the exchange (`CANCEL`, `REFUSED_STREAM`), or its connection; else empty. */
  errorCode: string;
}

/** One call of gRPC or gRPC-Web. */
export interface GrpcExchange extends ExchangeBase {
  readonly protocol: 'grpc';
  readonly connection: Connection;
  /** The request and response that carry the call: target, fields, times, offset, how it ended. */
  readonly http: HttpExchange;
  /** gRPC-Web. */
  readonly web: boolean;
  /**
   * 0 to 16: what the server said, else what the HTTP status or the reset means to a client. -1: not known, also when the connection
   * ended before the server said anything.
   */
  readonly statusCode: number;
  /** Of grpc-timeout; 0 without one. */
  readonly timeoutUs: number;
  /** Whole length-prefixed messages; -1 when some were lost and their number is not known. */
  readonly requestMessages: number;
  readonly responseMessages: number;
  /** Compressed ones among those that were seen. */
  readonly requestCompressed: number;
  readonly responseCompressed: number;
  /** Bytes of those that were seen, as transferred, without their prefixes. */
  readonly requestMessageBytes: number;
  readonly responseMessageBytes: number;
  /** When the first byte of the first message of the response was there; 0: there was none. */
  readonly firstMessageUs: number;
  /** 0; else the call goes on, and this is how it stood at that time. Not counted as an exchange: that comes at its end. */
  readonly interimUs: number;
}

/** How a transaction block stands: PostgreSQL's ReadyForQuery, MySQL's SERVER_STATUS_IN_TRANS. Empty: not known. */
export type TransactionState = '' | 'idle' | 'active' | 'failed';

/** One SQL statement that a server was asked to run, with its outcome, or without. Its name in statistics is its protocol's. */
export interface SqlExchange extends ExchangeBase {
  readonly protocol: 'postgresql' | 'mysql';
  readonly connection: Connection;
  /** db.system.name, as the server's greeting tells. */
  system: 'postgresql' | 'mysql' | 'mariadb';
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
  /** The server said that it failed. */
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

/** What one end of a WebSocket connection sent. */
export interface WebSocketTraffic {
  /** Messages that are whole; control frames are none. */
  readonly messages: number;
  /** Payload of all messages as transferred: compressed ones as they are, without frame headers. */
  readonly bytes: number;
}

/** The life of one WebSocket connection, from its handshake to its end. */
export interface WebSocketExchange extends ExchangeBase {
  readonly protocol: 'websocket';
  readonly connection: Connection;
  /** What opened it: the request that was answered by 101, in HTTP/2 a CONNECT. It was emitted before, as an exchange of its own. */
  readonly handshake: HttpExchange;
  readonly client: WebSocketTraffic;
  readonly server: WebSocketTraffic;
  /** There were compressed messages (permessage-deflate). */
  readonly compressed: boolean;
  /** End of the handshake, end of the connection (the second Close frame, else that of what carries it). */
  readonly startUs: number;
  readonly endUs: number;
  /**
   * Of the first Close frame (RFC 6455 section 7.4): 1005 when it has none, 1006 when the connection was closed without any such frame; 0
   * when it is not known.
   */
  readonly closeCode: number;
  /** Who sent the first Close frame, else who closed the connection; empty when it is not known. */
  readonly closedBy: 'client' | 'server' | '';
  readonly incomplete: IncompleteReason | undefined;
}
