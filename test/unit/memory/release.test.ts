import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReleasePolicy } from '../../../src/memory/release.ts';

const MIB = 1024 * 1024;

/** @param heldMib every 100 ms. @returns at which of them memory is given back */
function releases(heldMib: readonly number[], peakMib: readonly number[] = heldMib): number[] {
  const policy = new ReleasePolicy();
  return heldMib.flatMap((mib, i) => (policy.isDue(mib * MIB, (peakMib[i] ?? mib) * MIB, i * 100) ? [i] : []));
}

const times = (mib: number, count: number): number[] => new Array<number>(count).fill(mib);

test('once a burst is over and has stayed so for two seconds', () => {
  assert.deepEqual(releases([...times(1, 10), ...times(200, 10), ...times(1, 60)]), [39]);
});

test('not while it goes up and down', () => {
  assert.deepEqual(releases(Array.from({ length: 300 }, (_, i) => (i % 15 < 5 ? 200 : 2))), []);
});

test('a burst between two looks is known by its peak', () => {
  assert.deepEqual(releases(times(1, 60), [1, 1, 100]), [21]);
});

test('never for little, and not every moment', () => {
  assert.deepEqual(releases([...times(30, 10), ...times(0, 60)]), []);
  const twice = [...times(100, 5), ...times(0, 30), ...times(100, 5), ...times(0, 100)];
  assert.deepEqual(releases(twice), [24, 124]);
});
