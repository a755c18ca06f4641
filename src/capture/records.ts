/**
 * The layout of the records that a capture source delivers in its chunks: the TypeScript side of bpf/events.h, whose comments
 * say what each field means. A test compares these offsets with the addon's.
 *
 * A chunk is a Buffer whose first byte is 8-byte aligned and which holds whole records, one after the other.
 */
export const RECORD_PACKET = 1;
export const RECORD_SOCKET = 2;
export const RECORD_PROCESS = 3;
export const RECORD_SECRET = 4;

export const DIRECTION_INGRESS = 0;
export const DIRECTION_EGRESS = 1;
/** A packet from a file: nobody knows which socket it was seen at. */
export const DIRECTION_UNKNOWN = 2;
export type PacketDirection = typeof DIRECTION_INGRESS | typeof DIRECTION_EGRESS | typeof DIRECTION_UNKNOWN;

export const SOCKET_OWNER_KNOWN = 1;
export const SOCKET_OWN = 2;

export const PROCESS_EXEC = 0;
export const PROCESS_FIRST_SOCKET = 1;

export const SECRET_TLS13_HANDSHAKE = 1;
export const SECRET_TLS13_EARLY = 2;
export const SECRET_TLS12_MASTER = 3;

/** Byte offsets, by struct of bpf/events.h. */
export const HEADER = { length: 0, type: 4, flags: 6, timeNs: 8, size: 16 } as const;
export const PACKET = {
  cookie: 16,
  netns: 24,
  ifindex: 28,
  packetLength: 32,
  captured: 36,
  payloadSkip: 40,
  direction: 44,
  size: 48,
} as const;
export const SOCKET = {
  cookie: 16,
  peerCookie: 24,
  cgroupId: 32,
  processStartNs: 40,
  tgid: 48,
  netns: 52,
  comm: 56,
  size: 72,
} as const;
export const PROCESS = { processStartNs: 16, tgid: 24, reason: 28, comm: 32, filename: 48, size: 304 } as const;
export const SECRET = {
  tgid: 16,
  kind: 20,
  secretLength: 21,
  contextLength: 22,
  library: 24,
  secret: 32,
  context: 96,
  size: 160,
} as const;

/** One packet of a chunk. The walker reuses one object for all of them: read it within the call. */
export interface PacketRecord {
  /** Microseconds with a fraction: since boot (live, CLOCK_BOOTTIME) or since the Unix epoch (replay). */
  timeUs: number;
  /** 0 when the packet comes from a file, or was seen at a listener (SYN, SYN-ACK) or a socket of the kernel's own (some RSTs). */
  cookie: number;
  netns: number;
  ifindex: number;
  direction: PacketDirection;
  packetLength: number;
  payloadSkip: number;
  /** The chunk; the packet's bytes, from the IP header on, are `bytes[start..end)`. Borrowed. */
  bytes: Buffer;
  start: number;
  end: number;
}

/** The owner of a socket, announced before its first packet; again when another owner becomes known. */
export interface SocketRecord {
  timeUs: number;
  cookie: number;
  /** The local socket at the other end, 0 when unknown. */
  peerCookie: number;
  /** Inode number of the cgroup v2 directory; a bigint never, ids are below 2^53. */
  cgroupId: number;
  processStartNs: number;
  pid: number;
  netns: number;
  comm: string;
  ownerKnown: boolean;
  /** The agent's own socket. */
  own: boolean;
}

export interface ProcessRecord {
  timeUs: number;
  pid: number;
  processStartNs: number;
  reason: typeof PROCESS_EXEC | typeof PROCESS_FIRST_SOCKET;
  comm: string;
  filename: string;
}

export interface SecretRecord {
  timeUs: number;
  pid: number;
  kind: typeof SECRET_TLS13_HANDSHAKE | typeof SECRET_TLS13_EARLY | typeof SECRET_TLS12_MASTER;
  /** Attach cookie of the probe that fired. */
  library: number;
  /** Copies, owned by the receiver, who zeroes `secret` when done. */
  secret: Buffer;
  context: Buffer;
}

/** What a capture source delivers, in the order of the kernel. */
export interface CaptureSink {
  packet(record: PacketRecord): void;
  socket(record: SocketRecord): void;
  process(record: ProcessRecord): void;
  secret(record: SecretRecord): void;
}
