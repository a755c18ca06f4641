import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { createGrpcProtocol } from '../../../src/protocol/grpc/protocol.ts';
import { parseStatus, statusName, statusOfHttp, statusOfReset } from '../../../src/protocol/grpc/status.ts';
import { deadlineExceeded, parseTimeout } from '../../../src/protocol/grpc/timeout.ts';
import { createHttp2Protocol } from '../../../src/protocol/http2/protocol.ts';
import { Bench, keepHeaders, type Step, splits } from '../../support/protocols/cases.ts';
import { typed } from '../../support/protocols/exchanges.ts';
import { callFacts, callFields, GrpcScript, grpc, message } from '../../support/protocols/grpc.ts';
import {
  CANCEL,
  data,
  END_HEADERS,
  END_STREAM,
  facts,
  goAway,
  PADDED,
  padded,
  REFUSED,
  request,
  response,
  rst,
} from '../../support/protocols/http2.ts';

const END = END_HEADERS | END_STREAM;

interface Case {
  readonly name: string;
  readonly script: (s: GrpcScript) => GrpcScript;
  readonly expected: readonly string[];
  /** Exchanges that are no calls. */
  readonly http?: readonly string[];
  readonly parseErrors?: Record<string, number>;
  /** Nothing can follow on this connection. */
  readonly ends?: boolean;
}

const WEB = 'application/grpc-web+proto';
const TEXT = 'application/grpc-web-text';

/** A response of gRPC-Web: its header list, and a body in these pieces. */
function web(s: GrpcScript, type: string, ...pieces: (string | Buffer)[]): GrpcScript {
  return s
    .c(s.ask(1, callFields('/p.S/Web', type), END_HEADERS), data(1, message('abc'), END_STREAM))
    .s(s.open(1, type), ...pieces.map((piece) => data(1, piece)), data(1, '', END_STREAM));
}

const base64 = (bytes: Buffer): string => bytes.toString('base64');

const CASES: readonly Case[] = [
  {
    name: 'a unary call',
    script: (s) =>
      s
        .c(s.call(1, '/shop.Orders/Get'), data(1, message('abc'), END_STREAM))
        .s(s.open(1), data(1, message('defgh')), s.trailers(1, 0)),
    expected: ['/shop.Orders/Get OK 1/1 3/5'],
  },
  {
    name: 'streaming in both directions; messages across frames, several in one, empty and compressed ones',
    script: (s) => {
      const asks = Buffer.concat([message('one'), message(''), message('z'.repeat(40), 1), message('four')]);
      const answers = Buffer.concat([message('a'.repeat(300)), message('', 1), message('b')]);
      return s
        .c(s.call(1, '/p.S/Chat'), data(1, asks.subarray(0, 7)), data(1, asks.subarray(7, 12)))
        .s(s.open(1), data(1, answers.subarray(0, 3)))
        .c(data(1, padded(asks.subarray(12).toString('latin1'), 9), PADDED))
        .s(data(1, answers.subarray(3, 4)), data(1, ''), data(1, answers.subarray(4)), s.trailers(1, 0))
        .c(data(1, '', END_STREAM));
    },
    expected: ['/p.S/Chat OK 4/3 47/301 compressed=1/1'],
  },
  {
    name: 'trailers-only: the status in the only header list',
    script: (s) => {
      const fields = response(200, ['content-type', 'application/grpc'], ['grpc-status', '12']);
      return s.c(s.call(1, '/p.S/None'), data(1, message('x'), END_STREAM)).s(s.answer(1, fields, END));
    },
    expected: ['/p.S/None UNIMPLEMENTED 1/0 1/0'],
  },
  {
    name: 'an error in the trailers; neither its message nor its details are kept',
    script: (s) =>
      s
        .c(s.call(1, '/p.S/Fail', ['grpc-timeout', '1500m']), data(1, message('x'), END_STREAM))
        .s(s.open(1), s.trailers(1, 5, ['grpc-message', 'secret'], ['grpc-status-details-bin', 'c2VjcmV0'])),
    expected: ['/p.S/Fail NOT_FOUND 1/0 1/0 timeout=1500000'],
  },
  {
    name: 'a status that no code has',
    script: (s) =>
      s
        .c(s.call(1, '/p.S/A'), s.call(3, '/p.S/B'), data(1, '', END_STREAM), data(3, '', END_STREAM))
        .s(s.open(1), s.trailers(1, 99), s.open(3), s.trailers(3, 'ok')),
    expected: ['/p.S/A UNKNOWN 0/0 0/0', '/p.S/B UNKNOWN 0/0 0/0'],
  },
  {
    name: 'servers that are none of gRPC: by the HTTP status; their bodies are no messages',
    script: (s) =>
      s
        .c(s.call(1, '/p.S/A'), data(1, message('x'), END_STREAM))
        .s(s.open(1, 'text/html', 502), data(1, '<html>', END_STREAM))
        .c(s.call(3, '/p.S/B'), data(3, message('x'), END_STREAM))
        .s(s.answer(3, response(404), END))
        .c(s.call(5, '/p.S/C'), data(5, message('x'), END_STREAM))
        .s(s.open(5, 'text/html'), data(5, 'ok', END_STREAM))
        .c(s.call(7, '/p.S/D'), data(7, message('x'), END_STREAM))
        .s(s.open(7), data(7, message('yy'), END_STREAM)),
    expected: [
      '/p.S/A UNAVAILABLE 1/0 1/0',
      '/p.S/B UNIMPLEMENTED 1/0 1/0',
      '/p.S/C UNKNOWN 1/0 1/0',
      '/p.S/D UNKNOWN 1/1 1/2',
    ],
  },
  {
    name: 'resets of either end, and GOAWAY',
    script: (s) =>
      s
        .c(s.call(1, '/p.S/Cancel'), s.call(3, '/p.S/Refused'), s.call(5, '/p.S/Broken'), s.call(7, '/p.S/Away'))
        .c(data(1, message('x')), rst(1, CANCEL))
        .s(rst(3, REFUSED), s.open(5), data(5, message('x')), data(5, message('yz').subarray(0, 6)), rst(5, 2))
        .s(goAway(5, 0)),
    expected: [
      '/p.S/Cancel CANCELLED 1/0 1/0 stream_reset',
      '/p.S/Refused UNAVAILABLE 0/0 0/0 stream_reset',
      '/p.S/Broken INTERNAL 0/1 0/1 stream_reset',
      '/p.S/Away UNAVAILABLE 0/0 0/0 stream_reset',
    ],
    ends: true,
  },
  {
    name: 'a server that has said how it went asks for no more',
    script: (s) => s.c(s.call(1, '/p.S/Upload'), data(1, message('x'))).s(s.open(1), s.trailers(1, 8), rst(1, 0)),
    expected: ['/p.S/Upload RESOURCE_EXHAUSTED 1/0 1/0'],
  },
  {
    name: 'content types',
    script: (s) => {
      const types = ['application/grpc+proto', 'Application/GRPC;charset=x', 'application/grpcx', 'application/json'];
      types.forEach((type, i) => {
        s.c(s.ask(2 * i + 1, callFields(`/p.S/${i}`, type), END));
      });
      s.c(s.ask(9, request('/get', ['content-type', 'application/grpc'])));
      for (const id of [1, 3, 5, 7, 9]) s.s(s.trailersOnly(id));
      return s;
    },
    expected: ['/p.S/0 OK 0/0 0/0', '/p.S/1 OK 0/0 0/0'],
    http: ['POST /p.S/2 -> 200 0/0', 'POST /p.S/3 -> 200 0/0', 'GET /get -> 200 0/0'],
  },
  {
    name: 'a body that holds no messages is counted once, and the call all the same',
    script: (s) =>
      s
        .c(s.call(1, '/p.S/A'), data(1, 'not a message'), data(1, '', END_STREAM))
        .s(s.open(1), data(1, message('x')), s.trailers(1, 0)),
    expected: ['/p.S/A OK -1/1 0/1'],
    parseErrors: { grpc: 1 },
  },
  {
    name: 'gRPC-Web: the status in the last frame of the body',
    script: (s) => web(s, WEB, message('reply'), message('x: y\r\ngrpc-message: secret\r\ngrpc-status: 7\r\n', 0x80)),
    expected: ['/p.S/Web PERMISSION_DENIED 1/1 3/5 web'],
  },
  {
    name: 'gRPC-Web: long lines before the status, and no end of the last line',
    script: (s) => web(s, WEB, message(`grpc-message:${'m'.repeat(500)}\r\nGRPC-Status:0`, 0x80)),
    expected: ['/p.S/Web OK 1/0 3/0 web'],
  },
  {
    name: 'gRPC-Web: compressed trailers, and a compressed body, are not read: no status is made up',
    script: (s) => {
      web(s, WEB, message('reply'), message('zzz', 0x81));
      s.c(s.ask(3, callFields('/p.S/Zip', WEB), END)).s(s.open(3, WEB), data(3, '\x1f\x8b\x08\0\0', END_STREAM));
      s.c(s.ask(5, callFields('/p.S/Proxy', WEB), END)).s(s.open(5, 'text/plain', 503), data(5, 'no', END_STREAM));
      return s;
    },
    expected: ['/p.S/Web - 1/1 3/5 web', '/p.S/Zip - 0/-1 0/0 web', '/p.S/Proxy UNAVAILABLE 0/0 0/0 web'],
  },
  {
    name: 'gRPC-Web in text: pieces that end in padding of their own, in any form',
    script: (s) => {
      const trailers = message('grpc-status:0\r\n', 0x80);
      const pieces = [message('a'), message('bc'), message('def'), trailers].map(base64);
      s.c(s.ask(1, callFields('/p.S/Text', TEXT), END_HEADERS), data(1, base64(message('ask')), END_STREAM));
      s.s(s.open(1, TEXT), data(1, pieces.join('')), data(1, '', END_STREAM));
      const whole = base64(Buffer.concat([message('a'), message('bc'), trailers]));
      s.c(s.ask(3, callFields('/p.S/Lines', TEXT), END));
      s.s(s.open(3, TEXT), data(3, whole.replaceAll(/.{7}/g, '$&\r\n')), data(3, '', END_STREAM));
      s.c(s.ask(5, callFields('/p.S/None', TEXT), END)).s(s.open(5, TEXT), data(5, 'A*BC', END_STREAM));
      return s;
    },
    expected: ['/p.S/Text OK 1/3 3/6 web', '/p.S/Lines OK 0/2 0/3 web', '/p.S/None - 0/-1 0/0 web'],
  },
];

function check(c: Case, bench: Bench, what: string): void {
  assert.deepEqual(callFacts(bench.calls), c.expected, what);
  assert.deepEqual(facts(bench), c.http ?? [], what);
  assert.deepEqual(bench.counters.parseErrors, c.parseErrors ?? {}, what);
  assert.equal(bench.counters.exchanges.grpc, c.expected.length, what);
}

const run = (steps: Iterable<Step>): Bench => new Bench(grpc.create).run(steps);

describe('grpc', () => {
  for (const c of CASES) {
    test(c.name, () => {
      const script = c.script(new GrpcScript());
      check(c, run(script.steps), 'whole');
      for (const cut of splits(script.steps, 1)) check(c, run(cut), 'split');
      if (c.ends) return;
      const bench = run(script.steps);
      bench.feed(
        FROM_CLIENT,
        Buffer.concat([script.call(101, '/p.S/Next'), data(101, message('n'), END_STREAM)]),
        1000,
      );
      bench.feed(FROM_SERVER, Buffer.concat([script.open(101), data(101, message('xt'))]), 1001);
      bench.feed(FROM_SERVER, script.trailers(101, 0), 1002);
      assert.equal(callFacts(bench.calls).at(-1), '/p.S/Next OK 1/1 1/2');
      bench.close('fin', 2000);
      assert.equal(bench.calls.length, c.expected.length + 1);
      assert.doesNotMatch(JSON.stringify(bench.calls.map((call) => [...call.http.responseTrailers])), /secret|c2Vj/);
    });
  }
});

test('times: those of the request, and of the first message', () => {
  const s = new GrpcScript();
  s.c(s.call(1, '/p.S/M'))
    .c(data(1, message('x'), END_STREAM))
    .s(s.open(1))
    .s(data(1, message('y')));
  s.s(data(1, message('z'))).s(s.trailers(1, 0));
  const [call] = s.run().calls;
  assert.ok(call);
  const { startUs, requestEndUs, responseStartUs, endUs } = call.http;
  assert.deepEqual([startUs, requestEndUs, responseStartUs, call.firstMessageUs, endUs], [4, 5, 6, 7, 9]);
});

test('a reset by either end at the deadline says DEADLINE_EXCEEDED, before it CANCELLED', () => {
  for (const [from, afterUs, timeout, expected] of [
    [FROM_CLIENT, 100_100, '100m', 'DEADLINE_EXCEEDED'],
    [FROM_SERVER, 100_100, '100m', 'DEADLINE_EXCEEDED'],
    // Rounded up as it was written.
    [FROM_CLIENT, 99_000, '100m', 'DEADLINE_EXCEEDED'],
    [FROM_CLIENT, 80_000, '100m', 'CANCELLED'],
    [FROM_SERVER, 80_000, '100m', 'CANCELLED'],
    [FROM_CLIENT, 1e9, undefined, 'CANCELLED'],
  ] as const) {
    const s = new GrpcScript();
    s.c(s.call(1, '/p.S/Slow', ...(timeout === undefined ? [] : [['grpc-timeout', timeout] as const])));
    const bench = s.run();
    bench.feed(from, rst(1, CANCEL), 4 + afterUs);
    assert.equal(statusName(bench.calls[0]?.statusCode ?? -1), expected, `${from} ${afterUs}`);
  }
});

test('what the connection ends has no status', () => {
  for (const reason of ['fin', 'reset', 'shutdown'] as const) {
    const s = new GrpcScript();
    s.c(s.call(1, '/p.S/M'), data(1, message('x'))).s(s.open(1), data(1, message('y')));
    const bench = s.run();
    bench.close(reason, 1000);
    assert.match(
      callFacts(bench.calls)[0] ?? '',
      /^\/p\.S\/M - 1\/1 1\/1 (connection_closed|connection_reset|shutdown)$/,
    );
  }
});

test('holes: within a message of known length only its bytes are missed; others leave the numbers unknown', () => {
  const within = new GrpcScript();
  within.c(within.call(1, '/p.S/M'), data(1, message('x'), END_STREAM));
  const body = data(1, Buffer.concat([message('a'.repeat(100)), message('b')]));
  within.s(within.open(1), body.subarray(0, 30)).gap(FROM_SERVER, 50).s(body.subarray(80), within.trailers(1, 0));
  assert.deepEqual(callFacts(within.run().calls), ['/p.S/M OK 1/2 1/101']);
  const across = new GrpcScript();
  across.c(across.call(1, '/p.S/M'), data(1, message('x'), END_STREAM));
  across.s(across.open(1), body.subarray(0, 30)).gap(FROM_SERVER, 87).s(body.subarray(117), across.trailers(1, 0));
  assert.deepEqual(callFacts(across.run().calls), ['/p.S/M OK 1/-1 1/0']);
});

test('joined: known by the type of the response; what may be stale is not said', () => {
  const s = new GrpcScript();
  const indexed = () =>
    Buffer.concat([s.call(1, '/p.S/M', ['grpc-timeout', '1S']), data(1, message('xy'), END_STREAM)]);
  indexed();
  s.open(1);
  s.trailers(1, 0);
  const again = new GrpcScript(false);
  // The same fields once more: from the table, which an observer that comes now does not have.
  Object.assign(again, { client: s.client, server: s.server });
  again.c(data(1, message('old')), s.call(3, '/p.S/M'), data(3, message('xy'), END_STREAM));
  again.s(data(1, 'old'), s.answer(3, response(200, ['content-type', 'application/grpc', 'literal']), END_HEADERS));
  again.s(data(3, message('r')), s.trailers(3, 0));
  const bench = again.run({ startSeen: false });
  bench.close('fin', 1000);
  const calls = callFacts(bench.calls);
  assert.equal(calls.length, 1, `${calls} ${facts(bench)}`);
  assert.equal(calls[0], '/p.S/M - -1/1 0/1');
});

test('a response that comes first', () => {
  const s = new GrpcScript();
  const late = [s.call(1, '/p.S/M'), data(1, message('x'), END_STREAM)];
  s.s(s.open(1), data(1, message('yy')), s.trailers(1, 3)).c(...late);
  assert.deepEqual(callFacts(s.run().calls), ['/p.S/M INVALID_ARGUMENT 1/1 1/2']);
  const t = new GrpcScript();
  const later = [t.call(1, '/p.S/M'), data(1, message('x'), END_STREAM)];
  t.s(t.open(1, 'text/html', 503), data(1, 'no', END_STREAM)).c(...later);
  assert.match(callFacts(t.run().calls)[0] ?? '', /^\/p\.S\/M UNAVAILABLE 1\//);
});

test('timeouts', () => {
  const parsed: [string, number][] = [
    ['2H', 7.2e9],
    ['3M', 1.8e8],
    ['1S', 1e6],
    ['99999999m', 99_999_999_000],
    ['10u', 10],
    ['500n', 0.5],
    ['', 0],
    ['1', 0],
    ['123456789m', 0],
    ['-1S', 0],
    ['1s', 0],
  ];
  for (const [text, us] of parsed) assert.equal(parseTimeout(text), us, text);
  assert.equal(deadlineExceeded(1e9, 0), false);
  // In milliseconds: the timeout, and when a cancellation counts as the deadline's.
  for (const [timeout, from] of [
    [10, 7.8],
    [100, 87],
    [1000, 929],
    [60_000, 58_749],
  ] as const) {
    assert.equal(deadlineExceeded(from * 1000 + 1, timeout * 1000), true, `${timeout}`);
    assert.equal(deadlineExceeded(from * 1000 - 1, timeout * 1000), false, `${timeout}`);
  }
});

test('statuses', () => {
  assert.deepEqual(
    ['0', '16', '17', '', '-1', '1x'].map((text) => statusName(parseStatus(text))),
    ['OK', 'UNAUTHENTICATED', 'UNKNOWN', 'UNKNOWN', 'UNKNOWN', 'UNKNOWN'],
  );
  // doc/http-grpc-status-mapping.md, in its order.
  assert.deepEqual(
    [400, 401, 403, 404, 429, 431, 502, 503, 504, 200, 500].map((status) => statusName(statusOfHttp(status))),
    [
      ...['INTERNAL', 'UNAUTHENTICATED', 'PERMISSION_DENIED', 'UNIMPLEMENTED', 'UNAVAILABLE', 'INTERNAL'],
      ...['UNAVAILABLE', 'UNAVAILABLE', 'UNAVAILABLE', 'UNKNOWN', 'UNKNOWN'],
    ],
  );
  assert.equal(statusName(statusOfReset('ENHANCE_YOUR_CALM')), 'RESOURCE_EXHAUSTED');
  assert.equal(statusName(statusOfReset('STREAM_CLOSED')), undefined);
});

describe('calls that last', () => {
  const timed = createHttp2Protocol({ keepHeaders, streams: [createGrpcProtocol({ interimSpanS: 60 })] });
  const script = (): GrpcScript => {
    const s = new GrpcScript();
    return s.c(s.call(1, '/p.S/Watch'), data(1, message('x'), END_STREAM)).s(s.open(1), data(1, message('y')));
  };

  test('are said once, and counted at their end', () => {
    const s = script();
    const said: number[] = [];
    const bench = new Bench((context) =>
      timed.create({
        ...context,
        emit: (emitted) => {
          const exchange = typed(emitted);
          assert.ok(exchange.protocol === 'grpc');
          said.push(exchange.interimUs, exchange.responseMessages, exchange.statusCode);
        },
      }),
    ).run(s.steps);
    assert.equal(bench.ticks, true);
    for (let second = 1; second <= 200; second++) bench.layer.tick?.(second * 1e6);
    assert.deepEqual(said, [61e6, 1, -1]);
    bench.feed(FROM_SERVER, Buffer.concat([data(1, message('z')), s.trailers(1, 0)]), 300e6);
    assert.deepEqual(said, [61e6, 1, -1, 0, 2, 0]);
    assert.deepEqual(bench.counters.exchanges, { grpc: 1 });
    assert.equal(bench.ticks, false);
  });

  test('ticks end with the last of them, however it ends', () => {
    for (const end of [rst(1, CANCEL), goAway(0, 0)]) {
      const bench = new Bench(timed.create).run(script().steps);
      bench.feed(FROM_SERVER, end, 100);
      assert.deepEqual([bench.ticks, bench.calls.length], [false, 1]);
    }
    const closed = new Bench(timed.create).run(script().steps);
    closed.close('fin', 100);
    assert.equal(closed.ticks, false);
    // By default nobody asks for the time.
    assert.equal(new Bench(grpc.create).run(script().steps).ticks, false);
  });
});
