import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { connectionSeed, writeClientSpanId, writeServerSpanId, writeTraceId } from '../../../src/span/ids.ts';
import { PARENT_SPAN_ID, SPAN_ID } from '../../../src/span/span.ts';
import { connection, tls } from '../../support/spans/fixtures.ts';

const NO_SALT = Buffer.alloc(0);

function ids(seed: Int32Array, offset: number): string {
  const bytes = Buffer.alloc(32);
  writeTraceId(bytes, seed, offset);
  writeServerSpanId(bytes, seed, offset);
  writeClientSpanId(bytes, PARENT_SPAN_ID, seed, offset);
  return bytes.toString('hex');
}

/** The documented algorithm once more, in the plainest form. */
function reference(digest: Buffer, offset: number): string {
  const mix = (value: bigint): bigint => {
    let h = value & 0xffffffffn;
    h = ((h ^ (h >> 16n)) * 0x85ebca6bn) & 0xffffffffn;
    h = ((h ^ (h >> 13n)) * 0xc2b2ae35n) & 0xffffffffn;
    return h ^ (h >> 16n);
  };
  const low = BigInt(offset) & 0xffffffffn;
  const high = BigInt(offset) >> 32n;
  const words = Array.from({ length: 8 }, (_, i) => {
    const seed = BigInt(digest.readUInt32BE(4 * i));
    const salted = mix(low + BigInt(i) * 0x9e3779b9n);
    return mix(seed ^ salted ^ ((high * 0x85ebca6bn) & 0xffffffffn))
      .toString(16)
      .padStart(8, '0');
  });
  return [...words.slice(0, 4), ...words.slice(6), ...words.slice(4, 6)].join('');
}

describe('ids', () => {
  it('come from the client random inside TLS', () => {
    const digest = Buffer.alloc(32, 9);
    const seed = connectionSeed(connection({ tls: tls(9), initialSequence: [1, 2] }), NO_SALT);
    for (const offset of [0, 1, 4095, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 45 + 12345]) {
      assert.equal(ids(seed, offset), reference(digest, offset));
    }
  });

  it('come from the initial sequence numbers of plain TCP', () => {
    const digest = createHash('sha256')
      .update('wirespan tcp 1')
      .update(Buffer.from('00000001fffffffe', 'hex'))
      .digest();
    const seed = connectionSeed(connection({ initialSequence: [1, 0xfffffffe] }), NO_SALT);
    assert.equal(ids(seed, 77), reference(digest, 77));
  });

  it('differ between agents when the start was not seen, and repeat without a salt', () => {
    const old = connection({ startSeen: false, initialSequence: [-1, -1] });
    const one = connectionSeed(old, Buffer.from('one'));
    assert.deepEqual(connectionSeed(old, Buffer.from('one')), one);
    assert.notDeepEqual(connectionSeed(old, Buffer.from('two')), one);
    const halfSeen = connection({ startSeen: true, initialSequence: [5, -1] });
    assert.notDeepEqual(connectionSeed(halfSeen, Buffer.from('two')), connectionSeed(halfSeen, Buffer.from('one')));
  });

  it('never repeat within a connection', () => {
    const seed = connectionSeed(connection(), NO_SALT);
    const traces = new Set<string>();
    const spans = new Set<string>();
    const bytes = Buffer.alloc(32);
    for (let i = 0; i < 20_000; i++) {
      writeTraceId(bytes, seed, i * 61);
      traces.add(bytes.toString('hex', 0, 16));
      writeClientSpanId(bytes, SPAN_ID, seed, i * 61);
      spans.add(bytes.toString('hex', 16, 24));
      writeServerSpanId(bytes, seed, i * 61);
      spans.add(bytes.toString('hex', 16, 24));
    }
    assert.equal(traces.size, 20_000);
    assert.equal(spans.size, 40_000);
  });

  it('are never only zeros', () => {
    // The seeds for which every word of offset 0 mixes to 0: m(0) = 0, so seed[i] = m(i * 0x9e3779b9).
    const seed = new Int32Array(8);
    const zero = reference(Buffer.alloc(32), 0);
    assert.notEqual(zero, '0'.repeat(64));
    const inner = [0, 0, 0, 0, 0, 0, 0, 0].map((_, i) => {
      let h = Math.imul(i, 0x9e3779b9);
      h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
      return h ^ (h >>> 16);
    });
    seed.set(inner);
    assert.equal(ids(seed, 0), `${'0'.repeat(31)}1${'0'.repeat(15)}1${'0'.repeat(15)}1`);
  });
});
