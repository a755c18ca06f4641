import { isUtf8 } from 'node:buffer';
import type { TextEncoding } from '../../sql/analyser.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { count } from '../../telemetry/counters.ts';
import { encodingOfCollation, encodingSetBy } from './charset.ts';
import type { Command } from './commands.ts';
import type { MysqlExchange } from './exchange.ts';
import { FieldReader } from './fields.ts';
import { readClientHello } from './handshake.ts';
import { PacketReader, type PacketSink } from './packets.ts';
import { countBulkSets, readExecuteAttributes, readQueryAttributes, type TraceContext } from './parameters.ts';
import type { Session } from './session.ts';
import { Prepared } from './statements.ts';
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
      if (length === 0 && last.kind === wire.COM_QUERY) {
        last.infileSent = true;
        session.infile = false;
      }
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
    return last.kind === wire.COM_CHANGE_USER || (last.kind === wire.COM_QUERY && !last.infileSent);
  }

  private fail(): void {
    if (this.session.parseError(this.packets.timeUs)) this.packets.lose();
  }

  private command(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const kind = bytes[start]!;
    const { session } = this;
    if (session.queue.length >= session.context.limits.sqlPipelineDepth) {
      count(session.context.counters.incomplete, 'limit');
      session.giveUpAll('limit', this.packets.timeUs);
      session.leave();
      this.packets.lose();
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
        this.push(kind, sequence).prepared = session.statements.use(statementId(bytes, start, end));
        break;
      // These two are not answered.
      case wire.COM_STMT_CLOSE:
        this.close(statementId(bytes, start, end));
        break;
      case wire.COM_STMT_SEND_LONG_DATA: {
        const prepared = session.statements.use(statementId(bytes, start, end));
        if (prepared !== undefined) prepared.longData = true;
        break;
      }
      case wire.COM_INIT_DB:
        this.push(kind, sequence).database = bytes.toString('utf8', start + 1, Math.min(end, start + MAX_NAME_BYTES));
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
      case wire.COM_DROP_DB:
      case wire.COM_REFRESH:
      case wire.COM_SHUTDOWN:
      case wire.COM_STATISTICS:
      case wire.COM_PROCESS_INFO:
      case wire.COM_PROCESS_KILL:
      case wire.COM_DEBUG:
      case wire.COM_PING:
      case wire.COM_REGISTER_SLAVE:
      case wire.COM_SET_OPTION:
      case wire.COM_RESET_CONNECTION:
        this.push(kind, sequence);
        break;
      default:
        this.fail();
    }
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

  // --- Statements ----------------------------------------------------------------------------------------------------------------------

  private query(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const { session } = this;
    const command = this.push(wire.COM_QUERY, sequence);
    const text = this.textStart(bytes, start, end);
    let statements: readonly SqlStatement[] = NONE;
    if (text >= 0 && this.isWhole(start, end, length)) {
      const { backslash } = session;
      const encoding = this.encodingOf(bytes, text, end);
      if (session.multiStatements === false) {
        const only = session.analyser.analyseOne(bytes, text, end, encoding, backslash);
        if (only !== undefined) statements = [only];
      } else statements = session.analyser.analyse(bytes, text, end, encoding, backslash);
      if (statements.length > 1) {
        command.statements = statements;
        if (COMPOUND.test(statements[0]!.operation)) {
          command.statement = session.analyser.analyseOne(bytes, text, end, encoding, backslash);
        }
      }
      command.encoding = encodingSetBy(bytes, text, end);
    }
    const exchange = session.newExchange(command, statements[0], 0);
    exchange.batchCount = Math.max(1, statements.length);
    this.takeTrace(exchange);
    if (this.packets.damaged) exchange.damage = 'gap';
    command.exchange = exchange;
  }

  private prepare(bytes: Buffer, start: number, end: number, length: number, sequence: number): void {
    const { session } = this;
    const command = this.push(wire.COM_STMT_PREPARE, sequence);
    if (!this.isWhole(start, end, length)) return;
    const encoding = this.encodingOf(bytes, start + 1, end);
    command.statement = session.analyser.analyseOne(bytes, start + 1, end, encoding, session.backslash);
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
    prepared.bulkTypes = types;
    if (sets > 1) command.exchange!.batchSize = sets;
  }

  /** An execution of a prepared statement: one exchange. @returns the statement, when it is known yet */
  private executed(command: Command, id: number): Prepared | undefined {
    const { session } = this;
    let prepared: Prepared | undefined;
    if (id === wire.LAST_PREPARED) {
      // The command before it may be its COM_STMT_PREPARE, not answered yet: the answer will tell.
      command.ofLastPrepared = true;
      prepared = session.lastPrepared;
    } else {
      prepared = session.statements.use(id);
      if (prepared === undefined) {
        count(session.context.counters.sql, 'statement_not_seen');
        prepared = new Prepared(undefined, -1);
        this.remember(id, prepared);
      }
      session.closeCursor(prepared);
    }
    const exchange = session.newExchange(command, prepared?.statement, 0);
    exchange.prepared = true;
    command.exchange = exchange;
    command.prepared = prepared;
    return prepared;
  }

  /** Keeps a prepared statement under its number. */
  remember(id: number, prepared: Prepared): void {
    const { session } = this;
    const before = session.statements.size;
    const evicted = session.statements.set(id, prepared);
    if (evicted === undefined) return;
    if (session.statements.size === before) count(session.context.counters.sql, 'statement_evicted');
    session.closeCursor(evicted);
  }

  /** Its rows belong to the execution that opened the cursor. */
  private fetchRows(id: number, sequence: number): void {
    const command = this.push(wire.COM_STMT_FETCH, sequence);
    const prepared = this.session.statements.use(id);
    command.prepared = prepared;
    if (prepared?.cursor !== undefined) prepared.cursor.requestBytes += this.packets.wireBytes;
  }

  private close(id: number): void {
    const prepared = this.session.statements.delete(id);
    if (prepared !== undefined) this.session.closeCursor(prepared);
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

  /** While the character set is not known, a text is taken for what most are, when it can be that. */
  private encodingOf(bytes: Buffer, start: number, end: number): TextEncoding {
    const { encoding } = this.session;
    if (encoding !== undefined) return encoding;
    return isUtf8(bytes.subarray(start, end)) ? 'utf8' : 'unsafe';
  }

  // --- The others ----------------------------------------------------------------------------------------------------------------------

  /** COM_CHANGE_USER: user, authentication data, database, character set, and what is of no use here. */
  private changeUser(bytes: Buffer, start: number, end: number, sequence: number): void {
    const command = this.push(wire.COM_CHANGE_USER, sequence);
    fields.reset(bytes, start + 1, end);
    fields.skipTerminated();
    fields.skip(fields.u8());
    const database = fields.terminated();
    if (fields.failed) return;
    command.database = database;
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

const NONE: readonly SqlStatement[] = [];

/** @returns -1 when the packet is too short: no statement has this number */
function statementId(bytes: Buffer, start: number, end: number): number {
  return end - start < 5 ? -1 : bytes.readUInt32LE(start + 1);
}
