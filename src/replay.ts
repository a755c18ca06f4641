/** The composition root of `wirespan replay`: capture files through the same pipeline as the agent's. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { assemble, createLog, shutdownOutputs } from './assembly.ts';
import { FileCapture, fileBytes } from './capture/file.ts';
import { decompressed, isGzip } from './capture/gzip.ts';
import { protectMemory } from './capture/native.ts';
import type { CaptureSink, PacketRecord } from './capture/records.ts';
import { walkChunk } from './capture/walk.ts';
import type { ReplayOptions } from './cli/options.ts';
import { whyNot } from './config/system-error.ts';
import type { Output } from './export/output.ts';
import { openPcapng, type PcapngFile } from './pcapng/file.ts';
import type { Pipeline } from './pipeline.ts';
import { KeyLogIndex } from './secrets/keylog-index.ts';
import { KeyLogLines } from './secrets/keylog-lines.ts';
import type { SecretStore } from './secrets/store.ts';
import { identityClock } from './telemetry/clock.ts';
import { count, type Deliveries, newCounters, type ReasonCounts } from './telemetry/counters.ts';
import type { Log } from './telemetry/log.ts';
import { checkStatsTarget, toStats, writeStats } from './telemetry/stats.ts';

const TICK_INTERVAL_US = 100_000;
const KEEP_ALIVE_MS = 60_000;
/** A capture file may bring all its secrets at once, and its key log does: they are no burden beside the file itself. */
const REPLAY_SECRETS = 1_000_000;
/** A key log of this size is not held as a whole; of one with so many runs of lines as below, 256 MiB say where they lie. */
const INDEXED_BYTES = 32 * 1024 * 1024;
const INDEXED_RUNS = 32 * 1024 * 1024;

/** @returns the exit code: 0, or 1 when a file could not be read to its end, or what came of it not be written or delivered */
export async function runReplay(options: ReplayOptions): Promise<number> {
  const { config } = options;
  protectMemory();
  checkStatsTarget(options.statsTarget);
  const log = createLog(options);
  const counters = newCounters();
  let stopped = false;
  let failed = false;
  let capture: FileCapture | undefined;
  const stopRequest = Promise.withResolvers<void>();
  const halt = (): void => {
    stopped = true;
    void capture?.stop();
  };
  const stop = (): void => {
    if (stopped) process.exit(1);
    halt();
    stopRequest.resolve();
  };
  const limits = { ...config.limits, secrets: Math.max(config.limits.secrets, REPLAY_SECRETS) };
  const pcapng = openPcapng(options.pcapngFile, { limits, clock: identityClock, log });
  const { pipeline, secrets, outputs } = await assemble(options, {
    limits,
    log,
    counters,
    perspective: options.perspective ?? 'replay',
    onBroken: (why) => {
      if (why === 'write_failed') failed = true;
      halt();
    },
    spans: { resources: { resourceOf: () => undefined }, clock: identityClock, unknownNames: 'address' },
    pipeline: { pcapng: pcapng?.sink },
  });
  let index: KeyLogIndex | undefined;
  if (options.keylogFile !== undefined) index = await readKeyLog(options.keylogFile, secrets, counters.secrets, log);
  process.on('SIGINT', stop).on('SIGTERM', stop);

  // While a backend is waited for, nothing else may be under way.
  const alive = setInterval(() => {}, KEEP_ALIVE_MS);
  const sink = new ReplaySink(pipeline);
  for (const file of options.files) {
    const name = file === '-' ? 'standard input' : file;
    const before = ignoredPackets(counters.packets.ignored);
    if (stopped) break;
    capture = new FileCapture(paced(file, outputs, pcapng, stopRequest.promise), {
      onSecrets: (lines) => secrets.addKeyLogText(lines),
      live: file === '-',
      onTrailing: () => warnOfTrailing(log, name),
      name,
      ignored: counters.packets.ignored,
      fragments: limits,
    });
    capture.start((chunk, length) => walkChunk(chunk, length, sink));
    try {
      const read = await capture.finished;
      if (read !== undefined) warnOfIgnored(log, name, read.packets, counters.packets.ignored, before);
    } catch (error) {
      log.error(`cannot read ${(error as Error).message}`);
      failed = true;
    }
  }
  pipeline.finish('shutdown', sink.lastUs);
  index?.close();
  await pcapng?.finish(0);
  await shutdownOutputs(outputs, config.export.flushDeadlineMs);
  if ([counters.spans, ...Object.values(counters.otherOutputs)].some(isShort)) failed = true;
  if (options.statsTarget !== undefined) await writeStats(options.statsTarget, toStats(counters));
  log.flush();
  clearInterval(alive);
  return failed ? 1 : 0;
}

/** Spans did not arrive, though somebody waited for them. */
function isShort({ dropped }: Deliveries): boolean {
  return Object.entries(dropped).some(([reason, n]) => reason !== 'reader_gone' && n > 0);
}

function ignoredPackets(ignored: ReasonCounts): ReadonlyMap<string, number> {
  return new Map(Object.entries(ignored));
}

/** Warns when most packets of a file are ignored: they may be behind something that is not read. */
function warnOfIgnored(
  log: Log,
  name: string,
  packets: number,
  ignored: ReasonCounts,
  before: ReadonlyMap<string, number>,
): void {
  const reasons = Object.entries(ignored)
    .map(([reason, n]) => [reason, n - (before.get(reason) ?? 0)] as const)
    .filter(([, n]) => n > 0)
    .sort(([, a], [, b]) => b - a);
  const sum = reasons.reduce((total, [, n]) => total + n, 0);
  if (sum * 2 <= packets) return;
  log.warn(
    `${name}: ${sum} of ${packets} packets hold no TCP segment that can be read (${reasons.map(([reason, n]) => `${reason}: ${n}`).join(', ')}); docs/reference/capture-files.md lists the link types and tunnels that are read`,
  );
}

/**
 * Reads a key log, maybe compressed by gzip, piece by piece: the file may be larger than memory.
 *
 * @returns of a large file where its secrets lie; they are read when a connection asks for them
 * @throws Error for people
 */
async function readKeyLog(
  file: string,
  secrets: SecretStore,
  counts: ReasonCounts,
  log: Log,
): Promise<KeyLogIndex | undefined> {
  let index: KeyLogIndex | undefined;
  const lines = new KeyLogLines((line, offset) => {
    if (index?.add(line, offset) !== true) secrets.addKeyLogLine(line);
  });
  try {
    if (isIndexed(file)) index = new KeyLogIndex(file, INDEXED_RUNS);
    for await (const part of decompressed(fileBytes(file), () => warnOfTrailing(log, file))) lines.push(part);
    lines.finish();
  } catch (error) {
    throw new Error(`--keylog: cannot read ${file}: ${whyNot(error, 'read')}`);
  }
  const { evicted = 0 } = counts;
  if (evicted > 0)
    log.warn(`${file}: too many secrets, ${evicted} are left out; of a file that is not compressed all are found`);
  if (index === undefined) return undefined;
  const { dropped } = index;
  if (dropped > 0) {
    count(counts, 'key_log_limit', dropped);
    log.warn(`${file}: too many secrets, the last ${dropped} are left out`);
  }
  secrets.source = (random) => index.lookUp(random, (line) => secrets.addKeyLogLine(line));
  return index;
}

/** A place in a compressed file cannot be gone back to, nor in a pipe. */
function isIndexed(file: string): boolean {
  const stats = statSync(file);
  if (!stats.isFile() || stats.size < INDEXED_BYTES) return false;
  const fd = openSync(file, 'r');
  try {
    const magic = Buffer.alloc(2);
    readSync(fd, magic, 0, 2, 0);
    return !isGzip(magic);
  } finally {
    closeSync(fd);
  }
}

function warnOfTrailing(log: Log, name: string): void {
  log.warn(`${name}: what stands behind the end of the compressed data is no gzip, and passed over`);
}

/** Time advances with the packets. */
class ReplaySink implements CaptureSink {
  lastUs = 0;
  readonly #pipeline: Pipeline;
  #tickedUs = 0;

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline;
  }

  packet(record: PacketRecord): void {
    this.lastUs = record.timeUs;
    if (Math.abs(record.timeUs - this.#tickedUs) > TICK_INTERVAL_US) {
      this.#tickedUs = record.timeUs;
      this.#pipeline.tick(record.timeUs);
    }
    this.#pipeline.packet(record);
  }

  // A file holds packets and secrets only.
  socket(): void {}
  process(): void {}
  secret(): void {}
}

/** The bytes of a file, no faster than the outputs can take what comes of them. */
async function* paced(
  path: string,
  outputs: readonly Output[],
  pcapng: PcapngFile | undefined,
  stopRequested: Promise<void>,
): AsyncIterable<Buffer> {
  const source = path === '-' ? process.stdin : fileBytes(path);
  for await (const bytes of source) {
    yield bytes as Buffer;
    for (const output of outputs) await Promise.race([output.ready(), stopRequested]);
    await pcapng?.ready();
  }
}
