import type { ExchangeBase, IncompleteReason } from '../../exchange/exchange.ts';
import type { Connection } from '../../flow/connection.ts';

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
