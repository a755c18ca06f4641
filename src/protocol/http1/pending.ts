import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { Connection } from '../../flow/connection.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { StreamObserver } from '../http2/observer.ts';
import { NO_HEADERS } from './head.ts';

/** An exchange in the making: what later stages see of it, and what only the parser needs to know. */
export class PendingExchange implements HttpExchange {
  readonly protocol = 'http';
  readonly connection: Connection;
  version = '1.1';
  method = '';
  target = '';
  readonly scheme = '';
  statusCode = 0;
  requestHeaders: ReadonlyMap<string, readonly string[]> = NO_HEADERS;
  responseHeaders: ReadonlyMap<string, readonly string[]> = NO_HEADERS;
  readonly responseTrailers = NO_HEADERS;
  startUs = 0;
  requestEndUs = 0;
  responseStartUs = 0;
  endUs = 0;
  requestBodyBytes = 0;
  responseBodyBytes = 0;
  streamOffset = 0;
  incomplete: IncompleteReason | undefined = undefined;
  readonly errorCode = '';

  /** Number of the request on its connection. */
  ordinal = 0;
  /** The server had sent something since the request before it. */
  sequential = true;
  expectsContinue = false;
  /** No more of the request is to come. */
  requestDone = false;
  /** The whole final response was seen. */
  answered = false;
  /** Part of it was lost for good, though its other end may still be seen. */
  damage: IncompleteReason | undefined = undefined;
  /** The first request after requests were lost: a response that is older than it belongs to one of those. */
  afterLoss = false;
  /** The client's direction was lost behind it: requests may be missing between this one and the next. */
  lossBehind: IncompleteReason | undefined = undefined;
  /** What it costs to hold it (memory/cost.ts). */
  cost = 0;
  /** What looks into its bodies. */
  observer: StreamObserver | undefined = undefined;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Takes over the response that was parsed before this request was known. */
  adoptResponse(orphan: PendingExchange): void {
    this.statusCode = orphan.statusCode;
    this.responseHeaders = orphan.responseHeaders;
    this.responseStartUs = orphan.responseStartUs;
    this.endUs = orphan.endUs;
    this.responseBodyBytes = orphan.responseBodyBytes;
    this.answered = orphan.answered;
  }
}

/** First in, first out, without moving the rest at each step. */
export class ExchangeQueue {
  private items: (PendingExchange | undefined)[] = [];
  private head = 0;

  get length(): number {
    return this.items.length - this.head;
  }

  at(index: number): PendingExchange | undefined {
    return this.items[this.head + index];
  }

  push(exchange: PendingExchange): void {
    this.items.push(exchange);
  }

  shift(): PendingExchange | undefined {
    if (this.head === this.items.length) return undefined;
    const first = this.items[this.head];
    this.items[this.head++] = undefined;
    if (this.head === this.items.length) {
      this.items.length = 0;
      this.head = 0;
    } else if (this.head >= 1024 && this.head * 2 >= this.items.length) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    }
    return first;
  }

  clear(): void {
    this.items = [];
    this.head = 0;
  }
}
