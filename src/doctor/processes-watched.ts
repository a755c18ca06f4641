import { Worker } from 'node:worker_threads';
import { SharedGuard } from '../files/guard.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { ProcessCheck } from './report.ts';

/** What the thread is started with. */
export interface SearchSettings {
  readonly procRoot: string;
  readonly guard: SharedArrayBuffer;
  readonly skip: readonly number[];
}

export type FromSearch = { check: ProcessCheck } | { counts: ReasonCounts };

export interface WatchedProcesses {
  readonly processes: readonly ProcessCheck[];
  /** What caps cost, by reason. */
  readonly counts: ReasonCounts;
  /** A thread hangs: the process cannot end in the ordinary way, which waits for its threads. */
  readonly hangs: boolean;
}

/** A process that takes so long is left alone, and so many of them are, before the rest is. */
const HANG_MS = 5000;
const MAX_HANGS = 4;

/**
 * The TLS library of each running process. What a process maps may lie on a file system that never answers: this is read in a thread, which is
 * given up then, and another one leaves the process out.
 */
export async function watchedProcesses(procRoot = '/proc'): Promise<WatchedProcesses> {
  const processes: ProcessCheck[] = [];
  const counts: ReasonCounts = {};
  let hangs = 0;
  for (let isDone = false; !isDone && hangs <= MAX_HANGS; ) {
    const hung = await search(procRoot, processes, counts);
    isDone = hung === undefined;
    if (hung === undefined) continue;
    hangs++;
    count(counts, 'does_not_answer');
    processes.push({ pid: hung, name: 'unknown', state: 'unreadable', detail: 'a file of it does not answer' });
  }
  return { processes, counts, hangs: hangs > 0 };
}

/** @returns the process on which the thread hangs; undefined when all were looked at */
async function search(procRoot: string, processes: ProcessCheck[], counts: ReasonCounts): Promise<number | undefined> {
  const guard = new SharedGuard();
  const settings: SearchSettings = { procRoot, guard: guard.memory, skip: processes.map(({ pid }) => pid) };
  const entry = import.meta.url.endsWith('.ts') ? './processes-main.ts' : './processes-main.js';
  const worker = new Worker(new URL(entry, import.meta.url), { name: 'doctor', workerData: settings, execArgv: [] });
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
  worker.on('message', (message: FromSearch) => {
    if ('check' in message) {
      processes.push(message.check);
      return;
    }
    for (const [reason, n] of Object.entries(message.counts)) count(counts, reason, n);
    resolve(undefined);
  });
  worker.once('error', reject);
  worker.once('exit', () => resolve(undefined));
  let steps = -1;
  let sinceMs = performance.now();
  const timer = setInterval(() => {
    const state = guard.state();
    if (state === undefined || state.steps !== steps) {
      steps = state?.steps ?? -1;
      sinceMs = performance.now();
    } else if (performance.now() - sinceMs > HANG_MS) {
      worker.removeAllListeners();
      worker.on('error', () => {});
      void worker.terminate();
      resolve(Number(state.subject));
    }
  }, 250);
  try {
    return await promise;
  } finally {
    clearInterval(timer);
    worker.unref();
  }
}
