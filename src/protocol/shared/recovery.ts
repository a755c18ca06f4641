/**
 * How a passive parser of requests and answers finds its way again after bytes were lost.
 *
 *     state of a direction   known of it
 *     IN_SYNC                where its next message begins, and which request the next answer belongs to
 *     UNCERTAIN              where its next message begins; not which request an answer belongs to
 *     DESYNCHRONISED         neither
 *
 * What leads back is the same for all protocols; what a message looks like (a probe) is the protocol's own.
 *
 * - A client that waits for its answers sends on when it has heard the server (`hasAnswers`). Its next request after a gap ends the wait of all
 *   before it, and the server's next message answers that request (`clientWentOn`).
 * - A client that was seen to pipeline says nothing by sending on. Only a silence of the server does (`isQuiet`): all is answered then.
 * - What the server says while bytes of the client are missing may answer what was not seen (`clientLossAhead`).
 */

export const IN_SYNC = 'in sync';
export const UNCERTAIN = 'uncertain';
export const DESYNCHRONISED = 'desynchronised';
export type SyncState = typeof IN_SYNC | typeof UNCERTAIN | typeof DESYNCHRONISED;

/** The reader of one direction. */
export interface Framing {
  /** Where the next message begins is known. */
  readonly synced: boolean;
}

export class Recovery {
  /** Answers belong to requests that are not known. */
  uncertain = false;
  /** The client sends further requests before it has its answers. */
  pipelines = false;
  /** The client has gone on since the server's direction was lost. */
  clientWentOn = false;
  /** The server was heard since the client's direction was lost: what it says next does not answer what came before the gap. */
  heardServer = true;
  /** Something of the client was lost that was not measured yet. */
  clientLossAhead = false;
  /** When the server last sent something, in microseconds. */
  lastServerUs = 0;
  private readonly quietUs: number;

  /** @param quietUs silence of the server after which all that was asked for is answered */
  constructor(quietUs: number) {
    this.quietUs = quietUs;
  }

  stateOf({ synced }: Framing): SyncState {
    if (!synced) return DESYNCHRONISED;
    return this.uncertain ? UNCERTAIN : IN_SYNC;
  }

  serverSent(timeUs: number): void {
    this.lastServerUs = timeUs;
    this.heardServer = true;
  }

  isQuiet(timeUs: number): boolean {
    return timeUs - this.lastServerUs >= this.quietUs;
  }

  /** Whether a client that sends at this time has the answers to all that it asked for. */
  hasAnswers(timeUs: number): boolean {
    return (this.heardServer && !this.pipelines) || this.isQuiet(timeUs);
  }

  /** The client's direction is in sync again: it has all answers, and each that follows belongs to a request that follows. */
  clientFound(): void {
    this.heardServer = true;
    this.uncertain = false;
  }
}
