import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { BackslashRule } from '../../../src/sql/analyser.ts';
import type { SqlDialect } from '../../../src/sql/statement.ts';
import { analyse, analyseOne, analyserOf } from './support.ts';

/** The texts of the statements that a text holds; `<none>` for a statement without one. */
function texts(dialect: SqlDialect, text: string | Buffer, backslash: BackslashRule = 'unknown'): string[] {
  return analyse(analyserOf(dialect), text, 'utf8', backslash).map((statement) => statement.text || '<none>');
}

function table(dialect: SqlDialect, cases: readonly (readonly [string, string])[]): void {
  for (const [text, expected] of cases)
    it(JSON.stringify(text), () => assert.equal(analyseOne(analyserOf(dialect), text).text, expected));
}

describe('texts that hold no literal stay as they are', () => {
  for (const dialect of ['postgresql', 'mysql'] as const) {
    for (const text of [
      'SELECT * FROM t WHERE a IN (?, ?,  ?) AND b = ?',
      'SELECT\t*\n  FROM t\r\n WHERE a IS NULL AND b IS NOT TRUE;',
      'INSERT INTO t VALUES (?, ?), (?, ?)',
      'select CURRENT_TIMESTAMP, t1.c2, :name, %s from t1',
      'SELECT é, 日本 FROM straße',
    ]) {
      it(`${dialect} ${JSON.stringify(text)}`, () => assert.equal(analyseOne(analyserOf(dialect), text).text, text));
    }
  }
  it('$1, and the question marks of jsonb', () => {
    const text = 'SELECT a->>$1 FROM t WHERE a ? $2 AND b ?| $3 AND c @> $4 AND d IN ($5,$6) AND e$1 = f$x$';
    assert.equal(analyseOne(analyserOf('postgresql'), text).text, text);
  });
});

describe('PostgreSQL literals', () => {
  table('postgresql', [
    [
      "SELECT 'a''b', '', E'a\\'b', e'\\\\', B'01', X'1F', N'n', U&'\\0061', U&\"\\0061\"",
      'SELECT ?, ?, ?, ?, ?, ?, ?, ?, U&"\\0061"',
    ],
    ["SELECT B'1''a', X'1'\n'f''b'", 'SELECT ??, ??'],
    ["SELECT U&'a' UESCAPE '!'", 'SELECT ? UESCAPE ?'],
    ["SELECT 'a'\n'b', 'a' -- c\n 'b', 'a' 'b'", 'SELECT ?, ?, ? ?'],
    ["SELECT E'a'\n'b\\'c' AS d", 'SELECT ? AS d'],
    ['SELECT $$a$b$$, $x$ $$ $y$ $x$, $é$a$é$', 'SELECT ?, ?, ?'],
    ['SELECT a$b$c, "a""$$", $1$$x$$', 'SELECT a$b$c, "a""$$", $1?'],
    ['SELECT 1_000, 0x1F, 0o17, 0b101, 1e5, 1.5E-3, .5, 5., 1.e3', 'SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?'],
    ['SELECT a[1:2], -1, - 1, a -1, a-1, (a)-1, a->-1, 2*-3', 'SELECT a[?:?], ?, - ?, a -?, a-?, (a)-?, a->?, ?*?'],
    ["SELECT DATE '2020-01-01', INTERVAL '1' DAY, TRUE, false, NULL", 'SELECT DATE ?, INTERVAL ? DAY, ?, ?, NULL'],
    [
      'SELECT a FROM t WHERE b IS TRUE AND c IS NOT FALSE AND d = true',
      'SELECT a FROM t WHERE b IS TRUE AND c IS NOT FALSE AND d = ?',
    ],
    ['SELECT /* a /* nested */ b */ 1 -- x', 'SELECT  ?'],
    ["SELECT/**/'a'/**/FROM--x\nt", 'SELECT ? FROM\nt'],
    ['SELECT 5 <-- no operator\n 6', 'SELECT ? <\n ?'],
    ['SELECT 5-/**/-5', 'SELECT ?- ?'],
    ['SELECT `x`', 'SELECT `x`'],
    [
      'SELECT data-1, data -1, type - 1 WHERE -1 < +2 AND -3 > 4',
      'SELECT data-?, data -?, type - ? WHERE ? < ? AND ? > ?',
    ],
  ]);
});

describe('MySQL literals', () => {
  table('mysql', [
    ["SELECT 'a''b', \"a\"\"b\", '', x'1F', X'1F', b'01', N'n', 0x1F, 0b01", 'SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?'],
    [
      "SELECT _utf8mb4'a', _binary 'a', 'a\\nb', DATE'2020-01-01', {ts '2020-01-01'}",
      'SELECT _utf8mb4?, _binary ?, ?, DATE?, {ts ?}',
    ],
    [
      'SELECT 1e5, 1.5E-3, .5, 5., 1e+5, t.1e5, 2024_q, db.2024, 1ab',
      'SELECT ?, ?, ?, ?, ?, t.1e5, 2024_q, db.2024, ?',
    ],
    ['SELECT `a``b`, @a.b, @@session.x, @`v`, a@b, \\N', 'SELECT `a``b`, @a.b, @@session.x, @`v`, a@b, \\N'],
    ['SELECT @\'v\', @"v"', 'SELECT @?, @?'],
    ['SELECT 5--3, 5-- 3', 'SELECT ?-?, ?'],
    ['SELECT 1 # a\n, 2 --\n, 3 --', 'SELECT ? \n, ? \n, ?'],
    ['SELECT /* a /* b */ 1', 'SELECT  ?'],
    [
      'SELECT /*!40001 SQL_NO_CACHE */ 1 /*! , 2 */ /*M!100100 , 3 */',
      'SELECT /*!40001 SQL_NO_CACHE */ ? /*! , ? */ /*M!100100 , ? */',
    ],
    ['SELECT /*!80000 12345 */ 1, /*! 123456 */ 2', 'SELECT /*!80000 ? */ ?, /*! ? */ ?'],
    ['SELECT /*!501101 a */ /*!501101+1*/', 'SELECT /*!501101 ? */ /*!50110??*/'],
    ['SELECT TRUE, b IS NOT TRUE', 'SELECT ?, b IS NOT TRUE'],
    ['SELECT /*+ MAX_EXECUTION_TIME(1000) */ a', 'SELECT  a'],
  ]);
});

describe('values that are no literals', () => {
  it('replaces a bare word where a password stands', () => {
    assert.deepEqual(texts('postgresql', 'ALTER ROLE joe PASSWORD hunter2'), ['ALTER ROLE joe PASSWORD ?']);
    assert.deepEqual(texts('postgresql', 'ALTER ROLE joe PASSWORD "hunter2" VALID UNTIL $1'), [
      'ALTER ROLE joe PASSWORD ? VALID UNTIL $1',
    ]);
    assert.deepEqual(texts('mysql', 'ALTER USER joe IDENTIFIED BY hunter2'), ['ALTER USER joe IDENTIFIED BY ?']);
    assert.deepEqual(texts('mysql', 'SET PASSWORD = hunter2'), ['SET PASSWORD = ?']);
    assert.deepEqual(texts('mysql', 'ALTER USER joe PASSWORD EXPIRE'), ['ALTER USER joe PASSWORD EXPIRE']);
    assert.deepEqual(texts('mysql', 'SELECT password, x FROM t'), ['SELECT password, x FROM t']);
  });

  it("replaces the words of PostgreSQL's own settings of applications", () => {
    assert.deepEqual(texts('postgresql', 'SET app.tenant TO acme, "b"'), ['SET app.tenant TO ?, ?']);
    assert.deepEqual(texts('postgresql', 'SET SESSION app.tenant = acme'), ['SET SESSION app.tenant = ?']);
    assert.deepEqual(texts('postgresql', 'SET client_encoding TO utf8'), ['SET client_encoding TO utf8']);
    assert.deepEqual(texts('postgresql', 'UPDATE t SET a = t.b'), ['UPDATE t SET a = t.b']);
  });
});

describe('doubt', () => {
  for (const text of [
    "SELECT 'a",
    'SELECT "a',
    'SELECT $$a',
    'SELECT $a$ $b$',
    'SELECT $',
    'SELECT /* a',
    'SELECT a\0b',
    "SELECT E'a\\'",
  ]) {
    it(`PostgreSQL ${JSON.stringify(text)}`, () => assert.deepEqual(texts('postgresql', text), ['<none>']));
  }
  for (const text of [
    "SELECT 'a",
    'SELECT "a',
    'SELECT `a',
    'SELECT /* a',
    'SELECT a\0b',
    "SELECT 'a\\'",
    'SELECT /*! 1',
    'SELECT /*!1234567 1 */',
  ]) {
    it(`MySQL ${JSON.stringify(text)}`, () => assert.deepEqual(texts('mysql', text), ['<none>']));
  }

  it('knows the strings that a quote right behind bits begins', () => {
    const text = "SELECT B'1''\\', secret, 'x'";
    assert.deepEqual(texts('postgresql', text, 'literal'), ['SELECT ??, secret, ?']);
    assert.deepEqual(texts('postgresql', text, 'escape'), ['<none>']);
    assert.deepEqual(texts('postgresql', text), ['<none>']);
  });

  it('takes no comment for one that begins within another', () => {
    assert.deepEqual(texts('postgresql', "SELECT a -- /* b\n 'c */"), ['<none>']);
    assert.deepEqual(texts('mysql', "SELECT a # /* b\n 'c */"), ['<none>']);
    assert.deepEqual(texts('mysql', "SELECT a -- /* b 'c */"), ['SELECT a']);
  });

  it('keeps what came before it, and the summary of what was read', () => {
    const found = analyse(analyserOf('postgresql'), "SELECT 1 FROM a; SELECT b FROM c WHERE d = 'x; SELECT 2");
    assert.deepEqual(
      found.map(({ text, summary }) => [text, summary]),
      [
        ['SELECT ? FROM a;', 'SELECT a'],
        ['', 'SELECT c'],
      ],
    );
  });

  it('knows where a literal with backslashes ends only by the session', () => {
    const text = "SELECT 'a\\', secret, 'b'";
    assert.deepEqual(texts('mysql', text), ['<none>']);
    assert.deepEqual(texts('postgresql', text), ['<none>']);
    assert.deepEqual(texts('postgresql', text, 'literal'), ['SELECT ?, secret, ?']);
    assert.deepEqual(texts('mysql', text, 'literal'), ['SELECT ?, secret, ?']);
    assert.deepEqual(texts('mysql', text, 'escape'), ['<none>']);
    assert.deepEqual(texts('mysql', "SELECT 'it\\'s', 'b'", 'escape'), ['SELECT ?, ?']);
    assert.deepEqual(texts('postgresql', "SELECT 'it\\'s', 'b'", 'escape'), ['SELECT ?, ?']);
    assert.deepEqual(texts('mysql', "SELECT 'a\\\\', 'b\\n', 'c\\\\\\\\'"), ['SELECT ?, ?, ?'], 'both rules agree');
  });

  it('takes no side on "..." with an escaped quote, which ANSI_QUOTES reads otherwise', () => {
    assert.deepEqual(texts('mysql', 'SELECT "a\\"b"', 'escape'), ['<none>']);
    assert.deepEqual(texts('mysql', 'SELECT "a\\n"', 'escape'), ['SELECT ?']);
  });

  it('has none about a conditional comment that ends within a literal', () => {
    assert.deepEqual(texts('mysql', "SELECT /*!99999 it's */ 'secret', 'x' /*!99999 it's */"), ['<none>']);
    assert.deepEqual(texts('mysql', "SELECT /*!50000 'a' */ 1"), ['SELECT /*!50000 ? */ ?']);
  });
});

describe('encodings', () => {
  const invalid = (before: string, after: string) =>
    Buffer.concat([Buffer.from(before), Buffer.from([0xff, 0x27 + 1, 0xc3]), Buffer.from(after)]);

  it('gives no text of one that is not the UTF-8 it should be', () => {
    assert.deepEqual(texts('postgresql', invalid("SELECT a FROM b WHERE c = '", "'")), ['<none>']);
    assert.deepEqual(texts('mysql', invalid('SELECT a FROM b -- ', '')), ['<none>']);
    assert.deepEqual(texts('mysql', invalid('SELECT ', ' FROM b')), ['<none>']);
  });

  it('but for the literals that hold bytes', () => {
    assert.deepEqual(texts('mysql', invalid("INSERT INTO t VALUES (_binary'", "', 'é')")), [
      'INSERT INTO t VALUES (_binary?, ?)',
    ]);
    assert.deepEqual(texts('mysql', invalid("INSERT INTO t VALUES (_binary 'a', '", "')")), ['<none>']);
  });

  it('reads latin1', () => {
    const [statement] = analyse(
      analyserOf('mysql', { maxTextBytes: 13 }),
      Buffer.from("SELECT é, 'é', ü", 'latin1'),
      'latin1',
    );
    assert.equal(statement?.text, 'SELECT é, ?,');
    assert.equal(statement?.truncated, true);
  });

  it('says nothing at all of a text in an encoding whose characters hold ASCII bytes', () => {
    const [statement] = analyse(analyserOf('mysql'), 'SELECT a FROM b', 'unsafe');
    assert.deepEqual([statement?.text, statement?.summary, statement?.operation], ['', '', '']);
    assert.deepEqual(analyse(analyserOf('mysql'), '', 'unsafe'), []);
  });
});

describe('cutting', () => {
  const cut = (text: string, maxTextBytes: number, rawText = false) => {
    const { text: shown, truncated } = analyseOne(analyserOf('postgresql', { maxTextBytes, rawText }), text);
    return [shown, truncated];
  };

  it('ends at a character, and says so', () => {
    assert.deepEqual(cut('SELECT é', 9), ['SELECT é', false]);
    assert.deepEqual(cut('SELECT é', 8), ['SELECT ', true]);
    assert.deepEqual(cut('SELECT 日本', 11), ['SELECT 日', true]);
    assert.deepEqual(cut('SELECT \u{1F600}x', 10), ['SELECT ', true]);
    assert.deepEqual(cut('SELECT ab   ', 9), ['SELECT ab', false]);
    assert.deepEqual(cut("SELECT 'a long literal'", 8), ['SELECT ?', false]);
  });

  it('does not count a list that shrinks', () => {
    const list = Array.from({ length: 5000 }, (_, index) => `'${index}'`).join(', ');
    assert.deepEqual(cut(`SELECT a FROM t WHERE b IN (${list}) AND c = 1`, 64), [
      'SELECT a FROM t WHERE b IN (?) AND c = ?',
      false,
    ]);
    const [shown, truncated] = cut(`SELECT a FROM t WHERE b IN (${list}, c)`, 64);
    assert.equal(truncated, true);
    assert.equal((shown as string).length, 64);
  });

  it('finds everything behind the cut', () => {
    const rows = Array.from(
      { length: 3000 },
      (_, index) => `(${index}, 'it''s ${index}', NULL, E'\\'', -1.5, (SELECT x FROM u${index % 2}))`,
    );
    const found = analyse(
      analyserOf('postgresql', { maxTextBytes: 50 }),
      `INSERT INTO t VALUES ${rows.slice(0, 2).join()}; INSERT INTO v VALUES ${rows.join()}; SELECT 1`,
    );
    assert.deepEqual(
      found.map(({ summary }) => summary.slice(0, 40)),
      ['INSERT t SELECT u0 SELECT u1', 'INSERT v SELECT u0 SELECT u1 SELECT u0 S', 'SELECT'],
    );
    assert.ok(found[1]!.summary.length <= 255);
    assert.deepEqual(
      found.map(({ truncated }) => truncated),
      [true, true, false],
    );
  });

  it('leaves the raw text as it was written when that is asked for', () => {
    assert.deepEqual(cut(" SELECT 'é' /* c */ -- d\n;", 2048, true), ["SELECT 'é' /* c */ -- d\n;", false]);
    assert.deepEqual(cut("SELECT 'é'", 9, true), ["SELECT '", true]);
    assert.deepEqual(cut("SELECT 'unterminated", 2048, true), ["SELECT 'unterminated", false]);
  });
});
