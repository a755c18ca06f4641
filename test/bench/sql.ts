/**
 * The SQL benchmarks: pgbench with prepared statements over TLS, without and with the agent, which exports every span to a local OTLP
 * receiver; and how far the durations of spans are from those that the server logs.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Agent, type Stats, startAgent } from '../support/agent.ts';
import { type Cgroup, newCgroup } from '../support/cgroup.ts';
import { Cleanup } from '../support/cleanup.ts';
import { emptyLog, type Postgres, startPostgres } from '../support/databases/postgres.ts';
import { run } from '../support/process.ts';
import { type Sink, startSink } from '../support/sink.ts';
import type { FlatSpan } from '../support/spans.ts';
import { cpuSeconds, median, percent, sleep } from './lib.ts';
import { benchPostgres, pgbench } from './pgbench.ts';

export interface SqlOptions {
  rounds: number;
  seconds: number;
}

const CLIENTS = 8;
const SETTLE_MS = 2000;
async function cgroupSeconds(cgroup: Cgroup): Promise<number> {
  const text = await readFile(join(cgroup.path, 'cpu.stat'), 'utf8');
  return Number(/^usage_usec (\d+)/m.exec(text)?.[1]) / 1e6;
}

function selects(seconds: number): string[] {
  return ['-S', '-n', '-M', 'prepared', '-c', String(CLIENTS), '-j', '2', '-T', String(seconds)];
}

interface Round {
  transactions: number;
  perSecond: number;
  /** Processor time of server and client for each. */
  microseconds: number;
  agent?: { microseconds: number; received: number; stats: Stats };
}

/** The agent's first load is not measured: V8 compiles its stages in the first seconds. */
async function round(setup: Setup, seconds: number, withAgent: boolean): Promise<Round> {
  const { postgres, cgroup, sink } = setup;
  const cleanup = new Cleanup();
  try {
    const agent = withAgent ? await benchAgent(cleanup, cgroup, sink) : undefined;
    await pgbench(postgres, cgroup.prefix, selects(seconds));
    await sleep(SETTLE_MS);
    await sink.reset();
    const agentBefore = agent === undefined ? 0 : cpuSeconds(agent.running.pid);
    const before = await cgroupSeconds(cgroup);
    const load = await pgbench(postgres, cgroup.prefix, selects(seconds));
    const microseconds = ((await cgroupSeconds(cgroup)) - before) * (1e6 / load.transactions);
    if (agent === undefined) return { ...load, microseconds };
    await sleep(SETTLE_MS);
    const used = cpuSeconds(agent.running.pid) - agentBefore;
    const { stats } = await agent.stop();
    const { spans } = await sink.totals();
    return {
      ...load,
      microseconds,
      agent: { microseconds: (used * 1e6) / load.transactions, received: spans, stats },
    };
  } finally {
    await cleanup.run();
  }
}

interface Setup {
  postgres: Postgres;
  cgroup: Cgroup;
  sink: Sink;
}

function benchAgent(cleanup: Cleanup, cgroup: Cgroup, sink: Sink): Promise<Agent> {
  return startAgent(cleanup, {
    json: false,
    args: ['--output', 'otlp', '--cgroup', cgroup.path],
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint },
  });
}

async function throughput(setup: Setup, options: SqlOptions) {
  const result = { without: [], with: [], kept: [], microseconds: [], agentMicroseconds: [], lost: [] } as Record<
    'without' | 'with' | 'kept' | 'microseconds' | 'agentMicroseconds' | 'lost',
    number[]
  >;
  for (let i = 0; i < options.rounds; i++) {
    const baseline = await round(setup, options.seconds, false);
    const traced = await round(setup, options.seconds, true);
    const { microseconds, received, stats } = traced.agent!;
    result.without.push(baseline.perSecond);
    result.with.push(traced.perSecond);
    result.kept.push(traced.perSecond / baseline.perSecond);
    result.microseconds.push(baseline.microseconds);
    result.agentMicroseconds.push(microseconds);
    result.lost.push(Math.max(0, 1 - received / traced.transactions));
    console.error(
      `  pgbench -S -M prepared ${i + 1}/${options.rounds}: ${baseline.perSecond.toFixed(0)} -> ${traced.perSecond.toFixed(0)}/s, ` +
        `agent ${microseconds.toFixed(2)} us/statement, spans received ${received} of ${traced.transactions}, ` +
        `packets lost ${stats.packets.lost}, dropped ${JSON.stringify(stats.spans.dropped)}`,
    );
  }
  return result;
}

const ACCURACY_STATEMENTS = 2000;

/**
 * Statements one after the other on one connection: the span's duration less the server's own, which begins when the message has been read
 * and ends before the answer is sent. What is between is the transfer, the same for every statement: that of the median.
 */
async function accuracy(tls: boolean) {
  const cleanup = new Cleanup();
  try {
    const { path, prefix } = await newCgroup(cleanup);
    const postgres = await startPostgres(cleanup, { prefix });
    const folder = await cleanup.temporaryFolder();
    const script = join(folder, 'statements.sql');
    // From some ten microseconds to two milliseconds, with answers of one row to a thousand.
    const line = (i: number) => `SELECT ${i}, n FROM generate_series(1, ${[1, 10, 100, 1000][i % 4]}) AS n;`;
    await writeFile(script, Array.from({ length: ACCURACY_STATEMENTS }, (_, i) => line(i)).join('\n'));
    await emptyLog(postgres);
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    const [command, ...words] = [...prefix, 'psql', '-Xq', '-o', '/dev/null', '-f', script];
    await run(command!, words, { env: postgres.env({ tls }), timeoutMs: 120_000 });
    const isOurs = (span: FlatSpan) => span.attributes['server.port'] === postgres.port;
    await agent.waitForSpans(ACCURACY_STATEMENTS, isOurs);
    const { spans } = await agent.stop();
    const logged = await postgres.waitForStatements(ACCURACY_STATEMENTS, (entry) => entry.text.startsWith('SELECT'));
    const mine = spans.filter(isOurs).sort((a, b) => a.startUs - b.startUs);
    if (mine.length !== logged.length) throw new Error(`${mine.length} spans of ${logged.length} statements`);
    const differences = mine
      .map((span, i) => span.endUs - span.startUs - logged[i]!.durationMs * 1000)
      .sort((a, b) => a - b);
    const at = (share: number) =>
      differences[Math.min(differences.length - 1, Math.floor(differences.length * share))]!;
    const transfer = at(0.5);
    const deviations = differences.map((each) => Math.abs(each - transfer)).sort((a, b) => a - b);
    return {
      tls,
      transferMicroseconds: transfer,
      p99Microseconds: deviations[Math.floor(deviations.length * 0.99)]!,
      differences: { p01: at(0.01), p50: transfer, p99: at(0.99) },
    };
  } finally {
    await cleanup.run();
  }
}

export async function sqlBench(options: SqlOptions) {
  const cleanup = new Cleanup();
  try {
    const cgroup = await newCgroup(cleanup);
    const postgres = await benchPostgres(cleanup, cgroup.prefix);
    const setup = { postgres, cgroup, sink: await startSink(cleanup) };
    const prepared = await throughput(setup, options);
    return { prepared, accuracy: [await accuracy(false), await accuracy(true)] };
  } finally {
    await cleanup.run();
  }
}

export function printSql({ prepared, accuracy: measured }: Awaited<ReturnType<typeof sqlBench>>): void {
  console.log(
    `pgbench -S -M prepared over TLS: ${median(prepared.without).toFixed(0)} -> ${median(prepared.with).toFixed(0)} statements/s, ` +
      `kept ${percent(median(prepared.kept))} (at least ${percent(0.75)}); ` +
      `agent ${median(prepared.agentMicroseconds).toFixed(2)} us of CPU per statement beside ` +
      `${median(prepared.microseconds).toFixed(2)} us of server and client; ` +
      `spans lost at saturation ${percent(median(prepared.lost))}`,
  );
  for (const { tls, transferMicroseconds, p99Microseconds } of measured) {
    console.log(
      `duration of spans, ${tls ? 'TLS' : 'plain'}: the server's own plus ${transferMicroseconds.toFixed(0)} us of transfer, ` +
        `within ${p99Microseconds.toFixed(0)} us for 99 % of ${ACCURACY_STATEMENTS} statements (at most 100)`,
    );
  }
}
