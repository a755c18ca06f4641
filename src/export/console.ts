import type { Exchange } from '../exchange/exchange.ts';
import type { Span } from '../span/span.ts';
import type { LineWriter } from './line-writer.ts';
import type { Output, OutputState } from './output.ts';
import type { ExchangeView, Severity } from './view.ts';
import type { Seen } from './views.ts';

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
const COLORS: Readonly<Record<Severity, string>> = { ok: GREEN, warning: YELLOW, error: RED };

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

  exchange(_exchange: Exchange, spans: readonly Span[], seen: Seen): void {
    if (spans.length === 0) return;
    this.writer.write(`${formatView(seen.view, this.style)}\n`, spans.length);
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

/** @returns one line, without its line feed */
export function formatView(view: ExchangeView, style: ConsoleStyle): string {
  const { summary, remark, severity, label, tls } = view;
  const time = formatTime(view.startUnixUs);
  const who = printable(whoAskedWhom(view)).padEnd(WHO_WIDTH);
  const version = tls?.version ?? '';
  const tail = `${formatDuration(view.durationUs).padStart(9)}  ${formatBytes(view.responseBytes).padStart(8)}   ${label}${version === '' ? '' : ` TLS${version}`}`;
  const wrong = view.error ?? view.incomplete ?? '';
  // The outcome may say it already.
  const failure = wrong === '' || wrong === view.outcome ? '' : `  ${wrong}`;

  const result = printable(view.outcome ?? '-').padStart(OUTCOME_WIDTH);
  let request = printable(remark === undefined ? summary : `${summary}  (${remark})`);
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
    `${paint(DIM, time)}  ${paint(CYAN, who)} ${request}  ${paint(COLORS[severity], result)}` +
    `${tail}${failure === '' ? '' : paint(RED, failure)}`
  );
}

function whoAskedWhom({ client, server }: ExchangeView): string {
  const { address, port } = server;
  const to = server.name ?? `${address.includes(':') ? `[${address}]` : address}:${port}`;
  return `${client.name ?? client.address} -> ${to}`;
}

function paint(parameters: string, text: string): string {
  return `\x1b[${parameters}m${text}\x1b[0m`;
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
