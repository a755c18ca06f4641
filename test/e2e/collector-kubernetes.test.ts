/** The gateway's Kubernetes metadata, with a real Collector and a real API server: a span gets that of its own pod, never of the agent's. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';
import { fileBackend, startCollector } from '../support/backends/collector.ts';
import { createNamespace, createNode, createPod, createWorkload } from '../support/kubernetes/objects.ts';
import { type Cluster, startCluster } from '../support/kubernetes/server.ts';
import { exportSpans, someSpan } from '../support/otlp/export.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';

/** The gateway's account with the rights that its configuration names; returns its kubeconfig. */
async function gatewayAccount({ api, folder, tokenOf, kubeconfigOf }: Cluster): Promise<string> {
  const named = { name: 'gateway', namespace: 'default' };
  await api.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: named });
  const rbac = 'rbac.authorization.k8s.io';
  const rules = [{ apiGroups: [''], resources: ['pods', 'namespaces'], verbs: ['get', 'list', 'watch'] }];
  await api.create({ apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name: 'gateway' }, rules });
  await api.create({
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name: 'gateway' },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'gateway' },
    subjects: [{ kind: 'ServiceAccount', ...named }],
  });
  const tokenFile = join(folder, 'gateway.token');
  await writeFile(tokenFile, await tokenOf('default', 'gateway'));
  return kubeconfigOf(tokenFile);
}

test('agent-to-gateway.yaml in a cluster', async (t) => {
  const cleanup = cleanupAfter(t);
  const cluster = await startCluster(cleanup);
  const { api } = cluster;
  for (const namespace of ['shop', 'observability']) await createNamespace(api, namespace);
  await createNode(api, 'node-a', ['127.0.0.1']);
  const inShop = { namespace: 'shop', node: 'node-a' };
  const deployment = await createWorkload(api, 'Deployment', { name: 'cart', namespace: 'shop' });
  const replicaSet = await createWorkload(api, 'ReplicaSet', {
    name: 'cart-5d4f7c9b8',
    namespace: 'shop',
    owner: deployment,
    labels: { 'pod-template-hash': '5d4f7c9b8' },
  });
  const containerId = '0123456789abcdef'.repeat(4);
  const cart = await createPod(api, {
    ...inShop,
    name: 'cart-5d4f7c9b8-x1y2z',
    owner: replicaSet,
    labels: { 'pod-template-hash': '5d4f7c9b8' },
    annotations: { 'resource.opentelemetry.io/deployment.environment.name': 'staging' },
    ip: '10.244.0.5',
    containers: [{ name: 'main', image: 'registry.example/cart:1.7.3', id: `containerd://${containerId}` }],
  });
  // Its address is that of the connection over which all spans come.
  await createPod(api, {
    name: 'wirespan-agent-a',
    namespace: 'observability',
    node: 'node-a',
    ip: '127.0.0.1',
    containers: [{ name: 'agent', id: `containerd://${'f'.repeat(64)}` }],
  });

  const backend = await fileBackend(cleanup);
  const collector = await startCollector(cleanup, 'agent-to-gateway.yaml', {
    ...backend,
    env: {
      ...backend.env,
      TRACES_PROCESSORS: '[memory_limiter, k8s_attributes]',
      K8S_AUTH_TYPE: 'kubeConfig',
      KUBECONFIG: await gatewayAccount(cluster),
    },
  });
  const of = (name: string, attributes: Record<string, string>): ReadableSpan => ({
    ...someSpan(0),
    resource: resourceFromAttributes({ 'service.name': name, ...attributes }),
  });
  const sent = [
    of('by-pod', { 'k8s.pod.uid': String(cart.metadata.uid) }),
    of('by-container', { 'container.id': containerId }),
    of('in-no-pod', { 'host.name': 'node-a' }),
    of('of-unknown-container', { 'container.id': 'a'.repeat(64) }),
  ];
  assert.equal(await exportSpans(collector.endpoint, sent), 0);
  const spans = await until(async () => {
    const now = await backend.spans();
    return now.length >= sent.length ? now : undefined;
  }, 'the spans');
  const resources = new Map(spans.map(({ resource }) => [String(resource['service.name']), resource]));
  const pod = {
    'k8s.namespace.name': 'shop',
    'k8s.pod.name': 'cart-5d4f7c9b8-x1y2z',
    'k8s.pod.uid': cart.metadata.uid,
    'k8s.node.name': 'node-a',
    'k8s.deployment.name': 'cart',
    'service.namespace': 'shop',
    'deployment.environment.name': 'staging',
  };
  const container = {
    'container.id': containerId,
    'container.image.name': 'registry.example/cart',
    'k8s.container.name': 'main',
  };
  const byPod = resources.get('by-pod');
  const byContainer = resources.get('by-container');
  for (const [key, value] of Object.entries(pod)) {
    assert.equal(byPod?.[key], value, key);
    assert.equal(byContainer?.[key], value, key);
  }
  for (const [key, value] of Object.entries(container)) assert.equal(byContainer?.[key], value, key);
  // What the agent says stands.
  assert.deepEqual([byPod?.['service.name'], byContainer?.['service.name']], ['by-pod', 'by-container']);
  assert.deepEqual(resources.get('in-no-pod'), { 'service.name': 'in-no-pod', 'host.name': 'node-a' });
  assert.deepEqual(resources.get('of-unknown-container'), {
    'service.name': 'of-unknown-container',
    'container.id': 'a'.repeat(64),
  });
});
