/** The parts of scheduler, kubelet and controllers: objects as those would make them, posted to the API. */
import type { KubernetesApi, KubernetesObject, OwnerReference } from './api.ts';

/** Conditions want one; none of ours is looked at. */
const TIME = '2026-01-01T00:00:00Z';

export type WorkloadKind = 'Deployment' | 'ReplicaSet' | 'StatefulSet' | 'DaemonSet' | 'Job' | 'CronJob';

export interface Named {
  name: string;
  namespace: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  owner?: KubernetesObject;
}

export interface ContainerOptions {
  name: string;
  image?: string;
  /** As the runtime says it: `containerd://HEX`. Without one the container has not started yet. */
  id?: string;
  /** `init` ends before the others start, `sidecar` is one that does not. Default: an ordinary container. */
  kind?: 'init' | 'sidecar';
}

export interface PodOptions extends Named {
  node: string;
  /** None: it has no address yet. */
  ip?: string;
  /** Of the node, which is the pod's own with `hostNetwork`. */
  hostIp?: string;
  hostNetwork?: boolean;
  phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
  containers?: readonly ContainerOptions[];
}

export interface ServiceOptions extends Named {
  ports: readonly { port: number; targetPort?: number; nodePort?: number; name?: string }[];
  clusterIp?: string;
  type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
}

export interface SliceOptions extends Named {
  service: string;
  ports: readonly { port: number; name?: string }[];
  endpoints: readonly { ip: string; node?: string; pod?: KubernetesObject; ready?: boolean }[];
}

export function ownerReference({ apiVersion, kind, metadata }: KubernetesObject): OwnerReference {
  return { apiVersion, kind, name: metadata.name, uid: metadata.uid!, controller: true };
}

function metadata({ name, namespace, labels, annotations, owner }: Named): KubernetesObject['metadata'] {
  return {
    name,
    namespace,
    ...(labels === undefined ? {} : { labels }),
    ...(annotations === undefined ? {} : { annotations }),
    ...(owner === undefined ? {} : { ownerReferences: [ownerReference(owner)] }),
  };
}

export function createNamespace(api: KubernetesApi, name: string): Promise<KubernetesObject> {
  return api.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
}

/** A node that is ready. */
export async function createNode(
  api: KubernetesApi,
  name: string,
  addresses: readonly string[],
): Promise<KubernetesObject> {
  const node = await api.create({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name } },
  });
  await api.patch(node, { spec: { taints: null } });
  const internal = addresses.map((address) => ({ type: 'InternalIP', address }));
  const ready = {
    type: 'Ready',
    status: 'True',
    reason: 'KubeletReady',
    message: 'ready',
    lastHeartbeatTime: TIME,
    lastTransitionTime: TIME,
  };
  const status = { addresses: [...internal, { type: 'Hostname', address: name }], conditions: [ready] };
  return api.patch(node, { status }, 'status');
}

/** @param image of the only container of its pods */
export function createWorkload(
  api: KubernetesApi,
  kind: WorkloadKind,
  named: Named,
  image = 'example.com/test:1',
): Promise<KubernetesObject> {
  const labels = { 'wirespan.test/of': `${kind}.${named.name}` };
  const isJob = kind === 'Job' || kind === 'CronJob';
  const template = {
    metadata: { labels },
    spec: { containers: [{ name: 'main', image }], ...(isJob ? { restartPolicy: 'Never' } : {}) },
  };
  const selected = { selector: { matchLabels: labels }, template };
  const spec = {
    Deployment: selected,
    ReplicaSet: selected,
    StatefulSet: { ...selected, serviceName: named.name },
    DaemonSet: selected,
    // The server makes its selector and labels.
    Job: { template: { ...template, metadata: {} } },
    CronJob: { schedule: '0 0 1 1 *', jobTemplate: { spec: { template } } },
  }[kind];
  const apiVersion = isJob ? 'batch/v1' : 'apps/v1';
  return api.create({ apiVersion, kind, metadata: metadata(named), spec });
}

function podStatus(options: PodOptions): object {
  const containers = options.containers ?? [{ name: 'main' }];
  const statusOf = ({ name, image = 'example.com/test:1', id, kind }: ContainerOptions) => ({
    name,
    image,
    imageID: '',
    ready: id !== undefined && kind !== 'init',
    started: id !== undefined,
    restartCount: 0,
    ...(id === undefined ? {} : { containerID: id }),
    state: id === undefined ? { waiting: { reason: 'ContainerCreating' } } : { running: { startedAt: TIME } },
  });
  const hostIp = options.hostIp ?? '127.0.0.1';
  const ip = options.hostNetwork ? hostIp : options.ip;
  return {
    phase: options.phase ?? 'Running',
    hostIP: hostIp,
    hostIPs: [{ ip: hostIp }],
    ...(ip === undefined ? {} : { podIP: ip, podIPs: [{ ip }] }),
    startTime: TIME,
    conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: TIME }],
    containerStatuses: containers.filter(({ kind }) => kind === undefined).map(statusOf),
    initContainerStatuses: containers.filter(({ kind }) => kind !== undefined).map(statusOf),
  };
}

/** A pod on its node with its status, as scheduler and kubelet would leave it. */
export async function createPod(api: KubernetesApi, options: PodOptions): Promise<KubernetesObject> {
  const containers = options.containers ?? [{ name: 'main' }];
  const specOf = ({ name, image = 'example.com/test:1', kind }: ContainerOptions) => ({
    name,
    image,
    ...(kind === 'sidecar' ? { restartPolicy: 'Always' } : {}),
  });
  const init = containers.filter(({ kind }) => kind !== undefined);
  const pod = await api.create({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: metadata(options),
    spec: {
      nodeName: options.node,
      ...(options.hostNetwork ? { hostNetwork: true } : {}),
      containers: containers.filter(({ kind }) => kind === undefined).map(specOf),
      ...(init.length === 0 ? {} : { initContainers: init.map(specOf) }),
    },
  });
  return setPodStatus(api, pod, options);
}

/** What the kubelet says later: an address, other containers' ids after a restart, the end. */
export function setPodStatus(
  api: KubernetesApi,
  pod: KubernetesObject,
  options: PodOptions,
): Promise<KubernetesObject> {
  return api.patch(pod, { status: podStatus(options) }, 'status');
}

export function createService(api: KubernetesApi, options: ServiceOptions): Promise<KubernetesObject> {
  return api.create({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(options),
    spec: {
      type: options.type ?? 'ClusterIP',
      ...(options.clusterIp === undefined ? {} : { clusterIP: options.clusterIp }),
      ports: options.ports.map((port) => ({ name: `port-${port.port}`, ...port })),
    },
  });
}

/** The endpoints of a Service without a selector, or as the controller would make them. */
export function createEndpointSlice(api: KubernetesApi, options: SliceOptions): Promise<KubernetesObject> {
  const labels = { ...options.labels, 'kubernetes.io/service-name': options.service };
  return api.create({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: metadata({ ...options, labels }),
    addressType: options.endpoints.some(({ ip }) => ip.includes(':')) ? 'IPv6' : 'IPv4',
    ports: options.ports.map(({ port, name = `port-${port}` }) => ({ name, port, protocol: 'TCP' })),
    endpoints: options.endpoints.map(({ ip, node, pod, ready = true }) => ({
      addresses: [ip],
      conditions: { ready, serving: ready, terminating: false },
      ...(node === undefined ? {} : { nodeName: node }),
      ...(pod === undefined
        ? {}
        : {
            targetRef: {
              kind: 'Pod',
              name: pod.metadata.name,
              namespace: pod.metadata.namespace,
              uid: pod.metadata.uid,
            },
          }),
    })),
  });
}

/** Puts what is given to work, so many at a time: for clusters of thousands of objects. */
export async function inParallel<T>(
  items: Iterable<T>,
  atOnce: number,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  const worker = async () => {
    for (let next = iterator.next(); !next.done; next = iterator.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
