/** Agents as a DaemonSet would have them: one per simulated node, with a ServiceAccount that may do what it needs and no more. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Agent, type AgentOptions, startAgent } from './agent.ts';
import type { Cleanup } from './cleanup.ts';
import type { Cluster } from './kubernetes.ts';
import { createNamespace } from './kubernetes-objects.ts';
import type { SimulatedNode } from './pods.ts';

/** What the agent asks the API server for. */
const RULES = [
  { apiGroups: [''], resources: ['pods', 'services', 'nodes'], verbs: ['list', 'watch'] },
  { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
  { apiGroups: ['apps'], resources: ['replicasets'], verbs: ['get'] },
  { apiGroups: ['batch'], resources: ['jobs'], verbs: ['get'] },
];

export interface AgentAccount {
  /** Of a kubeconfig that logs in by the token in the file. */
  kubeconfig: string;
  tokenFile: string;
  /** Takes the rights away, or gives them back. */
  allow(allowed: boolean): Promise<void>;
}

/** Makes the ServiceAccount, its rights, and a kubeconfig. */
export async function agentAccount(cleanup: Cleanup, cluster: Cluster): Promise<AgentAccount> {
  const { api } = cluster;
  const [namespace, name] = ['wirespan', 'agent'];
  await createNamespace(api, namespace);
  await api.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } });
  await api.create({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name },
    rules: RULES,
  });
  const binding = {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
    subjects: [{ kind: 'ServiceAccount', name, namespace }],
  };
  await api.create(binding);
  const tokenFile = join(await cleanup.temporaryFolder(), 'token');
  await writeFile(tokenFile, await cluster.tokenOf(namespace, name));
  return {
    kubeconfig: await cluster.kubeconfigOf(tokenFile),
    tokenFile,
    async allow(allowed) {
      if (allowed) await api.create(binding);
      else await api.delete(binding);
    },
  };
}

export interface NodeAgentOptions extends Omit<AgentOptions, 'args'> {
  kubeconfig: string;
  /** Lines of the section `kubernetes` of its configuration. */
  settings?: readonly string[];
  /** Further sections. */
  config?: string;
  args?: readonly string[];
  /** It sees the whole machine, as an agent on a node of its own does. */
  wholeMachine?: boolean;
}

/** Starts the agent of a node: it sees the node's cgroups only, unless told otherwise. */
export async function startNodeAgent(cleanup: Cleanup, node: SimulatedNode, options: NodeAgentOptions): Promise<Agent> {
  const { kubeconfig, settings = [], config = '', args = [], wholeMachine = false, ...others } = options;
  const lines = ['enabled: on', `kubeconfig: ${kubeconfig}`, `node_name: ${node.name}`, ...settings];
  const file = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
  await writeFile(file, `kubernetes:\n${lines.map((line) => `  ${line}\n`).join('')}${config}`);
  const scope = wholeMachine ? [] : ['--cgroup', node.cgroup];
  return startAgent(cleanup, { ...others, args: [...scope, '--config', file, ...args] });
}
