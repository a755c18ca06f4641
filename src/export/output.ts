import type { Exchange } from '../exchange/exchange.ts';
import type { Histogram } from '../metric/histogram.ts';
import type { Span } from '../span/span.ts';
import type { ReasonCounts } from '../telemetry/counters.ts';
import type { Seen } from './views.ts';

/** Where spans go. */
export interface Output {
  /**
   * Takes one exchange with its spans. Never blocks and never throws: what cannot be kept is counted with a reason.
   *
   * @param spans filled again after the call; may be empty when all were left out
   * @param seen has its view, for people
   */
  exchange(exchange: Exchange, spans: readonly Span[], seen: Seen): void;
  /**
   * For sources that can wait, such as a file: undefined while there is room, else a promise that resolves when there is room again.
   * A live capture does not ask.
   */
  ready(): Promise<void> | undefined;
  /**
   * Delivers what is held, within `deadlineMs` milliseconds from now, then counts the rest as dropped and lets go of everything.
   * Called once; exchanges that come later are counted as dropped.
   */
  shutdown(deadlineMs: number): Promise<void>;
  /** Bytes that wait to be written or sent. */
  readonly heldBytes: number;
  /** What it holds and has done, for the agent's own metrics; undefined: it keeps nothing. */
  state(): OutputState | undefined;
}

/** A snapshot. */
export interface OutputState {
  /** As in the statistics: `otlp`, `otlp:NAME`, `console`, `otlp-json=FILE`. */
  readonly name: string;
  /** otel.component.type */
  readonly type: string;
  /** Spans that wait, and their bytes as they will be sent; those under way are not among them. */
  readonly queueSpans: number;
  readonly queueBytes: number;
  /** More than this does not wait. Undefined: no such bound. */
  readonly queueSpansLimit: number | undefined;
  readonly queueBytesLimit: number;
  /** Requests under way, and their spans. */
  readonly inFlight: number;
  readonly inFlightSpans: number;
  /** Requests that were sent again. */
  readonly retries: number;
  /** How long the last request took that the backend accepted. */
  readonly lastExportMs: number | undefined;
  /** Seconds from when a batch was first sent until nothing more is done with it, by error.type; empty for what was delivered. */
  readonly durations: ReadonlyMap<string, Histogram>;
  /** On disk. */
  readonly spoolSpans: number;
  readonly spoolBytes: number;
  /** Found there at the start: spans, and bytes that belong to nothing whole. */
  readonly spoolRecovered: number;
  readonly spoolDamagedBytes: number;
  readonly exported: number;
  readonly dropped: Readonly<ReasonCounts>;
  /** What is dropped as `rejected`, by what the backend says about it. */
  readonly rejections: Readonly<ReasonCounts>;
}
