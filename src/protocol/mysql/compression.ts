import { inflateSync, zstdDecompressSync } from 'node:zlib';
import { type Counters, count } from '../../telemetry/counters.ts';
import type { MysqlLimits } from './limits.ts';
import type { PacketReader } from './packets.ts';
import { packetLength } from './wire.ts';

const HEADER_BYTES = 7;
const NOTHING = Buffer.alloc(0);
/** Little-endian first bytes of a Zstandard frame (RFC 8878 section 3.1.1). */
const ZSTD_MAGIC = 0xfd2fb528;

/**
 * One direction of the compressed protocol ("Compressed Packet"): three bytes of length, one of sequence, three of the length before
 * compression, 0 when it is not compressed. What they contain is one stream of packets, cut anywhere.
 *
 * The length before compression is below 16 MiB by its format, and bounded by the limits; what inflates to more is refused before it takes
 * memory. A compressed packet that is lost, too long, or cannot be inflated is a gap of known length in what it contains.
 */
export class CompressedReader {
  lost = false;
  private readonly inner: PacketReader;
  private readonly limits: MysqlLimits;
  private readonly counters: Counters;
  private readonly header = Buffer.alloc(HEADER_BYTES);
  private headerLength = 0;
  /** Of the packet at hand: bytes to come, -1 between packets; its length, and that before compression; when its first byte was seen. */
  private remaining = -1;
  private length = 0;
  private inflatedLength = 0;
  private firstUs = 0;
  private held: Buffer = NOTHING;
  private heldLength = 0;
  private unreadable = false;

  constructor(inner: PacketReader, limits: MysqlLimits, counters: Counters) {
    this.inner = inner;
    this.limits = limits;
    this.counters = counters;
  }

  get heldBytes(): number {
    return this.held.length;
  }

  get atBoundary(): boolean {
    return !this.lost && this.headerLength === 0 && this.remaining < 0 && this.inner.atBoundary;
  }

  data(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    let at = start;
    while (at < end && !this.lost) {
      if (this.remaining < 0) {
        if (this.headerLength === 0) this.firstUs = firstUs;
        while (at < end && this.headerLength < HEADER_BYTES) this.header[this.headerLength++] = bytes[at++]!;
        if (this.headerLength === HEADER_BYTES) this.begin();
        continue;
      }
      const taken = Math.min(this.remaining, end - at);
      const whole = taken === this.length;
      this.remaining -= taken;
      if (this.inflatedLength === 0) this.pass(bytes, at, at + taken, timeUs);
      else if (whole) this.inflate(bytes.subarray(at, at + taken), timeUs);
      else {
        if (!this.unreadable) this.hold(bytes, at, at + taken);
        if (this.remaining === 0) this.inflate(this.held.subarray(0, this.heldLength), timeUs);
      }
      if (this.remaining === 0) this.endPacket();
      at += taken;
    }
  }

  gap(length: number): void {
    if (this.lost) return;
    if (this.remaining < length) {
      this.lose();
      return;
    }
    this.remaining -= length;
    this.unreadable = true;
    if (this.inflatedLength === 0) this.inner.gap(length);
    else if (this.remaining === 0) this.inner.gap(this.inflatedLength);
    if (this.remaining === 0) this.endPacket();
  }

  lose(): void {
    if (this.lost) return;
    this.lost = true;
    this.endPacket();
    this.inner.lose();
  }

  /** A compressed packet begins with the next byte, and a packet in it. */
  resume(): void {
    this.lost = false;
    this.endPacket();
    this.inner.resume();
  }

  release(): void {
    this.lost = true;
    this.endPacket();
  }

  private endPacket(): void {
    this.headerLength = 0;
    this.remaining = -1;
    this.held = NOTHING;
    this.heldLength = 0;
    this.unreadable = false;
  }

  private begin(): void {
    this.headerLength = 0;
    this.length = packetLength(this.header, 0);
    this.inflatedLength = packetLength(this.header, 4);
    this.remaining = this.length;
    if (this.length === 0) this.remaining = -1;
    const { mysqlCompressedBytes } = this.limits;
    if (this.inflatedLength > mysqlCompressedBytes || (this.inflatedLength > 0 && this.length > mysqlCompressedBytes)) {
      count(this.counters.sql, 'compressed_limit');
      this.unreadable = true;
    }
  }

  private hold(bytes: Buffer, start: number, end: number): void {
    const length = this.heldLength + end - start;
    if (length > this.held.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(this.length, Math.max(length, this.held.length * 2)));
      this.held.copy(grown, 0, 0, this.heldLength);
      this.held = grown;
    }
    bytes.copy(this.held, this.heldLength, start, end);
    this.heldLength = length;
  }

  private inflate(compressed: Buffer, timeUs: number): void {
    const inflated = this.unreadable ? undefined : inflate(compressed, this.inflatedLength);
    if (inflated !== undefined) this.pass(inflated, 0, inflated.length, timeUs);
    else {
      if (!this.unreadable) count(this.counters.parseErrors, 'mysql');
      this.inner.gap(this.inflatedLength);
    }
  }

  private pass(bytes: Buffer, start: number, end: number, timeUs: number): void {
    for (let at = start; at < end; ) {
      at = this.inner.data(bytes, at, end, timeUs, this.firstUs);
      this.inner.stopped = false;
    }
  }
}

/** @returns exactly `length` bytes, or undefined when that is not what it inflates to */
function inflate(compressed: Buffer, length: number): Buffer | undefined {
  try {
    const options = { maxOutputLength: length };
    const zstd = compressed.length >= 4 && compressed.readUInt32LE(0) === ZSTD_MAGIC;
    const inflated = zstd ? zstdDecompressSync(compressed, options) : inflateSync(compressed, options);
    return inflated.length === length ? inflated : undefined;
  } catch {
    return undefined;
  }
}
