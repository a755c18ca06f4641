import {
  type ApiObject,
  ClusterObject,
  controllerOf,
  listAt,
  numberAt,
  type Owner,
  objectAt,
  shared,
  textAt,
  texts,
  timeAt,
} from './objects.ts';

/** https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/ */
export const RESOURCE_ANNOTATION = 'resource.opentelemetry.io/';
/** `false`: the pod is not watched. */
export const TRACE_ANNOTATION = 'wirespan.io/trace';
/** On the mirror of a static pod: the uid by which the kubelet, and so the cgroup path, knows it. */
const MIRROR_ANNOTATIONS = ['kubernetes.io/config.mirror', 'kubernetes.io/config.hash'];

const noNumbers: readonly number[] = [];
const noTexts: readonly string[] = [];

export interface PodOptions {
  /** Take the service's name from well-known labels. */
  readonly nameFromLabels: boolean;
}

/** A pod anywhere in the cluster: whose address it is, and what its service is called. */
export class Pod extends ClusterObject {
  readonly uid: string;
  readonly owner: Owner | undefined;
  /** The name that the owner's owner has if the owner is a ReplicaSet of a Deployment: its own less the hash of the pod's template. */
  readonly stem: string;
  /** status.podIPs; of a pod in the network of its node, the node's. */
  readonly addresses: readonly string[];
  readonly hostNetwork: boolean;
  /** Ports of its node that lead to it, and the addresses of the node; these only where there are such ports. */
  readonly hostPorts: readonly number[];
  readonly hostAddresses: readonly string[];
  /** status.startTime, milliseconds since the Unix epoch: before it has its address. */
  readonly startMs: number | undefined;
  /** When the last of its containers had ended, after which it has its address no more. */
  readonly endMs: number | undefined;
  /** When its deletion was asked for. */
  readonly deletionMs: number | undefined;
  /** What its containers' environment, its annotations or labels call it; empty: its owner names it. */
  readonly serviceName: string;
  /** Of the annotation; else the namespace. */
  readonly serviceNamespace: string;

  constructor(api: ApiObject, options: PodOptions) {
    super(api);
    const metadata = objectAt(api, 'metadata');
    const spec = objectAt(api, 'spec');
    const status = objectAt(api, 'status');
    const labels = objectAt(metadata, 'labels');
    const annotations = objectAt(metadata, 'annotations');
    this.uid = textAt(metadata, 'uid');
    this.owner = controllerOf(api);
    this.stem = shared.of(stemOf(this.owner, labels));
    const addresses = texts(listAt(status, 'podIPs').map((each) => textAt(each, 'ip')));
    this.addresses = addresses.length > 0 ? addresses : texts([status.podIP]);
    this.hostNetwork = spec.hostNetwork === true;
    this.hostPorts = hostPortsOf(spec);
    this.hostAddresses = this.hostPorts.length === 0 ? noTexts : hostAddressesOf(status);
    this.startMs = timeAt(status, 'startTime');
    this.deletionMs = deletionOf(metadata);
    this.endMs = endOf(status, this.deletionMs !== undefined);
    this.serviceName = shared.of(
      environmentName(spec) ||
        textAt(annotations, `${RESOURCE_ANNOTATION}service.name`) ||
        (options.nameFromLabels ? labelledName(labels) : ''),
    );
    this.serviceNamespace = shared.of(textAt(annotations, `${RESOURCE_ANNOTATION}service.namespace`)) || this.namespace;
  }
}

export interface Container {
  readonly name: string;
  /** 64 hexadecimal digits; empty while it has none. */
  readonly id: string;
  /** As the pod's template has it, `example/cart:1.2`. */
  readonly image: string;
  /** `example/cart@sha256:...`, empty when not known. */
  readonly imageId: string;
  readonly restarts: number;
}

/** A pod of this node, with what its resource says. */
export class NodePod extends Pod {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** The uids that a cgroup path may have. */
  readonly uids: readonly string[];
  readonly nodeName: string;
  /** Init containers, sidecars, ephemeral ones: all that have an id, or once had one. */
  readonly containers: readonly Container[];
  /** There is one container, and never another: what is in this pod is in it. */
  readonly onlyContainer: string;

  constructor(api: ApiObject, options: PodOptions) {
    super(api, options);
    const metadata = objectAt(api, 'metadata');
    const spec = objectAt(api, 'spec');
    const status = objectAt(api, 'status');
    this.labels = textsOf(objectAt(metadata, 'labels'));
    this.annotations = annotationsOf(objectAt(metadata, 'annotations'));
    const mirrored = MIRROR_ANNOTATIONS.map((name) => textAt(objectAt(metadata, 'annotations'), name));
    this.uids = [...new Set([this.uid, ...mirrored.filter((uid) => uid !== '')])];
    this.nodeName = shared.of(textAt(spec, 'nodeName'));
    const kinds = ['', 'init', 'ephemeral'] as const;
    const declared = kinds.flatMap((kind) => listAt(spec, kind === '' ? 'containers' : `${kind}Containers`));
    this.containers = kinds.flatMap((kind) =>
      containersOf(listAt(status, kind === '' ? 'containerStatuses' : `${kind}ContainerStatuses`), declared),
    );
    this.onlyContainer = declared.length === 1 ? textAt(declared[0], 'name') : '';
  }
}

/** A Deployment names its ReplicaSets `NAME-HASH`, HASH being the pods' label pod-template-hash; Argo Rollouts do likewise. */
function stemOf(owner: Owner | undefined, labels: ApiObject): string {
  if (owner?.kind !== 'ReplicaSet') return '';
  const hash = textAt(labels, 'pod-template-hash') || textAt(labels, 'rollouts-pod-template-hash');
  return hash !== '' && owner.name.endsWith(`-${hash}`) ? owner.name.slice(0, -hash.length - 1) : '';
}

function hostPortsOf(spec: ApiObject): readonly number[] {
  const ports = listAt(spec, 'containers')
    .flatMap((container) => listAt(container, 'ports'))
    .flatMap((port) => numberAt(port, 'hostPort') ?? []);
  return ports.length === 0 ? noNumbers : ports;
}

/** status.hostIPs, before Kubernetes 1.30 hostIP alone. */
function hostAddressesOf(status: ApiObject): readonly string[] {
  const addresses = listAt(status, 'hostIPs').map((each) => textAt(each, 'ip'));
  return texts(addresses.length > 0 ? addresses : [status.hostIP]);
}

/** metadata.deletionTimestamp is when the time for an orderly end is over. */
function deletionOf(metadata: ApiObject): number | undefined {
  const over = timeAt(metadata, 'deletionTimestamp');
  return over === undefined ? undefined : over - (numberAt(metadata, 'deletionGracePeriodSeconds') ?? 0) * 1000;
}

/** @param ending it is being deleted: no container of it will be started again */
function endOf(status: ApiObject, ending: boolean): number | undefined {
  const phase = textAt(status, 'phase');
  if (!ending && phase !== 'Succeeded' && phase !== 'Failed') return undefined;
  const states = listAt(status, 'containerStatuses').map((each) => objectAt(objectAt(each, 'state'), 'terminated'));
  const ends = states.map((terminated) => timeAt(terminated, 'finishedAt'));
  if (ends.length > 0 && ends.every((end) => end !== undefined)) return Math.max(...ends);
  return ending ? undefined : (timeAt(status, 'startTime') ?? 0);
}

/** OTEL_SERVICE_NAME where the pod's template gives it as a plain text: what the agent of that node reads from the process. */
function environmentName(spec: ApiObject): string {
  for (const container of listAt(spec, 'containers')) {
    for (const variable of listAt(container, 'env')) {
      if (textAt(variable, 'name') !== 'OTEL_SERVICE_NAME') continue;
      const value = textAt(variable, 'value').trim();
      if (value !== '' && !value.includes('$(')) return value;
    }
  }
  return '';
}

export function labelledName(labels: ApiObject): string {
  return textAt(labels, 'app.kubernetes.io/instance') || textAt(labels, 'app.kubernetes.io/name');
}

function containersOf(statuses: readonly unknown[], declared: readonly unknown[]): Container[] {
  return statuses.flatMap((status) => {
    const name = textAt(status, 'name');
    const specified = declared.find((container) => textAt(container, 'name') === name);
    const common = {
      name: shared.of(name),
      image: shared.of(textAt(specified, 'image') || textAt(status, 'image')),
      imageId: shared.of(withoutScheme(textAt(status, 'imageID'))),
    };
    const restarts = numberAt(status, 'restartCount') ?? 0;
    const id = containerId(textAt(status, 'containerID'));
    // Sockets of the container before the last restart may still be reported.
    const before = containerId(textAt(objectAt(objectAt(status, 'lastState'), 'terminated'), 'containerID'));
    const found: Container[] = [{ ...common, id, restarts }];
    if (before !== '' && before !== id) found.push({ ...common, id: before, restarts: Math.max(0, restarts - 1) });
    return found;
  });
}

/** `containerd://ID`, `cri-o://ID`, `docker://ID`. */
function containerId(text: string): string {
  return /^[a-z0-9-]+:\/\/([0-9a-f]{64})$/.exec(text)?.[1] ?? '';
}

function withoutScheme(imageId: string): string {
  return imageId.slice(imageId.indexOf('://') < 0 ? 0 : imageId.indexOf('://') + 3);
}

function textsOf(object: ApiObject): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(object).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

/** Without what may be large and says nothing of the pod: the applied manifest, the kubelet's own. */
function annotationsOf(object: ApiObject): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(textsOf(object)).filter(
      ([name]) => !/^kubectl\.kubernetes\.io\/|^kubernetes\.io\/config/.test(name),
    ),
  );
}
