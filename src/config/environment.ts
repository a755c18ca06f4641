import { readMetricsVariables } from './metrics-environment.ts';
import { readOtlpVariables } from './otlp-environment.ts';
import type { ConfigFile, LogLevel } from './schema.ts';

/** What OpenTelemetry's standard environment variables say, as configuration values; the file and the command line go before it. */
export interface EnvironmentConfig {
  readonly values: ConfigFile;
  /** A variable that could not be used, and why. The specification asks for a warning and to go on without it. */
  readonly warnings: readonly string[];
}

const MAX_INTERVAL_MS = 3_600_000;

type Environment = Readonly<Record<string, string | undefined>>;

const logLevelNames: Readonly<Record<string, LogLevel>> = {
  none: 'error',
  error: 'error',
  warn: 'warn',
  warning: 'warn',
  info: 'info',
  debug: 'debug',
  verbose: 'debug',
  all: 'debug',
};

/**
 * Variables of the OpenTelemetry specification ("Environment Variable Specification") that stand for a key of the configuration.
 * An empty variable is as if it were not set, says the specification.
 */
export function readEnvironment(environment: Environment): EnvironmentConfig {
  const warnings: string[] = [];
  const whole = (name: string, most: number): number | undefined => {
    const text = environment[name]?.trim();
    if (text === undefined || text === '') return undefined;
    const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
    if (value >= 1 && value <= most) return value;
    warnings.push(`${name}: expected a whole number from 1 to ${most}; ignored`);
    return undefined;
  };
  const values = {
    outputs: readExporters(environment, warnings),
    otlp: readOtlpVariables(environment, warnings),
    ...readMetricsVariables(environment, warnings, whole('OTEL_METRIC_EXPORT_INTERVAL', MAX_INTERVAL_MS)),
    export: defined({
      queue_spans: whole('OTEL_BSP_MAX_QUEUE_SIZE', 10_000_000),
      batch_spans: whole('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 100_000),
      batch_delay_ms: whole('OTEL_BSP_SCHEDULE_DELAY', 60_000),
    }),
    sampling: readSampler(environment, warnings),
    log: defined({ level: readLogLevel(environment, warnings) }),
    // Not of that specification: the customary variable that the downward API sets.
    kubernetes: defined({ node_name: environment.NODE_NAME?.trim() || undefined }),
  };
  return { values, warnings };
}

function readExporters(environment: Environment, warnings: string[]): string[] {
  const outputs: string[] = [];
  for (const name of (environment.OTEL_TRACES_EXPORTER ?? '').split(',').map((part) => part.trim())) {
    if (name === '') continue;
    if (name === 'otlp' || name === 'console' || name === 'none') outputs.push(name);
    else warnings.push('OTEL_TRACES_EXPORTER: expected otlp, console or none; ignored');
  }
  return outputs;
}

/** "General SDK Configuration": OTEL_TRACES_SAMPLER and its argument, a probability of 1 when it is none. */
function readSampler(environment: Environment, warnings: string[]): NonNullable<ConfigFile['sampling']> {
  const name = environment.OTEL_TRACES_SAMPLER?.trim() ?? '';
  if (name === '') return {};
  const follow_parent = name.startsWith('parentbased_');
  switch (follow_parent ? name.slice('parentbased_'.length) : name) {
    case 'always_on':
      return { follow_parent, ratio: 1 };
    case 'always_off':
      // Without any output there are no errors to report.
      return { follow_parent, ratio: 0, keep_errors: false };
    case 'traceidratio':
      return { follow_parent, ratio: readRatio(environment, warnings) };
    default:
      warnings.push(
        'OTEL_TRACES_SAMPLER: expected always_on, always_off or traceidratio, with or without parentbased_ before it; ignored',
      );
      return {};
  }
}

function readRatio(environment: Environment, warnings: string[]): number {
  const text = environment.OTEL_TRACES_SAMPLER_ARG?.trim() ?? '';
  const ratio = text === '' ? 1 : Number(text);
  if (ratio >= 0 && ratio <= 1) return ratio;
  warnings.push('OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1; ignored');
  return 1;
}

function readLogLevel(environment: Environment, warnings: string[]): LogLevel | undefined {
  const text = environment.OTEL_LOG_LEVEL?.trim().toLowerCase();
  if (text === undefined || text === '') return undefined;
  const level = logLevelNames[text];
  if (level === undefined) warnings.push('OTEL_LOG_LEVEL: expected error, warn, info or debug; ignored');
  return level;
}

/** Without the keys whose value is undefined. */
function defined<T extends object>(values: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>;
  };
}
