/** What is watched and what is left out: cgroups, ports, telemetry, sampling; and whose each span is. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { findCgroupRoot } from '../../src/capture/cgroup.ts';
import { startNodeServer } from '../support/http/servers.ts';
import { type Cgroup, newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { joinedNamespace } from '../support/kernel/netns.ts';
import { exportSpans, someSpan } from '../support/otlp/export.ts';
import { startSink } from '../support/otlp/sink.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

const pathOf = (span: FlatSpan) =>
  String(span.attributes['url.path'] ?? new URL(String(span.attributes['url.full'])).pathname);
/**
 * One request from a local port. The client closes first: a second later Linux gives the port of the connection in TIME_WAIT away, and the
 * sequence numbers go on where those of the one before ended.
 */
const FROM_PORT = `
import socket, sys, time
local, remote, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
for attempt in range(100):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(('127.0.0.1', local))
        s.connect(('127.0.0.1', remote))
        break
    except OSError:
        s.close()
        time.sleep(0.1)
s.sendall(f'GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'.encode())
answer = b''
while not (b'\\r\\n\\r\\n' in answer and len(answer.split(b'\\r\\n\\r\\n', 1)[1]) >= int(path.split('/')[-1])):
    answer += s.recv(65536)
s.close()
`;

/** `KIND path`, sorted. */
const facts = (spans: readonly FlatSpan[]) => spans.map((span) => `${span.kind} ${pathOf(span)}`).sort();

/** Runs curl, in a cgroup when one is given. */
async function curl(cgroup: Cgroup | undefined, ...args: string[]): Promise<void> {
  const [command, ...rest] = [...(cgroup?.prefix ?? []), 'curl', '-sk', '-o', '/dev/null', ...args];
  await run(command!, rest);
}

suite('--cgroup', () => {
  after(assertKernelClean);

  test('one subtree: both ends inside, one end inside, none', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const inside = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const outside = await startNodeServer(cleanup);
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    for (const path of ['/bytes/1', '/bytes/2']) await curl(undefined, outside.url + path);
    for (const path of ['/bytes/3', '/bytes/4']) await curl(cgroup, outside.url + path);
    for (const path of ['/bytes/5', '/bytes/6']) await curl(undefined, inside.url + path);
    for (const path of ['/bytes/7', '/bytes/8']) await curl(cgroup, inside.url + path);
    await agent.waitForSpans(8);
    const { spans, stats } = await agent.stop();
    assert.deepEqual(facts(spans), [
      'CLIENT /bytes/3',
      'CLIENT /bytes/4',
      'CLIENT /bytes/7',
      'CLIENT /bytes/8',
      'SERVER /bytes/5',
      'SERVER /bytes/6',
      'SERVER /bytes/7',
      'SERVER /bytes/8',
    ]);
    for (const path of ['/bytes/7', '/bytes/8']) {
      const [client, server] = ['CLIENT', 'SERVER'].map((kind) =>
        spans.find((span) => span.kind === kind && pathOf(span) === path),
      );
      assert.deepEqual([server?.traceId, server?.parentSpanId], [client?.traceId, client?.spanId]);
    }
    assert.equal(stats.connections.tcp, 6);
    assert.equal(stats.connections.decrypted, 6);
    assert.equal(stats.exchanges.http, 6);
  });

  test('each connection counts once, whatever its addresses', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const namespace = await joinedNamespace(cleanup);
    const own = [namespace.here.v4, namespace.here.v6];
    const inHere = await Promise.all(
      ['127.0.0.1', '::1', ...own].map((host) => startNodeServer(cleanup, { host, prefix: cgroup.prefix })),
    );
    const prefix = [...cgroup.prefix, ...namespace.prefix];
    const inThere = await Promise.all(
      [namespace.there.v4, namespace.there.v6].map((host) => startNodeServer(cleanup, { host, prefix })),
    );
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const servers = [...inHere, ...inThere];
    for (const { url } of servers) await curl(cgroup, '-g', `${url}/bytes/1`);
    await agent.waitForSpans(2 * servers.length);
    const { spans, stats } = await agent.stop();
    assert.equal(spans.length, 2 * servers.length);
    const { tcp, tls, decrypted, undecryptable } = stats.connections;
    assert.deepEqual([tcp, tls, decrypted, undecryptable], [servers.length, servers.length, servers.length, {}]);
    assert.equal(stats.exchanges.http, servers.length);
  });

  test('a client outside that uses the port of one inside again', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const inside = await startNodeServer(cleanup, { prefix: cgroup.prefix, tls: false });
    const { port } = new URL(inside.url);
    const localPort = String(await freePort());
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    for (const [path, prefix] of [
      ['/bytes/1', cgroup.prefix],
      ['/bytes/2', []],
      ['/bytes/3', cgroup.prefix],
      ['/bytes/4', []],
    ] as const) {
      const [command, ...args] = [...prefix, 'python3', '-c', FROM_PORT, localPort, port, path];
      await run(command!, args);
    }
    await agent.waitForSpans(6);
    const { spans, stats } = await agent.stop();
    assert.deepEqual(facts(spans), [
      'CLIENT /bytes/1',
      'CLIENT /bytes/3',
      'SERVER /bytes/1',
      'SERVER /bytes/2',
      'SERVER /bytes/3',
      'SERVER /bytes/4',
    ]);
    assert.deepEqual([stats.connections.tcp, stats.exchanges.http, stats.reassembly], [4, 4, {}]);
  });

  test('a cgroup below the watched one, and its container', async (t) => {
    const cleanup = cleanupAfter(t);
    const id = '0123456789abcdef'.repeat(4);
    const parent = await newCgroup(cleanup);
    const name = `${parent.path.slice(parent.path.lastIndexOf('/') + 1)}/docker-${id}.scope`;
    const container = await newCgroup(cleanup, name);
    const server = await startNodeServer(cleanup, { prefix: container.prefix });
    const agent = await startAgent(cleanup, { args: ['--cgroup', parent.path] });
    await curl(undefined, `${server.url}/bytes/1`);
    const [span] = await agent.waitForSpans(1);
    assert.equal(span?.kind, 'SERVER');
    assert.equal(span?.resource['container.id'], id);
    await agent.stop();
  });
});

suite('left out', () => {
  after(assertKernelClean);

  test('the telemetry of other processes over OTLP/HTTP: no spans, and counted', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix, tls: false });
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const post = (path: string, type: string) => [
      '-X',
      'POST',
      '-H',
      `content-type: ${type}`,
      '--data',
      'x',
      server.url + path,
    ];
    for (const signal of ['traces', 'metrics', 'logs']) {
      await curl(cgroup, ...post(`/v1/${signal}`, 'application/x-protobuf'));
    }
    await curl(cgroup, ...post('/collector/v1/traces', 'application/json; charset=utf-8'));
    // These only look like it.
    await curl(cgroup, ...post('/v1/traces', 'text/plain'));
    await curl(cgroup, `${server.url}/v1/traces`);
    await agent.waitForSpans(4);
    const { spans, stats } = await agent.stop();
    assert.deepEqual(facts(spans), [
      'CLIENT /v1/traces',
      'CLIENT /v1/traces',
      'SERVER /v1/traces',
      'SERVER /v1/traces',
    ]);
    assert.deepEqual(stats.spans, { made: 4, exported: 4, dropped: {}, leftOut: { otlp_export: 8 } });
    assert.equal(stats.exchanges.http, 6);
  });

  test('what the agent itself sends, at both ends, but not what others send to the same port', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    // The receiver and the agent stand where the agent watches. A socket stays in the cgroup that it was made in.
    await writeFile(join(cgroup.path, 'cgroup.procs'), String(process.pid));
    const sink = await startSink(cleanup).finally(() =>
      writeFile(join(findCgroupRoot(), 'cgroup.procs'), String(process.pid)),
    );
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const agent = await startAgent(cleanup, {
      prefix: cgroup.prefix,
      args: ['--cgroup', cgroup.path, '--output', 'otlp'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint, OTEL_BSP_SCHEDULE_DELAY: '50' },
    });
    for (let i = 0; i < 5; i++) {
      await curl(cgroup, `${server.url}/bytes/${i}`);
      await until(async () => ((await sink.totals()).spans === 2 * (i + 1) ? true : undefined), 'the export');
    }
    const requests = (await sink.totals()).requests;
    assert.ok(requests >= 5, `${requests} exports`);
    const before = await agent.waitForSpans(10);
    // The test's own process is outside: of its export the receiver's end is seen, as telemetry of somebody else.
    assert.equal(await exportSpans(sink.endpoint, [someSpan(1)]), 0);
    const { stats, spans } = await agent.stop();
    assert.equal(before.length, 10);
    assert.equal(spans.length, 10);
    assert.equal(stats.connections.tcp, 5 + 1);
    assert.deepEqual(stats.spans, { made: 10, exported: 10, dropped: {}, leftOut: { otlp_export: 1 } });
  });

  test('exclude_ports', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const excluded = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const other = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    await writeFile(config, `capture:\n  exclude_ports: [${excluded.port}]\n`);
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path, '--config', config] });
    for (const { url } of [excluded, other, excluded]) await curl(cgroup, `${url}/bytes/1`);
    await agent.waitForSpans(2);
    const { spans, stats } = await agent.stop();
    assert.deepEqual(
      spans.map((span) => span.attributes['server.port']),
      [other.port, other.port],
    );
    assert.equal(stats.connections.tcp, 1);
  });

  test('an unsampled trace: no spans, and counted; a sampled one is joined', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const parent = 'b7ad6b7169203331';
    await curl(cgroup, '-H', `traceparent: 00-${traceId}-${parent}-00`, `${server.url}/bytes/1`);
    await curl(cgroup, '-H', `traceparent: 00-${traceId}-${parent}-01`, `${server.url}/bytes/2`);
    await agent.waitForSpans(2);
    const { spans, stats } = await agent.stop();
    assert.deepEqual(facts(spans), ['CLIENT /bytes/2', 'SERVER /bytes/2']);
    for (const span of spans) assert.deepEqual([span.traceId, span.parentSpanId], [traceId, parent]);
    assert.notEqual(spans[0]?.spanId, spans[1]?.spanId);
    assert.deepEqual(stats.spans, { made: 2, exported: 2, dropped: {}, leftOut: { unsampled: 2 } });
    assert.equal(stats.exchanges.http, 2);
  });
});

suite('owners', () => {
  after(assertKernelClean);

  test('OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES of a process, older and younger than the agent', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const named = (name: string) => ({
      prefix: cgroup.prefix,
      env: {
        OTEL_SERVICE_NAME: name,
        OTEL_RESOURCE_ATTRIBUTES: 'service.version=1.2.3,deployment.environment.name=test%20one,service.name=other',
      },
    });
    const older = await startNodeServer(cleanup, named('older'));
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const younger = await startNodeServer(cleanup, named('younger'));
    await curl(undefined, `${older.url}/bytes/1`, '-o', '/dev/null', `${younger.url}/bytes/1`);
    const spans = await agent.waitForSpans(2);
    const resources = new Map(spans.map(({ resource }) => [resource['service.name'], resource]));
    assert.deepEqual([...resources.keys()].sort(), ['older', 'younger']);
    for (const [name, server] of Object.entries({ older, younger })) {
      const resource = resources.get(name);
      assert.equal(resource?.['service.version'], '1.2.3');
      assert.equal(resource?.['deployment.environment.name'], 'test one');
      assert.equal(resource?.['process.pid'], server.running.pid);
      assert.equal(resource?.['process.executable.name'], 'node');
    }
    await agent.stop();
  });

  test('the systemd unit that a process runs in', async (t) => {
    const cleanup = cleanupAfter(t);
    const parent = await newCgroup(cleanup);
    const name = parent.path.slice(parent.path.lastIndexOf('/') + 1);
    const unit = await newCgroup(cleanup, `${name}/billing-worker@7.service`);
    const agent = await startAgent(cleanup, { args: ['--cgroup', parent.path] });
    const server = await startNodeServer(cleanup, { prefix: unit.prefix });
    await curl(undefined, `${server.url}/bytes/1`);
    const [span] = await agent.waitForSpans(1);
    assert.deepEqual([span?.kind, span?.resource['service.name']], ['SERVER', 'billing-worker@7']);
    await agent.stop();
  });

  test('without any of these: the script of an interpreter, the name of a program', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const folder = await cleanup.temporaryFolder();
    await writeFile(
      join(folder, 'billing.py'),
      'import sys, urllib.request\nurllib.request.urlopen(sys.argv[1]).read()\n',
    );
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix, tls: false });
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const [command, ...rest] = [...cgroup.prefix, 'python3', join(folder, 'billing.py'), `${server.url}/bytes/1`];
    await run(command!, rest);
    const spans = await agent.waitForSpans(2);
    assert.deepEqual(
      spans.map((span) => `${span.kind} ${span.resource['service.name']}`),
      ['CLIENT billing', 'SERVER node-server'],
    );
    await agent.stop();
  });
});
