import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { c, PostgresBench, type Segment, s, steps, welcome } from '../../support/protocols/postgres.ts';

type Said = readonly [text: string, tag: string, state?: 'I' | 'T' | 'E'];

const begin = (options = '-csearch_path=start', ...statuses: Buffer[]): Segment[] => [
  ['C', c.startup({ user: 'u', database: 'db', options })],
  ['S', ...statuses, ...welcome],
];
const answer = (tag: string): Buffer => (/^\d[0-9A-Z]{4}$/.test(tag) ? s.error(tag) : s.complete(tag));
const segments = ([text, tag, state]: Said): Segment[] => [
  ['C', c.query(text)],
  ['S', ...tag.split('; ').map(answer), s.ready(state)],
];
const LAST: Said = ['SELECT 1', 'SELECT 1'];

/** The namespace of each statement, and of one behind them in the same state; sent one by one, and all at once. */
function namespaces(said: readonly Said[]): string[] {
  const all = [...said, [LAST[0], LAST[1], said.at(-1)?.[2]] as Said].flatMap(segments);
  const ofKind = (kind: 'C' | 'S') => all.filter(([from]) => from === kind).flatMap(([, ...parts]) => parts);
  const ahead: Segment[] = [
    ['C', ...ofKind('C')],
    ['S', ...ofKind('S')],
  ];
  const [one, other] = [all, ahead].map((rest) =>
    new PostgresBench()
      .run(steps([...begin(), ...rest]))
      .close()
      .exchanges.map((exchange) => exchange.namespace),
  );
  assert.deepEqual(one, other);
  return one!;
}

const last = (...said: Said[]): string => namespaces(said).at(-1)!;
const BEGIN: Said = ['BEGIN', 'BEGIN', 'T'];
const within = (text: string, tag: string): Said => [text, tag, 'T'];
const SET = within('SET search_path TO app', 'SET');

describe('postgres: the search path', () => {
  for (const [text, expected] of [
    ["SELECT set_config('search_path', 'app', false)", 'db|app'],
    ["SELECT pg_catalog.set_config('search_path', 'app, x', false);", 'db|app'],
    ["select Set_Config('Search_Path', '\"App\"', False)", 'db|App'],
    ['SELECT "pg_catalog"."set_config"(\'search_path\', \'app\', false)', 'db|app'],
    ["SELECT set_config('search_path', 'app', true)", 'db|start'],
    ["SELECT set_config('work_mem', '1MB', false)", 'db|start'],
    ["SELECT set_config('search_path', 'app', false) WHERE x", 'db'],
    ["SELECT set_config('search_path', 'app', false) AS a", 'db'],
    ["SELECT set_config('search_path', x, false) FROM t", 'db'],
    ["SELECT set_config('search_path', '', false)", 'db'],
    ["SELECT set_config($1, 'app', false)", 'db'],
    ["SELECT set_config(E'search\\x5fpath', 'app', false)", 'db'],
    ["SELECT set_config('search_' || 'path', 'app', false)", 'db'],
    ["SELECT 1, (SELECT set_config('search_path', 'app', false))", 'db'],
    ["WITH x AS (SELECT set_config('search_path', 'app', false)) SELECT * FROM x", 'db'],
    ["INSERT INTO t VALUES (set_config('search_path', 'app', false))", 'db'],
    ["SELECT set_config('search_path', 'a', false), set_config('search_path', 'b', false)", 'db'],
    ["UPDATE pg_settings SET setting = 'app' WHERE name = 'search_path'", 'db'],
    ['UPDATE pg_catalog."pg_settings" SET setting = \'app\'', 'db'],
    ['SET "search_path" = app', 'db|app'],
    ['SET "SEARCH_PATH" TO \'app\'', 'db|app'],
    ['SET U&"search\\005fpath" = app', 'db'],
    ["SET search_path TO ''", 'db'],
    ["SET search_path TO E'app'", 'db'],
    ['SET SESSION search_path TO "$user", app', 'db|app'],
    ['SET LOCAL search_path TO app', 'db|start'],
    ["SET SCHEMA 'app'", 'db|app'],
    ['SELECT switch_tenant(5)', 'db'],
    ['SELECT * FROM app.f(1) x', 'db'],
    ['SELECT a, count(*), max(b) OVER (PARTITION BY c) FROM t AS u (a, b) WHERE lower(d) IN (1, 2)', 'db|start'],
    ['INSERT INTO app.t (a, b) VALUES (now(), $1::numeric(10, 2)) ON CONFLICT (a) DO UPDATE SET b = 1', 'db|start'],
    ['SELECT x FROM t u (a, b), ROWS FROM (json_each(c)) AS v (k, w)', 'db|start'],
    ['CREATE TABLE t (a varchar(5), CHECK (a > 5))', 'db|start'],
    ['CREATE TABLE t AS SELECT f(1)', 'db'],
    ['CALL p()', 'db'],
    ['DO $$ BEGIN END $$', 'db'],
    ['DROP SCHEMA a, start CASCADE', 'db'],
    ['DROP SCHEMA IF EXISTS "start"', 'db'],
    ['DROP SCHEMA other', 'db|start'],
    ['ALTER SCHEMA start RENAME TO other', 'db'],
    ['ALTER SCHEMA start OWNER TO me', 'db|start'],
    ['DROP OWNED BY me', 'db'],
    ['EXECUTE q(1)', 'db'],
    ['SELECT $a$ x', 'db'],
    ['RESET U&"search\\005fpath"', 'db'],
    ['ALTER ROLE me SET search_path TO app', 'db|start'],
    ['SET ROLE me', 'db|start'],
  ] as const) {
    test(text, () => assert.deepEqual(namespaces([[text, 'X']]), ['db|start', expected]));
  }

  test('a function call of the protocol may be any', () => {
    const bench = new PostgresBench().run(
      steps([...begin(), ['C', c.functionCall], ['S', s.functionResult, s.ready()], ...segments(LAST)]),
    );
    assert.deepEqual(
      bench.close().exchanges.map((e) => e.namespace),
      ['db|start', 'db'],
    );
  });

  test('what is prepared does not run yet', () => {
    const prepare: Said = ["PREPARE q AS SELECT set_config('search_path', 'app', false)", 'PREPARE'];
    assert.equal(last(prepare), 'db|start');
    assert.equal(last(prepare, ['EXECUTE q', 'SELECT 1']), 'db|app');
    assert.equal(last(['PREPARE q AS SELECT x FROM t', 'PREPARE'], ['EXECUTE q', 'SELECT 1']), 'db|start');
  });

  test('RESET, DISCARD ALL', () => {
    const set: Said = ['SET search_path TO app', 'SET'];
    for (const [text, tag] of [
      ['RESET search_path', 'RESET'],
      ['RESET "search_path"', 'RESET'],
      ['RESET ALL', 'RESET'],
      ['DISCARD ALL', 'DISCARD ALL'],
      ['SET search_path TO DEFAULT', 'SET'],
    ] as const) {
      assert.equal(last(set, [text, tag]), 'db|start');
    }
    assert.equal(last(['SELECT f()', 'SELECT 1'], set), 'db|app');
  });

  test('transactions', () => {
    const local = within('SET LOCAL search_path TO loc', 'SET');
    assert.equal(last(BEGIN, SET), 'db|app');
    assert.equal(last(BEGIN, SET, ['COMMIT', 'COMMIT']), 'db|app');
    assert.equal(last(BEGIN, SET, ['ROLLBACK', 'ROLLBACK']), 'db|start');
    assert.equal(last(BEGIN, SET, within('ABORT AND CHAIN', 'ROLLBACK')), 'db|start');
    assert.equal(last(BEGIN, SET, within('COMMIT AND CHAIN', 'COMMIT'), ['ROLLBACK', 'ROLLBACK']), 'db|app');
    assert.equal(last(BEGIN, SET, local), 'db|loc');
    assert.equal(last(BEGIN, SET, local, ['COMMIT', 'COMMIT']), 'db|app');
    assert.equal(last(BEGIN, local, SET, ['END', 'COMMIT']), 'db|app');
    assert.equal(last(BEGIN, SET, ["PREPARE TRANSACTION 'x'", 'PREPARE TRANSACTION']), 'db|app');
    assert.equal(last(BEGIN, SET, ['SELECT 1/0', '22012', 'E'], ['COMMIT', 'ROLLBACK']), 'db|start');
    assert.equal(last(BEGIN, within('SELECT f()', 'SELECT 1'), ['ROLLBACK', 'ROLLBACK']), 'db|start');
    assert.equal(last(BEGIN, within('SELECT f()', 'SELECT 1'), ['COMMIT', 'COMMIT']), 'db');
    assert.equal(last(BEGIN, within('DROP SCHEMA start', 'DROP SCHEMA'), ['ROLLBACK', 'ROLLBACK']), 'db|start');
  });

  test('savepoints', () => {
    const [a, b] = [within('SAVEPOINT a', 'SAVEPOINT'), within('SAVEPOINT "B"', 'SAVEPOINT')];
    const back = (name: string) => within(`ROLLBACK TO SAVEPOINT ${name}`, 'ROLLBACK');
    const other = within('SET search_path TO other', 'SET');
    const local = within('SET LOCAL search_path TO loc', 'SET');
    assert.equal(last(BEGIN, a, SET, back('A')), 'db|start');
    assert.equal(last(BEGIN, SET, a, other, back('a')), 'db|app');
    assert.equal(last(BEGIN, SET, a, other, back('a'), ['COMMIT', 'COMMIT']), 'db|app');
    assert.equal(last(BEGIN, SET, a, local, within('RELEASE a', 'RELEASE'), ['COMMIT', 'COMMIT']), 'db|app');
    assert.equal(last(BEGIN, a, SET, b, other, within('ROLLBACK WORK TO "B"', 'ROLLBACK')), 'db|app');
    assert.equal(last(BEGIN, a, SET, b, other, within('ROLLBACK TO a', 'ROLLBACK')), 'db|start');
    assert.equal(last(BEGIN, a, SET, a, other, back('a'), within('RELEASE a', 'RELEASE'), back('a')), 'db|start');
    assert.equal(last(BEGIN, SET, back('unseen')), 'db');
    assert.equal(last(BEGIN, within('SAVEPOINT savepoint', 'SAVEPOINT'), SET, back('savepoint')), 'db|start');
    assert.equal(last(BEGIN, a, SET, ['SELECT 1/0', '22012', 'E'], back('a')), 'db|start');
  });

  test('savepoints beyond their limit', () => {
    const many = Array.from({ length: 65 }, (_, index) => within(`SAVEPOINT s${index}`, 'SAVEPOINT'));
    assert.equal(last(BEGIN, ...many, SET, within('ROLLBACK TO s1', 'ROLLBACK')), 'db|start');
    assert.equal(last(BEGIN, SET, ...many, within('ROLLBACK TO s0', 'ROLLBACK')), 'db');
  });

  test('the transaction that several statements of one text make', () => {
    const three = 'SET search_path TO app; SELECT 1; SELECT 1/0';
    assert.deepEqual(namespaces([[three, 'SET; SELECT 1; 22012']]), ['db|start', 'db|app', 'db|app', 'db|start']);
    assert.equal(last(['SET LOCAL search_path TO app; SELECT 1', 'SET; SELECT 1']), 'db|start');
    assert.equal(
      last(['SET search_path TO app; COMMIT; SET search_path TO b; SELECT 1/0', 'SET; COMMIT; SET; 22012']),
      'db|app',
    );
  });

  test('what was lost', () => {
    const bench = new PostgresBench().run(steps(begin()));
    bench.layer.gap(FROM_CLIENT, 50, 10);
    bench.run(steps([...segments(LAST), ...segments(['SET search_path TO app', 'SET'])], 11));
    bench.run(steps(segments(['SET search_path TO app', 'SET']), 2_000_000));
    bench.run(steps(segments(LAST), 2_000_010));
    bench.layer.gap(FROM_SERVER, 50, 2_000_020);
    bench.run(steps([...segments(LAST), ...segments(LAST)], 2_000_021));
    assert.deepEqual(
      bench.close().exchanges.map((e) => e.namespace),
      ['db', 'db', 'db', 'db|app', 'db', 'db'],
    );
  });

  test('the server says it, from PostgreSQL 18 on', () => {
    const reported = begin('', s.status('search_path', 'a, b'));
    const call: Said = ['SELECT f()', 'SELECT 1'];
    const bench = new PostgresBench().run(
      steps([
        ...reported,
        ...segments(call),
        ['C', c.query('SELECT f(); SELECT 2')],
        ['S', s.complete('SELECT 1'), s.complete('SELECT 1'), s.status('search_path', 'c'), s.ready()],
        ...segments(LAST),
      ]),
    );
    assert.deepEqual(
      bench.close().exchanges.map((e) => e.namespace),
      ['db|a', 'db|a', 'db', 'db|c'],
    );
  });
});
