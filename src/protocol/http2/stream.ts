import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { Connection } from '../../flow/connection.ts';
import type { HttpExchange } from '../http/exchange.ts';
import { NO_HEADERS } from '../http1/head.ts';
import type { StreamObserver } from './observer.ts';

/** One stream: the exchange in the making, and what only the parser needs to know. */
export class Stream implements HttpExchange {
  readonly protocol = 'http';
  readonly connection: Connection;
  version = '2';
  method = '';
  target = '';
  scheme = '';
  statusCode = 0;
  requestHeaders: ReadonlyMap<string, readonly string[]> = NO_HEADERS;
  responseHeaders: ReadonlyMap<string, readonly string[]> = NO_HEADERS;
  responseTrailers: ReadonlyMap<string, readonly string[]> = NO_HEADERS;
  startUs = 0;
  requestEndUs = 0;
  responseStartUs = 0;
  endUs = 0;
  requestBodyBytes = 0;
  responseBodyBytes = 0;
  streamOffset = 0;
  incomplete: IncompleteReason | undefined = undefined;
  errorCode = '';

  readonly id: number;
  /** Its request, or the promise of it, was seen. Without it the stream is a response that waits for its request (an orphan). */
  requestSeen = false;
  /** No more of the request is to come. */
  requestDone = false;
  /** The final response's header list was seen. */
  responseSeen = false;
  /** The response is whole. */
  answered = false;
  /** It was emitted, or given up. */
  over = false;
  /** Part of it was lost for good, though its other end may still be seen. */
  damage: IncompleteReason | undefined = undefined;
  /** How often the place was lost, in the client's and in the server's direction, when each of the two was last seen of this stream. */
  clientMark = 0;
  serverMark = 0;
  /** Time of its last frame. */
  lastUs = 0;
  /** There were fields of the response, or of its trailers, of which nothing is known. */
  fieldsMissed = false;
  observer: StreamObserver | undefined = undefined;
  /** What it costs to hold it (memory/cost.ts). */
  cost = 0;

  constructor(connection: Connection, id: number) {
    this.connection = connection;
    this.id = id;
  }

  /** Opened by PUSH_PROMISE (RFC 9113 section 5.1.1). */
  get pushed(): boolean {
    return (this.id & 1) === 0;
  }
}
