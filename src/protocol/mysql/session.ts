import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { TransactionState } from '../../exchange/sql.ts';
import type { SqlAnalyser, TextEncoding } from '../../sql/analyser.ts';
import { ReadingRules } from '../../sql/reading.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { count } from '../../telemetry/counters.ts';
import type { LayerContext } from '../layer.ts';
import { Recovery } from '../shared/recovery.ts';
import { Changes } from './changes.ts';
import { encodingOfCollation } from './charset.ts';
import { type Command, CommandQueue } from './commands.ts';
import { MysqlExchange } from './exchange.ts';
import type { FieldReader } from './fields.ts';
import type { ClientHello, Greeting } from './handshake.ts';
import type { MysqlLimits } from './limits.ts';
import { Prepared, StatementTable } from './statements.ts';
import {
  CLIENT_COMPRESS,
  CLIENT_DEPRECATE_EOF,
  CLIENT_MULTI_STATEMENTS,
  CLIENT_OPTIONAL_RESULTSET_METADATA,
  CLIENT_PROTOCOL_41,
  CLIENT_QUERY_ATTRIBUTES,
  CLIENT_SESSION_TRACK,
  CLIENT_TRANSACTIONS,
  CLIENT_ZSTD_COMPRESSION_ALGORITHM,
  COM_CHANGE_USER,
  COM_DROP_DB,
  COM_INIT_DB,
  COM_RESET_CONNECTION,
  COM_STMT_FETCH,
  COM_STMT_PREPARE,
  LAST_PREPARED,
  MARIADB_CLIENT_CACHE_METADATA,
  MARIADB_CLIENT_COM_MULTI,
  SERVER_SESSION_STATE_CHANGED,
  SERVER_STATUS_IN_TRANS,
} from './wire.ts';

/**
 * Where a connection stands. The server speaks first: its greeting, the client's response, authentication in as many messages as its method
 * needs, then commands and answers.
 */
export type Phase = 'greeting' | 'response' | 'authentication' | 'command';

/** Session state changes (session_track.h). */
const SESSION_TRACK_SYSTEM_VARIABLES = 0;
const SESSION_TRACK_SCHEMA = 1;

/** What both directions of a connection share. */
export class Session {
  /** That of the layer inside TLS, once there is one. */
  context: LayerContext<MysqlLimits>;
  readonly analyser: SqlAnalyser;
  readonly queue = new CommandQueue();
  readonly statements: StatementTable;
  phase: Phase = 'greeting';
  /** Statements are counted, and no more: the server's answers are passed over. */
  onlyCounts = false;
  /** Nothing more is read. */
  over = false;
  /** What follows is TLS, compressed packets: the layer has to see to it. */
  tlsAsked = false;
  compressionAgreed = false;

  // What was agreed; undefined: not known, because the beginning was not seen. What the other end sends tells then.
  deprecateEof: boolean | undefined = undefined;
  queryAttributes: boolean | undefined = undefined;
  optionalMetadata: boolean | undefined = undefined;
  multiStatements: boolean | undefined = undefined;
  sessionTrack: boolean | undefined = undefined;
  comMulti = false;
  /** OK packets tell the server's status. */
  private statusTold = true;

  system: 'mysql' | 'mariadb' = 'mysql';
  namespace = '';
  transaction: TransactionState = '';
  readonly rules = new ReadingRules();
  readonly changes: Changes;
  /** What the client said of its character set when it logged in. */
  private firstEncoding: TextEncoding | undefined = undefined;
  /** Commands that wait and may change how texts are read; and those that may switch several statements in one text on or off. */
  private changesWaiting = 0;
  private optionsWaiting = 0;
  /** Commands that wait and prepare a statement; and those that drop all. */
  private preparingWaiting = 0;
  private forgettingWaiting = 0;
  /** What COM_STMT_PREPARE prepared last, and what it was asked to prepare. */
  lastPrepared: Prepared | undefined = undefined;

  /** MySQL before 5.7. */
  isOld = false;
  /** The client is sending the content of a local file. */
  infile = false;
  readonly recovery: Recovery;
  private greeting: Greeting | undefined = undefined;
  private parseErrors = 0;

  constructor(context: LayerContext<MysqlLimits>, analyser: SqlAnalyser) {
    this.context = context;
    this.analyser = analyser;
    this.recovery = new Recovery(context.limits.sqlQuietUs);
    this.statements = new StatementTable(context.limits.sqlPreparedStatements, context.memory);
    this.changes = new Changes(this);
    // Of a connection that is older than the capture.
    this.rules.saidEncoding('utf8');
    this.rules.doubtEncoding();
  }

  /** What is held between calls (memory/cost.ts). */
  get cost(): number {
    return this.over ? 0 : this.queue.cost + this.statements.cost + this.changes.cost + 2 * this.namespace.length;
  }

  // --- Connection phase --------------------------------------------------------------------------------------------------------------

  greeted(greeting: Greeting): void {
    this.greeting = greeting;
    this.system = greeting.system;
    this.isOld = greeting.system === 'mysql' && /^(?:[34]|5\.[0-6])\./.test(greeting.version);
    this.transaction = 'idle';
    this.changes.began(greeting.status);
    this.phase = 'response';
  }

  /**
   * The client has said what it can. What both can is in force; when the greeting was not seen, what the client can is not known to be in
   * force, and what it cannot is known not to be.
   */
  agreed(hello: ClientHello): void {
    const server = this.greeting;
    const both = server === undefined ? hello.capabilities : hello.capabilities & server.capabilities;
    const extended = server === undefined ? hello.extended : hello.extended & server.extended;
    const inForce = (possible: boolean): boolean | undefined =>
      possible && server === undefined ? undefined : possible;
    this.deprecateEof = inForce((both & CLIENT_DEPRECATE_EOF) !== 0);
    this.queryAttributes = inForce((both & CLIENT_QUERY_ATTRIBUTES) !== 0);
    this.multiStatements = inForce((both & CLIENT_MULTI_STATEMENTS) !== 0);
    this.sessionTrack = inForce((both & CLIENT_SESSION_TRACK) !== 0);
    this.optionalMetadata = inForce(
      (both & CLIENT_OPTIONAL_RESULTSET_METADATA) !== 0 || (extended & MARIADB_CLIENT_CACHE_METADATA) !== 0,
    );
    this.comMulti = (extended & MARIADB_CLIENT_COM_MULTI) !== 0;
    // Once the server has accepted the client ("Compression").
    this.compressionAgreed = (both & (CLIENT_COMPRESS | CLIENT_ZSTD_COMPRESSION_ALGORITHM)) !== 0;
    this.statusTold = (both & (CLIENT_PROTOCOL_41 | CLIENT_TRANSACTIONS)) !== 0;
    this.changes.agreed(this.sessionTrack === true);
    this.changeEncoding(encodingOfCollation(hello.collation));
    this.namespace = hello.database;
    this.phase = 'authentication';
  }

  // --- What the server says of the session ---------------------------------------------------------------------------------------------

  /** What the last OK or EOF packet said. OK_Packet: rows changed, -1 when it does not say. */
  affectedRows = -1;
  /** Server Status Flags; undefined when it said nothing of them. */
  status: number | undefined = undefined;
  /** Session state changes: the current database, character_set_client. */
  toldSchema: string | undefined = undefined;
  toldEncoding: string | undefined = undefined;

  /** Reads an OK_Packet whose header was read. @returns Server Status Flags, 0 when it says nothing of them */
  readOk(fields: FieldReader): number {
    this.status = undefined;
    this.toldSchema = undefined;
    this.toldEncoding = undefined;
    const affected = fields.lengthEncoded();
    // last_insert_id
    fields.lengthEncoded();
    this.affectedRows = fields.failed || affected > Number.MAX_SAFE_INTEGER ? -1 : affected;
    if (!this.statusTold || fields.remaining < 2) return 0;
    const status = this.takeStatus(fields.u16());
    if ((status & SERVER_SESSION_STATE_CHANGED) !== 0 && this.sessionTrack !== false) this.readStateChanges(fields);
    return status;
  }

  /** EOF_Packet: a header, then with CLIENT_PROTOCOL_41 two bytes of warnings and two of status. */
  readEof(fields: FieldReader): number {
    this.status = undefined;
    this.toldSchema = undefined;
    this.toldEncoding = undefined;
    if (fields.remaining < 4) return 0;
    fields.skip(2);
    return this.takeStatus(fields.u16());
  }

  private takeStatus(status: number): number {
    this.status = status;
    this.transaction = (status & SERVER_STATUS_IN_TRANS) !== 0 ? 'active' : 'idle';
    return status;
  }

  private readStateChanges(fields: FieldReader): void {
    // warnings, info
    fields.skip(2);
    fields.skipString();
    const total = fields.lengthEncoded();
    if (fields.failed || total > fields.remaining) return;
    const end = fields.position + total;
    while (fields.position < end && !fields.failed) {
      const type = fields.u8();
      const next = fields.lengthEncoded() + fields.position;
      if (fields.failed || next > end) return;
      if (type === SESSION_TRACK_SCHEMA) this.toldSchema = fields.string();
      else if (type === SESSION_TRACK_SYSTEM_VARIABLES) this.readVariables(fields, next);
      fields.position = next;
    }
  }

  /** One name with its value; MariaDB: as many as there are. */
  private readVariables(fields: FieldReader, end: number): void {
    while (fields.position < end && !fields.failed) {
      const name = fields.string();
      const value = fields.string();
      if (name === 'character_set_client' && !fields.failed) this.toldEncoding = value;
    }
  }

  /** COM_RESET_CONNECTION, COM_CHANGE_USER: prepared statements and variables are gone. */
  forget(): void {
    for (const prepared of this.statements.values()) this.closeCursor(prepared);
    this.statements.clear();
    this.lastPrepared = undefined;
    this.transaction = 'idle';
    this.changes.forget();
    this.rules.saidEncoding(this.firstEncoding ?? 'utf8');
    // MariaDB goes back to what the client said first, MySQL to its own default.
    if (this.system === 'mysql' || this.firstEncoding === undefined) this.rules.doubtEncoding();
  }

  /** The handshake and COM_CHANGE_USER name a character set. A server may be configured to ignore it, and to take its own. */
  changeEncoding(encoding: TextEncoding): void {
    this.firstEncoding = encoding;
    this.rules.saidEncoding(encoding);
    const own = this.greeting?.collation ?? 0;
    if (encodingOfCollation(own) === 'unsafe') this.rules.doubtEncoding();
  }

  // --- Commands ------------------------------------------------------------------------------------------------------------------------

  /** A command waits for its answer. */
  sent(command: Command): void {
    if (command.changesRules) {
      this.changesWaiting++;
      this.rules.sent();
    }
    if (command.multiStatements !== undefined) this.optionsWaiting++;
    if (isPreparing(command)) this.preparingWaiting++;
    if (isForgetting(command)) this.forgettingWaiting++;
  }

  /** Whether a text that is sent now may hold several statements; undefined: not known. */
  get multiStatementsNext(): boolean | undefined {
    return this.optionsWaiting === 0 ? this.multiStatements : undefined;
  }

  /** Everything before this command is answered: its statement runs as the session is now. */
  begin(command: Command): void {
    command.begun = true;
    if (command.statementId >= 0) this.resolve(command);
    if (this.multiStatements === false && command.statements.length > 1) {
      command.statements = NONE;
      if (command.exchange !== undefined) {
        command.exchange.statement = command.statement;
        command.exchange.batchCount = 1;
      }
    }
    const { exchange } = command;
    if (exchange === undefined) return;
    exchange.namespace = this.namespace;
    exchange.transaction = this.transaction;
  }

  /** The command was sent when it was not known what its number stands for. */
  private resolve(command: Command): void {
    const { statementId, exchange } = command;
    const prepared = this.preparedOf(statementId) ?? this.notSeen(statementId);
    command.prepared = prepared;
    if (exchange === undefined) return;
    this.closeCursor(prepared);
    exchange.statement = prepared.statement;
  }

  /** Takes the command that was sent first off the queue. */
  shift(command: Command): void {
    const { changesRules, multiStatements } = command;
    const preparing = isPreparing(command);
    const forgetting = isForgetting(command);
    this.queue.shift();
    if (changesRules && --this.changesWaiting === 0) this.rules.settled();
    if (multiStatements !== undefined) this.optionsWaiting--;
    if (preparing) this.preparingWaiting--;
    if (forgetting) this.forgettingWaiting--;
  }

  /** The answer was not seen: it may have been run. */
  private unanswered(command: Command): void {
    const { kind, exchange } = command;
    if (command.changesRules) this.changes.lost();
    if (command.multiStatements !== undefined) this.multiStatements = undefined;
    if (isPreparing(command) || isForgetting(command)) this.lastPrepared = undefined;
    const effect = exchange?.statement?.effect?.kind;
    if (
      kind === COM_INIT_DB ||
      kind === COM_CHANGE_USER ||
      kind === COM_DROP_DB ||
      effect === 'use' ||
      effect === 'drop_database'
    )
      this.namespace = '';
  }

  // --- Prepared statements -------------------------------------------------------------------------------------------------------------

  /** @param id -1 stands for the statement that was prepared last (MariaDB), for every command that names one */
  preparedOf(id: number): Prepared | undefined {
    return id === LAST_PREPARED ? this.lastPrepared : this.statements.use(id);
  }

  /** Whether an answer to come decides what this number stands for. */
  decidedLater(id: number): boolean {
    if (this.forgettingWaiting > 0) return true;
    return this.preparingWaiting > 0 && (id === LAST_PREPARED || this.statements.use(id) === undefined);
  }

  /** A number that no answer to COM_STMT_PREPARE has given. */
  notSeen(id: number): Prepared {
    const prepared = new Prepared(id, undefined, -1);
    if (id === LAST_PREPARED) return prepared;
    count(this.context.counters.sql, 'statement_not_seen');
    this.remember(prepared);
    return prepared;
  }

  /** Keeps a prepared statement under its number. */
  remember(prepared: Prepared): void {
    const before = this.statements.size;
    const evicted = this.statements.set(prepared.id, prepared);
    if (evicted === undefined) return;
    if (this.statements.size === before) count(this.context.counters.sql, 'statement_evicted');
    this.closeCursor(evicted);
  }

  /** The server does not know it, or not any more. */
  discard(id: number): void {
    const prepared = this.preparedOf(id);
    if (prepared === undefined) return;
    this.statements.delete(prepared.id);
    if (this.lastPrepared === prepared) this.lastPrepared = undefined;
    this.closeCursor(prepared);
  }

  // --- Exchanges -----------------------------------------------------------------------------------------------------------------------

  newExchange(command: Command, statement: SqlStatement | undefined, index: number): MysqlExchange {
    const { connection } = this.context;
    const exchange = new MysqlExchange(connection, this.system, statement, this.namespace, this.transaction);
    exchange.startUs = command.startUs;
    exchange.traceOffset = command.offset;
    exchange.streamOffset = command.offset + index;
    exchange.requestBytes = command.requestBytes;
    exchange.batchIndex = index;
    return exchange;
  }

  /** Emits an exchange as it is: whole, unless part of it was lost. */
  finish(exchange: MysqlExchange): void {
    const { counters } = this.context;
    count(counters.exchanges, 'mysql');
    if (exchange.mixed) {
      exchange.returnedRows = -1;
      exchange.affectedRows = -1;
      exchange.firstRowUs = 0;
    }
    if (exchange.damage !== undefined) {
      exchange.incomplete = exchange.damage;
      count(counters.incomplete, exchange.damage);
    }
    this.context.emit(exchange);
  }

  giveUp(exchange: MysqlExchange, reason: IncompleteReason, timeUs: number): void {
    exchange.damage ??= reason;
    exchange.endUs = timeUs;
    this.finish(exchange);
  }

  /** Takes the command that was sent first off the queue; its statement will not be answered any more. */
  giveUpHead(command: Command, reason: IncompleteReason, timeUs: number): void {
    const { damage } = command;
    const exchange = this.exchangeOf(command);
    if (command.kind === COM_STMT_FETCH && command.prepared !== undefined) command.prepared.cursor = undefined;
    if (exchange !== undefined && command.held !== undefined) exchange.mixed = true;
    if (!command.begun) this.begin(command);
    this.unanswered(command);
    this.shift(command);
    this.infile = false;
    if (exchange !== undefined) this.giveUp(exchange, damage ?? reason, Math.max(timeUs, exchange.startUs));
  }

  giveUpAll(reason: IncompleteReason, timeUs: number): void {
    for (let head = this.queue.head; head !== undefined; head = this.queue.head) this.giveUpHead(head, reason, timeUs);
  }

  /** The statement that an answer to this command belongs to. */
  exchangeOf(command: Command): MysqlExchange | undefined {
    return command.kind === COM_STMT_FETCH ? command.prepared?.cursor : command.exchange;
  }

  /** Rows that were not fetched will not be: the statement ends where its last rows did. */
  closeCursor(prepared: Prepared | undefined): void {
    const cursor = prepared?.cursor;
    if (cursor === undefined) return;
    prepared!.cursor = undefined;
    this.finish(cursor);
  }

  /** Commands were lost: among them there may have been a fetch from any of them. */
  doubtCursors(): void {
    for (const { cursor } of this.statements.values()) if (cursor !== undefined) cursor.damage ??= 'gap';
  }

  // --- Ends ----------------------------------------------------------------------------------------------------------------------------

  /** @returns false when there were too many of them: the connection is given up */
  parseError(timeUs: number): boolean {
    count(this.context.counters.parseErrors, 'mysql');
    if (++this.parseErrors <= this.context.limits.sqlParseErrors) return true;
    count(this.context.counters.connections.givenUp, 'protocol_error');
    this.giveUpAll('protocol_error', timeUs);
    this.leave();
    return false;
  }

  /** More commands wait than the limit allows: answers cannot be assigned from now on. Statements are still counted. */
  overflow(timeUs: number): void {
    count(this.context.counters.connections.givenUp, 'pipeline_limit');
    this.giveUpAll('limit', timeUs);
    this.onlyCounts = true;
  }

  /** The rest of the connection is not for this parser. */
  leave(): void {
    this.release();
    this.context.mute();
  }

  release(): void {
    for (const prepared of this.statements.values()) this.closeCursor(prepared);
    this.statements.clear();
    this.queue.release();
    this.over = true;
  }
}

const NONE: readonly SqlStatement[] = [];

function isPreparing({ kind }: Command): boolean {
  return kind === COM_STMT_PREPARE;
}

function isForgetting({ kind }: Command): boolean {
  return kind === COM_RESET_CONNECTION || kind === COM_CHANGE_USER;
}
