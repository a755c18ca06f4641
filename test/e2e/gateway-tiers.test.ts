/** The gateway at scale: two agents, a load balancer, two Collectors behind it, with the configurations that we ship. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileBackend, startCollector } from '../support/backends/collector.ts';
import { startNodeServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { startAgent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

const COUNT = 400;
const SLOW_MS = 700;
/** Of each hundred, five fail and two are slow. */
const pathOf = (index: number) =>
  index % 20 === 0 ? '/status/500' : index % 50 === 7 ? `/slow/${SLOW_MS}` : `/bytes/${index}`;
const paths = Array.from({ length: COUNT }, (_, index) => pathOf(index));
const FAILED = paths.filter((path) => path === '/status/500').length;
const SLOW = paths.filter((path) => path.startsWith('/slow/')).length;

const byTrace = (spans: readonly FlatSpan[]) => Map.groupBy(spans, ({ traceId }) => traceId);

test('both ends of a trace come to one Collector; metrics count all; errors and slow ones are all kept', async (t) => {
  const cleanup = new Cleanup();
  t.after(async () => {
    await cleanup.run();
    await assertKernelClean();
  });
  const [here, there] = [await newCgroup(cleanup), await newCgroup(cleanup)];
  const server = await startNodeServer(cleanup, { prefix: there.prefix });
  const samplers = await Promise.all(
    [1, 2].map(async () => {
      const backend = await fileBackend(cleanup);
      const env = { ...backend.env, SAMPLE_WAIT: '4s', SAMPLE_SLOW_MS: '500', SAMPLE_PERCENT: '10' };
      return { backend, ...(await startCollector(cleanup, 'gateway-sample.yaml', { ...backend, env })) };
    }),
  );
  const balancer = await startCollector(cleanup, 'gateway-balance.yaml', {
    env: { SAMPLING_GATEWAYS: `[${samplers.map(({ address }) => address).join(', ')}]` },
    // Agents are sent away from time to time, as in a cluster, only sooner.
    args: ['--set=receivers.otlp.protocols.grpc.keepalive.server_parameters.max_connection_age=1s'],
  });
  const agents = await Promise.all(
    [here, there].map(({ path }) =>
      startAgent(cleanup, {
        args: ['--cgroup', path],
        json: false,
        env: { OTEL_EXPORTER_OTLP_ENDPOINT: balancer.endpoint },
      }),
    ),
  );
  await Promise.all(
    [0, 1, 2, 3].map((worker) => {
      const urls = paths.filter((_, index) => index % 4 === worker).map((path) => `url = "${server.url}${path}"`);
      const input = urls.map((url) => `${url}\noutput = /dev/null\n`).join('');
      const [command, ...args] = [...here.prefix, 'curl', '-sk', '-K', '-'];
      return run(command!, args, { input });
    }),
  );

  const sum = async (name: string, labels: Record<string, string> = {}, own = false) => {
    const all = await Promise.all(samplers.map((each) => (own ? each.ownMetrics() : each.metrics())));
    return all.reduce((total, samples) => total + samples.sum(name, labels), 0);
  };
  const decided = 'otelcol_processor_tail_sampling_global_count_traces_sampled';
  await until(
    async () => ((await sum(decided, {}, true)) >= COUNT ? true : undefined),
    'a decision about each trace',
    60_000,
  ).catch(async (error: unknown) => {
    const own = await Promise.all([balancer, ...samplers].map(async (each) => (await each.ownMetrics()).text));
    throw new Error(own.join('\n---\n'), { cause: error });
  });
  const sampled = await sum(decided, { sampled: 'true' }, true);
  await until(async () => {
    const kept = await Promise.all(samplers.map(({ backend }) => backend.spans()));
    return kept.flat().length >= 2 * sampled ? true : undefined;
  }, 'the spans that were kept');

  for (const agent of agents) {
    const { stats } = await agent.stop();
    assert.deepEqual(stats.spans, { ...stats.spans, made: COUNT, exported: COUNT, dropped: {} });
  }
  // What the alerts and dashboards look for.
  const tail = 'otelcol_processor_tail_sampling';
  assert.equal(await sum(`${tail}_new_trace_id_received`, {}, true), COUNT);
  assert.equal(await sum(`${tail}_sampling_trace_dropped_too_early`, {}, true), 0);
  for (const sampler of samplers)
    for (const name of ['sampling_trace_dropped_too_early', 'sampling_traces_on_memory'])
      assert.equal((await sampler.ownMetrics()).of(`${tail}_${name}`).length, 1, name);
  // Metrics: of everything.
  for (const kind of ['SPAN_KIND_CLIENT', 'SPAN_KIND_SERVER'])
    assert.equal(await sum('traces_span_metrics_calls_total', { span_kind: kind }), COUNT, kind);
  const edge = { client: 'curl', server: 'node-server' };
  assert.equal(await sum('traces_service_graph_request_total', edge), COUNT);
  assert.equal(await sum('traces_service_graph_request_total'), COUNT);
  assert.equal(await sum('traces_service_graph_request_failed_total', edge), FAILED);

  // Each Collector had its share of the traces, and each trace one Collector.
  const kept = await Promise.all(samplers.map(async ({ backend }) => byTrace(await backend.spans())));
  for (const sampler of samplers)
    assert.ok((await sampler.ownMetrics()).sum('otelcol_receiver_accepted_spans') > COUNT / 10);
  const traces = [...kept[0]!.values(), ...kept[1]!.values()];
  assert.equal(new Set(traces.map(([span]) => span!.traceId)).size, traces.length, 'no trace is in both');
  for (const spans of traces) {
    const [client, server] = spans.sort((a, b) => (a.kind < b.kind ? -1 : 1));
    assert.deepEqual([spans.length, client?.kind, server?.kind], [2, 'CLIENT', 'SERVER']);
    assert.equal(server!.parentSpanId, client!.spanId);
  }
  const keptPaths = traces.map((spans) => String(spans.find(({ kind }) => kind === 'SERVER')!.attributes['url.path']));
  const countOf = (wanted: (path: string) => boolean) => keptPaths.filter(wanted).length;
  assert.equal(
    countOf((path) => path === '/status/500'),
    FAILED,
  );
  assert.equal(
    countOf((path) => path.startsWith('/slow/')),
    SLOW,
  );
  // A tenth of some 370: outside of these bounds less than once in 10^9 times. A busy machine makes a few of them slow.
  const others = countOf((path) => path.startsWith('/bytes/'));
  assert.ok(others > 5 && others < COUNT / 2, `${others} others were kept`);
});
