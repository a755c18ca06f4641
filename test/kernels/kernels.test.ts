/** The agent on the kernels of Debian 11, 12, 12's backports and 13's, each booted under software emulation with this machine's own files. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { root } from '../support/programs/paths.ts';
import { runAnyway } from '../support/programs/process.ts';

/** Of the command in the guest; the boot takes some seconds more. */
const GUEST_TIMEOUT_S = 400;

const script = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Runs a script in the guest. @returns the object that it printed */
async function inGuest(kernel: string, name: string, ...args: string[]): Promise<Record<string, unknown>> {
  const result = await runAnyway(
    script('vm-run.sh'),
    [kernel, 'env', 'WIRESPAN_TIME_SCALE=40', process.execPath, script(name), ...args],
    {
      cwd: root,
      env: { VM_TIMEOUT: String(GUEST_TIMEOUT_S) },
      timeoutMs: (GUEST_TIMEOUT_S + 180) * 1000,
    },
  );
  assert.equal(result.exitCode, 0, `${result.exitCode ?? result.signal}\n${result.stdout}\n${result.stderr}`);
  const report = JSON.parse(result.stdout.slice(result.stdout.indexOf('{'))) as Record<string, unknown>;
  assert.ok(String(report.kernel).startsWith(`${kernel}.`), `this was ${report.kernel}`);
  return report;
}

// Two at a time: an emulated machine keeps one core busy.
suite('kernels', { concurrency: 2 }, () => {
  // The longest first.
  test('on Linux 7.3, whose tasks preempt each other anywhere, no secret of a new connection is lost or mixed up', async (t) => {
    t.diagnostic(JSON.stringify(await inGuest('7.3', 'preempted.ts', '20')));
  });
  for (const kernel of ['5.10', '6.1', '6.12', '7.3']) {
    test(`on Linux ${kernel} the agent attaches, sees HTTPS with its owners, and leaves nothing behind`, async (t) => {
      t.diagnostic(JSON.stringify(await inGuest(kernel, 'guest.ts')));
    });
  }
});
