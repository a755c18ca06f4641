import { CaptureFormatError, type FileHandler, type FormatReader } from './reader.ts';

const FILE_HEADER_LENGTH = 24;
const RECORD_HEADER_LENGTH = 16;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
/** A format of the 1990s with longer record headers. */
const MAGIC_MODIFIED = 0xa1b2cd34;
/** MAXIMUM_SNAPLEN of libpcap: no record is longer, unless the file's own snapshot length is. */
const MAXIMUM_SNAP_LENGTH = 262_144;

/** Whether a file begins like pcap, of a kind that is read or of one that is refused with a reason. */
export function isPcap(bytes: Buffer): boolean {
  const magics = [bytes.readUInt32LE(0), bytes.readUInt32BE(0)];
  return magics.some((magic) => [MAGIC_MICROSECONDS, MAGIC_NANOSECONDS, MAGIC_MODIFIED].includes(magic));
}

/** The classic format of libpcap (draft-ietf-opsawg-pcap), either byte order, microseconds or nanoseconds. */
export class PcapReader implements FormatReader {
  readonly unit = 'record';
  wanted = FILE_HEADER_LENGTH;
  private readonly maxRecordBytes: number;
  private headerRead = false;
  private littleEndian = true;
  private fractionUs = 1;
  private linkType = 0;
  private maxCaptured = MAXIMUM_SNAP_LENGTH;

  constructor(maxRecordBytes: number) {
    this.maxRecordBytes = maxRecordBytes;
  }

  read(bytes: Buffer, fileOffset: number, handler: FileHandler): number {
    let position = 0;
    if (!this.headerRead) {
      this.wanted = FILE_HEADER_LENGTH;
      if (bytes.length < FILE_HEADER_LENGTH) return 0;
      this.fileHeader(bytes);
      position = FILE_HEADER_LENGTH;
    }
    for (;;) {
      const left = bytes.length - position;
      this.wanted = RECORD_HEADER_LENGTH;
      if (left < RECORD_HEADER_LENGTH) return position;
      const captured = this.u32(bytes, position + 8);
      if (captured > this.maxCaptured) {
        throw new CaptureFormatError(fileOffset + position, `a packet has the impossible length ${captured}`);
      }
      this.wanted = RECORD_HEADER_LENGTH + captured;
      if (left < this.wanted) return position;
      const timeUs = this.u32(bytes, position) * 1_000_000 + this.u32(bytes, position + 4) * this.fractionUs;
      const original = this.u32(bytes, position + 12);
      const start = position + RECORD_HEADER_LENGTH;
      handler.frame(this.linkType, timeUs, bytes, start, start + captured, Math.max(captured, original));
      position = start + captured;
    }
  }

  private fileHeader(bytes: Buffer): void {
    const magicLittle = bytes.readUInt32LE(0);
    this.littleEndian = [MAGIC_MICROSECONDS, MAGIC_NANOSECONDS, MAGIC_MODIFIED].includes(magicLittle);
    const magic = this.u32(bytes, 0);
    if (magic === MAGIC_MODIFIED) throw new CaptureFormatError(0, 'the "modified" pcap format is not supported');
    const major = this.littleEndian ? bytes.readUInt16LE(4) : bytes.readUInt16BE(4);
    if (major !== 2) throw new CaptureFormatError(4, `pcap version ${major} is not known`);
    this.fractionUs = magic === MAGIC_NANOSECONDS ? 0.001 : 1;
    const snapLength = this.u32(bytes, 16);
    this.maxCaptured = Math.min(Math.max(snapLength, MAXIMUM_SNAP_LENGTH), this.maxRecordBytes);
    // The upper bits describe frame check sequences.
    this.linkType = this.u32(bytes, 20) & 0xffff;
    this.headerRead = true;
  }

  private u32(bytes: Buffer, at: number): number {
    return this.littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
  }
}
