/** What the main thread and the reader's thread say to each other. */
import type { MessagePort } from 'node:worker_threads';
import type { ProcessRecord } from './capture/records.ts';
import type { Limits } from './config/limits.ts';
import type { ProcessLibrary } from './secrets/probe-status.ts';
import type { ProbeNotice } from './secrets/probed-files.ts';
import type { ReasonCounts } from './telemetry/counters.ts';
import type { ProcessFacts } from './workload/proc.ts';

/** What a reader is started with. */
export interface ReaderSettings {
  readonly procRoot: string;
  readonly limits: Limits;
  /** The capture's ring of secrets, which they go to; undefined: no library is probed. */
  readonly secretRingFd: number | undefined;
  /** Of the SharedGuard: what the reader is at. */
  readonly guard: SharedArrayBuffer;
  /** Two Int32: answers that were given, messages that were handled. */
  readonly signal: SharedArrayBuffer;
  /** Where answers go. */
  readonly answers: MessagePort;
  /** Containers and subjects on which a reader hung. */
  readonly leftAlone: readonly string[];
}

export const ANSWERED = 0;
export const HANDLED = 1;

export type ToReader =
  /** Look at every process. */
  | { kind: 'start' }
  | { kind: 'event'; record: ProcessRecord }
  | { kind: 'facts'; id: number; pid: number }
  | { kind: 'library'; id: number; pid: number }
  | { kind: 'stop' };

export interface Answer {
  readonly id: number;
  /** Undefined: there is no such process. */
  readonly facts?: ProcessFacts | undefined;
  readonly library?: ProcessLibrary | undefined;
}

export interface ReaderStats {
  /** Files that are probed. */
  readonly attached: number;
  /** ProbeManager's counts, and what caps and shares of work cost. */
  readonly probes: ReasonCounts;
  readonly reader: ReasonCounts;
  /** Secrets that the probes lost. */
  readonly lost: ReasonCounts;
}

export type FromReader =
  /** The probes are loaded, or cannot be. */
  | { kind: 'open' }
  | { kind: 'failed'; message: string }
  | { kind: 'started'; stats: ReaderStats }
  | { kind: 'notice'; notice: ProbeNotice }
  | { kind: 'stats'; stats: ReaderStats }
  | { kind: 'stopped'; stats: ReaderStats };
