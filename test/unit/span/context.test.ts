import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CONTEXT_HEADERS, WireContext } from '../../../src/span/context.ts';
import { headers } from '../../support/spans/fixtures.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';
const SHORT = 'a3ce929d0e0e4736';

/** [trace id, span id, sampled]; ids are empty where not given. */
function read(fields: Record<string, string | string[]>): [string, string, boolean | undefined] | undefined {
  const context = new WireContext();
  if (!context.read(headers(fields))) return undefined;
  return [
    context.hasTraceId ? context.ids.toString('hex', 0, 16) : '',
    context.hasSpanId ? context.ids.toString('hex', 24, 32) : '',
    context.sampled,
  ];
}

const cases: [string, Record<string, string | string[]>, ReturnType<typeof read>][] = [
  ['W3C sampled', { traceparent: `00-${TRACE}-${SPAN}-01` }, [TRACE, SPAN, true]],
  ['W3C not sampled', { traceparent: `00-${TRACE}-${SPAN}-00` }, [TRACE, SPAN, false]],
  ['W3C later version with more fields', { traceparent: `01-${TRACE}-${SPAN}-01-more` }, [TRACE, SPAN, true]],
  ['W3C version 00 with more fields', { traceparent: `00-${TRACE}-${SPAN}-01-more` }, undefined],
  ['W3C version ff', { traceparent: `ff-${TRACE}-${SPAN}-01` }, undefined],
  ['W3C upper case', { traceparent: `00-${TRACE.toUpperCase()}-${SPAN}-01` }, undefined],
  ['W3C zero trace id', { traceparent: `00-${'0'.repeat(32)}-${SPAN}-01` }, undefined],
  ['W3C zero span id', { traceparent: `00-${TRACE}-${'0'.repeat(16)}-01` }, undefined],
  ['W3C twice', { traceparent: [`00-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-01`] }, undefined],
  ['W3C invalid, B3 valid', { traceparent: 'x', b3: `${TRACE}-${SPAN}-1` }, [TRACE, SPAN, true]],
  ['B3 single', { b3: `${TRACE}-${SPAN}-1` }, [TRACE, SPAN, true]],
  ['B3 single with parent', { b3: `${TRACE}-${SPAN}-0-05e3ac9a4f6e3b90` }, [TRACE, SPAN, false]],
  ['B3 single without a decision', { b3: `${TRACE}-${SPAN}` }, [TRACE, SPAN, undefined]],
  ['B3 single debug', { b3: `${SHORT}-${SPAN}-d` }, [`${'0'.repeat(16)}${SHORT}`, SPAN, true]],
  ['B3 single deny alone', { b3: '0' }, ['', '', false]],
  ['B3 single accept alone', { b3: '1' }, ['', '', true]],
  ['B3 single malformed', { b3: `${TRACE}x-${SPAN}-1` }, undefined],
  ['B3 single zero', { b3: `${'0'.repeat(16)}-${SPAN}-1` }, undefined],
  [
    'B3 multi',
    { 'x-b3-traceid': SHORT, 'x-b3-spanid': SPAN, 'x-b3-sampled': '1' },
    [`${'0'.repeat(16)}${SHORT}`, SPAN, true],
  ],
  ['B3 multi upper case', { 'x-b3-traceid': TRACE.toUpperCase(), 'x-b3-spanid': SPAN }, [TRACE, SPAN, undefined]],
  ['B3 multi flags', { 'x-b3-traceid': TRACE, 'x-b3-spanid': SPAN, 'x-b3-flags': '1' }, [TRACE, SPAN, true]],
  ['B3 multi deny alone', { 'x-b3-sampled': '0' }, ['', '', false]],
  ['B3 multi without span id', { 'x-b3-traceid': TRACE }, undefined],
  ['Jaeger', { 'uber-trace-id': `${TRACE}:${SPAN}:0:1` }, [TRACE, SPAN, true]],
  ['Jaeger short', { 'uber-trace-id': 'abc:def:0:0' }, [`${'0'.repeat(29)}abc`, `${'0'.repeat(13)}def`, false]],
  ['Jaeger encoded', { 'uber-trace-id': `${TRACE}%3A${SPAN}%3a0%3A3` }, [TRACE, SPAN, true]],
  ['Jaeger zero', { 'uber-trace-id': `0:${SPAN}:0:1` }, undefined],
  ['Jaeger too long', { 'uber-trace-id': `1${TRACE}:${SPAN}:0:1` }, undefined],
  [
    'X-Ray',
    { 'x-amzn-trace-id': `Root=1-${TRACE.slice(0, 8)}-${TRACE.slice(8)};Parent=${SPAN};Sampled=1` },
    [TRACE, SPAN, true],
  ],
  [
    'X-Ray not sampled',
    { 'x-amzn-trace-id': `Parent=${SPAN};Sampled=0;Root=1-${TRACE.slice(0, 8)}-${TRACE.slice(8)}` },
    [TRACE, SPAN, false],
  ],
  [
    'X-Ray from a load balancer',
    { 'x-amzn-trace-id': `Self=1-x;Root=1-${TRACE.slice(0, 8)}-${TRACE.slice(8)}` },
    [TRACE, '', undefined],
  ],
  ['X-Ray malformed', { 'x-amzn-trace-id': `Root=1-${TRACE}` }, undefined],
  ['nothing', { host: 'h' }, undefined],
];

describe('context on the wire', () => {
  for (const [name, fields, wanted] of cases) it(name, () => assert.deepEqual(read(fields), wanted));

  it('every form says the same of every trace', () => {
    const id = (bytes: number) =>
      fc
        .uint8Array({ minLength: bytes, maxLength: bytes })
        .map((each) => Buffer.from(each).toString('hex'))
        .filter((text) => /[1-9a-f]/.test(text));
    fc.assert(
      fc.property(id(16), id(8), fc.boolean(), (trace, span, sampled) => {
        const flag = sampled ? '1' : '0';
        const short = (text: string) => text.replace(/^0+/, '');
        const forms: Record<string, string>[] = [
          { traceparent: `00-${trace}-${span}-0${flag}` },
          { b3: `${trace}-${span}-${flag}` },
          { 'x-b3-traceid': trace, 'x-b3-spanid': span, 'x-b3-sampled': flag },
          { 'uber-trace-id': `${short(trace)}:${short(span)}:0:${flag}` },
          { 'x-amzn-trace-id': `Root=1-${trace.slice(0, 8)}-${trace.slice(8)};Parent=${span};Sampled=${flag}` },
        ];
        for (const form of forms) assert.deepEqual(read(form), [trace, span, sampled]);
        const context = new WireContext();
        assert.ok(context.readTraceparent(`00-${trace}-${span}-0${flag}`, ''));
        assert.equal(context.ids.toString('hex', 0, 16), trace);
      }),
    );
  });

  it('never throws and never yields an id of zeros', () => {
    const text = fc.oneof(
      fc.string(),
      fc.stringMatching(/^[0-9a-f:;=%-]{0,80}$/),
      fc.stringMatching(/^0{0,2}-?[0]{30,33}-[0-9a-f]{16}-0[01]$/),
    );
    fc.assert(
      fc.property(fc.constantFrom(...CONTEXT_HEADERS), text, text, (name, value, other) => {
        const found = read({ [name]: [value, other], b3: other });
        if (found === undefined) return;
        assert.doesNotMatch(found[0], /^0{32}$/);
        assert.doesNotMatch(found[1], /^0{16}$/);
      }),
    );
  });
});
