import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../src/flow/connection.ts';
import { createDetectLayer } from '../../src/protocol/detect.ts';
import { createHttp1Protocol } from '../../src/protocol/http1/protocol.ts';
import type { Http2Layer } from '../../src/protocol/http2/layer.ts';
import { Bench, keepHeaders, type Step } from '../support/protocols/cases.ts';
import {
  continuation,
  data,
  END_HEADERS,
  END_STREAM,
  Encoder,
  type FieldLine,
  frame,
  goAway,
  headers,
  http2,
  PADDED,
  PREFACE,
  padded,
  ping,
  request,
  response,
  rst,
  settings,
  uint32,
  windowUpdate,
} from '../support/protocols/http2.ts';

const LIMITS = {
  httpHeaderBytes: 2048,
  http2Streams: 20,
  http2TableBytes: 1024,
  http2HeaderFields: 16,
  http2LostStreamUs: 1000,
  detectionBytes: 256,
};

const writer = new Encoder();
const TOKENS: readonly Buffer[] = [
  PREFACE,
  settings(),
  settings([1, 0], [5, 20_000]),
  ping,
  goAway(3, 0),
  goAway(1, 2),
  windowUpdate(0),
  rst(1, 8),
  rst(3, 0),
  data(1, 'abc'),
  data(1, '', END_STREAM),
  data(3, 'xyz', END_STREAM),
  data(1, padded('p', 3), PADDED),
  ...[1, 3, 5, 7].flatMap((id) => [
    headers(id, writer.encode(request(`/${id}`, ['user-agent', `u${id}`])), END_HEADERS | (id & 2 ? END_STREAM : 0)),
    headers(id, writer.encode(response(id === 5 ? 103 : 200, ['content-type', 't'])), END_HEADERS),
    headers(id, writer.encode([['grpc-status', '0']]), END_HEADERS | END_STREAM),
  ]),
  headers(9, writer.encode(request('/cut')).subarray(0, 5), END_STREAM),
  continuation(9, Buffer.from([0x82, 0x84]), END_HEADERS),
  continuation(9, Buffer.alloc(0)),
  frame(5, END_HEADERS, 1, Buffer.concat([uint32(2), writer.encode(request('/pushed'))])),
  headers(2, writer.encode(response(200)), END_HEADERS | END_STREAM),
  headers(11, Buffer.alloc(3000, 0x82), END_HEADERS),
  frame(0xee, 0xff, 5, 'unknown'),
  Buffer.from([0x3f, 0xff, 0xff, 0xff]),
  Buffer.from([0, 0x40, 0]),
  Buffer.alloc(20),
];

const wire = fc.oneof(
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  fc.array(fc.constantFrom(...TOKENS), { maxLength: 8 }).map((tokens) => Buffer.concat(tokens)),
  fc
    .tuple(fc.array(fc.constantFrom(...TOKENS), { minLength: 1, maxLength: 4 }), fc.nat(), fc.nat(255))
    .map(([tokens, at, value]) => {
      const bytes = Buffer.concat(tokens);
      bytes[at % bytes.length] = value;
      return bytes;
    }),
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
      length: fc.integer({ min: 1, max: 100 }),
      timeUs: fc.nat(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('tick' as const), timeUs: fc.nat() }) },
);

function check(bench: Bench, steps: readonly Step[], bytesHeld: () => number): void {
  for (const one of steps) {
    bench.run([one]);
    // Per direction a frame, a block, and the table; before that, what the protocol is found by.
    const most = Math.max(2 * LIMITS.httpHeaderBytes + LIMITS.http2TableBytes, LIMITS.detectionBytes);
    assert.ok(bytesHeld() <= 2 * most + 1024);
  }
  bench.layer.end(FROM_SERVER, 'fin', 1e10);
  bench.close('fin', 1e10);
  const { exchanges } = bench.counters;
  assert.equal(exchanges.http ?? 0, bench.exchanges.length);
  const seen = new Set<number>();
  for (const e of bench.exchanges) {
    assert.ok(!seen.has(e.streamOffset));
    seen.add(e.streamOffset);
    assert.ok(e.statusCode === 0 || (e.statusCode >= 100 && e.statusCode <= 999));
    assert.ok((e.statusCode !== 0 && e.method !== '' && e.target !== '') || e.incomplete !== undefined);
  }
}

test('garbage never throws, holds no more than its limits, and each request makes one exchange at most', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), fc.boolean(), (steps, startSeen, begun) => {
      const bench = new Bench(http2.create, { startSeen, limits: LIMITS });
      const layer = bench.layer as Http2Layer;
      if (begun) bench.feed(FROM_CLIENT, Buffer.concat([PREFACE, settings()]), 0);
      check(bench, steps, () => {
        assert.ok(layer.heldExchanges <= LIMITS.http2Streams);
        return layer.heldBytes;
      });
      assert.equal(layer.heldExchanges, 0);
      assert.equal(bench.ticks, false);
    }),
    { numRuns: 3000 },
  );
});

test('garbage through the detector, beside HTTP/1', () => {
  const http = createHttp1Protocol({ keepHeaders, upgradeToHttp2: http2.createUpgraded });
  const upgrade: Step[] = [
    {
      kind: 'data',
      direction: FROM_CLIENT,
      bytes: Buffer.from('GET /u HTTP/1.1\r\nUpgrade: h2c\r\n\r\n'),
      timeUs: 1,
    },
    {
      kind: 'data',
      direction: FROM_SERVER,
      bytes: Buffer.from('HTTP/1.1 101 X\r\nUpgrade: h2c\r\n\r\n'),
      timeUs: 2,
    },
  ];
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), fc.boolean(), fc.boolean(), (steps, startSeen, upgraded) => {
      const bench = new Bench((context) => createDetectLayer(context, [http, http2]), { startSeen, limits: LIMITS });
      const layer = bench.layer as unknown as { heldBytes: number };
      check(bench, upgraded ? [...upgrade, ...steps] : steps, () => layer.heldBytes);
    }),
    { numRuns: 1500 },
  );
});

const exchange = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT'),
  agent: fc.constantFrom('a', 'b', 'c'.repeat(300)),
  how: fc.constantFrom<('index' | 'literal' | 'never')[]>('index', 'literal', 'never'),
  status: fc.constantFrom(200, 204, 404, 500, 503),
  requestBody: fc.nat({ max: 400 }),
  responseBody: fc.nat({ max: 400 }),
  chunk: fc.integer({ min: 1, max: 150 }),
  padding: fc.option(fc.nat({ max: 20 }), { nil: undefined }),
  interim: fc.boolean(),
  trailers: fc.boolean(),
  continued: fc.boolean(),
});
type Spec = typeof exchange extends fc.Arbitrary<infer T> ? T : never;

/** A header list in one frame, or in several. */
function block(id: number, bytes: Buffer, endStream: boolean, continued: boolean): Buffer[] {
  const flags = endStream ? END_STREAM : 0;
  if (!continued) return [headers(id, bytes, flags | END_HEADERS)];
  const half = Math.ceil(bytes.length / 2);
  const first = headers(id, bytes.subarray(0, half), flags);
  return [Buffer.concat([first, continuation(id, bytes.subarray(half), END_HEADERS)])];
}

/** One side of an exchange, its header lists as functions: an encoder has to see them in the order in which they are sent. */
function message(e: Encoder, id: number, spec: Spec, lists: FieldLine[][], content: string): (() => Buffer[])[] {
  const frames: (() => Buffer[])[] = [];
  const last = lists.length - 1;
  lists.forEach((list, i) => {
    const end = i === last && content === '' && !spec.trailers;
    frames.push(() => block(id, e.encode(list), end, spec.continued));
  });
  for (let at = 0; at < content.length; at += spec.chunk) {
    const part = content.slice(at, at + spec.chunk);
    const flags = at + spec.chunk >= content.length && !spec.trailers ? END_STREAM : 0;
    const { padding } = spec;
    frames.push(() =>
      padding === undefined ? [data(id, part, flags)] : [data(id, padded(part, padding), flags | PADDED), ping],
    );
  }
  if (spec.trailers) frames.push(() => block(id, e.encode([['x-sum', `${id}`]]), true, spec.continued));
  return frames;
}

/** Frames of many streams in one order that keeps that of each. */
function interleave(messages: (() => Buffer[])[][], order: readonly number[], begins: boolean): Buffer {
  const parts: Buffer[] = [];
  const left = messages.map((frames) => [...frames]);
  // Section 5.1.1: streams are opened in the order of their ids.
  if (begins) for (const frames of left) parts.push(...frames.shift()!());
  for (let n = 0; left.some((frames) => frames.length > 0); n++) {
    const open = left.filter((frames) => frames.length > 0);
    parts.push(...open[order[n % order.length]! % open.length]!.shift()!());
  }
  return Buffer.concat(parts);
}

interface Talk {
  readonly streams: readonly [Buffer, Buffer];
}

/** @param octet what bodies are made of */
function write(specs: readonly Spec[], order: readonly number[], octet: string): Talk {
  const client = new Encoder();
  const server = new Encoder();
  const asks = specs.map((spec, i) => {
    const list: FieldLine[] = [
      [':method', spec.method],
      ...request(`/${i}`).slice(1),
      ['user-agent', spec.agent, spec.how],
      ['x-other', spec.agent],
    ];
    return message(client, 2 * i + 1, spec, [list], octet.repeat(spec.requestBody));
  });
  const answers = specs.map((spec, i) => {
    const final = response(spec.status, ['content-type', spec.agent, spec.how], ['date', `${i}`]);
    return message(
      server,
      2 * i + 1,
      spec,
      spec.interim ? [response(103), final] : [final],
      octet.repeat(spec.responseBody),
    );
  });
  return {
    streams: [
      Buffer.concat([PREFACE, settings(), interleave(asks, order, true)]),
      Buffer.concat([settings(), interleave(answers, order, false)]),
    ],
  };
}

const conversation = fc.tuple(
  fc.array(exchange, { minLength: 1, maxLength: 8 }),
  fc.array(fc.nat(50), { minLength: 1, maxLength: 20 }),
  fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 }),
);

/** In turns, in pieces of these sizes. */
function* pieces(talk: Talk, sizes: readonly number[]): Generator<{ direction: Direction; from: number; to: number }> {
  const at: [number, number] = [0, 0];
  for (let n = 0; at[0] < talk.streams[0].length || at[1] < talk.streams[1].length; n++) {
    const side: Direction = n % 2 === 0 ? FROM_CLIENT : FROM_SERVER;
    const from = at[side];
    const to = Math.min(from + sizes[n % sizes.length]!, talk.streams[side].length);
    at[side] = to;
    if (to > from) yield { direction: side, from, to };
  }
}

test('a conversation in any segments is read as it was written', () => {
  fc.assert(
    fc.property(conversation, ([specs, order, sizes]) => {
      const talk = write(specs, order, '\0');
      const bench = new Bench(http2.create);
      let timeUs = 1;
      for (const { direction: side, from, to } of pieces(talk, sizes)) {
        bench.feed(side, talk.streams[side].subarray(from, to), timeUs++);
      }
      const read = [...bench.exchanges]
        .sort((a, b) => a.streamOffset - b.streamOffset)
        .map((e) => [
          ...[e.method, e.target, e.statusCode, e.requestBodyBytes, e.responseBodyBytes, e.incomplete],
          ...[e.requestHeaders.get('user-agent')?.[0], e.responseHeaders.get('content-type')?.[0]],
        ]);
      const written = specs.map((spec, i) => [
        ...[spec.method, `/${i}`, spec.status, spec.requestBody, spec.responseBody, undefined],
        ...[spec.agent, spec.agent],
      ]);
      assert.deepEqual(read, written);
      assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
    }),
    { numRuns: 1000 },
  );
});

test('with holes, or joined, nothing is told that was not so', () => {
  let whole = 0;
  const holes = fc.array(fc.tuple(fc.nat(40), fc.nat(200)), { maxLength: 4 });
  fc.assert(
    fc.property(conversation, holes, fc.boolean(), fc.boolean(), ([specs, order, sizes], lost, joined, inTurns) => {
      // Zeroes in tiny frames look like other frames, of which some are found out only after they were taken for one.
      const talk = write(specs, order, 'x');
      const bench = new Bench(http2.create, { startSeen: !joined });
      let timeUs = 1;
      let n = 0;
      const turns = [...pieces(talk, sizes)];
      // Nobody answers what was not asked yet: a response that is lost ahead of its request looks like one that never came.
      if (joined || !inTurns) turns.sort((a, b) => a.direction - b.direction);
      for (const { direction: side, from, to } of turns) {
        const hole = lost.find(([at]) => at === n);
        n++;
        const cut = hole === undefined ? to : Math.min(to, from + hole[1]);
        if (joined && n < 5) {
          bench.layer.gap(side, to - from, timeUs++);
          continue;
        }
        if (cut > from) bench.feed(side, talk.streams[side].subarray(from, cut), timeUs++);
        if (to > cut) bench.layer.gap(side, to - cut, timeUs++);
      }
      bench.close('fin', 1e6);
      assert.deepEqual(bench.counters.parseErrors, {});
      const seen = new Set<number>();
      for (const e of bench.exchanges) {
        assert.ok(!seen.has(e.streamOffset));
        seen.add(e.streamOffset);
        const spec = specs[Number(e.target.slice(1))];
        if (e.incomplete === undefined) {
          assert.ok(spec !== undefined && e.target !== '');
          assert.deepEqual(
            [e.method, e.statusCode, e.requestBodyBytes, e.responseBodyBytes],
            [spec.method, spec.status, spec.requestBody, spec.responseBody],
          );
          whole++;
        } else if (e.incomplete !== 'connection_closed' || joined || !inTurns) assert.equal(e.incomplete, 'gap');
        if (e.target === '' || spec === undefined) continue;
        assert.ok(e.method === '' || e.method === spec.method);
        assert.ok(e.statusCode === 0 || e.statusCode === spec.status);
        assert.ok(e.requestBodyBytes <= spec.requestBody && e.responseBodyBytes <= spec.responseBody);
        assert.deepEqual(e.requestHeaders.get('user-agent') ?? [spec.agent], [spec.agent]);
        assert.deepEqual(e.responseHeaders.get('content-type') ?? [spec.agent], [spec.agent]);
      }
    }),
    { numRuns: 2000 },
  );
  assert.ok(whole > 500, `${whole} whole`);
});
