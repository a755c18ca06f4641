import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SpanKind } from '@opentelemetry/api';
import type { Exchange } from '../../../src/exchange/exchange.ts';
import { Durations, type SpanBuilder } from '../../../src/span/builder.ts';
import type { Resource } from '../../../src/span/resource.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { builder, call, connection, exchange, headers, sqlExchange } from '../../support/spans/fixtures.ts';

/** Sockets 1 and 2 belong to a shop of two processes, 3 to a Collector, 4 to a database. */
const resource = (name: string, instance: string): Resource => ({
  name,
  attributes: { 'service.name': name, 'service.instance.id': instance },
});
const owners = [
  resource('', ''),
  resource('shop', 'a'),
  resource('shop', 'b'),
  resource('otelcol', 'c'),
  resource('db', 'd'),
];
const between = (client: number, server: number) =>
  connection({ client: { socket: client }, server: { socket: server } });

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const withContext = headers({ host: 'h', traceparent: `00-${TRACE}-${PARENT}-01` });

function exportOf(client: number, path = '/v1/traces', server = 3): Exchange {
  const requestHeaders = headers({ host: 'h', 'content-type': 'application/x-protobuf' });
  return exchange({ connection: between(client, server), method: 'POST', target: path, requestHeaders });
}

function spansOf(options: { avoidInstrumented?: boolean; limits?: number } = {}) {
  const counters = newCounters();
  const most = options.limits ?? 9;
  const durations = new Durations({
    limits: { metricSeries: 9, metricIdleUs: 1e9 },
    exponential: false,
    exemplars: false,
    counters,
  });
  const spans = builder({
    counters,
    durations,
    resources: { resourceOf: (socket) => owners[socket] },
    avoidInstrumented: options.avoidInstrumented ?? false,
    limits: {
      instrumentedProcesses: most,
      sampledServices: 1,
      learnedServices: 1,
      learnedSegments: 9,
      learnedSegmentsPerPlace: 2,
    },
  });
  return { spans, counters, durations };
}

const kinds = (spans: SpanBuilder, one: Exchange) =>
  spans.build(one).map((span) => `${SpanKind[span.kind]} ${span.attributes()['wirespan.span.kind'] ?? ''}`.trim());

describe('applications that make spans of their own', () => {
  it('have ours as children of theirs, of a kind that no metric of requests counts', () => {
    const { spans, counters } = spansOf();
    const asked = exchange({ connection: between(1, 4), requestHeaders: withContext });
    assert.deepEqual(kinds(spans, asked), ['CLIENT', 'SERVER']);
    assert.deepEqual(kinds(spans, exportOf(1)), []);
    assert.deepEqual(counters.spans.leftOut, { otlp_export: 2 });
    assert.deepEqual(counters.services, { exports_traces: 1 });
    // The application's own CLIENT span is the parent of both.
    assert.deepEqual(kinds(spans, asked), ['INTERNAL client', 'SERVER']);
    for (const span of spans.build(asked)) assert.deepEqual([span.traceId, span.parentSpanId], [TRACE, PARENT]);
    // What puts no context on the wire is not instrumented, as far as anybody can tell: ours is the only one.
    assert.deepEqual(kinds(spans, exchange({ connection: between(1, 4) })), ['CLIENT', 'SERVER']);
    // Who is asked has its own SERVER span, context or not.
    assert.deepEqual(kinds(spans, exchange({ connection: between(4, 1) })), ['CLIENT', 'INTERNAL server']);
    // Another process of the same service has shown nothing yet.
    assert.deepEqual(kinds(spans, exchange({ connection: between(2, 4), requestHeaders: withContext })), [
      'CLIENT',
      'SERVER',
    ]);
  });

  it('the same of calls and statements', () => {
    const { spans } = spansOf();
    spans.build(exportOf(1));
    const calling = call({}, { connection: between(1, 4), requestHeaders: withContext });
    assert.deepEqual(kinds(spans, { ...calling, connection: between(1, 4) }), ['INTERNAL client', 'SERVER']);
    assert.deepEqual(kinds(spans, sqlExchange({ connection: between(1, 4) })), ['CLIENT']);
    const traceparent = `00-${TRACE}-${PARENT}-01`;
    assert.deepEqual(kinds(spans, sqlExchange({ connection: between(1, 4), traceparent })), ['INTERNAL client']);
  });

  it('are left out when they are to be avoided', () => {
    const { spans, counters } = spansOf({ avoidInstrumented: true });
    const asked = exchange({ connection: between(1, 4), requestHeaders: withContext });
    assert.deepEqual(kinds(spans, asked), ['CLIENT', 'SERVER']);
    spans.build(exportOf(1));
    assert.deepEqual(kinds(spans, asked), ['SERVER']);
    assert.deepEqual(kinds(spans, exchange({ connection: between(4, 1) })), ['CLIENT']);
    assert.deepEqual(kinds(spans, sqlExchange({ connection: between(1, 4) })), []);
    assert.deepEqual(counters.spans.leftOut, { otlp_export: 2, avoided_service: 3 });
    assert.equal(counters.spans.made, 4);
  });

  it('are seen by exports of spans alone, over HTTP and gRPC', () => {
    for (const path of ['/v1/metrics', '/v1/logs', '/v1development/profiles']) {
      const { spans, counters } = spansOf({ avoidInstrumented: true });
      spans.build(exportOf(1, path));
      assert.equal(kinds(spans, exchange({ connection: between(1, 4) })).length, 2);
      assert.deepEqual(counters.services, { [`exports_${path.split('/').at(-1)}`]: 1 });
    }
    const { spans, counters } = spansOf({ avoidInstrumented: true });
    const target = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
    assert.deepEqual(kinds(spans, call({ connection: between(2, 3) }, { connection: between(2, 3), target })), []);
    assert.deepEqual(kinds(spans, exchange({ connection: between(2, 4) })), ['SERVER']);
    assert.deepEqual([counters.services, counters.spans.leftOut.otlp_export], [{ exports_traces: 1 }, 2]);
  });

  it('are not measured when they are to be avoided and export metrics of their own', () => {
    for (const [path, measured] of [
      ['/v1/metrics', 1],
      ['/v1/traces', 2],
    ] as const) {
      const { spans, counters, durations } = spansOf({ avoidInstrumented: true });
      spans.build(exportOf(1, path));
      spans.build(exchange({ connection: between(1, 4) }));
      const told = durations.collect(0).groups.flatMap(({ metrics }) => metrics.map(({ name }) => name));
      assert.equal(told.length, measured, `${path}: ${told.join()}`);
      assert.deepEqual(counters.metrics, measured === 1 ? { avoided_service: 1 } : {});
    }
    const { spans, durations } = spansOf();
    spans.build(exportOf(1, '/v1/metrics'));
    spans.build(exchange({ connection: between(1, 4) }));
    assert.equal(durations.collect(0).groups.length, 2);
  });

  it('are not those that pass on what others have made', () => {
    const { spans } = spansOf({ avoidInstrumented: true });
    spans.build(exportOf(1));
    spans.build(exportOf(3, '/v1/traces', 4));
    assert.deepEqual(kinds(spans, exchange({ connection: between(3, 2) })), ['CLIENT', 'SERVER']);
  });

  it('are forgotten beyond the cap, and that is counted', () => {
    const { spans, counters } = spansOf({ avoidInstrumented: true, limits: 1 });
    spans.build(exportOf(1));
    spans.build(exportOf(2));
    assert.deepEqual(kinds(spans, exchange({ connection: between(1, 2) })), ['CLIENT']);
    assert.deepEqual(counters.services, { exports_traces: 2, exports_forgotten: 1 });
  });
});
