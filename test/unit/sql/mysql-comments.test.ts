/** Comments of MySQL that are code for some servers and comments for others; other places where servers read a text differently. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SqlStatement } from '../../../src/sql/statement.ts';
import { newSqlAnalyser } from '../../support/wire/protocols.ts';

const analyser = newSqlAnalyser('mysql');

function statementsOf(text: string): readonly SqlStatement[] {
  const bytes = Buffer.from(text);
  return analyser.analyse(bytes, 0, bytes.length, 'utf8', 'escape');
}

describe('conditional comments', () => {
  const cases: [text: string, wanted: string][] = [
    // Run by all.
    ['SELECT /*!40001 SQL_NO_CACHE */ a FROM t', 'SELECT /*!40001 SQL_NO_CACHE */ a FROM t'],
    ['/*!50503 SET NAMES utf8mb4 */ ', '/*!50503 SET NAMES utf8mb4 */'],
    ['SELECT /*! STRAIGHT_JOIN */ a', 'SELECT /*! STRAIGHT_JOIN */ a'],
    ['SELECT /*!1 + */ 2', 'SELECT /*!? + */ ?'],
    // Run by none.
    ['SELECT a /*!99999 word */ FROM t', 'SELECT a  FROM t'],
    ['SELECT a /*!999999 word */ FROM t', 'SELECT a  FROM t'],
    ['SELECT a /*M!999999 word */ FROM t', 'SELECT a  FROM t'],
    // Run by some: MySQL from 8.0 on, MariaDB from 10.1 on, MySQL that reads five digits of six.
    ['SELECT a /*!80000 word, `name`, @var, 1 */ FROM t', 'SELECT a /*!80000 ?, ?, ?, ? */ FROM t'],
    ['SELECT a /*!50700 word */ FROM t', 'SELECT a /*!50700 ? */ FROM t'],
    ['SELECT a /*!100100 word */ FROM t', 'SELECT a /*!100100 ? */ FROM t'],
    ['SELECT a /*!100100word */ FROM t', 'SELECT a /*!10010? */ FROM t'],
    ['SELECT a /*M!100100 word */ FROM t', 'SELECT a /*M!100100 ? */ FROM t'],
    ['SELECT a /*M! word */ FROM t', 'SELECT a /*M! ? */ FROM t'],
    ['SELECT a /*!050700 word */ FROM t', 'SELECT a /*!050700 ? */ FROM t'],
    // Nested, or with what one reading takes for the end.
    ['SELECT a /*!99999 one /* two */ word */ FROM t', ''],
    ['SELECT a /*!80000 one /* two */ word */ FROM t', ''],
    ['SELECT a /*!50000 one /* two */ word */ FROM t', ''],
    ["SELECT a /*!80000 '*/ word', ' */ FROM t", ''],
    ["SELECT a /*!99999 it's */, 'word' FROM t", ''],
    ['SELECT a /*!80000 word', ''],
    ['SELECT a /*!8000000 word */', ''],
  ];
  for (const [text, wanted] of cases) {
    test(text, () => {
      const [statement] = statementsOf(text);
      assert.equal(statement?.text ?? '', wanted);
      assert.doesNotMatch(statement?.summary ?? '', /word|name/);
    });
  }
  test('what only some run is no operation', () => {
    const [statement] = statementsOf('/*!80000 DROP TABLE word */');
    assert.deepEqual([statement?.operation, statement?.summary, statement?.effect], ['', '', { kind: 'anything' }]);
  });
  test('a semicolon within one ends no statement, and nobody knows how many there are', () => {
    const [statement, ...others] = statementsOf('SELECT 1 /*!50000 ; SELECT 2 */');
    assert.deepEqual([statement?.effect, others], [{ kind: 'anything' }, []]);
  });
});

describe('other texts that servers read differently', () => {
  test('dollar quotes', () => {
    for (const text of [
      'CREATE FUNCTION f() RETURNS INT LANGUAGE JAVASCRIPT AS $$ return `word` $$',
      "SELECT $tag$ it's word $tag$",
    ]) {
      assert.equal(statementsOf(text)[0]?.text, '');
    }
    assert.equal(statementsOf('SELECT $a, b$c$d FROM $t')[0]?.text, 'SELECT $a, b$c$d FROM $t');
  });
  test('backslashes outside of literals', () => {
    assert.equal(statementsOf("SELECT \\'it's word', 'b'")[0]?.text, '');
    assert.equal(statementsOf('SELECT \\N')[0]?.text, 'SELECT \\N');
  });
});

describe('what a statement changes', () => {
  const effect = (text: string) => statementsOf(text)[0]?.effect;
  const set = (encoding: string | undefined, mode = 'kept', tracking = false) => ({
    kind: 'set',
    encoding,
    mode,
    tracking,
  });
  const cases: [text: string, wanted: object | undefined][] = [
    ['SET NAMES gbk', set('gbk')],
    ["SET NAMES 'GBK' COLLATE gbk_bin", set('gbk')],
    ['SET NAMES DEFAULT', set('')],
    ['SET CHARACTER SET sjis', set('sjis')],
    ['SET CHARSET "sjis"', set('sjis')],
    ['SET a = 1, @@character_set_client := big5', set('big5')],
    ['SET @@SESSION.CHARACTER_SET_CLIENT = @saved', set('')],
    ['SET character_set_client = concat("g", "bk")', set('')],
    ['SET GLOBAL character_set_client = gbk', undefined],
    ['SET GLOBAL a = 1, character_set_client = gbk', set('')],
    ['SET @old_character_set_client = @@character_set_client', undefined],
    ['SET character_set_results = gbk', undefined],
    ["SET sql_mode = ''", set(undefined, 'set')],
    ["SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI')", set(undefined, 'set')],
    ['SET LOCAL sql_mode = (SELECT REPLACE(@@sql_mode, 1, 2))', set(undefined, 'set')],
    ['SET sql_mode = f()', set(undefined, 'doubtful')],
    ['SET sql_mode = a.concat(1)', set(undefined, 'doubtful')],
    ['SET @@persist.sql_mode = 1', undefined],
    ['SET GLOBAL a = 1, sql_mode = 1', set(undefined, 'doubtful')],
    ['SET session_track_schema = OFF', set(undefined, 'kept', true)],
    [`SET ${'a = 1, '.repeat(60)}b = 1`, set('', 'doubtful', true)],
    ['SET autocommit = 1', undefined],
    ['SET PASSWORD = PASSWORD(1)', { ...set(undefined) }],
    ['USE `a``b`;', { kind: 'use', database: 'a`b' }],
    ['USE a b', { kind: 'use', database: '' }],
    ['DROP DATABASE IF EXISTS x', { kind: 'drop_database', database: 'x' }],
    ['DROP TABLE x', undefined],
    ['DROP PREPARE x', { kind: 'deallocate_text', name: 'x' }],
    ['DEALLOCATE PREPARE `x`', { kind: 'deallocate_text', name: 'x' }],
    ['EXECUTE p USING @a', { kind: 'execute_text', name: 'p', runs: undefined }],
    ["EXECUTE IMMEDIATE 'it\\'s'", { kind: 'execute_text', name: '', runs: undefined }],
    ["PREPARE p FROM 'a' 'b'", { kind: 'prepare_text', name: 'p', runs: undefined }],
    ['BEGIN', undefined],
    ['BEGIN NOT ATOMIC SELECT 1; END', { kind: 'block', executes: false, sets: false }],
    ['BEGIN NOT ATOMIC SET a = 1; END', { kind: 'block', executes: false, sets: true }],
    ['IF 1 THEN EXECUTE p; END IF', { kind: 'block', executes: true, sets: true }],
  ];
  for (const [text, wanted] of cases) test(text.slice(0, 60), () => assert.deepEqual(effect(text), wanted));

  test('a statement in a literal is read like any other, and its values are not kept', () => {
    for (const text of ["PREPARE p FROM 'CALL two(''word'')'", 'EXECUTE IMMEDIATE "CALL two(\'word\')" USING 1']) {
      const found = effect(text);
      assert.ok(found?.kind === 'prepare_text' || found?.kind === 'execute_text');
      assert.deepEqual([found.runs?.operation, found.runs?.text], ['CALL', 'CALL two(?)']);
    }
    const nested = effect("EXECUTE IMMEDIATE 'EXECUTE IMMEDIATE ''USE `x`'''");
    assert.ok(nested?.kind === 'execute_text' && nested.runs?.effect?.kind === 'execute_text');
    assert.deepEqual(nested.runs.effect.runs?.effect, { kind: 'use', database: 'x' });
  });
  test('the same text with other literals is another statement', () => {
    for (const database of ['a', 'b', 'a']) {
      const found = effect(`EXECUTE IMMEDIATE 'USE ${database}'`);
      assert.ok(found?.kind === 'execute_text');
      assert.deepEqual(found.runs?.effect, { kind: 'use', database });
    }
  });
});
