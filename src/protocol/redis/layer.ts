/**
 * A passive parser of both directions of one connection of Redis (RESP2, RESP3 and inline commands; "Redis serialization protocol
 * specification").
 *
 * Theory of operation. The client's commands (requests.ts) wait in a ring; each reply of the server (replies.ts) answers the first of it, and
 * takes it off (connection-state.ts). Exceptions:
 *
 *     command                       answered by
 *     any, after MULTI              QUEUED; its outcome is an element of the answer to EXEC. After DISCARD, or an EXEC that fails, it never ran
 *     SUBSCRIBE, UNSUBSCRIBE        one reply for each channel; RESP3: one push for each. In RESP2 the rest of the connection is passed over,
 *                                   since a message cannot be distinguished from a reply
 *     MONITOR, SYNC, PSYNC          OK, then lines, or the data of a replica: passed over
 *     any, after CLIENT REPLY OFF   nothing, up to CLIENT REPLY ON; CLIENT REPLY SKIP: it and the next command. In a transaction both break the
 *                                   answer to EXEC: the server's direction is desynchronised
 *
 * Pushes of RESP3 (messages, invalidations) stand between replies and belong to no command. No time is too long for an answer: blocking
 * commands wait for hours.
 *
 * A direction is desynchronised (shared/recovery.ts) after a hole that does not lie within a bulk string, or bytes that are none of the
 * protocol; or from the beginning, where the connection's start was not seen. Back in sync is
 * - the client, where a segment begins with a command after the server was heard, and while it is between two replies;
 * - the server, where a segment begins with a reply, after the client has gone on, which it does only when it has its answers;
 * - both, of a client that was seen to send further commands before the answers, only after a silence (`redisQuietUs`).
 * Commands whose answer may be lost are incomplete, by `gap`.
 */
import { type Direction, type EndReason, FROM_CLIENT, FROM_SERVER, type Layer } from '../../flow/connection.ts';
import { type Account, Charge } from '../../memory/budget.ts';
import { incompleteReason } from '../endings.ts';
import { EarlyAnswers } from '../shared/early.ts';
import { DESYNCHRONISED, type Recovery, UNCERTAIN } from '../shared/recovery.ts';
import { ConnectionState, type RedisContext } from './connection-state.ts';
import { probeReply, probeRequest } from './probe.ts';
import { isReplyType } from './reply-types.ts';

export class RedisLayer implements Layer {
  private readonly state: ConnectionState;
  private readonly charge: Charge;
  private readonly recovery: Recovery;
  private readonly early: EarlyAnswers;

  constructor(context: RedisContext & { readonly memory: Account }) {
    this.state = new ConnectionState(context, context.connection.startSeen);
    this.recovery = this.state.recovery;
    this.early = new EarlyAnswers(context.limits.redisEarlyBytes);
    this.charge = new Charge(context.memory);
  }

  /** Bytes held between calls, of what grows with its input. */
  get heldBytes(): number {
    const { requests, replies } = this.state;
    return requests.heldBytes + replies.heldBytes + this.early.heldBytes;
  }

  /** Commands held between calls. */
  get heldObjects(): number {
    return this.state.heldObjects;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs = timeUs): void {
    if (this.state.over) return;
    if (direction === FROM_CLIENT) this.fromClient(bytes, start, end, timeUs, firstUs);
    else this.fromServer(bytes, start, end, timeUs, firstUs);
    this.settle();
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    const { state, recovery } = this;
    if (state.over) return;
    if (direction === FROM_CLIENT) {
      recovery.clientLossAhead = false;
      if (!state.requests.gap(length, timeUs)) {
        state.requestsLost();
        recovery.heardServer = false;
      }
    } else {
      this.dropEarly();
      recovery.heardServer = true;
      if (!state.replies.gap(length, timeUs)) {
        state.repliesLost('gap', timeUs);
        recovery.clientWentOn = false;
      }
    }
    this.settle();
  }

  lossAhead(direction: Direction): void {
    if (direction === FROM_CLIENT) this.recovery.clientLossAhead = true;
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    // What a client asked for before it closed its side may still be answered.
    if (direction !== FROM_SERVER || this.state.over) return;
    this.dropEarly();
    this.state.end(incompleteReason(reason), timeUs);
    this.settle();
  }

  close(reason: EndReason, timeUs: number): void {
    this.dropEarly();
    this.state.end(incompleteReason(reason), timeUs);
    this.settle();
  }

  /** Charges what is held between calls. */
  private settle(): void {
    if (this.state.over) this.dropEarly();
    const { requests, replies, cost } = this.state;
    this.charge.set(requests.heldBytes + replies.heldBytes + this.early.cost + cost);
  }

  // --- The client ----------------------------------------------------------------------------------------------------------------------

  private fromClient(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { state, recovery } = this;
    const { requests, replies, ring } = state;
    if (ring.length > 0 && (requests.atBoundary || ring.length > 1)) recovery.pipelines = true;
    if (!this.early.isEmpty && firstUs > this.early.first!.timeUs) this.dropEarly(timeUs);
    if (recovery.stateOf(replies) === UNCERTAIN && replies.atBoundary && recovery.isQuiet(timeUs)) {
      state.giveUpAll('gap', timeUs);
      recovery.uncertain = false;
    }
    if (!requests.synced) {
      if (!this.findRequest(bytes, start, end, timeUs)) return;
    } else if (!replies.synced && requests.atBoundary) this.goesOn(timeUs);
    requests.feed(bytes, start, end, timeUs, firstUs);
    if (!this.early.isEmpty && ring.length > 0) this.readEarly();
  }

  /** The client sends while the server's direction is lost: without pipelining it has the answers to all that it asked for. */
  private goesOn(timeUs: number): void {
    const { state, recovery } = this;
    if (!recovery.hasAnswers(timeUs)) return;
    state.giveUpAll('gap', timeUs);
    recovery.clientWentOn = true;
  }

  /** @returns whether the client's direction is in sync again, with the bytes that begin at `start` */
  private findRequest(bytes: Buffer, start: number, end: number, timeUs: number): boolean {
    const { state, recovery } = this;
    const { requests, replies } = state;
    const isBetween = !replies.synced || replies.atBoundary;
    const isFound = isBetween && recovery.hasAnswers(timeUs) && probeRequest(bytes, start, end) === 'yes';
    if (!isFound) {
      requests.skip(end - start, timeUs);
      return false;
    }
    state.giveUpAll('gap', timeUs);
    recovery.clientFound();
    if (recovery.stateOf(replies) === DESYNCHRONISED) recovery.clientWentOn = true;
    requests.resync();
    return true;
  }

  // --- The server ----------------------------------------------------------------------------------------------------------------------

  private fromServer(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { state, recovery } = this;
    const { replies } = state;
    recovery.serverSent(timeUs);
    if (!this.early.isEmpty) {
      this.hold(bytes, start, end, timeUs, firstUs);
      return;
    }
    if (!replies.synced && !this.findReply(bytes, start, end, timeUs)) return;
    const next = replies.feed(bytes, start, end, timeUs, firstUs);
    if (next >= end || state.over) return;
    if (!replies.synced) replies.skip(end - next, timeUs);
    // What was lost of the client has the command that this answers.
    else if (recovery.clientLossAhead) this.passOver(bytes, next, end, timeUs, firstUs);
    else this.hold(bytes, next, end, timeUs, firstUs);
  }

  /** @returns whether the server's direction is in sync again, with the bytes that begin at `start` */
  private findReply(bytes: Buffer, start: number, end: number, timeUs: number): boolean {
    const { state, recovery } = this;
    const isFound = recovery.clientWentOn && isReplyType(bytes[start]!) && probeReply(bytes, start, end) !== 'no';
    if (!isFound) {
      state.replies.skip(end - start, timeUs);
      return false;
    }
    recovery.clientWentOn = false;
    state.replies.resync();
    return true;
  }

  /** Replies to commands that were not seen. */
  private passOver(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { state } = this;
    state.acceptsUnasked = true;
    state.replies.feed(bytes, start, end, timeUs, firstUs);
    state.acceptsUnasked = false;
  }

  // --- Replies before their commands: capture by several processors does not keep the order of both directions ----------------------------

  private hold(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    if (!this.early.hold(bytes, start, end, timeUs, firstUs)) this.dropEarly(timeUs);
  }

  /** The client has sent what these bytes answer. */
  private readEarly(): void {
    for (const { bytes, timeUs, firstUs } of this.early.take()) {
      if (this.state.over) return;
      this.fromServer(bytes, 0, bytes.length, timeUs, firstUs);
    }
  }

  /** What is held answers nothing that was seen. */
  private dropEarly(timeUs?: number): void {
    const { state } = this;
    const early = this.early.take();
    if (early.length === 0 || state.over) return;
    for (const { bytes, timeUs: seenUs, firstUs } of early) this.passOver(bytes, 0, bytes.length, seenUs, firstUs);
    // More answers than commands: which of those that follow belongs to which command is not known, if the client does not wait for them.
    if (timeUs !== undefined && this.recovery.pipelines) state.loseTrack(timeUs);
  }
}
