import { DIRECTION_EGRESS, DIRECTION_INGRESS, type PacketDirection } from '../capture/records.ts';
import { LINKTYPE_RAW } from '../link/link.ts';
import {
  BLOCK_DECRYPTION_SECRETS,
  BLOCK_ENHANCED_PACKET,
  BLOCK_INTERFACE_DESCRIPTION,
  BLOCK_INTERFACE_STATISTICS,
  BLOCK_SECTION_HEADER,
  BYTE_ORDER_MAGIC,
  EPB_FLAGS,
  EPB_INBOUND,
  EPB_OUTBOUND,
  IF_NAME,
  IF_TSRESOL,
  ISB_IFDROP,
  ISB_IFRECV,
  OPTION_COMMENT,
  OPTION_END,
  SECRETS_TLS_KEY_LOG,
  SHB_USERAPPL,
} from './blocks.ts';

/**
 * Encodes PcapNG blocks (draft-ietf-opsawg-pcapng), little-endian. One section, one interface: raw IP packets with times in
 * nanoseconds.
 */

/** Section header and interface description: the beginning of a file. */
export function fileHeader(application: string, interfaceName: string): Buffer {
  const section = Buffer.alloc(16);
  section.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
  section.writeUInt16LE(1, 4);
  section.fill(0xff, 8); // the section's length is not said
  const description = Buffer.alloc(8); // a snapshot length of 0: packets are whole
  description.writeUInt16LE(LINKTYPE_RAW, 0);
  return Buffer.concat([
    block(BLOCK_SECTION_HEADER, [section, option(SHB_USERAPPL, Buffer.from(application)), END]),
    block(BLOCK_INTERFACE_DESCRIPTION, [
      description,
      option(IF_NAME, Buffer.from(interfaceName)),
      option(IF_TSRESOL, Buffer.from([9])),
      END,
    ]),
  ]);
}

const PACKET_HEADER_LENGTH = 28;

/**
 * An Enhanced Packet Block in one new Buffer.
 *
 * @param unixUs microseconds since the Unix epoch, with a fraction
 * @param headers the packet's first bytes, maybe none; bytes[start..end) follow them
 * @param originalLength of the packet on the wire
 */
export function enhancedPacket(
  unixUs: number,
  direction: PacketDirection,
  headers: Buffer,
  bytes: Buffer,
  start: number,
  end: number,
  originalLength: number,
): Buffer {
  const captured = headers.length + (end - start);
  const padded = (captured + 3) & ~3;
  const flags = epbFlags(direction);
  const optionsLength = flags === 0 ? 0 : 12;
  const length = PACKET_HEADER_LENGTH + padded + optionsLength + 4;
  const out = Buffer.allocUnsafe(length);
  out.writeUInt32LE(BLOCK_ENHANCED_PACKET, 0);
  out.writeUInt32LE(length, 4);
  out.writeUInt32LE(0, 8);
  writeTimestamp(out, 12, unixUs);
  out.writeUInt32LE(captured, 20);
  out.writeUInt32LE(originalLength, 24);
  headers.copy(out, PACKET_HEADER_LENGTH);
  bytes.copy(out, PACKET_HEADER_LENGTH + headers.length, start, end);
  let at = PACKET_HEADER_LENGTH + captured;
  while (at < PACKET_HEADER_LENGTH + padded) out[at++] = 0;
  if (flags !== 0) {
    out.writeUInt16LE(EPB_FLAGS, at);
    out.writeUInt16LE(4, at + 2);
    out.writeUInt32LE(flags, at + 4);
    out.writeUInt32LE(OPTION_END, at + 8);
  }
  out.writeUInt32LE(length, length - 4);
  return out;
}

/** @param keyLog lines of an NSS key log, each with its line feed */
export function decryptionSecrets(keyLog: string): Buffer {
  const text = Buffer.from(keyLog, 'latin1');
  const head = Buffer.alloc(8);
  head.writeUInt32LE(SECRETS_TLS_KEY_LOG, 0);
  head.writeUInt32LE(text.length, 4);
  const encoded = block(BLOCK_DECRYPTION_SECRETS, [head, text]);
  text.fill(0);
  return encoded;
}

/** @param received packets offered to the interface, @param dropped how many of them are not in the file */
export function interfaceStatistics(unixUs: number, received: number, dropped: number, comment: string): Buffer {
  const head = Buffer.alloc(12);
  writeTimestamp(head, 4, unixUs);
  return block(BLOCK_INTERFACE_STATISTICS, [
    head,
    option(ISB_IFRECV, u64(received)),
    option(ISB_IFDROP, u64(dropped)),
    ...(comment === '' ? [] : [option(OPTION_COMMENT, Buffer.from(comment))]),
    END,
  ]);
}

const END = Buffer.alloc(4);

function epbFlags(direction: PacketDirection): number {
  if (direction === DIRECTION_INGRESS) return EPB_INBOUND;
  return direction === DIRECTION_EGRESS ? EPB_OUTBOUND : 0;
}

function block(type: number, parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const length = 12 + ((body.length + 3) & ~3);
  const out = Buffer.alloc(length);
  out.writeUInt32LE(type, 0);
  out.writeUInt32LE(length, 4);
  body.copy(out, 8);
  body.fill(0); // it may have held secrets
  out.writeUInt32LE(length, length - 4);
  return out;
}

function option(code: number, value: Buffer): Buffer {
  const out = Buffer.alloc(4 + ((value.length + 3) & ~3));
  out.writeUInt16LE(code, 0);
  out.writeUInt16LE(value.length, 2);
  value.copy(out, 4);
  return out;
}

function u64(value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(Math.max(0, Math.round(value))), 0);
  return out;
}

/** Nanoseconds as two 32-bit halves, the upper first (4.3). */
function writeTimestamp(out: Buffer, at: number, unixUs: number): void {
  const wholeUs = Math.max(0, Math.floor(unixUs));
  const low = (wholeUs % 0x1_0000_0000) * 1000 + Math.round((unixUs - wholeUs) * 1000);
  const high = Math.floor(wholeUs / 0x1_0000_0000) * 1000 + Math.floor(low / 0x1_0000_0000);
  out.writeUInt32LE(high >>> 0, at);
  out.writeUInt32LE(low >>> 0, at + 4);
}
