/** How the agent begins and ends: signals, backends that are dead or mute, full disks, readers that go, missing rights. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Server, startNodeServer } from '../support/http/servers.ts';
import { type Cgroup, newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { waitedForCpuMs } from '../support/kernel/waiting.ts';
import { startSink } from '../support/otlp/sink.ts';
import { parseSpans } from '../support/otlp/spans.ts';
import { type AgentOptions, type Stats, startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { mainFile, root, timeScale } from '../support/programs/paths.ts';
import { type Result, run, runAnyway, start } from '../support/programs/process.ts';

const FLUSH_DEADLINE_MS = 1000;
/**
 * Beyond the deadline: to stop the capture and the probes, and to end the process; on a busy machine too. Less than what would end it
 * otherwise: a mute backend is given up after ten seconds, a deadline that nobody set after five.
 */
const END_MS = 3900 * timeScale;

const sum = (counts: Record<string, number>) => Object.values(counts).reduce((total, n) => total + n, 0);

/** Every span that was made was exported or is counted as lost. */
function assertBalanced(stats: Stats): void {
  assert.equal(stats.spans.made, stats.spans.exported + sum(stats.spans.dropped), JSON.stringify(stats.spans));
}

/** What the agent says in JSON, as far as it is looked at. */
interface LogLine {
  time: string;
  level: string;
  message: string;
  reason?: string;
  spans?: number;
}

/** A cgroup with a server in it, so that the counts of the agent are those of the test alone. */
async function watchedServer(cleanup: Cleanup, tls = true): Promise<{ cgroup: Cgroup; server: Server }> {
  const cgroup = await newCgroup(cleanup);
  const server = await startNodeServer(cleanup, { prefix: cgroup.prefix, tls });
  return { cgroup, server };
}

/** Runs one curl below the cgroup with that many requests, one after the other. */
async function ask(cgroup: Cgroup, server: Server, count: number): Promise<void> {
  const requests = Array.from({ length: count }, (_, index) => ['-o', '/dev/null', `${server.url}/bytes/${index}`]);
  const [command, ...rest] = [...cgroup.prefix, 'curl', '-sk', ...requests.flat()];
  await run(command!, rest);
}

async function configFile(cleanup: Cleanup, text: string): Promise<string> {
  const file = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
  await writeFile(file, text);
  return file;
}

/** A backend that takes connections and says nothing. @returns its port */
async function muteBackend(cleanup: Cleanup): Promise<number> {
  const sockets: Socket[] = [];
  const backend = createServer((socket) => sockets.push(socket.on('error', () => {}))).listen(0, '127.0.0.1');
  await once(backend, 'listening');
  cleanup.add(() => {
    for (const socket of sockets) socket.destroy();
    backend.close();
  });
  const address = backend.address();
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}

/** The agent's end, timed. */
async function timedStop(
  agent: Awaited<ReturnType<typeof startAgent>>,
  signal: NodeJS.Signals,
): Promise<{ ms: number } & Awaited<ReturnType<typeof agent.stop>>> {
  const begunMs = performance.now();
  const stopped = await agent.stop(signal);
  return { ...stopped, ms: performance.now() - begunMs };
}

suite('the end', () => {
  after(assertKernelClean);

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`${signal}: what was answered is flushed, what was not is counted`, async (t) => {
      const cleanup = cleanupAfter(t);
      const { cgroup, server } = await watchedServer(cleanup);
      const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
      const [command, ...rest] = [...cgroup.prefix, 'curl', '-skN', `${server.url}/trickle/1000`];
      const underWay = start(cleanup, command!, rest);
      await underWay.waitFor('stdout', /0123456789/);
      await ask(cgroup, server, 5);
      // At once: nothing of it has been written yet.
      const { ms, stats, spans, stderr } = await timedStop(agent, signal);
      assert.ok(ms < END_MS, `took ${ms} ms`);
      assert.equal(spans.filter((span) => String(span.attributes['url.path']).startsWith('/bytes/')).length, 5);
      assert.equal(stats.exchanges.http, 6);
      assert.deepEqual(stats.incomplete, { shutdown: 1 });
      assert.equal(spans.length, 12);
      assert.deepEqual([stats.spans.made, stats.spans.exported, stats.spans.dropped], [12, 12, {}]);
      assert.doesNotMatch(stderr, /lost|not exported/);
    });
  }

  test('spans reach a backend in the last moment', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    const sink = await startSink(cleanup);
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--output', 'otlp', '--output', 'console'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint },
    });
    await ask(cgroup, server, 7);
    const { stats, stdout, spans } = await agent.stop('SIGTERM');
    assert.equal((await sink.totals()).spans, 14);
    // Three outputs, and each span counts once.
    assert.deepEqual([stats.spans.made, stats.spans.exported, stats.spans.dropped], [14, 14, {}]);
    assert.equal(spans.length, 14);
    assert.equal(stdout.split('\n').length - 1, 7);
    assert.deepEqual(
      Object.values(stats.otherOutputs).map(({ exported, dropped }) => [exported, dropped]),
      [
        [14, {}],
        [14, {}],
      ],
    );
  });

  for (const what of ['dead', 'mute'] as const) {
    test(`a backend that is ${what}: in time, and with the number of spans that were lost`, async (t) => {
      const cleanup = cleanupAfter(t);
      const { cgroup, server } = await watchedServer(cleanup);
      const port = what === 'mute' ? await muteBackend(cleanup) : await freePort();
      const config = await configFile(
        cleanup,
        `export: { flush_deadline_ms: ${FLUSH_DEADLINE_MS}, batch_delay_ms: 100 }\n`,
      );
      const agent = await startAgent(cleanup, {
        json: false,
        args: ['--output', 'otlp', '--config', config, '--cgroup', cgroup.path],
        env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` },
      });
      await ask(cgroup, server, 3);
      if (what === 'dead') await agent.running.waitFor('stderr', /spans cannot be delivered at the moment/);
      await ask(cgroup, server, 2);
      const { ms, stats, stderr } = await timedStop(agent, 'SIGTERM');
      assert.ok(ms < FLUSH_DEADLINE_MS + END_MS, `took ${ms} ms`);
      assertBalanced(stats);
      assert.deepEqual([stats.spans.made, stats.spans.exported], [10, 0]);
      assert.match(stderr, /spans were not exported spans=10\b/);
    });
  }

  test('where standard error is no terminal, every message is an object of JSON', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    const config = await configFile(
      cleanup,
      `export: { flush_deadline_ms: ${FLUSH_DEADLINE_MS}, batch_delay_ms: 100 }\n`,
    );
    const begunMs = Date.now();
    const agent = await startAgent(cleanup, {
      json: false,
      logFormat: 'own',
      args: ['--output', 'otlp', '--config', config, '--cgroup', cgroup.path],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${await freePort()}` },
    });
    await ask(cgroup, server, 3);
    await agent.running.waitFor('stderr', /spans cannot be delivered at the moment/);
    const { stderr } = await agent.stop('SIGTERM');
    const lines = stderr.trimEnd().split('\n');
    const messages = lines.filter((line) => !/^ready\b/.test(line)).map((line) => JSON.parse(line) as LogLine);
    assert.equal(messages.length, lines.length - 1);
    for (const { time, level, message } of messages) {
      assert.match(level, /^(?:error|warn|info)$/);
      assert.notEqual(message, '');
      assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.ok(Date.parse(time) >= begunMs && Date.parse(time) <= Date.now(), time);
    }
    const of = (text: string) => messages.filter(({ message }) => message.startsWith(text));
    const [failing] = of('spans cannot be delivered at the moment');
    assert.deepEqual([failing?.level, typeof failing?.reason], ['warn', 'string']);
    assert.deepEqual(
      of('spans were not exported').map(({ level, spans }) => [level, spans]),
      [['warn', 6]],
    );
  });

  test('a second signal: at once, and not as if all were well', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    const port = await muteBackend(cleanup);
    const config = await configFile(cleanup, 'export: { flush_deadline_ms: 600000 }\n');
    const agent = await startAgent(cleanup, {
      json: false,
      args: ['--output', 'otlp', '--config', config, '--cgroup', cgroup.path],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` },
    });
    await ask(cgroup, server, 1);
    agent.running.child.kill('SIGINT');
    await sleep(700 * timeScale);
    assert.equal(agent.running.child.exitCode, null, 'it did not wait for the backend');
    agent.running.child.kill('SIGTERM');
    // It would wait for ten minutes: whatever the machine does meanwhile, this is at once.
    const ended = sleep(END_MS, undefined, { ref: false }).then((): Result => assert.fail('it still runs'));
    const { exitCode } = await Promise.race([agent.running.exited, ended]);
    assert.equal(exitCode, 1);
    await assertKernelClean();
  });

  test('kill -9 leaves nothing in the kernel', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    const agent = await startAgent(cleanup);
    await ask(cgroup, server, 3);
    agent.running.child.kill('SIGKILL');
    await agent.running.exited;
    await assertKernelClean();
    // And the watched programs go on.
    await ask(cgroup, server, 1);
  });
});

suite('outputs', () => {
  after(assertKernelClean);

  test('standard output without a reader ends the agent cleanly', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    const script = `"$0" "$1" agent --output console --stats - --cgroup ${cgroup.path} | head -n 1; echo "\${PIPESTATUS[0]}"`;
    const running = start(cleanup, 'bash', ['-c', script, process.execPath, mainFile]);
    await running.waitFor('stderr', /^ready/m);
    await ask(cgroup, server, 1);
    await running.waitFor('stdout', /\/bytes\/0/);
    // A line after the one that head wants breaks the pipe.
    let ended = false;
    const end = running.exited.finally(() => {
      ended = true;
    });
    for (let i = 0; i < 100 && !ended; i++) {
      await ask(cgroup, server, 1);
      await sleep(200);
    }
    assert.ok(ended, `still runs\n${running.stderr}`);
    const { stdout, stderr } = await end;
    assert.match(stdout, /^[^\n]+ curl -> node-server +GET \/bytes\/0 +200 [^\n]+\n0\n$/);
    assert.doesNotMatch(stderr, /error|Error|EPIPE/);
  });

  test('a full disk: said once for each file, and the agent goes on', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    const disk = join(await cleanup.temporaryFolder(), 'disk');
    await mkdir(disk);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', disk]);
    cleanup.add(() => run('umount', [disk]));
    const spansFile = join(disk, 'spans.jsonl');
    const agent = await startAgent(cleanup, {
      json: false,
      args: ['--output', `otlp-json=${spansFile}`, '--pcapng', join(disk, 'all.pcapng'), '--cgroup', cgroup.path],
    });
    await ask(cgroup, server, 5);
    await until(async () => ((await stat(spansFile)).size > 0 ? true : undefined), 'the first spans');
    for (let i = 0; i < 20; i++) await ask(cgroup, server, 20);
    await agent.running.waitFor('stderr', /the output cannot be written any more/);
    await agent.running.waitFor('stderr', /the pcapng file cannot be written any more/);
    await ask(cgroup, server, 5);
    const { stats, stderr } = await agent.stop();
    assert.equal(stderr.match(/the disk is full/g)?.length, 2, stderr);
    assert.equal(stats.spans.made, 2 * (5 + 400 + 5));
    assertBalanced(stats);
    assert.deepEqual(Object.keys(stats.spans.dropped), ['write_failed']);
    assert.equal(parseSpans(await readFile(spansFile, 'utf8')).length, stats.spans.exported);
    assert.match(stderr, new RegExp(`spans were not exported spans=${stats.spans.dropped.write_failed}\\b`));
  });

  test('an empty console says what is watched and what to try, and not among the data', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    const agent = await startAgent(cleanup, {
      json: false,
      args: ['--output', 'console', '--cgroup', cgroup.path],
    });
    await agent.running.waitFor(
      'stderr',
      /no HTTP request or SQL statement yet; watching the processes below .*\n.*curl.*\n.*doctor/,
    );
    assert.equal(agent.running.stdout, '');
    await ask(cgroup, server, 1);
    await agent.running.waitFor('stdout', /\/bytes\/0/);
    const { stdout, stats } = await agent.stop();
    assert.equal(stdout.split('\n').length - 1, 1);
    assert.deepEqual([stats.spans.made, stats.spans.exported, stats.spans.dropped], [2, 2, {}]);
  });

  test('an agent whose output is no console says nothing of the kind; nor does one that sees something', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    // Requests all the time, so that there are some whenever the agents are ready, and before a second has passed.
    const url = `${server.url}/bytes/0`;
    const loop = `while curl -sk -o /dev/null "${url}" -o /dev/null "${url}"; do :; done`;
    const [command, ...rest] = [...cgroup.prefix, 'sh', '-c', loop];
    const requests = start(cleanup, command!, rest);
    const silent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const busy = await startAgent(cleanup, { json: false, args: ['--output', 'console', '--cgroup', cgroup.path] });
    await busy.running.waitFor('stdout', /\/bytes\/0/);
    await requests.stop('SIGKILL');
    await sleep(2000);
    for (const agent of [silent, busy])
      assert.doesNotMatch((await agent.stop()).stderr, /no HTTP request or SQL statement yet/);
  });

  test('two agents at once see the same', async (t) => {
    const cleanup = cleanupAfter(t);
    const { cgroup, server } = await watchedServer(cleanup);
    const sink = await startSink(cleanup);
    const options: AgentOptions = {
      args: ['--output', 'otlp'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint },
    };
    const agents = [await startAgent(cleanup, options), await startAgent(cleanup, options)];
    await ask(cgroup, server, 20);
    for (const agent of agents) {
      const spans = await agent.waitForSpans(40, (span) => span.attributes['server.port'] === server.port);
      assert.equal(spans.length, 40);
    }
    for (const agent of agents) await agent.stop();
    await assertKernelClean();
  });
});

suite('the start', () => {
  after(assertKernelClean);

  test('without capabilities: 1, and which are missing', async () => {
    const bare = ['--inh-caps=-all', '--bounding-set=-all', process.execPath, mainFile, 'agent'];
    const { exitCode, stderr, stdout } = await runAnyway('setpriv', bare);
    assert.equal(exitCode, 1, stderr);
    assert.equal(stdout, '');
    for (const name of ['BPF', 'NET_ADMIN', 'PERFMON', 'SYS_PTRACE', 'DAC_READ_SEARCH']) {
      assert.match(stderr, new RegExp(`^wirespan: missing: .*CAP_${name} \\(`, 'm'));
    }
    assert.match(stderr, /run it as root .* setcap cap_bpf,/);
    assert.doesNotMatch(stderr, /\n\s+at /, 'a stack trace');
  });

  for (const [what, path] of [
    ['does not exist', '/sys/fs/cgroup/no-such-group'],
    ['is a file', '/etc/passwd'],
    ['is no cgroup', '/tmp'],
  ] as const) {
    test(`--cgroup with a path that ${what}: 1, and what was expected`, async () => {
      const { exitCode, stderr } = await runAnyway(process.execPath, [mainFile, 'agent', '--cgroup', path]);
      assert.equal(exitCode, 1);
      assert.match(stderr, new RegExp(`^wirespan: --cgroup: ${path} .*; expected a directory such as /`));
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
    });
  }

  test('ready within two seconds when everything is built', async (t) => {
    const cleanup = cleanupAfter(t);
    const command = [process.execPath, join(root, 'native', 'setup', 'start.mjs')];
    // The first start may build.
    await run(command[0]!, [command[1]!, '--version'], { timeoutMs: 300_000 });
    // The best of some, and without the time in line for a processor: the machine may be busy with something else.
    const times: number[] = [];
    while (times.length < 5 && !times.some((ms) => ms < 2000 * timeScale)) {
      const agent = await startAgent(cleanup, { command, args: ['--output', 'none'], json: false });
      times.push(agent.readyMs - waitedForCpuMs(agent.running.pid));
      await agent.stop();
    }
    assert.ok(Math.min(...times) < 2000 * timeScale, `ready after ${times.map(Math.round).join(', ')} ms`);
  });
});
