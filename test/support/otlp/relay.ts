import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { collectorProgram } from '../backends/collector.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { freePorts, waitForPort } from '../programs/net.ts';
import { type Running, start } from '../programs/process.ts';

export interface RelayOptions {
  /** Where it sends to, over gRPC without TLS. */
  target: string;
  /** `tls` of its receivers. */
  tls?: Record<string, string>;
  maxMessageMib?: number;
}

/** A Collector that acknowledges what its backend has acknowledged, and holds nothing: what it is killed with nobody was told it has. */
export interface Relay {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly running: Running;
  kill(): Promise<void>;
  /** At the same ports. */
  restart(): Promise<void>;
}

export async function startRelay(cleanup: Cleanup, options: RelayOptions): Promise<Relay> {
  const program = await collectorProgram();
  const folder = await cleanup.temporaryFolder();
  const [grpcPort, httpPort] = (await freePorts(2)) as [number, number];
  const receiver = { ...(options.tls && { tls: options.tls }) };
  const config = {
    receivers: {
      otlp: {
        protocols: {
          grpc: {
            endpoint: `127.0.0.1:${grpcPort}`,
            ...receiver,
            ...(options.maxMessageMib !== undefined && { max_recv_msg_size_mib: options.maxMessageMib }),
          },
          http: { endpoint: `127.0.0.1:${httpPort}`, ...receiver },
        },
      },
    },
    exporters: {
      otlp_grpc: {
        endpoint: options.target.replace(/^https?:\/\//, ''),
        tls: { insecure: true },
        sending_queue: { enabled: false },
        retry_on_failure: { enabled: false },
      },
    },
    service: {
      telemetry: { metrics: { level: 'none' } },
      pipelines: { traces: { receivers: ['otlp'], exporters: ['otlp_grpc'] } },
    },
  };
  const file = join(folder, 'relay.yaml');
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config));
  const begin = async (): Promise<Running> => {
    const running = start(cleanup, program, ['--config', file]);
    await Promise.all([waitForPort(grpcPort), waitForPort(httpPort)]).catch((error: unknown) => {
      throw new Error(running.stderr, { cause: error });
    });
    return running;
  };
  let running = await begin();
  return {
    grpcPort,
    httpPort,
    get running() {
      return running;
    },
    async kill() {
      await running.stop('SIGKILL');
    },
    async restart() {
      running = await begin();
    },
  };
}
