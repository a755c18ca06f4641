/** Which header fields the spans of HTTP and gRPC read, and which of them become attributes. */
import { forbiddenHeaders } from '../../config/http.ts';
import { AttributeKey } from '../../span/attributes.ts';
import { CONTEXT_HEADERS } from '../../span/context.ts';
import type { Span } from '../../span/span.ts';
import type { HttpConfig } from './config.ts';

/** Lower-case names of the request fields that the builder reads. */
export const requiredHeaders: ReadonlySet<string> = new Set([
  'host',
  'user-agent',
  'content-type',
  'upgrade',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  ...CONTEXT_HEADERS,
]);

export type CapturedHeaders = Pick<HttpConfig, 'captureRequestHeaders' | 'captureResponseHeaders'>;

/** The fields that a parser must keep for these options: of requests and of responses. */
export function keptHeaders(options: CapturedHeaders): { request: ReadonlySet<string>; response: ReadonlySet<string> } {
  return {
    request: new Set([...requiredHeaders, ...allowed(options.captureRequestHeaders)]),
    response: new Set(allowed(options.captureResponseHeaders)),
  };
}

function allowed(names: readonly string[]): string[] {
  return names.map((name) => name.toLowerCase()).filter((name) => !forbiddenHeaders.has(name));
}

/** @param prefix of the attributes' names */
export function headerKeys(prefix: string, names: readonly string[]): (readonly [string, AttributeKey])[] {
  return allowed(names).map((name) => [name, new AttributeKey(prefix + name)]);
}

export function setHeaders(
  span: Span,
  wanted: readonly (readonly [string, AttributeKey])[],
  headers: ReadonlyMap<string, readonly string[]>,
): void {
  for (const [name, key] of wanted) {
    const values = headers.get(name);
    if (values !== undefined) span.set(key, values);
  }
}
