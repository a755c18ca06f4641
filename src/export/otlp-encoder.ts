/**
 * Encodes spans as an OTLP ExportTraceServiceRequest (opentelemetry-proto 1.x, protobuf).
 *
 * Spans are encoded when they arrive, each into the buffer of its resource, so that what waits is bytes of a known number and no
 * objects. What repeats is encoded once and copied: resources, attribute blocks, and whole attributes of few values.
 *
 *   ExportTraceServiceRequest { 1: ResourceSpans { 1: Resource, 2: ScopeSpans { 1: InstrumentationScope, 2: Span ... } } ... }
 */
import type { AttributeBlock, AttributeKey } from '../span/attributes.ts';
import type { AttributeValue, Resource } from '../span/resource.ts';
import { PARENT_SPAN_ID, SPAN_ID, type Span, TRACE_ID } from '../span/span.ts';
import type { Batch } from './batch.ts';
import { ProtobufWriter, varintLength } from './protobuf-writer.ts';
import { SpanTemplate } from './span-template.ts';

/** Field numbers with their wire types, as tag bytes. */
const TAG = {
  requestResourceSpans: 0x0a,
  resourceSpansResource: 0x0a,
  resourceSpansScopeSpans: 0x12,
  resourceAttributes: 0x0a,
  scopeSpansScope: 0x0a,
  scopeSpansSpans: 0x12,
  scopeName: 0x0a,
  scopeVersion: 0x12,
  spanTraceId: 0x0a,
  spanSpanId: 0x12,
  spanTraceState: 0x1a,
  spanParentSpanId: 0x22,
  spanName: 0x2a,
  spanKind: 0x30,
  spanStart: 0x39,
  spanEnd: 0x41,
  spanAttributes: 0x4a,
  spanStatus: 0x7a,
  statusCode: 0x18,
  /** Field 16 takes two bytes. */
  spanFlags: 0x85,
  spanFlagsSecond: 0x01,
  keyValueKey: 0x0a,
  keyValueValue: 0x12,
  anyString: 0x0a,
  anyBool: 0x10,
  anyInt: 0x18,
  anyDouble: 0x21,
  anyArray: 0x2a,
  arrayValues: 0x0a,
} as const;

/** Bits of Span.flags beyond the W3C ones: SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK and SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK. */
export const FLAG_HAS_IS_REMOTE = 0x100;
export const FLAG_IS_REMOTE = 0x200;

/** Encoded attributes kept per key; a key whose values turn out not to repeat starts over. */
const MAX_VALUES_PER_KEY = 512;
/** Longer values are not kept. */
const MAX_KEPT_LENGTH = 256;
const INITIAL_GROUP_BYTES = 8 * 1024;
/** Everything of a span that is not a string or an attribute, with room. */
const FIXED_BYTES = 128;

/** gRPC puts as many bytes before a message: they are kept free before each payload. */
export const PREFIX_BYTES = 5;

/**
 * Payloads that are kept to be filled again: as many as usually wait and are under way, of the sizes that hurt. They lie in shared
 * memory: the export thread reads them without a copy, and they are no garbage to either of the two.
 */
const MAX_SHARED = 16;
const MIN_SHARED_BYTES = 64 * 1024;
const ROUND_BYTES = 256 * 1024;

export interface EncoderScope {
  readonly name: string;
  readonly version: string;
}

/** The spans of one resource that wait in the open batch. */
interface Group {
  readonly resource: Resource;
  /** The field `resource` of ResourceSpans, whole. */
  readonly head: Uint8Array;
  readonly writer: ProtobufWriter;
  spans: number;
}

interface KeyCache {
  /** The field `key` of KeyValue, whole. */
  readonly key: Uint8Array;
  readonly values: Map<AttributeValue, Uint8Array>;
}

export class OtlpEncoder {
  private readonly groups = new Map<Resource, Group>();
  /** The groups of the last two spans: client and server often alternate. */
  private lastGroup: Group | undefined;
  private otherGroup: Group | undefined;
  private readonly keys: KeyCache[] = [];
  private readonly scope: Uint8Array;
  private readonly scratch = new ProtobufWriter(1024);
  /** Behind each attribute of the span that is written, from its first byte. */
  private readonly ends: number[] = [];
  private readonly pool: Buffer[] = [];
  /** Payloads in shared memory, those of the pool among them. */
  private shared = 0;
  private spanCount = 0;
  private byteCount = 0;

  constructor(scope: EncoderScope) {
    const writer = new ProtobufWriter(256);
    const nameBytes = Buffer.byteLength(scope.name);
    const versionBytes = Buffer.byteLength(scope.version);
    writer.byte(TAG.scopeSpansScope);
    writer.varint(2 + nameBytes + 2 + versionBytes);
    writer.string(TAG.scopeName, scope.name);
    writer.string(TAG.scopeVersion, scope.version);
    this.scope = writer.copy(0);
  }

  /** Spans in the open batch. */
  get spans(): number {
    return this.spanCount;
  }

  /** Bytes of the open batch, as it would be sent. */
  get bytes(): number {
    return this.byteCount;
  }

  /**
   * Adds a span to the open batch, unless the batch would then be larger than `maxBytes`.
   *
   * @returns whether it was added
   */
  add(span: Span, maxBytes: number): boolean {
    const group = this.groupOf(span.resource);
    const { writer } = group;
    const start = writer.position;
    this.writeSpan(writer, span);
    // A group costs its head once, and three lengths.
    const added = writer.position - start + (group.spans === 0 ? group.head.length + this.scope.length + 18 : 0);
    if (this.byteCount + added > maxBytes) {
      writer.back(start);
      return false;
    }
    group.spans++;
    this.spanCount++;
    this.byteCount += added;
    return true;
  }

  /** Closes the open batch and begins a new one. */
  take(): Batch & { readonly payload: Buffer } {
    const parts: { group: Group; scopeSpans: number; resourceSpans: number }[] = [];
    let total = 0;
    for (const group of this.groups.values()) {
      if (group.spans === 0) {
        // Not used for a whole batch: its process may be gone.
        this.groups.delete(group.resource);
        continue;
      }
      const scopeSpans = this.scope.length + group.writer.position;
      const resourceSpans = group.head.length + 1 + varintLength(scopeSpans) + scopeSpans;
      parts.push({ group, scopeSpans, resourceSpans });
      total += 1 + varintLength(resourceSpans) + resourceSpans;
    }
    const writer = new ProtobufWriter(0, this.bufferFor(PREFIX_BYTES + total));
    writer.position = PREFIX_BYTES;
    for (const { group, scopeSpans, resourceSpans } of parts) {
      writer.byte(TAG.requestResourceSpans);
      writer.varint(resourceSpans);
      writer.raw(group.head);
      writer.byte(TAG.resourceSpansScopeSpans);
      writer.varint(scopeSpans);
      writer.raw(this.scope);
      writer.rawPart(group.writer.buffer, group.writer.position);
      group.writer.reset();
      group.spans = 0;
    }
    const payload = writer.buffer.subarray(PREFIX_BYTES, writer.position);
    const batch = { payload, spans: this.spanCount, byteLength: payload.length };
    this.spanCount = 0;
    this.byteCount = 0;
    this.lastGroup = undefined;
    this.otherGroup = undefined;
    return batch;
  }

  /**
   * Gives back the payload of a batch.
   *
   * @param unread nobody reads it any more, so it may be filled again
   */
  recycle(payload: Buffer, unread: boolean): void {
    if (!(payload.buffer instanceof SharedArrayBuffer)) return;
    if (unread) this.pool.push(Buffer.from(payload.buffer));
    else this.shared--;
  }

  private bufferFor(bytes: number): Buffer {
    const at = this.pool.findIndex((buffer) => buffer.length >= bytes);
    if (at >= 0) return this.pool.splice(at, 1)[0]!;
    if (bytes < MIN_SHARED_BYTES) return Buffer.allocUnsafeSlow(bytes);
    // The collector does not count shared memory, so what is given up must be little: only what turned out too small.
    if (this.pool.pop() !== undefined) this.shared--;
    if (this.shared === MAX_SHARED) return Buffer.allocUnsafeSlow(bytes);
    this.shared++;
    return Buffer.from(new SharedArrayBuffer(Math.ceil(bytes / ROUND_BYTES) * ROUND_BYTES));
  }

  private groupOf(resource: Resource): Group {
    if (this.lastGroup?.resource === resource) return this.lastGroup;
    let group = this.otherGroup;
    if (group?.resource !== resource) {
      group = this.groups.get(resource);
      if (group === undefined) {
        const writer = new ProtobufWriter(INITIAL_GROUP_BYTES);
        group = { resource, head: this.encodeResource(resource), writer, spans: 0 };
        this.groups.set(resource, group);
      }
    }
    this.otherGroup = this.lastGroup;
    this.lastGroup = group;
    return group;
  }

  private encodeResource(resource: Resource): Uint8Array {
    const body = new ProtobufWriter(1024);
    for (const [name, value] of Object.entries(resource.attributes)) {
      const key = Buffer.from(name);
      const any = this.encodeAny(value, false);
      body.byte(TAG.resourceAttributes);
      body.varint(1 + varintLength(key.length) + key.length + 1 + varintLength(any.length) + any.length);
      body.bytes(TAG.keyValueKey, key);
      body.bytes(TAG.keyValueValue, any);
    }
    const writer = new ProtobufWriter(body.position + 8);
    writer.bytes(TAG.resourceSpansResource, body.copy(0));
    return writer.copy(0);
  }

  private writeSpan(writer: ProtobufWriter, span: Span): void {
    const flags = span.flags | FLAG_HAS_IS_REMOTE | (span.parentIsRemote && span.hasParent ? FLAG_IS_REMOTE : 0);
    const { shared } = span;
    let template = shared?.template as SpanTemplate | undefined;
    if (template?.usable && template.repeat(writer, span, flags)) return;
    // The second span with this block: there may be more.
    if (shared?.encoded !== undefined) template = shared.template = template ?? new SpanTemplate();
    const start = writer.position;
    writer.reserve(FIXED_BYTES);
    writer.byte(TAG.scopeSpansSpans);
    const lengthAt = writer.skipLength();
    const { ids } = span;
    writer.fixedBytes(TAG.spanTraceId, ids, TRACE_ID, 16);
    writer.fixedBytes(TAG.spanSpanId, ids, SPAN_ID, 8);
    if (span.hasParent) writer.fixedBytes(TAG.spanParentSpanId, ids, PARENT_SPAN_ID, 8);
    writer.byte(TAG.spanKind);
    // The API's kinds begin with INTERNAL, the protocol's with UNSPECIFIED.
    writer.byte(span.kind + 1);
    writer.byte(TAG.spanStart);
    writer.unixNanos(span.startUnixUs);
    writer.byte(TAG.spanEnd);
    writer.unixNanos(span.endUnixUs);
    if (span.status !== 0) {
      writer.byte(TAG.spanStatus);
      writer.byte(2);
      writer.byte(TAG.statusCode);
      writer.byte(span.status);
    }
    writer.byte(TAG.spanFlags);
    writer.byte(TAG.spanFlagsSecond);
    writer.fixed32(flags);
    if (span.traceState !== '') writer.string(TAG.spanTraceState, span.traceState);
    writer.string(TAG.spanName, span.name);
    if (shared !== undefined) writer.raw(shared.encoded ?? this.encodeBlock(shared));
    if (span.sharedToo !== undefined) writer.raw(span.sharedToo.encoded ?? this.encodeBlock(span.sharedToo));
    const { keys, values } = span;
    const { ends } = this;
    for (let i = 0; i < span.count; i++) {
      this.writeAttribute(writer, keys[i]!, values[i]!);
      ends[i] = writer.position - start;
    }
    if (writer.finishLength(lengthAt) && template?.usable) template.record(writer, span, flags, start, ends);
  }

  private encodeBlock(block: AttributeBlock): Uint8Array {
    const writer = this.scratch;
    writer.position = 0;
    for (let i = 0; i < block.keys.length; i++) this.writeAttribute(writer, block.keys[i]!, block.values[i]!);
    block.encoded = writer.copy(0);
    return block.encoded;
  }

  private writeAttribute(writer: ProtobufWriter, key: AttributeKey, value: AttributeValue): void {
    const cache = this.keys[key.index] ?? this.newCache(key);
    if (key.repeats) {
      const kept = cache.values.get(value);
      if (kept !== undefined) {
        writer.raw(kept);
        return;
      }
    }
    const start = writer.position;
    if (typeof value === 'string') {
      writer.stringAttribute(TAG.spanAttributes, cache.key, value);
    } else if (typeof value === 'number' && !key.isDouble && Number.isSafeInteger(value) && value >= 0) {
      writer.intAttribute(TAG.spanAttributes, cache.key, value);
    } else if (typeof value === 'number' && key.isDouble) {
      writer.doubleAttribute(TAG.spanAttributes, cache.key, value);
    } else {
      const any = this.encodeAny(value, false);
      writer.byte(TAG.spanAttributes);
      writer.varint(cache.key.length + 1 + varintLength(any.length) + any.length);
      writer.raw(cache.key);
      writer.bytes(TAG.keyValueValue, any);
    }
    if (key.repeats && writer.position - start <= MAX_KEPT_LENGTH) {
      if (cache.values.size >= MAX_VALUES_PER_KEY) cache.values.clear();
      cache.values.set(value, writer.copy(start));
    }
  }

  private newCache(key: AttributeKey): KeyCache {
    const name = Buffer.from(key.name);
    const writer = new ProtobufWriter(name.length + 8);
    writer.bytes(TAG.keyValueKey, name);
    const cache = { key: writer.copy(0), values: new Map<AttributeValue, Uint8Array>() };
    this.keys[key.index] = cache;
    return cache;
  }

  /** An AnyValue without its own tag and length: the way of values that are rare or kept. */
  private encodeAny(value: AttributeValue, isDouble: boolean): Uint8Array {
    const writer = new ProtobufWriter(64);
    if (typeof value === 'string') writer.string(TAG.anyString, value);
    else if (typeof value === 'boolean') {
      writer.byte(TAG.anyBool);
      writer.byte(value ? 1 : 0);
    } else if (typeof value === 'number') {
      if (!isDouble && Number.isSafeInteger(value)) {
        writer.byte(TAG.anyInt);
        writer.int64(value);
      } else {
        writer.byte(TAG.anyDouble);
        writer.double(value);
      }
    } else {
      const items = new ProtobufWriter(256);
      for (const item of value) items.bytes(TAG.arrayValues, this.encodeAny(item, false));
      writer.bytes(TAG.anyArray, items.copy(0));
    }
    return writer.copy(0);
  }
}
