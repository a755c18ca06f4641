/**
 * The Huffman code of RFC 7541 section 5.2 and appendix B.
 *
 * The code is canonical: codes of one length follow each other in the order of their symbols, so the lengths are the whole table.
 */

/** Bits of each symbol's code: 256 octets, then EOS. */
// biome-ignore format: sixteen symbols in a line
const CODE_BITS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
] as const;
const EOS = 256;
const LONGEST_BITS = 30;
/** All letters, digits and what a URL has are within these; longer codes are read bit by bit. */
const FAST_BITS = 10;
const FAST_MASK = (1 << FAST_BITS) - 1;

/** By the next FAST_BITS bits: symbol << 4 | bits of its code, 0 for a longer code. */
const FAST = new Uint16Array(1 << FAST_BITS);
/** By length: the first code of this length, how many there are, and where their symbols stand in SYMBOLS. */
const FIRST_CODE = new Int32Array(LONGEST_BITS + 1);
const CODES = new Int32Array(LONGEST_BITS + 1);
const FIRST_SYMBOL = new Int32Array(LONGEST_BITS + 1);
const SYMBOLS = new Uint16Array(CODE_BITS.length);

for (let bits = 1, code = 0, at = 0; bits <= LONGEST_BITS; bits++, code *= 2) {
  FIRST_CODE[bits] = code;
  FIRST_SYMBOL[bits] = at;
  for (let symbol = 0; symbol < CODE_BITS.length; symbol++) {
    if (CODE_BITS[symbol] !== bits) continue;
    SYMBOLS[at++] = symbol;
    if (bits <= FAST_BITS) {
      const shift = FAST_BITS - bits;
      FAST.fill((symbol << 4) | bits, code << shift, (code + 1) << shift);
    }
    code++;
    CODES[bits]!++;
  }
}

/** No octet has a shorter code. */
const SHORTEST_BITS = 5;
/** Strings that may be longer have a buffer of their own. */
const SCRATCH_BYTES = 16_384;
const SCRATCH = Buffer.allocUnsafeSlow(SCRATCH_BYTES);

/** What `decodeHuffman` decoded: good until its next call. */
export let decoded: Buffer = SCRATCH;

/**
 * Decodes bytes[start..end) into `decoded`.
 *
 * @returns the number of octets, -1 when it is no valid encoding (section 5.2: EOS, or padding that is not the most significant bits of EOS
 *   or longer than 7 bits)
 */
export function decodeHuffman(bytes: Buffer, start: number, end: number): number {
  const most = Math.ceil(((end - start) * 8) / SHORTEST_BITS);
  const out = most <= SCRATCH_BYTES ? SCRATCH : Buffer.allocUnsafeSlow(most);
  decoded = out;
  let position = start;
  let length = 0;
  /** The low `held` bits are those that come next; bits above them are of the past. */
  let bits = 0;
  let held = 0;
  for (;;) {
    while (held <= 22 && position < end) {
      bits = (bits << 8) | bytes[position++]!;
      held += 8;
    }
    if (held >= FAST_BITS) {
      const entry = FAST[(bits >>> (held - FAST_BITS)) & FAST_MASK]!;
      if (entry !== 0) {
        out[length++] = entry >> 4;
        held -= entry & 15;
        continue;
      }
    }
    if (held === 0) return length;
    let code = 0;
    let read = 0;
    let symbol = -1;
    while (symbol < 0) {
      if (held === 0) {
        if (position === end) return read < 8 && code === (1 << read) - 1 ? length : -1;
        bits = bytes[position++]!;
        held = 8;
      }
      code = (code << 1) | ((bits >>> --held) & 1);
      const offset = code - FIRST_CODE[++read]!;
      if (offset >= 0 && offset < CODES[read]!) symbol = SYMBOLS[FIRST_SYMBOL[read]! + offset]!;
    }
    if (symbol === EOS) return -1;
    out[length++] = symbol;
  }
}

/** @returns the text in bytes[start..end) as latin1, `undefined` when it is no valid encoding */
export function huffmanText(bytes: Buffer, start: number, end: number): string | undefined {
  const length = decodeHuffman(bytes, start, end);
  return length < 0 ? undefined : decoded.toString('latin1', 0, length);
}
