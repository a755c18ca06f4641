import type { Exchange } from '../../exchange/exchange.ts';
import type { Direction } from '../../flow/connection.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { LayerContext } from '../layer.ts';

/**
 * What looks into the bodies of one stream: a protocol on top of HTTP/2, such as gRPC. Sans-IO as a layer is.
 *
 * The exchange that it was opened with is filled as the stream goes on: status and fields of the response, trailers, times.
 */
export interface StreamObserver {
  /** Content of the body, without frames and padding: bytes[start..end) are borrowed and valid during the call only. */
  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void;
  /** Content was lost: `length` bytes of it, -1 when it is not known how many, or whether any. */
  gap(direction: Direction, length: number, timeUs: number): void;
  /** The header list of the final response was read, unless it was there when the observer was opened. */
  response?(timeUs: number): void;
  /** Time passes, in steps of about a second; only of observers that have this method when they are opened. */
  readonly tick?: ((timeUs: number) => void) | undefined;
  /** Whether all is there that it waits for: how the stream ends is of no importance any more. */
  isOver?(): boolean;
  /** Nothing more comes in this direction. What trailers there were stand in the exchange. */
  end(direction: Direction, timeUs: number): void;
  /**
   * The exchange ended: whole, reset, or given up, as it says itself. Called last, once.
   *
   * @param complete all fields of the response and its trailers are known: what is not there was not sent
   * @returns what is emitted in its place; the exchange itself when it is to stay an HTTP exchange
   */
  finish(exchange: HttpExchange, complete: boolean): Exchange;
}

/** A protocol on top of HTTP/2 streams. */
export interface StreamProtocol {
  /** Names of header fields, in lower case, that it needs the values of; also those of trailers. */
  readonly fields: readonly string[];
  /**
   * Asked once for each stream, when the header list of its request is there (or what is known of it), and once more at the response when
   * it did not want the request. The response may come first.
   *
   * @param contentType of the request, then of the response; empty when there is none
   */
  open(contentType: string, exchange: HttpExchange, context: LayerContext<HttpLimits>): StreamObserver | undefined;
}
