/**
 * Who owns the owner of a pod: the Deployment of a ReplicaSet, the CronJob of a Job. Asked for by name, as metadata alone, once for each
 * owner that matters here: those of this node's pods and of the pods that these talk to. Watching all of them would make each agent hold,
 * and the API server tell it of, every ReplicaSet that a Deployment keeps for going back to.
 */
import { count, type ReasonCounts } from '../../telemetry/counters.ts';
import { type Api, ApiError, METADATA_ONLY } from './api.ts';
import { controllerOf, type Owner, objectAt, textAt } from './objects.ts';
import type { Pod } from './pod.ts';

/** The chain from a pod upwards: [], [ReplicaSet, Deployment], [Job, CronJob], [StatefulSet], ... */
export interface OwnerChain {
  readonly owners: readonly Pick<Owner, 'kind' | 'name'>[];
  /** `false`: the API server has not said yet, or cannot be asked; names say what was asked for. */
  readonly certain: boolean;
}

export interface OwnersOptions {
  readonly api: Pick<Api, 'get'>;
  /** Owners that are remembered, and that wait to be asked for. */
  readonly limit: number;
  /** `owner_queue_full`, `owner_unknown`. */
  readonly counts: ReasonCounts;
  /** The answer for this owner's uid has come. */
  readonly resolved: (uid: string) => void;
  readonly onError?: (error: Error, retryMs: number) => void;
  readonly random?: () => number;
  readonly backoffMs?: readonly [number, number];
}

/** Kinds that have owners of interest. */
const PATHS: Readonly<Record<string, (namespace: string, name: string) => string>> = {
  ReplicaSet: (namespace, name) => `/apis/apps/v1/namespaces/${namespace}/replicasets/${encodeURIComponent(name)}`,
  Job: (namespace, name) => `/apis/batch/v1/namespaces/${namespace}/jobs/${encodeURIComponent(name)}`,
};
const GROUPS: Readonly<Record<string, string>> = { ReplicaSet: 'apps/v1', Job: 'batch/v1' };

/** Requests under way at once. */
const IN_FLIGHT = 4;

/** The CronJob controller names its Jobs `NAME-MINUTES`, the scheduled time in minutes since the Unix epoch. */
const cronJobName = /^(.+)-\d{8,10}$/;

const noOwners: OwnerChain = { owners: [], certain: true };

type Answer = OwnerChain | 'asked' | 'refused';

export class Owners {
  readonly #options: Required<Omit<OwnersOptions, 'onError'>> & OwnersOptions;
  /** By uid, oldest first. */
  readonly #answers = new Map<string, Answer>();
  readonly #queue: { namespace: string; owner: Owner }[] = [];
  #inFlight = 0;
  #delayMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: OwnersOptions) {
    this.#options = { random: Math.random, backoffMs: [1000, 60_000], ...options };
  }

  stop(): void {
    this.#stopped = true;
    this.#queue.length = 0;
    clearTimeout(this.#timer);
  }

  /** Owners that wait for an answer. */
  get waiting(): number {
    return this.#queue.length + this.#inFlight;
  }

  /** What is known by now; asks when it is not all. */
  chainOf(pod: Pod): OwnerChain {
    const { owner } = pod;
    // The kubelet makes a mirror of a static pod, owned by the node.
    if (owner === undefined || owner.kind === 'Node') return noOwners;
    if (GROUPS[owner.kind] !== owner.apiVersion) return { owners: [owner], certain: true };
    const known = this.#answers.get(owner.uid);
    if (known === undefined) this.#ask(pod.namespace, owner);
    if (typeof known === 'object') return known;
    return { owners: byName(owner, pod.stem), certain: known === 'refused' };
  }

  #ask(namespace: string, owner: Owner): void {
    const { limit, counts } = this.#options;
    if (this.#queue.length >= limit) {
      count(counts, 'owner_queue_full');
      return;
    }
    this.#remember(owner.uid, 'asked');
    this.#queue.push({ namespace, owner });
    this.#next();
  }

  #next(): void {
    while (!this.#stopped && this.#timer === undefined && this.#inFlight < IN_FLIGHT) {
      const asked = this.#queue.shift();
      if (asked === undefined) return;
      this.#inFlight++;
      void this.#resolve(asked.namespace, asked.owner).finally(() => {
        this.#inFlight--;
        this.#next();
      });
    }
  }

  async #resolve(namespace: string, owner: Owner): Promise<void> {
    const { api, counts, resolved } = this.#options;
    try {
      const found = await api.get(PATHS[owner.kind]!(namespace, owner.name), {}, METADATA_ONLY);
      this.#delayMs = 0;
      // Another one of this name has taken its place.
      if (textAt(objectAt(found, 'metadata'), 'uid') !== owner.uid) throw new ApiError(404, 'gone');
      const above = controllerOf(found);
      this.#remember(owner.uid, { owners: above === undefined ? [owner] : [owner, above], certain: true });
    } catch (error) {
      const status = error instanceof ApiError ? error.statusCode : 0;
      if (status !== 403 && status !== 404) {
        this.#queue.push({ namespace, owner });
        this.#pause(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      // It has gone, or this agent may not know: that does not change by asking again.
      count(counts, 'owner_unknown');
      this.#remember(owner.uid, 'refused');
    }
    if (!this.#stopped) resolved(owner.uid);
  }

  /** The API server cannot be asked now: all wait. */
  #pause(error: Error): void {
    if (this.#timer !== undefined || this.#stopped) return;
    const { backoffMs, random, onError } = this.#options;
    this.#delayMs = Math.min(Math.max(backoffMs[0], this.#delayMs * 2), backoffMs[1]);
    const retryMs = Math.round(this.#delayMs * (0.5 + random()));
    onError?.(error, retryMs);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#next();
    }, retryMs);
    this.#timer.unref();
  }

  #remember(uid: string, answer: Answer): void {
    this.#answers.delete(uid);
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size < this.#options.limit) break;
      this.#answers.delete(oldest);
    }
    this.#answers.set(uid, answer);
  }
}

/** What the names say, by which controllers go. */
function byName(owner: Owner, stem: string): readonly Pick<Owner, 'kind' | 'name'>[] {
  if (owner.kind === 'ReplicaSet') return stem === '' ? [owner] : [owner, { kind: 'Deployment', name: stem }];
  const name = cronJobName.exec(owner.name)?.[1];
  return name === undefined ? [owner] : [owner, { kind: 'CronJob', name }];
}
