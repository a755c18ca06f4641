import type { AttributeValue, Watched } from '../span/resource.ts';
import type { PodPath } from './cgroup-path.ts';

/** What is said of a container, by what may overrule it. */
export interface ContainerAttributes {
  /** A process may say otherwise, in its own OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES. */
  readonly service: Readonly<Record<string, AttributeValue>>;
  /** Nothing overrules what was measured. */
  readonly measured: Readonly<Record<string, AttributeValue>>;
}

/** Who a process in a pod is. The same object as long as it is the same, so that resources can be kept with it. */
export interface ContainerIdentity extends ContainerAttributes {
  readonly watched: Watched;
  /** `false`: more is about to be known. */
  readonly certain: boolean;
}

/** The pods of this machine, by what cgroup paths say of them. */
export interface PodDirectory {
  /** Another one when an answer may be another. */
  readonly revision: number;
  /** @returns `undefined` when it has not heard of the pod */
  find(path: PodPath): ContainerIdentity | undefined;
  /** What is watched of processes that are in no pod, or in one that remains unknown. */
  readonly outsidePods: Watched;
}
