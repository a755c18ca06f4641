/**
 * The SQL benchmarks: pgbench with prepared statements over TLS, without and with the agent, which exports every span to a local OTLP
 * receiver; and how far the durations of spans are from those that the server logs.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { emptyLog, type Postgres, startPostgres } from '../support/databases/postgres.ts';
import { type Cgroup, newCgroup } from '../support/kernel/cgroup.ts';
import { type Sink, startSink } from '../support/otlp/sink.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { type Agent, type Stats, startAgent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';
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

interface Accuracy {
  tls: boolean;
  /** Medians: the span beyond what the server logs, and the client beyond the span. */
  beyondServerMicroseconds: number;
  beyondSpanMicroseconds: number;
  /** How far a span lies outside of what server and client measured, for 99 % of the statements. */
  outsideMicroseconds: number;
  /** How far it is from the server's duration and the median transfer, for 99 %: with what the scheduler does to both processes. */
  deviationMicroseconds: number;
}

/**
 * Statements one after the other on one connection. The server's own duration begins when it has read the message and ends before it sends the
 * end of the answer; the client's begins before it sends and ends when it has read all. What the wire carried lies between the two,
 * whatever the scheduler does to either.
 */
async function accuracy(tls: boolean): Promise<Accuracy> {
  const cleanup = new Cleanup();
  try {
    const { path, prefix } = await newCgroup(cleanup);
    const postgres = await startPostgres(cleanup, { prefix });
    const script = join(await cleanup.temporaryFolder(), 'statements.sql');
    // From some ten microseconds to two milliseconds, with answers of one row to a thousand.
    const line = (i: number) => `SELECT ${i}, n FROM generate_series(1, ${[1, 10, 100, 1000][i % 4]}) AS n;`;
    const lines = Array.from({ length: ACCURACY_STATEMENTS }, (_, i) => line(i));
    await writeFile(script, ['\\timing on', ...lines].join('\n'));
    await emptyLog(postgres);
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    const [command, ...words] = [...prefix, 'psql', '-Xq', '-o', '/dev/null', '-f', script];
    const { stdout } = await run(command!, words, { env: postgres.env({ tls }), timeoutMs: 120_000 });
    const isOurs = (span: FlatSpan) => span.attributes['server.port'] === postgres.port;
    await agent.waitForSpans(ACCURACY_STATEMENTS, isOurs);
    const { spans } = await agent.stop();
    const server = (
      await postgres.waitForStatements(ACCURACY_STATEMENTS, (entry) => entry.text.startsWith('SELECT'))
    ).map((entry) => entry.durationMs * 1000);
    const client = [...stdout.matchAll(/^Time: ([\d.]+) ms/gm)].map((match) => Number(match[1]) * 1000);
    const wire = spans
      .filter(isOurs)
      .sort((a, b) => a.startUs - b.startUs)
      .map((span) => span.endUs - span.startUs);
    if (wire.length !== server.length || client.length !== server.length) {
      throw new Error(`${wire.length} spans, ${server.length} statements logged, ${client.length} timed by psql`);
    }
    const transfer = median(wire.map((us, i) => us - server[i]!));
    return {
      tls,
      beyondServerMicroseconds: transfer,
      beyondSpanMicroseconds: median(client.map((us, i) => us - wire[i]!)),
      outsideMicroseconds: p99(wire.map((us, i) => Math.max(0, server[i]! - us, us - client[i]!))),
      deviationMicroseconds: p99(wire.map((us, i) => Math.abs(us - server[i]! - transfer))),
    };
  } finally {
    await cleanup.run();
  }
}

function p99(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))]!;
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
  for (const each of measured) {
    console.log(
      `duration of spans, ${each.tls ? 'TLS' : 'plain'}, ${ACCURACY_STATEMENTS} statements: the server's own plus ` +
        `${each.beyondServerMicroseconds.toFixed(0)} us, psql's less ${each.beyondSpanMicroseconds.toFixed(0)} us (medians); ` +
        `99 % are at most ${each.outsideMicroseconds.toFixed(1)} us outside of what server and client measured (at most 100), ` +
        `and within ${each.deviationMicroseconds.toFixed(0)} us of the server's own plus its median`,
    );
  }
}
