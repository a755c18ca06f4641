import type { SqlStatement } from '../../sql/statement.ts';
import { count } from '../../telemetry/counters.ts';
import type { Dialogue } from './dialogue.ts';
import { FrameReader, type FrameSink } from './frames.ts';
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
import { NameTable, Portal, Prepared } from './names.ts';
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
  /** Number of the series of messages, up to a Sync. */
  series = 0;
  /** Messages were lost whose answers may still come: what is asked for and not answered is more than what the ring holds. */
  lostInFlight = false;
  private readonly dialogue: Dialogue;
  private readonly statements: NameTable<Prepared>;
  private readonly portals: NameTable<Portal>;
  private unnamedStatement: Prepared | undefined;
  /** What the unnamed portal runs; its Portal, once it is run in parts. */
  private unnamedSource: Prepared | undefined;
  private unnamedPortal: Portal | undefined;
  /** Bytes of the messages that prepare the next execution, and of copied data. */
  private leadBytes = 0;
  private copyBytes = 0;

  constructor(dialogue: Dialogue, started: boolean) {
    const { limits, counters } = dialogue.context;
    this.dialogue = dialogue;
    this.frames = new FrameReader(this, frontendMessages(limits.sqlTextBytes), started);
    this.statements = new NameTable(limits.sqlPreparedStatements, () => count(counters.sql, 'statement_evicted'));
    this.portals = new NameTable(limits.sqlPortals, () => count(counters.sql, 'portal_evicted'));
  }

  /** Statements and portals that are remembered. */
  get remembered(): number {
    return this.statements.size + this.portals.size;
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
        this.series++;
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
        this.push(REQUEST_DESCRIBE, size, this.sourceOf(bytes, start, end));
        break;
      case CLOSE:
        this.push(REQUEST_CLOSE, size, this.closedBy(bytes, start, end));
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
    dialogue.backend.answers.doubtSuspended();
    if (this.unnamedPortal !== undefined) this.unnamedPortal.doubted = true;
    for (const portal of this.portals.all()) portal.doubted = true;
    this.forgetUnnamed();
    this.portals.clear();
    this.leadBytes = 0;
    this.copyBytes = 0;
  }

  private forgetUnnamed(): void {
    this.unnamedStatement = undefined;
    this.unnamedSource = undefined;
    this.unnamedPortal = undefined;
  }

  /** Bytes of CopyData whose copy has ended before its end was sent. */
  takeCopyBytes(): number {
    const bytes = this.copyBytes;
    this.copyBytes = 0;
    return bytes;
  }

  /** CloseComplete: of a Prepared or a Portal, unless its name stands for another one by now. */
  closed(thing: unknown): void {
    if (thing instanceof Prepared) {
      if (thing === this.unnamedStatement) this.unnamedStatement = undefined;
      else this.statements.remove(thing);
    } else if (thing instanceof Portal) {
      if (thing === this.unnamedPortal) this.unnamedPortal = undefined;
      else this.portals.remove(thing);
    }
  }

  release(): void {
    this.lost();
    this.statements.clear();
    this.frames.stop();
  }

  /** The server never reads it. */
  private discarded(type: number): void {
    if (type === EXECUTE || type === QUERY || type === FUNCTION_CALL) this.dialogue.discarded(1);
  }

  private push(kind: number, size: number, subject: unknown): void {
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
    if (kind <= REQUEST_SYNC && ring.syncs > 0) dialogue.pipelines = true;
    if (ring.push(kind, frames.startUs, frames.offset, size, subject)) return;
    dialogue.overflow(frames.nowUs);
    ring.push(kind, frames.startUs, frames.offset, size, subject);
  }

  private query(bytes: Buffer, start: number, end: number, size: number): void {
    const { dialogue } = this;
    const { session, analyser } = dialogue;
    // "A simple Query message also destroys the unnamed statement" and portal.
    this.forgetUnnamed();
    this.leadBytes = 0;
    let statements: readonly SqlStatement[] = UNKNOWN_TEXT;
    if (end - start < size - HEADER_BYTES) this.countText();
    else {
      const textEnd = end > start && bytes[end - 1] === 0 ? end - 1 : end;
      const encoding = session.reading.encodingOf(bytes, start, textEnd);
      statements = analyser.analyse(bytes, start, textEnd, encoding, session.reading.backslash);
    }
    session.reading.sent();
    this.push(REQUEST_QUERY, size, statements);
  }

  private parse(bytes: Buffer, start: number, end: number, size: number): void {
    const { session, analyser } = this.dialogue;
    const nameEnd = bytes.indexOf(0, start);
    const textStart = nameEnd + 1;
    const textEnd = bytes.indexOf(0, textStart);
    this.leadBytes += size;
    if (nameEnd < 0 || nameEnd >= end) {
      this.forgetUnnamed();
      this.push(REQUEST_PARSE, size, undefined);
      return;
    }
    let statement: SqlStatement | undefined;
    if (textEnd < 0 || textEnd >= end) this.countText();
    else {
      const encoding = session.reading.encodingOf(bytes, textStart, textEnd);
      statement = analyser.analyseOne(bytes, textStart, textEnd, encoding, session.reading.backslash);
    }
    const prepared = new Prepared(bytes.toString('latin1', start, nameEnd), statement, this.series);
    if (nameEnd === start) this.unnamedStatement = prepared;
    else this.statements.set(bytes, start, nameEnd, prepared);
    this.push(REQUEST_PARSE, size, prepared);
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
    const prepared = nameEnd >= end ? undefined : this.statementNamed(bytes, nameStart, nameEnd);
    this.leadBytes += size;
    if (portalEnd === start) {
      this.unnamedSource = prepared;
      this.unnamedPortal = undefined;
      this.push(REQUEST_BIND_UNNAMED, size, prepared);
      return;
    }
    if (portalEnd < end) {
      this.portals.set(bytes, start, portalEnd, new Portal(bytes.toString('latin1', start, portalEnd), prepared));
    } else this.forgetUnnamed();
    this.push(REQUEST_BIND, size, prepared);
  }

  private execute(bytes: Buffer, start: number, end: number, size: number): void {
    this.dialogue.session.reading.sent();
    const nameEnd = stringEnd(bytes, start, end);
    // "Maximum number of rows to return ... Zero denotes no limit." A portal that may stop half-way must be known again.
    const limited = nameEnd + 5 <= end && bytes.readInt32BE(nameEnd + 1) > 0;
    let subject: Portal | Prepared | undefined;
    if (nameEnd === start) {
      if (limited) this.unnamedPortal ??= new Portal('', this.unnamedSource);
      subject = this.unnamedPortal ?? this.unnamedSource;
    } else if (nameEnd < end) {
      subject = this.portals.find(bytes, start, nameEnd);
      if (subject === undefined && limited) {
        subject = new Portal(bytes.toString('latin1', start, nameEnd), undefined);
        this.portals.set(bytes, start, nameEnd, subject);
      }
    }
    this.dialogue.batches ||= this.dialogue.ring.endsInBatch();
    const source = subject instanceof Portal ? subject.prepared : subject;
    if (source === undefined) count(this.dialogue.context.counters.sql, 'statement_not_seen');
    else if (source.series !== this.series) source.apart = true;
    const bytesSent = this.leadBytes + size;
    this.leadBytes = 0;
    this.push(REQUEST_EXECUTE, bytesSent, subject);
  }

  private statementNamed(bytes: Buffer, start: number, end: number): Prepared | undefined {
    return start === end ? this.unnamedStatement : this.statements.find(bytes, start, end);
  }

  /** What Describe asks for. */
  private sourceOf(bytes: Buffer, start: number, end: number): Prepared | undefined {
    const nameStart = start + 1;
    const nameEnd = stringEnd(bytes, nameStart, end);
    if (nameEnd >= end) return undefined;
    if (bytes[start] === OF_STATEMENT) return this.statementNamed(bytes, nameStart, nameEnd);
    return nameEnd === nameStart ? this.unnamedSource : this.portals.find(bytes, nameStart, nameEnd)?.prepared;
  }

  private closedBy(bytes: Buffer, start: number, end: number): Prepared | Portal | undefined {
    const nameStart = start + 1;
    const nameEnd = stringEnd(bytes, nameStart, end);
    if (nameEnd >= end) return undefined;
    if (bytes[start] === OF_STATEMENT) return this.statementNamed(bytes, nameStart, nameEnd);
    return nameEnd === nameStart ? this.unnamedPortal : this.portals.find(bytes, nameStart, nameEnd);
  }
}

/** @returns where the string that begins at `start` has its NUL; more than `end` when it has none */
function stringEnd(bytes: Buffer, start: number, end: number): number {
  for (let at = start; at < end; at++) if (bytes[at] === 0) return at;
  return end + 1;
}
