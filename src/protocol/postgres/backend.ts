import type { IncompleteReason } from '../../exchange/exchange.ts';
import { count } from '../../telemetry/counters.ts';
import { FrameReader, type FrameSink } from '../shared/frames.ts';
import { Answers } from './answers.ts';
import {
  BIND_COMPLETE,
  backendMessages,
  CLOSE_COMPLETE,
  COMMAND_COMPLETE,
  COPY_BOTH_RESPONSE,
  COPY_DATA,
  COPY_DONE,
  COPY_IN_RESPONSE,
  COPY_OUT_RESPONSE,
  DATA_ROW,
  EMPTY_QUERY_RESPONSE,
  ERROR_RESPONSE,
  FUNCTION_CALL_RESPONSE,
  NO_DATA,
  PARAMETER_DESCRIPTION,
  PARAMETER_STATUS,
  PARSE_COMPLETE,
  PORTAL_SUSPENDED,
  READY_FOR_QUERY,
  ROW_DESCRIPTION,
} from './messages.ts';
import type { DialogueParts } from './parts.ts';
import { NONE, REQUEST_DESCRIBE, REQUEST_QUERY, REQUEST_SYNC } from './ring.ts';
import { readParameters } from './startup.ts';

/** The server's direction: its messages answer the requests of the ring, in their order. */
export class Backend implements FrameSink {
  readonly frames: FrameReader;
  readonly answers: Answers;
  /** The last message, but for asynchronous ones, was ReadyForQuery; and when. */
  idle = false;
  readyUs = 0;
  /** When ReadyForQuery last came though nothing was asked for: what asked for it is held up in reassembly, or lost. */
  unaskedReadyUs = 0;
  /** What the server says belongs to requests that are not known, up to the next ReadyForQuery; with `recovery.uncertain`, up to a time of silence. */
  private skipping: boolean;
  skipReason: IncompleteReason = 'gap';
  /** A direction has come back into step: requests before the first one of the series may have been lost. */
  foundAgain = false;
  private readonly dialogue: DialogueParts;

  constructor(dialogue: DialogueParts, started: boolean) {
    this.dialogue = dialogue;
    this.frames = new FrameReader(this, backendMessages, started);
    this.skipping = !started;
    this.answers = new Answers(dialogue, this);
  }

  message(type: number, bytes: Buffer, start: number, end: number, size: number): void {
    if (this.skipping && type !== READY_FOR_QUERY && type !== PARAMETER_STATUS) {
      this.idle = false;
      return;
    }
    const { answers } = this;
    switch (type) {
      case DATA_ROW:
        answers.row(size);
        break;
      case COMMAND_COMPLETE:
        answers.complete(bytes, start, end, size);
        break;
      case READY_FOR_QUERY:
        this.ready(this.frames.damaged ? 0 : bytes[start]!);
        break;
      case BIND_COMPLETE:
        answers.bound(size);
        break;
      case PARSE_COMPLETE:
        answers.parsed(size);
        break;
      case ROW_DESCRIPTION:
        answers.rowDescription(size);
        break;
      case NO_DATA:
        answers.prepared(REQUEST_DESCRIBE, size);
        break;
      case PARAMETER_DESCRIPTION:
        answers.parameters(size);
        break;
      case CLOSE_COMPLETE:
        answers.closed();
        break;
      case COPY_DATA:
      case COPY_DONE:
        answers.copied(type, size);
        break;
      case COPY_IN_RESPONSE:
      case COPY_OUT_RESPONSE:
      case COPY_BOTH_RESPONSE:
        answers.copyBegins(type, size);
        break;
      case EMPTY_QUERY_RESPONSE:
        answers.emptyQuery();
        break;
      case PORTAL_SUSPENDED:
        answers.suspend(size);
        break;
      case ERROR_RESPONSE:
        answers.error(bytes, start, end, size);
        break;
      case FUNCTION_CALL_RESPONSE:
        answers.functionResult(size);
        break;
      case PARAMETER_STATUS:
        this.parameterStatus(bytes, start, end);
        break;
      // Authentication, keys, notices and notifications say nothing of a statement.
    }
  }

  cut(): void {
    this.bytesLost('gap');
  }

  malformed(): void {
    this.bytesLost('protocol_error');
    this.dialogue.parseError(this.frames.nowUs);
  }

  /** Messages were lost, such as those that report settings. */
  bytesLost(reason: IncompleteReason): void {
    this.dialogue.session.lost();
    this.lost(reason);
  }

  /** What follows answers no request until the next ReadyForQuery. */
  lost(reason: IncompleteReason): void {
    this.skipping = true;
    this.skipReason = reason;
    this.idle = false;
    this.answers.endSeries();
  }

  /** Nothing tells any more which request is answered. */
  loseTrack(reason: IncompleteReason): void {
    this.lost(reason);
    this.dialogue.recovery.uncertain = true;
  }

  /** What the server says from now on answers the first request. */
  regainTrack(): void {
    this.skipping = false;
    this.dialogue.recovery.uncertain = false;
    this.foundAgain = true;
    this.answers.forget();
  }

  /** The completion of the only statement that was asked for follows, though part of its answer was lost. @returns false when not so */
  findOnlyCompletion(): boolean {
    if (this.dialogue.recovery.uncertain || this.skipReason !== 'gap' || !this.answers.goToOnlyCompletion())
      return false;
    this.skipping = false;
    return true;
  }

  private ready(status: number): void {
    const { dialogue, frames } = this;
    const { ring, recovery } = dialogue;
    this.idle = true;
    this.readyUs = frames.nowUs;
    if (ring.length === 0) this.unaskedReadyUs = frames.nowUs;
    if (!recovery.uncertain) {
      const kind = this.answers.first();
      if (this.skipping) this.catchUp();
      else if (this.answers.current === undefined && kind !== NONE && kind <= REQUEST_SYNC) {
        if (kind === REQUEST_QUERY) dialogue.frontend.names.queried();
        ring.shift();
        this.answers.forget();
      } else if (kind !== NONE) {
        this.skipReason = 'protocol_error';
        this.catchUp();
        dialogue.parseError(frames.nowUs);
      }
    }
    this.answers.endSeries();
    this.foundAgain = false;
    // Only a Sync that was not seen can have brought it.
    dialogue.skipToSync = false;
    // PostgreSQL 14 and later say what has changed at the end of a series only.
    if (ring.length === 0 && !recovery.uncertain && !dialogue.frontend.lostInFlight) dialogue.session.reading.settled();
    // "Portals ... are destroyed at the end of the transaction."
    const { names } = dialogue.frontend;
    names.series++;
    if (!dialogue.session.ready(status)) return;
    this.answers.finishSuspended();
    names.endTransaction(ring.length === 0);
  }

  /** ReadyForQuery, after answers that were not read: all that one Query or Sync asked for is answered. But which one, if there are several? */
  private catchUp(): void {
    const { dialogue } = this;
    const { nowUs } = this.frames;
    this.skipping = false;
    if (dialogue.ring.syncs > 1) {
      dialogue.giveUpAll(this.skipReason, nowUs);
      this.skipping = true;
      dialogue.recovery.uncertain = true;
    } else dialogue.giveUpToReady(this.skipReason, nowUs);
  }

  private parameterStatus(bytes: Buffer, start: number, end: number): void {
    const { session, ring } = this.dialogue;
    if (this.frames.damaged) {
      session.lost();
      return;
    }
    // It may come of a request that was not seen yet.
    if (ring.length === 0) session.reading.sent();
    readParameters(bytes, start, end, (name, value) => session.parameterStatus(name, value));
  }

  /** A message that is no answer to the first request. */
  unexpected(kind: number): void {
    const { dialogue } = this;
    if (kind === NONE) {
      // Its request was lost, or is still on its way.
      this.lost('gap');
      count(dialogue.context.counters.incomplete, 'request_not_seen');
      return;
    }
    if (this.foundAgain) {
      this.lost('gap');
      return;
    }
    this.lost('protocol_error');
    dialogue.parseError(this.frames.nowUs);
  }
}
