import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Cleanup } from '../programs/cleanup.ts';

export interface SinkTotals {
  requests: number;
  spans: number;
  /** Of the requests' bodies, as sent. */
  bytes: number;
  refused: number;
  /** Of the sink's process. */
  cpuSeconds: number;
}

export interface Sink {
  pid: number;
  port: number;
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  endpoint: string;
  totals(): Promise<SinkTotals>;
  reset(): Promise<SinkTotals>;
  /** The next `times` requests get this gRPC status. */
  refuse(status: number, times: number, delayMs?: number): Promise<SinkTotals>;
  stop(): Promise<void>;
}

/**
 * Starts an OTLP/gRPC receiver in a process of its own, which counts what it gets. `port` 0: any.
 * @param dumpFile the bytes of the requests are appended to it, as sent
 */
export async function startSink(cleanup: Cleanup, port = 0, dumpFile?: string, host = '127.0.0.1'): Promise<Sink> {
  const child: ChildProcess = fork(
    fileURLToPath(new URL('sink-main.ts', import.meta.url)),
    [String(port), dumpFile ?? '', host],
    {
      execArgv: [],
      env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    },
  );
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill();
    await ended;
  };
  cleanup.add(stop);
  const [hello] = (await once(child, 'message')) as [{ port: number }];
  // One question at a time: answers carry no name.
  let queue: Promise<unknown> = Promise.resolve();
  const ask = (command: object): Promise<SinkTotals> => {
    const answer = queue.then(async () => {
      const answered = once(child, 'message');
      child.send(command);
      const [totals] = (await answered) as [SinkTotals];
      return totals;
    });
    queue = answer.catch(() => {});
    return answer;
  };
  return {
    pid: child.pid!,
    port: hello.port,
    endpoint: `http://${host}:${hello.port}`,
    totals: () => ask({ ask: 'totals' }),
    reset: () => ask({ ask: 'reset' }),
    refuse: (status, times, delayMs = 0) => ask({ ask: 'refuse', status, times, delayMs }),
    stop,
  };
}
