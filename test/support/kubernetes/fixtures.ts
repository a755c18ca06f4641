/** Objects of the API as controllers and the kubelet make them, with what has to be dropped. */
import type { ApiObject, Owner } from '../../../src/workload/kubernetes/objects.ts';

export const idOf = (n: number) => n.toString(16).padStart(64, '0');

export interface PodFixture {
  name?: string;
  namespace?: string;
  uid?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  owner?: Owner | undefined;
  ips?: readonly string[];
  node?: string;
  hostNetwork?: boolean;
  /** Name to id; an empty id has not started. */
  containers?: Record<string, string>;
  init?: Record<string, string>;
  env?: readonly object[];
  ports?: readonly object[];
  image?: string;
  phase?: string;
  start?: string;
  metadata?: object;
  status?: object;
}

function statusOf([name, id]: [string, string], image: string): object {
  return {
    name,
    image: `docker.io/${image}`,
    imageID: `docker.io/example/cart@sha256:${'0'.repeat(64)}`,
    ...(id !== '' && { containerID: `containerd://${id}` }),
    restartCount: 2,
    state: { running: { startedAt: '2026-01-01T00:00:05Z' } },
  };
}

export function podObject(options: PodFixture = {}): ApiObject {
  const { containers = { main: idOf(1) }, init = {}, image = 'example/cart:1.2', ips = ['10.0.0.5'] } = options;
  const declared = (names: object) =>
    Object.keys(names).map((name) => ({ name, image, env: options.env ?? [], ports: options.ports ?? [] }));
  return {
    metadata: {
      name: options.name ?? 'cart-5d4f-x1',
      namespace: options.namespace ?? 'shop',
      uid: options.uid ?? '2f1c9d1e-aaaa-bbbb-cccc-123456789012',
      resourceVersion: '7',
      labels: options.labels ?? {},
      annotations: options.annotations ?? {},
      managedFields: [{ manager: 'kubelet', fieldsV1: { 'f:status': {} } }],
      ...(options.owner && { ownerReferences: [{ ...options.owner, controller: true, blockOwnerDeletion: true }] }),
      ...options.metadata,
    },
    spec: {
      nodeName: options.node ?? 'node-1',
      hostNetwork: options.hostNetwork ?? false,
      containers: declared(containers),
      initContainers: declared(init),
    },
    status: {
      phase: options.phase ?? 'Running',
      hostIP: '192.168.0.1',
      hostIPs: [{ ip: '192.168.0.1' }],
      podIP: ips[0],
      podIPs: ips.map((ip) => ({ ip })),
      startTime: options.start ?? '2026-01-01T00:00:00Z',
      containerStatuses: Object.entries(containers).map((each) => statusOf(each, image)),
      initContainerStatuses: Object.entries(init).map((each) => statusOf(each, image)),
      ...options.status,
    },
  };
}

export function owner(kind: string, name: string, uid = `${kind}-${name}`): Owner {
  const groups: Record<string, string> = { Job: 'batch/v1', CronJob: 'batch/v1', Rollout: 'argoproj.io/v1alpha1' };
  return { apiVersion: groups[kind] ?? 'apps/v1', kind, name, uid };
}
