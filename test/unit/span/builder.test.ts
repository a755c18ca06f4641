import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { IncompleteReason } from '../../../src/exchange/exchange.ts';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import { keptHeaders, requiredHeaders } from '../../../src/protocol/http/span-headers.ts';
import type { SpanBuilderOptions } from '../../../src/span/builder.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { builder, connection, curl, exchange, headers, nginx, tls } from '../../support/spans/fixtures.ts';
import { sections } from '../../support/wire/protocols.ts';

const client = (changes: Partial<HttpExchange>, options: Partial<SpanBuilderOptions> = {}) =>
  builder({ perspective: 'client', ...options }).build(exchange(changes))[0]!;
const server = (changes: Partial<HttpExchange>, options: Partial<SpanBuilderOptions> = {}) =>
  builder({ perspective: 'server', ...options }).build(exchange(changes))[0]!;

describe('http spans', () => {
  it('makes a CLIENT and a SERVER span of one exchange whose ends are both local', () => {
    const counters = newCounters();
    const [first, second, ...more] = builder({ counters }).build(exchange());
    assert.equal(more.length, 0);
    assert.equal(counters.spans.made, 2);
    assert.equal(first!.kind, SpanKind.CLIENT);
    assert.equal(second!.kind, SpanKind.SERVER);
    assert.equal(first!.resource, curl);
    assert.equal(second!.resource, nginx);
    assert.equal(first!.name, 'GET');
    assert.equal(first!.startUnixUs, 1_700_000_000_000_000.5);
    assert.equal(first!.endUnixUs, 1_700_000_000_000_250.5);
    assert.deepEqual(first!.attributes(), {
      'server.address': 'shop.example',
      'server.port': 80,
      'network.peer.address': '198.51.100.2',
      'network.peer.port': 80,
      'network.protocol.version': '1.1',
      'http.request.method': 'GET',
      'http.response.status_code': 200,
      'http.response.body.size': 1200,
      'http.request.body.size': 0,
      'wirespan.http.response.time_to_first_byte': 0.0001,
      'url.full': 'http://shop.example/orders/17',
    });
    assert.deepEqual(second!.attributes(), {
      'server.address': 'shop.example',
      'server.port': 80,
      'network.peer.address': '192.0.2.1',
      'network.peer.port': 40000,
      'client.address': '192.0.2.1',
      'network.protocol.version': '1.1',
      'http.request.method': 'GET',
      'http.response.status_code': 200,
      'http.response.body.size': 1200,
      'http.request.body.size': 0,
      'wirespan.http.response.time_to_first_byte': 0.0001,
      'url.path': '/orders/17',
      'url.scheme': 'http',
    });
  });

  it('makes the spans of the ends that are here', () => {
    const kinds = (clientSocket: number, serverSocket: number) =>
      builder()
        .build(
          exchange({ connection: connection({ client: { socket: clientSocket }, server: { socket: serverSocket } }) }),
        )
        .map((span) => span.kind);
    assert.deepEqual(kinds(1, 2), [SpanKind.CLIENT, SpanKind.SERVER]);
    assert.deepEqual(kinds(1, 0), [SpanKind.CLIENT]);
    assert.deepEqual(kinds(0, 2), [SpanKind.SERVER]);
    assert.deepEqual(kinds(0, 0), [SpanKind.SERVER]);
    const [replayed, ...more] = builder({ perspective: 'replay' }).build(exchange());
    assert.equal(replayed!.kind, SpanKind.SERVER);
    assert.equal(replayed!.parentSpanId, '', 'there is no CLIENT span to be the child of');
    assert.equal(more.length, 0);
  });

  it('calls ends without an owner unknown_service when live, by their address in replay', () => {
    const connectionOf = connection({ client: { socket: 0 }, server: { socket: 99, address: '2001:db8::1' } });
    const live = builder().build(exchange({ connection: connectionOf }))[0]!;
    assert.deepEqual(live.resource.attributes, { 'service.name': 'unknown_service', 'host.ip': ['2001:db8::1'] });
    const replayed = builder({ perspective: 'both' }).build(exchange({ connection: connectionOf }));
    assert.deepEqual(
      replayed.map((span) => span.resource.attributes['service.name']),
      ['192.0.2.1', '[2001:db8::1]:80'],
    );
    const again = builder({ perspective: 'both' });
    assert.equal(
      again.build(exchange({ connection: connectionOf }))[1]!.resource,
      again.build(exchange({ connection: connectionOf }))[1]!.resource,
    );
  });

  it('says what TLS protected it, and the scheme', () => {
    const attributes = client({ connection: connection({ tls: tls(), server: { port: 8443 } }) }).attributes();
    assert.equal(attributes['tls.protocol.version'], '1.3');
    assert.equal(attributes['tls.cipher'], 'TLS_AES_128_GCM_SHA256');
    assert.equal(attributes['url.full'], 'https://shop.example/orders/17');
    // Host names no port: the scheme's own.
    assert.equal(attributes['server.port'], 443);
    assert.equal(attributes['network.peer.port'], 8443);
  });

  it('names unknown methods _OTHER', () => {
    const span = server({ method: 'BREW' });
    assert.equal(span.name, 'HTTP');
    assert.equal(span.attributes()['http.request.method'], '_OTHER');
    assert.equal(span.attributes()['http.request.method_original'], 'BREW');
    assert.equal(server({ method: 'get' }).attributes()['http.request.method'], '_OTHER');
    assert.equal('http.request.method_original' in server({ method: '' }).attributes(), false);
  });

  for (const [status, onClient, onServer] of [
    [200, '', ''],
    [304, '', ''],
    [400, '400', ''],
    [404, '404', ''],
    [499, '499', ''],
    [500, '500', '500'],
    [503, '503', '503'],
  ] as const) {
    it(`${status} is ${onClient || 'no error'} for the client, ${onServer || 'no error'} for the server`, () => {
      for (const [span, error] of [
        [client({ statusCode: status }), onClient],
        [server({ statusCode: status }), onServer],
      ] as const) {
        assert.equal(span.attributes()['error.type'], error === '' ? undefined : error);
        assert.equal(span.status, error === '' ? SpanStatusCode.UNSET : SpanStatusCode.ERROR);
        assert.equal(span.attributes()['http.response.status_code'], status);
      }
    });
  }

  for (const [reason, isError] of [
    ['connection_reset', true],
    ['connection_closed', true],
    ['timeout', true],
    ['protocol_error', true],
    ['gap', false],
    ['shutdown', false],
    ['limit', false],
  ] as const satisfies readonly (readonly [IncompleteReason, boolean])[]) {
    it(`${reason} ${isError ? 'is an error' : 'is marked only'}, without an invented status`, () => {
      for (const span of builder().build(
        exchange({ statusCode: 0, responseStartUs: 0, endUs: 0, responseBodyBytes: 0, incomplete: reason }),
      )) {
        const attributes = span.attributes();
        assert.equal(attributes['error.type'], isError ? reason : undefined);
        assert.equal(attributes['wirespan.exchange.incomplete'], reason);
        assert.equal(span.status, isError ? SpanStatusCode.ERROR : SpanStatusCode.UNSET);
        for (const absent of ['http.response.status_code', 'http.response.body.size'])
          assert.equal(absent in attributes, false);
        assert.equal('wirespan.http.response.time_to_first_byte' in attributes, false);
        assert.equal(span.endUnixUs, 1_700_000_000_000_010);
      }
    });
  }

  it('keeps the status of a response that was cut short', () => {
    const attributes = client({ statusCode: 200, incomplete: 'connection_reset' }).attributes();
    assert.equal(attributes['http.response.status_code'], 200);
    assert.equal(attributes['error.type'], 'connection_reset');
  });

  it('begins at the response when the request was not seen', () => {
    const span = server({
      method: '',
      target: '',
      startUs: 0,
      requestEndUs: 0,
      requestHeaders: new Map(),
      incomplete: 'gap',
    });
    assert.equal(span.startUnixUs, 1_700_000_000_000_100.5);
    assert.equal(span.endUnixUs, 1_700_000_000_000_250.5);
  });

  const targets: [string, Partial<HttpExchange>, string, string, string | undefined, string, number][] = [
    // name, exchange, url.full, url.path, url.query, server.address, server.port
    ['origin form', { target: '/a?b=c' }, 'http://shop.example/a?b=c', '/a', 'b=c', 'shop.example', 80],
    [
      'port in Host',
      { requestHeaders: headers({ host: 'h:8080' }) },
      'http://h:8080/orders/17',
      '/orders/17',
      undefined,
      'h',
      8080,
    ],
    [
      'IPv6 Host',
      { requestHeaders: headers({ host: '[::1]:81' }) },
      'http://[::1]:81/orders/17',
      '/orders/17',
      undefined,
      '::1',
      81,
    ],
    [
      'no Host',
      { requestHeaders: new Map() },
      'http://198.51.100.2/orders/17',
      '/orders/17',
      undefined,
      '198.51.100.2',
      80,
    ],
    [
      'Host that is none',
      { requestHeaders: headers({ host: 'u:p@h/<x>' }) },
      'http://198.51.100.2/orders/17',
      '/orders/17',
      undefined,
      '198.51.100.2',
      80,
    ],
    [
      'absolute form',
      { target: 'http://proxied.example:81/x?y' },
      'http://proxied.example:81/x?y',
      '/x',
      'y',
      'proxied.example',
      81,
    ],
    [
      'absolute form without a path',
      { target: 'http://p.example' },
      'http://p.example/',
      '/',
      undefined,
      'p.example',
      80,
    ],
    [
      'user information',
      { target: 'http://bob:secret@p.example/x' },
      'http://REDACTED:REDACTED@p.example/x',
      '/x',
      undefined,
      'p.example',
      80,
    ],
    ['asterisk form', { method: 'OPTIONS', target: '*' }, 'http://shop.example', '*', undefined, 'shop.example', 80],
    [
      'authority form',
      { method: 'CONNECT', target: 'db.example:5432' },
      'http://db.example:5432',
      '',
      undefined,
      'db.example',
      5432,
    ],
    [
      'bytes that no URI has',
      { target: '/caf\xe9 \x1b[31m?q=\x7f' },
      'http://shop.example/caf%E9%20%1B[31m?q=%7F',
      '/caf%E9%20%1B[31m',
      'q=%7F',
      'shop.example',
      80,
    ],
    ['empty query', { target: '/a?' }, 'http://shop.example/a', '/a', undefined, 'shop.example', 80],
  ];
  for (const [name, changes, full, path, query, address, port] of targets) {
    it(`target: ${name}`, () => {
      const attributes = client(changes).attributes();
      assert.equal(attributes['url.full'], full);
      assert.equal(attributes['server.address'], address);
      assert.equal(attributes['server.port'], port);
      const served = server(changes).attributes();
      assert.equal(served['url.path'], path);
      assert.equal(served['url.query'], query);
    });
  }

  it('redacts signatures in queries, whatever their case or encoding', () => {
    const query = 'a=1&sig=s3cret&X-Amz-Signature=s3cret&%73ig=s3cret&SIGNATURE=s3cret&signal=kept;sig=s3cret&sig';
    const wanted =
      'a=1&sig=REDACTED&X-Amz-Signature=REDACTED&%73ig=REDACTED&SIGNATURE=REDACTED&signal=kept;sig=REDACTED&sig';
    for (const span of builder().build(exchange({ target: `/f?${query}` }))) {
      assert.equal(JSON.stringify({ ...span.attributes(), summary: span.summary }).includes('s3cret'), false);
      assert.equal(span.summary, `/f?${wanted}`);
    }
    const replaced = { redactQueryKeys: ['token'] };
    const attributes = server({ target: '/f?token=x&sig=y' }, { config: sections({ http: replaced }) }).attributes();
    assert.equal(attributes['url.query'], 'token=REDACTED&sig=y');
    const queryOf = (redactQueryKeys: string[], target: string) =>
      server({ target }, { config: sections({ http: { ...replaced, redactQueryKeys } }) }).attributes()['url.query'];
    assert.equal(queryOf([], '/f?sig=y'), 'sig=y');
    assert.equal(queryOf(['*'], '/f?a=b&c;d=e=f'), 'a=REDACTED&REDACTED;d=REDACTED');
  });

  it('shows patterns instead of the paths that match them, everywhere', () => {
    const http = { redactPaths: ['/reset/{token}', '/share/*'], learnRoutes: true };
    for (const [target, shown] of [
      ['/reset/s3cret?a=1', '/reset/{token}'],
      ['/share/s3cret/x', '/share/*'],
      ['http://o.example/reset/s3cret', '/reset/{token}'],
      ['/reset', '/reset'],
    ] as const) {
      const [first, second] = builder({ config: sections({ http }) }).build(exchange({ target }));
      assert.equal(String(first!.attributes()['url.full']).replace(/^http:..[^/]*|\?.*$/g, ''), shown);
      assert.equal(second!.attributes()['url.path'], shown);
      const all = JSON.stringify([first, second].map((span) => [span!.attributes(), span!.summary, span!.name]));
      assert.equal(all.includes('s3cret'), false, all);
    }
  });

  it('takes what proxies say of the client', () => {
    const forwarded = headers({
      host: 'inner',
      forwarded: 'for="[2001:db8::7]:4711";host="shop.example:444";proto=https, for=x',
    });
    assert.partialDeepStrictEqual(server({ requestHeaders: forwarded }).attributes(), {
      'client.address': '2001:db8::7',
      'server.address': 'shop.example',
      'server.port': 444,
      'url.scheme': 'https',
      'network.peer.address': '192.0.2.1',
    });
    const older = headers({
      host: 'inner',
      'x-forwarded-for': '203.0.113.9, 10.0.0.1',
      'x-forwarded-host': 'shop.example',
      'x-forwarded-proto': 'https',
    });
    assert.partialDeepStrictEqual(server({ requestHeaders: older }).attributes(), {
      'client.address': '203.0.113.9',
      'server.address': 'shop.example',
      'server.port': 443,
      'url.scheme': 'https',
    });
    const hidden = headers({ host: 'inner', forwarded: 'for=_secret;proto=ftp' });
    assert.partialDeepStrictEqual(server({ requestHeaders: hidden }).attributes(), {
      'client.address': '192.0.2.1',
      'server.address': 'inner',
      'url.scheme': 'http',
    });
    // It is the server's view alone.
    assert.equal(client({ requestHeaders: older }).attributes()['url.full'], 'http://inner/orders/17');
  });

  it('names the client for whom a PROXY header says that the connection was made, unless fields say more', () => {
    const relayed = connection({ relayedFor: { address: '2001:db8::9', port: 4711 } });
    const seen = server({ connection: relayed }).attributes();
    assert.partialDeepStrictEqual(seen, {
      'client.address': '2001:db8::9',
      'client.port': 4711,
      'network.peer.address': '192.0.2.1',
      'network.peer.port': 40000,
    });
    const fields = headers({ host: 'inner', 'x-forwarded-for': '203.0.113.9' });
    const forwarded = server({ connection: relayed, requestHeaders: fields }).attributes();
    assert.deepEqual([forwarded['client.address'], forwarded['client.port']], ['203.0.113.9', undefined]);
    const unix = server({ connection: connection({ relayedFor: { address: '/run/app.sock', port: 0 } }) }).attributes();
    assert.deepEqual([unix['client.address'], unix['client.port']], ['/run/app.sock', undefined]);
    assert.equal(client({ connection: relayed }).attributes()['client.address'], undefined);
  });

  it('forgets the attributes of a connection when what they were made of changes', () => {
    const spans = builder({ perspective: 'server' });
    const one = connection();
    const address = (fields: Record<string, string>) =>
      spans.build(exchange({ connection: one, requestHeaders: headers(fields) }))[0]!.attributes();
    assert.equal(address({ host: 'a' })['server.address'], 'a');
    assert.equal(address({ host: 'b' })['server.address'], 'b');
    assert.equal(address({ host: 'b', 'x-forwarded-for': '203.0.113.1' })['client.address'], '203.0.113.1');
    assert.equal(address({ host: 'b', 'x-forwarded-for': '203.0.113.2' })['client.address'], '203.0.113.2');
    assert.equal(address({ host: 'b' })['client.address'], '192.0.2.1');
  });

  it('takes routes from patterns, the first that matches', () => {
    const http = { routes: ['/orders/new', '/orders/{id}', '/u/:name/x', '/static/*'] };
    const route = (target: string) => {
      const span = server({ target }, { config: sections({ http }) });
      return [span.name, span.attributes()['http.route']];
    };
    assert.deepEqual(route('/orders/new'), ['GET /orders/new', '/orders/new']);
    assert.deepEqual(route('/orders/17?a=b'), ['GET /orders/{id}', '/orders/{id}']);
    assert.deepEqual(route('/u/bob/x'), ['GET /u/:name/x', '/u/:name/x']);
    assert.deepEqual(route('/static/a/b.css'), ['GET /static/*', '/static/*']);
    assert.deepEqual(route('/orders/'), ['GET', undefined]);
    assert.deepEqual(route('/orders/17/lines'), ['GET', undefined]);
    assert.equal(client({}, { config: sections({ http }) }).name, 'GET');
    const learning = { learnRoutes: true, routes: ['/b/:name'] };
    const learned = (target: string) =>
      server({ target }, { config: sections({ http: learning }) }).attributes()['http.route'];
    assert.equal(learned('/a/17/6ba7b810-9dad-11d1-80b4-00c04fd430c8/name'), '/a/{id}/{id}/name');
    assert.equal(learned('/b/17'), '/b/:name');
  });

  it('records allowed fields as lists, credentials never', () => {
    const http = {
      captureRequestHeaders: ['X-Tenant', 'Authorization', 'cookie'],
      captureResponseHeaders: ['server', 'Set-Cookie'],
    };
    const kept = keptHeaders(http);
    assert.ok(kept.request.has('x-tenant') && kept.request.has('host') && kept.response.has('server'));
    for (const name of ['authorization', 'cookie', 'set-cookie']) {
      assert.equal(kept.request.has(name) || kept.response.has(name) || requiredHeaders.has(name), false);
    }
    const attributes = client(
      {
        requestHeaders: headers({ 'x-tenant': ['a', 'b'], authorization: 'Bearer s3cret', cookie: 's3cret' }),
        responseHeaders: headers({ server: 'nginx', 'set-cookie': 's3cret' }),
      },
      { config: sections({ http }) },
    ).attributes();
    assert.deepEqual(attributes['http.request.header.x-tenant'], ['a', 'b']);
    assert.deepEqual(attributes['http.response.header.server'], ['nginx']);
    assert.equal(JSON.stringify(attributes).includes('s3cret'), false);
  });

  it('leaves out OTLP exports of other processes, and counts them', () => {
    const counters = newCounters();
    const spans = builder({ counters });
    const post = (target: string, type: string) =>
      spans.build(exchange({ method: 'POST', target, requestHeaders: headers({ host: 'c', 'content-type': type }) }))
        .length;
    assert.equal(post('/v1/traces', 'application/x-protobuf'), 0);
    assert.equal(post('/otlp/v1/logs', 'application/json; charset=utf-8'), 0);
    assert.equal(counters.spans.leftOut.otlp_export, 4);
    assert.equal(post('/v1/traces', 'text/plain'), 2);
    assert.equal(post('/v1/tracesx', 'application/json'), 2);
    assert.equal(counters.spans.made, 4);
  });

  it('does not keep the attributes of the exchange before', () => {
    const spans = builder({ perspective: 'server' });
    spans.build(
      exchange({ statusCode: 500, target: '/a?q=1', requestHeaders: headers({ host: 'h', 'user-agent': 'x' }) }),
    );
    const next = spans.build(exchange({ statusCode: 204 }))[0]!.attributes();
    for (const gone of ['error.type', 'url.query', 'user_agent.original']) assert.equal(gone in next, false);
  });
});

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';

describe('context', () => {
  it('continues the trace on the wire: both spans are children of its span', () => {
    const requestHeaders = headers({ host: 'h', traceparent: `00-${TRACE}-${PARENT}-01`, tracestate: ['a=1', 'b=2'] });
    const [first, second] = builder().build(exchange({ requestHeaders }));
    for (const span of [first!, second!]) {
      assert.equal(span.traceId, TRACE);
      assert.equal(span.parentSpanId, PARENT);
      assert.equal(span.traceState, 'a=1,b=2');
      assert.equal(span.flags, 1);
    }
    assert.equal(first!.parentIsRemote, false);
    assert.equal(second!.parentIsRemote, true);
    assert.notEqual(first!.spanId, second!.spanId);
  });

  it('makes no span of an unsampled trace, and counts it', () => {
    const counters = newCounters();
    const requestHeaders = headers({ host: 'h', traceparent: `00-${TRACE}-${PARENT}-00` });
    assert.equal(builder({ counters }).build(exchange({ requestHeaders })).length, 0);
    assert.deepEqual(counters.spans, { made: 0, exported: 0, dropped: {}, leftOut: { unsampled: 2 } });
  });

  it('joins client and server of a trace that begins here, alike on both nodes', () => {
    const near = builder()
      .build(exchange({ connection: connection({ server: { socket: 0 } }) }))[0]!
      .clone();
    const far = builder().build(
      exchange({
        // The same connection behind address translation, seen by another agent.
        connection: connection({
          id: 77,
          startUs: 99,
          client: { address: '203.0.113.1', port: 1, socket: 0 },
          server: { address: '10.0.0.1', port: 8080 },
        }),
      }),
    )[0]!;
    assert.equal(far.traceId, near.traceId);
    assert.equal(far.parentSpanId, near.spanId);
    assert.equal(near.parentSpanId, '');
    assert.equal(far.parentIsRemote, true);
  });

  it('is a child of the CLIENT span in a trace that a load balancer began', () => {
    const requestHeaders = headers({ host: 'h', 'x-amzn-trace-id': `Root=1-${TRACE.slice(0, 8)}-${TRACE.slice(8)}` });
    const [first, second] = builder().build(exchange({ requestHeaders }));
    assert.deepEqual([first!.traceId, second!.traceId], [TRACE, TRACE]);
    assert.deepEqual([first!.parentSpanId, second!.parentSpanId], ['', first!.spanId]);
  });

  it('says that the ids of its own traces are random, and nothing of those of others', () => {
    assert.equal(builder().build(exchange())[0]!.flags, 3);
    const requestHeaders = headers({ host: 'h', b3: `${TRACE}-${PARENT}-1` });
    assert.equal(builder().build(exchange({ requestHeaders }))[0]!.flags, 1);
  });
});
