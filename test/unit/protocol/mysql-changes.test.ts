/** What statements change for those after them: the current database, how texts are read, what prepared statements are. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as wire from '../../../src/protocol/mysql/wire.ts';
import {
  AUTOCOMMIT,
  converse,
  err,
  execute,
  MODERN,
  MORE,
  MysqlBench,
  ok,
  onStatement,
  packet,
  prepare,
  prepared,
  query,
  result,
  schemaChange,
  session,
  string,
  type Talk,
  u16,
  variableChange,
} from '../../support/protocols/mysql.ts';

const LITERAL = AUTOCOMMIT | wire.SERVER_STATUS_NO_BACKSLASH_ESCAPES;
const DROPPED = AUTOCOMMIT | wire.SERVER_STATUS_DB_DROPPED;
/** Most drivers: no session tracking. */
const UNTRACKED = { capabilities: MODERN & ~wire.CLIENT_SESSION_TRACK };
const MARIADB = { version: '5.5.5-10.11.6-MariaDB' };

const done = (sql: string, status = AUTOCOMMIT): Talk => [
  ['C', query(sql)],
  ['S', ok(1, { status })],
];
const failed = (sql: string, code: number): Talk => [
  ['C', query(sql)],
  ['S', err(1, code)],
];
const answered = (sql: string, status = AUTOCOMMIT): Talk => [
  ['C', query(sql)],
  ['S', result({ status })],
];
/** All commands in one go, then all answers. */
const together = (talk: Talk): Talk => [
  ['C', Buffer.concat(talk.filter(([who]) => who === 'C').map(([, bytes]) => bytes))],
  ['S', Buffer.concat(talk.filter(([who]) => who === 'S').map(([, bytes]) => bytes))],
];

function bench(talk: Talk, peer = UNTRACKED, server: Parameters<typeof session>[2] = MARIADB): MysqlBench {
  return converse(talk, peer, server);
}

describe('the current database', () => {
  const namespaceAfter = (talk: Talk, peer = UNTRACKED): string | undefined =>
    bench([...talk, ...answered('SELECT 1')], peer).exchanges.at(-1)?.namespace;
  const cases: [name: string, talk: Talk, wanted: string][] = [
    ['dropped', done('DROP DATABASE shop', DROPPED), ''],
    ['dropped as a schema, quoted, if it exists', done('DROP SCHEMA IF EXISTS `shop`;', DROPPED), ''],
    ['dropped under ANSI_QUOTES', done('DROP DATABASE "shop"', DROPPED), ''],
    ['in another case, which may be the same', done('DROP DATABASE Shop', DROPPED), ''],
    ['not dropped', failed('DROP DATABASE shop', 1010), 'shop'],
    ['another one dropped', done('DROP DATABASE other', DROPPED), 'shop'],
    ['dropped behind a comment', done('/* c */ DROP /*!40000 DATABASE */ shop', DROPPED), ''],
    ['dropped by a procedure', done('CALL clean_up()', DROPPED), ''],
    ['dropped by EXECUTE IMMEDIATE', done("EXECUTE IMMEDIATE 'DROP DATABASE shop'", DROPPED), ''],
    ['another one by EXECUTE IMMEDIATE', done("EXECUTE IMMEDIATE 'DROP DATABASE other'", DROPPED), 'shop'],
    [
      'dropped by COM_DROP_DB',
      [
        ['C', packet(0, wire.COM_DROP_DB, 'shop')],
        ['S', ok(1)],
      ],
      '',
    ],
    [
      'not dropped by COM_DROP_DB',
      [
        ['C', packet(0, wire.COM_DROP_DB, 'shop')],
        ['S', err(1, 1047)],
      ],
      'shop',
    ],
    ['gone, as an error says', failed('SELECT 1 FROM t', 1046), ''],
    [
      'an empty name is refused',
      [
        ['C', packet(0, wire.COM_INIT_DB, '')],
        ['S', err(1, 1046)],
      ],
      'shop',
    ],
    ['USE with a quoted name', done('USE `a``b`'), 'a`b'],
    ['USE under ANSI_QUOTES', done('USE "other"'), 'other'],
    ['USE within a comment that all run', done('/*!50000 USE other */'), 'other'],
    ['USE within a comment that not all run', done('/*!80000 USE other */'), ''],
    ['USE in EXECUTE IMMEDIATE', done("EXECUTE IMMEDIATE 'USE other'"), 'other'],
    ['USE by a name', [...done("PREPARE p FROM 'USE other'"), ...done('EXECUTE p')], 'other'],
    ['a name whose PREPARE failed', [...failed("PREPARE p FROM 'USE other'", 1064), ...failed('EXECUTE p', 1243)], ''],
    ['what EXECUTE ran is not known', done('EXECUTE p'), ''],
    ['what EXECUTE answered with rows is no USE', answered('EXECUTE p'), 'shop'],
    ['a block that runs something', done('BEGIN NOT ATOMIC EXECUTE IMMEDIATE @x; END'), ''],
    ['a block that cannot', done('BEGIN NOT ATOMIC SET @x = 1; END'), 'shop'],
    [
      'prepared in the protocol',
      [
        ['C', prepare('USE other')],
        ['S', prepared(1, 0, 0)],
        ['C', execute(1)],
        ['S', ok(1)],
      ],
      'other',
    ],
    ['failed', failed('USE other', 1049), 'shop'],
  ];
  for (const [name, talk, wanted] of cases) test(name, () => assert.equal(namespaceAfter(talk), wanted));

  test('of each statement of a text', () => {
    const text = 'SELECT 1; USE gone; SELECT 2; DROP DATABASE gone; SELECT 3';
    const pieces = [
      result({ status: MORE }),
      ok(6, { status: MORE }),
      result({ first: 7, status: MORE }),
      ok(12, { status: MORE | wire.SERVER_STATUS_DB_DROPPED }),
      result({ first: 13 }),
    ];
    assert.deepEqual(
      bench([
        ['C', query(text)],
        ['S', Buffer.concat(pieces)],
      ]).exchanges.map((e) => e.namespace),
      ['shop', 'shop', 'gone', 'gone', ''],
    );
  });
  test('of each command of a pipeline, as the answers say', () => {
    const talk = [
      ...answered('SELECT 1'),
      ...done('USE other'),
      ...answered('SELECT 2'),
      ...failed('USE third', 1049),
      ...answered('SELECT 3'),
    ];
    assert.deepEqual(
      bench(together(talk)).exchanges.map((e) => e.namespace),
      ['shop', 'shop', 'other', 'other', 'other'],
    );
  });
  test('as session tracking tells', () => {
    const peer = { capabilities: MODERN };
    const told = (sql: string, name: string): Talk => [
      ['C', query(sql)],
      ['S', ok(1, { changes: schemaChange(name) })],
    ];
    assert.equal(namespaceAfter(told('EXECUTE p', 'other'), peer), 'other');
    assert.equal(namespaceAfter(told('DROP DATABASE shop', ''), peer), '');
    assert.equal(namespaceAfter(done('EXECUTE p'), peer), 'shop');
    // Switched off: nothing told is no proof.
    assert.equal(namespaceAfter([...done('SET session_track_schema = 0'), ...done('EXECUTE p')], peer), '');
    assert.equal(namespaceAfter([...done('USE other'), ...done('EXECUTE p')], peer), '');
  });
});

describe('backslashes', () => {
  // Read by the other rule, each of them gives a word away.
  const ESCAPED = "SELECT 'it\\'s secret', 'x' FROM t";
  const PLAIN = "SELECT 'a\\', 'secret', 'b\\' FROM t";
  const textsOf = (talk: Talk, peer = UNTRACKED): (string | undefined)[] => {
    const texts = bench(talk, peer).exchanges.map((e) => e.statement?.text);
    for (const text of texts) assert.doesNotMatch(text ?? '', /secret/);
    return texts;
  };
  const last = (talk: Talk, sql = ESCAPED, status = AUTOCOMMIT): string | undefined =>
    textsOf([...answered('SELECT 0'), ...talk, ...answered(sql, status)]).at(-1) ?? '';
  const set = (mode: string, status: number): Talk => done(`SET sql_mode = '${mode}'`, status);

  test('as the answers say', () => {
    assert.equal(last([]), 'SELECT ?, ? FROM t');
    assert.equal(last(set('NO_BACKSLASH_ESCAPES', LITERAL), PLAIN, LITERAL), 'SELECT ?, ?, ? FROM t');
    assert.equal(last([...set('NO_BACKSLASH_ESCAPES', LITERAL), ...set('', AUTOCOMMIT)]), 'SELECT ?, ? FROM t');
    assert.equal(last(failed("SET sql_mode = 'NO_BACKSLASH_ESCAPES', time_zone = 'x'", 1298)), 'SELECT ?, ? FROM t');
  });
  test('init_connect may have changed what the greeting said', () => {
    assert.deepEqual(textsOf(answered(ESCAPED)), ['']);
    assert.deepEqual(textsOf(answered(PLAIN, LITERAL)), ['']);
    assert.deepEqual(textsOf([...done('SET @x = 1', LITERAL), ...answered(ESCAPED, LITERAL)]).at(-1), '');
  });
  test('what a routine sets is restored, though the flag says otherwise', () => {
    for (const sql of ['CALL p()', 'INSERT INTO t VALUES (1)', 'SET @x = f()']) {
      assert.equal(last(done(sql, LITERAL), ESCAPED, LITERAL), '', sql);
      assert.equal(last(done(sql, LITERAL), PLAIN, LITERAL), '', sql);
    }
    assert.equal(last([...done('CALL p()', LITERAL), ...set('ANSI', AUTOCOMMIT)]), 'SELECT ?, ? FROM t');
  });
  test('SET STATEMENT sets it for its own statement only', () => {
    const during = done('SET STATEMENT sql_mode = NO_BACKSLASH_ESCAPES FOR DO 1', LITERAL);
    assert.equal(last(during), 'SELECT ?, ? FROM t');
    assert.equal(last([...during, ...answered('SELECT 1')]), 'SELECT ?, ? FROM t');
  });
  test('what runs is not known', () => {
    const unknown = [
      'EXECUTE p',
      'BEGIN NOT ATOMIC SET sql_mode = @x; END',
      'EXECUTE IMMEDIATE @x',
      '/*!80000 SET sql_mode=1 */',
    ];
    for (const sql of unknown) assert.equal(last(done(sql)), '', sql);
    assert.equal(last(done("EXECUTE IMMEDIATE 'SET sql_mode = 0'", LITERAL), PLAIN, LITERAL), 'SELECT ?, ?, ? FROM t');
    assert.equal(last(done('SET sql_mode = 0, @x = f()', LITERAL), PLAIN, LITERAL), '');
    assert.equal(last(failed('BEGIN NOT ATOMIC SET sql_mode = @x; SELECT nope; END', 1054)), '');
  });
  test('in one flight with what may change them', () => {
    const change = [
      'SET sql_mode = NO_BACKSLASH_ESCAPES',
      'SET @@session.sql_mode = @x',
      'EXECUTE p',
      "EXECUTE IMMEDIATE 'SET sql_mode=1'",
    ];
    for (const sql of change) {
      for (const text of [ESCAPED, PLAIN]) {
        assert.deepEqual(
          textsOf([...answered('SELECT 0'), ...together([...done(sql, LITERAL), ...answered(text, LITERAL)])]).at(-1),
          '',
        );
      }
    }
    const harmless = [
      'SELECT 1 FROM u',
      'SET @old_sql_mode = @@sql_mode',
      'SET GLOBAL sql_mode = 1',
      'CALL p()',
      'BEGIN',
    ];
    for (const sql of harmless) {
      const texts = textsOf([...answered('SELECT 0'), ...together([...answered(sql), ...answered(ESCAPED)])]);
      assert.equal(texts.at(-1), 'SELECT ?, ? FROM t', sql);
    }
  });
  test('in one flight with a reset, another user, a prepared SET', () => {
    const commands: [Buffer, Buffer][] = [
      [packet(0, wire.COM_RESET_CONNECTION), ok(1, { status: LITERAL })],
      [packet(0, wire.COM_CHANGE_USER, 'u\0', 0, 'shop\0', u16(45)), ok(1, { status: LITERAL })],
      [execute(1), ok(1, { status: LITERAL })],
    ];
    for (const [command, answer] of commands) {
      const prefix: Talk = [...answered('SELECT 0'), ['C', prepare('SET sql_mode = @x')], ['S', prepared(1, 0, 0)]];
      const flight = together([['C', command], ['S', answer], ...answered(PLAIN, LITERAL)]);
      assert.equal(textsOf([...prefix, ...flight]).at(-1), '');
    }
  });
  test('in one text with what changes them', () => {
    const text = `SET sql_mode = NO_BACKSLASH_ESCAPES; ${PLAIN}`;
    const pieces = [
      ok(1, { status: LITERAL | wire.SERVER_MORE_RESULTS_EXISTS }),
      result({ first: 2, status: LITERAL }),
    ];
    assert.deepEqual(textsOf([...answered('SELECT 0'), ['C', query(text)], ['S', Buffer.concat(pieces)]]).slice(1), [
      'SET sql_mode = NO_BACKSLASH_ESCAPES;',
      '',
    ]);
  });
  test('after commands that were lost', () => {
    const made = new MysqlBench().talk(session([...answered('SELECT 0')], UNTRACKED, MARIADB));
    made.gap('C', 100).talk(answered(PLAIN, LITERAL)).close();
    assert.equal(made.exchanges.at(-1)?.statement?.text, '');
  });
});

describe('the character set', () => {
  const GBK = Buffer.concat([
    Buffer.from("SELECT '"),
    Buffer.from([0xbf, 0x5c]),
    Buffer.from("', 'secret', '"),
    Buffer.from([0xbf, 0x5c]),
    Buffer.from("' FROM t"),
  ]);
  const UTF8 = "SELECT 'é', 'x' FROM t";
  const last = (talk: Talk, sql: string | Buffer = GBK, server: Parameters<typeof session>[2] = MARIADB): string => {
    const text =
      bench([...answered('SELECT 0'), ...talk, ['C', query(sql)], ['S', result()]], UNTRACKED, server).exchanges.at(-1)
        ?.statement?.text ?? '';
    assert.doesNotMatch(text, /secret/);
    return text;
  };
  const settings = [
    'SET NAMES gbk',
    "SET @a = 1, character_set_client = 'gbk'",
    'SET CHARACTER SET gbk',
    'SET @@session.character_set_client=gbk',
    'SET session `character_set_client` = gbk',
    "EXECUTE IMMEDIATE 'SET NAMES gbk'",
    'SET character_set_client = @x',
    'SET NAMES DEFAULT',
    'EXECUTE p',
    '/*!80000 SET NAMES gbk */',
  ];
  for (const sql of settings) {
    test(`${sql}, answered and in flight`, () => {
      assert.equal(last(done(sql)), '');
      const flight = together([...done(sql), ['C', query(GBK)], ['S', result()]]);
      assert.equal(bench([...answered('SELECT 0'), ...flight]).exchanges.at(-1)?.statement?.text ?? '', '');
    });
  }
  test('what stays the same in all of them has its text', () => {
    for (const sql of ['SET NAMES DEFAULT', 'EXECUTE p']) assert.equal(last(done(sql), UTF8), 'SELECT ?, ? FROM t');
    assert.equal(last([...done('SET NAMES gbk'), ...done('SET NAMES utf8mb4')], UTF8), 'SELECT ?, ? FROM t');
    assert.equal(last(failed('SET NAMES gbk', 1115), UTF8), 'SELECT ?, ? FROM t');
    assert.equal(last(done('SET GLOBAL character_set_client = gbk'), UTF8), 'SELECT ?, ? FROM t');
  });
  test('a routine’s, which is told and not restored aloud', () => {
    const told = (sql: string, name: string): Talk => [
      ['C', query(sql)],
      ['S', ok(1, { changes: variableChange('character_set_client', name) })],
    ];
    const tracked = (talk: Talk): string =>
      bench([...answered('SELECT 0'), ...talk, ['C', query(GBK)], ['S', result()]], {
        capabilities: MODERN,
      }).exchanges.at(-1)?.statement?.text ?? '';
    assert.equal(tracked([...told('SET NAMES gbk', 'gbk'), ...told('DO f()', 'utf8mb4')]), '');
    assert.equal(tracked(told('DO f()', 'gbk')), '');
  });
  test('of a server that passes the client’s over', () => {
    assert.equal(last([], GBK, { ...MARIADB, collation: 28 }), '');
  });
});

describe('prepared statements', () => {
  const summaries = (talk: Talk): string[] => bench(talk).said.map((line) => line.split(' | ')[0]!);
  const one = (sql: string, id: number): Talk => [
    ['C', prepare(sql)],
    ['S', prepared(id, 0, 1)],
  ];
  const run = (id: number): Talk => [
    ['C', execute(id)],
    ['S', result()],
  ];
  const refused = (id: number): Talk => [
    ['C', execute(id)],
    ['S', err(1, 1243, 'HY000')],
  ];
  const reset: Talk = [
    ['C', packet(0, wire.COM_RESET_CONNECTION)],
    ['S', ok(1)],
  ];
  const close = (id: number): Talk => [['C', onStatement(wire.COM_STMT_CLOSE, id)]];
  const A = 'SELECT a FROM a';
  const B = 'SELECT b FROM b';
  const LAST = wire.LAST_PREPARED;

  test('that were refused leave the others', () => {
    assert.deepEqual(summaries([...one(A, 1), ['C', prepare(B)], ['S', err(1, 1146)], ...run(1)]), [
      'SELECT b',
      'SELECT a',
    ]);
  });
  test('are gone after a reset, also in one flight with it', () => {
    assert.deepEqual(summaries([...one(A, 1), ...reset, ...refused(1)]), ['-']);
    assert.deepEqual(summaries([...one(A, 1), ...together([...reset, ...refused(1)])]), ['-']);
    assert.deepEqual(summaries([...one(A, 1), ...together([...reset, ...one(B, 1), ...run(1)])]), ['SELECT b']);
    assert.deepEqual(
      summaries([...one(A, 1), ['C', packet(0, wire.COM_RESET_CONNECTION)], ['S', err(1, 1047)], ...run(1)]),
      ['SELECT a'],
    );
    const failing: Talk = [
      ['C', packet(0, wire.COM_RESET_CONNECTION)],
      ['S', err(1, 1047)],
    ];
    assert.deepEqual(summaries([...one(A, 1), ...together([...failing, ...run(1)])]), ['SELECT a']);
  });
  test('numbers that are used again', () => {
    assert.deepEqual(summaries([...one(A, 1), ...close(1), ...one(B, 1), ...run(1)]), ['SELECT b']);
    assert.deepEqual(summaries(together([...one(A, 1), ...run(1), ...close(1), ...one(B, 2), ...run(2)])), [
      'SELECT a',
      'SELECT b',
    ]);
    assert.deepEqual(summaries([...one(A, 1), ...together([...run(1), ...close(1), ...one(B, 1), ...run(1)])]), [
      'SELECT a',
      'SELECT b',
    ]);
  });
  test('the last one', () => {
    assert.deepEqual(summaries(together([...one(A, 1), ...run(LAST), ...one(B, 2), ...run(LAST)])), [
      'SELECT a',
      'SELECT b',
    ]);
    assert.deepEqual(summaries([...one(A, 1), ...close(1), ...refused(LAST)]), ['-']);
    assert.deepEqual(summaries([...one(A, 1), ...close(LAST), ...refused(1), ...refused(LAST)]), ['-', '-']);
    assert.deepEqual(summaries([...one(A, 1), ...reset, ...refused(LAST)]), ['-']);
    // A server that still has an older one.
    assert.deepEqual(summaries([...one(A, 1), ['C', prepare(B)], ['S', err(1, 1146)], ...run(LAST)]), [
      'SELECT b',
      '-',
    ]);
    assert.deepEqual(summaries([...one(A, 1), ...together([...run(LAST), ...close(1)])]), ['SELECT a']);
  });
  test('in bulk', () => {
    const bulk: Talk = [
      ['C', packet(0, wire.COM_STMT_BULK_EXECUTE, Buffer.from([0xff, 0xff, 0xff, 0xff]), u16(128), string('x'))],
      ['S', ok(1)],
    ];
    assert.deepEqual(summaries([...one('INSERT INTO a VALUES (?)', 1), ...bulk, ...reset, ...bulk]), ['INSERT a', '-']);
  });
});
