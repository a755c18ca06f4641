/** The other end of a connection, as a cluster's directory names it; which ends are watched; and exchanges that wait. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Exchange } from '../../../src/exchange/exchange.ts';
import { exchangeCost, protocolMappings } from '../../../src/protocol/registry.ts';
import { SpanBuilder } from '../../../src/span/builder.ts';
import type { Peer, PeerDirectory } from '../../../src/span/peer.ts';
import { type Knowledge, type Resource, unwatched, type Watched, watchedFully } from '../../../src/span/resource.ts';
import type { Span } from '../../../src/span/span.ts';
import { WaitingRoom } from '../../../src/span/waiting.ts';
import { identityClock } from '../../../src/telemetry/clock.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import {
  CLIENT_SOCKET,
  call,
  connection,
  curl,
  exchange,
  headers,
  nginx,
  SERVER_SOCKET,
  sqlExchange,
  tls,
} from '../../support/spans/fixtures.ts';
import { sections } from '../../support/wire/protocols.ts';

const peer = (name: string, more: Partial<Peer> = {}): Peer => ({
  name,
  namespace: 'shop',
  serviceName: '',
  watched: true,
  ...more,
});

function setUp() {
  const state = {
    revision: 1,
    byAddress: {} as Record<string, Peer>,
    asked: [] as string[],
    watched: {} as Record<number, Watched>,
    knowledge: {} as Record<number, Knowledge>,
    resources: { [CLIENT_SOCKET]: curl, [SERVER_SOCKET]: nginx } as Record<number, Resource>,
  };
  const peers: PeerDirectory = {
    get revision() {
      return state.revision;
    },
    find: (address, port, unixMs) => {
      state.asked.push(`${address} ${port} ${unixMs}`);
      return state.byAddress[address];
    },
    findName: (host) => (host.includes('.') ? peer(host, { namespace: '', watched: false }) : undefined),
  };
  const counters = newCounters();
  const builder = new SpanBuilder({
    mappings: protocolMappings,
    perspective: 'auto',
    resources: {
      knowsPods: true,
      resourceOf: (cookie) => state.resources[cookie],
      knowledgeOf: (cookie) => state.knowledge[cookie] ?? 'known',
      watchedOf: (cookie) => state.watched[cookie] ?? watchedFully,
    },
    peers,
    clock: identityClock,
    counters,
    config: sections(),
  });
  const build = (each: Exchange): Span[] => builder.build(each).map((span) => span.clone());
  return { state, counters, builder, build };
}

function peerOf(span: Span | undefined) {
  const attributes = span?.attributes() ?? {};
  return [
    attributes['service.peer.name'],
    attributes['service.peer.namespace'],
    attributes['peer.service'],
    attributes['server.address'],
  ];
}

const remoteServer = (more = {}) => connection({ server: { address: '10.96.0.9', socket: 0 }, ...more });
const remoteClient = () => connection({ client: { address: '10.0.0.7', socket: 0 } });

test('a CLIENT span names the server, a SERVER span its client', () => {
  const { state, build } = setUp();
  state.byAddress = { '10.96.0.9': peer('cart'), '10.0.0.7': peer('web', { namespace: '' }) };
  const [client] = build(exchange({ connection: remoteServer() }));
  assert.deepEqual(peerOf(client), ['cart', 'shop', 'cart', 'shop.example']);
  assert.equal(client?.peerName, 'cart');
  const [server] = build(exchange({ connection: remoteClient() }));
  assert.deepEqual(peerOf(server), ['web', undefined, 'web', 'shop.example']);
  assert.deepEqual(state.asked, ['10.96.0.9 80 0.005', '10.0.0.7 0 0.005']);
});

test('gRPC, WebSocket and SQL do so, too', () => {
  const { state, build } = setUp();
  state.byAddress = { '10.96.0.9': peer('cart', { serviceName: 'cart-db' }) };
  const [rpc] = build(call({ connection: remoteServer() }));
  assert.deepEqual(peerOf(rpc), ['cart', 'shop', 'cart', 'shop.example']);
  const [sql] = build(sqlExchange({ connection: remoteServer() }));
  assert.deepEqual(peerOf(sql), ['cart', 'shop', 'cart', 'cart-db']);
  const handshake = exchange({ connection: remoteServer(), statusCode: 101 });
  const [socket] = build({
    protocol: 'websocket',
    connection: handshake.connection,
    handshake,
    startUs: 1,
    endUs: 2,
    client: { messages: 0, bytes: 0 },
    server: { messages: 0, bytes: 0 },
    compressed: false,
    closeCode: 0,
    closedBy: '',
    incomplete: undefined,
  } as unknown as Exchange);
  assert.deepEqual(peerOf(socket), ['cart', 'shop', 'cart', 'shop.example']);
});

test('server.address is the name of the Service when its address is all that the wire says', () => {
  const { state, build } = setUp();
  state.byAddress = { '10.96.0.9': peer('basket', { serviceName: 'cart' }) };
  const bare = exchange({ connection: remoteServer(), requestHeaders: headers({ host: '10.96.0.9' }) });
  const [client] = build(bare);
  assert.deepEqual(peerOf(client), ['basket', 'shop', 'basket', 'cart']);
  assert.equal(client?.attributes()['url.full'], 'http://10.96.0.9/orders/17');
  const [nameless] = build(exchange({ connection: remoteServer(), requestHeaders: new Map() }));
  assert.equal(nameless?.attributes()['server.address'], 'cart');
  // TLS names what the client was told to connect to.
  const [secure] = build(sqlExchange({ connection: remoteServer({ tls: { ...tls(), serverName: 'db.shop' } }) }));
  assert.equal(secure?.attributes()['server.address'], 'db.shop');
});

test('what is outside of the cluster is named by Host or SNI', () => {
  const { build } = setUp();
  const outside = () => connection({ server: { address: '203.0.113.5', socket: 0 } });
  assert.deepEqual(peerOf(build(exchange({ connection: outside() }))[0]).slice(0, 3), [
    'shop.example',
    undefined,
    'shop.example',
  ]);
  const sni = { ...outside(), tls: { ...tls(), serverName: 'api.example' } };
  assert.equal(peerOf(build(exchange({ connection: sni }))[0])[0], 'api.example');
  assert.equal(
    peerOf(build(sqlExchange({ connection: { ...outside(), tls: { ...tls(), serverName: 'db.example' } } }))[0])[0],
    'db.example',
  );
  assert.equal(peerOf(build(sqlExchange({ connection: outside() }))[0])[0], undefined);
  assert.equal(
    peerOf(build(exchange({ connection: outside(), requestHeaders: headers({ host: 'cart' }) }))[0])[0],
    undefined,
  );
  // Whoever a client is: it has not said.
  assert.equal(peerOf(build(exchange({ connection: remoteClient() }))[0])[0], undefined);
});

test('an end that is here says itself who it is', () => {
  const { state, build } = setUp();
  state.resources[SERVER_SOCKET] = {
    name: 'cart',
    attributes: { 'service.name': 'cart', 'service.namespace': 'shop' },
  };
  const [client, server] = build(exchange());
  assert.deepEqual(peerOf(client).slice(0, 3), ['cart', 'shop', 'cart']);
  assert.deepEqual(peerOf(server).slice(0, 3), ['curl', undefined, 'curl']);
  assert.deepEqual(state.asked, []);
});

test('the directory is asked once for a connection, and again when it has learned something', () => {
  const { state, build } = setUp();
  const connected = remoteServer();
  const first = build(exchange({ connection: connected }))[0];
  build(exchange({ connection: connected }));
  assert.equal(state.asked.length, 1);
  assert.equal(peerOf(first)[0], 'shop.example');
  state.byAddress = { '10.96.0.9': peer('cart') };
  state.revision++;
  const [second] = build(exchange({ connection: connected }));
  const [third] = build(exchange({ connection: connected }));
  assert.equal(peerOf(second)[0], 'cart');
  assert.equal(second?.shared, third?.shared);
  assert.equal(state.asked.length, 2);
});

test('without a directory nothing of it stands in a span', () => {
  const builder = new SpanBuilder({
    mappings: protocolMappings,
    perspective: 'auto',
    resources: { resourceOf: () => curl },
    clock: identityClock,
    counters: newCounters(),
    config: sections(),
  });
  const [client] = builder.build(exchange({ connection: remoteServer() }));
  assert.deepEqual(peerOf(client).slice(0, 3), [undefined, undefined, undefined]);
  assert.equal(builder.isUnwatched(connection()), false);
});

test('a statement whose client another agent sees has its span there', () => {
  const { state, counters, build } = setUp();
  assert.deepEqual(build(sqlExchange({ connection: remoteClient() })).length, 1);
  state.byAddress = { '10.0.0.7': peer('web') };
  state.revision++;
  assert.deepEqual(build(sqlExchange({ connection: remoteClient() })), []);
  assert.deepEqual(counters.spans.leftOut, { seen_by_client: 1 });
  state.byAddress = { '10.0.0.7': peer('x', { watched: false }) };
  state.revision++;
  assert.equal(build(sqlExchange({ connection: remoteClient() })).length, 1);
});

test('ends that are not watched have no spans; a connection with no other is of no use', () => {
  const { state, counters, builder, build } = setUp();
  const kinds = (each: Exchange) => build(each).map(({ resource }) => resource.name);
  state.watched = { [CLIENT_SOCKET]: { in: true, out: false } };
  assert.deepEqual(kinds(exchange()), ['nginx']);
  assert.deepEqual(counters.spans.leftOut, { not_watched: 1 });
  assert.equal(builder.isUnwatched(connection()), false);
  assert.equal(builder.isUnwatched(remoteServer()), true);
  state.watched[SERVER_SOCKET] = unwatched;
  for (const each of [exchange(), call(), sqlExchange()]) assert.deepEqual(kinds(each), []);
  assert.deepEqual(counters.spans.leftOut, { not_watched: 6 });
  assert.equal(counters.spans.made, 1);
  assert.equal(builder.isUnwatched(connection()), true);
  assert.equal(builder.isUnwatched(connection({ client: { socket: 0 }, server: { socket: 0 } })), false);
  state.knowledge[SERVER_SOCKET] = 'pending';
  assert.equal(builder.isUnwatched(connection()), false);
});

test('exchanges wait while an end is not known, and then come in their order', () => {
  const knowledge: Record<number, Knowledge> = { [CLIENT_SOCKET]: 'pending' };
  const counts: Record<string, number> = {};
  const delivered: Exchange[] = [];
  const released: unknown[] = [];
  const room = new WaitingRoom({
    resources: { knowsPods: true, resourceOf: () => undefined, knowledgeOf: (cookie) => knowledge[cookie] ?? 'known' },
    limit: 3,
    costOf: exchangeCost,
    counts,
    deliver: (each) => delivered.push(each),
    released: (each) => released.push(each),
  });
  const a = exchange();
  const b = sqlExchange();
  const c = exchange({ connection: remoteClient() });
  assert.deepEqual([room.hold(a), room.hold(b), room.hold(c)], [true, true, false]);
  // A call that goes on is told of at once: it would be another one by then.
  assert.equal(room.hold(call({ interimUs: 7 })), false);
  assert.equal(room.holds(a.connection), true);
  assert.equal(room.holds(c.connection), false);
  room.tick();
  assert.deepEqual(delivered, []);
  knowledge[CLIENT_SOCKET] = 'known';
  room.tick();
  assert.deepEqual(delivered, [a, b]);
  assert.deepEqual(released, [a.connection]);
  knowledge[SERVER_SOCKET] = 'pending';
  const many = Array.from({ length: 5 }, () => exchange());
  assert.deepEqual(
    many.map((each) => room.hold(each)),
    [true, true, true, false, false],
  );
  knowledge[SERVER_SOCKET] = 'given_up';
  room.tick();
  assert.equal(delivered.length, 5);
  assert.deepEqual(counts, { waited: 5, no_room: 2, timeout: 3 });
  knowledge[SERVER_SOCKET] = 'pending';
  room.hold(many[0]!);
  room.flush();
  assert.equal(delivered.length, 6);
});
