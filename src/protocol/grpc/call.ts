import type { IncompleteReason } from '../../exchange/exchange.ts';
import { type Connection, type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import { count } from '../../telemetry/counters.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { StreamObserver } from '../http2/observer.ts';
import type { LayerContext } from '../layer.ts';
import type { GrpcExchange } from './exchange.ts';
import { MessageReader } from './messages.ts';
import { NO_STATUS, parseStatus, statusCode, statusOfHttp, statusOfReset } from './status.ts';
import { deadlineExceeded, parseTimeout } from './timeout.ts';
import { Base64Reader, WebTrailers } from './web.ts';

/** What a content type says: `application/grpc`, `application/grpc-web`, `application/grpc-web-text`, each with `+proto` or the like. */
const CONTENT_TYPE = /^application\/grpc(-web(-text(?:-base64)?)?)?(?:[+;\s]|$)/i;

const CANCELLED = statusCode('CANCELLED');
const DEADLINE_EXCEEDED = statusCode('DEADLINE_EXCEEDED');

export type Variant = 'grpc' | 'web' | 'web-text';

/** @returns undefined when it is not that of a call */
export function variantOf(contentType: string): Variant | undefined {
  const match = CONTENT_TYPE.exec(contentType);
  if (match === null) return undefined;
  if (match[2] !== undefined) return 'web-text';
  return match[1] === undefined ? 'grpc' : 'web';
}

/** One call: the exchange in the making. Nothing of its messages is held. */
export class GrpcCall implements GrpcExchange, StreamObserver {
  readonly protocol = 'grpc';
  readonly connection: Connection;
  readonly http: HttpExchange;
  readonly web: boolean;
  statusCode = NO_STATUS;
  readonly timeoutUs: number;

  interimUs = 0;
  /** Only where calls that last are to be said. */
  readonly tick: ((timeUs: number) => void) | undefined;

  private readonly context: LayerContext;
  private readonly requests: MessageReader;
  private responses: MessageReader;
  private readonly requestText: Base64Reader | undefined;
  private responseText: Base64Reader | undefined;
  private readonly webTrailers: WebTrailers | undefined;
  /** The response's body is that of another server: no messages. */
  private foreign = false;
  private interimSaid = false;

  /** @param interimAfterUs a call that lasts this long is said once before its end; 0: never */
  get incomplete(): IncompleteReason | undefined {
    return this.http.incomplete;
  }

  constructor(variant: Variant, http: HttpExchange, context: LayerContext, interimAfterUs: number) {
    this.connection = http.connection;
    this.http = http;
    this.web = variant !== 'grpc';
    this.context = context;
    if (interimAfterUs > 0) this.tick = (timeUs) => this.sayInterim(timeUs, interimAfterUs);
    this.timeoutUs = parseTimeout(http.requestHeaders.get('grpc-timeout')?.[0] ?? '');
    this.webTrailers = this.web ? new WebTrailers() : undefined;
    this.requests = new MessageReader();
    this.responses = new MessageReader(this.webTrailers);
    if (variant === 'web-text') {
      this.requestText = new Base64Reader(this.requests);
      this.responseText = new Base64Reader(this.responses);
    }
    // What went by before it was known to be a call.
    this.requests.lost = http.requestBodyBytes > 0;
    this.responses.lost = http.responseBodyBytes > 0;
    if (http.statusCode !== 0) this.response();
  }

  get requestMessages(): number {
    return this.requests.lost ? -1 : this.requests.messages;
  }

  get responseMessages(): number {
    return this.responses.lost ? -1 : this.responses.messages;
  }

  get requestCompressed(): number {
    return this.requests.compressed;
  }

  get responseCompressed(): number {
    return this.responses.compressed;
  }

  get requestMessageBytes(): number {
    return this.requests.bytes;
  }

  get responseMessageBytes(): number {
    return this.responses.bytes;
  }

  get firstMessageUs(): number {
    return this.responses.firstUs;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, _timeUs: number, firstUs: number): void {
    if (direction === FROM_CLIENT) (this.requestText ?? this.requests).data(bytes, start, end, firstUs);
    else if (!this.foreign) (this.responseText ?? this.responses).data(bytes, start, end, firstUs);
  }

  gap(direction: Direction, length: number, _timeUs: number): void {
    if (direction === FROM_CLIENT) (this.requestText ?? this.requests).gap(length);
    else if (!this.foreign) (this.responseText ?? this.responses).gap(length);
  }

  /** The final response's header list is there. */
  response(): void {
    const contentType = this.http.responseHeaders.get('content-type')?.[0];
    if (contentType === undefined) return;
    const variant = variantOf(contentType);
    // A proxy, or a server that knows nothing of gRPC.
    this.foreign = variant === undefined;
    if (!this.web || variant === undefined) return;
    // A client of gRPC-Web may ask in binary for an answer in text.
    if (variant !== 'web-text') this.responseText = undefined;
    else this.responseText ??= new Base64Reader(this.responses);
  }

  end(): void {}

  finish(http: HttpExchange, complete: boolean): GrpcExchange {
    for (const reader of [this.requests, this.responses]) {
      if (reader.invalid && !this.web) count(this.context.counters.parseErrors, 'grpc');
    }
    if (http.incomplete === 'gap' || http.incomplete === 'limit') {
      this.requests.lost = true;
      this.responses.lost = true;
    }
    this.statusCode = this.status(http, complete);
    return this;
  }

  private sayInterim(timeUs: number, afterUs: number): void {
    if (this.interimSaid || this.http.startUs === 0 || timeUs - this.http.startUs < afterUs) return;
    this.interimSaid = true;
    this.interimUs = timeUs;
    this.context.emit(this);
    this.interimUs = 0;
  }

  private status(http: HttpExchange, complete: boolean): number {
    const field = http.responseTrailers.get('grpc-status') ?? http.responseHeaders.get('grpc-status');
    const text = field?.[0] ?? this.webTrailers?.status ?? '';
    if (text !== '') return parseStatus(text);
    if (http.incomplete === 'stream_reset') {
      const status = statusOfReset(http.errorCode);
      if (status !== CANCELLED || http.startUs === 0) return status;
      return deadlineExceeded(http.endUs - http.startUs, this.timeoutUs) ? DEADLINE_EXCEEDED : CANCELLED;
    }
    // The status may have been where nothing could be read.
    if (http.incomplete !== undefined || !complete || http.statusCode === 0) return NO_STATUS;
    const unread = this.web && !this.foreign && (this.responses.lost || this.webTrailers?.unread === true);
    return unread ? NO_STATUS : statusOfHttp(http.statusCode);
  }
}
