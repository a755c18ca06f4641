/** Agents as a DaemonSet would have them: one per simulated node, with a ServiceAccount that may do what it needs and no more. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { objectsOf, renderChart } from '../chart/chart.ts';
import { type Agent, type AgentOptions, startAgent } from '../programs/agent.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import type { KubernetesObject } from './api.ts';
import { createNamespace } from './objects.ts';
import type { SimulatedNode } from './pods.ts';
import type { Cluster } from './server.ts';

/** The rights that the chart gives its agents. */
async function chartRole(): Promise<KubernetesObject> {
  const roles = objectsOf(await renderChart()).filter(({ kind }) => kind === 'ClusterRole');
  assert.equal(roles.length, 1, 'the ClusterRoles of the chart');
  return roles[0]!;
}

export interface AgentAccount {
  /** Of a kubeconfig that logs in by the token in the file. */
  kubeconfig: string;
  tokenFile: string;
  /** Takes the rights away, or gives them back. */
  allow(allowed: boolean): Promise<void>;
}

/** Makes a ServiceAccount, with the chart's ClusterRole and no other, and a kubeconfig. */
export async function agentAccount(cleanup: Cleanup, cluster: Cluster): Promise<AgentAccount> {
  const { api } = cluster;
  const [namespace, name] = ['wirespan', 'agent'];
  await createNamespace(api, namespace);
  await api.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } });
  const role = await api.create(await chartRole());
  const binding = {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role.metadata.name },
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
