import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkProcesses } from '../../../src/doctor/processes.ts';

async function withChild(
  command: string,
  words: readonly string[],
  check: (child: ChildProcess) => void,
): Promise<void> {
  const child = spawn(command, words, { stdio: 'ignore' });
  const ended = once(child, 'exit');
  await once(child, 'spawn');
  try {
    check(child);
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

test('a Node process carries an OpenSSL that can be probed', async () => {
  await withChild(process.execPath, ['-e', 'setTimeout(() => {}, 30000)'], (child) => {
    const found = checkProcesses().find(({ pid }) => pid === child.pid);
    assert.equal(found?.state, 'probeable');
    assert.equal(found.library, process.execPath);
    assert.equal(found.version, `OpenSSL ${process.versions.openssl}`);
    assert.match(found.detail, /^can be probed at 0x[0-9a-f]+ /);
    assert.equal(found.name, 'node');
  });
});

test('a program without TLS', async () => {
  await withChild('sleep', ['30'], (child) => {
    const found = checkProcesses().find(({ pid }) => pid === child.pid);
    assert.equal(found?.state, 'no_tls_library');
    assert.equal(found.name, 'sleep');
  });
});

test('this process is left out, and where there is no process there is nothing', () => {
  assert.equal(
    checkProcesses().find(({ pid }) => pid === process.pid),
    undefined,
  );
  const empty = mkdtempSync(join(tmpdir(), 'proc-'));
  try {
    assert.deepEqual(checkProcesses(empty), []);
    assert.deepEqual(checkProcesses(join(empty, 'none')), []);
  } finally {
    rmSync(empty, { recursive: true });
  }
});
