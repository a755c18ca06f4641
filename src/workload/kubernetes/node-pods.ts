import type { Watched } from '../../span/resource.ts';
import type { PodPath } from '../cgroup-path.ts';
import type { ContainerIdentity, PodDirectory } from '../pods.ts';
import type { PodFilter } from './filter.ts';
import type { Identities } from './identity.ts';
import type { OwnerChain } from './owners.ts';
import type { Container, NodePod } from './pod.ts';

export interface NodePodsOptions {
  readonly identities: Identities;
  readonly filter: PodFilter;
  readonly chainOf: (pod: NodePod) => OwnerChain;
  /** Pods that are gone: how many are remembered, and for how long in microseconds. */
  readonly limits: { readonly kubernetesDeparted: number; readonly kubernetesDepartedUs: number };
  readonly now?: () => number;
}

/** Containers that a pod has had, the last ones: one that crashes is started again for ever. */
const MAX_CONTAINERS = 64;

interface Known {
  /** As last seen in the status, which drops those of former restarts. */
  container: Container | undefined;
  /** As far as it was asked for. */
  identity: ContainerIdentity | undefined;
  /** It may be another by now. */
  stale: boolean;
}

interface Entry {
  pod: NodePod;
  /** By the id of the container; empty: what is in none. */
  readonly known: Map<string, Known>;
  goneMs: number;
}

/** The pods of this node by what cgroup paths say: the ids of their containers, and their own. */
export class NodePods implements PodDirectory {
  readonly #options: Required<NodePodsOptions>;
  /** By `namespace/name`. */
  readonly #present = new Map<string, Entry>();
  readonly #byUid = new Map<string, Entry>();
  readonly #byContainer = new Map<string, Entry>();
  /** In the order in which they went. */
  readonly #departed = new Set<Entry>();
  #revision = 1;

  constructor(options: NodePodsOptions) {
    this.#options = { now: Date.now, ...options };
  }

  /** Another one when an answer of `find` may be another. */
  get revision(): number {
    return this.#revision;
  }

  get outsidePods(): Watched {
    return this.#options.filter.outsidePods;
  }

  /** A pod is new, or has changed. */
  set(pod: NodePod): void {
    const known = this.#present.get(pod.key);
    if (known !== undefined && known.pod.uid !== pod.uid) this.remove(known.pod);
    const entry = this.#present.get(pod.key) ?? { pod, known: new Map<string, Known>(), goneMs: 0 };
    entry.pod = pod;
    this.#present.set(pod.key, entry);
    for (const podUid of pod.uids) this.#byUid.set(podUid, entry);
    const started = pod.containers.filter(({ id }) => id !== '');
    for (const { id } of started) renew(entry, id);
    for (const container of started) {
      this.#byContainer.set(container.id, entry);
      this.#knownOf(entry, container.id).container = container;
    }
    markStale(entry);
    this.#revision++;
  }

  /** It keeps its identity for a while, for spans that are on their way. */
  remove(pod: NodePod): void {
    const entry = this.#present.get(pod.key);
    if (entry === undefined || entry.pod.uid !== pod.uid) return;
    this.#present.delete(pod.key);
    entry.goneMs = this.#options.now();
    this.#departed.add(entry);
    this.tick();
    this.#revision++;
  }

  /** The API server has said who owns the owner with this uid. */
  ownerResolved(uid: string): void {
    for (const entry of this.#present.values()) {
      if (entry.pod.owner?.uid === uid) markStale(entry);
    }
    this.#revision++;
  }

  /** Forgets who has been gone for long. */
  tick(): void {
    const { limits, now } = this.#options;
    const before = now() - limits.kubernetesDepartedUs / 1000;
    for (const entry of this.#departed) {
      if (this.#departed.size <= limits.kubernetesDeparted && entry.goneMs > before) return;
      this.#forget(entry);
    }
  }

  /** @returns `undefined` when the API server has not reported it */
  find(path: PodPath): ContainerIdentity | undefined {
    const { containerId = '', uid } = path;
    const entry = this.#byContainer.get(containerId) ?? this.#byUid.get(uid);
    if (entry === undefined) return undefined;
    const known = this.#knownOf(entry, containerId);
    if (known.identity === undefined || known.stale) {
      const identity = this.#identify(entry.pod, containerId, known.container);
      // Most changes of a pod are of its status, and change nothing here.
      if (known.identity === undefined || !isSame(known.identity, identity)) known.identity = identity;
      known.stale = false;
    }
    return known.identity;
  }

  #identify(pod: NodePod, containerId: string, seen: Container | undefined): ContainerIdentity {
    const { identities, filter, chainOf } = this.#options;
    const chain = chainOf(pod);
    const container = seen ?? onlyContainer(pod, containerId);
    return {
      ...identities.attributesOf(pod, container, chain),
      watched: filter.decide(pod, container?.name ?? '', chain),
      certain: chain.certain && (container !== undefined || containerId === ''),
    };
  }

  #knownOf(entry: Entry, containerId: string): Known {
    let known = entry.known.get(containerId);
    if (known !== undefined) return known;
    known = { container: undefined, identity: undefined, stale: false };
    entry.known.set(containerId, known);
    for (const oldest of entry.known.keys()) {
      if (entry.known.size <= MAX_CONTAINERS) break;
      entry.known.delete(oldest);
      this.#byContainer.delete(oldest);
    }
    return known;
  }

  #forget(entry: Entry): void {
    this.#departed.delete(entry);
    for (const uid of entry.pod.uids) if (this.#byUid.get(uid) === entry) this.#byUid.delete(uid);
    for (const id of entry.known.keys()) if (this.#byContainer.get(id) === entry) this.#byContainer.delete(id);
  }
}

/** A container whose id its pod's status does not have yet is the only one there is, or not known. */
function onlyContainer(pod: NodePod, containerId: string): Container | undefined {
  if (containerId === '' || pod.onlyContainer === '') return undefined;
  const named = pod.containers.findLast(({ name }) => name === pod.onlyContainer);
  return { name: pod.onlyContainer, image: '', imageId: '', restarts: 0, ...named, id: containerId };
}

/** A container that is there still is none of the oldest, however often others of its pod have been started again. */
function renew({ known }: Entry, containerId: string): void {
  const found = known.get(containerId);
  if (found === undefined) return;
  known.delete(containerId);
  known.set(containerId, found);
}

function markStale(entry: Entry): void {
  for (const known of entry.known.values()) known.stale = true;
}

function isSame(a: ContainerIdentity, b: ContainerIdentity): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
