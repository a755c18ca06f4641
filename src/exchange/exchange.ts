import type { Connection } from '../flow/connection.ts';

/** How an exchange that is not whole ended; a word that also stands in error.type and in the `incomplete` statistics. */
export type IncompleteReason =
  /** The connection was reset before the response was whole. */
  | 'connection_reset'
  /** The connection was closed in order before the response was whole. */
  | 'connection_closed'
  /** No response within the time that the limits give. */
  | 'timeout'
  /** A hole in the capture: what was lost is not known. Not an error of the exchange. */
  | 'gap'
  /** The agent stopped before the response was whole. */
  | 'shutdown'
  /** A limit was reached (pipeline depth, header size, memory). */
  | 'limit'
  /** What stood in the response's place is no response of the protocol. */
  | 'protocol_error';

/** One HTTP request with its response, or without. */
export interface HttpExchange {
  readonly protocol: 'http';
  readonly connection: Connection;
  /** `1.0`, `1.1`, `2`. */
  version: string;
  /** As on the wire; the span stage maps unknown ones to `_OTHER`. */
  method: string;
  /** The request target as on the wire (latin1). Empty when the request was not seen. */
  target: string;
  /** 0 while no response was seen. */
  statusCode: number;
  /** Lower-case name to values in wire order; only the fields that the parser was asked to keep. */
  requestHeaders: ReadonlyMap<string, readonly string[]>;
  responseHeaders: ReadonlyMap<string, readonly string[]>;
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
  /** Offset of the request's first byte in the client's application byte stream; the same at both ends when startSeen. */
  streamOffset: number;
  incomplete: IncompleteReason | undefined;
}

/** Later protocols add their member here; every switch over `protocol` ends in a `never` check. */
export type Exchange = HttpExchange;
