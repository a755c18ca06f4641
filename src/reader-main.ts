/**
 * The reader's thread: everything that is read about processes, and the probes on their files. What it reads is in the hands of those processes: a
 * file may be endless, and a file system may never answer. Then this thread is held up, and no other.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { WorkBudget } from './files/budget.ts';
import { SharedGuard } from './files/guard.ts';
import { newTally } from './files/read.ts';
import {
  ANSWERED,
  type Answer,
  type FromReader,
  HANDLED,
  type ReaderSettings,
  type ReaderStats,
  type ToReader,
} from './reader-protocol.ts';
import { openProbes, probeBackend, type SecretProbes } from './secrets/native-probes.ts';
import { ProbeManager } from './secrets/probes.ts';
import { count } from './telemetry/counters.ts';
import { ownerOf, type ProcessFacts, readCgroup, readProcess } from './workload/proc.ts';

const STATS_MS = 1000;

const settings = workerData as ReaderSettings;
const port = parentPort!;
const signal = new Int32Array(settings.signal);
const tally = newTally();
const budget = new WorkBudget();
const guard = new SharedGuard(settings.guard, settings.leftAlone, () => count(tally.counts, 'left_alone'));

function say(message: FromReader): void {
  port.postMessage(message);
}

function answer(given: Answer): void {
  settings.answers.postMessage(given);
  Atomics.add(signal, ANSWERED, 1);
  Atomics.notify(signal, ANSWERED);
}

function containerOf(pid: number): string {
  return ownerOf(readCgroup(settings.procRoot, pid, tally));
}

function factsOf(pid: number): ProcessFacts | undefined {
  const container = containerOf(pid);
  const brief = budget.exhausted(pid, container) !== undefined;
  if (brief) count(tally.counts, 'container_budget');
  if (!guard.enter(container, `process ${pid}`)) return undefined;
  const begunMs = performance.now();
  const facts = readProcess(settings.procRoot, pid, tally, brief);
  guard.leave();
  budget.charge(pid, container, performance.now() - begunMs);
  return facts;
}

/** The probes and who puts them on files; nothing where no source reads their secrets. */
interface Probing {
  readonly probes: SecretProbes;
  readonly manager: ProbeManager;
}

function statsOf(probing: Probing | undefined): ReaderStats {
  return {
    attached: probing?.manager.attached ?? 0,
    probes: { ...probing?.manager.counts },
    reader: { ...tally.counts },
    lost: { ...probing?.probes.info().lost },
  };
}

function openProbing(secretRingFd: number): Probing {
  const probes = openProbes({ secretRingFd });
  const manager = new ProbeManager({
    ...probeBackend(probes),
    procRoot: settings.procRoot,
    limits: settings.limits,
    notify: (notice) => say({ kind: 'notice', notice }),
    containerOf,
    budget,
    guard,
    tally,
  });
  return { probes, manager };
}

function serve(probing: Probing | undefined): void {
  const timer = setInterval(() => say({ kind: 'stats', stats: statsOf(probing) }), STATS_MS);
  const handle = (message: ToReader): void => {
    switch (message.kind) {
      case 'start':
        void (probing?.manager.start() ?? Promise.resolve()).then(() =>
          say({ kind: 'started', stats: statsOf(probing) }),
        );
        return;
      case 'event':
        probing?.manager.processEvent(message.record);
        return;
      case 'facts':
        answer({ id: message.id, facts: factsOf(message.pid) });
        return;
      case 'library':
        answer({ id: message.id, library: probing?.manager.libraryOf(message.pid) });
        return;
      case 'stop': {
        clearInterval(timer);
        const stats = statsOf(probing);
        probing?.manager.stop();
        probing?.probes.close();
        say({ kind: 'stopped', stats });
        port.close();
      }
    }
  };
  port.on('message', (message: ToReader) => {
    try {
      handle(message);
    } finally {
      Atomics.add(signal, HANDLED, 1);
    }
  });
}

try {
  const { secretRingFd } = settings;
  serve(secretRingFd === undefined ? undefined : openProbing(secretRingFd));
  say({ kind: 'open' });
} catch (error) {
  say({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
}
