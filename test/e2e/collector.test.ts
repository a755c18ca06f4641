/** The gateway's configuration in a real Collector: what comes in goes out, once, and the metrics of it are right. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { TraceState } from '@opentelemetry/core';
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';
import { ReadableSpans } from '../../src/export/readable-span.ts';
import { type Collector, collectorProgram, startCollector } from '../support/backends/collector.ts';
import type { Samples } from '../support/backends/samples.ts';
import { exportSpans, someSpan } from '../support/otlp/export.ts';
import { startSink } from '../support/otlp/sink.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { root } from '../support/programs/paths.ts';
import { run } from '../support/programs/process.ts';
import { builder, connection, mysqlExchange, sqlExchange } from '../support/spans/fixtures.ts';

const CALLS = 'traces_span_metrics_calls_total';
const DURATION = 'traces_span_metrics_duration_milliseconds_bucket';
const GRAPH = 'traces_service_graph_request_total';

/** Spans of a process of a service. */
function some(count: number, service = 'shop', process: (index: number) => number = () => 1): ReadableSpan[] {
  return Array.from({ length: count }, (_, index) => ({
    ...someSpan(index),
    resource: resourceFromAttributes({
      'service.name': service,
      'service.instance.id': `instance-${process(index)}`,
      'process.pid': process(index),
    }),
  }));
}

/** Waits until the metrics of that many spans are there. */
function metricsOf(collector: Collector, spans: number): Promise<Samples> {
  return until(async () => {
    const samples = await collector.metrics();
    return samples.sum(CALLS) >= spans ? samples : undefined;
  }, `metrics of ${spans} spans`);
}

test('gateway-balance.yaml with the headless Service that its comment gives', async (t) => {
  const text = await readFile(join(root, 'collector-config', 'gateway-balance.yaml'), 'utf8');
  const withDns = text
    .replace(/ +static:\n +hostnames:.*\n/, '')
    .replace(/^( +)# (dns:| +hostname:| +port:)/gm, '$1$2');
  assert.match(withDns, /resolver:\n(?: +#.*\n)* +dns:\n +hostname: \S+\n +port: "\d+"\n/);
  const file = join(await cleanupAfter(t).temporaryFolder(), 'gateway.yaml');
  await writeFile(file, withDns);
  await run(await collectorProgram(), ['validate', '--config', file]);
});

suite('agent-to-gateway.yaml', () => {
  test('to Jaeger and to Tempo', async (t) => {
    const cleanup = cleanupAfter(t);
    const sinks = await Promise.all([startSink(cleanup), startSink(cleanup)]);
    const [jaeger, tempo] = sinks.map(({ port }) => `127.0.0.1:${port}`);
    const collector = await startCollector(cleanup, 'agent-to-gateway.yaml', {
      env: { JAEGER_ENDPOINT: jaeger!, TEMPO_ENDPOINT: tempo!, BACKENDS: '[otlp_grpc/jaeger, otlp_grpc/tempo]' },
    });
    assert.equal(await exportSpans(collector.endpoint, some(300)), 0);
    for (const sink of sinks) {
      await until(async () => ((await sink.totals()).spans >= 300 ? true : undefined), '300 spans at a backend');
      assert.equal((await sink.totals()).spans, 300);
    }
  });

  test('a backend that comes late gets everything, once, and the metrics do not wait for it', async (t) => {
    const cleanup = cleanupAfter(t);
    const port = await freePort();
    const collector = await startCollector(cleanup, 'agent-to-gateway.yaml', {
      env: { JAEGER_ENDPOINT: `127.0.0.1:${port}` },
      args: ['--set=exporters.otlp_grpc/jaeger.retry_on_failure.initial_interval=200ms'],
    });
    const spans = some(900);
    for (let at = 0; at < spans.length; at += 300)
      assert.equal(await exportSpans(collector.endpoint, spans.slice(at, at + 300)), 0);
    assert.equal((await metricsOf(collector, 900)).sum(CALLS), 900);
    const sink = await startSink(cleanup, port);
    await until(
      async () => ((await sink.totals()).spans >= 900 ? true : undefined),
      '900 spans at the backend',
      60_000,
    );
    const own = await until(async () => {
      const samples = await collector.ownMetrics();
      return samples.sum('otelcol_exporter_sent_spans') >= 900 ? samples : undefined;
    }, '900 spans in the own metrics');
    assert.equal((await sink.totals()).spans, 900);
    // The rules look for these.
    for (const name of ['otelcol_exporter_sent_spans', 'otelcol_receiver_accepted_spans'])
      assert.equal(own.sum(name), 900, name);
    for (const name of ['otelcol_exporter_queue_size', 'otelcol_exporter_queue_capacity'])
      assert.equal(own.of(name).length, 1, name);
  });

  test('what it gives up and what it refuses is counted, under the names that the alerts look for', async (t) => {
    const cleanup = cleanupAfter(t);
    const sink = await startSink(cleanup);
    const PERMISSION_DENIED = 7;
    await sink.refuse(PERMISSION_DENIED, 1);
    const collector = await startCollector(cleanup, 'agent-to-gateway.yaml', {
      env: { JAEGER_ENDPOINT: `127.0.0.1:${sink.port}`, QUEUE_BYTES: '1000000' },
    });
    const count = async (name: string, spans: number) => {
      const samples = await until(async () => {
        const now = await collector.ownMetrics();
        return now.sum(name) >= spans ? now : undefined;
      }, `${name} of ${spans}`);
      assert.equal(samples.sum(name), spans, name);
    };
    assert.equal(await exportSpans(collector.endpoint, some(100)), 0);
    await count('otelcol_exporter_send_failed_spans', 100);
    // More at once than the queue holds: whoever sent it is told to come again, which this exporter does not.
    const large = some(300).map((span) => ({ ...span, name: 'x'.repeat(4000) }));
    assert.equal(await exportSpans(collector.endpoint, large), 1);
    await count('otelcol_receiver_refused_spans', 300);
    assert.equal((await collector.ownMetrics()).sum('otelcol_exporter_send_failed_spans'), 100);
    assert.equal((await sink.totals()).spans, 0);
  });

  test('statements count by database, and databases stand in the service graph', async (t) => {
    const cleanup = cleanupAfter(t);
    const sink = await startSink(cleanup);
    const collector = await startCollector(cleanup, 'agent-to-gateway.yaml', {
      env: { JAEGER_ENDPOINT: `127.0.0.1:${sink.port}` },
    });
    const readable = new ReadableSpans({ name: 'wirespan', version: '1' });
    const spans = builder();
    const one = connection();
    const made = Array.from({ length: 6 }, (_, i) => {
      const place = { connection: one, traceOffset: i, streamOffset: i };
      const exchange =
        i < 4
          ? sqlExchange(place)
          : mysqlExchange({ ...place, namespace: 'stock', failed: true, statusCode: '1146', returnedRows: -1 });
      return readable.from(spans.build(exchange)[0]!.clone());
    });
    assert.equal(await exportSpans(collector.endpoint, made), 0);
    const samples = await until(async () => {
      const now = await collector.metrics();
      return now.sum(CALLS) >= 6 && now.sum(GRAPH) >= 6 ? now : undefined;
    }, 'metrics of both databases');
    const value = (name: string, labels: Record<string, string>) => {
      const found = samples.of(name, labels);
      assert.equal(found.length, 1, `${name} ${JSON.stringify(labels)}\n${samples.text}`);
      return found[0]!.value;
    };
    // Each took 1.25 ms.
    const client = { span_kind: 'SPAN_KIND_CLIENT' };
    const postgresql = { db_system_name: 'postgresql', db_namespace: 'shop', ...client };
    assert.equal(value(DURATION, { ...postgresql, le: '1' }), 0);
    assert.equal(value(DURATION, { ...postgresql, le: '2' }), 4);
    assert.equal(value(DURATION, { db_system_name: 'mysql', error_type: '1146', ...client, le: '2' }), 2);
    const database = { client: 'curl', connection_type: 'database' };
    assert.equal(value(GRAPH, { ...database, server: 'shop' }), 4);
    assert.equal(value(GRAPH, { ...database, server: 'stock' }), 2);
  });

  test('processes of one service count together; a sampled span counts for those that were not kept', async (t) => {
    const cleanup = cleanupAfter(t);
    const sink = await startSink(cleanup);
    const collector = await startCollector(cleanup, 'agent-to-gateway.yaml', {
      env: { JAEGER_ENDPOINT: `127.0.0.1:${sink.port}` },
    });
    const spans = some(40, 'shop', (index) => index % 4);
    // A threshold of 0xc0... of 2^56: one of four was kept.
    const traceState = new TraceState('ot=th:c');
    const kept = some(5, 'sampled').map((span) => ({
      ...span,
      spanContext: () => ({ ...span.spanContext(), traceState }),
    }));
    assert.equal(await exportSpans(collector.endpoint, [...spans, ...kept]), 0);
    const samples = await metricsOf(collector, 60);
    const shop = samples.of(CALLS, { service_name: 'shop' });
    assert.deepEqual(
      shop.map(({ labels, value }) => [labels, value]),
      [
        [
          {
            service_name: 'shop',
            span_name: 'GET',
            span_kind: 'SPAN_KIND_SERVER',
            status_code: 'STATUS_CODE_UNSET',
          },
          40,
        ],
      ],
    );
    assert.equal(samples.sum(CALLS, { service_name: 'sampled' }), 20);
    // What a process is called is no label of anything.
    assert.doesNotMatch(samples.text, /instance-/);
  });
});
