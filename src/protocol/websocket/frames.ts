/** The frames of WebSocket, RFC 6455 section 5. */

/** Opcodes (section 11.8). */
export const CONTINUATION = 0x0;
export const TEXT = 0x1;
export const BINARY = 0x2;
export const CLOSE = 0x8;
export const PING = 0x9;
export const PONG = 0xa;

/** Two octets, an extended length of eight, a masking key of four. */
export const MAX_HEADER_BYTES = 14;

const FIN = 0x80;
/** permessage-deflate sets it on the first frame of a compressed message (RFC 7692 section 6). */
const RSV1 = 0x40;
/** No extension that is registered uses the other two. */
const RSV2_AND_3 = 0x30;
const MASK = 0x80;
const LENGTH_16 = 126;
const LENGTH_64 = 127;
const CONTROL_BYTES = 125;
/** Frames in a row that prove a boundary, when the last of them does not end where the bytes do. */
const PROVEN_FRAMES = 3;

/** What `readHeader` found. One object, filled again for each frame. */
export class FrameHeader {
  fin = false;
  compressed = false;
  opcode = CONTINUATION;
  /** Octets of the payload. */
  length = 0;
  /** The first two octets of the masking key, 0 without one: enough for the code of a Close frame. */
  key0 = 0;
  key1 = 0;
  /** A masking key stands before the payload. */
  masked = false;
}

/**
 * Reads the frame header at bytes[start..end).
 *
 * @param masked frames of the client are masked, and those of the server are not (section 5.1). Without strict the frame itself says so.
 * @param strict also refuse what readers forgive, since a boundary is to be proven: a length that is longer than it needs to be, RSV1 on
 *   a continuation
 * @returns its length; 0 when more bytes are needed; -1 when it is none
 */
export function readHeader(
  header: FrameHeader,
  bytes: Uint8Array,
  start: number,
  end: number,
  masked: boolean,
  strict = false,
): number {
  if (start === end) return 0;
  const first = bytes[start]!;
  const opcode = first & 0x0f;
  if ((first & RSV2_AND_3) !== 0 || (opcode > BINARY && opcode < CLOSE) || opcode > PONG) return -1;
  // Section 5.5: control frames are never fragmented.
  if (opcode >= CLOSE && (first & (FIN | RSV1)) !== FIN) return -1;
  if (strict && opcode === CONTINUATION && (first & RSV1) !== 0) return -1;
  if (start + 1 === end) return 0;
  const second = bytes[start + 1]!;
  const hasKey = (second & MASK) !== 0;
  if (strict && hasKey !== masked) return -1;
  let length = second & 0x7f;
  if (opcode >= CLOSE && length > CONTROL_BYTES) return -1;
  const extended = length === LENGTH_16 ? 2 : length === LENGTH_64 ? 8 : 0;
  const size = 2 + extended + (hasKey ? 4 : 0);
  if (start + size > end) return 0;
  if (extended > 0) {
    length = 0;
    for (let i = 0; i < extended; i++) length = length * 256 + bytes[start + 2 + i]!;
    if (length > Number.MAX_SAFE_INTEGER) return -1;
    // Section 5.2: the minimal number of bytes must be used.
    if (strict && length <= (extended === 2 ? CONTROL_BYTES : 0xffff)) return -1;
  }
  header.fin = (first & FIN) !== 0;
  header.compressed = (first & RSV1) !== 0;
  header.opcode = opcode;
  header.length = length;
  header.masked = hasKey;
  header.key0 = hasKey ? bytes[start + size - 4]! : 0;
  header.key1 = hasKey ? bytes[start + size - 3]! : 0;
  return size;
}

const probed = new FrameHeader();

/** Whether a frame begins at bytes[start]: the frames from there on end where the bytes do, or there are enough of them. */
export function beginsFrame(bytes: Uint8Array, start: number, end: number, masked: boolean): boolean {
  let position = start;
  let frames = 0;
  let whole = false;
  while (position < end) {
    const size = readHeader(probed, bytes, position, end, masked, true);
    if (size < 0) return false;
    if (size === 0) return frames >= PROVEN_FRAMES;
    frames++;
    whole ||= probed.fin;
    position += size + probed.length;
  }
  return frames >= PROVEN_FRAMES || (position === end && (whole || frames > 1));
}
