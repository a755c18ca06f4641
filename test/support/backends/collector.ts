import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type FlatSpan, parseSpans } from '../otlp/spans.ts';
import { cached } from '../programs/cache.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { goBuild } from '../programs/go.ts';
import { freePorts, until } from '../programs/net.ts';
import { root } from '../programs/paths.ts';
import { type Running, run, start } from '../programs/process.ts';
import { type Samples, samplesOf } from './samples.ts';

const VERSION = '0.161.0';

/**
 * The path of an OpenTelemetry Collector with the components that our configurations use, built when it is not in the cache (some
 * minutes, 1.2 GB of Go modules). Its sources are what the Collector's builder made from collector/builder.yaml.
 */
export async function collectorProgram(): Promise<string> {
  const folder = await cached(`otelcol-${VERSION}`, 'otelcol', (work) =>
    goBuild(join(root, 'test/support/backends/collector'), join(work, 'otelcol'), '.', ['-ldflags=-s -w']),
  );
  return join(folder, 'otelcol');
}

export interface Collector {
  running: Running;
  /** `HOST:PORT` of OTLP over gRPC. */
  address: string;
  /** The same for OTEL_EXPORTER_OTLP_ENDPOINT. */
  endpoint: string;
  /** `HOST:PORT` of the metrics of spans, where the configuration makes them, and of the Collector's own. */
  metricsAddress: string;
  ownMetricsAddress: string;
  metrics(): Promise<Samples>;
  ownMetrics(): Promise<Samples>;
}

export interface CollectorOptions {
  /** Added to the ports, to an address of loopback and to a short interval of the metrics. */
  env?: Record<string, string>;
  /** More files of configuration, and options. */
  args?: readonly string[];
}

/** Starts a Collector with one of the configurations that we ship, on ports of its own, and waits until it is ready. */
export async function startCollector(
  cleanup: Cleanup,
  file: string,
  options: CollectorOptions = {},
): Promise<Collector> {
  const program = await collectorProgram();
  const [grpc, http, health, metrics, ownMetrics] = await freePorts(5);
  const env = {
    LISTEN_ADDRESS: '127.0.0.1',
    LISTEN_PORT: String(grpc),
    LISTEN_HTTP_PORT: String(http),
    HEALTH_PORT: String(health),
    METRICS_ADDRESS: '127.0.0.1',
    METRICS_PORT: String(metrics),
    OWN_METRICS_PORT: String(ownMetrics),
    METRICS_FLUSH_INTERVAL: '200ms',
    ...options.env,
  };
  const args = ['--config', join(root, 'collector-config', file), ...(options.args ?? [])];
  await run(program, ['validate', ...args], { env });
  const running = start(cleanup, program, args, { env });
  await until(async () => {
    if (running.child.exitCode !== null) throw new Error('it ended');
    const healthy = await fetch(`http://127.0.0.1:${health}/`)
      .then(({ ok }) => ok)
      .catch(() => false);
    return healthy || undefined;
  }, 'a Collector that is ready').catch((error: unknown) => {
    throw new Error(`the Collector did not come up\n${running.stderr}`, { cause: error });
  });
  return {
    running,
    address: `127.0.0.1:${grpc}`,
    endpoint: `http://127.0.0.1:${grpc}`,
    metricsAddress: `127.0.0.1:${metrics}`,
    ownMetricsAddress: `127.0.0.1:${ownMetrics}`,
    metrics: () => samplesOf(`http://127.0.0.1:${metrics}/metrics`),
    ownMetrics: () => samplesOf(`http://127.0.0.1:${ownMetrics}/metrics`),
  };
}

/** A file as a backend, for what a Collector sends: give `env` and `args` to startCollector. */
export async function fileBackend(
  cleanup: Cleanup,
): Promise<{ env: Record<string, string>; args: string[]; spans: () => Promise<FlatSpan[]> }> {
  const folder = await cleanup.temporaryFolder();
  const path = join(folder, 'spans.jsonl');
  const config = join(folder, 'file.yaml');
  await writeFile(config, JSON.stringify({ exporters: { file: { path, flush_interval: '100ms' } } }));
  return {
    env: { BACKENDS: '[file]' },
    args: ['--config', config],
    spans: async () => parseSpans(await readFile(path, 'utf8').catch(() => '')),
  };
}
