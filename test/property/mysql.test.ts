import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../src/flow/connection.ts';
import { createDetectLayer } from '../../src/protocol/detect.ts';
import * as wire from '../../src/protocol/mysql/wire.ts';
import type { Step } from '../support/protocols/cases.ts';
import {
  BASE,
  eof,
  err,
  execute,
  fetch,
  greeting,
  hello,
  lengthEncoded,
  MODERN,
  MysqlBench,
  mysql,
  ok,
  onStatement,
  packet,
  prepare,
  prepared,
  query,
  result,
  session,
  string,
  type Talk,
  u24,
} from '../support/protocols/mysql.ts';

const LIMITS = {
  sqlTextBytes: 2048,
  sqlPreparedStatements: 8,
  sqlPipelineDepth: 20,
  mysqlEarlyBytes: 1024,
  mysqlCompressedBytes: 4096,
};
/** Of handshakes and the ends of answers, which are gathered whole. */
const PACKET_BYTES = 64 * 1024;
const HELD_BYTES = 4 * PACKET_BYTES;

const ALL = MODERN | wire.CLIENT_QUERY_ATTRIBUTES | wire.CLIENT_OPTIONAL_RESULTSET_METADATA;
const MORE = 2 | wire.SERVER_MORE_RESULTS_EXISTS;
const CURSOR = 2 | wire.SERVER_STATUS_CURSOR_EXISTS;

/** Pieces of both directions, right and wrong. */
const PIECES: readonly Buffer[] = [
  greeting(),
  greeting({ version: '11.4.2-MariaDB', capabilities: ~1, extended: 0x1f }),
  hello(),
  hello({ capabilities: ALL }),
  hello({ capabilities: BASE }),
  hello({ capabilities: MODERN | wire.CLIENT_COMPRESS }),
  ok(1),
  ok(2),
  ok(1, { status: MORE }),
  eof(1),
  eof(5, CURSOR),
  err(1, 1146),
  query('SELECT a FROM t'),
  query("SELECT 1; INSERT INTO t VALUES ('x'); CALL p()"),
  packet(0, wire.COM_QUERY, 0, 1, 'SELECT 1'),
  prepare('SELECT ?'),
  prepared(1, 1, 2),
  prepared(2, 1, 0, false),
  execute(1),
  execute(2, { cursor: 9, parameters: Buffer.from([1, 0, 1, 254, 0, 3]) }),
  execute(wire.LAST_PREPARED),
  fetch(1),
  result(),
  result({ deprecateEof: false, status: CURSOR }),
  result({ rows: [], status: CURSOR }),
  result({ metadata: 0 }),
  packet(0, wire.COM_STMT_BULK_EXECUTE, 1, 0, 0, 0, 128, 0, 3, 0, 0, 1, 2, 3, 4),
  packet(0, wire.COM_CHANGE_USER, 'u\0', 3, 'abc', 'db\0', 255, 0),
  packet(0, wire.COM_RESET_CONNECTION),
  packet(0, wire.COM_INIT_DB, 'db'),
  packet(0, wire.COM_MULTI, u24(1), wire.COM_PING),
  packet(0, wire.COM_FIELD_LIST, 't'),
  packet(1, 0xfb, 'file'),
  packet(2),
  onStatement(wire.COM_STMT_CLOSE, 1),
  onStatement(wire.COM_STMT_RESET, 1),
  Buffer.from([0xff, 0xff, 0xff, 0]),
  Buffer.from([0xff, 0xff, 0xff, 1, 0xfe]),
  Buffer.concat([u24(20), Buffer.from([0]), u24(30), deflateSync(Buffer.alloc(30))]),
  lengthEncoded(2 ** 40),
];

const bytesOf = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 3 }).map((all) => Buffer.concat(all)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom(...PIECES), fc.nat(), fc.nat({ max: 255 })).map(([piece, at, value]) => {
      const copy = Buffer.from(piece);
      copy[at % copy.length] = value;
      return copy;
    }),
  },
);
const direction = fc.constantFrom<Direction>(FROM_CLIENT, FROM_SERVER);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({ kind: fc.constant('data' as const), direction, bytes: bytesOf, timeUs: fc.nat() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('gap' as const),
      direction,
      length: fc.integer({ min: 1, max: 5000 }),
      timeUs: fc.nat(),
    }),
  },
);

function check(bench: MysqlBench, steps: readonly Step[], inspect: boolean): void {
  const layer = bench.layer as unknown as { heldBytes: number; heldEntries?: number };
  for (const one of steps) {
    bench.run([one]);
    if (!inspect) continue;
    assert.ok(layer.heldBytes <= HELD_BYTES, `${layer.heldBytes} bytes held`);
    assert.ok(layer.heldEntries! <= LIMITS.sqlPipelineDepth + LIMITS.sqlPreparedStatements);
  }
  bench.layer.end(FROM_SERVER, 'fin', 1e10);
  bench.close('fin', 1e10);
  if (inspect) assert.ok(layer.heldBytes <= 2 * 16 * 1024 + PACKET_BYTES);
  assert.equal(bench.counters.exchanges.mysql ?? 0, bench.exchanges.length);
  assert.equal(new Set(bench.exchanges).size, bench.exchanges.length, 'none is emitted twice');
  const incomplete = bench.exchanges.filter((e) => e.incomplete !== undefined).length;
  const { request_not_seen: _, limit: __, ...counted } = bench.counters.incomplete;
  assert.ok(Object.values(counted).reduce((sum, n) => sum + n, 0) <= incomplete);
  for (const e of bench.exchanges) {
    assert.ok(e.failed === (e.statusCode !== ''));
    assert.ok(e.batchIndex >= 0 && e.batchIndex < e.batchCount && e.batchSize >= 1);
    assert.ok(e.streamOffset - e.traceOffset === e.batchIndex);
  }
}

test('garbage never throws, holds no more than its limits, and is counted', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, startSeen) => {
      check(new MysqlBench({ startSeen, limits: LIMITS }), steps, true);
    }),
    { numRuns: 2000 },
  );
});

test('garbage after a handshake', () => {
  const opened = fc.constantFrom(MODERN, ALL, BASE | wire.CLIENT_CONNECT_WITH_DB, MODERN | wire.CLIENT_COMPRESS);
  fc.assert(
    fc.property(opened, fc.array(step, { maxLength: 40 }), (capabilities, steps) => {
      check(new MysqlBench({ limits: LIMITS }).talk(session([], { capabilities })), steps, true);
    }),
    { numRuns: 2000 },
  );
});

test('garbage through the detector', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), fc.boolean(), (steps, startSeen) => {
      const make = (context: Parameters<typeof mysql.create>[0]) => createDetectLayer(context, [mysql]);
      check(new MysqlBench({ startSeen, limits: LIMITS }, make), steps, false);
    }),
    { numRuns: 1000 },
  );
});

// --- Conversations -----------------------------------------------------------------------------------------------------------------------

const value = fc.oneof(
  fc.string({ maxLength: 300 }).map((text) => string(text)),
  fc.constant(Buffer.from([0xfb])),
);
const textRow = fc.array(value, { minLength: 2, maxLength: 2 }).map((values) => Buffer.concat(values));
const binaryRow = fc
  .uint8Array({ minLength: 1, maxLength: 300 })
  .map((bytes) => Buffer.concat([Buffer.from([0]), bytes]));
const outcome = fc.oneof(
  fc.record({ kind: fc.constant('ok' as const), affected: fc.nat({ max: 2 ** 40 }) }),
  fc.record({ kind: fc.constant('err' as const), code: fc.integer({ min: 1000, max: 5000 }) }),
  fc.record({
    kind: fc.constant('rows' as const),
    text: fc.array(textRow, { maxLength: 6 }),
    binary: fc.array(binaryRow, { maxLength: 6 }),
  }),
);
type Outcome = typeof outcome extends fc.Arbitrary<infer T> ? T : never;
const command = fc.record({ prepared: fc.boolean(), outcome });
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

function answerOf({ prepared: binary, outcome: o }: Command, deprecateEof: boolean): Buffer {
  if (o.kind === 'ok') return ok(1, { affected: o.affected });
  if (o.kind === 'err') return err(1, o.code);
  return result({ rows: binary ? o.binary : o.text, deprecateEof });
}

function expected(i: number, { prepared: isPrepared, outcome: o }: Command): unknown[] {
  const rows = (kind: Outcome['kind']): number =>
    o.kind === kind && o.kind === 'rows' ? (isPrepared ? o.binary : o.text).length : -1;
  return [
    `SELECT t${i}`,
    isPrepared,
    o.kind === 'err' ? String(o.code) : '',
    rows('rows'),
    o.kind === 'ok' ? o.affected : -1,
    undefined,
  ];
}

function talkOf(commands: readonly Command[], deprecateEof: boolean): Talk {
  return commands.flatMap((one, i): Talk => {
    const text = `SELECT a FROM t${i}`;
    const answer = answerOf(one, deprecateEof);
    if (!one.prepared)
      return [
        ['C', query(text)],
        ['S', answer],
      ];
    return [
      ['C', prepare(text)],
      ['S', prepared(i + 1, 1, 2, deprecateEof)],
      ['C', execute(i + 1)],
      ['S', answer],
      ['C', onStatement(wire.COM_STMT_CLOSE, i + 1)],
    ];
  });
}

/** Each piece in segments of these sizes, in turn. */
function cut(talk: Talk, sizes: readonly number[]): Talk {
  let n = 0;
  return talk.flatMap(([who, bytes]) => {
    const pieces: [typeof who, Buffer][] = [];
    for (let at = 0; at < bytes.length; ) {
      const size = sizes[n++ % sizes.length]!;
      pieces.push([who, bytes.subarray(at, at + size)]);
      at += size;
    }
    return pieces;
  });
}

const sizes = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 });
const facts = (bench: MysqlBench): unknown[][] =>
  bench.exchanges.map((e) => [
    e.statement?.summary,
    e.prepared,
    e.statusCode,
    e.returnedRows,
    e.affectedRows,
    e.incomplete,
  ]);

test('a conversation in any segments is read as it was written', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 8 }), sizes, fc.boolean(), (commands, pieces, deprecateEof) => {
      const capabilities = deprecateEof ? MODERN : BASE | wire.CLIENT_CONNECT_WITH_DB;
      const bench = new MysqlBench()
        .talk(cut(session(talkOf(commands, deprecateEof), { capabilities }), pieces))
        .close();
      assert.deepEqual(
        facts(bench),
        commands.map((one, i) => expected(i, one)),
      );
      assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete, bench.counters.sql], [{}, {}, {}]);
    }),
    { numRuns: 1500 },
  );
});

test('a connection that is joined late is read like one that was seen from its start', () => {
  fc.assert(
    fc.property(
      fc.array(command, { minLength: 1, maxLength: 8 }),
      sizes,
      fc.boolean(),
      (commands, pieces, deprecateEof) => {
        const [first, ...rest] = talkOf(commands, deprecateEof);
        const [answer, ...more] = rest;
        const make = (context: Parameters<typeof mysql.create>[0]) => createDetectLayer(context, [mysql]);
        const bench = new MysqlBench({ startSeen: false }, make);
        bench.talk([first!, answer!, ...cut(more, pieces)]).close();
        assert.deepEqual(
          facts(bench),
          commands.map((one, i) => expected(i, one)),
        );
        assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
      },
    ),
    { numRuns: 1000 },
  );
});

test('a hole anywhere costs the statement that it hits and no more', () => {
  const where = fc.record({ at: fc.nat({ max: 1_000_000 }), length: fc.integer({ min: 1, max: 400 }) });
  fc.assert(
    fc.property(fc.array(command, { minLength: 3, maxLength: 8 }), where, (commands, hole) => {
      const talk = talkOf(commands, true);
      const bench = new MysqlBench().talk(session([]));
      const target = hole.at % talk.length;
      for (const [i, [who, bytes]] of talk.entries()) {
        if (i !== target) bench.talk([[who, bytes]]);
        else {
          const at = hole.at % bytes.length;
          const length = Math.min(hole.length, bytes.length - at);
          bench.talk([[who, bytes.subarray(0, at)]]).gap(who, length);
          bench.talk([[who, bytes.subarray(at + length)]]);
        }
      }
      bench.close();
      const wanted = commands.map((one, i) => JSON.stringify(expected(i, one)));
      const got = facts(bench).map((fact) => JSON.stringify(fact));
      const missing = wanted.filter((one) => !got.includes(one));
      // A statement whose COM_STMT_CLOSE was hit is whole; the one after it may begin in the hole's wake.
      assert.ok(missing.length <= 1, `${missing.length} of ${wanted.length} missing`);
      assert.ok(got.filter((one) => !wanted.includes(one)).length <= 1);
    }),
    { numRuns: 1500 },
  );
});
