import type { IncompleteReason } from '../../exchange/exchange.ts';
import { type EndReason, FROM_CLIENT, FROM_SERVER } from '../../flow/connection.ts';
import { OBSERVER_COST } from '../../memory/cost.ts';
import { count } from '../../telemetry/counters.ts';
import { incompleteReason } from '../endings.ts';
import type { Detection } from '../layer.ts';
import { BodyReader } from './body.ts';
import type { FieldTable } from './fields.ts';
import { INVALID_FRAMING, requestFraming } from './framing.ts';
import { CR, LF, probeRequest, versionOf } from './grammar.ts';
import { HEAD_INVALID, HEAD_LIMIT, HEAD_MORE, HeadReader } from './head.ts';
import type { DialogueParts } from './parts.ts';
import { PendingExchange } from './pending.ts';
import { BODY, ENDED, HEAD, IDLE, LOST, type State } from './states.ts';

/** A line that is not whole within these bytes is taken for a body. */
const UNDECIDED_BYTES = 4096;

/** The client's direction: requests, one after the other, into the ledger. */
export class RequestReader {
  readonly head: HeadReader;
  private readonly dialogue: DialogueParts;
  private readonly body: BodyReader;
  private state: State;
  /** The exchange whose request body is being read. */
  private exchange: PendingExchange | undefined;
  private startUs = 0;
  private offset = 0;
  /** Bytes of the stream so far, lost ones included. */
  private streamBytes = 0;
  private resynced = false;
  /** In the place of a body that may have been left out: what may be the next request's line, or the body. */
  private undecided: { readonly bytes: Buffer; readonly firstUs: number } | undefined = undefined;

  constructor(dialogue: DialogueParts, table: FieldTable) {
    const { limits, connection } = dialogue.context;
    this.dialogue = dialogue;
    this.head = new HeadReader(true, table, limits.httpHeaderBytes);
    this.body = new BodyReader(limits.httpHeaderBytes);
    this.state = connection.startSeen ? IDLE : LOST;
  }

  /** Bytes held between calls beside those of the head. */
  get heldBytes(): number {
    return this.undecided?.bytes.length ?? 0;
  }

  /** Bytes of the stream so far, lost ones included. */
  get bytesSeen(): number {
    return this.streamBytes;
  }

  /** All that was seen belongs to whole messages. */
  get betweenMessages(): boolean {
    return this.state === IDLE;
  }

  /** @param firstUs when the first of these bytes was seen */
  data(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const base = this.streamBytes - start;
    this.streamBytes += end - start;
    if (this.state === LOST) this.resync(bytes, start, end, timeUs);
    let position = start;
    while (position < end) {
      switch (this.state) {
        case IDLE: {
          // RFC 9112 section 2.2: empty lines before a request line are ignored.
          const c = bytes[position]!;
          if (c === CR || c === LF) {
            position++;
            break;
          }
          this.head.begin();
          this.startUs = firstUs;
          this.offset = base + position;
          this.state = HEAD;
          break;
        }
        case HEAD:
          position = this.head.consume(bytes, position, end);
          this.headRead(timeUs);
          break;
        case BODY:
          if (this.mayLeaveBodyOut && this.bodyWasLeftOut(bytes, position, end, timeUs, firstUs)) return;
          position = this.readBody(bytes, position, end, timeUs, firstUs);
          break;
        default:
          return;
      }
    }
  }

  /** @returns the position behind the body's part of bytes[start..end) */
  private readBody(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): number {
    const position = this.body.consume(bytes, start, end, timeUs, firstUs);
    this.noteBody();
    if (this.body.done) this.ended(timeUs);
    else if (this.body.invalid) {
      this.ended(timeUs);
      this.lose(this.body.overLimit ? 'limit' : 'protocol_error');
      if (!this.body.overLimit) this.dialogue.parseError(timeUs);
    }
    return position;
  }

  private headRead(timeUs: number): void {
    const head = this.head;
    if (head.outcome === HEAD_MORE) return;
    this.dialogue.countBadLines(head);
    if (head.outcome === HEAD_INVALID) {
      this.lose('protocol_error');
      this.dialogue.parseError(timeUs);
    } else if (head.outcome === HEAD_LIMIT) this.cutHead('limit', timeUs);
    else this.headDone(timeUs);
  }

  private headDone(timeUs: number): void {
    const head = this.head;
    let exchange: PendingExchange | undefined;
    if (this.dialogue.onlyCounts) count(this.dialogue.context.counters.incomplete, 'limit');
    else {
      exchange = this.newRequest(timeUs);
      exchange.observer = this.dialogue.observe(exchange);
      this.enqueue(exchange, timeUs);
    }
    this.exchange = exchange;
    const framing = requestFraming(head);
    if (framing === INVALID_FRAMING) {
      this.ended(timeUs);
      this.lose('protocol_error');
      this.dialogue.parseError(timeUs);
      return;
    }
    this.body.begin(framing, exchange, FROM_CLIENT);
    if (this.body.done) this.ended(timeUs);
    else this.state = BODY;
    // What follows CONNECT is another protocol's when the server agrees (RFC 9110 section 9.3.6), else a new request.
    if (head.method === 'CONNECT' && this.state === IDLE) this.state = LOST;
  }

  private newRequest(timeUs: number): PendingExchange {
    const head = this.head;
    const exchange = new PendingExchange(this.dialogue.context.connection);
    exchange.version = versionOf(head.minorVersion);
    exchange.method = head.method;
    exchange.target = head.target;
    exchange.requestHeaders = head.headers;
    exchange.expectsContinue = head.expectsContinue;
    exchange.startUs = this.startUs;
    exchange.requestEndUs = timeUs;
    exchange.streamOffset = this.offset;
    exchange.afterLoss = this.resynced;
    this.resynced = false;
    return exchange;
  }

  private enqueue(exchange: PendingExchange, timeUs: number): void {
    if (!this.dialogue.ledger.push(exchange)) {
      this.dialogue.overflow(timeUs);
      return;
    }
    this.dialogue.ledger.addCost(
      exchange,
      this.head.headersCost + (exchange.observer === undefined ? 0 : OBSERVER_COST),
    );
    if (this.dialogue.ledger.orphanCount > 0) this.adoptOrphan(exchange, timeUs);
  }

  /** The response to this request may have come before it, when reassembly had to wait for a part of the request. */
  private adoptOrphan(exchange: PendingExchange, timeUs: number): void {
    const orphan = this.dialogue.ledger.takeOrphan(exchange);
    if (orphan === undefined) return;
    exchange.adoptResponse(orphan);
    // What came of its body went by unseen.
    exchange.observer?.gap(FROM_SERVER, -1, timeUs);
    exchange.observer?.response?.(timeUs);
    this.dialogue.responses.adopted(orphan, exchange, timeUs);
  }

  private noteBody(): void {
    const exchange = this.exchange;
    if (exchange !== undefined && !exchange.requestDone) exchange.requestBodyBytes = this.body.bytes;
  }

  private ended(timeUs: number): void {
    this.state = IDLE;
    const exchange = this.exchange;
    this.exchange = undefined;
    // One that was given up in mid-request is no longer ours.
    if (exchange === undefined || exchange.requestDone) return;
    exchange.requestBodyBytes = this.body.bytes;
    exchange.requestEndUs = timeUs;
    exchange.requestDone = true;
    exchange.observer?.end(FROM_CLIENT, timeUs);
    this.dialogue.ledger.finishIfWhole(exchange);
  }

  /**
   * RFC 9110 section 10.1.1: a client that sent `Expect: 100-continue` and got a final status instead may leave the body out,
   * though its length was announced.
   */
  private get mayLeaveBodyOut(): boolean {
    const request = this.exchange;
    return request?.expectsContinue === true && request.statusCode >= 200 && this.body.untouched;
  }

  /**
   * What stands in the body's place may be the next request, of any method: its first line says which, and is held until it is whole.
   *
   * @returns whether the bytes were taken
   */
  private bodyWasLeftOut(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): boolean {
    const held = this.undecided;
    const all = held === undefined ? bytes : Buffer.concat([held.bytes, bytes.subarray(start, end)]);
    const from = held === undefined ? start : 0;
    const to = held === undefined ? end : all.length;
    const verdict = probeInBody(all, from, to, this.body.announced);
    if (verdict === 'maybe' && to - from < UNDECIDED_BYTES) {
      this.undecided = {
        bytes: held === undefined ? Buffer.from(all.subarray(from, to)) : all,
        firstUs: held?.firstUs ?? firstUs,
      };
      return true;
    }
    this.undecided = undefined;
    if (verdict === 'yes') this.endedWithoutBody();
    else if (held === undefined) return false;
    this.replay(all, from, to, timeUs, held?.firstUs ?? firstUs);
    return true;
  }

  /** Reads bytes that were counted already. */
  private replay(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    let position = start;
    // What stands in the body's place was looked at.
    if (this.state === BODY) position = this.readBody(bytes, start, end, timeUs, firstUs);
    this.streamBytes -= end - position;
    if (position < end) this.data(bytes, position, end, timeUs, firstUs);
  }

  /** What is undecided is the body: no line follows that says otherwise. */
  private takeUndecided(timeUs: number): void {
    const held = this.undecided;
    this.undecided = undefined;
    if (held !== undefined) this.replay(held.bytes, 0, held.bytes.length, timeUs, held.firstUs);
  }

  /** The request ended with its head: its time is that of the head. */
  private endedWithoutBody(): void {
    this.ended(this.exchange?.requestEndUs ?? 0);
  }

  gap(length: number, timeUs: number): void {
    this.takeUndecided(timeUs);
    this.streamBytes += length;
    switch (this.state) {
      case IDLE:
        this.lose('gap');
        break;
      case HEAD:
        this.cutHead('gap', timeUs);
        break;
      case BODY: {
        const behind = this.body.gap(length, timeUs);
        if (behind < 0 && this.exchange?.requestDone === false) this.exchange.damage = 'gap';
        this.noteBody();
        if (behind !== 0 || this.body.done) this.ended(timeUs);
        if (behind !== 0) this.lose('gap');
        break;
      }
      default:
    }
  }

  /** The rest of a request's head will not be seen; with its request line the exchange is known, without it nothing is. */
  private cutHead(reason: IncompleteReason, timeUs: number): void {
    const head = this.head;
    const started = head.started;
    this.state = LOST;
    if (!started || this.dialogue.onlyCounts) count(this.dialogue.context.counters.incomplete, reason);
    else {
      const exchange = this.newRequest(timeUs);
      exchange.requestDone = true;
      // An orderly response makes a request whole that its client did not end.
      if (reason === 'gap' || reason === 'limit') exchange.damage = reason;
      this.enqueue(exchange, timeUs);
      this.dialogue.ledger.finishIfWhole(exchange);
    }
    this.lose(reason);
  }

  lose(reason: IncompleteReason): void {
    this.state = LOST;
    this.head.release();
    this.exchange = undefined;
    this.undecided = undefined;
    this.dialogue.ledger.noteLossBehind(reason);
  }

  private resync(bytes: Buffer, start: number, end: number, timeUs: number): void {
    if (probeRequest(bytes, start, end, true) !== 'yes') return;
    if (this.dialogue.pipelines && timeUs - this.dialogue.lastDataUs < this.dialogue.context.limits.httpQuietUs) return;
    if (this.dialogue.onlyCounts) {
      this.state = IDLE;
      return;
    }
    if (this.dialogue.responses.lost) {
      // Nothing tells whether what waits was answered; without pipelining a new request says that it was.
      if (!this.dialogue.pipelines && this.dialogue.ledger.last?.requestDone)
        this.dialogue.ledger.giveUpAll(this.dialogue.responses.lossReason, timeUs);
    }
    if (this.dialogue.ledger.length > 0 || !(this.dialogue.responses.idle || this.dialogue.responses.lost)) return;
    this.state = IDLE;
    this.resynced = true;
  }

  end(reason: EndReason, timeUs: number): void {
    this.takeUndecided(timeUs);
    if (this.state === HEAD) this.cutHead(incompleteReason(reason), timeUs);
    else if (this.state === BODY && this.mayLeaveBodyOut) this.endedWithoutBody();
    // The request stays as it is; a response may still be on its way.
    else if (this.state === BODY) this.ended(timeUs);
    this.state = ENDED;
  }

  release(): void {
    this.state = ENDED;
    this.exchange = undefined;
    this.undecided = undefined;
    this.head.release();
  }
}

/**
 * Whether a request stands where a body of so many bytes was announced. The line of a method that is not known has to end within them:
 * a text behind which a request follows is no method.
 */
function probeInBody(bytes: Buffer, start: number, end: number, announced: number): Detection {
  const known = probeRequest(bytes, start, end, true);
  if (known === 'yes') return 'yes';
  const isShort = end - start < announced;
  const any = probeRequest(bytes, start, isShort ? end : start + announced);
  if (any === 'yes') return 'yes';
  return known === 'maybe' || (any === 'maybe' && isShort) ? 'maybe' : 'no';
}
