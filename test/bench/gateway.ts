/**
 * What the gateways of collector-config/ cost: spans per second of the Collector's processor time, and its memory. The spans are of recorded
 * HTTPS exchanges, a CLIENT and a SERVER span in a trace each, sent by `wirespan replay` as fast as they are taken.
 */
import { readFileSync } from 'node:fs';
import { type Collector, startCollector } from '../support/backends/collector.ts';
import { type Sink, startSink } from '../support/otlp/sink.ts';
import { wirespan } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { cpuSeconds, median } from './lib.ts';
import { recordHttps } from './replay.ts';

export interface GatewayOptions {
  rounds: number;
  exchanges: number;
}

interface Cost {
  /** Per second of processor time. */
  spans: number;
  peakBytes: number;
}

const WAIT_MS = 300_000;

const peakBytes = ({ running }: Collector) =>
  1024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${running.pid}/status`, 'utf8'))![1]);

async function send(file: string, { endpoint }: Collector): Promise<void> {
  const result = await wirespan(['replay', file, '--perspective', 'both', '--output', 'otlp'], {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
  });
  if (result.exitCode !== 0) throw new Error(result.stderr);
}

async function arrived(sink: Sink, spans: number): Promise<void> {
  await until(async () => ((await sink.totals()).spans >= spans ? true : undefined), `${spans} spans`, WAIT_MS);
}

/** Starts Collectors, lets `work` go through them, and says what each has cost. */
async function cost(
  spans: number,
  start: (cleanup: Cleanup) => Promise<Collector[]>,
  work: (collectors: readonly Collector[]) => Promise<void>,
): Promise<Cost[]> {
  const cleanup = new Cleanup();
  try {
    const collectors = await start(cleanup);
    const before = collectors.map(({ running }) => cpuSeconds(running.pid));
    await work(collectors);
    return collectors.map((collector, index) => ({
      spans: spans / (cpuSeconds(collector.running.pid) - before[index]!),
      peakBytes: peakBytes(collector),
    }));
  } finally {
    await cleanup.run();
  }
}

/** As they are shipped, but for the interval of the metrics. */
const SHIPPED = { METRICS_FLUSH_INTERVAL: '15s' };

async function round(file: string, exchanges: number) {
  const spans = 2 * exchanges;
  const cleanup = new Cleanup();
  try {
    const sink = await startSink(cleanup);
    const JAEGER_ENDPOINT = `127.0.0.1:${sink.port}`;
    const [one] = await cost(
      spans,
      async (inner) => [await startCollector(inner, 'agent-to-gateway.yaml', { env: { ...SHIPPED, JAEGER_ENDPOINT } })],
      async ([collector]) => {
        await send(file, collector!);
        await arrived(sink, spans);
      },
    );
    await sink.reset();
    const [sample, balance] = await cost(
      spans,
      async (inner) => {
        const sampler = await startCollector(inner, 'gateway-sample.yaml', { env: { ...SHIPPED, JAEGER_ENDPOINT } });
        const env = { ...SHIPPED, SAMPLING_GATEWAYS: `[${sampler.address}]` };
        return [sampler, await startCollector(inner, 'gateway-balance.yaml', { env })];
      },
      async ([sampler, balancer]) => {
        await send(file, balancer!);
        await until(
          async () => {
            const own = await sampler!.ownMetrics();
            return (
              own.sum('otelcol_processor_tail_sampling_global_count_traces_sampled') +
                own.sum('otelcol_processor_tail_sampling_sampling_trace_dropped_too_early') >=
                exchanges || undefined
            );
          },
          'decisions',
          WAIT_MS,
        );
      },
    );
    // Nobody takes them: they stay in the queue.
    const away = `127.0.0.1:${await freePort()}`;
    const [queue] = await cost(
      spans,
      async (inner) => [
        await startCollector(inner, 'agent-to-gateway.yaml', { env: { ...SHIPPED, JAEGER_ENDPOINT: away } }),
      ],
      ([collector]) => send(file, collector!),
    );
    return { one: one!, sample: sample!, balance: balance!, queue: queue! };
  } finally {
    await cleanup.run();
  }
}

export async function gatewayBench({ rounds, exchanges }: GatewayOptions) {
  const cleanup = new Cleanup();
  try {
    const { file } = await recordHttps(cleanup, exchanges);
    const results: Awaited<ReturnType<typeof round>>[] = [];
    for (let index = 0; index < rounds; index++) {
      results.push(await round(file, exchanges));
      console.error(`  gateways ${index + 1}/${rounds}: ${JSON.stringify(results.at(-1))}`);
    }
    const of = (name: keyof (typeof results)[number]): Cost => ({
      spans: median(results.map((each) => each[name].spans)),
      peakBytes: median(results.map((each) => each[name].peakBytes)),
    });
    return { spans: 2 * exchanges, one: of('one'), balance: of('balance'), sample: of('sample'), queue: of('queue') };
  } finally {
    await cleanup.run();
  }
}

export function printGateway(result: Awaited<ReturnType<typeof gatewayBench>>): void {
  const line = (what: string, { spans, peakBytes }: Cost) =>
    console.log(`${what}: ${spans.toFixed(0)} spans per CPU second, peak memory ${(peakBytes / 1e6).toFixed(0)} MB`);
  console.log(`${result.spans} spans, two in each trace`);
  line('agent-to-gateway.yaml', result.one);
  line('gateway-balance.yaml', result.balance);
  line('gateway-sample.yaml, all traces waiting', result.sample);
  line('agent-to-gateway.yaml, all spans in the queue', result.queue);
}
