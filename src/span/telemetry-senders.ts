import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { Resource } from './resource.ts';

/** What OTLP carries. */
export type Signal = 'traces' | 'metrics' | 'logs' | 'profiles';

/** By their names in the paths of OTLP over HTTP, and in the names of its gRPC services. */
const SIGNALS: Readonly<Record<string, Signal>> = {
  trace: 'traces',
  traces: 'traces',
  metrics: 'metrics',
  logs: 'logs',
  profiles: 'profiles',
};

/** What is not known yet counts as what nobody asks for. */
export function signalOf(name: string): Signal {
  return SIGNALS[name] ?? 'logs';
}

const NOTHING: ReadonlySet<Signal> = new Set();

/**
 * Which processes make telemetry of their own, by their exports over OTLP that were seen. Who receives such exports as well passes on what
 * others have made: a Collector is no instrumented service.
 */
export class TelemetrySenders {
  private readonly most: number;
  private readonly counts: ReasonCounts;
  /** By service.instance.id, the oldest first. */
  private readonly senders = new Map<string, Set<Signal>>();
  private readonly forwarders = new Set<string>();
  private known = new WeakMap<Resource, ReadonlySet<Signal>>();

  /** @param counts processes that were seen: `exports_traces`, ... , and `exports_forgotten`: what there was no room for any more */
  constructor(most: number, counts: ReasonCounts) {
    this.most = most;
    this.counts = counts;
  }

  /** There is one. */
  get any(): boolean {
    return this.senders.size > 0;
  }

  sends(resource: Resource, signal: Signal): boolean {
    let signals = this.known.get(resource);
    if (signals === undefined) {
      const id = idOf(resource);
      signals = (this.forwarders.has(id) ? undefined : this.senders.get(id)) ?? NOTHING;
      this.known.set(resource, signals);
    }
    return signals.has(signal);
  }

  /** @param from the process at the client's endpoint, @param to at the server's; undefined: not of this machine */
  saw(from: Resource | undefined, to: Resource | undefined, signal: Signal): void {
    if (to !== undefined && !this.forwarders.has(idOf(to))) {
      this.makeRoom(this.forwarders);
      this.forwarders.add(idOf(to));
      this.known = new WeakMap();
    }
    if (from === undefined) return;
    const id = idOf(from);
    let signals = this.senders.get(id);
    if (signals?.has(signal)) return;
    if (signals === undefined) {
      this.makeRoom(this.senders);
      signals = new Set();
      this.senders.set(id, signals);
    }
    signals.add(signal);
    this.known = new WeakMap();
    count(this.counts, `exports_${signal}`);
  }

  private makeRoom(table: Map<string, unknown> | Set<string>): void {
    if (table.size < this.most) return;
    for (const oldest of table.keys()) {
      table.delete(oldest);
      break;
    }
    count(this.counts, 'exports_forgotten');
  }
}

/** Of a process; in Kubernetes of a container. */
function idOf({ name, attributes }: Resource): string {
  return String(attributes['service.instance.id'] ?? name);
}
