/** HTTP/2 between implementations: Go's net/http with its own TLS, Node, curl and nginx; and what is special about some requests. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import {
  assertExact,
  goPeers,
  lineOf,
  lineOfAnswer,
  nginxIn,
  startGoServer,
  watched,
} from '../support/http/http2-peers.ts';
import { startHttp2Server, startNodeServer } from '../support/http/servers.ts';
import { assertPairs, assertSameAsLog, assertSameLines, ofPorts, servers, targetOf } from '../support/http/spans.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';

const ASKS = [
  { path: '/bytes/100000', count: 20 },
  { path: '/echo', method: 'POST', body: 70_000, count: 20 },
  { path: '/status/404?large', headers: { 'x-large': 'l'.repeat(30_000), 'user-agent': 'large' } },
  { path: '/status/503' },
  { path: '/bytes/0', method: 'PUT', body: 1 },
];
const ENDS = { 200: 41, 404: 1, 503: 1 };

suite('HTTP/2 between implementations', () => {
  before(goPeers, { timeout: 600_000 });
  after(assertKernelClean);

  test("Go's client asks Node and itself, over TLS and plain", async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const all = [
      await startHttp2Server(cleanup, { prefix }),
      await startHttp2Server(cleanup, { prefix, tls: false, host: '::1' }),
      await startGoServer(cleanup, { prefix, tls: false }),
    ];
    const agent = await start();
    for (const { url } of all) assert.deepEqual(await ask(url, ASKS, { peer: 'go' }), ENDS);
    await agent.waitForSpans(2 * 3 * 43);
    const stopped = await agent.stop();
    assertExact(stopped, 3 * 43);
    for (const server of all) {
      const spans = servers(stopped.spans.filter(ofPorts(server.port)));
      assertSameLines(spans.map(lineOf), server.log().map(lineOfAnswer));
      const large = spans.find((span) => targetOf(span) === '/status/404?large');
      assert.equal(large?.attributes['user_agent.original'], 'large');
    }
  });

  test("Node and curl ask Go's server, over TLS and plain", async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, inside, agent: start } = await watched(cleanup);
    const secure = await startGoServer(cleanup, { prefix });
    const plain = await startGoServer(cleanup, { prefix, tls: false, host: '::1' });
    const agent = await start();
    for (const { url } of [secure, plain]) assert.deepEqual(await ask(url, ASKS), ENDS);
    const each = ['/bytes/5', '/status/204', '/bytes/1000000'].flatMap((path) => [
      '-o',
      '/dev/null',
      secure.url + path,
    ]);
    await inside('curl', '-gsk', '--http2', ...each);
    await inside('curl', '-gs', '--http2-prior-knowledge', '-o', '/dev/null', `${plain.url}/bytes/6`);
    await agent.waitForSpans(2 * 90);
    const stopped = await agent.stop();
    assertExact(stopped, 90);
    for (const server of [secure, plain]) {
      const spans = servers(stopped.spans.filter(ofPorts(server.port)));
      assertSameLines(spans.map(lineOf), server.log().map(lineOfAnswer));
    }
  });

  test("Go's client asks nginx, over TLS 1.2 and 1.3 and plain, and through it a server of HTTP/1.1: one trace", async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const behind = await startNodeServer(cleanup, { prefix, tls: false });
    const server = `location /bytes/ { proxy_pass ${behind.url}; proxy_http_version 1.1; proxy_set_header Connection ""; }`;
    const nginx = await nginxIn(cleanup, prefix, { server });
    const agent = await start();
    const ports = [nginx.plainPort, nginx.tls12Port, nginx.tls13Port];
    const own = ['/hello', '/orders/17?item=3', '/missing', '/broken', '/empty', '/200'].map((path) => ({
      path,
      count: 5,
    }));
    const traces = ports.map((_, i) => `${i + 1}`.repeat(32));
    for (const [i, port] of ports.entries()) {
      const base = `${port === nginx.plainPort ? 'http' : 'https'}://127.0.0.1:${port}`;
      const headers = { traceparent: `00-${traces[i]}-00000000000000c1-01` };
      const ends = await ask(base, [...own, { path: '/bytes/3000', headers }], { peer: 'go' });
      assert.deepEqual(ends, { 200: 16, 204: 5, 404: 5, 500: 5 });
    }
    const log = await nginx.accessLog(3 * 31);
    await agent.waitForSpans(2 * 3 * 32);
    const { spans, stats } = await agent.stop();
    assert.deepEqual([spans.length, stats.exchanges], [2 * 3 * 32, { http: 3 * 32 }]);
    assert.deepEqual([stats.incomplete, stats.parseErrors, stats.packets.lost], [{}, {}, 0]);
    assertSameAsLog(spans.filter(ofPorts(...ports)), log);
    for (const trace of traces) {
      const hops = spans.filter(({ traceId }) => traceId === trace);
      assert.deepEqual(hops.map((span) => span.attributes['network.protocol.version']).sort(), [
        '1.1',
        '1.1',
        '2',
        '2',
      ]);
      assert.ok(hops.every((span) => span.attributes['http.response.body.size'] === 3000));
    }
  });

  test('what was refused is sent again: each attempt is an exchange', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const server = await startHttp2Server(cleanup, { prefix });
    const agent = await start();
    // Go's client tries again at once, and after a second.
    const asks = Array.from({ length: 20 }, (_, i) => ({ path: `/refuse/${i % 3}?${i}` }));
    assert.deepEqual(await ask(server.url, asks, { peer: 'go' }), { 200: 20 });
    const attempts = asks.flatMap(({ path }, i) => [
      ...Array(i % 3).fill(`GET ${path} REFUSED_STREAM 0`),
      `GET ${path} 200 10`,
    ]);
    await agent.waitForSpans(2 * attempts.length);
    const stopped = await agent.stop();
    assertExact(stopped, attempts.length, { stream_reset: attempts.length - asks.length });
    assertSameLines(servers(stopped.spans).map(lineOf), attempts);
    assert.equal(new Set(stopped.spans.map(({ spanId }) => spanId)).size, 2 * attempts.length);
    for (const { attributes, status } of stopped.spans) {
      assert.equal(status.code, attributes['error.type'] === undefined ? 0 : 2);
    }
  });

  test('GOAWAY without an error: requests beyond its last stream are refused, and sent again on another connection', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const nginx = await nginxIn(cleanup, prefix, { server: 'keepalive_requests 30;' });
    const agent = await start();
    const count = 60;
    const base = `https://127.0.0.1:${nginx.tls13Port}`;
    assert.deepEqual(await ask(base, [{ path: '/200', count }], { peer: 'go' }), { 200: count });
    const log = await nginx.accessLog(count);
    await agent.waitForSpans(2 * count, (span) => span.attributes['error.type'] === undefined);
    const { spans, stats } = await agent.stop();
    assertPairs(spans);
    const refused = spans.filter((span) => span.attributes['error.type'] !== undefined);
    assertSameAsLog(
      spans.filter((span) => !refused.includes(span)),
      log,
    );
    for (const { attributes } of refused) assert.equal(attributes['error.type'], 'REFUSED_STREAM');
    assert.equal(stats.incomplete.stream_reset ?? 0, refused.length / 2);
    assert.deepEqual([stats.parseErrors, stats.packets.lost, spans.length], [{}, 0, 2 * count + refused.length]);
    assert.ok(stats.connections.tls >= 2);
  });

  test('interim responses are no responses, trailers end one, an abort resets it', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const node = await startHttp2Server(cleanup, { prefix });
    const go = await startGoServer(cleanup, { prefix });
    const agent = await start();
    assert.deepEqual(await ask(node.url, [{ path: '/hints/3', count: 5 }], { peer: 'go' }), { 200: 5 });
    assert.deepEqual(await ask(go.url, [{ path: '/hints', count: 5 }]), { 200: 5 });
    assert.deepEqual(await ask(go.url, [{ path: '/abort' }]), { 'reset 2': 1 });
    await agent.waitForSpans(22);
    const stopped = await agent.stop();
    assertExact(stopped, 11, { stream_reset: 1 });
    const seconds = (span: FlatSpan): number => Number(span.attributes['wirespan.http.response.time_to_first_byte']);
    for (const span of stopped.spans) {
      const { attributes } = span;
      assert.equal(attributes['http.response.status_code'], 200);
      if (String(attributes['url.full'] ?? attributes['url.path']).endsWith('/abort')) {
        assert.deepEqual([attributes['error.type'], span.status.code], ['INTERNAL_ERROR', 2]);
        continue;
      }
      assert.deepEqual([attributes['error.type'], attributes['http.response.body.size']], [undefined, 5]);
      // The answer came 50 ms and more behind the hints.
      assert.ok(seconds(span) >= 0.04 && seconds(span) <= (span.endUs - span.startUs) / 1e6, `${seconds(span)} s`);
    }
  });

  test('CONNECT ends with its answer; what goes through the tunnel is of another connection', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const proxy = await startHttp2Server(cleanup, { prefix });
    const far = await startNodeServer(cleanup, { prefix, tls: false });
    const agent = await start();
    const connect = `127.0.0.1:${far.port}`;
    const say = 'GET /bytes/7 HTTP/1.0\r\n\r\n';
    const ends = await ask(proxy.url, [{ connect, say }, { path: '/bytes/9' }, { connect: '127.0.0.1:1', say }]);
    // No such server: no answer, and its stream is closed.
    assert.deepEqual(ends, { 'HTTP/1.1 200 OK': 1, 200: 1, '': 1 });
    await agent.waitForSpans(8);
    const { spans, stats } = await agent.stop();
    assertPairs(spans);
    assert.deepEqual([stats.exchanges, stats.parseErrors], [{ http: 4 }, {}]);
    const isTunnel = (span: FlatSpan): boolean => span.attributes['http.request.method'] === 'CONNECT';
    const tunnels = servers(spans).filter(isTunnel);
    assert.equal(tunnels.length, 2);
    const [open] = tunnels.filter((span) => span.attributes['http.response.status_code'] === 200);
    const [inner] = servers(spans.filter(ofPorts(far.port))).filter((span) => !isTunnel(span));
    assert.equal(inner?.attributes['http.response.body.size'], 7);
    assert.ok(open !== undefined && inner !== undefined && open.endUs <= inner.endUs);
    const [failed] = tunnels.filter((span) => span !== open);
    assert.equal(failed?.attributes['http.response.status_code'], undefined);
    assert.equal(failed?.status.code, 2);
  });

  test("Upgrade: h2c by curl, as Go's server agrees to it", async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, inside, agent: start } = await watched(cleanup);
    const server = await startGoServer(cleanup, { prefix, tls: false });
    const agent = await start();
    const urls = ['/bytes/10', '/status/404', '/bytes/30'].flatMap((path) => [
      '-o',
      '/dev/null',
      `${server.url}${path}`,
    ]);
    await inside('curl', '-gs', '--http2', ...urls);
    await agent.waitForSpans(6);
    const stopped = await agent.stop();
    assertExact(stopped, 3);
    assertSameLines(servers(stopped.spans).map(lineOf), server.log().map(lineOfAnswer));
    assert.ok(stopped.spans.every((span) => span.attributes['network.protocol.version'] === '2'));
    assert.equal(stopped.stats.connections.tcp, 1);
  });
});
