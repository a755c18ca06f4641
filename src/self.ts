/** What the agent tells of itself while it runs: the composition root of its own telemetry. */
import { networkInterfaces } from 'node:os';
import type { LiveCapture } from './capture/live.ts';
import { type ListenAddress, parseListenAddress } from './config/listen.ts';
import type { Config } from './config/schema.ts';
import type { Counters } from './telemetry/counters.ts';
import { Endpoint, type Route } from './telemetry/endpoint.ts';
import { Health, type InformerState, OBSERVE_MS } from './telemetry/health.ts';

/** The parts of the agent that are told of. */
export interface Observed {
  readonly capture: LiveCapture;
  readonly counters: Counters;
  /** Of the cluster, where there is one. */
  readonly informers: () => readonly InformerState[];
}

export class SelfTelemetry {
  readonly health: Health;
  readonly #address: ListenAddress;
  readonly #ignored = new Set<string>();
  #observed: Observed | undefined;
  #endpoint: Endpoint | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(address: ListenAddress) {
    this.#address = address;
    this.health = new Health({
      readerProgress: () => this.#observed?.capture.rings()?.packets,
      informers: () => this.#observed?.informers() ?? [],
      outputs: () => (this.#observed === undefined ? [] : [this.#observed.counters.spans]),
    });
  }

  /**
   * Before all else: whoever starts the agent with an address that is taken learns it at once.
   * @returns undefined when nobody wants to know
   * @throws Error for people
   */
  static async open(config: Config['telemetry']): Promise<SelfTelemetry | undefined> {
    const address = config.listen === undefined ? undefined : parseListenAddress(config.listen);
    if (address === undefined) return undefined;
    const self = new SelfTelemetry(address);
    const routes = new Map<string, Route>([
      ['/healthz', () => self.health.alive()],
      ['/readyz', () => self.health.ready()],
    ]);
    try {
      self.#endpoint = await Endpoint.open(address, routes, (local) => self.#ignore(local));
    } catch (error) {
      throw new Error(`telemetry.listen: ${(error as Error).message}`);
    }
    self.#timer = setInterval(() => self.health.observe(), OBSERVE_MS).unref();
    return self;
  }

  /** To be called once the programs are loaded: the agent never traces itself. */
  observe(parts: Observed): void {
    this.#observed = parts;
    for (const addresses of Object.values(networkInterfaces())) {
      for (const { address } of addresses ?? []) this.#ignore(address);
    }
  }

  /** An address that comes later is known from its first connection on. */
  #ignore(address: string): void {
    // Until the programs are loaded there is nobody to tell.
    if (this.#observed === undefined || this.#ignored.has(address)) return;
    this.#ignored.add(address);
    this.#observed.capture.ignoreListener(address, this.#address.port);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#endpoint?.close();
  }
}
