/**
 * A small application, encrypted throughout, from its packets to what a person sees of it: agent, gateway, Jaeger, Prometheus and its
 * alerts, all of them real.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { type Collector, startCollector } from '../support/backends/collector.ts';
import { dashboards, expressionsOf } from '../support/backends/dashboards.ts';
import { type Jaeger, type JaegerSpan, startJaeger } from '../support/backends/jaeger.ts';
import { type Prometheus, startPrometheus } from '../support/backends/prometheus.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { type Agent, startAgent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { timeScale } from '../support/programs/paths.ts';
import { DATABASE, type Shop, startShop } from '../support/shop/shop.ts';
import { differences } from '../support/sql/spans.ts';

/** The rules' windows of 5 minutes are 10 seconds here. */
const FACTOR = 30;
const WINDOW_MS = 10_000;

/** Expressions of the dashboards that show nothing here: nothing is lost, there is no day's past, no Kubernetes, no second tier. */
const OF_NOTHING =
  /_past1d|error_type!="", |_lost_|undecryptable|incomplete|left_out|parse_errors|internal_errors|refused|send_failed|informer|tail_sampling/;

const VISITS = 200;
const FAILED = VISITS / 5;

/** `service KIND error`, in the order of their beginning. */
function outline(spans: readonly JaegerSpan[]): string {
  return [...spans]
    .sort((a, b) => a.startTime - b.startTime || (a.tags['span.kind'] === 'client' ? -1 : 1))
    .map(({ service, tags }) => `${service} ${tags['span.kind']}${tags.error === true ? ' error' : ''}`)
    .join(', ');
}

suite('an application', () => {
  const cleanup = new Cleanup();
  let shop: Shop;
  let jaeger: Jaeger;
  let collector: Collector;
  let prometheus: Prometheus;
  let agent: Agent;

  before(async () => {
    [shop, jaeger] = await Promise.all([startShop(cleanup), startJaeger(cleanup)]);
    collector = await startCollector(cleanup, 'agent-to-gateway.yaml', {
      env: { JAEGER_ENDPOINT: jaeger.endpoint.replace('http://', '') },
    });
    const listen = `127.0.0.1:${await freePort()}`;
    agent = await startAgent(cleanup, {
      args: ['--cgroup', shop.cgroup.path, '--listen', listen],
      json: false,
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint },
    });
    prometheus = await startPrometheus(cleanup, {
      factor: FACTOR,
      targets: {
        'wirespan-agent': listen,
        'wirespan-spans': collector.metricsAddress,
        'wirespan-gateway': collector.ownMetricsAddress,
      },
    });
    await shop.open();
  });
  after(async () => {
    await cleanup.run();
    await assertKernelClean();
  });

  test('Jaeger shows each of its traces, whole', async () => {
    assert.deepEqual(await shop.visit(VISITS), { 200: VISITS - FAILED, 502: FAILED });
    // Between the visitor and front, between front and orders, and each statement.
    const statements = 2 * VISITS + FAILED;
    const traces = await until(async () => {
      const found = new Map<string, JaegerSpan[]>();
      for (const service of await jaeger.services())
        for (const spans of await jaeger.traces(service)) found.set(spans[0]!.traceID, spans);
      return [...found.values()].flat().length >= 4 * VISITS + statements ? [...found.values()] : undefined;
    }, 'all spans in Jaeger');
    const good = VISITS - FAILED;
    const times = (count: number, line: string) => Array.from({ length: count }, () => line);
    assert.deepEqual(
      differences(traces.map(outline), [
        ...times(good, 'visitor client, front server'),
        ...times(FAILED, 'visitor client error, front server error'),
        ...times(good, 'front client, orders server'),
        ...times(FAILED, 'front client error, orders server error'),
        ...times(statements - FAILED, 'orders client'),
        ...times(FAILED, 'orders client error'),
      ]),
      [],
    );
    for (const spans of traces) {
      const [client, server] = spans.sort((a) => (a.tags['span.kind'] === 'client' ? -1 : 1));
      assert.deepEqual(client!.references, []);
      if (server === undefined) continue;
      const { traceID, spanID } = client!;
      assert.deepEqual(server.references, [{ refType: 'CHILD_OF', traceID, spanID }]);
    }
  });

  test('the service graph has its edges, and no other', async () => {
    const edges = async (name: string) => {
      const results = await prometheus.query(`sum by (client, server) (${name})`);
      return results.map(({ labels, value }) => `${labels.client} -> ${labels.server}: ${value}`).sort();
    };
    const statements = 2 * VISITS + FAILED;
    const wanted = [
      `front -> orders: ${VISITS}`,
      `orders -> ${DATABASE}: ${statements}`,
      `visitor -> front: ${VISITS}`,
    ];
    let seen: string[] = [];
    await until(async () => {
      seen = await edges('traces_service_graph_request_total');
      return seen.join() === wanted.join() ? true : undefined;
    }, 'the edges').catch(() => assert.deepEqual(seen, wanted));
    assert.deepEqual(await edges('traces_service_graph_request_failed_total'), [
      `front -> orders: ${FAILED}`,
      `orders -> ${DATABASE}: ${FAILED}`,
      `visitor -> front: ${FAILED}`,
    ]);
    assert.deepEqual(
      (await prometheus.query('sum by (service_name, span_kind) (traces_span_metrics_calls_total)'))
        .map(({ labels, value }) => `${labels.service_name} ${labels.span_kind}: ${value}`)
        .sort(),
      [
        `front SPAN_KIND_CLIENT: ${VISITS}`,
        `front SPAN_KIND_SERVER: ${VISITS}`,
        `orders SPAN_KIND_CLIENT: ${statements}`,
        `orders SPAN_KIND_SERVER: ${VISITS}`,
        `visitor SPAN_KIND_CLIENT: ${VISITS}`,
      ],
    );
  });

  test('where it passes a context on, all of a visit is one trace', async () => {
    const traceId = randomBytes(16).toString('hex');
    await shop.visitWithin(`00-${traceId}-${randomBytes(8).toString('hex')}-01`);
    const spans = await until(async () => {
      const found = await jaeger.trace(traceId);
      return found.length >= 6 ? found : undefined;
    }, 'the trace');
    assert.equal(
      outline(spans),
      'visitor client, front server, front client, orders server, orders client, orders client',
    );
  });

  test('QueryLatencyHigh fires within its window once a query has become slow, and resolves after', async (t) => {
    const visitor = shop.keepVisiting();
    const of = async (name: string) =>
      (await prometheus.alerts()).filter((alert) => alert.name === name && alert.state === 'firing');
    // One in five visits fails all the time: those alerts are there.
    const failing = await until(
      async () => {
        const requests = await of('RequestErrorRatioHigh');
        const queries = await of('QueryErrorRatioHigh');
        return requests.length >= 2 && queries.length >= 1 ? [...requests, ...queries] : undefined;
      },
      'the alerts of what fails',
      60_000,
    );
    assert.deepEqual(failing.map(({ name, labels }) => `${name} ${labels.service_name}`).sort(), [
      'QueryErrorRatioHigh orders',
      'RequestErrorRatioHigh front',
      'RequestErrorRatioHigh orders',
    ]);
    const others = (await prometheus.alerts()).filter(
      ({ name, state }) => state === 'firing' && !/ErrorRatioHigh$/.test(name),
    );
    assert.deepEqual(others, []);

    const shown = await Promise.all(
      dashboards
        .flatMap((dashboard) => expressionsOf(dashboard, `${WINDOW_MS}ms`))
        .map(async (each) => ({ ...each, count: (await prometheus.query(each.expression)).length })),
    );
    assert.ok(shown.length > 40);
    assert.deepEqual(
      shown.filter(({ expression, count }) => count === 0 && !OF_NOTHING.test(expression)),
      [],
    );

    await shop.slowDown(0.8);
    const slowSinceMs = Date.now();
    const [alert] = await until(
      async () => {
        const found = await of('QueryLatencyHigh');
        return found.length > 0 ? found : undefined;
      },
      'QueryLatencyHigh',
      60_000,
    );
    assert.deepEqual(
      [alert!.labels.service_name, alert!.labels.db_system_name, alert!.labels.db_namespace],
      ['orders', 'postgresql', DATABASE],
    );
    assert.match(alert!.annotations.description!, /durations of orders's queries on postgresql shop at .+ is \d+ ms/);
    assert.match(alert!.annotations.runbook!, /service_name="orders", db_namespace="shop"/);
    const tookMs = alert!.activeAtMs - slowSinceMs;
    // A second is what the processes' clocks and the start of the statement may differ by; the rest is scrapes and batches.
    t.diagnostic(`its condition was true after ${tookMs} ms, it was seen firing after ${Date.now() - slowSinceMs} ms`);
    assert.ok(tookMs > -1000 && tookMs < (WINDOW_MS + 5000) * timeScale, `its condition was true after ${tookMs} ms`);

    await shop.slowDown(0);
    await until(async () => ((await of('QueryLatencyHigh')).length === 0 ? true : undefined), 'its end', 60_000);
    const { exitCode } = await visitor.stop();
    assert.equal(exitCode, 0);
    const { stats } = await agent.stop();
    assert.equal(stats.packets.lost, 0);
    assert.deepEqual(stats.connections.undecryptable, {});
    assert.equal(stats.spans.exported, stats.spans.made);
  });
});
