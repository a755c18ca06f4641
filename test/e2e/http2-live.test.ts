/** HTTP/2: nginx, Node, curl and h2load, over TLS and plain; what was served is what was traced, and how it ended. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { assertExact, lineOf, lineOfAnswer, nginxIn, watched } from '../support/http/http2-peers.ts';
import { type Server, startH2cServer, startHttp2Server } from '../support/http/servers.ts';
import { assertSameAsLog, assertSameLines, clientOf, ofPorts, servers, targetOf } from '../support/http/spans.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import type { Agent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

suite('HTTP/2', () => {
  after(assertKernelClean);

  test('curl and nginx: by ALPN over TLS 1.2 and 1.3, and by prior knowledge', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, inside, agent: start } = await watched(cleanup);
    const nginx = await nginxIn(cleanup, prefix, { files: { big: 5_000_000 } });
    const agent = await start();
    const bases: [string, string][] = [
      [`http://127.0.0.1:${nginx.plainPort}`, '--http2-prior-knowledge'],
      [`https://127.0.0.1:${nginx.tls12Port}`, '--http2'],
      [`https://127.0.0.1:${nginx.tls13Port}`, '--http2'],
      [`https://[::1]:${nginx.tls13Port}`, '--http2'],
    ];
    for (const [base, option] of bases) {
      const targets = ['/hello', '/orders/17?item=3', '/missing', '/broken', '/empty', '/moved', '/files/big'];
      const each = targets.map((target) => ['-o', '/dev/null', `${base}${target}`]);
      // curl 7.88 fails at the second request of a connection that it made by prior knowledge.
      if (option === '--http2') await inside('curl', '-gsk', option, ...each.flat());
      else for (const words of each) await inside('curl', '-gsk', option, ...words);
      await inside('curl', '-gsk', option, '-o', '/dev/null', '-X', 'POST', `${base}/hello?post`);
      await inside('curl', '-gskI', option, `${base}/hello?head`);
    }
    const log = await nginx.accessLog(9 * bases.length);
    await agent.waitForSpans(2 * log.length);
    const stopped = await agent.stop();
    assertExact(stopped, 36);
    assertSameAsLog(stopped.spans, log);
    for (const server of servers(stopped.spans)) {
      const client = clientOf(server, stopped.spans);
      assert.equal(client.resource['service.name'], 'curl');
      for (const span of [client, server]) {
        assert.equal(span.attributes['network.protocol.version'], '2');
        assert.match(String(span.attributes['user_agent.original']), /^curl\//);
      }
      const status = Number(server.attributes['http.response.status_code']);
      assert.equal(server.status.code, status >= 500 ? 2 : 0);
      assert.equal(client.status.code, status >= 400 ? 2 : 0);
    }
  });

  for (const scheme of ['https', 'http'] as const) {
    test(`h2load, ${scheme}: 20,000 requests on 10 connections, 100 at once on each`, async (t) => {
      const cleanup = cleanupAfter(t);
      const { prefix, inside, agent: start } = await watched(cleanup);
      const nginx = await nginxIn(cleanup, prefix);
      const agent = await start();
      const port = scheme === 'https' ? nginx.tls13Port : nginx.plainPort;
      const count = 20_000;
      const url = `${scheme}://127.0.0.1:${port}/200`;
      const said = await inside('h2load', `-n${count}`, '-c10', '-m100', url);
      assert.match(said, /20000 succeeded, 0 failed, 0 errored, 0 timeout/);
      const log = await nginx.accessLog(count);
      await agent.waitForSpans(2 * count);
      const stopped = await agent.stop();
      assertExact(stopped, count);
      assertSameAsLog(stopped.spans, log);
      assert.equal(stopped.stats.connections.tls, scheme === 'https' ? 10 : 0);
    });
  }

  test("Node's server and client: bodies, header blocks of 60 KiB, pushes", async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const old = await startHttp2Server(cleanup, { prefix });
    const agent = await start();
    const plain = await startHttp2Server(cleanup, { prefix, tls: false, host: '::1' });
    const asks = [
      { path: '/bytes/100000', count: 20 },
      { path: '/echo', method: 'POST', body: 70_000, count: 20 },
      { path: '/status/404?large', headers: { 'x-large': 'l'.repeat(60_000), 'user-agent': 'large' } },
      { path: '/status/503' },
      { path: '/push/5' },
    ];
    for (const { url } of [old, plain]) {
      const ends = await ask(url, asks);
      assert.deepEqual(ends, { 200: 41, 404: 1, 503: 1 });
    }
    await agent.waitForSpans(2 * 2 * 48);
    const stopped = await agent.stop();
    assertExact(stopped, 2 * 48);
    for (const server of [old, plain]) {
      const spans = servers(stopped.spans.filter(ofPorts(server.port)));
      assertSameLines(spans.map(lineOf), server.log().map(lineOfAnswer));
      for (const span of spans) {
        const sent = targetOf(span) === '/echo' ? 70_000 : 0;
        assert.equal(span.attributes['http.request.body.size'], sent, targetOf(span));
      }
      assert.equal(spans.find((span) => targetOf(span).endsWith('large'))?.attributes['user_agent.original'], 'large');
    }
  });

  test('5,000 streams at once on one connection', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const server = await startHttp2Server(cleanup, { prefix });
    const agent = await start();
    const count = 5000;
    assert.deepEqual(await ask(server.url, [{ path: `/gather/${count}`, count }]), { 200: count });
    await agent.waitForSpans(2 * count);
    const stopped = await agent.stop();
    assertExact(stopped, count);
    // All of them had begun before the first one ended.
    const all = servers(stopped.spans);
    assert.ok(Math.max(...all.map((span) => span.startUs)) < Math.min(...all.map((span) => span.endUs)));
    assert.equal(stopped.stats.connections.tcp, 1);
  });

  test('storms of resets, from both ends, by the names of their codes', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const server = await startHttp2Server(cleanup, { prefix });
    const agent = await start();
    const asks = [
      { path: '/reset/7', count: 500 },
      { path: '/reset/2', count: 500 },
      // Never answered by itself. Cancelled when all have surely been sent: else they are not even begun.
      { path: '/gather/100000', count: 1000, cancelMs: 2500 },
      { path: '/bytes/10', count: 100 },
    ];
    const ends = await ask(server.url, asks);
    assert.deepEqual(ends, { 200: 100, 'reset 2': 500, 'reset 7': 500, 'reset 8': 1000 });
    await agent.waitForSpans(2 * 2100);
    const stopped = await agent.stop();
    assertExact(stopped, 2100, { stream_reset: 2000 });
    for (const kind of ['SERVER', 'CLIENT']) {
      const spans = stopped.spans.filter((span) => span.kind === kind);
      const errors: Record<string, number> = {};
      for (const { attributes, status } of spans) {
        const error = String(attributes['error.type'] ?? '');
        errors[error] = (errors[error] ?? 0) + 1;
        assert.equal(status.code, error === '' ? 0 : 2);
      }
      assert.deepEqual(errors, { '': 100, REFUSED_STREAM: 500, INTERNAL_ERROR: 500, CANCEL: 1000 });
    }
  });

  test('GOAWAY with an error: the request that it ends says so', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask, agent: start } = await watched(cleanup);
    const server = await startHttp2Server(cleanup, { prefix });
    const agent = await start();
    await ask(server.url, [{ path: '/bytes/1' }, { path: '/goaway/11' }], { serial: true }).catch(() => {});
    await agent.waitForSpans(4);
    const { spans } = await agent.stop();
    const killed = servers(spans).find((span) => targetOf(span) === '/goaway/11');
    assert.equal(killed?.attributes['error.type'], 'ENHANCE_YOUR_CALM');
    assert.equal(killed?.attributes['http.response.status_code'], undefined);
  });

  test('Upgrade: h2c by curl: one span for the request that was upgraded, and those behind it', async (t) => {
    const cleanup = cleanupAfter(t);
    const { inside, agent: start } = await watched(cleanup);
    const server: Server = await startH2cServer(cleanup);
    const agent: Agent = await start();
    const urls = ['/first', '/second', '/third'].flatMap((path) => ['-o', '/dev/null', `${server.url}${path}`]);
    await inside('curl', '-gs', '--http2', ...urls);
    await agent.waitForSpans(3, (span) => span.kind === 'CLIENT');
    const { spans, stats } = await agent.stop();
    const clients = spans.filter((span) => span.kind === 'CLIENT').sort((a, b) => a.startUs - b.startUs);
    assert.deepEqual(
      clients.map(({ attributes }) => [
        ...[attributes['url.full'], attributes['http.response.status_code']],
        ...[attributes['network.protocol.version'], attributes['http.response.body.size']],
      ]),
      ['/first', '/second', '/third'].map((path) => [`${server.url}${path}`, 200, '2', 5]),
    );
    assert.deepEqual([stats.exchanges, stats.parseErrors, stats.incomplete], [{ http: 3 }, {}, {}]);
  });

  test('a connection that is older than the agent, in plain text, is joined', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, ask: request, agent: start } = await watched(cleanup);
    const server = await startHttp2Server(cleanup, { prefix, tls: false });
    const ask = (i: number): object => ({ path: `/bytes/${i}`, headers: { 'user-agent': 'pool' }, waitMs: 10 });
    const asks = Array.from({ length: 40 }, (_, i) => ask(i));
    // The server answers the stream in the middle when there is a second one, which comes once the agent is there.
    const client = request(server.url, [...asks.slice(0, 5), { path: '/gather/2' }, ...asks.slice(5)], {
      serial: true,
    });
    await until(async () => (server.log().length === 5 ? true : undefined), 'the first requests');
    const agent = await start();
    await run('curl', ['-s', '-o', '/dev/null', '--http2-prior-knowledge', `${server.url}/gather/2`]);
    assert.deepEqual(await client, { 200: 41 });
    const last = (span: FlatSpan): boolean => targetOf(span) === '/bytes/39';
    await agent.waitForSpans(1, last);
    const { spans, stats } = await agent.stop();
    const all = servers(spans).filter((span) => targetOf(span).startsWith('/bytes/'));
    assert.ok(all.length >= 30, `${all.length} of 35`);
    for (const span of all) {
      assert.equal(span.attributes['http.response.status_code'], 200);
      assert.equal(Number(targetOf(span).slice('/bytes/'.length)), span.attributes['http.response.body.size']);
      // It stands in the table since before: not known, so absent.
      assert.equal(span.attributes['user_agent.original'], undefined);
      assert.equal(span.attributes['wirespan.connection.joined'], true);
    }
    assert.deepEqual([stats.parseErrors, stats.spans.made], [{}, spans.length]);
  });
});
