/** The keys of a view, for people: docs/reference/exchanges.md is printed from these tables, and a test compares it. */
import type { EndpointView, ExchangeView, TlsView, Unknown, UnknownReason, Viewer } from './view.ts';

type Meanings<T> = Readonly<Record<keyof T, string>>;

export const viewKeys: Meanings<ExchangeView> = {
  version: 'Version of this form. It is raised when a key goes or changes its meaning; new keys do not raise it.',
  protocol: 'The name of the protocol, as in `exchanges` of the statistics; the sections below list them.',
  protocolVersion: 'Version of HTTP: `1.0`, `1.1`, `2`.',
  label: 'Short name of the protocol, as on the console: `h1`, `h2`, `grpc`, `pg`.',
  startUnixUs: 'First byte of the request, in microseconds since the Unix epoch, with a fraction.',
  durationUs: 'From the first byte of the request to the last one of the answer, in microseconds.',
  requestUs: 'From the first byte of the request to its last one.',
  firstByteUs: 'From the first byte of the request to the first one of the answer.',
  firstRowUs: 'The same to the first row (SQL).',
  firstMessageUs: 'The same to the first message of the server (gRPC).',
  open: '`true`: the call goes on, and a line of its end follows (`grpc.interim_span_s`).',
  client: 'Who asked; see below.',
  server: 'Who was asked; see below.',
  relayedFor: '`address` and `port` of the client for whom a proxy made the connection (PROXY protocol).',
  summary: 'What was asked, in one line. Without literals and secret values, as in the spans.',
  remark: 'A remark on it: numbers of messages, database.',
  outcome: 'What came of it, in a word: status, rows, close code, error.',
  severity: '`ok`, `warning` or `error`, for a colour.',
  error: 'As error.type of the span.',
  incomplete: 'Why the exchange is not whole; see [Reasons](reasons.md).',
  requestBytes: 'Bytes of the request: of its body or of its messages, as the page of the protocol says.',
  responseBytes: 'The same of the answer.',
  traceId: 'Of its spans, in hexadecimal digits.',
  tls: 'The TLS session; see below.',
  details: 'What only this protocol has; see below.',
  unknown: 'What is not known, and why: a list of objects; see below.',
};

export const endpointKeys: Meanings<EndpointView> = {
  address: 'IP address on the wire.',
  port: 'TCP port.',
  name: 'service.name of the process, or the name that the cluster has for the address.',
  namespace: 'Namespace of that name in the cluster.',
  resource: 'Resource attributes of its spans: service, process, container, pod, workload, host.',
  spanId: 'Its span, in hexadecimal digits.',
  parentSpanId: 'The parent of that span.',
  leftOut:
    'Why it has no span: a reason of `spans.leftOut` (see [Reasons](reasons.md)), or `perspective`: no span of this endpoint is wanted.',
};

export const tlsKeys: Meanings<TlsView> = {
  version: '`1.2` or `1.3`.',
  cipher: 'Cipher suite by its IANA name.',
  serverName: 'Server name that the client sent (SNI).',
};

const unknownKeys: Meanings<Unknown> = {
  what: 'A key of the object or of its details; `request`, `response` and `end` are parts of the exchange, `connection` is its start.',
  why: 'One of the words below, or a reason of `incomplete`.',
};

export const unknownReasons: Readonly<Record<UnknownReason, string>> = {
  joined_midstream: 'The connection is older than the observation of it.',
  no_socket:
    'The endpoint has no socket on this machine, and no directory knows its address; or packets come from a file.',
  owner_not_known: 'The socket is on this machine, and its process is not known.',
  not_seen: 'It was not on the wire while the agent watched.',
  not_certain: 'It was seen, but not understood with certainty, and is withheld.',
};

/** @param viewers by protocol @returns the tables as Markdown */
export function viewReference(viewers: ReadonlyMap<string, Pick<Viewer<never>, 'details'>>): string {
  const parts = [
    table(viewKeys),
    '## Endpoints',
    'Keys of `client` and `server`.',
    table(endpointKeys),
    '## TLS',
    'Keys of `tls`. It is absent where the connection is in plain text.',
    table(tlsKeys),
    '## Not known',
    'Keys of each entry of `unknown`.',
    table(unknownKeys),
    table(unknownReasons, 'Word'),
    '## Details',
    ...[...viewers].flatMap(([name, { details }]) => [`### ${name}`, table(details)]),
  ];
  return `${parts.join('\n\n')}\n`;
}

function table(meanings: Readonly<Record<string, string>>, first = 'Key'): string {
  const rows = Object.entries(meanings).map(([key, meaning]) => `| \`${key}\` | ${meaning.replaceAll('|', '\\|')} |`);
  return [`| ${first} | Meaning |`, '| --- | --- |', ...rows].join('\n');
}
