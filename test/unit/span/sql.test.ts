import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { IncompleteReason } from '../../../src/exchange/exchange.ts';
import type { SqlExchange } from '../../../src/exchange/sql.ts';
import { isFailure } from '../../../src/protocol/postgres/error.ts';
import type { Perspective, SpanBuilderOptions } from '../../../src/span/builder.ts';
import { defaultSamplingOptions } from '../../../src/span/sampling.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import {
  builder,
  connection,
  curl,
  mysqlExchange,
  nginx,
  sqlExchange,
  statement,
  tls,
} from '../../support/spans/fixtures.ts';
import { sections } from '../../support/wire/protocols.ts';

const client = (changes: Partial<SqlExchange>, options: Partial<SpanBuilderOptions> = {}) =>
  builder({ perspective: 'client', ...options }).build(sqlExchange(changes))[0]!;
const mysql = (changes: Partial<SqlExchange>, options: Partial<SpanBuilderOptions> = {}) =>
  builder({ perspective: 'client', ...options }).build(mysqlExchange(changes))[0]!;

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const TRACEPARENT = `00-${TRACE}-${PARENT}-01`;

describe('sql spans', () => {
  it('makes one CLIENT span where both ends are here, and says all that is known', () => {
    const counters = newCounters();
    const spans = builder({ counters }).build(sqlExchange({ affectedRows: 0 }));
    assert.equal(spans.length, 1);
    assert.equal(counters.spans.made, 1);
    const span = spans[0]!;
    assert.equal(span.kind, SpanKind.CLIENT);
    assert.equal(span.resource, curl);
    assert.equal(span.peerName, 'nginx');
    assert.equal(span.name, 'SELECT orders');
    assert.equal(span.summary, 'SELECT orders');
    assert.equal(span.status, SpanStatusCode.UNSET);
    assert.equal(span.startUnixUs, 1_700_000_000_000_000.5);
    assert.equal(span.endUnixUs, 1_700_000_000_001_250.5);
    assert.deepEqual(span.attributes(), {
      'db.system.name': 'postgresql',
      'db.namespace': 'shop',
      'server.address': '198.51.100.2',
      'network.peer.address': '198.51.100.2',
      'network.peer.port': 5432,
      'db.query.text': 'SELECT * FROM orders WHERE id = ?',
      'db.query.summary': 'SELECT orders',
      'db.response.returned_rows': 3,
      'wirespan.db.response.affected_rows': 0,
      'wirespan.db.request.size': 40,
      'wirespan.db.response.size': 842,
      'wirespan.db.response.time_to_first_row': 0.00015,
      'wirespan.db.transaction': 'active',
    });
  });

  it('makes the spans of the ends that are asked for', () => {
    const kinds = (perspective: Perspective, clientSocket: number, serverSocket: number) =>
      builder({ perspective })
        .build(
          sqlExchange({
            connection: connection({ client: { socket: clientSocket }, server: { socket: serverSocket } }),
          }),
        )
        .map((span) => span.kind);
    const { CLIENT, SERVER } = SpanKind;
    assert.deepEqual(kinds('auto', 1, 2), [CLIENT]);
    assert.deepEqual(kinds('auto', 1, 0), [CLIENT]);
    assert.deepEqual(kinds('auto', 0, 2), [SERVER]);
    assert.deepEqual(kinds('auto', 0, 0), [SERVER]);
    assert.deepEqual(kinds('replay', 0, 0), [CLIENT]);
    assert.deepEqual(kinds('client', 0, 2), [CLIENT]);
    assert.deepEqual(kinds('server', 1, 0), [SERVER]);
    assert.deepEqual(kinds('both', 0, 0), [CLIENT, SERVER]);
  });

  it('is of the database and sees the client when the client is elsewhere', () => {
    const far = connection({ client: { socket: 0 }, server: { port: 5433 }, tls: tls() });
    const span = builder().build(sqlExchange({ connection: far }))[0]!;
    assert.equal(span.resource, nginx);
    assert.equal(span.peerName, '');
    assert.partialDeepStrictEqual(span.attributes(), {
      'server.address': '198.51.100.2',
      'server.port': 5433,
      'network.peer.address': '192.0.2.1',
      'network.peer.port': 40000,
      'client.address': '192.0.2.1',
      'tls.protocol.version': '1.3',
      'tls.cipher': 'TLS_AES_128_GCM_SHA256',
    });
  });

  it('names the client of a PROXY header', () => {
    const far = connection({ client: { socket: 0 }, relayedFor: { address: '203.0.113.9', port: 7 } });
    const attributes = builder()
      .build(sqlExchange({ connection: far }))[0]!
      .attributes();
    assert.deepEqual([attributes['client.address'], attributes['client.port']], ['203.0.113.9', 7]);
    assert.equal(attributes['network.peer.address'], '192.0.2.1');
  });

  it('names the server as the client was told to, and its port when it is not the usual one', () => {
    const named = connection({ server: { port: 5432 }, tls: { ...tls(), serverName: 'db.example' } });
    assert.equal(client({ connection: named }).attributes()['server.address'], 'db.example');
    const port = (changes: Partial<SqlExchange>) => client(changes).attributes()['server.port'];
    assert.equal(port({ connection: named }), undefined);
    assert.equal(port({ connection: connection({ server: { port: 3306 } }) }), 3306);
    assert.equal(
      port({ protocol: 'mysql', system: 'mariadb', connection: connection({ server: { port: 3306 } }) }),
      undefined,
    );
    assert.equal(
      port({ protocol: 'mysql', system: 'mysql', connection: connection({ server: { port: 5432 } }) }),
      5432,
    );
  });

  it('follows what changes on a connection', () => {
    const spans = builder();
    const one = connection();
    const attributes = (changes: Partial<SqlExchange>) =>
      spans.build(mysqlExchange({ connection: one, ...changes }))[0]!.attributes();
    assert.equal(attributes({ namespace: '' })['db.namespace'], undefined);
    assert.equal(attributes({ namespace: 'a' })['db.namespace'], 'a');
    assert.equal(attributes({ namespace: 'b' })['db.namespace'], 'b');
    assert.equal(attributes({ system: 'mariadb' })['db.system.name'], 'mariadb');
    one.tls = tls();
    assert.equal(attributes({})['tls.protocol.version'], '1.3');
  });

  const names: [string, Partial<SqlExchange>, string, string][] = [
    // what is known, exchange, span name, what people read
    ['a summary', {}, 'SELECT orders', 'SELECT orders'],
    ['operation and target', { statement: statement({ summary: '' }) }, 'SELECT orders', 'SELECT'],
    ['an operation', { statement: statement({ summary: '', collection: '' }) }, 'SELECT', 'SELECT'],
    [
      'a procedure',
      { statement: statement({ summary: '', operation: '', collection: '', storedProcedure: 'pay' }) },
      'pay',
      'pay',
    ],
    ['its database', { statement: undefined }, 'shop', ''],
    ['nothing', { statement: undefined, namespace: '' }, 'postgresql', ''],
    ['a batch', { batchSize: 2 }, 'BATCH SELECT orders', 'BATCH SELECT orders'],
    ['a batch of what is not known', { batchSize: 2, statement: undefined }, 'BATCH shop', ''],
  ];
  for (const [known, changes, name, summary] of names) {
    it(`is named after ${known}`, () => {
      const span = client(changes);
      assert.equal(span.name, name);
      assert.equal(span.summary, summary);
    });
  }

  it('says of an empty text nothing', () => {
    const nothing = statement({ text: '', summary: '', operation: '', collection: '' });
    const attributes = client({ statement: nothing }).attributes();
    for (const name of Object.keys(attributes)) assert.doesNotMatch(name, /^db\.(query|operation|collection|stored)/);
  });

  it('marks a batch, and a text that was cut', () => {
    const long = statement({ truncated: true });
    const spans = builder();
    // The attributes of a statement that came before are shared; a batch has its own.
    for (let i = 0; i < 3; i++) {
      const single = spans.build(sqlExchange({ statement: long }))[0]!;
      assert.equal(single.sharedToo !== undefined, i > 0);
      assert.equal(single.attributes()['wirespan.db.query.text.truncated'], true);
      assert.equal('db.operation.batch.size' in single.attributes(), false);
      const batch = spans.build(sqlExchange({ statement: long, batchSize: 7 }))[0]!;
      assert.partialDeepStrictEqual(batch.attributes(), {
        'db.operation.batch.size': 7,
        'db.query.text': 'SELECT * FROM orders WHERE id = ?',
        'db.query.summary': 'BATCH SELECT orders',
        'wirespan.db.query.text.truncated': true,
      });
    }
  });

  it('keeps the attributes of many statements apart, and for a bounded number of them', () => {
    const spans = builder({ perspective: 'client' });
    const all = Array.from({ length: 3000 }, (_, i) => statement({ summary: `SELECT t${i}`, text: `SELECT ${i}` }));
    for (let round = 0; round < 3; round++) {
      for (const each of all) {
        const span = spans.build(sqlExchange({ statement: each }))[0]!;
        assert.equal(span.attributes()['db.query.summary'], each.summary);
        assert.equal(span.attributes()['db.query.text'], each.text);
        assert.equal(span.sharedToo, undefined, 'by the time it comes again it is forgotten');
      }
    }
    const kept = spans.build(sqlExchange({ statement: all.at(-500)! }))[0]!;
    assert.equal(kept.attributes()['db.query.summary'], 'SELECT t2500');
    const block = kept.sharedToo;
    assert.ok(block !== undefined);
    // It moves on from the older generation to the recent one.
    for (const each of all.slice(0, 900)) spans.build(sqlExchange({ statement: each }));
    assert.equal(spans.build(sqlExchange({ statement: all.at(-500)! }))[0]!.sharedToo, block);
  });

  it('tells the place of a statement in its message; all of a message are one trace', () => {
    const spans = builder();
    const one = connection();
    const made = [0, 1].map((batchIndex) =>
      spans
        .build(
          sqlExchange({ connection: one, batchIndex, batchCount: 2, traceOffset: 50, streamOffset: 50 + batchIndex }),
        )[0]!
        .clone(),
    );
    assert.deepEqual(
      made.map((span) => [span.attributes()['wirespan.db.batch.index'], span.attributes()['wirespan.db.batch.count']]),
      [
        [0, 2],
        [1, 2],
      ],
    );
    assert.equal(made[0]!.traceId, made[1]!.traceId);
    assert.notEqual(made[0]!.spanId, made[1]!.spanId);
    assert.equal('wirespan.db.batch.index' in client({}).attributes(), false);
  });

  it('says operation and collection on request only', () => {
    const asked = { config: sections({ sql: { captureOperationAndCollection: true } }) };
    assert.partialDeepStrictEqual(client({}, asked).attributes(), {
      'db.operation.name': 'SELECT',
      'db.collection.name': 'orders',
    });
    assert.equal(client({ batchSize: 2 }, asked).attributes()['db.operation.name'], 'BATCH SELECT');
    assert.equal('db.operation.name' in client({}).attributes(), false);
    assert.equal('db.collection.name' in client({}).attributes(), false);
    const call = { statement: statement({ storedProcedure: 'pay' }) };
    assert.equal(client(call).attributes()['db.stored_procedure.name'], 'pay');
  });

  it('does not say what is not known', () => {
    const attributes = client({
      returnedRows: -1,
      firstRowUs: 0,
      responseStartUs: 0,
      responseBytes: 0,
      transaction: '',
      statement: undefined,
    }).attributes();
    assert.deepEqual(
      Object.keys(attributes).filter((name) => name.startsWith('db.') || name.startsWith('wirespan.')),
      ['db.system.name', 'db.namespace', 'wirespan.db.request.size'],
    );
    const asked = { config: sections({ sql: { captureReturnedRows: false } }) };
    assert.equal('db.response.returned_rows' in client({}, asked).attributes(), false);
  });

  it('begins at the answer when the statement was not seen', () => {
    const span = client({ startUs: 0, incomplete: 'gap' });
    assert.equal(span.startUnixUs, 1_700_000_000_000_100.5);
    assert.equal('wirespan.db.response.time_to_first_row' in span.attributes(), false);
  });
});

describe('sql errors', () => {
  // Which codes are errors is the protocol's rule: test/unit/protocol/postgres-errors.test.ts.
  for (const [code, isError] of [
    ['00000', false],
    ['01004', false],
    ['02000', true],
    ['42P01', true],
    ['P0001', true],
    ['57014', true],
  ] as const) {
    it(`PostgreSQL: ${code} is ${isError ? 'an' : 'no'} error`, () => {
      const span = client({ statusCode: code, failed: isFailure(code) });
      assert.equal(span.attributes()['db.response.status_code'], code);
      assert.equal(span.attributes()['error.type'], isError ? code : undefined);
      assert.equal(span.status, isError ? SpanStatusCode.ERROR : SpanStatusCode.UNSET);
    });
  }

  it('MySQL: every number is one', () => {
    const span = mysql({ statusCode: '1064', sqlState: '42000', failed: true });
    assert.equal(span.attributes()['db.response.status_code'], '1064');
    assert.equal(span.attributes()['wirespan.db.response.sqlstate'], '42000');
    assert.equal(span.attributes()['error.type'], '1064');
    assert.equal(span.status, SpanStatusCode.ERROR);
    assert.equal(mysql({ failed: true }).attributes()['error.type'], '_OTHER');
    assert.equal(mysql({}).status, SpanStatusCode.UNSET);
  });

  for (const [reason, isError] of [
    ['connection_reset', true],
    ['connection_closed', true],
    ['timeout', true],
    ['protocol_error', true],
    ['gap', false],
    ['shutdown', false],
    ['limit', false],
  ] as const satisfies readonly (readonly [IncompleteReason, boolean])[]) {
    it(`${reason} ${isError ? 'is an error' : 'is marked only'}, without an invented code`, () => {
      const span = client({ incomplete: reason });
      assert.equal(span.attributes()['error.type'], isError ? reason : undefined);
      assert.equal(span.attributes()['wirespan.exchange.incomplete'], reason);
      assert.equal('db.response.status_code' in span.attributes(), false);
      assert.equal(span.status, isError ? SpanStatusCode.ERROR : SpanStatusCode.UNSET);
    });
  }

  it('what the server said goes before how the connection ended', () => {
    const span = client({ statusCode: '57P01', failed: true, incomplete: 'connection_closed' });
    assert.equal(span.attributes()['error.type'], '57P01');
    assert.equal(span.attributes()['wirespan.exchange.incomplete'], 'connection_closed');
  });

  it('leaves nothing to the next statement', () => {
    const spans = builder();
    spans.build(sqlExchange({ statusCode: '42P01', failed: true, batchSize: 3, transaction: 'failed' }));
    const span = spans.build(sqlExchange({ statement: undefined, transaction: '' }))[0]!;
    for (const gone of ['error.type', 'db.response.status_code', 'db.query.text', 'wirespan.db.transaction'])
      assert.equal(gone in span.attributes(), false, gone);
    assert.equal(span.status, SpanStatusCode.UNSET);
  });
});

describe('sql context', () => {
  it('follows what came beside the statement, then what stands in its comment', () => {
    const commented = statement({ traceparent: TRACEPARENT, tracestate: 'a=1' });
    for (const [changes, traceState] of [
      [
        {
          traceparent: TRACEPARENT,
          tracestate: 'b=2',
          statement: statement({ traceparent: `00-${'1'.repeat(32)}-${PARENT}-01` }),
        },
        'b=2',
      ],
      [{ statement: commented }, 'a=1'],
    ] as const) {
      const span = client(changes);
      assert.equal(span.traceId, TRACE);
      assert.equal(span.parentSpanId, PARENT);
      assert.equal(span.parentIsRemote, false);
      assert.equal(span.traceState, traceState);
    }
    const far = builder().build(
      sqlExchange({ statement: commented, connection: connection({ client: { socket: 0 } }) }),
    )[0]!;
    assert.equal(far.parentSpanId, PARENT);
    assert.equal(far.parentIsRemote, true);
    for (const malformed of ['x', `00-${'0'.repeat(32)}-${PARENT}-01`]) {
      assert.equal(client({ traceparent: malformed }).parentSpanId, '');
      assert.equal(client({ statement: statement({ traceparent: malformed }) }).parentSpanId, '');
      // The comment's counts where what stands beside the statement is no context.
      assert.equal(client({ traceparent: malformed, statement: commented }).parentSpanId, PARENT);
    }
  });

  it('does not take a prepared statement back to the trace in which it was written', () => {
    const spans = builder();
    const one = connection();
    const commented = statement({ traceparent: TRACEPARENT });
    const parent = (changes: Partial<SqlExchange>) =>
      spans.build(sqlExchange({ connection: one, statement: commented, ...changes }))[0]!.parentSpanId;
    assert.equal(parent({ prepared: true }), PARENT);
    assert.equal(parent({ prepared: true }), '');
    assert.equal(parent({ prepared: true, traceparent: TRACEPARENT }), PARENT);
    assert.equal(parent({ prepared: true, connection: connection() }), PARENT);
    // Sent again as text, it was written again.
    assert.equal(parent({}), PARENT);
    assert.equal(parent({}), PARENT);
  });

  it('joins the ends of both machines, where nothing came on the wire', () => {
    const near = builder()
      .build(sqlExchange({ connection: connection({ server: { socket: 0 } }) }))[0]!
      .clone();
    const far = builder().build(sqlExchange({ connection: connection({ id: 9, client: { socket: 0, port: 1 } }) }))[0]!;
    assert.equal(far.traceId, near.traceId);
    assert.equal(far.parentSpanId, near.spanId);
    assert.equal(near.parentSpanId, '');
    const [first, second] = builder({ perspective: 'both' }).build(sqlExchange());
    assert.equal(second!.parentSpanId, first!.spanId);
    assert.equal(second!.traceId, first!.traceId);
    assert.equal(builder({ perspective: 'server' }).build(sqlExchange())[0]!.parentSpanId, '');
  });

  it('makes no span of an unsampled trace, and counts it', () => {
    const counters = newCounters();
    const unsampled = { traceparent: `00-${TRACE}-${PARENT}-00` };
    const spans = builder({ counters });
    assert.equal(spans.build(mysqlExchange(unsampled)).length, 0);
    assert.deepEqual(counters.spans, { made: 0, exported: 0, dropped: {}, leftOut: { unsampled: 1 } });
    const sampling = { ...defaultSamplingOptions, ratio: 0 };
    assert.equal(builder({ sampling, counters }).build(sqlExchange()).length, 0);
    assert.deepEqual(counters.spans.leftOut, { unsampled: 2 });
  });
});

describe('sql statements that are left out', () => {
  it('those that a pattern ignores', () => {
    const counters = newCounters();
    const spans = builder({ counters, perspective: 'both' });
    assert.equal(spans.build(sqlExchange({ statement: statement({ ignored: true }), failed: true })).length, 0);
    assert.deepEqual(counters.spans, { made: 0, exported: 0, dropped: {}, leftOut: { ignored: 2 } });
  });

  it('those that took less than asked for, unless they failed', () => {
    const counters = newCounters();
    const spans = builder({ counters, config: sections({ sql: { minDurationUs: 1251 } }) });
    const made = (changes: Partial<SqlExchange>) => spans.build(sqlExchange(changes)).length;
    assert.equal(made({}), 0);
    assert.deepEqual(counters.spans.leftOut, { below_min_duration: 1 });
    assert.equal(made({ endUs: 1_700_000_000_001_251.5 }), 1);
    assert.equal(made({ failed: true, statusCode: '42P01' }), 1);
    assert.equal(made({ incomplete: 'connection_reset' }), 1);
    assert.equal(made({ startUs: 0 }), 1);
    assert.equal(made({ incomplete: 'gap' }), 0);
    assert.equal(counters.spans.made, 4);
  });
});
