import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Check, Report } from '../../src/doctor/report.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

function doctor(prefix: readonly string[], ...words: string[]) {
  const [command, ...rest] = [...prefix, process.execPath, main, 'doctor', ...words];
  return spawnSync(command!, rest, { encoding: 'utf8', timeout: 60_000 });
}

after(assertKernelClean);

test('as root: everything that the agent does was tried and works', () => {
  assert.equal(process.getuid?.(), 0, 'this test needs root');
  const { status, stdout, stderr } = doctor([], '--json');
  const report = JSON.parse(stdout) as Report & { canRun: boolean };
  assert.deepEqual(
    report.checks.filter((check: Check) => check.state === 'no'),
    [],
  );
  assert.deepEqual([status, report.canRun, stderr], [0, true, '']);
  for (const name of ['capture programs', 'probes of TLS libraries', 'cgroup v2', 'BTF', 'native addon']) {
    assert.equal(report.checks.find((check: Check) => check.name === name)?.state, 'ok', name);
  }
});

test('without capabilities: 1, what is missing, and what to do', () => {
  const { status, stdout } = doctor(['setpriv', '--inh-caps=-all', '--bounding-set=-all']);
  assert.equal(status, 1);
  assert.match(stdout, /\n {2}NO {2}CAP_BPF +missing: cannot load BPF programs\n/);
  assert.match(
    stdout,
    /\nThe agent cannot run here: .*CAP_BPF.*\n {2}- run it as root \(sudo\), or give .*setcap cap_bpf,/,
  );
});
