import assert from 'node:assert/strict';
import { test } from 'node:test';
import { releaseMemory } from '../../../src/capture/native.ts';

test('what was needed for a moment only goes back to the system', () => {
  const MIB = 1024 * 1024;
  const before = process.memoryUsage();
  let held: string[][] | undefined = Array.from({ length: 400_000 }, (_, i) => [`value ${i}`]);
  assert.ok(process.memoryUsage().heapUsed > before.heapUsed + 20 * MIB);
  assert.equal(held.length, 400_000);
  held = undefined;
  releaseMemory();
  const after = process.memoryUsage();
  assert.ok(after.heapUsed < before.heapUsed + 5 * MIB, `${after.heapUsed / MIB} MiB after ${before.heapUsed / MIB}`);
});
