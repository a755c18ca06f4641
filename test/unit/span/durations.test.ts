import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Exchange } from '../../../src/exchange/exchange.ts';
import type { Attributes, HistogramMetric, HistogramPoint } from '../../../src/metric/metric.ts';
import { Durations, type DurationsOptions, type SpanBuilder } from '../../../src/span/builder.ts';
import type { Resource } from '../../../src/span/resource.ts';
import { defaultSamplingOptions } from '../../../src/span/sampling.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import {
  builder,
  call,
  connection,
  exchange,
  headers,
  mysqlExchange,
  sqlExchange,
  statement,
} from '../../support/spans/fixtures.ts';
import { sections } from '../../support/wire/protocols.ts';

const START_US = 1_700_000_000_000_000.5;
const HOUR_US = 3_600_000_000;

interface Setup {
  durations: Durations;
  spans: SpanBuilder;
  counters: ReturnType<typeof newCounters>;
}

function setUp(options: Partial<DurationsOptions> = {}, more: Parameters<typeof builder>[0] = {}): Setup {
  const counters = newCounters();
  const durations = new Durations({
    limits: { metricSeries: 100, metricIdleUs: HOUR_US },
    exponential: false,
    exemplars: true,
    counters,
    ...options,
  });
  return { durations, counters, spans: builder({ counters, durations, ...more }) };
}

interface Told {
  owner: Attributes;
  metric: HistogramMetric;
  point: HistogramPoint;
}

/** All points, by owner. */
function told(durations: Durations, nowUs = START_US): Told[] {
  return durations
    .collect(nowUs)
    .groups.flatMap(({ labels, metrics }) =>
      (metrics as HistogramMetric[]).flatMap((metric) =>
        metric.points.map((point) => ({ owner: labels, metric, point })),
      ),
    );
}

const facts = (all: readonly Told[]): unknown[] =>
  all.map(({ owner, metric, point }) => [owner['service.name'], metric.name, point.count, point.attributes]);

const rejectAll = { ...defaultSamplingOptions, ratio: 0, keepErrors: false };

test('an HTTP request, at both ends', () => {
  const { durations, spans } = setUp({}, { config: sections({ http: { routes: ['/orders/{id}'] } }) });
  spans.build(exchange());
  spans.build(exchange({ streamOffset: 9, target: '/orders/18' }));
  spans.build(exchange({ statusCode: 404, target: '/x' }));
  assert.deepEqual(facts(told(durations)), [
    [
      'curl',
      'http.client.request.duration',
      2,
      {
        'server.address': 'shop.example',
        'server.port': 80,
        'network.protocol.version': '1.1',
        'http.request.method': 'GET',
        'http.response.status_code': 200,
      },
    ],
    [
      'curl',
      'http.client.request.duration',
      1,
      {
        'server.address': 'shop.example',
        'server.port': 80,
        'network.protocol.version': '1.1',
        'http.request.method': 'GET',
        'http.response.status_code': 404,
        'error.type': '404',
      },
    ],
    [
      'nginx',
      'http.server.request.duration',
      2,
      {
        'network.protocol.version': '1.1',
        'url.scheme': 'http',
        'http.request.method': 'GET',
        'http.response.status_code': 200,
        'http.route': '/orders/{id}',
      },
    ],
    [
      'nginx',
      'http.server.request.duration',
      1,
      {
        'network.protocol.version': '1.1',
        'url.scheme': 'http',
        'http.request.method': 'GET',
        'http.response.status_code': 404,
      },
    ],
  ]);
});

test('unknown methods are one, and a request without an answer has no status', () => {
  const { durations, spans } = setUp({}, { perspective: 'client' });
  spans.build(exchange({ method: 'BREW', statusCode: 418 }));
  spans.build(exchange({ method: 'WHEN', statusCode: 418 }));
  spans.build(exchange({ statusCode: 0, responseStartUs: 0, incomplete: 'connection_reset' }));
  const common = { 'server.address': 'shop.example', 'server.port': 80, 'network.protocol.version': '1.1' };
  assert.deepEqual(
    told(durations).map(({ point }) => [point.count, point.attributes]),
    [
      [2, { ...common, 'http.request.method': '_OTHER', 'http.response.status_code': 418, 'error.type': '418' }],
      [1, { ...common, 'http.request.method': 'GET', 'error.type': 'connection_reset' }],
    ],
  );
});

test('a gRPC call; one that goes on is not counted before its end; unknown methods of a server are one', () => {
  const { durations, spans } = setUp({}, { perspective: 'server' });
  spans.build(call({ interimUs: START_US + 50 }));
  spans.build(call());
  spans.build(call({ statusCode: 14 }));
  spans.build(call({ statusCode: 12 }, { target: '/a.B/C' }));
  spans.build(call({ statusCode: 12 }, { target: '/a.B/D' }));
  const common = { 'rpc.system.name': 'grpc', 'server.address': 'shop.example', 'server.port': 50051 };
  const [{ metric }] = told(durations) as [Told];
  assert.equal(metric.name, 'rpc.server.call.duration');
  assert.deepEqual(
    told(durations).map(({ point }) => [point.count, point.attributes]),
    [
      [1, { ...common, 'rpc.method': 'shop.v1.Orders/Get', 'rpc.status_code': 'OK' }],
      [
        1,
        {
          ...common,
          'rpc.method': 'shop.v1.Orders/Get',
          'rpc.status_code': 'UNAVAILABLE',
          'error.type': 'UNAVAILABLE',
        },
      ],
      [2, { ...common, 'rpc.method': '_OTHER', 'rpc.status_code': 'UNIMPLEMENTED', 'error.type': 'UNIMPLEMENTED' }],
    ],
  );
});

test('statements, by what they do; all of them, whatever becomes a span', () => {
  const sql = { minDurationUs: 10_000 };
  const { durations, spans, counters } = setUp({}, { config: sections({ sql }) });
  const one = connection({ server: { port: 6432, address: '10.0.0.9' } });
  const place = { connection: one };
  spans.build(sqlExchange(place));
  spans.build(sqlExchange({ ...place, statement: statement({ ignored: true }) }));
  spans.build(sqlExchange({ ...place, batchSize: 3 }));
  spans.build(sqlExchange({ ...place, failed: true, statusCode: '23505' }));
  spans.build(sqlExchange({ ...place, statement: undefined, incomplete: 'timeout' }));
  assert.deepEqual(counters.spans.leftOut, { below_min_duration: 2, ignored: 1 });
  const common = {
    'db.system.name': 'postgresql',
    'db.namespace': 'shop',
    'server.address': '10.0.0.9',
    'server.port': 6432,
  };
  const [{ metric }] = told(durations) as [Told];
  assert.deepEqual([metric.name, metric.unit, metric.bounds.length], ['db.client.operation.duration', 's', 9]);
  assert.deepEqual(
    told(durations).map(({ point }) => [point.count, point.attributes]),
    [
      [2, { ...common, 'db.query.summary': 'SELECT orders' }],
      [
        1,
        { ...common, 'db.query.summary': 'SELECT orders', 'db.response.status_code': '23505', 'error.type': '23505' },
      ],
      [1, { ...common, 'db.query.summary': 'BATCH SELECT orders' }],
      [1, { ...common, 'error.type': 'timeout' }],
    ],
  );
});

test('a database whose clients are elsewhere', () => {
  const { durations, spans } = setUp();
  spans.build(mysqlExchange({ connection: connection({ client: { socket: 0 }, server: { port: 3306 } }) }));
  assert.deepEqual(facts(told(durations)), [
    [
      'nginx',
      'wirespan.db.server.operation.duration',
      1,
      { 'db.system.name': 'mysql', 'db.namespace': 'shop', 'db.query.summary': 'SELECT orders' },
    ],
  ]);
});

test('a duration is that of the span, and its exemplar is the span', () => {
  const { durations, spans } = setUp();
  const made = spans.build(exchange()).map((span) => span.clone());
  for (const { metric, point } of told(durations)) {
    const span = made.find(({ kind }) => (kind === 2) === (metric.name === 'http.client.request.duration'))!;
    const [first] = point.exemplars;
    assert.ok(Math.abs(point.sum - 0.000_25) < 1e-12);
    assert.deepEqual([point.min, point.max, point.startUnixUs], [point.sum, point.sum, START_US]);
    assert.deepEqual([first?.traceId, first?.spanId, first?.value], [span.traceId, span.spanId, point.sum]);
    assert.equal(first?.unixUs, span.endUnixUs);
  }
});

test('what is not sampled is measured, and is nobody’s exemplar', () => {
  const { durations, spans, counters } = setUp({}, { sampling: rejectAll });
  const all = [exchange(), call(), sqlExchange()];
  for (const each of all) assert.equal(spans.build(each).length, 0);
  const sampled = exchange({
    requestHeaders: headers({ host: 'shop.example', traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` }),
  });
  assert.equal(spans.build(sampled).length, 2);
  assert.equal(counters.spans.leftOut.unsampled, 5);
  const counted = told(durations).map(({ metric, point }) => [
    metric.name,
    point.count,
    point.exemplars.filter(Boolean).length,
  ]);
  assert.deepEqual(counted, [
    ['http.client.request.duration', 2, 1],
    ['rpc.client.call.duration', 1, 0],
    ['db.client.operation.duration', 1, 0],
    ['http.server.request.duration', 2, 1],
    ['rpc.server.call.duration', 1, 0],
  ]);
});

test('telemetry of others is neither a span nor measured', () => {
  const { durations, spans } = setUp();
  spans.build(
    exchange({
      method: 'POST',
      target: '/v1/traces',
      requestHeaders: headers({ 'content-type': 'application/x-protobuf' }),
    }),
  );
  spans.build(call({}, { target: '/opentelemetry.proto.collector.trace.v1.TraceService/Export' }));
  assert.deepEqual(told(durations), []);
});

test('processes of one service are one; pods are not', () => {
  const worker = (pid: number, more: Attributes = {}): Resource => ({
    name: 'shop',
    attributes: {
      'service.name': 'shop',
      'service.instance.id': `uuid-${pid}`,
      'host.name': 'node-1',
      'process.pid': pid,
      'container.id': `c${pid}`,
      ...more,
    },
  });
  const resources = [
    worker(1),
    worker(2),
    worker(3, { 'k8s.pod.name': 'shop-a', 'k8s.namespace.name': 'prod' }),
    worker(4, { 'k8s.pod.name': 'shop-b', 'k8s.namespace.name': 'prod' }),
  ];
  const { durations, spans } = setUp(
    {},
    { perspective: 'server', resources: { resourceOf: (socket) => resources[socket - 1] } },
  );
  for (const socket of [1, 2, 2, 3, 4, 4, 4]) {
    spans.build(exchange({ connection: connection({ server: { socket } }) }));
  }
  const { groups } = durations.collect(START_US);
  const counts = groups.map(({ labels, metrics }) => [
    labels,
    (metrics[0] as HistogramMetric).points.map(({ count }) => count),
  ]);
  const pod = (name: string, pid: number): Attributes => ({
    'service.name': 'shop',
    'service.instance.id': `uuid-${pid}`,
    'k8s.namespace.name': 'prod',
    'k8s.pod.name': name,
  });
  assert.deepEqual(
    counts.map(([labels, n]) => [Object.entries(labels as Attributes).sort(), n]),
    [
      [Object.entries({ 'service.name': 'shop' }), [3]],
      [Object.entries(pod('shop-a', 3)).sort(), [1]],
      [Object.entries(pod('shop-b', 4)).sort(), [3]],
    ],
  );
  assert.deepEqual(groups[0]!.resource, { 'service.name': 'shop', 'host.name': 'node-1' });
  assert.equal(groups[1]!.resource['container.id'], 'c3');
});

test('series are bounded: what is beyond counts in one, and nothing is lost', () => {
  const { durations, spans, counters } = setUp(
    { limits: { metricSeries: 3, metricIdleUs: HOUR_US } },
    { perspective: 'client' },
  );
  for (let i = 0; i < 10; i++) {
    spans.build(sqlExchange({ statement: statement({ summary: `SELECT t${i}` }) }));
    spans.build(sqlExchange({ statement: statement({ summary: 'SELECT t0' }) }));
  }
  for (let i = 0; i < 5; i++)
    spans.build(exchange({ connection: connection(), requestHeaders: headers({ host: `h${i}` }) }));
  const { groups, overflow } = durations.collect(START_US);
  const points = groups.flatMap(({ metrics }) => metrics.flatMap((metric) => (metric as HistogramMetric).points));
  assert.deepEqual(
    points.map(({ attributes, count }) => [attributes['db.query.summary'], count]),
    [
      ['SELECT t0', 11],
      ['SELECT t1', 1],
      ['SELECT t2', 1],
    ],
  );
  assert.deepEqual(
    overflow.map(({ name, points: [point] }) => [name, point?.count, point?.attributes]),
    [
      ['db.client.operation.duration', 7, { 'otel.metric.overflow': true }],
      ['http.client.request.duration', 5, { 'otel.metric.overflow': true }],
    ],
  );
  assert.deepEqual(counters.metrics, { series_limit: 12 });
});

test('a series that has not grown for long makes room, and begins anew when it grows again', () => {
  const { durations, spans, counters } = setUp(
    { limits: { metricSeries: 2, metricIdleUs: HOUR_US } },
    { perspective: 'client' },
  );
  const kept = connection();
  const ask = (host: string, at = kept): void => {
    spans.build(exchange({ connection: at, requestHeaders: headers({ host }) }));
  };
  const counts = (nowUs: number): unknown[] =>
    told(durations, nowUs).map(({ point }) => [point.attributes['server.address'], point.count]);
  ask('old');
  ask('kept');
  assert.deepEqual(counts(START_US), [
    ['old', 1],
    ['kept', 1],
  ]);
  ask('kept');
  assert.deepEqual(counts(START_US + HOUR_US - 1), [
    ['old', 1],
    ['kept', 2],
  ]);
  assert.deepEqual(counts(START_US + HOUR_US), [['kept', 2]]);
  assert.deepEqual(counters.metrics, { series_expired: 1 });
  // Of the same connection, whose end still holds what was forgotten; and of another one.
  ask('old');
  ask('old', connection());
  assert.deepEqual(counts(START_US + HOUR_US + 1), [
    ['kept', 2],
    ['old', 2],
  ]);
  assert.deepEqual(counts(START_US + 2 * HOUR_US - 1), [['old', 2]]);
});

test('when there is room again, no series is told twice', () => {
  const { durations, spans } = setUp({ limits: { metricSeries: 1, metricIdleUs: HOUR_US } }, { perspective: 'client' });
  const [one, other] = [connection(), connection()];
  const ask = (host: string, at: typeof one): void => {
    spans.build(exchange({ connection: at, requestHeaders: headers({ host }) }));
  };
  ask('first', connection());
  ask('later', one);
  ask('later', other);
  told(durations, START_US);
  assert.deepEqual(told(durations, START_US + HOUR_US), []);
  ask('later', one);
  ask('later', other);
  assert.deepEqual(
    told(durations, START_US + HOUR_US).map(({ point }) => [point.attributes['server.address'], point.count]),
    [['later', 2]],
  );
  assert.equal(durations.collect(START_US + HOUR_US).overflow[0]?.points[0]?.count, 2);
});

test('whatever comes, each end of each exchange counts once', () => {
  const exchanges = fc.oneof(
    fc
      .record({
        host: fc.constantFrom('a', 'b', 'c:8080'),
        status: fc.constantFrom(0, 200, 404, 503),
        method: fc.constantFrom('GET', 'POST', 'X'),
      })
      .map(
        ({ host, status, method }): Exchange =>
          exchange({ connection: connection(), requestHeaders: headers({ host }), statusCode: status, method }),
      ),
    fc
      .record({ n: fc.nat(5), code: fc.integer({ min: -1, max: 16 }) })
      .map(({ n, code }): Exchange => call({ connection: connection(), statusCode: code }, { target: `/p.S/M${n}` })),
    fc.record({ n: fc.nat(9), failed: fc.boolean() }).map(
      ({ n, failed }): Exchange =>
        sqlExchange({
          connection: connection({ server: { port: 5432 } }),
          failed,
          statusCode: failed ? '42P01' : '',
          statement: statement({ summary: `SELECT t${n}` }),
        }),
    ),
  );
  fc.assert(
    fc.property(fc.array(exchanges, { maxLength: 60 }), fc.integer({ min: 1, max: 12 }), (all, metricSeries) => {
      const { durations, spans } = setUp({ limits: { metricSeries, metricIdleUs: HOUR_US } });
      for (const each of all) spans.build(each);
      const { groups, overflow } = durations.collect(START_US);
      const metrics = [...groups.flatMap((group) => group.metrics as HistogramMetric[]), ...overflow];
      const points = metrics.flatMap(({ name, points: told }) => told.map((point) => ({ name, point })));
      const sum = (prefix: string): number =>
        points.filter(({ name }) => name.startsWith(prefix)).reduce((n, { point }) => n + point.count, 0);
      const of = (protocol: string): number => all.filter((each) => each.protocol === protocol).length;
      assert.deepEqual([sum('http.client'), sum('http.server')], [of('http'), of('http')]);
      assert.deepEqual([sum('rpc.client'), sum('rpc.server')], [of('grpc'), of('grpc')]);
      assert.equal(sum('db.client'), of('postgresql'));
      for (const { point } of points)
        assert.equal(
          point.counts.reduce((n, count) => n + count, 0),
          point.count,
        );
      assert.ok(points.length <= metricSeries + 5);
      const seen = new Set(
        groups.flatMap(({ labels, metrics: list }) =>
          list.flatMap((metric) =>
            metric.points.map(({ attributes }) => JSON.stringify([labels, metric.name, attributes])),
          ),
        ),
      );
      assert.equal(seen.size, points.length - overflow.length);
    }),
  );
});
