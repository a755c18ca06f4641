/** The databases and drivers of the SQL tests, tested without the agent: a failure here says that the machine or the means are at fault. */
import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import { csvRecords } from '../support/databases/csv.ts';
import { startGoMySql } from '../support/databases/go-mysql-server.ts';
import { startMariaDb } from '../support/databases/mariadb.ts';
import { startPostgres } from '../support/databases/postgres.ts';
import { driveOnGoMySql, driveOnMariaDb, driveOnPostgres, driverRun } from '../support/databases/server.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';
import { MYSQL_DRIVERS, POSTGRES_DRIVERS, prepareDrivers } from '../support/sql/drivers.ts';

test('comma-separated values with quotes, lines in values and a record that is not whole', () => {
  assert.deepEqual(csvRecords('a,"b ""c"", d",\n"line\nline",,"",x\n1,"not wh'), [
    ['a', 'b "c", d', ''],
    ['line\nline', '', '', 'x'],
  ]);
});

for (const version of ['debian', '18'] as const) {
  test(`PostgreSQL (${version}) logs and counts every statement, plain and over TLS`, async (t) => {
    const cleanup = cleanupAfter(t);
    const postgres = await startPostgres(cleanup, { version });
    if (version === '18') assert.equal(postgres.major, 18);
    await postgres.sql(['CREATE DATABASE counted']);
    for (const tls of [false, true]) {
      const words = ['-XqAtc', "SELECT 'a,\"b\n'", '-c', 'SELECT nope', '-c', 'SELECT 1; SELECT 2'];
      await run('psql', words, { env: postgres.env({ tls, database: 'counted' }) });
    }
    const logged = await postgres.waitForStatements(6, ({ database }) => database === 'counted');
    const wanted = [
      ["SELECT 'a,\"b\n'", '00000'],
      ['SELECT nope', '42703'],
      ['SELECT 1; SELECT 2', '00000'],
    ];
    assert.deepEqual(
      logged.map(({ text, state }) => [text, state]),
      [...wanted, ...wanted],
    );
    const counts = (await postgres.counts()).filter(({ database }) => database === 'counted');
    assert.deepEqual(
      // Queries that differ in the types of their constants are lines of their own.
      counts.map(({ query, calls, rows }) => [query, calls, rows]).sort(),
      [
        ['SELECT $1', 2, 2],
        ['SELECT $1', 4, 4],
      ],
    );
  });
}

test('MariaDB logs every statement, with the rows of each', async (t) => {
  const cleanup = cleanupAfter(t);
  const mariadb = await startMariaDb(cleanup);
  await mariadb.sql('CREATE DATABASE counted');
  await mariadb.forget();
  const words = [
    '--no-defaults',
    '-h',
    mariadb.host,
    '-P',
    String(mariadb.port),
    '-u',
    mariadb.user,
    '--ssl-verify-server-cert',
  ];
  const script = "SELECT seq, 'a\tb' FROM seq_1_to_3; SELECT nope";
  const { MYSQL_PWD } = { MYSQL_PWD: mariadb.password };
  await assert.rejects(
    run('mariadb', [...words, `--ssl-ca=${mariadb.certificate.certFile}`, 'counted', '-e', script], {
      env: { MYSQL_PWD },
    }),
    /1054/,
  );
  const log = await until(async () => {
    const entries = await mariadb.log();
    return entries.at(-1)?.command === 'Quit' ? entries : undefined;
  }, 'the end of the connection in the log');
  assert.deepEqual(
    log.map(({ command, argument, database }) => [command, argument, database]),
    [
      ['Connect', 'admin@127.0.0.1 on counted using SSL/TLS', 'counted'],
      ['Query', "SELECT seq, 'a\tb' FROM seq_1_to_3", 'counted'],
      ['Query', 'SELECT nope', 'counted'],
      ['Quit', '', 'counted'],
    ],
  );
  const ended = (await mariadb.ended()).filter(({ database }) => database === 'counted');
  assert.deepEqual(
    ended.map(({ event, rowsSent, errorNumber }) => [event, rowsSent, errorNumber]),
    [
      ['statement/sql/select', 3, 0],
      ['statement/sql/select', 0, 1054],
      ['statement/com/Quit', 0, 0],
    ],
  );
});

suite('every driver finds its server over TLS', () => {
  before(prepareDrivers);
  // All their features are run under the agent.
  const features = ['plain'];
  test('with PostgreSQL', async (t) => {
    const postgres = await startPostgres(cleanupAfter(t));
    for (const driver of POSTGRES_DRIVERS) await driveOnPostgres(postgres, driverRun(driver, true, { features }));
  });
  test('with MariaDB', async (t) => {
    const mariadb = await startMariaDb(cleanupAfter(t));
    for (const driver of MYSQL_DRIVERS) await driveOnMariaDb(mariadb, driverRun(driver, true, { features }));
  });
  test('with the server in Go, which says what it answered', async (t) => {
    const runs = MYSQL_DRIVERS.map((driver) => driverRun(driver, true, { features }));
    const server = await startGoMySql(
      cleanupAfter(t),
      runs.map(({ prefix }) => `${prefix}_plain`),
    );
    for (const each of runs) await driveOnGoMySql(server, each);
    for (const { prefix } of runs) {
      const own = server
        .ended()
        .filter(({ database, text }) => database === `${prefix}_plain` && /\bitem\b/.test(text));
      assert.deepEqual(
        own.map(({ rows, affected, errorNumber }) => [rows, affected, errorNumber]),
        [
          ...[
            [0, 0, 0],
            [0, 3, 0],
            [1, 0, 0],
          ],
          ...[
            [0, 2, 0],
            [0, 1, 0],
            [1, 0, 0],
          ],
        ],
        prefix,
      );
    }
  });
});
