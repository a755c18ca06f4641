import type { CaptureSink, PacketRecord, ProcessRecord, SocketRecord } from '../../src/capture/records.ts';
import { DIRECTION_EGRESS } from '../../src/capture/records.ts';

/** A packet as it was delivered, copied. */
export interface SeenPacket {
  cookie: number;
  egress: boolean;
  netns: number;
  source: string;
  destination: string;
  sequence: number;
  flags: number;
  payload: Buffer;
  /** Not the first part of a packet that took several records. */
  continued: boolean;
}

/** Keeps everything that a capture delivers, and puts streams together in a way of its own: only for tests. */
export class Recorder implements CaptureSink {
  readonly packets: SeenPacket[] = [];
  readonly sockets: SocketRecord[] = [];
  readonly processes: ProcessRecord[] = [];
  /** Sockets whose packet came before their announcement. */
  readonly unannounced = new Set<number>();
  private readonly announced = new Set<number>();

  packet(record: PacketRecord): void {
    if (record.cookie !== 0 && !this.announced.has(record.cookie)) this.unannounced.add(record.cookie);
    const bytes = record.bytes.subarray(record.start, record.end);
    const version = bytes[0]! >> 4;
    const transport = version === 4 ? (bytes[0]! & 15) * 4 : ipv6Transport(bytes);
    const [from, to] =
      version === 4
        ? [bytes.subarray(12, 16), bytes.subarray(16, 20)]
        : [bytes.subarray(8, 24), bytes.subarray(24, 40)];
    const data = transport + (bytes[transport + 12]! >> 4) * 4;
    this.packets.push({
      cookie: record.cookie,
      egress: record.direction === DIRECTION_EGRESS,
      netns: record.netns,
      source: `${from.toString('hex')}:${bytes.readUInt16BE(transport)}`,
      destination: `${to.toString('hex')}:${bytes.readUInt16BE(transport + 2)}`,
      sequence: (bytes.readUInt32BE(transport + 4) + record.payloadSkip) >>> 0,
      flags: bytes[transport + 13]!,
      payload: Buffer.from(bytes.subarray(data)),
      continued: record.payloadSkip > 0,
    });
  }

  socket(record: SocketRecord): void {
    this.announced.add(record.cookie);
    this.sockets.push(record);
  }

  process(record: ProcessRecord): void {
    this.processes.push(record);
  }

  secret(): void {}

  /** All packets between a client and a server port. */
  of(port: number): SeenPacket[] {
    return this.packets.filter(
      (packet) => packet.source.endsWith(`:${port}`) || packet.destination.endsWith(`:${port}`),
    );
  }

  /**
   * The one stream towards (or from) a server port. On a busy machine the kernel sends again now and then, even over loopback: what a
   * socket sent twice is no fault of the capture.
   * @throws Error when a byte was delivered twice or is missing
   */
  stream(port: number, fromServer: boolean): Buffer {
    const packets = this.packets.filter((packet) =>
      (fromServer ? packet.source : packet.destination).endsWith(`:${port}`),
    );
    const syn = packets.find((packet) => (packet.flags & 2) !== 0);
    if (syn === undefined) throw new Error('no SYN');
    const parts = packets
      .filter((packet) => packet.payload.length > 0)
      .map((packet) => ({
        at: (packet.sequence - syn.sequence - 1) >>> 0,
        payload: packet.payload,
        resent: packet.egress,
      }))
      .sort((a, b) => a.at - b.at);
    const stream: Buffer[] = [];
    let next = 0;
    for (const part of parts) {
      if (part.at > next) throw new Error(`byte ${next} is missing`);
      if (part.at < next && !part.resent) throw new Error(`byte ${part.at} came twice`);
      const fresh = part.payload.subarray(next - part.at);
      stream.push(fresh);
      next += fresh.length;
    }
    return Buffer.concat(stream);
  }

  /** The last word about a socket. */
  owner(cookie: number): SocketRecord | undefined {
    return this.sockets.findLast((record) => record.cookie === cookie);
  }
}

/** Walks the extension headers that tests meet: only hop-by-hop options (BIG TCP). */
function ipv6Transport(bytes: Buffer): number {
  return bytes[6] === 0 ? 40 + (bytes[41]! + 1) * 8 : 40;
}
