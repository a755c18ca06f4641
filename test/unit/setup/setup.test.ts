import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { type Cleanup, cleanupAfter } from '../../support/programs/cleanup.ts';
import { root } from '../../support/programs/paths.ts';
import { runAnyway, start } from '../../support/programs/process.ts';

const setup = (name: string) => join(root, 'native', 'setup', name);
const importOf = (name: string) => JSON.stringify(pathToFileURL(setup(name)).href);

/** A script that is replaced by another, which ends when it is told to and says which signals came. */
async function replaced(cleanup: Cleanup): Promise<string> {
  const folder = await cleanup.temporaryFolder();
  const inner = `
    let signals = 0;
    for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => {
      signals += 1;
      console.log(signal + ' ' + signals);
      if (signals === 2) process.exit(7);
    });
    setInterval(() => {}, 1000);
    console.log('up ' + process.argv.slice(2).join(' '));`;
  await writeFile(join(folder, 'inner.mjs'), inner);
  const outer = `
    import { replaceBy } from ${importOf('prepare.mjs')};
    await replaceBy(process.execPath, [${JSON.stringify(join(folder, 'inner.mjs'))}, ...process.argv.slice(2)]);`;
  await writeFile(join(folder, 'outer.mjs'), outer);
  return join(folder, 'outer.mjs');
}

test('a signal that comes twice at once, as from a terminal through npm, is passed on once; a later one again', async (t) => {
  const cleanup = cleanupAfter(t);
  const running = start(cleanup, process.execPath, [await replaced(cleanup), 'one', '--two']);
  await running.waitFor('stdout', /^up one --two$/m);
  process.kill(running.pid, 'SIGINT');
  await sleep(20);
  process.kill(running.pid, 'SIGINT');
  await running.waitFor('stdout', /^SIGINT 1$/m);
  await sleep(500);
  assert.equal(running.stdout, 'up one --two\nSIGINT 1\n');
  process.kill(running.pid, 'SIGTERM');
  const { exitCode, stdout } = await running.exited;
  assert.match(stdout, /^SIGTERM 2$/m);
  assert.equal(exitCode, 7, 'the exit code of the program that was started');
});

test('a program that was killed gives the exit code that a shell would', async (t) => {
  const cleanup = cleanupAfter(t);
  const folder = await cleanup.temporaryFolder();
  const script = `import { replaceBy } from ${importOf('prepare.mjs')};
    await replaceBy(process.execPath, ['-e', 'process.kill(process.pid, "SIGKILL")']);`;
  await writeFile(join(folder, 'outer.mjs'), script);
  const { exitCode } = await runAnyway(process.execPath, [join(folder, 'outer.mjs')]);
  assert.equal(exitCode, 128 + 9);
});

test('missing system packages are named, with what they are for, when nobody may install them', async (t) => {
  const cleanup = cleanupAfter(t);
  const folder = await cleanup.temporaryFolder();
  const script = `import { ensurePackages } from ${importOf('packages.mjs')};
    process.getuid = () => 1000;
    try {
      ensurePackages([{ package: 'some-dev', file: '/nonexistent/header.h' }, { package: 'coreutils', command: 'ls' }], 'build the thing');
    } catch (error) {
      console.log(error.message);
    }`;
  await writeFile(join(folder, 'script.mjs'), script);
  const { stdout } = await runAnyway(process.execPath, [join(folder, 'script.mjs')]);
  assert.match(stdout, /build the thing/);
  assert.match(stdout, /\bsome-dev\b/);
  assert.doesNotMatch(stdout, /coreutils/);
});

test('a fingerprint changes with contents and names, and with nothing else', async (t) => {
  const cleanup = cleanupAfter(t);
  const folder = await cleanup.temporaryFolder();
  // The set-up scripts take the folder that they lie in as the checkout: a copy has a checkout of its own.
  const files = ['common.mjs'];
  await mkdir(join(folder, 'native', 'setup'), { recursive: true });
  for (const file of files) spawnSync('cp', [setup(file), join(folder, 'native', 'setup', file)]);
  await mkdir(join(folder, 'src', 'deep'), { recursive: true });
  const { fingerprint } = (await import(pathToFileURL(join(folder, 'native', 'setup', 'common.mjs')).href)) as {
    fingerprint(folders: string[], wanted: (path: string) => boolean, extra?: string[]): string;
  };
  const now = (extra: string[] = []) => fingerprint(['src', 'none'], (path) => path.endsWith('.ts'), extra);
  await writeFile(join(folder, 'src', 'deep', 'a.ts'), 'one');
  const first = now();
  await writeFile(join(folder, 'src', 'deep', 'a.js'), 'ignored');
  await writeFile(join(folder, 'src', 'deep', 'a.ts'), 'one');
  assert.equal(now(), first);
  assert.notEqual(now(['compiler 2']), first);
  await writeFile(join(folder, 'src', 'deep', 'a.ts'), 'two');
  const second = now();
  assert.notEqual(second, first);
  await writeFile(join(folder, 'src', 'deep', 'b.ts'), '');
  assert.notEqual(now(), second);
});

test('every part of the suite can be named, and an unknown one is an error', async () => {
  const { exitCode, stderr } = await runAnyway(process.execPath, [join(root, 'test', 'run.mjs'), 'nonsense']);
  assert.equal(exitCode, 2);
  for (const part of ['lint', 'unit', 'captures', 'live', 'kernels']) assert.match(stderr, new RegExp(`\\b${part}\\b`));
});
