/** Which exchanges become spans, and how they are named and shown: sampling, a Collector that counts with it, filters, routes. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { fileBackend, startCollector } from '../support/backends/collector.ts';
import { startPostgres } from '../support/databases/postgres.ts';
import { startNodeServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { inside, startAgentOf } from '../support/programs/inside.ts';
import { until } from '../support/programs/net.ts';

const ORDINARY = 300;
const FAILED = 30;
const SLOW = 3;
/** Longer than a quick statement takes on a machine that stands still now and then. */
const SLOW_STATEMENT_MS = 3000;

const pathOf = (span: FlatSpan) => String(span.attributes['url.path']);
const servers = (spans: readonly FlatSpan[]) => spans.filter(({ kind }) => kind === 'SERVER');

suite('which exchanges become spans', () => {
  after(assertKernelClean);

  test('a share of them, all that failed or were slow, and a Collector counts the rest from these', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const backend = await fileBackend(cleanup);
    const collector = await startCollector(cleanup, 'agent-to-gateway.yaml', backend);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix, env: { OTEL_SERVICE_NAME: 'shop' } });
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    await writeFile(config, 'sampling:\n  ratio: 0.25\n  keep_slower_than_ms: 2000\n');
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--config', config, '--output', 'otlp'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint },
    });
    const urls = [
      `${server.url}/bytes/[1000-${999 + ORDINARY}]`,
      `${server.url}/status/500?[1-${FAILED}]`,
      ...Array.from({ length: SLOW }, (_, i) => `${server.url}/slow/2${100 + i}`),
    ];
    await there.run('curl', ['-sk', ...urls.flatMap((url) => ['-o', '/dev/null', url])]);
    await agent.waitForSpans(2 * SLOW, (span) =>
      /\/slow\//.test(String(span.attributes['url.path'] ?? span.attributes['url.full'])),
    );
    const { spans, stats } = await agent.stop();

    const kept = servers(spans);
    const [failed, slow, ordinary] = [/^\/status/, /^\/slow/, /^\/bytes/].map((path) =>
      kept.filter((span) => path.test(pathOf(span))),
    ) as [FlatSpan[], FlatSpan[], FlatSpan[]];
    assert.deepEqual([failed.length, slow.length], [FAILED, SLOW]);
    // 75 of 300: six standard deviations to each side.
    assert.ok(ordinary.length > 30 && ordinary.length < 120, `${ordinary.length} of ${ORDINARY}`);
    // On a busy machine an ordinary request may be slow as well.
    const standsForItself = (span: FlatSpan) => span.status.code === 2 || span.endUs - span.startUs >= 2_000_000;
    for (const span of kept) assert.equal(span.traceState, standsForItself(span) ? 'ot=th:0' : 'ot=th:c');
    assert.ok([...failed, ...slow].every(standsForItself));
    assert.deepEqual(stats.spans.leftOut, { unsampled: 2 * (ORDINARY - ordinary.length) });
    assert.equal(stats.exchanges.http, ORDINARY + FAILED + SLOW);

    const labels = { service_name: 'shop', span_kind: 'SPAN_KIND_SERVER' };
    const calls = 'traces_span_metrics_calls_total';
    const wanted = kept.reduce((sum, span) => sum + (standsForItself(span) ? 1 : 4), 0);
    const metrics = await until(async () => {
      const samples = await collector.metrics();
      return samples.sum(calls, labels) >= wanted ? samples : undefined;
    }, 'metrics of all spans');
    assert.equal(metrics.sum(calls, labels), wanted);
    assert.equal(metrics.sum(calls, { ...labels, status_code: 'STATUS_CODE_ERROR' }), FAILED);
    assert.equal(metrics.sum('traces_span_metrics_duration_milliseconds_count', labels), wanted);
    // The service graph knows nothing of weights: docs/concepts/sampling.md says so.
    const edge = { client: 'curl', server: 'shop' };
    assert.equal(metrics.sum('traces_service_graph_request_total', edge), kept.length);
    const below2s = { ...labels, le: '2500' };
    assert.equal(metrics.sum('traces_span_metrics_duration_milliseconds_bucket', { ...labels, le: '+Inf' }), wanted);
    assert.ok(metrics.sum('traces_span_metrics_duration_milliseconds_bucket', below2s) <= wanted);
  });

  test('at most so many of a service in a second, or what they stand for', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix, tls: false });
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    await writeFile(config, 'sampling:\n  spans_per_second: 20\n');
    const agent = await startAgentOf(cleanup, cgroup, ['--config', config]);
    await there.run('curl', [
      '-s',
      '-o',
      '/dev/null',
      `${server.url}/bytes/[1-2000]`,
      '-o',
      '/dev/null',
      `${server.url}/status/500`,
    ]);
    await agent.waitForSpans(
      1,
      (span) => span.kind === 'SERVER' && span.attributes['http.response.status_code'] === 500,
    );
    const { spans, stats } = await agent.stop();
    const ordinary = servers(spans).filter((span) => span.status.code !== 2);
    const seconds = new Set(ordinary.map((span) => Math.floor(span.endUs / 1e6))).size;
    // In its first second 20 + 20 ln 100 at most, in expectation.
    assert.ok(ordinary.length < 250 + 40 * seconds, `${ordinary.length} in ${seconds} s`);
    assert.equal(stats.spans.leftOut.rate_limited! + spans.length, 2 * 2001);
    const standsFor = (span: FlatSpan) => {
      const digits = /th:([\da-f]+)/.exec(span.traceState)?.[1];
      assert.ok(digits, span.traceState);
      return 1 / (1 - Number.parseInt(digits.padEnd(14, '0'), 16) / 2 ** 56);
    };
    const counted = ordinary.reduce((sum, span) => sum + standsFor(span), 0);
    // The spread depends on how many seconds it took: kept are a hundred or more of 2000.
    assert.ok(counted > 500 && counted < 4000, `${ordinary.length} spans stand for ${counted} of 2000`);
  });

  test('not those that a filter leaves out; routes are learned, paths shown as patterns', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const server = await startNodeServer(cleanup, { prefix: cgroup.prefix, env: { OTEL_SERVICE_NAME: 'shop' } });
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    const lines = [
      'filters:',
      '  exclude:',
      '    - {service: curl*}',
      '    - {path: /status/*, failed: false}',
      '    - {method: PUT}',
      'http:',
      '  learn_routes: true',
      '  redact_paths: ["/echo/{token}"]',
      'limits:',
      '  learned_segments_per_place: 5',
    ];
    await writeFile(config, `${lines.join('\n')}\n`);
    const agent = await startAgentOf(cleanup, cgroup, ['--config', config, '--output', 'console']);
    const words = Array.from({ length: 12 }, (_, i) => `${server.url}/bytes/1/${'abcdefghijkl'[i]!.repeat(3)}`);
    const urls = ['/echo/s3cret', '/status/200', '/status/500', '/slow/1'].map((path) => `${server.url}${path}`);
    await there.run('curl', ['-sk', ...[...words, ...urls].flatMap((url) => ['-o', '/dev/null', url])]);
    await there.run('curl', ['-sk', '-o', '/dev/null', '-X', 'PUT', '-d', 'x', `${server.url}/echo/y`]);
    await there.run('curl', ['-sk', '-o', '/dev/null', `${server.url}/bytes/17/zzz`]);
    await agent.waitForSpans(16);
    const { spans, stats, stdout } = await agent.stop();
    // The place has its five names, and is a parameter from the sixth on. What failed teaches nothing.
    const names = Array.from({ length: 5 }, (_, i) => `GET /bytes/{id}/${'abcde'[i]!.repeat(3)}`);
    const later = Array.from({ length: 7 }, () => 'GET /bytes/{id}/{id}');
    assert.deepEqual(
      spans.map(({ name }) => name),
      [...names, ...later, 'GET /echo/{token}', 'GET', 'GET /slow/{id}', 'GET /bytes/{id}/{id}'],
    );
    assert.deepEqual(
      spans.map((span) => span.resource['service.name']),
      Array.from({ length: 16 }, () => 'shop'),
    );
    // 18 requests of curl, a status that is no failure, a PUT.
    assert.deepEqual(stats.spans.leftOut, { filtered: 18 + 2 });
    assert.ok(spans.some((span) => pathOf(span) === '/echo/{token}'));
    assert.doesNotMatch(stdout + JSON.stringify(spans), /s3cret/);
  });

  test('not the statements of a database, nor the quick ones, that a filter leaves out', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const postgres = await startPostgres(cleanup);
    await postgres.sql(['CREATE DATABASE kept', 'CREATE DATABASE left_out']);
    const config = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
    const lines = [
      'filters:',
      '  exclude:',
      '    - {database: left*}',
      `    - {database: kept, max_duration_us: ${SLOW_STATEMENT_MS * 1000 - 1}, failed: false}`,
    ];
    await writeFile(config, `${lines.join('\n')}\n`);
    const agent = await startAgentOf(cleanup, cgroup, ['--config', config]);
    const ask = (database: string, statements: readonly string[]) => {
      const words = statements.flatMap((statement) => ['-c', statement]);
      return there.runAnyway('psql', ['-XqAt', ...words], { env: postgres.env({ database }) });
    };
    const slow = `SELECT pg_sleep(${SLOW_STATEMENT_MS / 1000})`;
    const quick = Array.from({ length: 20 }, (_, i) => `SELECT ${i}`);
    await Promise.all([
      ask('left_out', [...quick, slow, 'SELECT 1 FROM nowhere']),
      ask('kept', [...quick, 'SELECT 1 FROM nowhere', slow, slow]),
      ask('postgres', ['SELECT 1', slow]),
    ]);
    await agent.waitForSpans(3, ({ attributes }) => attributes['db.namespace'] === 'kept');
    await agent.waitForSpans(2, ({ attributes }) => attributes['db.namespace'] === 'postgres');
    const { spans, stats } = await agent.stop();
    const named = (database: string) =>
      spans
        .filter(({ attributes }) => attributes['db.namespace'] === database)
        .map(({ name, status }) => `${name}${status.code === 2 ? ' failed' : ''}`);
    assert.deepEqual(named('left_out'), []);
    assert.deepEqual(named('kept'), ['SELECT nowhere failed', 'SELECT', 'SELECT']);
    assert.deepEqual(named('postgres'), ['SELECT', 'SELECT']);
    assert.equal(stats.exchanges.postgresql, 22 + 23 + 2);
    assert.deepEqual(stats.spans.leftOut, { filtered: 22 + 20 });
  });
});
