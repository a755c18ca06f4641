import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as wire from '../../../src/protocol/mysql/wire.ts';
import {
  AUTOCOMMIT,
  err,
  execute,
  greeting,
  hello,
  MODERN,
  MORE,
  MysqlBench,
  ok,
  packet,
  prepare,
  prepared,
  query,
  result,
  resultPackets,
  session,
  string,
  type Talk,
  u16,
  u24,
  u32,
  variableChange,
} from '../../support/protocols/mysql.ts';

test('times and sizes are those of the packets', () => {
  const bench = new MysqlBench().talk(session([]));
  const before = hello().length;
  const [count, first, second, row, end] = resultPackets() as [Buffer, Buffer, Buffer, Buffer, Buffer];
  const text = query('SELECT a FROM t');
  bench.talk([
    ['C', text.subarray(0, 2)],
    ['C', text.subarray(2)],
    ['S', Buffer.concat([count, first])],
    ['S', second],
    ['S', row.subarray(0, 3)],
    ['S', row.subarray(3)],
    ['S', end.subarray(0, 5)],
    ['S', end.subarray(5)],
  ]);
  const [e] = bench.exchanges;
  assert.deepEqual([e?.startUs, e?.responseStartUs, e?.firstRowUs, e?.endUs], [4, 6, 8, 11]);
  assert.equal(e?.requestBytes, text.length);
  assert.equal(e?.responseBytes, Buffer.concat([count, first, second, row, end]).length);
  assert.deepEqual([e?.traceOffset, e?.streamOffset], [before, before]);
});

test('statements of one text share their trace, not their span', () => {
  const bench = new MysqlBench().talk(
    session([
      ['C', query('DELETE FROM a; DELETE FROM b')],
      ['S', ok(1, { status: MORE })],
      ['S', ok(2)],
    ]),
  );
  const [a, b] = bench.exchanges;
  assert.equal(a?.traceOffset, b?.traceOffset);
  assert.equal(b!.streamOffset - a!.streamOffset, 1);
  assert.deepEqual([a?.startUs, a?.endUs, b?.startUs, b?.responseStartUs, b?.endUs], [4, 5, 4, 6, 6]);
});

test('a body of a procedure is no batch, though it contains semicolons', () => {
  const text = 'CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END';
  const bench = new MysqlBench().talk(
    session([
      ['C', query(text)],
      ['S', ok(1)],
    ]),
  );
  assert.equal(bench.exchanges.length, 1);
  assert.deepEqual([bench.exchanges[0]?.batchCount, bench.exchanges[0]?.statement?.summary], [1, 'CREATE PROCEDURE p']);
});

describe('which server', () => {
  const of = (version: string, peer = {}): string | undefined =>
    new MysqlBench().talk(
      session(
        [
          ['C', query('SELECT 1')],
          ['S', result()],
        ],
        {},
        { version, ...peer },
      ),
    ).exchanges[0]?.system;
  test('by its version', () => {
    assert.equal(of('8.4.0'), 'mysql');
    assert.equal(of('5.7.25-log'), 'mysql');
    assert.equal(of('5.5.5-10.6.12-MariaDB-0ubuntu0.22.04.1'), 'mariadb');
    assert.equal(of('11.4.2-MariaDB-ubu2404'), 'mariadb');
  });
  test('by its capabilities, when its version is made up', () => {
    assert.equal(of('8.0.30', { capabilities: ~wire.CLIENT_LONG_PASSWORD, extended: 0x1c }), 'mariadb');
    assert.equal(of('8.0.30', { capabilities: ~wire.CLIENT_LONG_PASSWORD, extended: 0 }), 'mysql');
  });
});

describe('the character set', () => {
  const textOf = (talk: Talk, collation = 255): string | undefined =>
    new MysqlBench()
      .talk(session([...talk, ['C', query('SELECT 1 FROM t')], ['S', result()]], { collation }))
      .exchanges.at(-1)?.statement?.text;
  test('of the handshake', () => {
    assert.equal(textOf([]), 'SELECT ? FROM t');
    assert.equal(textOf([], 8), 'SELECT ? FROM t');
    for (const gbk of [28, 87, 13, 1, 95, 249]) assert.equal(textOf([], gbk) ?? '', '');
  });
  test('set by a statement, when it succeeds', () => {
    for (const text of [
      'SET NAMES gbk',
      "/* c */ set names 'sjis' collate x",
      'SET character_set_client = big5, autocommit=1',
    ]) {
      assert.equal(
        textOf([
          ['C', query(text)],
          ['S', ok(1)],
        ]) ?? '',
        '',
        text,
      );
      assert.equal(
        textOf([
          ['C', query(text)],
          ['S', err(1, 1115)],
        ]),
        'SELECT ? FROM t',
        text,
      );
    }
    assert.equal(
      textOf(
        [
          ['C', query('SET NAMES utf8mb4')],
          ['S', ok(1)],
        ],
        28,
      ),
      'SELECT ? FROM t',
    );
  });
  test('told by session tracking', () => {
    const changed = ok(1, { changes: variableChange('character_set_client', 'cp932') });
    assert.equal(
      textOf([
        ['C', query('CALL p()')],
        ['S', changed],
      ]) ?? '',
      '',
    );
  });
});

test('query attributes: only the trace context is read', () => {
  const parent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const capabilities = MODERN | wire.CLIENT_QUERY_ATTRIBUTES;
  const named = (type: number, name: string): Buffer => Buffer.concat([u16(type), string(name)]);
  const attributes = Buffer.concat([
    Buffer.from([4, 1, 0b0100, 1]),
    named(3, 'n'),
    named(254, 'traceparent'),
    named(254, 'none'),
    named(253, 'TraceState'),
    u32(4711),
    string(parent),
    string('a=b'),
  ]);
  const own = Buffer.concat([
    Buffer.from([2, 0, 1]),
    named(254, ''),
    named(254, 'traceparent'),
    string('secret'),
    string(parent),
  ]);
  const bench = new MysqlBench().talk(
    session(
      [
        ['C', packet(0, wire.COM_QUERY, attributes, 'SELECT a FROM t')],
        ['S', result()],
        ['C', packet(0, wire.COM_QUERY, 0, 1, 'SELECT b FROM t')],
        ['S', result()],
        ['C', prepare('SELECT a FROM t WHERE b = ?')],
        ['S', prepared(1, 1, 2)],
        ['C', execute(1, { cursor: wire.PARAMETER_COUNT_AVAILABLE, parameters: own })],
        ['S', result()],
      ],
      { capabilities },
    ),
  );
  assert.deepEqual(bench.said, [
    `SELECT t | shop idle | 1 -1 | traceparent=${parent} | tracestate=a=b`,
    'SELECT t | shop idle | 1 -1',
    `SELECT t | shop idle | 1 -1 | prepared | traceparent=${parent}`,
  ]);
});

test('a client of the protocol before 4.1', () => {
  const capabilities = wire.CLIENT_LONG_PASSWORD | wire.CLIENT_CONNECT_WITH_DB | wire.CLIENT_TRANSACTIONS;
  const columns = [
    packet(2, 3, 'c0', 3, 11, 0, 0, 1, 3, 3, 1, 0, 0),
    packet(3, 3, 'c1', 3, 11, 0, 0, 1, 3, 3, 1, 0, 0),
  ];
  const rows = [packet(4, 0xfe), packet(5, string('1'), string('secret')), packet(6, 0xfe)];
  const bench = new MysqlBench().talk([
    ['S', greeting({ version: '5.0.96' })],
    ['C', packet(1, u16(capabilities), u24(1 << 20), 'root\0', 'SECRETSE\0', 'shop\0')],
    ['S', packet(2, 0xfe)],
    ['C', packet(3, 'SECRETSE\0')],
    ['S', packet(4, 0, 0, 0, u16(AUTOCOMMIT))],
    ['C', query('SELECT a, b FROM t')],
    ['S', Buffer.concat([packet(1, 2), ...columns, ...rows])],
    ['C', query('DELETE FROM t')],
    ['S', packet(1, 0, 3, 0, u16(AUTOCOMMIT))],
    ['C', query('SELECT a FROM missing')],
    ['S', packet(1, 0xff, u16(1146), 'no such table')],
  ]);
  assert.deepEqual(bench.close().said, [
    'SELECT t | shop idle | 1 -1',
    'DELETE t | shop idle | -1 3',
    'SELECT missing | shop idle | -1 -1 | failed=1146',
  ]);
});
