/** The agent without root: another user with the capabilities that doctor names, and nothing more. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { capabilityUses } from '../../src/doctor/capabilities.ts';
import type { Report } from '../../src/doctor/report.ts';
import { startNginx } from '../support/http/nginx.ts';
import { startNodeServer, startPythonServer } from '../support/http/servers.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { mainFile } from '../support/programs/paths.ts';
import { run, runAnyway, start } from '../support/programs/process.ts';

const NOBODY = 65534;

/** Runs what follows as `nobody` with these capabilities, from the start of the program on. */
function asNobody(names: readonly string[]): string[] {
  const list = ['-all', ...names.map((name) => `+${name.replace('CAP_', '').toLowerCase()}`)].join(',');
  const user = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];
  return ['setpriv', ...user, `--bounding-set=${list}`, `--inh-caps=${list}`, `--ambient-caps=${list}`];
}

const prefix = asNobody(capabilityUses.map(({ name }) => name));

suite('with capabilities instead of root', () => {
  after(assertKernelClean);

  test('other users, their programs and their TLS are seen', async (t) => {
    const cleanup = cleanupAfter(t);
    const nginx = await startNginx(cleanup);
    const before = await startNodeServer(cleanup);
    const agent = await startAgent(cleanup, { prefix, owner: NOBODY, args: ['--log-level', 'debug'] });
    const later = await startPythonServer(cleanup, { env: { OTEL_SERVICE_NAME: 'ordering' } });
    const bases = [`https://127.0.0.1:${nginx.tls13Port}/hello`, `${before.url}/bytes/1`, `${later.url}/bytes/1`];
    for (const base of bases) await run('curl', ['-sk', '-o', '/dev/null', base]);
    const ports = new Set<unknown>([nginx.tls13Port, before.port, later.port]);
    const spans = await agent.waitForSpans(6, (span) => ports.has(span.attributes['server.port']));
    assert.deepEqual(
      spans.map((span) => `${span.attributes['server.port']} ${span.kind} ${span.resource['service.name']}`).sort(),
      [
        `${nginx.tls13Port} CLIENT curl`,
        `${nginx.tls13Port} SERVER nginx`,
        `${before.port} CLIENT curl`,
        `${before.port} SERVER node-server`,
        `${later.port} CLIENT curl`,
        `${later.port} SERVER ordering`,
      ].sort(),
    );
    const status = await run('cat', [`/proc/${agent.running.pid}/status`]);
    assert.match(status.stdout, new RegExp(`^Uid:\\s+${NOBODY}\\s+${NOBODY}\\s`, 'm'));
    const { stderr } = await agent.stop();
    assert.doesNotMatch(stderr, / (warn|error) /);
    await assertKernelClean();
  });

  test('doctor says that the agent can run, and names the libraries of other users', async (t) => {
    const nginx = await startNginx(cleanupAfter(t));
    const [command, ...rest] = [...prefix, process.execPath, mainFile, 'doctor', '--json'];
    const { exitCode, stdout, stderr } = await runAnyway(command!, rest, { timeoutMs: 60_000 });
    assert.equal(exitCode, 0, stdout + stderr);
    const report = JSON.parse(stdout) as Report & { canRun: boolean };
    assert.equal(report.canRun, true);
    assert.deepEqual(
      report.checks.filter(({ state }) => state === 'no' || state === 'limited'),
      [],
    );
    assert.equal(report.processes.find(({ pid }) => pid === nginx.running.pid)?.state, 'probeable');
  });

  for (const without of capabilityUses.filter(({ required }) => required)) {
    test(`without ${without.name}: neither the agent nor doctor claims to run`, async () => {
      const names = capabilityUses.filter((use) => use !== without).map(({ name }) => name);
      const [command, ...rest] = [...asNobody(names), process.execPath, mainFile];
      const agent = await runAnyway(command!, [...rest, 'agent', '--output', 'none']);
      assert.equal(agent.exitCode, 1, agent.stderr);
      assert.match(agent.stderr, new RegExp(`^wirespan: missing: ${without.name} \\(${without.use}\\)$`, 'm'));
      const doctor = await runAnyway(command!, [...rest, 'doctor'], { timeoutMs: 60_000 });
      assert.equal(doctor.exitCode, 1);
      assert.match(doctor.stdout, new RegExp(`NO {2}${without.name} `));
    });
  }

  test('without those that are only for more: it runs, and says what it lacks', async (t) => {
    const cleanup = cleanupAfter(t);
    // Still root, whose files it may read: it is about the processes.
    const kept = capabilityUses.filter(({ required }) => required).map(({ name }) => name);
    const list = ['-all', ...kept.map((name) => `+${name.replace('CAP_', '').toLowerCase()}`)].join(',');
    const agent = await startAgent(cleanup, { prefix: ['setpriv', `--inh-caps=${list}`, `--bounding-set=${list}`] });
    const { stderr } = await agent.stop();
    assert.match(stderr, /less is seen without some capabilities .*CAP_SYS_PTRACE .*CAP_DAC_READ_SEARCH/);
  });
});

/** As root without capabilities: what such a process may not read is closed to its own user, not only to others. */
const powerless = ['setpriv', '--inh-caps=-all', '--bounding-set=-all'];

async function mayRead(pid: number, file: string): Promise<boolean> {
  const [command, ...rest] = [...powerless, 'head', '-c', '1', `/proc/${pid}/${file}`];
  return (await runAnyway(command!, rest)).exitCode === 0;
}

suite('the memory of the process', () => {
  test('is in no core dump, and its own user cannot look into it', async (t) => {
    const cleanup = cleanupAfter(t);
    const [command, ...rest] = powerless;
    // The control: another process of the same user is open.
    const other = start(cleanup, command!, [...rest, 'sleep', '60']);
    const replay = start(
      cleanup,
      command!,
      [...rest, process.execPath, mainFile, 'replay', '--output', 'none', '--log-level', 'debug', '-'],
      { stdin: 'open' },
    );
    const agent = await startAgent(cleanup);
    const { stdout: limits } = await run('cat', [`/proc/${agent.running.pid}/limits`]);
    assert.match(limits, /^Max core file size +0 +0 /m);
    // Replay says nothing when it begins: it is closed a moment after its start.
    let open = true;
    for (let i = 0; i < 50 && open; i++) {
      open = await mayRead(replay.pid, 'environ');
      if (open) await sleep(100);
    }
    assert.equal(open, false, 'the environment of replay can be read');
    for (const file of ['environ', 'maps', 'mem']) {
      assert.equal(await mayRead(replay.pid, file), false, `${file} of replay`);
      assert.equal(await mayRead(agent.running.pid, file), false, `${file} of the agent`);
    }
    assert.equal(await mayRead(other.pid, 'environ'), true, 'the control');
    replay.child.stdin?.end();
    await agent.stop();
    await assertKernelClean();
  });
});
