/** What a pod, its container and its owners say of the resource that spans are from. */
import type { AttributeValue } from '../../span/resource.ts';
import type { ContainerAttributes } from '../pods.ts';
import type { OwnerChain } from './owners.ts';
import { Patterns } from './patterns.ts';
import { type Container, labelledName, type NodePod, type Pod, RESOURCE_ANNOTATION } from './pod.ts';

export interface IdentityOptions {
  readonly nodeName: string;
  readonly clusterName: string | undefined;
  /** Labels and annotations to copy, with `*`. */
  readonly labels: readonly string[];
  readonly annotations: readonly string[];
  readonly serviceNameFromLabels: boolean;
}

/** The name that what runs in a pod has from its owners: that of the topmost; empty: it has none. */
export function nameOfOwners({ owners }: OwnerChain): string {
  return owners.at(-1)?.name ?? '';
}

/** service.name of a pod, as the agent on its node says it. */
export function serviceNameOf(pod: Pod, chain: OwnerChain): string {
  return pod.serviceName || nameOfOwners(chain) || pod.name;
}

export class Identities {
  readonly #options: IdentityOptions;
  readonly #labels: Patterns;
  readonly #annotations: Patterns;

  constructor(options: IdentityOptions) {
    this.#options = options;
    this.#labels = new Patterns(options.labels);
    this.#annotations = new Patterns(options.annotations);
  }

  /** @param container `undefined`: the pod is known, which of its containers is not */
  attributesOf(pod: NodePod, container: Container | undefined, chain: OwnerChain): ContainerAttributes {
    const { nodeName, clusterName } = this.#options;
    const image = imageOf(container?.image ?? '');
    const version = pod.labels['app.kubernetes.io/version'] || image.tag;
    const measured: Record<string, AttributeValue> = {
      ...(clusterName !== undefined && { 'k8s.cluster.name': clusterName }),
      'k8s.namespace.name': pod.namespace,
      'k8s.node.name': pod.nodeName || nodeName,
      'k8s.pod.name': pod.name,
      'k8s.pod.uid': pod.uid,
    };
    for (const { kind, name } of chain.owners) measured[`k8s.${kind.toLowerCase()}.name`] = name;
    if (container !== undefined) {
      measured['k8s.container.name'] = container.name;
      measured['k8s.container.restart_count'] = container.restarts;
      if (container.id !== '') measured['container.id'] = container.id;
      if (image.name !== '') measured['container.image.name'] = image.name;
      if (image.tag !== '') measured['container.image.tags'] = [image.tag];
      if (container.imageId.includes('@')) measured['container.image.repo_digests'] = [container.imageId];
    }
    for (const [key, value] of Object.entries(pod.labels)) {
      if (this.#labels.has(key)) measured[`k8s.pod.label.${key}`] = value;
    }
    for (const [key, value] of Object.entries(pod.annotations)) {
      if (this.#annotations.has(key)) measured[`k8s.pod.annotation.${key}`] = value;
    }
    const service: Record<string, AttributeValue> = {
      'service.name': this.#serviceName(pod, chain),
      'service.namespace': pod.namespace,
      'service.instance.id': [pod.namespace, pod.name, container?.name ?? ''].filter((part) => part !== '').join('.'),
      ...(version !== '' && { 'service.version': version }),
    };
    for (const [key, value] of Object.entries(pod.annotations)) {
      if (key.startsWith(RESOURCE_ANNOTATION)) service[key.slice(RESOURCE_ANNOTATION.length)] = value;
    }
    return { service, measured };
  }

  /** Below a container's own environment, which may be another's in the same pod, and its annotation. */
  #serviceName(pod: NodePod, chain: OwnerChain): string {
    const labelled = this.#options.serviceNameFromLabels ? labelledName(pod.labels) : '';
    return labelled || nameOfOwners(chain) || pod.name;
  }
}

/**
 * `registry:5000/example/cart:1.2@sha256:...`: the name and the tag; empty where there is none. What is named by its digest alone, as some
 * runtimes do, has no name.
 */
export function imageOf(reference: string): { name: string; tag: string } {
  const [named = ''] = reference.split('@');
  const colon = named.lastIndexOf(':');
  if (/^sha256:/.test(named)) return { name: '', tag: '' };
  return colon > named.lastIndexOf('/')
    ? { name: named.slice(0, colon), tag: named.slice(colon + 1) }
    : { name: named, tag: '' };
}
