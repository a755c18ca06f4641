import { textCost, waitingCost } from '../../memory/cost.ts';
import type { TextEncoding } from '../../sql/analyser.ts';
import { isAscii } from '../../sql/reading.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { count } from '../../telemetry/counters.ts';
import { NO_CHANGE } from './changes.ts';
import { encodingOfCollation } from './charset.ts';
import type { Command } from './commands.ts';
import type { MysqlExchange } from './exchange.ts';
import { FieldReader } from './fields.ts';
import { readClientHello } from './handshake.ts';
import { PacketReader, type PacketSink } from './packets.ts';
import { countBulkSets, readExecuteAttributes, readQueryAttributes, type TraceContext } from './parameters.ts';
import type { Session } from './session.ts';
import type { Prepared } from './statements.ts';
import * as wire from './wire.ts';

/** Bytes wanted of packets of which only the first fields matter. */
const FIXED_BYTES = 16;
/** And of those whose fields have lengths of their own: attributes, names, authentication data. */
const FIELDS_BYTES = 64 * 1024;
/** Operations whose text may hold statements of its own, so that `;` does not end it. */
const COMPOUND = /^(?:create|alter|begin|declare|if|loop|repeat|while|for|case)$/i;
/** MySQL allows 64 characters. */
const MAX_NAME_BYTES = 512;

/** One for all connections: a reader of its own would keep each connection's last bytes alive. */
const fields = new FieldReader();

/** What the client sends: the handshake, then commands, each of which waits in the queue for its answer. */
export class ClientReader implements PacketSink {
  readonly packets = new PacketReader(this);
  /** The layer has to know that commands came. */
  commanded = false;
  private readonly session: Session;
  private readonly trace: TraceContext = { traceparent: '', tracestate: '' };

  constructor(session: Session) {
    this.session = session;
  }

  placeLost(): void {
    this.session.infile = false;
    this.session.doubtCursors();
    this.session.changes.lost();
  }

  wants(first: number, length: number): number {
    const { session } = this;
    if (session.infile) return 0;
    if (session.phase !== 'command') return Math.min(length, FIELDS_BYTES);
    switch (first) {
      case wire.COM_QUERY:
      case wire.COM_STMT_PREPARE:
      case wire.COM_MULTI:
      case wire.COM_STMT_BULK_EXECUTE:
        return Math.min(length, session.context.limits.sqlTextBytes);
      case wire.COM_STMT_EXECUTE:
        return Math.min(length, session.queryAttributes === true ? FIELDS_BYTES : FIXED_BYTES);
      case wire.COM_INIT_DB:
      case wire.COM_CHANGE_USER:
        return Math.min(length, FIELDS_BYTES);
      default:
        return Math.min(length, FIXED_BYTES);
    }
  }

  packet(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const { session } = this;
    if (session.over) this.packets.lose();
    else if (session.phase === 'command') this.inCommandPhase(bytes, start, end, length, sequence);
    else if (session.phase !== 'authentication' && sequence !== 0) this.hello(bytes, start, end, length);
    else if (sequence === 0) {
      // A command: what came before it was not seen, or the server has accepted the client out of our sight.
      session.phase = 'command';
      this.inCommandPhase(bytes, start, end, length, sequence);
    }
  }

  private hello(bytes: Buffer, start: number, end: number, length: number): void {
    const { session } = this;
    const whole = !this.packets.damaged && end - start === length;
    const hello = whole ? readClientHello(fields.reset(bytes, start, end)) : undefined;
    if (hello === undefined) {
      if (this.packets.damaged) this.packets.lose();
      else this.fail();
    } else if (hello.sslRequest) {
      session.tlsAsked = true;
      this.packets.stopped = true;
    } else session.agreed(hello);
  }

  private inCommandPhase(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const { session, packets } = this;
    const last = session.queue.last;
    if (session.infile || (sequence !== 0 && last !== undefined && this.continues(last))) {
      if (last === undefined) return;
      last.sequence = sequence;
      last.requestBytes += packets.wireBytes;
      if (last.exchange !== undefined) last.exchange.requestBytes += packets.wireBytes;
      // LOCAL INFILE Data: an empty packet ends the content.
      if (length === 0 && mayAskForFile(last)) session.infile = ++last.filesSent < last.filesAsked;
      return;
    }
    if (length === 0 || end === start) {
      // Its first byte was lost, or there is none.
      if (packets.damaged) packets.lose();
      else this.fail();
      return;
    }
    if (length < wire.MAX_PACKET && sequence !== 0) this.fail();
    else this.command(bytes, start, end, length, sequence);
  }

  /** Packets after the first belong to the content of a local file, or to authentication. */
  private continues(last: Command): boolean {
    return last.kind === wire.COM_CHANGE_USER || mayAskForFile(last);
  }

  private fail(): void {
    if (this.session.parseError(this.packets.timeUs)) this.packets.lose();
  }

  private command(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const kind = bytes[start]!;
    const { session } = this;
    if (session.onlyCounts || session.queue.length >= session.context.limits.sqlPipelineDepth) {
      if (isStatement(kind)) count(session.context.counters.incomplete, 'limit');
      if (!session.onlyCounts) session.overflow(this.packets.timeUs);
      return;
    }
    this.commanded = true;
    switch (kind) {
      case wire.COM_STMT_EXECUTE:
        this.execute(bytes, start, end, sequence);
        break;
      case wire.COM_QUERY:
        this.query(bytes, start, end, length, sequence);
        break;
      case wire.COM_STMT_PREPARE:
        this.prepare(bytes, start, end, length, sequence);
        break;
      case wire.COM_STMT_BULK_EXECUTE:
        this.bulkExecute(bytes, start, end, length, sequence);
        break;
      case wire.COM_STMT_FETCH:
        this.fetchRows(statementId(bytes, start, end), sequence);
        break;
      case wire.COM_STMT_RESET:
        this.sent(kind, sequence).prepared = session.preparedOf(statementId(bytes, start, end));
        break;
      // These two are not answered.
      case wire.COM_STMT_CLOSE:
        session.discard(statementId(bytes, start, end));
        break;
      case wire.COM_STMT_SEND_LONG_DATA: {
        const prepared = session.preparedOf(statementId(bytes, start, end));
        if (prepared !== undefined) prepared.longData = true;
        break;
      }
      case wire.COM_INIT_DB:
      case wire.COM_DROP_DB:
        this.asksFor(
          this.sent(kind, sequence),
          bytes.toString('utf8', start + 1, Math.min(end, start + MAX_NAME_BYTES)),
        );
        break;
      case wire.COM_CHANGE_USER:
        this.changeUser(bytes, start, end, sequence);
        break;
      case wire.COM_QUIT:
        break;
      case wire.COM_MULTI:
        this.multi(bytes, start, end, length, sequence);
        break;
      case wire.COM_BINLOG_DUMP:
      case wire.COM_BINLOG_DUMP_GTID:
        this.opaque('mysql_binlog');
        break;
      case wire.COM_TABLE_DUMP:
      case wire.COM_CLONE:
      case wire.COM_SUBSCRIBE_GROUP_REPLICATION_STREAM:
        this.opaque('mysql_copy');
        break;
      case wire.COM_FIELD_LIST:
      case wire.COM_CREATE_DB:
      case wire.COM_REFRESH:
      case wire.COM_SHUTDOWN:
      case wire.COM_STATISTICS:
      case wire.COM_PROCESS_INFO:
      case wire.COM_PROCESS_KILL:
      case wire.COM_DEBUG:
      case wire.COM_PING:
      case wire.COM_REGISTER_SLAVE:
        this.sent(kind, sequence);
        break;
      case wire.COM_RESET_CONNECTION:
        this.sent(kind, sequence, true);
        break;
      case wire.COM_SET_OPTION:
        this.setOption(end - start < 3 ? -1 : bytes.readUInt16LE(start + 1), sequence);
        break;
      default:
        this.fail();
    }
  }

  /** @param database that it makes the current one */
  private asksFor(command: Command, database: string): void {
    command.database = database;
    this.session.queue.addCost(command, textCost(database));
  }

  /** A command that will be answered. */
  private push(kind: number, sequence: number): Command {
    const { session, packets } = this;
    const command = session.queue.push();
    command.kind = kind;
    command.sequence = sequence;
    command.startUs = packets.firstUs;
    command.offset = packets.offset;
    command.requestBytes = packets.wireBytes;
    return command;
  }

  /** The same, of which nothing else has to be known. */
  private sent(kind: number, sequence: number, changesRules = false): Command {
    const command = this.push(kind, sequence);
    command.changesRules = changesRules;
    this.session.sent(command);
    return command;
  }

  private setOption(option: number, sequence: number): void {
    const command = this.push(wire.COM_SET_OPTION, sequence);
    if (option === wire.MYSQL_OPTION_MULTI_STATEMENTS_ON) command.multiStatements = true;
    else if (option === wire.MYSQL_OPTION_MULTI_STATEMENTS_OFF) command.multiStatements = false;
    this.session.sent(command);
  }

  // --- Statements ----------------------------------------------------------------------------------------------------------------------

  private query(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const { session } = this;
    const command = this.push(wire.COM_QUERY, sequence);
    const text = this.textStart(bytes, start, end);
    const known = text >= 0 && this.isWhole(start, end, length);
    const statements = known ? this.statementsOf(command, bytes, text, end) : NONE;
    command.isEmpty = known && statements.length === 0;
    command.changesRules = !command.isEmpty && (statements.length === 0 || this.changeRules(statements));
    session.sent(command);
    const exchange = session.newExchange(command, statements[0], 0);
    exchange.batchCount = Math.max(1, statements.length);
    session.queue.addCost(command, waitingCost(statements));
    this.takeTrace(exchange);
    if (this.packets.damaged) exchange.damage = 'gap';
    command.exchange = exchange;
  }

  private changeRules(statements: readonly SqlStatement[]): boolean {
    for (const statement of statements) if (this.session.changes.changesRules(statement)) return true;
    return false;
  }

  /** The statements of a text, and the whole of it where it may be one. */
  private statementsOf(command: Command, bytes: Buffer, start: number, end: number): readonly SqlStatement[] {
    const { analyser, rules, multiStatementsNext: multi } = this.session;
    const { backslash } = rules;
    const encoding = this.encodingOf(bytes, start, end);
    if (encoding === 'unsafe' && isAscii(bytes, start, end)) {
      // No text leaves in this encoding, but what such a statement changes is certain.
      command.statements = analyser.analyse(bytes, start, end, 'utf8', backslash).map(withoutText);
      return command.statements;
    }
    let statements = multi === false ? NONE : analyser.analyse(bytes, start, end, encoding, backslash);
    const compound = statements.length > 1 && (multi === undefined || COMPOUND.test(statements[0]!.operation));
    if (multi === false || compound) command.statement = analyser.analyseOne(bytes, start, end, encoding, backslash);
    if (multi === false && command.statement !== undefined) statements = [command.statement];
    if (statements.length > 1) command.statements = statements;
    return statements;
  }

  private prepare(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const { session } = this;
    const command = this.push(wire.COM_STMT_PREPARE, sequence);
    session.sent(command);
    if (!this.isWhole(start, end, length)) return;
    const encoding = this.encodingOf(bytes, start + 1, end);
    command.statement = session.analyser.analyseOne(bytes, start + 1, end, encoding, session.rules.backslash);
    if (command.statement !== undefined) session.queue.addCost(command, waitingCost([command.statement]));
  }

  private execute(bytes: Buffer, start: number, end: number, sequence: number): void {
    const { session } = this;
    const command = this.push(wire.COM_STMT_EXECUTE, sequence);
    const prepared = this.executed(command, statementId(bytes, start, end));
    if (session.queryAttributes !== true || end - start < 10) return;
    if ((bytes[start + 5]! & wire.PARAMETER_COUNT_AVAILABLE) !== 0 && prepared !== undefined && !prepared.longData) {
      readExecuteAttributes(fields.reset(bytes, start + 10, end), Math.max(0, prepared.parameters), this.trace);
      this.takeTrace(command.exchange!);
    }
    if (prepared !== undefined) prepared.longData = false;
  }

  private bulkExecute(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const command = this.push(wire.COM_STMT_BULK_EXECUTE, sequence);
    const prepared = this.executed(command, statementId(bytes, start, end));
    if (prepared === undefined || !this.isWhole(start, end, length)) return;
    fields.reset(bytes, start + 5, end);
    const { sets, types } = countBulkSets(fields, prepared.parameters, prepared.bulkTypes);
    this.session.statements.setBulkTypes(prepared, types);
    if (sets > 1) command.exchange!.batchSize = sets;
  }

  /** An execution of a prepared statement: one exchange. @returns the statement, when it is known yet */
  private executed(command: Command, id: number): Prepared | undefined {
    const { session } = this;
    let prepared = session.preparedOf(id);
    if (session.decidedLater(id)) command.statementId = id;
    else {
      prepared ??= session.notSeen(id);
      session.closeCursor(prepared);
    }
    const exchange = session.newExchange(command, prepared?.statement, 0);
    exchange.prepared = true;
    command.exchange = exchange;
    command.prepared = prepared;
    command.changesRules = command.statementId >= 0 || session.changes.changesRules(prepared?.statement);
    session.sent(command);
    return prepared;
  }

  /** Its rows belong to the execution that opened the cursor. */
  private fetchRows(id: number, sequence: number): void {
    const command = this.sent(wire.COM_STMT_FETCH, sequence);
    const prepared = this.session.preparedOf(id);
    command.prepared = prepared;
    if (prepared?.cursor !== undefined) prepared.cursor.requestBytes += this.packets.wireBytes;
  }

  /** @returns where the text begins, -1 when what comes before it cannot be read */
  private textStart(bytes: Buffer, start: number, end: number): number {
    const { session } = this;
    // Not known: no text begins with these characters, which are what attributes begin with.
    const attributes =
      session.queryAttributes ?? (end - start > 3 && bytes[start + 2] === 1 && bytes[start + 1]! < 0x20);
    if (!attributes) return start + 1;
    fields.reset(bytes, start + 1, end);
    return readQueryAttributes(fields, this.trace) ? fields.position : -1;
  }

  private takeTrace(exchange: MysqlExchange): void {
    const { trace } = this;
    if (trace.traceparent === '' && trace.tracestate === '') return;
    exchange.traceparent = trace.traceparent;
    exchange.tracestate = trace.tracestate;
    trace.traceparent = '';
    trace.tracestate = '';
  }

  private isWhole(start: number, end: number, length: number): boolean {
    if (this.packets.damaged) return false;
    if (end - start === length) return true;
    count(this.session.context.counters.sql, 'text_limit');
    return false;
  }

  /** How a text that is sent now is encoded. Servers before MySQL 5.7 pass over comments of code that all others run. */
  private encodingOf(bytes: Buffer, start: number, end: number): TextEncoding {
    const { rules, isOld } = this.session;
    if (isOld && bytes.subarray(start, end).includes('/*!5')) return 'unsafe';
    return rules.encodingOf(bytes, start, end);
  }

  // --- The others ----------------------------------------------------------------------------------------------------------------------

  /** COM_CHANGE_USER: user, authentication data, database, character set, and what is not needed here. */
  private changeUser(bytes: Buffer, start: number, end: number, sequence: number): void {
    const command = this.sent(wire.COM_CHANGE_USER, sequence, true);
    fields.reset(bytes, start + 1, end);
    fields.skipTerminated();
    fields.skip(fields.u8());
    const database = fields.terminated();
    if (fields.failed) return;
    this.asksFor(command, database);
    const collation = fields.u16();
    if (!fields.failed) command.encoding = encodingOfCollation(collation);
  }

  /** Each command with its length in three bytes; all are answered in their order. */
  private multi(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    if (!this.session.comMulti || !this.isWhole(start, end, length)) {
      this.fail();
      return;
    }
    const { offset } = this.packets;
    for (let at = start + 1; at + 4 <= end && !this.session.over; ) {
      const inner = at + 3;
      const innerEnd = inner + wire.packetLength(bytes, at);
      if (innerEnd > end || bytes[inner] === wire.COM_MULTI) {
        this.fail();
        return;
      }
      this.packets.offset = offset + at - start;
      this.packets.wireBytes = innerEnd - at;
      this.command(bytes, inner, innerEnd, innerEnd - inner, sequence);
      at = innerEnd;
    }
  }

  /** What follows are no answers to statements. */
  private opaque(what: string): void {
    const { session } = this;
    count(session.context.counters.connections.opaque, what);
    session.giveUpAll('gap', this.packets.timeUs);
    session.leave();
    this.packets.lose();
  }
}

function isStatement(kind: number): boolean {
  return kind === wire.COM_QUERY || kind === wire.COM_STMT_EXECUTE || kind === wire.COM_STMT_BULK_EXECUTE;
}

const NONE: readonly SqlStatement[] = [];

function withoutText({ operation, effect = NO_CHANGE.effect }: SqlStatement): SqlStatement {
  return { ...NO_CHANGE, operation, effect };
}

/** LOAD DATA LOCAL INFILE: in a text, or prepared (MariaDB). */
function mayAskForFile({ kind }: Command): boolean {
  return kind === wire.COM_QUERY || kind === wire.COM_STMT_EXECUTE;
}

/** @returns -1 when the packet is too short: no statement has this number */
function statementId(bytes: Buffer, start: number, end: number): number {
  return end - start < 5 ? -1 : bytes.readUInt32LE(start + 1);
}
