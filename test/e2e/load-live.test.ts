/** Many requests, large bodies, many connections, and ends that nobody planned: what was served is what was traced. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startAgent } from '../support/agent.ts';
import { cleanupAfter } from '../support/cleanup.ts';
import { clientScript, curlLoad, nodeLoad, pythonLoad } from '../support/clients.ts';
import { assertKernelClean } from '../support/kernel.ts';
import { until } from '../support/net.ts';
import { type AccessLogEntry, type Nginx, startNginx } from '../support/nginx.ts';
import { Running, run, start } from '../support/process.ts';
import { startNodeServer } from '../support/servers.ts';
import type { FlatSpan } from '../support/spans.ts';

const targetOf = (span: FlatSpan) =>
  `${span.attributes['url.path']}${span.attributes['url.query'] === undefined ? '' : `?${span.attributes['url.query']}`}`;

function ofPorts(...ports: number[]): (span: FlatSpan) => boolean {
  const wanted = new Set<unknown>(ports);
  return (span) => wanted.has(span.attributes['server.port']);
}

const portsOf = (nginx: Nginx) => [nginx.plainPort, nginx.tls12Port, nginx.tls13Port];

/** SERVER spans and log lines as sorted lines of the same facts. */
function assertSameAsLog(spans: readonly FlatSpan[], log: readonly AccessLogEntry[]): void {
  const ofSpans = spans
    .filter((span) => span.kind === 'SERVER')
    .map((span) =>
      [
        span.attributes['server.port'],
        span.attributes['http.request.method'],
        targetOf(span),
        span.attributes['http.response.status_code'],
        span.attributes['http.response.body.size'] ?? 0,
      ].join(' '),
    )
    .sort();
  const ofLog = log
    .map((entry) =>
      [entry.server_port, entry.request_method, entry.request_uri, entry.status, entry.body_bytes_sent].join(' '),
    )
    .sort();
  // Not deepEqual: a difference of thousands of lines says nothing.
  const missing = difference(ofLog, ofSpans);
  const unexplained = difference(ofSpans, ofLog);
  assert.deepEqual(
    { missing: missing.slice(0, 10), unexplained: unexplained.slice(0, 10) },
    { missing: [], unexplained: [] },
    `${ofSpans.length} SERVER spans for ${ofLog.length} log lines; ${missing.length} missing, ${unexplained.length} unexplained`,
  );
}

/** What is in `left` more often than in `right`. */
function difference(left: readonly string[], right: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of right) counts.set(line, (counts.get(line) ?? 0) + 1);
  return left.filter((line) => {
    const count = counts.get(line) ?? 0;
    counts.set(line, count - 1);
    return count <= 0;
  });
}

/** Every SERVER span has its CLIENT span, and there is no other CLIENT span. */
function assertPairs(spans: readonly FlatSpan[]): void {
  const clients = new Map(spans.filter((span) => span.kind === 'CLIENT').map((span) => [span.spanId, span]));
  let alone = 0;
  for (const server of spans.filter((span) => span.kind === 'SERVER')) {
    const client = clients.get(server.parentSpanId);
    if (client?.traceId !== server.traceId) alone += 1;
    else clients.delete(server.parentSpanId);
  }
  assert.deepEqual({ alone, clientsLeft: clients.size }, { alone: 0, clientsLeft: 0 });
}

suite('load', () => {
  after(assertKernelClean);

  test('5,000 requests of three programs, concurrent, kept alive and new connections mixed', async (t) => {
    const cleanup = cleanupAfter(t);
    const nginx = await startNginx(cleanup, { workers: 2 });
    const agent = await startAgent(cleanup);
    const plain = `http://127.0.0.1:${nginx.plainPort}`;
    const tls12 = `https://127.0.0.1:${nginx.tls12Port}`;
    const tls13 = `https://127.0.0.1:${nginx.tls13Port}`;
    const tls13v6 = `https://[::1]:${nginx.tls13Port}`;
    await Promise.all([
      nodeLoad({
        bases: [plain, tls12, tls13, tls13v6],
        count: 3600,
        concurrency: 32,
        newConnectionEvery: 9,
        prefix: 'n',
      }),
      pythonLoad(tls13, 300, 'p13'),
      pythonLoad(tls12, 300, 'p12'),
      curlLoad(tls13, 500, 'c13'),
      curlLoad(plain, 300, 'c'),
    ]);
    const log = await nginx.accessLog();
    assert.equal(log.length, 5000);
    await agent.waitForSpans(2 * log.length, ofPorts(...portsOf(nginx)), 30_000);
    const { spans, stats } = await agent.stop();
    const ours = spans.filter(ofPorts(...portsOf(nginx)));
    assertSameAsLog(ours, log);
    assertPairs(ours);
    assert.equal(ours.length, 10_000);
    assert.deepEqual(stats.connections.undecryptable, {});
    assert.deepEqual(stats.incomplete, {});
    assert.deepEqual(stats.parseErrors, {});
    assert.equal(stats.packets.lost, 0);
    assert.deepEqual(stats.spans.dropped, {});
    const owners = new Set(
      ours.filter((span) => span.kind === 'CLIENT').map((span) => span.resource['process.executable.name']),
    );
    assert.equal(owners.size, 3, `clients: ${[...owners].join(' ')}`);
  });

  test('response bodies from nothing to 50 MB', async (t) => {
    const cleanup = cleanupAfter(t);
    const sizes = [0, 1, 1_000, 16_384, 65_536, 1_000_000, 10_000_000, 50_000_000];
    const nginx = await startNginx(cleanup, { files: Object.fromEntries(sizes.map((size) => [`f${size}`, size])) });
    const agent = await startAgent(cleanup);
    for (const port of portsOf(nginx)) {
      const scheme = port === nginx.plainPort ? 'http' : 'https';
      for (const size of sizes)
        await run('curl', ['-sk', '-o', '/dev/null', `${scheme}://127.0.0.1:${port}/files/f${size}`]);
    }
    const log = await nginx.accessLog();
    await agent.waitForSpans(2 * log.length, ofPorts(...portsOf(nginx)), 30_000);
    const { spans, stats } = await agent.stop();
    const ours = spans.filter(ofPorts(...portsOf(nginx)));
    assertSameAsLog(ours, log);
    assertPairs(ours);
    assert.equal(stats.packets.lost, 0);
  });

  test('1,000 connections open at once', async (t) => {
    const cleanup = cleanupAfter(t);
    const count = 1_000;
    const nginx = await startNginx(cleanup, { workers: 2, http: 'keepalive_timeout 600s;' });
    const agent = await startAgent(cleanup);
    const base = `https://127.0.0.1:${nginx.tls13Port}`;
    const client = new Running(process.execPath, [clientScript('idle.mjs'), base, String(count)], { stdin: 'open' });
    cleanup.add(() => client.stop());
    await client.waitFor('stdout', new RegExp(`^open ${count}$`, 'm'), 60_000);
    await agent.waitForSpans(2 * count, ofPorts(nginx.tls13Port), 30_000);
    client.child.stdin?.write('go\n');
    await client.waitFor('stdout', /^done$/m, 60_000);
    const log = await nginx.accessLog();
    assert.equal(log.length, 2 * count);
    await agent.waitForSpans(2 * log.length, ofPorts(nginx.tls13Port), 30_000);
    const { spans, stats } = await agent.stop();
    const ours = spans.filter(ofPorts(nginx.tls13Port));
    assertSameAsLog(ours, log);
    assertPairs(ours);
    assert.equal(stats.packets.lost, 0);
  });

  test('a client that is killed while it waits, and a server that is killed while it works', async (t) => {
    const cleanup = cleanupAfter(t);
    const agent = await startAgent(cleanup);
    const server = await startNodeServer(cleanup);
    const slow = (target: string) => start(cleanup, 'curl', ['-sk', '-o', '/dev/null', `${server.url}${target}`]);
    const arrived = () => sleep(700); // Nothing tells when a request has arrived.

    const client = slow('/slow/20000?end=client');
    await arrived();
    process.kill(client.pid, 'SIGKILL');
    const ended = await agent.waitForSpans(2, (span) => targetHas(span, 'end=client'));
    const waiting = slow('/slow/20000?end=server');
    await arrived();
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

  test('the agent comes and goes in the middle of traffic; a connection from before it is told as such', async (t) => {
    const cleanup = cleanupAfter(t);
    const nginx = await startNginx(cleanup, { workers: 2 });
    const base = `https://127.0.0.1:${nginx.tls13Port}`;
    const load = ['-c', '8', '-t', '2', '-d', '60s', '-H', 'Connection: keep-alive', `${base}/200`];
    const background = start(cleanup, 'wrk', load);
    await until(async () => ((await nginx.accessLog()).length > 100 ? true : undefined), 'traffic');
    for (let round = 0; round < 2; round++) {
      const agent = await startAgent(cleanup);
      const before = (await nginx.accessLog()).length;
      await run('curl', ['-sk', '-o', '/dev/null', `${base}/orders/round-${round}`]);
      await agent.waitForSpans(2, (span) => targetHas(span, `/orders/round-${round}`));
      assert.ok((await nginx.accessLog()).length > before, 'the traffic went on');
      const { spans, stats } = await agent.stop(round === 0 ? 'SIGINT' : 'SIGTERM');
      // wrk's connections are older than the agent: nothing of them can be read, and that is said.
      assert.equal(spans.filter((span) => ofPorts(nginx.tls13Port)(span) && targetHas(span, '/200')).length, 0);
      assert.ok(
        Object.values(stats.connections.undecryptable).some((number) => number >= 8),
        JSON.stringify(stats.connections),
      );
      await assertKernelClean();
    }
    await background.stop('SIGINT');
  });

  test('a second signal ends the agent at once', async (t) => {
    const cleanup = cleanupAfter(t);
    // An endpoint that takes connections and never answers keeps the first signal's flush busy.
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    cleanup.add(() => silent.close());
    const address = silent.address();
    assert.ok(address !== null && typeof address === 'object');
    const server = await startNodeServer(cleanup);
    const agent = await startAgent(cleanup, {
      json: false,
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${address.port}` },
    });
    await run('curl', ['-sk', '-o', '/dev/null', `${server.url}/bytes/1`]);
    await sleep(300);
    const begun = performance.now();
    process.kill(agent.running.pid, 'SIGINT');
    await sleep(500);
    process.kill(agent.running.pid, 'SIGINT');
    await agent.running.exited;
    assert.ok(performance.now() - begun < 2_000, 'it ended before the deadline of the flush');
    await assertKernelClean();
  });
});

function targetHas(span: FlatSpan, text: string): boolean {
  return `${span.attributes['url.full'] ?? ''} ${targetOf(span)}`.includes(text);
}
