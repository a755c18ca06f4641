import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { defaultLimits } from '../../../src/config/limits.ts';
import type { IncompleteReason } from '../../../src/exchange/exchange.ts';
import type { Connection } from '../../../src/flow/connection.ts';
import { REQUEST_BOUNDS } from '../../../src/metric/bounds.ts';
import type { HistogramMetric, HistogramPoint } from '../../../src/metric/metric.ts';
import { AttributeKey, KEY } from '../../../src/span/attributes.ts';
import { Durations } from '../../../src/span/builder.ts';
import type { Candidate } from '../../../src/span/candidate.ts';
import { Common, type CommonOptions } from '../../../src/span/common.ts';
import type { WireContext } from '../../../src/span/context.ts';
import { SpanDriver } from '../../../src/span/driver.ts';
import type { EndpointDescription, EndpointKey } from '../../../src/span/endpoint.ts';
import { connectionSeed, writeClientSpanId, writeServerSpanId, writeTraceId } from '../../../src/span/ids.ts';
import type { ExchangeFacts, Instruments, SeriesFacts, SpanMapping } from '../../../src/span/mapping.ts';
import { errorOfIncomplete, setOutcome } from '../../../src/span/outcome.ts';
import type { Resource } from '../../../src/span/resource.ts';
import { defaultSamplingOptions } from '../../../src/span/sampling.ts';
import { type EndpointName, IDS_BYTES, PARENT_SPAN_ID, SPAN_ID, type Span } from '../../../src/span/span.ts';
import { identityClock } from '../../../src/telemetry/clock.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { CLIENT_SOCKET, connection, curl, nginx, SERVER_SOCKET } from '../../support/spans/fixtures.ts';

interface PingExchange {
  readonly protocol: 'ping';
  readonly connection: Connection;
  readonly startUs: number;
  readonly endUs: number;
  readonly streamOffset: number;
  readonly traceparent: string;
  readonly incomplete: IncompleteReason | undefined;
  /** What its facts say besides. */
  readonly facts: Partial<ExchangeFacts>;
}

const INTERIM = new AttributeKey('ping.interim');
const INSTRUMENTS: Instruments = {
  client: { name: 'ping.client.duration', description: 'Pings sent.', bounds: REQUEST_BOUNDS, keys: [KEY.serverPort] },
  server: { name: 'ping.server.duration', description: 'Pings received.', bounds: REQUEST_BOUNDS, keys: [] },
  describe: (name, code, error) => ({ name, code, error }),
};

/** The example of mapping.ts, with a context, instruments and whatever facts a test wants. */
class PingSpans implements SpanMapping<PingExchange> {
  readonly protocols = ['ping'];
  readonly primary: EndpointName;
  readonly instruments = INSTRUMENTS;
  /** Which methods were called, in order. */
  readonly calls: string[] = [];

  constructor(primary: EndpointName = 'server') {
    this.primary = primary;
  }

  begin(exchange: PingExchange, facts: ExchangeFacts): void {
    this.calls.push('begin');
    facts.startUs = exchange.startUs;
    facts.endUs = exchange.endUs;
    facts.traceOffset = exchange.streamOffset;
    facts.spanOffset = exchange.streamOffset;
    Object.assign(facts, exchange.facts);
  }

  readContext({ traceparent }: PingExchange, context: WireContext): boolean {
    this.calls.push('readContext');
    return context.readTraceparent(traceparent, '');
  }

  describe(exchange: PingExchange, candidate: Candidate): void {
    this.calls.push('describe');
    candidate.method = 'PING';
    candidate.failed = exchange.incomplete !== undefined;
    candidate.setTimes(exchange.startUs, exchange.endUs);
  }

  identify(_exchange: PingExchange, _endpoint: EndpointName, key: EndpointKey): void {
    key.system = 'ping';
  }

  describeEndpoint({ connection: { server } }: PingExchange, endpoint: EndpointName): EndpointDescription {
    this.calls.push(`describeEndpoint ${endpoint}`);
    const protocol = [[KEY.networkProtocolName, 'ping']] as const;
    return { system: [], serverAddress: server.address, serverPort: server.port, protocol, origin: '', askedName: '' };
  }

  setSeries(exchange: PingExchange, endpoint: EndpointName, resource: Resource, series: SeriesFacts): void {
    this.calls.push(`setSeries ${endpoint} of ${resource.name}`);
    series.name = 'PING';
    series.code = 7;
    series.error = errorOfIncomplete(exchange.incomplete);
  }

  fill(span: Span, exchange: PingExchange): void {
    this.calls.push(`fill ${span.endpoint}`);
    span.name = 'PING';
    span.summary = 'PING';
    setOutcome(span, exchange.incomplete, errorOfIncomplete(exchange.incomplete));
  }
}

function ping(changes: Partial<PingExchange> = {}): PingExchange {
  return {
    protocol: 'ping',
    connection: connection({ server: { port: 77 } }),
    startUs: 1_000_000,
    endUs: 1_250_000,
    streamOffset: 100,
    traceparent: '',
    incomplete: undefined,
    facts: {},
    ...changes,
  };
}

function setUp({ primary = 'server', ...options }: Partial<CommonOptions> & { primary?: EndpointName } = {}) {
  const counters = newCounters();
  const durations = new Durations({ limits: defaultLimits, exponential: false, exemplars: true, counters });
  const resources = {
    resourceOf: (cookie: number) => (cookie === CLIENT_SOCKET ? curl : cookie === SERVER_SOCKET ? nginx : undefined),
  };
  const common = new Common({ perspective: 'auto', resources, clock: identityClock, counters, durations, ...options });
  const mapping = new PingSpans(primary);
  const driver = new SpanDriver(common, mapping);
  const build = (exchange: PingExchange): Span[] => {
    const spans: Span[] = [];
    driver.build(exchange, spans);
    return spans;
  };
  const points = (): Map<string, HistogramPoint> => {
    const metrics = durations.collect(2e6).groups.flatMap((group) => group.metrics as HistogramMetric[]);
    return new Map(metrics.flatMap(({ name, points }) => points.map((point) => [name, point] as const)));
  };
  return { build, counters, mapping, points };
}

/** Ids in hexadecimal as the span at that offset has them. */
function idsAt(exchange: PingExchange, offset: number): { trace: string; client: string; server: string } {
  const seed = connectionSeed(exchange.connection, Buffer.alloc(0), 'sequences');
  const ids = Buffer.alloc(IDS_BYTES);
  const spanId = (): string => ids.toString('hex', SPAN_ID, PARENT_SPAN_ID);
  writeTraceId(ids, seed, offset);
  const trace = ids.toString('hex', 0, SPAN_ID);
  writeClientSpanId(ids, SPAN_ID, seed, offset);
  const client = spanId();
  writeServerSpanId(ids, seed, offset);
  return { trace, client, server: spanId() };
}

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';

describe('span driver', () => {
  test('asks its mapping in order, and makes a CLIENT and a SERVER span', () => {
    const { build, mapping, counters } = setUp();
    const exchange = ping();
    const [client, server, ...others] = build(exchange);
    assert.deepEqual(others, []);
    assert.deepEqual(mapping.calls, [
      'begin',
      'describeEndpoint client',
      'setSeries client of curl',
      'describeEndpoint server',
      'setSeries server of nginx',
      'readContext',
      'fill client',
      'fill server',
    ]);
    const { trace, client: clientId, server: serverId } = idsAt(exchange, 100);
    assert.deepEqual([client!.traceId, client!.spanId, client!.parentSpanId], [trace, clientId, '']);
    assert.deepEqual([server!.traceId, server!.spanId, server!.parentSpanId], [trace, serverId, clientId]);
    assert.deepEqual([client!.kind, server!.kind], [SpanKind.CLIENT, SpanKind.SERVER]);
    assert.deepEqual([client!.resource, server!.resource], [curl, nginx]);
    assert.deepEqual([client!.startUnixUs, client!.endUnixUs], [1_000_000, 1_250_000]);
    assert.equal(server!.parentIsRemote, true);
    assert.equal(client!.peerName, '', 'the server has a span itself');
    assert.deepEqual(client!.attributes(), {
      'server.address': '198.51.100.2',
      'server.port': 77,
      'network.peer.address': '198.51.100.2',
      'network.peer.port': 77,
      'network.protocol.name': 'ping',
    });
    assert.deepEqual(server!.attributes(), {
      'server.address': '198.51.100.2',
      'server.port': 77,
      'network.peer.address': '192.0.2.1',
      'network.peer.port': 40000,
      'network.protocol.name': 'ping',
      'client.address': '192.0.2.1',
    });
    assert.deepEqual(counters.spans.leftOut, {});
  });

  test('shares the attributes of an endpoint until TLS or the mapping changes them', () => {
    const { build, mapping } = setUp();
    const { connection: shared } = ping();
    const first = build(ping({ connection: shared }))[0]!.shared;
    assert.equal(build(ping({ connection: shared, streamOffset: 200 }))[0]!.shared, first);
    assert.equal(mapping.calls.filter((call) => call === 'describeEndpoint client').length, 1);
    shared.tls = { version: '1.3', cipherSuite: '', serverName: undefined, alpn: undefined, clientRandom: undefined };
    const [span] = build(ping({ connection: shared, streamOffset: 300 }));
    assert.notEqual(span!.shared, first);
    assert.equal(span!.attributes()['tls.protocol.version'], '1.3');
  });

  test('the context of the wire gives trace and parent', () => {
    const { build } = setUp();
    const [client, server] = build(ping({ traceparent: `00-${TRACE}-${PARENT}-01` }));
    for (const span of [client!, server!]) assert.deepEqual([span.traceId, span.parentSpanId], [TRACE, PARENT]);
    assert.deepEqual([client!.parentIsRemote, server!.parentIsRemote], [false, true]);
  });

  test('which endpoints have spans follows from the primary one', () => {
    const kinds = (primary: EndpointName, perspective: CommonOptions['perspective'], sockets: [number, number]) => {
      const [client, server] = sockets;
      const { build } = setUp({ primary, perspective });
      const exchange = ping({ connection: connection({ client: { socket: client }, server: { socket: server } }) });
      return build(exchange).map((span) => span.endpoint);
    };
    const both: [number, number] = [CLIENT_SOCKET, SERVER_SOCKET];
    const file: [number, number] = [0, 0];
    assert.deepEqual(kinds('server', 'auto', both), ['client', 'server']);
    assert.deepEqual(kinds('server', 'auto', [CLIENT_SOCKET, 0]), ['client']);
    assert.deepEqual(kinds('server', 'auto', [0, SERVER_SOCKET]), ['server']);
    assert.deepEqual(kinds('server', 'auto', file), ['server']);
    assert.deepEqual(kinds('server', 'replay', file), ['server']);
    assert.deepEqual(kinds('client', 'auto', both), ['client']);
    assert.deepEqual(kinds('client', 'auto', [CLIENT_SOCKET, 0]), ['client']);
    assert.deepEqual(kinds('client', 'auto', [0, SERVER_SOCKET]), ['server']);
    assert.deepEqual(kinds('client', 'replay', file), ['client']);
    for (const primary of ['client', 'server'] as const) {
      assert.deepEqual(kinds(primary, 'both', file), ['client', 'server']);
      assert.deepEqual(kinds(primary, 'client', both), ['client']);
      assert.deepEqual(kinds(primary, 'server', both), ['server']);
    }
  });

  test('a SERVER span has no parent where CLIENT spans are never made', () => {
    const replayed = (primary: EndpointName, perspective: CommonOptions['perspective']): boolean =>
      setUp({ primary, perspective }).build(ping()).at(-1)!.hasParent;
    assert.equal(replayed('server', 'replay'), false);
    assert.equal(replayed('server', 'server'), false);
    assert.equal(replayed('client', 'server'), false);
    assert.equal(replayed('client', 'both'), true);
  });

  test('what is left out is measured, and its context is not read', () => {
    const { build, counters, mapping, points } = setUp();
    assert.deepEqual(build(ping({ facts: { leftOut: 'ignored' } })), []);
    assert.deepEqual(counters.spans.leftOut, { ignored: 2 });
    assert.ok(!mapping.calls.includes('readContext'));
    assert.deepEqual([...points().keys()], ['ping.client.duration', 'ping.server.duration']);
  });

  test('an export of telemetry is not measured', () => {
    const { build, counters, points } = setUp();
    assert.deepEqual(build(ping({ facts: { exportedSignal: 'traces' } })), []);
    assert.deepEqual(counters.spans.leftOut, { otlp_export: 2 });
    assert.equal(points().size, 0);
  });

  test('what goes on is an INTERNAL child of the span that comes at its end, neither measured nor counted', () => {
    const { build, points } = setUp();
    const exchange = ping({ facts: { interimKey: INTERIM, parentOffset: 100, spanOffset: 101 } });
    const ends = idsAt(exchange, 100);
    const [client, server] = build(exchange);
    assert.deepEqual([client!.kind, server!.kind], [SpanKind.INTERNAL, SpanKind.INTERNAL]);
    assert.deepEqual(
      [client!.traceId, client!.parentSpanId, server!.parentSpanId],
      [ends.trace, ends.client, ends.server],
    );
    assert.deepEqual([client!.spanId, server!.spanId], [idsAt(exchange, 101).client, idsAt(exchange, 101).server]);
    assert.deepEqual([client!.parentIsRemote, server!.parentIsRemote], [false, false]);
    assert.equal(client!.attributes()['ping.interim'], true);
    assert.equal(points().size, 0);
    const unsampled = setUp();
    unsampled.build({ ...exchange, traceparent: `00-${TRACE}-${PARENT}-00` });
    assert.deepEqual(unsampled.counters.spans.leftOut, {});
  });

  test('facts of one exchange do not outlive it', () => {
    const { build } = setUp();
    build(ping({ facts: { interimKey: INTERIM, parentOffset: 100, spanOffset: 101 } }));
    const [client] = build(ping());
    assert.equal(client!.kind, SpanKind.CLIENT);
    assert.equal(client!.hasParent, false);
    assert.equal(client!.attributes()['ping.interim'], undefined);
  });

  test('sampling judges what the mapping describes, at each endpoint', () => {
    const sampling = { ...defaultSamplingOptions, ratio: 0 };
    const { build, counters, mapping } = setUp({ sampling });
    assert.deepEqual(build(ping()), []);
    assert.deepEqual(counters.spans.leftOut, { unsampled: 2 });
    assert.ok(mapping.calls.includes('describe'));
    const failed = build(ping({ incomplete: 'timeout' }));
    assert.deepEqual(
      failed.map(({ status }) => status),
      [SpanStatusCode.ERROR, SpanStatusCode.ERROR],
    );
    assert.equal(failed[0]!.attributes()['error.type'], 'timeout');
  });

  test('series have what the mapping says, and the exemplars of their spans', () => {
    const { build, points } = setUp();
    const spans = build(ping({ incomplete: 'timeout' })).map((span) => span.clone());
    const [client, server] = [...points().values()];
    assert.deepEqual(client!.attributes, { 'server.port': 77, name: 'PING', code: 7, error: 'timeout' });
    assert.deepEqual(server!.attributes, { name: 'PING', code: 7, error: 'timeout' });
    const exemplars = [client!, server!].map((point) => point.exemplars.filter((each) => each !== undefined));
    assert.deepEqual(
      exemplars.map((each) => each.map(({ value, traceId, spanId }) => [value, traceId + spanId])),
      spans.map(({ traceId, spanId }) => [[0.25, traceId + spanId]]),
    );
  });

  test('an application that exports spans of its own makes ours INTERNAL', () => {
    const { build } = setUp();
    build(ping({ facts: { exportedSignal: 'traces' }, connection: connection({ server: { socket: 0 } }) }));
    const [client, server] = build(ping({ traceparent: `00-${TRACE}-${PARENT}-01` }));
    assert.deepEqual([client!.kind, server!.kind], [SpanKind.INTERNAL, SpanKind.SERVER]);
    assert.equal(client!.attributes()['wirespan.span.kind'], 'client');
  });
});
