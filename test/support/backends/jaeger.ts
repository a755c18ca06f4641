import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from '../programs/cache.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { goBuild } from '../programs/go.ts';
import { freePorts, until } from '../programs/net.ts';
import { root } from '../programs/paths.ts';
import { type Running, start } from '../programs/process.ts';

const VERSION = '1.76.0';

/** The path of a Jaeger, built when it is not in the cache (some minutes, 1 GB of Go modules). */
export async function jaegerProgram(): Promise<string> {
  const folder = await cached(`jaeger-${VERSION}`, 'jaeger', (work) =>
    goBuild(
      join(root, 'test/support/backends/jaeger'),
      join(work, 'jaeger'),
      'github.com/jaegertracing/jaeger/cmd/jaeger',
      ['-mod=mod'],
    ),
  );
  return join(folder, 'jaeger');
}

export interface JaegerSpan {
  traceID: string;
  spanID: string;
  operationName: string;
  references: { refType: string; traceID: string; spanID: string }[];
  /** Microseconds. */
  startTime: number;
  duration: number;
  tags: Record<string, unknown>;
  service: string;
  processTags: Record<string, unknown>;
}

export interface Jaeger {
  running: Running;
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  endpoint: string;
  queryPort: number;
  services(): Promise<string[]>;
  /** The traces of a service, each with all its spans. */
  traces(service: string): Promise<JaegerSpan[][]>;
  /** The spans of one trace; none when it is not there. */
  trace(id: string): Promise<JaegerSpan[]>;
}

interface RawTag {
  key: string;
  value: unknown;
}
interface RawSpan extends Omit<JaegerSpan, 'tags' | 'service' | 'processTags'> {
  tags: RawTag[];
  processID: string;
}
interface RawTrace {
  spans: RawSpan[];
  processes: Record<string, { serviceName: string; tags: RawTag[] }>;
}

const tagRecord = (tags: RawTag[]) => Object.fromEntries(tags.map(({ key, value }) => [key, value]));

function flatten(trace: RawTrace): JaegerSpan[] {
  return trace.spans.map((span) => {
    const process = trace.processes[span.processID];
    return {
      ...span,
      tags: tagRecord(span.tags),
      service: process?.serviceName ?? '',
      processTags: tagRecord(process?.tags ?? []),
    };
  });
}

function config(ports: { grpc: number; query: number; queryGrpc: number; health: number }): string {
  return `
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [jaeger_storage_exporter]
  telemetry:
    metrics:
      level: none
    logs:
      level: warn
extensions:
  healthcheckv2:
    use_v2: true
    http:
      endpoint: 127.0.0.1:${ports.health}
  jaeger_storage:
    backends:
      memory:
        memory:
          max_traces: 100000
  jaeger_query:
    storage:
      traces: memory
    http:
      endpoint: 127.0.0.1:${ports.query}
    grpc:
      endpoint: 127.0.0.1:${ports.queryGrpc}
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:${ports.grpc}
exporters:
  jaeger_storage_exporter:
    trace_storage: memory
`;
}

/** Starts Jaeger with storage in memory, OTLP over gRPC in, and its query API. */
export async function startJaeger(cleanup: Cleanup): Promise<Jaeger> {
  const program = await jaegerProgram();
  const folder = await cleanup.temporaryFolder();
  const [grpc, query, queryGrpc, health] = await freePorts(4);
  await writeFile(
    join(folder, 'config.yaml'),
    config({ grpc: grpc!, query: query!, queryGrpc: queryGrpc!, health: health! }),
  );
  // Jaeger traces itself by default, to the port that is the default of OTLP.
  const env = { OTEL_TRACES_SAMPLER: 'always_off' };
  const running = start(cleanup, program, ['--config', join(folder, 'config.yaml')], { cwd: folder, env });
  const ask = async <T>(path: string): Promise<T> => {
    const response = await fetch(`http://127.0.0.1:${query}${path}`);
    if (!response.ok) throw new Error(`Jaeger answers ${response.status} to ${path}: ${await response.text()}`);
    return ((await response.json()) as { data: T | null }).data as T;
  };
  await until(async () => {
    if (running.child.exitCode !== null) throw new Error(`Jaeger ended\n${running.stderr}`);
    return ask<string[]>('/api/services').then(
      () => true,
      () => undefined,
    );
  }, 'an answer from Jaeger').catch((error: unknown) => {
    throw new Error(`Jaeger did not come up\n${running.stderr}`, { cause: error });
  });
  return {
    running,
    endpoint: `http://127.0.0.1:${grpc}`,
    queryPort: query!,
    services: async () => (await ask<string[] | null>('/api/services')) ?? [],
    traces: async (service) => {
      const traces = await ask<RawTrace[] | null>(
        `/api/traces?service=${encodeURIComponent(service)}&limit=1000&lookback=1h`,
      );
      return (traces ?? []).map(flatten);
    },
    trace: async (id) =>
      ask<RawTrace[] | null>(`/api/traces/${id}`).then(
        (traces) => (traces ?? []).flatMap(flatten),
        () => [],
      ),
  };
}
