import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { Layer } from '../../flow/connection.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { StreamObserver } from '../http2/observer.ts';
import type { LayerContext } from '../layer.ts';
import type { HeadReader } from './head.ts';
import type { Ledger } from './ledger.ts';
import type { PendingExchange } from './pending.ts';

/** What the reader of one direction knows of the whole connection: dialogue.ts is it. */
export interface DialogueParts {
  readonly context: LayerContext<HttpLimits>;
  readonly ledger: Ledger;
  readonly requests: { lose(reason: IncompleteReason): void };
  readonly responses: {
    readonly lost: boolean;
    readonly idle: boolean;
    readonly lossReason: IncompleteReason;
    adopted(orphan: PendingExchange, request: PendingExchange, timeUs: number): void;
  };
  pipelines: boolean;
  lastDataUs: number;
  readonly onlyCounts: boolean;
  readonly successor: Layer | undefined;
  observe(request: HttpExchange): StreamObserver | undefined;
  countBadLines(head: HeadReader): void;
  parseError(timeUs: number): void;
  overflow(timeUs: number): void;
  upgrade(request: HttpExchange, serverOffset: number, timeUs: number): boolean;
  switchTo(token: string, handshake: PendingExchange, timeUs: number): boolean;
  leave(): void;
}
