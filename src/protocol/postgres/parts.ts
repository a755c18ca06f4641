import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { SqlAnalyser } from '../../sql/analyser.ts';
import type { SqlLimits } from '../../sql/limits.ts';
import type { LayerContext } from '../layer.ts';
import type { FrameReader } from '../shared/frames.ts';
import type { Recovery } from '../shared/recovery.ts';
import type { Catalogue } from './catalogue.ts';
import type { PostgresExchange } from './exchange.ts';
import type { RequestRing } from './ring.ts';
import type { Session } from './session.ts';

/** What the reader of one direction knows of the whole connection: dialogue.ts is it. */
export interface DialogueParts {
  readonly context: LayerContext<SqlLimits>;
  readonly session: Session;
  readonly ring: RequestRing;
  readonly analyser: SqlAnalyser;
  readonly frontend: { readonly names: Catalogue; lostInFlight: boolean; takeCopyBytes(): number };
  readonly backend: { readonly answers: { doubtSuspended(): void } };
  skipToSync: boolean;
  copyIn: boolean;
  readonly recovery: Recovery;
  batches: boolean;
  newExchange(batchIndex: number): PostgresExchange;
  emit(exchange: PostgresExchange): void;
  notRun(statements: number): void;
  discarded(executions: number): void;
  passOver(): void;
  giveUpToReady(reason: IncompleteReason, timeUs: number): void;
  giveUpAll(reason: IncompleteReason, timeUs: number, certain?: boolean): void;
  skip(ahead: boolean): void;
  overflow(timeUs: number): void;
  parseError(timeUs: number): void;
  becomeOpaque(what: string, timeUs: number): void;
}

/** What the answers know of the server's direction: backend.ts is it. */
export interface BackendParts {
  readonly frames: FrameReader;
  idle: boolean;
  foundAgain: boolean;
  unexpected(kind: number): void;
}
