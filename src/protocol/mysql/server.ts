import type { IncompleteReason } from '../../exchange/exchange.ts';
import { count } from '../../telemetry/counters.ts';
import type { Command } from './commands.ts';
import type { MysqlExchange } from './exchange.ts';
import { FieldReader } from './fields.ts';
import { readGreeting } from './handshake.ts';
import { PacketReader, type PacketSink } from './packets.ts';
import { Results } from './results.ts';
import type { Session } from './session.ts';
import { Prepared } from './statements.ts';
import * as wire from './wire.ts';

/** Of a packet that ends something: OK, EOF, ERR. The text of an error, and what is said beyond this, is passed over. */
const END_BYTES = 64 * 1024;
const FIRST_BYTES = 16;

/** Where in the answer to a command the server is. */
const FIRST = 0;
/** Column Definitions, and the EOF that follows them without CLIENT_DEPRECATE_EOF. */
const COLUMNS = 1;
const COLUMNS_END = 2;
const ROWS = 3;
/** Answer to COM_STMT_PREPARE: definitions of parameters, then of columns, each with an EOF after them without CLIENT_DEPRECATE_EOF. */
const DEFINITIONS = 4;
const DEFINITIONS_END = 5;
/** Text Resultset of COM_FIELD_LIST: definitions only. */
const FIELDS = 6;

/** No statement has it. */
const NO_ID = -2;

/** One for all connections: a reader of its own would keep each connection's last bytes alive. */
const fields = new FieldReader();

/** What the server sends: the greeting, then the answers to commands, in their order. */
export class ServerReader implements PacketSink {
  readonly packets = new PacketReader(this);
  /** Sequence numbers of packets within compressed ones follow no rule. */
  compressed = false;
  private readonly session: Session;
  private readonly results: Results;
  private stage = FIRST;
  /** Sequence of the next packet, unless the client sent one in between. */
  private next = 0;
  private lossReason: IncompleteReason = 'gap';
  /** Definitions to come, and those of columns after those of parameters. */
  private definitions = 0;
  private columnsAfter = 0;

  constructor(session: Session) {
    this.session = session;
    this.results = new Results(session);
  }

  placeLost(): void {
    this.stage = FIRST;
    const { queue } = this.session;
    for (let i = 0; i < queue.length; i++) queue.at(i)!.damage ??= this.lossReason;
    this.lossReason = 'gap';
  }

  /** Of the ERR packet in hand. */
  private sqlState = '';

  wants(first: number, length: number): number {
    if (this.session.phase !== 'command') return Math.min(length, END_BYTES);
    switch (this.stage) {
      case COLUMNS:
      case DEFINITIONS:
        return first === wire.ERR_HEADER ? Math.min(length, FIRST_BYTES) : 1;
      case FIRST:
        return Math.min(length, first === wire.OK_HEADER || first === wire.EOF_HEADER ? END_BYTES : FIRST_BYTES);
      default:
        if (first === wire.EOF_HEADER && length < wire.MAX_PACKET) return Math.min(length, END_BYTES);
        return Math.min(length, first === wire.ERR_HEADER ? FIRST_BYTES : 3);
    }
  }

  packet(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const { session, packets } = this;
    if (session.over) {
      packets.lose();
      return;
    }
    if (session.phase !== 'command') {
      this.connectionPhase(bytes, start, end);
      return;
    }
    const command = session.queue.head;
    if (command === undefined) {
      // Within a compressed packet: what lies outside of one waits for its command (layer.ts).
      if (sequence === 1 && bytes[start] !== wire.ERR_HEADER)
        count(session.context.counters.incomplete, 'request_not_seen');
      return;
    }
    if (!this.compressed && sequence !== this.next && !this.follows(command, length, sequence)) {
      this.fail();
      return;
    }
    this.next = (sequence + 1) & 0xff;
    if (end === start && length > 0) {
      // What it is was lost with its first byte.
      packets.lose();
      return;
    }
    const first = end > start ? bytes[start]! : -1;
    if (this.stage === ROWS && first !== wire.EOF_HEADER && first !== wire.ERR_HEADER) this.row(this.count(command));
    else this.answer(command, bytes, start, end, length, first);
    if (session.queue.length === 0) packets.stopped = true;
  }

  /** The first packet of an answer, or one that follows what the client sent in between; the first of several parts of one. */
  private follows(command: Command, length: number, sequence: number): boolean {
    const parts = Math.floor(length / wire.MAX_PACKET);
    const first = (sequence - parts) & 0xff;
    return first === this.next || first === ((command.sequence + 1) & 0xff);
  }

  private fail(): void {
    if (!this.session.parseError(this.packets.timeUs)) return;
    this.lossReason = 'protocol_error';
    this.packets.lose();
  }

  // --- Connection phase ----------------------------------------------------------------------------------------------------------------

  private connectionPhase(bytes: Buffer, start: number, end: number): void {
    const { session } = this;
    const first = end > start ? bytes[start] : undefined;
    if (session.phase === 'greeting' && first !== wire.ERR_HEADER) {
      const greeting = readGreeting(fields.reset(bytes, start, end));
      if (greeting !== undefined) session.greeted(greeting);
      else if (this.packets.damaged) session.phase = 'response';
      else this.fail();
    } else if (first === wire.OK_HEADER) {
      session.readOk(fields.reset(bytes, start + 1, end));
      if (session.status !== undefined) session.changes.began(session.status);
      if (session.toldSchema !== undefined) session.namespace = session.toldSchema;
      session.phase = 'command';
      this.packets.stopped = true;
    }
    // Else AuthSwitchRequest, AuthMoreData, AuthNextFactor, what a plugin says, or an ERR packet that ends the connection.
  }

  // --- Command phase -------------------------------------------------------------------------------------------------------------------

  private answer(command: Command, bytes: Buffer, start: number, end: number, length: number, first: number): void {
    const exchange = this.count(command);
    if (first === wire.ERR_HEADER && command.kind !== wire.COM_STATISTICS) {
      const code = end - start < 3 ? 0 : bytes.readUInt16LE(start + 1);
      this.sqlState = wire.sqlState(bytes, start + 3, end);
      if (code !== wire.PROGRESS_REPORT) this.error(command, exchange, code);
      return;
    }
    switch (this.stage) {
      case FIRST:
        this.first(command, bytes, start, end, length, first);
        break;
      case COLUMNS:
        if (--this.definitions === 0) this.stage = this.session.deprecateEof === true ? ROWS : COLUMNS_END;
        break;
      case COLUMNS_END:
        this.columnsEnd(command, bytes, start, end, length, first);
        break;
      case ROWS:
        this.rowsEnd(command, bytes, start, end, length);
        break;
      case DEFINITIONS:
        if (--this.definitions === 0) this.definitionsEnd(command);
        break;
      case DEFINITIONS_END:
        this.definitionsEof(command, length, first);
        break;
      case FIELDS:
        if (first === wire.EOF_HEADER) this.complete(command);
        break;
    }
  }

  /** Counts a packet to the statement that it belongs to. */
  private count(command: Command): MysqlExchange | undefined {
    const { packets } = this;
    if (!command.begun) this.begin(command);
    const exchange = this.session.exchangeOf(command);
    if (exchange !== undefined) {
      if (exchange.responseStartUs === 0) exchange.responseStartUs = packets.firstUs;
      exchange.responseBytes += packets.wireBytes;
    }
    return exchange;
  }

  private begin(command: Command): void {
    this.session.begin(command);
    this.results.begin(command);
  }

  private row(exchange: MysqlExchange | undefined): void {
    if (exchange === undefined) return;
    if (exchange.returnedRows > 0) exchange.returnedRows++;
    else {
      exchange.returnedRows = 1;
      if (exchange.firstRowUs === 0) exchange.firstRowUs = this.packets.firstUs;
    }
  }

  private first(command: Command, bytes: Buffer, start: number, end: number, length: number, first: number): void {
    switch (command.kind) {
      case wire.COM_QUERY:
      case wire.COM_STMT_EXECUTE:
      case wire.COM_STMT_BULK_EXECUTE:
      case wire.COM_PROCESS_INFO:
        this.result(command, bytes, start, end, length, first);
        break;
      case wire.COM_STMT_FETCH:
        this.stage = ROWS;
        if (first === wire.EOF_HEADER) this.rowsEnd(command, bytes, start, end, length);
        else this.row(this.session.exchangeOf(command));
        break;
      case wire.COM_STMT_PREPARE:
        this.prepared(command, bytes, start, end, first);
        break;
      case wire.COM_FIELD_LIST:
        this.stage = FIELDS;
        if (first === wire.EOF_HEADER) this.complete(command);
        break;
      case wire.COM_STATISTICS:
        this.complete(command);
        break;
      case wire.COM_CHANGE_USER:
        if (first === wire.OK_HEADER) this.succeeded(command, bytes, start, end);
        break;
      default:
        if (first === wire.OK_HEADER) this.succeeded(command, bytes, start, end);
        else if (first === wire.EOF_HEADER) {
          this.optionSet(command);
          this.complete(command);
        } else this.fail();
    }
  }

  /** OK_Packet in answer to a command that makes no exchange. */
  private succeeded(command: Command, bytes: Buffer, start: number, end: number): void {
    const { session } = this;
    const { kind } = command;
    session.readOk(fields.reset(bytes, start + 1, end));
    if (kind === wire.COM_CHANGE_USER || kind === wire.COM_RESET_CONNECTION) session.forget();
    if (kind === wire.COM_CHANGE_USER && command.encoding !== undefined) session.changeEncoding(command.encoding);
    if (kind === wire.COM_CHANGE_USER || kind === wire.COM_INIT_DB) session.changes.selected(command.database);
    if (kind === wire.COM_DROP_DB) session.changes.dropped(command.database);
    if (kind === wire.COM_STMT_RESET && command.prepared !== undefined) {
      command.prepared.longData = false;
      session.closeCursor(command.prepared);
    }
    this.optionSet(command);
    session.changes.passed();
    this.complete(command);
  }

  private optionSet({ multiStatements }: Command): void {
    if (multiStatements !== undefined) this.session.multiStatements = multiStatements;
  }

  // --- COM_QUERY Response, COM_STMT_EXECUTE Response -----------------------------------------------------------------------------------

  private result(command: Command, bytes: Buffer, start: number, end: number, length: number, first: number): void {
    const { session } = this;
    // With optional metadata, a 0 may be the flag before the column count; an OK packet has at least 7 bytes.
    if (first === wire.OK_HEADER && !(session.optionalMetadata === true && length < 5)) {
      if (this.packets.damaged) this.packets.lose();
      else {
        const status = session.readOk(fields.reset(bytes, start + 1, end));
        this.resultOver(command, status, false);
      }
      return;
    }
    if (first === wire.LOCAL_INFILE_HEADER) {
      session.infile = ++command.filesAsked > command.filesSent;
      return;
    }
    if (first === wire.EOF_HEADER) {
      // The EOF that ends the answer to a COM_STMT_PREPARE, when nothing has said yet that there is one.
      if (length === 5 && session.deprecateEof !== true) session.deprecateEof = false;
      else this.fail();
      return;
    }
    if (!this.columnCount(command, bytes, start, end)) this.fail();
  }

  /**
   * The number of columns; with optional metadata also whether their definitions follow. MariaDB sends the flag after the number
   * (MARIADB_CLIENT_CACHE_METADATA), MySQL is documented to send it before (CLIENT_OPTIONAL_RESULTSET_METADATA): as a number is
   * never 0 and the flag is 0 or 1, both orders can be distinguished.
   *
   * @returns false when it is none of this
   */
  private columnCount(command: Command, bytes: Buffer, start: number, end: number): boolean {
    const { session } = this;
    fields.reset(bytes, start, end);
    let columns = fields.lengthEncoded();
    let follows = 1;
    if (fields.remaining > 0 && session.optionalMetadata !== false) {
      const second = fields.lengthEncoded();
      if (columns === 0 || (columns === 1 && second > 1)) {
        follows = columns;
        columns = second;
      } else follows = second;
    }
    if (fields.failed || fields.remaining > 0 || columns === 0 || columns > 0xffff || follows > 1) return false;
    this.definitions = columns;
    this.results.rowsBegin(command);
    if (follows === 1) this.stage = COLUMNS;
    else this.stage = session.deprecateEof === true ? ROWS : COLUMNS_END;
    return true;
  }

  /**
   * After the definitions: an EOF packet without CLIENT_DEPRECATE_EOF. When that is not known the packet tells, as no row and no OK
   * packet has 5 bytes that begin with 0xFE.
   */
  private columnsEnd(command: Command, bytes: Buffer, start: number, end: number, length: number, first: number): void {
    const { session } = this;
    const eof = first === wire.EOF_HEADER && (length === 5 || (length === 1 && session.deprecateEof === false));
    if (!eof && session.deprecateEof === false) {
      this.fail();
      return;
    }
    session.deprecateEof = !eof;
    this.stage = ROWS;
    if (eof) {
      const status = session.readEof(fields.reset(bytes, start + 1, end));
      this.results.columnsEnd(status);
      if ((status & wire.SERVER_STATUS_CURSOR_EXISTS) !== 0) this.rowsOver(command, status);
    } else if (first === wire.EOF_HEADER) this.rowsEnd(command, bytes, start, end, length);
    else this.row(session.exchangeOf(command));
  }

  /** A packet that begins with 0xFE: of a row only when its first value has 16 MiB, so that the packet has no less. */
  private rowsEnd(command: Command, bytes: Buffer, start: number, end: number, length: number): void {
    if (length >= wire.MAX_PACKET) {
      this.row(this.session.exchangeOf(command));
      return;
    }
    if (this.packets.damaged) {
      this.packets.lose();
      return;
    }
    const { session } = this;
    fields.reset(bytes, start + 1, end);
    this.rowsOver(command, length <= 5 ? session.readEof(fields) : session.readOk(fields));
  }

  private rowsOver(command: Command, status: number): void {
    const { session } = this;
    const exchange = session.exchangeOf(command);
    if (exchange !== undefined && exchange.returnedRows < 0) exchange.returnedRows = 0;
    if (command.kind === wire.COM_STMT_FETCH) {
      if (exchange !== undefined) exchange.endUs = this.packets.timeUs;
      if ((status & wire.SERVER_STATUS_LAST_ROW_SENT) !== 0) session.closeCursor(command.prepared);
      this.complete(command);
    } else if ((status & wire.SERVER_STATUS_CURSOR_EXISTS) !== 0 && command.prepared !== undefined) {
      // Its rows come with COM_STMT_FETCH.
      if (exchange !== undefined) exchange.endUs = this.packets.timeUs;
      command.prepared.cursor = exchange;
      command.exchange = undefined;
      this.complete(command);
    } else this.resultOver(command, status, true);
  }

  /** One result of a statement is whole: an OK packet, or a result set. */
  private resultOver(command: Command, status: number, hasRows: boolean): void {
    this.stage = FIRST;
    // It was another one that was prepared last.
    if (command.prepared?.refused && command.exchange !== undefined) command.exchange.statement = undefined;
    if (this.results.over(command, status, hasRows, this.packets.timeUs)) this.complete(command);
  }

  /** ERR_Packet: ends the answer to the command. */
  private error(command: Command, exchange: MysqlExchange | undefined, code: number): void {
    const { session } = this;
    this.stage = FIRST;
    if (command.kind === wire.COM_STMT_PREPARE) this.prepareFailed(command, code);
    else if (exchange?.answered && code === wire.ER_EMPTY_QUERY) {
      // Behind the last statement of a text the server has found nothing but a comment.
      session.changes.succeeded(exchange.statement, exchange.hasRows, true, true);
    } else if (exchange !== undefined) {
      const failed = this.results.failed(command) ?? exchange;
      session.changes.failed(failed.statement, code);
      this.failed(failed, code);
    }
    if (command.kind === wire.COM_STMT_FETCH) session.closeCursor(command.prepared);
    this.complete(command);
  }

  private failed(exchange: MysqlExchange, code: number): void {
    exchange.failed = true;
    exchange.statusCode = String(code);
    exchange.sqlState = this.sqlState;
    exchange.endUs = this.packets.timeUs;
  }

  // --- COM_STMT_PREPARE Response -------------------------------------------------------------------------------------------------------

  private prepared(command: Command, bytes: Buffer, start: number, end: number, first: number): void {
    const { session } = this;
    fields.reset(bytes, start + 1, end);
    const id = fields.u32();
    const columns = fields.u16();
    const parameters = fields.u16();
    if (first !== wire.OK_HEADER || fields.failed) {
      this.fail();
      return;
    }
    // reserved, warnings, metadata_follows
    fields.skip(3);
    const follows = session.optionalMetadata === false || fields.remaining === 0 || fields.u8() !== 0;
    const prepared = new Prepared(id, command.statement, parameters);
    session.lastPrepared = prepared;
    session.remember(prepared);
    this.definitions = follows ? parameters : 0;
    this.columnsAfter = follows ? columns : 0;
    this.stage = DEFINITIONS;
    if (this.definitions === 0) this.nextDefinitions(command);
  }

  private nextDefinitions(command: Command): void {
    this.definitions = this.columnsAfter;
    this.columnsAfter = 0;
    this.stage = DEFINITIONS;
    if (this.definitions === 0) this.complete(command);
  }

  private definitionsEnd(command: Command): void {
    const { deprecateEof } = this.session;
    // When it is not known whether an EOF comes after the last of them, nothing waits for it: a stray one tells.
    if (deprecateEof === true || (deprecateEof === undefined && this.columnsAfter === 0)) this.nextDefinitions(command);
    else this.stage = DEFINITIONS_END;
  }

  private definitionsEof(command: Command, length: number, first: number): void {
    const { session } = this;
    const eof = first === wire.EOF_HEADER && length === 5;
    if (!eof && session.deprecateEof === false) {
      this.fail();
      return;
    }
    session.deprecateEof = !eof;
    this.nextDefinitions(command);
    if (!eof && this.stage === DEFINITIONS && --this.definitions === 0) this.definitionsEnd(command);
  }

  /** What cannot be prepared is never executed, so that this is where its error shows. */
  private prepareFailed(command: Command, code: number): void {
    const { session, packets } = this;
    session.lastPrepared = new Prepared(NO_ID, command.statement, -1);
    session.lastPrepared.refused = true;
    const exchange = session.newExchange(command, command.statement, 0);
    exchange.prepared = true;
    exchange.responseStartUs = packets.firstUs;
    exchange.responseBytes = packets.wireBytes;
    command.exchange = exchange;
    this.failed(exchange, code);
  }

  // --- The end of a command ------------------------------------------------------------------------------------------------------------

  private complete(command: Command): void {
    const { session } = this;
    const { exchange } = command;
    this.stage = FIRST;
    session.shift(command);
    if (exchange !== undefined) session.finish(exchange);
  }
}
