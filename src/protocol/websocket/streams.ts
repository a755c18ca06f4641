/** WebSocket on a stream of HTTP/2 (RFC 8441): an extended CONNECT that was answered by 2xx opens it. */

import type { Exchange } from '../../exchange/exchange.ts';
import { type Direction, FROM_SERVER } from '../../flow/connection.ts';
import { count } from '../../telemetry/counters.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { StreamObserver, StreamProtocol } from '../http2/observer.ts';
import type { LayerContext } from '../layer.ts';
import { Session } from './session.ts';

class WebSocketObserver implements StreamObserver {
  private readonly context: LayerContext<HttpLimits>;
  private readonly exchange: HttpExchange;
  private session: Session | undefined = undefined;

  constructor(exchange: HttpExchange, context: LayerContext<HttpLimits>) {
    this.exchange = exchange;
    this.context = context;
    if (exchange.statusCode === 0) return;
    // Its response was read before its request: of what came behind it nothing was seen.
    this.response();
    this.session?.gap(FROM_SERVER, -1, exchange.endUs);
  }

  response(): void {
    const { exchange, context } = this;
    if (exchange.statusCode < 200 || exchange.statusCode > 299) return;
    // The stream goes on; the handshake has ended.
    const handshake: HttpExchange = { ...exchange };
    count(context.counters.exchanges, handshake.protocol);
    context.emit(handshake);
    this.session = new Session(context, handshake);
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void {
    // A client that does not wait for the answer is not understood when the answer comes.
    this.session?.data(direction, bytes, start, end, timeUs);
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    this.session?.gap(direction, length, timeUs);
  }

  end(direction: Direction, timeUs: number): void {
    this.session?.end(direction, timeUs);
  }

  isOver(): boolean {
    return this.session?.over === true;
  }

  finish(exchange: HttpExchange): Exchange {
    const { session, context } = this;
    // Refused, or never answered.
    if (session === undefined) return exchange;
    session.close(exchange.incomplete ?? 'connection_closed', exchange.endUs);
    // What the stream says was counted with it.
    if (exchange.incomplete !== undefined) session.incomplete = exchange.incomplete;
    else if (session.incomplete !== undefined) count(context.counters.incomplete, session.incomplete);
    return session;
  }
}

export const webSocketStreams: StreamProtocol = {
  fields: [],
  open(_contentType, exchange, context) {
    if (exchange.method !== 'CONNECT') return undefined;
    const protocol = exchange.requestHeaders.get(':protocol')?.[0];
    return protocol?.toLowerCase() === 'websocket' ? new WebSocketObserver(exchange, context) : undefined;
  },
};
