import { SpanStatusCode } from '@opentelemetry/api';
import type { Exchange, GrpcExchange, HttpExchange, SqlExchange, WebSocketExchange } from '../exchange/exchange.ts';
import type { Connection } from '../flow/connection.ts';
import { type AttributeKey, KEY } from '../span/attributes.ts';
import type { Span } from '../span/span.ts';
import type { LineWriter } from './line-writer.ts';
import type { Output, OutputState } from './output.ts';

export interface ConsoleStyle {
  readonly color: boolean;
  /** Columns of the terminal; undefined when the output is none, and lines are as long as they are. */
  readonly columns: () => number | undefined;
}

const WHO_WIDTH = 24;
/** What was asked for, and what came of it: a long outcome takes its room from the request, so that what follows stays in its column. */
const REQUEST_WIDTH = 36;
const OUTCOME_WIDTH = 3;
const MIN_REQUEST_WIDTH = 20;

/** SGR parameters. */
const DIM = '2';
const RED = '31';
const GREEN = '32';
const YELLOW = '33';
const CYAN = '36';

/**
 * Writes one line per exchange:
 *
 *     14:02:11.203  curl -> nginx            GET /orders/17                        200   3.1 ms    1.2 kB   h1 TLS1.3
 *     14:02:11.203  shop -> orders           shop.Orders/List  (1/11)               OK   3.1 ms    1.2 kB   grpc TLS1.3
 *     14:02:11.204  nginx -> postgres        SELECT orders  (shop)              3 rows   1.2 ms     842 B   pg TLS1.3
 *     14:02:19.870  python3 -> chat          WS /room/7  (12 sent, 40 received)   1001   8.31 s   10.2 kB   ws TLS1.3
 *
 * local time of the first byte, who asked whom, method and redacted target, or the call's method and its messages where there are more than
 * one, or the statement's summary and database; status or rows or error or close code, duration, bytes of the answer (HTTP: of its body;
 * WebSocket: of the server's messages), protocol, and what went wrong. Nothing from the wire or from a process
 * reaches a terminal as a control sequence.
 */
export class ConsoleOutput implements Output {
  private readonly writer: LineWriter;
  private readonly style: ConsoleStyle;

  constructor(writer: LineWriter, style: ConsoleStyle) {
    this.writer = writer;
    this.style = style;
  }

  exchange(exchange: Exchange, spans: readonly Span[]): void {
    if (spans.length === 0) return;
    this.writer.write(`${formatExchange(exchange, spans, this.style)}\n`, spans.length);
  }

  ready(): Promise<void> | undefined {
    return this.writer.ready();
  }

  get heldBytes(): number {
    return this.writer.heldBytes;
  }

  state(): OutputState {
    return this.writer.state();
  }

  shutdown(deadlineMs: number): Promise<void> {
    return this.writer.end(deadlineMs);
  }
}

/** @param spans at least one */
export function formatExchange(exchange: Exchange, spans: readonly Span[], style: ConsoleStyle): string {
  switch (exchange.protocol) {
    case 'http':
      return formatHttp(exchange, spans, style);
    case 'grpc':
      return formatGrpc(exchange, spans, style);
    case 'postgresql':
    case 'mysql':
      return formatSql(exchange, spans, style);
    case 'websocket':
      return formatWebSocket(exchange, spans, style);
    default:
      return exchange satisfies never;
  }
}

function formatHttp(exchange: HttpExchange, spans: readonly Span[], style: ConsoleStyle): string {
  const { statusCode } = exchange;
  const error = errorOf(spans);
  return formatLine(exchange.connection, spans, style, {
    request: `${exchange.method || '?'} ${spans[0]!.summary}`,
    outcome: statusCode === 0 ? '-' : String(statusCode),
    color: statusColor(statusCode),
    bytes: exchange.responseBodyBytes,
    protocol: exchange.version === '1.0' ? 'h1.0' : /^(?:1|$)/.test(exchange.version) ? 'h1' : `h${exchange.version}`,
    // A status says it already.
    error: error === String(statusCode) ? '' : error,
  });
}

function formatGrpc(exchange: GrpcExchange, spans: readonly Span[], style: ConsoleStyle): string {
  const { requestMessages, responseMessages } = exchange;
  const status = attributeOf(spans, KEY.rpcStatusCode);
  const error = errorOf(spans);
  const streams = requestMessages > 1 || responseMessages > 1;
  const counts = [requestMessages, responseMessages].map((n) => (n < 0 ? '?' : n)).join('/');
  return formatLine(exchange.connection, spans, style, {
    request: `${spans[0]!.summary}${streams ? `  (${counts})` : ''}`,
    outcome: exchange.interimUs > 0 ? 'open' : status === '' ? '-' : status,
    color: status === 'OK' || exchange.interimUs > 0 ? GREEN : status === '' || error === status ? RED : YELLOW,
    bytes: exchange.responseMessageBytes,
    protocol: exchange.web ? 'grpc-web' : 'grpc',
    error: error === status ? '' : error,
  });
}

function formatSql(exchange: SqlExchange, spans: readonly Span[], style: ConsoleStyle): string {
  const { namespace, statusCode, system } = exchange;
  const error = errorOf(spans);
  const said = error !== '' && error === statusCode;
  return formatLine(exchange.connection, spans, style, {
    request: `${spans[0]!.summary || '?'}${namespace === '' ? '' : `  (${namespace})`}`,
    outcome: said ? statusCode : error !== '' ? '-' : rows(exchange),
    color: error === '' ? GREEN : RED,
    bytes: exchange.responseBytes,
    protocol: system === 'postgresql' ? 'pg' : system,
    error: said ? '' : error,
  });
}

function formatWebSocket(exchange: WebSocketExchange, spans: readonly Span[], style: ConsoleStyle): string {
  const { client, server, closeCode } = exchange;
  const error = errorOf(spans);
  return formatLine(exchange.connection, spans, style, {
    request: `WS ${spans[0]!.summary}  (${client.messages} sent, ${server.messages} received)`,
    outcome: closeCode === 0 ? '-' : String(closeCode),
    color: spans[0]!.status === SpanStatusCode.ERROR ? RED : GREEN,
    bytes: server.bytes,
    protocol: 'ws',
    // The code says it already.
    error: error === String(closeCode) ? '' : error,
  });
}

/** Returned rows; affected ones when none can have been returned; `ok` when the server counts neither. */
function rows({ returnedRows, affectedRows }: SqlExchange): string {
  const count = returnedRows > 0 || affectedRows < 0 ? returnedRows : affectedRows;
  return count < 0 ? 'ok' : `${count} ${count === 1 ? 'row' : 'rows'}`;
}

/** What differs between the protocols. */
interface Columns {
  readonly request: string;
  readonly outcome: string;
  readonly color: string;
  readonly bytes: number;
  readonly protocol: string;
  /** Empty: nothing went wrong that the outcome does not say. */
  readonly error: string;
}

function formatLine(
  connection: Connection,
  spans: readonly Span[],
  style: ConsoleStyle,
  { outcome, color, bytes, protocol, error, ...columns }: Columns,
): string {
  const span = spans[0]!;
  const time = formatTime(span.startUnixUs);
  const who = printable(whoAskedWhom(connection, spans)).padEnd(WHO_WIDTH);
  const version = connection.tls?.version ?? '';
  const tail = `${formatDuration(span.endUnixUs - span.startUnixUs).padStart(9)}  ${formatBytes(bytes).padStart(8)}   ${protocol}${version === '' ? '' : ` TLS${version}`}`;
  const failure = error === '' ? '' : `  ${error}`;

  const result = printable(outcome).padStart(OUTCOME_WIDTH);
  let request = printable(columns.request);
  let width = REQUEST_WIDTH + OUTCOME_WIDTH - result.length;
  const available = style.columns();
  if (available !== undefined) {
    const others = time.length + 2 + who.length + 1 + 2 + result.length + tail.length + failure.length;
    const room = Math.max(MIN_REQUEST_WIDTH, available - others);
    if (request.length > room) request = `${request.slice(0, room - 1)}…`;
    width = Math.min(width, room);
  }
  request = request.padEnd(width);
  if (!style.color) return `${time}  ${who} ${request}  ${result}${tail}${failure}`;
  return (
    `${paint(DIM, time)}  ${paint(CYAN, who)} ${request}  ${paint(color, result)}` +
    `${tail}${failure === '' ? '' : paint(RED, failure)}`
  );
}

function whoAskedWhom({ client, server }: Connection, spans: readonly Span[]): string {
  let from = client.address;
  let to = `${server.address.includes(':') ? `[${server.address}]` : server.address}:${server.port}`;
  for (const span of spans) {
    if (span.end === 'client') {
      from = span.resource.name;
      if (span.peerName !== '') to = span.peerName;
    } else to = span.resource.name;
  }
  return `${from} -> ${to}`;
}

/** The first span's value of it, empty without one. */
function attributeOf(spans: readonly Span[], key: AttributeKey): string {
  const { count, keys, values } = spans[0]!;
  for (let i = 0; i < count; i++) if (keys[i] === key) return String(values[i]);
  return '';
}

/** Why it failed or is not whole, empty when neither. */
function errorOf(spans: readonly Span[]): string {
  let error = '';
  for (const { count, keys, values } of spans) {
    for (let i = 0; i < count; i++) {
      if (keys[i] === KEY.errorType) return String(values[i]);
      if (keys[i] === KEY.incomplete) error = String(values[i]);
    }
  }
  return error;
}

function paint(parameters: string, text: string): string {
  return `\x1b[${parameters}m${text}\x1b[0m`;
}

function statusColor(statusCode: number): string {
  if (statusCode === 0 || statusCode >= 500) return RED;
  return statusCode >= 400 ? YELLOW : GREEN;
}

/** Local time, HH:MM:SS.mmm. */
function formatTime(unixUs: number): string {
  const date = new Date(unixUs / 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const milliseconds = String(date.getMilliseconds()).padStart(3, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${milliseconds}`;
}

/** Three significant digits or so: `87 us`, `3.1 ms`, `1.25 s`, `2 m 05 s`. */
export function formatDuration(us: number): string {
  if (us < 999.5) return `${us.toFixed(0)} us`;
  if (us < 99_950) return `${(us / 1000).toFixed(1)} ms`;
  if (us < 999_500) return `${(us / 1000).toFixed(0)} ms`;
  if (us < 59_995_000) return `${(us / 1e6).toFixed(2)} s`;
  const seconds = Math.round(us / 1e6);
  return `${Math.floor(seconds / 60)} m ${String(seconds % 60).padStart(2, '0')} s`;
}

/** Decimal units: `0 B`, `1.2 kB`, `50.0 MB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 999_950) return `${(bytes / 1e3).toFixed(1)} kB`;
  if (bytes < 999_950_000) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** Control characters, and those that change the direction of text, as escapes. */
function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

/** How to write to standard output: colour on a terminal, unless NO_COLOR or a dumb terminal says otherwise. */
export function consoleStyle(stream: NodeJS.WriteStream = process.stdout): ConsoleStyle {
  return {
    color: stream.isTTY === true && stream.hasColors(),
    columns: () => (stream.isTTY === true ? stream.columns : undefined),
  };
}
