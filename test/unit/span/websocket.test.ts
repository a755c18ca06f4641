import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import type { WebSocketExchange } from '../../../src/protocol/websocket/exchange.ts';
import type { SpanBuilderOptions } from '../../../src/span/builder.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { builder, connection, exchange, formatExchange, headers, tls } from '../../support/spans/fixtures.ts';
import { sections } from '../../support/wire/protocols.ts';

const CONTEXT = '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01';

function handshake(changes: Partial<HttpExchange> = {}): HttpExchange {
  return exchange({
    target: '/chat?room=7&sig=s3cret',
    statusCode: 101,
    responseBodyBytes: 0,
    streamOffset: 9,
    ...changes,
  });
}

/** A second of talk, closed by the client. */
function socket(changes: Partial<WebSocketExchange> = {}): WebSocketExchange {
  const opened = changes.handshake ?? handshake();
  return {
    protocol: 'websocket',
    connection: opened.connection,
    handshake: opened,
    client: { messages: 3, bytes: 30 },
    server: { messages: 4, bytes: 2048 },
    compressed: false,
    startUs: opened.endUs,
    endUs: opened.endUs + 1_000_000,
    closeCode: 1000,
    closedBy: 'client',
    incomplete: undefined,
    ...changes,
  };
}

const build = (changes: Partial<WebSocketExchange> = {}, options: Partial<SpanBuilderOptions> = {}) =>
  builder(options)
    .build(socket(changes))
    .map((span) => span.clone());

describe('spans of WebSocket connections', () => {
  it('say what went each way, how long, and how it ended', () => {
    const [client, server] = build();
    const counts = {
      'network.protocol.name': 'websocket',
      'wirespan.websocket.client.messages': 3,
      'wirespan.websocket.client.size': 30,
      'wirespan.websocket.server.messages': 4,
      'wirespan.websocket.server.size': 2048,
      'wirespan.websocket.close.code': 1000,
      'wirespan.websocket.close.initiator': 'client',
    };
    assert.deepEqual(client?.attributes(), {
      'server.address': 'shop.example',
      'server.port': 80,
      'network.peer.address': '198.51.100.2',
      'network.peer.port': 80,
      ...counts,
      'url.full': 'ws://shop.example/chat?room=7&sig=REDACTED',
    });
    assert.deepEqual(server?.attributes(), {
      'server.address': 'shop.example',
      'server.port': 80,
      'network.peer.address': '192.0.2.1',
      'network.peer.port': 40000,
      'url.scheme': 'ws',
      'client.address': '192.0.2.1',
      ...counts,
      'url.path': '/chat',
      'url.query': 'room=7&sig=REDACTED',
    });
    for (const span of [client, server]) {
      assert.deepEqual([span?.name, span?.status], ['WebSocket', SpanStatusCode.UNSET]);
      assert.equal(span!.endUnixUs - span!.startUnixUs, 1_000_000);
      assert.equal(span!.startUnixUs, handshake().endUs);
    }
    assert.deepEqual([client?.kind, server?.kind], [SpanKind.CLIENT, SpanKind.SERVER]);
  });

  it('are children of the handshake, each of that of its own end, in one trace', () => {
    for (const requestHeaders of [headers({}), headers({ traceparent: CONTEXT })]) {
      const opened = handshake({ requestHeaders });
      const made = builder();
      const parents = made.build(opened).map((span) => span.clone());
      const children = made.build(socket({ handshake: opened })).map((span) => span.clone());
      assert.equal(children.length, 2);
      children.forEach((child, i) => {
        const parent = parents[i]!;
        assert.deepEqual([child.traceId, child.parentSpanId], [parent.traceId, parent.spanId]);
        assert.deepEqual([child.kind, child.flags, child.parentIsRemote], [parent.kind, parent.flags, false]);
      });
      assert.equal(new Set([...parents, ...children].map((span) => span.spanId)).size, 4);
    }
  });

  it('are sampled as the handshake is', () => {
    const counters = newCounters();
    const requestHeaders = headers({ traceparent: CONTEXT.replace(/01$/, '00') });
    assert.equal(build({ handshake: handshake({ requestHeaders }) }, { counters }).length, 0);
    assert.deepEqual([counters.spans.leftOut, counters.spans.made], [{ unsampled: 2 }, 0]);
    build({}, { counters });
    assert.equal(counters.spans.made, 2);
  });

  it('stand for the ends that are here', () => {
    const far = (end: 'client' | 'server') => handshake({ connection: connection({ [end]: { socket: 0 } }) });
    assert.deepEqual(
      build({ handshake: far('server') }).map((span) => span.kind),
      [SpanKind.CLIENT],
    );
    assert.deepEqual(
      build({ handshake: far('client') }).map((span) => span.kind),
      [SpanKind.SERVER],
    );
    assert.equal(build({}, { perspective: 'replay' }).length, 1);
  });

  it('name the route, and the scheme of TLS, of a proxy, and of HTTP/2', () => {
    const http = { routes: ['/chat'] };
    const [client, server] = build(
      { handshake: handshake({ connection: connection({ tls: tls() }) }) },
      { config: sections({ http }) },
    );
    assert.deepEqual([client?.name, server?.name], ['WebSocket', 'WebSocket /chat']);
    assert.equal(server?.attributes()['http.route'], '/chat');
    assert.deepEqual([server?.attributes()['url.scheme'], server?.attributes()['server.port']], ['wss', 443]);
    assert.equal(client?.attributes()['url.full'], 'wss://shop.example/chat?room=7&sig=REDACTED');
    const requestHeaders = headers({ host: 'inner', forwarded: 'for=203.0.113.9;proto=https;host=outer.example' });
    const [, proxied] = build({ handshake: handshake({ requestHeaders }) });
    assert.deepEqual(
      ['url.scheme', 'server.address', 'client.address'].map((name) => proxied?.attributes()[name]),
      ['wss', 'outer.example', '203.0.113.9'],
    );
    const [, relayed] = build({
      handshake: handshake({ connection: connection({ relayedFor: { address: '203.0.113.7', port: 7 } }) }),
    });
    assert.equal(relayed?.attributes()['client.address'], '203.0.113.7');
    const [stream] = build({
      handshake: handshake({ method: 'CONNECT', version: '2', scheme: 'https', statusCode: 200 }),
    });
    assert.equal(stream?.attributes()['url.full'], 'wss://shop.example/chat?room=7&sig=REDACTED');
  });

  it('are errors when the code or the end is one, at both ends', () => {
    const errors = (changes: Partial<WebSocketExchange>) =>
      build(changes).map((span) => {
        const type = span.attributes()['error.type'];
        assert.equal(span.status, type === undefined ? SpanStatusCode.UNSET : SpanStatusCode.ERROR);
        return type;
      });
    for (const closeCode of [1000, 1001, 1005, 3000, 4400])
      assert.deepEqual(errors({ closeCode }), [undefined, undefined]);
    for (const closeCode of [1002, 1006, 1009, 1011, 1012]) {
      assert.deepEqual(errors({ closeCode, incomplete: closeCode === 1006 ? 'connection_reset' : undefined }), [
        String(closeCode),
        String(closeCode),
      ]);
    }
    for (const incomplete of ['gap', 'shutdown', 'limit'] as const) {
      assert.deepEqual(errors({ closeCode: 0, closedBy: '', incomplete }), [undefined, undefined]);
    }
    assert.deepEqual(errors({ closeCode: 0, incomplete: 'timeout' }), ['timeout', 'timeout']);
    const [client] = build({ closeCode: 0, closedBy: '', incomplete: 'gap', compressed: true });
    assert.deepEqual(
      ['close.code', 'close.initiator', 'compressed'].map((name) => client?.attributes()[`wirespan.websocket.${name}`]),
      [undefined, undefined, true],
    );
    assert.equal(client?.attributes()['wirespan.exchange.incomplete'], 'gap');
  });

  it('have a line on the console', () => {
    const line = (changes: Partial<WebSocketExchange>): string => {
      const each = socket(changes);
      const spans = builder().build(each);
      return formatExchange(each, spans, { color: false, columns: () => undefined }).slice('00:00:00.000  '.length);
    };
    assert.equal(
      line({ handshake: handshake({ target: '/chat' }) }),
      'curl -> nginx            WS /chat  (3 sent, 4 received)       1000   1.00 s    2.0 kB   ws',
    );
    assert.match(line({ closeCode: 1011 }), / 1011 +1\.00 s +2\.0 kB {3}ws$/);
    assert.match(line({ closeCode: 0, incomplete: 'gap' }), / - +1\.00 s +2\.0 kB {3}ws {2}gap$/);
  });
});
