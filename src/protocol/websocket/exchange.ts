import type { ExchangeBase, IncompleteReason } from '../../exchange/exchange.ts';
import type { Connection } from '../../flow/connection.ts';
import type { HttpExchange } from '../http/exchange.ts';

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
