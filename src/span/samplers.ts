import { type Attributes, type Context, createTraceState, type Link, type SpanKind } from '@opentelemetry/api';
import { AlwaysOffSampler, type Sampler, SamplingDecision, type SamplingResult } from '@opentelemetry/sdk-trace-node';
import { type Sampling, sampleAll } from './sampling.ts';

const TWO_POW_28 = 2 ** 28;
const TWO_POW_56 = 2 ** 56;

/**
 * Samples a share of the traces by the low 56 bits of the trace id, and writes the rejection threshold into tracestate as `ot=th:`
 * (https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/), so that a backend can count each kept span
 * for as many as it stands for.
 */
export class ConsistentSampler implements Sampler {
  private readonly thresholdHigh: number;
  private readonly thresholdLow: number;
  private readonly keep: SamplingResult;
  private readonly ratio: number;

  /** @param ratio share of the traces that are kept, more than 0 and at most 1 */
  constructor(ratio: number) {
    this.ratio = ratio;
    const threshold = Math.min(Math.round((1 - ratio) * TWO_POW_56), TWO_POW_56 - 16);
    this.thresholdHigh = Math.floor(threshold / TWO_POW_28);
    this.thresholdLow = threshold % TWO_POW_28;
    // Trailing zeros are left out, but one digit stays.
    const digits = threshold.toString(16).padStart(14, '0').replace(/0+$/, '') || '0';
    this.keep = { decision: SamplingDecision.RECORD_AND_SAMPLED, traceState: createTraceState(`ot=th:${digits}`) };
  }

  shouldSample(
    _context: Context,
    traceId: string,
    _name: string,
    _kind: SpanKind,
    _attributes: Attributes,
    _links: Link[],
  ): SamplingResult {
    const high = Number.parseInt(traceId.slice(18, 25), 16);
    const low = Number.parseInt(traceId.slice(25, 32), 16);
    const kept = high > this.thresholdHigh || (high === this.thresholdHigh && low >= this.thresholdLow);
    return kept ? this.keep : DROP;
  }

  toString(): string {
    return `ConsistentSampler{${this.ratio}}`;
  }
}

const DROP: SamplingResult = { decision: SamplingDecision.NOT_RECORD };

/**
 * The sampling that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG ask for; without them every trace whose context does not say
 * otherwise.
 *
 * @param warn is told of a value that has no meaning, which then counts as not set (as the specification asks)
 */
export function samplingFromEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
  warn: (message: string) => void,
): Sampling {
  const name = environment.OTEL_TRACES_SAMPLER?.trim() ?? '';
  if (name === '') return sampleAll;
  const followParent = name.startsWith('parentbased_');
  switch (followParent ? name.slice('parentbased_'.length) : name) {
    case 'always_on':
      return { followParent, root: undefined };
    case 'always_off':
      return { followParent, root: new AlwaysOffSampler() };
    case 'traceidratio':
      return { followParent, root: ratioSampler(environment.OTEL_TRACES_SAMPLER_ARG, warn) };
    default:
      warn(`OTEL_TRACES_SAMPLER: ${JSON.stringify(name)} is not a sampler known here; all traces are sampled`);
      return sampleAll;
  }
}

function ratioSampler(text: string | undefined, warn: (message: string) => void): Sampler | undefined {
  const ratio = text === undefined || text.trim() === '' ? 1 : Number(text);
  if (!(ratio >= 0 && ratio <= 1)) {
    warn(`OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1, not ${JSON.stringify(text)}; all traces are sampled`);
    return undefined;
  }
  if (ratio === 0) return new AlwaysOffSampler();
  return ratio === 1 ? undefined : new ConsistentSampler(ratio);
}
