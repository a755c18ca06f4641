import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { Bench, type Step, splits } from '../../support/protocols/cases.ts';
import {
  CANCEL,
  continuation,
  data,
  END_HEADERS,
  END_STREAM,
  facts,
  frame,
  goAway,
  headers,
  http2,
  PADDED,
  PRIORITY_FLAG,
  padded,
  ping,
  priority,
  REFUSED,
  request,
  response,
  rst,
  Script,
  settings,
  uint32,
  windowUpdate,
} from '../../support/protocols/http2.ts';

interface Case {
  readonly name: string;
  readonly script: (s: Script) => Script;
  readonly expected: readonly string[];
  /** Nothing can follow on this connection. */
  readonly ends?: boolean;
  readonly parseErrors?: number;
}

const GET = END_HEADERS | END_STREAM;

const CASES: readonly Case[] = [
  {
    name: 'a request without a body, a response with one',
    script: (s) =>
      s
        .c(s.ask(1, request('/a')))
        .s(s.answer(1, response(200, ['content-type', 't']), END_HEADERS), data(1, 'hello'), data(1, '', END_STREAM)),
    expected: ['GET /a -> 200 0/5'],
  },
  {
    name: 'many at once, answered in another order',
    script: (s) =>
      s
        .c(s.ask(1, request('/1')), s.ask(3, request('/3')), s.ask(5, request('/5')))
        .s(s.answer(5, response(204)), s.answer(1, response(404), END_HEADERS), s.answer(3, response(200)))
        .s(data(1, 'no', END_STREAM)),
    expected: ['GET /5 -> 204 0/0', 'GET /3 -> 200 0/0', 'GET /1 -> 404 0/2'],
  },
  {
    name: 'bodies in both directions at once; the response ends first',
    script: (s) =>
      s
        .c(s.ask(1, request('/up', ['content-type', 'x']), END_HEADERS), data(1, 'abc'))
        .s(s.answer(1, response(200), END_HEADERS), data(1, '12'))
        .c(data(1, 'defg'))
        .s(data(1, '345', END_STREAM))
        .c(data(1, 'h', END_STREAM)),
    expected: ['GET /up -> 200 8/5'],
  },
  {
    name: 'interim responses, trailers in both directions',
    script: (s) =>
      s
        .c(s.ask(1, request('/t'), END_HEADERS), data(1, 'abc'), s.ask(1, [['x-sum', '1']]))
        .s(s.answer(1, response(100), END_HEADERS), s.answer(1, response(103, ['link', 'x']), END_HEADERS))
        .s(s.answer(1, response(200), END_HEADERS), data(1, 'x'), s.answer(1, [['grpc-status', '5']])),
    expected: ['GET /t -> 200 3/1'],
  },
  {
    name: 'padding and priority, in every frame that may have them',
    script: (s) => {
      const block = s.client.encode(request('/p'));
      const withPriority = Buffer.concat([Buffer.from([7]), uint32(0), Buffer.from([9]), block, Buffer.alloc(7)]);
      return s
        .c(headers(1, withPriority, END_HEADERS | PADDED | PRIORITY_FLAG), data(1, padded('abc', 5), PADDED))
        .c(data(1, padded('', 0), PADDED | END_STREAM))
        .s(
          headers(1, padded(s.server.encode(response(200)).toString('latin1'), 255), END_HEADERS | PADDED),
          data(1, padded('x', 255), PADDED | END_STREAM),
        );
    },
    expected: ['GET /p -> 200 3/1'],
  },
  {
    name: 'CONTINUATION chains, an empty one among them',
    script: (s) => {
      const block = s.client.encode(request('/c', ['user-agent', 'u'.repeat(40)]));
      return s
        .c(headers(1, block.subarray(0, 3), END_STREAM), continuation(1, block.subarray(3, 3)))
        .c(continuation(1, block.subarray(3, 20)), continuation(1, block.subarray(20), END_HEADERS))
        .s(s.answer(1, response(200)));
    },
    expected: ['GET /c -> 200 0/0'],
  },
  {
    name: 'frames of no interest anywhere: PING, WINDOW_UPDATE, PRIORITY, ALTSVC, unknown types with any flags',
    script: (s) =>
      s
        .c(ping, priority(1), s.ask(1, request('/f')), windowUpdate(0), windowUpdate(1), frame(0xf0, 0xff, 7, 'what'))
        .s(frame(0xa, 0, 0, '\0\0h2=":443"'), frame(0xc, 0, 0), ping, s.answer(1, response(200), END_HEADERS))
        .s(frame(0x10, 0, 0, '\0\0\0\x01u=1'), windowUpdate(1), data(1, 'x'), frame(0xbb, 3, 1, '?'), data(1, '', 1)),
    expected: ['GET /f -> 200 0/1'],
  },
  {
    name: 'RST_STREAM of the client before, of the server after the response began',
    script: (s) =>
      s
        .c(s.ask(1, request('/a')), s.ask(3, request('/b'), END_HEADERS), rst(1, CANCEL))
        .s(s.answer(3, response(200), END_HEADERS), data(3, 'xy'), rst(3, 2))
        .s(s.answer(1, response(200), END_HEADERS), data(1, 'late', END_STREAM)),
    expected: ['GET /a -> 0 0/0 stream_reset CANCEL', 'GET /b -> 200 0/2 stream_reset INTERNAL_ERROR'],
  },
  {
    name: 'REFUSED_STREAM, and the same again on a new stream',
    script: (s) =>
      s
        .c(s.ask(1, request('/a')))
        .s(rst(1, REFUSED))
        .c(s.ask(3, request('/a')))
        .s(s.answer(3, response(200))),
    expected: ['GET /a -> 0 0/0 stream_reset REFUSED_STREAM', 'GET /a -> 200 0/0'],
  },
  {
    name: 'an unknown error code is one name for all',
    script: (s) => s.c(s.ask(1, request('/a'))).s(rst(1, 0xdead)),
    expected: ['GET /a -> 0 0/0 stream_reset _OTHER'],
  },
  {
    name: 'a server that answered asks for no more of the body: whole',
    script: (s) =>
      s
        .c(s.ask(1, request('/up'), END_HEADERS), data(1, 'abc'))
        .s(s.answer(1, response(404), END_HEADERS), data(1, 'no', END_STREAM), rst(1, 0))
        .c(data(1, 'late')),
    expected: ['GET /up -> 404 3/2'],
  },
  {
    name: 'graceful GOAWAY: what is above its last stream was refused, what is below goes on',
    script: (s) =>
      s
        .c(s.ask(1, request('/1')), s.ask(3, request('/3')))
        .s(goAway(0x7fff_ffff, 0))
        .c(s.ask(5, request('/5')))
        .s(goAway(3, 0, 'bye'))
        .c(s.ask(7, request('/7')))
        .s(s.answer(1, response(200)), s.answer(3, response(200))),
    expected: [
      'GET /5 -> 0 0/0 stream_reset REFUSED_STREAM',
      'GET /7 -> 0 0/0 stream_reset REFUSED_STREAM',
      'GET /1 -> 200 0/0',
      'GET /3 -> 200 0/0',
    ],
    ends: true,
  },
  {
    name: 'GOAWAY with an error, then the end of the connection',
    script: (s) => {
      s.c(s.ask(1, request('/1')), s.ask(3, request('/3'))).s(goAway(1, 11));
      s.steps.push({ kind: 'close', reason: 'fin', timeUs: 100 });
      return s;
    },
    expected: ['GET /3 -> 0 0/0 stream_reset ENHANCE_YOUR_CALM', 'GET /1 -> 0 0/0 connection_closed ENHANCE_YOUR_CALM'],
    ends: true,
  },
  {
    name: 'CONNECT ends with its 2xx; what follows is the tunnel',
    script: (s) =>
      s
        .c(
          s.ask(
            1,
            [
              [':method', 'CONNECT'],
              [':authority', 'db.example:5432'],
            ],
            END_HEADERS,
          ),
        )
        .s(s.answer(1, response(200), END_HEADERS), data(1, 'tunnel'))
        .c(data(1, 'tunnel', END_STREAM)),
    expected: ['CONNECT db.example:5432 -> 200 0/0'],
  },
  {
    name: 'CONNECT that is refused is an exchange like others',
    script: (s) =>
      s
        .c(
          s.ask(
            1,
            [
              [':method', 'CONNECT'],
              [':authority', 'db.example:5432'],
            ],
            END_HEADERS,
          ),
        )
        .s(s.answer(1, response(404), END_HEADERS), data(1, 'no', END_STREAM), rst(1, 0)),
    expected: ['CONNECT db.example:5432 -> 404 0/2'],
  },
  {
    name: 'a promised stream is an exchange of its own',
    script: (s) => {
      s.c(s.ask(1, request('/page')));
      const promise = Buffer.concat([uint32(2), s.server.encode(request('/style.css'))]);
      const unwanted = Buffer.concat([uint32(4), s.server.encode(request('/image'))]);
      return s
        .s(frame(5, END_HEADERS, 1, promise), frame(5, END_HEADERS | PADDED, 1, padded(unwanted.toString('latin1'), 4)))
        .s(s.answer(1, response(200)), s.answer(2, response(200), END_HEADERS), data(2, 'css', END_STREAM))
        .c(rst(4, CANCEL));
    },
    expected: ['GET /page -> 200 0/0', 'GET /style.css -> 200 0/3', 'GET /image -> 0 0/0 stream_reset CANCEL'],
  },
  {
    name: 'a table size that shrinks to nothing and grows again',
    script: (s) => {
      s.c(s.ask(1, request('/1', ['user-agent', 'one']))).s(s.answer(1, response(200)));
      const shrink = Buffer.concat([s.client.resize(0), s.client.resize(200)]);
      const block = Buffer.concat([shrink, s.client.encode(request('/2', ['user-agent', 'two']))]);
      return s
        .c(headers(3, block, GET))
        .s(s.answer(3, response(200)))
        .c(s.ask(5, request('/3', ['user-agent', 'two'])))
        .s(s.answer(5, response(200)));
    },
    expected: ['GET /1 -> 200 0/0', 'GET /2 -> 200 0/0', 'GET /3 -> 200 0/0'],
  },
  {
    name: 'larger frames once SETTINGS_MAX_FRAME_SIZE allows them',
    script: (s) =>
      s
        .c(settings([5, 20_000]), s.ask(1, request('/big')))
        .s(s.answer(1, response(200), END_HEADERS), data(1, 'x'.repeat(19_000), END_STREAM)),
    expected: ['GET /big -> 200 0/19000'],
  },
];

function run(steps: Iterable<Step>): Bench {
  return new Bench(http2.create).run(steps);
}

function check(c: Case, bench: Bench, what: string): void {
  assert.deepEqual(facts(bench), c.expected, what);
  assert.equal(bench.counters.parseErrors.http2 ?? 0, c.parseErrors ?? 0, what);
  assert.equal(bench.counters.exchanges.http, c.expected.length, what);
}

describe('http2', () => {
  for (const c of CASES) {
    test(c.name, () => {
      const script = c.script(new Script());
      const { steps } = script;
      check(c, run(steps), 'whole');
      const size = steps.reduce((sum, step) => sum + (step.kind === 'data' ? step.bytes.length : 0), 0);
      for (const cut of splits(steps, size > 4000 ? 97 : 1)) check(c, run(cut), 'split');
      if (c.ends) return;
      const bench = run(steps);
      bench.feed(FROM_CLIENT, script.ask(101, request('/next', ['user-agent', 'last'])), 1000);
      bench.feed(FROM_SERVER, script.answer(101, response(200), END_HEADERS), 1001);
      bench.feed(FROM_SERVER, data(101, 'next', END_STREAM), 1002);
      assert.deepEqual(facts(bench), [...c.expected, 'GET /next -> 200 0/4']);
      assert.deepEqual(bench.exchanges.at(-1)?.requestHeaders.get('user-agent'), ['last']);
      bench.close('fin', 2000);
      assert.equal(facts(bench).length, c.expected.length + 1);
    });
  }
});

test('fields, times and offset of an exchange', () => {
  const s = new Script();
  s.c(s.ask(1, request('/a?b=1', ['user-agent', 'me', 'never'], ['x-forwarded-for', '1'], ['x-forwarded-for', '2'])));
  s.s(s.answer(1, response(200, ['content-type', 'text/plain'], ['x-other', '?']), END_HEADERS));
  s.s(data(1, 'x'));
  s.s(
    s.answer(1, [
      ['grpc-status', '0'],
      ['grpc-message', 'secret'],
    ]),
  );
  const [e] = s.run().exchanges;
  assert.ok(e);
  assert.deepEqual([e.version, e.method, e.scheme, e.target, e.statusCode], ['2', 'GET', 'https', '/a?b=1', 200]);
  assert.deepEqual(
    [...e.requestHeaders],
    [
      ['host', ['a.example']],
      ['user-agent', ['me']],
      ['x-forwarded-for', ['1', '2']],
    ],
  );
  assert.deepEqual([...e.responseHeaders], [['content-type', ['text/plain']]]);
  assert.deepEqual([...e.responseTrailers], [['grpc-status', ['0']]]);
  assert.deepEqual([e.startUs, e.requestEndUs, e.responseStartUs, e.endUs], [4, 4, 5, 7]);
  assert.equal(e.streamOffset, 24 + 9 + 9);
});

test('the authority stands for Host; without one Host does', () => {
  const s = new Script();
  s.c(s.ask(1, [...request('/a'), ['host', 'other']]));
  s.c(
    s.ask(3, [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      ['host', 'only'],
    ]),
  );
  s.s(s.answer(1, response(200)), s.answer(3, response(200)));
  assert.deepEqual(
    s.run().exchanges.map((e) => e.requestHeaders.get('host')),
    [['a.example'], ['only']],
  );
});

test('extended CONNECT: WebSocket over HTTP/2', () => {
  const s = new Script();
  s.c(s.ask(1, [[':method', 'CONNECT'], [':protocol', 'websocket'], ...request('/chat').slice(1)], END_HEADERS));
  s.s(s.answer(1, response(200), END_HEADERS), data(1, 'frames'));
  const bench = s.run();
  assert.deepEqual(facts(bench), ['CONNECT /chat -> 200 0/0']);
  assert.deepEqual(bench.exchanges[0]?.requestHeaders.get(':protocol'), ['websocket']);
});

test('a promised request has an id of its own', () => {
  const s = new Script();
  s.c(s.ask(1, request('/page')));
  s.s(frame(5, END_HEADERS, 1, Buffer.concat([uint32(2), s.server.encode(request('/css'))])));
  s.s(s.answer(2, response(200)), s.answer(1, response(200)));
  const offsets = s.run().exchanges.map((e) => e.streamOffset);
  assert.deepEqual(offsets, [2 ** 52 + 18, 42]);
});

test('a stream may stay open for hours; what its connection ends with ends it', () => {
  for (const [reason, incomplete] of [
    ['fin', 'connection_closed'],
    ['reset', 'connection_reset'],
    ['idle', 'timeout'],
    ['shutdown', 'shutdown'],
  ] as const) {
    const s = new Script();
    s.c(s.ask(1, request('/watch')), s.ask(3, request('/new'), END_HEADERS));
    s.s(s.answer(1, response(200), END_HEADERS), data(1, 'event'));
    const bench = s.run();
    for (let hour = 1; hour <= 48; hour++) bench.layer.tick?.(hour * 3_600_000_000);
    assert.equal(bench.exchanges.length, 0);
    bench.layer.end(FROM_SERVER, reason, 2e11);
    assert.deepEqual(facts(bench), [`GET /watch -> 200 0/5 ${incomplete}`, `GET /new -> 0 0/0 ${incomplete}`]);
    bench.close(reason, 3e11);
    assert.equal(bench.exchanges.length, 2);
    assert.equal(bench.exchanges[0]?.endUs, 2e11);
  }
});

test('a response that comes before its request waits for it', () => {
  const s = new Script();
  const early = s.ask(1, request('/1'));
  const late = s.ask(5, request('/5'));
  s.ask(7, request('/7'));
  s.s(s.answer(1, response(200)), s.answer(3, response(200)), s.answer(5, response(204), END_HEADERS));
  s.s(data(5, 'x'));
  s.c(early);
  s.c(late);
  s.s(data(5, 'y', END_STREAM));
  const bench = s.run();
  bench.close('fin', 1e6);
  assert.deepEqual(facts(bench), ['GET /1 -> 200 0/0', 'GET /5 -> 204 0/2']);
  assert.deepEqual(bench.counters.incomplete, { request_not_seen: 1 });
});

describe('http2 that is none', () => {
  const broken: Record<string, (s: Script) => Buffer> = {
    'no preface': () => Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    'DATA on no stream': () => data(0, 'x'),
    'HEADERS on no stream': (s) => s.ask(0, request('/x')),
    'PING of a wrong length': () => frame(6, 0, 0, 'x'),
    'PING on a stream': () => frame(6, 0, 1, '12345678'),
    'RST_STREAM of a wrong length': () => frame(3, 0, 1, 'x'),
    'SETTINGS of a wrong length': () => frame(4, 0, 0, 'x'),
    'GOAWAY of a wrong length': () => frame(7, 0, 0, 'x'),
    'WINDOW_UPDATE of a wrong length': () => frame(8, 0, 0, 'x'),
    'CONTINUATION of nothing': () => continuation(1, Buffer.from('x')),
    'something between HEADERS and CONTINUATION': (s) =>
      Buffer.concat([s.ask(1, request('/x'), 0), ping, continuation(1, Buffer.alloc(0), END_HEADERS)]),
    'CONTINUATION of another stream': (s) =>
      Buffer.concat([s.ask(1, request('/x'), 0), continuation(3, Buffer.alloc(0), END_HEADERS)]),
    'a frame that is larger than was agreed on': () => data(1, 'x'.repeat(16_385)),
    'more padding than payload in DATA': () => data(1, Buffer.from([9, 1, 2]), PADDED),
    'more padding than payload in HEADERS': () => headers(1, Buffer.from([9, 1, 2]), PADDED | END_HEADERS),
    'HEADERS without its priority': () => headers(1, Buffer.from([9]), PRIORITY_FLAG | END_HEADERS),
    'an index that no table has': () => headers(1, Buffer.from([0x82, 0xff, 0x80]), GET),
    'index 0': () => headers(1, Buffer.from([0x80]), GET),
    'a string that is not there': () => headers(1, Buffer.from([0x44, 0x09, 0x2f]), GET),
    'a Huffman code that is none': () => headers(1, Buffer.from([0x44, 0x84, 0xff, 0xff, 0xff, 0xff]), GET),
    'a request without anything of one': (s) => s.ask(1, [['user-agent', 'x']]),
  };
  for (const [name, make] of Object.entries(broken)) {
    test(`${name}: counted, and what follows is read again`, () => {
      const s = new Script(name !== 'no preface');
      const bytes = make(s);
      s.c(bytes);
      const bench = s.run();
      assert.equal(bench.counters.parseErrors.http2, 1, JSON.stringify(bench.counters.parseErrors));
      if (name === 'no preface') return;
      const t = new Script(false);
      bench.feed(FROM_CLIENT, Buffer.concat([ping, t.ask(21, request('/on'))]), 100);
      bench.feed(FROM_SERVER, t.answer(21, response(200)), 101);
      assert.ok(facts(bench).includes('GET /on -> 200 0/0'), facts(bench).join());
      bench.close('fin', 200);
    });
  }

  test('what it took of streams that are open is told by it, and not as a hole', () => {
    const s = new Script();
    s.c(s.ask(1, request('/a')));
    s.s(frame(0, 0, 0, 'DATA on stream 0')).s(ping);
    const bench = s.run();
    bench.close('fin', 100);
    assert.deepEqual(bench.counters.incomplete, { protocol_error: 1 });
    const t = new Script();
    t.c(t.ask(1, request('/a')))
      .gap(FROM_SERVER, 30)
      .s(ping);
    const other = t.run();
    other.close('fin', 100);
    assert.deepEqual(other.counters.incomplete, { gap: 1 });
  });

  test('too often: the connection is given up', () => {
    const s = new Script();
    s.c(s.ask(1, request('/x')));
    for (let i = 0; i < 30; i++) s.c(ping, settings()).c(data(0, 'x'));
    const bench = s.run();
    assert.equal(bench.muted, 1);
    assert.equal(bench.counters.parseErrors.http2, 17);
    assert.match(facts(bench)[0] ?? '', /^GET \/x -> 0 0\/0 (gap|protocol_error)$/);
    bench.close('fin', 1000);
    assert.equal(bench.exchanges.length, 1);
  });
});
