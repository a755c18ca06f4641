/**
 * Metrics as text, for Prometheus: OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), with exemplars, or the older
 * text format 0.0.4, without. Names and units by OpenTelemetry's "Prometheus and OpenMetrics Compatibility".
 */
import type {
  Attributes,
  AttributeValue,
  Exemplar,
  HistogramMetric,
  Metric,
  MetricGroup,
  NumberMetric,
} from './metric.ts';

export type TextFormat = 'openmetrics' | 'text';

export const CONTENT_TYPES: Readonly<Record<TextFormat, string>> = {
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
  text: 'text/plain; version=0.0.4; charset=utf-8',
};

/** The format that the sender of this Accept field reads best. */
export function formatFor(accept: string): TextFormat {
  return /(?:^|,)\s*application\/openmetrics-text\s*(?:;(?![^,]*\bq=0(?:\.0*)?\s*(?:;|,|$))|,|$)/i.test(accept)
    ? 'openmetrics'
    : 'text';
}

const UNITS: Readonly<Record<string, string>> = { s: 'seconds', By: 'bytes', '1': 'ratio' };

interface Member<M extends Metric> {
  readonly metric: M;
  readonly labels: Attributes;
}

/** All metrics of one name. */
interface Family {
  readonly name: string;
  readonly unit: string;
  readonly members: Member<Metric>[];
}

/** @param target the attributes of the agent's resource, for `target_info` */
export function toText(groups: readonly MetricGroup[], target: Attributes, format: TextFormat): string {
  const writer = new TextWriter(format);
  writer.info(target);
  for (const family of familiesOf(groups).values()) writer.family(family);
  return writer.finish();
}

/** In the order in which they come first. The lines of a family must stand together. */
function familiesOf(groups: readonly MetricGroup[]): Map<string, Family> {
  const families = new Map<string, Family>();
  for (const { metrics, labels } of groups) {
    for (const metric of metrics) {
      let family = families.get(metric.name);
      if (family === undefined) {
        const unit = unitOf(metric);
        family = { name: nameOf(metric, unit), unit, members: [] };
        families.set(metric.name, family);
      }
      family.members.push({ metric, labels });
    }
  }
  return families;
}

class TextWriter {
  readonly #open: boolean;
  readonly #lines: string[] = [];

  constructor(format: TextFormat) {
    this.#open = format === 'openmetrics';
  }

  info(target: Attributes): void {
    if (this.#open) this.#head('target', 'info', '', 'The agent');
    else this.#head('target_info', 'gauge', '', 'The agent');
    this.#line('target_info', labelsOf(target), '1');
  }

  family({ name, unit, members }: Family): void {
    const [{ metric }] = members as [Member<Metric>];
    const { description } = metric;
    if (metric.kind === 'histogram') {
      this.#head(name, 'histogram', unit, description);
      for (const member of members) this.#histogram(name, member as Member<HistogramMetric>);
      return;
    }
    const isCounter = metric.kind === 'counter';
    const sample = isCounter ? `${name}_total` : name;
    this.#head(this.#open ? name : sample, isCounter ? 'counter' : 'gauge', unit, description);
    for (const member of members) this.#numbers(sample, member as Member<NumberMetric>);
  }

  finish(): string {
    if (this.#open) this.#lines.push('# EOF');
    return `${this.#lines.join('\n')}\n`;
  }

  #head(name: string, type: string, unit: string, description: string): void {
    this.#lines.push(`# HELP ${name} ${escapeHelp(description, this.#open)}`, `# TYPE ${name} ${type}`);
    if (this.#open && unit !== '') this.#lines.push(`# UNIT ${name} ${unit}`);
  }

  #numbers(sample: string, { metric, labels }: Member<NumberMetric>): void {
    for (const { attributes, value } of metric.points)
      this.#line(sample, labelsOf(labels, attributes), numberText(value));
  }

  #histogram(name: string, { metric, labels }: Member<HistogramMetric>): void {
    for (const point of metric.points) {
      const text = labelsOf(labels, point.attributes);
      const before = text === '' ? '' : `${text},`;
      let below = 0;
      for (const [index, count] of point.counts.entries()) {
        below += count;
        const bound = metric.bounds[index];
        const le = bound === undefined ? '+Inf' : boundText(bound);
        const exemplar = this.#open ? exemplarText(point.exemplars[index]) : '';
        this.#line(`${name}_bucket`, `${before}le="${le}"`, String(below) + exemplar);
      }
      this.#line(`${name}_sum`, text, numberText(point.sum));
      this.#line(`${name}_count`, text, String(point.count));
    }
  }

  #line(name: string, labels: string, value: string): void {
    this.#lines.push(labels === '' ? `${name} ${value}` : `${name}{${labels}} ${value}`);
  }
}

/** "the unit MUST be added as a suffix to the metric name", unless it is there; what stands in braces is none. */
function unitOf({ unit, kind }: Metric): string {
  if (unit === '1' && kind === 'counter') return '';
  return UNITS[unit] ?? '';
}

function nameOf(metric: Metric, unit: string): string {
  const name = nameText(metric.name).replace(/_total$/, '');
  return unit === '' || name.endsWith(`_${unit}`) ? name : `${name}_${unit}`;
}

function nameText(name: string): string {
  return name.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d)/, '_');
}

function labelsOf(...sets: readonly Attributes[]): string {
  const labels: string[] = [];
  for (const attributes of sets) {
    for (const [name, value] of Object.entries(attributes)) labels.push(`${nameText(name)}="${escapeLabel(value)}"`);
  }
  return labels.join(',');
}

function escapeLabel(value: AttributeValue): string {
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return text.replace(/["\\\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`));
}

/** The older format knows no quotes here. */
function escapeHelp(text: string, open: boolean): string {
  const escaped = text.replace(/[\\\n]/g, (character) => (character === '\n' ? '\\n' : '\\\\'));
  return open ? escaped.replace(/"/g, '\\"') : escaped;
}

function numberText(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

/** "Canonical numbers": whole ones end in `.0`. The same in both formats, so that a series stays the same. */
function boundText(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : String(bound);
}

function exemplarText(exemplar: Exemplar | undefined): string {
  if (exemplar === undefined) return '';
  const { traceId, spanId, value, unixUs } = exemplar;
  return ` # {trace_id="${traceId}",span_id="${spanId}"} ${numberText(value)} ${(unixUs / 1e6).toFixed(3)}`;
}
