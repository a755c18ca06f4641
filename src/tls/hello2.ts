/**
 * The ClientHello in the format of SSL 2.0, with which a client may offer TLS up to 1.2 to servers of any age; some servers still accept it
 * (RFC 5246 E.2): length with the highest bit set, message type, version, three lengths, cipher specs, session id, challenge.
 */
import type { Detection } from '../protocol/layer.ts';
import { CLIENT_HELLO } from './hello.ts';

/** Length, type, version, lengths of what follows. */
const FIXED_LENGTH = 11;
const LENGTH_BYTES = 2;
const CIPHER_SPEC_LENGTH = 3;
const RANDOM_LENGTH = 32;

/** Whether the first byte may be that of such a hello: no record of TLS begins so. */
export function mayBeHello2(first: number): boolean {
  return (first & 0x80) !== 0;
}

/** Length of the whole hello, at least two bytes of which are there. */
export function hello2Length(bytes: Buffer, start: number): number {
  return LENGTH_BYTES + (bytes.readUInt16BE(start) & 0x7fff);
}

/** Whether bytes[start..end) begin with such a hello. */
export function detectHello2(bytes: Buffer, start: number, end: number): Detection {
  if (!mayBeHello2(bytes[start]!)) return 'no';
  if (start + 2 < end && bytes[start + 2] !== CLIENT_HELLO) return 'no';
  if (start + 3 < end && bytes[start + 3] !== 3) return 'no'; // version 0x03xx: nothing else goes on as TLS
  if (end - start < FIXED_LENGTH) return 'maybe';
  const specs = bytes.readUInt16BE(start + 5);
  const sessionId = bytes.readUInt16BE(start + 7);
  const challenge = bytes.readUInt16BE(start + 9);
  const fits =
    specs > 0 &&
    specs % CIPHER_SPEC_LENGTH === 0 &&
    (sessionId === 0 || sessionId === 16) &&
    challenge >= 16 &&
    challenge <= RANDOM_LENGTH &&
    hello2Length(bytes, start) === FIXED_LENGTH + specs + sessionId + challenge;
  return fits ? 'yes' : 'no';
}

/**
 * @param bytes the whole hello is bytes[start..end)
 * @returns the client_random that both ends make of the challenge: zeros, then its bytes, 32 in all; undefined when it is malformed
 */
export function randomOfHello2(bytes: Buffer, start: number, end: number): Buffer | undefined {
  if (detectHello2(bytes, start, end) !== 'yes' || hello2Length(bytes, start) !== end - start) return undefined;
  const random = Buffer.alloc(RANDOM_LENGTH);
  const challenge = bytes.readUInt16BE(start + 9);
  bytes.copy(random, RANDOM_LENGTH - challenge, end - challenge, end);
  return random;
}
