/** What the agent tells of itself over HTTP: health, readiness; and that its own clients are not traced. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, suite, test } from 'node:test';
import { checkWithPromtool, scrape, sumOf } from '../support/backends/metrics.ts';
import { startNodeServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { joinedNamespace } from '../support/kernel/netns.ts';
import { startAgent, wirespan } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

interface Health {
  status: string;
  checks: { name: string; ok: boolean; reason?: string }[];
}

suite('telemetry.listen', () => {
  after(assertKernelClean);

  test('health and readiness, from the line ready to the end', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const port = await freePort();
    // A backend that takes what is sent and says nothing: the end takes as long as it may.
    const backend = createServer(() => {}).listen(0, '127.0.0.1');
    await once(backend, 'listening');
    cleanup.add(() => void backend.close());
    const address = backend.address();
    assert.ok(address !== null && typeof address === 'object');
    const agent = await startAgent(cleanup, {
      json: false,
      args: ['--cgroup', cgroup.path, '--listen', `127.0.0.1:${port}`, '--output', 'otlp'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${address.port}` },
    });
    const ask = async (path: string): Promise<[number, Health]> => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return [response.status, (await response.json()) as Health];
    };
    assert.deepEqual(await ask('/readyz').then(([status, { status: word }]) => [status, word]), [200, 'ready']);
    const [status, health] = await ask('/healthz');
    assert.equal(status, 200);
    assert.deepEqual(
      health.checks.map(({ name, ok }) => [name, ok]),
      [
        ['event_loop', true],
        ['reader', true],
      ],
    );
    const [curl, ...args] = [...cgroup.prefix, 'curl', '-sk', '-o', '/dev/null', `${server.url}/bytes/1`];
    await run(curl!, args);
    const url = `http://127.0.0.1:${port}`;
    await until(async () => {
      const seen = await scrape(url);
      return sumOf(seen, 'otel_sdk_span_started_total', { otel_span_sampling_result: 'RECORD_AND_SAMPLE' }) === 2
        ? true
        : undefined;
    }, 'two spans in the metrics');
    await checkWithPromtool(url);
    const samples = await scrape(url);
    const stopping = agent.stop('SIGTERM');
    // Alive to the last, and ready no more.
    const [, last] = await until(async () => {
      const answer = await ask('/readyz');
      return answer[0] === 503 ? answer : undefined;
    }, 'readiness to end');
    assert.deepEqual(last.checks.find(({ name }) => name === 'agent')?.reason, 'it is being stopped');
    assert.equal((await ask('/healthz'))[0], 200);
    const { stats } = await stopping;
    assert.equal(stats.spans.made, 2);
    const told = ['wirespan_packets', 'wirespan_connections', 'wirespan_tls_connections', 'wirespan_exchanges'];
    assert.deepEqual(
      told.map((name) => sumOf(samples, `${name}_total`)),
      [stats.packets.captured, stats.connections.tcp, stats.connections.tls, stats.exchanges.http],
    );
    const output = { otel_component_name: 'otlp', otel_component_type: 'otlp_grpc_span_exporter' };
    const held = ['otel_sdk_processor_span_queue_size', 'otel_sdk_exporter_span_inflight'];
    assert.equal(
      held.map((name) => sumOf(samples, name, output)).reduce((sum, n) => sum + n, 0),
      2,
    );
    assert.equal(sumOf(samples, 'otel_sdk_exporter_span_exported_total', output), 0);
    await assert.rejects(fetch(`http://127.0.0.1:${port}/healthz`));
  });

  test('a port that is taken: said at once, and why', async (t) => {
    const cleanup = cleanupAfter(t);
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    cleanup.add(() => void other.close());
    const address = other.address();
    assert.ok(address !== null && typeof address === 'object');
    const result = await wirespan(['agent', '--output', 'none', '--listen', `127.0.0.1:${address.port}`]);
    assert.equal(result.exitCode, 1);
    const said = `wirespan: telemetry.listen: cannot listen on 127.0.0.1:${address.port}: the port is in use\n`;
    assert.equal(result.stderr, said);
  });

  test('whoever asks the agent is not traced, wherever on this machine', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const namespace = await joinedNamespace(cleanup);
    const port = await freePort();
    const other = await startNodeServer(cleanup, { tls: false, prefix: cgroup.prefix });
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path, '--listen', `:${port}`] });
    const own = [namespace.here.v4, `[${namespace.here.v6}]`];
    const curl = async (prefix: readonly string[], url: string): Promise<void> => {
      const [command, ...args] = [...cgroup.prefix, ...prefix, 'curl', '-sgf', '-o', '/dev/null', url];
      await run(command!, args);
    };
    for (const host of ['127.0.0.1', '[::1]', ...own]) {
      // More than one request, and more than one connection.
      for (let i = 0; i < 3; i++) await curl([], `http://${host}:${port}/healthz?[1-3]`);
    }
    for (const host of own) {
      for (let i = 0; i < 3; i++) await curl(namespace.prefix, `http://${host}:${port}/readyz`);
    }
    // The same port of somebody else, in a namespace of its own, is not the agent's.
    const theirs = await startNodeServer(cleanup, {
      tls: false,
      prefix: [...cgroup.prefix, ...namespace.prefix],
      host: '127.0.0.1',
      port,
    });
    await curl(namespace.prefix, `${theirs.url}/bytes/5`);
    await curl([], `${other.url}/bytes/7`);
    await agent.waitForSpans(4);
    const { spans, stats } = await agent.stop();
    assert.deepEqual(
      spans
        .map(
          (span) =>
            `${span.kind} ${span.attributes['url.path'] ?? new URL(String(span.attributes['url.full'])).pathname}`,
        )
        .sort(),
      ['CLIENT /bytes/5', 'CLIENT /bytes/7', 'SERVER /bytes/5', 'SERVER /bytes/7'],
    );
    assert.deepEqual([stats.connections.tcp, stats.exchanges.http, stats.incomplete], [2, 2, {}]);
  });
});
