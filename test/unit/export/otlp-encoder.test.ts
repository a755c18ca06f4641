import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { JsonTraceSerializer, ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import fc from 'fast-check';
import { OtlpEncoder, PREFIX_BYTES } from '../../../src/export/otlp-encoder.ts';
import { encodeSpan } from '../../../src/export/otlp-json.ts';
import { ReadableSpans } from '../../../src/export/readable-span.ts';
import { AttributeBlock, AttributeKey } from '../../../src/span/attributes.ts';
import type { AttributeValue, Resource } from '../../../src/span/resource.ts';
import { Span } from '../../../src/span/span.ts';
import { decodeRequest, spansOf } from '../../support/otlp/decode.ts';
import {
  builder,
  connection,
  exchange,
  headers,
  mysqlExchange,
  sqlExchange,
  statement,
  tls,
} from '../../support/spans/fixtures.ts';

const SCOPE = { name: 'wirespan', version: '1.2.3' };
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

function encode(spans: readonly Span[]): Buffer {
  const encoder = new OtlpEncoder(SCOPE);
  for (const span of spans) assert.ok(encoder.add(span, NO_LIMIT));
  const estimated = encoder.bytes;
  const { payload } = encoder.take();
  assert.ok(payload.length <= estimated, `${payload.length} > ${estimated}`);
  return payload;
}

function official(spans: readonly Span[]): Buffer {
  const readable = new ReadableSpans(SCOPE);
  return Buffer.from(ProtobufTraceSerializer.serializeRequest(spans.map((span) => readable.from(span)))!);
}

/** Every shape that a builder makes, cloned. */
function examples(): Span[] {
  const spans = builder();
  const made: Span[] = [];
  const secure = connection({ tls: tls(), server: { port: 443 } });
  for (const each of [
    exchange(),
    exchange({ connection: secure, statusCode: 503, target: '/a?b=c', streamOffset: 5e9 }),
    exchange({ connection: secure, statusCode: 0, incomplete: 'timeout', requestBodyBytes: 2 ** 40 }),
    exchange({
      target: `/${'x'.repeat(20_000)}`,
      requestHeaders: headers({ host: 'h', 'user-agent': 'M\u00fcller \u{1f600}' }),
    }),
    exchange({
      requestHeaders: headers({
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
        tracestate: 'a=1,b=2',
      }),
    }),
  ]) {
    for (const span of spans.build(each)) made.push(span.clone());
  }
  const again = statement({ text: `SELECT ${'x, '.repeat(500)}?`, truncated: true });
  for (const each of [
    sqlExchange({ statement: again }),
    // The second time its attributes are a block of their own.
    sqlExchange({ statement: again, failed: true, statusCode: '42P01', returnedRows: -1, responseBytes: 2 ** 33 }),
    mysqlExchange({
      connection: connection({ tls: tls() }),
      batchSize: 3,
      affectedRows: 2,
      batchIndex: 1,
      batchCount: 2,
    }),
    mysqlExchange({ statement: undefined, incomplete: 'connection_reset', endUs: 0, system: 'mariadb' }),
  ]) {
    for (const span of spans.build(each)) made.push(span.clone());
  }
  assert.ok(made.some((span) => span.sharedToo !== undefined));
  return made;
}

function span(attributes: readonly (readonly [string, AttributeValue, boolean?])[], repeats: boolean): Span {
  const made = new Span();
  made.ids.fill(7);
  for (const [name, value, isDouble] of attributes)
    made.set(new AttributeKey(name, { repeats, isDouble: isDouble ?? false }), value);
  return made;
}

describe('OTLP encoder', () => {
  it('writes the bytes that the protocol asks for', () => {
    const made = new Span();
    for (let i = 0; i < 32; i++) made.ids[i] = i + 1;
    made.hasParent = true;
    made.parentIsRemote = true;
    made.name = 'GET';
    made.kind = SpanKind.SERVER;
    made.status = SpanStatusCode.ERROR;
    made.startUnixUs = 1_000_000.5;
    made.endUnixUs = 2 ** 50 + 0.25;
    made.resource = { name: 'a', attributes: { k: 'v' } };
    made.set(new AttributeKey('n'), 300);
    const payload = encode([made]);
    const bytes = payload.toString('hex');
    assert.equal(payload.readBigUInt64LE(payload.indexOf(0x39) + 1), 1_000_000_500n);
    assert.equal(spansOf(decodeRequest(payload))[0]!.endTimeUnixNano, 2n ** 50n * 1000n + 250n);
    assert.ok(bytes.includes('0a100102030405060708090a0b0c0d0e0f10'), bytes);
    assert.ok(bytes.includes('12081112131415161718'));
    assert.ok(bytes.includes('2208191a1b1c1d1e1f20'));
    assert.ok(bytes.includes('2a03474554'));
    assert.ok(bytes.includes('3002'));
    assert.ok(bytes.includes('4a080a016e120318ac02'));
    assert.ok(bytes.includes('7a021802'));
    assert.ok(bytes.includes('850101030000'));
    assert.ok(bytes.includes('0a0a0a080a016b12030a0176'));
    assert.ok(bytes.includes('0a110a08776972657370616e1205312e322e33'));
  });

  it('means the same as the official serializer', () => {
    const spans = examples();
    assert.equal(spans.length, 14);
    const ours = decodeRequest(encode(spans));
    assert.deepEqual(ours, decodeRequest(official(spans)));
    assert.equal(spansOf(ours).length, 14);
    // And the second time, when everything that repeats comes from caches.
    const encoder = new OtlpEncoder(SCOPE);
    for (const each of spans) encoder.add(each, NO_LIMIT);
    encoder.take();
    for (const each of spans) encoder.add(each, NO_LIMIT);
    assert.deepEqual(decodeRequest(encoder.take().payload), ours);
  });

  it('means the same as the official serializer for any attributes', () => {
    const text = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.string({ minLength: 60, maxLength: 300 }));
    const value: fc.Arbitrary<AttributeValue> = fc.oneof(
      text,
      fc.boolean(),
      fc.maxSafeInteger(),
      fc.double({ noNaN: true, noInteger: true }),
      fc.array(text, { maxLength: 4 }),
    );
    const attributes = fc.uniqueArray(fc.tuple(fc.string({ minLength: 1 }), value), {
      maxLength: 12,
      selector: ([name]) => name,
    });
    fc.assert(
      fc.property(attributes, attributes, fc.boolean(), (own, shared, repeats) => {
        const names = new Set(own.map(([name]) => name));
        const others = shared.filter(([name]) => !names.has(name) && name !== '__proto__');
        const made = span(
          own.filter(([name]) => name !== '__proto__'),
          repeats,
        );
        made.shared = new AttributeBlock(
          others.map(([name]) => new AttributeKey(name, { repeats })),
          others.map(([, each]) => each),
        );
        made.name = 'x'.repeat(own.length * 20);
        made.resource = {
          name: '', // The SDK stumbles over names of Object.prototype.
          attributes: Object.fromEntries(others.map(([name, each]) => [`r.${name}`, each])),
        };
        const sorted = (bytes: Buffer) => {
          const decoded = decodeRequest(bytes);
          // Objects order their whole-number keys first.
          const byKey = (a: { key: string }, b: { key: string }) => (a.key < b.key ? -1 : 1);
          for (const group of decoded.resourceSpans) group.resource?.attributes?.sort(byKey);
          for (const each of spansOf(decoded)) each.attributes?.sort(byKey);
          return decoded;
        };
        assert.deepEqual(sorted(encode([made, made])), sorted(official([made, made])));
      }),
    );
  });

  it('means the same for spans of one connection, however much or little one differs from the one before', () => {
    const keys = {
      method: new AttributeKey('method', { repeats: true }),
      size: new AttributeKey('size'),
      seconds: new AttributeKey('seconds', { isDouble: true }),
      path: new AttributeKey('path'),
      words: new AttributeKey('words'),
      more: new AttributeKey('more'),
    };
    /** One of `values`, mostly the first. */
    const mostly = <T>(...values: T[]): fc.Arbitrary<T> =>
      fc.oneof(
        { weight: 12, arbitrary: fc.constant(values[0]!) },
        { weight: 1, arbitrary: fc.constantFrom(...values) },
      );
    const own: fc.Arbitrary<readonly (readonly [AttributeKey, AttributeValue])[]> = fc.tuple(
      fc.tuple(fc.constant(keys.method), mostly('GET', 'PUT')),
      fc.tuple(fc.constant(keys.size), fc.constantFrom(5, 6, 5, 6, 7, 300, 301, 2 ** 40, -1, 0.5, 127, 128)),
      fc.tuple(fc.constant(keys.seconds), fc.double({ noNaN: true, noInteger: true })),
      fc.tuple(fc.constant(keys.path), fc.constantFrom('/a', '/b', '/a', '/b', '/cc', '/\u00e9', '/\u00ea', '')),
      fc.tuple(mostly(keys.words, keys.more), mostly<AttributeValue>('x', 'y', true, false)),
    );
    const block = (name: string) => new AttributeBlock([new AttributeKey(`b.${name}`)], ['v'.repeat(150)]);
    const resources: Resource[] = ['a', 'b'].map((name) => ({ name, attributes: { 'service.name': name } }));
    const byResource = (bytes: Buffer) => {
      const name = (group: { resource?: { attributes: { value: { stringValue?: string } }[] } }): string =>
        group.resource?.attributes[0]?.value.stringValue ?? '';
      return decodeRequest(bytes).resourceSpans.sort((a, b) => (name(a) < name(b) ? -1 : 1));
    };
    const one = fc.record({
      own,
      block: mostly(0, 1),
      statement: mostly(0, 1, 2),
      resource: mostly(0, 1),
      ids: fc.uint8Array({ minLength: 32, maxLength: 32 }),
      hasParent: mostly(true, false),
      remote: fc.boolean(),
      name: mostly('GET', 'GET /{id}'),
      status: mostly(SpanStatusCode.UNSET, SpanStatusCode.ERROR),
      startUs: fc.double({ min: 0, max: 2 ** 50, noNaN: true }),
      us: fc.double({ min: 0, max: 1e6, noNaN: true }),
      traceState: mostly('', 'a=b'),
      kind: mostly(SpanKind.SERVER, SpanKind.CLIENT),
      attributes: mostly(5, 4),
      take: mostly(false, true),
      tight: mostly(false, true),
    });
    fc.assert(
      fc.property(fc.array(one, { minLength: 2, maxLength: 40 }), (all) => {
        const encoder = new OtlpEncoder(SCOPE);
        const blocks = ['one', 'two'].map(block);
        const statements = [undefined, block('three'), undefined];
        const decoded: unknown[] = [];
        const expected: unknown[] = [];
        let open: Span[] = [];
        const close = (): void => {
          const { payload } = encoder.take();
          decoded.push(byResource(payload));
          expected.push(byResource(official(open)));
          encoder.recycle(payload, true);
          open = [];
        };
        for (const each of all) {
          const made = new Span();
          Buffer.from(each.ids).copy(made.ids);
          made.ids[0] = made.ids[16] = made.ids[24] = 1;
          made.hasParent = each.hasParent;
          made.parentIsRemote = each.remote;
          made.name = each.name;
          made.kind = each.kind;
          made.status = each.status;
          made.startUnixUs = each.startUs;
          made.endUnixUs = each.startUs + each.us;
          made.traceState = each.traceState;
          made.resource = resources[each.resource]!;
          made.shared = blocks[each.block];
          made.sharedToo = statements[each.statement];
          for (const [key, value] of each.own.slice(0, each.attributes)) made.set(key, value);
          // What does not fit leaves nothing behind that the next one could repeat.
          if (each.tight) assert.equal(encoder.add(made, encoder.bytes + 1), false);
          assert.ok(encoder.add(made, NO_LIMIT));
          open.push(made);
          if (each.take) close();
        }
        if (open.length > 0) close();
        assert.deepEqual(decoded, expected);
      }),
      { numRuns: 300 },
    );
  });

  it('fills payloads again that nobody reads, and no others', () => {
    const encoder = new OtlpEncoder(SCOPE);
    const large = () => span([['k', 'v'.repeat(100_000)]], false);
    const memory = (): [ArrayBufferLike, Buffer] => {
      encoder.add(large(), NO_LIMIT);
      const { payload } = encoder.take();
      assert.ok(payload.byteOffset >= PREFIX_BYTES);
      return [payload.buffer, payload];
    };
    const [first, unread] = memory();
    const [second, read] = memory();
    assert.ok(first instanceof SharedArrayBuffer && second instanceof SharedArrayBuffer && first !== second);
    encoder.recycle(unread, true);
    encoder.recycle(read, false);
    assert.equal(memory()[0], first);
    const more = Array.from({ length: 20 }, () => memory()[0]);
    assert.equal(new Set(more).size, 20);
    // Their number is bounded; what comes beyond is the collector's.
    assert.equal(more.filter((each) => each instanceof SharedArrayBuffer).length, 15);
  });

  it('writes doubles as doubles even when they are whole', () => {
    const [decoded] = spansOf(decodeRequest(encode([span([['d', 2, true]], false)])));
    assert.deepEqual(decoded!.attributes, [{ key: 'd', value: { doubleValue: 2 } }]);
  });

  it('writes spans of every length around the limits of a two-byte length', () => {
    for (const length of [0, 40, 50, 60, 70, 16_290, 16_300, 16_310, 16_320, 16_330, 16_340, 16_384, 2_100_000]) {
      for (let extra = 0; extra < 10; extra++) {
        const made = span([['k', 'v'.repeat(length + extra)]], false);
        const [decoded] = spansOf(decodeRequest(encode([made])));
        assert.equal(decoded!.attributes[0]!.value.stringValue, 'v'.repeat(length + extra));
      }
    }
  });

  it('groups by resource, whatever the order of arrival', () => {
    const resources: Resource[] = ['a', 'b', 'c'].map((name) => ({ name, attributes: { 'service.name': name } }));
    const spans = Array.from({ length: 30 }, (_, i) => {
      const made = span([['i', i]], false);
      made.resource = resources[(i * 7) % 3]!;
      return made;
    });
    const decoded = decodeRequest(encode(spans));
    assert.equal(decoded.resourceSpans.length, 3);
    for (const group of decoded.resourceSpans) assert.equal(group.scopeSpans[0]!.spans.length, 10);
  });

  it('refuses what would make the batch too large, and leaves it whole', () => {
    const encoder = new OtlpEncoder(SCOPE);
    const small = span([['k', 'v']], false);
    const large = span([['k', 'v'.repeat(1000)]], false);
    assert.ok(encoder.add(small, 500));
    const before = encoder.bytes;
    assert.equal(encoder.add(large, 500), false);
    assert.equal(encoder.bytes, before);
    assert.ok(encoder.add(small, 500));
    const { payload, spans } = encoder.take();
    assert.equal(spans, 2);
    assert.equal(spansOf(decodeRequest(payload)).length, 2);
    assert.equal(encoder.spans, 0);
    assert.equal(encoder.take().payload.length, 0);
  });

  it('keeps no more encoded values than its bound', () => {
    const encoder = new OtlpEncoder(SCOPE);
    const key = new AttributeKey('k', { repeats: true });
    const spans = Array.from({ length: 2000 }, (_, i) => {
      const made = new Span();
      made.set(key, `value ${i}`);
      return made;
    });
    for (const each of spans) encoder.add(each, NO_LIMIT);
    const decoded = spansOf(decodeRequest(encoder.take().payload));
    assert.deepEqual(
      decoded.map((each) => each.attributes[0]!.value.stringValue),
      spans.map((_, i) => `value ${i}`),
    );
  });
});

describe('OTLP/JSON', () => {
  it('means the same as the official serializer', () => {
    const readable = new ReadableSpans(SCOPE);
    for (const each of examples()) {
      const bytes = JsonTraceSerializer.serializeRequest([readable.from(each)])!;
      const theirs = JSON.parse(Buffer.from(bytes).toString()).resourceSpans[0].scopeSpans[0].spans[0];
      const ours = JSON.parse(encodeSpan(each));
      for (const name of ['traceId', 'spanId', 'parentSpanId', 'traceState', 'name', 'kind', 'flags']) {
        assert.deepEqual(ours[name], theirs[name], name);
      }
      for (const name of ['startTimeUnixNano', 'endTimeUnixNano']) assert.equal(ours[name], String(theirs[name]));
      assert.equal(ours.status.code ?? 0, theirs.status.code);
      // The protocol's JSON has 64-bit integers as strings, which the official serializer leaves out.
      const plain = (list: { key: string; value: Record<string, unknown> }[]) =>
        list.map(({ key, value }) => [key, 'intValue' in value ? { intValue: Number(value.intValue) } : value]);
      assert.deepEqual(plain(ours.attributes), plain(theirs.attributes));
    }
  });

  it('writes 64-bit integers as strings', () => {
    assert.match(encodeSpan(span([['n', 5]], false)), /"intValue":"5"/);
    assert.match(encodeSpan(span([['d', 5, true]], false)), /"doubleValue":5\b/);
    assert.match(encodeSpan(span([['l', ['a', 'b']]], false)), /"arrayValue":\{"values":\[\{"stringValue":"a"\}/);
  });

  it('carries a nanosecond that rounds up', () => {
    const made = span([], false);
    made.startUnixUs = 1_000_000.9999;
    assert.match(encodeSpan(made), /"startTimeUnixNano":"1000001000"/);
  });
});
