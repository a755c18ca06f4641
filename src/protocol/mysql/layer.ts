/**
 * A passive parser of both directions of one MySQL or MariaDB connection ("MySQL Client/Server Protocol").
 *
 * Theory of operation. Each direction is a row of packets (packets.ts), within compressed packets when both ends agreed on that (compression.ts),
 * within TLS when the client asked for it (SSLRequest; LayerContext.startTls). The client's commands (client.ts) wait in a queue for
 * their answers (server.ts), which come in the same order. Most clients send one command at a time.
 *
 *     phase            client                                         server
 *     greeting         waits                                          Handshake -> response
 *     response         SSLRequest -> TLS begins, same phase;          waits
 *                      HandshakeResponse -> authentication
 *     authentication   passed over                                    OK -> command; all else is passed over
 *     command          sequence 0: a command; else the content of     answers
 *                      a local file or authentication data
 *
 *     answer to        stages
 *     COM_QUERY,       FIRST: OK, ERR -> over; column count -> COLUMNS -> [EOF] -> ROWS: EOF or OK with 0xFE, ERR -> over. While
 *     COM_STMT_EXECUTE SERVER_MORE_RESULTS_EXISTS is set, FIRST again. SERVER_STATUS_CURSOR_EXISTS: its rows come with COM_STMT_FETCH.
 *     COM_STMT_PREPARE FIRST: OK with the counts -> DEFINITIONS -> [EOF] -> DEFINITIONS -> [EOF] -> over
 *     all others       one OK, EOF or ERR packet
 *
 * One exchange per statement. Several statements in one COM_QUERY: each result is that of the next statement, but a CALL has all result
 * sets up to its OK packet. A statement whose rows are fetched through a cursor is one exchange from its execution until the last
 * row was sent, or until the cursor is closed. What cannot be prepared is an exchange, as its error shows nowhere else; all else of
 * preparing is none.
 *
 * What is lost stays lost: a hole within a packet whose kind is known costs nothing but its content (a text that is not whole is none);
 * any other leads to a place that is not known. From there the client's direction goes on with a segment that is one whole command,
 * the server's with the first packet of the answer to a command that came after the hole. What the server sends while no command
 * waits is held for a moment, since its command may be held up by reassembly: it answers no command when it is older than the next command.
 *
 * A connection that is older than the capture is joined in the same way. Its capabilities show in what is sent: CLIENT_DEPRECATE_EOF by
 * whether definitions are followed by an EOF packet, query attributes by what a COM_QUERY begins with, optional metadata by the length of
 * the column count. A compressed one is not joined: its commands look like other bytes.
 */

import { type Direction, type EndReason, FROM_CLIENT, FROM_SERVER, type Layer } from '../../flow/connection.ts';
import { Charge } from '../../memory/budget.ts';
import type { SqlAnalyser } from '../../sql/analyser.ts';
import { count } from '../../telemetry/counters.ts';
import { incompleteReason } from '../endings.ts';
import type { LayerContext } from '../layer.ts';
import { EarlyAnswers } from '../shared/early.ts';
import { ClientReader } from './client.ts';
import { CompressedReader } from './compression.ts';
import { detectAnswer, isCommand } from './detect.ts';
import type { MysqlLimits } from './limits.ts';
import type { PacketReader } from './packets.ts';
import { ServerReader } from './server.ts';
import { Session } from './session.ts';
import { COM_STMT_PREPARE, EOF_HEADER, ERR_HEADER, packetLength } from './wire.ts';

/** Connectors that never send two statements at once may send COM_STMT_PREPARE and COM_STMT_EXECUTE together. */
const USUAL_DEPTH = 2;

export class MysqlLayer implements Layer {
  private readonly context: LayerContext<MysqlLimits>;
  private readonly session: Session;
  private readonly client: ClientReader;
  private readonly server: ServerReader;
  /** Unpack the two directions, once both ends agreed on compression. */
  private clientUnpacker: CompressedReader | undefined;
  private serverUnpacker: CompressedReader | undefined;
  private tls: Layer | undefined;
  private readonly early: EarlyAnswers;
  private readonly charge: Charge;

  constructor(context: LayerContext<MysqlLimits>, analyser: SqlAnalyser) {
    this.context = context;
    this.early = new EarlyAnswers(context.limits.mysqlEarlyBytes);
    this.charge = new Charge(context.memory);
    this.session = new Session(context, analyser);
    this.client = new ClientReader(this.session);
    this.server = new ServerReader(this.session);
  }

  /** Bytes held between calls, of what grows with its input. */
  get heldBytes(): number {
    const unpackers = (this.clientUnpacker?.heldBytes ?? 0) + (this.serverUnpacker?.heldBytes ?? 0);
    return this.client.packets.heldBytes + this.server.packets.heldBytes + unpackers + this.early.cost;
  }

  /** Commands that wait, and prepared statements that are remembered. */
  get heldEntries(): number {
    return this.session.queue.length + this.session.statements.size + this.session.changes.heldEntries;
  }

  // --- Layer: what arrives, TLS or not -------------------------------------------------------------------------------------------------

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs = timeUs): void {
    if (this.tls !== undefined) this.tls.data(direction, bytes, start, end, timeUs, firstUs);
    else this.take(direction, bytes, start, end, timeUs, firstUs);
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    if (this.tls !== undefined) this.tls.gap(direction, length, timeUs);
    else this.takeGap(direction, length);
  }

  lossAhead(direction: Direction): void {
    if (this.tls !== undefined) this.tls.lossAhead?.(direction);
    else this.takeLossAhead(direction);
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    if (this.tls !== undefined) this.tls.end(direction, reason, timeUs);
    else this.takeEnd(direction, reason, timeUs);
  }

  close(reason: EndReason, timeUs: number): void {
    this.tls?.close(reason, timeUs);
    this.takeClose(reason, timeUs);
  }

  tick(timeUs: number): void {
    this.tls?.tick?.(timeUs);
  }

  /** SSLRequest: from here on both directions are TLS; what is in it goes on where the plain bytes ended. */
  private startTls(): void {
    const { session } = this;
    session.tlsAsked = false;
    if (this.context.startTls === undefined) {
      session.parseError(0);
      count(this.context.counters.connections.givenUp, 'protocol_error');
      session.leave();
      return;
    }
    this.tls = this.context.startTls((inner) => {
      session.context = inner;
      return {
        data: (direction, bytes, start, end, timeUs, firstUs = timeUs) =>
          this.take(direction, bytes, start, end, timeUs, firstUs),
        gap: (direction, length) => this.takeGap(direction, length),
        lossAhead: (direction) => this.takeLossAhead(direction),
        end: (direction, reason, timeUs) => this.takeEnd(direction, reason, timeUs),
        close: (reason, timeUs) => this.takeClose(reason, timeUs),
      };
    });
  }

  // --- The protocol's own bytes --------------------------------------------------------------------------------------------------------

  private take(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    if (this.session.over || end <= start) return;
    if (direction === FROM_CLIENT) this.fromClient(bytes, start, end, timeUs, firstUs);
    else this.fromServer(bytes, start, end, timeUs, firstUs);
    this.settle();
  }

  /** Charges what is held between calls. */
  private settle(): void {
    this.charge.set(this.heldBytes + this.session.cost);
  }

  private fromClient(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { session, client } = this;
    const { packets } = client;
    if (packets.lost && !this.resumeClient(bytes, start, end)) {
      packets.data(bytes, start, end, timeUs, firstUs);
      return;
    }
    if (this.clientUnpacker !== undefined) this.clientUnpacker.data(bytes, start, end, timeUs, firstUs);
    else {
      packets.stopped = false;
      const stop = packets.data(bytes, start, end, timeUs, firstUs);
      if (session.tlsAsked) this.enterTls(bytes, stop, end, timeUs, firstUs);
    }
    if (client.commanded) {
      client.commanded = false;
      this.giveUpDamaged();
    }
    if (!this.early.isEmpty) this.settleEarly();
  }

  /** The client's bytes behind its SSLRequest are of TLS, and what the server was seen to send before it. */
  private enterTls(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const early = this.early.take();
    this.startTls();
    if (start < end) this.tls?.data(FROM_CLIENT, bytes, start, end, timeUs, firstUs);
    for (const each of early) this.tls?.data(FROM_SERVER, each.bytes, 0, each.bytes.length, each.timeUs, each.firstUs);
  }

  private fromServer(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { session, server } = this;
    if (session.onlyCounts) return;
    const { packets } = server;
    if (packets.lost) {
      // It may answer a command that was not seen.
      if (session.recovery.clientLossAhead || this.client.packets.lost) session.giveUpAll('gap', timeUs);
      if (!this.resumeServer(bytes, start, end)) {
        session.recovery.serverSent(timeUs);
        return;
      }
    }
    session.recovery.serverSent(timeUs);
    // Older than the capture: it has no greeting.
    if (session.phase === 'greeting' && packets.atBoundary && end - start >= 4 && bytes[start + 3] !== 0) {
      session.phase = 'command';
    }
    let at = start;
    while (at < end && !session.over) {
      if (this.serverUnpacker !== undefined) {
        this.serverUnpacker.data(bytes, at, end, timeUs, firstUs);
        return;
      }
      if (this.mustWait && packets.atBoundary) {
        this.hold(bytes, at, end, timeUs, firstUs);
        return;
      }
      packets.stopped = false;
      at = packets.data(bytes, at, end, timeUs, firstUs);
      if (session.compressionAgreed && session.phase === 'command') this.startCompression();
    }
  }

  /** The server has nothing to say before the client speaks. */
  private get mustWait(): boolean {
    const { phase, queue } = this.session;
    return phase === 'response' || (phase === 'command' && queue.length === 0);
  }

  private startCompression(): void {
    const { limits, counters } = this.context;
    this.session.compressionAgreed = false;
    this.server.compressed = true;
    this.serverUnpacker = new CompressedReader(this.server.packets, limits, counters);
    this.clientUnpacker = new CompressedReader(this.client.packets, limits, counters);
  }

  private takeLossAhead(direction: Direction): void {
    if (direction === FROM_CLIENT) this.session.recovery.clientLossAhead = true;
  }

  private takeGap(direction: Direction, length: number): void {
    if (this.session.over) return;
    if (direction === FROM_CLIENT) {
      this.session.recovery.clientLossAhead = false;
      if (this.clientUnpacker !== undefined) this.clientUnpacker.gap(length);
      else this.client.packets.gap(length);
      this.settle();
      return;
    }
    if (this.serverUnpacker !== undefined) this.serverUnpacker.gap(length);
    else this.server.packets.gap(length);
    this.dropEarly();
    this.settle();
  }

  private takeEnd(direction: Direction, reason: EndReason, timeUs: number): void {
    if (this.session.over || direction !== FROM_SERVER) return;
    this.session.giveUpAll(incompleteReason(reason), timeUs);
    this.settle();
  }

  private takeClose(reason: EndReason, timeUs: number): void {
    if (!this.session.over) {
      this.dropEarly();
      this.session.giveUpAll(incompleteReason(reason), timeUs);
      this.session.release();
    }
    this.early.take();
    this.client.packets.release();
    this.server.packets.release();
    this.clientUnpacker?.release();
    this.serverUnpacker?.release();
    this.settle();
  }

  // --- After a hole --------------------------------------------------------------------------------------------------------------------

  private resumeClient(bytes: Buffer, start: number, end: number): boolean {
    const { session, client, server } = this;
    const compressed = this.clientUnpacker !== undefined;
    if (!(compressed ? isCompressed(bytes, start, end, 0) : isCommand(bytes, start, end))) return false;
    session.phase = 'command';
    // What still waits has lost its answer too, or will be answered in an order that nothing tells.
    if (session.queue.length > 0) lose(server.packets, this.serverUnpacker);
    if (this.clientUnpacker === undefined) client.packets.resume();
    else this.clientUnpacker.resume();
    return true;
  }

  private resumeServer(bytes: Buffer, start: number, end: number): boolean {
    const head = this.session.queue.head;
    if (head === undefined || head.damage !== undefined) return false;
    if (this.serverUnpacker !== undefined) {
      if (!isCompressed(bytes, start, end, undefined)) return false;
      this.serverUnpacker.resume();
      return true;
    }
    if (
      detectAnswer(bytes, start, end) === 'no' &&
      (bytes[start + 3] !== ((head.sequence + 1) & 0xff) || end - start < 5)
    ) {
      return false;
    }
    this.server.packets.resume();
    return true;
  }

  /**
   * A command after the hole: those before it have lost their answers, those too that were held up until now. Where many are sent before the
   * first is answered, their answers may still be on their way: only silence tells that the next one answers this command.
   */
  private giveUpDamaged(): void {
    const { session } = this;
    const { queue, recovery } = session;
    const { lastServerUs } = recovery;
    for (let head = queue.head; head?.damage !== undefined; head = queue.head)
      session.giveUpHead(head, 'gap', lastServerUs);
    if (!this.server.packets.lost) return;
    if (queue.deepest <= USUAL_DEPTH) {
      while (queue.length > USUAL_DEPTH || (queue.length === USUAL_DEPTH && queue.head!.kind !== COM_STMT_PREPARE)) {
        session.giveUpHead(queue.head!, 'gap', lastServerUs);
      }
      return;
    }
    for (let i = 0; i < queue.length; i++) {
      const command = queue.at(i)!;
      if (!recovery.isQuiet(command.startUs)) command.damage = 'gap';
    }
  }

  // --- Answers before their commands ---------------------------------------------------------------------------------------------------

  private hold(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    if (this.early.hold(bytes, start, end, timeUs, firstUs)) return;
    this.dropEarly();
    this.server.packets.lose();
  }

  /** The client has spoken: what was held is the answer, unless it is older. */
  private settleEarly(): void {
    if (this.mustWait) return;
    const { head } = this.session.queue;
    if (head !== undefined && this.early.first!.firstUs < head.startUs) this.dropEarly();
    else {
      for (const { bytes, timeUs, firstUs } of this.early.take())
        this.take(FROM_SERVER, bytes, 0, bytes.length, timeUs, firstUs);
    }
  }

  /** What is held answers no command. */
  private dropEarly(): void {
    const first = this.early.take()[0]?.bytes;
    if (first === undefined) return;
    const { session } = this;
    if (first.length > 4 && first[4] === EOF_HEADER && packetLength(first, 0) === 5) {
      // The end of the answer to COM_STMT_PREPARE, when nothing has said yet that there is one.
      session.deprecateEof ??= false;
    } else if (first[4] !== ERR_HEADER) {
      // An error that nobody asked for: the server says why it closes the connection.
      count(this.context.counters.incomplete, 'request_not_seen');
    }
  }
}

function lose(packets: PacketReader, unpacker: CompressedReader | undefined): void {
  if (unpacker === undefined) packets.lose();
  else unpacker.lose();
}

/** Begins with a compressed packet that is whole, or with one that is not compressed. */
function isCompressed(bytes: Buffer, start: number, end: number, sequence: number | undefined): boolean {
  if (end - start < 11 || (sequence !== undefined && bytes[start + 3] !== sequence)) return false;
  const length = packetLength(bytes, start);
  const payload = start + 7;
  if (packetLength(bytes, start + 4) === 0) {
    return length >= 4 && length <= 0xffff && packetLength(bytes, payload) <= length;
  }
  // zlib's header with a window of 32 KiB (RFC 1950), a frame of Zstandard.
  return (bytes[payload] === 0x78 || bytes.readUInt32LE(payload) === 0xfd2fb528) && length <= end - payload;
}
