/**
 * What a backend that speaks OTLP/gRPC can do to the real program, one test for each: what was sent is what was received and what was
 * counted as lost.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { accept, first, GrpcBackend, partialSuccess, refuse, retryInfo, Wire } from '../support/otlp/backend.ts';
import { assertAccounted, startExportRun } from '../support/otlp/export-run.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { PATIENCE_MS } from '../support/programs/paths.ts';

/** Of 200 exchanges. */
const SENT = 400;

const variables = (endpoint: string) => ({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });

test('UNAVAILABLE: tried again until it arrives', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  backend.behave = first(3, refuse(grpc.status.UNAVAILABLE), accept);
  const run = await startExportRun(cleanup, { env: variables(backend.endpoint) });
  const stats = await run.ended();
  assertAccounted(stats, SENT, backend.spans);
  assert.equal(stats.spans.exported, SENT);
  assert.match(run.running.stderr, /trying again status=UNAVAILABLE/);
  assert.match(run.running.stderr, /delivered again/);
});

test('RESOURCE_EXHAUSTED with RetryInfo: comes back after the time that is asked for, not before', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  backend.behave = first(1, refuse(grpc.status.RESOURCE_EXHAUSTED, retryInfo(2500)), accept);
  const run = await startExportRun(cleanup, { env: variables(backend.endpoint), config: { export: { in_flight: 1 } } });
  assertAccounted(await run.ended(), SENT, backend.spans);
  assert.equal(backend.spans, SENT);
  const [refused, second] = backend.requests;
  assert.ok(second!.atMs - refused!.atMs >= 2490, String(second!.atMs - refused!.atMs));
});

test('RESOURCE_EXHAUSTED without RetryInfo: final, counted', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  backend.behave = first(2, refuse(grpc.status.RESOURCE_EXHAUSTED), accept);
  const run = await startExportRun(cleanup, { env: variables(backend.endpoint) });
  const stats = await run.ended();
  assertAccounted(stats, SENT, backend.spans);
  assert.deepEqual(stats.spans.dropped, { export_failed: 100 });
});

test('PERMISSION_DENIED: final, counted, with what to do', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  backend.behave = refuse(grpc.status.PERMISSION_DENIED);
  const run = await startExportRun(cleanup, {
    env: { ...variables(backend.endpoint), OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20planted-token' },
  });
  const stats = await run.ended();
  assertAccounted(stats, SENT, backend.spans);
  assert.deepEqual(stats.spans.dropped, { export_failed: SENT });
  assert.equal(backend.requests.length, 8);
  assert.equal(backend.requests[0]!.headers.authorization, 'Bearer planted-token');
  assert.match(run.running.stderr, /could not be exported .*PERMISSION_DENIED.*check the headers/);
  assert.doesNotMatch(run.running.stderr, /planted/);
});

test('partial success: what is rejected is counted, by what the backend says', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  let requests = 0;
  backend.behave = (_call, respond) => {
    const rejected = requests++ % 2 === 0 ? 7 : 0;
    const message = requests < 5 ? 'too old' : 'too long';
    respond(null, rejected > 0 ? partialSuccess(rejected, message) : Buffer.alloc(0), rejected);
  };
  const run = await startExportRun(cleanup, { env: variables(backend.endpoint) });
  const stats = await run.ended();
  assertAccounted(stats, SENT, backend.spans);
  assert.deepEqual(stats.spans.dropped, { rejected: 28 });
  assert.deepEqual(stats.spans.rejections, { 'too old': 14, 'too long': 14 });
});

test('one request per second, then none: what was not delivered is counted at the deadline', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  let free = Promise.resolve();
  let answers = 0;
  backend.behave = (_call, respond) => {
    free = free.then(() => sleep(1000)).then(() => (answers++ < 3 ? respond(null, Buffer.alloc(0)) : undefined));
  };
  const run = await startExportRun(cleanup, {
    traffic: { exchanges: 500 },
    env: variables(backend.endpoint),
    config: { export: { batch_spans: 100, in_flight: 2, flush_deadline_ms: 4000 } },
  });
  const stats = await run.ended();
  assertAccounted(stats, 1000, backend.spans);
  assert.ok(backend.spans >= 100 && backend.spans <= 300, String(backend.spans));
  assert.deepEqual(stats.spans.dropped, { deadline: 1000 - backend.spans });
  assert.ok(backend.mostConcurrent <= 2);
});

test('a full TCP window: what was not answered is sent again, and nothing is lost', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  backend.behave = (call, respond) => setTimeout(() => accept(call, respond), 200);
  const wire = await new Wire(backend.port).start(cleanup);
  const run = await startExportRun(cleanup, {
    traffic: { exchanges: 20_000 },
    env: { ...variables(wire.endpoint), OTEL_EXPORTER_OTLP_TIMEOUT: '3000' },
    config: { export: { batch_spans: 2000 } },
  });
  await until(() => (backend.requests.length >= 2 ? true : undefined), 'two requests');
  wire.stop();
  await run.running.waitFor('stderr', /trying again status=DEADLINE_EXCEEDED/);
  wire.resume();
  const stats = await run.ended();
  assertAccounted(stats, 40_000, backend.spans);
  assert.equal(stats.spans.exported, 40_000);
});

/** Few enough that the source is not made to wait. */
const HELD = { exchanges: 100 };

test('a name that cannot be resolved: said, with what to do; counted at the deadline', async (t) => {
  const cleanup = cleanupAfter(t);
  const run = await startExportRun(cleanup, {
    traffic: HELD,
    stdin: 'held',
    env: variables('http://nowhere.invalid:4317'),
    config: { export: { flush_deadline_ms: 300 } },
  });
  await run.running.waitFor(
    'stderr',
    /trying again .*the name in the endpoint cannot be resolved: check it, and DNS/,
    PATIENCE_MS,
  );
  run.release();
  const stats = await run.ended();
  assertAccounted(stats, 200, 0);
  assert.deepEqual(stats.spans.dropped, { deadline: 200 });
});

test('nothing listens: said, with what to do; counted at the deadline', async (t) => {
  const cleanup = cleanupAfter(t);
  const run = await startExportRun(cleanup, {
    traffic: HELD,
    stdin: 'held',
    env: variables('http://127.0.0.1:1'),
    config: { export: { flush_deadline_ms: 300 } },
  });
  await run.running.waitFor('stderr', /trying again .*nothing listens at the endpoint/, PATIENCE_MS);
  run.release();
  const stats = await run.ended();
  assertAccounted(stats, 200, 0);
  assert.deepEqual(stats.spans.dropped, { deadline: 200 });
});

test('killed, and started again at the same place: everything arrives', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  backend.behave = (call, respond) => setTimeout(() => accept(call, respond), 20);
  const run = await startExportRun(cleanup, {
    traffic: { exchanges: 3000 },
    env: variables(backend.endpoint),
    config: { export: { queue_spans: 100_000 } },
  });
  for (let kill = 1; kill <= 2; kill++) {
    const before = backend.requests.length;
    await until(() => (backend.requests.length > before + 10 ? true : undefined), 'requests');
    backend.stop();
    await sleep(300);
    await backend.start();
  }
  const stats = await run.ended();
  assertAccounted(stats, 6000, backend.spans);
  assert.equal(stats.spans.exported, 6000);
});
