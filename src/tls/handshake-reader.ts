/** What a handshake reader found. Both are called within `feed`; the bytes are borrowed. */
export interface HandshakeSink {
  /** Bytes of a message, header included, in order: what the transcript hash wants. `fromMessageStart` marks a message's first bytes. */
  handshakeBytes(type: number, bytes: Buffer, start: number, end: number): void;
  /**
   * A message is complete. `message` is all of it, header included, for the types that the sink wants whole; else undefined.
   * @returns false to stop reading: the layer has ended
   */
  handshakeMessage(type: number, message: Buffer | undefined): boolean;
}

const HEADER_LENGTH = 4;

/**
 * Cuts the handshake messages of one direction out of its records (RFC 8446 5.1: they may be coalesced and fragmented). Only the types
 * that are wanted whole are held, in a buffer that grows with what arrives; the others (certificates) pass through.
 */
export class HandshakeReader {
  readonly #wanted: (type: number) => boolean;
  readonly #maxBytes: number;
  #held: Buffer | undefined;
  #heldLength = 0;
  readonly #header = Buffer.allocUnsafe(HEADER_LENGTH);
  #headerLength = 0;
  #bodyLeft = 0;

  /** @param wanted the types whose messages are needed whole; @param maxBytes of such a message */
  constructor(wanted: (type: number) => boolean, maxBytes: number) {
    this.#wanted = wanted;
    this.#maxBytes = maxBytes;
  }

  /** Inside a message. */
  get isPartial(): boolean {
    return this.#headerLength > 0;
  }

  /** Forgets the message that was begun: its rest was lost. */
  reset(): void {
    this.#headerLength = 0;
    this.#bodyLeft = 0;
    this.#held = undefined;
    this.#heldLength = 0;
  }

  /** @returns false when a message is larger than allowed; `stopped` when the sink stopped */
  feed(bytes: Buffer, start: number, end: number, sink: HandshakeSink): 'ok' | 'too_large' | 'stopped' {
    let position = start;
    while (position < end) {
      if (this.#headerLength < HEADER_LENGTH) {
        const taken = Math.min(HEADER_LENGTH - this.#headerLength, end - position);
        bytes.copy(this.#header, this.#headerLength, position, position + taken);
        this.#headerLength += taken;
        position += taken;
        if (this.#headerLength < HEADER_LENGTH) return 'ok';
        this.#bodyLeft = this.#header.readUIntBE(1, 3);
        const type = this.#header[0]!;
        if (this.#wanted(type)) {
          if (this.#bodyLeft > this.#maxBytes) return 'too_large';
          this.#held = Buffer.allocUnsafe(Math.min(HEADER_LENGTH + this.#bodyLeft, 1024));
          this.#hold(this.#header, 0, HEADER_LENGTH);
        }
        sink.handshakeBytes(type, this.#header, 0, HEADER_LENGTH);
      }
      const type = this.#header[0]!;
      const taken = Math.min(this.#bodyLeft, end - position);
      if (this.#held !== undefined) this.#hold(bytes, position, position + taken);
      if (taken > 0) sink.handshakeBytes(type, bytes, position, position + taken);
      position += taken;
      this.#bodyLeft -= taken;
      if (this.#bodyLeft > 0) return 'ok';
      const message = this.#held?.subarray(0, this.#heldLength);
      this.reset();
      if (!sink.handshakeMessage(type, message)) return 'stopped';
    }
    return 'ok';
  }

  #hold(bytes: Buffer, start: number, end: number): void {
    let held = this.#held!;
    const needed = this.#heldLength + end - start;
    if (needed > held.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, Math.min(2 * held.length, this.#maxBytes + HEADER_LENGTH)));
      held.copy(larger, 0, 0, this.#heldLength);
      this.#held = held = larger;
    }
    bytes.copy(held, this.#heldLength, start, end);
    this.#heldLength = needed;
  }
}
