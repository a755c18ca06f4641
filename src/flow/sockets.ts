import { DIRECTION_EGRESS, type PacketRecord, type SocketRecord } from '../capture/records.ts';
import { ACK, RST, type Segment, SYN } from '../packet/decode.ts';
import { type Direction, FROM_CLIENT, FROM_SERVER, opposite } from './connection.ts';
import type { Flow } from './flow.ts';
import { NumberMap } from './number-map.ts';

/** Which socket an end of a connection has, as far as it was seen sending, was announced, or has received data. */
export class Sockets {
  /** Sockets that were seen sending. */
  private readonly flows = new NumberMap<Flow>();
  /** Announced sockets by their peer's cookie, while the peer was not seen sending. */
  private readonly awaitingPeer = new Map<number, number>();
  private readonly maxAwaiting: number;

  /** @param maxAwaiting sockets announced ahead of their connection that are remembered */
  constructor(maxAwaiting: number) {
    this.maxAwaiting = maxAwaiting;
  }

  /** @returns the connection of a socket that was seen sending */
  find(cookie: number): Flow | undefined {
    return this.flows.get(cookie);
  }

  /** The owner of a socket was announced: here, only which two sockets are the ends of one connection is of interest. */
  announced(record: SocketRecord): void {
    if (record.peerCookie === 0) return;
    const flow = this.flows.get(record.peerCookie);
    if (flow !== undefined) {
      joinPeer(flow, record.peerCookie, record.cookie);
      return;
    }
    if (this.awaitingPeer.size >= this.maxAwaiting) {
      const [oldest] = this.awaitingPeer.keys();
      if (oldest !== undefined) this.awaitingPeer.delete(oldest);
    }
    this.awaitingPeer.set(record.peerCookie, record.cookie);
  }

  /** Learns from a packet which socket an end has. @param direction of the packet */
  associate(flow: Flow, direction: Direction, record: PacketRecord, segment: Segment): void {
    const { flags } = segment;
    if ((flags & RST) !== 0) return;
    if (record.direction === DIRECTION_EGRESS) {
      if ((flags & (SYN | ACK)) === (SYN | ACK)) return;
      this.confirm(flow, direction, record.cookie);
    } else if ((flags & SYN) === 0 && segment.payloadLength > 0) {
      // Perhaps the listener's (the ACK that ends the handshake may carry data), so it serves until the socket sends.
      const receiver = flow.sender(opposite(direction));
      if (receiver.socket === 0) receiver.socket = record.cookie;
    }
  }

  /** A socket was seen sending `direction`. */
  confirm(flow: Flow, direction: Direction, cookie: number): void {
    const end = flow.sender(direction);
    if (flow.socketConfirmed[direction] && end.socket === cookie) return;
    if (this.flows.get(end.socket) === flow) this.flows.delete(end.socket);
    end.socket = cookie;
    flow.socketConfirmed[direction] = true;
    this.flows.set(cookie, flow);
    if (flow.muted) flow.muteSocket(cookie);
    const peer = this.awaitingPeer.get(cookie);
    if (peer === undefined) return;
    this.awaitingPeer.delete(cookie);
    joinPeer(flow, cookie, peer);
  }

  release(flow: Flow): void {
    for (const end of [flow.connection.client, flow.connection.server]) {
      if (this.flows.get(end.socket) === flow) this.flows.delete(end.socket);
    }
  }

  clear(): void {
    this.awaitingPeer.clear();
  }
}

/** `peer` is announced as the socket at the other end of `cookie`, which is an end of `flow`. */
function joinPeer(flow: Flow, cookie: number, peer: number): void {
  const direction = flow.connection.client.socket === cookie ? FROM_SERVER : FROM_CLIENT;
  if (flow.socketConfirmed[direction]) return;
  flow.sender(direction).socket = peer;
  if (flow.muted) flow.muteSocket(peer);
}
