/** Replays made-up traffic with the real program, which exports it, and compares what it says with what arrived. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Stats } from '../programs/agent.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { mainCommand, PATIENCE_MS } from '../programs/paths.ts';
import { type Running, start } from '../programs/process.ts';
import { capture, type TrafficOptions } from '../wire/traffic.ts';

export interface ExportRunOptions {
  /** Each exchange becomes two spans. Default: 200. */
  traffic?: TrafficOptions;
  env?: Record<string, string | undefined>;
  /** Values of the configuration file. */
  config?: object;
  args?: readonly string[];
  /** `open`: the caller writes the capture to standard input. `held`: it is written there, and the end comes when release() is called. */
  stdin?: 'open' | 'held';
}

export interface ExportRun {
  running: Running;
  /** Ends what was held. From then on the deadline counts. */
  release(): void;
  /** Waits until it has ended, and returns its statistics. */
  ended(): Promise<Stats>;
}

/** Starts `wirespan replay --output otlp`. Batches are small, so that there are many, and full, however slow this machine is. */
export async function startExportRun(cleanup: Cleanup, options: ExportRunOptions): Promise<ExportRun> {
  const folder = await cleanup.temporaryFolder();
  const statsFile = join(folder, 'stats.json');
  const configFile = join(folder, 'wirespan.yaml');
  const captureFile = options.stdin === undefined ? join(folder, 'traffic.pcap') : '-';
  const traffic = options.traffic ?? { exchanges: 200 };
  if (options.stdin === undefined) await writeFile(captureFile, capture(traffic));
  const { export: ofExport, ...rest } = (options.config ?? {}) as { export?: object };
  // JSON is YAML.
  const config = {
    export: { batch_spans: 50, batch_delay_ms: 60_000, flush_deadline_ms: 2 * PATIENCE_MS, ...ofExport },
    ...rest,
  };
  await writeFile(configFile, JSON.stringify(config), { mode: 0o600 });
  const [command, ...words] = [
    ...[...mainCommand(), 'replay', captureFile, '--perspective', 'both', '--output', 'otlp'],
    ...['--config', configFile, '--stats', statsFile, '--log-format', 'text', ...(options.args ?? [])],
  ];
  const running = start(cleanup, command!, words, {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: undefined, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: undefined, ...options.env },
    ...(options.stdin !== undefined && { stdin: 'open' }),
  });
  if (options.stdin === 'held') running.child.stdin!.write(capture(traffic));
  return {
    running,
    release: () => running.child.stdin!.end(),
    async ended() {
      const result = await running.exited;
      const stats = JSON.parse(await readFile(statsFile, 'utf8').catch(() => assert.fail(result.stderr))) as Stats;
      // It says so when something did not arrive.
      const isShort = [stats.spans, ...Object.values(stats.otherOutputs)].some(({ dropped }) => sum(dropped) > 0);
      assert.equal(result.exitCode, isShort ? 1 : 0, result.stderr);
      return stats;
    },
  };
}

/** sent = received + counted, exactly. @param received distinct spans that the backend has acknowledged */
export function assertAccounted(stats: Stats, sent: number, received: number): void {
  const text = JSON.stringify(stats.spans);
  assert.equal(stats.spans.made, sent, text);
  assert.equal(stats.spans.exported, received, text);
  assert.equal(received + sum(stats.spans.dropped), sent, text);
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, n) => total + n, 0);
}
