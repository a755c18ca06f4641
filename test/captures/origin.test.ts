/** Where the captures come from: all of them are the project's own. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RECORDINGS } from './record/recordings.ts';

const folder = join(import.meta.dirname, 'data');

test('every capture is one that the project recorded, and its description says what it holds', () => {
  const files = readdirSync(folder).filter((name) => name !== 'README.md');
  const captures = files.filter((name) => !name.endsWith('.keylog'));
  assert.deepEqual(captures.sort(), RECORDINGS.map(({ name }) => name).sort());
  const keyLogs = files.filter((name) => name.endsWith('.keylog')).map((name) => name.replace(/\.keylog$/, ''));
  assert.deepEqual(
    keyLogs.filter((name) => !captures.includes(name)),
    [],
  );
  const described = [...readFileSync(join(folder, 'README.md'), 'utf8').matchAll(/^\| (\S+) \|/gm)].map(
    ([, name]) => name!,
  );
  const named = captures.map((name) => name.replace(/\.pcap(ng)?\.gz$/, ''));
  assert.deepEqual(described.filter((name) => name !== 'file').sort(), named.sort());
});
