import type { ExchangeBase } from '../../exchange/exchange.ts';
import type { Connection } from '../../flow/connection.ts';
import type { HttpExchange } from '../http/exchange.ts';

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
