import type { Exchange } from '../exchange/exchange.ts';
import type { AttributeKey } from '../span/attributes.ts';
import type { AttributeValue, Resource } from '../span/resource.ts';
import type { Span } from '../span/span.ts';
import type { LineWriter } from './line-writer.ts';
import { type EncoderScope, FLAG_HAS_IS_REMOTE, FLAG_IS_REMOTE } from './otlp-encoder.ts';
import type { Output, OutputState } from './output.ts';

/** A line is written when it has this many spans, or is this old. */
const LINE_SPANS = 256;
const LINE_DELAY_MS = 200;

/**
 * Writes one OTLP/JSON ExportTraceServiceRequest per line: the form of OpenTelemetry's file exporter
 * (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/). Ids are hexadecimal, enumerations numbers, 64-bit integers
 * strings.
 */
export class OtlpJsonOutput implements Output {
  private readonly writer: LineWriter;
  private readonly scope: string;
  private readonly resources = new WeakMap<Resource, string>();
  private open = new Map<Resource, string[]>();
  private openSpans = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(writer: LineWriter, scope: EncoderScope) {
    this.writer = writer;
    this.scope = JSON.stringify({ name: scope.name, version: scope.version });
  }

  exchange(_exchange: Exchange, spans: readonly Span[]): void {
    for (const span of spans) {
      let group = this.open.get(span.resource);
      if (group === undefined) {
        group = [];
        this.open.set(span.resource, group);
      }
      group.push(encodeSpan(span));
      this.openSpans++;
    }
    if (this.openSpans >= LINE_SPANS) this.flush();
    else if (this.openSpans > 0) this.timer ??= setTimeout(() => this.flush(), LINE_DELAY_MS).unref();
  }

  ready(): Promise<void> | undefined {
    return this.writer.ready();
  }

  get heldBytes(): number {
    return this.writer.heldBytes;
  }

  state(): OutputState {
    return this.writer.state();
  }

  shutdown(deadlineMs: number): Promise<void> {
    this.flush();
    return this.writer.end(deadlineMs);
  }

  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.openSpans === 0) return;
    const groups: string[] = [];
    for (const [resource, spans] of this.open) {
      groups.push(
        `{"resource":${this.resourceOf(resource)},"scopeSpans":[{"scope":${this.scope},"spans":[${spans.join(',')}]}]}`,
      );
    }
    this.writer.write(`{"resourceSpans":[${groups.join(',')}]}\n`, this.openSpans);
    this.open = new Map();
    this.openSpans = 0;
  }

  private resourceOf(resource: Resource): string {
    let text = this.resources.get(resource);
    if (text === undefined) {
      const attributes = Object.entries(resource.attributes).map(([name, value]) =>
        encodeAttribute(name, value, false),
      );
      text = `{"attributes":[${attributes.join(',')}]}`;
      this.resources.set(resource, text);
    }
    return text;
  }
}

/** One Span message as OTLP/JSON. */
export function encodeSpan(span: Span): string {
  const flags = span.flags | FLAG_HAS_IS_REMOTE | (span.parentIsRemote && span.hasParent ? FLAG_IS_REMOTE : 0);
  let text = `{"traceId":"${span.traceId}","spanId":"${span.spanId}"`;
  if (span.traceState !== '') text += `,"traceState":${JSON.stringify(span.traceState)}`;
  if (span.hasParent) text += `,"parentSpanId":"${span.parentSpanId}"`;
  // The API's kinds begin with INTERNAL, the protocol's with UNSPECIFIED.
  text += `,"flags":${flags},"name":${JSON.stringify(span.name)},"kind":${span.kind + 1}`;
  text += `,"startTimeUnixNano":"${nanos(span.startUnixUs)}","endTimeUnixNano":"${nanos(span.endUnixUs)}","attributes":[`;
  let separator = '';
  for (const block of [span.shared, span.sharedToo]) {
    if (block === undefined) continue;
    const { keys, values } = block;
    for (let i = 0; i < keys.length; i++) {
      text += separator + encodeKnown(keys[i]!, values[i]!);
      separator = ',';
    }
  }
  for (let i = 0; i < span.count; i++) {
    text += separator + encodeKnown(span.keys[i]!, span.values[i]!);
    separator = ',';
  }
  return `${text}],"status":${span.status === 0 ? '{}' : `{"code":${span.status}}`}}`;
}

function encodeKnown(key: AttributeKey, value: AttributeValue): string {
  return encodeAttribute(key.name, value, key.isDouble);
}

function encodeAttribute(name: string, value: AttributeValue, isDouble: boolean): string {
  return `{"key":${JSON.stringify(name)},"value":${encodeAny(value, isDouble)}}`;
}

function encodeAny(value: AttributeValue, isDouble: boolean): string {
  if (typeof value === 'string') return `{"stringValue":${JSON.stringify(value)}}`;
  if (typeof value === 'boolean') return `{"boolValue":${value}}`;
  if (typeof value === 'object') {
    return `{"arrayValue":{"values":[${value.map((item) => encodeAny(item, false)).join(',')}]}}`;
  }
  return !isDouble && Number.isSafeInteger(value)
    ? `{"intValue":"${value}"}`
    : `{"doubleValue":${JSON.stringify(value)}}`;
}

/** Microseconds as a decimal number of nanoseconds, exactly. */
function nanos(us: number): string {
  const whole = Math.floor(us);
  const rest = Math.round((us - whole) * 1000);
  return rest === 1000 ? `${whole + 1}000` : `${whole}${String(rest).padStart(3, '0')}`;
}
