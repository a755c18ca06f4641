import { DIRECTION_UNKNOWN, type PacketDirection, type PacketRecord } from '../../../src/capture/records.ts';

/** What a made-up TCP packet holds; addresses decide between IPv4 and IPv6. */
export interface PacketOptions {
  from?: string;
  to?: string;
  srcPort?: number;
  dstPort?: number;
  seq?: number;
  ack?: number;
  /** Any of S, A, F, R, P. ACK is set by `ack` too, PSH by a payload, unless there is a `-`. */
  flags?: string;
  window?: number;
  payload?: Buffer | string;
  /** TCP options, padded to 4 bytes. */
  tcpOptions?: Buffer;
  /** IPv4 options, padded to 4 bytes. */
  ipOptions?: Buffer;
  /** IPv6: [type, whole header] each. */
  extensionHeaders?: { type: number; bytes: Buffer }[];
  /** Overrides of length fields: 0 as segmentation offload leaves it. */
  ipLength?: number;
  fragmentField?: number;
  timeUs?: number;
  cookie?: number;
  direction?: PacketDirection;
  netns?: number;
  ifindex?: number;
  payloadSkip?: number;
  /** Bytes that the capture kept. */
  snapLength?: number;
}

const FLAGS: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, A: 16 };

/** A packet from its IP header on. */
export function ipPacket(options: PacketOptions = {}): Buffer {
  const from = options.from ?? '10.0.0.1';
  const to = options.to ?? '10.0.0.2';
  const tcp = tcpSegment(options);
  return from.includes(':') ? ipv6(from, to, tcp, options) : ipv4(from, to, tcp, options);
}

/** A record as a capture source delivers it, with bytes around it that are none of the packet's. */
export function packetRecord(options: PacketOptions = {}): PacketRecord {
  const packet = ipPacket(options);
  const captured = Math.min(packet.length, options.snapLength ?? packet.length);
  const before = 5;
  const bytes = Buffer.alloc(before + captured + 3, 0xee);
  packet.copy(bytes, before, 0, captured);
  return {
    timeUs: options.timeUs ?? 1_000_000,
    cookie: options.cookie ?? 0,
    netns: options.netns ?? 0,
    ifindex: options.ifindex ?? 0,
    direction: options.direction ?? DIRECTION_UNKNOWN,
    packetLength: packet.length + (options.payloadSkip ?? 0),
    payloadSkip: options.payloadSkip ?? 0,
    bytes,
    start: before,
    end: before + captured,
  };
}

function tcpSegment(options: PacketOptions): Buffer {
  const payload = Buffer.from(options.payload ?? '');
  const tcpOptions = options.tcpOptions ?? Buffer.alloc(0);
  const header = Buffer.alloc(20);
  header.writeUInt16BE(options.srcPort ?? 40_000, 0);
  header.writeUInt16BE(options.dstPort ?? 80, 2);
  header.writeUInt32BE((options.seq ?? 0) >>> 0, 4);
  header.writeUInt32BE((options.ack ?? 0) >>> 0, 8);
  header[12] = ((20 + tcpOptions.length) / 4) << 4;
  let flags = options.ack === undefined ? 0 : FLAGS.A!;
  for (const flag of options.flags ?? '') flags |= FLAGS[flag] ?? 0;
  // Senders push the end of what an application has written.
  if (payload.length > 0 && !options.flags?.includes('-')) flags |= FLAGS.P!;
  header[13] = flags;
  header.writeUInt16BE(options.window ?? 65_535, 14);
  return Buffer.concat([header, tcpOptions, payload]);
}

function ipv4(from: string, to: string, payload: Buffer, options: PacketOptions): Buffer {
  const ipOptions = options.ipOptions ?? Buffer.alloc(0);
  const header = Buffer.alloc(20 + ipOptions.length);
  header[0] = 0x40 | (header.length / 4);
  header.writeUInt16BE(options.ipLength ?? header.length + payload.length, 2);
  header.writeUInt16BE(options.fragmentField ?? 0, 6);
  header[8] = 64;
  header[9] = 6;
  Buffer.from(from.split('.').map(Number)).copy(header, 12);
  Buffer.from(to.split('.').map(Number)).copy(header, 16);
  ipOptions.copy(header, 20);
  return Buffer.concat([header, payload]);
}

function ipv6(from: string, to: string, payload: Buffer, options: PacketOptions): Buffer {
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  const extensions = options.extensionHeaders ?? [];
  header[6] = extensions[0]?.type ?? 6;
  const chain = extensions.map((extension, i) => {
    const bytes = Buffer.from(extension.bytes);
    bytes[0] = extensions[i + 1]?.type ?? 6;
    return bytes;
  });
  const body = Buffer.concat([...chain, payload]);
  header.writeUInt16BE(options.ipLength ?? body.length, 4);
  header[7] = 64;
  ipv6Bytes(from).copy(header, 8);
  ipv6Bytes(to).copy(header, 24);
  return Buffer.concat([header, body]);
}

function ipv6Bytes(text: string): Buffer {
  const [head = '', tail = ''] = text.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)));
  const start = groups(head);
  const end = text.includes('::') ? groups(tail) : [];
  const bytes = Buffer.alloc(16);
  start.forEach((group, i) => {
    bytes.writeUInt16BE(group, 2 * i);
  });
  end.forEach((group, i) => {
    bytes.writeUInt16BE(group, 16 - 2 * (end.length - i));
  });
  return bytes;
}
