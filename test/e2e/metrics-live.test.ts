/**
 * The metrics of the agent and of what it sees, scraped while real traffic runs: by this test and by a real Prometheus. Every number is
 * held against the servers' own logs.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { STATUS_NAMES } from '../../src/protocol/grpc/status.ts';
import { checkWithPromtool, type Sample, scrape, sumOf } from '../support/backends/metrics.ts';
import { startPrometheus } from '../support/backends/prometheus.ts';
import { emptyLog, startPostgres } from '../support/databases/postgres.ts';
import { startGrpcServer } from '../support/grpc/grpc.ts';
import { clientScript, nodeLoad } from '../support/http/clients.ts';
import { startNginx } from '../support/http/nginx.ts';
import { startNodeServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';
import { statementsOf } from '../support/sql/spans.ts';

const REQUESTS = 600;
const TRANSACTIONS = 40;
/** Fewer than there are. */
const SERIES = 6;
const HTTP = 'http_server_request_duration_seconds';
const HTTP_CLIENT = 'http_client_request_duration_seconds';
const DB = 'db_client_operation_duration_seconds';

/** How many there are of each. */
function tally(keys: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const key of keys) counts[key] = (counts[key] ?? 0) + 1;
  return Object.fromEntries(Object.entries(counts).sort());
}

/** The `_count` samples of a histogram, by what names them. */
function counted(samples: readonly Sample[], name: string, key: (labels: Record<string, string>) => string) {
  const counts: Record<string, number> = {};
  for (const { labels, value } of samples.filter((sample) => sample.name === `${name}_count`)) {
    counts[key(labels)] = (counts[key(labels)] ?? 0) + value;
  }
  return Object.fromEntries(Object.entries(counts).sort());
}

const statusOf = ({ http_request_method, http_response_status_code }: Record<string, string>): string =>
  `${http_request_method} ${http_response_status_code}`;

const secondsOf = ({ startUs, endUs }: FlatSpan): number => (endUs - startUs) / 1e6;

suite('metrics of real traffic', () => {
  after(assertKernelClean);

  test('nginx and PostgreSQL: all exchanges, most of which become no spans, by the agent and by Prometheus', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const nginx = await startNginx(cleanup, { prefix: cgroup.prefix, workers: 2 });
    const postgres = await startPostgres(cleanup, { prefix: cgroup.prefix });
    await postgres.sql(['CREATE DATABASE bench']);
    await run('pgbench', ['-q', '-i', '-s', '1'], { env: postgres.env({ database: 'bench' }) });
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    await writeFile(config, 'metrics: { durations: true }\nhttp: { routes: [ "/orders/{id}", "/missing/*" ] }\n');
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    await emptyLog(postgres);
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--config', config, '--listen', `127.0.0.1:${port}`],
      env: { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.2' },
    });
    const prometheus = await startPrometheus(cleanup, {
      targets: { 'wirespan-agent': `127.0.0.1:${port}` },
      factor: 30,
    });

    const [pgbench, ...words] = [
      ...cgroup.prefix,
      'pgbench',
      '-n',
      '-b',
      'tpcb-like',
      '-M',
      'prepared',
      '-c',
      '4',
      '-t',
      String(TRANSACTIONS),
    ];
    const traffic = Promise.all([
      nodeLoad(
        {
          bases: [`http://127.0.0.1:${nginx.plainPort}`, `https://127.0.0.1:${nginx.tls13Port}`],
          count: REQUESTS,
          concurrency: 8,
          newConnectionEvery: 10,
          prefix: 'm',
        },
        cgroup.prefix,
      ),
      run(pgbench!, words, { env: postgres.env({ tls: true, database: 'bench' }), timeoutMs: 120_000 }),
    ]);
    // While it runs: what is told only grows, and is well-formed.
    let running = true;
    const ended = (): void => {
      running = false;
    };
    void traffic.then(ended, ended);
    let seen = 0;
    let scrapes = 0;
    while (running) {
      const now = sumOf(await scrape(url), `${HTTP}_count`);
      assert.ok(now >= seen, `${now} after ${seen}`);
      seen = now;
      scrapes += 1;
      await checkWithPromtool(url);
    }
    await traffic;
    assert.ok(scrapes > 1);

    const log = await nginx.accessLog(REQUESTS);
    assert.equal(log.length, REQUESTS);
    const statements = await postgres.waitForStatements(4 * TRANSACTIONS * 7, ({ database }) => database === 'bench');
    const samples = await until(async () => {
      const now = await scrape(url);
      const [requests, queries] = [sumOf(now, `${HTTP}_count`), sumOf(now, `${DB}_count`)];
      return requests >= log.length && queries >= statements.length ? now : undefined;
    }, 'all requests and statements in the metrics');

    const requestsByStatus = tally(log.map(({ request_method, status }) => `${request_method} ${status}`));
    assert.deepEqual(counted(samples, HTTP, statusOf), requestsByStatus);
    assert.deepEqual(counted(samples, HTTP_CLIENT, statusOf), requestsByStatus);
    assert.deepEqual(
      counted(samples, HTTP, ({ http_route = '' }) => http_route),
      tally(log.map(({ request_uri }) => (request_uri.startsWith('/orders/') ? '/orders/{id}' : '/missing/*'))),
    );
    assert.deepEqual(
      counted(samples, HTTP, ({ service_name, url_scheme }) => `${service_name} ${url_scheme}`),
      tally(log.map(({ ssl_protocol }) => `nginx ${ssl_protocol === '' ? 'http' : 'https'}`)),
    );
    const summary = (text: string): string => statementsOf('postgresql', text, true)[0]?.summary ?? '';
    assert.deepEqual(
      counted(samples, DB, ({ db_query_summary = '' }) => db_query_summary),
      tally(statements.map(({ text }) => summary(text))),
    );
    const named = samples.filter(({ name }) => name === `${DB}_count`).map(({ labels }) => labels);
    for (const labels of named) {
      assert.deepEqual(
        [labels.service_name, labels.db_system_name, labels.db_namespace, labels.server_address, labels.server_port],
        ['pgbench', 'postgresql', 'bench', '127.0.0.1', String(postgres.port)],
      );
    }
    // Seconds by the server's log lie within what the client waited, and are the better part of it.
    const serverSeconds = statements.reduce((sum, { durationMs }) => sum + durationMs, 0) / 1000;
    assert.ok(
      sumOf(samples, `${DB}_sum`) >= serverSeconds * 0.9,
      `${sumOf(samples, `${DB}_sum`)} of ${serverSeconds} s`,
    );
    assert.equal(sumOf(samples, 'wirespan_exchanges_total', { protocol: 'http' }), log.length);
    assert.equal(sumOf(samples, 'wirespan_exchanges_total', { protocol: 'postgresql' }), statements.length);

    // Prometheus has scraped the same numbers.
    const expected: [string, number][] = [
      [`sum(${HTTP}_count)`, log.length],
      [`sum(${HTTP_CLIENT}_count)`, log.length],
      [`sum(${DB}_count{service_name="pgbench"})`, statements.length],
      [
        `sum(${HTTP}_bucket{le="+Inf",http_request_method="GET",http_response_status_code="200"})`,
        requestsByStatus['GET 200'] ?? 0,
      ],
      ['sum(wirespan_exchanges_total)', log.length + statements.length],
      ['count(target_info{service_name="wirespan"})', 1],
      ['min(up)', 1],
    ];
    for (const [expression, value] of expected) {
      await until(async () => {
        const [found] = await prometheus.query(expression);
        return found?.value === value ? true : undefined;
      }, `${expression} to be ${value}`);
    }
    const exemplars = await prometheus.exemplars(`{__name__=~"${HTTP}_bucket|${HTTP_CLIENT}_bucket|${DB}_bucket"}`);
    await prometheus.running.stop();

    const { spans, stats } = await agent.stop();
    const { unsampled = 0 } = stats.spans.leftOut;
    // Twice for a request, once for a statement.
    assert.equal(spans.length + unsampled, 2 * log.length + statements.length);
    assert.ok(unsampled > spans.length && spans.length > 0);
    assert.equal(stats.packets.lost, 0);
    // Each exemplar is a span that was sent, with its duration.
    assert.ok(exemplars.length > 0);
    const byId = new Map(spans.map((span) => [`${span.traceId}/${span.spanId}`, span]));
    for (const { labels, value } of exemplars) {
      const span = byId.get(`${labels.trace_id}/${labels.span_id}`);
      assert.ok(span, JSON.stringify(labels));
      assert.ok(Math.abs(secondsOf(span) - value) < 2e-6, `${value} s`);
    }
  });

  test('every bucket holds the spans that it should', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    await writeFile(config, 'metrics: { durations: true, exponential: true, exemplars: false }\n');
    const port = await freePort();
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--config', config, '--listen', `:${port}`],
    });
    const paths = [0, 3, 8, 20, 40, 80, 120, 300, 600].map((ms) => `/slow/${ms}`);
    const asks = paths.flatMap((path) => ['-o', '/dev/null', server.url + path]);
    const [curl, ...words] = [...cgroup.prefix, 'curl', '-sk', ...asks];
    await run(curl!, words);
    const spans = await agent.waitForSpans(2 * paths.length);
    const samples = await scrape(`http://[::1]:${port}`);
    for (const [name, kind] of [
      [HTTP, 'SERVER'],
      [HTTP_CLIENT, 'CLIENT'],
    ] as const) {
      const seconds = spans.filter((span) => span.kind === kind).map(secondsOf);
      const buckets = samples.filter((sample) => sample.name === `${name}_bucket`);
      assert.equal(buckets.length, 15);
      for (const { labels, value, exemplar } of buckets) {
        const bound = labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le);
        assert.equal(value, seconds.filter((each) => each <= bound).length, `le=${labels.le} ${seconds.join()}`);
        assert.equal(exemplar, undefined);
      }
      const sum = seconds.reduce((total, each) => total + each, 0);
      // Microseconds since 1970 are no finer than a quarter of one here.
      assert.ok(Math.abs(sumOf(samples, `${name}_sum`) - sum) < 1e-5);
    }
    await agent.stop();
  });

  test('gRPC: every call once, at both ends, though none becomes a span', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const server = await startGrpcServer(cleanup, { tls: false, prefix: cgroup.prefix });
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    // A call that lasts long is told of twice, and counted once.
    await writeFile(config, 'metrics: { durations: true }\ngrpc: { interim_span_s: 1 }\n');
    const port = await freePort();
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--config', config, '--listen', `127.0.0.1:${port}`],
      env: { OTEL_TRACES_SAMPLER: 'always_off' },
    });
    const calls = [
      { path: '/test.Calls/Unary', count: 20, ask: { bytes: 300 } },
      ...[2, 5, 13].map((status) => ({ path: '/test.Calls/Unary', count: 4, ask: { status } })),
      { path: '/test.Calls/Upload', count: 10, requests: 20, ask: { bytes: 1000 } },
      { path: '/test.Calls/Download', count: 2, ask: { hang: true, replies: 5 }, deadlineMs: 3000 },
    ];
    const script = [process.execPath, clientScript('grpc.mjs'), `127.0.0.1:${server.port}`, '-'];
    const [client, ...words] = [...cgroup.prefix, ...script, JSON.stringify({ calls })];
    const { stdout } = await run(client!, words, { timeoutMs: 120_000 });
    const ended = JSON.parse(stdout) as { path: string; status: number }[];
    const truth = tally(ended.map(({ path, status }) => `${path.slice(1)} ${STATUS_NAMES[status]}`));
    const samples = await until(async () => {
      const now = await scrape(`http://127.0.0.1:${port}`);
      const name = 'rpc_client_call_duration_seconds_count';
      return sumOf(now, name) >= ended.length ? now : undefined;
    }, 'all calls in the metrics');
    const called = ({ rpc_method, rpc_status_code }: Record<string, string>): string =>
      `${rpc_method} ${rpc_status_code}`;
    assert.deepEqual(counted(samples, 'rpc_client_call_duration_seconds', called), truth);
    assert.deepEqual(counted(samples, 'rpc_server_call_duration_seconds', called), truth);
    assert.equal(sumOf(samples, 'wirespan_exchanges_total', { protocol: 'grpc' }), ended.length);
    const { spans, stats } = await agent.stop();
    assert.deepEqual([spans, stats.spans.leftOut], [[], { unsampled: 2 * ended.length }]);
  });

  test('more series than there may be: what is beyond counts in one of each metric, and nothing is lost', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    await writeFile(config, `metrics: { durations: true }\nlimits: { metric_series: ${SERIES} }\n`);
    const port = await freePort();
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--config', config, '--listen', `127.0.0.1:${port}`],
      env: { OTEL_TRACES_SAMPLER: 'always_off' },
    });
    // A series for each status at each end: in this order, so that those beyond are known.
    const statuses = [200, 201, 202, 203, 400, 404, 410, 500, 503];
    const urls = [...statuses, ...statuses, ...statuses].map((status) => `${server.url}/status/${status}`);
    const [curl, ...words] = [...cgroup.prefix, 'curl', '-sk', ...urls.flatMap((url) => ['-o', '/dev/null', url])];
    await run(curl!, words);
    const samples = await until(async () => {
      const now = await scrape(`http://127.0.0.1:${port}`);
      const least = Math.min(...[HTTP, HTTP_CLIENT].map((name) => sumOf(now, `${name}_count`)));
      return least >= urls.length ? now : undefined;
    }, 'all requests in the metrics');
    const named: Record<string, number> = {};
    for (const metric of [HTTP, HTTP_CLIENT]) {
      assert.equal(sumOf(samples, `${metric}_count`), urls.length);
      const ofMetric = samples.filter(({ name }) => name === `${metric}_count`);
      const [beyond, ...others] = ofMetric.filter(({ labels }) => labels.otel_metric_overflow === 'true');
      assert.equal(others.length, 0);
      // It says nothing else, and its buckets hold all that it counts.
      assert.deepEqual(Object.keys(beyond!.labels), ['otel_metric_overflow']);
      assert.equal(sumOf(samples, `${metric}_bucket`, { ...beyond!.labels, le: '+Inf' }), beyond!.value);
      for (const { labels, value } of ofMetric) {
        if (labels.otel_metric_overflow === undefined) named[`${metric} ${statusOf(labels)}`] = value;
      }
    }
    // The first to come, and all that ever came of them.
    const first = statuses
      .slice(0, SERIES / 2)
      .flatMap((status) => [HTTP, HTTP_CLIENT].map((name) => `${name} GET ${status}`));
    assert.deepEqual(named, Object.fromEntries(first.sort().map((key) => [key, 3])));
    assert.equal(sumOf(samples, 'wirespan_exchanges_total', { protocol: 'http' }), urls.length);
    const { spans, stats } = await agent.stop();
    assert.deepEqual([spans, stats.spans.leftOut], [[], { unsampled: 2 * urls.length }]);
  });
});
