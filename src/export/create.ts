import type { Counters, Deliveries } from '../telemetry/counters.ts';
import type { Log } from '../telemetry/log.ts';
import { ConsoleOutput, consoleStyle } from './console.ts';
import { LineWriter, type WhyBroken } from './line-writer.ts';
import { NoOutput } from './none.ts';
import { defaultOtlpLimits, type OtlpLimits, OtlpOutput } from './otlp.ts';
import type { EncoderScope } from './otlp-encoder.ts';
import { OtlpJsonOutput } from './otlp-json.ts';
import type { Output } from './output.ts';
import { WorkerTraceExporter } from './worker-exporter.ts';

export interface OutputDependencies {
  readonly counters: Counters;
  readonly log: Log;
  /** Version of this program: it names the instrumentation scope. */
  readonly version: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `export` of the configuration. */
  readonly limits?: OtlpLimits;
  /** Called when the last output that could still write no longer can. */
  readonly onBroken?: (why: WhyBroken) => void;
}

const SCOPE_NAME = 'wirespan';
const ENDPOINT_VARIABLES = ['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] as const;

/** Where spans go when nobody says so: to the backend that the environment names, else to the console. */
export function defaultOutputs(environment: Readonly<Record<string, string | undefined>>): string[] {
  return ENDPOINT_VARIABLES.some((name) => (environment[name] ?? '').trim() !== '') ? ['otlp'] : ['console'];
}

/**
 * Makes the outputs that were asked for.
 *
 * @param specs `otlp`, `console`, `otlp-json`, `otlp-json=FILE`, `none`; empty: the default
 * @throws Error that says what is wrong: an unknown output, a file that cannot be opened
 */
export async function createOutputs(specs: readonly string[], dependencies: OutputDependencies): Promise<Output[]> {
  const wanted = outputsInUse(specs, dependencies.environment);
  const { counters, onBroken } = dependencies;
  const primary = primaryOutput(wanted);
  let left = wanted.length;
  const lineDependencies = {
    ...dependencies,
    onBroken: (why: WhyBroken) => {
      left--;
      if (left === 0) onBroken?.(why);
    },
  };
  const outputs: Output[] = [];
  for (const spec of wanted) {
    const deliveries = spec === primary ? counters.spans : { exported: 0, dropped: {} };
    if (spec !== primary) counters.otherOutputs[spec] = deliveries;
    outputs.push(await createOutput(spec, lineDependencies, deliveries));
  }
  return outputs;
}

export function outputsInUse(
  specs: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): readonly string[] {
  return specs.length > 0 ? specs : defaultOutputs(environment);
}

/** The one whose deliveries are those of Counters.spans. */
function primaryOutput(wanted: readonly string[]): string | undefined {
  return wanted.find((spec) => spec === 'otlp') ?? wanted.find((spec) => spec.startsWith('otlp-json')) ?? wanted[0];
}

async function createOutput(spec: string, dependencies: OutputDependencies, deliveries: Deliveries): Promise<Output> {
  const scope: EncoderScope = { name: SCOPE_NAME, version: dependencies.version };
  switch (spec) {
    case 'otlp':
      return otlp(scope, deliveries, dependencies);
    case 'console':
      return new ConsoleOutput(lineWriter(spec, undefined, deliveries, dependencies), consoleStyle());
    case 'otlp-json':
      return new OtlpJsonOutput(lineWriter(spec, undefined, deliveries, dependencies), scope);
    case 'none':
      return new NoOutput();
    default:
      if (!spec.startsWith('otlp-json=')) throw new Error(`unknown output ${JSON.stringify(spec)}`);
      return new OtlpJsonOutput(lineWriter(spec, spec.slice('otlp-json='.length), deliveries, dependencies), scope);
  }
}

async function otlp(scope: EncoderScope, deliveries: Deliveries, dependencies: OutputDependencies): Promise<Output> {
  const { environment, log, limits } = dependencies;
  const protocol = environment.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL || environment.OTEL_EXPORTER_OTLP_PROTOCOL || 'grpc';
  if (protocol.trim() !== 'grpc') {
    log.warn('OTEL_EXPORTER_OTLP_PROTOCOL asks for a protocol that is not spoken here; spans go over gRPC', {
      protocol,
    });
  }
  const options = { name: 'otlp', deliveries, log, scope, ...(limits !== undefined && { limits }) };
  if (environment.WIRESPAN_OTLP_ENCODER !== 'sdk') {
    return new OtlpOutput({
      ...options,
      exporter: new WorkerTraceExporter((limits ?? defaultOtlpLimits).inFlight),
    });
  }
  // OpenTelemetry's own encoder, several times slower: to tell whether ours is to blame for something. Rare, so loaded when asked for.
  const { EncodedTraceExporter } = await import('./trace-exporter.ts');
  const { ReadableBatcher } = await import('./readable-span.ts');
  return new OtlpOutput({ ...options, exporter: new EncodedTraceExporter(), batcher: new ReadableBatcher(scope) });
}

function lineWriter(
  name: string,
  path: string | undefined,
  deliveries: Deliveries,
  dependencies: OutputDependencies,
): LineWriter {
  const { log, onBroken } = dependencies;
  try {
    return new LineWriter({ name, path, deliveries, log, onBroken });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new Error(`otlp-json: cannot open ${path ?? 'standard output'}: ${code}`);
  }
}
