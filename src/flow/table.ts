import { DIRECTION_EGRESS, DIRECTION_INGRESS, type PacketRecord, type SocketRecord } from '../capture/records.ts';
import { unlimitedMemory } from '../memory/budget.ts';
import { formatAddress } from '../packet/address.ts';
import { ACK, decodePacket, FIN, newSegment, RST, type Segment, SYN } from '../packet/decode.ts';
import { count } from '../telemetry/counters.ts';
import { type Connection, type Direction, type EndReason, FROM_CLIENT, FROM_SERVER, opposite } from './connection.ts';
import { Flow, type FlowShared, type FlowTableOptions } from './flow.ts';
import type { Half } from './half.ts';
import { type ClosedFlow, Lingering } from './lingering.ts';
import { LinkedList } from './list.ts';
import { TupleTable } from './lookup.ts';
import { NumberMap } from './number-map.ts';
import { RoleGuess } from './role.ts';

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
 * Memory. Every open connection is in one list, ordered by last packet: `embryonic` (no payload yet), `active`, `halfClosed` (by the direction
 * of the FIN). Of one that was closed by FIN or RST a little is remembered in `lingering`. When there are too many, lingering ones make
 * room, then those that the server has closed, then embryonic ones (so that a flood of SYNs cannot push out what carries data), then the
 * active one idle for longest. What is half closed and silent ends soon: since Linux 6.13 the reset that a socket in TIME_WAIT sends
 * passes no program at its sender, so the end of every fourth connection that its server closes first is not seen.
 */
export class FlowTable {
  private readonly options: FlowTableOptions;
  private readonly shared: FlowShared;
  private readonly tuples = new TupleTable<Flow>();
  /** Sockets that were seen sending. */
  private readonly sockets = new NumberMap<Flow>();
  /** Announced sockets by their peer's cookie, while the peer was not seen sending. */
  private readonly awaitingPeer = new Map<number, number>();
  private readonly embryonic = new LinkedList<Flow>();
  private readonly active = new LinkedList<Flow>();
  /** By the direction that has ended. */
  private readonly halfClosed: readonly [LinkedList<Flow>, LinkedList<Flow>] = [new LinkedList(), new LinkedList()];
  private readonly lingering: Lingering;
  private readonly roles = new RoleGuess();
  private readonly segment: Segment = newSegment();
  private readonly verdict: PacketVerdict = { connection: undefined, duplicateView: false };
  /** The direction of the packet in hand. */
  private direction: Direction = FROM_CLIENT;
  /** The closed connection that the packet in hand is a late one of. */
  private late: ClosedFlow | undefined = undefined;
  private nextId = 1;

  constructor(options: FlowTableOptions) {
    this.options = options;
    this.lingering = new Lingering(options.limits, this.tuples.seed);
    this.shared = {
      options,
      reassembly: { limits: options.limits, counts: options.counters.reassembly, heldBytes: 0, holes: new Set<Half>() },
      memory: options.memory ?? unlimitedMemory(),
      ticking: [],
      finished: (flow, timeUs) => this.end(flow, 'fin', timeUs),
      forget: (flow, timeUs) => {
        flow.close('memory', timeUs);
        this.release(flow);
      },
    };
  }

  /** Connections that are open. */
  get size(): number {
    const [byClient, byServer] = this.halfClosed;
    return this.embryonic.size + this.active.size + byClient.size + byServer.size;
  }

  /** Bytes held out of order, in all. */
  get heldBytes(): number {
    return this.shared.reassembly.heldBytes;
  }

  /** The owner of a socket was announced: here, only which two sockets are the ends of one connection is of interest. */
  socket(record: SocketRecord): void {
    if (record.peerCookie === 0) return;
    const flow = this.sockets.get(record.peerCookie);
    if (flow !== undefined) {
      this.joinPeer(flow, record.peerCookie, record.cookie);
      return;
    }
    if (this.awaitingPeer.size >= this.options.limits.connections) {
      const [oldest] = this.awaitingPeer.keys();
      if (oldest !== undefined) this.awaitingPeer.delete(oldest);
    }
    this.awaitingPeer.set(record.peerCookie, record.cookie);
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
    const flow = this.flowBySocket(record, segment) ?? this.flowByTuple(record, segment);
    if (flow === undefined) {
      if (this.late !== undefined) verdict.duplicateView = this.takeLate(this.late, record, segment);
      else count(counters.packets.ignored, 'no_connection');
      return verdict;
    }
    verdict.connection = flow.connection;
    this.touch(flow, record.timeUs);
    const half = flow.halves[this.direction];
    if (record.direction === DIRECTION_EGRESS) {
      half.seenAtSender = true;
    } else if (record.direction === DIRECTION_INGRESS && half.seenAtSender && this.saysNothingNew(flow, half)) {
      verdict.duplicateView = true;
      return verdict;
    }
    this.process(flow, half, record);
    return verdict;
  }

  /** Time passes: holes, idle connections, and the layers that asked for ticks. Cheap when nothing is due. */
  tick(timeUs: number): void {
    const { limits } = this.options;
    for (const half of this.shared.reassembly.holes) if (half.expire(timeUs) > timeUs) break;
    this.endSilent(this.embryonic, limits.unusedUs, 'idle', timeUs);
    this.endSilent(this.active, limits.idleUs, 'idle', timeUs);
    this.endSilent(this.halfClosed[FROM_CLIENT], limits.clientClosedUs, 'fin', timeUs);
    this.endSilent(this.halfClosed[FROM_SERVER], limits.serverClosedUs, 'fin', timeUs);
    this.lingering.tick(timeUs);
    // Backwards: one that leaves is replaced by one that had its turn.
    const { ticking } = this.shared;
    for (let i = ticking.length - 1; i >= 0; i--) ticking[i]?.tick(timeUs);
  }

  /** Ends every connection, delivering what is held. */
  closeAll(reason: EndReason, timeUs: number): void {
    for (const list of [this.embryonic, this.active, ...this.halfClosed]) {
      for (let flow = list.first; flow !== undefined; flow = list.first) {
        flow.close(reason, timeUs);
        this.release(flow);
      }
    }
    this.lingering.clear();
    this.awaitingPeer.clear();
  }

  /** The fast path: a socket that was seen sending. Sets this.direction. */
  private flowBySocket(record: PacketRecord, segment: Segment): Flow | undefined {
    if (record.cookie === 0) return undefined;
    const control = segment.flags & (SYN | RST);
    // A SYN-ACK or reset that arrives at a socket that has sent is its own; a SYN begins something new.
    if (control !== 0 && (record.direction === DIRECTION_EGRESS || (segment.flags & (SYN | ACK)) === SYN))
      return undefined;
    const flow = this.sockets.get(record.cookie);
    if (flow === undefined) return undefined;
    const { client, server } = flow.connection;
    const ofClient = client.socket === record.cookie;
    const direction = ofClient === (record.direction === DIRECTION_EGRESS) ? FROM_CLIENT : FROM_SERVER;
    const sender = direction === FROM_CLIENT ? client : server;
    const receiver = direction === FROM_CLIENT ? server : client;
    if (segment.srcPort !== sender.port && segment.dstPort !== receiver.port) return undefined;
    this.direction = direction;
    if ((control & SYN) !== 0 && !this.isOfHandshake(flow, segment, true)) return undefined;
    return flow;
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
      flow ??= this.create(record, segment, scope, this.roles.sender(record.bytes, segment), false);
    }
    if (flow !== undefined && record.cookie !== 0) this.associate(flow, record, segment);
    return flow;
  }

  /** The closed connection that the packet is a late one of. One whose addresses and ports are used anew is forgotten. */
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

  /** A SYN or SYN-ACK (RFC 9293 3.5): of the connection found, or of a new one. */
  private synchronize(record: PacketRecord, segment: Segment, found: Flow | undefined, scope: number): Flow {
    const isAnswer = (segment.flags & ACK) !== 0;
    if (found !== undefined) {
      if (this.isOfHandshake(found, segment, isAnswer)) return found;
      this.replace(found, record.timeUs);
    }
    const sender = isAnswer ? FROM_SERVER : FROM_CLIENT;
    this.roles.sawListener(isAnswer ? segment.srcPort : segment.dstPort);
    const flow = this.create(record, segment, scope, sender, true);
    learnInitialSequence(flow, sender, segment.seq);
    if (isAnswer) learnInitialSequence(flow, FROM_CLIENT, (segment.ack - 1) >>> 0);
    return flow;
  }

  /** Whether a SYN or SYN-ACK belongs to this connection, which then learns its initial sequence number. */
  private isOfHandshake(flow: Flow, segment: Segment, isAnswer: boolean): boolean {
    const direction = this.direction;
    const known = flow.connection.initialSequence[direction];
    const other = flow.connection.initialSequence[opposite(direction)];
    if (known === segment.seq) {
      if (!flow.halves[direction].seenAtSender) count(this.options.counters.reassembly, 'retransmission');
      return true;
    }
    const half = flow.halves[direction];
    if (isAnswer) {
      if (other === -1) return false;
      if (segment.ack !== (other + 1) >>> 0 && !flow.carriedData) {
        // An answer to an older SYN of the same ports; its receiver will refuse it.
        count(this.options.counters.reassembly, 'bad_syn_ack');
        return true;
      }
      if (flow.carriedData && known !== -1) return false;
    } else if (known !== -1 || direction === FROM_CLIENT || half.started) {
      return false; // else a simultaneous open: the other end's own SYN
    }
    learnInitialSequence(flow, direction, segment.seq);
    return true;
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

  private create(record: PacketRecord, segment: Segment, scope: number, sender: Direction, startSeen: boolean): Flow {
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
    const flow = new Flow(this.shared, tuple, { id: this.nextId++, client, server, startSeen }, record.timeUs);
    this.tuples.add(flow);
    this.embryonic.push(flow);
    this.direction = sender;
    this.options.counters.connections.tcp++;
    return flow;
  }

  /** Learns which socket an end has. */
  private associate(flow: Flow, record: PacketRecord, segment: Segment): void {
    const { flags } = segment;
    if ((flags & RST) !== 0) return;
    if (record.direction === DIRECTION_EGRESS) {
      if ((flags & (SYN | ACK)) === (SYN | ACK)) return;
      this.confirm(flow, this.direction, record.cookie);
    } else if ((flags & SYN) === 0 && segment.payloadLength > 0) {
      // Perhaps the listener's (the ACK that ends the handshake may carry data), so it serves until the socket sends.
      const receiver = flow.sender(opposite(this.direction));
      if (receiver.socket === 0) receiver.socket = record.cookie;
    }
  }

  private confirm(flow: Flow, direction: Direction, cookie: number): void {
    const end = flow.sender(direction);
    if (flow.socketConfirmed[direction] && end.socket === cookie) return;
    if (this.sockets.get(end.socket) === flow) this.sockets.delete(end.socket);
    end.socket = cookie;
    flow.socketConfirmed[direction] = true;
    this.sockets.set(cookie, flow);
    if (flow.muted) flow.muteSocket(cookie);
    const peer = this.awaitingPeer.get(cookie);
    if (peer === undefined) return;
    this.awaitingPeer.delete(cookie);
    this.joinPeer(flow, cookie, peer);
  }

  /** `peer` is announced as the socket at the other end of `cookie`, which is an end of `flow`. */
  private joinPeer(flow: Flow, cookie: number, peer: number): void {
    const direction = flow.connection.client.socket === cookie ? FROM_SERVER : FROM_CLIENT;
    if (flow.socketConfirmed[direction]) return;
    flow.sender(direction).socket = peer;
    if (flow.muted) flow.muteSocket(peer);
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

  /** The packet's acknowledgement, payload, FIN and RST. */
  private process(flow: Flow, half: Half, record: PacketRecord): void {
    const { segment } = this;
    const { flags, payloadLength } = segment;
    const { timeUs } = record;
    if ((flags & RST) !== 0) {
      this.reset(flow, half, timeUs);
      return;
    }
    if (payloadLength > 0 && !flow.carriedData) {
      flow.carriedData = true;
      this.active.push(flow);
    }
    if (flow.muted) {
      if ((flags & FIN) !== 0) {
        flow.mutedFin(this.direction, timeUs);
        this.closeHalf(flow, timeUs);
      }
      return;
    }
    if ((flags & ACK) !== 0 && this.isPlausible(half)) {
      const other = flow.halves[opposite(half.direction)];
      if (other.started) {
        if (segment.ack !== other.next) other.acknowledged(segment.ack, timeUs);
      } else if (flow.connection.startSeen && (flags & SYN) === 0) {
        other.start(segment.ack);
      }
    }
    if (flow.closed) return; // by an acknowledgement that gave up the last hole
    const sequence = (flags & SYN) !== 0 ? (segment.seq + 1) >>> 0 : segment.seq;
    if (payloadLength > 0) {
      if (!half.started) half.start(sequence);
      half.segment(record.bytes, segment.payloadStart, segment.payloadEnd, sequence, payloadLength, timeUs);
    }
    if ((flags & FIN) !== 0 && !flow.closed) {
      if (!half.started) half.start(sequence);
      half.fin((sequence + payloadLength) >>> 0, timeUs);
      this.closeHalf(flow, timeUs);
    }
    if (flow.complete) this.end(flow, 'fin', timeUs);
  }

  /** One end has said that it is done. Which one matters: a server that has closed takes nothing any more, a client may wait for long. */
  private closeHalf(flow: Flow, timeUs: number): void {
    if (flow.closed) return;
    flow.queuedUs = timeUs;
    this.halfClosed[this.direction].push(flow);
  }

  /** Garbage must not acknowledge. */
  private isPlausible(half: Half): boolean {
    return !half.started || half.distance(this.segment.seq) <= this.options.limits.reassemblyWindowBytes;
  }

  /** RFC 9293 3.10.7.4: a reset counts when its sequence number is in the window, or when it acknowledges our SYN. */
  private reset(flow: Flow, half: Half, timeUs: number): void {
    const { segment } = this;
    const window = this.options.limits.reassemblyWindowBytes;
    const other = flow.halves[opposite(half.direction)];
    const valid = half.started
      ? half.distance(segment.seq) <= window
      : (segment.flags & ACK) === 0 || !other.started || other.distance(segment.ack) <= window;
    if (valid || flow.muted) this.end(flow, 'reset', timeUs);
    else count(this.options.counters.reassembly, 'bad_reset');
  }

  /** Keeps the lists in order of last packet, to the second: not one list operation per packet. */
  private touch(flow: Flow, timeUs: number): void {
    flow.lastUs = timeUs;
    if (timeUs - flow.queuedUs < 1_000_000) return;
    flow.queuedUs = timeUs;
    flow.list?.push(flow);
  }

  private endSilent(list: LinkedList<Flow>, limitUs: number, reason: EndReason, timeUs: number): void {
    for (;;) {
      const flow = list.first;
      if (flow === undefined || flow.queuedUs + limitUs > timeUs) return;
      flow.close(reason, timeUs);
      this.release(flow);
    }
  }

  /** A connection that ended in order is remembered for a while. */
  private end(flow: Flow, reason: EndReason, timeUs: number): void {
    if (flow.closed) return;
    flow.close(reason, timeUs);
    this.release(flow);
    this.lingering.add(flow, timeUs);
  }

  private replace(flow: Flow, timeUs: number): void {
    flow.close('reused', timeUs);
    this.release(flow);
  }

  private makeRoom(timeUs: number): void {
    while (this.size + this.lingering.size >= this.options.limits.connections) {
      if (this.lingering.forgetOldest()) continue;
      const victim =
        this.halfClosed[FROM_SERVER].first ??
        this.embryonic.first ??
        this.halfClosed[FROM_CLIENT].first ??
        this.active.first;
      if (victim === undefined) return;
      victim.close('evicted', timeUs);
      this.release(victim);
    }
  }

  private release(flow: Flow): void {
    this.tuples.remove(flow);
    flow.list?.remove(flow);
    for (const end of [flow.connection.client, flow.connection.server]) {
      if (this.sockets.get(end.socket) === flow) this.sockets.delete(end.socket);
    }
  }
}

function learnInitialSequence(flow: Flow, direction: Direction, sequence: number): void {
  flow.connection.initialSequence[direction] = sequence;
  if (!flow.carriedData || !flow.halves[direction].started) flow.halves[direction].start((sequence + 1) >>> 0);
}

/** Interface index of `lo` in every network namespace. */
const LOOPBACK_IFINDEX = 1;

/**
 * 0, or the network namespace where it tells apart what has the same addresses. Packets of a file have none; those that the kernel
 * sends by itself, a SYN-ACK or RST, have one but no socket.
 */
function scopeOf(record: PacketRecord, segment: Segment): number {
  if (record.ifindex === LOOPBACK_IFINDEX) return record.netns | 0;
  return segment.family === 4 && record.bytes[segment.srcAddressStart] === 127 ? record.netns | 0 : 0;
}
