/**
 * redis-benchmark, without and with the agent in turn: what throughput is kept, and what a command costs. The agent exports every span to a
 * local OTLP receiver.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Cgroup, newCgroup } from '../support/kernel/cgroup.ts';
import { type Sink, startSink } from '../support/otlp/sink.ts';
import { type Stats, startAgent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';
import { type RedisServer, startRedis } from '../support/redis/server.ts';
import { cpuSeconds, median, percent, sleep } from './lib.ts';

interface Workload {
  name: string;
  tls: boolean;
  /** Commands of one write. */
  pipeline: number;
  /** Commands per second of the load, about: how many are sent follows from it. */
  perSecond: number;
}

const WORKLOADS: readonly Workload[] = [
  { name: 'SET and GET, one by one', tls: false, pipeline: 1, perSecond: 40_000 },
  { name: 'SET and GET, one by one, TLS', tls: true, pipeline: 1, perSecond: 25_000 },
  { name: 'SET and GET, -P 100', tls: false, pipeline: 100, perSecond: 400_000 },
];
const CLIENTS = 20;
const SETTLE_MS = 2000;

export interface RedisBenchOptions {
  rounds: number;
  /** About so long is each load. */
  seconds: number;
}

interface Load {
  commands: number;
  perSecond: number;
}

async function load({ server, cgroup }: Setup, { tls, pipeline, perSecond }: Workload, seconds: number): Promise<Load> {
  const requests = Math.ceil((perSecond * seconds) / 2 / pipeline) * pipeline;
  const [command, ...words] = [
    ...[...cgroup.prefix, 'redis-benchmark', '-h', server.host, '-p', String(tls ? server.tlsPort : server.port)],
    ...['--csv', '-t', 'set,get', '-c', String(CLIENTS), '-P', String(pipeline), '-n', String(requests), '-r', '10000'],
    ...(tls ? ['--tls', '--cacert', server.certificate.certFile] : []),
  ];
  const { stdout } = await run(command!, words, { timeoutMs: 600_000 });
  const rates = [...stdout.matchAll(/^"(?:SET|GET)","([\d.]+)"/gm)].map(([, rate]) => Number(rate));
  if (rates.length !== 2) throw new Error(`redis-benchmark failed: ${stdout}`);
  return { commands: 2 * requests, perSecond: 2 / (1 / rates[0]! + 1 / rates[1]!) };
}

interface Setup {
  server: RedisServer;
  cgroup: Cgroup;
  sink: Sink;
}

interface Traced extends Load {
  /** Processor time of the agent for each command. */
  microseconds: number;
  received: number;
  stats: Stats;
}

/** The agent's first load is not measured: V8 compiles its stages in the first seconds. */
async function traced(setup: Setup, workload: Workload, seconds: number): Promise<Traced> {
  const cleanup = new Cleanup();
  try {
    const { cgroup, sink } = setup;
    const agent = await startAgent(cleanup, {
      json: false,
      args: ['--output', 'otlp', '--cgroup', cgroup.path],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint },
    });
    await load(setup, workload, Math.min(seconds, 3));
    await sleep(SETTLE_MS);
    await sink.reset();
    const before = cpuSeconds(agent.running.pid);
    const measured = await load(setup, workload, seconds);
    await sleep(SETTLE_MS);
    const used = cpuSeconds(agent.running.pid) - before;
    const { stats } = await agent.stop();
    const { spans } = await sink.totals();
    return { ...measured, microseconds: (used * 1e6) / measured.commands, received: spans, stats };
  } finally {
    await cleanup.run();
  }
}

async function cgroupSeconds(cgroup: Cgroup): Promise<number> {
  return Number(/^usage_usec (\d+)/m.exec(await readFile(join(cgroup.path, 'cpu.stat'), 'utf8'))?.[1]) / 1e6;
}

export interface RedisBench {
  name: string;
  /** Commands per second. */
  without: number;
  with: number;
  kept: number;
  /** Microseconds of processor time per command: of server and client without the agent, of the agent. */
  loadMicroseconds: number;
  agentMicroseconds: number;
  /** The share of commands without a span at the receiver. */
  lost: number;
}

async function measure(setup: Setup, workload: Workload, { rounds, seconds }: RedisBenchOptions): Promise<RedisBench> {
  const series: Record<keyof Omit<RedisBench, 'name'>, number[]> = {
    ...{ without: [], with: [], kept: [], loadMicroseconds: [], agentMicroseconds: [], lost: [] },
  };
  await load(setup, workload, 1);
  for (let i = 0; i < rounds; i++) {
    const before = await cgroupSeconds(setup.cgroup);
    const baseline = await load(setup, workload, seconds);
    series.loadMicroseconds.push((((await cgroupSeconds(setup.cgroup)) - before) * 1e6) / baseline.commands);
    const round = await traced(setup, workload, seconds);
    series.without.push(baseline.perSecond);
    series.with.push(round.perSecond);
    series.kept.push(round.perSecond / baseline.perSecond);
    series.agentMicroseconds.push(round.microseconds);
    series.lost.push(Math.max(0, 1 - round.received / round.commands));
    console.error(
      `  ${workload.name} ${i + 1}/${rounds}: ${baseline.perSecond.toFixed(0)} -> ${round.perSecond.toFixed(0)}/s, ` +
        `agent ${round.microseconds.toFixed(2)} us/command, spans received ${round.received} of ${round.commands}, ` +
        `packets lost ${round.stats.packets.lost}, dropped ${JSON.stringify(round.stats.spans.dropped)}`,
    );
  }
  const medians = Object.fromEntries(Object.entries(series).map(([key, values]) => [key, median(values)]));
  return { name: workload.name, ...(medians as Omit<RedisBench, 'name'>) };
}

export async function redisBench(options: RedisBenchOptions): Promise<RedisBench[]> {
  const cleanup = new Cleanup();
  try {
    const cgroup = await newCgroup(cleanup);
    const setup = {
      cgroup,
      server: await startRedis(cleanup, { prefix: cgroup.prefix }),
      sink: await startSink(cleanup),
    };
    const results: RedisBench[] = [];
    for (const workload of WORKLOADS) results.push(await measure(setup, workload, options));
    return results;
  } finally {
    await cleanup.run();
  }
}

export function printRedis(results: readonly RedisBench[]): void {
  for (const one of results) {
    console.log(`redis-benchmark: ${one.name}, ${CLIENTS} clients`);
    console.log(
      `  without the agent   ${one.without.toFixed(0)} commands/s, ${one.loadMicroseconds.toFixed(2)} us of processor time each`,
    );
    console.log(`  with the agent      ${one.with.toFixed(0)} commands/s, ${percent(one.kept)} kept`);
    console.log(`  agent               ${one.agentMicroseconds.toFixed(2)} us of processor time per command`);
    console.log(`  without a span      ${percent(one.lost)}`);
  }
}
