import { streamLimits } from '../config/limits.ts';
import type { Feed } from '../export/feed.ts';
import type { ExchangeView } from '../export/view.ts';
import { toLine } from '../export/view-line.ts';
import { textAnswer } from '../telemetry/answer.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { Route } from './route.ts';
import type { Stream } from './stream.ts';

/** The feed, and where is counted what a reader does not get. */
export interface ExchangesSource {
  readonly feed: Feed;
  readonly counts: ReasonCounts;
}

/**
 * `GET /exchanges`: every exchange as it ends, whether it becomes spans or not, as JSON lines or, for `Accept: text/event-stream`, as
 * server-sent events. `?protocol=NAME` shows one protocol, `?limit=N` ends after so many. docs/reference/exchanges.md describes it.
 *
 * @param names of the protocols
 * @param source undefined while the agent starts
 */
export function exchangesRoute(names: readonly string[], source: () => ExchangesSource | undefined): Route {
  return {
    path: '/exchanges',
    kind: 'traffic',
    parameters: ['protocol', 'limit'],
    answer({ parameters, fields }) {
      const protocol = parameters.get('protocol') ?? undefined;
      if (protocol !== undefined && !names.includes(protocol)) {
        return textAnswer(400, `protocol: expected one of ${names.join(', ')}`);
      }
      const limit = parameters.get('limit') ?? '';
      if (!/^(?:[1-9]\d{0,8})?$/.test(limit)) return textAnswer(400, 'limit: expected a whole number of at least 1');
      const from = source();
      if (from === undefined) return textAnswer(503, 'the agent is starting');
      if (from.feed.isFull) return textAnswer(503, `there are ${streamLimits.streams} readers already`);
      const asEvents = /\btext\/event-stream\b/i.test(fields.get('accept') ?? '');
      return {
        contentType: asEvents ? 'text/event-stream; charset=utf-8' : 'application/x-ndjson; charset=utf-8',
        start: (stream) =>
          new ExchangeReader(from, stream, asEvents, protocol, Number(limit || Number.POSITIVE_INFINITY)),
      };
    },
  };
}

/** One reader of the feed. What it could not be given is said to it ahead of the next exchange. */
class ExchangeReader {
  readonly #source: ExchangesSource;
  readonly #stream: Stream;
  readonly #asEvents: boolean;
  readonly #protocol: string | undefined;
  #left: number;
  #slow = 0;
  /** How much of Feed.missed it has reported. */
  #told: number;

  constructor(source: ExchangesSource, stream: Stream, asEvents: boolean, protocol: string | undefined, limit: number) {
    this.#source = source;
    this.#stream = stream;
    this.#asEvents = asEvents;
    this.#protocol = protocol;
    this.#left = limit;
    this.#told = source.feed.missed;
    const leave = source.feed.subscribe((view) => this.#read(view));
    if (leave === undefined) stream.end();
    else stream.onClose(leave);
  }

  #read(view: ExchangeView): void {
    if (!this.#stream.isOpen || this.#left <= 0 || (this.#protocol !== undefined && view.protocol !== this.#protocol))
      return;
    const missed = this.#slow + this.#source.feed.missed - this.#told;
    const said = missed > 0 ? this.#framed(`{"missed":${missed}}`, 'missed') : '';
    if (!this.#stream.write(said + this.#framed(toLine(view), 'exchange'))) {
      this.#slow++;
      count(this.#source.counts, 'slow_reader');
      return;
    }
    this.#slow = 0;
    this.#told = this.#source.feed.missed;
    this.#left--;
    if (this.#left === 0) this.#stream.end();
  }

  #framed(line: string, event: string): string {
    return this.#asEvents ? `event: ${event}\ndata: ${line}\n\n` : `${line}\n`;
  }
}
