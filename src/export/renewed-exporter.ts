import type { Batch, BatchExporter, ExportOutcome } from './batch.ts';
import type { OtlpSettings } from './otlp-settings.ts';

/** Not more often than this. */
const RENEWAL_MS = 10_000;

/** Makes the exporter for a protocol; only that one's code is loaded. */
export async function createExporter(settings: OtlpSettings): Promise<BatchExporter> {
  // The settings have it all; OpenTelemetry's exporter would read these again, and send one backend's headers to another.
  for (const name of Object.keys(process.env)) if (name.startsWith('OTEL_EXPORTER_OTLP_')) delete process.env[name];
  if (settings.protocol === 'grpc') {
    const { GrpcTraceExporter } = await import('./grpc-exporter.ts');
    return new GrpcTraceExporter(settings);
  }
  const { HttpTraceExporter } = await import('./http-exporter.ts');
  return new HttpTraceExporter(settings);
}

/**
 * An exporter that starts again while no connection can be had. gRPC waits up to two minutes between its attempts to connect and to resolve
 * a name, which would come on top of ours; and the files with certificates, which may be why, are read again.
 */
export class RenewedExporter implements BatchExporter {
  readonly #settings: OtlpSettings;
  readonly #create: (settings: OtlpSettings) => Promise<BatchExporter>;
  #current: Promise<BatchExporter> | undefined;
  #underWay = 0;
  #renewedMs = performance.now();

  constructor(settings: OtlpSettings, create = createExporter) {
    this.#settings = settings;
    this.#create = create;
  }

  exportBatch(batch: Batch, done: (outcome: ExportOutcome) => void): void {
    this.#underWay++;
    this.#current ??= this.#create(this.#settings);
    const finish = (outcome: ExportOutcome): void => {
      this.#underWay--;
      if (!outcome.delivered) this.#failed(outcome.failure.status);
      done(outcome);
    };
    this.#current.then(
      (exporter) => exporter.exportBatch(batch, finish),
      (error: unknown) => {
        this.#current = undefined;
        const reason = error instanceof Error ? error.message : String(error);
        const failure = { status: 'error', retryable: true, retryDelayMs: undefined };
        finish({ delivered: false, failure, reason });
      },
    );
  }

  async shutdown(): Promise<void> {
    const current = this.#current;
    this.#current = undefined;
    await current?.then((exporter) => exporter.shutdown());
  }

  #failed(status: string): void {
    if (status !== 'UNAVAILABLE' && status !== 'error') return;
    const nowMs = performance.now();
    if (this.#underWay > 0 || nowMs - this.#renewedMs < RENEWAL_MS) return;
    this.#renewedMs = nowMs;
    void this.shutdown().catch(() => {});
  }
}
