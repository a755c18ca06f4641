import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deflateSync, zstdCompressSync } from 'node:zlib';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import * as wire from '../../../src/protocol/mysql/wire.ts';
import {
  assertSaid,
  execute,
  greeting,
  hello,
  MODERN,
  MysqlBench,
  ok,
  packet,
  prepare,
  prepared,
  query,
  ROW,
  result,
  resultPackets,
  session,
  sslRequest,
  type Talk,
  u24,
} from '../../support/protocols/mysql.ts';

const COMPRESS = MODERN | wire.CLIENT_COMPRESS;

/** A compressed packet. */
function squeezed(sequence: number, bytes: Buffer, pack: (bytes: Buffer) => Buffer = deflateSync): Buffer {
  const packed = pack(bytes);
  return Buffer.concat([u24(packed.length), Buffer.from([sequence]), u24(bytes.length), packed]);
}

/** One that is too short to be worth it. */
function plain(sequence: number, bytes: Buffer): Buffer {
  return Buffer.concat([u24(bytes.length), Buffer.from([sequence]), u24(0), bytes]);
}

describe('compressed packets', () => {
  const answer = result({ rows: [ROW, ROW, ROW] });
  const talkOf = (pack?: (bytes: Buffer) => Buffer, capabilities = COMPRESS): Talk =>
    session(
      [
        ['C', plain(0, query('SELECT a FROM t'))],
        // Cut within a packet: the compressed packets contain a stream.
        ['S', Buffer.concat([squeezed(1, answer.subarray(0, 50), pack), squeezed(2, answer.subarray(50), pack)])],
        ['C', squeezed(0, query(`INSERT INTO t VALUES ('${'secret'.repeat(50)}')`), pack)],
        ['S', plain(1, ok(1, { affected: 1 }))],
      ],
      { capabilities },
    );
  const said = ['SELECT t | shop idle | 3 -1', 'INSERT t | shop idle | -1 1'];

  test('zlib, at every split', () => assertSaid(talkOf(), said));

  test('zstd', () => {
    const talk = talkOf(zstdCompressSync, MODERN | wire.CLIENT_ZSTD_COMPRESSION_ALGORITHM);
    assert.deepEqual(new MysqlBench().talk(talk).close().said, said);
  });

  test('sizes are those before compression', () => {
    const [first] = new MysqlBench().talk(talkOf()).exchanges;
    assert.equal(first?.responseBytes, answer.length);
    assert.equal(first?.traceOffset, hello({ capabilities: COMPRESS }).length);
  });

  const next: Talk = [
    ['C', plain(0, query('SELECT next'))],
    ['S', plain(1, result())],
  ];

  test('what cannot be inflated costs its statement', () => {
    const broken = squeezed(1, answer);
    broken.fill(0x55, 20);
    const bench = new MysqlBench().talk(
      session([['C', plain(0, query('SELECT a FROM t'))], ['S', broken], ...next], { capabilities: COMPRESS }),
    );
    assert.deepEqual(bench.close().said, [
      'SELECT t | shop idle | -1 -1 | incomplete=gap',
      'SELECT | shop idle | 1 -1',
    ]);
    assert.deepEqual(bench.counters.parseErrors, { mysql: 1 });
  });

  test('what inflates to more than it says is refused, as is what says too much', () => {
    const bomb = deflateSync(Buffer.alloc(50_000_000));
    const lie = Buffer.concat([u24(bomb.length), Buffer.from([1]), u24(1000), bomb]);
    const boast = Buffer.concat([u24(20), Buffer.from([1]), u24(0xff_ff_ff), Buffer.alloc(20)]);
    for (const [bytes, limits, counted] of [
      [lie, {}, { parseErrors: { mysql: 1 }, sql: {} }],
      [boast, { mysqlCompressedBytes: 1 << 20 }, { parseErrors: {}, sql: { compressed_limit: 1 } }],
    ] as const) {
      const bench = new MysqlBench({ limits }).talk(
        session([['C', plain(0, query('SELECT a FROM t'))], ['S', bytes], ...next], { capabilities: COMPRESS }),
      );
      assert.equal(bench.close().said.at(-1), 'SELECT | shop idle | 1 -1');
      assert.deepEqual({ parseErrors: bench.counters.parseErrors, sql: bench.counters.sql }, counted);
    }
  });

  test('a hole costs the statement that it hits', () => {
    const bytes = squeezed(1, answer);
    for (let at = 0; at < bytes.length; at++) {
      const bench = new MysqlBench().talk(
        session(
          [
            ['C', plain(0, query('SELECT a FROM t'))],
            ['S', bytes.subarray(0, at)],
          ],
          { capabilities: COMPRESS },
        ),
      );
      bench.gap('S', 1).talk([['S', bytes.subarray(at + 1)], ...next]);
      const [first, ...rest] = bench.close().said;
      assert.match(first!, /^SELECT t \| shop idle \| -1 -1 \| incomplete=gap$/, String(at));
      assert.deepEqual(rest, ['SELECT | shop idle | 1 -1'], String(at));
    }
  });

  test('a hole within rows that are not compressed costs nothing', () => {
    const rows = plain(1, result({ rows: [ROW, Buffer.concat([Buffer.from([200]), Buffer.alloc(200, 7)])] }));
    const at = rows.length - 100;
    const bench = new MysqlBench().talk(
      session(
        [
          ['C', plain(0, query('SELECT a FROM t'))],
          ['S', rows.subarray(0, at)],
        ],
        { capabilities: COMPRESS },
      ),
    );
    bench.gap('S', 20).talk([['S', rows.subarray(at + 20)], ...next]);
    assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 2 -1', 'SELECT | shop idle | 1 -1']);
  });
});

describe('TLS', () => {
  test('what follows SSLRequest goes through it, and goes on where the plain bytes ended', () => {
    const bench = new MysqlBench();
    bench.talk([
      ['S', greeting()],
      // The first bytes of TLS may come with the request.
      ['C', Buffer.concat([sslRequest(), hello({ sequence: 2 })])],
      ['S', ok(3)],
      ['C', query('SELECT a FROM t')],
      ['S', result()],
    ]);
    assert.equal(bench.tlsAsked, 1);
    assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 1 -1']);
    assert.equal(bench.exchanges[0]?.traceOffset, sslRequest().length + hello().length);
  });

  test('what the server sends of TLS before the request was seen is kept for it', () => {
    const bench = new MysqlBench();
    bench.talk([['S', greeting()]]);
    bench.feed(FROM_SERVER, ok(3), 9);
    bench.talk([
      ['C', Buffer.concat([sslRequest(), hello({ sequence: 2 })])],
      ['C', query('SELECT a')],
      ['S', result()],
    ]);
    assert.deepEqual(bench.close().said, ['SELECT | shop idle | 1 -1']);
  });

  test('gaps, ends and the close go through it', () => {
    const calls: string[] = [];
    const bench = new MysqlBench({
      tls: (next, context) => {
        const inner = next(context);
        const note = (what: string): void => void calls.push(what);
        return {
          data: (direction, bytes, start, end, timeUs) => {
            note(`data ${direction}`);
            inner.data(direction, bytes, start, end, timeUs);
          },
          gap: (direction, length) => note(`gap ${direction} ${length}`),
          end: (direction, reason) => note(`end ${direction} ${reason}`),
          close: (reason, timeUs) => {
            note(`close ${reason}`);
            inner.close(reason, timeUs);
          },
        };
      },
    });
    bench.talk([
      ['S', greeting()],
      ['C', sslRequest()],
      ['C', hello({ sequence: 2 })],
      ['S', ok(3)],
      ['C', query('SELECT a FROM t')],
    ]);
    bench.gap('S', 5);
    bench.layer.end(FROM_SERVER, 'reset', 50);
    bench.close('reset', 60);
    assert.deepEqual(calls, ['data 0', 'data 1', 'data 0', 'gap 1 5', 'end 1 reset', 'close reset']);
    assert.deepEqual(bench.said, ['SELECT t | shop idle | -1 -1 | incomplete=connection_reset']);
  });

  test('what came within it before its command goes through it once', () => {
    let passed = 0;
    const bench = new MysqlBench({
      tls: (next, context) => {
        const inner = next(context);
        return {
          ...inner,
          data: (direction, bytes, start, end, timeUs, firstUs) => {
            if (direction === FROM_SERVER) passed += end - start;
            inner.data(direction, bytes, start, end, timeUs, firstUs);
          },
        };
      },
    });
    bench.talk([
      ['S', greeting()],
      ['C', sslRequest()],
      ['C', hello({ sequence: 2 })],
      ['S', ok(3)],
    ]);
    const answer = result({ rows: [ROW, ROW] });
    bench.feed(FROM_SERVER, answer, 20);
    bench.feed(FROM_CLIENT, query('SELECT a FROM t'), 10);
    assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 2 -1']);
    assert.equal(passed, ok(3).length + answer.length);
  });

  test('there is none within TLS', () => {
    const bench = new MysqlBench({ tls: (next, context) => next(context) });
    bench.talk([
      ['S', greeting()],
      ['C', sslRequest()],
      ['C', sslRequest()],
    ]);
    assert.equal(bench.muted <= 1, true);
    bench.close();
    assert.deepEqual(bench.exchanges, []);
  });
});

describe('packets of 16 MiB and more', () => {
  const big = Buffer.concat([Buffer.from([0xfe, 0, 0, 0, 1, 0, 0, 0, 0]), Buffer.alloc(1 << 24, 0x61)]);

  test('rows that begin as an EOF does', () => {
    const bench = new MysqlBench().talk(
      session([
        ['C', query('SELECT a FROM t')],
        ['S', result({ columns: 1, rows: [ROW, big, ROW] })],
        ['C', query('SELECT 1')],
        ['S', result()],
      ]),
    );
    assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 3 -1', 'SELECT | shop idle | 1 -1']);
    assert.deepEqual(bench.counters.parseErrors, {});
    assert.ok((bench.layer as unknown as { heldBytes: number }).heldBytes < 100_000);
  });

  test('in pieces, nothing of them is kept', () => {
    const bench = new MysqlBench().talk(session([['C', query('SELECT a FROM t')]]));
    const bytes = result({ columns: 1, rows: [big] });
    for (let at = 0; at < bytes.length; at += 60_000) {
      bench.talk([['S', bytes.subarray(at, at + 60_000)]]);
      assert.ok((bench.layer as unknown as { heldBytes: number }).heldBytes < 100_000);
    }
    assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 1 -1']);
  });

  test('a text beyond the limit is none, but its statement is one', () => {
    const text = `INSERT INTO t VALUES ('${'s'.repeat(1 << 24)}')`;
    const bytes = query(text);
    const bench = new MysqlBench().talk(session([]));
    for (let at = 0; at < bytes.length; at += 100_000) bench.talk([['C', bytes.subarray(at, at + 100_000)]]);
    bench.talk([
      ['S', ok(2, { affected: 1 })],
      ['C', query('SELECT 1')],
      ['S', result()],
    ]);
    assert.deepEqual(bench.close().said, ['- | shop idle | -1 1', 'SELECT | shop idle | 1 -1']);
    assert.deepEqual([bench.counters.sql, bench.counters.incomplete], [{ text_limit: 1 }, {}]);
    assert.equal(bench.exchanges[0]?.requestBytes, bytes.length);
  });

  test('one of exactly 16 MiB is ended by an empty one', () => {
    const row = Buffer.alloc(wire.MAX_PACKET, 1);
    const packets = resultPackets({ columns: 1, rows: [row] });
    assert.equal(packets[2]?.length, wire.MAX_PACKET + 8);
    const bench = new MysqlBench().talk(
      session([['C', query('SELECT a FROM t')], ...packets.map((p) => ['S', p] as const)]),
    );
    assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 1 -1']);
  });
});

test('a command in two parts is answered with the sequence after both', () => {
  const parameters = Buffer.alloc(wire.MAX_PACKET);
  const bench = new MysqlBench().talk(
    session([
      ['C', prepare('INSERT INTO t VALUES (?)')],
      ['S', prepared(1, 1, 0)],
      ['C', execute(1, { parameters })],
      ['S', ok(2, { affected: 1 })],
      ['C', packet(0, wire.COM_PING)],
      ['S', ok(1)],
    ]),
  );
  assert.deepEqual(bench.close().said, ['INSERT t | shop idle | -1 1 | prepared']);
});
