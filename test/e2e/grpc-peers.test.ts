/** gRPC between implementations: grpc-go, grpcio and grpc-js. With TLS, of two ends one is OpenSSL's, whose secrets are enough. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import {
  assertErrors,
  assertExactCalls,
  type Calls,
  clients,
  lineOf,
  lineOfCall,
  lineOfEnd,
  type Peer,
  prepareGrpcPeers,
  sizesOf,
  sizesOfCall,
  startGrpcServer,
  statuses,
  watchedCalls,
} from '../support/grpc/grpc.ts';
import { startNginx } from '../support/http/nginx.ts';
import { assertPairs, assertSameLines, servers } from '../support/http/spans.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { waitForPort } from '../support/programs/net.ts';

/** Client, server, TLS. */
const PAIRS: readonly [Peer, Peer, boolean][] = [
  ['go', 'go', false],
  ['python', 'go', false],
  ['go', 'python', false],
  ['go', 'js', true],
  ['js', 'go', true],
  ['python', 'js', true],
  ['js', 'python', true],
];

const KINDS: readonly Calls[] = [
  { path: '/test.Calls/Unary', count: 10, ask: { bytes: 300 } },
  { path: '/test.Calls/Unary', ask: { bytes: 0 } },
  ...[2, 5, 7, 13, 16].map((status) => ({ path: '/test.Calls/Unary', ask: { status } })),
  { path: '/test.Calls/Upload', count: 5, requests: 50, ask: { bytes: 100_000 } },
  { path: '/test.Calls/Upload', requests: 5, ask: { status: 8 } },
  { path: '/test.Calls/Download', count: 5, ask: { replies: 40, bytes: 5000 } },
  { path: '/test.Calls/Download', ask: { replies: 4, status: 15 } },
  { path: '/test.Calls/Download', ask: { status: 9, failFirst: true } },
  { path: '/test.Calls/Chat', count: 5, requests: 30, ask: { bytes: 700 } },
];

const hang = { hang: true };
const LATE: readonly Calls[] = [
  { path: '/test.Calls/Unary', count: 5, ask: hang, deadlineMs: 2500 },
  { path: '/test.Calls/Download', count: 5, ask: { ...hang, replies: 5 }, deadlineMs: 3000 },
  { path: '/test.Calls/Unary', count: 5, ask: hang, cancelMs: 2500 },
  { path: '/test.Calls/Download', count: 5, ask: { ...hang, replies: 5 }, cancelMs: 2500, deadlineMs: 60_000 },
  { path: '/test.Calls/Unary', count: 5, deadlineMs: 60_000 },
];

suite('gRPC between implementations', () => {
  before(prepareGrpcPeers, { timeout: 600_000 });
  after(assertKernelClean);

  for (const [client, server, tls] of PAIRS) {
    test(`${client} calls ${server}, ${tls ? 'over TLS' : 'plain'}: all kinds, compressed too; deadlines, cancellation`, async (t) => {
      const cleanup = cleanupAfter(t);
      const { secure, ask, agent: start } = await watchedCalls(cleanup, tls);
      const { port, log } = await startGrpcServer(cleanup, secure, server);
      const whole = await start();
      const ends = await ask(port, KINDS, { peer: client });
      const padding = 'p'.repeat(10_000);
      const chat = { path: '/test.Calls/Chat', requests: 20, ask: { bytes: 10, padding } };
      ends.push(...(await ask(port, [chat], { peer: client, compress: true })));
      await whole.waitForSpans(2 * ends.length);
      const stopped = await whole.stop();
      const { spans, stats } = stopped;
      assertExactCalls(stopped, ends.length);
      const compressed = spans.filter(
        (span) => span.attributes['wirespan.rpc.request.compressed_messages'] !== undefined,
      );
      assert.equal(compressed.length, 2);
      for (const { attributes } of compressed) {
        const messages = Number(attributes['wirespan.rpc.request.compressed_messages']);
        // grpc-js does not find gzip in `identity, deflate, gzip`, and stops to compress when it has read that.
        if (client === 'js' && server === 'python') assert.ok(messages > 0 && messages <= 20);
        else assert.ok(messages === 20 && Number(attributes['wirespan.rpc.request.size']) < 20 * 1000);
      }
      assertSameLines(servers(spans).map(lineOf), log().map(lineOfCall));
      assertSameLines(clients(spans).map(lineOf), ends.map(lineOfEnd));
      const plain = servers(spans).filter((span) => !compressed.includes(span));
      assertSameLines(plain.map(sizesOf), log().slice(0, -1).map(sizesOfCall));
      assertErrors(spans);
      assert.equal(stats.connections.decrypted, tls ? 2 : 0);

      const late = await start();
      const lateEnds = await ask(port, LATE, { peer: client });
      await late.waitForSpans(2 * lateEnds.length);
      const second = await late.stop();
      assertPairs(second.spans);
      assert.deepEqual(second.stats.exchanges, { grpc: 25 });
      const expected = {
        'test.Calls/Unary DEADLINE_EXCEEDED': 5,
        'test.Calls/Download DEADLINE_EXCEEDED': 5,
        'test.Calls/Unary CANCELLED': 5,
        'test.Calls/Download CANCELLED': 5,
        'test.Calls/Unary OK': 5,
      };
      assert.deepEqual(statuses(clients(second.spans)), expected);
      assert.deepEqual(statuses(servers(second.spans)), expected);
      // A server that resets the call at its deadline may be a moment ahead of the client, who then calls that a cancellation.
      const messages = (line: string): string => line.replace(/ [A-Z_]+ /, ' ');
      assertSameLines(
        clients(second.spans).map((span) => messages(lineOf(span))),
        lateEnds.map((end) => messages(lineOfEnd(end))),
      );
      assertErrors(second.spans);
      for (const { attributes } of second.spans) {
        const timeout = Number(attributes['wirespan.rpc.timeout']);
        // grpcio rounds up, to 10 ms here.
        if (attributes['rpc.status_code'] === 'DEADLINE_EXCEEDED')
          assert.ok(timeout > 2 && timeout <= 3.01, `${timeout}`);
      }
    });
  }

  test('grpcio over TLS to nginx, from there to grpc-go: two hops in one trace', async (t) => {
    const cleanup = cleanupAfter(t);
    const { secure, ask, agent: start } = await watchedCalls(cleanup, false);
    const server = await startGrpcServer(cleanup, secure, 'go');
    const nginx = await startNginx(cleanup, {
      http2: true,
      prefix: secure.prefix,
      server: `location /test.Calls/ { grpc_pass grpc://127.0.0.1:${server.port}; }`,
    });
    await waitForPort(nginx.tls13Port);
    const agent = await start();
    const traces = KINDS.map((_, i) => `${(i + 1).toString(16)}`.repeat(32));
    const calls = KINDS.map((call, i) => ({
      ...call,
      count: 1,
      metadata: { traceparent: `00-${traces[i]}-00000000000000b1-01` },
    }));
    const ends = await ask(nginx.tls13Port, calls, { peer: 'python', certFile: nginx.certificate.certFile });
    await agent.waitForSpans(4 * calls.length);
    const { spans, stats } = await agent.stop();
    assert.deepEqual([stats.exchanges, stats.incomplete, stats.parseErrors], [{ grpc: 2 * calls.length }, {}, {}]);
    for (const some of [clients(spans), servers(spans)]) {
      assertSameLines(some.map(lineOf), [...ends, ...ends].map(lineOfEnd));
    }
    for (const trace of traces) assert.equal(spans.filter(({ traceId }) => traceId === trace).length, 4);
  });
});
