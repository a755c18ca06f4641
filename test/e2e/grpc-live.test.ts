/** gRPC: @grpc/grpc-js at both ends, over TLS and plain; what client and server counted is what was traced. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { STATUS_NAMES } from '../../src/protocol/grpc/status.ts';
import {
  assertErrors,
  assertExactCalls,
  assertServer,
  clients,
  lineOf,
  lineOfCall,
  lineOfEnd,
  sizesOf,
  sizesOfCall,
  startGrpcServer,
  statuses,
  watchedCalls,
} from '../support/grpc/grpc.ts';
import { startNginx } from '../support/http/nginx.ts';
import { startHttp2Server } from '../support/http/servers.ts';
import { assertPairs, assertSameLines, servers } from '../support/http/spans.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { waitForPort } from '../support/programs/net.ts';

async function configFile(cleanup: Cleanup, text: string): Promise<string> {
  const file = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
  await writeFile(file, text);
  return file;
}

suite('gRPC', () => {
  after(assertKernelClean);

  for (const tls of [true, false]) {
    test(`all four kinds, ${tls ? 'over TLS' : 'plain'}: messages, bytes and statuses as both ends count them`, async (t) => {
      const cleanup = cleanupAfter(t);
      const { secure, ask, agent: start } = await watchedCalls(cleanup, tls);
      const server = await startGrpcServer(cleanup, secure);
      const agent = await start();
      const ends = await ask(server.port, [
        { path: '/test.Calls/Unary', count: 20, ask: { bytes: 300 } },
        { path: '/test.Calls/Unary', count: 3, ask: { bytes: 0 } },
        // No reply: the status is in the only header list.
        ...[2, 5, 7, 13, 16].map((status) => ({ path: '/test.Calls/Unary', count: 2, ask: { status } })),
        { path: '/test.Calls/Upload', count: 10, requests: 50, ask: { bytes: 100_000 } },
        { path: '/test.Calls/Upload', requests: 5, ask: { status: 8 } },
        { path: '/test.Calls/Download', count: 10, ask: { replies: 40, bytes: 5000 } },
        { path: '/test.Calls/Download', count: 2, ask: { replies: 4, status: 15 } },
        { path: '/test.Calls/Download', ask: { status: 9, failFirst: true } },
        { path: '/test.Calls/Chat', count: 10, requests: 30, ask: { bytes: 700 } },
        { path: '/test.Calls/Missing', count: 2 },
      ]);
      await agent.waitForSpans(2 * ends.length);
      const stopped = await agent.stop();
      assertExactCalls(stopped, ends.length);
      // Of an unknown method the server itself says nothing.
      const known = servers(stopped.spans).filter((span) => span.name !== 'test.Calls/Missing');
      assertSameLines(known.map(lineOf), server.log().map(lineOfCall));
      assertSameLines(clients(stopped.spans).map(lineOf), ends.map(lineOfEnd));
      assertSameLines(known.map(sizesOf), server.log().map(sizesOfCall));
      assertErrors(stopped.spans);
      assertServer(stopped.spans, server.port, tls);
      assert.equal(stopped.stats.connections.tls, tls ? 1 : 0);
    });
  }

  test('compressed messages are counted as those that they are', async (t) => {
    const cleanup = cleanupAfter(t);
    const { secure, ask, agent: start } = await watchedCalls(cleanup, true);
    const server = await startGrpcServer(cleanup, secure);
    const agent = await start();
    const padding = 'p'.repeat(10_000);
    const calls = [{ path: '/test.Calls/Chat', count: 5, requests: 20, ask: { bytes: 10, padding } }];
    const ends = await ask(server.port, calls, { compress: true });
    await agent.waitForSpans(2 * ends.length);
    const stopped = await agent.stop();
    assertExactCalls(stopped, 5);
    for (const { attributes } of stopped.spans) {
      assert.equal(attributes['wirespan.rpc.request.messages'], 20);
      assert.equal(attributes['wirespan.rpc.request.compressed_messages'], 20);
      assert.ok(Number(attributes['wirespan.rpc.request.size']) < 20 * 1000);
    }
  });

  test('deadlines, and calls that the client cancels', async (t) => {
    const cleanup = cleanupAfter(t);
    const { secure, ask, agent: start } = await watchedCalls(cleanup, true);
    const server = await startGrpcServer(cleanup, secure);
    const agent = await start();
    const hang = { hang: true };
    const ends = await ask(server.port, [
      // Long enough for all replies to have come, also where the machine is busy.
      { path: '/test.Calls/Unary', count: 20, ask: hang, deadlineMs: 2500 },
      { path: '/test.Calls/Download', count: 20, ask: { ...hang, replies: 5 }, deadlineMs: 3000 },
      { path: '/test.Calls/Unary', count: 20, ask: hang, cancelMs: 2500 },
      { path: '/test.Calls/Download', count: 20, ask: { ...hang, replies: 5 }, cancelMs: 2500, deadlineMs: 60_000 },
      { path: '/test.Calls/Unary', count: 20, deadlineMs: 60_000 },
    ]);
    await agent.waitForSpans(2 * ends.length);
    const { spans, stats } = await agent.stop();
    assertPairs(spans);
    assert.deepEqual(stats.exchanges, { grpc: 100 });
    const expected: Record<string, number> = {
      'test.Calls/Unary DEADLINE_EXCEEDED': 20,
      'test.Calls/Download DEADLINE_EXCEEDED': 20,
      'test.Calls/Unary CANCELLED': 20,
      'test.Calls/Download CANCELLED': 20,
      'test.Calls/Unary OK': 20,
    };
    assert.deepEqual(statuses(clients(spans)), expected);
    assert.deepEqual(statuses(servers(spans)), expected);
    assertSameLines(clients(spans).map(lineOf), ends.map(lineOfEnd));
    for (const { attributes, kind, status } of spans) {
      const said = String(attributes['rpc.status_code']);
      const failed = kind === 'CLIENT' ? said !== 'OK' : said === 'DEADLINE_EXCEEDED';
      assert.equal(status.code, failed ? 2 : 0, `${kind} ${said}`);
      const timeout = attributes['wirespan.rpc.timeout'];
      if (said === 'DEADLINE_EXCEEDED') assert.ok(Number(timeout) > 0 && Number(timeout) <= 3, `${timeout}`);
    }
  });

  test('1,000 calls at once', async (t) => {
    const cleanup = cleanupAfter(t);
    const { secure, ask, agent: start } = await watchedCalls(cleanup, true);
    const server = await startGrpcServer(cleanup, secure);
    const agent = await start();
    const ends = await ask(server.port, [
      { path: '/test.Calls/Unary', count: 400, ask: { bytes: 50 } },
      { path: '/test.Calls/Upload', count: 200, requests: 4 },
      { path: '/test.Calls/Download', count: 200, ask: { replies: 6 } },
      { path: '/test.Calls/Chat', count: 200, requests: 5 },
    ]);
    await agent.waitForSpans(2 * ends.length);
    const stopped = await agent.stop();
    assertExactCalls(stopped, 1000);
    assertSameLines(servers(stopped.spans).map(lineOf), server.log().map(lineOfCall));
    assertSameLines(clients(stopped.spans).map(lineOf), ends.map(lineOfEnd));
    assert.equal(stopped.stats.connections.tcp, 1);
  });

  test('through nginx: two hops in one trace, and the same messages on both', async (t) => {
    const cleanup = cleanupAfter(t);
    const { secure, ask, agent: start } = await watchedCalls(cleanup, false);
    const server = await startGrpcServer(cleanup, secure);
    const nginx = await startNginx(cleanup, {
      http2: true,
      prefix: secure.prefix,
      server: `location /test.Calls/ { grpc_pass grpc://127.0.0.1:${server.port}; }`,
    });
    await waitForPort(nginx.tls13Port);
    const agent = await start();
    const { certFile } = nginx.certificate;
    const kinds = [
      { path: '/test.Calls/Unary', ask: { bytes: 3000 } },
      { path: '/test.Calls/Unary', ask: { status: 5 } },
      { path: '/test.Calls/Upload', requests: 20, ask: { bytes: 10 } },
      { path: '/test.Calls/Download', ask: { replies: 30, bytes: 2000 } },
      { path: '/test.Calls/Chat', requests: 10, ask: { bytes: 100 } },
    ];
    const traces = kinds.map((_, i) => `${i + 1}`.repeat(32));
    const calls = kinds.map((call, i) => ({
      ...call,
      metadata: { traceparent: `00-${traces[i]}-00000000000000a${i}-01` },
    }));
    const ends = await ask(nginx.tls13Port, calls, { certFile });
    await agent.waitForSpans(4 * calls.length);
    const { spans, stats } = await agent.stop();
    assert.deepEqual([stats.exchanges, stats.incomplete, stats.parseErrors], [{ grpc: 2 * calls.length }, {}, {}]);
    assertSameLines(clients(spans).map(lineOf), [...ends, ...ends].map(lineOfEnd));
    assertSameLines(servers(spans).map(lineOf), [...ends, ...ends].map(lineOfEnd));
    for (const trace of traces) assert.equal(spans.filter(({ traceId }) => traceId === trace).length, 4);
  });

  test('a long stream is seen before its end, when asked for', async (t) => {
    const cleanup = cleanupAfter(t);
    const { secure, ask, agent: start } = await watchedCalls(cleanup, true);
    const server = await startGrpcServer(cleanup, secure);
    const agent = await start(['--config', await configFile(cleanup, 'grpc: {interim_span_s: 1}\n')]);
    const stream = { path: '/test.Calls/Download', ask: { hang: true, replies: 7 }, cancelMs: 6000 };
    const ended = ask(server.port, [stream, { path: '/test.Calls/Unary' }]);
    const isInterim = (span: FlatSpan): boolean => span.attributes['wirespan.rpc.interim'] === true;
    const early = (await agent.waitForSpans(2, isInterim)).filter(isInterim);
    await ended;
    await agent.waitForSpans(6);
    const { spans, stats } = await agent.stop();
    assert.deepEqual([spans.length, stats.exchanges], [6, { grpc: 2 }]);
    for (const span of early) {
      const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
      assert.deepEqual([span.kind, span.name, parent?.name], ['INTERNAL', 'test.Calls/Download', span.name]);
      assert.equal(span.attributes['wirespan.rpc.response.messages'], 7);
      assert.equal(parent?.attributes['rpc.status_code'], 'CANCELLED');
      assert.ok(span.endUs < parent.endUs - 1_000_000);
    }
  });

  test('a server that is none of gRPC: the status is what the client makes of the HTTP status', async (t) => {
    const cleanup = cleanupAfter(t);
    const { secure, ask, agent: start } = await watchedCalls(cleanup, false);
    const server = await startHttp2Server(cleanup, secure);
    const agent = await start();
    const paths = [400, 401, 403, 404, 429, 500, 502, 503, 504].map((status) => `/status/${status}`);
    const ends = await ask(
      server.port,
      paths.map((path) => ({ path })),
    );
    await agent.waitForSpans(2 * ends.length);
    const { spans, stats } = await agent.stop();
    assert.deepEqual(stats.exchanges, { grpc: ends.length });
    const line = (name: string, status: unknown): string => `${name} ${status}`;
    assertSameLines(
      clients(spans).map(({ name, attributes }) => line(name, attributes['rpc.status_code'])),
      ends.map(({ path, status }) => line(path.slice(1), STATUS_NAMES[status])),
    );
    const gone = clients(spans).find(({ name }) => name === 'status/503');
    assert.equal(gone?.attributes['http.response.status_code'], 503);
  });
});
