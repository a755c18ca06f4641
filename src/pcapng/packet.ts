import { DIRECTION_UNKNOWN, type PacketRecord } from '../capture/records.ts';
import { decodePacket, FIN, newSegment, SYN } from '../packet/decode.ts';

export const NO_HEADERS = Buffer.alloc(0);
/** Payload bytes of one packet made here: what fits the 16-bit lengths with all headers. */
const MAX_PAYLOAD_BYTES = 65_000;

/** Whether a record can be written as it is: most can. Else standalonePackets. */
export function isStandalone(record: PacketRecord): boolean {
  return record.direction === DIRECTION_UNKNOWN || !needsHeaders(record);
}

/** Takes one packet of the file: `headers`, then record.bytes[start..end). */
export type PacketPart = (headers: Buffer, start: number, end: number, originalLength: number) => void;

/**
 * Gives a record that cannot stand alone in a file as packets that can.
 *
 * A live packet whose length field is 0 (left to segmentation offload), or of which this record is a
 * piece, or which is larger than 64 KiB, is given as one or more packets with lengths and sequence numbers of their own, as the
 * network would have cut it.
 */
export function standalonePackets(record: PacketRecord, part: PacketPart): void {
  const { bytes, start, end } = record;
  if (decodePacket(record, segment) !== 'ok') {
    part(NO_HEADERS, start, end, end - start);
    return;
  }
  const { payloadStart, payloadEnd } = segment;
  const flags = segment.flags;
  let { seq } = segment;
  let from = payloadStart;
  do {
    const to = Math.min(payloadEnd, from + MAX_PAYLOAD_BYTES);
    const headers = copyHeaders(bytes, start, payloadStart);
    const tcp = headers.length - (payloadStart - segment.tcpStart);
    let own = flags;
    if (to < payloadEnd) own &= ~FIN;
    if (from > payloadStart) own &= ~SYN;
    headers[tcp + 13] = own;
    headers.writeUInt32BE(seq, tcp + 4);
    writeLengths(headers, to - from);
    part(headers, from, to, headers.length + to - from);
    seq = (seq + (to - from) + ((own & SYN) === 0 ? 0 : 1)) >>> 0;
    from = to;
  } while (from < payloadEnd);
}

const segment = newSegment();

/** Whether the length in the IP header is not that of the captured packet. */
function needsHeaders(record: PacketRecord): boolean {
  const { bytes, start, end } = record;
  if (end - start < 40) return false;
  const version = bytes[start]! >> 4;
  const length = version === 4 ? bytes.readUInt16BE(start + 2) : bytes.readUInt16BE(start + 4) + IPV6_HEADER_LENGTH;
  return length !== end - start;
}

const IPV6_HEADER_LENGTH = 40;
const JUMBO_PAYLOAD = 0xc2;
const JUMBO_HEADER_LENGTH = 8;

/** RFC 2675: a hop-by-hop header with the jumbo payload option alone, which is wrong beside a length of 16 bits. */
function hasJumboHeader(bytes: Buffer, start: number): boolean {
  const at = start + IPV6_HEADER_LENGTH;
  return bytes[start]! >> 4 === 6 && bytes[start + 6] === 0 && bytes[at + 1] === 0 && bytes[at + 2] === JUMBO_PAYLOAD;
}

/** A copy of the headers, without the jumbo payload option. */
function copyHeaders(bytes: Buffer, start: number, payloadStart: number): Buffer {
  if (!hasJumboHeader(bytes, start)) return Buffer.from(bytes.subarray(start, payloadStart));
  const rest = start + IPV6_HEADER_LENGTH + JUMBO_HEADER_LENGTH;
  const headers = Buffer.concat([
    bytes.subarray(start, start + IPV6_HEADER_LENGTH),
    bytes.subarray(rest, payloadStart),
  ]);
  headers[6] = bytes[start + IPV6_HEADER_LENGTH]!;
  return headers;
}

/** Writes the IP length, and the header checksum of IPv4 (RFC 1071). */
function writeLengths(headers: Buffer, payloadLength: number): void {
  const length = headers.length + payloadLength;
  if (headers[0]! >> 4 === 6) {
    headers.writeUInt16BE(length - IPV6_HEADER_LENGTH, 4);
    return;
  }
  headers.writeUInt16BE(length, 2);
  headers.writeUInt16BE(0, 10);
  let sum = 0;
  const headerLength = (headers[0]! & 0x0f) * 4;
  for (let i = 0; i < headerLength; i += 2) sum += headers.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  headers.writeUInt16BE(~sum & 0xffff, 10);
}
