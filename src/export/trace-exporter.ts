import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import type { IOtlpExportDelegate } from '@opentelemetry/otlp-exporter-base';
import { convertLegacyOtlpGrpcOptions, createOtlpGrpcExportDelegate } from '@opentelemetry/otlp-grpc-exporter-base';
import { type IExportTraceServiceResponse, ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';
import { classify, type Failure } from './grpc-status.ts';

/** Spans of one request: encoded already, or as objects for the SDK's own encoder. */
export interface Batch {
  payload: Buffer | ReadableSpan[];
  readonly spans: number;
  readonly byteLength: number;
}

export interface Delivered {
  readonly delivered: true;
  /** Spans that the backend did not accept (partial success). */
  readonly rejected: number;
  readonly message: string;
}

export interface NotDelivered {
  readonly delivered: false;
  readonly failure: Failure;
  readonly reason: string;
}

export type ExportOutcome = Delivered | NotDelivered;

/** What sends batches: on this thread, or on one of its own. */
export interface BatchExporter {
  /** Sends one batch; `done` is called once. The payload is the exporter's until then. */
  exportBatch(batch: Batch, done: (outcome: ExportOutcome) => void): void;
  shutdown(): Promise<void>;
}

/** More than we ever send at once: the exporter's own limit must not be what stops us. */
const CONCURRENCY_LIMIT = 64;
const MAX_REASON_LENGTH = 256;

/**
 * OpenTelemetry's gRPC exporter, which takes encoded batches as well: they go the same way as spans do, with the same configuration
 * from OTEL_EXPORTER_OTLP_*, only past its serializer. It does not retry.
 */
export class EncodedTraceExporter extends OTLPTraceExporter implements BatchExporter {
  private readonly delegate: IOtlpExportDelegate<Batch>;
  private readonly serializer = new PassThroughSerializer();

  /** @param url overrides the endpoint of the environment */
  constructor(url?: string) {
    const config = { concurrencyLimit: CONCURRENCY_LIMIT, ...(url !== undefined && { url }) };
    super(config);
    this.delegate = createOtlpGrpcExportDelegate(
      convertLegacyOtlpGrpcOptions(config, 'TRACES'),
      this.serializer,
      'otlp_grpc_span_exporter',
      { name: 'span', countItems: (batch: Batch) => batch.spans },
      undefined,
      'TraceExportService',
      '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
    );
  }

  /** Sends one batch; `done` is called once. */
  exportBatch(batch: Batch, done: (outcome: ExportOutcome) => void): void {
    if (!Buffer.isBuffer(batch.payload)) {
      this.export(batch.payload, (result) => done(outcomeOf(result, undefined)));
      return;
    }
    this.delegate.export(batch, (result) => {
      // The delegate reads the response and reports in the same turn, so the response is this batch's.
      const response = this.serializer.response;
      this.serializer.response = undefined;
      done(outcomeOf(result, response));
    });
  }

  override forceFlush(): Promise<void> {
    return Promise.all([super.forceFlush(), this.delegate.forceFlush()]).then(() => {});
  }

  override shutdown(): Promise<void> {
    return Promise.all([super.shutdown(), this.delegate.shutdown()]).then(() => {});
  }
}

class PassThroughSerializer {
  response: IExportTraceServiceResponse | undefined = undefined;

  serializeRequest(batch: Batch): Uint8Array | undefined {
    return Buffer.isBuffer(batch.payload) ? batch.payload : undefined;
  }

  deserializeResponse(bytes: Uint8Array): IExportTraceServiceResponse {
    this.response = undefined;
    // Throws on garbage: the delegate then takes the export as delivered, as the specification wants.
    this.response = ProtobufTraceSerializer.deserializeResponse(bytes);
    return this.response;
  }
}

function outcomeOf(result: ExportResult, response: IExportTraceServiceResponse | undefined): ExportOutcome {
  if (result.code !== ExportResultCode.SUCCESS) {
    const reason = result.error instanceof Error ? result.error.message.slice(0, MAX_REASON_LENGTH) : '';
    return { delivered: false, failure: classify(result.error), reason };
  }
  const partial = response?.partialSuccess;
  return { delivered: true, rejected: partial?.rejectedSpans ?? 0, message: partial?.errorMessage ?? '' };
}
