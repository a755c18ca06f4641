/** Metrics over OTLP, by both protocols, through a real Collector: what comes out is what the servers have logged. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { collectorProgram } from '../support/backends/collector.ts';
import { OPEN_METRICS, parseMetrics, type Sample, scrape, sumOf } from '../support/backends/metrics.ts';
import { nodeLoad } from '../support/http/clients.ts';
import { startNginx } from '../support/http/nginx.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePorts, until, waitForPort } from '../support/programs/net.ts';
import { type Running, start } from '../support/programs/process.ts';

const REQUESTS = 200;
const HTTP = 'http_server_request_duration_seconds';

interface Collector {
  running: Running;
  grpc: string;
  http: string;
  /** What its Prometheus exporter tells. */
  metrics(): Promise<Sample[]>;
}

async function startCollector(cleanup: Cleanup): Promise<Collector> {
  const program = await collectorProgram();
  const [grpc, http, metrics] = await freePorts(3);
  const config = {
    receivers: {
      otlp: { protocols: { grpc: { endpoint: `127.0.0.1:${grpc}` }, http: { endpoint: `127.0.0.1:${http}` } } },
    },
    exporters: {
      prometheus: {
        endpoint: `127.0.0.1:${metrics}`,
        enable_open_metrics: true,
        resource_to_telemetry_conversion: { enabled: true },
      },
      debug: { verbosity: 'detailed' },
    },
    service: {
      telemetry: { metrics: { level: 'none' } },
      pipelines: { metrics: { receivers: ['otlp'], exporters: ['prometheus', 'debug'] } },
    },
  };
  const file = join(await cleanup.temporaryFolder(), 'collector.json');
  await writeFile(file, JSON.stringify(config));
  const running = start(cleanup, program, ['--config', file]);
  for (const port of [grpc!, http!]) {
    await waitForPort(port).catch((error: unknown) => {
      throw new Error(running.stderr, { cause: error });
    });
  }
  return {
    running,
    grpc: `http://127.0.0.1:${grpc}`,
    http: `http://127.0.0.1:${http}`,
    async metrics() {
      const response = await fetch(`http://127.0.0.1:${metrics}/metrics`, { headers: { accept: OPEN_METRICS } }).catch(
        () => undefined,
      );
      return response === undefined ? [] : parseMetrics(await response.text());
    },
  };
}

suite('metrics over OTLP', () => {
  after(assertKernelClean);

  test('by gRPC, with fixed bounds: the numbers of nginx, and those that the agent tells itself', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const nginx = await startNginx(cleanup, { prefix: cgroup.prefix });
    const collector = await startCollector(cleanup);
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    const [port] = await freePorts(1);
    await writeFile(
      config,
      `metrics: { durations: true }\ntelemetry: { otlp: true, interval_ms: 300, listen: "127.0.0.1:${port}" }\n`,
    );
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--config', config],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.grpc },
    });
    const bases = [`http://127.0.0.1:${nginx.plainPort}`, `https://127.0.0.1:${nginx.tls13Port}`];
    const load = { bases, count: REQUESTS, concurrency: 4, newConnectionEvery: 10, prefix: 'm' };
    await nodeLoad(load, cgroup.prefix);
    const log = await nginx.accessLog(REQUESTS);
    await agent.waitForSpans(2 * log.length);
    const own = await scrape(`http://127.0.0.1:${port}`);
    assert.equal(sumOf(own, `${HTTP}_count`), log.length);
    const samples = await until(async () => {
      const now = await collector.metrics();
      return sumOf(now, `${HTTP}_count`) >= log.length ? now : undefined;
    }, 'all requests at the Collector');
    for (const status of new Set(log.map((entry) => String(entry.status)))) {
      const labels = { http_response_status_code: status, service_name: 'nginx' };
      const logged = log.filter((entry) => String(entry.status) === status).length;
      assert.equal(sumOf(samples, `${HTTP}_count`, labels), logged);
      // Bucket for bucket what the agent says of itself.
      const bounds = new Set(own.filter(({ name }) => name === `${HTTP}_bucket`).map(({ labels: { le } }) => le!));
      assert.equal(bounds.size, 15);
      for (const le of bounds) {
        const sum = (all: readonly Sample[]): number =>
          all
            .filter(
              ({ name, labels: { le: bound } }) =>
                name === `${HTTP}_bucket` &&
                Number(bound === '+Inf' ? 'Infinity' : bound) === Number(le === '+Inf' ? 'Infinity' : le),
            )
            .filter(({ labels: all }) => all.http_response_status_code === status)
            .reduce((total, { value }) => total + value, 0);
        assert.equal(sum(samples), sum(own), `le=${le}`);
      }
    }
    const exemplars = samples.filter(({ name, exemplar }) => name === `${HTTP}_bucket` && exemplar !== undefined);
    assert.ok(exemplars.length > 0);
    const { spans, stats } = await agent.stop();
    const ids = new Set(spans.map(({ traceId, spanId }) => `${traceId}/${spanId}`));
    for (const { exemplar } of exemplars) assert.ok(ids.has(`${exemplar!.trace_id}/${exemplar!.span_id}`));
    // The last that it sends is what it ends with.
    const last = await until(async () => {
      const now = await collector.metrics();
      const exported = { otel_component_type: 'line_writer', service_name: 'wirespan' };
      return sumOf(now, 'otel_sdk_exporter_span_exported_total', exported) === stats.spans.exported ? now : undefined;
    }, 'the last values');
    assert.equal(sumOf(last, 'wirespan_packets_total'), stats.packets.captured);
    assert.equal(sumOf(last, 'wirespan_exchanges_total'), log.length);
    // Nothing of this was seen as traffic.
    assert.deepEqual([stats.exchanges.http, stats.spans.leftOut], [log.length, {}]);
  });

  test('by HTTP, as exponential histograms', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const nginx = await startNginx(cleanup, { prefix: cgroup.prefix });
    const collector = await startCollector(cleanup);
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    await writeFile(
      config,
      JSON.stringify({
        metrics: { durations: true, exponential: true },
        telemetry: { otlp: true, interval_ms: 300 },
        otlp_metrics: { endpoint: collector.http, protocol: 'http/protobuf', compression: 'gzip' },
      }),
    );
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path, '--config', config] });
    const bases = [`https://127.0.0.1:${nginx.tls12Port}`];
    const load = { bases, count: REQUESTS, concurrency: 4, newConnectionEvery: 10, prefix: 'm' };
    await nodeLoad(load, cgroup.prefix);
    const log = await nginx.accessLog(REQUESTS);
    await agent.waitForSpans(2 * log.length);
    await agent.stop();
    // The debug exporter prints each metric: the last time that it does is what was sent at the end.
    const told = await until(() => {
      const at = collector.running.stderr.lastIndexOf('-> Name: http.server.request.duration');
      const text = at < 0 ? '' : collector.running.stderr.slice(at);
      const points = text.slice(0, text.indexOf('-> Name:', 10) < 0 ? undefined : text.indexOf('-> Name:', 10));
      const counts = [...points.matchAll(/^Count: (\d+)$/gm)].map(([, count]) => Number(count));
      return counts.reduce((sum, count) => sum + count, 0) >= log.length ? { points, counts } : undefined;
    }, 'the last values').catch((error: unknown) => {
      throw new Error(collector.running.stderr.slice(-4000), { cause: error });
    });
    assert.match(told.points, /DataType: ExponentialHistogram/);
    assert.match(told.points, /AggregationTemporality: Cumulative/);
    assert.equal(
      told.counts.reduce((sum, count) => sum + count, 0),
      log.length,
    );
    // What is in the buckets is what was counted.
    const inBuckets = [...told.points.matchAll(/^Bucket [^,]+, [^,]+, Count: (\d+)$/gm)].map(([, count]) =>
      Number(count),
    );
    assert.equal(
      inBuckets.reduce((sum, count) => sum + count, 0),
      log.length,
    );
  });
});
