/**
 * The trace context that an application wrote into its request: W3C Trace Context, B3, Jaeger and AWS X-Ray, in this order; the
 * first valid one is taken. What is malformed is ignored, as each of their specifications asks.
 */
import { parseTraceParent, TraceState } from '@opentelemetry/core';
import { PARENT_SPAN_ID, TRACE_ID } from './span.ts';
import { readOtelEntry, type Threshold, withThreshold } from './threshold.ts';

/** The last 56 bits of a trace id are random (W3C Trace Context level 2). */
export const RANDOM_BITS = TRACE_ID + 9;

type Headers = ReadonlyMap<string, readonly string[]>;

/** Names of the fields that carry a context, lower-case. */
export const CONTEXT_HEADERS = [
  'traceparent',
  'tracestate',
  'b3',
  'x-b3-traceid',
  'x-b3-spanid',
  'x-b3-sampled',
  'x-b3-flags',
  'uber-trace-id',
  'x-amzn-trace-id',
] as const;

/** What was found. The reader reuses one object. */
export class WireContext {
  /** Trace id in [0, 16), span id in [24, 32), laid out as in Span.ids. */
  readonly ids: Buffer = Buffer.alloc(32);
  hasTraceId = false;
  hasSpanId = false;
  /** undefined: the decision is left to us. */
  sampled: boolean | undefined = undefined;
  flags = 0;
  traceState = '';
  /** Of the decision that `sampled` tells; undefined: it is not known for how many spans one stands. */
  threshold: Threshold | undefined = undefined;
  /** The trace's 56 random bits as the context names them; undefined: they are those of its id. */
  randomness: Threshold | undefined = undefined;

  /**
   * Reads the context of a request.
   *
   * @returns whether anything was found: ids, or (B3) a sampling decision alone
   */
  read(headers: Headers): boolean {
    this.clear();
    return (
      this.readW3c(headers) ||
      this.readB3Single(headers) ||
      this.readB3Multi(headers) ||
      this.readJaeger(headers) ||
      this.readXRay(headers)
    );
  }

  /**
   * Reads a W3C context that did not come in header fields.
   *
   * @param traceparent empty: there is none
   * @param tracestate a list as in the field of that name; empty: there is none
   * @returns whether it is one
   */
  readTraceparent(traceparent: string, tracestate: string): boolean {
    this.clear();
    return traceparent !== '' && this.setW3c(traceparent, tracestate);
  }

  private clear(): void {
    this.hasTraceId = false;
    this.hasSpanId = false;
    this.sampled = undefined;
    this.flags = 0;
    this.traceState = '';
    this.threshold = undefined;
    this.randomness = undefined;
  }

  private readW3c(headers: Headers): boolean {
    const values = headers.get('traceparent');
    // 3.2.1: there is exactly one traceparent, else it is not valid.
    if (values === undefined || values.length !== 1) return false;
    // 3.3.1.1: several tracestate fields are one list.
    return this.setW3c(values[0]!, headers.get('tracestate')?.join(',') ?? '');
  }

  /** https://www.w3.org/TR/trace-context/ sections 3.2 and 3.3. */
  private setW3c(traceparent: string, tracestate: string): boolean {
    const parent = parseTraceParent(traceparent);
    if (parent === null) return false;
    writeHex(this.ids, TRACE_ID, parent.traceId, 16);
    writeHex(this.ids, PARENT_SPAN_ID, parent.spanId, 8);
    this.hasTraceId = true;
    this.hasSpanId = true;
    this.flags = parent.traceFlags;
    this.sampled = (parent.traceFlags & 1) !== 0;
    if (tracestate !== '') this.setTraceState(new TraceState(tracestate));
    return true;
  }

  /** A threshold that cannot have led to the decision is taken out ("TraceState: Probability Sampling", "General requirements"). */
  private setTraceState(state: TraceState): void {
    this.traceState = state.serialize();
    const entry = state.get('ot');
    if (entry === undefined) return;
    const { threshold, randomness } = readOtelEntry(entry);
    this.randomness = randomness;
    const high = randomness?.high ?? this.ids.readUIntBE(RANDOM_BITS, 3);
    const low = randomness?.low ?? this.ids.readUInt32BE(RANDOM_BITS + 3);
    if (threshold?.rejects(high, low) === !this.sampled) this.threshold = threshold;
    else this.traceState = withThreshold(this.traceState, undefined);
  }

  /** {trace id}-{span id}[-{sampled}[-{parent}]], or the sampling state alone. https://github.com/openzipkin/b3-propagation */
  private readB3Single(headers: Headers): boolean {
    const value = headers.get('b3')?.[0]?.trim();
    if (value === undefined || value.length > 128) return false;
    const parts = value.split('-');
    if (parts.length === 1) {
      this.sampled = b3Sampled(value);
      return this.sampled !== undefined;
    }
    return this.ids64or128(parts[0]!, parts[1]!) && this.decide(b3Sampled(parts[2]));
  }

  private readB3Multi(headers: Headers): boolean {
    const traceId = headers.get('x-b3-traceid')?.[0];
    const sampledField = headers.get('x-b3-sampled')?.[0]?.trim();
    // "Debug implies an accept decision, so don't also send the X-B3-Sampled header."
    const debug = headers.get('x-b3-flags')?.[0]?.trim() === '1';
    if (traceId === undefined && sampledField === undefined && !debug) return false;
    const sampled = debug ? true : b3Sampled(sampledField);
    if (traceId !== undefined && this.ids64or128(traceId.trim(), headers.get('x-b3-spanid')?.[0]?.trim() ?? '')) {
      return this.decide(sampled);
    }
    this.sampled = sampled;
    return sampled !== undefined;
  }

  /** {trace-id}:{span-id}:{parent-span-id}:{flags}, leading zeros left out. https://www.jaegertracing.io/sdk-migration/ */
  private readJaeger(headers: Headers): boolean {
    const value = headers.get('uber-trace-id')?.[0]?.trim();
    if (value === undefined || value.length > 128) return false;
    const parts = value.replaceAll(/%3a/gi, ':').split(':');
    if (parts.length !== 4 || !/^[\da-f]{1,2}$/i.test(parts[3]!)) return false;
    const [traceId, spanId] = [parts[0]!.padStart(16, '0'), parts[1]!.padStart(16, '0')];
    return (
      this.ids64or128(traceId.length > 16 ? traceId.padStart(32, '0') : traceId, spanId) &&
      this.decide((Number.parseInt(parts[3]!, 16) & 1) !== 0)
    );
  }

  /** Root=1-{8 hex digits}-{24 hex digits};Parent={16 hex digits};Sampled={0|1|?}; a load balancer writes Root alone. */
  private readXRay(headers: Headers): boolean {
    const value = headers.get('x-amzn-trace-id')?.[0];
    if (value === undefined || value.length > 512) return false;
    let root = '';
    let parent = '';
    let sampled: boolean | undefined;
    for (const part of value.split(';')) {
      const at = part.indexOf('=');
      const name = part.slice(0, at).trim().toLowerCase();
      const text = part.slice(at + 1).trim();
      if (name === 'root') root = text;
      else if (name === 'parent') parent = text;
      else if (name === 'sampled') sampled = text === '1' ? true : text === '0' ? false : undefined;
    }
    const match = /^1-([\da-f]{8})-([\da-f]{24})$/i.exec(root);
    if (match === null) return false;
    const traceId = match[1]! + match[2]!;
    if (/^0+$/.test(traceId)) return false;
    if (!this.ids64or128(traceId, parent)) {
      writeHex(this.ids, TRACE_ID, traceId, 16);
      this.hasTraceId = true;
    }
    return this.decide(sampled);
  }

  /** 64-bit trace ids are left-padded. */
  private ids64or128(traceId: string, spanId: string): boolean {
    if (traceId.length !== 16 && traceId.length !== 32) return false;
    if (spanId.length !== 16 || !isId(traceId) || !isId(spanId)) return false;
    writeHex(this.ids, TRACE_ID, traceId, 16);
    writeHex(this.ids, PARENT_SPAN_ID, spanId, 8);
    this.hasTraceId = true;
    this.hasSpanId = true;
    return true;
  }

  private decide(sampled: boolean | undefined): true {
    this.sampled = sampled;
    this.flags = sampled === false ? 0 : 1;
    return true;
  }
}

function b3Sampled(value: string | undefined): boolean | undefined {
  // `true` and `false` come from old tracers; the specification says to accept them.
  if (value === '1' || value === 'd' || value === 'true') return true;
  if (value === '0' || value === 'false') return false;
  return undefined;
}

/** Hexadecimal and not only zeros. */
function isId(text: string): boolean {
  let any = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = hexDigit(text.charCodeAt(i));
    if (digit < 0) return false;
    any |= digit;
  }
  return any !== 0;
}

/** Writes the digits right-aligned in `length` bytes. */
function writeHex(target: Buffer, offset: number, text: string, length: number): void {
  let at = text.length - 2 * length;
  for (let i = 0; i < length; i++, at += 2) {
    target[offset + i] = at < 0 ? 0 : (hexDigit(text.charCodeAt(at)) << 4) | hexDigit(text.charCodeAt(at + 1));
  }
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
