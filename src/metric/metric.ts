/** Metrics apart from any encoding: the names, units and kinds of OpenTelemetry. */

export type AttributeValue = string | number | boolean | readonly string[];
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** `up_down_counter`: a sum that may fall, such as the length of a queue. */
export type NumberKind = 'counter' | 'up_down_counter' | 'gauge';

interface Described {
  /** As the semantic conventions name it, with dots. */
  readonly name: string;
  /** UCUM: `s`, `By`, `1`, `{span}`. */
  readonly unit: string;
  readonly description: string;
}

export interface NumberPoint {
  readonly attributes: Attributes;
  readonly value: number;
}

export interface NumberMetric extends Described {
  readonly kind: NumberKind;
  readonly points: readonly NumberPoint[];
}

/** A measurement that a trace stands for. */
export interface Exemplar {
  readonly value: number;
  readonly unixUs: number;
  /** Hexadecimal. */
  readonly traceId: string;
  readonly spanId: string;
}

/** Buckets of base 2^(2^-scale): bucket i holds values above base^i, up to base^(i+1). */
export interface ExponentialBuckets {
  readonly scale: number;
  readonly zeroCount: number;
  /** The index of the first bucket. */
  readonly offset: number;
  readonly counts: readonly number[];
}

export interface HistogramPoint {
  readonly attributes: Attributes;
  /** Since when it counts, in microseconds since the epoch. */
  readonly startUnixUs: number;
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
  /** One more than there are bounds. */
  readonly counts: readonly number[];
  readonly exponential: ExponentialBuckets | undefined;
  /** One for each bucket that has one, at its place. */
  readonly exemplars: readonly (Exemplar | undefined)[];
}

export interface HistogramMetric extends Described {
  readonly kind: 'histogram';
  /** Upper bounds of the buckets, ascending; above the last there is one more bucket. */
  readonly bounds: readonly number[];
  readonly points: readonly HistogramPoint[];
}

export type Metric = NumberMetric | HistogramMetric;

/** The metrics of one resource. */
export interface MetricGroup {
  readonly resource: Attributes;
  /** What of the resource tells its series apart from those of others where they stand side by side; none of the agent's own. */
  readonly labels: Attributes;
  readonly metrics: readonly Metric[];
}
