/** Capture files written byte by byte: PcapNG in either byte order with every type of block, and pcap. */
import {
  BLOCK_DECRYPTION_SECRETS,
  BLOCK_ENHANCED_PACKET,
  BLOCK_INTERFACE_DESCRIPTION,
  BLOCK_INTERFACE_STATISTICS,
  BLOCK_PACKET,
  BLOCK_SECTION_HEADER,
  BLOCK_SIMPLE_PACKET,
  BYTE_ORDER_MAGIC,
  SECRETS_TLS_KEY_LOG,
} from '../../../src/pcapng/blocks.ts';

/** Link types, as https://www.tcpdump.org/linktypes.html has them. */
export const LINK_NULL = 0;
export const LINK_ETHERNET = 1;
export const LINK_RAW = 101;
export const LINK_IPV4 = 228;

const BLOCK_NAME_RESOLUTION = 4;
/** With and without the permission to copy it to files that hold other packets. */
const BLOCK_CUSTOM = 0x0bad;
const BLOCK_CUSTOM_NOT_COPIED = 0x4000_0bad;
const VERSION = { major: 1, minor: 0 };
const LENGTH_NOT_KNOWN = -1n;

/** One option: its code, and a text, bytes, or a number of 4 or (bigint) 8 bytes. */
export type Option = readonly [code: number, value: string | Buffer | number | bigint];

export interface InterfaceFields {
  linkType: number;
  /** 0: packets are not cut. */
  snapLength?: number;
  options?: readonly Option[];
}

export interface PacketFields {
  /** Of the section, from 0. */
  interfaceId?: number;
  /** In the interface's unit. */
  time?: bigint;
  bytes: Buffer;
  /** On the wire, when the packet was cut. */
  originalLength?: number;
  options?: readonly Option[];
}

/** The blocks of draft-ietf-opsawg-pcapng, each from its type to its second length. */
export class PcapngBlocks {
  private readonly bigEndian: boolean;

  constructor(bigEndian: boolean) {
    this.bigEndian = bigEndian;
  }

  /** 4.1. @param length of the section's other blocks, in bytes; default: not known */
  sectionHeader(options: readonly Option[] = [], length = LENGTH_NOT_KNOWN): Buffer {
    const version = this.numbers([VERSION.major, 2], [VERSION.minor, 2]);
    return this.block(BLOCK_SECTION_HEADER, this.u32(BYTE_ORDER_MAGIC), version, this.u64(length), this.list(options));
  }

  /** 4.2 */
  interfaceDescription({ linkType, snapLength = 0, options = [] }: InterfaceFields): Buffer {
    return this.block(
      BLOCK_INTERFACE_DESCRIPTION,
      this.numbers([linkType, 2], [0, 2], [snapLength, 4]),
      this.list(options),
    );
  }

  /** 4.3 */
  enhancedPacket({ interfaceId = 0, time = 0n, bytes, originalLength, options = [] }: PacketFields): Buffer {
    const lengths = this.numbers([bytes.length, 4], [originalLength ?? bytes.length, 4]);
    const head = Buffer.concat([this.u32(interfaceId), this.halves(time), lengths]);
    return this.block(BLOCK_ENHANCED_PACKET, head, padded(bytes), this.list(options));
  }

  /** 4.4. The caller cuts the bytes at the first interface's snapshot length. */
  simplePacket(bytes: Buffer, originalLength = bytes.length): Buffer {
    return this.block(BLOCK_SIMPLE_PACKET, this.u32(originalLength), padded(bytes));
  }

  /** 4.5. @param records each a type, 1 for IPv4 and 2 for IPv6, and its value: an address and the names that end in NUL */
  nameResolution(records: readonly Option[], options: readonly Option[] = []): Buffer {
    return this.block(BLOCK_NAME_RESOLUTION, this.list(records, true), this.list(options));
  }

  /** 4.6 */
  interfaceStatistics(interfaceId: number, time: bigint, options: readonly Option[] = []): Buffer {
    return this.block(BLOCK_INTERFACE_STATISTICS, this.u32(interfaceId), this.halves(time), this.list(options));
  }

  /** 4.7 */
  decryptionSecrets(secrets: Buffer, type = SECRETS_TLS_KEY_LOG, options: readonly Option[] = []): Buffer {
    const head = this.numbers([type, 4], [secrets.length, 4]);
    return this.block(BLOCK_DECRYPTION_SECRETS, head, padded(secrets), this.list(options));
  }

  /** 4.8 */
  custom(privateEnterpriseNumber: number, data: Buffer, copied = true): Buffer {
    return this.block(copied ? BLOCK_CUSTOM : BLOCK_CUSTOM_NOT_COPIED, this.u32(privateEnterpriseNumber), padded(data));
  }

  /** Appendix A */
  obsoletePacket({ interfaceId = 0, time = 0n, bytes, originalLength, options = [] }: PacketFields, drops = 0): Buffer {
    const lengths = this.numbers([bytes.length, 4], [originalLength ?? bytes.length, 4]);
    const head = Buffer.concat([this.numbers([interfaceId, 2], [drops, 2]), this.halves(time), lengths]);
    return this.block(BLOCK_PACKET, head, padded(bytes), this.list(options));
  }

  /** 3.1: of any type, with a body that is padded. */
  block(type: number, ...body: readonly Buffer[]): Buffer {
    const content = padded(Buffer.concat(body));
    const length = this.u32(content.length + 12);
    return Buffer.concat([this.u32(type), length, content, length]);
  }

  /** 3.5: options and their end; nothing for none, unless an end is wanted. */
  private list(options: readonly Option[], end = options.length > 0): Buffer {
    const parts = options.map(([code, value]) => {
      const bytes = this.value(value);
      return Buffer.concat([this.numbers([code, 2], [bytes.length, 2]), padded(bytes)]);
    });
    return Buffer.concat([...parts, ...(end ? [Buffer.alloc(4)] : [])]);
  }

  private value(value: Option[1]): Buffer {
    if (typeof value === 'number') return this.u32(value);
    if (typeof value === 'bigint') return this.u64(value);
    return Buffer.from(value);
  }

  private u32(value: number): Buffer {
    return this.numbers([value, 4]);
  }

  private u64(value: bigint): Buffer {
    const bytes = Buffer.alloc(8);
    if (this.bigEndian) bytes.writeBigInt64BE(value);
    else bytes.writeBigInt64LE(value);
    return bytes;
  }

  /** Timestamps, also as options, are two numbers of 4 bytes: the upper one is first in both byte orders. */
  halves(time: bigint): Buffer {
    return this.numbers([Number(time >> 32n), 4], [Number(time & 0xffff_ffffn), 4]);
  }

  private numbers(...list: readonly [value: number, size: 2 | 4][]): Buffer {
    return Buffer.concat(
      list.map(([value, size]) => {
        const bytes = Buffer.alloc(size);
        if (this.bigEndian) bytes.writeUIntBE(value, 0, size);
        else bytes.writeUIntLE(value, 0, size);
        return bytes;
      }),
    );
  }
}

/** One packet from its link header on, whole. */
export interface Frame {
  /** Microseconds since the Unix epoch. */
  timeUs: number;
  bytes: Buffer;
}

/** A pcap file, little-endian, in microseconds. */
export function pcapFile(frames: readonly Frame[], linkType: number): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(linkType, 20);
  const records = frames.flatMap(({ timeUs, bytes }) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(Math.floor(timeUs / 1e6), 0);
    record.writeUInt32LE(Math.floor(timeUs % 1e6), 4);
    record.writeUInt32LE(bytes.length, 8);
    record.writeUInt32LE(bytes.length, 12);
    return [record, bytes];
  });
  return Buffer.concat([header, ...records]);
}

/** A pcapng file, little-endian, of one interface, in microseconds. @param secrets NSS key log lines, each before the frame of that number */
export function pcapngFile(
  frames: readonly Frame[],
  linkType: number,
  secrets: ReadonlyMap<number, string> = new Map(),
): Buffer {
  const blocks = new PcapngBlocks(false);
  return Buffer.concat([
    blocks.sectionHeader(),
    blocks.interfaceDescription({ linkType }),
    ...frames.flatMap(({ timeUs, bytes }, at) => {
      const keyLog = secrets.get(at);
      const packet = blocks.enhancedPacket({ time: BigInt(Math.floor(timeUs)), bytes });
      return keyLog === undefined ? [packet] : [blocks.decryptionSecrets(Buffer.from(keyLog)), packet];
    }),
  ]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
