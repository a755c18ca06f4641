import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import {
  CompressionAlgorithm,
  createOtlpNetworkExportDelegate,
  type IOtlpExportDelegate,
} from '@opentelemetry/otlp-exporter-base';
import {
  convertLegacyOtlpGrpcOptions,
  createEmptyMetadata,
  createInsecureCredentials,
  createOtlpGrpcExporterMetrics,
  createSslCredentials,
  type OTLPGRPCExporterConfigNode,
} from '@opentelemetry/otlp-grpc-exporter-base';
import { type IExportTraceServiceResponse, ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { type Batch, type BatchExporter, type ExportOutcome, MAX_REASON_LENGTH } from './batch.ts';
import { classify } from './grpc-status.ts';
import { GrpcTransport } from './grpc-transport.ts';
import { type OtlpSettings, readTlsFiles, type Signal, usesTls } from './otlp-settings.ts';

const PATHS: Readonly<Record<Signal, string>> = {
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
  metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export',
};
/** More than we ever send at once: the exporter's own limit must not be what stops us. */
const CONCURRENCY_LIMIT = 64;

/**
 * OpenTelemetry's gRPC exporter, which takes encoded batches as well: they go the same way as spans do, only past its serializer and
 * its copies; those of metrics to another method, whose answer has the same form. It does not retry.
 */
export class GrpcTraceExporter extends OTLPTraceExporter implements BatchExporter {
  private readonly delegate: IOtlpExportDelegate<Batch>;
  private readonly serializer = new PassThroughSerializer();

  /** @throws Error that names a file that cannot be read */
  constructor(settings: OtlpSettings) {
    const config = exporterConfig(settings);
    super(config);
    const options = convertLegacyOtlpGrpcOptions(config, 'TRACES');
    const items = { name: 'span' as const, countItems: (batch: Batch) => batch.spans };
    this.delegate = createOtlpNetworkExportDelegate(
      options,
      this.serializer,
      createOtlpGrpcExporterMetrics('otlp_grpc_span_exporter', items, options.url, undefined),
      new GrpcTransport(options, PATHS[settings.signal]),
    );
  }

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

function exporterConfig(settings: OtlpSettings): OTLPGRPCExporterConfigNode {
  const { url, headers, compression, timeoutMs, userAgent } = settings;
  const metadata = createEmptyMetadata();
  for (const [name, value] of headers) metadata.set(name, value);
  return {
    url,
    metadata,
    credentials: credentialsOf(settings),
    compression: compression === 'gzip' ? CompressionAlgorithm.GZIP : CompressionAlgorithm.NONE,
    timeoutMillis: timeoutMs,
    concurrencyLimit: CONCURRENCY_LIMIT,
    userAgent,
  };
}

function credentialsOf(settings: OtlpSettings): NonNullable<OTLPGRPCExporterConfigNode['credentials']> {
  if (!usesTls(settings)) return createInsecureCredentials();
  const { ca, cert, key } = readTlsFiles(settings);
  return createSslCredentials(ca, key, cert);
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
