/** nginx, Node and Python as servers, curl as the client: every request is a pair of spans with the right owners and facts. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { type Agent, startAgent } from '../support/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/cleanup.ts';
import { assertKernelClean } from '../support/kernel.ts';
import { joinedNamespace } from '../support/netns.ts';
import { type Nginx, startNginx } from '../support/nginx.ts';
import { run } from '../support/process.ts';
import { type Server, startNodeServer, startPythonServer } from '../support/servers.ts';
import type { FlatSpan } from '../support/spans.ts';

const text = (value: unknown) => (value === undefined ? '' : String(value));
const targetOf = (span: FlatSpan) =>
  text(span.attributes['url.path']) +
  (span.attributes['url.query'] === undefined ? '' : `?${span.attributes['url.query']}`);

/** The CLIENT span whose child this SERVER span is; fails when there is none. */
function clientOf(server: FlatSpan, spans: readonly FlatSpan[]): FlatSpan {
  const client = spans.find((span) => span.kind === 'CLIENT' && span.spanId === server.parentSpanId);
  assert.ok(client, `no CLIENT span for ${targetOf(server)}`);
  assert.equal(client.traceId, server.traceId);
  return client;
}

/** Spans that belong to a port: other programs of the machine are watched too. */
const atPort = (port: number) => (span: FlatSpan) => span.attributes['server.port'] === port;

async function withAgent(cleanup: Cleanup, work: (agent: Agent) => Promise<void>): Promise<void> {
  const agent = await startAgent(cleanup);
  await work(agent);
  await agent.running.stop('SIGINT');
  await assertKernelClean();
}

suite('HTTP/1.1 by curl', () => {
  after(assertKernelClean);

  test('nginx, plain and TLS 1.2 and 1.3: the spans are the access log', async (t) => {
    const cleanup = cleanupAfter(t);
    const nginx: Nginx = await startNginx(cleanup, { workers: 2, files: { big: 5_000_000 } });
    const agent = await startAgent(cleanup);
    const ports = [
      ['http', nginx.plainPort, ''],
      ['https', nginx.tls12Port, 'TLSv1.2'],
      ['https', nginx.tls13Port, 'TLSv1.3'],
    ] as const;
    for (const [scheme, port] of ports) {
      const base = `${scheme}://127.0.0.1:${port}`;
      const targets = ['/hello', '/orders/17?item=3', '/missing', '/broken', '/empty', '/moved', '/files/big'];
      // One process, one connection: seven requests kept alive; then two more connections.
      await run('curl', ['-sk', ...targets.flatMap((target) => ['-o', '/dev/null', `${base}${target}`])]);
      await run('curl', ['-sk', '-o', '/dev/null', '-X', 'POST', '--data', 'a=b', `${base}/hello`]);
      await run('curl', ['-skI', `${base}/hello`]);
    }
    const log = await nginx.accessLog();
    assert.equal(log.length, 27);
    const ourPorts = new Set<unknown>(ports.map(([, port]) => port));
    await agent.waitForSpans(2 * log.length, (span) => ourPorts.has(span.attributes['server.port']));
    const { spans, stats } = await agent.stop();
    const ours = spans.filter((span) => ourPorts.has(span.attributes['server.port']));
    const servers = ours.filter((span) => span.kind === 'SERVER');

    const facts = (lines: (readonly unknown[])[]) => lines.map((line) => line.join(' ')).sort();
    assert.deepEqual(
      facts(
        servers.map((span) => [
          span.attributes['server.port'],
          span.attributes['http.request.method'],
          targetOf(span),
          span.attributes['http.response.status_code'],
          span.attributes['url.scheme'],
        ]),
      ),
      facts(
        log.map((entry) => [
          entry.server_port,
          entry.request_method,
          entry.request_uri,
          entry.status,
          entry.ssl_protocol === '' ? 'http' : 'https',
        ]),
      ),
    );
    assert.equal(ours.length, 2 * log.length);
    for (const server of servers) {
      assert.equal(server.resource['process.executable.name'], 'nginx');
      const client = clientOf(server, ours);
      assert.equal(client.resource['process.executable.name'], 'curl');
      const status = Number(server.attributes['http.response.status_code']);
      assert.equal(client.attributes['http.response.status_code'], status);
      assert.equal(server.status.code, status >= 500 ? 2 : 0, `status of SERVER ${status}`);
      assert.equal(client.status.code, status >= 400 ? 2 : 0, `status of CLIENT ${status}`);
      assert.ok(server.endUs >= server.startUs && client.startUs <= server.endUs);
      const entry = log.find(
        (line) => line.request_uri === targetOf(server) && line.server_port === server.attributes['server.port'],
      );
      assert.ok(Math.abs(server.endUs / 1e6 - entry!.msec) < 1, 'the wall time of the log');
    }
    assert.deepEqual(stats.connections.undecryptable, {});
    assert.equal(stats.packets.lost, 0);
    assert.equal(stats.spans.made, stats.spans.exported);
  });

  for (const [name, startServer] of [
    ['Node', startNodeServer],
    ['Python', startPythonServer],
  ] as const) {
    test(`a ${name} server, started after the agent, over TLS and plain`, async (t) => {
      const cleanup = cleanupAfter(t);
      await withAgent(cleanup, async (agent) => {
        for (const tls of [true, false]) {
          const server: Server = await startServer(cleanup, { tls });
          await run('curl', [
            '-sk',
            '-o',
            '/dev/null',
            `${server.url}/bytes/70000`,
            '-o',
            '/dev/null',
            `${server.url}/status/404`,
          ]);
          await run('curl', ['-sk', '-o', '/dev/null', '--data', 'y'.repeat(30_000), `${server.url}/echo`]);
          const spans = await agent.waitForSpans(6, atPort(server.port));
          assert.equal(spans.length, 6);
          const servers = spans.filter((span) => span.kind === 'SERVER').sort((a, b) => a.startUs - b.startUs);
          assert.deepEqual(
            servers.map((span) => [
              span.attributes['http.request.method'],
              targetOf(span),
              span.attributes['http.response.status_code'],
            ]),
            server.log().map((entry) => [entry.method, entry.target, entry.status]),
          );
          for (const span of servers) {
            assert.equal(span.resource['process.pid'], server.running.pid);
            assert.equal(clientOf(span, spans).resource['process.executable.name'], 'curl');
          }
        }
      });
    });
  }

  test('IPv6, and a namespace behind a veth pair: both ends are joined', async (t) => {
    const cleanup = cleanupAfter(t);
    const namespace = await joinedNamespace(cleanup);
    await withAgent(cleanup, async (agent) => {
      for (const host of [namespace.there.v4, namespace.there.v6]) {
        const server = await startNodeServer(cleanup, { host, prefix: namespace.prefix });
        await run('curl', ['-gsk', '-o', '/dev/null', `${server.url}/bytes/200000`]);
        const spans = await agent.waitForSpans(2, atPort(server.port));
        assert.equal(spans.length, 2);
        const serverSpan = spans.find((span) => span.kind === 'SERVER');
        assert.equal(clientOf(serverSpan!, spans).attributes['server.address'], host);
        assert.equal(
          serverSpan?.attributes['network.peer.address'],
          host.includes(':') ? namespace.here.v6 : namespace.here.v4,
        );
      }
    });
  });
});
