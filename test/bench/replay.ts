/**
 * The replay benchmark: HTTPS exchanges per second of processor time, every span encoded and sent by OTLP, against tshark on the same
 * capture. The capture is recorded by this benchmark: nginx and h2load over TLS 1.3, the agent writing --pcapng with the secrets inside.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { startAgent, wirespan } from '../support/agent.ts';
import { newCgroup } from '../support/cgroup.ts';
import { Cleanup } from '../support/cleanup.ts';
import { startNginx } from '../support/nginx.ts';
import { run } from '../support/process.ts';
import { startSink } from '../support/sink.ts';
import { h2load, median, sleep } from './lib.ts';

export interface ReplayOptions {
  rounds: number;
  exchanges: number;
}

/** Requests per second while recording: slow enough that not one packet is lost. */
const RECORDING_RATE = 12_000;
const CONNECTIONS = 50;

async function record(cleanup: Cleanup, exchanges: number): Promise<string> {
  const inner = new Cleanup();
  try {
    const folder = await cleanup.temporaryFolder();
    const file = join(folder, 'recorded.pcapng');
    // Whatever else this machine does stays out of the file.
    const { path, prefix } = await newCgroup(inner);
    const nginx = await startNginx(inner, { workers: 2, log: false, prefix });
    const args = ['--output', 'none', '--pcapng', file, '--cgroup', path];
    const agent = await startAgent(inner, { json: false, args });
    await h2load(`https://127.0.0.1:${nginx.tls13Port}/200`, exchanges, CONNECTIONS, RECORDING_RATE, prefix);
    await sleep(1000);
    const { stats } = await agent.stop();
    if (stats.packets.lost > 0 || (stats.exchanges.http ?? 0) < exchanges) {
      throw new Error(
        `recording: ${stats.exchanges.http} of ${exchanges} exchanges, ${stats.packets.lost} packets lost`,
      );
    }
    return file;
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

export async function replayBench(options: ReplayOptions) {
  const cleanup = new Cleanup();
  try {
    const file = await record(cleanup, options.exchanges);
    const bytes = (await stat(file)).size;
    const sink = await startSink(cleanup);
    const ours: number[] = [];
    const theirs: number[] = [];
    const ratios: number[] = [];
    let peakRssBytes = 0;
    for (let round = 0; round < options.rounds; round++) {
      await sink.reset();
      const statsFile = join(await cleanup.temporaryFolder(), 'stats.json');
      const result = await wirespan(['replay', file, '--output', 'otlp', '--stats', statsFile], {
        OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint,
      });
      if (result.exitCode !== 0) throw new Error(result.stderr);
      const stats = JSON.parse((await run('cat', [statsFile])).stdout);
      const { spans } = await sink.totals();
      if (stats.exchanges.http < options.exchanges || spans < options.exchanges) {
        throw new Error(
          `replay made ${stats.exchanges.http} exchanges, ${spans} spans arrived, expected ${options.exchanges}`,
        );
      }
      peakRssBytes = Math.max(peakRssBytes, stats.peakRssBytes);
      const tshark = await timedSeconds(
        `tshark -n -r ${file} -Y http.response -T fields -e http.response.code | grep -c 200`,
      );
      if (Number(tshark.stdout) < options.exchanges) throw new Error(`tshark saw ${tshark.stdout.trim()} responses`);
      ours.push(options.exchanges / stats.cpuSeconds);
      theirs.push(options.exchanges / tshark.cpuSeconds);
      ratios.push(tshark.cpuSeconds / stats.cpuSeconds);
      console.error(
        `  replay ${round + 1}/${options.rounds}: ${ours.at(-1)!.toFixed(0)} exchanges/CPU s, tshark ${theirs.at(-1)!.toFixed(0)}, ` +
          `${ratios.at(-1)!.toFixed(1)} times, peak ${(stats.peakRssBytes / 1e6).toFixed(0)} MB`,
      );
    }
    return { exchanges: options.exchanges, captureBytes: bytes, ours, theirs, ratios, peakRssBytes };
  } finally {
    await cleanup.run();
  }
}

export function printReplay(result: Awaited<ReturnType<typeof replayBench>>): void {
  console.log(
    `replay of ${result.exchanges} HTTPS exchanges (${(result.captureBytes / 1e6).toFixed(0)} MB): ` +
      `${median(result.ours).toFixed(0)} exchanges per CPU second, tshark ${median(result.theirs).toFixed(0)}, ` +
      `${median(result.ratios).toFixed(1)} times (at least 5, goal 10); ` +
      `peak memory ${(result.peakRssBytes / 1e6).toFixed(0)} MB (at most 200)`,
  );
}
