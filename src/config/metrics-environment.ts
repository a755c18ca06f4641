import { parseListenAddress } from './listen.ts';
import { readOtlpVariables } from './otlp-environment.ts';
import type { ConfigFile } from './schema.ts';

type Environment = Readonly<Record<string, string | undefined>>;
type MetricsValues = Pick<ConfigFile, 'telemetry' | 'metrics' | 'otlp_metrics'>;

const METRICS = 'OTEL_EXPORTER_OTLP_METRICS_';
const DEFAULT_PROMETHEUS_PORT = '9464';

/**
 * The variables of the specification that concern metrics, as values of `telemetry`, `metrics` and `otlp_metrics`.
 * @param intervalMs OTEL_METRIC_EXPORT_INTERVAL
 */
export function readMetricsVariables(
  environment: Environment,
  warnings: string[],
  intervalMs: number | undefined,
): MetricsValues {
  const read = (name: string): string => environment[name]?.trim() ?? '';
  const telemetry: NonNullable<ConfigFile['telemetry']> = {};
  if (intervalMs !== undefined) telemetry.interval_ms = intervalMs;
  for (const name of read('OTEL_METRICS_EXPORTER').split(',')) {
    switch (name.trim()) {
      case 'otlp':
        telemetry.otlp = true;
        break;
      case 'prometheus': {
        const host = read('OTEL_EXPORTER_PROMETHEUS_HOST').replace(/^\[(.*)\]$/, '$1') || 'localhost';
        const port = read('OTEL_EXPORTER_PROMETHEUS_PORT') || DEFAULT_PROMETHEUS_PORT;
        const listen = `${host.includes(':') ? `[${host}]` : host}:${port}`;
        if (parseListenAddress(listen) !== undefined) telemetry.listen = listen;
        else warnings.push('OTEL_EXPORTER_PROMETHEUS_HOST, _PORT: expected a name or an address, and a port; ignored');
        break;
      }
      case 'none':
      case '':
        break;
      default:
        warnings.push('OTEL_METRICS_EXPORTER: expected otlp, prometheus or none; ignored');
    }
  }
  const metrics: NonNullable<ConfigFile['metrics']> = {};
  const aggregation = read(`${METRICS}DEFAULT_HISTOGRAM_AGGREGATION`).toLowerCase();
  if (aggregation === 'base2_exponential_bucket_histogram') metrics.exponential = true;
  if (read('OTEL_METRICS_EXEMPLAR_FILTER').toLowerCase() === 'always_off') metrics.exemplars = false;
  const temporality = read(`${METRICS}TEMPORALITY_PREFERENCE`).toLowerCase();
  if (temporality !== '' && temporality !== 'cumulative') {
    warnings.push(`${METRICS}TEMPORALITY_PREFERENCE: all is cumulative here; ignored`);
  }
  return {
    telemetry,
    metrics,
    // Of the variables that say where to, and how.
    ...(hasDestination(environment) && { otlp_metrics: readOtlpVariables(environment, warnings, 'METRICS') }),
  };
}

function hasDestination(environment: Environment): boolean {
  return Object.entries(environment).some(
    ([name, value]) =>
      name.startsWith(METRICS) && !/_AGGREGATION$|_PREFERENCE$/.test(name) && (value ?? '').trim() !== '',
  );
}
