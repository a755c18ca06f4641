/**
 * One informer of @kubernetes/client-node, kept alive: the library's is dead after its first error. It lists, watches, lists again when the
 * server's history does not reach back (410), and holds what it received, with or without a server. What is held are slim records: they are made of each
 * object before the library sees it.
 */
import type { ReasonCounts } from '../../telemetry/counters.ts';
import { count } from '../../telemetry/counters.ts';
import type { Api, Query } from './api.ts';
import type { Client, ListWatch } from './client.ts';
import type { ApiObject, ClusterObject } from './objects.ts';

/** The state of one informer, for the agent's health. */
export interface InformerHealth {
  readonly name: string;
  /** It has seen all there was, once: since then it knows at least what was so. */
  readonly synced: boolean;
  /** It receives changes now. */
  readonly connected: boolean;
  /** Why not, or why it was not the last time. */
  readonly lastError: string | undefined;
  /** How often it was begun again after an error. */
  readonly restarts: number;
  readonly objects: number;
}

export interface InformerOptions<T extends ClusterObject> {
  /** Of the health, such as `pods`. */
  readonly name: string;
  /** `/api/v1/pods`. */
  readonly path: string;
  readonly fieldSelector?: string;
  readonly client: Client;
  readonly api: Api;
  /** Makes the record that is kept. */
  readonly record: (object: ApiObject) => T;
  readonly added: (object: T) => void;
  /** @param changedMs when it may have changed at the earliest: a change that was seen is of now. By then another may have its name */
  readonly changed: (object: T, changedMs: number) => void;
  /** @param goneMs the same of its end */
  readonly removed: (object: T, goneMs: number) => void;
  /** Objects kept at most. */
  readonly limit: number;
  /** `over_limit`, `handler_failed`. */
  readonly counts: ReasonCounts;
  readonly onError?: (name: string, error: Error, retryMs: number) => void;
  /** All there is was listed, once more; not when a watch is only renewed. */
  readonly listed?: () => void;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
  /** From 0 to 1. */
  readonly random?: () => number;
  /** Least and longest wait before it is begun again. */
  readonly backoffMs?: readonly [number, number];
}

/** Without an error for so long, the next one is the first. */
const CALM_MS = 60_000;

export class Informer<T extends ClusterObject> {
  readonly #options: Required<Omit<InformerOptions<T>, 'fieldSelector' | 'onError' | 'listed'>> & InformerOptions<T>;
  readonly #informer: ListWatch<T>;
  /** Until when the server has reported all changes, for certain; and when the last list was asked for. */
  #contactMs = 0;
  #listedMs = 0;
  #objects = 0;
  #synced = false;
  #connected = false;
  #lastError: string | undefined;
  #restarts = 0;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  #delayMs = 0;
  #failedMs = Number.NEGATIVE_INFINITY;
  /** An event of the watch is being handled, not the outcome of a list. */
  #watching = false;
  readonly #firstSync: () => void;
  /** Resolves when all was listed once. */
  readonly whenSynced: Promise<void>;

  constructor(options: InformerOptions<T>) {
    this.#options = { now: Date.now, random: Math.random, backoffMs: [500, 30_000], ...options };
    const { promise, resolve } = Promise.withResolvers<void>();
    this.whenSynced = promise;
    this.#firstSync = resolve;
    const { client, path, fieldSelector } = options;
    // The library asks for its class, and uses this one method of it.
    const watch = { watch: this.#watch.bind(this) } as unknown as ConstructorParameters<typeof client.ListWatch>[1];
    this.#informer = new client.ListWatch<T>(path, watch, () => this.#list(), false, undefined, fieldSelector);
    this.#informer.on('add', (object) => {
      this.#objects++;
      this.#handle(() => options.added(object));
    });
    this.#informer.on('update', (object) => this.#handle(() => options.changed(object, this.#sinceMs())));
    this.#informer.on('delete', (object) => {
      this.#objects--;
      this.#handle(() => options.removed(object, this.#sinceMs()));
    });
    this.#informer.on('error', (error) => this.#failed(error));
  }

  start(): void {
    this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#connected = false;
    clearTimeout(this.#timer);
    await this.#informer.stop();
  }

  get health(): InformerHealth {
    return {
      name: this.#options.name,
      synced: this.#synced,
      connected: this.#connected,
      lastError: this.#lastError,
      restarts: this.#restarts,
      objects: this.#objects,
    };
  }

  get(namespace: string, name: string): T | undefined {
    return this.#informer.get(name, namespace);
  }

  /** The earliest time of the change that is received. */
  #sinceMs(): number {
    return this.#watching ? this.#options.now() : this.#contactMs;
  }

  /** Never while the informer runs: the library would end what runs with an error, and so for ever. */
  #run(): void {
    this.#informer.start().catch((error: unknown) => this.#failed(error));
  }

  #failed(error: unknown): void {
    this.#connected = false;
    if (this.#stopped || this.#timer !== undefined) return;
    const { backoffMs, now, random, name, onError } = this.#options;
    const [least, longest] = backoffMs;
    const nowMs = now();
    this.#delayMs = nowMs - this.#failedMs > CALM_MS + this.#delayMs ? least : Math.min(this.#delayMs * 2, longest);
    this.#failedMs = nowMs;
    const known = error instanceof Error ? error : new Error(String(error));
    this.#lastError = known.message;
    // All agents of a cluster lose their server at once: they shall not come back at once.
    const retryMs = Math.round(this.#delayMs * (0.5 + random()));
    onError?.(name, known, retryMs);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#restarts++;
      this.#run();
    }, retryMs);
    // What else the agent does keeps it running.
    this.#timer.unref();
  }

  async #list(): Promise<{ items: T[]; metadata: { resourceVersion: string } }> {
    const { api, path, fieldSelector, record, limit, counts } = this.#options;
    const items: T[] = [];
    this.#listedMs = this.#options.now();
    const resourceVersion = await api.list(path, { fieldSelector }, (object) => {
      if (items.length < limit) items.push(record(object));
      else count(counts, 'over_limit');
    });
    this.#options.listed?.();
    return { items, metadata: { resourceVersion } };
  }

  /** In the form of the library's Watch. */
  async #watch(
    path: string,
    query: Query,
    callback: (type: string, object: T) => void,
    done: (error: unknown) => Promise<void>,
  ): Promise<AbortController> {
    const { api, now } = this.#options;
    // Called when what was listed has been handled; what has changed since then, the watch tells.
    this.#synced = true;
    this.#contactMs = Math.max(this.#contactMs, this.#listedMs);
    this.#firstSync();
    return api.watch(path, query, {
      open: () => {
        this.#connected = true;
      },
      event: (type, object) => {
        if (type !== 'ERROR') this.#contactMs = now();
        this.#watching = true;
        try {
          this.#event(type, object, callback);
        } finally {
          this.#watching = false;
        }
      },
      end: (error) => {
        this.#connected = false;
        if (error?.name === 'AbortError') return; // our own doing
        // The library decides what follows: it watches on, lists again, or is dead. What it throws then nobody else would catch.
        done(error ?? null).catch((failure: unknown) => this.#failed(failure));
      },
    });
  }

  #event(type: string, object: ApiObject, callback: (type: string, object: T) => void): void {
    const { record, limit, counts } = this.#options;
    // These hold no object of the kind.
    if (type === 'BOOKMARK' || type === 'ERROR') {
      callback(type, object as unknown as T);
      return;
    }
    const made = record(object);
    if (this.#objects >= limit && type !== 'DELETED' && this.get(made.namespace, made.name) === undefined) {
      count(counts, 'over_limit');
      return;
    }
    callback(type, made);
  }

  #handle(action: () => void): void {
    try {
      action();
    } catch {
      count(this.#options.counts, 'handler_failed');
    }
  }
}
