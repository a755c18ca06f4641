/**
 * The key schedules: RFC 8446 section 7.1 (TLS 1.3), RFC 5246 sections 5, 6.3 and 8.1 (TLS 1.2), RFC 2246 section 5 (TLS 1.0, 1.1).
 * All results are Buffers of their own; whoever holds a secret zeroes it.
 */
import { type HashName, hmac, NO_BYTES, type RecordKeys } from './opener.ts';
import type { CipherSuite } from './suites.ts';

export const HASH_LENGTH = { SHA256: 32, SHA384: 48 } as const;

/** Digest names of node:crypto. */
export const NODE_HASH = { SHA256: 'sha256', SHA384: 'sha384' } as const;

type Hkdf = 'SHA256' | 'SHA384';

/**
 * HKDF-Expand-Label(secret, label, context, length), RFC 8446 7.1. One block of HKDF is enough: TLS never asks for more than
 * Hash.length bytes.
 */
export function hkdfExpandLabel(hash: Hkdf, secret: Buffer, label: string, context: Buffer, length: number): Buffer {
  if (length > HASH_LENGTH[hash]) throw new RangeError(`HKDF-Expand-Label of ${length} bytes`);
  const prefix = labelPrefix(label);
  const info = Buffer.allocUnsafe(2 + prefix.length + 1 + context.length + 1);
  info[0] = length >>> 8;
  info[1] = length & 0xff;
  let at = 2;
  for (let i = 0; i < prefix.length; i++) info[at++] = prefix[i]!;
  info[at++] = context.length;
  for (let i = 0; i < context.length; i++) info[at++] = context[i]!;
  info[at] = 1; // RFC 5869 2.3: T(1) = HMAC(PRK, info | 0x01)
  return hmac(hash, secret, info, length);
}

/** The labels are few, and the same for every connection. */
const labelPrefixes = new Map<string, Buffer>();

/** The label of an HkdfLabel: its length, `tls13 ` and the label. */
function labelPrefix(label: string): Buffer {
  let prefix = labelPrefixes.get(label);
  if (prefix === undefined) {
    prefix = Buffer.from(`?tls13 ${label}`, 'latin1');
    prefix[0] = prefix.length - 1;
    labelPrefixes.set(label, prefix);
  }
  return prefix;
}

/** Key and IV of a TLS 1.3 traffic secret, RFC 8446 7.3. */
export function tls13TrafficKeys(suite: CipherSuite, trafficSecret: Buffer): RecordKeys {
  return {
    key: hkdfExpandLabel(suite.hash, trafficSecret, 'key', NO_BYTES, suite.keyLength),
    iv: hkdfExpandLabel(suite.hash, trafficSecret, 'iv', NO_BYTES, 12),
    macKey: NO_BYTES,
  };
}

/** Derive-Secret(secret, label, messages) with the messages' hash given, RFC 8446 7.1. */
export function deriveSecret(hash: Hkdf, secret: Buffer, label: string, transcriptHash: Buffer): Buffer {
  return hkdfExpandLabel(hash, secret, label, transcriptHash, HASH_LENGTH[hash]);
}

/** application_traffic_secret_N+1, RFC 8446 7.2. */
export function nextTrafficSecret(hash: Hkdf, trafficSecret: Buffer): Buffer {
  return hkdfExpandLabel(hash, trafficSecret, 'traffic upd', NO_BYTES, HASH_LENGTH[hash]);
}

/** Hash of no bytes, the context of `derived`. */
const EMPTY_HASH = {
  SHA256: Buffer.from('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'hex'),
  SHA384: Buffer.from(
    '38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b',
    'hex',
  ),
} as const;

/** The input of the last HKDF-Extract: a string of zeros. */
const NO_KEY = { SHA256: Buffer.alloc(HASH_LENGTH.SHA256), SHA384: Buffer.alloc(HASH_LENGTH.SHA384) } as const;

/** The master secret: HKDF-Extract(Derive-Secret(handshake secret, "derived", ""), 0). */
export function masterSecret(hash: Hkdf, handshakeSecret: Buffer): Buffer {
  const salt = deriveSecret(hash, handshakeSecret, 'derived', EMPTY_HASH[hash]);
  const master = hmac(hash, salt, NO_KEY[hash]);
  salt.fill(0);
  return master;
}

/** P_hash of RFC 5246 section 5, `length` bytes. */
function pHash(hash: HashName, secret: Buffer, seed: Buffer, length: number): Buffer {
  const out = Buffer.alloc(length);
  let a = hmac(hash, secret, seed);
  for (let position = 0; position < length; ) {
    const block = hmac(hash, secret, Buffer.concat([a, seed]));
    position += block.copy(out, position);
    block.fill(0);
    const next = hmac(hash, secret, a);
    a.fill(0);
    a = next;
  }
  a.fill(0);
  return out;
}

/** PRF(secret, label, seed) of the version: RFC 5246 section 5, RFC 2246 section 5. */
export function prf(version: number, hash: Hkdf, secret: Buffer, label: string, seed: Buffer, length: number): Buffer {
  const labelAndSeed = Buffer.concat([Buffer.from(label, 'latin1'), seed]);
  if (version >= 0x0303) return pHash(hash, secret, labelAndSeed, length);
  const half = Math.ceil(secret.length / 2);
  const out = pHash('MD5', secret.subarray(0, half), labelAndSeed, length);
  const sha = pHash('SHA1', secret.subarray(secret.length - half), labelAndSeed, length);
  for (let i = 0; i < length; i++) out[i]! ^= sha[i]!;
  sha.fill(0);
  return out;
}

/** Keys of both directions, [client write, server write], from the key block of RFC 5246 6.3. */
export function tls12Keys(
  version: number,
  suite: CipherSuite,
  master: Buffer,
  clientRandom: Buffer,
  serverRandom: Buffer,
): [RecordKeys, RecordKeys] {
  const { macKeyLength, keyLength, mode } = suite;
  // RFC 5288 3, RFC 6655 3: a salt of four bytes; RFC 7905 2: twelve. CBC has IVs in the key block only before TLS 1.1.
  const ivLength = mode === 'cbc' ? (version === 0x0301 ? 16 : 0) : mode === 'chacha20_poly1305' ? 12 : 4;
  const seed = Buffer.concat([serverRandom, clientRandom]);
  const block = prf(version, suite.hash, master, 'key expansion', seed, 2 * (macKeyLength + keyLength + ivLength));
  let position = 0;
  const take = (length: number) => {
    position += length;
    return Buffer.from(block.subarray(position - length, position));
  };
  const macKeys = [take(macKeyLength), take(macKeyLength)] as const;
  const keys = [take(keyLength), take(keyLength)] as const;
  const ivs = [take(ivLength), take(ivLength)] as const;
  block.fill(0);
  return [
    { key: keys[0], iv: ivs[0], macKey: macKeys[0] },
    { key: keys[1], iv: ivs[1], macKey: macKeys[1] },
  ];
}

export function wipeKeys(keys: RecordKeys): void {
  keys.key.fill(0);
  keys.iv.fill(0);
  keys.macKey.fill(0);
}
