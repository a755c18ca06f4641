import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../../support/paths.ts';

test('the image starts the agent with the options of its first line', () => {
  const [, options] = /^#!\/usr\/bin\/env -S node (.+)$/m.exec(readFileSync(join(root, 'src/main.ts'), 'utf8'))!;
  const [, entry] = /^ENTRYPOINT (.+)$/m.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))!;
  assert.deepEqual(JSON.parse(entry!), ['node', ...options!.split(' '), '/app/dist/main.js']);
});
