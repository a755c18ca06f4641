import {
  DIRECTION_EGRESS,
  DIRECTION_INGRESS,
  DIRECTION_UNKNOWN,
  type PacketRecord,
  type SocketRecord,
} from '../capture/records.ts';
import { unlimitedMemory } from '../memory/budget.ts';
import { formatAddress } from '../packet/address.ts';
import { ACK, decodePacket, FIN, newSegment, PSH, RST, type Segment, SYN } from '../packet/decode.ts';
import { count } from '../telemetry/counters.ts';
import { type Connection, type Direction, type EndReason, FROM_CLIENT, FROM_SERVER, opposite } from './connection.ts';
import { type DeferralHost, Deferrals } from './deferral.ts';
import { Flow, type FlowShared, type FlowTableOptions } from './flow.ts';
import type { Half, Reassembly } from './half.ts';
import {
  handshakeOf,
  isProbe,
  isProvenBy,
  learnStart,
  type Rival,
  rivalOf,
  SCALE_UNKNOWN,
  scaleOf,
} from './handshake.ts';
import { type ClosedFlow, Lingering } from './lingering.ts';
import { scopeOf, TupleTable } from './lookup.ts';
import { OpenFlows } from './open.ts';
import { type Doubt, Doubts, judgeReset } from './reset.ts';
import { RoleGuess } from './role.ts';
import { Sockets } from './sockets.ts';

export type { FlowControl, FlowTableOptions } from './flow.ts';

/** What became of a packet. One object is reused for all packets: read it before the next call. */
export interface PacketVerdict {
  /** The connection that the packet belongs to. Of one that has ended little is remembered: undefined. */
  connection: Connection | undefined;
  /** The same packet was seen before, at the socket that sent it. */
  duplicateView: boolean;
}

/**
 * From packets to byte streams: one Connection for each TCP connection, however many of its ends are on this machine.
 *
 * Finding the connection. A live packet carries the cookie of the socket that it was seen at. A socket that was seen sending is
 * known by its cookie: one look-up in a Map, and a comparison of ports. All others go by addresses and ports: packets from files,
 * the first packets of a socket, and packets of handshakes and resets that may carry the cookie of the listener (ingress SYN and its
 * ACK, egress SYN-ACK) or of a socket of the kernel's own (egress RST), which belong to no connection. Where the same addresses exist
 * more than once, on loopback, the network namespace is part of the key.
 *
 * Address translation by this machine (a published port of a container, the cluster address of a service) lies between the two
 * points where a socket's packets are seen: what leaves has the translated ends, what arrives has the original ones. So one port
 * of the two that is the right one is enough where the cookie is known.
 *
 * Both ends here. Every packet can be seen twice: leaving the one socket, arriving at the other. The sender's view comes first
 * and is in order; once a direction was seen at its sender, an arriving packet that says nothing new is a duplicate view.
 *
 * Memory. Open connections are ordered by last packet (open.ts). Of one that was closed by FIN or RST a little is remembered in `lingering`. When there are too many, lingering ones make
 * room, then those that the server has closed, then embryonic ones (so that a flood of SYNs cannot push out what carries data), then the
 * active one idle for longest. What is half closed and silent ends soon: since Linux 6.13 the reset that a socket in TIME_WAIT sends
 * passes no program at its sender, so the end of every fourth connection that its server closes first is not seen.
 */
export class FlowTable implements DeferralHost {
  private readonly options: FlowTableOptions;
  private readonly shared: FlowShared;
  private readonly tuples = new TupleTable<Flow>();
  private readonly sockets: Sockets;
  private readonly open = new OpenFlows();
  private readonly lingering: Lingering;
  private readonly deferrals: Deferrals;
  private readonly doubts: Doubts;
  private readonly roles = new RoleGuess();
  /** The packet in hand. */
  readonly segment: Segment = newSegment();
  private readonly verdict: PacketVerdict = { connection: undefined, duplicateView: false };
  /** The direction of the packet in hand. */
  private direction: Direction = FROM_CLIENT;
  /** The closed connection that the packet in hand is a late one of. */
  private late: ClosedFlow | undefined = undefined;
  /** The packet in hand is no part of the connection that it was found by: its receiver refuses it, or it begins another one. */
  private aside = false;
  private nextId = 1;

  constructor(options: FlowTableOptions) {
    this.options = options;
    const { limits, counters } = options;
    const reassembly: Reassembly = { limits, counts: counters.reassembly, heldBytes: 0, holes: new Set<Half>() };
    this.lingering = new Lingering(limits, this.tuples.seed);
    this.sockets = new Sockets(limits.connections);
    this.deferrals = new Deferrals(reassembly, this);
    this.doubts = new Doubts(limits.reassemblyReorderUs);
    this.shared = {
      options,
      reassembly,
      memory: options.memory ?? unlimitedMemory(),
      ticking: [],
      finished: (flow, timeUs) => this.end(flow, 'fin', timeUs),
      forget: (flow, timeUs) => this.finish(flow, 'memory', timeUs),
      dropDeferred: (flow) => this.deferrals.forget(flow),
    };
  }

  /** Connections that are open. */
  get size(): number {
    return this.open.size;
  }

  /** Bytes held out of order, in all. */
  get heldBytes(): number {
    return this.shared.reassembly.heldBytes;
  }

  /** The owner of a socket was announced. */
  socket(record: SocketRecord): void {
    this.sockets.announced(record);
  }

  packet(record: PacketRecord): PacketVerdict {
    const { counters } = this.options;
    const { segment, verdict } = this;
    verdict.connection = undefined;
    verdict.duplicateView = false;
    if (record.payloadSkip === 0) {
      counters.packets.captured++;
      counters.packets.bytes += record.packetLength;
    }
    const result = decodePacket(record, segment);
    if (result !== 'ok') {
      count(counters.packets.ignored, result);
      return verdict;
    }
    return this.take(record);
  }

  /** Finds the connection of the decoded packet, and hands it on. */
  private take(record: PacketRecord): PacketVerdict {
    const { counters } = this.options;
    const { segment, verdict } = this;
    this.aside = false;
    let flow = this.flowBySocket(record, segment) ?? this.flowByTuple(record, segment);
    if (flow?.rival !== undefined && !this.aside) flow = this.settleRival(flow, flow.rival, record, segment);
    if (flow === undefined) {
      if (this.late !== undefined) verdict.duplicateView = this.takeLate(this.late, record, segment);
      else count(counters.packets.ignored, 'no_connection');
      return verdict;
    }
    verdict.connection = flow.connection;
    if (this.aside) return verdict;
    this.open.touch(flow, record.timeUs);
    const half = flow.halves[this.direction];
    if (record.direction === DIRECTION_EGRESS) {
      half.seenAtSender = true;
    } else if (record.direction === DIRECTION_INGRESS && half.seenAtSender && this.saysNothingNew(flow, half)) {
      verdict.duplicateView = true;
      return verdict;
    } else if (record.direction === DIRECTION_UNKNOWN) {
      if (flow.deferred !== undefined && record.timeUs >= flow.deferred.dueUs) return this.retake(flow, record);
      const behind = flow.deferred !== undefined;
      const mayWait = behind || segment.ack !== flow.halves[opposite(this.direction)].next;
      if (mayWait && this.deferrals.mustWait(flow, half, segment, record.timeUs, behind)) {
        return this.deferrals.add(flow, record) ? verdict : this.retake(flow, record);
      }
    }
    this.process(flow, half, record);
    if (flow.superseded) {
      this.replace(flow, record.timeUs);
      return this.take(record);
    }
    if (flow.deferred !== undefined) this.deferrals.resume(flow, flow.deferred);
    return verdict;
  }

  /** Takes the packet after those that wait: they have waited for long enough. */
  private retake(flow: Flow, record: PacketRecord): PacketVerdict {
    this.deferrals.release(flow);
    decodePacket(record, this.segment);
    return this.take(record);
  }

  /** DeferralHost: makes a packet that was put by the one in hand. @returns undefined when it is not one of this connection any more */
  aim(flow: Flow, record: PacketRecord): Half | undefined {
    if (decodePacket(record, this.segment) !== 'ok') return undefined;
    if (this.tuples.find(record.bytes, this.segment, scopeOf(record, this.segment)) !== flow) return undefined;
    this.direction = this.tuples.direction;
    return flow.halves[this.direction];
  }

  /** Time passes: holes, idle connections, and the layers that asked for ticks. Cheap when nothing is due. */
  tick(timeUs: number): void {
    const { limits } = this.options;
    for (const flow of this.deferrals.due(timeUs)) this.deferrals.release(flow);
    for (const flow of this.doubts.due(timeUs - limits.resetDoubtUs)) this.endDoubtful(flow, flow.doubt!);
    for (const half of this.shared.reassembly.holes) if (half.expire(timeUs)) break;
    this.open.endSilent(limits, timeUs, (flow, reason) => this.finish(flow, reason, timeUs));
    this.lingering.tick(timeUs);
    // Backwards: one that leaves is replaced by one that had its turn.
    const { ticking } = this.shared;
    for (let i = ticking.length - 1; i >= 0; i--) ticking[i]?.tick(timeUs);
  }

  /** Ends every connection, delivering what is held. */
  closeAll(reason: EndReason, timeUs: number): void {
    for (const flow of this.deferrals.due(Infinity)) this.deferrals.release(flow);
    for (const flow of this.doubts.due(Infinity)) this.endDoubtful(flow, flow.doubt!);
    this.open.endAll((flow) => this.finish(flow, reason, timeUs));
    this.lingering.clear();
    this.sockets.clear();
  }

  /** The fast path: a socket that was seen sending. Sets this.direction. */
  private flowBySocket(record: PacketRecord, segment: Segment): Flow | undefined {
    if (record.cookie === 0) return undefined;
    const control = segment.flags & (SYN | RST);
    // A SYN-ACK or reset that arrives at a socket that has sent is its own; a SYN begins something new.
    if (control !== 0 && (record.direction === DIRECTION_EGRESS || (segment.flags & (SYN | ACK)) === SYN))
      return undefined;
    const flow = this.sockets.find(record.cookie);
    if (flow === undefined) return undefined;
    const { client, server } = flow.connection;
    const ofClient = client.socket === record.cookie;
    const direction = ofClient === (record.direction === DIRECTION_EGRESS) ? FROM_CLIENT : FROM_SERVER;
    const sender = direction === FROM_CLIENT ? client : server;
    const receiver = direction === FROM_CLIENT ? server : client;
    if (segment.srcPort !== sender.port && segment.dstPort !== receiver.port) return undefined;
    this.direction = direction;
    if ((control & SYN) === 0) return flow;
    const what = handshakeOf(flow, record.bytes, segment, direction, this.options.counters.reassembly);
    this.aside = what === 'stray';
    return what === 'other' ? undefined : flow;
  }

  /** The slow path: by addresses and ports, making a connection where the packet calls for one. Sets this.direction, or this.late. */
  private flowByTuple(record: PacketRecord, segment: Segment): Flow | undefined {
    const scope = scopeOf(record, segment);
    let flow = this.tuples.find(record.bytes, segment, scope);
    this.direction = this.tuples.direction;
    this.late = flow === undefined ? this.closedByTuple(record, segment, scope) : undefined;
    if (this.late !== undefined) return undefined;
    if ((segment.flags & (SYN | RST)) === SYN) {
      flow = this.synchronize(record, segment, flow, scope);
    } else if ((segment.flags & RST) === 0 && segment.payloadLength > 0) {
      if (flow !== undefined && this.isOther(flow, record)) {
        this.replace(flow, record.timeUs);
        flow = undefined;
      }
      if (flow === undefined && isProbe(segment)) count(this.options.counters.reassembly, 'keep_alive');
      else flow ??= this.create(record, segment, scope, this.roles.sender(record.bytes, segment), false, record.timeUs);
    }
    if (flow !== undefined && !this.aside && record.cookie !== 0)
      this.sockets.associate(flow, this.direction, record, segment);
    return flow;
  }

  /** The closed connection that the packet is a late one of. One whose addresses and ports are used again is forgotten. */
  private closedByTuple(record: PacketRecord, segment: Segment, scope: number): ClosedFlow | undefined {
    const closed = this.lingering.find(record.bytes, segment, scope);
    if (closed === undefined || (segment.flags & RST) !== 0) return closed;
    if ((segment.flags & SYN) !== 0) {
      const { initialKnown, initial } = closed.half(this.lingering.direction);
      if (initialKnown && initial === (segment.seq | 0)) return closed;
    } else if (segment.payloadLength === 0 || !this.lingering.isOther(closed, record, segment)) {
      return closed;
    }
    this.lingering.remove(closed);
    return undefined;
  }

  /** @returns whether it is the arriving copy of a packet that was seen when it was sent */
  private takeLate(closed: ClosedFlow, record: PacketRecord, segment: Segment): boolean {
    const { reassembly } = this.options.counters;
    const half = closed.half(this.lingering.direction);
    if (record.direction === DIRECTION_INGRESS && half.seenAtSender) return true;
    if ((segment.flags & (SYN | RST)) === SYN && !half.seenAtSender) count(reassembly, 'retransmission');
    if (record.direction === DIRECTION_EGRESS) half.seenAtSender = true;
    if (segment.payloadLength > 0) count(reassembly, 'after_close');
    return false;
  }

  /** A SYN or SYN-ACK (RFC 9293 3.5): of the connection found, of a new one, or of what may become one. */
  private synchronize(record: PacketRecord, segment: Segment, found: Flow | undefined, scope: number): Flow {
    const isAnswer = (segment.flags & ACK) !== 0;
    const { reassembly } = this.options.counters;
    if (found !== undefined) {
      const what = handshakeOf(found, record.bytes, segment, this.direction, reassembly);
      if (what === 'own' || (isAnswer && isProvenBy(found, segment, this.direction))) return found;
      this.aside = true;
      if (what === 'other') {
        found.setRival(rivalOf(found, record, segment, this.direction));
        count(reassembly, 'syn_in_connection');
      }
      return found;
    }
    const sender = isAnswer ? FROM_SERVER : FROM_CLIENT;
    this.roles.sawListener(isAnswer ? segment.srcPort : segment.dstPort);
    const flow = this.create(record, segment, scope, sender, true, record.timeUs);
    learnStart(flow, sender, segment.seq, scaleOf(record.bytes, segment));
    if (isAnswer) learnStart(flow, FROM_CLIENT, (segment.ack - 1) >>> 0, SCALE_UNKNOWN);
    return flow;
  }

  /** @returns the rival's connection, which takes the place of `flow`, when the packet in hand proves that it is one; else `flow` */
  private settleRival(flow: Flow, rival: Rival, record: PacketRecord, segment: Segment): Flow {
    if (!isProvenBy(flow, segment, this.direction)) return flow;
    const sender = this.direction === rival.direction ? FROM_CLIENT : FROM_SERVER;
    this.replace(flow, record.timeUs);
    const isAnswer = (segment.flags & SYN) !== 0;
    this.roles.sawListener(sender === FROM_CLIENT ? segment.dstPort : segment.srcPort);
    const next = this.create(record, segment, scopeOf(record, segment), sender, true, rival.timeUs);
    learnStart(next, FROM_CLIENT, rival.initial, rival.scale);
    if (isAnswer) learnStart(next, FROM_SERVER, segment.seq, scaleOf(record.bytes, segment));
    else if (rival.answer !== -1) learnStart(next, FROM_SERVER, rival.answer, SCALE_UNKNOWN);
    if (rival.cookie !== 0) this.sockets.confirm(next, FROM_CLIENT, rival.cookie);
    const { payload, initial, timeUs } = rival;
    if (payload.length > 0) {
      this.open.carriesData(next);
      next.halves[FROM_CLIENT].segment(payload, 0, payload.length, (initial + 1) >>> 0, payload.length, timeUs, true);
    }
    return next;
  }

  /** Whether data comes from a later connection with the same addresses and ports, whose SYN was not seen. */
  private isOther(flow: Flow, record: PacketRecord): boolean {
    const direction = this.direction;
    return (
      record.cookie !== 0 &&
      record.direction === DIRECTION_EGRESS &&
      flow.socketConfirmed[direction] &&
      flow.sender(direction).socket !== record.cookie
    );
  }

  private create(
    record: PacketRecord,
    segment: Segment,
    scope: number,
    sender: Direction,
    startSeen: boolean,
    startUs: number,
  ): Flow {
    this.makeRoom(record.timeUs);
    const { bytes } = record;
    const source = {
      address: formatAddress(bytes, segment.srcAddressStart, segment.addressLength),
      port: segment.srcPort,
      socket: 0,
    };
    const destination = {
      address: formatAddress(bytes, segment.dstAddressStart, segment.addressLength),
      port: segment.dstPort,
      socket: 0,
    };
    const client = sender === FROM_CLIENT ? source : destination;
    const server = sender === FROM_CLIENT ? destination : source;
    const tuple = this.tuples.tupleOf(bytes, segment, scope, sender);
    const flow = new Flow(this.shared, tuple, { id: this.nextId++, client, server, startSeen }, startUs);
    this.tuples.add(flow);
    this.open.add(flow);
    this.direction = sender;
    this.options.counters.connections.tcp++;
    return flow;
  }

  /** Whether a packet that arrives repeats what was seen when it was sent. */
  private saysNothingNew(flow: Flow, half: Half): boolean {
    const { flags, seq, payloadLength } = this.segment;
    if (flow.muted) return true;
    if ((flags & RST) !== 0) return false;
    if ((flags & SYN) !== 0) return flow.connection.initialSequence[half.direction] === seq;
    if ((flags & FIN) !== 0 && half.finSequence < 0) return false;
    return payloadLength === 0 || half.covers(seq, payloadLength);
  }

  /** DeferralHost: the packet's acknowledgement, payload, FIN and RST. */
  process(flow: Flow, half: Half, record: PacketRecord): void {
    const { segment } = this;
    const { flags, payloadLength } = segment;
    const { timeUs } = record;
    if ((flags & RST) !== 0) {
      this.reset(flow, timeUs);
      return;
    }
    if (flow.doubt !== undefined) this.doubts.sees(flow, flow.doubt, segment, this.direction, timeUs);
    if (payloadLength > 0 && !flow.carriedData) this.open.carriesData(flow);
    if (flow.muted) {
      if ((flags & FIN) !== 0) {
        flow.mutedFin(this.direction, timeUs);
        this.open.halfClose(flow, this.direction, timeUs);
      }
      return;
    }
    if ((flags & ACK) !== 0) this.acknowledge(flow, half, flow.halves[opposite(half.direction)], timeUs);
    if (flow.closed) return; // by an acknowledgement that gave up the last hole
    const sequence = (flags & SYN) !== 0 ? (segment.seq + 1) >>> 0 : segment.seq;
    if (payloadLength > 0) {
      if (!half.started) {
        if (!flow.connection.startSeen && isProbe(segment)) {
          count(this.options.counters.reassembly, 'keep_alive');
          return;
        }
        half.start(sequence);
      }
      const { payloadStart, payloadEnd } = segment;
      const pushed = (flags & PSH) !== 0;
      half.segment(record.bytes, payloadStart, payloadEnd, sequence, payloadLength, timeUs, pushed);
      if (flow.superseded) return;
    }
    if ((flags & FIN) !== 0 && !flow.closed) {
      if (!half.started) half.start(sequence);
      half.fin((sequence + payloadLength) >>> 0, timeUs);
      this.open.halfClose(flow, this.direction, timeUs);
    }
    if (flow.complete) this.end(flow, 'fin', timeUs);
  }

  /** The packet's acknowledgement, which is of the other direction. */
  private acknowledge(flow: Flow, half: Half, other: Half, timeUs: number): void {
    const { seq, ack, window, flags, payloadLength } = this.segment;
    // Most packets bring what comes next, and acknowledge all that was seen.
    if (seq === half.next && ack === other.next && half.started && other.started && (flags & SYN) === 0) {
      other.noteAll(window, timeUs);
      return;
    }
    if (!half.isPlausible(seq, payloadLength)) return;
    other.noteAck(ack, window, timeUs, (flags & SYN) === 0);
    if (other.started) {
      if (ack !== other.next) other.acknowledged(ack, timeUs);
    } else if (flow.connection.startSeen && (flags & SYN) === 0) {
      other.start(ack);
    }
  }

  private reset(flow: Flow, timeUs: number): void {
    const { limits, counters } = this.options;
    const { segment, direction } = this;
    const verdict = judgeReset(flow, segment, direction, limits.reassemblyWindowBytes);
    if (verdict === 'certain') this.end(flow, 'reset', timeUs, direction);
    else count(counters.reassembly, verdict === 'refused' ? 'bad_reset' : 'reset_in_doubt');
    if (verdict === 'doubtful') this.doubts.add(flow, { direction, sequence: segment.seq, timeUs });
  }

  /** Nothing has followed a reset in doubt. What follows later, in spite of all, is taken for a connection that was joined late. */
  private endDoubtful(flow: Flow, doubt: Doubt): void {
    this.finish(flow, 'reset', doubt.timeUs);
  }

  /** A connection that ended in order is remembered for a while. */
  private end(flow: Flow, reason: EndReason, timeUs: number, resetBy?: Direction): void {
    if (flow.closed) return;
    flow.close(reason, timeUs);
    this.release(flow);
    this.lingering.add(flow, timeUs, resetBy);
  }

  private replace(flow: Flow, timeUs: number): void {
    this.finish(flow, 'reused', timeUs);
  }

  /** Ends a connection of which nothing is remembered. */
  private finish(flow: Flow, reason: EndReason, timeUs: number): void {
    flow.close(reason, timeUs);
    this.release(flow);
  }

  private makeRoom(timeUs: number): void {
    while (this.size + this.lingering.size >= this.options.limits.connections) {
      if (this.lingering.forgetOldest()) continue;
      const victim = this.open.leastUseful;
      if (victim === undefined) return;
      this.finish(victim, 'evicted', timeUs);
    }
  }

  private release(flow: Flow): void {
    this.tuples.remove(flow);
    this.doubts.remove(flow);
    this.deferrals.forget(flow);
    flow.list?.remove(flow);
    this.sockets.release(flow);
  }
}
