/** The API server that the tests of Kubernetes talk to does what they take from it. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { KubernetesError, type KubernetesObject } from '../support/kubernetes/api.ts';
import {
  createEndpointSlice,
  createNamespace,
  createNode,
  createPod,
  createService,
  createWorkload,
  setPodStatus,
} from '../support/kubernetes/objects.ts';
import { type Cluster, startCluster } from '../support/kubernetes/server.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';

suite('a cluster without controllers', () => {
  const cleanup = new Cleanup();
  let cluster: Cluster;

  before(async () => {
    cluster = await startCluster(cleanup);
  });
  after(() => cleanup.run());

  test('workloads of all kinds, pods with their status, services', async () => {
    const { api } = cluster;
    await createNamespace(api, 'shop');
    const node = await createNode(api, 'node-a', ['10.0.0.1']);
    assert.equal((node.spec as { taints?: unknown }).taints, undefined);
    const named = (name: string, owner?: KubernetesObject) => ({
      name,
      namespace: 'shop',
      ...(owner ? { owner } : {}),
    });
    const deployment = await createWorkload(api, 'Deployment', named('cart'));
    const replicaSet = await createWorkload(api, 'ReplicaSet', named('cart-5d4f', deployment));
    const cronJob = await createWorkload(api, 'CronJob', named('report'));
    const job = await createWorkload(api, 'Job', named('report-1', cronJob));
    await createWorkload(api, 'StatefulSet', named('db'));
    await createWorkload(api, 'DaemonSet', named('logs'));
    assert.equal(job.metadata.ownerReferences?.[0]?.name, 'report');
    const options = {
      ...named('cart-5d4f-x', replicaSet),
      node: 'node-a',
      ip: '10.244.0.5',
      containers: [
        { name: 'migrate', kind: 'init' as const, id: 'containerd://0' },
        { name: 'proxy', kind: 'sidecar' as const, id: 'containerd://1' },
        { name: 'main', id: 'containerd://2' },
      ],
    };
    const pod = await createPod(api, options);
    const { status } = await setPodStatus(api, pod, {
      ...options,
      containers: [{ name: 'main', id: 'containerd://3' }],
    });
    const { podIP, containerStatuses } = status as { podIP: string; containerStatuses: { containerID: string }[] };
    assert.deepEqual([podIP, containerStatuses.map((each) => each.containerID)], ['10.244.0.5', ['containerd://3']]);
    const service = await createService(api, {
      ...named('cart'),
      ports: [{ port: 80, targetPort: 8080 }],
      clusterIp: '10.96.7.7',
    });
    assert.equal((service.spec as { clusterIP: string }).clusterIP, '10.96.7.7');
    await createEndpointSlice(api, {
      ...named('cart-1'),
      service: 'cart',
      ports: [{ port: 8080 }],
      endpoints: [{ ip: '10.244.0.5', node: 'node-a', pod }],
    });
    await api.delete(pod);
    await assert.rejects(api.get(pod), (error) => error instanceof KubernetesError && error.status === 404);
  });

  test('an account may do what its role says, with its token', async () => {
    const { api } = cluster;
    const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'reader', namespace: 'default' } };
    await api.create(account);
    const token = await cluster.tokenOf('default', 'reader');
    const reader = cluster.apiOf(token);
    const list = () => reader.request('GET', '/api/v1/pods');
    await assert.rejects(list(), (error) => error instanceof KubernetesError && error.status === 403);
    const rbac = 'rbac.authorization.k8s.io';
    const rules = [{ apiGroups: [''], resources: ['pods'], verbs: ['list'] }];
    await api.create({ apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name: 'pods' }, rules });
    await api.create({
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRoleBinding',
      metadata: { name: 'pods' },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'pods' },
      subjects: [{ kind: 'ServiceAccount', name: 'reader', namespace: 'default' }],
    });
    // The server hears of new roles by a watch of its own.
    await until(() => list().catch(() => undefined), 'the role counts');
    const tokenFile = join(cluster.folder, 'reader.token');
    await writeFile(tokenFile, token);
    assert.match(await readFile(await cluster.kubeconfigOf(tokenFile), 'utf8'), /reader\.token/);
  });

  test('what it does not know is an error, and a dry run stores nothing', async () => {
    const map = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'one' }, data: { key: 'value' } };
    await cluster.api.create(map, { dryRun: true });
    await assert.rejects(cluster.api.get(map), /404/);
    await assert.rejects(cluster.api.create({ ...map, datum: {} }, { dryRun: true }), /unknown field \\"datum\\"/);
    await assert.rejects(cluster.api.create({ ...map, kind: 'Nonesuch' }), /does not know v1 Nonesuch/);
  });

  test('both can be killed, and start again with what they knew', async () => {
    await cluster.apiServer.kill();
    await assert.rejects(cluster.api.request('GET', '/readyz'));
    await cluster.etcd.restart();
    await cluster.apiServer.start();
    await cluster.api.request('GET', '/api/v1/namespaces/shop');
  });
});
