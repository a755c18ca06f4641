/** Applications that make spans of their own with OpenTelemetry's SDK: ours join their trace, and nothing counts twice. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { fileBackend, startCollector } from '../support/backends/collector.ts';
import { startInstrumentedServer, startNodeServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startSink } from '../support/otlp/sink.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { inside, startAgentOf } from '../support/programs/inside.ts';
import { until } from '../support/programs/net.ts';

/** Requests after the first, by whose export the application is known. */
const COUNT = 20;

const described = (span: FlatSpan) =>
  [span.resource['service.name'], span.kind, span.attributes['wirespan.span.kind'] ?? ''].join(' ').trim();

function tally(spans: readonly FlatSpan[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const span of spans) counts[described(span)] = (counts[described(span)] ?? 0) + 1;
  return counts;
}

suite('an application that makes spans of its own', () => {
  after(assertKernelClean);

  test('the metrics of its spans and ours together count each request once', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const backend = await fileBackend(cleanup);
    const collector = await startCollector(cleanup, 'agent-to-gateway.yaml', backend);
    const { endpoint } = collector;
    const stock = await startNodeServer(cleanup, {
      prefix: cgroup.prefix,
      tls: false,
      env: { OTEL_SERVICE_NAME: 'stock' },
    });
    const app = { prefix: cgroup.prefix, name: 'shop', upstream: stock.url, endpoint };
    const shop = await startInstrumentedServer(cleanup, app);
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--output', 'otlp'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_SCHEDULE_DELAY: '100' },
    });
    const curl = (path: string) => there.run('curl', ['-s', '-o', '/dev/null', `${shop.url}${path}`]);
    await curl('/bytes/1');
    await shop.running.waitFor('stdout', /exported 2$/m);
    await curl(`/bytes/[100-${99 + COUNT}]`);
    await shop.running.waitFor('stdout', new RegExp(`exported ${2 + 2 * COUNT}$`, 'm'));
    await agent.waitForSpans(4 * (COUNT + 1));

    const { spans, stats } = await agent.stop();
    assert.deepEqual(tally(spans), {
      'curl CLIENT': COUNT + 1,
      // The first request came before the first export: nobody could know.
      'shop SERVER': 1,
      'shop CLIENT': 1,
      'shop INTERNAL server': COUNT,
      'shop INTERNAL client': COUNT,
      'stock SERVER': COUNT + 1,
    });
    assert.deepEqual(stats.spans.leftOut, { otlp_export: 2 * (COUNT + 1) });
    assert.equal(stats.spans.exported, stats.spans.made);

    // All of both is in the backend. Ours stand below the application's own, so that its trace is whole.
    const all = 4 * (COUNT + 1) + 2 * (COUNT + 1);
    const arrived = await until(async () => {
      const found = await backend.spans();
      return found.length >= all ? found : undefined;
    }, 'all spans in the backend');
    assert.equal(arrived.length, all);
    const own = new Map(arrived.filter(({ scope }) => scope === 'application').map((span) => [span.spanId, span]));
    for (const span of arrived.filter((each) => /^stock|^shop (?:INTERNAL client|CLIENT)/.test(described(each)))) {
      if (span.scope === 'application') continue;
      const parent = own.get(span.parentSpanId);
      assert.equal(parent?.kind, 'CLIENT', described(span));
      assert.equal(parent.traceId, span.traceId);
    }

    const calls = 'traces_span_metrics_calls_total';
    const wanted = [
      ['curl', 'CLIENT', COUNT + 1],
      ['shop', 'SERVER', COUNT + 2],
      ['shop', 'CLIENT', COUNT + 2],
      ['stock', 'SERVER', COUNT + 1],
    ] as const;
    const metrics = await until(async () => {
      const samples = await collector.metrics();
      const sum = wanted.reduce((total, [, , count]) => total + count, 2 * COUNT);
      return samples.sum(calls) >= sum ? samples : undefined;
    }, 'metrics of all spans');
    for (const [service, kind, count] of wanted) {
      const labels = { service_name: service, span_kind: `SPAN_KIND_${kind}` };
      assert.equal(metrics.sum(calls, labels), count, `${service} ${kind}\n${metrics.text}`);
    }
    // Its CLIENT span and the SERVER span of ours are the two ends of an edge.
    const edge = { client: 'shop', server: 'stock' };
    assert.equal(metrics.sum('traces_service_graph_request_total', edge), COUNT + 1, metrics.text);
  });

  test('is avoided on request, from its first export on, and that is counted', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const sink = await startSink(cleanup);
    const stock = await startNodeServer(cleanup, { prefix: cgroup.prefix, tls: false });
    const app = { prefix: cgroup.prefix, name: 'shop', upstream: stock.url, endpoint: sink.endpoint };
    const shop = await startInstrumentedServer(cleanup, app);
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    await writeFile(config, 'services:\n  avoid_instrumented: true\n');
    const agent = await startAgentOf(cleanup, cgroup, ['--config', config]);
    const curl = (path: string) => there.run('curl', ['-s', '-o', '/dev/null', `${shop.url}${path}`]);
    await curl('/bytes/1');
    await shop.running.waitFor('stdout', /exported 2$/m);
    await curl(`/bytes/[100-${99 + COUNT}]`);
    await agent.waitForSpans(4 + 2 * COUNT);
    const { spans, stats } = await agent.stop();
    assert.deepEqual(tally(spans), {
      'curl CLIENT': COUNT + 1,
      'shop SERVER': 1,
      'shop CLIENT': 1,
      'node-server SERVER': COUNT + 1,
    });
    assert.equal(stats.spans.leftOut.avoided_service, 2 * COUNT);
    assert.deepEqual((stats as unknown as { services: object }).services, { exports_traces: 1 });
  });
});
