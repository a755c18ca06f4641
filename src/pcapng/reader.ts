import {
  BLOCK_DECRYPTION_SECRETS,
  BLOCK_ENHANCED_PACKET,
  BLOCK_INTERFACE_DESCRIPTION,
  BLOCK_PACKET,
  BLOCK_SECTION_HEADER,
  BLOCK_SIMPLE_PACKET,
  BYTE_ORDER_MAGIC,
  IF_TSOFFSET,
  IF_TSRESOL,
  OPTION_END,
} from './blocks.ts';

/** What a capture file holds, in its order. Bytes are borrowed. */
export interface FileHandler {
  /**
   * One frame, from its link header on: bytes[start..end).
   *
   * @param timeUs microseconds since the Unix epoch, NaN when the file does not say
   * @param originalLength of the frame on the wire, at least end - start
   */
  frame(linkType: number, timeUs: number, bytes: Buffer, start: number, end: number, originalLength: number): void;
  /** A Decryption Secrets Block. */
  secrets(type: number, bytes: Buffer): void;
}

/** A file that breaks its own format. `offset` is the byte (of the uncompressed file) where the broken part begins. */
export class CaptureFormatError extends Error {
  readonly offset: number;

  constructor(offset: number, what: string) {
    super(`at byte ${offset}: ${what}`);
    this.offset = offset;
  }
}

/** One file format: says how much it wants next, and takes it. */
export interface FormatReader {
  /** The name of the unit that is read next, for "the file ends inside ...". */
  readonly unit: string;
  /**
   * Reads what is whole.
   *
   * @param bytes from the file, `fileOffset` being the position of bytes[0] in it
   * @returns how many bytes were used, and sets `wanted` to how many are needed from there for the next step
   * @throws CaptureFormatError
   */
  read(bytes: Buffer, fileOffset: number, handler: FileHandler): number;
  wanted: number;
}

interface Interface {
  readonly linkType: number;
  readonly snapLength: number;
  /** Units of time in a microsecond, a fraction below 1 when the unit is longer. */
  readonly unitsPerUs: number;
  /** The upper half of a timestamp counts 2^32 units: so many whole microseconds, and so many units more. */
  readonly upperUs: number;
  readonly upperUnits: number;
  readonly offsetUs: number;
}

const MIN_BLOCK_LENGTH = 12;
const UPPER = 0x1_0000_0000;

/**
 * PcapNG (draft-ietf-opsawg-pcapng): sections of either byte order, any number of interfaces in each; blocks that hold neither
 * packets nor secrets are passed over.
 */
export class PcapngReader implements FormatReader {
  readonly unit = 'block';
  wanted = MIN_BLOCK_LENGTH;
  private readonly maxBlockBytes: number;
  private littleEndian = true;
  private interfaces: Interface[] = [];

  constructor(maxBlockBytes: number) {
    this.maxBlockBytes = maxBlockBytes;
  }

  read(bytes: Buffer, fileOffset: number, handler: FileHandler): number {
    let position = 0;
    for (;;) {
      const left = bytes.length - position;
      if (left < MIN_BLOCK_LENGTH) {
        this.wanted = MIN_BLOCK_LENGTH;
        return position;
      }
      const offset = fileOffset + position;
      if (bytes.readUInt32LE(position) === BLOCK_SECTION_HEADER) this.readByteOrder(bytes, position, offset);
      const type = this.u32(bytes, position);
      const length = this.u32(bytes, position + 4);
      if (length < MIN_BLOCK_LENGTH || length % 4 !== 0) {
        throw new CaptureFormatError(offset, `a block has the impossible length ${length}`);
      }
      if (length > this.maxBlockBytes) {
        throw new CaptureFormatError(offset, `a block of ${length} bytes is beyond the limit of ${this.maxBlockBytes}`);
      }
      if (left < length) {
        this.wanted = length;
        return position;
      }
      const trailer = this.u32(bytes, position + length - 4);
      if (trailer !== length) {
        throw new CaptureFormatError(offset, `a block's length is ${length} at its start and ${trailer} at its end`);
      }
      this.block(type, bytes, position + 8, position + length - 4, offset, handler);
      position += length;
    }
  }

  /** 4.1: the byte order of a section is that of the magic number in its header. */
  private readByteOrder(bytes: Buffer, position: number, offset: number): void {
    if (bytes.readUInt32LE(position + 8) === BYTE_ORDER_MAGIC) this.littleEndian = true;
    else if (bytes.readUInt32BE(position + 8) === BYTE_ORDER_MAGIC) this.littleEndian = false;
    else throw new CaptureFormatError(offset, 'a section header has no byte-order magic');
  }

  private block(type: number, bytes: Buffer, start: number, end: number, offset: number, handler: FileHandler): void {
    switch (type) {
      case BLOCK_SECTION_HEADER:
        this.sectionHeader(bytes, start, end, offset);
        break;
      case BLOCK_INTERFACE_DESCRIPTION:
        this.interfaceDescription(bytes, start, end, offset);
        break;
      case BLOCK_ENHANCED_PACKET:
        if (end - start < 20) throw new CaptureFormatError(offset, 'a packet block is too short');
        this.packet(this.u32(bytes, start), bytes, start, end, offset, handler);
        break;
      case BLOCK_PACKET:
        if (end - start < 20) throw new CaptureFormatError(offset, 'a packet block is too short');
        this.packet(this.u16(bytes, start), bytes, start, end, offset, handler);
        break;
      case BLOCK_SIMPLE_PACKET:
        this.simplePacket(bytes, start, end, offset, handler);
        break;
      case BLOCK_DECRYPTION_SECRETS:
        this.decryptionSecrets(bytes, start, end, offset, handler);
        break;
      default:
        break; // 3.1: unknown blocks are passed over
    }
  }

  /** 4.1 */
  private sectionHeader(bytes: Buffer, start: number, end: number, offset: number): void {
    if (end - start < 16) throw new CaptureFormatError(offset, 'a section header is too short');
    const major = this.u16(bytes, start + 4);
    if (major !== 1) throw new CaptureFormatError(offset, `PcapNG version ${major} is not known`);
    this.interfaces = [];
  }

  /** 4.2 */
  private interfaceDescription(bytes: Buffer, start: number, end: number, offset: number): void {
    if (end - start < 8) throw new CaptureFormatError(offset, 'an interface description is too short');
    let unitsPerUs = 1;
    let offsetUs = 0;
    let position = start + 8;
    while (position + 4 <= end) {
      const code = this.u16(bytes, position);
      const length = this.u16(bytes, position + 2);
      const value = position + 4;
      if (code === OPTION_END || value + length > end) break;
      if (code === IF_TSRESOL && length >= 1) unitsPerUs = resolution(bytes[value]!);
      if (code === IF_TSOFFSET && length >= 8) offsetUs = this.i64(bytes, value) * 1_000_000;
      position = value + length + (-length & 3);
    }
    const linkType = this.u16(bytes, start);
    const snapLength = this.u32(bytes, start + 4);
    // Nanoseconds since 1970 do not fit a double; split so, nothing is rounded before the last step.
    const upperUs = Number.isInteger(unitsPerUs) ? Math.floor(UPPER / unitsPerUs) : UPPER / unitsPerUs;
    const upperUnits = Number.isInteger(unitsPerUs) ? UPPER % unitsPerUs : 0;
    this.interfaces.push({ linkType, snapLength, unitsPerUs, upperUs, upperUnits, offsetUs });
  }

  /** 4.3, and the obsolete Packet Block, whose interface id is shorter. */
  private packet(
    interfaceId: number,
    bytes: Buffer,
    start: number,
    end: number,
    offset: number,
    handler: FileHandler,
  ): void {
    const described = this.interface(interfaceId, offset);
    const captured = this.u32(bytes, start + 12);
    const original = this.u32(bytes, start + 16);
    if (captured > end - start - 20) {
      throw new CaptureFormatError(offset, `a packet of ${captured} bytes is longer than its block`);
    }
    const upper = this.u32(bytes, start + 4);
    const units = upper * described.upperUnits + this.u32(bytes, start + 8);
    const timeUs = upper * described.upperUs + units / described.unitsPerUs + described.offsetUs;
    handler.frame(described.linkType, timeUs, bytes, start + 20, start + 20 + captured, Math.max(captured, original));
  }

  /** 4.4: of the first interface, cut at its snapshot length, without a time. */
  private simplePacket(bytes: Buffer, start: number, end: number, offset: number, handler: FileHandler): void {
    if (end - start < 4) throw new CaptureFormatError(offset, 'a simple packet block is too short');
    const described = this.interface(0, offset);
    const original = this.u32(bytes, start);
    const limit = described.snapLength === 0 ? original : Math.min(original, described.snapLength);
    const captured = Math.min(limit, end - start - 4);
    handler.frame(described.linkType, Number.NaN, bytes, start + 4, start + 4 + captured, Math.max(captured, original));
  }

  /** 4.7 */
  private decryptionSecrets(bytes: Buffer, start: number, end: number, offset: number, handler: FileHandler): void {
    if (end - start < 8) throw new CaptureFormatError(offset, 'a block of secrets is too short');
    const length = this.u32(bytes, start + 4);
    if (length > end - start - 8) throw new CaptureFormatError(offset, 'secrets are longer than their block');
    handler.secrets(this.u32(bytes, start), bytes.subarray(start + 8, start + 8 + length));
  }

  private interface(id: number, offset: number): Interface {
    const described = this.interfaces[id];
    if (described === undefined) {
      throw new CaptureFormatError(offset, `a packet is of interface ${id}, which the section does not describe`);
    }
    return described;
  }

  private u16(bytes: Buffer, at: number): number {
    return this.littleEndian ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at);
  }

  private u32(bytes: Buffer, at: number): number {
    return this.littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
  }

  private i64(bytes: Buffer, at: number): number {
    return Number(this.littleEndian ? bytes.readBigInt64LE(at) : bytes.readBigInt64BE(at));
  }
}

/** 4.2 if_tsresol: the negative power of 10, or of 2 when the highest bit is set. @returns units per microsecond */
function resolution(option: number): number {
  const exponent = option & 0x7f;
  return (option & 0x80) === 0 ? 10 ** (exponent - 6) : 2 ** exponent / 1_000_000;
}
