/**
 * Puts IP fragments together: RFC 791 3.2, RFC 8200 4.5, and where they leave a choice as Linux does. A fragment that overlaps another one spoils
 * its packet (RFC 5722; CVE-2018-5391 for IPv4); a copy of what is there, as a capture of several interfaces holds it, does not.
 */
import type { Limits } from '../config/limits.ts';

export type FragmentLimits = Pick<Limits, 'ipFragmentBytes' | 'ipFragmentUs'>;

/** One fragment, borrowed for the call. */
export interface Fragment {
  /** Who sent what to whom, and the identification: the fragments of one packet agree in it. */
  readonly key: string;
  /** The headers that come first in the whole packet. */
  readonly headers: Buffer;
  /** Of the payload: position in that of the whole packet, and bytes on the wire. */
  readonly offset: number;
  readonly length: number;
  readonly isLast: boolean;
  /** The payload as far as it was captured. */
  readonly payload: Buffer;
}

export interface WholePacket {
  /** Of the first fragment. */
  readonly headers: Buffer;
  /** Up to the first byte that was not captured. */
  readonly payload: Buffer;
  /** Bytes that the payload had on the wire. */
  readonly length: number;
  /** When its last fragment came. */
  readonly timeUs: number;
}

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly payload: Buffer;
}

interface Incomplete {
  readonly firstUs: number;
  /** In order, without overlaps. */
  readonly pieces: Piece[];
  headers: Buffer | undefined;
  /** Of the whole payload, once the last fragment is there. */
  length: number | undefined;
  /** What has come of the payload. */
  received: number;
  /** What it costs. */
  bytes: number;
  fragments: number;
  spoiled: boolean;
}

/** IPv4 cannot say more, and nobody sends fragments of jumbograms (RFC 2675 3). */
const MAX_PAYLOAD_BYTES = 65_535;
/** What a piece costs beside its bytes. */
const PIECE_BYTES = 160;

export class Fragments {
  readonly #limits: FragmentLimits;
  readonly #onWhole: (packet: WholePacket) => void;
  readonly #onGivenUp: (fragments: number) => void;
  readonly #incomplete = new Map<string, Incomplete>();
  #bytes = 0;

  /**
   * @param onWhole gets each packet that is complete
   * @param onGivenUp gets the number of fragments that never will be one: too old, too many, contradictory
   */
  constructor(limits: FragmentLimits, onWhole: (packet: WholePacket) => void, onGivenUp: (fragments: number) => void) {
    this.#limits = limits;
    this.#onWhole = onWhole;
    this.#onGivenUp = onGivenUp;
  }

  add(timeUs: number, fragment: Fragment): void {
    this.#expire(timeUs);
    if (fragment.length === 0 || fragment.offset + fragment.length > MAX_PAYLOAD_BYTES) {
      this.#onGivenUp(1);
      return;
    }
    let packet = this.#incomplete.get(fragment.key);
    if (packet === undefined) {
      packet = newIncomplete(timeUs);
      this.#incomplete.set(fragment.key, packet);
    }
    packet.fragments++;
    if (packet.spoiled) return;
    if (!insert(packet, fragment)) {
      packet.spoiled = true;
      packet.pieces.length = 0;
    }
    this.#bytes -= packet.bytes;
    packet.bytes = cost(fragment.key, packet);
    this.#bytes += packet.bytes;
    if (packet.headers !== undefined && packet.length === packet.received) {
      this.#remove(fragment.key, packet);
      this.#onWhole(joined(packet.headers, packet, timeUs));
    }
    for (const [key, oldest] of this.#incomplete) {
      if (this.#bytes <= this.#limits.ipFragmentBytes) break;
      this.#giveUp(key, oldest);
    }
  }

  /** Nothing comes any more. */
  finish(): void {
    for (const [key, packet] of this.#incomplete) this.#giveUp(key, packet);
  }

  #expire(timeUs: number): void {
    for (const [key, packet] of this.#incomplete) {
      if (timeUs - packet.firstUs < this.#limits.ipFragmentUs) break;
      this.#giveUp(key, packet);
    }
  }

  #giveUp(key: string, packet: Incomplete): void {
    this.#remove(key, packet);
    this.#onGivenUp(packet.fragments);
  }

  #remove(key: string, packet: Incomplete): void {
    this.#incomplete.delete(key);
    this.#bytes -= packet.bytes;
  }
}

function newIncomplete(timeUs: number): Incomplete {
  return {
    firstUs: timeUs,
    pieces: [],
    headers: undefined,
    length: undefined,
    received: 0,
    bytes: 0,
    fragments: 0,
    spoiled: false,
  };
}

/** @returns whether the fragment agrees with those that are there */
function insert(packet: Incomplete, { offset, length, isLast, headers, payload }: Fragment): boolean {
  const end = offset + length;
  const { pieces } = packet;
  if (packet.length !== undefined && (isLast ? end !== packet.length : end > packet.length)) return false;
  let at = pieces.length;
  while (at > 0 && pieces[at - 1]!.offset > offset) at--;
  const before = pieces[at - 1];
  if (before !== undefined && before.offset + before.length > offset) return before.offset + before.length >= end;
  if (at < pieces.length && (isLast || pieces[at]!.offset < end)) return false;
  if (isLast) packet.length = end;
  if (offset === 0) packet.headers = Buffer.from(headers);
  pieces.splice(at, 0, { offset, length, payload: Buffer.from(payload) });
  packet.received += length;
  return true;
}

function cost(key: string, packet: Incomplete): number {
  let bytes = 2 * key.length + PIECE_BYTES + (packet.headers?.length ?? 0);
  for (const piece of packet.pieces) bytes += piece.payload.length + PIECE_BYTES;
  return bytes;
}

function joined(headers: Buffer, { pieces, received }: Incomplete, timeUs: number): WholePacket {
  const captured: Buffer[] = [];
  for (const piece of pieces) {
    captured.push(piece.payload);
    if (piece.payload.length < piece.length) break;
  }
  return { headers, payload: Buffer.concat(captured), length: received, timeUs };
}
