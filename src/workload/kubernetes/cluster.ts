/** Everything that the agent asks of a Kubernetes cluster, put together. */
import type { Limits } from '../../config/limits.ts';
import type { ReasonCounts } from '../../telemetry/counters.ts';
import type { Log } from '../../telemetry/log.ts';
import { Api } from './api.ts';
import { type KubeConfig, loadClient } from './client.ts';
import { type FilterOptions, PodFilter } from './filter.ts';
import { Identities } from './identity.ts';
import { Informer, type InformerHealth } from './informer.ts';
import { readKubeConfig } from './kubeconfig.ts';
import { NodePods } from './node-pods.ts';
import { type ApiObject, ClusterNode, type ClusterObject, EndpointSlice, Service } from './objects.ts';
import { Owners } from './owners.ts';
import { Peers } from './peers.ts';
import { NodePod, Pod } from './pod.ts';

/** `kubernetes` of the configuration has these keys. */
export interface ClusterOptions extends FilterOptions {
  readonly clusterName?: string | undefined;
  readonly peers: boolean;
  readonly labels: readonly string[];
  readonly annotations: readonly string[];
  readonly serviceNameFromLabels: boolean;
}

export interface ClusterParts {
  readonly options: ClusterOptions;
  readonly nodeName: string;
  /** `undefined`: the ServiceAccount of the agent's own pod. */
  readonly kubeconfig: string | undefined;
  readonly limits: Pick<
    Limits,
    'kubernetesObjects' | 'kubernetesDeparted' | 'kubernetesDepartedUs' | 'kubernetesOwners'
  >;
  readonly log: Pick<Log, 'warn' | 'debug'>;
  /** A whole collection of objects was read, which takes much more memory than what is kept of it. */
  readonly listed?: () => void;
}

export class Cluster {
  /** The pods of this node. */
  readonly pods: NodePods;
  /** Who has which address anywhere in the cluster; `undefined` when nobody wants to know. */
  readonly peers: Peers | undefined;
  readonly nodeName: string;
  /** `over_limit`, `owner_unknown`, `owner_queue_full`, `handler_failed`. */
  readonly counts: ReasonCounts = {};
  readonly #api: Api;
  readonly #owners: Owners;
  readonly #informers: Pick<Informer<ClusterObject>, 'start' | 'stop' | 'health'>[] = [];
  readonly #log: ClusterParts['log'];
  readonly #told = new Map<string, string>();

  /** @throws Error when the configuration of the connection cannot be read */
  static async open(parts: ClusterParts): Promise<Cluster> {
    const client = await loadClient();
    const configure = (): KubeConfig => readKubeConfig(client, parts.kubeconfig);
    // What is wrong with the file is reported now, not in the log of a watch.
    configure();
    return new Cluster(parts, new Api({ configure }), client);
  }

  private constructor(parts: ClusterParts, api: Api, client: Awaited<ReturnType<typeof loadClient>>) {
    const { options, nodeName, limits } = parts;
    const { counts } = this;
    this.nodeName = nodeName;
    this.#api = api;
    this.#log = parts.log;
    const onError = (name: string, error: Error, retryMs: number): void => this.#failed(name, error, retryMs);
    this.#owners = new Owners({
      api,
      limit: limits.kubernetesOwners,
      counts,
      resolved: (uid) => {
        this.pods.ownerResolved(uid);
        this.peers?.ownerResolved(uid);
      },
      onError: (error, retryMs) => onError('owners', error, retryMs),
    });
    const chainOf = this.#owners.chainOf.bind(this.#owners);
    const filter = new PodFilter(options);
    const identities = new Identities({ ...options, nodeName, clusterName: options.clusterName });
    this.pods = new NodePods({ identities, filter, chainOf, limits });
    this.peers = options.peers ? new Peers({ chainOf, limits }) : undefined;
    const podOptions = { nameFromLabels: options.serviceNameFromLabels };
    const common = { client, api, limit: limits.kubernetesObjects, counts, onError, listed: () => parts.listed?.() };
    const { peers, pods } = this;
    const nodePodSet = (pod: NodePod, changedMs?: number): void => {
      pods.set(pod);
      peers?.setPod(pod, changedMs);
    };
    this.#informers.push(
      new Informer<NodePod>({
        ...common,
        name: 'node_pods',
        path: '/api/v1/pods',
        fieldSelector: `spec.nodeName=${nodeName}`,
        record: (object) => new NodePod(object, podOptions),
        added: (pod) => nodePodSet(pod),
        changed: nodePodSet,
        removed: (pod, goneMs) => {
          pods.remove(pod);
          peers?.removePod(pod, goneMs);
        },
      }),
    );
    if (peers === undefined) return;
    const simple = <T extends ClusterObject>(
      name: string,
      path: string,
      record: (object: ApiObject) => T,
      set: (object: T, changedMs?: number) => void,
      removed: (object: T, goneMs: number) => void,
      fieldSelector?: string,
    ): Informer<T> =>
      new Informer<T>({
        ...common,
        name,
        path,
        record,
        added: (object) => set(object),
        changed: set,
        removed,
        ...(fieldSelector && { fieldSelector }),
      });
    this.#informers.push(
      simple(
        'pods',
        '/api/v1/pods',
        (object) => new Pod(object, podOptions),
        (pod, changedMs) => peers.setPod(pod, changedMs),
        (pod, goneMs) => peers.removePod(pod, goneMs),
        `spec.nodeName!=${nodeName}`,
      ),
      simple(
        'services',
        '/api/v1/services',
        (object) => new Service(object),
        (service) => peers.setService(service),
        (service) => peers.removeService(service),
      ),
      simple(
        'endpointslices',
        '/apis/discovery.k8s.io/v1/endpointslices',
        (object) => new EndpointSlice(object),
        (slice) => peers.setSlice(slice),
        (slice) => peers.removeSlice(slice),
      ),
      simple(
        'nodes',
        '/api/v1/nodes',
        (object) => new ClusterNode(object),
        (node) => peers.setNode(node),
        (node) => peers.removeNode(node),
      ),
    );
  }

  start(): void {
    for (const informer of this.#informers) informer.start();
  }

  async stop(): Promise<void> {
    this.#owners.stop();
    await Promise.all(this.#informers.map((informer) => informer.stop()));
    this.#api.close();
  }

  /** Time passes; to be called several times a minute. */
  tick(): void {
    this.pods.tick();
    this.peers?.tick();
  }

  health(): InformerHealth[] {
    return this.#informers.map((informer) => informer.health);
  }

  /** What the statistics say of it. */
  stats(): Readonly<Record<string, unknown>> {
    return { ...this.counts, informers: this.health() };
  }

  /** Says what is wrong, once. */
  #failed(name: string, error: Error, retryMs: number): void {
    const details = { of: name, why: error.message, retry_ms: retryMs };
    if (this.#told.get(name) === error.message) this.#log.debug('the API server cannot be asked', details);
    else this.#log.warn('the API server cannot be asked; what is known of the cluster goes on to be used', details);
    this.#told.set(name, error.message);
  }
}
