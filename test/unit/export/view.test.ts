import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import type { Exchange } from '../../../src/exchange/exchange.ts';
import type { ExchangeView } from '../../../src/export/view.ts';
import { toLine } from '../../../src/export/view-line.ts';
import { endpointKeys, tlsKeys, unknownReasons, viewKeys, viewReference } from '../../../src/export/view-reference.ts';
import { Views } from '../../../src/export/views.ts';
import { Pipeline } from '../../../src/protocol/redis/exchange.ts';
import { protocolViewers as viewers } from '../../../src/protocol/registry.ts';
import type { WebSocketExchange } from '../../../src/protocol/websocket/exchange.ts';
import type { PeerDirectory } from '../../../src/span/peer.ts';
import { identityClock } from '../../../src/telemetry/clock.ts';
import { redisExchange } from '../../support/protocols/redis.ts';
import {
  bothKnown,
  builder,
  call,
  connection,
  exchange,
  headers,
  mysqlExchange,
  sqlExchange,
  statement,
  tls,
  viewOf,
} from '../../support/spans/fixtures.ts';
import { sections } from '../../support/wire/protocols.ts';

const START = 1_700_000_000_000_000.5;

/** As a reader of the line has it. */
function parsed(each: Exchange): ExchangeView {
  return JSON.parse(toLine(viewOf(each, builder().build(each))));
}

function webSocket(changes: Partial<WebSocketExchange> = {}): WebSocketExchange {
  const handshake = exchange({ target: '/room/7?sig=geheim', statusCode: 101 });
  return {
    protocol: 'websocket',
    connection: handshake.connection,
    handshake,
    client: { messages: 12, bytes: 120 },
    server: { messages: 40, bytes: 4000 },
    compressed: false,
    startUs: START,
    endUs: START + 5e6,
    closeCode: 1001,
    closedBy: 'client',
    incomplete: undefined,
    ...changes,
  };
}

const inPipeline = new Pipeline(0);
inPipeline.count = 4;
const samples: readonly Exchange[] = [
  exchange(),
  exchange({ connection: connection({ tls: tls(), startSeen: false, client: { socket: 0 }, server: { socket: 99 } }) }),
  exchange({ startUs: 0, method: '', target: '' }),
  exchange({ statusCode: 0, responseStartUs: 0, incomplete: 'connection_reset', errorCode: 'CANCEL' }),
  call(),
  call({ statusCode: -1, requestMessages: -1, responseMessages: -1 }, { incomplete: 'gap', target: '*' }),
  call({ statusCode: -1, interimUs: START + 60e6, requestCompressed: 1, responseCompressed: 2, responseMessages: 70 }),
  sqlExchange(),
  sqlExchange({ statement: undefined, namespace: '', responseStartUs: 0, incomplete: 'timeout' }),
  mysqlExchange({ statement: statement({ text: '' }), failed: true, statusCode: '1062', sqlState: '23000' }),
  mysqlExchange({ batchSize: 3, batchCount: 2, batchIndex: 1, affectedRows: 3, returnedRows: -1 }),
  webSocket(),
  webSocket({ closeCode: 0, closedBy: '', incomplete: 'shutdown' }),
  redisExchange(['FCALL', 'function', '0'], { connection: connection(), failed: true, statusCode: 'WRONGTYPE' }),
  redisExchange(['EXEC'], { connection: connection(), batchSize: 3 }, inPipeline),
  redisExchange(['b840fc02'], {
    ...{ connection: connection(), unanswered: true, namespace: '', responseStartUs: 0 },
  }),
];

describe('the view of an exchange', () => {
  it('of HTTP', () => {
    const secure = connection({ tls: { ...tls(), serverName: 'shop.example' } });
    const view = parsed(exchange({ connection: secure, target: '/orders/17?sig=geheim&a=1' }));
    const { client, server, traceId, ...rest } = view;
    assert.deepEqual(rest, {
      version: 1,
      protocol: 'http',
      protocolVersion: '1.1',
      label: 'h1',
      startUnixUs: START,
      durationUs: 250,
      requestUs: 9.5,
      firstByteUs: 100,
      summary: 'GET /orders/17?sig=REDACTED&a=1',
      outcome: '200',
      severity: 'ok',
      requestBytes: 0,
      responseBytes: 1200,
      tls: { version: '1.3', cipher: 'TLS_AES_128_GCM_SHA256', serverName: 'shop.example' },
      details: {
        method: 'GET',
        target: '/orders/17?sig=REDACTED&a=1',
        host: 'shop.example',
        statusCode: 200,
      },
    });
    const { spanId, ...curl } = client;
    assert.deepEqual(curl, {
      address: '192.0.2.1',
      port: 40000,
      name: 'curl',
      resource: { 'service.name': 'curl', 'process.pid': 7 },
    });
    assert.match(`${traceId} ${spanId} ${server.spanId}`, /^[\da-f]{32} [\da-f]{16} [\da-f]{16}$/);
    assert.equal(server.parentSpanId, spanId);
  });

  it('of gRPC', () => {
    const view = parsed(call({ responseMessages: 11, statusCode: 5 }));
    assert.deepEqual(
      [view.label, view.summary, view.remark, view.outcome, view.severity, view.error],
      ['grpc', 'shop.v1.Orders/Get', '1/11', 'NOT_FOUND', 'error', 'NOT_FOUND'],
    );
    assert.deepEqual([view.requestBytes, view.responseBytes, view.firstMessageUs], [20, 842, 150]);
    assert.deepEqual(view.details, {
      method: 'shop.v1.Orders/Get',
      status: 'NOT_FOUND',
      httpStatusCode: 200,
      requestMessages: 1,
      responseMessages: 11,
      timeoutUs: 1_500_000,
      userAgent: 'grpc-go/1.70',
    });
    const going = parsed(call({ statusCode: -1, interimUs: START + 60e6 }));
    assert.deepEqual([going.open, going.outcome, going.durationUs, going.unknown], [true, 'open', 60e6, undefined]);
  });

  it('of SQL', () => {
    const view = parsed(sqlExchange());
    assert.deepEqual(
      [view.protocol, view.label, view.summary, view.remark, view.outcome, view.firstRowUs],
      ['postgresql', 'pg', 'SELECT orders', 'shop', '3 rows', 150],
    );
    assert.deepEqual(view.details, {
      system: 'postgresql',
      namespace: 'shop',
      text: 'SELECT * FROM orders WHERE id = ?',
      prepared: false,
      transaction: 'active',
      returnedRows: 3,
    });
    const failed = parsed(mysqlExchange({ system: 'mariadb', failed: true, statusCode: '1062', sqlState: '23000' }));
    assert.deepEqual(
      [failed.label, failed.outcome, failed.severity, failed.error, failed.details.sqlState],
      ['mariadb', '1062', 'error', '1062', '23000'],
    );
  });

  it('of WebSocket', () => {
    const view = parsed(webSocket());
    assert.deepEqual(
      [view.label, view.summary, view.remark, view.outcome, view.requestBytes, view.responseBytes, view.durationUs],
      ['ws', 'WS /room/7?sig=REDACTED', '12 sent, 40 received', '1001', 120, 4000, 5e6],
    );
    assert.equal(view.details.closedBy, 'client');
  });

  it('says what is not known, and why', () => {
    const why = (each: Exchange) =>
      Object.fromEntries((parsed(each).unknown ?? []).map(({ what, why: reason }) => [what, reason]));
    assert.deepEqual(samples.map(why), [
      {},
      { connection: 'joined_midstream', client: 'no_socket', server: 'owner_not_known' },
      { request: 'not_seen' },
      { response: 'connection_reset' },
      {},
      { method: 'not_certain', status: 'gap', requestMessages: 'gap', responseMessages: 'gap', end: 'gap' },
      {},
      {},
      { text: 'not_seen', namespace: 'not_seen', response: 'timeout' },
      { text: 'not_certain' },
      {},
      {},
      { closeCode: 'shutdown' },
      {},
      {},
      { text: 'not_certain', namespace: 'not_seen' },
    ]);
    const nobody = builder({ perspective: 'client', resources: { resourceOf: () => undefined } });
    const views = new Views({
      viewers,
      clock: identityClock,
      resources: { resourceOf: () => undefined },
      config: sections(),
    });
    const far = exchange({ connection: connection({ client: { socket: 0 } }) });
    views.show(far, [], nobody.verdict);
    assert.deepEqual(views.view.unknown, [
      { what: 'client', why: 'no_socket' },
      { what: 'server', why: 'owner_not_known' },
    ]);
  });

  it('is the same, without ids, when no span was made of it', () => {
    const target = '/a?sig=geheim';
    for (const each of [...samples, exchange({ target }), exchange({ target: `http://u:pw@h${target}` })]) {
      const made = viewOf(each, builder().build(each));
      const out = viewOf(each, [], { client: 'unsampled', server: 'filtered' });
      assert.deepEqual([out.client.leftOut, out.server.leftOut], ['unsampled', 'filtered']);
      const same = ({ traceId: _, client, server, ...rest }: ExchangeView) => rest;
      assert.deepEqual(same(out), same(made));
      assert.doesNotMatch(toLine(out), /geheim|pw/);
    }
  });

  it('names what the cluster knows of an address', () => {
    const peer = { name: 'orders', namespace: 'shop', serviceName: '', watched: true };
    const peers: PeerDirectory = {
      revision: 1,
      find: (address) => (address.startsWith('198') ? peer : undefined),
      findName: () => undefined,
    };
    const views = new Views({
      viewers,
      clock: identityClock,
      resources: bothKnown,
      peers,
      config: sections(),
    });
    views.show(exchange({ connection: connection({ server: { socket: 0 } }) }), [], { client: '', server: '' });
    assert.deepEqual([views.view.server.name, views.view.server.namespace], ['orders', 'shop']);
  });
});

describe('a line', () => {
  it('holds no control character and no byte that turns text around, and parses', () => {
    const hostile = '\x00\x07\x1b]0;x\x07\x7f\x9b31m\u2028\u202e\u2066\ufeff\ud800"\\\r\n';
    const named = {
      resourceOf: () => ({ name: hostile, attributes: { 'service.name': hostile, [hostile]: hostile } }),
    };
    const views = new Views({ viewers, clock: identityClock, resources: named, config: sections() });
    const each = sqlExchange({
      namespace: hostile,
      statement: statement({ text: hostile, summary: hostile }),
      connection: connection({ tls: { ...tls(), serverName: hostile } }),
    });
    views.show(each, builder({ resources: named }).build(each), { client: '', server: '' });
    const line = toLine(views.view);
    assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\u2028\u2029\ud800-\udfff]/u);
    const back = JSON.parse(line) as ExchangeView;
    assert.equal(back.details.text, hostile);
    assert.equal(back.client.resource?.[hostile], hostile);
  });

  it('parses whatever is asked, and quotes no secret', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 40 }),
        fc.constantFrom('sig', 'Signature', 'AWSAccessKeyId', 's%69g'),
        fc.boolean(),
        (junk, name, sampled) => {
          const text = Buffer.from(junk).toString('latin1');
          const target = `/${text.replaceAll(/[?#&;]/g, '')}?a=${text.replaceAll(/[&;]/g, '')}&${name}=pl4nted`;
          const each = exchange({
            target,
            method: text,
            requestHeaders: headers({ host: text, 'user-agent': text, authorization: 'pl4nted', cookie: 'pl4nted' }),
          });
          const line = toLine(viewOf(each, sampled ? builder().build(each) : []));
          assert.doesNotMatch(line, /pl4nted|\n/);
          assert.equal(JSON.parse(line).protocol, 'http');
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('the reference of the view', () => {
  it('has every key and no other', () => {
    const seen = {
      top: new Set<string>(),
      endpoint: new Set<string>(),
      tls: new Set<string>(),
      why: new Set<string>(),
    };
    const details = new Map<string, Set<string>>();
    for (const each of samples) {
      for (const spans of [builder().build(each), []]) {
        const view = viewOf({ ...each }, spans);
        for (const key of Object.keys(view)) seen.top.add(key);
        for (const end of [view.client, view.server]) for (const key of Object.keys(end)) seen.endpoint.add(key);
        for (const key of Object.keys(view.tls ?? {})) seen.tls.add(key);
        const known = details.get(view.protocol) ?? new Set();
        details.set(view.protocol, known);
        for (const key of Object.keys(view.details)) known.add(key);
      }
    }
    const sorted = (keys: Iterable<string>) => [...keys].sort();
    assert.deepEqual(sorted(seen.top), sorted(Object.keys(viewKeys)));
    assert.deepEqual(sorted(seen.endpoint), sorted(Object.keys(endpointKeys)));
    assert.deepEqual(sorted(seen.tls), sorted(Object.keys(tlsKeys)));
    assert.deepEqual(sorted(details.keys()), sorted(viewers.keys()));
    for (const [name, viewer] of viewers) {
      assert.deepEqual(sorted(details.get(name)!), sorted(Object.keys(viewer.details)), name);
    }
    assert.ok(Object.keys(unknownReasons).length > 4);
  });

  it('is the one that is printed; WIRESPAN_UPDATE=1 prints it', () => {
    const file = fileURLToPath(new URL('../../../docs/reference/exchanges.md', import.meta.url));
    const text = readFileSync(file, 'utf8');
    const block = /(<!-- keys -->\n)[\s\S]*?(<!-- end of keys -->)/;
    assert.match(text, block);
    const printed = text.replace(block, (_, open, close) => `${open}\n${viewReference(viewers)}\n${close}`);
    if (process.env.WIRESPAN_UPDATE === '1') writeFileSync(file, printed);
    assert.equal(readFileSync(file, 'utf8'), printed);
  });
});
