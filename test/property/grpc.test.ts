import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FROM_CLIENT, FROM_SERVER } from '../../src/flow/connection.ts';
import { MessageReader } from '../../src/protocol/grpc/messages.ts';
import { STATUS_NAMES } from '../../src/protocol/grpc/status.ts';
import { Base64Reader, WebTrailers } from '../../src/protocol/grpc/web.ts';
import { Bench, type Step } from '../support/protocols/cases.ts';
import { callFields, GrpcScript, grpc, message } from '../support/protocols/grpc.ts';
import { data, END_HEADERS, END_STREAM, frame, headers, PREFACE, response, rst } from '../support/protocols/http2.ts';

const TYPES = ['application/grpc', 'application/grpc-web', 'application/grpc-web-text', 'text/html'];
const LIMITS = { httpHeaderBytes: 2048, http2Streams: 20, http2TableBytes: 1024 };

const body = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc
    .tuple(fc.string({ maxLength: 20 }), fc.constantFrom(0, 1, 2, 0x80, 0x81))
    .map(([text, flags]) => message(text, flags)),
  fc.constantFrom(Buffer.from('grpc-status: 3\r\n'), message('grpc-status: 3\r\n', 0x80), Buffer.alloc(5, 0xff)),
);
const id = fc.constantFrom(1, 3, 5);

/** Frames in any order; the encoders follow it. */
const token = fc.oneof(
  fc.record({ kind: fc.constant('call' as const), id, type: fc.constantFrom(...TYPES), end: fc.boolean() }),
  fc.record({ kind: fc.constant('open' as const), id, type: fc.constantFrom(...TYPES) }),
  fc.record({ kind: fc.constant('trailers' as const), id, status: fc.constantFrom('0', '4', '99', 'x') }),
  fc.record({ kind: fc.constant('data' as const), id, body, server: fc.boolean(), end: fc.boolean() }),
  fc.record({ kind: fc.constant('reset' as const), id, code: fc.nat(20), server: fc.boolean() }),
  fc.record({ kind: fc.constant('gap' as const), length: fc.integer({ min: 1, max: 60 }), server: fc.boolean() }),
  fc.record({ kind: fc.constant('garbage' as const), body, server: fc.boolean() }),
);

function steps(tokens: readonly (typeof token extends fc.Arbitrary<infer T> ? T : never)[]): Step[] {
  const s = new GrpcScript(false);
  s.c(PREFACE, frame(4, 0, 0)).s(frame(4, 0, 0));
  for (const t of tokens) {
    if (t.kind === 'call') s.c(s.ask(t.id, callFields('/p.S/M', t.type), END_HEADERS | (t.end ? END_STREAM : 0)));
    else if (t.kind === 'open') s.s(s.open(t.id, t.type));
    else if (t.kind === 'trailers') s.s(s.trailers(t.id, t.status));
    else if (t.kind === 'gap') s.gap(t.server ? FROM_SERVER : FROM_CLIENT, t.length);
    else {
      const bytes =
        t.kind === 'data'
          ? data(t.id, t.body, t.end ? END_STREAM : 0)
          : t.kind === 'reset'
            ? rst(t.id, t.code)
            : t.body;
      if (t.server) s.s(bytes);
      else s.c(bytes);
    }
  }
  return s.steps;
}

test('frames in any order never throw, and each request makes one exchange at most', () => {
  fc.assert(
    fc.property(fc.array(token, { maxLength: 30 }), fc.boolean(), (tokens, startSeen) => {
      const bench = new Bench(grpc.create, { startSeen, limits: LIMITS }).run(steps(tokens));
      bench.close('fin', 1e9);
      const { exchanges } = bench.counters;
      assert.deepEqual([exchanges.grpc ?? 0, exchanges.http ?? 0], [bench.calls.length, bench.exchanges.length]);
      const offsets = [...bench.exchanges, ...bench.calls.map((call) => call.http)].map((e) => e.streamOffset);
      assert.equal(new Set(offsets).size, offsets.length);
      for (const call of bench.calls) {
        assert.ok(call.statusCode >= -1 && call.statusCode < STATUS_NAMES.length);
        assert.ok(call.requestMessages >= -1 && call.responseMessages >= -1);
        assert.ok(call.requestMessageBytes <= call.http.requestBodyBytes);
        assert.ok(call.responseMessageBytes <= call.http.responseBodyBytes);
      }
    }),
    { numRuns: 2000 },
  );
});

const written = fc.array(fc.tuple(fc.uint8Array({ maxLength: 300 }), fc.boolean()), { maxLength: 8 });
const sizes = fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 10 });

function feed(
  reader: { data(b: Buffer, s: number, e: number, us: number): void },
  bytes: Buffer,
  cuts: number[],
): void {
  for (let at = 0, n = 0; at < bytes.length; n++) {
    const end = Math.min(bytes.length, at + cuts[n % cuts.length]!);
    const chunk = Buffer.concat([Buffer.from('\x01\x00'), bytes.subarray(at, end), Buffer.from('\x01')]);
    reader.data(chunk, 2, 2 + end - at, 1);
    chunk.fill(0xee);
    at = end;
  }
}

test('messages in any pieces, in binary and in text, are counted as they were written', () => {
  fc.assert(
    fc.property(written, sizes, fc.boolean(), (messages, cuts, text) => {
      const parts = messages.map(([bytes, compressed]) => message(Buffer.from(bytes), compressed ? 1 : 0));
      const trailers = new WebTrailers();
      const reader = new MessageReader(trailers);
      const all = [...parts, message('a: b\r\ngrpc-status: 11\r\n', 0x80)];
      if (text) feed(new Base64Reader(reader), Buffer.from(all.map((p) => p.toString('base64')).join('')), cuts);
      else feed(reader, Buffer.concat(all), cuts);
      assert.deepEqual(
        [reader.messages, reader.compressed, reader.bytes, reader.lost, trailers.status],
        [
          ...[messages.length, messages.filter(([, compressed]) => compressed).length],
          ...[messages.reduce((sum, [bytes]) => sum + bytes.length, 0), false, '11'],
        ],
      );
    }),
    { numRuns: 1000 },
  );
});

test('garbage holds nothing', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 5000 }), { maxLength: 10 }), (chunks) => {
      const trailers = new WebTrailers();
      const reader = new MessageReader(trailers);
      reader.data(message('x', 0x80), 0, 5, 1);
      const text = new Base64Reader(new MessageReader(trailers));
      for (const chunk of chunks) {
        const bytes = Buffer.from(chunk);
        trailers.take(bytes, 0, bytes.length);
        reader.data(bytes, 0, bytes.length, 1);
        text.data(bytes, 0, bytes.length, 1);
        assert.ok((trailers as unknown as { line: string }).line.length <= 64);
      }
    }),
    { numRuns: 300 },
  );
});

test('header lists of any content type are calls or are not', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), (type) => {
      const s = new GrpcScript();
      s.c(headers(1, s.client.encode(callFields('/p.S/M', `application/grpc${type}`)), END_HEADERS | END_STREAM));
      s.s(s.answer(1, response(200, ['grpc-status', '0']), END_HEADERS | END_STREAM));
      const bench = s.run();
      assert.equal(bench.calls.length + bench.exchanges.length, 1);
    }),
    { numRuns: 300 },
  );
});
