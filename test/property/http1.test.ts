import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../src/flow/connection.ts';
import { createDetectLayer } from '../../src/protocol/detect.ts';
import type { Http1Layer } from '../../src/protocol/http1/layer.ts';
import { createHttp1Protocol } from '../../src/protocol/http1/protocol.ts';
import { Bench, keepHeaders, type Step } from '../support/protocols/cases.ts';

const LIMITS = { httpHeaderBytes: 2048, httpPipelineDepth: 20, httpOrphanResponses: 4, detectionBytes: 256 };

const TOKENS = [
  'GET ',
  '/ ',
  'HTTP/1.1',
  'HTTP/1.1 200 OK\r\n',
  'HTTP/1.0 100 \r\n\r\n',
  'HTTP/1.1 101 X\r\n\r\n',
  '\r\n',
  '\n',
  '\r\n\r\n',
  ' ',
  ':',
  'Content-Length: 5\r\n',
  'Content-Length: 99999999999999999999\r\n',
  'Transfer-Encoding: chunked\r\n\r\n',
  'Host: x\r\n',
  'GET / HTTP/1.1\r\n\r\n',
  'CONNECT a:1 HTTP/1.1\r\n\r\n',
  'HEAD /h HTTP/1.1\r\n',
  '5\r\nhello\r\n',
  '0\r\n\r\n',
  'fffffffffffff\r\n',
  '\0\xff',
];

const wire = fc.oneof(
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  fc.array(fc.constantFrom(...TOKENS), { maxLength: 8 }).map((tokens) => Buffer.from(tokens.join(''), 'latin1')),
);
const direction = fc.constantFrom<Direction>(FROM_CLIENT, FROM_SERVER);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({ kind: fc.constant('data' as const), direction, bytes: wire, timeUs: fc.nat() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('gap' as const),
      direction,
      length: fc.integer({ min: 1, max: 5000 }),
      timeUs: fc.nat(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('tick' as const), timeUs: fc.nat() }) },
);

function check(bench: Bench, steps: readonly Step[], bytesHeld: () => number): void {
  for (const one of steps) {
    bench.run([one]);
    assert.ok(bytesHeld() <= 4 * LIMITS.httpHeaderBytes);
  }
  bench.layer.end(FROM_SERVER, 'fin', 1e9);
  bench.close('fin', 1e9);
  const { exchanges } = bench.counters;
  assert.equal(exchanges.http ?? 0, bench.exchanges.length);
  for (const e of bench.exchanges) {
    assert.match(e.method, /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/);
    assert.notEqual(e.target, '');
    assert.ok(e.statusCode === 0 || (e.statusCode >= 100 && e.statusCode <= 999));
    assert.ok(e.statusCode !== 0 || e.incomplete !== undefined);
  }
}

test('garbage never throws, holds no more than its limits, and makes no exchange without a request', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.boolean(), (steps, startSeen) => {
      const bench = new Bench(undefined, { startSeen, limits: LIMITS });
      const layer = bench.layer as Http1Layer;
      check(bench, steps, () => {
        assert.ok(layer.heldExchanges <= LIMITS.httpPipelineDepth + LIMITS.httpOrphanResponses);
        return layer.heldBytes;
      });
      assert.equal(layer.heldBytes + layer.heldExchanges, 0);
    }),
    { numRuns: 3000 },
  );
});

test('garbage through the detector', () => {
  const http = createHttp1Protocol({ keepHeaders });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), fc.boolean(), (steps, startSeen) => {
      const bench = new Bench((context) => createDetectLayer(context, [http]), { startSeen, limits: LIMITS });
      const layer = bench.layer as unknown as { heldBytes: number };
      check(bench, steps, () => layer.heldBytes);
      assert.equal(layer.heldBytes, 0);
    }),
    { numRuns: 1500 },
  );
});

const message = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'HEAD', 'DELETE', 'X-OWN'),
  status: fc.constantFrom(200, 204, 304, 404, 500),
  requestBody: fc.nat({ max: 300 }),
  responseBody: fc.nat({ max: 300 }),
  requestChunk: fc.nat({ max: 40 }),
  responseChunk: fc.nat({ max: 40 }),
  interim: fc.boolean(),
});
type Message = typeof message extends fc.Arbitrary<infer T> ? T : never;

function body(length: number, chunk: number): string {
  if (chunk === 0) return `Content-Length: ${length}\r\n\r\n${'G'.repeat(length)}`;
  let text = 'Transfer-Encoding: chunked\r\n\r\n';
  for (let left = length; left > 0; left -= chunk) {
    const n = Math.min(left, chunk);
    text += `${n.toString(16)}\r\n${'\n'.repeat(n)}\r\n`;
  }
  return `${text}0\r\n\r\n`;
}

function requestOf(m: Message, i: number): string {
  return `${m.method} /${i} HTTP/1.1\r\n${body(m.requestBody, m.requestChunk)}`;
}

function responseOf(m: Message): string {
  const head = `${m.interim ? 'HTTP/1.1 100 Continue\r\n\r\n' : ''}HTTP/1.1 ${m.status} X\r\n`;
  const bodiless = m.method === 'HEAD' || m.status === 204 || m.status === 304;
  return head + (bodiless ? `Content-Length: ${m.responseBody}\r\n\r\n` : body(m.responseBody, m.responseChunk));
}

test('a pipelined conversation in any segments is read as it was written', () => {
  const cuts = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 8 }), cuts, (messages, sizes) => {
      const bench = new Bench();
      const streams: [Direction, Buffer][] = [
        [FROM_CLIENT, Buffer.from(messages.map(requestOf).join(''))],
        [FROM_SERVER, Buffer.from(messages.map(responseOf).join(''))],
      ];
      let timeUs = 1;
      for (const [from, stream] of streams) {
        for (let at = 0, n = 0; at < stream.length; n++) {
          const size = sizes[n % sizes.length]!;
          bench.feed(from, stream.subarray(at, at + size), timeUs++);
          at += size;
        }
      }
      assert.deepEqual(
        bench.exchanges.map((e) => [e.method, e.target, e.statusCode, e.requestBodyBytes, e.responseBodyBytes]),
        messages.map((m, i) => {
          const bodiless = m.method === 'HEAD' || m.status === 204 || m.status === 304;
          return [m.method, `/${i}`, m.status, m.requestBody, bodiless ? 0 : m.responseBody];
        }),
      );
    }),
    { numRuns: 1000 },
  );
});
