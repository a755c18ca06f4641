import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Histogram } from '../../../src/metric/histogram.ts';
import type { Metric } from '../../../src/metric/metric.ts';
import { type Counters, newCounters } from '../../../src/telemetry/counters.ts';
import { LoopDelay } from '../../../src/telemetry/loop-delay.ts';
import {
  COUNTER_ROWS,
  COUNTERS_TOLD_ELSEWHERE,
  type Observations,
  type ObservedOutput,
  ownMetrics,
} from '../../../src/telemetry/own-metrics.ts';

const nothing: Observations = {
  lost: [],
  rings: {},
  outputs: [],
  informers: [],
  probedFiles: 0,
  tables: {},
  memory: { bytes: 1000, limitBytes: 2000 },
  loopDelay: new LoopDelay(100),
  startUnixUs: 1,
};

const output: ObservedOutput = {
  name: 'otlp',
  type: 'otlp_grpc_span_exporter',
  queueSpans: 10,
  queueSpansLimit: 50,
  queueBytes: 1000,
  queueBytesLimit: 5000,
  inFlight: 2,
  inFlightSpans: 8,
  retries: 3,
  spoolSpans: 4,
  spoolBytes: 400,
  spoolRecovered: 9,
  spoolDamagedBytes: 77,
  durations: new Map(),
  exported: 60,
  dropped: { queue_full: 12, rejected: 6, export_failed: 3, shutdown: 1 },
  rejections: { 'too old': 5, other: 1 },
};

/** Nothing is optional. */
type Whole<T> = { [Key in keyof T]-?: Whole<T[Key]> };

/** With all that some runs alone count. */
function wholeCounters(): Whole<Counters> {
  const counters = newCounters();
  const spool = { recovered: 0, left: 0, damagedBytes: 0 };
  return { ...counters, spans: { ...counters.spans, rejections: {}, spool }, otherOutputs: {} };
}

/** The values of a metric, by its attributes. */
function valuesOf(metrics: readonly Metric[], name: string): Record<string, number> {
  const found = metrics.filter((metric) => metric.name === name);
  assert.equal(found.length, 1, name);
  return Object.fromEntries(
    found[0]!.points.map((point) => [
      Object.values(point.attributes).join(' '),
      'value' in point ? point.value : point.count,
    ]),
  );
}

/** A table of reasons ends a path, as a number does. */
function placesOf(value: object, prefix = ''): string[] {
  const entries = Object.entries(value);
  if (entries.length === 0) return [prefix];
  return entries.flatMap(([key, inner]) => {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    return typeof inner === 'number' ? [path] : placesOf(inner as object, path);
  });
}

test('every counter of the statistics is a metric', () => {
  const told = [...COUNTER_ROWS.map(([path]) => path), ...Object.keys(COUNTERS_TOLD_ELSEWHERE)];
  assert.deepEqual(told.sort(), placesOf(wholeCounters()).sort());
  const { metrics } = ownMetrics(newCounters(), { ...nothing, outputs: [output] }, {});
  for (const name of Object.values(COUNTERS_TOLD_ELSEWHERE)) {
    assert.ok(metrics.find((metric) => metric.name === name)?.points.length, name);
  }
});

test('numbers, and tables by what tells their entries apart', () => {
  const counters = newCounters();
  counters.packets.captured = 7;
  counters.packets.lost = { packet_ring_full: 1 };
  counters.exchanges = { http: 3, postgresql: 2 };
  const { metrics } = ownMetrics(
    counters,
    {
      ...nothing,
      lost: [{ packet_ring_full: 2 }, { control_ring_full: 4 }],
      rings: { packets: { waiting: 5, size: 9 } },
    },
    {},
  );
  assert.deepEqual(valuesOf(metrics, 'wirespan.packets'), { '': 7 });
  assert.deepEqual(valuesOf(metrics, 'wirespan.packets.lost'), { packet_ring_full: 3, control_ring_full: 4 });
  assert.deepEqual(valuesOf(metrics, 'wirespan.exchanges'), { http: 3, postgresql: 2 });
  assert.deepEqual(valuesOf(metrics, 'wirespan.ring.usage'), { packets: 5 });
  assert.deepEqual(metrics.find(({ name }) => name === 'wirespan.exchanges')?.points[0]?.attributes, {
    protocol: 'http',
  });
});

test('the watches on the API server', () => {
  const informers = [
    { name: 'pods', synced: true, connected: true, restarts: 2, objects: 300 },
    { name: 'nodes', synced: false, connected: false, restarts: 0, objects: 0 },
  ];
  const { metrics } = ownMetrics(newCounters(), { ...nothing, informers }, {});
  const of = (name: string) => valuesOf(metrics, `wirespan.informer.${name}`);
  assert.deepEqual(of('synced'), { pods: 1, nodes: 0 });
  assert.deepEqual(of('connected'), { pods: 1, nodes: 0 });
  assert.deepEqual(of('objects'), { pods: 300, nodes: 0 });
  assert.deepEqual(of('restarts'), { pods: 2, nodes: 0 });
});

test('names are used once, and are those that OpenTelemetry allows', () => {
  const { metrics } = ownMetrics(newCounters(), nothing, {});
  const names = metrics.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const name of names) assert.match(name, /^[a-z][a-z0-9_.]{0,254}$/);
});

test('spans and what became of them, by the conventions for SDK metrics', () => {
  const counters = newCounters();
  counters.spans.made = 100;
  counters.spans.leftOut = { unsampled: 20, rate_limited: 5, ignored: 3 };
  const durations = new Map([
    ['', new Histogram([1], false)],
    ['UNAVAILABLE', new Histogram([1], false)],
  ]);
  durations.get('')!.record(0.5);
  const { metrics } = ownMetrics(counters, { ...nothing, outputs: [{ ...output, durations }] }, {});
  const component = 'otlp otlp_grpc_span_exporter';
  assert.deepEqual(valuesOf(metrics, 'otel.sdk.span.started'), { RECORD_AND_SAMPLE: 100, DROP: 25 });
  assert.deepEqual(valuesOf(metrics, 'otel.sdk.exporter.span.exported'), {
    [component]: 60,
    [`${component} rejected`]: 6,
    [`${component} export_failed`]: 3,
  });
  // Made: what waits, what was dropped before, and what was handed to the exporter.
  assert.deepEqual(valuesOf(metrics, 'otel.sdk.processor.span.processed'), {
    [component]: 60 + 6 + 3 + 8,
    [`${component} queue_full`]: 12,
    [`${component} already_shutdown`]: 1,
  });
  assert.deepEqual(valuesOf(metrics, 'otel.sdk.exporter.span.inflight'), { [component]: 8 });
  assert.deepEqual(valuesOf(metrics, 'otel.sdk.processor.span.queue.size'), { [component]: 10 });
  assert.deepEqual(valuesOf(metrics, 'otel.sdk.processor.span.queue.capacity'), { [component]: 50 });
  assert.deepEqual(valuesOf(metrics, 'otel.sdk.exporter.operation.duration'), {
    [component]: 1,
    [`${component} UNAVAILABLE`]: 0,
  });
  assert.deepEqual(valuesOf(metrics, 'wirespan.output.retries'), { otlp: 3 });
  assert.deepEqual(valuesOf(metrics, 'wirespan.output.rejections'), { 'otlp too old': 5, 'otlp other': 1 });
  assert.deepEqual(valuesOf(metrics, 'wirespan.output.spool.spans'), { otlp: 4 });
  assert.deepEqual(valuesOf(metrics, 'wirespan.output.spool.recovered'), { otlp: 9 });
  assert.deepEqual(valuesOf(metrics, 'wirespan.output.spool.damaged'), { otlp: 77 });
});

test('how late the event loop was', () => {
  const delay = new LoopDelay(100);
  assert.deepEqual(delay.read(), {});
  let nowMs = 1000;
  delay.tick(nowMs);
  for (const lateMs of [0, 0, 0, 0, 0, 0, 0, 0, 0, 50]) {
    nowMs += 100 + lateMs;
    delay.tick(nowMs);
  }
  const { max, mean, p50, p99 } = delay.read();
  assert.ok(Math.abs(max! - 0.05) < 0.001, String(max));
  assert.ok(Math.abs(mean! - 0.005) < 0.001, String(mean));
  assert.ok(p50! < 0.001 && p99! > 0.04);
  // Two windows later nothing is left of it.
  for (let i = 0; i < 700; i++) {
    nowMs += 100;
    delay.tick(nowMs);
  }
  assert.ok(delay.read().max! < 0.001);
});
