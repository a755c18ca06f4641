import { bufferCost, waitingCost } from '../../memory/cost.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { count } from '../../telemetry/counters.ts';
import { FrameReader, type FrameSink } from '../shared/frames.ts';
import { Catalogue } from './catalogue.ts';
import {
  BIND,
  CLOSE,
  COPY_DATA,
  COPY_DONE,
  COPY_FAIL,
  DESCRIBE,
  EXECUTE,
  FUNCTION_CALL,
  frontendMessages,
  HEADER_BYTES,
  PARSE,
  QUERY,
  SYNC,
} from './messages.ts';
import { type Portal, Prepared, type StatementName } from './names.ts';
import type { DialogueParts } from './parts.ts';
import {
  REQUEST_BIND,
  REQUEST_BIND_UNNAMED,
  REQUEST_CLOSE,
  REQUEST_COPY_END,
  REQUEST_DESCRIBE,
  REQUEST_EXECUTE,
  REQUEST_FUNCTION_CALL,
  REQUEST_PARSE,
  REQUEST_QUERY,
  REQUEST_STARTUP,
  REQUEST_SYNC,
} from './ring.ts';

/** The statements of a Query whose text was not read. */
export const UNKNOWN_TEXT: readonly SqlStatement[] = [];

/** Describe and Close say by this which kind of thing they mean; else it is a portal. */
const OF_STATEMENT = 0x53;

/** The client's direction: its messages become requests, and name what later ones refer to. */
export class Frontend implements FrameSink {
  readonly frames: FrameReader;
  readonly names: Catalogue;
  /** Messages were lost whose answers may still come: what is asked for and not answered is more than what the ring holds. */
  lostInFlight = false;
  private readonly dialogue: DialogueParts;
  /** Bytes of the messages that prepare the next execution, and of copied data. */
  private leadBytes = 0;
  private copyBytes = 0;

  constructor(dialogue: DialogueParts, started: boolean) {
    const { limits, counters, memory } = dialogue.context;
    this.dialogue = dialogue;
    this.frames = new FrameReader(this, frontendMessages(limits.sqlTextBytes), started);
    this.names = new Catalogue(limits, counters, memory);
  }

  /** Statements and portals that are remembered. */
  get remembered(): number {
    return this.names.size;
  }

  /** What is held between calls (memory/cost.ts). */
  get cost(): number {
    return bufferCost(this.frames.held) + this.names.cost;
  }

  message(type: number, bytes: Buffer, start: number, end: number, size: number): void {
    if (this.dialogue.skipToSync && type !== SYNC) {
      this.discarded(type);
      return;
    }
    switch (type) {
      case EXECUTE:
        this.execute(bytes, start, end, size);
        break;
      case BIND:
        this.bind(bytes, start, end, size);
        break;
      case SYNC:
        this.leadBytes = 0;
        this.push(REQUEST_SYNC, size, undefined);
        break;
      case COPY_DATA:
        this.copyBytes += size;
        break;
      case PARSE:
        this.parse(bytes, start, end, size);
        break;
      case QUERY:
        this.query(bytes, start, end, size);
        break;
      case DESCRIBE:
        this.leadBytes += size;
        this.push(REQUEST_DESCRIBE, size, this.named(bytes, start, end));
        break;
      case CLOSE:
        this.push(REQUEST_CLOSE, size, this.named(bytes, start, end));
        break;
      case COPY_DONE:
      case COPY_FAIL:
        this.push(REQUEST_COPY_END, this.copyBytes + size, undefined);
        this.copyBytes = 0;
        break;
      case FUNCTION_CALL:
        this.dialogue.session.reading.sent();
        this.push(REQUEST_FUNCTION_CALL, size, undefined);
        break;
      // Flush, Terminate and the answers of authentication have no answer that is of interest.
    }
  }

  /** StartupMessage was read. */
  started(startUs: number, offset: number, size: number): void {
    this.dialogue.session.reading.sent();
    this.dialogue.ring.push(REQUEST_STARTUP, startUs, offset, size, undefined);
  }

  cut(type: number, size: number): void {
    // The rest of the text is lost, the server's answer to it is not.
    if (type === QUERY) this.push(REQUEST_QUERY, size, UNKNOWN_TEXT);
    this.lost();
  }

  malformed(): void {
    this.lost();
    this.dialogue.parseError(this.frames.nowUs);
  }

  /** Messages were lost: what had no name may have been replaced, what was suspended continued. */
  lost(): void {
    const { dialogue } = this;
    dialogue.session.reading.sent();
    this.lostInFlight = true;
    dialogue.session.pathLost();
    dialogue.backend.answers.doubtSuspended();
    this.names.doubt();
    this.leadBytes = 0;
    this.copyBytes = 0;
  }

  /** Bytes of CopyData whose copy has ended before its end was sent. */
  takeCopyBytes(): number {
    const bytes = this.copyBytes;
    this.copyBytes = 0;
    return bytes;
  }

  release(): void {
    this.lost();
    this.names.clear();
    this.frames.stop();
  }

  /** The server never reads it. */
  private discarded(type: number): void {
    if (type === EXECUTE || type === QUERY || type === FUNCTION_CALL) this.dialogue.discarded(1);
  }

  /** @param cost of what only this request holds */
  private push(kind: number, size: number, subject: unknown, target?: unknown, cost = 0): void {
    const { dialogue, frames } = this;
    const { ring } = dialogue;
    if (dialogue.skipToSync) dialogue.skipToSync = false;
    else if (dialogue.copyIn) {
      // "The backend will ignore Flush and Sync messages in copy-in mode"; anything else ends the connection.
      if (kind !== REQUEST_COPY_END) return;
      dialogue.copyIn = false;
    }
    // What came after a copy had failed belongs to nothing.
    if (kind !== REQUEST_COPY_END) this.copyBytes = 0;
    // A Query or Sync before the ReadyForQuery of the one before it.
    if (kind <= REQUEST_SYNC && ring.syncs > 0) dialogue.recovery.pipelines = true;
    if (ring.push(kind, frames.startUs, frames.offset, size, subject, target, cost)) return;
    dialogue.overflow(frames.nowUs);
    ring.push(kind, frames.startUs, frames.offset, size, subject, target, cost);
  }

  private query(bytes: Buffer, start: number, end: number, size: number): void {
    const { dialogue } = this;
    const { session, analyser } = dialogue;
    this.leadBytes = 0;
    let statements: readonly SqlStatement[] = UNKNOWN_TEXT;
    let ends: readonly number[] | undefined;
    if (end - start < size - HEADER_BYTES) this.countText();
    else {
      const textEnd = end > start && bytes[end - 1] === 0 ? end - 1 : end;
      const encoding = session.reading.encodingOf(bytes, start, textEnd);
      ({ statements, ends } = analyser.analyseText(bytes, start, textEnd, encoding, session.reading.backslash));
    }
    session.reading.sent();
    this.push(REQUEST_QUERY, size, statements, ends, waitingCost(statements));
  }

  private parse(bytes: Buffer, start: number, end: number, size: number): void {
    const { session, analyser } = this.dialogue;
    const nameEnd = bytes.indexOf(0, start);
    const textStart = nameEnd + 1;
    const textEnd = bytes.indexOf(0, textStart);
    this.leadBytes += size;
    if (nameEnd < 0 || nameEnd >= end) {
      // Where the name ends was lost: it may be any.
      this.names.doubt();
      this.push(REQUEST_PARSE, size, undefined);
      return;
    }
    let statement: SqlStatement | undefined;
    if (textEnd < 0 || textEnd >= end) this.countText();
    else {
      const encoding = session.reading.encodingOf(bytes, textStart, textEnd);
      statement = analyser.analyseOne(bytes, textStart, textEnd, encoding, session.reading.backslash);
    }
    const place = this.names.newStatement(bytes, start, nameEnd);
    const prepared = new Prepared(place, statement);
    place.sent = prepared;
    this.push(REQUEST_PARSE, size, prepared, undefined, prepared.ownCost);
  }

  private countText(): void {
    count(this.dialogue.context.counters.sql, this.frames.damaged ? 'text_lost' : 'text_limit');
  }

  private bind(bytes: Buffer, start: number, end: number, size: number): void {
    // Planning runs functions already.
    this.dialogue.session.reading.sent();
    const portalEnd = stringEnd(bytes, start, end);
    const nameStart = portalEnd + 1;
    const nameEnd = stringEnd(bytes, nameStart, end);
    const { names } = this;
    const statement = nameEnd >= end ? undefined : names.statement(bytes, nameStart, nameEnd);
    this.leadBytes += size;
    if (portalEnd === start) this.push(REQUEST_BIND_UNNAMED, size, statement, names.unnamedPortal);
    else if (portalEnd < end) this.push(REQUEST_BIND, size, statement, names.newPortal(bytes, start, portalEnd));
    else {
      names.doubt();
      this.push(REQUEST_BIND, size, statement);
    }
  }

  private execute(bytes: Buffer, start: number, end: number, size: number): void {
    this.dialogue.session.reading.sent();
    const nameEnd = stringEnd(bytes, start, end);
    // "Maximum number of rows to return ... Zero denotes no limit." A portal that may stop half-way must be known again.
    const limited = nameEnd + 5 <= end && bytes.readInt32BE(nameEnd + 1) > 0;
    let portal: Portal | undefined;
    if (nameEnd < end) {
      portal = limited ? this.names.newPortal(bytes, start, nameEnd) : this.names.portal(bytes, start, nameEnd);
      if (portal !== undefined) portal.inParts = limited || portal.name !== '';
    }
    this.dialogue.batches ||= this.dialogue.ring.endsInBatch();
    const bytesSent = this.leadBytes + size;
    this.leadBytes = 0;
    this.push(REQUEST_EXECUTE, bytesSent, portal);
  }

  /** What Describe or Close names. */
  private named(bytes: Buffer, start: number, end: number): StatementName | Portal | undefined {
    const nameStart = start + 1;
    const nameEnd = stringEnd(bytes, nameStart, end);
    if (nameEnd >= end) return undefined;
    if (bytes[start] === OF_STATEMENT) return this.names.statement(bytes, nameStart, nameEnd);
    return this.names.portal(bytes, nameStart, nameEnd);
  }
}

/** @returns where the string that begins at `start` has its NUL; more than `end` when it has none */
function stringEnd(bytes: Buffer, start: number, end: number): number {
  for (let at = start; at < end; at++) if (bytes[at] === 0) return at;
  return end + 1;
}
