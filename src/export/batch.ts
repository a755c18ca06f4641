import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';

/** Spans of one request: encoded already, or as objects for the SDK's own encoder. */
export interface Batch {
  readonly payload: Buffer | ReadableSpan[];
  readonly spans: number;
  readonly byteLength: number;
}

export interface Delivered {
  readonly delivered: true;
  /** Spans that the backend did not accept (partial success). */
  readonly rejected: number;
  readonly message: string;
}

export interface Failure {
  /** Name of the gRPC status, `HTTP` with the code, or `error` when there was no answer that has one. */
  readonly status: string;
  readonly retryable: boolean;
  /** How long the server asks to wait, undefined when it does not say. */
  readonly retryDelayMs: number | undefined;
}

export interface NotDelivered {
  readonly delivered: false;
  readonly failure: Failure;
  /** For people. It may quote the backend, and never what was sent to it. */
  readonly reason: string;
}

export type ExportOutcome = Delivered | NotDelivered;

/** What sends batches: on this thread, or on one of its own. */
export interface BatchExporter {
  /** Sends one batch; `done` is called once. The payload is the exporter's until then. */
  exportBatch(batch: Batch, done: (outcome: ExportOutcome) => void): void;
  shutdown(): Promise<void>;
}

export const MAX_REASON_LENGTH = 256;
/** What a backend says beside its acceptance. */
const MAX_MESSAGE_LENGTH = 128;

/** @returns what a backend says of a request of so many items: as many rejected at most, and its words cut */
export function partialSuccess({ rejected, message }: Delivered, items: number): { rejected: number; message: string } {
  return {
    rejected: Math.min(Math.max(0, Math.trunc(rejected)), items),
    message: message.slice(0, MAX_MESSAGE_LENGTH),
  };
}

/** The reason of a failure in one line. */
export function reasonOf({ reason }: NotDelivered): string {
  return reason.replace(/\s+/g, ' ').trim();
}
