import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EndReason, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import type { Http1Layer } from '../../../src/protocol/http1/layer.ts';
import type { AllLimits } from '../../../src/protocol/registry.ts';
import { Bench } from '../../support/protocols/cases.ts';

const OK = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');

function held(bench: Bench): { heldBytes: number; heldExchanges: number } {
  return bench.layer as Http1Layer;
}

test('a target and a header block far beyond one packet', () => {
  const target = `/${'t'.repeat(200_000)}`;
  const lines = Array.from({ length: 2000 }, (_, i) => `X-Field-${i}: ${'v'.repeat(300)}\r\n`).join('');
  const head = Buffer.from(`GET ${target} HTTP/1.1\r\n${lines}Host: far\r\n\r\n`);
  const bench = new Bench();
  for (let at = 0; at < head.length; at += 1448) bench.feed(FROM_CLIENT, head.subarray(at, at + 1448), 1 + at);
  bench.feed(FROM_SERVER, OK, 1e6);
  assert.equal(bench.exchanges[0]?.target, target);
  assert.deepEqual(bench.exchanges[0]?.requestHeaders.get('host'), ['far']);
  bench.feed(FROM_CLIENT, Buffer.from('GET / HTTP/1.1\r\n\r\n'), 2e6);
  assert.ok(held(bench).heldBytes <= 4096, 'the memory of a long line is given back');
});

test('a header block beyond the limit: the exchange is known, and incomplete', () => {
  const bench = new Bench(undefined, { limits: { httpHeaderBytes: 100 } });
  bench.feed(FROM_CLIENT, Buffer.from(`GET /a HTTP/1.1\r\nX: ${'v'.repeat(100)}\r\n\r\n`), 1);
  assert.ok(held(bench).heldBytes <= 512);
  bench.feed(FROM_SERVER, OK, 2);
  bench.feed(FROM_CLIENT, Buffer.from('GET /b HTTP/1.1\r\n\r\n'), 3);
  bench.feed(FROM_SERVER, Buffer.from(`HTTP/1.1 200 OK\r\nX: ${'v'.repeat(100)}`), 4);
  assert.deepEqual(
    bench.exchanges.map((e) => [e.target, e.statusCode, e.incomplete]),
    [
      ['/a', 200, 'limit'],
      ['/b', 200, 'limit'],
    ],
  );
  assert.equal(bench.counters.incomplete.limit, 2);
});

test('a request line beyond the limit makes no exchange', () => {
  const bench = new Bench(undefined, { limits: { httpHeaderBytes: 100 } });
  for (let i = 0; i < 300; i++) bench.feed(FROM_CLIENT, Buffer.from(i === 0 ? 'GET /' : 'aaaa'), i);
  bench.close('fin', 400);
  assert.equal(bench.exchanges.length, 0);
  assert.equal(bench.counters.incomplete.limit, 1);
});

test('trailers and chunk extensions without end', () => {
  for (const endless of ['1;', '0\r\nA: ']) {
    const bench = new Bench(undefined, { limits: { httpHeaderBytes: 1000 } });
    bench.feed(FROM_CLIENT, Buffer.from('GET / HTTP/1.1\r\n\r\n'), 1);
    bench.feed(FROM_SERVER, Buffer.from(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${endless}`), 2);
    bench.feed(FROM_SERVER, Buffer.alloc(2000, 0x61), 3);
    assert.equal(bench.exchanges[0]?.incomplete, 'limit');
    assert.deepEqual([bench.counters.incomplete, bench.counters.parseErrors], [{ limit: 1 }, {}]);
  }
});

test('more requests than the pipeline limit: all are given up, and those behind them are counted', () => {
  const bench = new Bench(undefined, { limits: { httpPipelineDepth: 10 } });
  for (let i = 0; i < 29; i++) {
    bench.feed(FROM_CLIENT, Buffer.from(`POST /${i} HTTP/1.1\r\nContent-Length: 3\r\n\r\nGET`), i + 1);
    bench.feed(FROM_SERVER, Buffer.from(i < 20 ? '' : 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'), i + 1);
  }
  bench.feed(FROM_CLIENT, Buffer.from('GET /half HTTP/1.1\r\nHo'), 99);
  bench.close('fin', 100);
  assert.equal(bench.exchanges.length, 11);
  assert.ok(bench.exchanges.every((e) => e.incomplete === 'limit'));
  assert.equal(bench.muted, 0);
  // 19 are in no exchange, one of them cut by the end.
  assert.deepEqual(bench.counters.incomplete, { limit: 29, connection_closed: 1 });
  assert.deepEqual(bench.counters.connections.givenUp, { pipeline_limit: 1 });
  assert.equal(held(bench).heldExchanges, 0);
});

test('responses without requests: bounded, counted', () => {
  const bench = new Bench(undefined, { limits: { httpOrphanResponses: 4 } });
  for (let i = 0; i < 30; i++) {
    bench.feed(FROM_SERVER, OK, i + 1);
    assert.ok(held(bench).heldExchanges <= 4);
  }
  bench.close('fin', 100);
  assert.equal(bench.exchanges.length, 0);
  assert.equal(bench.counters.incomplete.request_not_seen, 30);
});

test('errors without end: the connection is given up and muted', () => {
  const bench = new Bench(undefined, { limits: { httpParseErrors: 3 } });
  for (let i = 0; i < 30; i++) {
    bench.feed(FROM_CLIENT, Buffer.from('GET / HTTP/1.1\r\n\r\n'), i * 10 + 1);
    bench.feed(FROM_SERVER, OK, i * 10 + 2);
    bench.feed(FROM_CLIENT, Buffer.from('\0\0\0\r\n'), i * 10 + 3);
  }
  assert.equal(bench.muted, 1);
  assert.equal(bench.counters.parseErrors.http, 4);
  assert.equal(bench.exchanges.length, 4);
});

test('ticks are asked for while a request waits, and only then', () => {
  const bench = new Bench();
  assert.equal(bench.ticks, false);
  bench.feed(FROM_CLIENT, Buffer.from('GET / HTTP/1.1\r\n\r\n'), 1);
  assert.equal(bench.ticks, true);
  bench.layer.tick?.(100);
  assert.equal(bench.exchanges.length, 0);
  assert.equal(bench.ticks, true);
  bench.feed(FROM_SERVER, OK, 200);
  bench.layer.tick?.(300);
  assert.equal(bench.ticks, false);
  bench.feed(FROM_CLIENT, Buffer.from('GET / HTTP/1.1\r\n\r\n'), 400);
  bench.close('shutdown', 500);
  assert.equal(bench.ticks, false);
});

test('a response that streams for hours is not a request without answer', () => {
  const bench = new Bench();
  bench.feed(FROM_CLIENT, Buffer.from('GET / HTTP/1.1\r\n\r\n'), 1);
  bench.feed(FROM_SERVER, Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'), 2);
  bench.layer.tick?.(1e10);
  assert.equal(bench.exchanges.length, 0);
  bench.feed(FROM_SERVER, Buffer.from('0\r\n\r\n'), 1e10 + 1);
  assert.equal(bench.exchanges[0]?.incomplete, undefined);
  assert.equal(bench.exchanges[0]?.endUs, 1e10 + 1);
});

test('the headers that nobody asked for are not kept, and cost no map', () => {
  const bench = new Bench();
  for (let i = 0; i < 2; i++) {
    bench.feed(FROM_CLIENT, Buffer.from('GET / HTTP/1.1\r\nAuthorization: s\r\nCookie: s\r\n\r\n'), 1 + i * 2);
    bench.feed(FROM_SERVER, OK, 2 + i * 2);
  }
  const [a, b] = bench.exchanges;
  assert.equal(a?.requestHeaders.size, 0);
  assert.equal(a?.requestHeaders, b?.responseHeaders);
});

test('a field folded into very many lines takes time in proportion to its length', () => {
  const folds = 200_000;
  const bench = new Bench();
  const startMs = performance.now();
  bench.feed(FROM_CLIENT, Buffer.from(`GET / HTTP/1.1\r\nHost:\r\n${' ab\n'.repeat(folds)}\r\n`), 1);
  bench.feed(FROM_SERVER, OK, 2);
  assert.equal(bench.exchanges[0]?.requestHeaders.get('host')?.[0]?.length, folds * 3 - 1);
  // Some milliseconds; quadratic would be most of a minute.
  assert.ok(performance.now() - startMs < 5000);
});

/** Requests that are sent at once, and what becomes of each. */
function fates(limits: Partial<AllLimits>, server: readonly Buffer[], reason: EndReason): (string | undefined)[] {
  const bench = new Bench(undefined, { limits });
  bench.feed(FROM_CLIENT, Buffer.from('GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n'), 1);
  for (const [i, bytes] of server.entries()) bench.feed(FROM_SERVER, bytes, i + 2);
  for (const direction of [FROM_CLIENT, FROM_SERVER] as const) bench.layer.end(direction, reason, 100);
  bench.close(reason, 100);
  return bench.exchanges.map((e) => e.incomplete);
}

test('what a limit, an error or a hole took is told by that, also of the requests behind it', () => {
  const head = Buffer.from(`HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(100)}`);
  const noise = Buffer.from('no status line at all\r\n');
  assert.deepEqual(fates({ httpHeaderBytes: 200 }, [head], 'fin'), ['limit', 'limit', 'limit']);
  assert.deepEqual(fates({ httpHeaderBytes: 200 }, [OK, head], 'fin'), [undefined, 'limit', 'limit']);
  assert.deepEqual(fates({}, [OK, noise], 'fin'), [undefined, 'protocol_error', 'protocol_error']);
  for (const [reason, expected] of [
    ['shutdown', 'shutdown'],
    ['evicted', 'limit'],
    ['memory', 'memory'],
    ['unreadable', 'gap'],
    ['idle', 'timeout'],
    ['reset', 'connection_reset'],
    ['fin', 'connection_closed'],
  ] as const)
    assert.deepEqual(fates({}, [OK, OK.subarray(0, 20)], reason), [undefined, expected, expected]);
});
