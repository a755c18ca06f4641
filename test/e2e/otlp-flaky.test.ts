/**
 * Thirty minutes of traffic, 20 requests a second, at fifty times their speed through a Collector that is killed, stopped, slow and without
 * its backend, again and again: every span has arrived, or stands in a batch that the backend never takes, which is counted.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { accept, GrpcBackend, type GrpcBehaviour } from '../support/otlp/backend.ts';
import { decodeRequest, spansOf } from '../support/otlp/decode.ts';
import { assertAccounted, startExportRun } from '../support/otlp/export-run.ts';
import { startRelay } from '../support/otlp/relay.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { captureHeader, exchangeRecords } from '../support/wire/traffic.ts';

const MINUTES = 30;
const SPEED = 50;
const GAP_US = 50_000;
const EXCHANGES = (MINUTES * 60_000_000) / GAP_US;
const DURATION_MS = (MINUTES * 60_000) / SPEED;
/** Each write holds this much of real time. */
const WRITE_MS = 20;

test('30 minutes of traffic at 50 times their speed through a flaky Collector: sent = received + counted', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  const refused = new Map<string, number>();
  let delayMs = 0;
  /** One batch of ten is never taken: the same one however often it comes. */
  const behave: GrpcBehaviour = (call, respond) => {
    const spans = spansOf(decodeRequest(call.request));
    const name = spans[0]!.traceId;
    if (Number.parseInt(name.slice(0, 6), 16) % 10 === 0) {
      refused.set(name, spans.length);
      respond({ code: grpc.status.INVALID_ARGUMENT, details: 'on purpose' });
    } else setTimeout(() => accept(call, respond), delayMs);
  };
  backend.behave = behave;
  const relay = await startRelay(cleanup, { target: backend.endpoint });
  const run = await startExportRun(cleanup, {
    stdin: 'open',
    config: {
      otlp: { endpoint: `http://127.0.0.1:${relay.grpcPort}`, timeout_ms: 3000, compression: 'gzip' },
      export: { batch_spans: 400, batch_delay_ms: 500 },
    },
  });

  const begunMs = performance.now();
  const isOver = (): boolean => performance.now() - begunMs >= DURATION_MS;
  const faults: readonly (() => Promise<void>)[] = [
    async () => {
      await relay.kill();
      await sleep(500);
      await relay.restart();
    },
    async () => {
      relay.running.child.kill('SIGSTOP');
      await sleep(4000);
      relay.running.child.kill('SIGCONT');
    },
    async () => {
      backend.stop();
      await sleep(1500);
      await backend.start();
    },
    async () => {
      delayMs = 300;
      await sleep(2000);
      delayMs = 0;
    },
  ];
  let troubles = 0;
  const trouble = async (): Promise<void> => {
    while (!isOver()) {
      await sleep(1500);
      await faults[troubles++ % faults.length]!();
    }
  };
  const feed = async (): Promise<void> => {
    const stdin = run.running.child.stdin!;
    stdin.write(captureHeader());
    const perWrite = (WRITE_MS * 1000 * SPEED) / GAP_US;
    let chunk: Buffer[] = [];
    let written = 0;
    for (const records of exchangeRecords({ exchanges: EXCHANGES, gapUs: GAP_US, perConnection: 60 })) {
      chunk.push(records);
      if (chunk.length < perWrite) continue;
      written += chunk.length;
      if (!stdin.write(Buffer.concat(chunk))) await once(stdin, 'drain');
      chunk = [];
      await sleep(Math.max(0, begunMs + (written * GAP_US) / 1000 / SPEED - performance.now()));
    }
    stdin.end(Buffer.concat(chunk));
  };
  await Promise.all([feed(), trouble()]);
  const stats = await run.ended();

  assert.ok(troubles >= 4, String(troubles));
  assertAccounted(stats, 2 * EXCHANGES, backend.spans);
  const counted = [...refused.values()].reduce((sum, n) => sum + n, 0);
  assert.ok(counted > 0);
  assert.deepEqual(stats.spans.dropped, { export_failed: counted });
  assert.match(run.running.stderr, /trying again/);
  assert.ok(stats.peakRssBytes < 300e6, String(stats.peakRssBytes));
});
