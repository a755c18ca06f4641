import { existsSync } from 'node:fs';

/** Where the API server is found, and as which node's agent. */
export interface ClusterPlace {
  /** `undefined`: no cluster is asked, because of `why`. */
  readonly nodeName: string | undefined;
  /** `undefined`: by the ServiceAccount of the agent's own pod. */
  readonly kubeconfig: string | undefined;
  readonly why: string | undefined;
}

/** `kubernetes` of the configuration has these keys. */
export interface ClusterPlaceOptions {
  readonly enabled: 'auto' | 'on' | 'off';
  readonly kubeconfig?: string | undefined;
  readonly nodeName?: string | undefined;
}

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/**
 * @param environment of this process: the kubelet names the API server to every pod
 * @throws Error for people when a cluster is to be asked and cannot be
 */
export function clusterPlace(
  { enabled, kubeconfig, nodeName }: ClusterPlaceOptions,
  environment: Readonly<Record<string, string | undefined>>,
  isThere: (path: string) => boolean = existsSync,
): ClusterPlace {
  const none = (why: string): ClusterPlace => ({ nodeName: undefined, kubeconfig: undefined, why });
  if (enabled === 'off') return none('kubernetes.enabled is off');
  let why = '';
  if (kubeconfig === undefined && !(environment.KUBERNETES_SERVICE_HOST && isThere(SERVICE_ACCOUNT_TOKEN))) {
    why = 'this is no pod with a ServiceAccount, and kubernetes.kubeconfig names no other way to an API server';
  } else if (nodeName === undefined) {
    why =
      'the name of this node is not known: set kubernetes.node_name, or NODE_NAME by the downward API (fieldRef: spec.nodeName)';
  } else {
    return { nodeName, kubeconfig, why: undefined };
  }
  // With a kubeconfig somebody wants a cluster; a pod without the name of its node may have been started for anything.
  if (enabled === 'on' || kubeconfig !== undefined) throw new Error(`kubernetes: ${why}`);
  return none(why);
}
