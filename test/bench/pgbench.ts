/** PostgreSQL and pgbench for the benchmarks. */
import { join } from 'node:path';
import { type Postgres, startPostgres } from '../support/databases/postgres.ts';
import type { Cleanup } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';

const SCALE = 10;
/** Without what the tests need and a measurement does not: statements logged and counted one by one. */
const QUIET = ['log_min_duration_statement = -1', "shared_preload_libraries = ''"];

/**
 * A server for measurements, with pgbench's tables.
 * @param prefix of a cgroup, which the processes that serve its clients then belong to
 */
export async function benchPostgres(cleanup: Cleanup, prefix: readonly string[]): Promise<Postgres> {
  const postgres = await startPostgres(cleanup, { config: QUIET, prefix });
  await pgbench(postgres, [], ['-i', '-q', '-s', String(SCALE)], false);
  return postgres;
}

/** @param prefix runs before it on its command line, such as that of a cgroup */
export async function pgbench(
  postgres: Postgres,
  prefix: readonly string[],
  args: readonly string[],
  tls = true,
): Promise<{ transactions: number; perSecond: number }> {
  const [command, ...words] = [...prefix, join(postgres.binaries, 'pgbench'), ...args];
  const { stdout } = await run(command!, words, { env: postgres.env({ tls }), timeoutMs: 600_000 });
  return {
    transactions: Number(/number of transactions actually processed: (\d+)/.exec(stdout)?.[1] ?? Number.NaN),
    perSecond: Number(/^tps = ([\d.]+)/m.exec(stdout)?.[1] ?? Number.NaN),
  };
}
