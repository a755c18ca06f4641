import {
  type CaptureSink,
  HEADER,
  PACKET,
  type PacketDirection,
  type PacketRecord,
  PROCESS,
  PROCESS_EXEC,
  PROCESS_FIRST_SOCKET,
  RECORD_PACKET,
  RECORD_PROCESS,
  RECORD_SECRET,
  RECORD_SOCKET,
  SECRET,
  SECRET_TLS12_MASTER,
  SECRET_TLS13_EARLY,
  SECRET_TLS13_HANDSHAKE,
  SOCKET,
  SOCKET_OWN,
  SOCKET_OWNER_KNOWN,
} from './records.ts';

const TWO_32 = 0x1_0000_0000;
const EMPTY = Buffer.alloc(0);

/** The one PacketRecord; see CaptureSink: read within the call. */
const packet: PacketRecord = {
  timeUs: 0,
  cookie: 0,
  netns: 0,
  ifindex: 0,
  direction: 0,
  packetLength: 0,
  payloadSkip: 0,
  bytes: EMPTY,
  start: 0,
  end: 0,
};

/** Chunks come from a small pool, again and again: one view of 32-bit words each. */
const views = new WeakMap<Buffer, Uint32Array>();

function wordsOf(chunk: Buffer): Uint32Array {
  let words = views.get(chunk);
  if (words === undefined) {
    words = new Uint32Array(chunk.buffer, chunk.byteOffset, chunk.length >>> 2);
    views.set(chunk, words);
  }
  return words;
}

/**
 * Calls the sink for each record of a chunk, in order, without allocating for packets.
 *
 * @param chunk 8-byte aligned, whole records one after the other (records.ts)
 * @param length bytes of the chunk that are filled
 * @returns bytes at the end that are no records: 0 unless the source is broken. Such a rest is not looked at; nothing throws
 */
export function walkChunk(chunk: Buffer, length: number, sink: CaptureSink): number {
  if ((chunk.byteOffset & 3) !== 0) return walkChunk(Buffer.from(new Uint8Array(chunk).buffer), length, sink);
  const words = wordsOf(chunk);
  const end = Math.min(length, chunk.length);
  let at = 0;
  while (end - at >= HEADER.size) {
    const word = at >>> 2;
    const recordLength = words[word]!;
    if (recordLength < HEADER.size || (recordLength & 7) !== 0 || recordLength > end - at) return end - at;
    const type = words[word + HEADER.type / 4]! & 0xffff;
    const timeUs = (words[word + HEADER.timeNs / 4]! + words[word + HEADER.timeNs / 4 + 1]! * TWO_32) / 1000;
    if (type === RECORD_PACKET) {
      if (recordLength < PACKET.size) return end - at;
      const captured = words[word + PACKET.captured / 4]!;
      if (captured > recordLength - PACKET.size) return end - at;
      packet.timeUs = timeUs;
      packet.cookie = words[word + PACKET.cookie / 4]! + words[word + PACKET.cookie / 4 + 1]! * TWO_32;
      packet.netns = words[word + PACKET.netns / 4]!;
      packet.ifindex = words[word + PACKET.ifindex / 4]!;
      packet.packetLength = words[word + PACKET.packetLength / 4]!;
      packet.payloadSkip = words[word + PACKET.payloadSkip / 4]!;
      packet.direction = chunk[at + PACKET.direction]! as PacketDirection;
      packet.bytes = chunk;
      packet.start = at + PACKET.size;
      packet.end = packet.start + captured;
      sink.packet(packet);
    } else if (!walkControlRecord(chunk, at, recordLength, type, timeUs, sink)) {
      return end - at;
    }
    at += recordLength;
  }
  return end - at;
}

/** @returns false when the record is too short for its type; types of a newer source are skipped */
function walkControlRecord(
  chunk: Buffer,
  at: number,
  length: number,
  type: number,
  timeUs: number,
  sink: CaptureSink,
): boolean {
  switch (type) {
    case RECORD_SOCKET: {
      if (length < SOCKET.size) return false;
      const flags = chunk.readUInt16LE(at + HEADER.flags);
      sink.socket({
        timeUs,
        cookie: readU64(chunk, at + SOCKET.cookie),
        peerCookie: readU64(chunk, at + SOCKET.peerCookie),
        cgroupId: readU64(chunk, at + SOCKET.cgroupId),
        processStartNs: readU64(chunk, at + SOCKET.processStartNs),
        pid: chunk.readUInt32LE(at + SOCKET.tgid),
        netns: chunk.readUInt32LE(at + SOCKET.netns),
        comm: readText(chunk, at + SOCKET.comm, SOCKET.size - SOCKET.comm),
        ownerKnown: (flags & SOCKET_OWNER_KNOWN) !== 0,
        own: (flags & SOCKET_OWN) !== 0,
      });
      return true;
    }
    case RECORD_PROCESS: {
      if (length < PROCESS.size) return false;
      const reason = chunk.readUInt32LE(at + PROCESS.reason);
      if (reason !== PROCESS_EXEC && reason !== PROCESS_FIRST_SOCKET) return true;
      sink.process({
        timeUs,
        pid: chunk.readUInt32LE(at + PROCESS.tgid),
        processStartNs: readU64(chunk, at + PROCESS.processStartNs),
        reason,
        comm: readText(chunk, at + PROCESS.comm, PROCESS.filename - PROCESS.comm),
        filename: readText(chunk, at + PROCESS.filename, PROCESS.size - PROCESS.filename),
      });
      return true;
    }
    case RECORD_SECRET: {
      if (length < SECRET.size) return false;
      const secretAt = at + SECRET.secret;
      const contextAt = at + SECRET.context;
      const kind = chunk[at + SECRET.kind]!;
      const secretLength = chunk[at + SECRET.secretLength]!;
      const contextLength = chunk[at + SECRET.contextLength]!;
      const known = kind === SECRET_TLS13_HANDSHAKE || kind === SECRET_TLS13_EARLY || kind === SECRET_TLS12_MASTER;
      if (known && secretLength <= contextAt - secretAt && contextLength <= SECRET.size - SECRET.context) {
        sink.secret({
          timeUs,
          pid: chunk.readUInt32LE(at + SECRET.tgid),
          kind,
          library: readU64(chunk, at + SECRET.library),
          secret: copyOf(chunk, secretAt, secretLength),
          context: copyOf(chunk, contextAt, contextLength),
        });
      }
      chunk.fill(0, secretAt, contextAt); // the receiver has the only copy now
      return true;
    }
    default:
      return true;
  }
}

function copyOf(chunk: Buffer, at: number, length: number): Buffer {
  const copy = Buffer.allocUnsafe(length);
  chunk.copy(copy, 0, at, at + length);
  return copy;
}

/** As a double: exact for the ids and counts that records carry; nanoseconds since boot are, for 104 days, then good to 2 ns. */
function readU64(chunk: Buffer, at: number): number {
  return chunk.readUInt32LE(at) + chunk.readUInt32LE(at + 4) * TWO_32;
}

function readText(chunk: Buffer, at: number, length: number): string {
  const end = chunk.indexOf(0, at);
  return chunk.toString('utf8', at, end < 0 || end > at + length ? at + length : end);
}
