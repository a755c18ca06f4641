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
import { INVALID_FRAMING, requestFraming, responseFraming, UNTIL_CLOSE } from './framing.ts';
import { CR, LF, probeRequest, probeResponse, versionOf } from './grammar.ts';
import { HEAD_INVALID, HEAD_LIMIT, HEAD_MORE, HeadReader } from './head.ts';
import { Ledger } from './ledger.ts';
import { incompleteReason, PendingExchange } from './pending.ts';

const IDLE = 0;
const HEAD = 1;
const BODY = 2;
const LOST = 3;
/** No more bytes will come, or what comes is another protocol's. */
const ENDED = 4;
type State = typeof IDLE | typeof HEAD | typeof BODY | typeof LOST | typeof ENDED;

export class Http1Layer implements Layer {
  private readonly context: LayerContext;
  private readonly ledger: Ledger;

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

  /** A request was seen to be sent before the response to the one before it began. */
  private pipelines = false;
  private lastDataUs = 0;
  private parseErrors = 0;
  private dead = false;

  constructor(context: LayerContext, table: FieldTable) {
    this.context = context;
    this.ledger = new Ledger(context);
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
    return this.ledger.length + this.ledger.orphanCount;
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
    this.ledger.giveUpAll(incompleteReason(reason), timeUs);
    this.release();
  }

  tick(timeUs: number): void {
    if (this.dead) return;
    const first = this.ledger.at(0);
    if (first === undefined) {
      this.ledger.stopTicks();
      return;
    }
    if (timeUs - this.lastDataUs <= this.context.limits.httpResponseUs) return;
    if (!first.answered && first !== this.response) this.ledger.giveUpAll('timeout', timeUs);
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
          this.noteRequestBody();
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
    const framing = requestFraming(head);
    if (framing === INVALID_FRAMING) {
      this.requestEnded(timeUs);
      this.loseClient();
      this.parseError(timeUs);
      return;
    }
    this.requestBody.begin(framing);
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
    if (!this.ledger.push(exchange)) {
      this.die('limit', timeUs);
      return false;
    }
    if (this.ledger.orphanCount > 0) this.adoptOrphan(exchange, timeUs);
    return true;
  }

  /** The response to this request may have come before it, when reassembly had to wait for a part of the request. */
  private adoptOrphan(exchange: PendingExchange, timeUs: number): void {
    const orphan = this.ledger.takeOrphan(exchange);
    if (orphan === undefined) return;
    exchange.adoptResponse(orphan);
    if (orphan !== this.response) return;
    this.response = exchange;
    if (exchange.method === 'HEAD' && this.responseBody.bytes === 0) this.responseEnded(timeUs);
  }

  private noteRequestBody(): void {
    const exchange = this.request;
    if (exchange !== undefined && !exchange.requestDone) exchange.requestBodyBytes = this.requestBody.bytes;
  }

  private requestEnded(timeUs: number): void {
    this.clientState = IDLE;
    const exchange = this.request;
    this.request = undefined;
    // One that was given up in mid-request is no longer ours.
    if (exchange === undefined || exchange.requestDone) return;
    exchange.requestBodyBytes = this.requestBody.bytes;
    exchange.requestEndUs = timeUs;
    exchange.requestDone = true;
    this.ledger.finishIfWhole(exchange);
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
        if (behind < 0 && this.request?.requestDone === false) this.request.damage = 'gap';
        this.noteRequestBody();
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
      this.ledger.finishIfWhole(exchange);
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
      if (!this.pipelines && this.ledger.last?.requestDone) this.ledger.giveUpAll('gap', timeUs);
    }
    if (this.ledger.length > 0 || (this.serverState !== IDLE && this.serverState !== LOST)) return;
    this.clientState = IDLE;
    this.clientResynced = true;
  }

  private clientEnd(reason: EndReason, timeUs: number): void {
    if (this.clientState === HEAD) this.cutRequestHead(incompleteReason(reason), timeUs);
    // The request stays as it is; a response may still be on its way.
    else if (this.clientState === BODY) this.requestEnded(timeUs);
    this.clientState = ENDED;
  }

  // ---- server to client

  private serverData(bytes: Buffer, start: number, end: number, timeUs: number): void {
    this.serverDataUs = timeUs;
    this.ledger.noteServerBytes();
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
    const exchange = request ?? this.ledger.newOrphan();
    exchange.statusCode = status;
    exchange.responseHeaders = head.headers;
    exchange.responseStartUs = this.responseStartUs;
    this.response = exchange;
    // RFC 9110 section 7.8 (Upgrade) and section 9.3.6 (CONNECT): what follows is another protocol's.
    if (status === 101 || (exchange.method === 'CONNECT' && status < 300)) {
      this.becomeOpaque(timeUs);
      return;
    }
    const framing = responseFraming(head, exchange.method);
    this.responseBody.begin(framing === INVALID_FRAMING ? UNTIL_CLOSE : framing);
    this.serverState = BODY;
    if (this.responseBody.done) this.responseEnded(timeUs);
    // A client has to close the connection after an invalid length.
    if (framing === INVALID_FRAMING) this.parseError(timeUs);
  }

  /** The request that the response at hand answers; `undefined` when none that was seen. */
  private takeRequest(): PendingExchange | undefined {
    const resynced = this.serverResynced;
    this.serverResynced = false;
    const first = this.ledger.at(0);
    if (first === undefined || first.answered) return undefined;
    if ((resynced || first.afterLoss) && first.startUs > this.responseStartUs) return undefined;
    const second = this.ledger.at(1);
    if (second !== undefined && second.startUs < this.responseStartUs) this.pipelines = true;
    return first;
  }

  private responseEnded(timeUs: number): void {
    this.serverState = IDLE;
    const exchange = this.response;
    if (exchange === undefined) return;
    this.response = undefined;
    exchange.responseBodyBytes = this.responseBody.bytes;
    exchange.endUs = timeUs;
    exchange.answered = true;
    this.ledger.finishIfWhole(exchange);
  }

  private becomeOpaque(timeUs: number): void {
    const exchange = this.response!;
    this.response = undefined;
    this.request = undefined;
    exchange.endUs = timeUs;
    exchange.answered = true;
    if (this.ledger.at(0) === exchange) this.ledger.finish(exchange, exchange.damage, timeUs);
    // Whatever the client sent behind the request that switched protocols was no request of this one.
    this.ledger.discard();
    this.release();
    this.context.mute();
  }

  private serverGap(length: number, timeUs: number): void {
    this.ledger.noteServerBytes();
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
    this.ledger.doubtResponses();
    if (this.pipelines && this.ledger.length > 0) {
      this.ledger.giveUpAll('gap', timeUs);
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
    if (this.ledger.at(0) === exchange) this.ledger.finish(exchange, reason, timeUs);
  }

  private resyncResponses(bytes: Buffer, start: number, end: number, timeUs: number): void {
    if (probeResponse(bytes, start, end) !== 'yes') {
      this.ledger.doubtResponses();
      return;
    }
    this.serverState = IDLE;
    this.serverResynced = true;
    if (this.ledger.length < 2) return;
    if (this.pipelines || (this.ledger.whole === 0 && this.ledger.last?.sequential !== true)) {
      this.ledger.giveUpAll('gap', timeUs);
      this.loseClient();
      return;
    }
    while (this.ledger.length > 1 && this.ledger.at(1)!.startUs <= timeUs)
      this.ledger.finish(this.ledger.at(0)!, 'gap', timeUs);
  }

  private serverEnd(reason: EndReason, timeUs: number): void {
    if (this.serverState === ENDED) return;
    // RFC 9112 section 6.3: a body without a length ends with the connection, if that was closed in order.
    if (this.serverState === BODY && this.responseBody.untilClose && reason === 'fin')
      this.responseEnded(this.serverDataUs);
    else this.cutResponse(incompleteReason(reason), timeUs);
    this.serverState = ENDED;
    this.responseHead.release();
    for (let n = this.ledger.length; n > 0 && !this.ledger.at(0)!.answered; n--) {
      this.ledger.giveUp(this.ledger.at(0)!, incompleteReason(reason), timeUs);
    }
  }

  // ---- both

  private countBadLines(head: HeadReader): void {
    if (head.badLines > 0) count(this.context.counters.parseErrors, 'http', head.badLines);
    head.badLines = 0;
  }

  private parseError(timeUs: number): void {
    count(this.context.counters.parseErrors, 'http');
    if (++this.parseErrors > this.context.limits.httpParseErrors) this.die('protocol_error', timeUs);
  }

  private die(reason: IncompleteReason, timeUs: number): void {
    this.ledger.giveUpAll(reason, timeUs);
    this.release();
    this.context.mute();
  }

  private release(): void {
    this.ledger.release();
    this.dead = true;
    this.clientState = ENDED;
    this.serverState = ENDED;
    this.request = undefined;
    this.response = undefined;
    this.requestHead.release();
    this.responseHead.release();
  }
}
