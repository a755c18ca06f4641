import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_SERVER } from '../../../src/flow/connection.ts';
import { c, converse, PostgresBench, type Segment, s, started, steps } from '../../support/protocols/postgres.ts';

const STRINGS = 'standard_conforming_strings';
/** Read by the wrong rule, the word stands outside of every literal. */
const SECRET = "SELECT 'a\\'b topsecret c\\'d'";
const PLAIN = "SELECT 'a', 'b\\\\'";
const answer = (tag = 'SELECT 1', ...statuses: Buffer[]): Buffer[] => [s.complete(tag), ...statuses, s.ready()];
const execution = (text: string): Buffer[] => [c.parse('', text), c.bind('', ''), c.execute()];
const executed = (tag = 'SELECT 1'): Buffer[] => [s.parseComplete, s.bindComplete, s.complete(tag)];

/** The last statement's text; no statement may have the secret. */
function lastText(segments: readonly Segment[]): string {
  const { exchanges } = converse(segments);
  for (const { statement } of exchanges) assert.doesNotMatch(JSON.stringify(statement ?? ''), /topsecret/);
  return exchanges.at(-1)?.statement?.text ?? '';
}

describe('postgres: what a backslash means while a change of it may be on its way', () => {
  for (const change of [
    `SET ${STRINGS}=off`,
    `SELECT set_config('${STRINGS}', 'off', false)`,
    'DO $$ BEGIN SET standard_conforming_strings = off; END $$',
    'CALL p()',
    'SELECT f()',
    'INSERT INTO t VALUES (1)',
    `RESET ${STRINGS}`,
    'DISCARD ALL',
    'ROLLBACK',
    'COMMIT',
    'ROLLBACK TO SAVEPOINT s',
  ]) {
    test(`text that is sent behind ${change}`, () => {
      const off = s.status(STRINGS, 'off');
      assert.equal(
        lastText([
          ['C', c.query(change), c.query(SECRET)],
          ['S', ...answer('X', off), ...answer()],
        ]),
        '',
      );
      assert.equal(
        lastText([
          ['C', c.query(change)],
          ['C', c.query(SECRET)],
          ['S', ...answer('X', off), ...answer()],
        ]),
        '',
      );
      const series: Segment[] = [
        ['C', ...execution(change), ...execution(SECRET), c.sync],
        ['S', ...executed('X'), ...executed(), off, s.ready()],
      ];
      assert.equal(lastText(series), '');
      const parsedAhead: Segment[] = [
        ['C', ...execution(change), c.sync, c.parse('x', SECRET), c.bind('', 'x'), c.execute(), c.sync],
        ['S', ...executed('X'), off, s.ready(), ...executed(), s.ready()],
      ];
      assert.equal(lastText(parsedAhead), '');
    });
  }

  test('text that is sent when the change is answered, but not said yet: PostgreSQL 14 says it before ReadyForQuery', () => {
    const segments: Segment[] = [
      ['C', ...execution(`SET ${STRINGS}=off`), c.flush],
      ['S', ...executed('SET')],
      ['C', ...execution(SECRET), c.sync],
      ['S', ...executed(), s.status(STRINGS, 'off'), s.ready()],
    ];
    assert.equal(lastText(segments), '');
  });

  test('text that both rules read alike', () => {
    assert.equal(
      lastText([
        ['C', c.query('SELECT 1'), c.query(PLAIN)],
        ['S', ...answer(), ...answer()],
      ]),
      'SELECT ?, ?',
    );
  });

  test('text that is sent when all is answered', () => {
    const off: Segment[] = [
      ['C', c.query(`SET ${STRINGS}=off`)],
      ['S', ...answer('SET', s.status(STRINGS, 'off'))],
      ['C', c.query(SECRET)],
      ['S', ...answer()],
    ];
    assert.equal(lastText(off), 'SELECT ?');
    const windows = "SELECT 'c:\\', d";
    assert.equal(lastText([...off, ['C', c.query(windows)], ['S', ...answer()]]), '');
    const on: Segment[] = [
      ['C', c.query(`RESET ${STRINGS}`)],
      ['S', ...answer('RESET', s.status(STRINGS, 'on'))],
    ];
    assert.equal(lastText([...off, ...on, ['C', c.query(windows)], ['S', ...answer()]]), 'SELECT ?, d');
  });

  test('at the start: what the server says, not what the client asked for', () => {
    const begin = (rule: string[]): Segment[] => [
      ['C', c.startup({ user: 'u', database: 'db', options: `-c ${STRINGS}=off` })],
      ['S', s.ok, s.status('client_encoding', 'UTF8'), ...rule.map((value) => s.status(STRINGS, value)), s.ready()],
      ['C', c.query(SECRET)],
      ['S', ...answer()],
    ];
    const text = (rule: string[]) => new PostgresBench().run(steps(begin(rule))).close().exchanges[0]?.statement?.text;
    assert.equal(text(['off']), 'SELECT ?');
    assert.equal(text([]), '');
    assert.equal(text(['perhaps']), '');
  });

  test('text that is sent before the server has said anything', () => {
    const early = new PostgresBench().run(
      steps([
        ['C', c.startup(), c.query(SECRET)],
        ['S', s.ok, s.status(STRINGS, 'off'), s.ready(), ...answer()],
      ]),
    );
    assert.deepEqual(early.close().lines, ['(SELECT) -> ok -1/1']);
  });

  test('when what the server said may have been lost', () => {
    const bench = new PostgresBench().run(steps(started));
    const run = (segments: Segment[], firstUs: number) => bench.run(steps(segments, firstUs));
    run([['C', c.query(`SELECT set_config('${STRINGS}', 'off', false)`)]], 10);
    bench.layer.gap(FROM_SERVER, 100, 11);
    run(
      [
        ['S', s.row('off'), s.complete('SELECT 1'), s.ready()],
        ['C', c.query(SECRET)],
        ['S', ...answer()],
      ],
      12,
    );
    run(
      [
        ['C', c.query(PLAIN)],
        ['S', ...answer('SELECT 1', s.status(STRINGS, 'off'))],
      ],
      20,
    );
    run(
      [
        ['C', c.query(SECRET)],
        ['S', ...answer()],
      ],
      30,
    );
    assert.deepEqual(
      bench.close().exchanges.map((exchange) => exchange.statement?.text),
      ['SELECT set_config(?, ?, ?)', '', 'SELECT ?, ?', 'SELECT ?'],
    );
  });

  test('when a statement of the client may have been lost, until nothing can be on its way', () => {
    const bench = new PostgresBench().run(steps(started));
    bench.layer.gap(0, 100, 10);
    bench.run(
      steps(
        [
          ['C', c.query(SECRET)],
          ['S', ...answer()],
        ],
        11,
      ),
    );
    bench.run(
      steps(
        [
          ['C', c.query(SECRET)],
          ['S', ...answer()],
        ],
        13,
      ),
    );
    const windows = "SELECT 'c:\\', d";
    bench.run(
      steps(
        [
          ['C', c.query(windows)],
          ['S', ...answer()],
        ],
        2_000_000,
      ),
    );
    assert.deepEqual(
      bench.close().exchanges.map((exchange) => exchange.statement?.text),
      ['', '', 'SELECT ?, d'],
    );
  });

  test('when the answer was seen before the statement: what it said may come of that', () => {
    const bench = new PostgresBench().run(steps(started));
    const answered: Segment[] = [['S', s.status(STRINGS, 'on'), ...answer('SET')]];
    const off: Segment[] = [
      ['C', c.query(`SET ${STRINGS}=off`)],
      ['S', ...answer('SET', s.status(STRINGS, 'off'))],
    ];
    bench.run(steps([...off, ...answered], 10));
    // Seen later, sent before.
    bench.run(steps([['C', c.query(`SELECT set_config('${STRINGS}', 'on', false), 'a\\'b topsecret c\\'d'`)]], 11.5));
    bench.run(
      steps(
        [
          ['C', c.query(PLAIN)],
          ['S', ...answer()],
        ],
        20,
      ),
    );
    const { exchanges } = bench.close();
    assert.doesNotMatch(JSON.stringify(exchanges.map((exchange) => exchange.statement)), /topsecret/);
    assert.equal(exchanges.at(-1)?.statement?.text, 'SELECT ?, ?');
  });
});

describe('postgres: the encoding of a text while a change of it may be on its way', () => {
  const texts = (segments: readonly Segment[]) => converse(segments).exchanges.map((e) => e.statement?.text);
  // 0x95 0x5c is one character of SJIS, whose second byte is no backslash then.
  const sjis = Buffer.concat([Buffer.from("SELECT 'a"), Buffer.of(0x95, 0x5c), Buffer.from("' topsecret '\0")]);
  const query = Buffer.concat([Buffer.from('Q'), Buffer.of(0, 0, 0, sjis.length + 4), sjis]);

  test('text that is sent behind it', () => {
    const set = c.query('SET client_encoding TO sjis');
    assert.deepEqual(
      texts([
        ['C', set, query],
        ['S', ...answer('SET'), ...answer()],
      ]),
      ['SET client_encoding TO sjis', ''],
    );
    assert.deepEqual(
      texts([
        ['C', set, c.query("SELECT 'é'")],
        ['S', ...answer('SET'), ...answer()],
      ]),
      ['SET client_encoding TO sjis', 'SELECT ?'],
    );
  });
});
