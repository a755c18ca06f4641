/** Other users of the machine: in the folders that the agent writes to, and at the port where it listens. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { startNodeServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { parseSpans } from '../support/otlp/spans.ts';
import { startAgent, wirespan } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

const NOBODY = 65_534;

suite('hostile users', () => {
  after(assertKernelClean);

  test('files and links that they have put where the agent writes', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const folder = join(await cleanup.temporaryFolder(), 'shared');
    mkdirSync(folder);
    chmodSync(folder, 0o1777);
    const victims = ['soft', 'hard'].map((name) => join(folder, '..', `victim-${name}`));
    for (const victim of victims) writeFileSync(victim, 'precious');
    const [pcapng, spans, stats] = ['c.pcapng', 'o.jsonl', 's.json'].map((name) => join(folder, name));
    // A file of theirs, a symbolic link and a hard link to files of root.
    writeFileSync(pcapng!, '');
    chmodSync(pcapng!, 0o666);
    chownSync(pcapng!, NOBODY, NOBODY);
    symlinkSync(victims[0]!, spans!);
    lchownSync(spans!, NOBODY, NOBODY);
    linkSync(victims[1]!, stats!);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const agent = await startAgent(cleanup, {
      json: false,
      args: ['--cgroup', cgroup.path, '--pcapng', pcapng!, '--output', `otlp-json=${spans}`, '--stats', stats!],
    });
    const [curl, ...args] = [...cgroup.prefix, 'curl', '-sk', '-o', '/dev/null', `${server.url}/bytes/1`];
    await run(curl!, args);
    const result = await agent.running.stop('SIGINT');
    assert.equal(result.exitCode, 0, result.stderr);
    for (const victim of victims) assert.equal(readFileSync(victim, 'utf8'), 'precious');
    assert.deepEqual([statSync(pcapng!).mode & 0o777, statSync(pcapng!).uid], [0o600, 0]);
    assert.match(readFileSync(pcapng!, 'latin1'), /TRAFFIC_SECRET/);
    assert.equal(parseSpans(readFileSync(spans!, 'utf8')).length, 2);
    assert.equal((JSON.parse(readFileSync(stats!, 'utf8')) as { spans: { exported: number } }).spans.exported, 2);
  });

  test('a way that leads elsewhere is refused, with what to do', async (t) => {
    const cleanup = cleanupAfter(t);
    const folder = await cleanup.temporaryFolder();
    chmodSync(folder, 0o1777);
    mkdirSync(join(folder, 'elsewhere'));
    symlinkSync(join(folder, 'elsewhere'), join(folder, 'link'));
    lchownSync(join(folder, 'link'), NOBODY, NOBODY);
    for (const [option, name] of [
      ['--pcapng', 'link/a'],
      ['--stats', 'link/a'],
      ['--output', 'link/a'],
    ] as const) {
      const path = join(folder, name);
      const { exitCode, stderr } = await wirespan([
        ...['agent', ...(option === '--output' ? [] : ['--output', 'none'])],
        ...[option, option === '--output' ? `otlp-json=${path}` : path],
      ]);
      assert.equal(exitCode, 1, stderr);
      assert.match(stderr, /belongs to user 65534; name the folder that is meant itself/);
    }
  });

  for (const streams of [false, true])
    test(`connections at its port that stay, ask slowly, or ask a thousand things at once${streams ? ', streams too' : ''}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const port = await freePort();
      const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
      writeFileSync(config, `telemetry: {exchanges: ${streams}}\n`);
      const agent = await startAgent(cleanup, {
        args: ['--cgroup', cgroup.path, '--listen', `127.0.0.1:${port}`, '--config', config],
      });
      const get = (path: string, host = 'x'): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
      // A stream that is let in, one that is refused, and many in one piece.
      const stream = get('/exchanges', 'localhost');
      const words = [
        ...['', get('/healthz'), 'GET /metrics HTTP/1.1\r\nX: ', get('/metrics').repeat(1000)],
        ...(streams ? [stream, get('/exchanges'), stream.repeat(1000)] : []),
      ];
      let slowestMs = 0;
      for (let index = 0; index < 400; index++) {
        const socket = connect({ host: '127.0.0.1', port });
        socket.on('error', () => {});
        cleanup.add(() => void socket.destroy());
        // One that is sent away at once is connected all the same, or is not.
        await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
        if (!socket.destroyed) socket.write(words[index % words.length]!);
        if (index % 10 !== 9) continue;
        const begunMs = performance.now();
        const answer = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(10_000) });
        assert.equal(answer.status, 200);
        await answer.text();
        slowestMs = Math.max(slowestMs, performance.now() - begunMs);
      }
      t.diagnostic(`slowest answer ${Math.round(slowestMs)} ms`);
      assert.ok(slowestMs < 1000, `${slowestMs} ms`);
      await agent.stop();
    });
});
