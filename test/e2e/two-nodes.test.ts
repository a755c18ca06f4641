/** Two agents that never talk: each sees one end of connections whose addresses and ports are translated in between. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { startHttp2Server, startNodeServer } from '../support/http/servers.ts';
import { type Cgroup, newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { type TranslatedPath, translatedPath } from '../support/kernel/netns.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { type Agent, startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePorts } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

interface Node {
  cgroup: Cgroup;
  agent: Agent;
  /** What to put before a command to run it there. */
  prefix: readonly string[];
}

async function node(cleanup: Cleanup, namespace: readonly string[], env: Record<string, string> = {}): Promise<Node> {
  const cgroup = await newCgroup(cleanup);
  const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path], env });
  return { cgroup, agent, prefix: [...cgroup.prefix, ...namespace] };
}

async function curl({ prefix }: Node, ...args: string[]): Promise<void> {
  const [command, ...rest] = [...prefix, 'curl', '-sk', '--fail-early', '-o', '/dev/null', ...args];
  await run(command!, rest);
}

/** Trace id, span id and what it asked for, of spans of one kind. */
const byRequest = (spans: readonly FlatSpan[], kind: string) =>
  new Map(
    spans
      .filter((span) => span.kind === kind)
      .map((span) => [
        String(span.attributes['url.path'] ?? new URL(String(span.attributes['url.full'])).pathname),
        span,
      ]),
  );

/** A SERVER span of the one node for each CLIENT span of the other, in one trace, one below the other. */
function assertJoined(clients: readonly FlatSpan[], servers: readonly FlatSpan[], path: TranslatedPath): void {
  const [near, far] = [byRequest(clients, 'CLIENT'), byRequest(servers, 'SERVER')];
  assert.deepEqual([...far.keys()].sort(), [...near.keys()].sort());
  assert.equal(near.size, clients.length);
  assert.equal(far.size, servers.length);
  for (const [request, client] of near) {
    const server = far.get(request)!;
    assert.equal(server.traceId, client.traceId, request);
    assert.equal(server.parentSpanId, client.spanId, request);
    // Neither end knows an address of the other.
    assert.equal(client.attributes['network.peer.address'], path.publicAddress);
    assert.equal(server.attributes['network.peer.address'], path.translatedAddress);
  }
  const ids = [...clients, ...servers].map((span) => span.spanId);
  assert.equal(new Set(ids).size, ids.length);
}

suite('two nodes with address translation between them', () => {
  after(assertKernelClean);

  test('both ends of each request are one trace: plain, TLS 1.2 and 1.3, HTTP/2, kept alive and not', async (t) => {
    const cleanup = cleanupAfter(t);
    const ports = await freePorts(3);
    const [plainPort, tlsPort, http2Port] = ports as [number, number, number];
    const path = await translatedPath(cleanup);
    await path.forward(8080, plainPort);
    await path.forward(8443, tlsPort);
    await path.forward(8444, http2Port);
    const near = await node(cleanup, path.client);
    const far = await node(cleanup, path.server);
    const options = { prefix: far.prefix, host: path.serverAddress };
    await startNodeServer(cleanup, { ...options, port: plainPort, tls: false });
    await startNodeServer(cleanup, { ...options, port: tlsPort });
    await startHttp2Server(cleanup, { ...options, port: http2Port });
    const at = (port: number, scheme = 'https') => `${scheme}://${path.publicAddress}:${port}`;
    await curl(near, `${at(8080, 'http')}/bytes/1[0-4]`);
    await curl(near, `${at(8080, 'http')}/bytes/20`);
    await curl(near, '--tlsv1.3', `${at(8443)}/bytes/3[0-4]`);
    await curl(near, '--tls-max', '1.2', `${at(8443)}/bytes/4[0-4]`);
    await curl(near, '--http2', '--parallel', `${at(8444)}/bytes/5[0-9]`);
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    await curl(near, '-H', `traceparent: ${traceparent}`, `${at(8443)}/status/204`);
    await near.agent.waitForSpans(27);
    await far.agent.waitForSpans(27);
    const clients = (await near.agent.stop()).spans;
    const servers = (await far.agent.stop()).spans;
    const withContext = (span: FlatSpan) => span.attributes['http.response.status_code'] === 204;
    for (const [span] of [clients, servers].map((spans) => spans.filter(withContext))) {
      assert.deepEqual([span!.traceId, span!.parentSpanId], traceparent.split('-').slice(1, 3));
    }
    const rest = (spans: readonly FlatSpan[]) => spans.filter((span) => !withContext(span));
    assertJoined(rest(clients), rest(servers), path);
    const traces = new Set(rest(clients).map((span) => span.traceId));
    assert.equal(traces.size, 26);
  });

  test('both sample the same traces', async (t) => {
    const cleanup = cleanupAfter(t);
    const [port] = await freePorts(1);
    const path = await translatedPath(cleanup);
    await path.forward(8443, port!);
    const env = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.5' };
    const near = await node(cleanup, path.client, env);
    const far = await node(cleanup, path.server, env);
    await startNodeServer(cleanup, { prefix: far.prefix, host: path.serverAddress, port: port! });
    // Errors are kept whatever the ratio: a mark for the end, and none of the ordinary.
    await curl(
      near,
      `https://${path.publicAddress}:8443/bytes/[100-199]`,
      `https://${path.publicAddress}:8443/status/500`,
    );
    const isLast = (span: FlatSpan) => span.attributes['http.response.status_code'] === 500;
    await near.agent.waitForSpans(1, isLast);
    await far.agent.waitForSpans(1, isLast);
    const [clients, servers] = [await near.agent.stop(), await far.agent.stop()];
    assertJoined(clients.spans, servers.spans, path);
    const ordinary = clients.spans.filter((span) => !isLast(span));
    // Of 100, half: fewer than 20 or more than 80 in one of 10^9 runs.
    assert.ok(ordinary.length > 20 && ordinary.length < 80, `${ordinary.length} of 100`);
    for (const span of [...clients.spans, ...servers.spans]) {
      assert.equal(span.traceState, isLast(span) ? 'ot=th:0' : 'ot=th:8');
    }
    for (const { stats } of [clients, servers]) {
      assert.deepEqual(stats.spans.leftOut, { unsampled: 100 - ordinary.length });
      assert.equal(stats.exchanges.http, 101);
    }
  });
});
