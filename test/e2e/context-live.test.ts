/** Trace contexts in every form that applications write them, and what becomes of those that are malformed. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { startHttp2Server, startNodeServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { inside, startAgentOf } from '../support/programs/inside.ts';
import { nodeProgram } from '../support/sql/drivers.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';
const OTHER = 'c8be7c827a314442';
const SHORT = 'a3ce929d0e0e4736';
const XRAY = `Root=1-${TRACE.slice(0, 8)}-${TRACE.slice(8)}`;
const pathOf = ({ attributes }: FlatSpan) =>
  String(attributes['url.path'] ?? new URL(String(attributes['url.full'])).pathname);
const w3c = (span = SPAN, flags = '01') => `00-${TRACE}-${span}-${flags}`;

/** What the spans shall say: trace id and parent of both, `own` when they begin a trace, `none` when there are none. */
type Wanted = 'own' | 'none' | readonly [trace: string, parent: string];

const CASES: readonly (readonly [what: string, fields: readonly string[], wanted: Wanted])[] = [
  ['W3C', [`traceparent: ${w3c()}`], [TRACE, SPAN]],
  ['W3C, not sampled', [`traceparent: ${w3c(SPAN, '00')}`], 'none'],
  ['W3C of a later version', [`traceparent: 7f-${TRACE}-${SPAN}-01-and-more`], [TRACE, SPAN]],
  ['W3C of version ff', [`traceparent: ff-${TRACE}-${SPAN}-01`], 'own'],
  ['W3C without a trace id', [`traceparent: 00-${'0'.repeat(32)}-${SPAN}-01`], 'own'],
  ['B3 in one field', [`b3: ${TRACE}-${SPAN}-1`], [TRACE, SPAN]],
  ['B3 in one field, with a parent', [`b3: ${TRACE}-${SPAN}-d-${OTHER}`], [TRACE, SPAN]],
  ['B3 in one field, denied', ['b3: 0'], 'none'],
  ['B3 in one field, short', [`b3: ${SHORT}-${SPAN}-1`], [SHORT.padStart(32, '0'), SPAN]],
  ['B3 in one field, malformed', [`b3: ${TRACE}${SPAN}`], 'own'],
  ['B3 in many', [`X-B3-TraceId: ${TRACE}`, `X-B3-SpanId: ${SPAN}`, 'X-B3-Sampled: 1'], [TRACE, SPAN]],
  ['B3 in many, undecided', [`X-B3-TraceId: ${TRACE}`, `X-B3-SpanId: ${SPAN}`], [TRACE, SPAN]],
  ['B3 in many, denied', [`X-B3-TraceId: ${TRACE}`, `X-B3-SpanId: ${SPAN}`, 'X-B3-Sampled: 0'], 'none'],
  ['B3 in many, malformed', [`X-B3-TraceId: ${TRACE}`, 'X-B3-SpanId: 1'], 'own'],
  ['Jaeger', [`uber-trace-id: ${SHORT}:${SPAN}:0:1`], [SHORT.padStart(32, '0'), SPAN]],
  ['Jaeger, not sampled', [`uber-trace-id: ${TRACE}:${SPAN}:0:0`], 'none'],
  ['Jaeger, malformed', [`uber-trace-id: ${TRACE}:${SPAN}:1`], 'own'],
  ['X-Ray', [`X-Amzn-Trace-Id: ${XRAY};Parent=${SPAN};Sampled=1`], [TRACE, SPAN]],
  ['X-Ray, not sampled', [`X-Amzn-Trace-Id: ${XRAY};Parent=${SPAN};Sampled=0`], 'none'],
  ['X-Ray of a load balancer', [`X-Amzn-Trace-Id: Self=1-67891234-1;${XRAY}`], [TRACE, '']],
  ['X-Ray, malformed', ['X-Amzn-Trace-Id: Root=1-zz-1'], 'own'],
  ['W3C before all others', [`traceparent: ${w3c()}`, `b3: ${TRACE}-${OTHER}-0`], [TRACE, SPAN]],
  ['B3 where W3C is malformed', ['traceparent: 00-x', `b3: ${TRACE}-${SPAN}-1`], [TRACE, SPAN]],
  [
    'one field of B3 before many',
    [`b3: ${TRACE}-${SPAN}-1`, `X-B3-TraceId: ${SHORT}`, `X-B3-SpanId: ${OTHER}`],
    [TRACE, SPAN],
  ],
  [
    'many fields of B3 before Jaeger',
    [`X-B3-TraceId: ${TRACE}`, `X-B3-SpanId: ${SPAN}`, `uber-trace-id: 1:2:0:1`],
    [TRACE, SPAN],
  ],
  [
    'Jaeger before X-Ray',
    [`uber-trace-id: ${TRACE}:${SPAN}:0:1`, `X-Amzn-Trace-Id: ${XRAY};Parent=${OTHER}`],
    [TRACE, SPAN],
  ],
];

suite('contexts on the wire', () => {
  after(assertKernelClean);

  for (const protocol of ['--http1.1', '--http2']) {
    test(`in header fields, ${protocol.slice(2)}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const there = inside(cgroup);
      const server =
        protocol === '--http2'
          ? await startHttp2Server(cleanup, { prefix: cgroup.prefix })
          : await startNodeServer(cleanup, { prefix: cgroup.prefix });
      const agent = await startAgentOf(cleanup, cgroup);
      for (const [i, [, fields]] of CASES.entries()) {
        const headers = fields.flatMap((field) => ['-H', field]);
        await there.run('curl', ['-sk', protocol, '-o', '/dev/null', ...headers, `${server.url}/bytes/${i}`]);
      }
      const wanted = CASES.filter(([, , each]) => each !== 'none').length * 2;
      await agent.waitForSpans(wanted);
      const { spans, stats } = await agent.stop();
      for (const [i, [what, , expected]] of CASES.entries()) {
        const of = (kind: string, key: string) =>
          spans.filter((span) => span.kind === kind && String(span.attributes[key]).endsWith(`/bytes/${i}`));
        const [client, ...others] = of('CLIENT', 'url.full');
        const [served] = of('SERVER', 'url.path');
        assert.equal(others.length, 0);
        if (expected === 'none') {
          assert.deepEqual([client, served], [undefined, undefined], what);
          continue;
        }
        assert.ok(client && served, what);
        if (expected === 'own') {
          assert.deepEqual([client.parentSpanId, served.parentSpanId], ['', client.spanId], what);
          assert.notEqual(client.traceId, TRACE, what);
          assert.equal(served.traceId, client.traceId, what);
          continue;
        }
        const [trace, parent] = expected;
        assert.deepEqual([client.traceId, client.parentSpanId], [trace, parent], what);
        assert.deepEqual([served.traceId, served.parentSpanId], [trace, parent || client.spanId], what);
      }
      assert.equal(spans.length, wanted);
      assert.deepEqual(stats.spans.leftOut, { unsampled: 2 * (CASES.length - wanted / 2) });
    });
  }

  for (const keeps of [true, false]) {
    const what = keeps ? 'are kept when it is asked for' : 'are not kept';
    test(`what failed or was slow in a trace that the wire says is not sampled: ${what}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const there = inside(cgroup);
      const server = await startNodeServer(cleanup, { prefix: cgroup.prefix });
      const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
      const asked = keeps ? '  keep_in_unsampled_traces: true\n' : '';
      await writeFile(config, `sampling:\n  keep_slower_than_ms: 3000\n${asked}`);
      const agent = await startAgentOf(cleanup, cgroup, ['--config', config]);
      const ask = (field: string, paths: readonly string[]) =>
        there.run('curl', [
          ...['-sk', '-H', field],
          ...paths.flatMap((path) => ['-o', '/dev/null', `${server.url}${path}`]),
        ]);
      const ordinary = ['/bytes/1', '/bytes/2', '/status/204'];
      const kept = ['/status/500', '/status/404', '/slow/3100'];
      const unsampled = [`traceparent: ${w3c(SPAN, '00')}`, `b3: ${TRACE}-${SPAN}-0`];
      await Promise.all(unsampled.map((field) => ask(field, [...ordinary, ...kept])));
      // Not of such a trace.
      await ask(`traceparent: ${w3c()}`, ['/bytes/3', '/status/500']);
      const wanted = 2 * 2 + (keeps ? 2 * 2 * kept.length : 0);
      await agent.waitForSpans(wanted);
      const { spans, stats } = await agent.stop();
      const paths = [...(keeps ? [...kept, ...kept] : []), '/bytes/3', '/status/500'].sort();
      for (const kind of ['CLIENT', 'SERVER']) {
        const ofKind = spans.filter((span) => span.kind === kind);
        assert.deepEqual(ofKind.map(pathOf).sort(), paths);
        // They are where the trace would have them.
        for (const span of ofKind) assert.deepEqual([span.traceId, span.parentSpanId], [TRACE, SPAN]);
      }
      assert.deepEqual(stats.spans.leftOut, { unsampled: 2 * 2 * (ordinary.length + (keeps ? 0 : kept.length)) });
    });
  }

  test("in MySQL's query attributes, before comments", async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const { words, env } = await nodeProgram('query-attributes');
    const [command, ...script] = words;
    const server = there.start(cleanup, command!, [...script, 'serve'], { env });
    const port = (await server.waitFor('stdout', /listening (\d+)/))[1]!;
    const agent = await startAgentOf(cleanup, cgroup);
    const comment = `/*traceparent='${w3c(OTHER)}'*/`;
    const statements: [string, Record<string, string | number | null>, Wanted][] = [
      ['SELECT 1 FROM a', { traceparent: w3c() }, [TRACE, SPAN]],
      ['SELECT 1 FROM b', { other: 'x', Traceparent: w3c(), tracestate: 'ot=th:8,v=1' }, [TRACE, SPAN]],
      [`SELECT 1 FROM c ${comment}`, { traceparent: w3c() }, [TRACE, SPAN]],
      [`SELECT 1 FROM d ${comment}`, { traceparent: `00-${TRACE}-${SPAN}` }, [TRACE, OTHER]],
      [`SELECT 1 FROM e ${comment}`, { traceparent: null }, [TRACE, OTHER]],
      ['SELECT 1 FROM f', { traceparent: 'x'.repeat(1000) }, 'own'],
      ['SELECT 1 FROM g', { traceparent: 17 }, 'own'],
      ['SELECT 1 FROM h', { traceparent: w3c(SPAN, '00') }, 'none'],
      ['SELECT 1 FROM i', {}, 'own'],
    ];
    const asked = JSON.stringify(statements.map(([text, attributes]) => [text, attributes]));
    await there.run(command!, [...script, 'ask', port, asked], { env });
    const wanted = statements.filter(([, , each]) => each !== 'none').length;
    await agent.waitForSpans(wanted);
    const { spans, stats } = await agent.stop();
    for (const [text, , expected] of statements) {
      const summary = `SELECT ${text[14]}`;
      const [span] = spans.filter(({ name }) => name === summary);
      if (expected === 'none') assert.equal(span, undefined, text);
      else if (expected === 'own') {
        assert.equal(span?.parentSpanId, '', text);
        assert.notEqual(span?.traceId, TRACE, text);
      } else assert.deepEqual([span?.traceId, span?.parentSpanId], expected, text);
      // 8 of 16 are rejected below 8: the trace id ends in 1c80319c behind 48eb21, so that this threshold cannot be true.
      if (text.includes('FROM b')) assert.equal(span?.traceState, 'v=1');
    }
    assert.equal(spans.length, wanted);
    assert.deepEqual([stats.exchanges.mysql, stats.spans.leftOut], [statements.length, { unsampled: 1 }]);
  });
});
