import type { IncompleteReason } from '../../exchange/exchange.ts';
import { bufferCost } from '../../memory/cost.ts';
import type { SqlAnalyser } from '../../sql/analyser.ts';
import type { SqlLimits } from '../../sql/limits.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { count } from '../../telemetry/counters.ts';
import type { LayerContext } from '../layer.ts';
import { Outcomes } from '../shared/outcomes.ts';
import { Recovery } from '../shared/recovery.ts';
import { Backend } from './backend.ts';
import { PostgresExchange } from './exchange.ts';
import { Frontend, UNKNOWN_TEXT } from './frontend.ts';
import { Portal, Prepared, type StatementName } from './names.ts';
import {
  NONE,
  REQUEST_BIND,
  REQUEST_BIND_UNNAMED,
  REQUEST_CLOSE,
  REQUEST_EXECUTE,
  REQUEST_FUNCTION_CALL,
  REQUEST_PARSE,
  REQUEST_QUERY,
  REQUEST_SYNC,
  RequestRing,
} from './ring.ts';
import { Session } from './session.ts';

/** What both directions of a connection share. Everything that is emitted or counted as an exchange goes through here. */
export class Dialogue {
  readonly context: LayerContext<SqlLimits>;
  readonly analyser: SqlAnalyser;
  readonly session: Session;
  readonly ring: RequestRing;
  readonly frontend: Frontend;
  readonly backend: Backend;
  /** After an error in the extended protocol the server discards what comes, up to the next Sync, which was not seen yet. */
  skipToSync = false;
  /** The server takes in a copy whose end was not seen yet: whatever the client sends before it is part of it, or ignored. */
  copyIn = false;
  readonly recovery: Recovery;
  /** An Execute was seen to be sent before the answer to the one before it, without a Sync between them. */
  batches = false;
  /** Nothing more is read. */
  over = false;
  private readonly outcomes: Outcomes;
  /** What failed was the preparation of the next execution that is discarded: it has its span already. */
  private failedAhead = false;

  constructor(context: LayerContext<SqlLimits>, analyser: SqlAnalyser, started: boolean) {
    this.context = context;
    this.analyser = analyser;
    this.session = new Session(context.limits.sqlSavepoints, context.counters.sql);
    this.recovery = new Recovery(context.limits.sqlQuietUs);
    this.outcomes = new Outcomes(context, 'postgresql', context.limits.sqlParseErrors);
    this.ring = new RequestRing(context.limits.sqlPipelineDepth);
    this.frontend = new Frontend(this, started);
    this.backend = new Backend(this, started);
  }

  /** What is held between calls (memory/cost.ts). */
  get cost(): number {
    if (this.over) return 0;
    const { ring, frontend, backend, session } = this;
    return ring.cost + frontend.cost + bufferCost(backend.frames.held) + backend.answers.cost + session.cost;
  }

  /** The exchange of the first request, a Query or Execute; of a Query its k-th statement. */
  newExchange(batchIndex: number): PostgresExchange {
    const { ring, session, context } = this;
    let statement: SqlStatement | undefined;
    let prepared = false;
    let batchCount = 1;
    let { size } = ring;
    if (ring.kind === REQUEST_QUERY) {
      const statements = ring.subject as readonly SqlStatement[];
      statement = statements[batchIndex];
      batchCount = Math.max(statements.length, batchIndex + 1);
      // The message is counted once.
      if (batchIndex > 0) size = 0;
    } else if (ring.kind !== REQUEST_FUNCTION_CALL) {
      const source = this.source();
      statement = source?.statement;
      prepared = source === undefined || source.apart;
    }
    const exchange = new PostgresExchange(
      context.connection,
      statement,
      prepared,
      session.namespace,
      session.transaction,
      ring.startUs,
      ring.offset,
      size,
      batchIndex,
      batchCount,
    );
    if (ring.subject instanceof Portal && ring.subject.partLost) exchange.incomplete = 'gap';
    return exchange;
  }

  /** What was prepared of the first request, when it is one of the extended protocol. */
  private source(): Prepared | undefined {
    const { ring, frontend } = this;
    const { subject } = ring;
    if (subject instanceof Prepared) return subject;
    const source = (subject as StatementName | Portal | undefined)?.prepared;
    if (ring.kind === REQUEST_EXECUTE) {
      if (source === undefined) count(this.context.counters.sql, 'statement_not_seen');
      else if (source.series !== frontend.names.series) source.apart = true;
    }
    return source;
  }

  emit(exchange: PostgresExchange): void {
    this.outcomes.emit(exchange);
  }

  /** Statements that the server was asked to run and did not, because of an error before them: its own log does not know them. */
  notRun(statements: number): void {
    if (statements > 0) count(this.context.counters.incomplete, 'not_run', statements);
  }

  /** Executions that the server discards, in their order. */
  discarded(executions: number): void {
    if (this.failedAhead && executions > 0) {
      this.failedAhead = false;
      executions--;
    }
    this.notRun(executions);
  }

  /**
   * Takes the first request off the ring: nothing more is to be known of it.
   *
   * @param certain the connection ended: what had not begun did not run
   */
  giveUpFirst(reason: IncompleteReason, timeUs: number, certain = false): void {
    const { ring } = this;
    const { answers } = this.backend;
    switch (ring.kind) {
      case REQUEST_QUERY: {
        const statements = ring.subject as readonly SqlStatement[];
        if (answers.answered) break;
        const first = answers.batchIndex;
        let next = first;
        if (answers.current !== undefined || next < statements.length || (statements === UNKNOWN_TEXT && first === 0)) {
          this.giveUp(answers.current ?? this.newExchange(first), reason, timeUs);
          next++;
        }
        if (certain) this.notRun(statements.length - next);
        else for (; next < statements.length; next++) this.giveUp(this.newExchange(next), reason, timeUs);
        break;
      }
      case REQUEST_EXECUTE:
        this.giveUp(answers.current ?? answers.resume() ?? this.newExchange(0), reason, timeUs);
        if (ring.subject instanceof Portal) ring.subject.partLost = true;
        break;
      case REQUEST_FUNCTION_CALL:
        if (!answers.answered) this.giveUp(this.newExchange(0), reason, timeUs);
        break;
    }
    this.passOver();
    answers.forget();
  }

  /** Takes the first request off the ring, whose answer was lost, and takes it for done. */
  passOver(): void {
    const { ring } = this;
    const { names } = this.frontend;
    const { subject } = ring;
    switch (ring.kind) {
      case REQUEST_QUERY:
        names.queried();
        break;
      case REQUEST_PARSE:
        if (subject instanceof Prepared) names.parseUnanswered(subject);
        break;
      case REQUEST_BIND:
      case REQUEST_BIND_UNNAMED:
        (ring.target as Portal | undefined)?.bind((subject as StatementName | undefined)?.prepared);
        break;
      case REQUEST_CLOSE:
        names.closed(subject, true);
        break;
    }
    ring.shift();
  }

  /** Up to and with the first request that ReadyForQuery answers. */
  giveUpToReady(reason: IncompleteReason, timeUs: number): void {
    const { ring } = this;
    const before = ring.syncs;
    while (ring.length > 0 && ring.syncs === before) this.giveUpFirst(reason, timeUs);
  }

  giveUpAll(reason: IncompleteReason, timeUs: number, certain = false): void {
    const { ring } = this;
    while (ring.length > 0) this.giveUpFirst(reason, timeUs, certain);
  }

  /**
   * The server discards what follows, up to the next Sync.
   *
   * @param ahead the failure was before the statement's execution, which is the first one that is discarded
   */
  skip(ahead: boolean): void {
    const { ring } = this;
    this.failedAhead = ahead;
    while (ring.kind !== NONE && ring.kind !== REQUEST_SYNC) {
      if (ring.kind === REQUEST_EXECUTE || ring.kind === REQUEST_FUNCTION_CALL) this.discarded(1);
      else if (ring.kind === REQUEST_QUERY) this.notRun(Math.max(1, (ring.subject as readonly SqlStatement[]).length));
      else if (ring.subject instanceof Prepared) this.frontend.names.parseFailed(ring.subject, true);
      ring.shift();
    }
    this.skipToSync = ring.kind === NONE;
  }

  private giveUp(exchange: PostgresExchange, reason: IncompleteReason, timeUs: number): void {
    if (this.copyIn && exchange === this.backend.answers.current)
      exchange.requestBytes += this.frontend.takeCopyBytes();
    exchange.incomplete = reason;
    exchange.endUs = timeUs;
    this.emit(exchange);
  }

  /** Too many requests wait: their answers will not be found. */
  overflow(timeUs: number): void {
    this.giveUpAll('limit', timeUs);
    this.backend.loseTrack('limit');
  }

  parseError(timeUs: number): void {
    if (this.outcomes.parseError()) this.leave('protocol_error', timeUs);
  }

  /** Gives the connection up. */
  die(reason: IncompleteReason, timeUs: number): void {
    count(this.context.counters.connections.givenUp, reason);
    this.leave(reason, timeUs);
  }

  private leave(reason: IncompleteReason, timeUs: number): void {
    this.end(reason, timeUs);
    this.context.mute();
  }

  /** The rest of the connection is passed over. @param what a key of `connections.opaque` */
  becomeOpaque(what: string, timeUs: number): void {
    count(this.context.counters.connections.opaque, what);
    this.leave('limit', timeUs);
  }

  end(reason: IncompleteReason, timeUs: number): void {
    if (this.over) return;
    this.over = true;
    this.giveUpAll(reason, timeUs, true);
    this.backend.answers.finishSuspended();
    this.ring.clear();
    this.frontend.release();
    this.backend.frames.stop();
  }
}
