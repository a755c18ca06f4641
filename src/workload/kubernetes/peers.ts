import type { Peer, PeerDirectory } from '../../span/peer.ts';
import { Addresses } from './addresses.ts';
import { serviceNameOf } from './identity.ts';
import { type ClusterNode, type EndpointSlice, endpointKey, type Service } from './objects.ts';
import type { OwnerChain } from './owners.ts';
import type { Pod } from './pod.ts';

export interface PeersOptions {
  readonly chainOf: (pod: Pod) => OwnerChain;
  readonly limits: { readonly kubernetesDeparted: number; readonly kubernetesDepartedUs: number };
  readonly now?: () => number;
}

/** Of so many pods behind a Service it is asked whose they are. */
const MAX_BACKING_PODS = 64;

/** A pod through all its changes. */
interface KnownPod {
  pod: Pod;
  /** It had addresses, and has none any more. */
  ended: boolean;
  /** Made when it is asked for. */
  peer: Peer | undefined;
}

interface KnownService {
  service: Service;
  /** By the slice's name. */
  readonly slices: Map<string, EndpointSlice>;
  /** Made when it is asked for; `revision` tells whether it still holds. */
  peer: Peer | undefined;
  revision: number;
}

/**
 * Who is at the other end: pods by their addresses, Services by their virtual ones and by ports of nodes, nodes by theirs.
 *
 * A client in a pod sees the address of a Service: it is translated behind its back, in the network of the node. There the Service names
 * what stands behind it, when all its pods are of one workload; otherwise itself.
 */
export class Peers implements PeerDirectory {
  readonly #options: Required<PeersOptions>;
  readonly #pods = new Map<string, KnownPod>();
  readonly #podAddresses: Addresses<KnownPod>;
  /** By `namespace/name`. */
  readonly #services = new Map<string, KnownService>();
  readonly #serviceAddresses = new Map<string, KnownService>();
  readonly #nodePorts = new Map<number, KnownService>();
  /** Slices of a Service that was not reported yet: by its key, then by their names. */
  readonly #orphans = new Map<string, Map<string, EndpointSlice>>();
  /** `address|port` of what is behind a Service and no pod. */
  readonly #endpoints = new Map<string, KnownService>();
  readonly #nodeAddresses = new Map<string, Peer>();
  /** `address|port` of a node that leads to a pod. */
  readonly #hostPorts = new Map<string, KnownPod>();
  #revision = 1;

  constructor(options: PeersOptions) {
    this.#options = { now: Date.now, ...options };
    const { limits } = options;
    this.#podAddresses = new Addresses(limits.kubernetesDepartedUs / 1000, limits.kubernetesDeparted);
  }

  get revision(): number {
    return this.#revision;
  }

  /** @param changedMs when it may have changed at the earliest, or taken the place of one of its name; default: now */
  setPod(pod: Pod, changedMs = this.#options.now()): void {
    this.#revision++;
    const nowMs = this.#options.now();
    let known = this.#pods.get(pod.key);
    if (known !== undefined && known.pod.uid !== pod.uid) {
      this.removePod(known.pod, changedMs);
      known = undefined;
    }
    if (known === undefined) {
      known = { pod, ended: false, peer: undefined };
      this.#pods.set(pod.key, known);
    } else {
      for (const address of known.pod.addresses) {
        if (!known.pod.hostNetwork && !pod.addresses.includes(address))
          this.#podAddresses.release(address, known, changedMs, nowMs);
      }
      this.#removeHostPorts(known);
      known.pod = pod;
      known.peer = undefined;
    }
    if (!pod.hostNetwork && !known.ended) {
      for (const address of pod.addresses) this.#podAddresses.claim(address, known, pod.startMs, nowMs);
    }
    if (pod.endMs !== undefined) {
      // Of one that was short-lived it may be the first that is heard: its address was its own for that time.
      known.ended = true;
      this.#releaseAll(known, pod.endMs, nowMs);
      return;
    }
    for (const key of hostPortKeys(pod)) this.#hostPorts.set(key, known);
  }

  /** @param goneMs when it may have gone at the earliest */
  removePod(pod: Pod, goneMs: number): void {
    const known = this.#pods.get(pod.key);
    if (known === undefined || known.pod.uid !== pod.uid) return;
    this.#revision++;
    this.#removeHostPorts(known);
    this.#releaseAll(known, Math.min(goneMs, pod.endMs ?? pod.deletionMs ?? goneMs), this.#options.now());
    this.#pods.delete(pod.key);
  }

  setService(service: Service): void {
    this.#revision++;
    const known = this.#services.get(service.key) ?? this.#newService(service);
    this.#unlistService(known);
    known.service = service;
    for (const address of service.addresses) this.#serviceAddresses.set(address, known);
    for (const port of service.nodePorts) this.#nodePorts.set(port, known);
  }

  removeService(service: Service): void {
    const known = this.#services.get(service.key);
    if (known === undefined) return;
    this.#revision++;
    this.#unlistService(known);
    for (const slice of known.slices.values()) this.#unlistSlice(known, slice);
    this.#services.delete(service.key);
    if (known.slices.size > 0) this.#orphans.set(service.key, known.slices);
  }

  setSlice(slice: EndpointSlice): void {
    this.#revision++;
    const known = this.#services.get(serviceKey(slice));
    if (known === undefined) {
      const orphans = this.#orphans.get(serviceKey(slice)) ?? new Map<string, EndpointSlice>();
      this.#orphans.set(serviceKey(slice), orphans.set(slice.name, slice));
      return;
    }
    const before = known.slices.get(slice.name);
    if (before !== undefined) this.#unlistSlice(known, before);
    this.#listSlice(known, slice);
  }

  removeSlice(slice: EndpointSlice): void {
    this.#revision++;
    const known = this.#services.get(serviceKey(slice));
    const orphans = this.#orphans.get(serviceKey(slice));
    if (orphans?.delete(slice.name) && orphans.size === 0) this.#orphans.delete(serviceKey(slice));
    const before = known?.slices.get(slice.name);
    if (known === undefined || before === undefined) return;
    this.#unlistSlice(known, before);
    known.slices.delete(slice.name);
  }

  setNode(node: ClusterNode): void {
    this.#revision++;
    this.#unlistNode(node.name);
    // Pods in its network have its addresses, and so has what it forwards: taken to be in sight of its agent.
    const peer: Peer = { name: node.name, namespace: '', serviceName: '', watched: true };
    for (const address of node.addresses) this.#nodeAddresses.set(address, peer);
  }

  removeNode(node: ClusterNode): void {
    this.#revision++;
    this.#unlistNode(node.name);
  }

  /** The API server has said who owns the owner with this uid. */
  ownerResolved(uid: string): void {
    this.#revision++;
    for (const known of this.#pods.values())
      if (known.peer !== undefined && known.pod.owner?.uid === uid) known.peer = undefined;
  }

  tick(): void {
    this.#podAddresses.tick(this.#options.now());
  }

  find(address: string, port: number, unixMs: number): Peer | undefined {
    const service = this.#serviceAddresses.get(address);
    if (service !== undefined) return this.#servicePeer(service);
    const pod = this.#podAddresses.find(address, unixMs);
    if (pod !== undefined) return this.#podPeer(pod);
    const node = this.#nodeAddresses.get(address);
    if (port === 0) return node;
    const atNode = node === undefined ? undefined : this.#nodePorts.get(port);
    if (atNode !== undefined) return this.#servicePeer(atNode);
    const atPort = this.#hostPorts.get(endpointKey(address, port));
    if (atPort !== undefined) return this.#podPeer(atPort);
    const behind = this.#endpoints.get(endpointKey(address, port));
    return behind === undefined ? node : this.#servicePeer(behind);
  }

  findName(host: string): Peer | undefined {
    const [, name, namespace] = /^([^.]+)\.([^.]+)\.svc(?:\.|$)/.exec(host) ?? [];
    if (name !== undefined) {
      const known = this.#services.get(`${namespace}/${name}`);
      return known === undefined ? undefined : this.#servicePeer(known);
    }
    // A name without a dot is looked up in the client's namespace first, by its resolver.
    if (!/^(?=.*[a-z])[a-z0-9-]+(?:\.[a-z0-9-]+)+\.?$/i.test(host)) return undefined;
    return { name: host.toLowerCase().replace(/\.$/, ''), namespace: '', serviceName: '', watched: false };
  }

  #podPeer(known: KnownPod): Peer {
    const { pod } = known;
    known.peer ??= {
      name: serviceNameOf(pod, this.#options.chainOf(pod)),
      namespace: pod.serviceNamespace,
      serviceName: '',
      watched: true,
    };
    return known.peer;
  }

  #servicePeer(known: KnownService): Peer {
    if (known.peer !== undefined && known.revision === this.#revision) return known.peer;
    const { service } = known;
    const backing = this.#backingOf(known) ?? { name: service.name, namespace: service.namespace };
    known.revision = this.#revision;
    if (known.peer?.name !== backing.name || known.peer.namespace !== backing.namespace) {
      known.peer = { name: backing.name, namespace: backing.namespace, serviceName: service.name, watched: true };
    }
    return known.peer;
  }

  /** The workload whose pods are all that is known behind a Service; `undefined` when they are of several, or there are none. */
  #backingOf({ service, slices }: KnownService): Pick<Peer, 'name' | 'namespace'> | undefined {
    let found: Peer | undefined;
    let looked = 0;
    for (const slice of slices.values()) {
      if (slice.others.length > 0) return undefined;
      for (const name of slice.pods) {
        if (++looked > MAX_BACKING_PODS) return found;
        const pod = this.#pods.get(`${service.namespace}/${name}`);
        if (pod === undefined) continue;
        const peer = this.#podPeer(pod);
        if (found !== undefined && (found.name !== peer.name || found.namespace !== peer.namespace)) return undefined;
        found = peer;
      }
    }
    return found;
  }

  #newService(service: Service): KnownService {
    const known: KnownService = { service, slices: new Map(), peer: undefined, revision: 0 };
    this.#services.set(service.key, known);
    for (const slice of this.#orphans.get(service.key)?.values() ?? []) this.#listSlice(known, slice);
    this.#orphans.delete(service.key);
    return known;
  }

  /** Where another Service has taken an address over already, it keeps it. */
  #unlistService(known: KnownService): void {
    for (const address of known.service.addresses) removeOwn(this.#serviceAddresses, address, known);
    for (const port of known.service.nodePorts) removeOwn(this.#nodePorts, port, known);
  }

  #listSlice(known: KnownService, slice: EndpointSlice): void {
    known.slices.set(slice.name, slice);
    for (const key of slice.others) this.#endpoints.set(key, known);
  }

  #unlistSlice(known: KnownService, slice: EndpointSlice): void {
    for (const key of slice.others) removeOwn(this.#endpoints, key, known);
  }

  #unlistNode(name: string): void {
    for (const [address, peer] of this.#nodeAddresses) if (peer.name === name) this.#nodeAddresses.delete(address);
  }

  #releaseAll(known: KnownPod, goneMs: number, nowMs: number): void {
    if (known.pod.hostNetwork) return;
    for (const address of known.pod.addresses) this.#podAddresses.release(address, known, goneMs, nowMs);
  }

  #removeHostPorts(known: KnownPod): void {
    for (const key of hostPortKeys(known.pod)) removeOwn(this.#hostPorts, key, known);
  }
}

function serviceKey(slice: EndpointSlice): string {
  return `${slice.namespace}/${slice.service}`;
}

/** Ports of its node by which a pod is reached. */
function hostPortKeys(pod: Pod): string[] {
  return pod.hostPorts.flatMap((port) => pod.hostAddresses.map((address) => endpointKey(address, port)));
}

function removeOwn<Key, Value>(map: Map<Key, Value>, key: Key, value: Value): void {
  if (map.get(key) === value) map.delete(key);
}
