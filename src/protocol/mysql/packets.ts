import { MAX_PACKET, packetLength } from './wire.ts';

/** Takes the packets of one direction, in their order. */
export interface PacketSink {
  /**
   * A packet does not lie whole in the bytes at hand.
   * @param first its first byte
   * @param length of its first part
   * @returns how many of its bytes `packet` needs: those are gathered, the others passed over
   */
  wants(first: number, length: number): number;
  /**
   * A packet is over.
   * @param bytes borrowed for the call; bytes[start..end) are the first of its payload, at least as many as were wanted, unless `reader.damaged`
   * @param length of the payload, that of all its parts
   * @param sequence of its last part
   */
  packet(bytes: Buffer, start: number, end: number, length: number, sequence: number): void;
  /** Bytes were lost: where the next packet begins is not known. Nothing is read until `resume`. */
  placeLost(): void;
}

const HEADER_BYTES = 4;
const NOTHING = Buffer.alloc(0);

/**
 * Finds the packets in one direction's bytes ("MySQL Packets"): three bytes of length, one of sequence, the payload. A packet that lies whole in
 * the bytes at hand is passed on in place; of others, only what the sink wants is copied.
 */
export class PacketReader {
  /** Of the packet at hand: when its first byte was seen; its offset in the stream; its bytes with the headers; whether some of them were lost. */
  firstUs = 0;
  offset = 0;
  wireBytes = 0;
  damaged = false;
  /** Time of the bytes at hand. */
  timeUs = 0;
  /** The place in the stream is not known. */
  lost = false;
  /** Set by the sink: `data` returns after the packet at hand. */
  stopped = false;

  private readonly sink: PacketSink;
  /** Offset of the next byte in the stream. */
  private position = 0;
  private readonly header = Buffer.alloc(HEADER_BYTES);
  private headerLength = 0;
  /** Within a packet: bytes to come of its part at hand, -1 between packets and between parts. */
  private remaining = -1;
  /** The part before it was a full one. */
  private continues = false;
  private total = 0;
  private sequence = 0;
  private partLength = 0;
  /** What is gathered: -1 while not known. */
  private wanted = -1;
  private held: Buffer = NOTHING;
  private heldLength = 0;

  constructor(sink: PacketSink) {
    this.sink = sink;
  }

  get heldBytes(): number {
    return this.held.length;
  }

  /** Neither within a packet nor lost. */
  get atBoundary(): boolean {
    return !this.lost && this.headerLength === 0 && this.remaining < 0 && !this.continues;
  }

  /** Takes bytes, up to the end or until the sink stops it. @returns where it stopped */
  data(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): number {
    this.timeUs = timeUs;
    let at = start;
    while (at < end && !this.lost) {
      if (this.headerLength === 0 && this.remaining < 0 && !this.continues && end - at >= HEADER_BYTES) {
        const length = packetLength(bytes, at);
        const payload = at + HEADER_BYTES;
        if (length <= end - payload && length !== MAX_PACKET) {
          this.firstUs = firstUs;
          this.offset = this.position;
          this.wireBytes = HEADER_BYTES + length;
          this.damaged = false;
          this.position += this.wireBytes;
          at = payload + length;
          this.sink.packet(bytes, payload, at, length, bytes[payload - 1]!);
          if (this.stopped) return at;
          continue;
        }
      }
      at = this.remaining < 0 ? this.readHeader(bytes, at, end, firstUs) : this.readBody(bytes, at, end);
      if (this.stopped) return at;
    }
    this.position += end - at;
    return end;
  }

  gap(length: number): void {
    this.position += length;
    if (this.lost) {
      // Of what came since, too.
      this.sink.placeLost();
      return;
    }
    if (this.remaining < length) {
      this.lose();
      return;
    }
    this.damaged = true;
    this.wireBytes += length;
    this.remaining -= length;
    if (this.wanted < 0) this.wanted = 0;
    if (this.remaining === 0) this.endPart();
  }

  /** The place in the stream is not known any more. */
  lose(): void {
    if (this.lost) return;
    this.lost = true;
    this.reset();
    this.sink.placeLost();
  }

  /** A packet begins with the next byte. */
  resume(): void {
    this.lost = false;
    this.reset();
  }

  release(): void {
    this.held = NOTHING;
    this.heldLength = 0;
  }

  private reset(): void {
    this.headerLength = 0;
    this.remaining = -1;
    this.continues = false;
    this.heldLength = 0;
    this.held = NOTHING;
  }

  private readHeader(bytes: Buffer, start: number, end: number, firstUs: number): number {
    let at = start;
    if (this.headerLength === 0 && !this.continues) {
      this.firstUs = firstUs;
      this.offset = this.position;
      this.wireBytes = 0;
      this.damaged = false;
      this.total = 0;
      this.wanted = -1;
      this.heldLength = 0;
    }
    while (at < end && this.headerLength < HEADER_BYTES) this.header[this.headerLength++] = bytes[at++]!;
    this.position += at - start;
    this.wireBytes += at - start;
    if (this.headerLength === HEADER_BYTES) {
      this.headerLength = 0;
      this.partLength = packetLength(this.header, 0);
      this.remaining = this.partLength;
      this.total += this.partLength;
      this.sequence = this.header[3]!;
      if (this.remaining === 0) this.endPart();
    }
    return at;
  }

  private readBody(bytes: Buffer, at: number, end: number): number {
    const taken = Math.min(this.remaining, end - at);
    if (this.wanted < 0) this.wanted = this.sink.wants(bytes[at]!, this.partLength);
    if (this.heldLength < this.wanted && !this.damaged)
      this.hold(bytes, at, Math.min(at + taken, at + this.wanted - this.heldLength));
    this.position += taken;
    this.wireBytes += taken;
    this.remaining -= taken;
    if (this.remaining === 0) this.endPart();
    return at + taken;
  }

  private hold(bytes: Buffer, start: number, end: number): void {
    const length = this.heldLength + end - start;
    if (length > this.held.length) {
      const size = Math.max(length, Math.min(this.wanted, Math.max(256, this.held.length * 2)));
      const grown = Buffer.allocUnsafeSlow(size);
      this.held.copy(grown, 0, 0, this.heldLength);
      this.held = grown;
    }
    bytes.copy(this.held, this.heldLength, start, end);
    this.heldLength = length;
  }

  private endPart(): void {
    this.remaining = -1;
    this.continues = this.partLength === MAX_PACKET;
    if (this.continues) return;
    this.sink.packet(this.held, 0, this.heldLength, this.total, this.sequence);
    this.heldLength = 0;
    this.held = NOTHING;
  }
}
