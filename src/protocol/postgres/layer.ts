/**
 * A passive parser of both directions of one PostgreSQL connection, protocol 3.0 to 3.2 ("Frontend/Backend Protocol").
 *
 * Theory of operation. The connection begins with packets of the client that have no type (SSLRequest, GSSENCRequest, StartupMessage,
 * CancelRequest); a request for encryption is answered by a single byte. TLS is given to a layer of its own, with a new PostgresLayer inside.
 * Then both directions carry messages (frames.ts). The client's (frontend.ts) that have an answer wait in a ring; the server's (backend.ts)
 * answer the first of it, and take it off:
 *
 *     request          answered by                                                        then
 *     Startup          ReadyForQuery
 *     Query            for each statement: rows or a copy, CommandComplete               ReadyForQuery
 *                      EmptyQueryResponse; ErrorResponse, which ends it                  ReadyForQuery
 *     FunctionCall     FunctionCallResponse or ErrorResponse                             ReadyForQuery
 *     Parse, Bind      ParseComplete, BindComplete
 *     Describe         [ParameterDescription] RowDescription or NoData
 *     Execute          rows or a copy, then CommandComplete, EmptyQueryResponse or PortalSuspended
 *     Close            CloseComplete
 *     Sync             ReadyForQuery
 *
 * An ErrorResponse to a message of the extended protocol makes the server discard all up to the next Sync: these requests are dropped.
 *
 * A statement is an exchange: one for each CommandComplete or ErrorResponse. Its time begins with the first byte of the message that
 * asks for it (Query, for all statements of its text; Execute; Parse, Bind or Describe when these fail) and ends with the last of its
 * completion. A portal that is run in parts is one exchange. Statements that the server never ran, because of an error before them, are
 * none; they are counted as `not_run`.
 *
 * Holes. One inside a message costs what it hits of that message. After any other the direction is out of step (`frames.synced`), until:
 * - of the client, a segment begins with messages while the server is between two series of answers;
 * - of the server, a segment ends with ReadyForQuery, which always ends a write; or begins with an answer, after the client has gone on,
 *   which it does only when it has its answer (unless it was seen to send further requests before the answers).
 * Statements whose answer was lost with it are incomplete, by `gap`. But when only one was asked for, and the CommandComplete before
 * ReadyForQuery is there, it is the statement's: its tag has the number of rows. Where the client's direction is out of step as well, what the
 * server says may answer what was not seen: all that was asked for is given up.
 */

import { type Direction, type EndReason, FROM_CLIENT, FROM_SERVER, type Layer } from '../../flow/connection.ts';
import { Charge } from '../../memory/budget.ts';
import type { SqlAnalyser } from '../../sql/analyser.ts';
import type { SqlLimits } from '../../sql/limits.ts';
import { incompleteReason } from '../endings.ts';
import type { LayerContext } from '../layer.ts';
import { DESYNCHRONISED, IN_SYNC, type Recovery, UNCERTAIN } from '../shared/recovery.ts';
import { Dialogue } from './dialogue.ts';
import { COPY_DATA, COPY_DONE, COPY_FAIL, READY_FOR_QUERY_BYTES } from './messages.ts';
import { PacketReader } from './packets.ts';
import { endsWithReady, lastCompletion, probeBackend, probeFrontend } from './probe.ts';
import { PACKET_HEADER_BYTES, type PacketKind, probePacket, readParameters } from './startup.ts';

const ACCEPTED_SSL = 0x53;
const ACCEPTED_GSSENC = 0x47;
const REFUSED = 0x4e;
/** ContentType handshake (RFC 8446 section 5.1): no StartupMessage begins so. */
const TLS_HANDSHAKE = 0x16;

/**
 * PACKETS: the client's next bytes are a packet without type. ANSWER: it has asked for encryption, and the server's next byte is the answer.
 * MESSAGES: both have types.
 */
const PACKETS = 0;
const ANSWER = 1;
const MESSAGES = 2;

export class PostgresLayer implements Layer {
  private readonly context: LayerContext<SqlLimits>;
  private readonly analyser: SqlAnalyser;
  private readonly dialogue: Dialogue;
  private readonly packets = new PacketReader();
  private readonly charge: Charge;
  private phase: typeof PACKETS | typeof ANSWER | typeof MESSAGES;
  /** The client went on before the server's answer to its request for encryption was seen: it shows what that was. */
  private ignoredAnswers = 0;
  private askedForTls = false;
  private tls: Layer | undefined;
  private readonly recovery: Recovery;

  constructor(context: LayerContext<SqlLimits>, analyser: SqlAnalyser) {
    this.context = context;
    this.analyser = analyser;
    const { startSeen } = context.connection;
    this.dialogue = new Dialogue(context, analyser, startSeen);
    this.recovery = this.dialogue.recovery;
    this.phase = startSeen ? PACKETS : MESSAGES;
    this.charge = new Charge(context.memory);
  }

  /** Bytes held between calls, of what grows with its input. */
  get heldBytes(): number {
    const { frontend, backend } = this.dialogue;
    return this.packets.heldBytes + frontend.frames.heldBytes + backend.frames.heldBytes;
  }

  /** Requests, statements and portals held between calls. */
  get heldObjects(): number {
    const { ring, frontend, backend } = this.dialogue;
    return ring.length + frontend.remembered + backend.answers.suspendedCount;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs = timeUs): void {
    if (this.tls !== undefined) {
      this.toTls(direction, bytes, start, end, timeUs, firstUs);
      return;
    }
    if (this.dialogue.over) return;
    this.take(direction, bytes, start, end, timeUs, firstUs);
    this.settle();
  }

  /** Charges what is held between calls. */
  private settle(): void {
    this.charge.set(this.packets.heldBytes + this.dialogue.cost);
  }

  private take(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    if (direction === FROM_CLIENT) {
      if (this.phase === MESSAGES) this.fromClient(bytes, start, end, timeUs, firstUs);
      else this.packet(bytes, start, end, timeUs, firstUs);
    } else if (this.phase === ANSWER || this.ignoredAnswers > 0) this.answer(bytes, start, end, timeUs, firstUs);
    else this.fromServer(bytes, start, end, timeUs, firstUs);
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    if (this.tls !== undefined) {
      this.tls.gap(direction, length, timeUs);
      return;
    }
    const { over, frontend, backend } = this.dialogue;
    if (over) return;
    if (direction === FROM_CLIENT) {
      this.recovery.clientLossAhead = false;
      if (this.phase !== MESSAGES) {
        // A StartupMessage may have been among it, or an SSLRequest, which a single byte answers: what follows shows.
        this.phase = MESSAGES;
        this.packets.release();
        frontend.frames.lose();
        backend.frames.lose();
        backend.bytesLost('gap');
      }
      if (!frontend.frames.gap(length, timeUs)) frontend.lost();
    } else {
      if (this.phase === ANSWER) this.phase = PACKETS;
      if (!backend.frames.gap(length, timeUs)) {
        backend.bytesLost('gap');
        this.recovery.clientWentOn = false;
      }
    }
    this.settle();
  }

  lossAhead(direction: Direction): void {
    if (this.tls !== undefined) this.tls.lossAhead?.(direction);
    else if (direction === FROM_CLIENT) this.recovery.clientLossAhead = true;
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    if (this.tls !== undefined) this.tls.end(direction, reason, timeUs);
    // What a client asked for before it closed its side may still be answered.
    else if (direction === FROM_SERVER) {
      this.dialogue.giveUpAll(incompleteReason(reason), timeUs, true);
      this.settle();
    }
  }

  close(reason: EndReason, timeUs: number): void {
    if (this.tls !== undefined) this.tls.close(reason, timeUs);
    this.dialogue.end(incompleteReason(reason), timeUs);
    this.packets.release();
    this.settle();
  }

  tick(timeUs: number): void {
    this.tls?.tick?.(timeUs);
  }

  // --- How a connection begins ---------------------------------------------------------------------------------------------------------

  /** The client's bytes up to its StartupMessage. */
  private packet(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { packets } = this;
    if (this.phase === ANSWER) {
      // The client has the answer, though it was not seen yet: what it sends shows which it was.
      this.ignoredAnswers++;
      this.phase = PACKETS;
    }
    if (this.askedForTls && packets.isEmpty && bytes[start] === TLS_HANDSHAKE) {
      this.startTls(timeUs);
      this.tls?.data(FROM_CLIENT, bytes, start, end, timeUs, firstUs);
      return;
    }
    const { frames } = this.dialogue.frontend;
    let position = start;
    while (position < end && this.phase === PACKETS && !this.dialogue.over) {
      if (packets.isEmpty) packets.begin(firstUs, frames.streamBytes);
      const next = packets.consume(bytes, position, end);
      frames.skip(next - position, timeUs);
      position = next;
      if (packets.invalid) {
        this.dialogue.parseError(timeUs);
        if (!this.dialogue.over) this.dialogue.die('protocol_error', timeUs);
      } else if (packets.isWhole) this.packetRead(timeUs);
    }
    if (position < end && !this.dialogue.over) this.data(FROM_CLIENT, bytes, position, end, timeUs, firstUs);
  }

  private packetRead(timeUs: number): void {
    const { packets, dialogue } = this;
    const kind: PacketKind = packets.kind!;
    switch (kind) {
      case 'ssl':
      case 'gssenc':
        this.askedForTls = kind === 'ssl';
        this.phase = ANSWER;
        break;
      case 'cancel':
        // It names another connection by a key, and is never answered.
        dialogue.becomeOpaque('postgresql_cancel', timeUs);
        break;
      case 'startup':
        readParameters(packets.bytes, PACKET_HEADER_BYTES, packets.size, (name, value) =>
          dialogue.session.startupParameter(name, value),
        );
        if (dialogue.session.isWalSender) {
          dialogue.becomeOpaque('postgresql_replication', timeUs);
          break;
        }
        dialogue.frontend.started(packets.startUs, packets.offset, packets.size);
        this.phase = MESSAGES;
        break;
      default:
        kind satisfies never;
    }
    packets.release();
  }

  /** The server's answer to a request for encryption: one byte, or the ErrorResponse of a server that does not know the request. */
  private answer(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { dialogue } = this;
    const { frames } = dialogue.backend;
    const byte = bytes[start]!;
    const known = this.ignoredAnswers > 0;
    if (byte !== ACCEPTED_SSL && byte !== ACCEPTED_GSSENC && byte !== REFUSED) {
      this.ignoredAnswers = 0;
      this.phase = MESSAGES;
      this.fromServer(bytes, start, end, timeUs, firstUs);
      return;
    }
    frames.skip(1, timeUs);
    if (known) this.ignoredAnswers--;
    else if (byte === ACCEPTED_GSSENC) {
      dialogue.becomeOpaque('postgresql_gss', timeUs);
      return;
    } else {
      this.phase = PACKETS;
      if (byte === ACCEPTED_SSL) this.startTls(timeUs);
    }
    if (start + 1 < end) this.data(FROM_SERVER, bytes, start + 1, end, timeUs, firstUs);
  }

  private startTls(timeUs: number): void {
    const { context, analyser, dialogue } = this;
    this.tls = context.startTls?.((inner) => new PostgresLayer(inner, analyser));
    // TLS within TLS is nothing that a server offers.
    if (this.tls === undefined) dialogue.die('protocol_error', timeUs);
  }

  private toTls(
    direction: Direction,
    bytes: Buffer,
    start: number,
    end: number,
    timeUs: number,
    firstUs: number,
  ): void {
    let from = start;
    if (direction === FROM_SERVER && this.ignoredAnswers > 0) {
      this.ignoredAnswers = 0;
      from++;
    }
    if (from < end) this.tls!.data(direction, bytes, from, end, timeUs, firstUs);
  }

  // --- Messages, and finding them again --------------------------------------------------------------------------------------------------

  private fromClient(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { dialogue, recovery } = this;
    const { ring, backend, frontend } = dialogue;
    const { frames } = frontend;
    const server = recovery.stateOf(backend.frames);
    if (server === UNCERTAIN && backend.idle && recovery.isQuiet(timeUs)) {
      dialogue.giveUpAll(backend.skipReason, timeUs);
      backend.regainTrack();
    }
    if (!frames.synced) {
      if (!this.findClient(bytes, start, end, timeUs, firstUs)) return;
    } else if (server === DESYNCHRONISED && frames.atBoundary && !isOfCopy(bytes[start]!)) this.goesOn(timeUs);
    // Held up in reassembly while its answer passed by. Only an answer that nobody had asked for can be its own: that of the series before
    // may be a moment younger than this one, which a client that does not wait sends from another processor.
    const late = ring.length === 0 && timeUs < backend.unaskedReadyUs;
    const { reading } = dialogue.session;
    // What the server has said since may come of this very request.
    if (late) reading.sent();
    else if (frontend.lostInFlight && ring.length === 0 && backend.idle && recovery.isQuiet(timeUs)) {
      frontend.lostInFlight = false;
      reading.settled();
    }
    frames.feed(bytes, start, end, timeUs, firstUs);
    if (!late) return;
    dialogue.giveUpAll('gap', timeUs);
    if (backend.idle && !frontend.lostInFlight) reading.settled();
  }

  /** The client sends while the server's direction is lost: without pipelining it has the answers to all that it asked for. */
  private goesOn(timeUs: number): void {
    const { dialogue, recovery } = this;
    const { ring } = dialogue;
    if (ring.length > 0) {
      if (ring.syncs === 0 || recovery.pipelines) return;
      dialogue.giveUpAll('gap', timeUs);
    }
    recovery.clientWentOn = true;
  }

  /** @returns whether the client's direction is in step again, with the bytes that begin at `start` */
  private findClient(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): boolean {
    const { dialogue, recovery } = this;
    const { backend, frontend } = dialogue;
    if (this.findStart(bytes, start, end, timeUs, firstUs)) return false;
    const inStep = recovery.stateOf(backend.frames) === IN_SYNC;
    const verdict = probeFrontend(bytes, start, end);
    const begins = verdict === 'yes' || (verdict === 'maybe' && (!inStep || backend.idle));
    if (!begins || (inStep && !backend.idle) || !recovery.hasAnswers(timeUs)) {
      frontend.frames.skip(end - start, timeUs);
      return false;
    }
    dialogue.giveUpAll('gap', timeUs);
    dialogue.skipToSync = false;
    dialogue.copyIn = false;
    if (backend.frames.synced) backend.regainTrack();
    else recovery.clientWentOn = true;
    // A part of this very series may be in the hole: the first answers are those to it.
    if (dialogue.batches) backend.lost('gap');
    frontend.frames.resync();
    return true;
  }

  /** A connection whose first segments were not seen may still begin here. */
  private findStart(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): boolean {
    const { backend } = this.dialogue;
    if (backend.readyUs > 0 || probePacket(bytes, start, end) !== 'yes') return false;
    this.phase = PACKETS;
    this.dialogue.frontend.frames.resync();
    backend.frames.resync();
    backend.regainTrack();
    this.packet(bytes, start, end, timeUs, firstUs);
    return true;
  }

  private fromServer(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { dialogue, recovery } = this;
    const { backend, frontend } = dialogue;
    let from = start;
    if (!backend.frames.synced) {
      if (recovery.clientLossAhead || !frontend.frames.synced) dialogue.giveUpAll('gap', timeUs);
      from = this.findServer(bytes, start, end);
      backend.frames.skip(from - start, timeUs);
    }
    recovery.serverSent(timeUs);
    if (from < end) backend.frames.feed(bytes, from, end, timeUs, firstUs);
  }

  /** @returns where the server's direction is in step again, `end` when it is not */
  private findServer(bytes: Buffer, start: number, end: number): number {
    const { recovery } = this;
    const { backend } = this.dialogue;
    if (recovery.clientWentOn && probeBackend(bytes, start, end) !== 'no') {
      recovery.clientWentOn = false;
      backend.frames.resync();
      if (!recovery.uncertain) backend.regainTrack();
      return start;
    }
    if (!endsWithReady(bytes, start, end)) return end;
    recovery.clientWentOn = false;
    backend.frames.resync();
    const completion = lastCompletion(bytes, start, end);
    if (completion < 0 || !backend.findOnlyCompletion()) return end - READY_FOR_QUERY_BYTES;
    return completion;
  }
}

/** A copy goes on when the server has begun it, not only when it is done. */
function isOfCopy(type: number): boolean {
  return type === COPY_DATA || type === COPY_DONE || type === COPY_FAIL;
}
