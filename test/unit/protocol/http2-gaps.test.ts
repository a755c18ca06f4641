import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { Bench, type Step } from '../../support/protocols/cases.ts';
import {
  data,
  END_HEADERS,
  END_STREAM,
  facts,
  headers,
  http2,
  ping,
  request,
  response,
  rst,
  Script,
  windowUpdate,
} from '../../support/protocols/http2.ts';

const PATHS = ['/one', '/two', '/three', '/four', '/five', '/six'];
const STATUSES: Record<string, number> = {
  '/one': 201,
  '/two': 402,
  '/three': 203,
  '/four': 504,
  '/five': 205,
  '/six': 206,
};

/** Six exchanges, one after the other, with fields that come from the table, bodies and several frames per segment. */
function conversation(): Script {
  const s = new Script();
  PATHS.forEach((path, i) => {
    const id = 2 * i + 1;
    s.c(
      s.ask(id, request(path, ['user-agent', 'me'], ['x-forwarded-for', `198.51.100.${i}`]), END_HEADERS),
      data(id, 'abcdefghijkl', END_STREAM),
      windowUpdate(0),
    );
    s.s(s.answer(id, response(STATUSES[path]!, ['content-type', `t${i}`]), END_HEADERS), ping);
    s.s(data(id, '0123456789abcdef'), data(id, 'end', END_STREAM));
  });
  return s;
}

/** What is told of an exchange was sent. */
function assertTrue(bench: Bench, where: string): void {
  const seen = new Set<string>();
  for (const e of bench.exchanges) {
    assert.ok(!seen.has(`${e.streamOffset}`), where);
    seen.add(`${e.streamOffset}`);
    assert.ok(e.method === 'GET' || e.method === '', where);
    if (e.target !== '') assert.ok(STATUSES[e.target] !== undefined, `${where}: ${e.target}`);
    if (e.target !== '' && e.statusCode !== 0) assert.equal(e.statusCode, STATUSES[e.target], where);
    const i = PATHS.indexOf(e.target);
    const forwarded = e.requestHeaders.get('x-forwarded-for');
    if (i >= 0 && forwarded !== undefined) assert.deepEqual(forwarded, [`198.51.100.${i}`], where);
    const type = e.responseHeaders.get('content-type');
    if (i >= 0 && type !== undefined) assert.deepEqual(type, [`t${i}`], where);
    assert.deepEqual(e.requestHeaders.get('host') ?? ['a.example'], ['a.example'], where);
    assert.ok(e.requestBodyBytes <= 12 && e.responseBodyBytes <= 19, where);
    if (e.incomplete !== undefined) {
      assert.equal(e.incomplete, 'gap', where);
      continue;
    }
    assert.deepEqual([e.method, e.statusCode], ['GET', STATUSES[e.target]], where);
    assert.deepEqual([e.requestBodyBytes, e.responseBodyBytes], [12, 19], where);
  }
}

function withHole(steps: readonly Step[], index: number, at: number, length: number): Step[] {
  return steps.flatMap((step, i): Step[] => {
    if (i !== index || step.kind !== 'data') return [step];
    const { direction, timeUs, bytes } = step;
    const parts: Step[] = [
      { ...step, bytes: bytes.subarray(0, at) },
      { kind: 'gap', direction, length, timeUs },
      { ...step, bytes: bytes.subarray(at + length) },
    ];
    return parts.filter((part) => part.kind !== 'data' || part.bytes.length > 0);
  });
}

describe('http2 with a hole', () => {
  test('at every offset of every segment, of any length: nothing untrue, and what is whole again after it', () => {
    const { steps } = conversation();
    let whole = 0;
    let runs = 0;
    for (const [index, step] of steps.entries()) {
      // The last exchanges are what is read again.
      if (step.kind !== 'data' || index >= steps.length - 9) continue;
      for (let at = 0; at < step.bytes.length; at++) {
        for (const wanted of [1, 2, 9, 30, 1000]) {
          const length = Math.min(wanted, step.bytes.length - at);
          const where = JSON.stringify({ index, at, length });
          const bench = new Bench(http2.create).run(withHole(steps, index, at, length));
          bench.close('fin', 1000);
          assertTrue(bench, where);
          assert.equal(bench.counters.parseErrors.http2, undefined, where);
          // Every request whose header list was seen has its exchange, and no hole is as large as two.
          assert.ok(bench.exchanges.length >= PATHS.length - 1, `${where}: ${facts(bench).join(' | ')}`);
          for (const path of ['/five', '/six']) {
            const after = bench.exchanges.find((e) => e.target === path);
            assert.ok(after !== undefined && after.incomplete === undefined, `${where}: ${facts(bench).join(' | ')}`);
          }
          whole += bench.exchanges.filter((e) => e.incomplete === undefined).length;
          runs++;
        }
      }
    }
    assert.ok(whole / runs > PATHS.length - 1.2, `${whole / runs} of ${PATHS.length} whole on average`);
  });

  test('within DATA only its bytes are lost, and they count', () => {
    const s = new Script();
    s.c(s.ask(1, request('/a'), END_HEADERS));
    const upload = data(1, 'u'.repeat(500), END_STREAM);
    s.c(upload.subarray(0, 100)).gap(FROM_CLIENT, 300).c(upload.subarray(400));
    s.s(s.answer(1, response(200), END_HEADERS));
    const download = data(1, 'd'.repeat(500));
    s.s(download.subarray(0, 9))
      .gap(FROM_SERVER, 500)
      .s(s.answer(1, [['grpc-status', '0']]));
    const bench = s.run();
    assert.deepEqual(facts(bench), ['GET /a -> 200 500/500']);
    assert.deepEqual(bench.exchanges[0]?.responseTrailers.get('grpc-status'), ['0']);
    assert.deepEqual(bench.counters.incomplete, {});
  });

  test('a hole that reaches from one DATA frame into the next: the boundary is found again', () => {
    const s = new Script();
    s.c(s.ask(1, request('/big')), s.ask(3, request('/next')));
    s.s(s.answer(1, response(200), END_HEADERS));
    const frames = Array.from({ length: 12 }, () => data(1, Buffer.alloc(16_000, 0x41)));
    const all = Buffer.concat([...frames, data(1, 'end', END_STREAM), s.answer(3, response(204)), ping]);
    s.s(all.subarray(0, 10_000)).gap(FROM_SERVER, 20_000);
    for (let at = 30_000; at < all.length; at += 1448) s.s(all.subarray(at, at + 1448));
    const bench = s.run();
    assert.equal(bench.exchanges.length, 2);
    const [first, second] = bench.exchanges;
    assert.deepEqual([first?.target, first?.statusCode, first?.incomplete], ['/big', 200, 'gap']);
    assert.ok((first?.responseBodyBytes ?? 0) > 100_000);
    assert.deepEqual([second?.target, second?.statusCode, second?.incomplete], ['/next', 204, undefined]);
  });

  test('what may be stale in the table is not told', () => {
    const s = new Script();
    s.c(s.ask(1, request('/a', ['user-agent', 'first'])));
    s.s(s.answer(1, response(200)));
    const lost = s.ask(3, request('/b', ['user-agent', 'second']));
    s.gap(FROM_CLIENT, lost.length);
    // The user agent is entry 62 to this encoder; the decoder has 'first' there, and must not say so.
    s.c(s.ask(5, request('/c', ['user-agent', 'second'])), ping);
    s.s(s.answer(5, response(200)));
    s.c(s.ask(7, request('/d', ['user-agent', 'third'])));
    s.s(s.answer(7, response(200)));
    s.c(s.ask(9, request('/e', ['user-agent', 'third'])));
    s.s(s.answer(9, response(200)));
    const bench = s.run();
    assert.deepEqual(
      bench.exchanges.map((e) => [e.target, e.requestHeaders.get('user-agent')?.[0], e.incomplete]),
      [
        ['/a', 'first', undefined],
        ['/c', undefined, undefined],
        ['/d', 'third', undefined],
        ['/e', 'third', undefined],
      ],
    );
  });

  test('a status that is not known', () => {
    const s = new Script();
    s.c(s.ask(1, request('/a')), s.ask(3, request('/b')));
    const lost = s.answer(1, response(418));
    s.gap(FROM_SERVER, lost.length);
    s.s(s.answer(3, response(418), END_HEADERS), data(3, 'x', END_STREAM), ping);
    const bench = s.run();
    bench.close('fin', 50);
    assert.deepEqual(facts(bench), ['GET /b -> 0 0/1 gap', 'GET /a -> 0 0/0 gap']);
    // What it ended with may lie in the hole, so that is its end.
    assert.equal(bench.exchanges[1]?.endUs, 5);
  });

  test('a lost END_STREAM of a request is of no importance once it was answered', () => {
    const s = new Script();
    s.c(s.ask(1, request('/a'), END_HEADERS));
    s.gap(FROM_CLIENT, 12);
    s.s(s.answer(1, response(200)));
    const bench = s.run();
    assert.deepEqual(facts(bench), ['GET /a -> 200 0/0 gap']);
    const answered = new Script();
    answered
      .c(answered.ask(1, request('/a'), END_HEADERS))
      .s(answered.answer(1, response(200)))
      .gap(FROM_CLIENT, 12);
    const late = answered.run();
    assert.equal(late.exchanges.length, 0);
    assert.equal(late.ticks, true);
    late.layer.tick?.(10);
    assert.deepEqual(facts(late), ['GET /a -> 200 0/0 gap']);
    assert.equal(late.exchanges[0]?.endUs, 5);
    late.layer.tick?.(2_000_000);
    assert.equal(late.ticks, false);
  });

  test('a stream that lost its end is given up after a long silence; one that lives goes on', () => {
    const s = new Script();
    s.c(s.ask(1, request('/lost')), s.ask(3, request('/lives')));
    s.s(s.answer(1, response(200), END_HEADERS), s.answer(3, response(200), END_HEADERS));
    s.gap(FROM_SERVER, 100);
    s.s(ping, data(3, 'still here'));
    const bench = s.run({ limits: { http2LostStreamUs: 10_000_000 } });
    for (let second = 1; second < 30; second++) bench.layer.tick?.(second * 1_000_000);
    assert.deepEqual(facts(bench), ['GET /lost -> 200 0/0 gap']);
    assert.equal(bench.ticks, false);
    bench.feed(FROM_SERVER, data(3, '', END_STREAM), 1e9);
    assert.deepEqual(facts(bench), ['GET /lost -> 200 0/0 gap', 'GET /lives -> 200 0/10 gap']);
  });

  test('a lost request makes no exchange, its response is counted', () => {
    const s = new Script();
    s.c(s.ask(1, request('/a'))).s(s.answer(1, response(200)));
    s.gap(FROM_CLIENT, s.ask(3, request('/b')).length);
    s.s(s.answer(3, response(200)));
    s.c(s.ask(5, request('/c'))).s(s.answer(5, response(200)));
    const bench = s.run();
    bench.close('fin', 99);
    assert.deepEqual(facts(bench), ['GET /a -> 200 0/0', 'GET /c -> 200 0/0']);
    assert.deepEqual(bench.counters.incomplete, { request_not_seen: 1 });
  });

  test('a hole in a header block: the fields before it', () => {
    const s = new Script();
    const ask = s.ask(1, request('/known', ['user-agent', 'u'.repeat(50)]), END_HEADERS | END_STREAM);
    s.c(ask.subarray(0, 40)).gap(FROM_CLIENT, ask.length - 40);
    s.s(s.answer(1, response(200)));
    const chain = s.client.encode(request('/chain', ['user-agent', 'v'.repeat(50)]));
    s.c(headers(3, chain.subarray(0, 30), END_STREAM)).gap(FROM_CLIENT, chain.length - 30 + 9);
    s.s(s.answer(3, response(404)));
    const bench = s.run();
    assert.deepEqual(facts(bench), ['GET /known -> 200 0/0 gap', 'GET /chain -> 404 0/0 gap']);
    assert.deepEqual([...(bench.exchanges[0]?.requestHeaders.keys() ?? [])], ['host']);
    // The second authority is an entry of the table that was lost.
    assert.deepEqual([...(bench.exchanges[1]?.requestHeaders.keys() ?? [])], []);
  });

  test('the start is lost', () => {
    const s = conversation();
    const bench = new Bench(http2.create);
    bench.layer.gap(FROM_CLIENT, 24, 0);
    bench.run(s.steps.slice(3));
    assert.deepEqual(facts(bench).slice(-5), [
      'GET /two -> 402 12/19',
      'GET /three -> 203 12/19',
      'GET /four -> 504 12/19',
      'GET /five -> 205 12/19',
      'GET /six -> 206 12/19',
    ]);
  });
});

describe('http2 that began before the capture', () => {
  test('joined at any segment, with what can be known', () => {
    const { steps } = conversation();
    for (let from = 3; from < steps.length - 6; from++) {
      const bench = new Bench(http2.create, { startSeen: false }).run(steps.slice(from));
      bench.close('fin', 1000);
      assertTrue(bench, `from ${from}`);
      assert.ok(facts(bench).includes('GET /six -> 206 12/19'), `from ${from}: ${facts(bench).join(' | ')}`);
      const last = bench.exchanges.at(-1);
      // What was inserted before, and is only referred to since, is not known, so absent: a value, or the name of one.
      const seen = from === 3;
      assert.deepEqual(last?.requestHeaders.get('user-agent'), seen ? ['me'] : undefined, `from ${from}`);
      assert.deepEqual(last?.requestHeaders.get('x-forwarded-for'), seen ? ['198.51.100.5'] : undefined);
      assert.deepEqual(last?.responseHeaders.get('content-type'), ['t5']);
    }
  });

  test('joined in the middle of anything: at every byte', () => {
    const { steps } = conversation();
    const of = (direction: Direction): Buffer =>
      Buffer.concat(steps.map((s) => (s.kind === 'data' && s.direction === direction ? s.bytes : Buffer.alloc(0))));
    const streams: [Direction, Buffer][] = [
      [FROM_CLIENT, of(FROM_CLIENT)],
      [FROM_SERVER, of(FROM_SERVER)],
    ];
    for (const [direction, stream] of streams) {
      for (let from = 0; from < stream.length - 200; from++) {
        const bench = new Bench(http2.create, { startSeen: false });
        for (const [other, bytes] of streams) {
          bench.feed(other, other === direction ? bytes.subarray(from) : bytes, 5);
        }
        bench.close('fin', 1000);
        assertTrue(bench, `${direction} from ${from}`);
        assert.equal(bench.counters.parseErrors.http2, undefined);
      }
    }
  });

  test('trailers and resets of requests that were not seen', () => {
    const s = new Script(false);
    s.c(s.ask(7, [['x-sum', '1']]), rst(5, 8), ping);
    s.s(s.answer(7, response(200)), data(5, 'x'), ping);
    s.c(s.ask(9, request('/a')));
    s.s(s.answer(9, response(200)));
    const bench = s.run({ startSeen: false });
    bench.close('fin', 9);
    assert.deepEqual(facts(bench), ['GET /a -> 200 0/0']);
    assert.deepEqual(bench.counters.parseErrors, {});
    assert.deepEqual(bench.counters.incomplete, { request_not_seen: 1 });
  });
});
