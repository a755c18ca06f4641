import type { IncompleteReason } from '../../exchange/exchange.ts';
import { type EndReason, FROM_SERVER } from '../../flow/connection.ts';
import { count } from '../../telemetry/counters.ts';
import { incompleteReason } from '../endings.ts';
import { BodyReader } from './body.ts';
import type { FieldTable } from './fields.ts';
import { INVALID_FRAMING, responseFraming, UNTIL_CLOSE } from './framing.ts';
import { CR, LF, probeResponse } from './grammar.ts';
import { HEAD_INVALID, HEAD_LIMIT, HEAD_MORE, HeadReader } from './head.ts';
import type { DialogueParts } from './parts.ts';
import type { PendingExchange } from './pending.ts';
import { BODY, ENDED, HEAD, IDLE, LOST, type State } from './states.ts';

/** The server's direction: responses, each for the first exchange of the ledger that has none. */
export class ResponseReader {
  readonly head: HeadReader;
  private readonly dialogue: DialogueParts;
  private readonly body: BodyReader;
  private state: State;
  /** The exchange, or the orphan, whose response body is being read. */
  private exchange: PendingExchange | undefined;
  private startUs = 0;
  /** Time of the last bytes of this direction. */
  private lastUs = 0;
  /** Bytes of the stream so far, lost ones included. */
  private streamBytes = 0;
  private resynced = false;
  /** Why its place was lost last. */
  lossReason: IncompleteReason = 'gap';

  constructor(dialogue: DialogueParts, table: FieldTable) {
    const { limits, connection } = dialogue.context;
    this.dialogue = dialogue;
    this.head = new HeadReader(false, table, limits.httpHeaderBytes);
    this.body = new BodyReader(limits.httpHeaderBytes);
    this.state = connection.startSeen ? IDLE : LOST;
  }

  get lost(): boolean {
    return this.state === LOST;
  }

  get idle(): boolean {
    return this.state === IDLE;
  }

  /** Whether the response of this exchange has begun. */
  isReading(exchange: PendingExchange): boolean {
    return this.exchange === exchange;
  }

  /** The response taken for an orphan is the one to this request. */
  adopted(orphan: PendingExchange, request: PendingExchange, timeUs: number): void {
    if (orphan !== this.exchange) return;
    this.exchange = request;
    if (request.method === 'HEAD' && this.body.bytes === 0) this.ended(timeUs);
  }

  /** @param firstUs when the first of these bytes was seen */
  data(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    this.lastUs = timeUs;
    this.streamBytes += end - start;
    this.dialogue.ledger.noteServerBytes();
    if (this.state === LOST) this.resync(bytes, start, end, timeUs);
    let position = start;
    while (position < end) {
      switch (this.state) {
        case IDLE: {
          const c = bytes[position]!;
          if (c === CR || c === LF) {
            position++;
            break;
          }
          this.head.begin();
          this.startUs = firstUs;
          this.state = HEAD;
          break;
        }
        case HEAD:
          position = this.head.consume(bytes, position, end);
          this.headRead(timeUs, this.streamBytes - (end - position));
          if (this.dialogue.successor !== undefined) {
            this.dialogue.successor.data(FROM_SERVER, bytes, position, end, timeUs, firstUs);
            return;
          }
          break;
        case BODY:
          position = this.body.consume(bytes, position, end, timeUs, firstUs);
          if (this.body.done) this.ended(timeUs);
          else if (this.body.invalid) {
            this.lose(this.body.overLimit ? 'limit' : 'protocol_error', timeUs);
            if (!this.body.overLimit) this.dialogue.parseError(timeUs);
          }
          break;
        default:
          return;
      }
    }
  }

  private headRead(timeUs: number, offset: number): void {
    const head = this.head;
    if (head.outcome === HEAD_MORE) return;
    this.dialogue.countBadLines(head);
    if (head.outcome === HEAD_INVALID) {
      this.lose('protocol_error', timeUs);
      this.dialogue.parseError(timeUs);
    } else if (head.outcome === HEAD_LIMIT) this.lose('limit', timeUs);
    else this.headDone(timeUs, offset);
  }

  /** @param offset of what follows the head */
  private headDone(timeUs: number, offset: number): void {
    const head = this.head;
    const status = head.statusCode;
    // RFC 9110 section 15.2: any number of interim responses come before the final one.
    if (status < 200 && status !== 101) {
      // RFC 9110 section 10.1.1: the client that waited for it sends the body now.
      if (status === 100) this.dialogue.ledger.continueFirst();
      this.state = IDLE;
      return;
    }
    const request = this.takeRequest(timeUs);
    if (status === 101 && head.upgrade === 'h2c' && request !== undefined) {
      if (this.dialogue.upgrade(request, offset, timeUs)) return;
    }
    const exchange = request ?? this.dialogue.ledger.newOrphan();
    exchange.statusCode = status;
    exchange.responseHeaders = head.headers;
    exchange.responseStartUs = this.startUs;
    this.exchange = exchange;
    this.dialogue.ledger.addCost(exchange, head.headersCost);
    // RFC 9110 section 7.8 (Upgrade) and section 9.3.6 (CONNECT): what follows is another protocol's.
    if (status === 101 || (exchange.method === 'CONNECT' && status < 300)) {
      this.becomeOpaque(timeUs);
      return;
    }
    const framing = responseFraming(head, exchange.method);
    exchange.observer?.response?.(timeUs);
    this.body.begin(framing === INVALID_FRAMING ? UNTIL_CLOSE : framing, exchange, FROM_SERVER);
    this.state = BODY;
    if (this.body.done) this.ended(timeUs);
    // A client has to close the connection after an invalid length.
    if (framing === INVALID_FRAMING) this.dialogue.parseError(timeUs);
  }

  /** The request that the response at hand answers; `undefined` when none that was seen. */
  private takeRequest(timeUs: number): PendingExchange | undefined {
    const resynced = this.resynced;
    this.resynced = false;
    const { ledger } = this.dialogue;
    // Both directions have lost something since: this may as well answer a request that was not seen, while the response to the first is lost.
    const head = ledger.at(0);
    if (resynced && head?.lossBehind !== undefined && !head.answered) ledger.giveUp(head, head.lossBehind, timeUs);
    const first = ledger.at(0);
    if (first === undefined || first.answered) return undefined;
    if ((resynced || first.afterLoss) && first.startUs > this.startUs) return undefined;
    const second = ledger.at(1);
    if (second !== undefined && second.startUs < this.startUs) this.dialogue.pipelines = true;
    return first;
  }

  private ended(timeUs: number): void {
    this.state = IDLE;
    const exchange = this.exchange;
    if (exchange === undefined) return;
    this.exchange = undefined;
    exchange.responseBodyBytes = this.body.bytes;
    exchange.endUs = timeUs;
    exchange.answered = true;
    exchange.observer?.end(FROM_SERVER, timeUs);
    this.dialogue.ledger.finishIfWhole(exchange);
  }

  private becomeOpaque(timeUs: number): void {
    const exchange = this.exchange!;
    this.exchange = undefined;
    exchange.endUs = timeUs;
    exchange.answered = true;
    if (this.head.upgrade !== '' && this.dialogue.switchTo(this.head.upgrade, exchange, timeUs)) return;
    if (this.dialogue.ledger.at(0) === exchange) this.dialogue.ledger.finish(exchange, exchange.damage, timeUs);
    // Whatever the client sent behind the request that switched protocols was no request of this one.
    this.dialogue.ledger.discard();
    const { counters } = this.dialogue.context;
    count(counters.connections.opaque, exchange.statusCode === 101 ? 'http_upgrade' : 'http_connect');
    this.dialogue.leave();
  }

  gap(length: number, timeUs: number): void {
    this.streamBytes += length;
    this.dialogue.ledger.noteServerBytes();
    switch (this.state) {
      case IDLE:
      case HEAD:
      case LOST:
        this.lose('gap', timeUs);
        break;
      case BODY: {
        const behind = this.body.gap(length, timeUs);
        if (this.body.done) this.ended(timeUs);
        if (behind !== 0) this.lose('gap', timeUs);
        break;
      }
      default:
    }
  }

  /** The place in the server's stream is lost, and with it the response that was being read. */
  private lose(reason: IncompleteReason, timeUs: number): void {
    this.cut(reason, timeUs);
    this.state = LOST;
    this.head.release();
    this.lossReason = reason;
    this.dialogue.ledger.doubtResponses(reason);
    if (this.dialogue.pipelines && this.dialogue.ledger.length > 0) {
      this.dialogue.ledger.giveUpAll(reason, timeUs);
      this.dialogue.requests.lose(reason);
    }
  }

  /** The response that is being read will not become whole. */
  cut(reason: IncompleteReason, timeUs: number): void {
    let exchange: PendingExchange | undefined;
    if (this.state === BODY) {
      exchange = this.exchange;
      this.exchange = undefined;
      if (exchange !== undefined) exchange.responseBodyBytes = this.body.bytes;
    } else if (this.state === HEAD) {
      const head = this.head;
      if (head.started && head.statusCode < 200) return;
      exchange = this.takeRequest(timeUs);
      if (exchange !== undefined) {
        exchange.responseStartUs = this.startUs;
        if (head.started) exchange.statusCode = head.statusCode;
      }
    }
    if (exchange === undefined) return;
    if (this.dialogue.ledger.at(0) === exchange) this.dialogue.ledger.finish(exchange, reason, timeUs);
  }

  private resync(bytes: Buffer, start: number, end: number, timeUs: number): void {
    if (probeResponse(bytes, start, end) !== 'yes') {
      this.dialogue.ledger.doubtResponses(this.lossReason);
      return;
    }
    this.state = IDLE;
    this.resynced = true;
    if (this.dialogue.ledger.length < 2) return;
    if (
      this.dialogue.pipelines ||
      (this.dialogue.ledger.whole === 0 && this.dialogue.ledger.last?.sequential !== true)
    ) {
      this.dialogue.ledger.giveUpAll(this.lossReason, timeUs);
      this.dialogue.requests.lose(this.lossReason);
      return;
    }
    while (this.dialogue.ledger.length > 1 && this.dialogue.ledger.at(1)!.startUs <= timeUs)
      this.dialogue.ledger.finish(this.dialogue.ledger.at(0)!, this.lossReason, timeUs);
  }

  end(reason: EndReason, timeUs: number): void {
    if (this.state === ENDED) return;
    // RFC 9112 section 6.3: a body without a length ends with the connection, if that was closed in order.
    if (this.state === BODY && this.body.untilClose && reason === 'fin') this.ended(this.lastUs);
    else this.cut(incompleteReason(reason), timeUs);
    this.state = ENDED;
    this.head.release();
    for (let n = this.dialogue.ledger.length; n > 0 && !this.dialogue.ledger.at(0)!.answered; n--) {
      this.dialogue.ledger.giveUp(this.dialogue.ledger.at(0)!, incompleteReason(reason), timeUs);
    }
  }

  release(): void {
    this.state = ENDED;
    this.exchange = undefined;
    this.head.release();
  }
}
