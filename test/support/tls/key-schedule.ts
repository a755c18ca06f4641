/** RFC 8446 section 7 by node:crypto: what the other end of a test's connection does, and what the addon's results are compared with. */
import { createHash, createHmac } from 'node:crypto';

/** HKDF-Expand-Label, of one block. @param hash a name that node:crypto and the tests use, such as SHA256 */
export function expandLabel(hash: string, secret: Buffer, label: string, context: Buffer, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`, 'latin1');
  const info = Buffer.concat([
    Buffer.from([length >> 8, length & 255, name.length]),
    name,
    Buffer.from([context.length]),
    context,
    Buffer.from([1]),
  ]);
  return createHmac(hash, secret).update(info).digest().subarray(0, length);
}

/** Derive-Secret with the messages' hash given. */
export function deriveSecret(hash: string, secret: Buffer, label: string, transcriptHash: Buffer): Buffer {
  return expandLabel(hash, secret, label, transcriptHash, transcriptHash.length);
}

/** HKDF-Extract(Derive-Secret(handshake secret, "derived", ""), 0). */
export function masterSecret(hash: string, handshakeSecret: Buffer): Buffer {
  const salt = deriveSecret(hash, handshakeSecret, 'derived', createHash(hash).digest());
  return createHmac(hash, salt).update(Buffer.alloc(salt.length)).digest();
}

/** Key and IV of a traffic secret, for AES-128. */
export function trafficKeys(secret: Buffer): { key: Buffer; iv: Buffer } {
  const empty = Buffer.alloc(0);
  return { key: expandLabel('SHA256', secret, 'key', empty, 16), iv: expandLabel('SHA256', secret, 'iv', empty, 12) };
}
