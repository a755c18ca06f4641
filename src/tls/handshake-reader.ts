import type { Direction } from '../flow/connection.ts';
import { bufferCost } from '../memory/cost.ts';
import { FINISHED, SERVER_HELLO } from './hello.ts';

/** What a handshake reader found. Both are called within `feed`; the bytes are borrowed. */
export interface HandshakeSink {
  /**
   * Bytes of messages, headers included, in order: what the transcript hash wants. A ServerHello and a Finished, where its use begins and
   * ends, are passed on, with all before them, before these messages are; the rest at the end of `feed`.
   */
  handshakeBytes(direction: Direction, bytes: Buffer, start: number, end: number): void;
  /**
   * A message is complete: bytes[start..end), header included, for the types that are wanted whole; else `start` and `end` are the same.
   * @returns false to stop reading: the layer has ended
   */
  handshakeMessage(direction: Direction, type: number, bytes: Buffer, start: number, end: number): boolean;
}

const HEADER_LENGTH = 4;

/**
 * Cuts the handshake messages of one direction out of its records (RFC 8446 5.1: they may be coalesced and fragmented). A message that
 * lies whole in its record is read there. Of those that do not, only the types that are wanted whole are held, in a buffer that
 * grows with what arrives; the others (certificates) pass through.
 */
export class HandshakeReader {
  readonly #direction: Direction;
  readonly #wanted: (type: number) => boolean;
  readonly #maxBytes: number;
  /** The message that a record's end cut: its header, as far as it came, and all of it when it is wanted. */
  #held: Buffer | undefined;
  #heldLength = 0;
  #bodyLeft = 0;
  #passing = false;

  /** @param wanted the types whose messages are needed whole; @param maxBytes of such a message */
  constructor(direction: Direction, wanted: (type: number) => boolean, maxBytes: number) {
    this.#direction = direction;
    this.#wanted = wanted;
    this.#maxBytes = maxBytes;
  }

  /** What the message that is cut costs (memory/cost.ts). */
  get cost(): number {
    return bufferCost(this.#held);
  }

  /** Forgets the message that was begun: its rest was lost. */
  reset(): void {
    this.#held = undefined;
    this.#heldLength = 0;
    this.#bodyLeft = 0;
    this.#passing = false;
  }

  /** @returns `too_large` when a message is larger than allowed; `stopped` when the sink stopped */
  feed(bytes: Buffer, start: number, end: number, sink: HandshakeSink): 'ok' | 'too_large' | 'stopped' {
    let position = start;
    let told = start;
    while (position < end) {
      const first = position;
      const isCut = this.#heldLength > 0;
      const whole = isCut ? -1 : wholeLength(bytes, position, end);
      let type: number;
      if (whole > 0) {
        type = bytes[position]!;
        if (whole - HEADER_LENGTH > this.#maxBytes && this.#wanted(type)) return 'too_large';
        position += whole;
      } else {
        position = this.#gather(bytes, position, end);
        if (position < 0) return 'too_large';
        if (this.#heldLength < HEADER_LENGTH || this.#bodyLeft > 0) break;
        type = this.#held![0]!;
      }
      if (type === FINISHED || type === SERVER_HELLO) {
        sink.handshakeBytes(this.#direction, bytes, told, position);
        told = position;
      }
      if (!this.#tell(type, bytes, first, position, whole > 0, sink)) return 'stopped';
    }
    if (told < end) sink.handshakeBytes(this.#direction, bytes, told, end);
    return 'ok';
  }

  #tell(type: number, bytes: Buffer, start: number, end: number, isWhole: boolean, sink: HandshakeSink): boolean {
    if (isWhole) return sink.handshakeMessage(this.#direction, type, bytes, start, end);
    const held = this.#held!;
    const length = this.#passing ? 0 : this.#heldLength;
    this.reset();
    return sink.handshakeMessage(this.#direction, type, held, 0, length);
  }

  /** Takes what belongs to the message that is cut. @returns the position behind it, -1 when the message is too large */
  #gather(bytes: Buffer, start: number, end: number): number {
    let position = start;
    if (this.#heldLength < HEADER_LENGTH) {
      const taken = Math.min(HEADER_LENGTH - this.#heldLength, end - position);
      this.#hold(bytes, position, position + taken);
      position += taken;
      if (this.#heldLength < HEADER_LENGTH) return position;
      this.#bodyLeft = this.#held!.readUIntBE(1, 3);
      this.#passing = !this.#wanted(this.#held![0]!);
      if (!this.#passing && this.#bodyLeft > this.#maxBytes) return -1;
    }
    const taken = Math.min(this.#bodyLeft, end - position);
    if (!this.#passing) this.#hold(bytes, position, position + taken);
    this.#bodyLeft -= taken;
    return position + taken;
  }

  #hold(bytes: Buffer, start: number, end: number): void {
    const needed = this.#heldLength + end - start;
    if (this.#held === undefined || needed > this.#held.length) {
      const larger = Buffer.allocUnsafeSlow(
        Math.max(needed, Math.min(2 * this.#heldLength, this.#maxBytes + HEADER_LENGTH)),
      );
      this.#held?.copy(larger, 0, 0, this.#heldLength);
      this.#held = larger;
    }
    bytes.copy(this.#held, this.#heldLength, start, end);
    this.#heldLength = needed;
  }
}

/** The length of the message at `at` if all of it is there, else -1. */
function wholeLength(bytes: Buffer, at: number, end: number): number {
  if (end - at < HEADER_LENGTH) return -1;
  const length = HEADER_LENGTH + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);
  return length <= end - at ? length : -1;
}
