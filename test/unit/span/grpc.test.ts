import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { GrpcExchange } from '../../../src/protocol/grpc/exchange.ts';
import { STATUS_NAMES, statusCode } from '../../../src/protocol/grpc/status.ts';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import type { SpanBuilderOptions } from '../../../src/span/builder.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { builder, call, connection, curl, exchange, headers, nginx, tls } from '../../support/spans/fixtures.ts';
import { sections } from '../../support/wire/protocols.ts';

const build = (
  changes: Partial<GrpcExchange>,
  http: Partial<HttpExchange> = {},
  options: Partial<SpanBuilderOptions> = {},
) => builder({ perspective: 'both', ...options }).build(call(changes, http));

describe('spans of gRPC calls', () => {
  it('a CLIENT and a SERVER span, with all that is known', () => {
    const counters = newCounters();
    const [client, server, ...more] = build({}, {}, { counters });
    assert.ok(client && server && more.length === 0);
    assert.equal(counters.spans.made, 2);
    assert.deepEqual([client.kind, server.kind], [SpanKind.CLIENT, SpanKind.SERVER]);
    assert.deepEqual([client.resource, server.resource], [curl, nginx]);
    assert.deepEqual([client.name, client.summary, server.name], Array(3).fill('shop.v1.Orders/Get'));
    assert.deepEqual([client.status, server.status], [SpanStatusCode.UNSET, SpanStatusCode.UNSET]);
    assert.deepEqual([server.traceId, server.parentSpanId], [client.traceId, client.spanId]);
    assert.deepEqual(client.attributes(), {
      'rpc.system.name': 'grpc',
      'server.address': 'shop.example',
      'server.port': 50_051,
      'network.peer.address': '198.51.100.2',
      'network.peer.port': 80,
      'network.protocol.name': 'http',
      'network.protocol.version': '2',
      'rpc.method': 'shop.v1.Orders/Get',
      'rpc.status_code': 'OK',
      'wirespan.rpc.request.messages': 1,
      'wirespan.rpc.request.size': 20,
      'wirespan.rpc.response.messages': 1,
      'wirespan.rpc.response.size': 842,
      'wirespan.rpc.response.time_to_first_message': 0.00015,
      'wirespan.rpc.timeout': 1.5,
      'user_agent.original': 'grpc-go/1.70',
    });
    const { 'client.address': address, 'network.peer.address': peer, ...rest } = server.attributes();
    assert.deepEqual([address, peer, rest['network.peer.port']], ['192.0.2.1', '192.0.2.1', 40_000]);
    assert.deepEqual(rest['rpc.method'], 'shop.v1.Orders/Get');
    assert.equal(rest['url.scheme'], undefined);
  });

  it('have the ids of the request that carries the call', () => {
    const http = { streamOffset: 77, method: 'POST' };
    const shared = connection();
    const ids = (spans: readonly { traceId: string; spanId: string; parentSpanId: string }[]) =>
      spans.map(({ traceId, spanId, parentSpanId }) => [traceId, spanId, parentSpanId]);
    assert.deepEqual(
      ids(build({ connection: shared }, http)),
      ids(builder({ perspective: 'both' }).build(exchange({ ...http, connection: shared }))),
    );
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    for (const span of build({}, { requestHeaders: headers({ host: 'a', traceparent }) })) {
      assert.deepEqual([span.traceId, span.parentSpanId], ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']);
    }
  });

  it('errors: for the client all but OK, for the server what it is to blame for', () => {
    const blamed = ['UNKNOWN', 'DEADLINE_EXCEEDED', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'];
    for (const name of STATUS_NAMES) {
      const [client, server] = build({ statusCode: statusCode(name) });
      const types = [client, server].map((span) => span?.attributes()['error.type']);
      const ok = name === 'OK';
      assert.deepEqual(types, [ok ? undefined : name, blamed.includes(name) ? name : undefined]);
      assert.deepEqual(
        [client?.status, server?.status],
        types.map((type) => (type === undefined ? SpanStatusCode.UNSET : SpanStatusCode.ERROR)),
      );
      assert.equal(server?.attributes()['rpc.status_code'], name);
    }
  });

  it('a connection that ends: UNAVAILABLE for the client; nobody else said anything', () => {
    const [client, server] = build({ statusCode: -1 }, { incomplete: 'connection_reset', statusCode: 0 });
    const facts = [client, server].map((span) => {
      const attributes = span?.attributes() ?? {};
      return [attributes['rpc.status_code'], attributes['error.type'], attributes['wirespan.exchange.incomplete']];
    });
    assert.deepEqual(facts, [
      ['UNAVAILABLE', 'UNAVAILABLE', 'connection_reset'],
      [undefined, 'connection_reset', 'connection_reset'],
    ]);
  });

  it('what was not seen is not said, and is no error', () => {
    const [client] = build({ statusCode: -1, requestMessages: -1, responseMessages: -1 }, { incomplete: 'gap' });
    const attributes = client?.attributes() ?? {};
    assert.equal(client?.status, SpanStatusCode.UNSET);
    assert.deepEqual(
      Object.keys(attributes).filter((key) => /status|messages|\.size$/.test(key)),
      [],
    );
  });

  it('an HTTP status that is none of gRPC is said; compressed messages are', () => {
    const changes = { statusCode: statusCode('UNAVAILABLE'), requestCompressed: 1, responseCompressed: 2 };
    const attributes = build(changes, { statusCode: 503 })[0]?.attributes() ?? {};
    assert.equal(attributes['http.response.status_code'], 503);
    assert.equal(attributes['wirespan.rpc.request.compressed_messages'], 1);
    assert.equal(attributes['wirespan.rpc.response.compressed_messages'], 2);
    assert.equal(build({})[0]?.attributes()['http.response.status_code'], undefined);
  });

  it('methods', () => {
    const methods: [string, string][] = [
      ['/Get/It', 'Get/It'],
      ['/api/v1/shop.Orders/Get', 'shop.Orders/Get'],
      ['/shop.Orders/Get?x=secret', '_OTHER'],
      ['/shop.Orders', '_OTHER'],
      ['/a/b\x1bc', '_OTHER'],
      [`/a/${'b'.repeat(300)}`, '_OTHER'],
      ['', '_OTHER'],
    ];
    for (const [target, method] of methods) {
      const [client] = build({}, { target });
      assert.equal(client?.attributes()['rpc.method'], method);
      assert.equal(client?.name, method === '_OTHER' ? 'grpc' : method);
    }
  });

  it('the client behind a proxy, and TLS', () => {
    const requestHeaders = headers({ host: 'shop.example', 'x-forwarded-for': '203.0.113.9' });
    const [, server] = build({ connection: connection({ tls: tls() }) }, { requestHeaders });
    const attributes = server?.attributes() ?? {};
    assert.deepEqual([attributes['client.address'], attributes['server.port']], ['203.0.113.9', 443]);
    assert.equal(attributes['tls.protocol.version'], '1.3');
    const [, relayed] = build({ connection: connection({ relayedFor: { address: '203.0.113.7', port: 7 } }) });
    const { 'client.address': address, 'client.port': port } = relayed?.attributes() ?? {};
    assert.deepEqual([address, port], ['203.0.113.7', 7]);
  });

  it('fields that the configuration asks for', () => {
    const http = { captureRequestHeaders: ['X-Tenant', 'Authorization'] };
    const requestHeaders = headers({ host: 'a', 'x-tenant': 't1', authorization: 'secret' });
    const attributes = build({}, { requestHeaders }, { config: sections({ http }) })[0]?.attributes() ?? {};
    assert.deepEqual(attributes['rpc.request.header.x-tenant'], ['t1']);
    assert.equal(attributes['rpc.request.header.authorization'], undefined);
  });

  it('a call that goes on: INTERNAL children of the spans to come', () => {
    const http = { streamOffset: 500, endUs: 0, statusCode: 200 };
    const shared = connection();
    const changes = { connection: shared, statusCode: -1, responseMessages: 70 };
    const interimUs = 1_700_000_060_000_000.5;
    const made = builder({ perspective: 'both' });
    const open = made.build(call({ ...changes, interimUs }, http)).map((span) => span.clone());
    const ended = made.build(call({ ...changes, statusCode: 0 }, http));
    assert.deepEqual(
      open.map((span) => [span.kind, span.parentSpanId, span.traceId, span.endUnixUs, span.status]),
      ended.map((span) => [SpanKind.INTERNAL, span.spanId, span.traceId, interimUs, SpanStatusCode.UNSET]),
    );
    assert.equal(new Set([...open, ...ended].map((span) => span.spanId)).size, 4);
    for (const span of open) {
      const attributes = span.attributes();
      assert.equal(attributes['wirespan.rpc.interim'], true);
      assert.equal(attributes['wirespan.rpc.response.messages'], 70);
      assert.equal(attributes['rpc.status_code'], undefined);
    }
    const counters = newCounters();
    const target = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
    assert.equal(build({ interimUs }, { target }, { counters }).length, 0);
    assert.deepEqual(counters.spans.leftOut, {});
  });

  it('OTLP exports of other processes are left out, and counted', () => {
    const counters = newCounters();
    const target = '/opentelemetry.proto.collector.logs.v1.LogsService/Export';
    assert.equal(build({}, { target }, { counters }).length, 0);
    assert.deepEqual([counters.spans.leftOut, counters.spans.made], [{ otlp_export: 2 }, 0]);
    assert.equal(build({}, { target: '/my.opentelemetry.proto.collector.X/Export' }).length, 2);
  });
});
