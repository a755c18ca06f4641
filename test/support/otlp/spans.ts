/** Reads OTLP/JSON (a line per ExportTraceServiceRequest) into flat objects. */
export type Value = string | number | boolean | Value[];

export interface FlatSpan {
  name: string;
  kind: 'UNSPECIFIED' | 'INTERNAL' | 'SERVER' | 'CLIENT' | 'PRODUCER' | 'CONSUMER';
  traceId: string;
  spanId: string;
  /** Empty for a root. */
  parentSpanId: string;
  traceState: string;
  attributes: Record<string, Value>;
  /** Attributes of the resource. */
  resource: Record<string, Value>;
  scope: string;
  startUs: number;
  endUs: number;
  status: { code: number; message: string };
  events: { name: string; timeUs: number; attributes: Record<string, Value> }[];
}

interface AnyValue {
  stringValue?: string;
  boolValue?: boolean;
  intValue?: string | number;
  doubleValue?: number;
  arrayValue?: { values?: AnyValue[] };
}
type KeyValue = { key: string; value: AnyValue };
interface Request {
  resourceSpans?: {
    resource?: { attributes?: KeyValue[] };
    scopeSpans?: {
      scope?: { name?: string };
      spans?: {
        name?: string;
        kind?: number;
        traceId: string;
        spanId: string;
        parentSpanId?: string;
        traceState?: string;
        attributes?: KeyValue[];
        startTimeUnixNano: string;
        endTimeUnixNano: string;
        status?: { code?: number; message?: string };
        events?: { name?: string; timeUnixNano: string; attributes?: KeyValue[] }[];
      }[];
    }[];
  }[];
}

const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'] as const;

function plain(value: AnyValue): Value {
  if (value.stringValue !== undefined) return value.stringValue;
  if (value.boolValue !== undefined) return value.boolValue;
  if (value.intValue !== undefined) return Number(value.intValue);
  if (value.doubleValue !== undefined) return value.doubleValue;
  return (value.arrayValue?.values ?? []).map(plain);
}

function record(attributes: KeyValue[] | undefined): Record<string, Value> {
  return Object.fromEntries((attributes ?? []).map(({ key, value }) => [key, plain(value)]));
}

const microseconds = (nano: string) => Number(BigInt(nano) / 1000n);

/** Parses whole lines; a last line without its end is left for the next time. */
export function parseSpans(text: string): FlatSpan[] {
  const spans: FlatSpan[] = [];
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    if (line === '') continue;
    for (const resourceSpan of (JSON.parse(line) as Request).resourceSpans ?? []) {
      const resource = record(resourceSpan.resource?.attributes);
      for (const scopeSpan of resourceSpan.scopeSpans ?? []) {
        for (const span of scopeSpan.spans ?? []) {
          spans.push({
            name: span.name ?? '',
            kind: KINDS[span.kind ?? 0] ?? 'UNSPECIFIED',
            traceId: span.traceId,
            spanId: span.spanId,
            parentSpanId: span.parentSpanId ?? '',
            traceState: span.traceState ?? '',
            attributes: record(span.attributes),
            resource,
            scope: scopeSpan.scope?.name ?? '',
            startUs: microseconds(span.startTimeUnixNano),
            endUs: microseconds(span.endTimeUnixNano),
            status: { code: span.status?.code ?? 0, message: span.status?.message ?? '' },
            events: (span.events ?? []).map((event) => ({
              name: event.name ?? '',
              timeUs: microseconds(event.timeUnixNano),
              attributes: record(event.attributes),
            })),
          });
        }
      }
    }
  }
  return spans;
}
