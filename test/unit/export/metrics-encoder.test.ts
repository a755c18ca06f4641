import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HrTime, type Attributes as OtelAttributes, ValueType } from '@opentelemetry/api';
import { ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  DataPointType,
  type MetricData,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import fc from 'fast-check';
import { Reader } from '../../../src/bytes/reader.ts';
import { MetricsEncoder } from '../../../src/export/metrics-encoder.ts';
import { DATABASE_BOUNDS } from '../../../src/metric/bounds.ts';
import { Histogram } from '../../../src/metric/histogram.ts';
import type { Attributes, HistogramMetric, Metric, MetricGroup } from '../../../src/metric/metric.ts';

const NOW_US = 1_700_000_060_000_000;
const START_US = 1_700_000_000_000_000;
const scope = { name: 'wirespan', version: '1.2' };
const time = (us: number): HrTime => [Math.floor(us / 1e6), Math.round((us % 1e6) * 1000)];

/** The same for OpenTelemetry's own serializer. */
function reference({ resource, metrics }: MetricGroup, exponential: boolean): Uint8Array {
  const resourceMetrics: ResourceMetrics = {
    resource: resourceFromAttributes(resource as OtelAttributes),
    scopeMetrics: [{ scope, metrics: metrics.map((metric) => dataOf(metric, exponential)) }],
  };
  return ProtobufMetricsSerializer.serializeRequest(resourceMetrics)!;
}

function dataOf(metric: Metric, exponential: boolean): MetricData {
  const { name, unit, description } = metric;
  const isDouble = metric.kind === 'histogram' || unit === 's' || unit === '1';
  const descriptor = { name, unit, description, valueType: isDouble ? ValueType.DOUBLE : ValueType.INT };
  const common = { descriptor, aggregationTemporality: AggregationTemporality.CUMULATIVE };
  if (metric.kind === 'histogram') {
    const points = metric.points.map(
      ({ attributes, startUnixUs, count, sum, min, max, counts, exponential: buckets }) => ({
        attributes: attributes as OtelAttributes,
        startTime: time(startUnixUs),
        endTime: time(NOW_US),
        value: exponential
          ? {
              ...{ count, sum, min, max, scale: buckets!.scale, zeroCount: buckets!.zeroCount },
              positive: { offset: buckets!.offset, bucketCounts: [...buckets!.counts] },
              negative: { offset: 0, bucketCounts: [] },
            }
          : { count, sum, min, max, buckets: { counts: [...counts], boundaries: [...metric.bounds] } },
      }),
    );
    const dataPointType = exponential ? DataPointType.EXPONENTIAL_HISTOGRAM : DataPointType.HISTOGRAM;
    return { ...common, dataPointType, dataPoints: points } as MetricData;
  }
  const dataPoints = metric.points.map(({ attributes, value }) => ({
    attributes: attributes as OtelAttributes,
    startTime: time(START_US),
    endTime: time(NOW_US),
    value,
  }));
  return metric.kind === 'gauge'
    ? { ...common, dataPointType: DataPointType.GAUGE, dataPoints }
    : { ...common, dataPointType: DataPointType.SUM, dataPoints, isMonotonic: metric.kind === 'counter' };
}

const text = fc.string({ unit: fc.constantFrom('a', 'Z', '.', 'é', '\u{1f600}', ' '), minLength: 1, maxLength: 30 });
const attributes: fc.Arbitrary<Attributes> = fc.dictionary(
  text,
  fc.oneof(
    text,
    fc.boolean(),
    fc.integer(),
    fc.double({ min: -1e12, max: 1e12, noNaN: true }),
    fc.array(text, { maxLength: 3 }),
  ),
  { maxKeys: 4, noNullPrototype: true },
);
const described = {
  name: text,
  description: fc.option(text, { nil: '' }),
  unit: fc.constantFrom('s', 'By', '1', '{span}', ''),
};

const numbers: fc.Arbitrary<Metric> = fc
  .record({
    ...described,
    kind: fc.constantFrom('counter' as const, 'up_down_counter' as const, 'gauge' as const),
    points: fc.array(fc.record({ attributes, value: fc.integer({ min: -(2 ** 40), max: 2 ** 50 }) }), {
      minLength: 1,
      maxLength: 3,
    }),
  })
  .map((metric) => metric);

const histograms: fc.Arbitrary<HistogramMetric> = fc
  .record({
    ...described,
    points: fc.array(
      fc.record({
        attributes,
        values: fc.array(fc.double({ min: 0, max: 1e4, noNaN: true }), { minLength: 1, maxLength: 20 }),
      }),
      {
        minLength: 1,
        maxLength: 3,
      },
    ),
  })
  .map(({ points, ...rest }) => ({
    ...rest,
    kind: 'histogram' as const,
    bounds: DATABASE_BOUNDS,
    points: points.map(({ attributes: own, values }) => {
      const histogram = new Histogram(DATABASE_BOUNDS, true);
      for (const value of values) histogram.record(value);
      return { attributes: own, startUnixUs: START_US + 5, ...histogram.read() };
    }),
  }));

test('what is encoded is what OpenTelemetry encodes, byte for byte', () => {
  fc.assert(
    fc.property(
      attributes,
      fc.array(fc.oneof(numbers, histograms), { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      (resource, metrics, exponential) => {
        const encoder = new MetricsEncoder({ scope, exponential, startUnixUs: START_US });
        const group = { resource, labels: {}, metrics };
        const [request] = encoder.encode([group], NOW_US);
        assert.deepEqual(request!.payload, Buffer.from(reference(group, exponential)));
        assert.equal(
          request!.points,
          metrics.reduce((sum, { points }) => sum + points.length, 0),
        );
      },
    ),
  );
});

interface Field {
  number: number;
  value: number | Buffer;
}

/** The fields of a message, fixed64 as bytes. */
function fieldsOf(bytes: Buffer): Field[] {
  const fields: Field[] = [];
  const reader = new Reader(bytes);
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = reader.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (!reader.isEmpty) {
    const tag = varint();
    const length = tag % 8 === 1 ? 8 : tag % 8 === 2 ? varint() : 0;
    fields.push({ number: Math.floor(tag / 8), value: tag % 8 === 0 ? varint() : Buffer.from(reader.take(length)) });
  }
  return fields;
}

const inside = (bytes: Buffer, ...path: readonly number[]): Buffer[] =>
  path.reduce<Buffer[]>(
    (found, number) =>
      found.flatMap((each) =>
        fieldsOf(each)
          .filter((field) => field.number === number)
          .map(({ value }) => value as Buffer),
      ),
    [bytes],
  );

for (const exponential of [false, true]) {
  test(`exemplars, of ${exponential ? 'exponential' : 'explicit'} histograms`, () => {
    const histogram = new Histogram(DATABASE_BOUNDS, true);
    for (const value of [0.002, 3]) {
      histogram.record(value);
      histogram.exemplify(value, Buffer.from(`${'ab'.repeat(16)}${'cd'.repeat(8)}`, 'hex'), START_US + value * 1e6);
    }
    const metric: HistogramMetric = {
      kind: 'histogram',
      name: 'x',
      unit: 's',
      description: '',
      bounds: DATABASE_BOUNDS,
      points: [{ attributes: {}, startUnixUs: START_US, ...histogram.read() }],
    };
    const encoder = new MetricsEncoder({ scope, exponential, startUnixUs: START_US });
    const [request] = encoder.encode([{ resource: {}, labels: {}, metrics: [metric] }], NOW_US);
    // ResourceMetrics, ScopeMetrics, Metric, its data, its point, its exemplars.
    const exemplars = inside(request!.payload, 1, 2, 2, exponential ? 10 : 9, 1, exponential ? 11 : 8);
    assert.deepEqual(
      exemplars.map((bytes) => {
        const field = (number: number): Buffer =>
          fieldsOf(bytes).find((each) => each.number === number)!.value as Buffer;
        return [
          field(3).readDoubleLE(),
          field(2).readBigUInt64LE(),
          field(4).toString('hex'),
          field(5).toString('hex'),
        ];
      }),
      [
        [0.002, 1_700_000_000_002_000_000n, 'cd'.repeat(8), 'ab'.repeat(16)],
        [3, 1_700_000_003_000_000_000n, 'cd'.repeat(8), 'ab'.repeat(16)],
      ],
    );
  });
}

test('many points become several requests, each point once', () => {
  const metric = (name: string, points: number): Metric => ({
    ...{ kind: 'gauge', name, unit: 'By', description: '' },
    points: Array.from({ length: points }, (_, value) => ({ attributes: {}, value })),
  });
  const encoder = new MetricsEncoder({ scope, exponential: false, startUnixUs: START_US });
  const groups = [[metric('a', 700), metric('b', 700)], [metric('c', 2500)], [metric('d', 1)], [metric('e', 0)]].map(
    (metrics) => ({ resource: {}, labels: {}, metrics }),
  );
  const requests = encoder.encode(groups, NOW_US);
  const counts = new Map<string, number>();
  for (const { payload, points } of requests) {
    assert.ok(points <= 1000);
    let seen = 0;
    for (const bytes of inside(payload, 1, 2, 2)) {
      const name = inside(bytes, 1)[0]!.toString();
      const values = inside(bytes, 5, 1);
      seen += values.length;
      counts.set(name, (counts.get(name) ?? 0) + values.length);
    }
    assert.equal(seen, points);
  }
  assert.deepEqual(Object.fromEntries(counts), { a: 700, b: 700, c: 2500, d: 1 });
  assert.deepEqual(encoder.encode([], NOW_US), []);
});
