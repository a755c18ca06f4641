import { DIRECTION_UNKNOWN, type PacketRecord } from '../capture/records.ts';

/** TCP control bits, RFC 9293 3.1. */
export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;

/** One TCP segment inside a packet record. One object is reused for all packets: positions, never bytes of its own. */
export interface Segment {
  family: 4 | 6;
  /** Offsets in record.bytes; addresses are addressLength (4 or 16) bytes long. */
  srcAddressStart: number;
  dstAddressStart: number;
  addressLength: number;
  /** Offset of the TCP header. */
  tcpStart: number;
  srcPort: number;
  dstPort: number;
  /** Of the first payload byte of this record (of the SYN itself when SYN is set): record.payloadSkip is already added. */
  seq: number;
  /** Meaningless without ACK in flags. */
  ack: number;
  /** FIN and SYN are cleared in the pieces of a packet that do not hold its end or its start. */
  flags: number;
  /** As on the wire, not scaled. */
  window: number;
  /** The captured payload is record.bytes[payloadStart..payloadEnd). */
  payloadStart: number;
  payloadEnd: number;
  /** Payload bytes that the packet had: more than payloadEnd - payloadStart when the capture cut the packet. */
  payloadLength: number;
}

/** Why a packet holds no TCP segment that can be used; a reason of counters.packets.ignored. */
export type DecodeResult =
  | 'ok'
  /** Neither IPv4 nor IPv6. */
  | 'not_ip'
  | 'not_tcp'
  /** A later fragment of an IP packet. The first one holds the TCP header and is used. */
  | 'ip_fragment'
  /** The capture ends inside the IP or TCP header. */
  | 'truncated_headers'
  | 'malformed_ip'
  | 'malformed_tcp'
  /** More extension headers than any sender has use for. */
  | 'too_many_extension_headers';

export function newSegment(): Segment {
  return {
    family: 4,
    srcAddressStart: 0,
    dstAddressStart: 0,
    addressLength: 4,
    tcpStart: 0,
    srcPort: 0,
    dstPort: 0,
    seq: 0,
    ack: 0,
    flags: 0,
    window: 0,
    payloadStart: 0,
    payloadEnd: 0,
    payloadLength: 0,
  };
}

const PROTOCOL_TCP = 6;
const IPV6_HEADER_LENGTH = 40;
/** RFC 8200 4.1 knows seven kinds, each at most once but for destination options. */
const MAX_EXTENSION_HEADERS = 8;

/**
 * Finds the TCP segment in a packet.
 *
 * Checksums are not verified: what is captured on a sending machine has none yet (checksum offload).
 *
 * @returns `ok` with `out` filled, else why not; `out` is then meaningless
 */
export function decodePacket(record: PacketRecord, out: Segment): DecodeResult {
  const { bytes, start, end } = record;
  if (start >= end) return 'truncated_headers';
  switch (bytes[start]! >> 4) {
    case 4:
      return decodeIpv4(record, out);
    case 6:
      return decodeIpv6(record, out);
    default:
      return 'not_ip';
  }
}

/** RFC 791 3.1. */
function decodeIpv4(record: PacketRecord, out: Segment): DecodeResult {
  const { bytes, start, end } = record;
  if (end - start < 20) return 'truncated_headers';
  const headerLength = (bytes[start]! & 0x0f) * 4;
  if (headerLength < 20) return 'malformed_ip';
  if (bytes[start + 9] !== PROTOCOL_TCP) return 'not_tcp';
  if ((u16(bytes, start + 6) & 0x1fff) !== 0) return 'ip_fragment';
  // 0: the length is left to segmentation offload, or does not fit 16 bits (BIG TCP).
  const totalLength = u16(bytes, start + 2) || record.packetLength;
  if (totalLength < headerLength) return 'malformed_ip';
  out.family = 4;
  out.addressLength = 4;
  out.srcAddressStart = start + 12;
  out.dstAddressStart = start + 16;
  return decodeTcp(record, start + headerLength, start + totalLength, out);
}

/** RFC 8200 3 and 4. */
function decodeIpv6(record: PacketRecord, out: Segment): DecodeResult {
  const { bytes, start, end } = record;
  if (end - start < IPV6_HEADER_LENGTH) return 'truncated_headers';
  // 0: a jumbogram (RFC 2675) or a packet of BIG TCP, whose length is in an option or nowhere.
  const payloadLength = u16(bytes, start + 4);
  const ipEnd = payloadLength === 0 ? start + record.packetLength : start + IPV6_HEADER_LENGTH + payloadLength;
  out.family = 6;
  out.addressLength = 16;
  out.srcAddressStart = start + 8;
  out.dstAddressStart = start + 24;
  let nextHeader = bytes[start + 6]!;
  let position = start + IPV6_HEADER_LENGTH;
  for (let i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
    if (nextHeader === PROTOCOL_TCP) return decodeTcp(record, position, ipEnd, out);
    if (!isExtensionHeader(nextHeader)) return 'not_tcp';
    if (position + 8 > end) return 'truncated_headers';
    const length = extensionHeaderLength(nextHeader, bytes[position + 1]!);
    if (nextHeader === FRAGMENT_HEADER && (u16(bytes, position + 2) & 0xfff8) !== 0) return 'ip_fragment';
    nextHeader = bytes[position]!;
    position += length;
  }
  return 'too_many_extension_headers';
}

const FRAGMENT_HEADER = 44;
const AUTHENTICATION_HEADER = 51;

/** The registry "IPv6 Extension Header Types" without ESP (encrypted) and the experimental ones. */
function isExtensionHeader(type: number): boolean {
  switch (type) {
    case 0: // hop-by-hop options
    case 43: // routing
    case FRAGMENT_HEADER:
    case AUTHENTICATION_HEADER:
    case 60: // destination options
    case 135: // mobility
    case 139: // host identity protocol
    case 140: // shim6
      return true;
    default:
      return false;
  }
}

function extensionHeaderLength(type: number, lengthField: number): number {
  if (type === FRAGMENT_HEADER) return 8;
  if (type === AUTHENTICATION_HEADER) return (lengthField + 2) * 4; // RFC 4302 2.2
  return (lengthField + 1) * 8;
}

/** RFC 9293 3.1. @param ipEnd offset in record.bytes where the IP packet ends, maybe beyond what was captured */
function decodeTcp(record: PacketRecord, tcpStart: number, ipEnd: number, out: Segment): DecodeResult {
  const { bytes, end } = record;
  if (tcpStart + 20 > end) return tcpStart + 20 > ipEnd ? 'malformed_tcp' : 'truncated_headers';
  const headerLength = (bytes[tcpStart + 12]! >> 4) * 4;
  const payloadStart = tcpStart + headerLength;
  if (headerLength < 20 || payloadStart > ipEnd) return 'malformed_tcp';
  out.tcpStart = tcpStart;
  out.srcPort = u16(bytes, tcpStart);
  out.dstPort = u16(bytes, tcpStart + 2);
  out.ack = u32(bytes, tcpStart + 8);
  out.window = u16(bytes, tcpStart + 14);
  out.payloadStart = Math.min(payloadStart, end);
  let flags = bytes[tcpStart + 13]!;
  const sequence = u32(bytes, tcpStart + 4);
  if (record.direction === DIRECTION_UNKNOWN && record.payloadSkip === 0) {
    // What follows the IP packet is padding of the link; what lies before its end and was not captured is lost.
    out.payloadEnd = Math.min(ipEnd, end);
    out.payloadLength = ipEnd - payloadStart;
    out.seq = sequence;
  } else {
    // A live packet is whole, or comes in pieces: each holds the headers and its share of the payload, which ends where it ends.
    const skip = record.payloadSkip;
    const pieceEnd = Math.min(ipEnd - skip, end);
    out.payloadEnd = Math.max(pieceEnd, out.payloadStart);
    out.payloadLength = out.payloadEnd - out.payloadStart;
    out.seq = (sequence + skip) >>> 0;
    if (skip !== 0 && (flags & SYN) !== 0) {
      flags &= ~SYN;
      out.seq = (out.seq + 1) >>> 0;
    }
    if (payloadStart + skip + out.payloadLength < ipEnd) flags &= ~FIN;
  }
  out.flags = flags;
  return 'ok';
}

function u16(bytes: Buffer, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function u32(bytes: Buffer, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}
