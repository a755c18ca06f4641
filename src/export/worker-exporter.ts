import { Worker } from 'node:worker_threads';
import type { Batch, BatchExporter, ExportOutcome } from './batch.ts';
import type { OtlpSettings } from './otlp-settings.ts';

/** To the worker. The memory that the payload is a part of is shared, or copied with it. */
export interface WorkerRequest {
  readonly id: number;
  readonly payload: Uint8Array;
  readonly spans: number;
}

/** From the worker. */
export interface WorkerResponse {
  readonly id: number;
  readonly outcome: ExportOutcome;
}

/** The worker's heap holds gRPC and what is under way. Without a limit V8 lets the copies that gRPC makes pile up: 40 MB more. */
const MAX_YOUNG_GENERATION_MB = 4;
const OLD_GENERATION_MB = 32;
/** A batch is at most this large. */
const BATCH_MB = 4;
const RESTART_DELAY_MS = 1000;

/**
 * Sends encoded batches from a thread of its own.
 *
 * HTTP/2 lets a sender be at most a window ahead of its receiver, often 64 KiB, so a batch of some hundred of these takes as many turns
 * of the event loop. Beside the pipeline, whose turns are long under load, that held export to a few megabytes a second.
 */
export class WorkerTraceExporter implements BatchExporter {
  readonly #settings: OtlpSettings;
  readonly #oldGenerationMb: number;
  readonly #pending = new Map<number, (outcome: ExportOutcome) => void>();
  #worker: Worker | undefined;
  #nextId = 1;
  #brokenAtMs = Number.NEGATIVE_INFINITY;
  #why = '';

  /** @param inFlight batches under way at most */
  constructor(settings: OtlpSettings, inFlight: number) {
    this.#settings = settings;
    this.#oldGenerationMb = OLD_GENERATION_MB + BATCH_MB * inFlight;
    this.#worker = this.#start();
  }

  exportBatch(batch: Batch, done: (outcome: ExportOutcome) => void): void {
    if (!Buffer.isBuffer(batch.payload)) throw new TypeError('a worker takes encoded batches');
    const worker = this.#worker ?? this.#restart();
    if (worker === undefined) {
      const outcome = failed(this.#why, true);
      queueMicrotask(() => done(outcome));
      return;
    }
    const id = this.#nextId++;
    this.#pending.set(id, done);
    const request: WorkerRequest = { id, payload: batch.payload, spans: batch.spans };
    worker.postMessage(request);
  }

  async shutdown(): Promise<void> {
    const worker = this.#worker;
    this.#pending.clear();
    await worker?.terminate();
  }

  /** @returns undefined when it is too early, or the system refuses another thread: a limit of processes, say */
  #restart(): Worker | undefined {
    if (performance.now() - this.#brokenAtMs < RESTART_DELAY_MS) return undefined;
    try {
      this.#worker = this.#start();
    } catch (error) {
      this.#brokenAtMs = performance.now();
      this.#why = `no export thread can be started: ${error instanceof Error ? error.message : String(error)}`;
    }
    return this.#worker;
  }

  #start(): Worker {
    const entry = import.meta.url.endsWith('.ts') ? './worker-main.ts' : './worker-main.js';
    const worker = new Worker(new URL(entry, import.meta.url), {
      name: 'otlp',
      workerData: this.#settings,
      execArgv: [],
      resourceLimits: {
        maxYoungGenerationSizeMb: MAX_YOUNG_GENERATION_MB,
        maxOldGenerationSizeMb: this.#oldGenerationMb,
      },
    });
    worker.unref();
    worker.on('message', (response: WorkerResponse) => this.#answered(response));
    worker.on('error', (error) => this.#broken(worker, error instanceof Error ? error.message : String(error)));
    worker.on('exit', () => this.#broken(worker, 'the export thread has ended'));
    return worker;
  }

  #answered(response: WorkerResponse): void {
    const done = this.#pending.get(response.id);
    this.#pending.delete(response.id);
    done?.(response.outcome);
  }

  /** What was under way may have arrived, or not: it is sent again. The next batch gets a new thread, after a while. */
  #broken(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#brokenAtMs = performance.now();
    this.#why = reason;
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    for (const done of lost) done(failed(reason, true));
  }
}

function failed(reason: string, retryable: boolean): ExportOutcome {
  return { delivered: false, failure: { status: 'error', retryable, retryDelayMs: undefined }, reason };
}
