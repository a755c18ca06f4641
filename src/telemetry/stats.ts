import { whyNot } from '../config/system-error.ts';
import { checkOutputFile, writeOutputFile } from '../files/output-file.ts';
import type { Counters, ReasonCounts } from './counters.ts';

/** It holds counts only: every user whom the umask lets may read it. */
const STATS_FILE = { mode: 0o666 };

/** What the process itself has used. */
export interface ProcessUsage {
  /** User and system time of all threads. */
  readonly cpuSeconds: number;
  /** Since the process began. */
  readonly wallSeconds: number;
  readonly peakRssBytes: number;
}

/** The object of `--stats`. Other tools read these names: keys may be added, never changed. */
export interface StatsJson extends ProcessUsage {
  readonly packets: { readonly captured: number; readonly lost: number; readonly bytes: number };
  readonly connections: {
    readonly tcp: number;
    readonly tls: number;
    readonly decrypted: number;
    readonly undecryptable: ReasonCounts;
  };
  readonly exchanges: ReasonCounts;
  readonly incomplete: ReasonCounts;
  /** See Counters.spans: made = exported + dropped. */
  readonly spans: { readonly made: number; readonly exported: number; readonly dropped: ReasonCounts };
  readonly parseErrors: ReasonCounts;
}

export function processUsage(): ProcessUsage {
  const { user, system } = process.cpuUsage();
  return {
    cpuSeconds: (user + system) / 1e6,
    wallSeconds: process.uptime(),
    // getrusage(2): kilobytes of 1024 bytes.
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

/**
 * @param extra further keys; one that stands in StatsJson already is passed over
 * @returns the counters under the names of StatsJson, then whatever else was counted
 */
export function toStats(
  counters: Counters,
  extra: Readonly<Record<string, unknown>> = {},
  usage: ProcessUsage = processUsage(),
): StatsJson {
  const { packets, connections, exchanges, incomplete, spans, parseErrors, ...others } = counters;
  const { captured, bytes, lost, ...otherPackets } = packets;
  const standard: StatsJson = {
    packets: { captured, lost: sum(lost), bytes, ...{ lostReasons: lost, ...otherPackets } },
    connections,
    exchanges,
    incomplete,
    spans,
    parseErrors,
    ...usage,
  };
  return { ...standard, ...others, ...extra, ...standard };
}

/**
 * To be called when the work begins: the user of a path that cannot be written learns it before all that is counted is lost.
 *
 * @throws Error for people
 */
export function checkStatsTarget(target: string | undefined): void {
  if (target === undefined || target === '-') return;
  withReason(target, () => checkOutputFile(target, STATS_FILE));
}

/**
 * @param target a file's path, or `-` for standard output
 * @throws Error for people, when it cannot be written
 */
export async function writeStats(target: string, stats: StatsJson): Promise<void> {
  const line = `${JSON.stringify(stats)}\n`;
  if (target !== '-') {
    withReason(target, () => writeOutputFile(target, line, STATS_FILE));
    return;
  }
  await new Promise<void>((resolve, reject) => {
    // The reader may have stopped early (`| head -1`): no failure. The stream throws what nobody listens for.
    const failed = (error: NodeJS.ErrnoException): void => (error.code === 'EPIPE' ? resolve() : reject(error));
    process.stdout.on('error', failed);
    process.stdout.write(line, (error) => (error == null ? resolve() : failed(error)));
  });
}

function withReason(target: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    throw new Error(`--stats: cannot write ${target}: ${whyNot(error, 'write')}`);
  }
}

function sum(counts: ReasonCounts): number {
  return Object.values(counts).reduce((total, n) => total + n, 0);
}
