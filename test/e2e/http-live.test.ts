/** nginx, Node and Python as servers; curl, Node and Python as clients: every request is a pair of spans with the right owners and facts. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { type Ask, CLIENTS } from '../support/http/clients.ts';
import { type Nginx, startNginx } from '../support/http/nginx.ts';
import { type Server, startNodeServer, startPythonServer, startTcpRelay } from '../support/http/servers.ts';
import {
  assertPairs,
  assertSameAsLog,
  assertSameLines,
  clientOf,
  ofPorts,
  portsOf,
  servers,
  targetOf,
} from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { joinedNamespace } from '../support/kernel/netns.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { type Agent, startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { inside, startAgentOf } from '../support/programs/inside.ts';
import { waitForPort } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

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
    // Of its own, so that what the agent counts is exact whatever else runs on this machine.
    const cgroup = await newCgroup(cleanup);
    const nginx: Nginx = await startNginx(cleanup, { workers: 2, files: { big: 5_000_000 }, prefix: cgroup.prefix });
    for (const port of portsOf(nginx)) await waitForPort(port);
    const agent = await startAgentOf(cleanup, cgroup);
    const curl = (args: readonly string[]) => inside(cgroup).run('curl', args);
    const ports = [
      ['http', nginx.plainPort, ''],
      ['https', nginx.tls12Port, 'TLSv1.2'],
      ['https', nginx.tls13Port, 'TLSv1.3'],
    ] as const;
    for (const [scheme, port] of ports) {
      const base = `${scheme}://127.0.0.1:${port}`;
      const targets = ['/hello', '/orders/17?item=3', '/missing', '/broken', '/empty', '/moved', '/files/big'];
      // One process, one connection: seven requests kept alive; then two more connections.
      await curl(['-sk', ...targets.flatMap((target) => ['-o', '/dev/null', `${base}${target}`])]);
      await curl(['-sk', '-o', '/dev/null', '-X', 'POST', '--data', 'a=b', `${base}/hello`]);
      await curl(['-skI', `${base}/hello`]);
    }
    const log = await nginx.accessLog(27);
    assert.equal(log.length, 27);
    await agent.waitForSpans(2 * log.length);
    const { spans, stats } = await agent.stop();
    assertSameAsLog(spans, log);
    assertPairs(spans);
    for (const server of servers(spans)) {
      // Of its workers, which the master forked.
      assert.equal(server.resource['service.name'], 'nginx');
      assert.equal(server.resource['process.executable.name'], 'nginx');
      assert.notEqual(server.resource['process.pid'], nginx.running.pid);
      const client = clientOf(server, spans);
      assert.equal(client.resource['service.name'], 'curl');
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
    const { tcp, tls, decrypted, undecryptable } = stats.connections;
    assert.deepEqual([tcp, tls, decrypted, undecryptable], [9, 6, 6, {}]);
    assert.deepEqual([stats.exchanges, stats.incomplete, stats.parseErrors], [{ http: 27 }, {}, {}]);
    assert.deepEqual([stats.spans.made, stats.spans.exported, stats.packets.lost], [54, 54, 0]);
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
          const spans = await agent.waitForSpans(6, ofPorts(server.port));
          assert.equal(spans.length, 6);
          const served = servers(spans).sort((a, b) => a.startUs - b.startUs);
          assert.deepEqual(
            served.map((span) => [
              span.attributes['http.request.method'],
              targetOf(span),
              span.attributes['http.response.status_code'],
            ]),
            server.log().map((entry) => [entry.method, entry.target, entry.status]),
          );
          for (const span of served) {
            assert.equal(span.resource['process.pid'], server.running.pid);
            assert.equal(clientOf(span, spans).resource['process.executable.name'], 'curl');
          }
        }
      });
    });
  }

  test('a namespace behind a veth pair, over IPv4 and IPv6: both ends are joined', async (t) => {
    const cleanup = cleanupAfter(t);
    const namespace = await joinedNamespace(cleanup);
    await withAgent(cleanup, async (agent) => {
      for (const host of [namespace.there.v4, namespace.there.v6]) {
        const server = await startNodeServer(cleanup, { host, prefix: namespace.prefix });
        await run('curl', ['-gsk', '-o', '/dev/null', `${server.url}/bytes/200000`]);
        const spans = await agent.waitForSpans(2, ofPorts(server.port));
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

  test('over a veth pair each stream is parsed once, from either side, and the other way round', async (t) => {
    const cleanup = cleanupAfter(t);
    const namespace = await joinedNamespace(cleanup);
    const cgroup = await newCgroup(cleanup);
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const count = 20;
    const inside = [...cgroup.prefix, ...namespace.prefix];
    const ends = [
      { host: namespace.there.v4, server: inside, client: cgroup.prefix },
      { host: namespace.here.v6, server: cgroup.prefix, client: inside },
    ];
    const ports: number[] = [];
    for (const { host, server: prefix, client } of ends) {
      const server = await startNodeServer(cleanup, { host, prefix });
      ports.push(server.port);
      const urls = Array.from({ length: count }, (_, index) => ['-o', '/dev/null', `${server.url}/bytes/${index}`]);
      const [command, ...rest] = [...client, 'curl', '-gsk', ...urls.flat()];
      await run(command!, rest);
    }
    const spans = await agent.waitForSpans(4 * count, ofPorts(...ports));
    assert.equal(spans.length, 4 * count);
    assertPairs(spans);
    const { stats } = await agent.stop();
    // Of this cgroup alone, so exact: two connections, each read once though its packets pass two interfaces.
    assert.deepEqual(
      [stats.connections.tcp, stats.connections.tls, stats.connections.decrypted, stats.connections.undecryptable],
      [2, 2, 2, {}],
    );
    assert.deepEqual([stats.exchanges, stats.incomplete, stats.parseErrors], [{ http: 2 * count }, {}, {}]);
    assert.deepEqual([stats.spans.made, stats.spans.exported, stats.packets.lost], [4 * count, 4 * count, 0]);
  });
});

suite('a relay on this machine that does not end TLS', () => {
  after(assertKernelClean);

  for (const tls of [true, false]) {
    test(`${tls ? 'TLS' : 'plain'}: both connections have both of their spans, and no span has the id of another`, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const server = await startNodeServer(cleanup, { tls, prefix: cgroup.prefix });
      const relay = await startTcpRelay(cleanup, server, { prefix: cgroup.prefix });
      const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
      const urls = [1, 2, 3].flatMap((n) => [
        '-o',
        '/dev/null',
        `${server.url.replace(/\d+$/, '')}${relay.port}/bytes/${n}`,
      ]);
      const [command, ...rest] = [...cgroup.prefix, 'curl', '-sk', ...urls];
      await run(command!, rest);
      await agent.waitForSpans(12);
      const { spans, stats } = await agent.stop();
      assert.deepEqual([spans.length, new Set(spans.map(({ spanId }) => spanId)).size], [12, 12]);
      assertPairs(spans);
      assert.deepEqual(
        servers(spans)
          .map(
            (span) =>
              `${clientOf(span, spans).resource['service.name']} ${span.resource['service.name']} ${targetOf(span)}`,
          )
          .sort(),
        [1, 2, 3].flatMap((n) => [`curl tcp-relay /bytes/${n}`, `tcp-relay node-server /bytes/${n}`]).sort(),
      );
      assert.deepEqual([stats.exchanges, stats.connections.undecryptable], [{ http: 6 }, {}]);
    });
  }
});

/** What is asked of every server; the paths of nginx are its own. */
const ASKS: readonly Ask[] = [
  { method: 'GET', target: '/bytes/0', bodyBytes: 0 },
  { method: 'GET', target: '/bytes/70000?a=1&b=%20', bodyBytes: 0 },
  { method: 'POST', target: '/echo', bodyBytes: 30_000 },
  { method: 'PUT', target: '/echo/again?x', bodyBytes: 1 },
  { method: 'HEAD', target: '/bytes/1234', bodyBytes: 0 },
  { method: 'DELETE', target: '/status/404', bodyBytes: 0 },
  { method: 'GET', target: '/status/503', bodyBytes: 0 },
];
const NGINX_ASKS: readonly Ask[] = [
  { method: 'GET', target: '/orders/1?a=1&b=%20', bodyBytes: 0 },
  { method: 'POST', target: '/hello', bodyBytes: 30_000 },
  { method: 'HEAD', target: '/hello', bodyBytes: 0 },
  { method: 'GET', target: '/empty', bodyBytes: 0 },
  { method: 'DELETE', target: '/missing/7', bodyBytes: 0 },
  { method: 'GET', target: '/broken', bodyBytes: 0 },
];

suite('every client with every server', () => {
  after(assertKernelClean);

  test('curl, Node and Python ask nginx, Node and Python, over TLS, plain and IPv6', async (t) => {
    const cleanup = cleanupAfter(t);
    const nginx = await startNginx(cleanup, { workers: 2 });
    const node = await startNodeServer(cleanup);
    const agent = await startAgent(cleanup);
    // Some of the servers are younger than the agent.
    const nodePlain = await startNodeServer(cleanup, { tls: false, host: '::1' });
    const python = await startPythonServer(cleanup, { host: '::1' });
    const pythonPlain = await startPythonServer(cleanup, { tls: false });
    const ofNginx = (scheme: string, port: number, host = '127.0.0.1') => ({
      service: 'nginx',
      url: `${scheme}://${host}:${port}`,
      asks: NGINX_ASKS,
    });
    const ofServer = (service: string, { url }: Server) => ({ service, url, asks: ASKS });
    const targets = [
      ofNginx('http', nginx.plainPort),
      ofNginx('https', nginx.tls12Port),
      ofNginx('https', nginx.tls13Port, '[::1]'),
      ...[node, nodePlain].map((server) => ofServer('node-server', server)),
      ...[python, pythonPlain].map((server) => ofServer('python-server', server)),
    ];
    const expected: string[] = [];
    for (const [client, ask] of Object.entries(CLIENTS)) {
      for (const { service, url, asks } of targets) {
        await ask(url, asks);
        const port = new URL(url).port;
        expected.push(
          ...asks.map(
            ({ method, target, bodyBytes }) => `${client} ${service} ${port} ${method} ${target} ${bodyBytes}`,
          ),
        );
      }
    }
    const ports = targets.map(({ url }) => Number(new URL(url).port));
    await agent.waitForSpans(2 * expected.length, ofPorts(...ports));
    const { spans: all, stats } = await agent.stop();
    const spans = all.filter(ofPorts(...ports));
    assertPairs(spans);
    assertSameLines(
      servers(spans).map((span) => {
        const client = clientOf(span, spans);
        // Both sides tell the same of the exchange.
        for (const name of SHARED) assert.equal(client.attributes[name], span.attributes[name], name);
        return [
          ...[client.resource['service.name'], span.resource['service.name'], span.attributes['server.port']],
          ...[span.attributes['http.request.method'], targetOf(span), span.attributes['http.request.body.size']],
        ].join(' ');
      }),
      expected,
    );
    assertSameAsLog(spans.filter(ofPorts(...portsOf(nginx))), await nginx.accessLog(9 * NGINX_ASKS.length));
    for (const server of [node, nodePlain, python, pythonPlain]) {
      assertSameLines(
        servers(spans.filter(ofPorts(server.port))).map(answerOf),
        server.log().map(({ method, target, status, bodyBytes }) => `${method} ${target} ${status} ${bodyBytes}`),
      );
    }
    assert.equal(stats.packets.lost, 0);
  });
});

const SHARED = [
  'http.request.method',
  'http.response.status_code',
  'http.request.body.size',
  'http.response.body.size',
  'tls.protocol.version',
  'tls.cipher',
];

function answerOf(span: FlatSpan): string {
  const { 'http.request.method': method, 'http.response.status_code': status } = span.attributes;
  return `${method} ${targetOf(span)} ${status} ${span.attributes['http.response.body.size'] ?? 0}`;
}
