/** What the benchmarks share: processor time of processes, load generators, medians. */
import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TICKS_PER_SECOND = 100; // USER_HZ, fixed at 100 on Linux x86-64

/** User and system time of one process in seconds; 0 when it is gone. */
export function cpuSeconds(pid: number): number {
  return statSeconds(`/proc/${pid}/stat`);
}

function statSeconds(path: string): number {
  try {
    const fields = readFileSync(path, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}

/** Processor seconds of every thread of a process, by thread name. */
export function threadSeconds(pid: number): Record<string, number> {
  const seconds: Record<string, number> = {};
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    try {
      const name = readFileSync(`/proc/${pid}/task/${tid}/comm`, 'latin1').trim();
      seconds[name] = (seconds[name] ?? 0) + statSeconds(`/proc/${pid}/task/${tid}/stat`);
    } catch {
      // the thread is gone
    }
  }
  return seconds;
}

/** Process ids of the children of `pid`. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

export interface LoadResult {
  requests: number;
  seconds: number;
  requestsPerSecond: number;
  /** Processor time of the load generator itself. */
  cpuSeconds: number;
  errors: number;
}

/** Runs a load generator. @returns what it said, and the processor time that it used */
async function measured(command: string, args: readonly string[]): Promise<{ text: string; cpuSeconds: number }> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let cpu = 0;
  const poll = setInterval(() => {
    cpu = Math.max(cpu, cpuSeconds(child.pid!));
  }, 50);
  let text = '';
  child.stdout.on('data', (data) => (text += data));
  const code = await new Promise((resolve) => child.on('close', resolve));
  clearInterval(poll);
  if (code !== 0) throw new Error(`${command} failed (${code}): ${text}`);
  return { text, cpuSeconds: cpu };
}

/** One run of wrk against `url` on two threads. `close` asks for a new connection for every request. */
export async function wrk(url: string, seconds: number, connections: number, close = false): Promise<LoadResult> {
  const args = ['-t2', `-c${connections}`, `-d${seconds}s`, '--timeout', '5s'];
  if (close) args.push('-H', 'Connection: close');
  const { text, cpuSeconds: cpu } = await measured('wrk', [...args, url]);
  const requests = Number(/(\d+) requests in/.exec(text)?.[1] ?? Number.NaN);
  const requestsPerSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1] ?? Number.NaN);
  if (!Number.isFinite(requests)) throw new Error(`wrk failed: ${text}`);
  const socketErrors = [...text.matchAll(/(connect|read|write|timeout) (\d+)/g)].reduce(
    (sum, m) => sum + Number(m[2]),
    0,
  );
  const statusErrors = Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0);
  return { requests, seconds, requestsPerSecond, cpuSeconds: cpu, errors: socketErrors + statusErrors };
}

/**
 * A fixed number of HTTP/1.1 requests at a fixed total rate by h2load (package nghttp2-client).
 * @param prefix runs before it on its command line, such as that of a cgroup
 */
export async function h2load(
  url: string,
  requests: number,
  clients: number,
  requestsPerSecond: number,
  prefix: readonly string[] = [],
): Promise<number> {
  const args = ['--h1', '-t1', `-n${requests}`, `-c${clients}`];
  if (requestsPerSecond > 0) args.push(`--rps=${Math.max(1, Math.round(requestsPerSecond / clients))}`);
  const [command, ...words] = [...prefix, 'h2load', ...args, url];
  const { stdout } = await run(command!, words, { maxBuffer: 1 << 24 });
  const succeeded = Number(/(\d+) succeeded/.exec(stdout)?.[1] ?? Number.NaN);
  if (succeeded !== requests) throw new Error(`h2load: ${succeeded} of ${requests} requests succeeded:\n${stdout}`);
  return succeeded;
}

export interface Http2Load {
  connections: number;
  /** Requests that are open at once on each connection. */
  streams: number;
}

/**
 * A fixed number of HTTP/2 requests by h2load on two threads.
 * @param rate requests per second in all; 0: as fast as they go
 * @param prefix runs before it on its command line, such as that of a cgroup
 */
export async function h2loadHttp2(
  url: string,
  requests: number,
  { connections, streams }: Http2Load,
  rate = 0,
  prefix: readonly string[] = [],
): Promise<LoadResult> {
  const args = ['-t2', `-n${requests}`, `-c${connections}`, `-m${streams}`];
  if (rate > 0) args.push(`--rps=${Math.round(rate / connections)}`);
  const [command, ...words] = [...prefix, 'h2load', ...args, url];
  const { text, cpuSeconds: cpu } = await measured(command!, words);
  const succeeded = Number(/(\d+) succeeded/.exec(text)?.[1] ?? Number.NaN);
  const requestsPerSecond = Number(/finished in .*, ([\d.]+) req\/s/.exec(text)?.[1] ?? Number.NaN);
  if (!Number.isFinite(requestsPerSecond)) throw new Error(`h2load failed: ${text}`);
  return {
    requests,
    seconds: requests / requestsPerSecond,
    requestsPerSecond,
    cpuSeconds: cpu,
    errors: requests - succeeded,
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function percent(value: number): string {
  return `${(value * 100).toFixed(1)} %`;
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
