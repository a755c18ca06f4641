/**
 * The live benchmark: nginx with two workers and a load generator share this machine's cores with the agent, which exports every
 * span to a local OTLP receiver. Rounds without and with the agent alternate, and ratios are taken pair by pair, since machines drift.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Nginx, startNginx } from '../support/http/nginx.ts';
import { type Sink, startSink } from '../support/otlp/sink.ts';
import { type Agent, type Stats, startAgent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { mainCommand } from '../support/programs/paths.ts';
import { childrenOf, cpuSeconds, h2load, type LoadResult, median, percent, sleep, threadSeconds, wrk } from './lib.ts';
import { stagesOfProfile } from './profile.ts';

export interface LiveOptions {
  rounds: number;
  seconds: number;
}

interface Phase {
  load: LoadResult;
  /** Processor time of nginx's workers. */
  serverSeconds: number;
  agent?: AgentFigures;
}

interface AgentFigures {
  cpuSeconds: number;
  stats: Stats;
  received: number;
}

const KEEP_ALIVE_CONNECTIONS = 64;
const NEW_CONNECTIONS = 32;
/** What is under way when the load ends arrives within this time. */
const SETTLE_MS = 2000;

/**
 * Load without the agent, or with it. The agent is started, settled and stopped inside the phase. The first run of the load is not
 * measured: an agent runs for days, and V8 compiles its stages in the first seconds.
 */
async function phase(nginx: Nginx, sink: Sink, withAgent: boolean, load: () => Promise<LoadResult>): Promise<Phase> {
  const cleanup = new Cleanup();
  try {
    const agent = withAgent ? await benchAgent(cleanup, sink) : undefined;
    await load();
    await sleep(SETTLE_MS);
    await sink.reset();
    const agentBefore = agent === undefined ? 0 : cpuSeconds(agent.running.pid);
    const workers = childrenOf(nginx.running.pid);
    const serverBefore = workers.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
    const result = await load();
    const serverSeconds = workers.reduce((sum, pid) => sum + cpuSeconds(pid), 0) - serverBefore;
    if (agent === undefined) return { load: result, serverSeconds };
    const figures = await settle(agent, sink, agentBefore);
    return { load: result, serverSeconds, agent: figures };
  } finally {
    await cleanup.run();
  }
}

function benchAgent(cleanup: Cleanup, sink: Sink, nodeArgs: readonly string[] = []): Promise<Agent> {
  return startAgent(cleanup, {
    json: false,
    args: ['--output', 'otlp'],
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint },
    command: mainCommand(nodeArgs),
  });
}

/** Lets the agent work off what it holds and takes its processor time, then stops it. */
async function settle(agent: Agent, sink: Sink, cpuBefore: number): Promise<AgentFigures> {
  await sleep(SETTLE_MS);
  const used = cpuSeconds(agent.running.pid) - cpuBefore;
  const { stats } = await agent.stop();
  const { spans } = await sink.totals();
  return { cpuSeconds: used, stats, received: spans };
}

export interface Pairing {
  name: string;
  without: number[];
  with: number[];
  kept: number[];
  agentMicrosecondsPerExchange: number[];
  serverAndClientMicrosecondsPerRequest: number[];
  lostShare: number[];
}

export async function alternate(
  name: string,
  options: LiveOptions,
  nginx: Nginx,
  sink: Sink,
  load: () => Promise<LoadResult>,
): Promise<Pairing> {
  const pairing: Pairing = {
    name,
    without: [],
    with: [],
    kept: [],
    agentMicrosecondsPerExchange: [],
    serverAndClientMicrosecondsPerRequest: [],
    lostShare: [],
  };
  for (let round = 0; round < options.rounds; round++) {
    const baseline = await phase(nginx, sink, false, load);
    const traced = await phase(nginx, sink, true, load);
    const agent = traced.agent!;
    const exchanges = agent.received / 2 || 1;
    pairing.without.push(baseline.load.requestsPerSecond);
    pairing.with.push(traced.load.requestsPerSecond);
    pairing.kept.push(traced.load.requestsPerSecond / baseline.load.requestsPerSecond);
    pairing.agentMicrosecondsPerExchange.push((agent.cpuSeconds / exchanges) * 1e6);
    pairing.serverAndClientMicrosecondsPerRequest.push(
      ((baseline.serverSeconds + baseline.load.cpuSeconds) / baseline.load.requests) * 1e6,
    );
    // Two spans for every request that the load generator counts.
    pairing.lostShare.push(Math.max(0, 1 - agent.received / (2 * traced.load.requests)));
    console.error(
      `  ${name} ${round + 1}/${options.rounds}: ${baseline.load.requestsPerSecond.toFixed(0)} -> ` +
        `${traced.load.requestsPerSecond.toFixed(0)} requests/s, agent ${pairing.agentMicrosecondsPerExchange.at(-1)!.toFixed(2)} us/exchange, ` +
        `spans received ${agent.received} of ${2 * traced.load.requests}, packets lost ${agent.stats.packets.lost}, dropped ${JSON.stringify(agent.stats.spans.dropped)}`,
    );
  }
  return pairing;
}

/** A fixed number of requests at half of the saturated rate: nothing may be lost. */
async function halfRate(nginx: Nginx, sink: Sink, saturated: number, seconds: number) {
  const cleanup = new Cleanup();
  try {
    const agent = await benchAgent(cleanup, sink);
    await sink.reset();
    const clients = 20;
    const requests = Math.round((saturated / 2) * seconds);
    const begun = performance.now();
    await h2load(`https://127.0.0.1:${nginx.tls13Port}/200`, requests, clients, saturated / 2);
    const rate = requests / ((performance.now() - begun) / 1000);
    const figures = await settle(agent, sink, 0);
    return {
      requests,
      rate,
      spansReceived: figures.received,
      spansExpected: 2 * requests,
      packetsLost: figures.stats.packets.lost,
    };
  } finally {
    await cleanup.run();
  }
}

/** One profiled run: where the agent's processor time goes. The kernel's share comes from bpf_stats, which costs time itself. */
export async function stages(sink: Sink, run: () => Promise<LoadResult>) {
  const cleanup = new Cleanup();
  try {
    const folder = await cleanup.temporaryFolder();
    const agent = await benchAgent(cleanup, sink, [
      '--cpu-prof',
      `--cpu-prof-dir=${folder}`,
      '--cpu-prof-name=agent.cpuprofile',
    ]);
    const kernel = await import('./bpf-stats.ts');
    const stats = await kernel.enable(cleanup);
    const before = await stats();
    const load = await run();
    const after = await stats();
    const threads = threadSeconds(agent.running.pid);
    const figures = await settle(agent, sink, 0);
    const exchanges = (figures.stats.exchanges.http ?? 0) || 1;
    const profile = stagesOfProfile(JSON.parse(await readFile(join(folder, 'agent.cpuprofile'), 'utf8')));
    return {
      requestsPerSecond: load.requestsPerSecond,
      exchanges,
      kernelProgramsMicroseconds: (after.runTimeNs - before.runTimeNs) / load.requests / 1000,
      kernelProgramRunsPerRequest: (after.runCount - before.runCount) / load.requests,
      threadMicroseconds: scale(threads, 1e6 / exchanges),
      stageMicroseconds: scale(profile, 1e6 / exchanges),
    };
  } finally {
    await cleanup.run();
  }
}

function scale(values: Record<string, number>, factor: number): Record<string, number> {
  const sorted = Object.entries(values).sort((a, b) => b[1] - a[1]);
  return Object.fromEntries(sorted.map(([name, value]) => [name, Number((value * factor).toFixed(3))]));
}

export async function liveBench(options: LiveOptions) {
  const cleanup = new Cleanup();
  try {
    const nginx = await startNginx(cleanup, { workers: 2, log: false });
    const sink = await startSink(cleanup);
    const url = `https://127.0.0.1:${nginx.tls13Port}/200`;
    await wrk(url, 2, KEEP_ALIVE_CONNECTIONS); // warm-up
    const keepAlive = await alternate('keep-alive', options, nginx, sink, () =>
      wrk(url, options.seconds, KEEP_ALIVE_CONNECTIONS),
    );
    const newConnections = await alternate('new connections', options, nginx, sink, () =>
      wrk(url, options.seconds, NEW_CONNECTIONS, true),
    );
    const half = await halfRate(nginx, sink, median(keepAlive.without), options.seconds);
    const profile = await stages(sink, () => wrk(url, options.seconds, KEEP_ALIVE_CONNECTIONS));
    return { keepAlive, newConnections, half, profile };
  } finally {
    await cleanup.run();
  }
}

export function printLive(result: Awaited<ReturnType<typeof liveBench>>): void {
  for (const [pairing, least, goal] of [
    [result.keepAlive, 0.5, 0.8],
    [result.newConnections, 0.75, 0.9],
  ] as const) {
    console.log(
      `${pairing.name}: ${median(pairing.without).toFixed(0)} -> ${median(pairing.with).toFixed(0)} requests/s, ` +
        `kept ${percent(median(pairing.kept))} (at least ${percent(least)}, goal ${percent(goal)}); ` +
        `agent ${median(pairing.agentMicrosecondsPerExchange).toFixed(2)} us of CPU per exchange beside ` +
        `${median(pairing.serverAndClientMicrosecondsPerRequest).toFixed(2)} us of server and client per request; ` +
        `spans lost at saturation ${percent(median(pairing.lostShare))}`,
    );
  }
  const { half, profile } = result;
  console.log(
    `half the saturated rate: ${half.rate.toFixed(0)} requests/s, ${half.spansReceived} of ${half.spansExpected} spans, ${half.packetsLost} packets lost`,
  );
  printStages(profile);
}

export function printStages(profile: Awaited<ReturnType<typeof stages>>): void {
  console.log(
    `kernel programs: ${profile.kernelProgramsMicroseconds.toFixed(2)} us and ${profile.kernelProgramRunsPerRequest.toFixed(2)} runs per request`,
  );
  console.log('agent threads, us per exchange:', JSON.stringify(profile.threadMicroseconds));
  console.log('agent stages, us per exchange (sampled main thread):', JSON.stringify(profile.stageMicroseconds));
}
