/** pgbench in all its modes: calls and rows by summary are exactly those of pg_stat_statements. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { type CountedStatement, type LoggedStatement, startPostgres } from '../support/databases/postgres.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';
import { differences, namespaceOf, rowsOf, sqlOfPort, statementsOf } from '../support/sql/spans.ts';

const CLIENTS = 4;
const TRANSACTIONS = 60;

/** Seven statements a transaction. */
const TPC_B = '-b tpcb-like';
const PIPELINE = `
\\set aid random(1, 100000)
\\set delta random(-5000, 5000)
\\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT aid FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 9;
END;
\\endpipeline
`;

interface Sum {
  calls: number;
  rows: number;
}

function sums(parts: readonly (Sum & { summary: string })[]): string[] {
  const all = new Map<string, Sum>();
  for (const { summary, calls, rows } of parts) {
    const sum = all.get(summary) ?? { calls: 0, rows: 0 };
    all.set(summary, { calls: sum.calls + calls, rows: sum.rows + rows });
  }
  return [...all].map(([summary, { calls, rows }]) => `${calls} calls, ${rows} rows: ${summary}`);
}

const summaryOf = (text: string) => statementsOf('postgresql', text, true)[0]?.summary ?? '';

/**
 * Of a prepared statement that is no query (BEGIN, END) pg_stat_statements counts only the first execution: it takes the query's id out
 * of the plan that is kept. The log has them all.
 */
function sumsOfServer(counts: readonly CountedStatement[], log: readonly LoggedStatement[], prepared: boolean) {
  const utility = (text: string) => prepared && /^(BEGIN|END);?$/.test(text);
  return sums([
    ...counts
      .filter(({ query }) => !utility(query))
      .map(({ query, calls, rows }) => ({ calls, rows, summary: summaryOf(query) })),
    ...log.filter(({ text }) => utility(text)).map(({ text }) => ({ calls: 1, rows: 0, summary: summaryOf(text) })),
  ]);
}

const sumsOfSpans = (spans: readonly FlatSpan[]) =>
  sums(spans.map((span) => ({ summary: span.name, calls: 1, rows: rowsOf(span) })));

suite('pgbench', () => {
  after(assertKernelClean);

  for (const version of ['debian', '18'] as const) {
    test(`PostgreSQL (${version}): simple, extended, prepared and pipelined, plain and over TLS`, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const postgres = await startPostgres(cleanup, { version, prefix: cgroup.prefix });
      const script = join(postgres.folder, 'pipeline.sql');
      await writeFile(script, PIPELINE);
      await postgres.sql(['CREATE DATABASE bench']);
      await run('pgbench', ['-q', '-i', '-s', '1'], { env: postgres.env({ database: 'bench' }) });
      const modes = [
        { name: 'simple', words: [...TPC_B.split(' '), '-M', 'simple'], statements: 7 },
        { name: 'extended', words: [...TPC_B.split(' '), '-M', 'extended'], statements: 7 },
        { name: 'prepared', words: [...TPC_B.split(' '), '-M', 'prepared'], statements: 7 },
        { name: 'pipeline_extended', words: ['-f', script, '-M', 'extended'], statements: 5 },
        { name: 'pipeline_prepared', words: ['-f', script, '-M', 'prepared'], statements: 5 },
      ];
      const runs = modes.flatMap((mode) =>
        [false, true].map((tls) => ({ ...mode, tls, database: `${mode.name}_${tls ? 'tls' : 'plain'}` })),
      );
      for (const { database } of runs) await postgres.sql([`CREATE DATABASE ${database} TEMPLATE bench`]);
      const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
      for (const { words, tls, database } of runs) {
        const load = ['-n', '-c', String(CLIENTS), '-j', '2', '-t', String(TRANSACTIONS)];
        const [command, ...args] = [...cgroup.prefix, 'pgbench', ...load, ...words];
        await run(command!, args, { env: postgres.env({ tls, database }), timeoutMs: 120_000 });
      }
      const { stats, spans: all } = await agent.stop();
      const spans = all.filter(sqlOfPort(postgres.port));
      const counts = await postgres.counts();
      const log = await postgres.allStatements();
      const failures: string[] = [];
      for (const { database, statements } of runs) {
        const own = spans.filter((span) => namespaceOf(span).split('|')[0] === database);
        const logged = log.filter((statement) => statement.database === database);
        const counted = counts.filter((statement) => statement.database === database);
        const truth = sumsOfServer(counted, logged, database.includes('prepared'));
        const different = [
          ...differences(sumsOfSpans(own), truth),
          ...differences(
            own.map(({ name }) => name),
            logged.map(({ text }) => summaryOf(text)),
          ),
        ];
        failures.push(...different.map((line) => `${database}: ${line}`));
        const inside = own.filter((span) => span.attributes['wirespan.db.transaction'] === 'active');
        const begins = own.filter((span) => span.name === 'BEGIN');
        t.diagnostic(`${database}: ${own.length} spans`);
        // All but BEGIN are inside of their transaction.
        const transactions = CLIENTS * TRANSACTIONS;
        assert.deepEqual(
          [database, begins.length, inside.length],
          [database, transactions, transactions * (statements - 1)],
        );
      }
      assert.deepEqual(failures, []);
      assert.deepEqual([stats.packets.lost, stats.parseErrors, stats.incomplete], [0, {}, {}]);
      assert.equal(stats.exchanges.postgresql, all.length);
      assert.equal(stats.connections.decrypted, stats.connections.tls);
    });
  }
});
