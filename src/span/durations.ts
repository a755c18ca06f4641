/**
 * How long exchanges took, as histograms by the semantic conventions for HTTP, RPC and database metrics: of every exchange, whether or not
 * it becomes a span. A series is a histogram with its attributes; there are at most as many as the limit allows, and what is beyond them
 * counts in one series per metric that has nothing but `otel.metric.overflow`.
 */
import type { Limits } from '../config/limits.ts';
import { Histogram } from '../metric/histogram.ts';
import type { Attributes, HistogramMetric, HistogramPoint, MetricGroup } from '../metric/metric.ts';
import { type Counters, count } from '../telemetry/counters.ts';
import type { AttributeBlock, AttributeKey } from './attributes.ts';
import type { Resource } from './resource.ts';
import type { Span } from './span.ts';

/** What is measured, and which attributes of a connection's endpoint belong to it. */
export interface Instrument {
  readonly name: string;
  readonly description: string;
  readonly bounds: readonly number[];
  readonly keys: readonly AttributeKey[];
}

export interface DurationsOptions {
  readonly limits: Pick<Limits, 'metricSeries' | 'metricIdleUs'>;
  /** Exponential buckets, too. */
  readonly exponential: boolean;
  readonly exemplars: boolean;
  readonly counters: Counters;
}

/** What an endpoint of a connection keeps for its measurements. */
export interface Measured {
  readonly block: AttributeBlock;
  durations: SeriesGroup | undefined;
  /** Whose they are. */
  durationsOf: Resource | undefined;
}

/** Whose series are reported together: a service or a container, not a process. */
interface Owner {
  readonly key: string;
  readonly resource: Attributes;
  readonly labels: Attributes;
}

class Series {
  readonly attributes: Attributes;
  readonly startUnixUs: number;
  readonly histogram: Histogram;
  /** When it was last reported and had grown. */
  changedUnixUs: number;
  toldCount = 0;

  constructor(attributes: Attributes, startUnixUs: number, histogram: Histogram) {
    this.attributes = attributes;
    this.startUnixUs = startUnixUs;
    this.histogram = histogram;
    this.changedUnixUs = startUnixUs;
  }

  point(): HistogramPoint {
    return { attributes: this.attributes, startUnixUs: this.startUnixUs, ...this.histogram.read() };
  }
}

interface Entry {
  readonly code: number;
  readonly error: string;
  readonly series: Series;
}

/** The series of one metric, one owner and one set of what the endpoint of a connection says. */
export class SeriesGroup {
  readonly key: string;
  readonly instrument: Instrument;
  readonly owner: Owner;
  /** What the endpoint says. */
  readonly common: Attributes;
  /** By name: few of each. */
  readonly byName = new Map<string, Entry[]>();
  /** Nothing of it is reported any more. */
  retired = false;
  private lastName = '';
  private last: Entry | undefined = undefined;

  constructor(key: string, instrument: Instrument, owner: Owner, common: Attributes) {
    this.key = key;
    this.instrument = instrument;
    this.owner = owner;
    this.common = common;
  }

  find(name: string, code: number, error: string): Series | undefined {
    const { last } = this;
    if (last !== undefined && last.code === code && last.error === error && this.lastName === name) return last.series;
    const entries = this.byName.get(name);
    if (entries === undefined) return undefined;
    for (const entry of entries) {
      if (entry.code !== code || entry.error !== error) continue;
      this.lastName = name;
      this.last = entry;
      return entry.series;
    }
    return undefined;
  }

  add(name: string, code: number, error: string, series: Series): void {
    const entries = this.byName.get(name);
    if (entries === undefined) this.byName.set(name, [{ code, error, series }]);
    else entries.push({ code, error, series });
  }

  /** Keeps the series that pass. @returns how many do not */
  prune(keeps: (series: Series) => boolean): number {
    let removed = 0;
    for (const [name, entries] of this.byName) {
      const kept = entries.filter(({ series }) => keeps(series));
      removed += entries.length - kept.length;
      if (kept.length === 0) this.byName.delete(name);
      else if (kept.length < entries.length) this.byName.set(name, kept);
    }
    if (removed > 0) this.last = undefined;
    if (this.byName.size === 0) this.retired = true;
    return removed;
  }
}

/** Of a resource, what is that of one process, and would make a series of each. */
const PROCESS_ATTRIBUTE = /^(?:process\.|host\.ip$)/;
/** What distinguishes owners: their series have these labels where no resource is. */
const LABELS = [
  'service.name',
  'service.namespace',
  'service.instance.id',
  'k8s.namespace.name',
  'k8s.pod.name',
  'k8s.container.name',
];
const OVERFLOW: Attributes = { 'otel.metric.overflow': true };

/** Makes the attributes of a series, the first time that it is measured. */
export type Describe = (name: string, code: number, error: string) => Readonly<Record<string, string | number>>;

/** Measures one metric. */
export class Recorder {
  readonly #durations: Durations;
  readonly #instrument: Instrument;
  readonly #describe: Describe;
  #last: Series | undefined;
  #seconds = 0;

  constructor(durations: Durations, instrument: Instrument, describe: Describe) {
    this.#durations = durations;
    this.#instrument = instrument;
    this.#describe = describe;
  }

  /**
   * An exchange has ended.
   *
   * @param own keeps what is found here
   * @param name route, method, summary: what there may be many of
   * @param code what else makes a series, with the error
   * @param startUnixUs when it began
   */
  record(
    resource: Resource,
    own: Measured,
    name: string,
    code: number,
    error: string,
    seconds: number,
    startUnixUs: number,
  ): void {
    let group = own.durations;
    if (group === undefined || own.durationsOf !== resource || group.retired) {
      group = this.#durations.groupOf(this.#instrument, resource, own.block);
      own.durations = group;
      own.durationsOf = resource;
    }
    let series = group.find(name, code, error);
    if (series === undefined) {
      series = this.#durations.addSeries(group, name, code, error, startUnixUs, this.#describe);
      // One that is not known to all must not be kept by one.
      if (group.byName.size === 0) own.durations = undefined;
    }
    series.histogram.record(seconds);
    this.#last = series;
    this.#seconds = seconds;
  }

  /** The exchange that was measured last has become this span. */
  exemplify(span: Span): void {
    if (this.#durations.exemplars) this.#last?.histogram.exemplify(this.#seconds, span.ids, span.endUnixUs);
  }
}

export class Durations {
  readonly exemplars: boolean;
  readonly #options: DurationsOptions;
  readonly #owners = new WeakMap<Resource, Owner>();
  readonly #groups = new Map<string, SeriesGroup>();
  readonly #overflow = new Map<Instrument, Series>();
  #series = 0;

  constructor(options: DurationsOptions) {
    this.#options = options;
    this.exemplars = options.exemplars;
  }

  recorder(instrument: Instrument, describe: Describe): Recorder {
    return new Recorder(this, instrument, describe);
  }

  /** @returns the group, which is not known to all before it has a series */
  groupOf(instrument: Instrument, resource: Resource, block: AttributeBlock): SeriesGroup {
    const owner = this.#ownerOf(resource);
    const common: Record<string, string | number> = {};
    for (const [i, key] of block.keys.entries()) {
      if (instrument.keys.includes(key)) common[key.name] = block.values[i] as string | number;
    }
    const key = [instrument.name, owner.key, ...instrument.keys.map(({ name }) => common[name] ?? '')].join('\0');
    return this.#groups.get(key) ?? new SeriesGroup(key, instrument, owner, common);
  }

  /** @returns the series, or the one for all that are too many */
  addSeries(
    group: SeriesGroup,
    name: string,
    code: number,
    error: string,
    startUnixUs: number,
    describe: Describe,
  ): Series {
    const { instrument, common } = group;
    if (this.#series >= this.#options.limits.metricSeries) return this.#overflowOf(instrument, startUnixUs);
    const series = this.#newSeries(instrument, { ...common, ...describe(name, code, error) }, startUnixUs);
    group.add(name, code, error, series);
    this.#groups.set(group.key, group);
    this.#series++;
    return series;
  }

  /** What was measured so far, by owner; and what has no owner. Series that have not grown for long are no longer reported. */
  collect(nowUnixUs: number): {
    readonly groups: readonly MetricGroup[];
    readonly overflow: readonly HistogramMetric[];
  } {
    this.#forgetIdle(nowUnixUs);
    const byOwner = new Map<string, { owner: Owner; points: Map<Instrument, HistogramPoint[]> }>();
    for (const { instrument, owner, byName } of this.#groups.values()) {
      const told = entryOf(byOwner, owner.key, () => ({ owner, points: new Map<Instrument, HistogramPoint[]>() }));
      const points = entryOf(told.points, instrument, () => []);
      for (const entries of byName.values()) for (const { series } of entries) points.push(series.point());
    }
    const groups = [...byOwner.values()].map(({ owner: { resource, labels }, points }) => ({
      resource,
      labels,
      metrics: [...points].map(([instrument, all]) => metricOf(instrument, all)),
    }));
    const overflow = [...this.#overflow].map(([instrument, series]) => metricOf(instrument, [series.point()]));
    return { groups, overflow };
  }

  #forgetIdle(nowUnixUs: number): void {
    const { metricIdleUs } = this.#options.limits;
    const keeps = (series: Series): boolean => {
      const grown = series.histogram.count > series.toldCount;
      series.toldCount = series.histogram.count;
      if (grown) series.changedUnixUs = nowUnixUs;
      return nowUnixUs - series.changedUnixUs < metricIdleUs;
    };
    for (const [key, group] of this.#groups) {
      const removed = group.prune(keeps);
      if (removed === 0) continue;
      this.#series -= removed;
      count(this.#options.counters.metrics, 'series_expired', removed);
      if (group.retired) this.#groups.delete(key);
    }
  }

  #ownerOf(resource: Resource): Owner {
    let owner = this.#owners.get(resource);
    if (owner === undefined) {
      owner = newOwner(resource);
      this.#owners.set(resource, owner);
    }
    return owner;
  }

  #newSeries({ bounds }: Instrument, attributes: Attributes, startUnixUs: number): Series {
    return new Series(attributes, startUnixUs, new Histogram(bounds, this.#options.exponential));
  }

  #overflowOf(instrument: Instrument, startUnixUs: number): Series {
    count(this.#options.counters.metrics, 'series_limit');
    let series = this.#overflow.get(instrument);
    if (series === undefined) {
      series = this.#newSeries(instrument, OVERFLOW, startUnixUs);
      this.#overflow.set(instrument, series);
    }
    return series;
  }
}

function newOwner({ attributes }: Resource): Owner {
  const resource: Record<string, Attributes[string]> = {};
  const labels: Record<string, Attributes[string]> = {};
  // That of a process, unless there is a pod whose it is.
  const isOfProcess = attributes['k8s.pod.name'] === undefined;
  for (const [name, value] of Object.entries(attributes)) {
    if (PROCESS_ATTRIBUTE.test(name)) continue;
    if (isOfProcess && (name === 'service.instance.id' || name === 'container.id')) continue;
    resource[name] = value;
    if (LABELS.includes(name)) labels[name] = value;
  }
  return { key: LABELS.map((name) => String(labels[name] ?? '')).join('\0'), resource, labels };
}

function metricOf({ name, description, bounds }: Instrument, points: readonly HistogramPoint[]): HistogramMetric {
  return { kind: 'histogram', name, unit: 's', description, bounds, points };
}

function entryOf<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
