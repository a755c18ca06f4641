import type { SessionEffect, SqlStatement } from '../../sql/statement.ts';
import { Cursors } from './cursors.ts';
import { placeOfError, setError } from './error.ts';
import type { PostgresExchange } from './exchange.ts';
import { COPY_BOTH_RESPONSE, COPY_DATA, COPY_IN_RESPONSE, COPY_OUT_RESPONSE } from './messages.ts';
import { Portal, Prepared, type StatementName } from './names.ts';
import type { BackendParts, DialogueParts } from './parts.ts';
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
import {
  isUnknown,
  setRows,
  statementFromTag,
  TAG_CHANGE,
  TAG_COPY,
  TAG_FETCH,
  TAG_OTHER,
  TAG_PREPARED,
  TAG_SELECT,
  TagReader,
} from './tag.ts';

const UNKNOWN_SETTINGS: SessionEffect = { kind: 'unknown', settings: true };

/** What the server's messages say of the first request of the ring, and of its statement. Sizes are of messages, in bytes. */
export class Answers {
  /** The statement that is being answered: of the first request. */
  current: PostgresExchange | undefined;
  /** Of a Query: how many of its statements are done. */
  batchIndex = 0;
  /** Of a Query or FunctionCall: no more statements of it will be answered. */
  answered = false;
  /** Rows of the statement that is being answered, and whether it said which columns these have. */
  private rows = 0;
  private described = false;
  private describedAhead = false;
  /** A part of the answer was lost, but not its end. */
  private partLost = false;
  private copyingOut = false;
  /** Bytes of answers that prepared the next statement's. */
  private leadBytes = 0;
  private readonly cursors: Cursors;
  private readonly dialogue: DialogueParts;
  private readonly backend: BackendParts;
  private readonly tag = new TagReader();

  constructor(dialogue: DialogueParts, backend: BackendParts) {
    this.dialogue = dialogue;
    this.backend = backend;
    this.cursors = new Cursors(dialogue);
  }

  /** Statements that wait for the next Execute of their portal. */
  get suspendedCount(): number {
    return this.cursors.length;
  }

  /** What those statements cost (memory/cost.ts). */
  get cost(): number {
    return this.cursors.cost;
  }

  /** What was prepared, was so for a series of messages that is over. */
  endSeries(): void {
    this.leadBytes = 0;
    this.describedAhead = false;
  }

  /**
   * Whether the completion of the only statement that was asked for follows, though part of its answer was lost.
   * Then this is what is read next.
   */
  goToOnlyCompletion(): boolean {
    const { ring } = this.dialogue;
    const before = ring.beforeOnlyStatement();
    if (before < 0) return false;
    // It was completed: what prepared it was accepted.
    for (let i = 0; i < before; i++) this.dialogue.passOver();
    if (ring.subject instanceof Portal && ring.subject.inParts) return false;
    if (ring.kind === REQUEST_QUERY) {
      const statements = ring.subject as readonly unknown[];
      if (this.answered || statements.length !== this.batchIndex + 1) return false;
    }
    this.partLost = true;
    return true;
  }

  row(size: number): void {
    const exchange = this.current ?? this.begin();
    if (exchange === undefined) return;
    if (this.rows++ === 0 && exchange.firstRowUs === 0) exchange.firstRowUs = this.backend.frames.startUs;
    exchange.responseBytes += size;
  }

  /** ParameterDescription: RowDescription or NoData follows. */
  parameters(size: number): void {
    this.leadBytes += size;
  }

  forget(): void {
    this.current = undefined;
    this.batchIndex = 0;
    this.answered = false;
    this.copyingOut = false;
    this.partLost = false;
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

  /** Messages of the client were lost. */
  doubtSuspended(): void {
    this.cursors.doubtAll();
  }

  /** The kind of the first request. */
  first(): number {
    const { ring } = this.dialogue;
    while (ring.kind === REQUEST_COPY_END) ring.shift();
    return ring.kind;
  }

  /** The first byte of a statement's answer. @returns undefined when no statement is the next to be answered */
  private begin(): PostgresExchange | undefined {
    const { dialogue } = this;
    const { frames } = this.backend;
    const kind = this.first();
    if ((kind !== REQUEST_QUERY && kind !== REQUEST_EXECUTE) || this.answered) {
      this.backend.unexpected(kind);
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
    this.backend.idle = false;
    return exchange;
  }

  /** The rows that were not seen are in the tag; when the answer began is not known, if it was lost. */
  private mend(exchange: PostgresExchange): void {
    const { kind, rows } = this.tag;
    const returns =
      kind === TAG_SELECT || kind === TAG_FETCH || (kind === TAG_CHANGE && (this.rows > 0 || this.described));
    if (returns && rows > 0) this.rows = rows;
    if (exchange.responseBytes === 0) exchange.responseStartUs = 0;
  }

  /** The statement that is being answered is done; the next message is about what follows it. */
  private finish(exchange: PostgresExchange): void {
    const { ring } = this.dialogue;
    exchange.endUs = this.backend.frames.nowUs;
    this.current = undefined;
    this.copyingOut = false;
    this.partLost = false;
    if (ring.kind === REQUEST_QUERY) this.batchIndex++;
    else ring.shift();
    this.dialogue.emit(exchange);
  }

  complete(bytes: Buffer, start: number, end: number, size: number): void {
    const exchange = this.current ?? this.begin();
    if (exchange === undefined) return;
    const { dialogue, tag } = this;
    if (this.backend.frames.damaged) {
      tag.kind = TAG_OTHER;
      tag.rows = -1;
    } else {
      tag.read(bytes, start, end);
      if (isUnknown(exchange.statement)) exchange.statement = statementFromTag(bytes, start, end) ?? exchange.statement;
    }
    if (this.partLost) this.mend(exchange);
    exchange.responseBytes += size;
    setRows(exchange, tag, this.rows, this.described, this.copyingOut);
    if (tag.kind === TAG_COPY) {
      dialogue.copyIn = false;
      exchange.requestBytes += dialogue.ring.takeCopyEnd();
    }
    const ends = this.takeEffect(exchange.statement);
    this.finish(exchange);
    if (ends) this.cursors.finishAll();
  }

  /** What a statement that succeeded changes for those after it. @returns whether its transaction is over */
  private takeEffect(statement: SqlStatement | undefined): boolean {
    const { session, frontend } = this.dialogue;
    const { names } = frontend;
    const effect = statement?.effect;
    const ends = session.succeeded(statement, this.tag.kind);
    if (frontend.lostInFlight) session.pathLost();
    if (ends) names.endTransaction(false);
    if (effect === undefined) {
      if (statement === undefined && this.tag.kind === TAG_PREPARED) names.forgetStatements();
    } else if (effect.kind === 'execute') {
      const known = names.statementNamed(effect.name)?.prepared?.statement;
      const runs = known === undefined ? UNKNOWN_SETTINGS : known.effect;
      if (runs !== undefined) session.apply(runs);
      if (runs !== undefined) names.apply(runs);
    } else if (effect.kind === 'unknown') {
      if (this.tag.kind === TAG_PREPARED) names.forgetStatements();
    } else names.apply(effect);
    return ends;
  }

  /** ParseComplete. */
  parsed(size: number): void {
    const { subject } = this.dialogue.ring;
    if (this.first() === REQUEST_PARSE && subject instanceof Prepared) this.dialogue.frontend.names.parsed(subject);
    this.prepared(REQUEST_PARSE, size);
  }

  prepared(kind: number, size: number): void {
    this.leadBytes += size;
    this.backend.idle = false;
    if (this.first() === kind) this.dialogue.ring.shift();
    else if (!this.backend.foundAgain) this.backend.unexpected(this.first());
  }

  bound(size: number): void {
    const kind = this.first();
    const unnamed = kind === REQUEST_BIND_UNNAMED;
    // "An unnamed portal lasts until the next Bind statement specifying the unnamed portal as destination is issued."
    if (unnamed) this.cursors.finishUnnamed();
    if (unnamed || kind === REQUEST_BIND) {
      const { target, subject } = this.dialogue.ring;
      (target as Portal | undefined)?.bind((subject as StatementName | undefined)?.prepared);
    }
    this.prepared(unnamed ? REQUEST_BIND_UNNAMED : REQUEST_BIND, size);
  }

  rowDescription(size: number): void {
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

  closed(): void {
    const { ring, frontend } = this.dialogue;
    this.backend.idle = false;
    const kind = this.first();
    if (kind !== REQUEST_CLOSE) {
      this.backend.unexpected(kind);
      return;
    }
    const thing = ring.subject;
    ring.shift();
    this.cursors.finish(thing);
    frontend.names.closed(thing, ring.mayTarget(thing));
  }

  copyBegins(type: number, size: number): void {
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
    dialogue.becomeOpaque('postgresql_replication', this.backend.frames.nowUs);
  }

  copied(type: number, size: number): void {
    const exchange = this.current;
    if (exchange === undefined || !this.copyingOut) {
      this.backend.unexpected(this.first());
      return;
    }
    if (type === COPY_DATA && exchange.firstRowUs === 0) exchange.firstRowUs = this.backend.frames.startUs;
    exchange.responseBytes += size;
  }

  /** No statement was in the text. */
  emptyQuery(): void {
    this.backend.idle = false;
    const kind = this.first();
    if (kind === REQUEST_EXECUTE) this.dialogue.ring.shift();
    else if (kind === REQUEST_QUERY) this.answered = true;
    else this.backend.unexpected(kind);
  }

  suspend(size: number): void {
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
    exchange.endUs = this.backend.frames.nowUs;
    this.current = undefined;
    dialogue.ring.shift();
    this.cursors.suspend(portal, exchange);
  }

  functionResult(size: number): void {
    const kind = this.first();
    if (kind !== REQUEST_FUNCTION_CALL || this.answered) {
      this.backend.unexpected(kind);
      return;
    }
    const exchange = this.dialogue.newExchange(0);
    exchange.responseStartUs = this.backend.frames.startUs;
    exchange.responseBytes = size;
    this.endFunction(exchange);
  }

  private endFunction(exchange: PostgresExchange): void {
    exchange.endUs = this.backend.frames.nowUs;
    this.answered = true;
    this.backend.idle = false;
    // Which function it is does not stand in the message.
    if (!exchange.failed) this.dialogue.session.apply(UNKNOWN_SETTINGS);
    this.dialogue.emit(exchange);
  }

  error(bytes: Buffer, start: number, end: number, size: number): void {
    const { dialogue } = this;
    const { ring, session } = dialogue;
    const { current } = this;
    if (current !== undefined) {
      current.requestBytes += dialogue.copyIn ? dialogue.frontend.takeCopyBytes() : ring.takeCopyEnd();
    }
    const kind = this.first();
    dialogue.copyIn = false;
    switch (kind) {
      case REQUEST_QUERY:
        if (this.answered) break;
        dialogue.notRun(this.failText(bytes, start, end, size));
        this.answered = true;
        break;
      case REQUEST_EXECUTE:
        this.fail(this.current ?? this.begin()!, bytes, start, end, size);
        dialogue.skip(false);
        break;
      case REQUEST_PARSE:
      case REQUEST_BIND:
      case REQUEST_BIND_UNNAMED:
      case REQUEST_DESCRIBE:
        if (ring.subject instanceof Prepared) dialogue.frontend.names.parseFailed(ring.subject, false);
        // The old one is dropped first.
        if (kind === REQUEST_BIND_UNNAMED) (ring.target as Portal | undefined)?.bind(undefined);
        this.failAhead(bytes, start, end, size);
        dialogue.skip(true);
        break;
      case REQUEST_CLOSE:
        ring.shift();
        dialogue.skip(false);
        break;
      case REQUEST_FUNCTION_CALL: {
        if (this.answered) break;
        const exchange = dialogue.newExchange(0);
        exchange.responseStartUs = this.backend.frames.startUs;
        setError(exchange, bytes, start, end, size);
        this.endFunction(exchange);
        break;
      }
      case REQUEST_STARTUP:
      case REQUEST_SYNC:
      // The commit that Sync stands for may fail; its statements have been answered. Without a request: the server ends the connection.
    }
    this.backend.idle = false;
    session.failed();
  }

  /** A Query failed. @returns how many of its statements were not run, but for the one that failed */
  private failText(bytes: Buffer, start: number, end: number, size: number): number {
    const { ring } = this.dialogue;
    const { length } = ring.subject as readonly unknown[];
    const first = this.current === undefined && this.batchIndex === 0 && length > 1;
    if (!first) {
      this.fail(this.current ?? this.begin()!, bytes, start, end, size);
      return length - this.batchIndex;
    }
    // "The whole string is parsed first": an error in any of them, or none, may have come before the first was run.
    const ends = (ring.target as readonly number[] | undefined) ?? [];
    const place = this.backend.frames.damaged ? -1 : placeOfError(bytes, start, end, ends);
    this.batchIndex = Math.min(Math.max(0, place), length - 1);
    const exchange = this.begin()!;
    exchange.requestBytes = ring.size;
    if (place < 0) {
      exchange.statement = undefined;
      exchange.batchCount = 1;
    }
    this.fail(exchange, bytes, start, end, size);
    return place < 0 ? length : length - 1;
  }

  private fail(exchange: PostgresExchange, bytes: Buffer, start: number, end: number, size: number): void {
    setError(exchange, bytes, start, end, size);
    if (this.rows > 0) exchange.returnedRows = this.rows;
    this.finish(exchange);
  }

  /** The statement failed before it was run: the server logs it as any other that failed. */
  private failAhead(bytes: Buffer, start: number, end: number, size: number): void {
    const exchange = this.dialogue.newExchange(0);
    exchange.responseStartUs = this.backend.frames.startUs;
    exchange.responseBytes = this.leadBytes;
    this.leadBytes = 0;
    setError(exchange, bytes, start, end, size);
    this.finish(exchange);
  }
}
