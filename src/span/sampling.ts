/**
 * Which exchanges become spans: the one place where that is decided, after all is known of the exchange and before anything is made of
 * it but what measures every exchange (durations.ts).
 *
 * A decision is made for each endpoint, and follows from what both see alike: the trace's random bits and context, failure, duration. So it
 * comes out the same on two nodes, but where the rate of one service is limited more than that of the other; then one keeps a part of
 * what the other keeps.
 */
import type { Candidate } from './candidate.ts';
import { RANDOM_BITS, type WireContext } from './context.ts';
import type { Filters } from './filters.ts';
import { RateLimit } from './rate-limit.ts';
import type { Resource } from './resource.ts';
import type { Span } from './span.ts';
import type { TelemetrySenders } from './telemetry-senders.ts';
import { KEEP_ALL, Threshold, withThreshold } from './threshold.ts';

/** `sampling` of the configuration has these keys. */
export interface SamplingOptions {
  /** A decision on the wire goes first. */
  readonly followParent: boolean;
  /** Share of the other traces that is sampled, from 0 to 1. */
  readonly ratio: number;
  /** Of each service; 0: any number. */
  readonly spansPerSecond: number;
  /** Exchanges that failed are kept whatever ratio and rate would do. */
  readonly keepErrors: boolean;
  /** The same for those that took as long as this; 0: none. */
  readonly keepSlowerThanMs: number;
  /** What is kept is so also in a trace that is not sampled by a decision on the wire. */
  readonly keepInUnsampledTraces: boolean;
}

export const defaultSamplingOptions: SamplingOptions = {
  followParent: true,
  ratio: 1,
  spansPerSecond: 0,
  keepErrors: true,
  keepSlowerThanMs: 0,
  keepInUnsampledTraces: false,
};

/** Why an endpoint has no span; empty: it has one. */
export type Reason = '' | 'filtered' | 'avoided_service' | 'unsampled' | 'rate_limited';

export interface DecisionOptions {
  readonly sampling: SamplingOptions;
  /** Services whose rate is known at once. */
  readonly maxServices: number;
  readonly filters?: Filters | undefined;
  /** Whose spans are left out, for those that they make of their own. */
  readonly avoided?: TelemetrySenders | undefined;
  /** Called when the rate of a service is forgotten for that of another. */
  readonly onEviction: () => void;
}

/** Anything beyond following the decision on the wire. */
export class Decision {
  private readonly filters: Filters | undefined;
  private readonly avoided: TelemetrySenders | undefined;
  private readonly followParent: boolean;
  /** undefined: what is not kept for a reason of its own is not sampled. */
  private readonly root: Threshold | undefined;
  private readonly keepErrors: boolean;
  private readonly slowUs: number;
  private readonly keepInUnsampledTraces: boolean;
  private readonly limit: RateLimit | undefined;
  /** Everything is sampled that the wire does not forbid: there is nothing to say in tracestate. */
  private readonly plain: boolean;

  constructor({ sampling, filters, avoided, maxServices, onEviction }: DecisionOptions) {
    this.filters = filters;
    this.avoided = avoided;
    this.followParent = sampling.followParent;
    this.root = sampling.ratio > 0 ? Threshold.ofProbability(sampling.ratio) : undefined;
    this.keepErrors = sampling.keepErrors;
    this.slowUs = sampling.keepSlowerThanMs > 0 ? sampling.keepSlowerThanMs * 1000 : Number.POSITIVE_INFINITY;
    this.keepInUnsampledTraces = sampling.keepInUnsampledTraces;
    this.limit =
      sampling.spansPerSecond > 0 ? new RateLimit(sampling.spansPerSecond, maxServices, onEviction) : undefined;
    this.plain = isPlain(sampling);
  }

  /** @returns undefined when there is nothing to decide but what the wire says */
  static of(options: DecisionOptions): Decision | undefined {
    const { sampling, filters, avoided } = options;
    return isPlain(sampling) && sampling.followParent && filters === undefined && avoided === undefined
      ? undefined
      : new Decision(options);
  }

  /**
   * Decides over the span of one endpoint, and writes into its tracestate how many it stands for.
   *
   * @param span has its trace id and the tracestate of the wire
   */
  decide(span: Span, resource: Resource, context: WireContext | undefined, candidate: Candidate): Reason {
    if (this.filters?.leavesOut(resource, candidate)) return 'filtered';
    if (this.avoided?.any && this.avoided.sends(resource, 'traces')) return 'avoided_service';
    const said = this.followParent ? context?.sampled : undefined;
    if (this.plain) return said === false ? 'unsampled' : '';

    const kept = (this.keepErrors && candidate.failed) || candidate.durationUs >= this.slowUs;
    const high = context?.randomness?.high ?? span.ids.readUIntBE(RANDOM_BITS, 3);
    const low = context?.randomness?.low ?? span.ids.readUInt32BE(RANDOM_BITS + 3);
    let threshold: Threshold | undefined;
    if (said !== undefined && !(kept && this.keepInUnsampledTraces)) {
      if (!said) return 'unsampled';
      threshold = context!.threshold;
    } else if (kept) {
      // All of their kind are: each stands for itself alone.
      threshold = KEEP_ALL;
    } else {
      threshold = this.root;
      if (threshold === undefined || threshold.rejects(high, low)) return 'unsampled';
    }
    if (this.limit !== undefined && !kept) {
      const limit = this.limit.thresholdOf(resource, candidate.endUs);
      if (limit.rejects(high, low)) return 'rate_limited';
      if (threshold !== undefined && limit.isAbove(threshold)) threshold = limit;
    }
    span.traceState = withThreshold(span.traceState, threshold);
    return '';
  }
}

function isPlain({ followParent, ratio, spansPerSecond, keepInUnsampledTraces }: SamplingOptions): boolean {
  return ratio === 1 && spansPerSecond === 0 && !(followParent && keepInUnsampledTraces);
}
