/** The real program and a real Collector, to which happens what happens to Collectors; what its backend has acknowledged is the truth. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { accept, first, GrpcBackend, type GrpcBehaviour, refuse } from '../support/otlp/backend.ts';
import { assertAccounted, startExportRun } from '../support/otlp/export-run.ts';
import { startRelay } from '../support/otlp/relay.ts';
import { selfSigned } from '../support/programs/certificate.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { PATIENCE_MS } from '../support/programs/paths.ts';

/** Of 200 exchanges. */
const SENT = 400;

const slowly =
  (delayMs: number): GrpcBehaviour =>
  (call, respond) =>
    void setTimeout(() => accept(call, respond), delayMs);

suite('a Collector', { concurrency: 3 }, () => {
  for (const protocol of ['grpc', 'http/protobuf'] as const) {
    test(`takes ${protocol}, compressed, over mutual TLS`, async (t) => {
      const cleanup = cleanupAfter(t);
      const [server, client] = await Promise.all([selfSigned(cleanup), selfSigned(cleanup)]);
      const backend = await new GrpcBackend().start(cleanup);
      const relay = await startRelay(cleanup, {
        target: backend.endpoint,
        tls: { cert_file: server.certFile, key_file: server.keyFile, client_ca_file: client.certFile },
      });
      const run = await startExportRun(cleanup, {
        config: {
          otlp: {
            endpoint: `https://127.0.0.1:${protocol === 'grpc' ? relay.grpcPort : relay.httpPort}`,
            protocol,
            compression: 'gzip',
            ca_file: server.certFile,
            cert_file: client.certFile,
            key_file: client.keyFile,
          },
        },
      });
      assertAccounted(await run.ended(), SENT, backend.spans);
      assert.equal(backend.spans, SENT);
      assert.deepEqual([...new Set(backend.received.values())], [1]);
    });

    test(`that wants another certificate says so, over ${protocol}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const [server, client, other] = await Promise.all([1, 2, 3].map(() => selfSigned(cleanup)));
      const backend = await new GrpcBackend().start(cleanup);
      const relay = await startRelay(cleanup, {
        target: backend.endpoint,
        tls: { cert_file: server!.certFile, key_file: server!.keyFile, client_ca_file: client!.certFile },
      });
      const run = await startExportRun(cleanup, {
        traffic: { exchanges: 100 },
        stdin: 'held',
        config: {
          otlp: {
            endpoint: `https://127.0.0.1:${protocol === 'grpc' ? relay.grpcPort : relay.httpPort}`,
            protocol,
            ca_file: server!.certFile,
            cert_file: other!.certFile,
            key_file: other!.keyFile,
          },
          export: { flush_deadline_ms: 300 },
        },
      });
      await run.running.waitFor('stderr', /the backend wants another client certificate/, PATIENCE_MS);
      run.release();
      assertAccounted(await run.ended(), 200, 0);
    });

    test(`killed and started again loses nothing, over ${protocol}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const backend = await new GrpcBackend().start(cleanup);
      backend.behave = slowly(20);
      const relay = await startRelay(cleanup, { target: backend.endpoint });
      const run = await startExportRun(cleanup, {
        traffic: { exchanges: 2000 },
        config: {
          otlp: { endpoint: `http://127.0.0.1:${protocol === 'grpc' ? relay.grpcPort : relay.httpPort}`, protocol },
          export: { flush_deadline_ms: 2 * PATIENCE_MS },
        },
      });
      for (let kill = 1; kill <= 2; kill++) {
        const before = backend.requests.length;
        await until(() => (backend.requests.length > before + 5 ? true : undefined), 'requests');
        await relay.kill();
        await relay.restart();
      }
      const stats = await run.ended();
      assertAccounted(stats, 4000, backend.spans);
      assert.equal(stats.spans.exported, 4000);
    });

    test(`stopped reads nothing, the TCP window is full; then it goes on, over ${protocol}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const backend = await new GrpcBackend().start(cleanup);
      backend.behave = slowly(200);
      const relay = await startRelay(cleanup, { target: backend.endpoint });
      const run = await startExportRun(cleanup, {
        traffic: { exchanges: 20_000 },
        config: {
          otlp: {
            endpoint: `http://127.0.0.1:${protocol === 'grpc' ? relay.grpcPort : relay.httpPort}`,
            protocol,
            timeout_ms: 1500,
          },
          export: { batch_spans: 2000, flush_deadline_ms: 2 * PATIENCE_MS },
        },
      });
      await until(() => (backend.requests.length >= 2 ? true : undefined), 'two requests');
      relay.running.child.kill('SIGSTOP');
      await run.running.waitFor('stderr', /trying again .*(?:DEADLINE_EXCEEDED|no answer within)/, PATIENCE_MS);
      relay.running.child.kill('SIGCONT');
      const stats = await run.ended();
      assertAccounted(stats, 40_000, backend.spans);
      assert.equal(stats.spans.exported, 40_000);
    });

    test(`without its backend answers that it may pass, over ${protocol}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const backend = await new GrpcBackend().start(cleanup);
      backend.stop();
      const relay = await startRelay(cleanup, { target: backend.endpoint });
      const run = await startExportRun(cleanup, {
        config: {
          otlp: { endpoint: `http://127.0.0.1:${protocol === 'grpc' ? relay.grpcPort : relay.httpPort}`, protocol },
          export: { flush_deadline_ms: 2 * PATIENCE_MS },
        },
      });
      await run.running.waitFor('stderr', /trying again status=(?:UNAVAILABLE|"HTTP 503")/, PATIENCE_MS);
      await backend.start();
      const stats = await run.ended();
      assertAccounted(stats, SENT, backend.spans);
      assert.equal(stats.spans.exported, SENT);
    });

    test(`passes on a final refusal, over ${protocol}`, async (t) => {
      const cleanup = cleanupAfter(t);
      const backend = await new GrpcBackend().start(cleanup);
      backend.behave = first(3, refuse(grpc.status.INVALID_ARGUMENT), accept);
      const relay = await startRelay(cleanup, { target: backend.endpoint });
      const run = await startExportRun(cleanup, {
        config: {
          otlp: { endpoint: `http://127.0.0.1:${protocol === 'grpc' ? relay.grpcPort : relay.httpPort}`, protocol },
        },
      });
      const stats = await run.ended();
      assertAccounted(stats, SENT, backend.spans);
      assert.deepEqual(stats.spans.dropped, { export_failed: 150 });
    });
  }

  test('that serves one request per second loses nothing of a source that can wait', async (t) => {
    const cleanup = cleanupAfter(t);
    const backend = await new GrpcBackend().start(cleanup);
    let free = Promise.resolve();
    backend.behave = (_call, respond) => {
      free = free.then(() => sleep(1000)).then(() => respond(null, Buffer.alloc(0)));
    };
    const relay = await startRelay(cleanup, { target: backend.endpoint });
    const run = await startExportRun(cleanup, {
      config: {
        otlp: { endpoint: `http://127.0.0.1:${relay.grpcPort}` },
        export: { in_flight: 2, flush_deadline_ms: 2 * PATIENCE_MS },
      },
    });
    const stats = await run.ended();
    assertAccounted(stats, SENT, backend.spans);
    assert.equal(stats.spans.exported, SENT);
    assert.ok(backend.mostConcurrent <= 2);
  });

  test('that takes small messages only: final, counted, with what to do', async (t) => {
    const cleanup = cleanupAfter(t);
    const backend = await new GrpcBackend().start(cleanup);
    const relay = await startRelay(cleanup, { target: backend.endpoint, maxMessageMib: 1 });
    const run = await startExportRun(cleanup, {
      traffic: { exchanges: 10_000 },
      config: { otlp: { endpoint: `http://127.0.0.1:${relay.grpcPort}` }, export: { batch_spans: 6000 } },
    });
    const stats = await run.ended();
    assertAccounted(stats, 20_000, backend.spans);
    assert.deepEqual(stats.spans.dropped, { export_failed: 18_000 });
    assert.match(run.running.stderr, /status=RESOURCE_EXHAUSTED .*lower export\.batch_spans/);
  });
});
