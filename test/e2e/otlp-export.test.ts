import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Worker } from 'node:worker_threads';
import * as grpc from '@grpc/grpc-js';
import { readEnvironment } from '../../src/config/environment.ts';
import { loadConfig } from '../../src/config/load.ts';
import { createOutputs } from '../../src/export/create.ts';
import { GrpcTraceExporter } from '../../src/export/grpc-exporter.ts';
import { type OtlpOptions, OtlpOutput } from '../../src/export/otlp.ts';
import { otlpSettings } from '../../src/export/otlp-settings.ts';
import { ReadableBatcher } from '../../src/export/readable-span.ts';
import { WorkerTraceExporter } from '../../src/export/worker-exporter.ts';
import type { Span } from '../../src/span/span.ts';
import { newCounters } from '../../src/telemetry/counters.ts';
import { Log } from '../../src/telemetry/log.ts';
import { accept, GrpcBackend, partialSuccess, refuse, retryInfo } from '../support/otlp/backend.ts';
import { builder, exchange } from '../support/spans/fixtures.ts';

const FAST_RETRY = { initialMs: 20, maxMs: 80, giveUpMs: 10_000 };
const LIMITS = { queueSpans: 100_000, queueMib: 64, batchSpans: 100, batchDelayMs: 10, inFlight: 4 };

describe('OTLP over gRPC', () => {
  let backend: GrpcBackend;
  let lines: string[];
  let log: Log;
  const counters = newCounters();

  beforeEach(async () => {
    backend = new GrpcBackend();
    await backend.start();
    lines = [];
    log = new Log({ level: 'debug', format: 'text', write: (line) => lines.push(line) });
    Object.assign(counters, newCounters());
  });

  const outputs: OtlpOutput[] = [];

  afterEach(async () => {
    // Also after a test that failed: a thread that goes on would keep this process.
    await Promise.all(outputs.splice(0).map((each) => each.shutdown(0)));
    backend.stop();
  });

  function output(options: Partial<OtlpOptions> = {}, encoder: 'own' | 'sdk' = 'own'): OtlpOutput {
    const { otlp: defaults } = loadConfig(undefined);
    const settings = otlpSettings({ ...defaults, endpoint: backend.endpoint }, 'test/0');
    const scope = { name: 'wirespan', version: '0' };
    const made = new OtlpOutput({
      name: 'otlp',
      deliveries: counters.spans,
      log,
      scope,
      ...(encoder === 'own'
        ? { exporter: new WorkerTraceExporter(settings, LIMITS.inFlight) }
        : { exporter: new GrpcTraceExporter(settings), batcher: new ReadableBatcher(scope) }),
      limits: LIMITS,
      retry: FAST_RETRY,
      ...options,
    });
    outputs.push(made);
    return made;
  }

  let offset = 0;
  /** Sends `exchanges` exchanges of two spans each. */
  function send(to: OtlpOutput, exchanges: number, target = '/x'): number {
    const spans = builder({ counters });
    for (let i = 0; i < exchanges; i++) {
      const each = exchange({ target, streamOffset: ++offset });
      to.exchange(each, spans.build(each));
    }
    return 2 * exchanges;
  }

  function dropped(): number {
    return Object.values(counters.spans.dropped).reduce((sum, n) => sum + n, 0);
  }

  function assertNothingUnexplained(sent: number): void {
    assert.equal(counters.spans.made, sent);
    assert.equal(counters.spans.exported + dropped(), sent, JSON.stringify(counters.spans));
  }

  for (const encoder of ['own', 'sdk'] as const) {
    it(`delivers every span once, in batches, several under way (${encoder} encoder)`, async () => {
      backend.behave = (_call, respond) => setTimeout(() => respond(null, Buffer.alloc(0)), 20);
      const to = output({}, encoder);
      const sent = send(to, 1000);
      await to.shutdown(5000);
      assert.equal(backend.spans, sent);
      assert.equal(counters.spans.exported, sent);
      assert.equal(dropped(), 0);
      assert.deepEqual([...new Set(backend.received.values())], [1]);
      assert.equal(backend.requests.length, 20);
      assert.ok(backend.mostConcurrent > 1 && backend.mostConcurrent <= 4, String(backend.mostConcurrent));
    });
  }

  it('sends a batch that is not full after its delay', async () => {
    const to = output({ limits: { ...LIMITS, batchDelayMs: 30 } });
    send(to, 1);
    await until(() => counters.spans.exported === 2);
    assert.equal(backend.requests.length, 1);
    await to.shutdown(1000);
  });

  for (const code of [
    'CANCELLED',
    'DEADLINE_EXCEEDED',
    'ABORTED',
    'OUT_OF_RANGE',
    'UNAVAILABLE',
    'DATA_LOSS',
  ] as const) {
    it(`tries again after ${code}`, async () => {
      let failures = 3;
      backend.behave = (call, respond) =>
        failures-- > 0 ? refuse(grpc.status[code])(call, respond) : accept(call, respond);
      const to = output();
      const sent = send(to, 10);
      await until(() => counters.spans.exported === sent);
      assert.equal(backend.requests.length, 4);
      assert.ok(lines.some((line) => line.includes('trying again') && line.includes(code)));
      assert.ok(lines.some((line) => line.includes('delivered again')));
      await to.shutdown(1000);
      assertNothingUnexplained(sent);
    });
  }

  for (const code of [
    'INVALID_ARGUMENT',
    'UNAUTHENTICATED',
    'PERMISSION_DENIED',
    'UNIMPLEMENTED',
    'INTERNAL',
    'RESOURCE_EXHAUSTED',
  ] as const) {
    it(`gives up after ${code}`, async () => {
      backend.behave = refuse(grpc.status[code]);
      const to = output();
      const sent = send(to, 10);
      await to.shutdown(20_000);
      assert.equal(backend.requests.length, 1);
      assert.deepEqual(counters.spans.dropped, { export_failed: sent });
      assertNothingUnexplained(sent);
    });
  }

  it('waits as long as RetryInfo says', async () => {
    let failures = 1;
    backend.behave = (call, respond) =>
      failures-- > 0 ? refuse(grpc.status.RESOURCE_EXHAUSTED, retryInfo(300))(call, respond) : accept(call, respond);
    const to = output();
    const sent = send(to, 10);
    await until(() => counters.spans.exported === sent);
    const [first, second] = backend.requests;
    assert.ok(second!.atMs - first!.atMs >= 290, String(second!.atMs - first!.atMs));
    await to.shutdown(1000);
    assertNothingUnexplained(sent);
  });

  it('counts what a partial success rejects', async () => {
    backend.behave = (_call, respond) => respond(null, partialSuccess(3, 'no'));
    const to = output();
    const sent = send(to, 10);
    await to.shutdown(20_000);
    assert.equal(counters.spans.exported, sent - 3);
    assert.deepEqual(counters.spans.dropped, { rejected: 3 });
    assert.deepEqual(counters.spans.rejections, { no: 3 });
    assert.deepEqual(to.state()?.rejections, { no: 3 });
    assert.ok(lines.some((line) => line.includes('rejected')));
  });

  it('takes a response that is no message as delivered', async () => {
    backend.behave = (_call, respond) => respond(null, Buffer.from('0aff', 'hex'));
    const to = output();
    const sent = send(to, 10);
    await to.shutdown(20_000);
    assert.equal(counters.spans.exported, sent);
  });

  it('survives a backend that goes away and comes back', async () => {
    const to = output();
    let sent = send(to, 200);
    await until(() => counters.spans.exported === sent);
    backend.stop();
    sent += send(to, 200);
    await until(() => lines.some((line) => line.includes('trying again')));
    await backend.start();
    await until(() => counters.spans.exported === sent);
    assert.equal(backend.spans, sent);
    await to.shutdown(1000);
    assertNothingUnexplained(sent);
  });

  it('drops the oldest of what waits for a dead backend, within its bounds, and the rest at the deadline', async () => {
    backend.stop();
    const to = output({ limits: { ...LIMITS, queueSpans: 1000 } });
    const sent = send(to, 5000);
    assert.ok((counters.spans.dropped.queue_full ?? 0) >= sent - 1000 - 4 * 100 - 100);
    const startMs = performance.now();
    await to.shutdown(300);
    assert.ok(performance.now() - startMs < 10_000);
    assert.ok((counters.spans.dropped.deadline ?? 0) > 0);
    assertNothingUnexplained(sent);
    assert.equal(counters.spans.exported, 0);
  });

  it('keeps within its bytes', async () => {
    backend.stop();
    const to = output({ limits: { ...LIMITS, queueMib: 1 } });
    const sent = send(to, 1000, `/${'x'.repeat(5000)}`);
    assert.ok((counters.spans.dropped.queue_full ?? 0) > sent / 2);
    await to.shutdown(50);
    assertNothingUnexplained(sent);
  });

  it('never blocks for a slow backend: sent = received + counted', async () => {
    backend.behave = (_call, respond) => setTimeout(() => respond(null, Buffer.alloc(0)), 50);
    const to = output({ limits: { ...LIMITS, queueSpans: 2000, inFlight: 2 } });
    let sent = 0;
    for (let round = 0; round < 20; round++) {
      const startMs = performance.now();
      sent += send(to, 500);
      assert.ok(performance.now() - startMs < 10_000);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await to.shutdown(5000);
    assert.ok((counters.spans.dropped.queue_full ?? 0) > 0);
    assert.equal(counters.spans.exported, backend.spans);
    assert.ok(backend.mostConcurrent <= 2);
    assertNothingUnexplained(sent);
  });

  it('lets a source that can wait, wait', async () => {
    backend.behave = (_call, respond) => setTimeout(() => respond(null, Buffer.alloc(0)), 5);
    const to = output({ limits: { ...LIMITS, queueSpans: 2000 } });
    let sent = 0;
    let waits = 0;
    for (let round = 0; round < 50; round++) {
      sent += send(to, 100);
      const ready = to.ready();
      if (ready !== undefined) {
        waits++;
        await ready;
      }
    }
    await to.shutdown(5000);
    assert.ok(waits > 0);
    assert.equal(dropped(), 0);
    assert.equal(backend.spans, sent);
  });

  it('gives up a batch that the backend never takes while it takes others, and holds up none of these', async () => {
    backend.behave = (call, respond) =>
      (call.request.includes('/poison') ? refuse(grpc.status.UNAVAILABLE) : accept)(call, respond);
    const to = output({ retry: { ...FAST_RETRY, giveUpMs: 300 } });
    const poison = send(to, 50, '/poison');
    let sent = poison;
    await until(() => {
      sent += send(to, 50, '/good');
      return (counters.spans.dropped.export_failed ?? 0) > 0;
    });
    await to.shutdown(20_000);
    assert.deepEqual(counters.spans.dropped, { export_failed: poison });
    assert.equal(backend.spans, sent - poison);
    assertNothingUnexplained(sent);
  });

  it('gives up nothing for an outage, however long; a source does not wait for its end', async () => {
    backend.stop();
    const to = output({ retry: { ...FAST_RETRY, giveUpMs: 300 }, limits: { ...LIMITS, queueSpans: 2000 } });
    const sent = send(to, 600);
    const startMs = performance.now();
    await to.ready();
    assert.ok(performance.now() - startMs >= 300);
    await backend.start();
    await until(() => counters.spans.exported === sent);
    await to.shutdown(1000);
    assertNothingUnexplained(sent);
  });

  it('splits batches below 4 MiB and drops a span that fits into none', async () => {
    const to = output({ limits: { ...LIMITS, batchSpans: 2048 } });
    let sent = send(to, 500, `/${'x'.repeat(20_000)}`);
    sent += send(to, 1, `/${'x'.repeat(5_000_000)}`);
    await to.shutdown(5000);
    assert.ok(backend.requests.length >= 5);
    for (const request of backend.requests) assert.ok(request.bytes < 4 * 1024 * 1024);
    assert.deepEqual(counters.spans.dropped, { too_large: 2 });
    assert.equal(backend.spans, sent - 2);
    assertNothingUnexplained(sent);
  });

  it('counts what was under way at the deadline once', async () => {
    const pending: (() => void)[] = [];
    backend.behave = (_call, respond) => pending.push(() => respond(null, Buffer.alloc(0)));
    const to = output();
    const sent = send(to, 1000);
    await until(() => pending.length > 0);
    await to.shutdown(100);
    assert.equal(counters.spans.dropped.deadline, sent);
    for (const respond of pending) respond();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assertNothingUnexplained(sent);
    const late = send(to, 1);
    assert.equal(counters.spans.dropped.shutdown, late);
  });

  it('starts a new thread when the one that exports ends, and sends again what that one did not say of', async () => {
    const threads: Worker[] = [];
    const onThread = (thread: Worker) => threads.push(thread);
    process.on('worker', onThread);
    try {
      let answers = false;
      backend.behave = (_call, respond) => {
        if (answers) respond(null, Buffer.alloc(0));
      };
      const to = output();
      const first = send(to, 50);
      await until(() => backend.requests.length === 1);
      await threads[0]!.terminate();
      answers = true;
      const second = send(to, 50);
      await until(() => counters.spans.exported === first + second);
      assert.deepEqual([threads.length, counters.spans.dropped], [2, {}]);
      await to.shutdown(1000);
      assertNothingUnexplained(first + second);
    } finally {
      process.off('worker', onThread);
    }
  });

  it('follows the standard variables', async () => {
    const url = backend.endpoint;
    const variables = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1',
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url,
      OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=one,x-both=general',
      OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'x-both=traces',
      OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
      OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: '250',
    };
    const config = loadConfig(undefined, { below: readEnvironment(variables).values });
    const [to] = await createOutputs([], { counters, log, version: '9', environment: {}, config });
    assert.ok(to instanceof OtlpOutput);
    const sent = send(to, 50);
    await until(() => counters.spans.exported === sent);
    const { headers } = backend.requests[0]!;
    assert.equal(headers['x-tenant'], 'one');
    assert.equal(headers['x-both'], 'traces');
    // The transport hides the encoding of messages; that gzip was agreed on shows here.
    assert.match(headers['user-agent']!, /^wirespan\/9 OTel-OTLP-Exporter-JavaScript/);
    backend.behave = () => {};
    send(to, 1);
    await until(() => lines.some((line) => line.includes('DEADLINE_EXCEEDED')));
    await to.shutdown(50);
  });

  it('keeps the spans it is given apart from those of later exchanges', async () => {
    const to = output();
    const spans = builder({ counters });
    const kept: Span[] = [];
    for (const target of ['/one', '/two']) {
      const made = spans.build(exchange({ target, streamOffset: ++offset }));
      for (const span of made) kept.push(span.clone());
      to.exchange(exchange({ target }), made);
    }
    await to.shutdown(20_000);
    for (const span of kept) assert.ok(backend.received.has(span.traceId + span.spanId));
  });
});

async function until(condition: () => boolean, timeoutMs = 30_000): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadlineMs) assert.fail('it did not come');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
