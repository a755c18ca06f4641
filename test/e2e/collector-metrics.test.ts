/** The metrics that span-metrics.yaml makes of SQL spans, in a real Collector. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { ReadableSpans } from '../../src/export/readable-span.ts';
import { cleanupAfter } from '../support/cleanup.ts';
import { collectorProgram } from '../support/collector.ts';
import { exportSpans } from '../support/export.ts';
import { freePorts, until, waitForPort } from '../support/net.ts';
import { root } from '../support/paths.ts';
import { run, start } from '../support/process.ts';
import { startSink } from '../support/sink.ts';
import { builder, connection, mysqlExchange, sqlExchange } from '../unit/span/fixtures.ts';

test('span-metrics.yaml: statements count by database, and databases stand in the service graph', async (t) => {
  const cleanup = cleanupAfter(t);
  const program = await collectorProgram();
  const files = ['agent-to-gateway.yaml', 'span-metrics.yaml'].map((file) => join(root, 'collector-config', file));
  const configs = files.flatMap((file) => ['--config', file]);
  const sink = await startSink(cleanup);
  const [port, metricsPort] = await freePorts(2);
  const env = {
    LISTEN_ADDRESS: '127.0.0.1',
    LISTEN_PORT: String(port),
    BACKEND_ENDPOINT: `127.0.0.1:${sink.port}`,
    METRICS_ADDRESS: '127.0.0.1',
    METRICS_PORT: String(metricsPort),
    METRICS_FLUSH_INTERVAL: '200ms',
  };
  await run(program, ['validate', ...configs], { env });
  const collector = start(cleanup, program, [...configs, '--set=service.telemetry.metrics.level=none'], { env });
  await waitForPort(port!).catch((error: unknown) => {
    throw new Error(collector.stderr, { cause: error });
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
  assert.equal(await exportSpans(`http://127.0.0.1:${port}`, made), 0);

  const scraped = await until(async () => {
    const text = await fetch(`http://127.0.0.1:${metricsPort}/metrics`).then(
      (response) => response.text(),
      () => '',
    );
    return text.includes('traces_span_metrics_') && text.includes('server="stock"') ? text : undefined;
  }, 'metrics of both databases');
  const value = (name: string, labels: readonly string[]): number => {
    const lines = scraped
      .split('\n')
      .filter((line) => line.startsWith(`${name}{`) && labels.every((label) => line.includes(label)));
    assert.equal(lines.length, 1, `${name} ${labels.join()}\n${scraped}`);
    return Number(lines[0]!.split(' ').at(-1));
  };
  const duration = 'traces_span_metrics_duration_milliseconds_bucket';
  const client = 'span_kind="SPAN_KIND_CLIENT"';
  // Each took 1.25 ms.
  const postgresql = ['db_system_name="postgresql"', 'db_namespace="shop"', client];
  assert.equal(value(duration, [...postgresql, 'le="1"']), 0);
  assert.equal(value(duration, [...postgresql, 'le="2"']), 4);
  assert.equal(value(duration, ['db_system_name="mysql"', 'error_type="1146"', client, 'le="2"']), 2);
  const graph = 'traces_service_graph_request_total';
  assert.equal(value(graph, ['client="curl"', 'server="shop"', 'connection_type="database"']), 4);
  assert.equal(value(graph, ['client="curl"', 'server="stock"', 'connection_type="database"']), 2);
});
