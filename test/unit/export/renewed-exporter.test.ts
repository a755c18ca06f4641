import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BatchExporter, ExportOutcome } from '../../../src/export/batch.ts';
import type { OtlpSettings } from '../../../src/export/otlp-settings.ts';
import { RenewedExporter } from '../../../src/export/renewed-exporter.ts';

const settings = { protocol: 'grpc' } as OtlpSettings;
const batch = { payload: Buffer.alloc(0), spans: 1, byteLength: 0 };

function failure(status: string): ExportOutcome {
  return { delivered: false, failure: { status, retryable: true, retryDelayMs: undefined }, reason: '' };
}

test('begins anew while no connection can be had, not more often than every ten seconds', async (t) => {
  let nowMs = 0;
  t.mock.method(performance, 'now', () => nowMs);
  let made = 0;
  let ended = 0;
  let status = 'UNAVAILABLE';
  const exporter = new RenewedExporter(settings, () => {
    made++;
    const each: BatchExporter = {
      exportBatch: (_, done) => done(failure(status)),
      shutdown: () => {
        ended++;
        return Promise.resolve();
      },
    };
    return Promise.resolve(each);
  });
  const send = () => new Promise<ExportOutcome>((resolve) => exporter.exportBatch(batch, resolve));
  for (const [atMs, made_] of [
    [0, 1],
    [9000, 1],
    [11_000, 1],
    [12_000, 2],
    [20_000, 2],
    [22_000, 2],
    [23_000, 3],
  ] as const) {
    nowMs = atMs;
    await send();
    assert.equal(made, made_, `at ${atMs}`);
  }
  assert.equal(ended, 2);
  // A backend that answers is connected.
  status = 'RESOURCE_EXHAUSTED';
  nowMs = 90_000;
  await send();
  await send();
  assert.equal(made, 3);
});

test('one that cannot be made is a failure that may pass', async () => {
  let tries = 0;
  const exporter = new RenewedExporter(settings, () => {
    tries++;
    return Promise.reject(new Error('ca_file /x cannot be read: there is no such file'));
  });
  for (let i = 1; i < 3; i++) {
    const outcome = await new Promise<ExportOutcome>((resolve) => exporter.exportBatch(batch, resolve));
    assert.ok(!outcome.delivered && outcome.failure.retryable);
    assert.equal(outcome.reason, 'ca_file /x cannot be read: there is no such file');
    assert.equal(tries, i);
  }
  await exporter.shutdown();
});
