/** What the header of a message looks like, whose length is fixed, and which says how long the message is: bytes[at..at + headerBytes). */
export interface FrameFormat {
  readonly headerBytes: number;
  /** @returns what `FrameSink.message` gets as `type` */
  typeOf(bytes: Buffer, at: number): number;
  /** @returns bytes of the message, its header included; less than `headerBytes` when there is no such message */
  sizeOf(bytes: Buffer, at: number): number;
  /** @returns bytes of the body that its reader looks at, from its beginning; 0: it is passed over */
  keepOf(type: number): number;
}

/** Takes the messages of one direction. */
export interface FrameSink {
  /**
   * A message. `bytes[start..end)`, borrowed, is its body, or less of it: at least what the format keeps of its type. One that is
   * passed over is announced when its header is there, any other when it is whole.
   *
   * @param size of the message in bytes, its header included
   */
  message(type: number, bytes: Buffer, start: number, end: number, size: number): void;
  /** A hole begins in a message, and ends behind it. */
  cut(type: number, size: number): void;
  /** What stands where a message must begin is none. */
  malformed(): void;
}

const NOTHING = Buffer.alloc(0);
/** What is gathered for longer than a message needs is released when it is larger than this. */
const HELD_FOR_GOOD_BYTES = 1024;

/**
 * Finds the messages in the bytes of one direction. A message that is whole in the bytes at hand is read where it lies; of others only what
 * the format keeps is copied, the rest is passed over by its length, a hole in it included.
 */
export class FrameReader {
  /** Where the next message begins is known. */
  synced: boolean;
  /** Of the message that is reported: when its first byte was seen, its place in the stream; and the time of the bytes at hand. */
  startUs = 0;
  offset = 0;
  nowUs = 0;
  /** Bytes of the stream so far, lost ones included. */
  streamBytes = 0;
  /** Bytes of the message that is reported are missing that the format keeps. */
  damaged = false;
  private readonly sink: FrameSink;
  private readonly format: FrameFormat;
  private stopped = false;
  private readonly head: Buffer;
  private headLength = 0;
  /** The message that is not whole: its type and size, bytes of it that are still to come, and of these those to keep. */
  private type = 0;
  private size = 0;
  private missing = 0;
  private wanted = 0;
  private told = false;
  /** What is there of the message that is not whole. */
  held: Buffer = NOTHING;
  private heldLength = 0;

  /** @param synced the first byte begins a message */
  constructor(sink: FrameSink, format: FrameFormat, synced: boolean) {
    this.sink = sink;
    this.format = format;
    this.synced = synced;
    this.head = Buffer.alloc(format.headerBytes);
  }

  /** The next byte begins a message. */
  get atBoundary(): boolean {
    return this.synced && this.missing === 0 && this.headLength === 0;
  }

  /** Bytes held between calls. */
  get heldBytes(): number {
    return this.held.length;
  }

  /** @param firstUs when the first of these bytes was seen */
  feed(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const base = this.streamBytes - start;
    this.streamBytes += end - start;
    this.nowUs = timeUs;
    const { format } = this;
    const { headerBytes } = format;
    let position = start;
    while (position < end && this.synced && !this.stopped) {
      if (this.missing > 0) {
        position = this.goOn(bytes, position, end);
        continue;
      }
      if (this.headLength > 0 || end - position < headerBytes) {
        position = this.gatherHead(bytes, position, end, base + position, firstUs);
        continue;
      }
      const size = format.sizeOf(bytes, position);
      if (size < headerBytes) {
        this.lose();
        this.sink.malformed();
        return;
      }
      this.startUs = firstUs;
      this.offset = base + position;
      const type = format.typeOf(bytes, position);
      const next = position + size;
      if (next <= end) {
        this.sink.message(type, bytes, position + headerBytes, next, size);
        position = next;
      } else {
        this.begin(type, size);
        position += headerBytes;
      }
    }
  }

  /** Bytes that nobody reads: where they stand in the stream still counts. */
  skip(length: number, timeUs: number): void {
    this.streamBytes += length;
    this.nowUs = timeUs;
  }

  /** @returns whether the place in the stream is still known */
  gap(length: number, timeUs: number): boolean {
    this.skip(length, timeUs);
    if (!this.synced) return false;
    const { missing, told, type, size } = this;
    if (missing >= length) {
      this.missing = missing - length;
      if (this.wanted > 0) this.damaged = true;
      this.wanted = 0;
      if (this.missing === 0) this.finish();
      return true;
    }
    this.lose();
    if (missing > 0 && !told) this.sink.cut(type, size);
    return false;
  }

  lose(): void {
    this.synced = false;
    this.forget();
  }

  /** A message begins with the next byte. */
  resync(): void {
    this.forget();
    this.synced = true;
  }

  /** Reads no more. */
  stop(): void {
    this.stopped = true;
    this.forget();
  }

  private forget(): void {
    this.headLength = 0;
    this.missing = 0;
    this.wanted = 0;
    this.told = false;
    this.damaged = false;
    this.held = NOTHING;
    this.heldLength = 0;
  }

  private gatherHead(bytes: Buffer, position: number, end: number, offset: number, firstUs: number): number {
    if (this.headLength === 0) {
      this.startUs = firstUs;
      this.offset = offset;
    }
    const { head, format } = this;
    const part = Math.min(head.length - this.headLength, end - position);
    bytes.copy(head, this.headLength, position, position + part);
    this.headLength += part;
    if (this.headLength === head.length) {
      this.headLength = 0;
      const size = format.sizeOf(head, 0);
      if (size < head.length) {
        this.lose();
        this.sink.malformed();
        return end;
      }
      this.begin(format.typeOf(head, 0), size);
    }
    return position + part;
  }

  /** A message of which only the header is there for sure. */
  private begin(type: number, size: number): void {
    const body = size - this.format.headerBytes;
    this.type = type;
    this.size = size;
    this.missing = body;
    this.wanted = Math.min(body, this.format.keepOf(type));
    this.heldLength = 0;
    this.told = this.wanted === 0;
    if (this.told) this.sink.message(type, NOTHING, 0, 0, size);
  }

  private goOn(bytes: Buffer, position: number, end: number): number {
    const part = Math.min(this.missing, end - position);
    if (this.wanted > 0) {
      const kept = Math.min(this.wanted, part);
      this.hold(bytes, position, kept);
      this.wanted -= kept;
    }
    this.missing -= part;
    if (this.missing === 0) this.finish();
    return position + part;
  }

  private hold(bytes: Buffer, position: number, length: number): void {
    const needed = this.heldLength + length;
    if (needed > this.held.length) {
      const most = this.heldLength + this.wanted;
      const grown = Buffer.allocUnsafeSlow(Math.min(most, Math.max(needed, 2 * this.held.length)));
      this.held.copy(grown, 0, 0, this.heldLength);
      this.held = grown;
    }
    bytes.copy(this.held, this.heldLength, position, position + length);
    this.heldLength = needed;
  }

  private finish(): void {
    const { told, heldLength } = this;
    this.told = false;
    this.heldLength = 0;
    if (!told) this.sink.message(this.type, this.held, 0, heldLength, this.size);
    this.damaged = false;
    if (this.held.length > HELD_FOR_GOOD_BYTES) this.held = NOTHING;
  }
}
