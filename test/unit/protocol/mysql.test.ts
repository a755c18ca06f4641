import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as wire from '../../../src/protocol/mysql/wire.ts';
import {
  AUTOCOMMIT,
  BASE,
  column,
  eof,
  err,
  execute,
  fetch,
  greeting,
  hello,
  MORE,
  MysqlBench,
  ok,
  onStatement,
  packet,
  prepare,
  prepared,
  query,
  ROW,
  result,
  resultPackets,
  schemaChange,
  session,
  splits,
  string,
  type Talk,
  u16,
} from '../../support/protocols/mysql.ts';

const CURSOR = AUTOCOMMIT | wire.SERVER_STATUS_CURSOR_EXISTS;
const LAST_ROW = AUTOCOMMIT | wire.SERVER_STATUS_LAST_ROW_SENT;
const IN_TRANS = AUTOCOMMIT | wire.SERVER_STATUS_IN_TRANS;
const OLD = BASE | wire.CLIENT_CONNECT_WITH_DB;

interface Case {
  readonly talk: Talk;
  readonly said: readonly string[];
}

const cases: Record<string, Case> = {
  'a text query and its rows': {
    talk: session([
      ['C', query("SELECT a FROM t WHERE b = 'secret'")],
      ['S', result({ rows: [ROW, ROW] })],
    ]),
    said: ['SELECT t | shop idle | 2 -1'],
  },
  'rows without CLIENT_DEPRECATE_EOF': {
    talk: session(
      [
        ['C', query('SELECT a FROM t')],
        ['S', result({ deprecateEof: false, rows: [ROW, ROW, ROW] })],
      ],
      {
        capabilities: OLD,
      },
    ),
    said: ['SELECT t | shop idle | 3 -1'],
  },
  'no rows, with and without EOF': {
    talk: session([
      ['C', query('SELECT a FROM t')],
      ['S', result({ rows: [] })],
    ]),
    said: ['SELECT t | shop idle | 0 -1'],
  },
  'a row that begins with NULL, with an empty string, with a long one': {
    talk: session([
      ['C', query('SELECT a FROM t')],
      [
        'S',
        result({
          rows: [Buffer.from([0xfb, 0xfb]), Buffer.from([0, 0]), Buffer.concat([string('x'.repeat(300)), string('y')])],
        }),
      ],
    ]),
    said: ['SELECT t | shop idle | 3 -1'],
  },
  'changes, errors, transactions': {
    talk: session([
      ['C', query('BEGIN')],
      ['S', ok(1, { status: IN_TRANS })],
      ['C', query('UPDATE t SET a = 1')],
      ['S', ok(1, { affected: 300, status: IN_TRANS })],
      ['C', query('SELECT * FROM missing')],
      ['S', err(1, 1146)],
      ['C', query('COMMIT')],
      ['S', ok(1)],
    ]),
    said: [
      'BEGIN | shop idle | -1 0',
      'UPDATE t | shop active | -1 300',
      'SELECT missing | shop active | -1 -1 | failed=1146',
      'COMMIT | shop active | -1 0',
    ],
  },
  'an error in the middle of the rows': {
    talk: session([
      ['C', query('SELECT a FROM t')],
      ['S', Buffer.concat([...resultPackets({ rows: [ROW, ROW] }).slice(0, 5), err(6, 1317, '70100')])],
    ]),
    said: ['SELECT t | shop idle | 2 -1 | failed=1317 | state=70100'],
  },
  'several statements in one text': {
    talk: session([
      ['C', query('SELECT a FROM t; UPDATE u SET b = 2; SELECT 3')],
      ['S', Buffer.concat([result({ status: MORE }), ok(6, { affected: 7, status: MORE }), result({ first: 7 })])],
    ]),
    said: [
      'SELECT t | shop idle | 1 -1 | batch=0/3',
      'UPDATE u | shop idle | -1 7 | batch=1/3',
      'SELECT | shop idle | 1 -1 | batch=2/3',
    ],
  },
  'several statements, the second fails: the third is not run': {
    talk: session([
      ['C', query('DELETE FROM a; DELETE FROM b; DELETE FROM c')],
      ['S', Buffer.concat([ok(1, { affected: 1, status: MORE }), err(2, 1146)])],
    ]),
    said: ['DELETE a | shop idle | -1 1 | batch=0/3', 'DELETE b | shop idle | -1 -1 | failed=1146 | batch=1/3'],
  },
  'a comment after the last statement is an empty one for the server': {
    talk: session([
      ['C', query('DELETE FROM a; -- done')],
      ['S', Buffer.concat([ok(1, { affected: 1, status: MORE }), err(2, 1065, '42000')])],
    ]),
    said: ['DELETE a | shop idle | -1 1'],
  },
  'a procedure with two result sets is one statement': {
    talk: session([
      ['C', query('CALL report(1)')],
      ['S', Buffer.concat([result({ status: MORE }), result({ first: 6, status: MORE }), ok(11, { affected: 4 })])],
    ]),
    said: ['CALL report | shop idle | 2 4'],
  },
  'a procedure among other statements': {
    talk: session([
      ['C', query('CALL report(1); SELECT a FROM t')],
      ['S', Buffer.concat([result({ status: MORE }), ok(6, { status: MORE }), result({ first: 7 })])],
    ]),
    said: ['CALL report | shop idle | 1 0 | batch=0/2', 'SELECT t | shop idle | 1 -1 | batch=1/2'],
  },
  'the database by handshake, COM_INIT_DB, USE and session tracking': {
    talk: session([
      ['C', packet(0, wire.COM_INIT_DB, 'second')],
      ['S', ok(1)],
      ['C', query('SELECT 1')],
      ['S', result()],
      ['C', query('USE third')],
      ['S', ok(1)],
      ['C', query('SELECT 1')],
      ['S', result()],
      ['C', query('EXECUTE change_it')],
      ['S', ok(1, { changes: schemaChange('fourth') })],
      ['C', packet(0, wire.COM_INIT_DB, 'missing')],
      ['S', err(1, 1049)],
      ['C', query('SELECT 1')],
      ['S', result()],
    ]),
    said: [
      'SELECT | second idle | 1 -1',
      'USE third | second idle | -1 0',
      'SELECT | third idle | 1 -1',
      'EXECUTE change_it | third idle | -1 0',
      'SELECT | fourth idle | 1 -1',
    ],
  },
  'commands that are no statements': {
    talk: session([
      ['C', packet(0, wire.COM_PING)],
      ['S', ok(1)],
      ['C', packet(0, wire.COM_STATISTICS)],
      ['S', packet(1, 'Uptime: 7  Threads: 2')],
      ['C', packet(0, wire.COM_FIELD_LIST, 't\0%')],
      ['S', Buffer.concat([packet(1, column()), packet(2, column()), eof(3)])],
      ['C', packet(0, wire.COM_SET_OPTION, u16(0))],
      ['S', eof(1)],
      ['C', packet(0, wire.COM_PROCESS_INFO)],
      ['S', result()],
      ['C', packet(0, wire.COM_RESET_CONNECTION)],
      ['S', ok(1)],
      ['C', query('SELECT 1')],
      ['S', result()],
      ['C', packet(0, wire.COM_QUIT)],
    ]),
    said: ['SELECT | shop idle | 1 -1'],
  },
  'a prepared statement': {
    talk: session([
      ['C', prepare('SELECT a FROM t WHERE b = ?')],
      ['S', prepared(5, 1, 2)],
      ['C', execute(5)],
      ['S', result({ rows: [Buffer.from([0, 0, 1]), Buffer.from([0, 4, 0xfe])] })],
      ['C', onStatement(wire.COM_STMT_SEND_LONG_DATA, 5, Buffer.from('\0\0secret'))],
      ['C', execute(5)],
      ['S', err(1, 1205, 'HY000')],
      ['C', onStatement(wire.COM_STMT_RESET, 5)],
      ['S', ok(1)],
      ['C', onStatement(wire.COM_STMT_CLOSE, 5)],
      ['C', query('SELECT 1')],
      ['S', result()],
    ]),
    said: [
      'SELECT t | shop idle | 2 -1 | prepared',
      'SELECT t | shop idle | -1 -1 | prepared | failed=1205 | state=HY000',
      'SELECT | shop idle | 1 -1',
    ],
  },
  'a prepared statement without CLIENT_DEPRECATE_EOF': {
    talk: session(
      [
        ['C', prepare('INSERT INTO t VALUES (?, ?)')],
        ['S', prepared(1, 2, 0, false)],
        ['C', execute(1)],
        ['S', ok(1, { affected: 1 })],
        ['C', prepare('SELECT a FROM t')],
        ['S', prepared(2, 0, 2, false)],
        ['C', execute(2)],
        ['S', result({ deprecateEof: false })],
        ['C', prepare('DO 1')],
        ['S', prepared(3, 0, 0, false)],
        ['C', execute(3)],
        ['S', ok(1)],
      ],
      { capabilities: OLD },
    ),
    said: [
      'INSERT t | shop idle | -1 1 | prepared',
      'SELECT t | shop idle | 1 -1 | prepared',
      'DO | shop idle | -1 0 | prepared',
    ],
  },
  'what cannot be prepared': {
    talk: session([
      ['C', prepare('SELECT a FROM missing WHERE b = ?')],
      ['S', err(1, 1146)],
    ]),
    said: ['SELECT missing | shop idle | -1 -1 | prepared | failed=1146'],
  },
  'a cursor is one statement from its execution to its last row': {
    talk: session([
      ['C', prepare('SELECT a FROM t')],
      ['S', prepared(1, 0, 2)],
      ['C', execute(1, { cursor: 1 })],
      ['S', result({ rows: [], status: CURSOR })],
      ['C', fetch(1)],
      ['S', Buffer.concat([packet(1, 0, 0, 1), packet(2, 0, 0, 2), ok(3, { header: 0xfe, status: CURSOR })])],
      ['C', fetch(1)],
      ['S', Buffer.concat([packet(1, 0, 0, 3), ok(2, { header: 0xfe, status: LAST_ROW })])],
      ['C', query('SELECT 1')],
      ['S', result()],
    ]),
    said: ['SELECT t | shop idle | 3 -1 | prepared', 'SELECT | shop idle | 1 -1'],
  },
  'a cursor without CLIENT_DEPRECATE_EOF, closed before its end': {
    talk: session(
      [
        ['C', prepare('SELECT a FROM t')],
        ['S', prepared(1, 0, 2, false)],
        ['C', execute(1, { cursor: 1 })],
        ['S', Buffer.concat(resultPackets({ rows: [], deprecateEof: false, status: CURSOR }).slice(0, 4))],
        ['C', fetch(1)],
        ['S', Buffer.concat([packet(1, 0, 0, 1), packet(2, 0, 0, 2), eof(3, CURSOR)])],
        ['C', onStatement(wire.COM_STMT_CLOSE, 1)],
        ['C', query('SELECT 1')],
        ['S', result({ deprecateEof: false })],
      ],
      { capabilities: OLD },
    ),
    said: ['SELECT t | shop idle | 2 -1 | prepared', 'SELECT | shop idle | 1 -1'],
  },
  'authentication that switches its method, and asks for a key': {
    talk: [
      ['S', greeting()],
      ['C', hello()],
      ['S', packet(2, 0xfe, 'caching_sha2_password\0', 'scramblescramblescra\0')],
      ['C', packet(3, 'secretsecretsecretsecretsecretsec')],
      ['S', packet(4, 1, 4)],
      ['C', packet(5, 2)],
      ['S', packet(6, 1, '-----BEGIN PUBLIC KEY-----')],
      ['C', packet(7, Buffer.alloc(256, 7))],
      ['S', ok(8)],
      ['C', query('SELECT 1')],
      ['S', result()],
    ],
    said: ['SELECT | shop idle | 1 -1'],
  },
  'a client that becomes another one': {
    talk: session([
      ['C', prepare('SELECT a FROM t')],
      ['S', prepared(1, 0, 2)],
      ['C', packet(0, wire.COM_CHANGE_USER, 'other\0', 6, 'secret', 'theirs\0', u16(255), 'caching_sha2_password\0')],
      ['S', packet(1, 0xfe, 'caching_sha2_password\0', 'scramblescramblescra\0')],
      ['C', packet(2, 'secret')],
      ['S', packet(3, 1, 3)],
      ['S', ok(4)],
      ['C', query('SELECT 1')],
      ['S', result()],
    ]),
    said: ['SELECT | theirs idle | 1 -1'],
  },
  'LOCAL INFILE': {
    talk: session([
      ['C', query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t")],
      ['S', packet(1, 0xfb, 'f')],
      ['C', packet(2, 'secret line 1\n')],
      ['C', packet(3, 'secret line 2\n')],
      ['C', packet(4)],
      ['S', ok(5, { affected: 2 })],
      ['C', query('SELECT 1')],
      ['S', result()],
    ]),
    said: ['LOAD t | shop idle | -1 2', 'SELECT | shop idle | 1 -1'],
  },
  'progress reports of MariaDB': {
    talk: session(
      [
        ['C', query('ALTER TABLE t ADD b INT')],
        ['S', Buffer.concat([packet(1, 0xff, u16(0xffff), 1, 1, 2, 0, 0, 0, string('copy')), ok(2)])],
      ],
      {},
      { version: '5.5.5-10.11.6-MariaDB' },
    ),
    said: ['ALTER TABLE t | shop idle | -1 0 | mariadb'],
  },
};

for (const [name, { talk, said }] of Object.entries(cases)) {
  describe(name, () => {
    test('whole', () => {
      const bench = new MysqlBench().talk(talk).close();
      assert.deepEqual(bench.said, said);
      assert.deepEqual(bench.counters.incomplete, {});
      assert.deepEqual(bench.counters.parseErrors, {});
      assert.equal(bench.counters.exchanges.mysql, said.length);
    });
    test('at every split, with more to follow', () => {
      for (const split of splits([...talk.slice(0, -1), ...talk.slice(-1)])) {
        const bench = new MysqlBench().talk(split);
        assert.deepEqual(bench.said, said);
        assert.deepEqual(bench.counters.parseErrors, {});
        bench
          .talk([
            ['C', packet(0, wire.COM_PING)],
            ['S', ok(1)],
          ])
          .close();
        assert.equal(bench.exchanges.length, said.length);
        assert.deepEqual(bench.counters.incomplete, {});
      }
    });
  });
}
