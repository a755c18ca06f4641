/** Whether the agent lives, and whether it sees what it is there to see: the answers of /healthz and /readyz. */
import type { Answer } from './answer.ts';

/** How far the reader of the kernel's ring is. */
export interface ReaderProgress {
  /** Bytes that wait to be read. */
  readonly waiting: number;
  /** Bytes read since the beginning. */
  readonly read: number;
}

/** What a watch on the API server of the cluster is like. */
export interface InformerState {
  readonly name: string;
  /** It has listed once: what it knows is whole, if maybe old. */
  readonly synced: boolean;
  /** It receives changes now. */
  readonly connected: boolean;
  readonly lastError: string | undefined;
  /** How often it was restarted. */
  readonly restarts: number;
  readonly objects: number;
}

export interface HealthOptions {
  /** `undefined`: there is no reader. */
  readonly readerProgress: () => ReaderProgress | undefined;
  readonly informers?: () => readonly InformerState[];
  /** Shown by /readyz, never decisive: an agent whose backend is away is as good as any other. */
  readonly outputs: () => readonly object[];
}

interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly reason?: string;
}

/** How often observe() is to be called. */
export const OBSERVE_MS = 1000;
/** Observations in a row without progress after which the reader counts as dead. In observations: a busy loop makes fewer. */
const STUCK_OBSERVATIONS = 10;

export class Health {
  readonly #options: HealthOptions;
  #stage: 'starting' | 'running' | 'stopping' = 'starting';
  #attached = false;
  #lastRead = -1;
  #withoutProgress = 0;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** The programs are attached. */
  attached(): void {
    this.#attached = true;
  }

  /** All is there that the line `ready` stands for. */
  running(): void {
    this.#stage = 'running';
  }

  stopping(): void {
    this.#stage = 'stopping';
  }

  /** Looks whether the reader moves. */
  observe(): void {
    const progress = this.#options.readerProgress();
    if (progress === undefined) return;
    const stuck = progress.waiting > 0 && progress.read === this.#lastRead;
    this.#withoutProgress = stuck ? this.#withoutProgress + 1 : 0;
    this.#lastRead = progress.read;
  }

  /** /healthz: whether a restart of this process would help. That it answers says that the event loop turns. */
  alive(): Answer {
    return answer('alive', [{ name: 'event_loop', ok: true }, this.#reader()], {});
  }

  /** /readyz */
  ready(): Answer {
    const checks: Check[] = [
      check('programs', this.#attached, 'not attached yet'),
      check(
        'agent',
        this.#stage === 'running',
        this.#stage === 'stopping' ? 'it is being stopped' : 'it is being started',
      ),
      this.#reader(),
    ];
    const informers = this.#options.informers?.() ?? [];
    for (const { name, synced, lastError } of informers) {
      checks.push(check(`informer ${name}`, synced, lastError ?? 'not synced yet'));
    }
    return answer('ready', checks, { informers, outputs: this.#options.outputs() });
  }

  #reader(): Check {
    if (this.#withoutProgress >= STUCK_OBSERVATIONS) {
      return { name: 'reader', ok: false, reason: `nothing was read for ${this.#withoutProgress} s while more waits` };
    }
    const gone = this.#stage === 'running' && this.#options.readerProgress() === undefined;
    return check('reader', !gone, 'it has ended');
  }
}

function check(name: string, ok: boolean, reason: string): Check {
  return ok ? { name, ok } : { name, ok, reason };
}

function answer(word: string, checks: readonly Check[], more: object): Answer {
  const ok = checks.every((each) => each.ok);
  const body = { status: ok ? word : `not ${word}`, checks, ...more };
  return { status: ok ? 200 : 503, contentType: 'application/json', body: `${JSON.stringify(body)}\n` };
}
