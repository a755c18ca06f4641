import type { Connection } from '../flow/connection.ts';

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
