import { SpanKind } from '@opentelemetry/api';
import type { Exchange, HttpExchange } from '../exchange/exchange.ts';
import { KEY } from '../span/attributes.ts';
import type { Span } from '../span/span.ts';
import type { LineWriter } from './line-writer.ts';
import type { Output } from './output.ts';

export interface ConsoleStyle {
  readonly color: boolean;
  /** Columns of the terminal; undefined when the output is none, and lines are as long as they are. */
  readonly columns: () => number | undefined;
}

const WHO_WIDTH = 24;
const REQUEST_WIDTH = 36;
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
 *     14:02:11.203  curl -> nginx             GET /orders/17                        200    3.1 ms   1.2 kB   h1 TLS1.3
 *
 * local time of the first byte, who asked whom, method and redacted target, status, duration, bytes of the response's body,
 * protocol, and what went wrong. Nothing from the wire or from a process reaches a terminal as a control sequence.
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

  shutdown(deadlineMs: number): Promise<void> {
    return this.writer.end(deadlineMs);
  }
}

/** @param spans at least one */
export function formatExchange(exchange: Exchange, spans: readonly Span[], style: ConsoleStyle): string {
  return exchange.protocol === 'http' ? formatHttp(exchange, spans, style) : '';
}

function formatHttp(exchange: HttpExchange, spans: readonly Span[], style: ConsoleStyle): string {
  const span = spans[0]!;
  const { connection } = exchange;
  let client = connection.client.address;
  let server = `${connection.server.address.includes(':') ? `[${connection.server.address}]` : connection.server.address}:${connection.server.port}`;
  let error = '';
  for (const each of spans) {
    if (each.kind === SpanKind.CLIENT) client = each.resource.name;
    else server = each.resource.name;
    for (let i = 0; i < each.count; i++) {
      // A status says it already.
      const value = each.values[i];
      if (
        (each.keys[i] === KEY.errorType || each.keys[i] === KEY.incomplete) &&
        value !== String(exchange.statusCode)
      ) {
        error = String(value);
      }
    }
  }

  const time = formatTime(span.startUnixUs);
  const who = printable(`${client} -> ${server}`).padEnd(WHO_WIDTH);
  const status = exchange.statusCode === 0 ? '-' : String(exchange.statusCode);
  const tail = `${formatDuration(span.endUnixUs - span.startUnixUs).padStart(9)}  ${formatBytes(exchange.responseBodyBytes).padStart(8)}   ${protocol(exchange)}`;
  const failure = error === '' ? '' : `  ${error}`;

  let request = printable(`${exchange.method || '?'} ${span.summary}`);
  const columns = style.columns();
  if (columns !== undefined) {
    const others = time.length + 2 + who.length + 1 + 2 + 3 + tail.length + failure.length;
    const room = Math.max(MIN_REQUEST_WIDTH, columns - others);
    if (request.length > room) request = `${request.slice(0, room - 1)}…`;
    request = request.padEnd(Math.min(REQUEST_WIDTH, room));
  } else {
    request = request.padEnd(REQUEST_WIDTH);
  }
  if (!style.color) return `${time}  ${who} ${request}  ${status.padStart(3)}${tail}${failure}`;
  return (
    `${paint(DIM, time)}  ${paint(CYAN, who)} ${request}  ${paint(statusColor(exchange.statusCode), status.padStart(3))}` +
    `${tail}${failure === '' ? '' : paint(RED, failure)}`
  );
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

function protocol(exchange: HttpExchange): string {
  const { tls } = exchange.connection;
  const version =
    exchange.version === '1.0' ? 'h1.0' : exchange.version.startsWith('1') ? 'h1' : `h${exchange.version}`;
  return tls === undefined || tls.version === '' ? version : `${version} TLS${tls.version}`;
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
