import assert from 'node:assert/strict';
import { chown, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type FlatSpan, parseSpans } from '../otlp/spans.ts';
import type { Cleanup } from './cleanup.ts';
import { until } from './net.ts';
import { mainCommand, PATIENCE_MS } from './paths.ts';
import { type Result, type Running, runAnyway, start } from './process.ts';

export interface Deliveries {
  exported: number;
  dropped: Record<string, number>;
  rejections?: Record<string, number>;
  spool?: { recovered: number; left: number; damagedBytes: number };
}

/** What --stats writes. */
export interface Stats {
  packets: { captured: number; lost: number; bytes: number };
  connections: {
    tcp: number;
    tls: number;
    decrypted: number;
    undecryptable: Record<string, number>;
    opaque: Record<string, number>;
    unrecognised: Record<string, number>;
  };
  exchanges: Record<string, number>;
  incomplete: Record<string, number>;
  spans: {
    made: number;
    leftOut: Record<string, number>;
  } & Deliveries;
  otherOutputs: Record<string, Deliveries>;
  reassembly: Record<string, number>;
  parseErrors: Record<string, number>;
  internalErrors: Record<string, number>;
  cpuSeconds: number;
  wallSeconds: number;
  peakRssBytes: number;
}

export interface AgentOptions {
  /** Added to `agent --output otlp-json=FILE --stats FILE`. */
  args?: readonly string[];
  env?: Record<string, string | undefined>;
  /** `false`: no otlp-json output of ours. */
  json?: boolean;
  /** Default: text; `own` is what the agent chooses by itself. */
  logFormat?: 'text' | 'own';
  /** The user id that the agent will have, which its files are given to. */
  owner?: number;
  /** Before the command, such as `ip netns exec NAME`. */
  prefix?: readonly string[];
  /** Instead of this Node with the entry file. */
  command?: readonly string[];
}

export interface Stopped extends Result {
  stats: Stats;
  spans: FlatSpan[];
}

export interface Agent {
  running: Running;
  /** From the start of the process to its `ready` line. */
  readyMs: number;
  /** What has been written so far. */
  spans(): Promise<FlatSpan[]>;
  /** Waits for that many spans that pass the filter; more are a failure of the caller's counts, not of this. */
  waitForSpans(count: number, filter?: (span: FlatSpan) => boolean, timeoutMs?: number): Promise<FlatSpan[]>;
  /** Ends the agent, which must exit with 0, and returns everything it wrote. */
  stop(signal?: NodeJS.Signals): Promise<Stopped>;
}

/** The environment of this process without what would steer the agent's output. */
const NEUTRAL = {
  OTEL_EXPORTER_OTLP_ENDPOINT: undefined,
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: undefined,
  OTEL_SERVICE_NAME: undefined,
  OTEL_RESOURCE_ATTRIBUTES: undefined,
};

async function readOrEmpty(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
}

/** Starts `wirespan agent` and waits until it is ready. Needs root. */
export async function startAgent(cleanup: Cleanup, options: AgentOptions = {}): Promise<Agent> {
  const folder = await cleanup.temporaryFolder();
  if (options.owner !== undefined) await chown(folder, options.owner, options.owner);
  const spansFile = join(folder, 'spans.jsonl');
  const statsFile = join(folder, 'stats.json');
  const json = options.json === false ? [] : ['--output', `otlp-json=${spansFile}`];
  const format = options.logFormat === 'own' ? [] : ['--log-format', 'text'];
  const [command, ...args] = [
    ...[...(options.prefix ?? []), ...(options.command ?? mainCommand())],
    ...['agent', ...json, '--stats', statsFile, ...format, ...(options.args ?? [])],
  ];
  const begun = performance.now();
  const running = start(cleanup, command!, args, { env: { ...NEUTRAL, ...options.env } });
  await running.waitFor('stderr', /^ready/m);
  const readyMs = performance.now() - begun;
  const spans = async () => parseSpans(await readOrEmpty(spansFile));
  return {
    running,
    readyMs,
    spans,
    async waitForSpans(count, filter = () => true, timeoutMs = PATIENCE_MS) {
      let seen: FlatSpan[] = [];
      try {
        return await until(
          async () => {
            seen = (await spans()).filter(filter);
            return seen.length >= count ? seen : undefined;
          },
          `${count} spans`,
          timeoutMs,
        );
      } catch (error) {
        // What it counted says why: on a busy machine, for instance, that packets were lost.
        await running.stop('SIGINT').catch(() => {});
        const counted = await readOrEmpty(statsFile);
        throw new Error(
          `${seen.length} of ${count} spans came\n--- agent's stderr\n${running.stderr}\n--- stats\n${counted}`,
          {
            cause: error,
          },
        );
      }
    },
    async stop(signal = 'SIGINT') {
      const result = await running.stop(signal);
      assert.equal(result.exitCode, 0, `the agent ended with ${result.exitCode ?? result.signal}\n${result.stderr}`);
      const stats = JSON.parse(await readFile(statsFile, 'utf8')) as Stats;
      // A test that compares counts fails for it; this says why.
      if (stats.packets.lost > 0) console.error(`the agent lost records: ${JSON.stringify(stats.packets)}`);
      return { ...result, stats, spans: await spans() };
    },
  };
}

/** Runs any command of wirespan to its end. */
export function wirespan(args: readonly string[], env: Record<string, string | undefined> = {}): Promise<Result> {
  const [command, ...words] = mainCommand();
  return runAnyway(command!, [...words, ...args], { env: { ...NEUTRAL, ...env }, timeoutMs: 120_000 });
}

/** Runs `wirespan replay` and returns its spans and statistics. */
export async function replay(cleanup: Cleanup, args: readonly string[]): Promise<Stopped> {
  const folder = await cleanup.temporaryFolder();
  const spansFile = join(folder, 'spans.jsonl');
  const statsFile = join(folder, 'stats.json');
  const result = await wirespan([
    'replay',
    ...args,
    '--log-format',
    'text',
    '--output',
    `otlp-json=${spansFile}`,
    '--stats',
    statsFile,
  ]);
  assert.equal(result.exitCode, 0, `replay ended with ${result.exitCode ?? result.signal}\n${result.stderr}`);
  return {
    ...result,
    stats: JSON.parse(await readFile(statsFile, 'utf8')) as Stats,
    spans: parseSpans(await readOrEmpty(spansFile)),
  };
}
