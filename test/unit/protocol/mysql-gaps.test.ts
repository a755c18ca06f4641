import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { createDetectLayer } from '../../../src/protocol/detect.ts';
import * as wire from '../../../src/protocol/mysql/wire.ts';
import {
  BASE,
  converse,
  eof,
  err,
  execute,
  fetch,
  greeting,
  MODERN,
  MysqlBench,
  mysql,
  ok,
  packet,
  prepare,
  prepared,
  query,
  ROW,
  result,
  resultPackets,
  session,
  splits,
  sslRequest,
  type Talk,
} from '../../support/protocols/mysql.ts';

const NEXT: Talk = [
  ['C', query('SELECT next')],
  ['S', result()],
];

describe('holes', () => {
  const opened = (): MysqlBench => new MysqlBench().talk(session([]));
  const said = (bench: MysqlBench): readonly string[] => bench.talk(NEXT).close().said;
  const whole = 'SELECT | shop idle | 1 -1';

  test('within rows and definitions: nothing is lost but their content', () => {
    const answer = result({ rows: [ROW, Buffer.concat([Buffer.from([200]), Buffer.alloc(200, 7)]), ROW] });
    const at = answer.length - 120;
    const bench = opened().talk([
      ['C', query('SELECT a FROM t')],
      ['S', answer.subarray(0, at)],
    ]);
    bench.gap('S', 50).talk([['S', answer.subarray(at + 50)]]);
    assert.deepEqual(said(bench), ['SELECT t | shop idle | 3 -1', whole]);
    assert.deepEqual(bench.counters.incomplete, {});
  });

  test('within a text: the statement has none, but its outcome', () => {
    const text = query("INSERT INTO t VALUES ('secret')");
    const bench = opened().talk([['C', text.subarray(0, 15)]]);
    bench.gap('C', 5).talk([
      ['C', text.subarray(20)],
      ['S', ok(1, { affected: 1 })],
    ]);
    assert.deepEqual(said(bench), ['- | shop idle | -1 1 | incomplete=gap', whole]);
    assert.deepEqual(bench.counters.incomplete, { gap: 1 });
  });

  test('within the parameters of an execution: nothing is lost', () => {
    const execution = execute(1, { parameters: Buffer.alloc(5000, 9) });
    const bench = opened().talk([
      ['C', prepare('INSERT INTO t VALUES (?)')],
      ['S', prepared(1, 1, 0)],
      ['C', execution.subarray(0, 1000)],
    ]);
    bench.gap('C', 3000).talk([
      ['C', execution.subarray(4000)],
      ['S', ok(1, { affected: 1 })],
    ]);
    assert.deepEqual(said(bench), ['INSERT t | shop idle | -1 1 | prepared', whole]);
    assert.deepEqual(bench.counters.incomplete, {});
  });

  test('anywhere in an answer: that statement only', () => {
    const answer = result({ rows: [ROW, ROW, ROW] });
    for (let at = 0; at < answer.length; at++) {
      for (const length of [1, 7, answer.length - at]) {
        if (at + length > answer.length) continue;
        const bench = opened().talk([
          ['C', query('SELECT a FROM t')],
          ['S', answer.subarray(0, at)],
        ]);
        bench.gap('S', length).talk([['S', answer.subarray(at + length)]]);
        const [first, ...rest] = said(bench);
        assert.match(first!, /^SELECT t \| shop idle \| (3 -1$|-?\d -1 \| incomplete=gap)/, `${at} ${length}`);
        assert.deepEqual(rest, [whole], `${at} ${length}`);
        assert.deepEqual(bench.counters.parseErrors, {});
      }
    }
  });

  test('anywhere in a command: that statement only', () => {
    const text = query('SELECT a FROM t');
    for (let at = 0; at < text.length; at++) {
      for (const length of [1, 4, text.length - at]) {
        if (at + length > text.length) continue;
        const bench = opened().talk([['C', text.subarray(0, at)]]);
        bench.gap('C', length).talk([
          ['C', text.subarray(at + length)],
          ['S', result()],
        ]);
        assert.equal(said(bench).at(-1), whole, `${at} ${length}`);
        assert.ok(bench.exchanges.length <= 2);
        const { gap = 0, request_not_seen: notSeen = 0 } = bench.counters.incomplete;
        assert.equal(gap + notSeen, 1, `${at} ${length}`);
      }
    }
  });

  test('a command and its answer', () => {
    const bench = opened().gap('C', 30).gap('S', 100);
    assert.deepEqual(said(bench), [whole]);
  });

  test('the greeting, or the answer to it', () => {
    for (const lost of [0, 1, 2]) {
      const bench = new MysqlBench();
      for (const [i, [who, bytes]] of session([]).entries()) {
        if (i === lost) bench.gap(who, bytes.length);
        else bench.talk([[who, bytes]]);
      }
      assert.match(said(bench).at(-1)!, /^SELECT \| (shop)? ?(idle)? ?\| 1 -1$/, String(lost));
    }
  });

  test('the greeting: what the client can may not be in force', () => {
    const capabilities = MODERN & ~wire.CLIENT_LONG_PASSWORD;
    const client = { capabilities, extended: wire.MARIADB_CLIENT_CACHE_METADATA };
    for (const deprecateEof of [true, false]) {
      for (const metadata of [undefined, 1]) {
        const common = { version: '10.11.6-MariaDB', extended: metadata === undefined ? 1 : client.extended };
        const server = {
          ...common,
          capabilities: deprecateEof ? capabilities : capabilities & ~wire.CLIENT_DEPRECATE_EOF,
        };
        const answer = (rows: readonly Buffer[]) =>
          result({ deprecateEof, rows, ...(metadata !== undefined && { metadata }) });
        const talk = session(
          [
            ['C', query('SELECT a FROM t')],
            ['S', answer([ROW, ROW])],
            ['C', prepare('SELECT b FROM t WHERE c = ?')],
            ['S', prepared(4, 1, 2, deprecateEof)],
            ['C', execute(4)],
            ['S', answer([ROW, ROW, ROW])],
          ],
          client,
          server,
        );
        const seen = new MysqlBench().talk(talk).close();
        const lost = new MysqlBench().gap('S', talk[0]![1].length).talk(talk.slice(1)).close();
        const rows = ({ exchanges }: MysqlBench) => exchanges.map((e) => [e.statement?.text, e.returnedRows]);
        assert.deepEqual(rows(seen), [
          ['SELECT a FROM t', 2],
          ['SELECT b FROM t WHERE c = ?', 3],
        ]);
        assert.deepEqual(rows(lost), rows(seen), `${deprecateEof} ${metadata}`);
        assert.deepEqual(lost.counters.parseErrors, {});
      }
    }
  });

  test('many commands at once: all that wait are given up, and no answer goes to a wrong one', () => {
    const bench = opened();
    const commands = Array.from({ length: 5 }, (_, i) => query(`SELECT c${i} FROM t${i}`));
    bench.talk([
      ['C', Buffer.concat(commands)],
      ['S', result()],
    ]);
    bench.gap('S', 20).talk([
      ['S', result({ rows: [ROW, ROW] })],
      ['C', query('SELECT x FROM too_early')],
      ['S', result({ rows: [] })],
    ]);
    bench.feed(FROM_CLIENT, query('SELECT y FROM later'), 5_000_000);
    bench.feed(FROM_SERVER, result({ rows: [ROW, ROW, ROW] }), 5_000_100);
    bench.close();
    const [first, ...rest] = bench.said;
    assert.equal(first, 'SELECT t0 | shop idle | 1 -1');
    assert.equal(rest.pop(), 'SELECT later | shop idle | 3 -1');
    assert.equal(rest.length, 5);
    for (const line of rest) assert.match(line, /\| -1 -1 \| incomplete=gap$/);
  });

  test('what was prepared in a hole is executed without its text', () => {
    const bench = opened().gap('C', 40).gap('S', 100);
    bench.talk([
      ['C', execute(9)],
      ['S', result()],
      ['C', execute(9)],
      ['S', result()],
    ]);
    assert.deepEqual(said(bench), ['- | shop idle | 1 -1 | prepared', '- | shop idle | 1 -1 | prepared', whole]);
    assert.deepEqual(bench.counters.sql, { statement_not_seen: 1 });
  });
});

describe('an answer that is seen before its command', () => {
  test('is its answer when it was sent after it', () => {
    const bench = new MysqlBench().talk(session([]));
    bench.feed(FROM_SERVER, result({ rows: [ROW, ROW] }), 20);
    bench.feed(FROM_CLIENT, query('SELECT a FROM t'), 10);
    assert.deepEqual(bench.close().said, ['SELECT t | shop idle | 2 -1']);
    const [e] = bench.exchanges;
    assert.deepEqual([e?.startUs, e?.responseStartUs, e?.endUs], [10, 20, 20]);
  });
  test('is nobody\u2019s when it is older', () => {
    const bench = converse([['S', result()], ...NEXT]);
    assert.deepEqual(bench.said, ['SELECT | shop idle | 1 -1']);
    assert.deepEqual(bench.counters.incomplete, { request_not_seen: 1 });
  });
  test('is not held without bound', () => {
    const bench = new MysqlBench({ limits: { mysqlEarlyBytes: 500 } }).talk(session([]));
    for (let i = 0; i < 20; i++) bench.talk([['S', result()]]);
    assert.ok((bench.layer as unknown as { heldBytes: number }).heldBytes <= 1000);
    assert.deepEqual(bench.talk(NEXT).close().said, ['SELECT | shop idle | 1 -1']);
  });
  test('an error before the connection is closed is no answer', () => {
    const bench = converse([...NEXT, ['S', err(0, 4031, 'HY000')]]);
    assert.equal(bench.exchanges.length, 1);
    assert.deepEqual(bench.counters.incomplete, {});
  });
});

describe('a connection older than the capture', () => {
  const join = (talk: Talk): MysqlBench =>
    new MysqlBench({ startSeen: false }, (context) => createDetectLayer(context, [mysql])).talk(talk).close();

  const flavours: Record<string, boolean> = { 'with CLIENT_DEPRECATE_EOF': true, 'without it': false };
  for (const [name, deprecateEof] of Object.entries(flavours)) {
    test(`is joined at a query, ${name}`, () => {
      const bench = join([
        ['C', query('SELECT a FROM t')],
        ['S', result({ deprecateEof, rows: [ROW, ROW] })],
        ['C', query('UPDATE t SET a = 1')],
        ['S', ok(1, { affected: 2 })],
        ['C', query('SELECT a FROM missing')],
        ['S', err(1, 1146)],
        ['C', query('SELECT a FROM t')],
        ['S', result({ deprecateEof, rows: [] })],
      ]);
      assert.deepEqual(bench.said, [
        'SELECT t | - | 2 -1',
        'UPDATE t | idle | -1 2',
        'SELECT missing | idle | -1 -1 | failed=1146',
        'SELECT t | idle | 0 -1',
      ]);
      assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
    });
    test(`is joined at COM_STMT_PREPARE, ${name}`, () => {
      const talk: Talk = [
        ['C', prepare('SELECT a FROM t WHERE b = ?')],
        ['S', prepared(1, 1, 2, deprecateEof)],
        ['C', execute(1)],
        ['S', result({ deprecateEof })],
        ['C', prepare('INSERT INTO t VALUES (?, ?)')],
        ['S', prepared(2, 2, 0, deprecateEof)],
        ['C', execute(2)],
        ['S', ok(1, { affected: 1 })],
      ];
      const said = ['SELECT t | - | 1 -1 | prepared', 'INSERT t | idle | -1 1 | prepared'];
      const bench = join(talk);
      assert.deepEqual(bench.said, said);
      assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
      for (const split of splits(talk.slice(2))) {
        const cut = join([...talk.slice(0, 2), ...split]);
        assert.deepEqual(cut.said, said);
      }
    });
    test(`is joined where only the last definitions tell, ${name}`, () => {
      const bench = join([
        ['C', prepare('INSERT INTO t VALUES (?)')],
        ['S', prepared(2, 1, 0, deprecateEof)],
        ['C', execute(2)],
        ['S', ok(1, { affected: 1 })],
      ]);
      assert.deepEqual(bench.said, ['INSERT t | - | -1 1 | prepared']);
      assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
    });
  }

  test('is joined at an execution, whose text is not known', () => {
    const bench = join([
      ['C', execute(7)],
      ['S', result()],
    ]);
    assert.deepEqual(bench.said, ['- | - | 1 -1 | prepared']);
  });

  test('is joined at the next command after the middle of an answer', () => {
    const bench = join([['S', result().subarray(9)], ['C', query('SELECT a FROM t')], ['S', result()], ...NEXT]);
    assert.equal(bench.said.at(-1), 'SELECT | idle | 1 -1');
  });

  test('is joined at a COM_PING', () => {
    const bench = join([['C', packet(0, wire.COM_PING)], ['S', ok(1)], ...NEXT]);
    assert.deepEqual(bench.said, ['SELECT | idle | 1 -1']);
  });

  test('is joined at COM_STMT_FETCH, whose rows belong to nothing that is known', () => {
    for (const deprecateEof of [true, false]) {
      const end = deprecateEof ? ok(2, { header: 0xfe, status: 0x82 }) : eof(2, 0x82);
      const bench = join([
        ['C', packet(0, wire.COM_PING)],
        ['S', ok(1)],
        ['C', fetch(3)],
        ['S', Buffer.concat([packet(1, 0, 0, 1), end])],
        ['C', query('SELECT a FROM t')],
        ['S', result({ deprecateEof })],
      ]);
      assert.deepEqual(bench.said, ['SELECT t | idle | 1 -1']);
      assert.deepEqual(bench.counters.parseErrors, {});
    }
  });

  test('shows query attributes by what a query begins with', () => {
    const bench = join([
      ['C', packet(0, wire.COM_QUERY, 0, 1, 'SELECT a FROM t')],
      ['S', result()],
    ]);
    assert.deepEqual(bench.said, ['SELECT t | - | 1 -1']);
  });

  test('text that cannot be UTF-8 has no text while the character set is not known', () => {
    const bench = join([
      ['C', query(Buffer.from("SELECT '\xd6\xd0' FROM t", 'latin1'))],
      ['S', result()],
    ]);
    assert.equal(bench.exchanges[0]?.statement?.text ?? '', '');
  });
});

test('a cut within compressed or encrypted bytes is none of the protocol', () => {
  const bench = new MysqlBench({ tls: () => ({ data() {}, gap() {}, end() {}, close() {} }) });
  bench.talk([
    ['S', greeting()],
    ['C', sslRequest()],
    ['C', Buffer.from([0x16, 3, 1])],
  ]);
  bench
    .gap('S', 10)
    .gap('C', 10)
    .talk([['S', Buffer.alloc(100, 0x17)]])
    .close();
  assert.deepEqual([bench.tlsAsked, bench.counters.parseErrors, bench.exchanges], [1, {}, []]);
});

test('without CLIENT_DEPRECATE_EOF the first EOF is not taken for the second', () => {
  const old = { capabilities: BASE | wire.CLIENT_CONNECT_WITH_DB };
  const packets = resultPackets({ deprecateEof: false, rows: [] });
  const bench = new MysqlBench().talk(
    session(
      [
        ['C', query('SELECT a FROM t')],
        ['S', Buffer.concat(packets.slice(0, -1))],
      ],
      old,
    ),
  );
  assert.equal(bench.exchanges.length, 0);
  bench.talk([['S', packets.at(-1)!]]);
  assert.deepEqual(bench.said, ['SELECT t | shop idle | 0 -1']);
  const broken = new MysqlBench().talk(
    session(
      [
        ['C', query('SELECT a FROM t')],
        ['S', Buffer.concat([...packets.slice(0, 3), packet(4, ROW), eof(5)])],
      ],
      old,
    ),
  );
  assert.deepEqual(broken.counters.parseErrors, { mysql: 1 });
  assert.deepEqual(
    broken.talk(NEXT.map(([who, b]) => (who === 'S' ? [who, result({ deprecateEof: false })] : [who, b]))).close().said,
    ['SELECT t | shop idle | -1 -1 | incomplete=protocol_error', 'SELECT | shop idle | 1 -1'],
  );
});
