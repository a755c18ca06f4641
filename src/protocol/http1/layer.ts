/**
 * A passive parser of both directions of one HTTP/1.1 connection (RFC 9112).
 *
 * Theory of operation. Each direction is a state machine of its own (request.ts, response.ts); what joins them is a queue of
 * exchanges (ledger.ts), in the order of the requests. A response answers the first request of the queue that has no answer (RFC 9112 section 9.3.2).
 *
 *     state    client                                          server
 *     IDLE     between messages; first byte -> HEAD            the same
 *     HEAD     empty line -> exchange queued, BODY or IDLE     1xx -> IDLE; 101, CONNECT 2xx -> ENDED; else BODY or IDLE
 *     BODY     last byte -> request done, IDLE                 last byte -> exchange answered, IDLE
 *     LOST     the place in the stream is not known            the same
 *     ENDED    no more bytes, or another protocol's            the same
 *
 * After a 101 to h2c the rest of the connection is the successor's, the HTTP/2 layer, whose stream 1 is the request that was upgraded. After
 * one to another protocol that is read, the exchange ends, and the layer of that protocol is the successor.
 *
 * An exchange leaves the queue when its response is whole and its request is done, or as incomplete with a reason.
 *
 * What is lost stays lost: a hole inside a body's content is survived since only lengths matter there; any other hole, and bytes
 * that are no HTTP, lead to LOST. From there:
 * - A request line, of a known method, at the beginning of a segment starts again when no request waits for a response and the
 *   server is between two responses. Where requests were seen to be pipelined that is no proof, and the connection must have been quiet as well.
 * - A status line at the beginning of a segment starts again. It answers the last request that is older than it, and the requests
 *   before that one lost their response; with pipelining nothing tells which request it answers, and all of them are given up.
 * A response for which there is no request is kept for a while as an orphan: its request may still be held up by reassembly.
 * An orphan that is older than the next request answers no request: it is counted as `request_not_seen`, never made into an exchange.
 * Where both directions have lost something since a request, what starts again may answer one that was not seen: the request is given up.
 */

import { type Direction, type EndReason, FROM_CLIENT, type Layer } from '../../flow/connection.ts';
import { Charge } from '../../memory/budget.ts';
import { incompleteReason } from '../endings.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { StreamProtocol } from '../http2/observer.ts';
import type { LayerContext } from '../layer.ts';
import { Dialogue, type Upgrades } from './dialogue.ts';
import type { FieldTable } from './fields.ts';

export class Http1Layer implements Layer {
  private readonly dialogue: Dialogue;
  private readonly charge: Charge;

  /** @param protocols what looks into bodies */
  constructor(
    context: LayerContext<HttpLimits>,
    table: FieldTable,
    upgrades: Upgrades = {},
    protocols: readonly StreamProtocol[] = [],
  ) {
    this.dialogue = new Dialogue(context, table, upgrades, protocols);
    this.charge = new Charge(context.memory);
  }

  /** Bytes held between calls, of what grows with its input. */
  get heldBytes(): number {
    const { requests, responses } = this.dialogue;
    return requests.head.heldBytes + requests.heldBytes + responses.head.heldBytes;
  }

  /** Exchanges and orphans held between calls. */
  get heldExchanges(): number {
    return this.dialogue.ledger.length + this.dialogue.ledger.orphanCount;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs = timeUs): void {
    const { dialogue } = this;
    if (dialogue.over) {
      dialogue.successor?.data(direction, bytes, start, end, timeUs, firstUs);
      return;
    }
    if (direction === FROM_CLIENT) dialogue.requests.data(bytes, start, end, timeUs, firstUs);
    else dialogue.responses.data(bytes, start, end, timeUs, firstUs);
    dialogue.lastDataUs = timeUs;
    this.settle();
  }

  /** Charges what is held between calls. */
  private settle(): void {
    const { requests, responses, ledger } = this.dialogue;
    this.charge.set(requests.head.cost + requests.heldBytes + responses.head.cost + ledger.cost);
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    const { dialogue } = this;
    if (dialogue.over) dialogue.successor?.gap(direction, length, timeUs);
    else if (direction === FROM_CLIENT) dialogue.requests.gap(length, timeUs);
    else dialogue.responses.gap(length, timeUs);
    this.settle();
  }

  lossAhead(direction: Direction): void {
    const { dialogue } = this;
    if (dialogue.over) dialogue.successor?.lossAhead?.(direction);
    else if (direction === FROM_CLIENT) dialogue.ledger.noteLossBehind('gap');
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    const { dialogue } = this;
    if (dialogue.over) dialogue.successor?.end(direction, reason, timeUs);
    else if (direction === FROM_CLIENT) dialogue.requests.end(reason, timeUs);
    else dialogue.responses.end(reason, timeUs);
    this.settle();
  }

  close(reason: EndReason, timeUs: number): void {
    const { dialogue } = this;
    if (dialogue.over) {
      dialogue.successor?.close(reason, timeUs);
      return;
    }
    dialogue.requests.end(reason, timeUs);
    dialogue.responses.end(reason, timeUs);
    dialogue.ledger.giveUpAll(incompleteReason(reason), timeUs);
    dialogue.release();
    this.settle();
  }

  tick(timeUs: number): void {
    const { ledger, responses, context, lastDataUs, over, successor } = this.dialogue;
    if (over) {
      successor?.tick?.(timeUs);
      return;
    }
    const first = ledger.at(0);
    if (first === undefined) {
      ledger.stopTicks();
      return;
    }
    first.observer?.tick?.(timeUs);
    if (timeUs - lastDataUs > context.limits.httpResponseUs && !first.answered && !responses.isReading(first)) {
      ledger.giveUpAll('timeout', timeUs);
      this.settle();
    }
  }
}
