import assert from 'node:assert/strict';
import { test } from 'node:test';
import { acceptsFrames } from '../../../src/export/grpc-transport.ts';

test('this version of grpc-js can be spared the copy of each request', () => {
  assert.equal(acceptsFrames, true);
});
