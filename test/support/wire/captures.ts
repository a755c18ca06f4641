import { type ReadCaptureOptions, type ReadCaptureResult, readCaptureFile } from '../../../src/capture/file.ts';
import { DIRECTION_UNKNOWN, HEADER, PACKET, type PacketRecord, RECORD_PACKET } from '../../../src/capture/records.ts';

/** The packets of a chunk, as a walker would give them; bytes are copied. */
export function packetsOf(chunk: Buffer, length: number): PacketRecord[] {
  const packets: PacketRecord[] = [];
  let at = 0;
  while (at < length) {
    const recordLength = chunk.readUInt32LE(at + HEADER.length);
    if (chunk.readUInt16LE(at + HEADER.type) !== RECORD_PACKET) throw new Error('not a packet record');
    if (recordLength % 8 !== 0 || at + recordLength > length) throw new Error(`bad record length ${recordLength}`);
    const captured = chunk.readUInt32LE(at + PACKET.captured);
    const start = at + PACKET.size;
    const timeNs = chunk.readBigUInt64LE(at + HEADER.timeNs);
    packets.push({
      timeUs: Number(timeNs / 1000n) + Number(timeNs % 1000n) / 1000,
      cookie: Number(chunk.readBigUInt64LE(at + PACKET.cookie)),
      netns: chunk.readUInt32LE(at + PACKET.netns),
      ifindex: chunk.readUInt32LE(at + PACKET.ifindex),
      direction: DIRECTION_UNKNOWN,
      packetLength: chunk.readUInt32LE(at + PACKET.packetLength),
      payloadSkip: chunk.readUInt32LE(at + PACKET.payloadSkip),
      bytes: Buffer.from(chunk.subarray(start, start + captured)),
      start: 0,
      end: captured,
    });
    at += recordLength;
  }
  return packets;
}

export interface ReadFile {
  packets: PacketRecord[];
  /** Key log text, each with the number of packets that came before. */
  secrets: { text: string; after: number }[];
  result: ReadCaptureResult | undefined;
  error: Error | undefined;
}

/** Reads a whole capture file, never rejecting. */
export async function readAll(
  source: string | AsyncIterable<Buffer>,
  options: Partial<ReadCaptureOptions> = {},
): Promise<ReadFile> {
  const read: ReadFile = { packets: [], secrets: [], result: undefined, error: undefined };
  try {
    read.result = await readCaptureFile(source, (chunk, length) => read.packets.push(...packetsOf(chunk, length)), {
      ...options,
      onSecrets: (keyLog) => read.secrets.push({ text: keyLog.toString(), after: read.packets.length }),
    });
  } catch (error) {
    read.error = error as Error;
  }
  return read;
}

/** Bytes as a stream of parts of a given size. */
export async function* inParts(bytes: Buffer, size: number): AsyncIterable<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
