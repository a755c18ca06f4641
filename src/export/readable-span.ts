import { createTraceState, type HrTime, type SpanContext } from '@opentelemetry/api';
import { resourceFromAttributes, type Resource as SdkResource } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';
import type { AttributeValue, Resource } from '../span/resource.ts';
import type { Span } from '../span/span.ts';
import type { Batch } from './batch.ts';
import type { EncoderScope } from './otlp-encoder.ts';

/** What one span is taken to need in a request; the SDK tells no sizes. */
const ASSUMED_SPAN_BYTES = 1024;

/** Turns spans into those of OpenTelemetry's SDK, for its own exporters and encoders. */
export class ReadableSpans {
  private readonly scope: EncoderScope;
  /** The SDK's serializers group by identity. */
  private readonly resources = new WeakMap<Resource, SdkResource>();

  constructor(scope: EncoderScope) {
    this.scope = scope;
  }

  from(span: Span): ReadableSpan {
    const context: SpanContext = {
      traceId: span.traceId,
      spanId: span.spanId,
      traceFlags: span.flags,
      ...(span.traceState !== '' && { traceState: createTraceState(span.traceState) }),
    };
    const startTime = hrTime(span.startUnixUs);
    const endTime = hrTime(span.endUnixUs);
    return {
      name: span.name,
      kind: span.kind,
      spanContext: () => context,
      ...(span.hasParent && {
        parentSpanContext: {
          traceId: span.traceId,
          spanId: span.parentSpanId,
          traceFlags: span.flags,
          isRemote: span.parentIsRemote,
        },
      }),
      startTime,
      endTime,
      duration: hrTime(span.endUnixUs - span.startUnixUs),
      status: { code: span.status },
      attributes: mutable(span.attributes()),
      links: [],
      events: [],
      ended: true,
      resource: this.resourceOf(span.resource),
      instrumentationScope: this.scope,
      droppedAttributesCount: 0,
      droppedEventsCount: 0,
      droppedLinksCount: 0,
    };
  }

  private resourceOf(resource: Resource): SdkResource {
    let converted = this.resources.get(resource);
    if (converted === undefined) {
      converted = resourceFromAttributes(mutable(resource.attributes));
      this.resources.set(resource, converted);
    }
    return converted;
  }
}

/** Collects a batch of SDK spans: the slow, official way. */
export class ReadableBatcher {
  private readonly readable: ReadableSpans;
  private open: ReadableSpan[] = [];

  constructor(scope: EncoderScope) {
    this.readable = new ReadableSpans(scope);
  }

  get spans(): number {
    return this.open.length;
  }

  get bytes(): number {
    return this.open.length * ASSUMED_SPAN_BYTES;
  }

  add(span: Span, maxBytes: number): boolean {
    if (this.bytes + ASSUMED_SPAN_BYTES > maxBytes) return false;
    this.open.push(this.readable.from(span));
    return true;
  }

  take(): Batch {
    const batch = { payload: this.open, spans: this.spans, byteLength: this.bytes };
    this.open = [];
    return batch;
  }
}

function mutable(
  attributes: Readonly<Record<string, AttributeValue>>,
): Record<string, string | number | boolean | string[]> {
  const copy: Record<string, string | number | boolean | string[]> = {};
  for (const [name, value] of Object.entries(attributes)) copy[name] = typeof value === 'object' ? [...value] : value;
  return copy;
}

function hrTime(us: number): HrTime {
  const whole = Math.floor(us);
  const seconds = Math.floor(whole / 1e6);
  return [seconds, (whole - seconds * 1e6) * 1000 + Math.round((us - whole) * 1000)];
}
