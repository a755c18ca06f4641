import { Worker } from 'node:worker_threads';
import type { Batch, BatchExporter, ExportOutcome } from './trace-exporter.ts';

/** To the worker. The payload's memory goes along, and comes back with the outcome. */
export interface WorkerRequest {
  readonly id: number;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly spans: number;
}

/** From the worker. */
export interface WorkerResponse {
  readonly id: number;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly outcome: ExportOutcome;
}

/** What the worker is started with. */
export interface WorkerSettings {
  /** Overrides the endpoint of the environment. */
  readonly url: string | undefined;
}

interface Pending {
  readonly batch: Batch;
  readonly done: (outcome: ExportOutcome) => void;
}

/** The worker's heap holds gRPC and little else: batches lie outside of it. */
const MAX_YOUNG_GENERATION_MB = 8;

/**
 * Sends encoded batches from a thread of its own.
 *
 * HTTP/2 lets a sender be at most a window ahead of its receiver, often 64 KiB, so a batch of some hundred of these takes as many turns
 * of the event loop. Beside the pipeline, whose turns are long under load, that held export to a few megabytes a second.
 */
export class WorkerTraceExporter implements BatchExporter {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #failure: string | undefined;

  /** @param url overrides the endpoint of the environment */
  constructor(url?: string) {
    const entry = import.meta.url.endsWith('.ts') ? './worker-main.ts' : './worker-main.js';
    const settings: WorkerSettings = { url };
    this.#worker = new Worker(new URL(entry, import.meta.url), {
      name: 'otlp',
      workerData: settings,
      execArgv: [],
      resourceLimits: { maxYoungGenerationSizeMb: MAX_YOUNG_GENERATION_MB },
    });
    this.#worker.unref();
    this.#worker.on('message', (response: WorkerResponse) => this.#answered(response));
    this.#worker.on('error', (error) => this.#broken(error instanceof Error ? error.message : String(error)));
    this.#worker.on('exit', () => this.#broken('the export thread has ended'));
  }

  exportBatch(batch: Batch, done: (outcome: ExportOutcome) => void): void {
    if (!Buffer.isBuffer(batch.payload)) throw new TypeError('a worker takes encoded batches');
    if (this.#failure !== undefined) {
      const failure = this.#failure;
      queueMicrotask(() => done(broken(failure)));
      return;
    }
    const id = this.#nextId++;
    this.#pending.set(id, { batch, done });
    const { buffer, byteOffset, length } = batch.payload as Buffer<ArrayBuffer>;
    const request: WorkerRequest = { id, payload: new Uint8Array(buffer, byteOffset, length), spans: batch.spans };
    this.#worker.postMessage(request, [buffer]);
  }

  async shutdown(): Promise<void> {
    await this.#worker.terminate();
  }

  #answered(response: WorkerResponse): void {
    const pending = this.#pending.get(response.id);
    if (pending === undefined) return;
    this.#pending.delete(response.id);
    const { buffer, byteOffset, length } = response.payload;
    pending.batch.payload = Buffer.from(buffer, byteOffset, length);
    pending.done(response.outcome);
  }

  /** What was under way went with the thread, and its memory too. */
  #broken(reason: string): void {
    this.#failure ??= reason;
    const all = [...this.#pending.values()];
    this.#pending.clear();
    for (const { done } of all) done(broken(reason));
  }
}

function broken(reason: string): ExportOutcome {
  return { delivered: false, failure: { status: 'error', retryable: false, retryDelayMs: undefined }, reason };
}
