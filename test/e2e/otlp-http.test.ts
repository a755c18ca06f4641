/** The real program over http/protobuf, and what an HTTP backend can do to it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  acceptHttp,
  first,
  GrpcBackend,
  HttpBackend,
  partialSuccess,
  refuseHttp,
  Wire,
} from '../support/otlp/backend.ts';
import { assertAccounted, startExportRun } from '../support/otlp/export-run.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { PATIENCE_MS } from '../support/programs/paths.ts';

const SENT = 400;

test('by the standard variables: protocol, base of the endpoint, headers, gzip', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new HttpBackend().start(cleanup);
  const run = await startExportRun(cleanup, {
    env: {
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/protobuf',
      OTEL_EXPORTER_OTLP_ENDPOINT: `${backend.endpoint}/tenant-1`,
      OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=general,x-other=yes',
      OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'x-tenant=traces',
      OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    },
  });
  const stats = await run.ended();
  assertAccounted(stats, SENT, backend.spans);
  assert.equal(stats.spans.exported, SENT);
  for (const { headers } of backend.requests) {
    assert.equal(headers[':path'], '/tenant-1/v1/traces');
    assert.equal(headers['x-tenant'], 'traces');
    assert.equal(headers['x-other'], 'yes');
    assert.equal(headers['content-encoding'], 'gzip');
    assert.equal(headers['content-type'], 'application/x-protobuf');
    assert.match(headers['user-agent']!, /^wirespan\//);
  }
});

test('by the configuration file, which goes before the environment; several backends, each with a queue of its own', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new HttpBackend().start(cleanup);
  const copy = await new HttpBackend().start(cleanup);
  copy.behave = first(2, refuseHttp(400), acceptHttp);
  const run = await startExportRun(cleanup, {
    // Few enough that the source is not made to wait for the one that is gone.
    traffic: { exchanges: 100 },
    stdin: 'held',
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=planted-for-the-first',
    },
    config: {
      otlp: { endpoint: backend.endpoint, protocol: 'http/protobuf' },
      otlp_copies: [
        {
          name: 'archive',
          endpoint: `${copy.endpoint}/in`,
          protocol: 'http/protobuf',
          compression: 'gzip',
          headers: { 'x-key': 'planted-for-the-copy' },
        },
        { name: 'gone', endpoint: 'http://127.0.0.1:1', protocol: 'http/protobuf' },
      ],
      export: { flush_deadline_ms: 300 },
      log: { level: 'debug' },
    },
  });
  await until(
    () => (backend.spans === 200 && copy.requests.length === 4 ? true : undefined),
    'the spans at both',
    PATIENCE_MS,
  );
  await run.running.waitFor('stderr', /output=otlp:gone .*nothing listens/, PATIENCE_MS);
  run.release();
  const stats = await run.ended();
  assertAccounted(stats, 200, 200);
  const archive = stats.otherOutputs['otlp:archive']!;
  assert.deepEqual(archive, { exported: copy.spans, dropped: { export_failed: 100 } });
  assert.equal(copy.spans, 100);
  assert.deepEqual(stats.otherOutputs['otlp:gone'], { exported: 0, dropped: { deadline: 200 } });
  // One backend is not told what is meant for another.
  assert.equal(backend.requests[0]!.headers.authorization, 'planted-for-the-first');
  assert.equal(backend.requests[0]!.headers['x-key'], undefined);
  assert.equal(copy.requests[0]!.headers.authorization, undefined);
  assert.equal(copy.requests[0]!.headers['x-key'], 'planted-for-the-copy');
  assert.equal(copy.requests[0]!.headers[':path'], '/in');
  assert.doesNotMatch(run.running.stderr, /planted/);
});

test('a copy over gRPC does not get the headers of the environment', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new GrpcBackend().start(cleanup);
  const copy = await new GrpcBackend().start(cleanup);
  const run = await startExportRun(cleanup, {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoint, OTEL_EXPORTER_OTLP_HEADERS: 'authorization=planted' },
    config: { otlp_copies: [{ name: 'b', endpoint: copy.endpoint }] },
  });
  const stats = await run.ended();
  assert.deepEqual([backend.spans, copy.spans, stats.otherOutputs['otlp:b']!.exported], [SENT, SENT, SENT]);
  assert.equal(backend.requests[0]!.headers.authorization, 'planted');
  assert.equal(copy.requests[0]!.headers.authorization, undefined);
});

for (const status of [429, 503]) {
  test(`${status} with Retry-After: comes back after that time, not before`, async (t) => {
    const cleanup = cleanupAfter(t);
    const backend = await new HttpBackend().start(cleanup);
    backend.behave = first(1, refuseHttp(status, { 'retry-after': '3' }), acceptHttp);
    const run = await startExportRun(cleanup, {
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
      config: { export: { in_flight: 1 } },
    });
    assertAccounted(await run.ended(), SENT, backend.spans);
    assert.equal(backend.spans, SENT);
    const [refused, second] = backend.requests;
    assert.ok(second!.atMs - refused!.atMs >= 2990, String(second!.atMs - refused!.atMs));
  });
}

test('502 and 504: tried again', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new HttpBackend().start(cleanup);
  backend.behave = first(1, refuseHttp(502), first(1, refuseHttp(504), acceptHttp));
  const run = await startExportRun(cleanup, {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
  });
  assertAccounted(await run.ended(), SENT, backend.spans);
  assert.equal(backend.spans, SENT);
});

test('401: final, counted, with what to do', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new HttpBackend().start(cleanup);
  backend.behave = refuseHttp(401);
  const run = await startExportRun(cleanup, {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
  });
  const stats = await run.ended();
  assertAccounted(stats, SENT, 0);
  assert.deepEqual(stats.spans.dropped, { export_failed: SENT });
  assert.equal(backend.requests.length, 8);
  assert.match(run.running.stderr, /status="HTTP 401".*wants credentials: check the headers/);
});

test('partial success: counted by what the backend says', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new HttpBackend().start(cleanup);
  backend.behave = (response) => {
    response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end(partialSuccess(9, 'not today'));
    return { rejected: 9 };
  };
  const run = await startExportRun(cleanup, {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
  });
  const stats = await run.ended();
  assertAccounted(stats, SENT, backend.spans);
  assert.deepEqual(stats.spans.dropped, { rejected: 72 });
  assert.deepEqual(stats.spans.rejections, { 'not today': 72 });
});

test('a full TCP window: what was not answered is sent again, and nothing is lost', async (t) => {
  const cleanup = cleanupAfter(t);
  const backend = await new HttpBackend().start(cleanup);
  backend.behave = (response) => {
    setTimeout(() => acceptHttp(response, 0), 200);
    return { rejected: 0 };
  };
  const wire = await new Wire(backend.port).start(cleanup);
  const run = await startExportRun(cleanup, {
    traffic: { exchanges: 20_000 },
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: wire.endpoint,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
      OTEL_EXPORTER_OTLP_TIMEOUT: '3000',
    },
    config: { export: { batch_spans: 2000 } },
  });
  await until(() => (backend.requests.length >= 2 ? true : undefined), 'two requests');
  wire.stop();
  await run.running.waitFor('stderr', /trying again .*no answer within 3000 ms/, PATIENCE_MS);
  wire.resume();
  const stats = await run.ended();
  assertAccounted(stats, 40_000, backend.spans);
  assert.equal(stats.spans.exported, 40_000);
});
