import type { IncompleteReason, TransactionState } from '../../exchange/exchange.ts';
import type { BackslashRule, SqlAnalyser, TextEncoding } from '../../sql/analyser.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { count } from '../../telemetry/counters.ts';
import type { LayerContext } from '../layer.ts';
import { encodingOfCollation, encodingOfName } from './charset.ts';
import { type Command, CommandQueue } from './commands.ts';
import { MysqlExchange } from './exchange.ts';
import type { FieldReader } from './fields.ts';
import type { ClientHello, Greeting } from './handshake.ts';
import { type Prepared, StatementTable } from './statements.ts';
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
  COM_STMT_FETCH,
  MARIADB_CLIENT_CACHE_METADATA,
  MARIADB_CLIENT_COM_MULTI,
  SERVER_SESSION_STATE_CHANGED,
  SERVER_STATUS_IN_TRANS,
  SERVER_STATUS_NO_BACKSLASH_ESCAPES,
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
  context: LayerContext;
  readonly analyser: SqlAnalyser;
  readonly queue = new CommandQueue();
  readonly statements: StatementTable;
  phase: Phase = 'greeting';
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
  backslash: BackslashRule = 'unknown';
  /** Undefined: not known. */
  encoding: TextEncoding | undefined = undefined;
  private firstEncoding: TextEncoding | undefined = undefined;
  /** What COM_STMT_PREPARE prepared last, and what it was asked to prepare. */
  lastPrepared: Prepared | undefined = undefined;

  /** The client is sending the content of a local file. */
  infile = false;
  /** When the server sent something last. */
  lastServerUs = 0;
  private greeting: Greeting | undefined = undefined;
  private parseErrors = 0;

  constructor(context: LayerContext, analyser: SqlAnalyser) {
    this.context = context;
    this.analyser = analyser;
    this.statements = new StatementTable(context.limits.sqlPreparedStatements);
  }

  // --- Connection phase --------------------------------------------------------------------------------------------------------------

  greeted(greeting: Greeting): void {
    this.greeting = greeting;
    this.system = greeting.system;
    this.applyStatus(greeting.status);
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
    this.encoding = encodingOfCollation(hello.collation);
    this.firstEncoding = this.encoding;
    this.namespace = hello.database;
    this.phase = 'authentication';
  }

  // --- What the server says of the session ---------------------------------------------------------------------------------------------

  applyStatus(status: number): void {
    this.transaction = (status & SERVER_STATUS_IN_TRANS) !== 0 ? 'active' : 'idle';
    this.backslash = (status & SERVER_STATUS_NO_BACKSLASH_ESCAPES) !== 0 ? 'literal' : 'escape';
  }

  /** OK_Packet: rows changed by the last `readOk`, -1 when the packet does not say. */
  affectedRows = -1;

  /** Reads an OK_Packet whose header was read. @returns Server Status Flags, 0 when it says nothing of them */
  readOk(fields: FieldReader): number {
    const affected = fields.lengthEncoded();
    // last_insert_id
    fields.lengthEncoded();
    this.affectedRows = fields.failed || affected > Number.MAX_SAFE_INTEGER ? -1 : affected;
    if (!this.statusTold || fields.remaining < 2) return 0;
    const status = fields.u16();
    this.applyStatus(status);
    if ((status & SERVER_SESSION_STATE_CHANGED) !== 0 && this.sessionTrack !== false) this.readStateChanges(fields);
    return status;
  }

  /** EOF_Packet: a header, then with CLIENT_PROTOCOL_41 two bytes of warnings and two of status. */
  readEof(fields: FieldReader): number {
    if (fields.remaining < 4) return 0;
    fields.skip(2);
    const status = fields.u16();
    this.applyStatus(status);
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
      if (type === SESSION_TRACK_SCHEMA) this.namespace = fields.string();
      else if (type === SESSION_TRACK_SYSTEM_VARIABLES) this.readVariables(fields, next);
      fields.position = next;
    }
  }

  /** One name with its value; MariaDB: as many as there are. */
  private readVariables(fields: FieldReader, end: number): void {
    while (fields.position < end && !fields.failed) {
      const name = fields.string();
      const value = fields.string();
      if (name === 'character_set_client' && !fields.failed) this.encoding = encodingOfName(value);
    }
  }

  /** COM_RESET_CONNECTION, COM_CHANGE_USER: prepared statements and variables are gone. */
  forget(): void {
    for (const prepared of this.statements.values()) this.closeCursor(prepared);
    this.statements.clear();
    this.lastPrepared = undefined;
    this.encoding = this.firstEncoding;
    this.transaction = 'idle';
  }

  /** COM_CHANGE_USER names a character set, as the handshake does. */
  changeEncoding(encoding: TextEncoding): void {
    this.encoding = encoding;
    this.firstEncoding = encoding;
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
    this.queue.shift();
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
    this.giveUpAll('protocol_error', timeUs);
    this.leave();
    return false;
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
