import type { IncompleteReason } from '../../exchange/exchange.ts';
import { type Connection, type Direction, FROM_CLIENT, FROM_SERVER } from '../../flow/connection.ts';
import { count } from '../../telemetry/counters.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { LayerContext } from '../layer.ts';
import type { WebSocketExchange } from './exchange.ts';
import { ABNORMAL, FrameReader, UNKNOWN_CODE } from './reader.ts';

/** One WebSocket connection, whatever carries it: the exchange in the making. */
export class Session implements WebSocketExchange {
  readonly protocol = 'websocket';
  readonly connection: Connection;
  readonly handshake: HttpExchange;
  readonly client: FrameReader;
  readonly server: FrameReader;
  readonly startUs: number;
  endUs = 0;
  closeCode = UNKNOWN_CODE;
  closedBy: WebSocketExchange['closedBy'] = '';
  incomplete: IncompleteReason | undefined = undefined;

  /** It has ended: nothing more is read. */
  over = false;
  private readonly context: LayerContext<HttpLimits>;
  private closeSeen = false;
  /** Directions that ended. */
  private ended = 0;
  private damage: IncompleteReason | undefined = undefined;
  private parseErrors = 0;

  /** @param handshake what opened it, and is an exchange of its own */
  constructor(context: LayerContext<HttpLimits>, handshake: HttpExchange) {
    this.context = context;
    this.connection = context.connection;
    this.handshake = handshake;
    this.startUs = handshake.endUs;
    this.client = new FrameReader(FROM_CLIENT, this);
    this.server = new FrameReader(FROM_SERVER, this);
  }

  get compressed(): boolean {
    return this.client.compressed || this.server.compressed;
  }

  /** Bytes held between calls. */
  get heldBytes(): number {
    return this.client.heldBytes + this.server.heldBytes;
  }

  data(direction: Direction, bytes: Uint8Array, start: number, end: number, timeUs: number): void {
    if (!this.over) this.reader(direction).data(bytes, start, end, timeUs);
  }

  /** @param length -1 when it is not known how much was lost, or whether anything */
  gap(direction: Direction, length: number, timeUs: number): void {
    if (!this.over) this.reader(direction).gap(length, timeUs);
  }

  /** No more bytes of this direction: what carries the connection was closed for it. */
  end(direction: Direction, timeUs: number): void {
    if (this.over) return;
    this.reader(direction).end(timeUs);
    if (this.over) return;
    this.ended++;
    this.endUs = timeUs;
    if (this.closedBy === '') this.closedBy = nameOf(direction);
  }

  /** The end of what carries it. Without effect when it has ended before. */
  close(reason: IncompleteReason, timeUs: number): void {
    if (this.over) return;
    // What comes behind the end of a direction says less than that end.
    if (this.ended > 0) this.finish(reason === 'connection_reset' ? reason : 'connection_closed', this.endUs);
    else this.finish(reason, timeUs);
  }

  closeFrame(direction: Direction, code: number, timeUs: number): void {
    if (!this.closeSeen) {
      this.closeSeen = true;
      this.closeCode = code;
      this.closedBy = nameOf(direction);
    }
    if (this.client.closed && this.server.closed) this.finish(undefined, timeUs);
  }

  /** Frames were lost: what was counted is the least that there was. */
  lost(reason: IncompleteReason): void {
    this.damage ??= reason;
  }

  /** What stands where a frame should begin is none, or one that may not stand there. */
  parseError(timeUs: number): void {
    count(this.context.counters.parseErrors, 'websocket');
    if (++this.parseErrors > this.context.limits.httpParseErrors) this.finish('protocol_error', timeUs);
  }

  private finish(reason: IncompleteReason | undefined, timeUs: number): void {
    if (this.over) return;
    this.over = true;
    this.endUs = timeUs;
    // Where the other direction was lost, its Close frame may have been the first.
    const other = this.closedBy === 'client' ? this.server : this.client;
    if (other.lostPlace && !other.closed) this.closedBy = '';
    this.client.end(timeUs);
    this.server.end(timeUs);
    // A Close frame ends it in order, whatever becomes of the answer to it.
    this.incomplete = this.damage ?? (this.closeSeen ? undefined : reason);
    if (!this.closeSeen && isClosure(this.incomplete)) this.closeCode = ABNORMAL;
  }

  private reader(direction: Direction): FrameReader {
    return direction === FROM_CLIENT ? this.client : this.server;
  }
}

function nameOf(direction: Direction): 'client' | 'server' {
  return direction === FROM_CLIENT ? 'client' : 'server';
}

/** RFC 6455 section 7.1.5: closed without a Close frame. A hole may have held one, and what is given up was not closed. */
function isClosure(reason: IncompleteReason | undefined): boolean {
  return reason === 'connection_closed' || reason === 'connection_reset' || reason === 'stream_reset';
}
