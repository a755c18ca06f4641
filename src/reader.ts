/** The main thread's door to the reader: questions with a deadline, and a new reader for one that hangs. */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { ProcessRecord } from './capture/records.ts';
import { type Limits, readerLimits } from './config/limits.ts';
import { SharedGuard } from './files/guard.ts';
import {
  ANSWERED,
  type Answer,
  type FromReader,
  HANDLED,
  type ReaderSettings,
  type ReaderStats,
  type ToReader,
} from './reader-protocol.ts';
import type { ProcessLibrary } from './secrets/probe-status.ts';
import type { ProbeNotice } from './secrets/probed-files.ts';
import { count, type ReasonCounts } from './telemetry/counters.ts';
import type { Log } from './telemetry/log.ts';
import type { ProcessFacts } from './workload/proc.ts';
import type { FactsReader } from './workload/workloads.ts';

export interface ReaderOptions {
  /** The capture's ring of secrets; undefined: no library is probed. */
  readonly secretRingFd: number | undefined;
  readonly limits: Limits;
  readonly log: Log;
  readonly procRoot?: string;
}

/** How often is looked whether the reader moves. */
const WATCH_MS = 250;
const STALLED_OBSERVATIONS = Math.ceil(readerLimits.stalledMs / WATCH_MS);
/** What was left alone is tried again by a reader that starts after this. */
const LEFT_ALONE_MS = 600_000;
/** A container on whose things readers hung so often is left alone as a whole. */
const HANGS_OF_CONTAINER = 2;
const RESTART_DELAY_MS = 1000;
const STOP_MS = 2000;

/** One thread and the ways to it. */
interface Thread {
  readonly worker: Worker;
  readonly guard: SharedGuard;
  readonly signal: Int32Array;
  readonly answers: MessagePort;
  posted: number;
  /** Its code is loaded: from now on it is expected to move. */
  isOpen: boolean;
  /** Same state, observed so often. */
  still: number;
  lastSteps: number;
  lastHandled: number;
}

type Late = (answer: Answer) => void;

/**
 * Everything that is read about processes is read in a thread of its own (reader-main.ts). What must be known at once, the facts of a
 * process whose first packet is in hand, is waited for, but not longer than readerLimits.answerMs, and the late answer still counts. A reader
 * that makes no step for readerLimits.stalledMs hangs in a file system or a lock that is not ours: it is given up, and the next one leaves
 * alone what it hung on.
 */
export class Reader implements FactsReader {
  readonly #options: ReaderOptions;
  readonly #own: ReasonCounts = {};
  /** Of readers that are gone. */
  readonly #before: { probes: ReasonCounts; reader: ReasonCounts; lost: ReasonCounts } = {
    probes: {},
    reader: {},
    lost: {},
  };
  #stats: ReaderStats = { attached: 0, probes: {}, reader: {}, lost: {} };
  #thread: Thread | undefined;
  #hung = 0;
  #stopped = false;
  #begun = false;
  #nextId = 1;
  readonly #late = new Map<number, Late>();
  readonly #leftAlone = new Map<string, number>();
  readonly #hangs = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #waitMs: number = readerLimits.waitMsPerSecond;
  #waitAtMs = performance.now();
  /** The last question was not answered in time. */
  #suspect = false;
  #onStarted: (() => void) | undefined;
  #onStopped: (() => void) | undefined;

  private constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** @throws Error that says why the probes cannot be loaded */
  static async open(options: ReaderOptions): Promise<Reader> {
    const reader = new Reader(options);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    reader.#begin(resolve, reject);
    await promise;
    reader.#timer = setInterval(() => reader.#watch(), WATCH_MS).unref();
    return reader;
  }

  /** Looks at every process and probes what they use; resolves when every file in use is probed that there is a share of work for. */
  async start(): Promise<void> {
    this.#begun = true;
    await new Promise<void>((resolve) => {
      this.#onStarted = resolve;
      this.#post({ kind: 'start' });
    });
  }

  /** A program was started, or a process makes its first socket. */
  process(record: ProcessRecord): void {
    this.#post({ kind: 'event', record });
  }

  /** Files that are probed. */
  get attached(): number {
    return this.#stats.attached;
  }

  /** What was left out in the search for TLS libraries. */
  get probeCounts(): ReasonCounts {
    return joined(this.#before.probes, this.#stats.probes);
  }

  /** What caps, shares of work and hanging file systems cost. */
  get counts(): ReasonCounts {
    return joined(joined(this.#before.reader, this.#stats.reader), this.#own);
  }

  /** Secrets that the probes lost, by reason. */
  get lost(): ReasonCounts {
    return joined(this.#before.lost, this.#stats.lost);
  }

  /** A thread hangs: the process cannot end in the ordinary way, which waits for its threads. */
  get hangs(): boolean {
    return this.#hung > 0;
  }

  /** @returns 'late' when there is no answer in time; `late` is called when it comes */
  facts(pid: number, late: (facts: ProcessFacts | undefined) => void): ProcessFacts | undefined | 'late' {
    const answer = this.#ask(
      (id) => ({ kind: 'facts', id, pid }),
      (found) => late(found.facts),
    );
    return answer === undefined ? 'late' : answer.facts;
  }

  libraryOf(pid: number): ProcessLibrary | undefined {
    return this.#ask(
      (id) => ({ kind: 'library', id, pid }),
      () => {},
    )?.library;
  }

  /** Late answers are handed over: to be called now and then. */
  tick(): void {
    if (this.#thread !== undefined) this.#drain(this.#thread, 0);
  }

  /** Takes all probes off. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    const thread = this.#thread;
    if (thread === undefined) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#onStopped = resolve;
      this.#post({ kind: 'stop' });
      timer = setTimeout(() => {
        this.#hung++;
        resolve();
      }, STOP_MS);
    });
    clearTimeout(timer);
  }

  // --- Questions -------------------------------------------------------------------------------------------------------------------

  #ask(question: (id: number) => ToReader, late: Late): Answer | undefined {
    const thread = this.#thread;
    const id = this.#nextId++;
    if (thread === undefined || !this.#post(question(id))) return undefined;
    const begunMs = performance.now();
    const untilMs = begunMs + this.#mayWaitMs(begunMs);
    for (;;) {
      const seen = Atomics.load(thread.signal, ANSWERED);
      const answer = this.#drain(thread, id);
      if (answer !== undefined) {
        this.#suspect = false;
        this.#waitMs -= performance.now() - begunMs;
        return answer;
      }
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0) break;
      Atomics.wait(thread.signal, ANSWERED, seen, leftMs);
    }
    this.#waitMs -= performance.now() - begunMs;
    this.#suspect = true;
    count(this.#own, 'late_answer');
    if (this.#late.size < readerLimits.waitingQuestions) this.#late.set(id, late);
    return undefined;
  }

  /** How long an answer may be waited for: not at all while the last one has not come. */
  #mayWaitMs(nowMs: number): number {
    const { answerMs, waitMsPerSecond } = readerLimits;
    this.#waitMs = Math.min(waitMsPerSecond, this.#waitMs + ((nowMs - this.#waitAtMs) * waitMsPerSecond) / 1000);
    this.#waitAtMs = nowMs;
    return this.#suspect || this.#thread?.isOpen !== true ? 0 : Math.max(0, Math.min(answerMs, this.#waitMs));
  }

  /** Takes what was answered. @returns the answer with this id */
  #drain(thread: Thread, id: number): Answer | undefined {
    let wanted: Answer | undefined;
    for (
      let next = receiveMessageOnPort(thread.answers);
      next !== undefined;
      next = receiveMessageOnPort(thread.answers)
    ) {
      const answer = next.message as Answer;
      this.#suspect = false;
      if (answer.id === id) {
        wanted = answer;
        continue;
      }
      const late = this.#late.get(answer.id);
      this.#late.delete(answer.id);
      late?.(answer);
    }
    return wanted;
  }

  /** @returns false when too much waits */
  #post(message: ToReader): boolean {
    const thread = this.#thread;
    if (thread === undefined) return false;
    const waiting = (thread.posted - Atomics.load(thread.signal, HANDLED)) | 0;
    if (waiting >= readerLimits.waitingQuestions && message.kind !== 'stop') {
      count(this.#own, 'queue_full');
      return false;
    }
    thread.posted = (thread.posted + 1) | 0;
    thread.worker.postMessage(message);
    return true;
  }

  // --- Threads ---------------------------------------------------------------------------------------------------------------------

  #begin(onOpen: () => void, onFailed: (error: Error) => void): void {
    const { port1, port2 } = new MessageChannel();
    const guard = new SharedGuard();
    const signal = new SharedArrayBuffer(8);
    const oldest = Date.now() - LEFT_ALONE_MS;
    const settings: ReaderSettings = {
      procRoot: this.#options.procRoot ?? '/proc',
      limits: this.#options.limits,
      secretRingFd: this.#options.secretRingFd,
      guard: guard.memory,
      signal,
      answers: port2,
      leftAlone: [...this.#leftAlone].filter(([, sinceMs]) => sinceMs > oldest).map(([subject]) => subject),
    };
    const entry = import.meta.url.endsWith('.ts') ? './reader-main.ts' : './reader-main.js';
    const worker = new Worker(new URL(entry, import.meta.url), {
      name: 'reader',
      workerData: settings,
      transferList: [port2],
      execArgv: [],
      resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: readerLimits.heapMb },
    });
    worker.unref();
    const thread: Thread = {
      worker,
      guard,
      signal: new Int32Array(signal),
      answers: port1,
      posted: 0,
      isOpen: false,
      still: 0,
      lastSteps: -1,
      lastHandled: 0,
    };
    port1.unref();
    this.#thread = thread;
    worker.on('message', (message: FromReader) => {
      if (message.kind === 'open') {
        thread.isOpen = true;
        onOpen();
      }
      if (message.kind === 'failed') onFailed(new Error(message.message));
      else if (this.#thread === thread) this.#heard(message);
    });
    // One that runs out of memory ends with an error, too.
    worker.on('error', (error) => {
      onFailed(error instanceof Error ? error : new Error(String(error)));
      this.#ended(thread, 'reader_failed');
    });
    worker.on('exit', () => this.#ended(thread, 'reader_failed'));
  }

  #heard(message: FromReader): void {
    switch (message.kind) {
      case 'notice':
        this.#tell(message.notice);
        return;
      case 'stats':
        this.#stats = message.stats;
        return;
      case 'started':
        this.#stats = message.stats;
        this.#onStarted?.();
        return;
      case 'stopped':
        this.#stats = message.stats;
        this.#onStopped?.();
    }
  }

  #tell(notice: ProbeNotice): void {
    const { log } = this.#options;
    if (notice.event === 'failed') log.warn('a TLS library cannot be probed', { ...notice });
    else log.debug(`probe ${notice.event}`, { ...notice });
  }

  /** In observations, not in time: a machine that stands still stops both threads. */
  #watch(): void {
    const thread = this.#thread;
    if (thread === undefined || !thread.isOpen) return;
    const state = thread.guard.state();
    const handled = Atomics.load(thread.signal, HANDLED);
    const isStill =
      state === undefined
        ? handled === thread.lastHandled && handled !== thread.posted
        : state.steps === thread.lastSteps && handled === thread.lastHandled;
    thread.still = isStill ? thread.still + 1 : 0;
    thread.lastSteps = state?.steps ?? -1;
    thread.lastHandled = handled;
    if (thread.still < STALLED_OBSERVATIONS) return;
    count(this.#own, 'reader_hung');
    this.#hung++;
    thread.worker.once('exit', () => this.#hung--);
    if (state !== undefined) this.#leaveAlone(state.container, state.subject);
    this.#options.log.warn('a file system or a process does not answer; it is left alone', {
      subject: state?.subject ?? 'unknown',
      container: state?.container ?? 'unknown',
    });
    void thread.worker.terminate();
    this.#replace(thread);
  }

  #leaveAlone(container: string, subject: string): void {
    this.#leftAlone.set(subject, Date.now());
    const hangs = (this.#hangs.get(container) ?? 0) + 1;
    this.#hangs.set(container, hangs);
    if (container !== '' && hangs >= HANGS_OF_CONTAINER) this.#leftAlone.set(container, Date.now());
  }

  #ended(thread: Thread, reason: string): void {
    if (this.#thread !== thread || this.#stopped) {
      if (this.#thread === thread) this.#onStopped?.();
      return;
    }
    count(this.#own, reason);
    const state = thread.guard.state();
    if (state !== undefined) this.#leaveAlone(state.container, state.subject);
    this.#options.log.warn('the reader of processes has ended; another one is started');
    this.#replace(thread);
  }

  #replace(thread: Thread): void {
    this.#thread = undefined;
    thread.answers.close();
    for (const key of ['probes', 'reader', 'lost'] as const) {
      this.#before[key] = joined(this.#before[key], this.#stats[key]);
    }
    this.#stats = { attached: 0, probes: {}, reader: {}, lost: {} };
    this.#late.clear();
    this.#suspect = false;
    if (this.#hung >= readerLimits.stalledReaders) {
      count(this.#own, 'reader_given_up');
      this.#options.log.error('too many readers of processes hang; new programs are not looked at any more');
      this.#onStarted?.();
      return;
    }
    setTimeout(
      () => {
        if (this.#stopped || !this.#begun) return;
        this.#begin(
          () => this.#post({ kind: 'start' }),
          (error) => this.#options.log.error('the probes cannot be loaded', { error: error.message }),
        );
      },
      this.#own.reader_failed === undefined ? 0 : RESTART_DELAY_MS,
    ).unref();
  }
}

function joined(a: ReasonCounts, b: ReasonCounts): ReasonCounts {
  const sum: ReasonCounts = { ...a };
  for (const [reason, n] of Object.entries(b)) count(sum, reason, n);
  return sum;
}
