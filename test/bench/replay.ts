/**
 * The replay benchmarks: HTTPS exchanges, and SQL statements over TLS, per second of processor time, every span encoded and sent by OTLP,
 * against tshark on the same capture. The captures are recorded by this benchmark: nginx and h2load, PostgreSQL and pgbench, the agent
 * writing --pcapng with the secrets inside.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { startNginx } from '../support/http/nginx.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { type Sink, startSink } from '../support/otlp/sink.ts';
import { type Agent, type Stats, startAgent, wirespan } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';
import { h2load, h2loadHttp2, median, sleep } from './lib.ts';
import { benchPostgres, pgbench } from './pgbench.ts';

export interface ReplayOptions {
  rounds: number;
  exchanges: number;
}

/** Per second while recording: slow enough that not one packet is lost. */
const RECORDING_RATE = 12_000;
const RECORDING_STATEMENT_RATE = 12_000;
const RECORDING_HTTP2_RATE = 40_000;
const CONNECTIONS = 50;
const HTTP2_LOAD = { connections: 10, streams: 100 };
const DATABASE_CONNECTIONS = 8;

/** One kind of captures. */
interface Subject {
  readonly name: string;
  /** Its key in the `exchanges` of --stats. */
  readonly protocol: 'http' | 'postgresql';
  /** Makes the load. @returns what tshark is to be told to see it */
  load(cleanup: Cleanup, prefix: readonly string[], count: number, started: () => Promise<void>): Promise<string>;
}

const https: Subject = {
  name: 'HTTPS exchanges',
  protocol: 'http',
  async load(cleanup, prefix, count, started) {
    const nginx = await startNginx(cleanup, { workers: 2, log: false, prefix });
    await started();
    await h2load(`https://127.0.0.1:${nginx.tls13Port}/200`, count, CONNECTIONS, RECORDING_RATE, prefix);
    return '-Y http.response -T fields -e http.response.code';
  },
};

const http2: Subject = {
  name: 'HTTP/2 exchanges',
  protocol: 'http',
  async load(cleanup, prefix, count, started) {
    const nginx = await startNginx(cleanup, { workers: 2, log: false, prefix, http2: true });
    await started();
    const url = `https://127.0.0.1:${nginx.tls13Port}/200`;
    await h2loadHttp2(url, count, HTTP2_LOAD, RECORDING_HTTP2_RATE, prefix);
    return `-Y 'http2.headers.status' -T fields -e http2.headers.status`;
  },
};

const sql: Subject = {
  name: 'SQL statements',
  protocol: 'postgresql',
  async load(cleanup, prefix, count, started) {
    const postgres = await benchPostgres(cleanup, prefix);
    await started();
    const each = Math.ceil(count / DATABASE_CONNECTIONS);
    const args = ['-S', '-n', '-M', 'prepared', '-c', String(DATABASE_CONNECTIONS), '-t', String(each)];
    await pgbench(postgres, prefix, [...args, '-R', String(RECORDING_STATEMENT_RATE)]);
    return `-d tcp.port==${postgres.port},pgsql -Y 'pgsql.tag' -T fields -e pgsql.tag`;
  },
};

async function record(cleanup: Cleanup, subject: Subject, count: number): Promise<{ file: string; tshark: string }> {
  const inner = new Cleanup();
  try {
    const folder = await cleanup.temporaryFolder();
    const file = join(folder, 'recorded.pcapng');
    // Whatever else this machine does stays out of the file.
    const { path, prefix } = await newCgroup(inner);
    let agent: Agent | undefined;
    const tshark = await subject.load(inner, prefix, count, async () => {
      const args = ['--output', 'none', '--pcapng', file, '--cgroup', path];
      agent = await startAgent(inner, { json: false, args });
    });
    await sleep(1000);
    const { stats } = await agent!.stop();
    const seen = stats.exchanges[subject.protocol] ?? 0;
    if (stats.packets.lost > 0 || seen < count) {
      throw new Error(`recording: ${seen} of ${count} ${subject.name}, ${stats.packets.lost} packets lost`);
    }
    return { file, tshark };
  } finally {
    await inner.run();
  }
}

/** User and system seconds of a command, by the shell's own accounting of the child. */
async function timedSeconds(command: string): Promise<{ cpuSeconds: number; stdout: string }> {
  const { stdout, stderr } = await run('bash', ['-c', `TIMEFORMAT='cpu %U %S'; time ${command}`], {
    timeoutMs: 600_000,
  });
  const [, user, system] = /cpu ([\d.]+) ([\d.]+)/.exec(stderr) ?? [];
  return { cpuSeconds: Number(user) + Number(system), stdout };
}

async function replayOnce(cleanup: Cleanup, sink: Sink, file: string): Promise<Stats> {
  await sink.reset();
  const statsFile = join(await cleanup.temporaryFolder(), 'stats.json');
  const result = await wirespan(['replay', file, '--output', 'otlp', '--stats', statsFile], {
    OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint,
  });
  if (result.exitCode !== 0) throw new Error(result.stderr);
  return JSON.parse(await readFile(statsFile, 'utf8')) as Stats;
}

async function compare(subject: Subject, options: ReplayOptions) {
  const cleanup = new Cleanup();
  try {
    const { exchanges: count } = options;
    const { file, tshark } = await record(cleanup, subject, count);
    const bytes = (await stat(file)).size;
    const sink = await startSink(cleanup);
    const ours: number[] = [];
    const theirs: number[] = [];
    const ratios: number[] = [];
    let peakRssBytes = 0;
    for (let round = 0; round < options.rounds; round++) {
      const stats = await replayOnce(cleanup, sink, file);
      const made = stats.exchanges[subject.protocol] ?? 0;
      const { spans } = await sink.totals();
      if (made < count || spans < count) {
        throw new Error(`replay made ${made} ${subject.name}, ${spans} spans arrived, expected ${count}`);
      }
      peakRssBytes = Math.max(peakRssBytes, stats.peakRssBytes);
      const other = await timedSeconds(`tshark -n -r ${file} ${tshark} | tr , '\\n' | wc -l`);
      // Those of one packet are in one line, with commas between them.
      if (Number(other.stdout) < count * 0.9) throw new Error(`tshark saw ${other.stdout.trim()} ${subject.name}`);
      ours.push(count / stats.cpuSeconds);
      theirs.push(count / other.cpuSeconds);
      ratios.push(other.cpuSeconds / stats.cpuSeconds);
      console.error(
        `  replay of ${subject.name} ${round + 1}/${options.rounds}: ${ours.at(-1)!.toFixed(0)} per CPU s, tshark ${theirs.at(-1)!.toFixed(0)}, ` +
          `${ratios.at(-1)!.toFixed(1)} times, peak ${(stats.peakRssBytes / 1e6).toFixed(0)} MB`,
      );
    }
    return { name: subject.name, count, captureBytes: bytes, ours, theirs, ratios, peakRssBytes };
  } finally {
    await cleanup.run();
  }
}

export function recordHttps(cleanup: Cleanup, count: number): Promise<{ file: string }> {
  return record(cleanup, https, count);
}

export function replayBench(options: ReplayOptions) {
  return compare(https, options);
}

export function http2ReplayBench(options: ReplayOptions) {
  return compare(http2, options);
}

export function sqlReplayBench(options: ReplayOptions) {
  return compare(sql, options);
}

export function printReplay(result: Awaited<ReturnType<typeof compare>>): void {
  console.log(
    `replay of ${result.count} ${result.name} (${(result.captureBytes / 1e6).toFixed(0)} MB): ` +
      `${median(result.ours).toFixed(0)} per CPU second, tshark ${median(result.theirs).toFixed(0)}, ` +
      `${median(result.ratios).toFixed(1)} times (at least 5, goal 10); ` +
      `peak memory ${(result.peakRssBytes / 1e6).toFixed(0)} MB (at most 200)`,
  );
}
