import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FilterOptions, PodFilter } from '../../../../src/workload/kubernetes/filter.ts';
import { Identities } from '../../../../src/workload/kubernetes/identity.ts';
import { NodePods } from '../../../../src/workload/kubernetes/node-pods.ts';
import type { OwnerChain } from '../../../../src/workload/kubernetes/owners.ts';
import { NodePod } from '../../../../src/workload/kubernetes/pod.ts';
import { idOf, owner, type PodFixture, podObject } from '../../../support/kubernetes/fixtures.ts';

const filterOptions: FilterOptions = {
  namespaces: [],
  excludeNamespaces: [],
  labelSelector: '',
  workloads: [],
  containers: [],
  excludeContainers: [],
  direction: 'both',
};
const pod = (fixture: PodFixture = {}) => new NodePod(podObject(fixture), { nameFromLabels: false });
const uid = '2f1c9d1e-aaaa-bbbb-cccc-123456789012';

function directory(
  options: { chainOf?: (pod: NodePod) => OwnerChain; filter?: Partial<FilterOptions>; departed?: number } = {},
) {
  const clock = { nowMs: 0 };
  const pods = new NodePods({
    identities: new Identities({
      nodeName: 'node-1',
      clusterName: undefined,
      labels: ['*'],
      annotations: [],
      serviceNameFromLabels: false,
    }),
    filter: new PodFilter({ ...filterOptions, ...options.filter }),
    chainOf: options.chainOf ?? (() => ({ owners: [], certain: true })),
    limits: { kubernetesDeparted: options.departed ?? 100, kubernetesDepartedUs: 60_000_000 },
    now: () => clock.nowMs,
  });
  const say = (containerId: string | undefined, podUid = uid) => {
    const found = pods.find({ uid: podUid, containerId });
    return (
      found &&
      `${found.measured['k8s.pod.name']}/${found.measured['k8s.container.name'] ?? '?'}${found.certain ? '' : ' maybe'}`
    );
  };
  return { pods, say, clock };
}

test('containers of all kinds by their ids', () => {
  const { pods, say } = directory();
  assert.equal(say(idOf(1)), undefined);
  pods.set(pod({ containers: { main: idOf(1) }, init: { setup: idOf(2), sidecar: idOf(3) } }));
  assert.deepEqual(
    [idOf(1), idOf(2), idOf(3)].map((id) => say(id)),
    ['cart-5d4f-x1/main', 'cart-5d4f-x1/setup', 'cart-5d4f-x1/sidecar'],
  );
  // From a cgroup namespace of the pod itself, only the container's id is seen.
  assert.equal(say(idOf(1), ''), 'cart-5d4f-x1/main');
});

test('a container that the status does not name yet: by the pod, and for certain when it can only be that one', () => {
  const { pods, say } = directory();
  pods.set(pod({ containers: { main: '' } }));
  assert.equal(say(idOf(9)), 'cart-5d4f-x1/main');
  assert.equal(pods.find({ uid, containerId: idOf(9) })?.measured['container.id'], idOf(9));
  pods.set(pod({ uid: 'two', name: 'two', containers: { a: '', b: '' } }));
  assert.equal(say(idOf(8), 'two'), 'two/? maybe');
  pods.set(pod({ uid: 'two', name: 'two', containers: { a: '', b: idOf(8) } }));
  assert.equal(say(idOf(8), 'two'), 'two/b');
  // What is in the pod's own group is in no container.
  assert.equal(say(undefined, 'two'), 'two/?');
});

test('a restarted container has another id under the same pod; the one before keeps its name', () => {
  const { pods, say } = directory();
  pods.set(pod({ containers: { main: idOf(1), other: idOf(5) } }));
  assert.equal(say(idOf(1)), 'cart-5d4f-x1/main');
  assert.equal(say(idOf(2)), 'cart-5d4f-x1/? maybe');
  pods.set(pod({ containers: { main: idOf(2), other: idOf(5) } }));
  assert.equal(say(idOf(2)), 'cart-5d4f-x1/main');
  assert.equal(say(idOf(1)), 'cart-5d4f-x1/main');
  // One that crashes for ever.
  for (let i = 10; i < 1000; i++) pods.set(pod({ containers: { main: idOf(i), other: idOf(5) } }));
  assert.equal(say(idOf(999)), 'cart-5d4f-x1/main');
});

test('a container keeps its name, however often another of its pod is started again', () => {
  const { pods, say } = directory();
  for (let i = 10; i < 1000; i++) {
    pods.set(pod({ containers: { agent: idOf(5), main: idOf(i) } }));
    assert.deepEqual([say(idOf(5), ''), say(idOf(i), '')], ['cart-5d4f-x1/agent', 'cart-5d4f-x1/main']);
  }
});

test('static pods by the hash of their manifest', () => {
  const hash = '6576683a93d91d8e2119df2c2755f2f1';
  const { pods, say } = directory();
  pods.set(
    pod({
      name: 'etcd-node-1',
      uid: 'api',
      containers: { etcd: '' },
      annotations: { 'kubernetes.io/config.mirror': hash },
    }),
  );
  assert.equal(say(idOf(1), hash), 'etcd-node-1/etcd');
  assert.equal(pods.find({ uid: hash, containerId: idOf(1) })?.measured['k8s.pod.uid'], 'api');
});

test('the same identity as long as it is the same, whatever the status says', () => {
  const { pods } = directory();
  pods.set(pod());
  const first = pods.find({ uid, containerId: idOf(1) });
  const { revision } = pods;
  pods.set(pod({ status: { conditions: [{ type: 'Ready', status: 'False' }] } }));
  assert.notEqual(pods.revision, revision);
  assert.equal(pods.find({ uid, containerId: idOf(1) }), first);
  pods.set(pod({ labels: { stage: 'two' } }));
  const second = pods.find({ uid, containerId: idOf(1) });
  assert.notEqual(second, first);
  assert.equal(second?.measured['k8s.pod.label.stage'], 'two');
});

test('a pod that is gone keeps its identity for a while; one of its name is another', () => {
  const { pods, say, clock } = directory();
  pods.set(pod({ name: 'db-0', uid: 'first', containers: { main: idOf(1) } }));
  pods.set(pod({ name: 'db-0', uid: 'second', containers: { main: idOf(2) }, labels: { n: '2' } }));
  assert.equal(pods.find({ uid: 'first', containerId: idOf(1) })?.measured['k8s.pod.uid'], 'first');
  assert.equal(pods.find({ uid: 'second', containerId: idOf(2) })?.measured['k8s.pod.uid'], 'second');
  // What is said late of the first is not said of the second.
  pods.remove(pod({ name: 'db-0', uid: 'first' }));
  assert.equal(say(idOf(2), 'second'), 'db-0/main');
  clock.nowMs = 61_000;
  pods.tick();
  assert.equal(say(idOf(1), 'first'), undefined);
  assert.equal(say(idOf(2), 'second'), 'db-0/main');
});

test('so many that are gone, and no more', () => {
  const { pods, say } = directory({ departed: 3 });
  for (let i = 0; i < 10; i++) {
    const made = pod({ name: `p${i}`, uid: `u${i}`, containers: { main: idOf(i + 1) } });
    pods.set(made);
    pods.remove(made);
  }
  assert.deepEqual(Array.from({ length: 10 }, (_, i) => say(idOf(i + 1), `u${i}`)).filter(Boolean), [
    'p7/main',
    'p8/main',
    'p9/main',
  ]);
});

test('an owner that becomes known', () => {
  let chain: OwnerChain = { owners: [{ kind: 'ReplicaSet', name: 'cart-5d4f' }], certain: false };
  const { pods } = directory({ chainOf: () => chain });
  pods.set(pod({ owner: owner('ReplicaSet', 'cart-5d4f') }));
  const first = pods.find({ uid, containerId: idOf(1) });
  assert.deepEqual([first?.certain, first?.service['service.name']], [false, 'cart-5d4f']);
  chain = { owners: [...chain.owners, { kind: 'Deployment', name: 'cart' }], certain: true };
  pods.ownerResolved('ReplicaSet-cart-5d4f');
  const second = pods.find({ uid, containerId: idOf(1) });
  assert.deepEqual([second?.certain, second?.service['service.name']], [true, 'cart']);
});

test('what is watched goes with the identity', () => {
  const { pods } = directory({ filter: { namespaces: ['shop'] } });
  pods.set(pod({ containers: { main: idOf(1) } }));
  pods.set(pod({ name: 'x', namespace: 'other', uid: 'x', containers: { main: idOf(2) } }));
  const watched = (id: string) => pods.find({ uid: '', containerId: id })?.watched;
  assert.deepEqual(
    [watched(idOf(1)), watched(idOf(2))],
    [
      { in: true, out: true },
      { in: false, out: false },
    ],
  );
  assert.deepEqual(pods.outsidePods, { in: false, out: false });
  assert.deepEqual(directory({ filter: { excludeNamespaces: ['x'] } }).pods.outsidePods, { in: true, out: true });
});
