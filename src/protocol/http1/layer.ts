/**
 * A passive parser of both directions of one HTTP/1.1 connection (RFC 9112).
 *
 * Theory of operation. Each direction is a state machine of its own; what joins them is a queue of exchanges, in the order of
 * the requests. A response answers the first request of the queue that has no answer (RFC 9112 section 9.3.2).
 *
 *     state    client                                          server
 *     IDLE     between messages; first byte -> HEAD            the same
 *     HEAD     empty line -> exchange queued, BODY or IDLE     1xx -> IDLE; 101, CONNECT 2xx -> ENDED; else BODY or IDLE
 *     BODY     last byte -> request done, IDLE                 last byte -> exchange answered, IDLE
 *     LOST     the place in the stream is not known            the same
 *     ENDED    no more bytes, or another protocol's            the same
 *
 * An exchange leaves the queue when its response is whole and its request is done, or as incomplete with a reason.
 *
 * What is lost stays lost: a hole inside a body's content is survived since only lengths matter there; any other hole, and bytes
 * that are no HTTP, lead to LOST. From there:
 * - A request line, of a known method, at the beginning of a segment begins anew when no request waits for a response and the server is between
 *   two responses. Where requests were seen to be pipelined that is no proof, and the connection must have been quiet as well.
 * - A status line at the beginning of a segment begins anew. It answers the last request that is older than it, and the requests
 *   before that one lost their response; with pipelining nothing tells which request it answers, and all of them are given up.
 * A response for which there is no request is kept for a while as an orphan: its request may still be held up by reassembly.
 * An orphan that is older than the next request is nobody's: counted as `request_not_seen`, never made into an exchange.
 */
import type { IncompleteReason } from '../../exchange/exchange.ts';
import { type Direction, type EndReason, FROM_CLIENT, type Layer } from '../../flow/connection.ts';
import { count } from '../../telemetry/counters.ts';
import type { LayerContext } from '../layer.ts';
import { BodyReader } from './body.ts';
import type { FieldTable } from './fields.ts';
import {
  CR,
  LF,
  parseContentLength,
  parseTransferEncoding,
  probeRequest,
  probeResponse,
  versionOf,
} from './grammar.ts';
import { HEAD_INVALID, HEAD_LIMIT, HEAD_MORE, HeadReader } from './head.ts';
import { ExchangeQueue, incompleteReason, PendingExchange } from './pending.ts';

const IDLE = 0;
const HEAD = 1;
const BODY = 2;
const LOST = 3;
/** No more bytes will come, or what comes is another protocol's. */
const ENDED = 4;
type State = typeof IDLE | typeof HEAD | typeof BODY | typeof LOST | typeof ENDED;

export class Http1Layer implements Layer {
  private readonly context: LayerContext;
  private readonly queue = new ExchangeQueue();
  /** Responses without a request so far, in their order. */
  private readonly orphans: PendingExchange[] = [];

  private clientState: State;
  private readonly requestHead: HeadReader;
  private readonly requestBody: BodyReader;
  /** The request whose body is being read. */
  private request: PendingExchange | undefined;
  private requestStartUs = 0;
  private requestOffset = 0;
  /** Bytes of the client's stream so far. */
  private clientOffset = 0;
  private clientResynced = false;

  private serverState: State;
  private readonly responseHead: HeadReader;
  private readonly responseBody: BodyReader;
  /** The exchange, or the orphan, whose response's body is being read. */
  private response: PendingExchange | undefined;
  private responseStartUs = 0;
  private serverDataUs = 0;
  private serverResynced = false;

  private requests = 0;
  /** Requests below this number may have lost their response. */
  private doubtBelow = 0;
  private answeredExchanges = 0;
  /** A request was seen to be sent before the response to the one before it began. */
  private pipelines = false;
  private lastDataUs = 0;
  private parseErrors = 0;
  private ticking = false;
  private dead = false;

  constructor(context: LayerContext, table: FieldTable) {
    this.context = context;
    const { limits, connection } = context;
    this.requestHead = new HeadReader(true, table, limits.httpHeaderBytes);
    this.responseHead = new HeadReader(false, table, limits.httpHeaderBytes);
    this.requestBody = new BodyReader(limits.httpHeaderBytes);
    this.responseBody = new BodyReader(limits.httpHeaderBytes);
    this.clientState = connection.startSeen ? IDLE : LOST;
    this.serverState = this.clientState;
    this.lastDataUs = connection.startUs;
  }

  /** Bytes held between calls, of what grows with its input. */
  get heldBytes(): number {
    return this.requestHead.heldBytes + this.responseHead.heldBytes;
  }

  /** Exchanges and orphans held between calls. */
  get heldExchanges(): number {
    return this.queue.length + this.orphans.length;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void {
    if (this.dead) return;
    if (direction === FROM_CLIENT) this.clientData(bytes, start, end, timeUs);
    else this.serverData(bytes, start, end, timeUs);
    this.lastDataUs = timeUs;
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    if (this.dead) return;
    if (direction === FROM_CLIENT) this.clientGap(length, timeUs);
    else this.serverGap(length, timeUs);
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    if (this.dead) return;
    if (direction === FROM_CLIENT) this.clientEnd(reason, timeUs);
    else this.serverEnd(reason, timeUs);
  }

  close(reason: EndReason, timeUs: number): void {
    if (this.dead) return;
    this.clientEnd(reason, timeUs);
    this.serverEnd(reason, timeUs);
    this.giveUpAll(incompleteReason(reason), timeUs);
    this.release();
  }

  tick(timeUs: number): void {
    if (this.dead) return;
    const first = this.queue.at(0);
    if (first === undefined) {
      this.ticking = false;
      this.context.wantTicks(false);
      return;
    }
    if (timeUs - this.lastDataUs <= this.context.limits.httpResponseUs) return;
    if (!first.answered && first !== this.response) this.giveUpAll('timeout', timeUs);
  }

  // ---- client to server

  private clientData(bytes: Buffer, start: number, end: number, timeUs: number): void {
    const base = this.clientOffset - start;
    this.clientOffset += end - start;
    if (this.clientState === LOST) this.resyncRequests(bytes, start, end, timeUs);
    let position = start;
    while (position < end) {
      switch (this.clientState) {
        case IDLE: {
          // RFC 9112 section 2.2: empty lines before a request line are ignored.
          const c = bytes[position]!;
          if (c === CR || c === LF) {
            position++;
            break;
          }
          this.requestHead.begin();
          this.requestStartUs = timeUs;
          this.requestOffset = base + position;
          this.clientState = HEAD;
          break;
        }
        case HEAD:
          position = this.requestHead.consume(bytes, position, end);
          this.requestHeadRead(timeUs);
          break;
        case BODY:
          if (this.bodyWasLeftOut(bytes, position, end)) {
            this.requestEnded(timeUs);
            break;
          }
          position = this.requestBody.consume(bytes, position, end);
          if (this.requestBody.done) this.requestEnded(timeUs);
          else if (this.requestBody.invalid) {
            this.requestEnded(timeUs);
            this.loseClient();
            this.parseError(timeUs);
          }
          break;
        default:
          return;
      }
    }
  }

  private requestHeadRead(timeUs: number): void {
    const head = this.requestHead;
    if (head.outcome === HEAD_MORE) return;
    this.countBadLines(head);
    if (head.outcome === HEAD_INVALID) {
      this.loseClient();
      this.parseError(timeUs);
    } else if (head.outcome === HEAD_LIMIT) this.cutRequestHead('limit', timeUs);
    else this.requestHeadDone(timeUs);
  }

  private requestHeadDone(timeUs: number): void {
    const head = this.requestHead;
    const exchange = this.newRequest(timeUs);
    if (!this.enqueue(exchange, timeUs)) return;
    this.request = exchange;
    const coding = head.transferEncoding === undefined ? 'none' : parseTransferEncoding(head.transferEncoding);
    const length = head.contentLength === undefined ? 0 : parseContentLength(head.contentLength);
    // RFC 9112 section 6.3: Transfer-Encoding overrides Content-Length; a request whose length these do not tell is in error,
    // and where the next one begins is the server's to decide.
    if (coding === 'other' || (coding === 'none' && length < 0)) {
      this.requestEnded(timeUs);
      this.loseClient();
      this.parseError(timeUs);
      return;
    }
    if (coding === 'chunked') this.requestBody.beginChunked();
    else this.requestBody.beginLength(length);
    if (this.requestBody.done) this.requestEnded(timeUs);
    else this.clientState = BODY;
    // What follows CONNECT is another protocol's when the server agrees (RFC 9110 section 9.3.6), else a new request.
    if (exchange.method === 'CONNECT' && this.clientState === IDLE) this.clientState = LOST;
  }

  private newRequest(timeUs: number): PendingExchange {
    const head = this.requestHead;
    const exchange = new PendingExchange(this.context.connection);
    exchange.version = versionOf(head.minorVersion);
    exchange.method = head.method;
    exchange.target = head.target;
    exchange.requestHeaders = head.headers;
    exchange.expectsContinue = head.expectsContinue;
    exchange.startUs = this.requestStartUs;
    exchange.requestEndUs = timeUs;
    exchange.streamOffset = this.requestOffset;
    exchange.afterLoss = this.clientResynced;
    this.clientResynced = false;
    return exchange;
  }

  /** @returns false when the connection was given up */
  private enqueue(exchange: PendingExchange, timeUs: number): boolean {
    exchange.ordinal = this.requests++;
    this.queue.push(exchange);
    if (this.queue.length > this.context.limits.httpPipelineDepth) {
      this.die('limit', timeUs);
      return false;
    }
    if (!this.ticking) {
      this.ticking = true;
      this.context.wantTicks(true);
    }
    if (this.orphans.length > 0) this.adoptOrphan(exchange, timeUs);
    return true;
  }

  /** The response to this request may have come before it, when reassembly had to wait for a part of the request. */
  private adoptOrphan(exchange: PendingExchange, timeUs: number): void {
    while (this.orphans.length > 0) {
      const orphan = this.orphans[0]!;
      if (orphan.responseStartUs < exchange.startUs) {
        this.dropOrphan();
        continue;
      }
      if (this.queue.length > 1) return;
      this.orphans.shift();
      exchange.adoptResponse(orphan);
      if (orphan !== this.response) return;
      this.response = exchange;
      if (exchange.method === 'HEAD' && this.responseBody.bytes === 0) this.responseEnded(timeUs);
      return;
    }
  }

  private requestEnded(timeUs: number): void {
    this.clientState = IDLE;
    const exchange = this.request;
    if (exchange === undefined) return;
    this.request = undefined;
    exchange.requestBodyBytes = this.requestBody.bytes;
    exchange.requestEndUs = timeUs;
    exchange.requestDone = true;
    this.finishIfWhole(exchange);
  }

  /**
   * RFC 9110 section 10.1.1: a client that sent `Expect: 100-continue` and got a final status instead may leave the body out,
   * though its length was announced.
   */
  private bodyWasLeftOut(bytes: Buffer, position: number, end: number): boolean {
    const request = this.request;
    if (request === undefined || !request.expectsContinue || this.requestBody.bytes > 0) return false;
    return request.statusCode >= 200 && probeRequest(bytes, position, end, true) === 'yes';
  }

  private clientGap(length: number, timeUs: number): void {
    this.clientOffset += length;
    switch (this.clientState) {
      case IDLE:
        this.loseClient();
        break;
      case HEAD:
        this.cutRequestHead('gap', timeUs);
        break;
      case BODY: {
        const behind = this.requestBody.gap(length);
        if (behind < 0 && this.request !== undefined) this.request.damage = 'gap';
        if (behind !== 0 || this.requestBody.done) this.requestEnded(timeUs);
        if (behind !== 0) this.loseClient();
        break;
      }
      default:
    }
  }

  /** The rest of a request's head will not be seen; with its request line the exchange is known, without it nothing is. */
  private cutRequestHead(reason: IncompleteReason, timeUs: number): void {
    const head = this.requestHead;
    const started = head.started;
    this.clientState = LOST;
    if (!started) count(this.context.counters.incomplete, reason);
    else {
      const exchange = this.newRequest(timeUs);
      exchange.requestDone = true;
      // An orderly response makes a request whole that its client did not end.
      if (reason === 'gap' || reason === 'limit') exchange.damage = reason;
      this.enqueue(exchange, timeUs);
      this.finishIfWhole(exchange);
    }
    head.release();
  }

  private loseClient(): void {
    this.clientState = LOST;
    this.requestHead.release();
    this.request = undefined;
  }

  private resyncRequests(bytes: Buffer, start: number, end: number, timeUs: number): void {
    if (probeRequest(bytes, start, end, true) !== 'yes') return;
    if (this.pipelines && timeUs - this.lastDataUs < this.context.limits.httpQuietUs) return;
    if (this.serverState === LOST) {
      // Nothing tells whether what waits was answered; without pipelining a new request says that it was.
      if (!this.pipelines && this.queue.at(this.queue.length - 1)?.requestDone) this.giveUpAll('gap', timeUs);
    }
    if (this.queue.length > 0 || (this.serverState !== IDLE && this.serverState !== LOST)) return;
    this.clientState = IDLE;
    this.clientResynced = true;
  }

  private clientEnd(reason: EndReason, timeUs: number): void {
    if (this.clientState === HEAD) this.cutRequestHead(incompleteReason(reason), timeUs);
    else if (this.clientState === BODY && this.request !== undefined) {
      // The request stays as it is; a response may still be on its way.
      const request = this.request;
      this.request = undefined;
      request.requestBodyBytes = this.requestBody.bytes;
      request.requestEndUs = timeUs;
      request.requestDone = true;
      this.finishIfWhole(request);
    }
    this.clientState = ENDED;
  }

  // ---- server to client

  private serverData(bytes: Buffer, start: number, end: number, timeUs: number): void {
    this.serverDataUs = timeUs;
    if (this.serverState === LOST) this.resyncResponses(bytes, start, end, timeUs);
    let position = start;
    while (position < end) {
      switch (this.serverState) {
        case IDLE: {
          const c = bytes[position]!;
          if (c === CR || c === LF) {
            position++;
            break;
          }
          this.responseHead.begin();
          this.responseStartUs = timeUs;
          this.serverState = HEAD;
          break;
        }
        case HEAD:
          position = this.responseHead.consume(bytes, position, end);
          this.responseHeadRead(timeUs);
          break;
        case BODY:
          position = this.responseBody.consume(bytes, position, end);
          if (this.responseBody.done) this.responseEnded(timeUs);
          else if (this.responseBody.invalid) {
            this.loseServer('protocol_error', timeUs);
            this.parseError(timeUs);
          }
          break;
        default:
          return;
      }
    }
  }

  private responseHeadRead(timeUs: number): void {
    const head = this.responseHead;
    if (head.outcome === HEAD_MORE) return;
    this.countBadLines(head);
    if (head.outcome === HEAD_INVALID) {
      this.loseServer('protocol_error', timeUs);
      this.parseError(timeUs);
    } else if (head.outcome === HEAD_LIMIT) this.loseServer('limit', timeUs);
    else this.responseHeadDone(timeUs);
  }

  private responseHeadDone(timeUs: number): void {
    const head = this.responseHead;
    const status = head.statusCode;
    // RFC 9110 section 15.2: any number of interim responses come before the final one.
    if (status < 200 && status !== 101) {
      this.serverState = IDLE;
      return;
    }
    const request = this.takeRequest();
    const exchange = request ?? this.newOrphan();
    exchange.statusCode = status;
    exchange.responseHeaders = head.headers;
    exchange.responseStartUs = this.responseStartUs;
    this.response = exchange;
    // RFC 9110 section 7.8 (Upgrade) and section 9.3.6 (CONNECT): what follows is another protocol's.
    if (status === 101 || (exchange.method === 'CONNECT' && status < 300)) {
      this.becomeOpaque(timeUs);
      return;
    }
    this.beginResponseBody(exchange.method, status, timeUs);
    if (this.responseBody.done) this.responseEnded(timeUs);
    else this.serverState = BODY;
  }

  /** The framing of a response's body: RFC 9112 section 6.3, in its order. */
  private beginResponseBody(method: string, status: number, timeUs: number): void {
    const { transferEncoding, contentLength } = this.responseHead;
    const body = this.responseBody;
    if (method === 'HEAD' || status === 204 || status === 304) {
      body.beginLength(0);
      return;
    }
    const coding = transferEncoding === undefined ? 'none' : parseTransferEncoding(transferEncoding);
    if (coding === 'chunked') {
      body.beginChunked();
      return;
    }
    const length = coding === 'other' || contentLength === undefined ? -1 : parseContentLength(contentLength);
    if (length >= 0) {
      body.beginLength(length);
      return;
    }
    // No length, or an invalid one, after which the client has to close the connection.
    body.beginUntilClose();
    if (coding === 'none' && contentLength !== undefined) this.parseError(timeUs);
  }

  /** The request that the response at hand answers; `undefined` when none that was seen. */
  private takeRequest(): PendingExchange | undefined {
    const resynced = this.serverResynced;
    this.serverResynced = false;
    const first = this.queue.at(0);
    if (first === undefined || first.answered) return undefined;
    if ((resynced || first.afterLoss) && first.startUs > this.responseStartUs) return undefined;
    const second = this.queue.at(1);
    if (second !== undefined && second.startUs < this.responseStartUs) this.pipelines = true;
    return first;
  }

  private newOrphan(): PendingExchange {
    if (this.orphans.length >= this.context.limits.httpOrphanResponses) this.dropOrphan();
    const orphan = new PendingExchange(this.context.connection);
    this.orphans.push(orphan);
    return orphan;
  }

  private dropOrphan(): void {
    this.orphans.shift();
    count(this.context.counters.incomplete, 'request_not_seen');
  }

  private responseEnded(timeUs: number): void {
    this.serverState = IDLE;
    const exchange = this.response;
    if (exchange === undefined) return;
    this.response = undefined;
    exchange.responseBodyBytes = this.responseBody.bytes;
    exchange.endUs = timeUs;
    exchange.answered = true;
    this.finishIfWhole(exchange);
  }

  private becomeOpaque(timeUs: number): void {
    const exchange = this.response!;
    this.response = undefined;
    this.request = undefined;
    exchange.endUs = timeUs;
    exchange.answered = true;
    if (this.queue.at(0) === exchange) this.finish(exchange, exchange.damage, timeUs);
    // Whatever the client sent behind the request that switched protocols was no request of this one.
    for (let n = this.queue.length; n > 0; n--) {
      this.queue.shift();
      count(this.context.counters.parseErrors, 'http');
    }
    this.release();
    this.context.mute();
  }

  private serverGap(length: number, timeUs: number): void {
    switch (this.serverState) {
      case IDLE:
      case HEAD:
      case LOST:
        this.loseServer('gap', timeUs);
        break;
      case BODY: {
        const behind = this.responseBody.gap(length);
        if (this.responseBody.done) this.responseEnded(timeUs);
        if (behind !== 0) this.loseServer('gap', timeUs);
        break;
      }
      default:
    }
  }

  /** The place in the server's stream is lost, and with it the response that was being read. */
  private loseServer(reason: IncompleteReason, timeUs: number): void {
    this.cutResponse(reason, timeUs);
    this.serverState = LOST;
    this.responseHead.release();
    this.doubtBelow = this.requests;
    if (this.pipelines && this.queue.length > 0) {
      this.giveUpAll('gap', timeUs);
      this.loseClient();
    }
  }

  /** The response that is being read will not become whole. */
  private cutResponse(reason: IncompleteReason, timeUs: number): void {
    let exchange: PendingExchange | undefined;
    if (this.serverState === BODY) {
      exchange = this.response;
      this.response = undefined;
      if (exchange !== undefined) exchange.responseBodyBytes = this.responseBody.bytes;
    } else if (this.serverState === HEAD) {
      const head = this.responseHead;
      if (head.started && head.statusCode < 200) return;
      exchange = this.takeRequest();
      if (exchange !== undefined) {
        exchange.responseStartUs = this.responseStartUs;
        if (head.started) exchange.statusCode = head.statusCode;
      }
    }
    if (exchange === undefined) return;
    if (this.queue.at(0) === exchange) this.finish(exchange, reason, timeUs);
  }

  private resyncResponses(bytes: Buffer, start: number, end: number, timeUs: number): void {
    if (probeResponse(bytes, start, end) !== 'yes') {
      this.doubtBelow = this.requests;
      return;
    }
    this.serverState = IDLE;
    this.serverResynced = true;
    if (this.queue.length < 2) return;
    if (this.pipelines || this.answeredExchanges === 0) {
      this.giveUpAll('gap', timeUs);
      this.loseClient();
      return;
    }
    while (this.queue.length > 1 && this.queue.at(1)!.startUs <= timeUs) this.finish(this.queue.at(0)!, 'gap', timeUs);
  }

  private serverEnd(reason: EndReason, timeUs: number): void {
    if (this.serverState === ENDED) return;
    // RFC 9112 section 6.3: a body without a length ends with the connection, if that was closed in order.
    if (this.serverState === BODY && this.responseBody.untilClose && reason === 'fin')
      this.responseEnded(this.serverDataUs);
    else this.cutResponse(incompleteReason(reason), timeUs);
    this.serverState = ENDED;
    this.responseHead.release();
    for (let n = this.queue.length; n > 0 && !this.queue.at(0)!.answered; n--) {
      this.giveUp(this.queue.at(0)!, incompleteReason(reason), timeUs);
    }
  }

  // ---- both

  private finishIfWhole(exchange: PendingExchange): void {
    if (!exchange.answered || !exchange.requestDone || this.queue.at(0) !== exchange) return;
    this.finish(exchange, exchange.damage, exchange.endUs);
  }

  /** Takes the first exchange off the queue and emits it. */
  private finish(exchange: PendingExchange, incomplete: IncompleteReason | undefined, timeUs: number): void {
    this.queue.shift();
    const { counters } = this.context;
    if (this.request === exchange) {
      // Given up in mid-request: the rest of its body is still passed over.
      exchange.requestBodyBytes = this.requestBody.bytes;
      this.request = undefined;
    }
    count(counters.exchanges, 'http');
    if (incomplete === undefined) this.answeredExchanges++;
    else {
      exchange.incomplete = incomplete;
      exchange.endUs = timeUs;
      count(counters.incomplete, incomplete);
    }
    this.context.emit(exchange);
  }

  /** Emits the first exchange as it is: whole when its response is, else incomplete. */
  private giveUp(exchange: PendingExchange, reason: IncompleteReason, timeUs: number): void {
    if (exchange.answered) this.finish(exchange, exchange.damage, exchange.endUs);
    else this.finish(exchange, exchange.ordinal < this.doubtBelow ? 'gap' : reason, timeUs);
  }

  private giveUpAll(reason: IncompleteReason, timeUs: number): void {
    for (let n = this.queue.length; n > 0; n--) this.giveUp(this.queue.at(0)!, reason, timeUs);
  }

  private countBadLines(head: HeadReader): void {
    if (head.badLines > 0) count(this.context.counters.parseErrors, 'http', head.badLines);
    head.badLines = 0;
  }

  private parseError(timeUs: number): void {
    count(this.context.counters.parseErrors, 'http');
    if (++this.parseErrors > this.context.limits.httpParseErrors) this.die('protocol_error', timeUs);
  }

  private die(reason: IncompleteReason, timeUs: number): void {
    this.giveUpAll(reason, timeUs);
    this.release();
    this.context.mute();
  }

  private release(): void {
    while (this.orphans.length > 0) this.dropOrphan();
    this.dead = true;
    this.clientState = ENDED;
    this.serverState = ENDED;
    this.queue.clear();
    this.request = undefined;
    this.response = undefined;
    this.requestHead.release();
    this.responseHead.release();
    if (this.ticking) this.context.wantTicks(false);
    this.ticking = false;
  }
}
