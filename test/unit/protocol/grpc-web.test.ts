/** gRPC-Web over HTTP/1.1. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { createGrpcProtocol } from '../../../src/protocol/grpc/protocol.ts';
import { createHttp1Protocol } from '../../../src/protocol/http1/protocol.ts';
import { Bench, describeExchange, keepHeaders, type Step, splits } from '../../support/protocols/cases.ts';
import { callFacts, message } from '../../support/protocols/grpc.ts';

const http1 = createHttp1Protocol({ keepHeaders, bodies: [createGrpcProtocol()] });
const WEB = 'application/grpc-web+proto';

function chunked(...parts: (Buffer | string)[]): Buffer {
  const chunks = parts.map((part) => {
    const bytes = Buffer.from(part as string);
    return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
  });
  return Buffer.concat([...chunks, Buffer.from('0\r\n\r\n')]);
}

const ask = (path: string, type: string, body: Buffer | string): Buffer =>
  Buffer.concat([
    Buffer.from(`POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: ${type}\r\ngrpc-timeout: 5S\r\n`),
    Buffer.from(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n`),
    Buffer.from(body as string),
  ]);
const answer = (type: string, body: Buffer, head = 'Transfer-Encoding: chunked', status = 200): Buffer =>
  Buffer.concat([Buffer.from(`HTTP/1.1 ${status} X\r\nContent-Type: ${type}\r\n${head}\r\n\r\n`), body]);

const trailers = message('grpc-status:5\r\ngrpc-message:secret\r\n', 0x80);
const steps = (...pairs: [Buffer, Buffer][]): Step[] =>
  pairs.flatMap(([request, reply], i): Step[] => [
    { kind: 'data', direction: FROM_CLIENT, bytes: request, timeUs: 10 * i + 1 },
    { kind: 'data', direction: FROM_SERVER, bytes: reply, timeUs: 10 * i + 2 },
  ]);

const CASES: readonly { name: string; steps: Step[]; calls: string[]; http?: number }[] = [
  {
    name: 'in chunks, and whole',
    steps: steps(
      [ask('/p.S/A', WEB, message('abc')), answer(WEB, chunked(message('x'), message('yz'), trailers))],
      [ask('/p.S/B', WEB, message('abc', 1)), answer(WEB, message('grpc-status: 0\r\n', 0x80), 'Content-Length: 21')],
    ),
    calls: ['/p.S/A NOT_FOUND 1/2 3/3 timeout=5000000 web', '/p.S/B OK 1/0 3/0 compressed=1/0 timeout=5000000 web'],
  },
  {
    name: 'in text',
    steps: steps([
      ask('/p.S/T', 'application/grpc-web-text', message('abc').toString('base64')),
      answer(
        'application/grpc-web-text+proto',
        chunked(message('reply').toString('base64'), trailers.toString('base64')),
      ),
    ]),
    calls: ['/p.S/T NOT_FOUND 1/1 3/5 timeout=5000000 web'],
  },
  {
    name: 'the status in a field; a proxy that answers; no status at all',
    steps: steps(
      [ask('/p.S/F', WEB, message('')), answer(WEB, Buffer.alloc(0), 'grpc-status: 16\r\nContent-Length: 0')],
      [ask('/p.S/P', WEB, message('')), answer('text/html', Buffer.from('no'), 'Content-Length: 2', 502)],
      [ask('/p.S/N', WEB, message('')), answer(WEB, chunked(message('x')))],
    ),
    calls: [
      '/p.S/F UNAUTHENTICATED 1/0 0/0 timeout=5000000 web',
      '/p.S/P UNAVAILABLE 1/0 0/0 timeout=5000000 web',
      '/p.S/N UNKNOWN 1/1 0/1 timeout=5000000 web',
    ],
  },
  {
    name: 'what is no call stays HTTP: gRPC proper, which HTTP/1.1 cannot carry, and other types',
    steps: steps(
      [ask('/p.S/G', 'application/grpc', message('x')), answer('application/grpc', chunked(message('x')))],
      [ask('/p.S/J', 'application/json', '{}'), answer(WEB, chunked(message('x')))],
    ),
    calls: [],
    http: 2,
  },
];

describe('grpc-web over HTTP/1.1', () => {
  for (const c of CASES) {
    test(c.name, () => {
      const check = (bench: Bench): void => {
        assert.deepEqual(callFacts(bench.calls), c.calls);
        assert.equal(bench.exchanges.length, c.http ?? 0);
        assert.deepEqual(bench.counters.parseErrors, {});
        assert.equal(bench.counters.exchanges.grpc ?? 0, c.calls.length);
      };
      check(new Bench(http1.create).run(c.steps));
      for (const cut of splits(c.steps, 1)) check(new Bench(http1.create).run(cut));
      const bench = new Bench(http1.create).run(c.steps);
      bench.feed(FROM_CLIENT, Buffer.from('GET /next HTTP/1.1\r\nHost: a\r\n\r\n'), 100);
      bench.feed(FROM_SERVER, Buffer.from('HTTP/1.1 204 X\r\n\r\n'), 101);
      assert.match(describeExchange(bench.exchanges.at(-1)!), /^GET \/next 1\.1 -> 204 /);
      bench.close('fin', 200);
    });
  }

  test('trailers are no first message', () => {
    const bench = new Bench(http1.create);
    bench.feed(FROM_CLIENT, ask('/p.S/E', WEB, message('abc')), 1);
    bench.feed(FROM_SERVER, answer(WEB, chunked(trailers)), 2);
    assert.deepEqual([bench.calls[0]?.statusCode, bench.calls[0]?.firstMessageUs], [5, 0]);
  });

  test('holes', () => {
    const request = ask('/p.S/H', WEB, message('abc'));
    const reply = answer(
      WEB,
      Buffer.concat([message('x'.repeat(50)), trailers]),
      `Content-Length: ${55 + trailers.length}`,
    );
    const head = reply.indexOf('\r\n\r\n') + 4;
    const run = (from: number, to: number): string[] => {
      const bench = new Bench(http1.create);
      bench.feed(FROM_CLIENT, request, 1);
      bench.feed(FROM_SERVER, reply.subarray(0, head + from), 2);
      bench.layer.gap(FROM_SERVER, to - from, 3);
      bench.feed(FROM_SERVER, reply.subarray(head + to), 4);
      bench.close('fin', 5);
      return callFacts(bench.calls);
    };
    assert.deepEqual(run(10, 40), ['/p.S/H NOT_FOUND 1/1 3/50 timeout=5000000 web']);
    assert.deepEqual(run(10, 57), ['/p.S/H - 1/-1 3/0 timeout=5000000 web']);
    assert.deepEqual(run(70, 75), ['/p.S/H - 1/-1 3/50 timeout=5000000 web']);
  });

  test('a response that comes first; a request without an answer', () => {
    const early = new Bench(http1.create);
    early.feed(FROM_SERVER, answer(WEB, chunked(message('x'), trailers)), 5);
    early.feed(FROM_CLIENT, ask('/p.S/E', WEB, message('abc')), 4);
    early.close('fin', 6);
    assert.deepEqual(callFacts(early.calls), ['/p.S/E - 1/-1 3/0 timeout=5000000 web']);
    const alone = new Bench(http1.create);
    alone.feed(FROM_CLIENT, ask('/p.S/E', WEB, message('abc')), 4);
    alone.close('reset', 6);
    assert.equal(alone.calls[0]?.firstMessageUs, 0);
    assert.deepEqual(callFacts(alone.calls), ['/p.S/E - 1/0 3/0 timeout=5000000 web connection_reset']);
  });
});
