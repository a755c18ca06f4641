import { MAX_PACKET_BYTES, PACKET_HEADER_BYTES, type PacketKind, packetKind } from './startup.ts';

const NOTHING = Buffer.alloc(0);

/** Gathers the packets without type that begin a connection, one after the other. */
export class PacketReader {
  bytes: Buffer = NOTHING;
  /** Of the packet, its length field included; 0 until its header is there. */
  size = 0;
  kind: PacketKind | undefined;
  invalid = false;
  /** When its first byte was seen, and where it stands in the stream. */
  startUs = 0;
  offset = 0;
  private length = 0;

  get heldBytes(): number {
    return this.bytes.length;
  }

  get isEmpty(): boolean {
    return this.length === 0;
  }

  get isWhole(): boolean {
    return this.size > 0 && this.length === this.size;
  }

  begin(startUs: number, offset: number): void {
    this.startUs = startUs;
    this.offset = offset;
  }

  /** @returns how far bytes[position..end) were taken */
  consume(bytes: Buffer, position: number, end: number): number {
    if (this.bytes.length === 0) this.bytes = Buffer.allocUnsafeSlow(PACKET_HEADER_BYTES);
    let next = this.take(bytes, position, end, PACKET_HEADER_BYTES);
    if (this.size === 0 && this.length === PACKET_HEADER_BYTES) {
      this.kind = packetKind(this.bytes, 0);
      this.size = this.bytes.readUInt32BE(0);
      if (this.kind === undefined || this.size > MAX_PACKET_BYTES) {
        this.invalid = true;
        return next;
      }
      const whole = Buffer.allocUnsafeSlow(this.size);
      this.bytes.copy(whole, 0, 0, PACKET_HEADER_BYTES);
      this.bytes = whole;
    }
    if (this.size > 0) next = this.take(bytes, next, end, this.size);
    return next;
  }

  release(): void {
    this.bytes = NOTHING;
    this.size = 0;
    this.length = 0;
    this.kind = undefined;
    this.invalid = false;
  }

  private take(bytes: Buffer, position: number, end: number, upTo: number): number {
    const part = Math.min(upTo - this.length, end - position);
    if (part <= 0) return position;
    bytes.copy(this.bytes, this.length, position, position + part);
    this.length += part;
    return position + part;
  }
}
