import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HrTime, ValueType } from '@opentelemetry/api';
import {
  AggregationTemporality,
  AggregationType,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import fc from 'fast-check';
import { ExponentialHistogram, Histogram } from '../../../src/metric/histogram.ts';

const ids = (byte: number): Buffer => Buffer.alloc(32, byte);

test('values by explicit bounds: a bound belongs to the bucket below it', () => {
  const histogram = new Histogram([0.005, 0.01, 1], false);
  for (const value of [0, 0.005, 0.0051, 0.01, 0.5, 1, 1.0000001, 1e9]) histogram.record(value);
  const { count, sum, min, max, counts, exponential, exemplars } = histogram.read();
  assert.deepEqual([count, min, max, counts], [8, 0, 1e9, [2, 2, 2, 2]]);
  assert.ok(Math.abs(sum - 1_000_000_002.5201001) < 1e-6);
  assert.deepEqual([exponential, exemplars], [undefined, []]);
});

test('the least and the most of values that are all large, or all nothing', () => {
  const large = new Histogram([1], false);
  large.record(5);
  large.record(4);
  assert.deepEqual([large.read().min, large.read().max], [4, 5]);
  const nothing = new Histogram([1], true);
  nothing.record(0);
  assert.deepEqual(
    [nothing.read().min, nothing.read().max, nothing.read().exponential],
    [0, 0, { scale: 20, zeroCount: 1, offset: 0, counts: [] }],
  );
});

test('exemplars: one for each bucket, a newer one after a second', () => {
  const histogram = new Histogram([1, 2], false);
  for (const value of [0.5, 1.5, 1.6, 1.7]) histogram.record(value);
  histogram.exemplify(1.5, ids(1), 10_000_000);
  histogram.exemplify(1.6, ids(2), 10_999_999);
  histogram.exemplify(0.5, ids(3), 10_999_999);
  const trace = (byte: string): object => ({ traceId: byte.repeat(16), spanId: byte.repeat(8) });
  assert.deepEqual(histogram.read().exemplars, [
    { value: 0.5, unixUs: 10_999_999, ...trace('03') },
    { value: 1.5, unixUs: 10_000_000, ...trace('01') },
    undefined,
  ]);
  histogram.exemplify(1.7, ids(4), 11_000_000);
  assert.deepEqual(histogram.read().exemplars[1], { value: 1.7, unixUs: 11_000_000, ...trace('04') });
});

/** What OpenTelemetry's SDK makes of the same values. */
async function reference(values: readonly number[]): Promise<unknown> {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const provider = new MeterProvider({
    readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 1e9 })],
    views: [{ aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM }, instrumentName: 'x' }],
  });
  const instrument = provider.getMeter('t').createHistogram('x', { valueType: ValueType.DOUBLE });
  for (const value of values) instrument.record(value);
  await provider.forceFlush();
  const [metrics] = exporter.getMetrics();
  await provider.shutdown();
  const { value } = metrics!.scopeMetrics[0]!.metrics[0]!.dataPoints[0]! as unknown as {
    startTime: HrTime;
    value: { scale: number; zeroCount: number; positive: { offset: number; bucketCounts: number[] } };
  };
  const { scale, zeroCount, positive } = value;
  return { scale, zeroCount, offset: positive.offset, counts: positive.bucketCounts };
}

const seconds = fc.oneof(
  fc.double({ min: 1e-7, max: 1e5, noNaN: true }),
  fc.integer({ min: -30, max: 20 }).map((exponent) => 2 ** exponent),
  fc.constant(0),
);

test('exponential buckets are those of the SDK', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(seconds, { minLength: 1, maxLength: 300 }), async (values) => {
      const histogram = new ExponentialHistogram();
      for (const value of values) histogram.record(value);
      const mine = histogram.buckets();
      if (mine.counts.length === 0) assert.equal(mine.zeroCount, values.length);
      else assert.deepEqual(mine, await reference(values));
    }),
    { numRuns: 200 },
  );
});

test('exponential buckets: every value is in the bucket that it belongs to', () => {
  fc.assert(
    fc.property(fc.array(seconds, { maxLength: 500 }), (values) => {
      const histogram = new ExponentialHistogram();
      for (const value of values) histogram.record(value);
      const { scale, zeroCount, offset, counts } = histogram.buckets();
      assert.ok(counts.length <= 160);
      assert.equal(counts.reduce((sum, n) => sum + n, 0) + zeroCount, values.length);
      const base = 2 ** (2 ** -scale);
      const sorted = values.filter((value) => value > 0).sort((a, b) => a - b);
      for (const [at, count] of counts.entries()) {
        const [low, high] = [base ** (offset + at), base ** (offset + at + 1)];
        for (const value of sorted.splice(0, count)) {
          assert.ok(value > low * (1 - 1e-6) && value <= high * (1 + 1e-6), `${value} in ${low} to ${high}`);
        }
      }
    }),
  );
});
