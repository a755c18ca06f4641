/**
 * Encodes metrics as OTLP ExportMetricsServiceRequests (opentelemetry-proto 1.x, protobuf). All sums and histograms are cumulative.
 *
 * Ours, because OpenTelemetry's serializer leaves out exemplars; the rest is the same, byte for byte (a property test).
 */
import type {
  Attributes,
  AttributeValue,
  Exemplar,
  HistogramMetric,
  HistogramPoint,
  Metric,
  MetricGroup,
  NumberMetric,
  NumberPoint,
} from '../metric/metric.ts';
import type { EncoderScope } from './otlp-encoder.ts';
import { ProtobufWriter } from './protobuf-writer.ts';

/** Points of one request: some hundred bytes each, a thousand with all exemplars. */
const MAX_POINTS = 1000;

/** Wire types (https://protobuf.dev/programming-guides/encoding/). */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const tag = (field: number, wireType: number): number => field * 8 + wireType;

const CUMULATIVE = 2;

export interface EncodedMetrics {
  readonly payload: Buffer;
  readonly points: number;
}

export interface MetricsEncoderOptions {
  readonly scope: EncoderScope;
  /** Histograms with exponential buckets, where they have some. */
  readonly exponential: boolean;
  /** When the agent began to count: sums begin here. */
  readonly startUnixUs: number;
}

export class MetricsEncoder {
  readonly #options: MetricsEncoderOptions;
  #writer = new ProtobufWriter(4096);
  #nowUnixUs = 0;

  constructor(options: MetricsEncoderOptions) {
    this.#options = options;
  }

  /** @returns as many requests as it takes: no backend is sent more at once than it is sure to accept */
  encode(groups: readonly MetricGroup[], nowUnixUs: number): EncodedMetrics[] {
    this.#nowUnixUs = nowUnixUs;
    // Not what a round has left that ended in an error.
    this.#writer = new ProtobufWriter(4096);
    const requests: EncodedMetrics[] = [];
    let points = 0;
    const end = (): void => {
      if (points === 0) return;
      const { buffer, position } = this.#writer;
      requests.push({ payload: buffer.subarray(0, position), points });
      this.#writer = new ProtobufWriter(4096);
      points = 0;
    };
    for (const piece of groups.flatMap(piecesOf)) {
      const more = piece.metrics.reduce((sum, metric) => sum + metric.points.length, 0);
      if (points > 0 && points + more > MAX_POINTS) end();
      this.#message(1, () => this.#resourceMetrics(piece));
      points += more;
    }
    end();
    return requests;
  }

  #resourceMetrics({ resource, metrics }: MetricGroup): void {
    this.#message(1, () => {
      this.#attributes(1, resource);
      // dropped_attributes_count
      this.#varint(2, 0);
    });
    this.#message(2, () => {
      const { name, version } = this.#options.scope;
      this.#message(1, () => {
        this.#string(1, name);
        this.#string(2, version);
      });
      for (const metric of metrics) this.#message(2, () => this.#metric(metric));
    });
  }

  #metric(metric: Metric): void {
    this.#string(1, metric.name);
    this.#string(2, metric.description);
    this.#string(3, metric.unit);
    switch (metric.kind) {
      case 'gauge':
        this.#message(5, () => this.#numberPoints(metric));
        break;
      case 'counter':
      case 'up_down_counter':
        this.#message(7, () => {
          this.#numberPoints(metric);
          this.#varint(2, CUMULATIVE);
          if (metric.kind === 'counter') this.#varint(3, 1);
        });
        break;
      case 'histogram':
        this.#histogram(metric);
        break;
      default:
        metric satisfies never;
    }
  }

  #numberPoints(metric: NumberMetric): void {
    // Seconds and shares are no counts, also where they happen to be whole.
    const isDouble = metric.unit === 's' || metric.unit === '1';
    for (const point of metric.points) this.#message(1, () => this.#numberPoint(point, isDouble));
  }

  #numberPoint({ attributes, value }: NumberPoint, isDouble: boolean): void {
    this.#time(2, this.#options.startUnixUs);
    this.#time(3, this.#nowUnixUs);
    if (isDouble) this.#double(4, value);
    else this.#fixed64(6, value);
    this.#attributes(7, attributes);
  }

  #histogram({ points, bounds }: HistogramMetric): void {
    const exponential = this.#options.exponential && points.every((point) => point.exponential !== undefined);
    this.#message(exponential ? 10 : 9, () => {
      for (const point of points) {
        this.#message(1, () => (exponential ? this.#exponentialPoint(point) : this.#explicitPoint(point, bounds)));
      }
      this.#varint(2, CUMULATIVE);
    });
  }

  #explicitPoint(point: HistogramPoint, bounds: readonly number[]): void {
    this.#counts(point);
    this.#message(6, () => {
      for (const count of point.counts) this.#rawFixed64(count);
    });
    this.#message(7, () => {
      for (const bound of bounds) this.#writer.double(bound);
    });
    for (const exemplar of point.exemplars)
      if (exemplar !== undefined) this.#message(8, () => this.#exemplar(exemplar));
    this.#attributes(9, point.attributes);
    this.#double(11, point.min);
    this.#double(12, point.max);
  }

  #exponentialPoint(point: HistogramPoint): void {
    const { scale, zeroCount, offset, counts } = point.exponential!;
    this.#attributes(1, point.attributes);
    this.#counts(point);
    if (scale !== 0) this.#varint(6, zigzag(scale));
    this.#fixed64(7, zeroCount);
    this.#message(8, () => {
      if (offset !== 0) this.#varint(1, zigzag(offset));
      if (counts.length === 0) return;
      this.#message(2, () => {
        for (const count of counts) this.#writer.varint(count);
      });
    });
    // No value is negative.
    this.#message(9, () => {});
    for (const exemplar of point.exemplars)
      if (exemplar !== undefined) this.#message(11, () => this.#exemplar(exemplar));
    this.#double(12, point.min);
    this.#double(13, point.max);
  }

  #counts({ startUnixUs, count, sum }: HistogramPoint): void {
    this.#time(2, startUnixUs);
    this.#time(3, this.#nowUnixUs);
    this.#fixed64(4, count);
    this.#double(5, sum);
  }

  #exemplar({ unixUs, value, spanId, traceId }: Exemplar): void {
    this.#time(2, unixUs);
    this.#double(3, value);
    this.#writer.bytes(tag(4, LENGTH), Buffer.from(spanId, 'hex'));
    this.#writer.bytes(tag(5, LENGTH), Buffer.from(traceId, 'hex'));
  }

  #attributes(field: number, attributes: Attributes): void {
    for (const [name, value] of Object.entries(attributes)) {
      this.#message(field, () => {
        this.#writer.string(tag(1, LENGTH), name);
        this.#message(2, () => this.#anyValue(value));
      });
    }
  }

  #anyValue(value: AttributeValue): void {
    if (typeof value === 'string') this.#writer.string(tag(1, LENGTH), value);
    else if (typeof value === 'boolean') this.#varint(2, value ? 1 : 0);
    else if (typeof value === 'object') {
      this.#message(5, () => {
        for (const item of value) this.#message(1, () => this.#anyValue(item));
      });
    } else if (Number.isSafeInteger(value)) {
      this.#writer.byte(tag(3, VARINT));
      this.#writer.int64(value);
    } else this.#double(4, value);
  }

  #message(field: number, body: () => void): void {
    this.#writer.byte(tag(field, LENGTH));
    const at = this.#writer.skipLength();
    body();
    this.#writer.finishLength(at);
  }

  #string(field: number, text: string): void {
    if (text !== '') this.#writer.string(tag(field, LENGTH), text);
  }

  #varint(field: number, value: number): void {
    this.#writer.byte(tag(field, VARINT));
    this.#writer.varint(value);
  }

  #double(field: number, value: number): void {
    this.#writer.byte(tag(field, FIXED64));
    this.#writer.double(value);
  }

  #fixed64(field: number, value: number): void {
    this.#writer.byte(tag(field, FIXED64));
    this.#rawFixed64(value);
  }

  /** A whole number, as two's complement. */
  #rawFixed64(value: number): void {
    this.#writer.fixed32(value % 4294967296);
    this.#writer.fixed32(Math.floor(value / 4294967296));
  }

  #time(field: number, unixUs: number): void {
    this.#writer.byte(tag(field, FIXED64));
    this.#writer.unixNanos(unixUs);
  }
}

/** A group whose metrics have too many points for one request becomes several. */
function piecesOf(group: MetricGroup): MetricGroup[] {
  const pieces: Metric[][] = [[]];
  let points = 0;
  for (const metric of group.metrics) {
    for (let at = 0; at < metric.points.length; ) {
      if (points === MAX_POINTS) {
        pieces.push([]);
        points = 0;
      }
      const some = metric.points.slice(at, at + MAX_POINTS - points);
      pieces.at(-1)!.push({ ...metric, points: some } as Metric);
      at += some.length;
      points += some.length;
    }
  }
  return pieces.filter((metrics) => metrics.length > 0).map((metrics) => ({ ...group, metrics }));
}

/** sint32 */
function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}
