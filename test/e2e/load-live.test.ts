/** Many requests, large bodies, many connections, and ends that nobody planned: what was served is what was traced. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { clientScript, curlLoad, nodeLoad, pythonLoad } from '../support/http/clients.ts';
import { startNginx } from '../support/http/nginx.ts';
import { startNodeServer, startPythonServer } from '../support/http/servers.ts';
import { assertPairs, assertSameAsLog, assertSameLines, ofPorts, portsOf, targetHas } from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { startAgent } from '../support/programs/agent.ts';
import { selfSigned } from '../support/programs/certificate.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { inside, startAgentOf } from '../support/programs/inside.ts';
import { until, waitForPort } from '../support/programs/net.ts';
import { start } from '../support/programs/process.ts';

suite('load', () => {
  after(assertKernelClean);

  test('5,000 requests of three programs, concurrent, kept alive and new connections mixed', async (t) => {
    const cleanup = cleanupAfter(t);
    // Of its own, so that what the agent counts is exact whatever else runs on this machine.
    const { path, prefix } = await newCgroup(cleanup);
    const nginx = await startNginx(cleanup, { workers: 2, prefix });
    for (const port of portsOf(nginx)) await waitForPort(port);
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    const plain = `http://127.0.0.1:${nginx.plainPort}`;
    const tls12 = `https://127.0.0.1:${nginx.tls12Port}`;
    const tls13 = `https://127.0.0.1:${nginx.tls13Port}`;
    const tls13v6 = `https://[::1]:${nginx.tls13Port}`;
    const mixed = { bases: [plain, tls12, tls13, tls13v6], concurrency: 32, newConnectionEvery: 9 };
    await Promise.all([
      nodeLoad({ ...mixed, count: 3600, prefix: 'n' }, prefix),
      pythonLoad(tls13, 300, 'p13', prefix),
      pythonLoad(tls12, 300, 'p12', prefix),
      curlLoad(tls13, 500, 'c13', prefix),
      curlLoad(plain, 300, 'c', prefix),
    ]);
    const log = await nginx.accessLog(5000);
    assert.equal(log.length, 5000);
    await agent.waitForSpans(2 * log.length, ofPorts(...portsOf(nginx)));
    const { spans: ours, stats } = await agent.stop();
    assertSameAsLog(ours, log);
    assertPairs(ours);
    assert.equal(ours.length, 10_000);
    assert.deepEqual([stats.exchanges, stats.incomplete, stats.parseErrors], [{ http: 5000 }, {}, {}]);
    const tcp = new Set(log.map((entry) => `${entry.server_port} ${entry.remote_addr} ${entry.remote_port}`)).size;
    const tls = new Set(log.filter((entry) => entry.ssl_protocol !== '').map((entry) => entry.connection)).size;
    const { connections, packets } = stats;
    assert.deepEqual([connections.tls, connections.decrypted, connections.undecryptable], [tls, tls, {}]);
    assert.ok(connections.tcp >= tcp, `${connections.tcp} connections of ${tcp}`);
    assert.equal(packets.lost, 0);
    assert.deepEqual([stats.spans.made, stats.spans.exported, stats.spans.dropped], [10_000, 10_000, {}]);
    const owners = new Set(
      ours.filter((span) => span.kind === 'CLIENT').map((span) => span.resource['process.executable.name']),
    );
    assert.equal(owners.size, 3, `clients: ${[...owners].join(' ')}`);
  });

  const SIZES = [0, 1, 1_000, 16_384, 65_536, 1_000_000, 10_000_000, 50_000_000];
  /** For curl: what matters is the size, not whether the agent gets its share of a busy machine. */
  const PACE = ['--limit-rate', '100M'];

  test('response bodies from nothing to 50 MB', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const files = Object.fromEntries(SIZES.map((size) => [`f${size}`, size]));
    const nginx = await startNginx(cleanup, { files, prefix: cgroup.prefix });
    for (const port of portsOf(nginx)) await waitForPort(port);
    const agent = await startAgentOf(cleanup, cgroup);
    for (const port of portsOf(nginx)) {
      const scheme = port === nginx.plainPort ? 'http' : 'https';
      for (const size of SIZES) {
        const url = `${scheme}://127.0.0.1:${port}/files/f${size}`;
        await inside(cgroup).run('curl', ['-sk', ...PACE, '-o', '/dev/null', url]);
      }
    }
    const log = await nginx.accessLog(3 * SIZES.length);
    assert.deepEqual(
      log.map((entry) => entry.body_bytes_sent),
      [...SIZES, ...SIZES, ...SIZES],
    );
    await agent.waitForSpans(2 * log.length);
    const { spans, stats } = await agent.stop();
    assertSameAsLog(spans, log);
    assertPairs(spans);
    assert.deepEqual([stats.incomplete, stats.packets.lost], [{}, 0]);
  });

  test('request bodies from nothing to 50 MB, sent back whole', async (t) => {
    const cleanup = cleanupAfter(t);
    const folder = await cleanup.temporaryFolder();
    const certificate = await selfSigned(cleanup);
    const cgroup = await newCgroup(cleanup);
    const { prefix } = cgroup;
    const servers = [
      await startNodeServer(cleanup, { certificate, prefix }),
      await startNodeServer(cleanup, { tls: false, prefix }),
      await startPythonServer(cleanup, { certificate, prefix }),
    ];
    const agent = await startAgentOf(cleanup, cgroup);
    const expected: string[] = [];
    for (const size of SIZES) {
      const file = join(folder, `f${size}`);
      await writeFile(file, Buffer.alloc(size, 'request '));
      for (const [version, server] of [
        ['--tls-max 1.2', servers[0]!] as const,
        ...servers.map((s) => ['', s] as const),
      ]) {
        const options = ['-sk', ...PACE, ...version.split(' ').filter((word) => word !== '')];
        const words = [...options, '-o', `${file}.back`, '--data-binary', `@${file}`, `${server.url}/echo/${size}`];
        await inside(cgroup).run('curl', words);
        expected.push(`${server.port} /echo/${size} 200 ${size} ${size}`);
      }
    }
    await agent.waitForSpans(2 * expected.length);
    const { spans, stats } = await agent.stop();
    assertPairs(spans);
    for (const kind of ['SERVER', 'CLIENT']) {
      assertSameLines(
        spans
          .filter((span) => span.kind === kind)
          .map(({ attributes }) =>
            [
              ...[
                attributes['server.port'],
                new URL(String(attributes['url.full'] ?? `a:${attributes['url.path']}`)).pathname,
              ],
              ...[
                attributes['http.response.status_code'],
                attributes['http.request.body.size'],
                attributes['http.response.body.size'],
              ],
            ].join(' '),
          ),
        expected,
      );
    }
    assert.deepEqual([stats.incomplete, stats.packets.lost], [{}, 0]);
  });

  test('1,000 connections open at once', async (t) => {
    const cleanup = cleanupAfter(t);
    const count = 1_000;
    const cgroup = await newCgroup(cleanup);
    const nginx = await startNginx(cleanup, { workers: 2, http: 'keepalive_timeout 600s;', prefix: cgroup.prefix });
    await waitForPort(nginx.tls13Port);
    const agent = await startAgentOf(cleanup, cgroup);
    const words = [clientScript('idle.mjs'), `https://127.0.0.1:${nginx.tls13Port}`, String(count)];
    const client = inside(cgroup).start(cleanup, process.execPath, words, { stdin: 'open' });
    await client.waitFor('stdout', new RegExp(`^open ${count}$`, 'm'));
    await agent.waitForSpans(2 * count);
    client.child.stdin?.write('go\n');
    await client.waitFor('stdout', /^done$/m);
    const log = await nginx.accessLog(2 * count);
    assert.equal(log.length, 2 * count);
    await agent.waitForSpans(2 * log.length);
    const { spans, stats } = await agent.stop();
    assertSameAsLog(spans, log);
    assertPairs(spans);
    const { tls, decrypted, undecryptable } = stats.connections;
    assert.deepEqual([tls, decrypted, undecryptable, stats.packets.lost], [count, count, {}, 0]);
  });

  test('a client that is killed while it waits, and a server that is killed while it works', async (t) => {
    const cleanup = cleanupAfter(t);
    const agent = await startAgent(cleanup);
    const server = await startNodeServer(cleanup);
    const slow = (target: string) => start(cleanup, 'curl', ['-sk', '-o', '/dev/null', `${server.url}${target}`]);
    const arrived = (end: string) => server.running.waitFor('stdout', new RegExp(`^arrived .*end=${end}$`, 'm'));

    const client = slow('/slow/600000?end=client');
    await arrived('client');
    process.kill(client.pid, 'SIGKILL');
    const ended = await agent.waitForSpans(2, (span) => targetHas(span, 'end=client'));
    const waiting = slow('/slow/600000?end=server');
    await arrived('server');
    process.kill(server.running.pid, 'SIGKILL');
    const cut = await agent.waitForSpans(2, (span) => targetHas(span, 'end=server'));
    await waiting.exited;
    for (const spans of [ended, cut]) {
      for (const span of spans) {
        assert.equal(span.attributes['http.response.status_code'], undefined, 'no status was ever sent');
        assert.match(String(span.attributes['error.type']), /^connection_(reset|closed)$/);
        assert.equal(span.status.code, 2);
      }
    }
    const { stats } = await agent.stop();
    assert.ok(
      (stats.incomplete.connection_reset ?? 0) + (stats.incomplete.connection_closed ?? 0) >= 2,
      JSON.stringify(stats.incomplete),
    );
  });

  test('the agent comes and goes in the middle of traffic', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const nginx = await startNginx(cleanup, { workers: 2, prefix: cgroup.prefix });
    for (const port of portsOf(nginx)) await waitForPort(port);
    const kept = 8;
    // These connections are as old as the server, and busy all the time.
    const old = ['-c', String(kept), '-t', '2', '-d', '600s', `https://127.0.0.1:${nginx.tls13Port}/200`];
    const background = there.start(cleanup, 'wrk', old);
    // And these are made all the time, so that some are under way whenever the agent comes or goes.
    const url = `https://127.0.0.1:${nginx.tls12Port}/hello`;
    const churn = there.start(cleanup, 'sh', [
      '-c',
      `while curl -sk -o /dev/null "${url}" -o /dev/null "${url}"; do :; done`,
    ]);
    await nginx.accessLog(100);
    for (const [round, signal] of (['SIGINT', 'SIGTERM'] as const).entries()) {
      const agent = await startAgentOf(cleanup, cgroup);
      // Begun after the ready line: all of it is seen, whatever else goes on.
      const count = 300;
      const bases = [`https://127.0.0.1:${nginx.tls13Port}`, `http://127.0.0.1:${nginx.plainPort}`];
      await nodeLoad({ bases, count, concurrency: 8, newConnectionEvery: 3, prefix: `round${round}` }, cgroup.prefix);
      const isNew = (span: FlatSpan) => targetHas(span, `/round${round}-`);
      await agent.waitForSpans(2 * count, isNew);
      const { spans, stats, stderr } = await agent.stop(signal);
      const fresh = spans.filter(isNew);
      const log = await until(async () => {
        const lines = (await nginx.accessLog()).filter((entry) => entry.request_uri.includes(`/round${round}-`));
        return lines.length >= count ? lines : undefined;
      }, 'the log of the round');
      assertSameAsLog(fresh, log);
      assertPairs(fresh);
      assert.equal(fresh.length, 2 * count);
      // Nothing of wrk's connections can be read, and that is said, of each of them.
      assert.equal(spans.filter((span) => ofPorts(nginx.tls13Port)(span) && targetHas(span, '/200')).length, 0);
      const { opened_before_agent: older = 0, shutdown: cut = 0, ...others } = stats.connections.undecryptable;
      assert.ok(older >= kept, JSON.stringify(stats.connections));
      // curl makes one connection at a time: at most one is in its handshake when the agent goes.
      assert.ok(cut <= 1, JSON.stringify(stats.connections));
      assert.deepEqual(others, {}, stderr);
      await assertKernelClean();
    }
    assert.equal(churn.child.exitCode, null, 'a request failed');
    await churn.stop('SIGKILL');
    await background.stop('SIGINT');
  });
});
