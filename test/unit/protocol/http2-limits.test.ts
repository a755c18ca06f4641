import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Exchange } from '../../../src/exchange/exchange.ts';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import { createHttp1Protocol } from '../../../src/protocol/http1/protocol.ts';
import type { Http2Layer } from '../../../src/protocol/http2/layer.ts';
import type { StreamObserver, StreamProtocol } from '../../../src/protocol/http2/observer.ts';
import { createHttp2Protocol } from '../../../src/protocol/http2/protocol.ts';
import { ask, record } from '../../support/http/http2.ts';
import { Bench, keepHeaders } from '../../support/protocols/cases.ts';
import {
  continuation,
  data,
  END_HEADERS,
  END_STREAM,
  facts,
  frame,
  headers,
  http2,
  PADDED,
  PREFACE,
  padded,
  ping,
  request,
  response,
  rst,
  Script,
  settings,
} from '../../support/protocols/http2.ts';

function held(bench: Bench): { heldBytes: number; heldExchanges: number } {
  return bench.layer as Http2Layer;
}

describe('http2 within its limits', () => {
  test('a header block of 60 KiB, in frames of 16 KiB', () => {
    const s = new Script();
    const block = s.client.encode(request('/big', ['cookie', 'c'.repeat(60_000), 'literal'], ['user-agent', 'me']));
    s.c(headers(1, block.subarray(0, 16_384), END_STREAM));
    for (let at = 16_384; at < block.length; at += 16_384) {
      const last = at + 16_384 >= block.length;
      s.c(continuation(1, block.subarray(at, at + 16_384), last ? END_HEADERS : 0));
    }
    s.s(s.answer(1, response(200)));
    const bench = s.run();
    assert.deepEqual(facts(bench), ['GET /big -> 200 0/0']);
    assert.deepEqual(bench.exchanges[0]?.requestHeaders.get('user-agent'), ['me']);
    assert.ok(held(bench).heldBytes < 8192, 'the memory of a long block is given back');
  });

  test('a header block beyond the limit: what came first is known, and the table is not', () => {
    const s = new Script();
    const block = s.client.encode(request('/bomb', ['x-other', 'x'.repeat(5000), 'literal']));
    s.c(headers(1, block.subarray(0, 900), END_STREAM), continuation(1, block.subarray(900), 0));
    for (let i = 0; i < 50; i++) s.c(continuation(1, Buffer.alloc(0)));
    s.c(continuation(1, Buffer.alloc(0), END_HEADERS));
    s.s(s.answer(1, response(200)));
    s.c(s.ask(3, request('/next')));
    s.s(s.answer(3, response(200)));
    const bench = s.run({ limits: { httpHeaderBytes: 1000 } });
    assert.deepEqual(facts(bench), ['GET /bomb -> 200 0/0 limit', 'GET /next -> 200 0/0']);
    assert.equal(bench.exchanges[1]?.requestHeaders.get('host'), undefined);
    assert.deepEqual(bench.counters.incomplete, { limit: 1 });
  });

  test('one frame beyond the limit', () => {
    const s = new Script();
    const block = s.client.encode(request('/bomb', ['x-other', 'x'.repeat(5000)]));
    const frames = headers(1, block, END_HEADERS | END_STREAM);
    s.c(frames.subarray(0, 100)).c(frames.subarray(100));
    s.s(s.answer(1, response(200)));
    const bench = s.run({ limits: { httpHeaderBytes: 1000 } });
    assert.deepEqual(facts(bench), ['  -> 200 0/0 limit']);
  });

  test('a header bomb: one entry, referred to a hundred thousand times', () => {
    const s = new Script();
    const first = s.client.encode(request('/bomb', ['user-agent', 'u'.repeat(3000)]));
    const bomb = Buffer.concat([first, Buffer.alloc(15_000, 0x80 | 62)]);
    s.c(headers(1, bomb.subarray(0, 10_000), END_STREAM), continuation(1, bomb.subarray(10_000), END_HEADERS));
    s.s(s.answer(1, response(200)));
    const bench = s.run();
    assert.deepEqual(facts(bench), ['GET /bomb -> 200 0/0 limit']);
    assert.equal(bench.exchanges[0]?.requestHeaders.get('user-agent')?.length, 255);
  });

  test('more streams at once than the limit allows: those beyond are given up at once', () => {
    const s = new Script();
    for (let i = 0; i < 15; i++) s.c(s.ask(2 * i + 1, request(`/${i}`)));
    for (let i = 0; i < 15; i++) s.s(s.answer(2 * i + 1, response(200)));
    s.c(s.ask(31, request('/after'))).s(s.answer(31, response(200)));
    const bench = s.run({ limits: { http2Streams: 10 } });
    assert.deepEqual(bench.counters.incomplete, { limit: 5 });
    assert.equal(facts(bench).filter((line) => line.endsWith('-> 200 0/0')).length, 11);
    assert.deepEqual(bench.exchanges.length, 16);
  });

  test('a stream that may have lost its end makes room', () => {
    const s = new Script();
    for (let i = 0; i < 10; i++) s.c(s.ask(2 * i + 1, request(`/${i}`)));
    s.gap(FROM_SERVER, 100);
    s.c(s.ask(21, request('/new')));
    s.s(ping, s.answer(21, response(200)));
    const bench = s.run({ limits: { http2Streams: 10 } });
    assert.deepEqual(facts(bench), ['GET /0 -> 0 0/0 gap', 'GET /new -> 200 0/0']);
  });

  test('ten thousand streams at once, and a storm of resets', () => {
    const s = new Script();
    const count = 10_000;
    for (let i = 0; i < count; i++) s.c(s.ask(2 * i + 1, request(`/${i % 7}`)));
    const storm = s.run();
    assert.equal(held(storm).heldExchanges, count);
    for (let i = 0; i < count; i++) storm.feed(i % 2 === 0 ? FROM_CLIENT : FROM_SERVER, rst(2 * i + 1, 8), 1e6);
    assert.equal(storm.exchanges.length, count);
    assert.equal(held(storm).heldExchanges, 0);
    assert.deepEqual(storm.counters.incomplete, { stream_reset: count });
    assert.equal(storm.exchanges[9]?.errorCode, 'CANCEL');
    storm.close('fin', 2e6);
    assert.equal(storm.exchanges.length, count);
  });

  test('an internal table that grows keeps its order', () => {
    const s = new Script();
    for (let i = 0; i < 90; i++) s.c(s.ask(2 * i + 1, request('/a', ['x-forwarded-for', `${i}`])));
    for (let i = 89; i > 60; i--) s.c(s.ask(401 - 2 * i, request('/a', ['x-forwarded-for', `${i}`])));
    const bench = s.run();
    bench.close('fin', 1e6);
    const values = bench.exchanges.map((e) => Number(e.requestHeaders.get('x-forwarded-for')?.[0]));
    const up = Array.from({ length: 90 }, (_, i) => i);
    assert.deepEqual(values, [...up, ...up.slice(61).reverse()]);
  });
});

describe('Upgrade: h2c', () => {
  const protocol = createHttp1Protocol({ keepHeaders, upgradeToHttp2: http2.createUpgraded });
  const ASK =
    'GET /first HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n';
  const AGREE = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n';

  function steps(): Script {
    const s = new Script(false);
    return s
      .c(Buffer.from(ASK))
      .s(Buffer.from(AGREE), settings(), s.answer(1, response(200), END_HEADERS), data(1, 'one'))
      .c(PREFACE, settings(), s.ask(3, request('/second')))
      .s(data(1, '!', END_STREAM), s.answer(3, response(404)));
  }

  test('stream 1 is the request that was upgraded', () => {
    const bench = new Bench(protocol.create).run(steps().steps);
    assert.deepEqual(facts(bench), ['GET /first -> 200 0/4', 'GET /second -> 404 0/0']);
    const [first, second] = bench.exchanges;
    assert.deepEqual([first?.version, first?.startUs, first?.responseStartUs, first?.endUs], ['2', 1, 2, 4]);
    assert.deepEqual(first?.requestHeaders.get('host'), ['a.example']);
    assert.deepEqual([first?.streamOffset, second?.streamOffset], [0, ASK.length + 24 + 9]);
    bench.close('fin', 9);
    assert.deepEqual(bench.counters.parseErrors, {});
    assert.deepEqual(bench.counters.exchanges, { http: 2 });
    assert.equal(bench.muted, 0);
  });

  test('cut anywhere', () => {
    for (const [at, step] of steps().steps.entries()) {
      if (step.kind !== 'data') continue;
      for (let cut = 1; cut < step.bytes.length; cut++) {
        const all = steps().steps;
        const parts = [step.bytes.subarray(0, cut), step.bytes.subarray(cut)].map((bytes) => ({ ...step, bytes }));
        all.splice(at, 1, ...parts);
        assert.deepEqual(facts(new Bench(protocol.create).run(all)), [
          'GET /first -> 200 0/4',
          'GET /second -> 404 0/0',
        ]);
      }
    }
  });

  test('a server that does not agree', () => {
    const bench = new Bench(protocol.create);
    bench.feed(FROM_CLIENT, Buffer.from(ASK), 1);
    bench.feed(FROM_SERVER, Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'), 2);
    bench.feed(FROM_CLIENT, Buffer.from('GET /more HTTP/1.1\r\n\r\n'), 3);
    bench.feed(FROM_SERVER, Buffer.from('HTTP/1.1 204 No Content\r\n\r\n'), 4);
    assert.deepEqual(facts(bench), ['GET /first -> 200 0/2', 'GET /more -> 204 0/0']);
    assert.equal(bench.exchanges[0]?.version, '1.1');
  });

  test('the preface came before the answer, held up by reassembly: joined at the next frames', () => {
    const [first, agree, preface, ...rest] = steps().steps;
    const bench = new Bench(protocol.create).run([first!, preface!, agree!, ...rest]);
    const s = new Script(false);
    bench.feed(FROM_CLIENT, Buffer.concat([ping, s.ask(5, request('/third'))]), 10);
    bench.feed(FROM_SERVER, s.answer(5, response(204)), 11);
    assert.deepEqual(facts(bench), ['GET /first -> 200 0/4', 'GET /third -> 204 0/0']);
    assert.deepEqual(bench.counters.incomplete, { request_not_seen: 1 });
  });

  test('it ends with its connection, its time passes, its holes are told', () => {
    const bench = new Bench(protocol.create).run(steps().steps.slice(0, 3));
    bench.layer.gap(FROM_SERVER, 100, 5);
    bench.layer.tick?.(6);
    bench.layer.end(FROM_SERVER, 'fin', 7);
    bench.close('fin', 8);
    assert.deepEqual(facts(bench), ['GET /first -> 200 0/3 gap', 'GET /second -> 0 0/0 gap']);
  });
});

describe('protocols on top of streams', () => {
  interface Call extends HttpExchange {
    readonly log: string[];
  }

  function counting(log: string[]): StreamProtocol {
    return {
      fields: ['x-call'],
      open(contentType, exchange) {
        if (contentType !== 'application/call') return undefined;
        log.push(`open ${exchange.target} ${exchange.requestHeaders.get('x-call')?.[0]}`);
        const observer: StreamObserver = {
          data: (direction, bytes, start, end, timeUs) =>
            log.push(`data ${direction} ${bytes.toString('latin1', start, end)} ${timeUs}`),
          gap: (direction, length) => log.push(`gap ${direction} ${length}`),
          response: () => log.push(`response ${exchange.statusCode}`),
          end: (direction) => log.push(`end ${direction} ${exchange.responseTrailers.get('grpc-status')?.[0] ?? ''}`),
          finish(whole): Exchange {
            log.push(`finish ${whole.incomplete ?? 'whole'} ${whole.errorCode}`);
            const call: Call = Object.assign(Object.create(whole) as HttpExchange, { log });
            return call;
          },
        };
        return observer;
      },
    };
  }

  function layer(log: string[]): Bench {
    return new Bench(createHttp2Protocol({ keepHeaders, streams: [counting(log)] }).create);
  }

  test('see content, holes, ends and trailers, and say what is emitted', () => {
    const log: string[] = [];
    const s = new Script();
    s.c(s.ask(1, request('/s/M', ['content-type', 'application/call'], ['x-call', 'y']), END_HEADERS));
    s.c(data(1, padded('ab', 3), PADDED), data(1, 'cd', END_STREAM));
    s.s(s.answer(1, response(200), END_HEADERS), data(1, 'xyz'));
    const long = data(1, '0123456789');
    s.s(long.subarray(0, 11))
      .gap(FROM_SERVER, 4)
      .s(long.subarray(15), s.answer(1, [['grpc-status', '5']]));
    const bench = layer(log).run(s.steps);
    assert.deepEqual(log, [
      'open /s/M y',
      'data 0 ab 5',
      'data 0 cd 5',
      'end 0 ',
      'response 200',
      'data 1 xyz 6',
      'data 1 01 7',
      'gap 1 4',
      'data 1 6789 9',
      'end 1 5',
      'finish whole ',
    ]);
    assert.equal((bench.exchanges[0] as Call).log, log);
  });

  test('are asked again at the response, and are told of resets and of what was lost', () => {
    const log: string[] = [];
    const s = new Script();
    s.c(s.ask(1, request('/a'), END_HEADERS), s.ask(3, request('/b')));
    s.s(s.answer(1, response(200, ['content-type', 'application/call']), END_HEADERS));
    s.gap(FROM_SERVER, 50);
    s.s(data(1, 'x'), ping)
      .c(rst(1, 8))
      .s(s.answer(3, response(200)));
    layer(log).run(s.steps);
    assert.deepEqual(log, ['open /a undefined', 'gap 1 -1', 'data 1 x 7', 'finish stream_reset CANCEL']);
  });
});

describe('what nghttp2 writes', () => {
  const create = http2.create;
  const replayed = (segments: readonly { direction: Direction; bytes: Buffer }[]): Bench => {
    const bench = new Bench(create);
    segments.forEach(({ direction, bytes }, i) => {
      bench.feed(direction, bytes, i + 1);
    });
    return bench;
  };

  test('fields of all kinds, bodies both ways, many at once', async () => {
    const expected: string[] = [];
    const segments = await record(async (client) => {
      for (let i = 0; i < 40; i++) {
        const path = `/${200 + i}/${i * 311}?${'q'.repeat(i)}`;
        await ask(client, { ':path': path, 'user-agent': `agent ${i % 3} "<\\^~é>"`, 'x-forwarded-for': `::${i}` });
        expected.push(
          `GET ${path} -> ${200 + i} 0/${[204, 205].includes(200 + i) ? 0 : i * 311} agent ${i % 3} ::${i}`,
        );
      }
      await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          await ask(client, { ':method': 'POST', ':path': `/201/${i}` }, 'y'.repeat(i * 100));
          expected.push(`POST /201/${i} -> 201 ${i * 100}/${i} `);
        }),
      );
    });
    const bench = replayed(segments);
    const lines = bench.exchanges.map((e) => {
      const agent = e.requestHeaders.get('user-agent')?.[0]?.slice(0, 7) ?? '';
      const rest = e.requestHeaders.get('x-forwarded-for')?.[0] ?? '';
      return `${e.method} ${e.target} -> ${e.statusCode} ${e.requestBodyBytes}/${e.responseBodyBytes} ${[agent, rest].filter(Boolean).join(' ')}`;
    });
    assert.deepEqual(lines.sort(), expected.sort());
    assert.equal(bench.exchanges[0]?.requestHeaders.get('user-agent')?.[0], 'agent 0 "<\\^~\xe9>"');
    assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
    // And byte by byte.
    const bytewise = new Bench(create);
    segments.forEach(({ direction, bytes }, i) => {
      for (const byte of bytes) bytewise.feed(direction, Buffer.from([byte]), i + 1);
    });
    assert.deepEqual(facts(bytewise), facts(bench));
    assert.equal(bytewise.exchanges.length, 140);
  });

  test('header table sizes, trailers, pushes, resets, header blocks of 60 KiB', async () => {
    const segments = await record(
      async (client) => {
        const pushed = new Promise((resolve) => {
          client.on('stream', (stream) => {
            stream.on('data', () => {});
            stream.on('end', resolve);
          });
        });
        await ask(client, { ':path': '/push' });
        await pushed;
        await ask(client, { ':path': '/trailers' });
        await ask(client, { ':path': '/large', 'x-large': 'l'.repeat(60_000), 'user-agent': 'after' });
        await ask(client, { ':path': '/reset' }).catch(() => {});
        client.settings({ headerTableSize: 0 });
        await ask(client, { ':path': '/small' });
        client.settings({ headerTableSize: 65_536 });
        await ask(client, { ':path': '/large-again' });
        await ask(client, { ':path': '/large-again' });
      },
      {
        client: { maxSendHeaderBlockLength: 100_000 },
        server: { maxSendHeaderBlockLength: 100_000, settings: { maxHeaderListSize: 100_000 }, maxSessionMemory: 100 },
        onStream(stream, fields) {
          const path = String(fields[':path']);
          if (path === '/reset') {
            stream.close(11);
            return;
          }
          if (path === '/push') {
            stream.pushStream({ ':path': '/pushed' }, (_error, push) => {
              push.respond({ ':status': 203 });
              push.end('pushed');
            });
          }
          stream.respond(
            { ':status': 200, 'content-type': 'x'.repeat(2000) },
            { waitForTrailers: path === '/trailers' },
          );
          stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '7' }));
          stream.end('body');
        },
      },
    );
    const bench = replayed(segments);
    assert.deepEqual(facts(bench).sort(), [
      'GET /large -> 200 0/4',
      'GET /large-again -> 200 0/4',
      'GET /large-again -> 200 0/4',
      'GET /push -> 200 0/4',
      'GET /pushed -> 203 0/6',
      'GET /reset -> 0 0/0 stream_reset ENHANCE_YOUR_CALM',
      'GET /small -> 200 0/4',
      'GET /trailers -> 200 0/4',
    ]);
    const by = (path: string): HttpExchange | undefined => bench.exchanges.find((e) => e.target === path);
    assert.deepEqual(by('/trailers')?.responseTrailers.get('grpc-status'), ['7']);
    assert.deepEqual(by('/large')?.requestHeaders.get('user-agent'), ['after']);
    for (const e of bench.exchanges) {
      if (!['/pushed', '/reset'].includes(e.target)) {
        assert.deepEqual(e.responseHeaders.get('content-type'), ['x'.repeat(2000)], e.target);
      }
    }
    assert.deepEqual(bench.counters.parseErrors, {});
    assert.ok(
      segments.some(({ bytes }) => bytes.includes(frame(9, 4, 5).subarray(3, 9))),
      'CONTINUATION was used',
    );
  });
});
