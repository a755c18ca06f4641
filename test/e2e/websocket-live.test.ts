/** WebSocket connections and streamed answers: what the server counted is what was traced, and how it ended. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { clientScript } from '../support/http/clients.ts';
import { startNginx } from '../support/http/nginx.ts';
import { type Server, startNodeServer, startWebSocketServer, type Talked } from '../support/http/servers.ts';
import { assertPairs, assertSameLines, ofPorts, servers, targetOf } from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import type { Agent, Stopped } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { type Inside, inside, startAgentOf } from '../support/programs/inside.ts';
import { until, waitForPort } from '../support/programs/net.ts';

const SIZES = [0, 5, 125, 126, 2500, 65_535, 65_536, 200_000];
const TRACE = '0123456789abcdef0123456789abcdef';
const WIRE_SPAN = 'fedcba9876543210';

/** An agent that watches one cgroup, so that what it counts is exact; and how to run something in it. */
async function watched(cleanup: Cleanup) {
  const cgroup = await newCgroup(cleanup);
  return {
    prefix: cgroup.prefix,
    within: inside(cgroup),
    agent: (): Promise<Agent> => startAgentOf(cleanup, cgroup),
  };
}

/** @returns how the connections ended, as the client saw it */
async function talk(within: Inside, server: { url: string }, tasks: readonly object[]): Promise<number[]> {
  const base = server.url.replace(/^http/, 'ws');
  const { stdout } = await within.run(
    process.execPath,
    ['--no-warnings', clientScript('websocket.mjs'), base, JSON.stringify(tasks)],
    { env: { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, timeoutMs: 60_000 },
  );
  return JSON.parse(stdout) as number[];
}

const lives = (spans: readonly FlatSpan[]): FlatSpan[] => spans.filter((span) => span.name === 'WebSocket');
const say = (span: FlatSpan, name: string): unknown => span.attributes[`wirespan.websocket.${name}`];

/** `TARGET MESSAGES/BYTES MESSAGES/BYTES CODE`: what the client sent, what the server sent, how it ended. */
function lineOf(span: FlatSpan): string {
  const target =
    span.kind === 'SERVER' ? targetOf(span) : String(span.attributes['url.full']).replace(/^\w+:\/\/[^/]+/, '');
  const counts = ['client', 'server'].map((end) => `${say(span, `${end}.messages`)}/${say(span, `${end}.size`)}`);
  return [target, ...counts, say(span, 'close.code')].join(' ');
}

function logLine({ target, received, receivedBytes, sent, sentBytes, code }: Talked): string {
  return `${target} ${received}/${receivedBytes} ${sent}/${sentBytes} ${code}`;
}

/** Waits for the server's word on so many connections. */
function talked(server: { talked(): Talked[] }, count: number): Promise<Talked[]> {
  return until(
    async () => (server.talked().length >= count ? server.talked() : undefined),
    `the end of ${count} connections`,
  );
}

/** All spans are those of these many connections: handshake and life, each with both of its ends; nothing else was counted. */
function assertExact({ stats, spans }: Stopped, connections: number, incomplete = 0): void {
  assert.equal(spans.length, 4 * connections);
  assert.deepEqual([stats.exchanges, stats.parseErrors], [{ http: connections, websocket: connections }, {}]);
  const unfinished = Object.entries(stats.incomplete);
  assert.ok(unfinished.every(([reason]) => reason.startsWith('connection_')));
  assert.equal(
    unfinished.reduce((sum, [, n]) => sum + n, 0),
    incomplete,
  );
  assert.deepEqual([stats.spans.made, stats.spans.exported, stats.spans.dropped], [spans.length, spans.length, {}]);
  assert.deepEqual([stats.packets.lost, stats.connections.undecryptable], [0, {}]);
  const handshakes = spans.filter((span) => span.name !== 'WebSocket');
  // Spans whose parent is named on the wire are not each other's.
  if (handshakes[0]?.traceId === TRACE) assert.ok(handshakes.every((span) => span.parentSpanId === WIRE_SPAN));
  else assertPairs(handshakes);
  for (const life of lives(spans)) {
    const parent = spans.find((span) => span.spanId === life.parentSpanId);
    assert.deepEqual([parent?.kind, parent?.traceId], [life.kind, life.traceId]);
    assert.equal(parent?.attributes['http.response.status_code'], 101);
    assert.ok(life.startUs >= parent!.startUs && life.endUs >= parent!.endUs);
    assert.equal(life.resource['service.name'], parent?.resource['service.name']);
  }
}

/** Both ends of each connection say what the server said. */
function assertSameAsTalked(spans: readonly FlatSpan[], log: readonly Talked[]): void {
  for (const kind of ['CLIENT', 'SERVER']) {
    assertSameLines(
      lives(spans)
        .filter((span) => span.kind === kind)
        .map(lineOf),
      log.map(logLine),
    );
  }
}

suite('WebSocket', () => {
  after(assertKernelClean);

  for (const tls of [true, false]) {
    test(`messages of all lengths, in fragments, with pings, by two clients, ${tls ? 'TLS' : 'plain'}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const { prefix, within, agent: start } = await watched(cleanup);
      const server = await startWebSocketServer(cleanup, { prefix, tls });
      const agent = await start();
      const tasks = [
        { path: '/echo?text', sizes: SIZES },
        { path: '/echo?binary', sizes: SIZES, binary: true, pings: true },
        { path: '/fragments', sizes: [...SIZES, ...SIZES], binary: true },
        { path: '/echo?built-in', sizes: SIZES, builtIn: true, code: 1000 },
        { path: '/echo?nothing' },
        ...Array.from({ length: 20 }, (_, i) => ({
          path: `/echo?many=${i}`,
          sizes: Array(50).fill(i + 100),
          pings: true,
        })),
      ];
      assert.deepEqual(
        await talk(within, server, tasks),
        tasks.map(() => 1000),
      );
      const log = await talked(server, tasks.length);
      await agent.waitForSpans(4 * tasks.length);
      const stopped = await agent.stop();
      assertExact(stopped, tasks.length);
      assertSameAsTalked(stopped.spans, log);
      for (const span of lives(stopped.spans)) {
        assert.deepEqual([say(span, 'close.initiator'), say(span, 'compressed')], ['client', undefined]);
        assert.deepEqual([span.status.code, span.attributes['network.protocol.name']], [0, 'websocket']);
        const scheme = span.attributes['url.scheme'] ?? String(span.attributes['url.full']).split(':')[0];
        assert.equal(scheme, tls ? 'wss' : 'ws');
      }
    });
  }

  test('compressed messages count as they were transferred', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, within, agent: start } = await watched(cleanup);
    const server = await startWebSocketServer(cleanup, { prefix });
    const agent = await start();
    await talk(within, server, [{ path: '/deflate', sizes: [1000, 50_000] }]);
    await agent.waitForSpans(4);
    const stopped = await agent.stop();
    assertExact(stopped, 1);
    for (const span of lives(stopped.spans)) {
      assert.equal(say(span, 'compressed'), true);
      for (const end of ['client', 'server']) {
        assert.equal(say(span, `${end}.messages`), 2);
        const size = Number(say(span, `${end}.size`));
        assert.ok(size > 0 && size < 1000, `${size} bytes of 51,000 that are all alike`);
      }
    }
  });

  test('how they end: by whom, with which code, with none, and torn down', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, within, agent: start } = await watched(cleanup);
    const server = await startWebSocketServer(cleanup, { prefix });
    const agent = await start();
    const sizes = [10];
    const tasks: [object, number, string, string | undefined][] = [
      [{ path: '/close/1001', sizes }, 1001, 'server', undefined],
      [{ path: '/close/1011', sizes }, 1011, 'server', '1011'],
      [{ path: '/close/4000', sizes }, 4000, 'server', undefined],
      [{ path: '/echo?code', sizes, code: 3456 }, 3456, 'client', undefined],
      [{ path: '/echo?none', sizes, code: 0 }, 1005, 'client', undefined],
      [{ path: '/echo?torn', sizes, terminate: true }, 1006, 'client', '1006'],
      [{ path: '/die', sizes }, 1006, 'server', '1006'],
    ];
    const ends = await talk(
      within,
      server,
      tasks.map(([task]) => task),
    );
    assert.deepEqual(
      ends,
      tasks.map(([, code]) => code),
    );
    const log = await talked(server, tasks.length);
    await agent.waitForSpans(4 * tasks.length);
    const stopped = await agent.stop();
    assertExact(stopped, tasks.length, 2);
    assertSameAsTalked(stopped.spans, log);
    for (const [task, code, by, error] of tasks) {
      const { path } = task as { path: string };
      const [life] = lives(servers(stopped.spans)).filter((span) => targetOf(span) === path);
      assert.deepEqual([say(life!, 'close.code'), life!.attributes['error.type']], [code, error], path);
      assert.ok([by, undefined].includes(say(life!, 'close.initiator') as string | undefined), path);
      // A reset does not say whose it was.
      if (code !== 1006) assert.equal(say(life!, 'close.initiator'), by, path);
      assert.equal(life!.status.code, error === undefined ? 0 : 2);
    }
  });

  test('a refusal is a response like others', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, within, agent: start } = await watched(cleanup);
    const server = await startWebSocketServer(cleanup, { prefix, tls: false });
    const agent = await start();
    assert.deepEqual(await talk(within, server, [{ path: '/refuse' }]), [403]);
    await agent.waitForSpans(2);
    const { spans, stats } = await agent.stop();
    assert.deepEqual([spans.length, stats.exchanges], [2, { http: 1 }]);
    assert.equal(servers(spans)[0]?.attributes['http.response.status_code'], 403);
  });

  for (const tls of [true, false]) {
    test(`on streams of one HTTP/2 connection (RFC 8441), ${tls ? 'TLS' : 'plain'}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const { prefix, within, agent: start } = await watched(cleanup);
      const server = await startWebSocketServer(cleanup, { prefix, tls, env: { WEBSOCKET_HTTP2: '1' } });
      const agent = await start();
      const tasks = [
        { path: '/echo?text', sizes: SIZES },
        { path: '/fragments', sizes: SIZES, binary: true, pings: true },
        ...Array.from({ length: 10 }, (_, i) => ({ path: `/echo?many=${i}`, sizes: Array(50).fill(i + 100) })),
        { path: '/refuse' },
      ];
      const ends = await talk(within, { url: `h2${tls ? 's' : ''}://127.0.0.1:${server.port}` }, tasks);
      assert.deepEqual(ends, [...Array(12).fill(1000), 403]);
      const log = await talked(server, 12);
      await agent.waitForSpans(4 * 12 + 2);
      const { spans, stats } = await agent.stop();
      assert.deepEqual([spans.length, stats.exchanges], [50, { http: 13, websocket: 12 }]);
      assert.deepEqual([stats.parseErrors, stats.incomplete, stats.packets.lost], [{}, {}, 0]);
      assertSameAsTalked(spans, log);
      const handshakes = spans.filter((span) => span.name !== 'WebSocket');
      assertPairs(handshakes);
      for (const { attributes } of handshakes) {
        assert.deepEqual([attributes['http.request.method'], attributes['network.protocol.version']], ['CONNECT', '2']);
      }
      for (const life of lives(spans)) {
        const parent = handshakes.find((span) => span.spanId === life.parentSpanId);
        assert.deepEqual([parent?.kind, parent?.attributes['http.response.status_code']], [life.kind, 200]);
      }
      assert.equal(stats.connections.tcp, 1);
    });
  }

  test('through nginx, by TLS 1.2 and 1.3 and plain: both hops are counted alike, in the trace of the client', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, within, agent: start } = await watched(cleanup);
    const server = await startWebSocketServer(cleanup, { prefix, tls: false });
    const nginx = await startNginx(cleanup, { prefix, server: proxyTo(server) });
    const ports = [nginx.plainPort, nginx.tls12Port, nginx.tls13Port];
    for (const port of ports) await waitForPort(port);
    const agent = await start();
    const headers = { traceparent: `00-${TRACE}-${WIRE_SPAN}-01` };
    for (const port of ports) {
      const scheme = port === nginx.plainPort ? 'http' : 'https';
      const task = { path: `/echo?${port}`, sizes: SIZES, binary: true, headers };
      assert.deepEqual(await talk(within, { url: `${scheme}://127.0.0.1:${port}` }, [task, task]), [1000, 1000]);
    }
    const log = await talked(server, 6);
    await agent.waitForSpans(48);
    const stopped = await agent.stop();
    assertExact(stopped, 12);
    assertSameAsTalked(stopped.spans.filter(ofPorts(server.port)), log);
    assertSameAsTalked(stopped.spans.filter(ofPorts(...ports)), log);
    assert.deepEqual([...new Set(stopped.spans.map((span) => span.traceId))], [TRACE]);
  });
});

const proxyTo = (server: Server): string => `
  location ~ ^/(echo|events) {
    proxy_pass http://${server.host}:${server.port};
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $http_connection;
    proxy_buffering off;
  }`;

suite('answers that are streamed', () => {
  after(assertKernelClean);

  /**
   * Ten events, 50 ms apart: the first byte is there at once, the end between the server's and the client's.
   * @param doneMs when the client had ended
   */
  function assertStreamed(span: FlatSpan, answered: { endMs: number }, doneMs: number): void {
    assert.deepEqual(
      [span.attributes['http.response.status_code'], span.attributes['http.response.body.size']],
      [200, 160],
    );
    const firstByte = Number(span.attributes['wirespan.http.response.time_to_first_byte']);
    const seconds = (span.endUs - span.startUs) / 1e6;
    assert.ok(firstByte > 0 && firstByte < seconds - 0.3, `first byte after ${firstByte} s of ${seconds} s`);
    assert.ok(seconds >= 0.5, `${seconds} s`);
    const endMs = span.endUs / 1000;
    // Clocks of a process are read in whole milliseconds.
    assert.ok(endMs >= answered.endMs - 1 && endMs <= doneMs + 1, `${answered.endMs} ${endMs} ${doneMs}`);
  }

  test('server-sent events, plain, by TLS, and through nginx as HTTP/2', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, within, agent: start } = await watched(cleanup);
    const plain = await startNodeServer(cleanup, { prefix, tls: false });
    const secure = await startNodeServer(cleanup, { prefix });
    const nginx = await startNginx(cleanup, { prefix, http2: true, server: proxyTo(plain) });
    await waitForPort(nginx.tls13Port);
    const agent = await start();
    const bases = [plain.url, secure.url, `https://127.0.0.1:${nginx.tls13Port}`];
    const doneMs: number[] = [];
    for (const [i, base] of bases.entries()) {
      const { stdout } = await within.run('curl', [
        '-sNk',
        i === 2 ? '--http2' : '--http1.1',
        `${base}/events/10?${i}`,
      ]);
      doneMs.push(Date.now());
      assert.equal(stdout, 'data: 12345678\n\n'.repeat(10));
    }
    await agent.waitForSpans(8);
    const { spans, stats } = await agent.stop();
    assert.deepEqual([spans.length, stats.exchanges, stats.incomplete, stats.parseErrors], [8, { http: 4 }, {}, {}]);
    assertPairs(spans);
    const answered = [...plain.log(), ...secure.log()] as unknown as { target: string; endMs: number }[];
    for (const span of servers(spans)) {
      const target = targetOf(span);
      assertStreamed(span, answered.find((line) => line.target === target)!, doneMs[Number(target.at(-1))]!);
    }
    assert.equal(spans.filter((span) => span.attributes['network.protocol.version'] === '2').length, 2);
  });

  test('a client that leaves an endless stream ends it', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, within, agent: start } = await watched(cleanup);
    const server = await startNodeServer(cleanup, { prefix });
    const agent = await start();
    const begunMs = performance.now();
    const curl = within.start(cleanup, 'curl', ['-sNk', `${server.url}/events/100000`]);
    await curl.waitFor('stdout', /(?:data: 12345678\n\n){6}/);
    await curl.stop('SIGINT');
    const tookS = (performance.now() - begunMs) / 1000;
    const spans = await agent.waitForSpans(2);
    const seconds = (spans[0]!.endUs - spans[0]!.startUs) / 1e6;
    assert.ok(seconds >= 0.25 && seconds <= tookS, `${seconds} s of ${tookS}`);
    const size = Number(spans[0]!.attributes['http.response.body.size']);
    // The timer that sends them is never early by more than a millisecond.
    assert.ok(size >= 6 * 16 && size % 16 === 0 && size <= 16 * Math.ceil(seconds / 0.049), `${size} bytes`);
    assert.match(String(spans[0]!.attributes['error.type']), /^connection_(closed|reset)$/);
    await agent.stop();
  });
});
