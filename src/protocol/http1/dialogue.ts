import type { IncompleteReason } from '../../exchange/exchange.ts';
import { count } from '../../telemetry/counters.ts';
import type { LayerContext } from '../layer.ts';
import type { FieldTable } from './fields.ts';
import type { HeadReader } from './head.ts';
import { Ledger } from './ledger.ts';
import { RequestReader } from './request.ts';
import { ResponseReader } from './response.ts';

/** What both directions of a connection share. */
export class Dialogue {
  readonly context: LayerContext;
  readonly ledger: Ledger;
  readonly requests: RequestReader;
  readonly responses: ResponseReader;
  /** A request was seen to be sent before the response to the one before it began. */
  pipelines = false;
  /** Time of the last bytes of either direction. */
  lastDataUs: number;
  /** Nothing more is read. */
  over = false;
  private parseErrors = 0;

  constructor(context: LayerContext, table: FieldTable) {
    this.context = context;
    this.ledger = new Ledger(context);
    this.requests = new RequestReader(this, table);
    this.responses = new ResponseReader(this, table);
    this.lastDataUs = context.connection.startUs;
  }

  countBadLines(head: HeadReader): void {
    if (head.badLines > 0) count(this.context.counters.parseErrors, 'http', head.badLines);
    head.badLines = 0;
  }

  parseError(timeUs: number): void {
    count(this.context.counters.parseErrors, 'http');
    if (++this.parseErrors > this.context.limits.httpParseErrors) this.die('protocol_error', timeUs);
  }

  /** Gives the connection up. */
  die(reason: IncompleteReason, timeUs: number): void {
    this.responses.cut(reason, timeUs);
    this.ledger.giveUpAll(reason, timeUs);
    this.leave();
  }

  /** The rest of the connection is not for this parser. */
  leave(): void {
    this.release();
    this.context.mute();
  }

  release(): void {
    this.over = true;
    this.ledger.release();
    this.requests.release();
    this.responses.release();
  }
}
