import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { detectMysql } from '../../../src/protocol/mysql/detect.ts';
import * as wire from '../../../src/protocol/mysql/wire.ts';
import { newConnection } from '../../support/protocols/cases.ts';
import {
  AUTOCOMMIT,
  analyser,
  converse,
  err,
  execute,
  fetch,
  greeting,
  hello,
  lengthEncoded,
  MODERN,
  MysqlBench,
  ok,
  onStatement,
  packet,
  prepare,
  prepared,
  query,
  ROW,
  result,
  session,
  splits,
  sslRequest,
  string,
  type Talk,
  u16,
  u24,
  u32,
} from '../../support/protocols/mysql.ts';

const MARIADB = { capabilities: MODERN & ~wire.CLIENT_LONG_PASSWORD, extended: 0x1f };
const SERVER = { capabilities: ~wire.CLIENT_LONG_PASSWORD, extended: 0x1f, version: '10.11.6-MariaDB' };
const mariadb = (talk: Talk): MysqlBench => converse(talk, MARIADB, SERVER);

describe('MariaDB', () => {
  test('COM_STMT_BULK_EXECUTE: parameter sets are counted', () => {
    const types = Buffer.from([3, 0, 253, 0]);
    const sets = [0, 1, 2].map((i) =>
      Buffer.concat([
        Buffer.from([0]),
        u32(i),
        Buffer.from(i === 1 ? [1] : [0]),
        i === 1 ? Buffer.alloc(0) : string('secret'),
      ]),
    );
    const bench = mariadb([
      ['C', prepare('INSERT INTO t VALUES (?, ?)')],
      ['S', prepared(3, 2, 0)],
      ['C', packet(0, wire.COM_STMT_BULK_EXECUTE, u32(3), u16(128), types, ...sets)],
      ['S', ok(1, { affected: 3 })],
      // The types of the execution before it hold.
      ['C', packet(0, wire.COM_STMT_BULK_EXECUTE, u32(3), u16(0), ...sets.slice(0, 2))],
      ['S', ok(1, { affected: 2 })],
      ['C', packet(0, wire.COM_STMT_BULK_EXECUTE, u32(3), u16(0), sets[0]!, 'garbage')],
      ['S', err(1, 1062, '23000')],
    ]);
    assert.deepEqual(bench.said, [
      'INSERT t | shop idle | -1 3 | prepared | size=3 | mariadb',
      'INSERT t | shop idle | -1 2 | prepared | size=2 | mariadb',
      'INSERT t | shop idle | -1 -1 | prepared | failed=1062 | state=23000 | mariadb',
    ]);
  });

  test('the statement prepared last, in one go with its preparation', () => {
    const bench = mariadb([
      ['C', Buffer.concat([prepare('SELECT a FROM t WHERE b = ?'), execute(wire.LAST_PREPARED)])],
      ['S', prepared(9, 1, 2)],
      ['S', result({ metadata: 1 })],
      ['C', execute(9)],
      // Cached: the definitions are left out.
      ['S', result({ metadata: 0, rows: [ROW, ROW] })],
      ['C', Buffer.concat([prepare('SELECT a FROM missing'), execute(wire.LAST_PREPARED)])],
      ['S', err(1, 1146)],
      ['S', err(1, 1243, 'HY000')],
    ]);
    assert.deepEqual(bench.said, [
      'SELECT t | shop idle | 1 -1 | prepared | mariadb',
      'SELECT t | shop idle | 2 -1 | prepared | mariadb',
      'SELECT missing | shop idle | -1 -1 | prepared | failed=1146 | mariadb',
      'SELECT missing | shop idle | -1 -1 | prepared | failed=1243 | state=HY000 | mariadb',
    ]);
    assert.deepEqual(bench.counters.parseErrors, {});
  });

  test('COM_MULTI: each of its commands is answered', () => {
    const part = (command: Buffer): Buffer => Buffer.concat([u24(command.length - 4), command.subarray(4)]);
    const bench = mariadb([
      [
        'C',
        packet(
          0,
          wire.COM_MULTI,
          part(prepare('SELECT a FROM t')),
          part(execute(wire.LAST_PREPARED)),
          part(query('DELETE FROM t')),
        ),
      ],
      ['S', Buffer.concat([prepared(1, 0, 0), result({ first: 2, metadata: 1 }), ok(7, { affected: 4 })])],
    ]);
    assert.deepEqual(bench.said, [
      'SELECT t | shop idle | 1 -1 | prepared | mariadb',
      'DELETE t | shop idle | -1 4 | mariadb',
    ]);
    const offsets = bench.exchanges.map((e) => e.streamOffset);
    assert.equal(new Set(offsets).size, 2);
  });
});

test('optional metadata of MySQL, flag first', () => {
  const capabilities = MODERN | wire.CLIENT_OPTIONAL_RESULTSET_METADATA;
  const rows = [packet(2, ROW), packet(3, ROW), ok(4, { header: 0xfe })];
  const bench = new MysqlBench().talk(
    session(
      [
        ['C', query('SELECT a FROM t')],
        ['S', Buffer.concat([packet(1, 0, lengthEncoded(2)), ...rows])],
      ],
      { capabilities },
    ),
  );
  assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 2 -1']);
});

describe('replication', () => {
  for (const command of [wire.COM_BINLOG_DUMP, wire.COM_BINLOG_DUMP_GTID]) {
    test(`command ${command} makes the connection opaque`, () => {
      const bench = new MysqlBench().talk(
        session([
          ['C', query('SELECT 1')],
          ['S', result()],
          ['C', packet(0, wire.COM_REGISTER_SLAVE, u32(2), Buffer.alloc(14))],
          ['S', ok(1)],
          ['C', packet(0, command, u32(4), u16(0), u32(2), 'binlog.000001')],
          ['S', packet(1, 0, Buffer.alloc(500, 7))],
          ['S', Buffer.alloc(500, 7)],
        ]),
      );
      assert.deepEqual(bench.close().said, ['SELECT | shop idle | 1 -1']);
      assert.deepEqual(bench.counters.connections.opaque, { mysql_binlog: 1 });
      assert.equal(bench.muted, 1);
      assert.deepEqual(bench.counters.parseErrors, {});
    });
  }
});

describe('ends', () => {
  const open = (): MysqlBench => new MysqlBench().talk(session([['C', query('SELECT a FROM t')]]));
  test('the server goes away in the middle of the rows', () => {
    const bench = open().talk([['S', result({ rows: [ROW, ROW] }).subarray(0, -20)]]);
    bench.layer.end(FROM_SERVER, 'reset', 100);
    assert.match(bench.said[0]!, /^SELECT t \| shop idle \| 1 -1 \| incomplete=connection_reset$/);
    assert.equal(bench.exchanges[0]?.endUs, 100);
    bench.close('reset', 200);
    assert.deepEqual(bench.counters.incomplete, { connection_reset: 1 });
  });
  test('by the reason of the close', () => {
    const reasons = { fin: 'connection_closed', idle: 'timeout', evicted: 'limit', shutdown: 'shutdown' } as const;
    for (const [reason, word] of Object.entries(reasons)) {
      assert.deepEqual(open().close(reason as keyof typeof reasons).said, [
        `SELECT t | shop idle | -1 -1 | incomplete=${word}`,
      ]);
    }
  });
  test('a cursor that is open is as whole as it can be', () => {
    const cursor = AUTOCOMMIT | wire.SERVER_STATUS_CURSOR_EXISTS;
    const bench = new MysqlBench().talk(
      session([
        ['C', prepare('SELECT a FROM t')],
        ['S', prepared(1, 0, 2)],
        ['C', execute(1, { cursor: 1 })],
        ['S', result({ rows: [], status: cursor })],
        ['C', fetch(1)],
        ['S', Buffer.concat([packet(1, 0, 0, 1), ok(2, { header: 0xfe, status: cursor })])],
      ]),
    );
    assert.deepEqual(bench.said, []);
    assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 1 -1 | prepared']);
    assert.equal(bench.exchanges[0]?.endUs, 9);
  });
  test('a client that is refused', () => {
    const refused = new MysqlBench()
      .talk([
        ['S', greeting()],
        ['C', hello()],
        ['S', err(2, 1045, '28000')],
      ])
      .close();
    assert.deepEqual([refused.exchanges, refused.counters.incomplete, refused.counters.parseErrors], [[], {}, {}]);
  });
});

describe('limits', () => {
  test('prepared statements: the one used least recently goes', () => {
    const bench = new MysqlBench({ limits: { sqlPreparedStatements: 3 } }).talk(session([]));
    for (let id = 1; id <= 3; id++)
      bench.talk([
        ['C', prepare(`SELECT a FROM t${id}`)],
        ['S', prepared(id, 0, 1)],
      ]);
    bench.talk([
      ['C', execute(1)],
      ['S', result()],
      ['C', prepare('SELECT a FROM t4')],
      ['S', prepared(4, 0, 1)],
    ]);
    for (const id of [1, 2])
      bench.talk([
        ['C', execute(id)],
        ['S', result()],
      ]);
    assert.deepEqual(
      bench.close().said.map((line) => line.split(' |')[0]),
      ['SELECT t1', 'SELECT t1', '-'],
    );
    assert.deepEqual(bench.counters.sql, { statement_evicted: 2, statement_not_seen: 1 });
  });
  test('commands that wait', () => {
    const bench = new MysqlBench({ limits: { sqlPipelineDepth: 4 } }).talk(session([]));
    for (let i = 0; i < 6; i++) bench.talk([['C', query('SELECT 1')]]);
    assert.equal(bench.exchanges.length, 4);
    // Those behind them are counted; what makes no statement is not.
    bench.talk([['C', packet(0, 14)]]);
    assert.deepEqual(bench.counters.incomplete, { limit: 6 });
    assert.deepEqual(bench.counters.connections.givenUp, { pipeline_limit: 1 });
    assert.equal(bench.muted, 0);
  });
  test('bytes that are no packets', () => {
    const bench = new MysqlBench({ limits: { sqlParseErrors: 3 } }).talk(session([]));
    for (let i = 0; i < 6; i++)
      bench.talk([
        ['C', query('SELECT 1')],
        ['S', packet(1, 5, 5, 5)],
      ]);
    assert.deepEqual(bench.counters.parseErrors, { mysql: 4 });
    assert.equal(bench.muted, 1);
  });
});

/** What strings and bytes an object holds, itself and through others; `except` for what is not its own. */
function* holdings(value: unknown, except: ReadonlySet<unknown>, seen = new Set<unknown>()): Generator<string> {
  if (typeof value === 'string') yield value;
  else if (Buffer.isBuffer(value)) yield value.toString('latin1');
  else if (typeof value === 'object' && value !== null && !seen.has(value) && !except.has(value)) {
    seen.add(value);
    const members = value instanceof Map ? [...value.values()] : Object.values(value);
    for (const member of members) yield* holdings(member, except, seen);
  }
}

test('nothing of passwords, parameters, rows and error texts is kept, however it comes in pieces', () => {
  const talk = session([
    ['C', prepare('SELECT a FROM t WHERE b = ?')],
    ['S', prepared(1, 1, 2)],
    ['C', execute(1, { parameters: Buffer.from([0, 1, 254, 0, 6, ...Buffer.from('secret')]) })],
    ['S', result({ rows: [ROW] })],
    ['C', onStatement(wire.COM_STMT_SEND_LONG_DATA, 1, Buffer.from('\0\0secret'))],
    ['C', query("SELECT 'secret'")],
    ['S', err(1, 1105, 'HY000')],
  ]);
  const [bytewise] = splits(talk);
  let found = 0;
  for (const pieces of [talk, bytewise!]) {
    for (let end = 1; end <= pieces.length; end++) {
      // Between two packets nothing is on its way.
      const sent = Buffer.concat(pieces.slice(0, end).map(([, bytes]) => bytes)).length;
      let at = 0;
      for (const [, bytes] of talk) if (at < sent) at += bytes.length;
      if (at !== sent) continue;
      const bench = new MysqlBench().talk(pieces.slice(0, end));
      const held = [...holdings(bench.layer, new Set<unknown>([analyser])), ...holdings(bench.exchanges, new Set())];
      assert.deepEqual(
        held.filter((text) => text.includes('secret')),
        [],
      );
      found += held.length;
    }
  }
  assert.ok(found > 100);
});

describe('detection', () => {
  const seen = newConnection(true);
  const joined = newConnection(false);
  const client = (bytes: Buffer, connection = seen): string =>
    detectMysql(FROM_CLIENT, bytes, 0, bytes.length, connection);
  const server = (bytes: Buffer, connection = seen): string =>
    detectMysql(FROM_SERVER, bytes, 0, bytes.length, connection);
  const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

  test('a greeting, whole', () => {
    const bytes = greeting();
    assert.equal(server(bytes), 'yes');
    for (let at = 1; at < bytes.length; at++) assert.equal(server(bytes.subarray(0, at)), 'maybe', String(at));
    assert.equal(server(packet(0, 0xff, u16(1040), 'Too many connections')), 'yes');
  });
  test('what comes after a greeting that was lost', () => {
    assert.equal(client(hello()), 'yes');
    assert.equal(client(sslRequest()), 'yes');
    assert.equal(server(result()), 'yes');
    assert.equal(server(err(1, 1146)), 'yes');
    assert.equal(server(ok(1)), 'yes');
    assert.equal(server(prepared(1, 1, 1)), 'yes');
  });
  test('a client that speaks first is none, but in a connection older than the capture', () => {
    for (const bytes of [query('SELECT 1'), prepare('SELECT 1'), execute(3), packet(0, wire.COM_PING)]) {
      assert.equal(client(bytes), 'no');
      assert.equal(client(bytes, joined), 'maybe');
    }
    assert.equal(client(query('\u0001\u0002\u0003'), joined), 'no');
    assert.equal(client(query('SELECT 1').subarray(0, -1), joined), 'no');
    assert.equal(client(query(`SELECT ${'1,'.repeat(2000)}1`).subarray(0, 1400), joined), 'maybe');
  });
  test('other protocols', () => {
    const others: Record<string, [Buffer, Buffer]> = {
      http: [latin1('GET / HTTP/1.1\r\n\r\n'), latin1('HTTP/1.1 200 OK\r\n\r\n')],
      tls: [latin1('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'), latin1('\x16\x03\x03\x00\x7a\x02\x00\x00\x76')],
      'tls, of 256 bytes': [latin1('\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03'), latin1('\x16\x03\x03\x01\x7a\x02')],
      postgresql: [latin1('\0\0\0\x08\x04\xd2\x16\x2f'), latin1('R\0\0\0\x08\0\0\0\0')],
      'postgresql, plain': [latin1('\0\0\0\x1d\0\x03\0\0user\0me\0\0'), latin1('N\0\0\0\x0bE')],
      ssh: [latin1('SSH-2.0-OpenSSH_9.2\r\n'), latin1('SSH-2.0-OpenSSH_9.2\r\n')],
      redis: [latin1('*1\r\n$4\r\nPING\r\n'), latin1('+PONG\r\n')],
      http2: [latin1('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), latin1('\0\0\x12\x04\0\0\0\0\0\0\x03')],
      zeros: [Buffer.alloc(64), Buffer.alloc(64)],
    };
    for (const [name, [fromClient, fromServer]] of Object.entries(others)) {
      for (const connection of [seen, joined]) {
        assert.equal(client(fromClient, connection), 'no', `${name} client`);
        assert.equal(server(fromServer, connection), 'no', `${name} server`);
      }
    }
  });
});
