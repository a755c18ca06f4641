import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { agreedEncoding, eitherBackslash, ReadingRules } from '../../../src/sql/reading.ts';
import { analyse, analyserOf } from './support.ts';

const encodingOf = (rules: ReadingRules, text: string | Buffer) => {
  const bytes = Buffer.concat([Buffer.from('é'), Buffer.from(text), Buffer.from(';')]);
  return rules.encodingOf(bytes, 2, bytes.length - 1);
};

describe('the rules that a text is read by', () => {
  it('are what the server said, unless something is on its way that may change them', () => {
    const rules = new ReadingRules();
    assert.equal(rules.backslash, 'unknown');
    rules.saidBackslash('literal');
    assert.equal(rules.backslash, 'literal');
    rules.sent();
    assert.equal(rules.backslash, 'unknown');
    rules.saidBackslash('escape');
    assert.equal(rules.backslash, 'unknown', 'more may have been sent behind what brought this');
    rules.settled();
    assert.equal(rules.backslash, 'escape');
    rules.lost();
    assert.equal(rules.backslash, 'unknown');
    rules.settled();
    assert.equal(rules.backslash, 'unknown', 'until it is said again');
  });

  it('agree on a text whose encoding may change, as long as no byte of ASCII may belong to another character', () => {
    const rules = new ReadingRules();
    assert.equal(encodingOf(rules, 'SELECT e'), 'utf8');
    assert.equal(encodingOf(rules, "SELECT 'é'"), 'unsafe', 'nobody has said anything');
    rules.saidEncoding('latin1');
    assert.equal(encodingOf(rules, "SELECT 'é]'"), 'latin1');
    rules.sent();
    assert.equal(encodingOf(rules, "SELECT 'é'"), 'utf8');
    assert.equal(encodingOf(rules, "SELECT 'é\\'"), 'unsafe');
    rules.settled();
    rules.lost();
    assert.equal(encodingOf(rules, "SELECT 'éa1_ é'"), 'utf8');
    assert.equal(encodingOf(rules, "SELECT 'é]'"), 'unsafe');
    rules.saidEncoding('utf8');
    assert.equal(encodingOf(rules, "SELECT 'é]'"), 'utf8');
    rules.saidEncoding('unsafe');
    assert.equal(encodingOf(rules, 'SELECT e'), 'unsafe');
  });

  it('leave what none of the encodings with two bytes may swallow', () => {
    for (let byte = 0; byte < 0x80; byte++) {
      const word = /\w/.test(String.fromCharCode(byte));
      const safe = byte < 0x30 || byte === 0x7f || word;
      assert.equal(agreedEncoding(Buffer.of(0x95, byte), 0, 2), safe ? 'utf8' : 'unsafe', String(byte));
    }
  });

  it('are known when both that may hold are the same', () => {
    assert.equal(eitherBackslash('escape', 'escape'), 'escape');
    assert.equal(eitherBackslash('escape', 'literal'), 'unknown');
    assert.equal(eitherBackslash('literal', 'unknown'), 'unknown');
  });
});

describe('texts whose earlier statements change the rules', () => {
  const texts = (text: string, rule: 'escape' | 'literal' = 'escape') =>
    analyse(analyserOf('mysql'), text, 'utf8', rule).map((statement) => statement.text);
  const secret = "SELECT 'a\\'b secret c\\'d'";

  for (const change of [
    "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "SET @@SESSION.`sql_mode` = ''",
    "/*!40101 SET SQL_MODE = '' */",
    'SET NAMES sjis',
    'SET CHARACTER SET gbk',
    'EXECUTE p',
    "EXECUTE IMMEDIATE 'SET sql_mode = 0'",
    'BEGIN NOT ATOMIC SET sql_mode = 0; END',
  ]) {
    it(`MySQL reads what follows when that was run: ${change}`, () => {
      assert.doesNotMatch(texts(`${change}; ${secret}; SELECT a`).join(), /secret/);
      assert.equal(texts(`${change}; ${secret}; SELECT a`)[1], '');
      assert.equal(texts(`${change}; SELECT 'b', a`)[1], 'SELECT ?, a');
      assert.equal(texts(`${change}; SELECT 'é', a`)[1], 'SELECT ?, a');
      assert.equal(texts(`${change}; SELECT 'é]', a`)[1], '');
    });
  }

  for (const harmless of [
    'SELECT f()',
    'BEGIN',
    'BEGIN WORK',
    'SET @v = 1',
    'SET autocommit = 0',
    'CALL p()',
    'USE x',
  ]) {
    it(`not by ${harmless}`, () => assert.equal(texts(`${harmless}; ${secret}`)[1], 'SELECT ?'));
  }

  it('PostgreSQL reads the whole text first', () => {
    const found = analyse(
      analyserOf('postgresql'),
      `SET standard_conforming_strings = on; ${secret}`,
      'utf8',
      'escape',
    );
    assert.equal(found[1]?.text, 'SELECT ?');
  });

  it('PostgreSQL refuses U& strings while backslashes escape: what their author meant is not known', () => {
    const text = "SELECT U&'a\\'b secret c\\'d'";
    const found = (rule: 'escape' | 'literal') => analyse(analyserOf('postgresql'), text, 'utf8', rule)[0]!.text;
    assert.equal(found('escape'), '');
    assert.equal(analyse(analyserOf('postgresql'), "SELECT U&'\\00e9'", 'utf8', 'escape')[0]!.text, 'SELECT ?');
  });
});
