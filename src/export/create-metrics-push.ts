import type { Config } from '../config/schema.ts';
import type { MetricGroup } from '../metric/metric.ts';
import type { Log } from '../telemetry/log.ts';
import { MetricsEncoder } from './metrics-encoder.ts';
import { MetricsPush } from './metrics-push.ts';
import { metricsDestination, otlpSettings, readTlsFiles, shownEndpoint } from './otlp-settings.ts';
import { WorkerTraceExporter } from './worker-exporter.ts';

const NAME = 'wirespan';

export interface MetricsPushDependencies {
  readonly config: Pick<Config, 'otlp' | 'otlpMetrics' | 'telemetry' | 'metrics'>;
  readonly version: string;
  readonly startUnixUs: number;
  readonly collect: () => readonly MetricGroup[];
  readonly log: Log;
}

/** Sends metrics over OTLP, from a thread of its own. @throws Error that says which setting is wrong */
export function createMetricsPush(dependencies: MetricsPushDependencies): MetricsPush {
  const { config, version, startUnixUs, collect, log } = dependencies;
  try {
    const settings = otlpSettings(metricsDestination(config), `${NAME}/${version}`, 'metrics');
    // The export thread reads them, and would go on trying.
    readTlsFiles(settings);
    log.debug('metrics go to', { endpoint: shownEndpoint(settings.url), protocol: settings.protocol });
    const { exponential } = config.metrics;
    const encoder = new MetricsEncoder({ scope: { name: NAME, version }, exponential, startUnixUs });
    const exporter = new WorkerTraceExporter(settings, 1);
    return new MetricsPush({ exporter, encoder, collect, intervalMs: config.telemetry.intervalMs, log });
  } catch (error) {
    throw new Error(`${config.otlpMetrics === undefined ? 'otlp' : 'otlp_metrics'}: ${(error as Error).message}`);
  }
}
