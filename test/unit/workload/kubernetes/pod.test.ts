import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClusterNode, EndpointSlice, Service } from '../../../../src/workload/kubernetes/objects.ts';
import { NodePod, Pod } from '../../../../src/workload/kubernetes/pod.ts';
import { idOf, owner, podObject } from '../../../support/kubernetes/fixtures.ts';

const options = { nameFromLabels: false };
const pod = (fixture: Parameters<typeof podObject>[0]) => new Pod(podObject(fixture), options);
const nodePod = (fixture: Parameters<typeof podObject>[0]) => new NodePod(podObject(fixture), options);

test('what the library asks of an object is there, and nothing that is large', () => {
  const made = pod({ labels: { a: 'b' }, annotations: { big: 'x'.repeat(1000) } });
  assert.deepEqual(
    [made.metadata.namespace, made.metadata.name, made.metadata.resourceVersion],
    ['shop', 'cart-5d4f-x1', '7'],
  );
  assert.ok(JSON.stringify(made).length < 700, JSON.stringify(made));
});

test('addresses of both families; those of a pod in its node’s network are the node’s', () => {
  assert.deepEqual(pod({ ips: ['10.0.0.5', 'fd00::5'] }).addresses, ['10.0.0.5', 'fd00::5']);
  assert.deepEqual(pod({ ips: [] }).addresses, []);
  assert.deepEqual(pod({ status: { podIPs: undefined, podIP: '10.0.0.6' } }).addresses, ['10.0.0.6']);
  const host = pod({ ips: ['192.168.0.1'], hostNetwork: true, ports: [{ containerPort: 80, hostPort: 80 }] });
  assert.deepEqual([host.hostNetwork, host.hostPorts, host.hostAddresses], [true, [80], ['192.168.0.1']]);
});

test('when a pod has its address no more', () => {
  const finished = (time: string) => ({ name: 'main', state: { terminated: { finishedAt: time } } });
  const statuses = [finished('2026-01-01T00:01:00Z'), finished('2026-01-01T00:02:00Z')];
  assert.equal(pod({}).endMs, undefined);
  assert.equal(
    pod({ phase: 'Succeeded', status: { containerStatuses: statuses } }).endMs,
    Date.parse('2026-01-01T00:02:00Z'),
  );
  // A container that has ended is started again, until the pod is deleted.
  assert.equal(pod({ status: { containerStatuses: statuses } }).endMs, undefined);
  const deletion = { deletionTimestamp: '2026-01-01T00:05:30Z', deletionGracePeriodSeconds: 30 };
  const ending = pod({ metadata: deletion, status: { containerStatuses: statuses } });
  assert.equal(ending.endMs, Date.parse('2026-01-01T00:02:00Z'));
  assert.equal(ending.deletionMs, Date.parse('2026-01-01T00:05:00Z'));
  const running = pod({ metadata: deletion });
  assert.deepEqual([running.endMs, running.deletionMs], [undefined, Date.parse('2026-01-01T00:05:00Z')]);
  // Evicted before it ran.
  assert.equal(pod({ phase: 'Failed', status: { containerStatuses: [] } }).endMs, Date.parse('2026-01-01T00:00:00Z'));
});

test('the name that other agents give it', () => {
  const annotations = { 'resource.opentelemetry.io/service.name': 'annotated' };
  const labels = { 'app.kubernetes.io/name': 'labelled', 'app.kubernetes.io/instance': 'instance' };
  assert.equal(pod({ labels }).serviceName, '');
  assert.equal(new Pod(podObject({ labels }), { nameFromLabels: true }).serviceName, 'instance');
  assert.equal(new Pod(podObject({ labels, annotations }), { nameFromLabels: true }).serviceName, 'annotated');
  const env = [{ name: 'OTEL_SERVICE_NAME', value: 'said' }];
  assert.equal(pod({ labels, annotations, env }).serviceName, 'said');
  const derived = [
    { name: 'OTEL_SERVICE_NAME', value: '$(POD)' },
    { name: 'OTEL_SERVICE_NAME', valueFrom: {} },
  ];
  assert.equal(pod({ env: derived }).serviceName, '');
  const namespaced = pod({ annotations: { 'resource.opentelemetry.io/service.namespace': 'sales' } });
  assert.deepEqual([namespaced.serviceNamespace, pod({}).serviceNamespace], ['sales', 'shop']);
});

test('the Deployment whose ReplicaSet it is of, by the hash in both names', () => {
  const replicas = owner('ReplicaSet', 'cart-5d4f');
  assert.equal(pod({ owner: replicas, labels: { 'pod-template-hash': '5d4f' } }).stem, 'cart');
  assert.equal(pod({ owner: replicas, labels: { 'pod-template-hash': '4f' } }).stem, '');
  assert.equal(pod({ owner: replicas }).stem, '');
  assert.equal(pod({ owner: owner('StatefulSet', 'db-1'), labels: { 'pod-template-hash': '1' } }).stem, '');
});

test('containers of all kinds, started or not, and those before a restart', () => {
  const made = nodePod({ containers: { main: idOf(1), late: '' }, init: { setup: idOf(2), sidecar: idOf(3) } });
  assert.deepEqual(
    made.containers.map(({ name, id, image, restarts }) => [name, id.slice(-1), image, restarts]),
    [
      ['main', '1', 'example/cart:1.2', 2],
      ['late', '', 'example/cart:1.2', 2],
      ['setup', '2', 'example/cart:1.2', 2],
      ['sidecar', '3', 'example/cart:1.2', 2],
    ],
  );
  assert.equal(made.onlyContainer, '');
  assert.equal(made.containers[0]?.imageId, `docker.io/example/cart@sha256:${'0'.repeat(64)}`);
  const restarted = nodePod({
    status: {
      containerStatuses: [
        {
          name: 'main',
          containerID: `cri-o://${idOf(5)}`,
          restartCount: 3,
          lastState: { terminated: { containerID: `cri-o://${idOf(4)}` } },
        },
      ],
    },
  });
  assert.deepEqual(
    restarted.containers.map(({ id, restarts }) => [id.slice(-1), restarts]),
    [
      ['5', 3],
      ['4', 2],
    ],
  );
  assert.equal(restarted.onlyContainer, 'main');
});

test('the uids of a static pod’s mirror', () => {
  const hash = '6576683a93d91d8e2119df2c2755f2f1';
  const annotations = {
    'kubernetes.io/config.mirror': hash,
    'kubernetes.io/config.hash': hash,
    'kubernetes.io/config.source': 'file',
  };
  assert.deepEqual(nodePod({ uid: 'api', annotations }).uids, ['api', hash]);
  assert.deepEqual(nodePod({ uid: 'api' }).uids, ['api']);
});

test('annotations without the kubelet’s and kubectl’s own', () => {
  const annotations = {
    'kubectl.kubernetes.io/last-applied-configuration': '{}',
    'kubernetes.io/config.seen': 'x',
    a: 'b',
  };
  assert.deepEqual(nodePod({ annotations }).annotations, { a: 'b' });
});

test('Services, slices, nodes', () => {
  const service = new Service({
    metadata: { name: 'cart', namespace: 'shop' },
    spec: {
      clusterIP: '10.96.0.9',
      clusterIPs: ['10.96.0.9', 'fd01::9'],
      externalIPs: ['203.0.113.7'],
      ports: [{ port: 80, nodePort: 30080 }, { port: 81 }],
    },
    status: { loadBalancer: { ingress: [{ ip: '203.0.113.8' }, { hostname: 'lb.example' }] } },
  });
  assert.deepEqual(service.addresses, ['10.96.0.9', 'fd01::9', '203.0.113.7', '203.0.113.8']);
  assert.deepEqual(service.nodePorts, [30080]);
  assert.deepEqual(new Service({ metadata: { name: 'headless' }, spec: { clusterIPs: ['None'] } }).addresses, []);
  const slice = new EndpointSlice({
    metadata: { name: 'cart-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'cart' } },
    ports: [{ port: 8080 }],
    endpoints: [
      { addresses: ['10.0.0.5'], targetRef: { kind: 'Pod', name: 'cart-a' } },
      { addresses: ['172.16.0.9'] },
      ...Array.from({ length: 40 }, (_, i) => ({
        addresses: [`10.0.1.${i}`],
        targetRef: { kind: 'Pod', name: `p${i}` },
      })),
    ],
  });
  assert.deepEqual(
    [slice.service, slice.pods.length, slice.pods[0], slice.others],
    ['cart', 16, 'cart-a', ['172.16.0.9|8080']],
  );
  const node = new ClusterNode({
    metadata: { name: 'node-1' },
    status: {
      images: [{}],
      addresses: [
        { type: 'InternalIP', address: '192.168.0.1' },
        { type: 'Hostname', address: 'node-1' },
        { type: 'ExternalIP', address: '203.0.113.1' },
      ],
    },
  });
  assert.deepEqual(node.addresses, ['192.168.0.1', '203.0.113.1']);
});

test('objects of no known form are of no use, and do no harm', () => {
  for (const object of [
    {},
    { metadata: null },
    { metadata: [], spec: 'x', status: 7 },
    { spec: { containers: [null, 1, 'x'] }, status: { podIPs: {}, containerStatuses: [null] } },
  ]) {
    const made = new NodePod(object, options);
    assert.deepEqual([made.addresses, made.endMs, made.owner], [[], undefined, undefined]);
    assert.deepEqual(new Service(object).addresses, []);
    assert.deepEqual(new EndpointSlice(object).pods, []);
    assert.deepEqual(new ClusterNode(object).addresses, []);
  }
});
