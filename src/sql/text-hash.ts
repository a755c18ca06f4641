/** Bytes of a longer text that are hashed: the first, the last and some between. */
const SAMPLES = 256;
/** Runs that are longer are compared by one native call. */
const LONG_BYTES = 256;

/** A hash of bytes[start..end) and a seed. Of a text of more than 256 bytes every n-th counts: equality decides, the hash only finds. */
export function textHash(bytes: Uint8Array, start: number, end: number, seed: number): number {
  const length = end - start;
  let hash = seed ^ Math.imul(length, 0x9e3779b1);
  const step = length <= SAMPLES ? 1 : 1 + Math.floor(length / SAMPLES);
  for (let at = start; at < end; at += step) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** Whether bytes[start..end) are those of `known`, to its end. */
export function sameBytes(known: Buffer, bytes: Buffer, start: number, end: number): boolean {
  const length = end - start;
  if (known.length !== length) return false;
  if (length > LONG_BYTES) return known.compare(bytes, start, end) === 0;
  for (let i = 0; i < length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}
