import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Batch, BatchExporter, ExportOutcome } from '../../../src/export/batch.ts';
import { MetricsEncoder } from '../../../src/export/metrics-encoder.ts';
import { MetricsPush } from '../../../src/export/metrics-push.ts';
import type { MetricGroup } from '../../../src/metric/metric.ts';
import { Log } from '../../../src/telemetry/log.ts';

const INTERVAL_MS = 1000;
const delivered: ExportOutcome = { delivered: true, rejected: 0, message: '' };
const away: ExportOutcome = {
  delivered: false,
  failure: { status: 'UNAVAILABLE', retryable: true, retryDelayMs: undefined },
  reason: 'connect ECONNREFUSED',
};

class Backend implements BatchExporter {
  readonly batches: Batch[] = [];
  readonly waiting: ((outcome: ExportOutcome) => void)[] = [];
  isShut = false;

  exportBatch(batch: Batch, done: (outcome: ExportOutcome) => void): void {
    this.batches.push(batch);
    this.waiting.push(done);
  }

  /** Answers what is under way. */
  answer(outcome: ExportOutcome): void {
    for (const done of this.waiting.splice(0)) done(outcome);
  }

  shutdown(): Promise<void> {
    this.isShut = true;
    return Promise.resolve();
  }
}

const group = (points: number): MetricGroup => ({
  resource: {},
  labels: {},
  metrics: [
    {
      kind: 'gauge',
      name: 'x',
      unit: 'By',
      description: '',
      points: Array.from({ length: points }, (_, value) => ({ attributes: {}, value })),
    },
  ],
});

function setUp(points = 3): { backend: Backend; push: MetricsPush; lines: string[] } {
  const backend = new Backend();
  const lines: string[] = [];
  const push = new MetricsPush({
    exporter: backend,
    encoder: new MetricsEncoder({ scope: { name: 'x', version: '1' }, exponential: false, startUnixUs: 1 }),
    collect: () => [group(points)],
    intervalMs: INTERVAL_MS,
    log: new Log({ level: 'info', format: 'text', write: (line) => lines.push(line), now: () => 0 }),
  });
  return { backend, push, lines };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('every so often, but never two rounds at once; the last values at the end', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const { backend, push } = setUp();
  t.mock.timers.tick(INTERVAL_MS - 1);
  assert.equal(backend.batches.length, 0);
  t.mock.timers.tick(1);
  assert.equal(backend.batches.length, 1);
  assert.deepEqual(push.state(), { inFlight: 3, exported: 0, dropped: {} });
  t.mock.timers.tick(3 * INTERVAL_MS);
  assert.equal(backend.batches.length, 1);
  backend.answer(delivered);
  await settled();
  assert.deepEqual(push.state(), { inFlight: 0, exported: 3, dropped: {} });
  t.mock.timers.tick(INTERVAL_MS);
  assert.equal(backend.batches.length, 2);
  const end = push.shutdown(5000);
  backend.answer(delivered);
  await settled();
  assert.equal(backend.batches.length, 3);
  backend.answer(delivered);
  await end;
  assert.equal(push.state().exported, 9);
  assert.ok(backend.isShut);
  t.mock.timers.tick(10 * INTERVAL_MS);
  assert.equal(backend.batches.length, 3);
});

test('the end waits no longer than it may', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const { backend, push } = setUp();
  const end = push.shutdown(500);
  await settled();
  t.mock.timers.tick(500);
  await end;
  assert.deepEqual(push.state(), { inFlight: 3, exported: 0, dropped: {} });
  assert.ok(backend.isShut);
});

test('a backend that is away is told once, and when it is back; points are counted by what became of them', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const { backend, push, lines } = setUp(1500);
  for (const outcome of [away, away, { ...delivered, rejected: 7, message: 'too old' }, delivered]) {
    t.mock.timers.tick(INTERVAL_MS);
    await settled();
    // Two requests each time, one after the other.
    for (let request = 0; request < 2; request++) {
      backend.answer(outcome);
      await settled();
    }
  }
  assert.deepEqual(push.state(), { inFlight: 0, exported: 2986, dropped: { UNAVAILABLE: 3000, rejected: 14 } });
  assert.deepEqual(
    lines.map((line) =>
      line
        .split(' ')
        .slice(2)
        .join(' ')
        .trim()
        .replace(/ advice=.*/, ''),
    ),
    [
      'metrics cannot be delivered at the moment status=UNAVAILABLE reason="connect ECONNREFUSED"',
      'the backend rejected metrics points=7 reason="too old"',
      'the backend rejected metrics points=7 reason="too old"',
      'metrics are delivered again',
    ],
  );
});

test('an error of our own costs a round, and is told', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const { backend, push, lines } = setUp();
  const batches = backend.exportBatch.bind(backend);
  backend.exportBatch = () => {
    throw new Error('no thread');
  };
  t.mock.timers.tick(INTERVAL_MS);
  await settled();
  backend.exportBatch = batches;
  t.mock.timers.tick(INTERVAL_MS);
  await settled();
  backend.answer({ ...delivered, message: 'slow down' });
  await settled();
  assert.deepEqual(push.state(), { inFlight: 0, exported: 3, dropped: {} });
  assert.deepEqual(
    lines.map((line) => line.split(' ').slice(2).join(' ').trim()),
    [
      'metrics cannot be delivered at the moment status=internal reason="no thread"',
      'the backend accepted metrics with a warning reason="slow down"',
      'metrics are delivered again',
    ],
  );
});
