/**
 * What a session of MariaDB is after each of its answers: the server says which database is current, how it reads literals, what prepared
 * statements run, how many rows each statement returns; the spans say the same, or nothing.
 */
import assert from 'node:assert/strict';
import { after, suite, type TestContext, test } from 'node:test';
import { startMariaDb } from '../support/databases/mariadb.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { inside, startAgentOf } from '../support/programs/inside.ts';
import { nodeProgram } from '../support/sql/drivers.ts';
import { namespaceOf, sqlOfPort, statementsOf, textOf } from '../support/sql/spans.ts';

type Command = Record<string, unknown>;
interface Outcome {
  rows?: number;
  affected?: number;
  error?: number;
  firstRow?: string;
}
/** A step: commands that are sent at once. */
type Step = readonly Command[];

const q = (query: string): Command => ({ query });
const MARKER = /planted/;

/** Runs the steps on one connection; returns what the server answered, command by command, and the spans in their order. */
async function converse(t: TestContext, steps: readonly Step[], options: object = {}, args: readonly string[] = []) {
  const cleanup = cleanupAfter(t);
  const cgroup = await newCgroup(cleanup);
  const mariadb = await startMariaDb(cleanup, { prefix: cgroup.prefix, args });
  await mariadb.sql('CREATE DATABASE scene');
  const agent = await startAgentOf(cleanup, cgroup);
  const { words, env } = await nodeProgram('mysql-script');
  const { host, port, user, password } = mariadb;
  const [command, ...rest] = [
    ...words,
    JSON.stringify({ host, port, user, password, database: 'scene', steps, ...options }),
  ];
  const { stdout } = await inside(cgroup).run(command!, rest, { env, timeoutMs: 60_000 });
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Outcome[][]);
  assert.equal(answers.length, steps.length);
  const log = await mariadb.log();
  const stopped = await agent.stop();
  assert.deepEqual([stopped.stats.parseErrors, stopped.stats.incomplete, stopped.stats.packets.lost], [{}, {}, 0]);
  const spans = stopped.spans.filter(sqlOfPort(port));
  for (const span of spans) assert.doesNotMatch(JSON.stringify(span), MARKER);
  return { answers, spans: spans.sort((a, b) => a.startUs - b.startUs || placeOf(a) - placeOf(b)), log };
}

const placeOf = (span: FlatSpan): number => Number(span.attributes['wirespan.db.batch.index'] ?? 0);
const numberOf = (span: FlatSpan, key: string): number | undefined => span.attributes[key] as number | undefined;

/** What a span says of an outcome, as the client prints it. */
function outcomeOf(span: FlatSpan): string {
  const rows = numberOf(span, 'db.response.returned_rows');
  const affected = numberOf(span, 'wirespan.db.response.affected_rows');
  return `${span.name}: ${rows ?? '-'} ${affected ?? '-'} ${span.attributes['db.response.status_code'] ?? ''}`.trim();
}

suite('MySQL: what the server has answered', () => {
  after(assertKernelClean);

  for (const track of [false, true]) {
    test(`the current database, ${track ? 'with' : 'without'} session tracking`, async (t) => {
      const changes = [
        'CREATE DATABASE one; USE one',
        'DROP DATABASE one',
        'CREATE DATABASE `t``wo`; USE `t``wo`; DROP DATABASE IF EXISTS TWO',
        'DROP DATABASE nope',
        'DROP DATABASE IF EXISTS nope',
        'DROP SCHEMA `t``wo`',
        'USE scene',
        'SET sql_mode = ANSI_QUOTES; CREATE DATABASE three',
        'USE "three"',
        'DROP DATABASE "three"',
        'SET sql_mode = DEFAULT; CREATE DATABASE four; USE nope',
        '/*!50000 USE four */',
        "EXECUTE IMMEDIATE 'USE scene'",
        "PREPARE p FROM 'USE four'; EXECUTE p",
        "EXECUTE IMMEDIATE 'DROP DATABASE four'",
        'USE scene; CREATE DATABASE five; CREATE PROCEDURE scene.drop_it() DROP DATABASE five; USE five',
        'CALL scene.drop_it()',
        'USE scene; BEGIN NOT ATOMIC CREATE DATABASE six; DROP DATABASE six; END',
        'USE scene; SET @u = "USE mysql"; EXECUTE IMMEDIATE @u',
        'USE scene; SELECT * FROM nope',
        '/*!99999 USE mysql */',
      ];
      const ask = q('SELECT database()');
      // One after the other, then in one flight each.
      const steps = [
        ...changes.flatMap((sql): Step[] => [[q(sql)], [ask]]),
        ...changes.map((sql): Step => [q(sql), ask]),
      ];
      steps.push([{ initDb: 'mysql' }, ask, { initDb: 'nope' }, ask, { resetConnection: 1 }, ask]);
      const { answers, spans } = await converse(t, steps, { track, deprecateEof: track });
      const truth = answers
        .flat()
        .flat()
        .filter(({ firstRow }) => firstRow !== undefined)
        .map(({ firstRow }) => (firstRow!.charCodeAt(0) === 0xfb ? '' : firstRow!.slice(1)));
      const asked = spans.filter((span) => textOf(span) === 'SELECT database()');
      assert.equal(asked.length, truth.length);
      const said = asked.map(namespaceOf);
      const wrong = said.flatMap((name, i) =>
        name === truth[i] || name === '' ? [] : [`${i}: ${name}, not ${truth[i]}`],
      );
      assert.deepEqual(wrong, []);
      // Not known without session tracking: what a variable holds that is executed, and which databases a routine or a block drops.
      const asks = [...changes, ...changes, 'USE', 'USE', 'reset'];
      const unknown = said.flatMap((name, i) => (name === '' && truth[i] !== '' ? [asks[i]] : []));
      const dropped = changes.find((sql) => sql.includes('NOT ATOMIC'));
      const executed = changes.find((sql) => sql.includes('IMMEDIATE @u'));
      // The second time the text before it ends early, and it drops another one.
      const called = 'CALL scene.drop_it()';
      assert.deepEqual(unknown, track ? [] : [dropped, executed, called, dropped, executed]);
    });
  }

  test('literals stay, whatever rules the server reads them by', async (t) => {
    const escaped = "SELECT 'it\\'s planted', 'planted'";
    const plain = "SELECT 'planted\\', 'planted'";
    const both: Step[] = [[q(escaped)], [q(plain)]];
    const gbk = { latin1: "SELECT '\u00bf\\', 'planted', 'x\u00bf\\'" };
    const changes = [
      "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
      'SET sql_mode = DEFAULT',
      "SET @m = 'NO_BACKSLASH_ESCAPES'; SET SESSION sql_mode = @m",
      'SET @@sql_mode := DEFAULT',
      "EXECUTE IMMEDIATE 'SET sql_mode = ''NO_BACKSLASH_ESCAPES'''",
      'SET sql_mode = DEFAULT',
      'CALL sets_mode()',
      'SELECT sets_mode_too()',
      'SET sql_mode = DEFAULT',
      'SET STATEMENT sql_mode = NO_BACKSLASH_ESCAPES FOR SELECT 1',
      'BEGIN NOT ATOMIC SET sql_mode = NO_BACKSLASH_ESCAPES; END',
      'SET sql_mode = DEFAULT',
      'SET NAMES gbk',
      'SET NAMES utf8mb4',
      'SELECT sets_names()',
      "SET @n = 'gbk'; SET character_set_client = @n",
      'SET NAMES utf8mb4',
      "EXECUTE IMMEDIATE 'SET NAMES gbk'",
      'SET CHARACTER SET utf8mb4',
      '/*!50503 SET NAMES gbk */',
      'SET NAMES utf8mb4',
      "SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'",
    ];
    const routines = [
      'CREATE PROCEDURE sets_mode() SET sql_mode = NO_BACKSLASH_ESCAPES',
      'CREATE FUNCTION sets_mode_too() RETURNS INT BEGIN SET sql_mode = NO_BACKSLASH_ESCAPES; RETURN 1; END',
      'CREATE FUNCTION sets_names() RETURNS INT BEGIN SET NAMES gbk; RETURN 1; END',
    ];
    const steps: Step[] = [
      ...routines.map((sql): Step => [q(sql)]),
      ...changes.flatMap((sql): Step[] => [
        [q(sql)],
        ...both,
        [gbk],
        [q(sql), q(escaped), gbk],
        [q(sql), q(plain)],
        [q(`${sql}; ${escaped}`)],
        [q(`${sql}; ${plain}`)],
      ]),
      [{ resetConnection: 1 }, q(escaped), q(plain)],
      ...both,
      [{ changeUser: { database: 'scene' } }],
      ...both,
      ...[50_700, 80_000, 99_999, 101_099, 101_199, 999_999].map(
        (version): Step => [q(`SELECT /*!${version} planted, */ 1, /*M!${version} planted, */ 2`)],
      ),
    ];
    const { answers, spans } = await converse(t, steps, {}, ['--init-connect=SET sql_mode = NO_BACKSLASH_ESCAPES']);
    assert.ok(answers.flat().flat().length > 200);
    const withText = spans.filter((span) => textOf(span) !== '').length;
    t.diagnostic(`${withText} of ${spans.length} spans have a text`);
    assert.ok(withText > spans.length / 3);
  });

  test('prepared statements are what the server has of them', async (t) => {
    const prepare = (sql: string): Command => ({ prepare: sql });
    const last: Command = { execute: 'last' };
    const steps: Step[] = [
      [prepare("SELECT 'planted', 1 AS a"), last],
      [prepare('SELECT 2 AS b')],
      [last],
      [prepare('SELECT nope'), last],
      [last],
      [prepare('SELECT 3 AS c'), last, { close: 'last' }, last],
      [prepare('SELECT 4 AS d'), { resetConnection: 1 }, last],
      [prepare('SELECT 5 AS e'), last, { changeUser: { database: 'scene' } }],
      [last],
      [
        q("PREPARE p FROM 'SELECT 6 AS f'"),
        q('EXECUTE p'),
        q("PREPARE p FROM 'SELECT nope'"),
        q('EXECUTE p'),
        q('DEALLOCATE PREPARE p'),
      ],
      [prepare('CREATE OR REPLACE TABLE filled (a INT)'), last],
    ];
    const { answers, spans, log } = await converse(t, steps);
    // The general log has an entry of each execution, with its text.
    const run = log
      .filter(({ command }) => command === 'Execute')
      .map(({ argument }) => statementsOf('mysql', argument, true)[0]!.text);
    const bySql = /^(?:PREPARE|EXECUTE|DEALLOCATE)/;
    const prepared = spans.filter((span) => !bySql.test(textOf(span)) && span.status.code === 0);
    const executed = run.filter((text) => !text.includes('AS f'));
    assert.deepEqual(prepared.map(textOf), executed);
    const errors = answers
      .flat()
      .flat()
      .filter(({ error }) => error !== undefined).length;
    assert.equal(spans.filter((span) => span.status.code === 2).length, errors);
  });

  for (const deprecateEof of [false, true]) {
    test(`results belong to their statements, ${deprecateEof ? 'without' : 'with'} EOF packets`, async (t) => {
      const load = "LOAD DATA LOCAL INFILE 'f' INTO TABLE item";
      const steps: Step[] = [
        [q('CREATE TABLE item (a INT); CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 1 UNION SELECT 2; END')],
        [q('CREATE PROCEDURE none() BEGIN END; CREATE PROCEDURE fails() BEGIN SELECT 1; SELECT * FROM nope; END')],
        [q("EXECUTE IMMEDIATE 'CALL two()'; SELECT 1 UNION SELECT 2")],
        [q("SET @c = 'CALL two()'; EXECUTE IMMEDIATE @c; EXECUTE IMMEDIATE concat('CALL ', 'none()'); SELECT 3")],
        [q("PREPARE p FROM 'CALL two()'; EXECUTE p; EXECUTE p; DO 1")],
        [q('IF 1 THEN SELECT 1; SELECT 2; END IF; FOR i IN 1..3 DO SELECT i; END FOR; SELECT 4')],
        [q('SET STATEMENT max_statement_time=9 FOR CALL two(); SELECT 5')],
        [q("EXECUTE IMMEDIATE 'CALL fails()'; SELECT 6")],
        [q('SELECT 1; SELECT 2; SELCT 3; SELECT 4')],
        [{ file: ['1\n2\n'] }, { file: ['3\n'] }, q(`${load}; ${load}; SELECT count(*) FROM item`)],
        [{ file: [] }, { file: ['4\nx\n'] }, q(`${load}; ${load} (a); ${load.replace('item', 'nope')}`)],
        [{ prepare: load }],
        [{ file: ['5\n'] }, { execute: 'last' }],
        [
          { option: 1 },
          q('SELECT 1; SELECT 2'),
          { option: 7 },
          q('SELECT 1; SELECT 2'),
          { option: 0 },
          q('SELECT 1; SELECT 2'),
        ],
      ];
      const { answers, spans } = await converse(t, steps, { deprecateEof });
      // Sums over what was answered and over what the spans say.
      const results = answers.flat().flat();
      const sum = (values: (number | undefined)[]) => values.reduce<number>((all, value) => all + (value ?? 0), 0);
      const rows = sum(results.map((each) => each.rows));
      assert.equal(sum(spans.map((span) => numberOf(span, 'db.response.returned_rows'))), rows);
      assert.deepEqual(spans.slice(4).map(outcomeOf), [
        ...['EXECUTE IMMEDIATE: 3 0', 'SELECT: 2 -'],
        ...['SET @c: - 0', 'EXECUTE IMMEDIATE: 3 0', 'EXECUTE IMMEDIATE concat: - 0', 'SELECT: 1 -'],
        ...['PREPARE: - 0', 'EXECUTE p: 3 0', 'EXECUTE p: 3 0', 'DO: - 0'],
        ...['IF: 2 0', 'FOR: 3 0', 'SELECT: 1 -'],
        ...['SET STATEMENT: 3 0', 'SELECT: 1 -'],
        'EXECUTE IMMEDIATE: 1 - 1146',
        ...['SELECT: 1 -', 'SELECT: 1 -', 'SELCT: - - 1064'],
        ...['LOAD item: - 2', 'LOAD item: - 1', 'SELECT item: 1 -'],
        ...['LOAD item: - 0', 'LOAD item: - 2', 'LOAD nope: - - 1146'],
        'LOAD item: - 1',
        ...['SELECT SELECT: - - 1064', 'SELECT SELECT: - - 1064', 'SELECT: 1 -', 'SELECT: 1 -'],
      ]);
    });
  }
});
