import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { whyNot } from '../config/system-error.ts';
import type { Counters, Deliveries } from '../telemetry/counters.ts';
import type { Log } from '../telemetry/log.ts';
import { ConsoleOutput, consoleStyle } from './console.ts';
import { JsonlOutput } from './jsonl.ts';
import { LineWriter, type WhyBroken } from './line-writer.ts';
import { NoOutput } from './none.ts';
import { OtlpOutput, type SpoolPlace } from './otlp.ts';
import type { EncoderScope } from './otlp-encoder.ts';
import { OtlpJsonOutput } from './otlp-json.ts';
import { type OtlpDestination, otlpSettings, readTlsFiles, shownEndpoint } from './otlp-settings.ts';
import type { Output } from './output.ts';
import { WorkerTraceExporter } from './worker-exporter.ts';

export interface OutputDependencies {
  readonly counters: Counters;
  readonly log: Log;
  /** Version of this program: it names the instrumentation scope. */
  readonly version: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly config: Pick<Config, 'otlp' | 'otlpCopies' | 'export'>;
  /** Called when the last output that could still write no longer can. */
  readonly onBroken?: (why: WhyBroken) => void;
}

const SCOPE_NAME = 'wirespan';
const MIB = 1024 * 1024;

/**
 * Makes the outputs that were asked for.
 *
 * @param specs `otlp`, `console`, `otlp-json[=FILE]`, `jsonl[=FILE]`, `none`; empty: the default
 * @throws Error that says what is wrong: an unknown output, a file that cannot be opened
 */
export async function createOutputs(specs: readonly string[], dependencies: OutputDependencies): Promise<Output[]> {
  const { counters, onBroken, config } = dependencies;
  const wanted = outputsInUse(specs, config);
  const primary = primaryOutput(wanted);
  let left = wanted.length;
  const lineDependencies = {
    ...dependencies,
    onBroken: (why: WhyBroken) => {
      left--;
      if (left === 0) onBroken?.(why);
    },
  };
  const deliveriesOf = (name: string): Deliveries => {
    if (name === primary) return counters.spans;
    counters.otherOutputs[name] = { exported: 0, dropped: {} };
    return counters.otherOutputs[name];
  };
  const outputs: Output[] = [];
  for (const spec of wanted) {
    outputs.push(await createOutput(spec, lineDependencies, deliveriesOf(spec)));
    if (spec !== 'otlp') continue;
    for (const copy of config.otlpCopies) {
      const name = `otlp:${copy.name}`;
      outputs.push(await otlp(name, copy, dependencies, deliveriesOf(name)));
    }
  }
  return outputs;
}

/** Where spans go: when nobody says so, to the backend that is named, else to the console. */
export function outputsInUse(
  specs: readonly string[],
  { otlp, otlpCopies }: Pick<Config, 'otlp' | 'otlpCopies'>,
): readonly string[] {
  if (specs.length > 0) return specs;
  return otlp.endpoint !== undefined || otlpCopies.length > 0 ? ['otlp'] : ['console'];
}

/** The one whose deliveries are those of Counters.spans. */
function primaryOutput(wanted: readonly string[]): string | undefined {
  return wanted.find((spec) => spec === 'otlp') ?? wanted.find((spec) => spec.startsWith('otlp-json')) ?? wanted[0];
}

async function createOutput(spec: string, dependencies: OutputDependencies, deliveries: Deliveries): Promise<Output> {
  const [kind, path] = splitSpec(spec);
  switch (kind) {
    case 'otlp':
      return otlp(spec, dependencies.config.otlp, dependencies, deliveries);
    case 'console':
      return new ConsoleOutput(lineWriter(spec, undefined, deliveries, dependencies), consoleStyle());
    case 'otlp-json': {
      const scope: EncoderScope = { name: SCOPE_NAME, version: dependencies.version };
      return new OtlpJsonOutput(lineWriter(spec, path, deliveries, dependencies), scope);
    }
    case 'jsonl':
      return new JsonlOutput(lineWriter(spec, path, deliveries, dependencies));
    case 'none':
      return new NoOutput();
    default:
      throw new Error(`unknown output ${JSON.stringify(spec)}`);
  }
}

/** @returns the kind of an output, and the file it is to be written to */
function splitSpec(spec: string): [kind: string, path: string | undefined] {
  const equals = spec.indexOf('=');
  return equals < 0 ? [spec, undefined] : [spec.slice(0, equals), spec.slice(equals + 1)];
}

/** @param name as in the statistics @throws Error that says which setting is wrong */
async function otlp(
  name: string,
  destination: OtlpDestination,
  dependencies: OutputDependencies,
  deliveries: Deliveries,
): Promise<Output> {
  const { config, environment, log, version } = dependencies;
  const { spoolFolder, spoolMib, ...limits } = config.export;
  const scope: EncoderScope = { name: SCOPE_NAME, version };
  try {
    const settings = otlpSettings(destination, `${SCOPE_NAME}/${version}`);
    // The export thread reads them, and would go on trying.
    readTlsFiles(settings);
    const spool: SpoolPlace | undefined =
      spoolFolder === undefined
        ? undefined
        : { folder: join(spoolFolder, name.replace(':', '-')), maxBytes: spoolMib * MIB };
    const type = settings.protocol === 'grpc' ? 'otlp_grpc_span_exporter' : 'otlp_http_span_exporter';
    const options = { name, type, deliveries, log, scope, limits, spool };
    log.debug('spans go to', { output: name, endpoint: shownEndpoint(settings.url), protocol: settings.protocol });
    if (environment.WIRESPAN_OTLP_ENCODER !== 'sdk') {
      const exporter = new WorkerTraceExporter(settings, limits.inFlight);
      return new OtlpOutput({ ...options, exporter });
    }
    // OpenTelemetry's own encoder, several times slower: to tell whether ours is to blame for something. Rare, so loaded when asked for.
    const { createExporter } = await import('./renewed-exporter.ts');
    const { ReadableBatcher } = await import('./readable-span.ts');
    return new OtlpOutput({
      ...options,
      exporter: await createExporter(settings),
      batcher: new ReadableBatcher(scope),
    });
  } catch (error) {
    throw new Error(`${name}: ${(error as Error).message}`);
  }
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
    throw new Error(`${splitSpec(name)[0]}: cannot write ${path ?? 'standard output'}: ${whyNot(error, 'write')}`);
  }
}
