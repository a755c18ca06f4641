import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SessionEffect, SqlDialect } from '../../../src/sql/statement.ts';
import { analyse, analyseOne, analyserOf } from './support.ts';

describe('splitting', () => {
  const split = (dialect: SqlDialect, text: string) =>
    analyse(analyserOf(dialect), text).map((statement) => statement.text);

  it('leaves empty statements out', () => {
    for (const dialect of ['postgresql', 'mysql'] as const) {
      assert.deepEqual(split(dialect, ''), []);
      assert.deepEqual(split(dialect, ' ;; -- x\n;/* y */'), []);
      assert.deepEqual(split(dialect, '; SELECT a;;\n SELECT b ; -- c'), ['SELECT a;', 'SELECT b ;']);
      assert.equal(analyserOf(dialect).analyseOne(Buffer.from(' ; '), 0, 3, 'utf8'), undefined);
    }
  });

  it('sees no semicolon in strings, names, comments and parentheses', () => {
    assert.deepEqual(split('postgresql', `SELECT ';', ";", $$;$$ /* ; */ -- ;\n; SELECT b`), [
      'SELECT ?, ";", ?  \n;',
      'SELECT b',
    ]);
    assert.deepEqual(split('mysql', 'SELECT \';\', ";", `;` /* ; */ # ;\n; SELECT b'), [
      'SELECT ?, ?, `;`  \n;',
      'SELECT b',
    ]);
    assert.deepEqual(
      split('postgresql', 'CREATE RULE a AS ON INSERT TO b DO (SELECT c; SELECT d); SELECT e').length,
      2,
    );
  });

  it('keeps the body of a routine together, PostgreSQL', () => {
    const body =
      'CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT a; SELECT CASE WHEN b THEN c END; END;';
    assert.deepEqual(split('postgresql', `${body} SELECT d`), [body, 'SELECT d']);
    assert.deepEqual(split('postgresql', 'BEGIN; SELECT a; END; SELECT CASE WHEN b THEN c END; COMMIT').length, 5);
  });

  for (const body of [
    'CREATE PROCEDURE p() BEGIN SELECT a; BEGIN SELECT b; END; END;',
    'CREATE DEFINER=`x`@`y` PROCEDURE IF NOT EXISTS p(IN a INT) BEGIN IF a THEN SELECT b; ELSEIF c THEN SELECT IF(d, e, f); END IF; END;',
    'CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN CASE b WHEN c THEN SET d = e; END CASE; END;',
    'CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW IF b THEN SET c = d; END IF;',
    'CREATE PROCEDURE p() l: LOOP LEAVE l; END LOOP;',
    'CREATE PROCEDURE p() BEGIN WHILE a DO SELECT b; END WHILE; REPEAT SELECT REPEAT(c, d); UNTIL e END REPEAT; SELECT CASE WHEN f THEN g END; END;',
    'CREATE EVENT e ON SCHEDULE EVERY a DAY DO BEGIN DELETE FROM b; END;',
    'CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN a;',
    'BEGIN NOT ATOMIC SELECT a; SELECT b; END;',
    '/*!50003 CREATE*/ /*!50003 TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN SET b = c; SET d = e; END */;',
  ]) {
    it(`keeps the body of a routine together, MySQL: ${body}`, () =>
      assert.deepEqual(split('mysql', `${body} SELECT z`), [body, 'SELECT z']));
  }

  it('splits transactions and conditions of MySQL that are no routine', () => {
    assert.deepEqual(split('mysql', 'BEGIN; SELECT IF(a, b, c); DROP TABLE IF EXISTS d; COMMIT').length, 4);
  });

  it('does not split what is one statement', () => {
    assert.equal(analyseOne(analyserOf('mysql'), 'SELECT a; SELECT b').text, 'SELECT a; SELECT b');
  });
});

describe('effects on the session', () => {
  const effect = (dialect: SqlDialect, text: string): SessionEffect | undefined =>
    analyseOne(analyserOf(dialect), text).effect;
  const path = (schema: string): SessionEffect => ({ kind: 'search_path', schema });

  for (const [text, expected] of [
    ['SET search_path TO a, b', path('a')],
    ['set SESSION Search_Path = "A b"', path('A b')],
    ['SET search_path TO "$user", Public', path('public')],
    ["SET search_path = 'x', y", path('x')],
    ['SET search_path TO DEFAULT', path('')],
    ["SET search_path TO ''", { kind: 'unknown', settings: true }],
    ["SET SCHEMA 'x'", path('x')],
    ['SET LOCAL search_path TO a', { kind: 'search_path', schema: 'a', local: true }],
    ['RESET search_path', path('')],
    ['RESET ALL', path('')],
    ['DISCARD ALL', { kind: 'discard_all' }],
    ['DISCARD TEMP', undefined],
    ['SET work_mem = 5', undefined],
    ['SHOW search_path', undefined],
    ['USE a', undefined],
  ] as const) {
    it(`PostgreSQL ${text}`, () => assert.deepEqual(effect('postgresql', text), expected));
  }

  it('MySQL USE', () => {
    assert.deepEqual(effect('mysql', 'use `a``b` ;'), { kind: 'use', database: 'a`b' });
    assert.deepEqual(effect('mysql', 'USE shop'), { kind: 'use', database: 'shop' });
    assert.equal(effect('mysql', 'USE'), undefined);
    assert.equal(effect('mysql', 'SET search_path = 1'), undefined);
  });

  it('tells apart what has the same text', () => {
    const analyser = analyserOf('postgresql');
    for (const schema of ['a', 'b', 'a']) {
      const found = analyseOne(analyser, `SET search_path = '${schema}'`);
      assert.deepEqual([found.text, found.effect], ['SET search_path = ?', path(schema)]);
    }
  });
});

describe("sqlcommenter's context", () => {
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
  const comment = `/*action='x%27y',traceparent='${traceparent}',tracestate='congo%3Dt61rcWkgMzE%2Crojo%3D00f067aa0ba902b7'*/`;
  const tracestate = 'congo=t61rcWkgMzE,rojo=00f067aa0ba902b7';
  const contexts = (text: string) =>
    analyse(analyserOf('mysql'), text, 'utf8', 'escape').map((statement) => [
      statement.text,
      statement.traceparent,
      statement.tracestate,
    ]);

  it('is read wherever the comment stands', () => {
    assert.deepEqual(contexts(`SELECT a ${comment}`), [['SELECT a', traceparent, tracestate]]);
    assert.deepEqual(contexts(`${comment} SELECT a`), [['SELECT a', traceparent, tracestate]]);
    assert.deepEqual(contexts(`SELECT a ${comment};`), [['SELECT a ;', traceparent, tracestate]]);
    assert.deepEqual(contexts(`SELECT a; ${comment} `), [['SELECT a;', traceparent, tracestate]]);
    assert.deepEqual(contexts(`SELECT a -- traceparent='${traceparent}'\n`), [['SELECT a', traceparent, '']]);
  });

  it('belongs to its statement', () => {
    const other = comment.replace('4bf9', 'ffff');
    assert.deepEqual(contexts(`SELECT a ${comment}; SELECT b; SELECT c ${other}`), [
      ['SELECT a ;', traceparent, tracestate],
      ['SELECT b;', '', ''],
      ['SELECT c', traceparent.replace('4bf9', 'ffff'), tracestate],
    ]);
    assert.deepEqual(contexts(`SELECT a; ${comment} SELECT b`), [
      ['SELECT a;', '', ''],
      ['SELECT b', traceparent, tracestate],
    ]);
  });

  it('is none when it is no context, or no comment', () => {
    for (const text of [
      "SELECT a /*traceparent='secret'*/",
      `SELECT '${comment.replaceAll("'", "''")}'`,
      `SELECT a /*xtraceparent='${traceparent}'*/`,
      "SELECT a /*traceparent='%zz'*/",
    ]) {
      assert.deepEqual(contexts(text)[0]?.slice(1), ['', ''], text);
    }
    assert.deepEqual(contexts(`SELECT ' /*traceparent='${traceparent}'*/`), [['', '', '']], 'the string has no end');
  });

  it('does not make a text a new one', () => {
    const analyser = analyserOf('postgresql');
    const ids = Array.from({ length: 5 }, (_, index) => traceparent.replace('4736', `473${index}`));
    const found = ids.map((id) => analyse(analyser, `SELECT a FROM b /*traceparent='${id}'*/`)[0]!);
    assert.deepEqual(
      found.map((statement) => [statement.text, statement.traceparent]),
      ids.map((id) => ['SELECT a FROM b', id]),
    );
  });
});

describe('statements to ignore', () => {
  const ignored = (ignore: readonly RegExp[], text: string) =>
    analyseOne(analyserOf('postgresql', { ignore }), text).ignored;

  it('tests the text without its literals', () => {
    assert.equal(ignored([/^SELECT \?$/], 'SELECT 1'), true);
    assert.equal(ignored([/secret/], "SELECT 'secret'"), false);
    assert.equal(ignored([/secret/], "SELECT 'a' /* secret */"), false);
    assert.equal(ignored([/x/, /^select 1/i], 'SELECT 1'), false);
  });

  it('tests the summary of what has no text', () => {
    assert.equal(ignored([/^SELECT pg_stat/], "SELECT * FROM pg_stat_activity WHERE a = 'b"), true);
  });

  it('takes patterns that remember where they were', () => {
    const analyser = analyserOf('postgresql', { ignore: [/SELECT/g] });
    for (const column of ['a', 'b', 'c']) assert.equal(analyseOne(analyser, `SELECT ${column}`).ignored, true);
  });
});

it('counts the texts that it could not read to their end', () => {
  const counts: Record<string, number> = {};
  const analyser = analyserOf('mysql', { counts });
  for (let again = 0; again < 3; again++) analyse(analyser, "SELECT 'a");
  analyse(analyser, 'SELECT a');
  analyse(analyser, 'SELECT a', 'unsafe');
  assert.deepEqual(counts, { doubtful: 3, unsafe_encoding: 1 });
});

describe('the cache', () => {
  it('gives the same objects for a text that comes again, and for texts that differ in their literals', () => {
    const analyser = analyserOf('postgresql');
    const text = 'SELECT a FROM b WHERE c = $1';
    analyse(analyser, text);
    const second = analyse(analyser, text);
    assert.equal(analyse(analyser, text), second, 'remembered when it came again');
    assert.equal(analyse(analyser, "SELECT 1, 'x'")[0], analyse(analyser, "SELECT 2, 'y'")[0]);
  });

  it('keeps apart what the encoding, the rule for backslashes and the way of reading make different', () => {
    const analyser = analyserOf('mysql');
    const bytes = Buffer.from("SELECT 'é\\', b; SELECT c -- '");
    for (let again = 0; again < 3; again++) {
      const counts = (['escape', 'literal', 'unknown'] as const).map((rule) =>
        analyser.analyse(bytes, 0, bytes.length, 'utf8', rule).map(({ text }) => text),
      );
      assert.deepEqual(counts, [['SELECT ?'], ['SELECT ?, b;', 'SELECT c'], ['']]);
      assert.equal(analyser.analyseOne(bytes, 0, bytes.length, 'utf8', 'literal')?.text, 'SELECT ?, b; SELECT c');
      assert.equal(analyser.analyse(Buffer.from('SELECT é'), 0, 9, 'latin1')[0]?.text, 'SELECT Ã©');
      assert.equal(analyser.analyse(Buffer.from('SELECT é'), 0, 9, 'utf8')[0]?.text, 'SELECT é');
    }
  });

  it('does not keep the bytes that it was lent', () => {
    const analyser = analyserOf('postgresql');
    const bytes = Buffer.from('SELECT a FROM b');
    for (let again = 0; again < 3; again++) analyser.analyse(bytes, 0, bytes.length, 'utf8');
    bytes.write('DELETE');
    assert.equal(analyser.analyse(bytes, 0, bytes.length, 'utf8')[0]?.summary, 'DELETE b');
  });

  it('holds no more than it may, and stays right', () => {
    const analyser = analyserOf('postgresql', { cacheEntries: 8, cacheTextBytes: 64 });
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < 500; index++) {
        const name = index % 2 === 0 ? `t${index}` : `t${index}${'x'.repeat(60)}`;
        assert.equal(analyse(analyser, `SELECT * FROM ${name}`)[0]?.collection, name);
      }
    }
  });
});
