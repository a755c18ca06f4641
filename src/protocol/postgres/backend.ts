import type { IncompleteReason } from '../../exchange/exchange.ts';
import { count } from '../../telemetry/counters.ts';
import { Cursors } from './cursors.ts';
import type { Dialogue } from './dialogue.ts';
import { setError } from './error.ts';
import type { PostgresExchange } from './exchange.ts';
import { FrameReader, type FrameSink } from './frames.ts';
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
import { Portal } from './names.ts';
import {
  NONE,
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
import { readParameters } from './startup.ts';
import { isUnknown, setRows, statementFromTag, TAG_COPY, TAG_OTHER, TagReader } from './tag.ts';

/** The server's direction: its messages answer the requests of the ring, in their order. */
export class Backend implements FrameSink {
  readonly frames: FrameReader;
  /** The statement that is being answered: of the first request. */
  current: PostgresExchange | undefined;
  /** Of a Query: how many of its statements are done. */
  batchIndex = 0;
  /** Of a Query or FunctionCall: no more statements of it will be answered. */
  answered = false;
  /** The last message, but for asynchronous ones, was ReadyForQuery; and when. */
  idle = false;
  readyUs = 0;
  /** Time of the last bytes. */
  lastUs = 0;
  /** What the server says belongs to requests that are not known, up to the next ReadyForQuery; with `adrift`, up to a time of silence. */
  private skipping: boolean;
  adrift = false;
  private skipReason: IncompleteReason = 'gap';
  /** A direction has come back into step: requests before the first one of the series may have been lost. */
  private foundAgain = false;
  /** Rows of the statement that is being answered, and whether it said which columns these have. */
  private rows = 0;
  private described = false;
  private describedAhead = false;
  private copyingOut = false;
  /** Bytes of answers that prepared the next statement's. */
  private leadBytes = 0;
  private readonly cursors: Cursors;
  private readonly dialogue: Dialogue;
  private readonly tag = new TagReader();

  constructor(dialogue: Dialogue, started: boolean) {
    this.dialogue = dialogue;
    this.frames = new FrameReader(this, backendMessages, started);
    this.skipping = !started;
    this.cursors = new Cursors(dialogue);
  }

  /** Statements that wait for the next Execute of their portal. */
  get suspendedCount(): number {
    return this.cursors.length;
  }

  message(type: number, bytes: Buffer, start: number, end: number, size: number): void {
    if (this.skipping && type !== READY_FOR_QUERY && type !== PARAMETER_STATUS) {
      this.idle = false;
      return;
    }
    switch (type) {
      case DATA_ROW: {
        const exchange = this.current ?? this.begin();
        if (exchange === undefined) break;
        if (this.rows++ === 0 && exchange.firstRowUs === 0) exchange.firstRowUs = this.frames.startUs;
        exchange.responseBytes += size;
        break;
      }
      case COMMAND_COMPLETE:
        this.complete(bytes, start, end, size);
        break;
      case READY_FOR_QUERY:
        this.ready(this.frames.damaged ? 0 : bytes[start]!);
        break;
      case BIND_COMPLETE:
        this.bound(size);
        break;
      case PARSE_COMPLETE:
        this.prepared(REQUEST_PARSE, size);
        break;
      case ROW_DESCRIPTION:
        this.rowDescription(size);
        break;
      case NO_DATA:
        this.prepared(REQUEST_DESCRIBE, size);
        break;
      case PARAMETER_DESCRIPTION:
        // RowDescription or NoData follows.
        this.leadBytes += size;
        break;
      case CLOSE_COMPLETE:
        this.closed();
        break;
      case COPY_DATA:
      case COPY_DONE:
        this.copied(type, size);
        break;
      case COPY_IN_RESPONSE:
      case COPY_OUT_RESPONSE:
      case COPY_BOTH_RESPONSE:
        this.copyBegins(type, size);
        break;
      case EMPTY_QUERY_RESPONSE:
        this.emptyQuery();
        break;
      case PORTAL_SUSPENDED:
        this.suspend(size);
        break;
      case ERROR_RESPONSE:
        this.error(bytes, start, end, size);
        break;
      case FUNCTION_CALL_RESPONSE:
        this.functionResult(size);
        break;
      case PARAMETER_STATUS:
        this.parameterStatus(bytes, start, end);
        break;
      // Authentication, keys, notices and notifications say nothing of a statement.
    }
  }

  cut(): void {
    this.lost('gap');
  }

  malformed(): void {
    this.lost('protocol_error');
    this.dialogue.parseError(this.frames.nowUs);
  }

  /** Messages were lost: what follows is nobody's answer until the next ReadyForQuery. */
  lost(reason: IncompleteReason): void {
    this.skipping = true;
    this.skipReason = reason;
    this.idle = false;
    this.leadBytes = 0;
  }

  /** Nothing tells any more which request is answered. */
  loseTrack(reason: IncompleteReason): void {
    this.lost(reason);
    this.adrift = true;
  }

  /** What the server says from now on answers the first request. */
  regainTrack(): void {
    this.skipping = false;
    this.adrift = false;
    this.foundAgain = true;
    this.forgetAnswer();
  }

  forgetAnswer(): void {
    this.current = undefined;
    this.batchIndex = 0;
    this.answered = false;
    this.copyingOut = false;
    this.rows = 0;
  }

  /** The statement of the first request, an Execute, when it goes on with one that was suspended. */
  resume(): PostgresExchange | undefined {
    const { ring } = this.dialogue;
    const exchange = this.cursors.resume(ring.subject);
    if (exchange === undefined) return undefined;
    exchange.requestBytes += ring.size;
    this.rows = Math.max(0, exchange.returnedRows);
    return exchange;
  }

  /** Portals that are left half-way: their statements returned what they returned. */
  finishSuspended(): void {
    this.cursors.finishAll();
  }

  /** The kind of the first request. */
  private first(): number {
    const { ring } = this.dialogue;
    while (ring.kind === REQUEST_COPY_END) ring.shift();
    return ring.kind;
  }

  /** The first byte of a statement's answer. @returns undefined when no statement is the next to be answered */
  private begin(): PostgresExchange | undefined {
    const { dialogue, frames } = this;
    const kind = this.first();
    if ((kind !== REQUEST_QUERY && kind !== REQUEST_EXECUTE) || this.answered) {
      this.unexpected(kind);
      return undefined;
    }
    this.rows = 0;
    const exchange = (kind === REQUEST_EXECUTE ? this.resume() : undefined) ?? dialogue.newExchange(this.batchIndex);
    if (exchange.responseStartUs === 0) exchange.responseStartUs = frames.startUs;
    exchange.responseBytes += this.leadBytes;
    this.leadBytes = 0;
    this.described = this.describedAhead;
    this.describedAhead = false;
    this.current = exchange;
    this.idle = false;
    return exchange;
  }

  /** The statement that is being answered is done; the next message is about what follows it. */
  private finish(exchange: PostgresExchange): void {
    const { ring } = this.dialogue;
    exchange.endUs = this.frames.nowUs;
    this.current = undefined;
    this.copyingOut = false;
    if (ring.kind === REQUEST_QUERY) this.batchIndex++;
    else ring.shift();
    this.dialogue.emit(exchange);
  }

  private complete(bytes: Buffer, start: number, end: number, size: number): void {
    const exchange = this.current ?? this.begin();
    if (exchange === undefined) return;
    const { dialogue, tag } = this;
    exchange.responseBytes += size;
    if (this.frames.damaged) {
      tag.kind = TAG_OTHER;
      tag.rows = -1;
    } else {
      tag.read(bytes, start, end);
      if (isUnknown(exchange.statement)) exchange.statement = statementFromTag(bytes, start, end) ?? exchange.statement;
    }
    setRows(exchange, tag, this.rows, this.described, this.copyingOut);
    if (tag.kind === TAG_COPY) {
      dialogue.copyIn = false;
      exchange.requestBytes += dialogue.ring.takeCopyEnd();
    }
    dialogue.session.succeeded(exchange.statement, tag.kind);
    this.finish(exchange);
  }

  private ready(status: number): void {
    const { dialogue, frames } = this;
    const { ring } = dialogue;
    this.idle = true;
    this.readyUs = frames.nowUs;
    if (!this.adrift) {
      const kind = this.first();
      if (this.skipping) this.catchUp();
      else if (this.current === undefined && kind !== NONE && kind <= REQUEST_SYNC) {
        ring.shift();
        this.forgetAnswer();
      } else if (kind !== NONE) {
        this.skipReason = 'protocol_error';
        this.catchUp();
        dialogue.parseError(frames.nowUs);
      }
    }
    this.leadBytes = 0;
    this.describedAhead = false;
    this.foundAgain = false;
    // Only a Sync that was not seen can have brought it.
    dialogue.skipToSync = false;
    // "Portals ... are destroyed at the end of the transaction."
    if (dialogue.session.ready(status)) this.finishSuspended();
  }

  /** ReadyForQuery, after answers that were not read: all that one Query or Sync asked for is answered. But which one, if there are several? */
  private catchUp(): void {
    const { dialogue } = this;
    const { nowUs } = this.frames;
    this.skipping = false;
    if (dialogue.ring.syncs > 1) {
      dialogue.giveUpAll(this.skipReason, nowUs);
      this.skipping = true;
      this.adrift = true;
    } else dialogue.giveUpToReady(this.skipReason, nowUs);
  }

  private prepared(kind: number, size: number): void {
    this.leadBytes += size;
    this.idle = false;
    if (this.first() === kind) this.dialogue.ring.shift();
    else if (!this.foundAgain) this.unexpected(this.first());
  }

  private bound(size: number): void {
    const unnamed = this.first() === REQUEST_BIND_UNNAMED;
    // "An unnamed portal lasts until the next Bind statement specifying the unnamed portal as destination is issued."
    if (unnamed) this.cursors.finishUnnamed();
    this.prepared(unnamed ? REQUEST_BIND_UNNAMED : REQUEST_BIND, size);
  }

  private rowDescription(size: number): void {
    if (this.first() === REQUEST_DESCRIBE) {
      this.prepared(REQUEST_DESCRIBE, size);
      this.describedAhead = true;
      return;
    }
    const exchange = this.current ?? this.begin();
    if (exchange === undefined) return;
    exchange.responseBytes += size;
    this.described = true;
  }

  private closed(): void {
    const { ring, frontend } = this.dialogue;
    this.idle = false;
    const kind = this.first();
    if (kind !== REQUEST_CLOSE) {
      this.unexpected(kind);
      return;
    }
    const thing = ring.subject;
    ring.shift();
    frontend.closed(thing);
    this.cursors.finish(thing);
  }

  private copyBegins(type: number, size: number): void {
    const exchange = this.current ?? this.begin();
    if (exchange === undefined) return;
    const { dialogue } = this;
    exchange.responseBytes += size;
    this.copyingOut = type === COPY_OUT_RESPONSE;
    if (type === COPY_IN_RESPONSE) dialogue.copyIn = !dialogue.ring.dropToCopyEnd();
    if (type !== COPY_BOTH_RESPONSE) return;
    // START_REPLICATION: what follows in both directions is a stream of changes, no statements.
    this.finish(exchange);
    this.answered = true;
    dialogue.becomeOpaque('postgresql_replication', this.frames.nowUs);
  }

  private copied(type: number, size: number): void {
    const exchange = this.current;
    if (exchange === undefined || !this.copyingOut) {
      this.unexpected(this.first());
      return;
    }
    if (type === COPY_DATA && exchange.firstRowUs === 0) exchange.firstRowUs = this.frames.startUs;
    exchange.responseBytes += size;
  }

  /** No statement was in the text. */
  private emptyQuery(): void {
    this.idle = false;
    const kind = this.first();
    if (kind === REQUEST_EXECUTE) this.dialogue.ring.shift();
    else if (kind === REQUEST_QUERY) this.answered = true;
    else this.unexpected(kind);
  }

  private suspend(size: number): void {
    const { dialogue } = this;
    const exchange = this.current ?? this.begin();
    if (exchange === undefined) return;
    exchange.responseBytes += size;
    exchange.returnedRows = this.rows;
    const portal = dialogue.ring.subject;
    if (dialogue.ring.kind !== REQUEST_EXECUTE || !(portal instanceof Portal)) {
      // A hole was in the name of the portal: what comes of it will look like another statement.
      exchange.incomplete = 'gap';
      this.finish(exchange);
      return;
    }
    exchange.endUs = this.frames.nowUs;
    this.current = undefined;
    dialogue.ring.shift();
    this.cursors.suspend(portal, exchange);
  }

  private functionResult(size: number): void {
    const kind = this.first();
    if (kind !== REQUEST_FUNCTION_CALL || this.answered) {
      this.unexpected(kind);
      return;
    }
    const exchange = this.dialogue.newExchange(0);
    exchange.responseStartUs = this.frames.startUs;
    exchange.responseBytes = size;
    this.endFunction(exchange);
  }

  private endFunction(exchange: PostgresExchange): void {
    exchange.endUs = this.frames.nowUs;
    this.answered = true;
    this.idle = false;
    this.dialogue.emit(exchange);
  }

  private error(bytes: Buffer, start: number, end: number, size: number): void {
    const { dialogue } = this;
    const { ring, session } = dialogue;
    const kind = this.first();
    dialogue.copyIn = false;
    switch (kind) {
      case REQUEST_QUERY:
        if (this.answered) break;
        this.fail(this.current ?? this.begin()!, bytes, start, end, size);
        this.answered = true;
        dialogue.notRun((ring.subject as readonly unknown[]).length - this.batchIndex);
        break;
      case REQUEST_EXECUTE:
        this.fail(this.current ?? this.begin()!, bytes, start, end, size);
        dialogue.skip(false);
        break;
      case REQUEST_PARSE:
      case REQUEST_BIND:
      case REQUEST_BIND_UNNAMED:
      case REQUEST_DESCRIBE:
        this.failAhead(bytes, start, end, size);
        dialogue.skip(true);
        break;
      case REQUEST_CLOSE:
        ring.shift();
        dialogue.skip(false);
        break;
      case REQUEST_FUNCTION_CALL: {
        const exchange = dialogue.newExchange(0);
        exchange.responseStartUs = this.frames.startUs;
        setError(exchange, bytes, start, end, size);
        this.endFunction(exchange);
        break;
      }
      case REQUEST_STARTUP:
      case REQUEST_SYNC:
      // The commit that Sync stands for may fail; its statements have been answered. Without a request: the server ends the connection.
    }
    this.idle = false;
    session.failed();
  }

  private fail(exchange: PostgresExchange, bytes: Buffer, start: number, end: number, size: number): void {
    setError(exchange, bytes, start, end, size);
    if (this.rows > 0) exchange.returnedRows = this.rows;
    this.finish(exchange);
  }

  /** The statement failed before it was run: the server logs it as any other that failed. */
  private failAhead(bytes: Buffer, start: number, end: number, size: number): void {
    const exchange = this.dialogue.newExchange(0);
    exchange.responseStartUs = this.frames.startUs;
    exchange.responseBytes = this.leadBytes;
    this.leadBytes = 0;
    setError(exchange, bytes, start, end, size);
    this.finish(exchange);
  }

  private parameterStatus(bytes: Buffer, start: number, end: number): void {
    const { session } = this.dialogue;
    if (this.frames.damaged) return;
    readParameters(bytes, start, end, (name, value) => session.parameterStatus(name, value));
  }

  /** A message that is no answer to the first request. */
  private unexpected(kind: number): void {
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
