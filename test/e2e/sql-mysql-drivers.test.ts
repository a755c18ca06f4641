/** Every driver of MySQL and MariaDB, plain and over TLS: its spans are what the server says, feature by feature. */
import assert from 'node:assert/strict';
import { after, before, suite, type TestContext, test } from 'node:test';
import { type AnsweredStatement, startGoMySql } from '../support/databases/go-mysql-server.ts';
import { startMariaDb } from '../support/databases/mariadb.ts';
import { MariaDbTruth } from '../support/databases/mariadb-truth.ts';
import { type DriverRun, driveOnGoMySql, driveOnMariaDb, driverRun } from '../support/databases/server.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { type Stopped, startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { MYSQL_DRIVERS, prepareDrivers } from '../support/sql/drivers.ts';
import { differences, namespaceOf, rowsOf, sqlOfPort, statementsOf, tableLines, textOf } from '../support/sql/spans.ts';

/** The performance schema counts the rows of these otherwise, or after they were sent. */
const ROWS_UNKNOWN = new Set(['cursor', 'bulk', 'call', 'cancel']);
/** It cuts the texts of these. */
const TEXTS_CUT = new Set(['binary', 'bulk']);
/** The log does not say the current database of these. */
const DATABASE_CHANGES = new Set(['session']);

/** Compares the spans of each run and feature; makes the table. */
function compareRuns(
  t: TestContext,
  title: string,
  runs: readonly DriverRun[],
  spans: readonly FlatSpan[],
  compare: (database: string, feature: string, own: readonly FlatSpan[]) => string[],
): void {
  const table = new Map<string, Map<string, string>>();
  const failures: string[] = [];
  for (const { prefix, features } of runs) {
    const row = new Map<string, string>();
    table.set(prefix, row);
    for (const feature of features) {
      const database = `${prefix}_${feature}`;
      const own = spans.filter((span) => namespaceOf(span) === database);
      const different = compare(database, feature, own);
      row.set(feature, different.length > 0 || own.length === 0 ? 'FAIL' : String(own.length));
      failures.push(...different.map((line) => `${prefix} ${feature}: ${line.slice(0, 300)}`));
      if (own.length === 0) failures.push(`${prefix} ${feature}: no span`);
    }
  }
  t.diagnostic(`${title}: statements that are alike in the spans and at the server, driver x TLS x feature`);
  for (const line of tableLines(table)) t.diagnostic(line);
  assert.deepEqual(failures, []);
  const known = new Set(
    [...table].flatMap(([prefix, row]) => [...row.keys()].map((feature) => `${prefix}_${feature}`)),
  );
  // The command-line client ends a statement over a connection without a database.
  const stray = spans.filter((span) => !known.has(namespaceOf(span)) && !/^KILL QUERY/.test(textOf(span)));
  assert.deepEqual(
    stray.map((span) => `${namespaceOf(span)}: ${textOf(span)}`),
    [],
  );
}

function systemsOf(spans: readonly FlatSpan[]): unknown[] {
  return [...new Set(spans.map((span) => span.attributes['db.system.name']))];
}

/** @param unasked answers that came without a request */
function assertUnharmed({ stats }: Stopped, unasked: boolean): void {
  const { request_not_seen = 0, ...incomplete } = stats.incomplete;
  assert.equal(request_not_seen > 0, unasked);
  assert.deepEqual([stats.packets.lost, stats.parseErrors], [0, {}]);
  assert.equal(stats.spans.made, stats.spans.exported);
  assert.deepEqual([stats.connections.undecryptable, incomplete], [{}, {}]);
}

suite('MySQL by every driver', () => {
  before(prepareDrivers);
  after(assertKernelClean);

  test('MariaDB, plain and over TLS', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix: within, path } = await newCgroup(cleanup);
    const mariadb = await startMariaDb(cleanup, { prefix: within });
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    const runs = MYSQL_DRIVERS.flatMap((driver) => [false, true].map((tls) => driverRun(driver, tls, { within })));
    for (const run of runs) await driveOnMariaDb(mariadb, run);
    const stopped = await agent.stop();
    const spans = stopped.spans.filter(sqlOfPort(mariadb.port));
    const truth = new MariaDbTruth(await mariadb.log(), await mariadb.ended());
    compareRuns(t, 'MariaDB', runs, spans, (database, feature, own) => {
      const known = [!ROWS_UNKNOWN.has(feature), !TEXTS_CUT.has(feature)] as const;
      return [
        ...differences(truth.spanOutcomes(database, own, ...known), truth.outcomes(database, ...known)),
        // `elsewhere`: what another feature ran here.
        ...(DATABASE_CHANGES.has(feature) || feature === 'plain'
          ? []
          : differences(truth.spanTexts(own), truth.texts(database))),
      ];
    });
    assert.deepEqual(systemsOf(spans), ['mariadb']);
    assertUnharmed(stopped, false);
  });

  test('the server in Go, which speaks as MySQL 8 does', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix: within, path } = await newCgroup(cleanup);
    // Neither end's TLS gives its secrets away where both are in Go or Java.
    const runs = MYSQL_DRIVERS.flatMap((driver) =>
      (driver.openSsl ? [false, true] : [false]).map((tls) =>
        driverRun(driver, tls, { features: driver.onGoMySql ?? [], within }),
      ),
    );
    // caching_sha2_password, in full as the server has not seen the user before, then from its cache.
    for (const driver of MYSQL_DRIVERS.filter(({ name }) => name === 'mysql2' || name === 'pymysql')) {
      runs.push(driverRun(driver, true, { prefix: `${driver.name}_sha2`, features: ['plain', 'errors'], within }));
    }
    const databases = runs.flatMap(({ prefix, features }) => features.map((feature) => `${prefix}_${feature}`));
    const server = await startGoMySql(cleanup, databases, within);
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    for (const run of runs)
      await driveOnGoMySql(run.prefix.endsWith('_sha2') ? { ...server, user: 'sha2' } : server, run);
    // Its client has gone, but the server answers all the same, two seconds after it was asked.
    await agent.waitForSpans(1, (span) => namespaceOf(span) === 'go_mysql_plain_cancel' && /sleep/.test(textOf(span)));
    const stopped = await agent.stop();
    const spans = stopped.spans.filter(sqlOfPort(server.port));
    const lineOfAnswer = ({ text, prepared, rows, affected, errorNumber }: AnsweredStatement) =>
      `error ${errorNumber}, ${rows + affected} rows: ${statementsOf('mysql', text, prepared)[0]?.text ?? ''}`;
    const lineOfSpan = (span: FlatSpan) =>
      `error ${span.attributes['db.response.status_code'] ?? 0}, ${rowsOf(span)} rows: ${textOf(span)}`;
    // This server goes on after an error in a text with several statements; a client has stopped reading there.
    const ended = server.ended().filter(({ text }) => !text.includes('never'));
    compareRuns(t, 'MySQL 8 in Go', runs, spans, (database, _feature, own) =>
      differences(own.map(lineOfSpan), ended.filter((answered) => answered.database === database).map(lineOfAnswer)),
    );
    assert.deepEqual(systemsOf(spans), ['mysql']);
    // It goes on after an error: see above.
    assertUnharmed(stopped, true);
  });
});
