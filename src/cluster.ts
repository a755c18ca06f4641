/** What the agent asks of a Kubernetes cluster, where there is one: a part of its composition root. */
import { findCgroupRoot } from './capture/cgroup.ts';
import { releaseMemory } from './capture/native.ts';
import type { CaptureSource } from './capture/source.ts';
import type { Config } from './config/schema.ts';
import type { Log } from './telemetry/log.ts';
import { CgroupDirectories } from './workload/cgroups.ts';
import { clusterPlace } from './workload/cluster-place.ts';
import type { Cluster } from './workload/kubernetes/cluster.ts';
import type { KubernetesOptions } from './workload/workloads.ts';

/** So long after the last list of several that come together. */
const RELEASE_MS = 2000;

/** @returns `undefined` where there is no cluster to ask; @throws Error for people where there should be one */
export async function openCluster({ kubernetes, limits }: Config, log: Log): Promise<Cluster | undefined> {
  const { nodeName, kubeconfig, why } = clusterPlace(kubernetes, process.env);
  if (why !== undefined) log.debug('no Kubernetes cluster is asked', { why });
  if (nodeName === undefined) return undefined;
  // What it needs is large, and not needed elsewhere.
  const { Cluster } = await import('./workload/kubernetes/cluster.ts');
  let release: NodeJS.Timeout | undefined;
  const listed = (): void => {
    clearTimeout(release);
    release = setTimeout(releaseMemory, RELEASE_MS).unref();
  };
  return Cluster.open({ options: kubernetes, nodeName, kubeconfig, limits, log, listed });
}

/** For the owners of sockets: the pods of this node, and the means to ignore those that are not watched. */
export function followPods(cluster: Cluster, { kubernetes }: Config, capture: CaptureSource): KubernetesOptions {
  const cgroups = new CgroupDirectories(findCgroupRoot());
  return {
    pods: cluster.pods,
    waitMs: kubernetes.waitMs,
    cgroupById: (id) => cgroups.byId(id),
    ignoreCgroup: (id, ignored) => capture.ignoreCgroup(id, ignored),
  };
}
