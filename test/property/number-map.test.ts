import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NumberMap } from '../../src/flow/number-map.ts';

test('a NumberMap is a Map, whatever comes and goes', () => {
  // Few keys, so that they come again, and cookies as the kernel counts them.
  const key = fc.oneof(fc.nat(40), fc.nat(2 ** 31), fc.maxSafeNat());
  const step = fc.record({ set: fc.boolean(), key, value: fc.nat() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const ours = new NumberMap<number>();
      const theirs = new Map<number, number>();
      for (const { set, key, value } of steps) {
        if (set) {
          ours.set(key, value);
          theirs.set(key, value);
        } else {
          ours.delete(key);
          theirs.delete(key);
        }
        assert.equal(ours.size, theirs.size);
        assert.equal(ours.get(key), theirs.get(key));
      }
      for (const { key } of steps) assert.equal(ours.get(key), theirs.get(key));
      ours.clear();
      for (const { key } of steps) assert.equal(ours.get(key), undefined);
    }),
    { numRuns: 300 },
  );
});

test('a NumberMap does not grow when entries come and go', () => {
  const map = new NumberMap<number>();
  for (let key = 0; key < 1_000_000; key++) {
    map.set(key, key);
    if (key >= 20) map.delete(key - 20);
  }
  assert.equal(map.size, 20);
  for (let key = 999_980; key < 1_000_000; key++) assert.equal(map.get(key), key);
});
