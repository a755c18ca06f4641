/** What a comment of sqlcommenter carries. */
export interface TraceContext {
  traceparent: string;
  tracestate: string;
}

const KEY = Buffer.from('traceparent');
/** Comments that are longer are not looked into. */
const MAX_COMMENT_BYTES = 8192;
const TRACEPARENT_PAIR = /(?:^|[\s,*])traceparent\s*=\s*'((?:[^'\\]|\\.)*)'/;
const TRACESTATE_PAIR = /(?:^|[\s,*])tracestate\s*=\s*'((?:[^'\\]|\\.)*)'/;
/** W3C Trace Context, "traceparent Header Field Values". */
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{0,64})?$/;
/** "tracestate Header": printable ASCII; 512 characters are what every participant must pass on. */
const TRACESTATE = /^[\x20-\x7e]{1,512}$/;

/**
 * The trace context in a comment bytes[start..end), undefined when it has none. "sqlcommenter specification": key='value' pairs
 * separated by commas, the values URL-encoded, then their quotes escaped by a backslash.
 */
export function traceContextOf(bytes: Buffer, start: number, end: number): TraceContext | undefined {
  if (end - start > MAX_COMMENT_BYTES || end - start < KEY.length) return undefined;
  const comment = bytes.subarray(start, end);
  if (!comment.includes(KEY)) return undefined;
  const text = comment.toString('latin1');
  const traceparent = decoded(TRACEPARENT_PAIR.exec(text));
  if (!TRACEPARENT.test(traceparent)) return undefined;
  const tracestate = decoded(TRACESTATE_PAIR.exec(text));
  return { traceparent, tracestate: TRACESTATE.test(tracestate) ? tracestate : '' };
}

function decoded(pair: RegExpExecArray | null): string {
  const value = pair?.[1] ?? '';
  if (!value.includes('%') && !value.includes('\\')) return value;
  try {
    return decodeURIComponent(value.replaceAll(/\\(.)/g, '$1'));
  } catch {
    return '';
  }
}
