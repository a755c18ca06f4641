import { type LabelSelector, matchesLabels, parseLabelSelector } from '../../config/label-selector.ts';
import { unwatched, type Watched, watchedFully } from '../../span/resource.ts';
import type { OwnerChain } from './owners.ts';
import { Patterns } from './patterns.ts';
import { type NodePod, TRACE_ANNOTATION } from './pod.ts';

/** `kubernetes` of the configuration has these keys. */
export interface FilterOptions {
  readonly namespaces: readonly string[];
  readonly excludeNamespaces: readonly string[];
  readonly labelSelector?: string | undefined;
  readonly workloads: readonly string[];
  readonly containers: readonly string[];
  readonly excludeContainers: readonly string[];
  readonly direction: 'both' | 'in' | 'out';
}

/** Which pods and containers are watched. */
export class PodFilter {
  readonly #namespaces: Patterns;
  readonly #excludedNamespaces: Patterns;
  readonly #selector: LabelSelector;
  readonly #workloads: Patterns;
  readonly #containers: Patterns;
  readonly #excludedContainers: Patterns;
  readonly #watched: Watched;
  /** Only what matches is watched: what is no pod, or of an unknown one, is not. */
  readonly isSelective: boolean;

  constructor(options: FilterOptions) {
    this.#namespaces = new Patterns(options.namespaces);
    this.#excludedNamespaces = new Patterns(options.excludeNamespaces);
    this.#selector = parseLabelSelector(options.labelSelector ?? '') ?? [];
    this.#workloads = new Patterns(options.workloads.map((text) => text.toLowerCase()));
    this.#containers = new Patterns(options.containers);
    this.#excludedContainers = new Patterns(options.excludeContainers);
    this.#watched = { in: options.direction !== 'out', out: options.direction !== 'in' };
    const only = [this.#namespaces, this.#workloads, this.#containers];
    this.isSelective = this.#selector.length > 0 || only.some((patterns) => !patterns.isEmpty);
  }

  /** What is watched of processes that are in no pod that is known. */
  get outsidePods(): Watched {
    return this.isSelective ? unwatched : watchedFully;
  }

  /** @param containerName empty: not known */
  decide(pod: NodePod, containerName: string, chain: OwnerChain): Watched {
    if (pod.annotations[TRACE_ANNOTATION]?.trim().toLowerCase() === 'false') return unwatched;
    if (this.#excludedNamespaces.has(pod.namespace) || this.#excludedContainers.has(containerName)) return unwatched;
    const matches =
      (this.#namespaces.isEmpty || this.#namespaces.has(pod.namespace)) &&
      (this.#containers.isEmpty || this.#containers.has(containerName)) &&
      matchesLabels(this.#selector, pod.labels) &&
      (this.#workloads.isEmpty || this.#isWorkload(pod, chain));
    return matches ? this.#watched : unwatched;
  }

  /** By the name of any of its owners, or its own where it has none; with the kind before it, or without. */
  #isWorkload(pod: NodePod, chain: OwnerChain): boolean {
    const owners = chain.owners.length === 0 ? [{ kind: 'Pod', name: pod.name }] : chain.owners;
    return owners.some(
      ({ kind, name }) => this.#workloads.has(name) || this.#workloads.has(`${kind.toLowerCase()}/${name}`),
    );
  }
}
