import { SpanKind, TraceFlags } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { emptyResource } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';

const scope = { name: 'test', version: '1' };
const resource = emptyResource();

/** A SERVER span of 5 ms that began just now; its ids come from `index`. */
export function someSpan(index: number): ReadableSpan {
  const id = (index + 1).toString(16);
  const seconds = Math.floor(Date.now() / 1000);
  return {
    name: 'GET',
    kind: SpanKind.SERVER,
    spanContext: () => ({
      traceId: id.padStart(32, '0'),
      spanId: id.padStart(16, '0'),
      traceFlags: TraceFlags.SAMPLED,
    }),
    startTime: [seconds, 0],
    endTime: [seconds, 5_000_000],
    status: { code: 0 },
    attributes: { 'http.request.method': 'GET', 'http.response.status_code': 200 },
    links: [],
    events: [],
    duration: [0, 5_000_000],
    ended: true,
    resource,
    instrumentationScope: scope,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

/** Sends spans with the official exporter; 0 is success, 1 failure. */
export function exportSpans(endpoint: string, spans: ReadableSpan[]): Promise<number> {
  const exporter = new OTLPTraceExporter({ url: endpoint });
  return new Promise<number>((resolve) => {
    exporter.export(spans, (result) => resolve(result.code));
  }).finally(() => exporter.shutdown());
}
