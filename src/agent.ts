/** The composition root of `wirespan agent`: the kernel as the source, processes as the owners, timers and signals. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Assembly, assemble, createLog, packageVersion, shutdownOutputs } from './assembly.ts';
import { exitAtOnce, protectMemory, releaseMemory } from './capture/native.ts';
import type { CaptureSource, SourceClock } from './capture/source.ts';
import { walkChunk } from './capture/walk.ts';
import type { AgentOptions } from './cli/options.ts';
import { nothingSeenYet } from './cli/waiting.ts';
import { followPods, openCluster } from './cluster.ts';
import { type CapabilityCheck, capabilityRemedy, checkCapabilities } from './doctor/capabilities.ts';
import { outputsInUse } from './export/create.ts';
import type { Connection } from './flow/connection.ts';
import { ReleasePolicy } from './memory/release.ts';
import { openPcapng, type PcapngFile } from './pcapng/file.ts';
import { Reader } from './reader.ts';
import { KeyLogFile } from './secrets/keylog-file.ts';
import { SelfTelemetry } from './self.ts';
import { type OpenSource, openSource } from './sources.ts';
import { count, newCounters, type ReasonCounts } from './telemetry/counters.ts';
import { checkStatsTarget, toStats, writeStats } from './telemetry/stats.ts';
import { readHost } from './workload/host.ts';
import type { Cluster } from './workload/kubernetes/cluster.ts';
import { Workloads } from './workload/workloads.ts';

const TICK_MS = 100;
/** V8 frees the buffers of a collection within this time. */
const SWEEP_MS = 1000;
/** How often the number of repeated messages is logged. */
const LOG_MS = 10_000;
const LOSS_CHECK_MS = 10_000;
/** When nothing is seen the console says so, less and less often. */
const FIRST_HINT_S = 1;
const HINT_FACTOR = 10;

/** Everything that runs while the agent does. */
interface Parts extends Assembly {
  readonly clock: SourceClock;
  readonly capture: CaptureSource;
  readonly reader: Reader;
  readonly pcapng: PcapngFile | undefined;
  readonly keylog: KeyLogFile | undefined;
  readonly self: SelfTelemetry | undefined;
  readonly workloads: Workloads;
  readonly cluster: Cluster | undefined;
  /** Exchanges that waited for what the cluster tells. */
  readonly waits: ReasonCounts;
}

/**
 * Runs until it is asked to stop, or its source has no more.
 * @param open makes the source of packets
 * @returns the exit code; @throws Error for people when the agent cannot run here
 */
export async function runAgent(options: AgentOptions, open: OpenSource = openSource): Promise<number> {
  const stop = new StopRequest();
  protectMemory();
  checkStatsTarget(options.statsTarget);
  const parts = await withRights(() => build(options, open, () => stop.request()));
  const timer = await begin(parts);
  parts.self?.health.running();
  announce(parts, options);
  const hints = startHints(parts, options);
  const losses = watchLosses(parts);
  const settling = settleLog(parts);
  const ended = parts.capture.finished.then(
    () => undefined,
    (error: unknown) => error,
  );
  const failure = await Promise.race([stop.requested, ended]);
  if (failure !== undefined) parts.log.error(`cannot capture any more: ${(failure as Error).message}`);
  clearInterval(timer);
  clearInterval(hints);
  clearInterval(losses);
  clearInterval(settling);
  await end(parts, options);
  // Node waits for its threads, and one that hangs in a file system may never come.
  const code = failure === undefined ? 0 : 1;
  if (parts.reader.hangs) exitAtOnce(code);
  return code;
}

/** Says which capabilities are missing when that is why the kernel refused. */
async function withRights(start: () => Promise<Parts>): Promise<Parts> {
  const missing = checkCapabilities(readFileSync('/proc/self/status', 'utf8')).filter(({ effective }) => !effective);
  const list = (lacks: readonly CapabilityCheck[]): string =>
    lacks.map(({ name, use }) => `${name} (${use})`).join(', ');
  let parts: Parts;
  try {
    parts = await start();
  } catch (error) {
    if (!missing.some(({ required }) => required)) throw error;
    const [first] = (error as Error).message.split('\n');
    throw new Error(`${first}\nmissing: ${list(missing)}\n${capabilityRemedy(process.execPath)}`);
  }
  if (missing.length > 0) parts.log.warn('less is seen without some capabilities', { missing: list(missing) });
  return parts;
}

async function build(options: AgentOptions, open: OpenSource, onBroken: () => void): Promise<Parts> {
  const { config } = options;
  const { limits } = config;
  const log = createLog(options);
  const host = readHost();
  const version = packageVersion();
  const self = await SelfTelemetry.open({ config, host, version, log, tickMs: TICK_MS });
  const { durations: measures } = config.metrics;
  if (measures && self === undefined) {
    log.warn('metrics.durations has no effect: set telemetry.listen or telemetry.otlp to expose them');
  }
  const counters = newCounters();
  const cluster = await openCluster(config, log);
  // Its answers are under way while the rest is built.
  cluster?.start();
  const capture = open(config);
  const { clock } = capture;
  const reader = await Reader.open({ secretRingFd: capture.secretRingFd, limits, log });
  const workloads = new Workloads({
    host: { ...host, name: cluster?.nodeName ?? host.name },
    agentVersion: version,
    limits,
    reader,
    kubernetes: cluster && followPods(cluster, config, capture),
  });
  const waits: ReasonCounts = {};
  const pcapng = openPcapng(options.pcapngFile, { limits, clock, log });
  const assembly = await assemble(options, {
    limits,
    log,
    counters,
    measures: measures && self !== undefined,
    perspective: options.perspective ?? 'auto',
    // A disk that is full may have the other outputs go on, and is counted; a reader that has gone wants no more.
    onBroken: (why) => {
      if (why === 'reader_gone') onBroken();
    },
    spans: {
      resources: workloads,
      peers: cluster?.peers,
      clock,
      idSalt: randomBytes(16),
      unknownNames: 'unknown_service',
    },
    pipeline: {
      pcapng: pcapng?.sink,
      observers: [workloads, reader],
      ...(capture.capabilities.mute && { mute: (cookie) => capture.mute(cookie) }),
      waiting: cluster && { resources: workloads, limit: limits.waitingExchanges, counts: waits },
      explainMissingSecret: (connection) => explainMissingSecret(connection, workloads, reader),
    },
  });
  const { keylogFile } = options;
  const keylog =
    keylogFile === undefined
      ? undefined
      : new KeyLogFile(keylogFile, (line) => assembly.secrets.addKeyLogLine(line, clock.nowUs()));
  const { outputs, durations, feed, memory } = assembly;
  self?.observe({ capture, reader, counters, outputs, durations, feed, memory, workloads, cluster, waits });
  return { ...assembly, clock, capture, reader, pcapng, keylog, self, workloads, cluster, waits };
}

/** Probes first, then packets: a connection whose first packet is seen shall not lack its secret. */
async function begin(parts: Parts): Promise<NodeJS.Timeout> {
  const { capture, clock, cluster, counters, keylog, log, memory, pipeline, reader, self, workloads } = parts;
  if (keylog?.poll() === false) log.warn('the key log cannot be read yet; it is waited for', { file: keylog.path });
  await reader.start();
  capture.start((chunk, length) => {
    // A program writes its key log before it sends what the keys protect.
    keylog?.poll();
    if (walkChunk(chunk, length, pipeline) === 0) return;
    // The reader delivers whole records: a defect of ours; how many records it cost is not known.
    count(counters.internalErrors, 'chunk');
  });
  self?.health.attached();
  if (capture.capabilities.sockets) for (const socket of capture.scanSockets()) pipeline.socket(socket);
  const releases = new ReleasePolicy();
  return setInterval(() => {
    self?.tick();
    keylog?.poll();
    cluster?.tick();
    reader.tick();
    workloads.tick();
    pipeline.tick(clock.nowUs());
    if (releases.isDue(memory.bytes, memory.takePeak(), performance.now())) giveMemoryBack();
  }, TICK_MS);
}

/** Twice: V8 frees buffers in a thread of its own once it has collected, and only what is free then is given back. */
function giveMemoryBack(): void {
  releaseMemory();
  setTimeout(releaseMemory, SWEEP_MS).unref();
}

function announce(parts: Parts, options: AgentOptions): void {
  const { log, reader } = parts;
  const files = reader.attached;
  log.plain(`ready: watching ${watched(options)}; TLS secrets from ${files} ${files === 1 ? 'file' : 'files'}`);
}

function watched(options: AgentOptions): string {
  const { cgroup } = options.config.capture;
  return cgroup === undefined ? 'every process of this machine' : `the processes below ${cgroup}`;
}

/** Messages that were suppressed are counted in the log while the agent runs. */
function settleLog({ log }: Parts): NodeJS.Timeout {
  return setInterval(() => log.settle(), LOG_MS).unref();
}

/** Losses are logged while they happen, not only at the end. */
function watchLosses({ capture, log }: Parts): NodeJS.Timeout {
  let told = 0;
  const timer = setInterval(() => {
    const lost = total(capture.lost());
    if (lost > told) {
      log.warn('packets are being lost between kernel and agent; a larger capture.ring_mib may help', {
        packets: lost - told,
        seconds: LOSS_CHECK_MS / 1000,
      });
    }
    told = lost;
  }, LOSS_CHECK_MS);
  return timer.unref();
}

/** Says on standard error whether an empty console is right. */
function startHints(parts: Parts, options: AgentOptions): NodeJS.Timeout | undefined {
  if (!outputsInUse(options.config.outputs, options.config).includes('console')) return undefined;
  const { counters, log } = parts;
  let afterS = FIRST_HINT_S;
  const begunMs = performance.now();
  const timer = setInterval(() => {
    if (counters.spans.made > 0) clearInterval(timer);
    else if (performance.now() - begunMs >= afterS * 1000) {
      for (const line of nothingSeenYet(watched(options), counters)) log.plain(line);
      afterS *= HINT_FACTOR;
    }
  }, 200);
  return timer.unref();
}

/** What was answered becomes spans, and all that was sent arrives, within the deadline. Nothing of ours stays in the kernel. */
async function end(parts: Parts, options: AgentOptions): Promise<void> {
  const { capture, clock, cluster, counters, keylog, log, outputs, pcapng, pipeline, reader, self } = parts;
  self?.health.stopping();
  await capture.stop();
  addCounts(counters.packets.lost, capture.lost());
  keylog?.close();
  pipeline.finish('shutdown', clock.nowUs());
  await cluster?.stop();
  await reader.stop();
  addCounts(counters.packets.lost, reader.lost);
  self?.lossesAreCounted();
  const { flushDeadlineMs } = options.config.export;
  const written = pcapng?.finish(total(capture.lost())) ?? Promise.resolve();
  await Promise.all([within(flushDeadlineMs, written), shutdownOutputs(outputs, flushDeadlineMs)]);
  const { lost } = counters.packets;
  const { dropped } = counters.spans;
  if (total(lost) > 0) log.warn('packets were lost between kernel and agent; a larger capture.ring_mib may help', lost);
  if (total(dropped) > 0) log.warn('spans were not exported', { spans: total(dropped), ...dropped });
  for (const [output, { dropped: unwritten }] of Object.entries(counters.otherOutputs)) {
    if (total(unwritten) > 0) log.warn('spans were not written', { output, spans: total(unwritten), ...unwritten });
  }
  if (options.statsTarget !== undefined) {
    await writeStats(
      options.statsTarget,
      toStats(counters, {
        probes: reader.probeCounts,
        reader: reader.counts,
        ...(cluster && { kubernetes: { ...cluster.stats(), waits: parts.waits } }),
      }),
    );
  }
  await self?.close(flushDeadlineMs);
  log.flush();
}

/** Waits for `work`, but no longer than that. */
async function within(timeoutMs: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([work, timeout]);
  clearTimeout(timer);
}

function addCounts(to: ReasonCounts, from: ReasonCounts): void {
  for (const [reason, n] of Object.entries(from)) if (n > 0) count(to, reason, n);
}

function total(counts: ReasonCounts): number {
  return Object.values(counts).reduce((sum, n) => sum + n, 0);
}

/**
 * Why no secret came, from what the owners of the sockets have loaded.
 * @returns a reason that names the library, or undefined when a probe should have seen it
 */
function explainMissingSecret(connection: Connection, workloads: Workloads, reader: Reader): string | undefined {
  for (const { socket } of [connection.client, connection.server]) {
    const pid = socket === 0 ? undefined : workloads.pidOf(socket);
    const library = pid === undefined ? undefined : reader.libraryOf(pid);
    if (library !== undefined && !library.probed) return `no_probe: ${library.name}`;
  }
  return undefined;
}

/** SIGINT and SIGTERM: the first asks for an orderly end, a second one ends the process at once. */
class StopRequest {
  readonly requested: Promise<void>;
  readonly request: () => void;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.requested = promise;
    let asked = false;
    this.request = resolve;
    const onSignal = (): void => {
      if (asked) exitAtOnce(1);
      asked = true;
      resolve();
    };
    process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  }
}
