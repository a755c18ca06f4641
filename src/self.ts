/** What the agent reports about itself while it runs: the composition root of its own telemetry. */
import { randomUUID } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import type { CaptureSource } from './capture/source.ts';
import { type ListenAddress, parseListenAddress } from './config/listen.ts';
import type { Config } from './config/schema.ts';
import type { Feed } from './export/feed.ts';
import type { MetricsPush } from './export/metrics-push.ts';
import type { Output } from './export/output.ts';
import type { MemoryBudget } from './memory/budget.ts';
import type { Attributes, MetricGroup } from './metric/metric.ts';
import { CONTENT_TYPES, formatFor, toText } from './metric/open-metrics.ts';
import { protocolViewers } from './protocol/registry.ts';
import type { Reader } from './reader.ts';
import { Access } from './service/access.ts';
import { type ExchangesSource, exchangesRoute } from './service/exchanges.ts';
import type { Route } from './service/route.ts';
import { Service } from './service/server.ts';
import { readToken } from './service/token.ts';
import type { Durations } from './span/builder.ts';
import type { Answer } from './telemetry/answer.ts';
import type { Counters, ReasonCounts } from './telemetry/counters.ts';
import { Health, type InformerState, OBSERVE_MS } from './telemetry/health.ts';
import type { Log } from './telemetry/log.ts';
import { LoopDelay } from './telemetry/loop-delay.ts';
import { type ObservedOutput, type ObservedRing, ownMetrics } from './telemetry/own-metrics.ts';
import { parseResourceAttributes } from './workload/environment.ts';
import type { Host } from './workload/host.ts';
import type { Cluster } from './workload/kubernetes/cluster.ts';
import type { Workloads } from './workload/workloads.ts';

/** The parts of the agent that health and metrics report. */
export interface Observed {
  readonly capture: CaptureSource;
  readonly reader: Reader;
  readonly counters: Counters;
  readonly outputs: readonly Output[];
  readonly durations: Durations | undefined;
  readonly feed: Feed;
  readonly memory: MemoryBudget;
  readonly workloads: Workloads;
  /** Where there is one. */
  readonly cluster: Cluster | undefined;
  /** Exchanges that waited for the cluster's answers. */
  readonly waits: ReasonCounts;
}

export interface SelfOptions {
  readonly config: Config;
  readonly host: Host;
  readonly version: string;
  readonly log: Log;
  /** How often tick() is called. */
  readonly tickMs: number;
}

/** For the last metrics to arrive, after the last spans. */
const LAST_PUSH_MS = 2000;

export class SelfTelemetry {
  readonly health: Health;
  readonly #address: ListenAddress | undefined;
  #resource: Attributes;
  readonly #startUnixUs = Date.now() * 1000;
  readonly #loopDelay: LoopDelay;
  readonly #ignored = new Set<string>();
  #lossesAreCounted = false;
  #observed: Observed | undefined;
  #service: Service | undefined;
  #push: MetricsPush | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(address: ListenAddress | undefined, options: SelfOptions) {
    this.#address = address;
    this.#resource = resourceOf(options);
    this.#loopDelay = new LoopDelay(options.tickMs);
    this.health = new Health({
      readerProgress: () => this.#observed?.capture.rings()?.packets,
      informers: () => this.#informers(),
      outputs: () => this.#outputs().map(({ durations: _, ...state }) => state),
    });
  }

  /**
   * First of all: the user learns at once that an address is taken.
   * @returns undefined when nobody wants to know
   * @throws Error for people
   */
  static async open(options: SelfOptions): Promise<SelfTelemetry | undefined> {
    const { exchanges, listen, otlp } = options.config.telemetry;
    const address = listen === undefined ? undefined : parseListenAddress(listen);
    if (exchanges && address === undefined) {
      options.log.warn('telemetry.exchanges has no effect: set telemetry.listen to answer GET /exchanges');
    }
    if (address === undefined && !otlp) return undefined;
    const self = new SelfTelemetry(address, options);
    if (address !== undefined) await self.#listen(address, options);
    if (otlp) {
      const { createMetricsPush } = await import('./export/create-metrics-push.ts');
      const collect = (): readonly MetricGroup[] => self.#collect();
      self.#push = createMetricsPush({ ...options, collect, startUnixUs: self.#startUnixUs });
    }
    self.#timer = setInterval(() => self.health.observe(), OBSERVE_MS).unref();
    return self;
  }

  async #listen(address: ListenAddress, { config, log }: SelfOptions): Promise<void> {
    const { exchanges, token, tokenFile } = config.telemetry;
    const secret = tokenFile === undefined ? token : readToken(tokenFile);
    const access = new Access(address, secret);
    const routes: Route[] = [
      { path: '/healthz', kind: 'probe', answer: () => this.health.alive() },
      { path: '/readyz', kind: 'probe', answer: () => this.health.ready() },
      { path: '/metrics', kind: 'costly', answer: ({ fields }) => this.#metrics(fields.get('accept') ?? '') },
    ];
    if (exchanges) {
      routes.push(exchangesRoute([...protocolViewers.keys()], () => this.#exchanges()));
      if (access.isShut) log.warn('GET /exchanges is refused: set telemetry.token_file, or listen on loopback');
    }
    const onLocalAddress = (local: string): void => this.#ignore(local);
    try {
      this.#service = await Service.open(address, routes, { access, onLocalAddress });
    } catch (error) {
      throw new Error(`telemetry.listen: ${(error as Error).message}`);
    }
  }

  #exchanges(): ExchangesSource | undefined {
    const parts = this.#observed;
    return parts && { feed: parts.feed, counts: parts.counters.feed };
  }

  /** To be called once the programs are loaded: the agent never traces itself. */
  observe(parts: Observed): void {
    this.#observed = parts;
    const { cluster } = parts;
    if (cluster !== undefined) this.#resource = { 'k8s.node.name': cluster.nodeName, ...this.#resource };
    for (const addresses of Object.values(networkInterfaces())) {
      for (const { address } of addresses ?? []) this.#ignore(address);
    }
  }

  /** From now on the counters say what the kernel could not hand over. */
  lossesAreCounted(): void {
    this.#lossesAreCounted = true;
  }

  /** A timer of the agent's has fired. */
  tick(): void {
    this.#loopDelay.tick(performance.now());
  }

  /** Sends what there is to say at the end, but waits no longer than that. */
  async close(deadlineMs: number): Promise<void> {
    clearInterval(this.#timer);
    await this.#push?.shutdown(Math.min(deadlineMs, LAST_PUSH_MS));
    this.#service?.close();
  }

  /** An address that comes later is known from its first connection on. */
  #ignore(address: string): void {
    // Until the programs are loaded there is nothing to report to.
    if (this.#address === undefined || this.#observed === undefined || this.#ignored.has(address)) return;
    this.#ignored.add(address);
    this.#observed.capture.ignoreListener(address, this.#address.port);
  }

  #metrics(accept: string): Answer {
    const format = formatFor(accept);
    return { status: 200, contentType: CONTENT_TYPES[format], body: toText(this.#collect(), this.#resource, format) };
  }

  #collect(): MetricGroup[] {
    const parts = this.#observed;
    if (parts === undefined) return [];
    const { capture, cluster, counters, durations, memory, reader, waits, workloads } = parts;
    const rings: Record<string, ObservedRing> = { ...capture.rings() };
    const own = ownMetrics(
      counters,
      {
        lost: this.#lossesAreCounted ? [] : [capture.lost(), reader.lost],
        rings,
        outputs: this.#outputs(),
        informers: this.#informers(),
        probedFiles: reader.attached,
        tables: {
          probes: reader.probeCounts,
          reader: reader.counts,
          workloads: { ...workloads.counts },
          ...(cluster && { kubernetes: cluster.counts, waits }),
        },
        memory,
        loopDelay: this.#loopDelay,
        startUnixUs: this.#startUnixUs,
        push: this.#push?.state(),
      },
      this.#resource,
    );
    const measured = durations?.collect(Date.now() * 1000);
    if (measured === undefined) return [own];
    return [{ ...own, metrics: [...own.metrics, ...measured.overflow] }, ...measured.groups];
  }

  #informers(): readonly InformerState[] {
    return this.#observed?.cluster?.health() ?? [];
  }

  #outputs(): ObservedOutput[] {
    return (this.#observed?.outputs ?? []).flatMap((output) => output.state() ?? []);
  }
}

/** The agent as a resource: what OTEL_RESOURCE_ATTRIBUTES says goes before what was found out. */
function resourceOf({ host, version }: SelfOptions): Attributes {
  const { OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES } = process.env;
  return {
    'service.name': 'wirespan',
    'service.version': version,
    'service.instance.id': randomUUID(),
    'host.name': host.name,
    ...(host.id !== undefined && { 'host.id': host.id }),
    ...parseResourceAttributes(OTEL_RESOURCE_ATTRIBUTES ?? ''),
    ...(OTEL_SERVICE_NAME?.trim() && { 'service.name': OTEL_SERVICE_NAME.trim() }),
  };
}
