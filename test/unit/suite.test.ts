import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { PARTS } = (await import(new URL('../parts.mjs', import.meta.url).href)) as {
  PARTS: readonly { readonly folders?: readonly string[] }[];
};
const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', 'test'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\0')
  .filter((file) => /\.(?:ts|mjs)$/.test(file) && existsSync(join(root, file)));

/** The files below test/ that a file imports. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(/^(?:import|export)\s(?:[^;'"]*?\sfrom\s+)?'(\.[^']+)'|\bimport\(\s*'(\.[^']+)'/gm)]
    .map(([, statement, call]) => posix.join(posix.dirname(file), (statement ?? call)!))
    .filter((target) => target.startsWith('test/'));
}

/** `test/e2e`, `test/support`; the folders of unit tests count each: `test/unit/tls`. */
function partOf(file: string): string {
  const folders = posix.dirname(file).split('/');
  return folders.slice(0, folders[1] === 'unit' ? 3 : 2).join('/');
}

/** @returns whether a test may not import this file */
function isForeign(from: string, to: string): boolean {
  if (to.endsWith('.test.ts')) return true;
  return partOf(to) !== partOf(from) && !['test', 'test/support'].includes(partOf(to));
}

describe('the test suite', () => {
  it('imports helpers from test/support or from the same part', () => {
    const foreign = files.flatMap((from) =>
      importsOf(from)
        .filter((to) => isForeign(from, to))
        .map((to) => `${from} -> ${to}`),
    );
    assert.deepEqual(foreign, []);
  });

  it('would show an import from another part', () => {
    assert.ok(files.some((from) => importsOf(from).some((to) => to.startsWith('test/support/'))));
    assert.ok(isForeign('test/property/mysql.test.ts', 'test/unit/protocol/wire.ts'));
    assert.ok(isForeign('test/unit/export/encoder.test.ts', 'test/unit/span/fixtures.ts'));
    assert.ok(isForeign('test/support/otlp/backend.ts', 'test/unit/export/decode.ts'));
    assert.ok(isForeign('test/unit/tls/layer.test.ts', 'test/unit/tls/records.test.ts'));
    assert.ok(!isForeign('test/unit/tls/layer.test.ts', 'test/support/tls/records.ts'));
  });

  it('has no helper outside of a folder of test/support', () => {
    assert.deepEqual(
      files.filter((file) => posix.dirname(file) === 'test/support'),
      [],
    );
  });

  it('runs each test file in one part', () => {
    const folders = PARTS.flatMap((part) => part.folders ?? []);
    const tests = files.filter((file) => file.endsWith('.test.ts'));
    assert.deepEqual(
      tests.filter((file) => folders.filter((folder) => file.startsWith(`${folder}/`)).length !== 1),
      [],
    );
  });

  it('lists as unsteady only files that exist', () => {
    const listed = readFileSync(join(root, 'test/unsteady.txt'), 'utf8').split('\n').filter(Boolean);
    assert.deepEqual(
      listed.filter((file) => !existsSync(join(root, file))),
      [],
    );
  });
});
