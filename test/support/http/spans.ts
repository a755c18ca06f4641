/** What tests of HTTP ask of spans. */
import assert from 'node:assert/strict';
import type { FlatSpan } from '../otlp/spans.ts';
import type { AccessLogEntry, Nginx } from './nginx.ts';

/** Path and query, as in the request line. */
export function targetOf(span: FlatSpan): string {
  const { 'url.path': path = '', 'url.query': query } = span.attributes;
  return query === undefined ? String(path) : `${path}?${query}`;
}

/** Whether a CLIENT span's address or a SERVER span's target contains the text. */
export function targetHas(span: FlatSpan, text: string): boolean {
  return `${span.attributes['url.full'] ?? ''} ${targetOf(span)}`.includes(text);
}

/** Spans that belong to these ports: other programs of the machine are watched too. */
export function ofPorts(...ports: number[]): (span: FlatSpan) => boolean {
  const wanted = new Set<unknown>(ports);
  return (span) => wanted.has(span.attributes['server.port']);
}

export const portsOf = (nginx: Nginx): number[] => [nginx.plainPort, nginx.tls12Port, nginx.tls13Port];

export function servers(spans: readonly FlatSpan[]): FlatSpan[] {
  return spans.filter((span) => span.kind === 'SERVER');
}

/** The CLIENT span whose child this SERVER span is; fails when there is none. */
export function clientOf(server: FlatSpan, spans: readonly FlatSpan[]): FlatSpan {
  const client = spans.find((span) => span.kind === 'CLIENT' && span.spanId === server.parentSpanId);
  assert.ok(client, `no CLIENT span for ${targetOf(server)}`);
  assert.equal(client.traceId, server.traceId);
  return client;
}

/** Every SERVER span has its CLIENT span, and there is no other span. */
export function assertPairs(spans: readonly FlatSpan[]): void {
  const clients = new Map(spans.filter((span) => span.kind === 'CLIENT').map((span) => [span.spanId, span]));
  let alone = 0;
  for (const server of servers(spans)) {
    const client = clients.get(server.parentSpanId);
    if (client?.traceId !== server.traceId) alone += 1;
    else clients.delete(server.parentSpanId);
  }
  assert.deepEqual({ alone, clientsLeft: clients.size }, { alone: 0, clientsLeft: 0 });
}

/** The same lines, each as often, in any order. Not deepEqual: a difference of thousands of lines says nothing. */
export function assertSameLines(actual: readonly string[], expected: readonly string[]): void {
  const missing = difference(expected, actual);
  const unexplained = difference(actual, expected);
  assert.deepEqual(
    { missing: missing.slice(0, 10), unexplained: unexplained.slice(0, 10) },
    { missing: [], unexplained: [] },
    `${actual.length} instead of ${expected.length}; ${missing.length} missing, ${unexplained.length} unexplained`,
  );
}

/** SERVER spans and log lines as lines of the same facts: port, scheme, method, target, status, bytes of the body. */
export function assertSameAsLog(spans: readonly FlatSpan[], log: readonly AccessLogEntry[]): void {
  const ofSpans = servers(spans).map((span) =>
    [
      span.attributes['server.port'],
      span.attributes['url.scheme'],
      span.attributes['http.request.method'],
      targetOf(span),
      span.attributes['http.response.status_code'],
      span.attributes['http.response.body.size'] ?? 0,
    ].join(' '),
  );
  const ofLog = log.map((entry) =>
    [
      entry.server_port,
      entry.ssl_protocol === '' ? 'http' : 'https',
      entry.request_method,
      entry.request_uri,
      entry.status,
      entry.body_bytes_sent,
    ].join(' '),
  );
  assertSameLines(ofSpans, ofLog);
}

/** What is in `left` more often than in `right`. */
function difference(left: readonly string[], right: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of right) counts.set(line, (counts.get(line) ?? 0) + 1);
  return left.filter((line) => {
    const count = counts.get(line) ?? 0;
    counts.set(line, count - 1);
    return count <= 0;
  });
}
