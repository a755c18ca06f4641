/** Every driver of PostgreSQL, plain and over TLS: its spans are what the server's log and pg_stat_statements say, feature by feature. */
import assert from 'node:assert/strict';
import { after, before, suite, type TestContext, test } from 'node:test';
import {
  type CountedStatement,
  type LoggedStatement,
  type Postgres,
  startPostgres,
} from '../support/databases/postgres.ts';
import { type DriverRun, driveOnPostgres, driverRun } from '../support/databases/server.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { type Stats, type Stopped, startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { type FeatureTime, POSTGRES_DRIVERS, prepareDrivers } from '../support/sql/drivers.ts';
import { differences, namespaceOf, rowsOf, sqlOfPort, statementsOf, tableLines, textOf } from '../support/sql/spans.ts';

/** What a span says in the terms of the log: its text and its SQLSTATE. */
const lineOf = (span: FlatSpan) => `${span.attributes['db.response.status_code'] ?? '00000'} ${textOf(span)}`;

/** The lines that the spans of a logged text should have. */
function linesOf({ text, kind, state }: LoggedStatement): string[] {
  // A portal that was continued is still one statement.
  if (kind === 'fetch') return [];
  const statements = statementsOf('postgresql', text, kind !== 'simple');
  if (state === '00000') return statements.map((statement) => `00000 ${statement.text}`);
  // Of a text with several statements the log says only that one failed: here it is the one that names what is not there.
  const bad = Math.max(
    0,
    statements.findIndex((statement) => statement.text.includes('nope')),
  );
  const at = statements.length > 1 ? bad : 0;
  return statements.slice(0, at + 1).map((statement, index) => `${index === at ? state : '00000'} ${statement.text}`);
}

const databaseOf = (span: FlatSpan) => namespaceOf(span).split('|')[0];

/** Milliseconds that the statements took that did not fail. */
const spanTime = (spans: readonly FlatSpan[]) =>
  spans.reduce((sum, { startUs, endUs, status }) => sum + (status.code === 2 ? 0 : (endUs - startUs) / 1000), 0);
const logTime = (log: readonly LoggedStatement[]) =>
  log.reduce((sum, { durationMs }) => sum + Math.max(0, durationMs), 0);

/** Each run cancels one statement, one driver a second one with another version of the protocol. */
const cancelled = (runs: readonly DriverRun[]) =>
  runs.flatMap(({ features }) => features.filter((feature) => feature === 'cancel' || feature === 'newest')).length;

interface Done {
  run: DriverRun;
  times: FeatureTime[];
}

interface Facts {
  postgres: Postgres;
  done: readonly Done[];
  spans: readonly FlatSpan[];
  log: readonly LoggedStatement[];
  counts: readonly CountedStatement[];
}

/** Texts and SQLSTATEs are those of the log, feature by feature; makes the table. */
function compareTexts({ done, spans, log }: Facts, table: Map<string, Map<string, string>>): string[] {
  const failures: string[] = [];
  for (const { run, times } of done) {
    const own = spans.filter((span) => databaseOf(span) === run.prefix);
    const row = new Map<string, string>();
    table.set(run.prefix, row);
    for (const { feature, startMs, endMs } of times) {
      const inTime = own.filter(({ startUs }) => startUs / 1000 >= startMs - 5 && startUs / 1000 <= endMs + 5);
      const truth = log.filter(({ user }) => user === `${run.prefix}_${feature}`).flatMap(linesOf);
      const different = differences(inTime.map(lineOf), truth);
      row.set(feature, different.length === 0 ? String(truth.length) : 'FAIL');
      failures.push(...different.map((line) => `${run.prefix} ${feature}: ${line}`));
      // The server's own measure is a part of the span's, which has the way to the client in it.
      const [spanMs, logMs] = [
        spanTime(inTime),
        logTime(log.filter(({ user }) => user === `${run.prefix}_${feature}`)),
      ];
      if (spanMs < logMs) failures.push(`${run.prefix} ${feature}: ${spanMs} ms in the spans, ${logMs} ms in the log`);
    }
  }
  return failures;
}

/** Runs drivers, one after the other. */
async function driveAll(postgres: Postgres, runs: readonly DriverRun[]): Promise<Done[]> {
  const done: Done[] = [];
  for (const run of runs) done.push({ run, times: await driveOnPostgres(postgres, run) });
  return done;
}

/**
 * Compares everything.
 * @param stopped the agent's, once it has ended: nothing is on its way any more
 * @param hidden databases of drivers whose statements are not seen; the tests' own psql makes them
 */
async function compareAll(
  t: TestContext,
  stopped: Stopped,
  postgres: Postgres,
  done: readonly Done[],
  hidden: readonly string[] = [],
): Promise<void> {
  const spans = stopped.spans.filter(sqlOfPort(postgres.port));
  const facts = { postgres, done, spans, log: await postgres.allStatements(), counts: await postgres.counts() };
  const table = new Map<string, Map<string, string>>();
  const failures = [...compareTexts(facts, table), ...compareCounts(facts)];
  t.diagnostic(
    `PostgreSQL ${postgres.major}: statements that are alike in the spans and in the log, driver x TLS x feature`,
  );
  for (const line of tableLines(table)) t.diagnostic(line);
  if (failures.length > 0) t.diagnostic(JSON.stringify(stopped.stats));
  assert.deepEqual(failures, []);
  // Those of the tests' own psql are in other databases.
  const known = new Set([...done.map(({ run }) => run.prefix), ...hidden]);
  assert.deepEqual(
    [...new Set(spans.map(databaseOf))].filter((name) => !known.has(name ?? '')),
    ['postgres'],
  );
}

/** Of one database, calls and rows by summary. */
class Sums {
  readonly #sums = new Map<string, { calls: number; rows: number }>();

  add(summary: string, calls: number, rows: number): void {
    // EXECUTE is counted as what it stands for, PREPARE and DEALLOCATE are not counted: there is nothing to compare.
    if (/^(PREPARE|EXECUTE|DEALLOCATE)\b/.test(summary)) return;
    const sum = this.#sums.get(summary) ?? { calls: 0, rows: 0 };
    this.#sums.set(summary, { calls: sum.calls + calls, rows: sum.rows + rows });
  }

  lines(withoutRows: ReadonlySet<string>): string[] {
    return [...this.#sums].map(
      ([summary, { calls, rows }]) => `${calls} calls, ${withoutRows.has(summary) ? '?' : rows} rows of ${summary}`,
    );
  }
}

const summaryOf = (text: string) => statementsOf('postgresql', text, true)[0]?.summary ?? '';

/** Calls and rows by summary are those of pg_stat_statements, which has no failures. */
function compareCounts(facts: Facts): string[] {
  const { postgres, done, spans, log, counts } = facts;
  return done.flatMap(({ run: { prefix } }) => {
    const ours = new Sums();
    const truth = new Sums();
    for (const span of spans) {
      if (databaseOf(span) !== prefix || span.status.code === 2) continue;
      ours.add(String(span.attributes['db.query.summary'] ?? ''), 1, rowsOf(span));
    }
    for (const { database, query, calls, rows } of counts) {
      if (database === prefix) truth.add(summaryOf(query), calls, rows);
    }
    // Before 16 it counts only the last rows of a portal that was continued.
    const cut = postgres.major < 16 ? log.filter(({ database, kind }) => database === prefix && kind === 'fetch') : [];
    const withoutRows = new Set(cut.map(({ text }) => summaryOf(text)));
    return differences(ours.lines(withoutRows), truth.lines(withoutRows)).map((line) => `${prefix}: ${line}`);
  });
}

/** An agent that sees the server and the drivers, and nothing else. */
async function setUp(cleanup: Cleanup, version: 'debian' | '18') {
  const cgroup = await newCgroup(cleanup);
  const postgres = await startPostgres(cleanup, { version, prefix: cgroup.prefix });
  const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
  return { postgres, agent, within: cgroup.prefix };
}

/** Nothing was lost. What a server skips after an error in a pipeline is counted; its log does not have it either. */
function assertWhole({ packets, parseErrors, incomplete }: Stats): void {
  const { not_run, ...others } = incomplete;
  assert.ok(not_run! > 0);
  assert.deepEqual([packets.lost, parseErrors, others], [0, {}, {}]);
}

suite('PostgreSQL by every driver', () => {
  before(prepareDrivers);
  after(assertKernelClean);

  test('PostgreSQL from Debian, plain and over TLS', async (t) => {
    const cleanup = cleanupAfter(t);
    const { postgres, agent, within } = await setUp(cleanup, 'debian');
    const runs = POSTGRES_DRIVERS.flatMap((driver) => [false, true].map((tls) => driverRun(driver, tls, { within })));
    const done = await driveAll(postgres, runs);
    const stopped = await agent.stop();
    await compareAll(t, stopped, postgres, done);
    const { stats } = stopped;
    assertWhole(stats);
    assert.deepEqual(stats.connections.undecryptable, {});
    assert.deepEqual(stats.connections.opaque, { postgresql_cancel: cancelled(runs) });
  });

  test('PostgreSQL 18, plain, over TLS, and over TLS from the first byte', async (t) => {
    const cleanup = cleanupAfter(t);
    const { postgres, agent, within } = await setUp(cleanup, '18');
    // The OpenSSL 1.1.1 that this server brings gives no secrets away: they are the client's.
    const secrets = POSTGRES_DRIVERS.filter(({ openSsl }) => openSsl);
    const direct = secrets.filter(({ name }) => name !== 'psql' && name !== 'postgres_js');
    const runs = [
      ...POSTGRES_DRIVERS.map((driver) => driverRun(driver, false, { within })),
      ...secrets.map((driver) => driverRun(driver, true, { within })),
      ...direct.map((driver) => driverRun(driver, true, { direct: true, prefix: `${driver.name}_direct`, within })),
    ];
    const done = await driveAll(postgres, runs);
    // Where no end gives its secrets away, that is said, and nothing is made up.
    const hidden = POSTGRES_DRIVERS.filter(({ openSsl }) => !openSsl);
    for (const driver of hidden)
      await driveOnPostgres(postgres, driverRun(driver, true, { within, features: ['plain'] }));
    const stopped = await agent.stop();
    const names = hidden.map(({ name }) => `${name}_tls`);
    await compareAll(t, stopped, postgres, done, names);
    const { stats, spans } = stopped;
    assertWhole(stats);
    assert.equal(stats.connections.tls - stats.connections.decrypted, hidden.length);
    assert.deepEqual(stats.connections.opaque, { postgresql_cancel: cancelled(runs) });
    assert.equal(
      Object.values(stats.connections.undecryptable).reduce((sum, count) => sum + count, 0),
      hidden.length,
    );
    assert.deepEqual(
      spans.filter((span) => span.kind === 'CLIENT' && names.includes(databaseOf(span) ?? '')),
      [],
    );
  });
});
