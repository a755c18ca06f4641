import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SpanStatusCode } from '@opentelemetry/api';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { builder, connection, exchange, headers, tls } from '../../support/spans/fixtures.ts';

const spans = (changes: Partial<HttpExchange>) =>
  builder({ perspective: 'both' }).build(exchange({ version: '2', ...changes }));

describe('spans of HTTP/2', () => {
  it('say the version, and the scheme that the request names', () => {
    const [client, server] = spans({ scheme: 'https' });
    assert.equal(client?.attributes()['network.protocol.version'], '2');
    // A proxy that ends TLS passes the scheme on.
    assert.equal(client?.attributes()['url.full'], 'https://shop.example/orders/17');
    assert.equal(server?.attributes()['url.scheme'], 'https');
    assert.equal(server?.attributes()['server.port'], 443);
  });

  it('take the scheme of the connection where none is known', () => {
    const [, server] = spans({ connection: connection({ tls: tls() }) });
    assert.equal(server?.attributes()['url.scheme'], 'https');
  });

  it('a reset is an error by the name of its code', () => {
    for (const span of spans({ statusCode: 0, incomplete: 'stream_reset', errorCode: 'REFUSED_STREAM' })) {
      const attributes = span.attributes();
      assert.deepEqual(
        [attributes['error.type'], attributes['wirespan.exchange.incomplete'], attributes['http.response.status_code']],
        ['REFUSED_STREAM', 'stream_reset', undefined],
      );
      assert.equal(span.status, SpanStatusCode.ERROR);
    }
  });

  it('a status that is an error says more than the reset behind it; one that is none does not', () => {
    const types = (statusCode: number) =>
      spans({ statusCode, incomplete: 'stream_reset', errorCode: 'CANCEL' }).map((s) => s.attributes()['error.type']);
    assert.deepEqual(types(200), ['CANCEL', 'CANCEL']);
    assert.deepEqual(types(404), ['404', 'CANCEL']);
    assert.deepEqual(types(503), ['503', '503']);
  });

  it('the error of a GOAWAY says more than the end of its connection', () => {
    const [client] = spans({ statusCode: 0, incomplete: 'connection_closed', errorCode: 'ENHANCE_YOUR_CALM' });
    assert.equal(client?.attributes()['error.type'], 'ENHANCE_YOUR_CALM');
  });

  it('OTLP exports of other processes over gRPC are left out, and counted', () => {
    const counters = newCounters();
    const target = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
    const requestHeaders = headers({ host: 'collector:4317', 'content-type': 'application/grpc' });
    const made = builder({ perspective: 'both', counters });
    assert.equal(made.build(exchange({ version: '2', method: 'POST', target, requestHeaders })).length, 0);
    assert.deepEqual(counters.spans.leftOut, { otlp_export: 2 });
    // Of a connection that is older than the agent only what is not in its tables is known.
    assert.equal(made.build(exchange({ version: '2', method: 'POST', target, requestHeaders: new Map() })).length, 0);
    assert.deepEqual(counters.spans.leftOut, { otlp_export: 4 });
    const other = { version: '2', method: 'POST', target: '/shop.Orders/Export', requestHeaders };
    assert.equal(made.build(exchange(other)).length, 2);
  });
});
