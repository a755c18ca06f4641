import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { AttributeBlock, AttributeKey } from './attributes.ts';
import type { AttributeValue, Resource } from './resource.ts';

/** Offsets in Span.ids. */
export const TRACE_ID = 0;
export const SPAN_ID = 16;
export const PARENT_SPAN_ID = 24;
export const IDS_BYTES = 32;

/** The endpoints of a connection. */
export type EndpointName = 'client' | 'server';

const NO_RESOURCE: Resource = { name: '', attributes: {} };

/**
 * One span, apart from any encoding.
 *
 * The builder fills the same few objects again for every exchange: read a span within the call that hands it over, `clone` what
 * must outlive it.
 */
export class Span {
  /** Trace id (16 bytes), span id (8), parent span id (8; meaningful while hasParent). */
  readonly ids: Buffer = Buffer.alloc(IDS_BYTES);
  hasParent = false;
  /** The parent is a span of another process. */
  parentIsRemote = false;
  /** The list of a W3C tracestate, empty when there is none. */
  traceState = '';
  /** W3C trace flags, 8 bits. */
  flags = 1;
  name = '';
  /** Which endpoint of the connection it is from, whatever its kind. */
  readonly endpoint: EndpointName;
  kind: SpanKind = SpanKind.INTERNAL;
  /** Microseconds since the Unix epoch, with a fraction. */
  startUnixUs = 0;
  endUnixUs = 0;
  status: SpanStatusCode = SpanStatusCode.UNSET;
  resource: Resource = NO_RESOURCE;
  /** Attributes that it shares with other spans; they come first, in this order: those of its connection, those of its statement. */
  shared: AttributeBlock | undefined = undefined;
  sharedToo: AttributeBlock | undefined = undefined;
  /** Its own attributes: keys[0..count), values[0..count). What lies beyond is left from earlier spans. */
  count = 0;
  readonly keys: AttributeKey[] = [];
  readonly values: AttributeValue[] = [];
  /** What a person reads of it: for HTTP the redacted target, for SQL the summary of the statement. */
  summary = '';
  /** For people: the other endpoint's process, when it is here and no span stands for it. */
  peerName = '';

  constructor(endpoint: EndpointName = 'server') {
    this.endpoint = endpoint;
  }

  get traceId(): string {
    return this.ids.toString('hex', TRACE_ID, SPAN_ID);
  }

  get spanId(): string {
    return this.ids.toString('hex', SPAN_ID, PARENT_SPAN_ID);
  }

  /** Empty for a root. */
  get parentSpanId(): string {
    return this.hasParent ? this.ids.toString('hex', PARENT_SPAN_ID, IDS_BYTES) : '';
  }

  set(key: AttributeKey, value: AttributeValue): void {
    this.keys[this.count] = key;
    this.values[this.count++] = value;
  }

  /** All attributes by name: for encoders that need not be fast, and for tests. */
  attributes(): Record<string, AttributeValue> {
    const all: Record<string, AttributeValue> = {};
    for (const block of [this.shared, this.sharedToo]) {
      if (block === undefined) continue;
      for (let i = 0; i < block.keys.length; i++) all[block.keys[i]!.name] = block.values[i]!;
    }
    for (let i = 0; i < this.count; i++) all[this.keys[i]!.name] = this.values[i]!;
    return all;
  }

  /** A copy that nobody fills again. */
  clone(): Span {
    const copy = new Span(this.endpoint);
    this.ids.copy(copy.ids);
    copy.hasParent = this.hasParent;
    copy.parentIsRemote = this.parentIsRemote;
    copy.traceState = this.traceState;
    copy.flags = this.flags;
    copy.name = this.name;
    copy.kind = this.kind;
    copy.startUnixUs = this.startUnixUs;
    copy.endUnixUs = this.endUnixUs;
    copy.status = this.status;
    copy.resource = this.resource;
    copy.shared = this.shared;
    copy.sharedToo = this.sharedToo;
    copy.summary = this.summary;
    copy.peerName = this.peerName;
    for (let i = 0; i < this.count; i++) copy.set(this.keys[i]!, this.values[i]!);
    return copy;
  }
}
