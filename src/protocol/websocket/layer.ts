/**
 * A passive parser of both directions of one WebSocket connection (RFC 6455), from the end of its handshake.
 *
 * Theory of operation. Each direction is a chain of frames (reader.ts), of which only the headers are read, and the code of a Close frame.
 * What both share is the session (session.ts), which becomes one exchange when the connection has ended. It is carried by a connection that
 * began as HTTP/1.1, or by a stream of HTTP/2 (streams.ts).
 *
 *     HEADER   2 to 14 octets -> PAYLOAD; no frame header, or one that may not stand here -> LOST
 *     PAYLOAD  counted; last octet -> HEADER, of a Close frame -> ENDED
 *     LOST     the place in the stream is not known; a proven frame boundary -> HEADER
 *     ENDED    nothing more is read
 *
 * A message is counted when its last frame is whole; octets of a message as they come. Payload is never unmasked, inflated or kept.
 *
 * What is lost stays lost: a hole within a payload costs nothing, since its header says how long it is. Any other hole, and bytes that are
 * no frame, lead to LOST, and the exchange says so: `gap`, or `protocol_error`. The counts are then the least that there was. A boundary
 * is proven where bytes begin with frames that follow each other up to their end.
 *
 * The connection ends with the second Close frame, or with what carries it.
 */

import type { Direction, EndReason, Layer } from '../../flow/connection.ts';
import { Charge } from '../../memory/budget.ts';
import { EXCHANGE_COST, headersCost, latin1Cost } from '../../memory/cost.ts';
import { count } from '../../telemetry/counters.ts';
import { incompleteReason } from '../endings.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { LayerContext } from '../layer.ts';
import { Session } from './session.ts';

export class WebSocketLayer implements Layer {
  private readonly context: LayerContext<HttpLimits>;
  private readonly session: Session;
  private readonly charge: Charge;
  private emitted = false;

  constructor(context: LayerContext<HttpLimits>, handshake: HttpExchange) {
    this.context = context;
    this.session = new Session(context, handshake);
    this.charge = new Charge(context.memory);
    this.charge.set(handshakeCost(handshake));
  }

  /** Bytes held between calls. */
  get heldBytes(): number {
    return this.session.heldBytes;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void {
    this.session.data(direction, bytes, start, end, timeUs);
    if (this.session.over && this.emit()) this.context.mute();
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    this.session.gap(direction, length, timeUs);
    if (this.session.over && this.emit()) this.context.mute();
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    // Only a FIN is an end of this direction's own; of all others `close` tells.
    if (reason !== 'fin') return;
    this.session.end(direction, timeUs);
    if (this.session.over) this.emit();
  }

  close(reason: EndReason, timeUs: number): void {
    this.session.close(incompleteReason(reason), timeUs);
    this.emit();
  }

  /** @returns false when that was done before */
  private emit(): boolean {
    if (this.emitted) return false;
    this.emitted = true;
    this.charge.set(0);
    const { session, context } = this;
    count(context.counters.exchanges, session.protocol);
    if (session.incomplete !== undefined) count(context.counters.incomplete, session.incomplete);
    context.emit(session);
    return true;
  }
}

/** The handshake stays until the connection ends. */
function handshakeCost({ target, requestHeaders, responseHeaders }: HttpExchange): number {
  return EXCHANGE_COST + latin1Cost(target) + headersCost(requestHeaders) + headersCost(responseHeaders);
}

/** @param handshake the request that was answered by 101 */
export function createWebSocketLayer(context: LayerContext<HttpLimits>, handshake: HttpExchange): Layer {
  return new WebSocketLayer(context, handshake);
}
