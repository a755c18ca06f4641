import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchesLabels, parseLabelSelector } from '../../../../src/config/label-selector.ts';
import { type FilterOptions, PodFilter } from '../../../../src/workload/kubernetes/filter.ts';
import {
  Identities,
  type IdentityOptions,
  imageOf,
  nameOfOwners,
} from '../../../../src/workload/kubernetes/identity.ts';
import type { OwnerChain } from '../../../../src/workload/kubernetes/owners.ts';
import { NodePod } from '../../../../src/workload/kubernetes/pod.ts';
import { idOf, type PodFixture, podObject } from '../../../support/kubernetes/fixtures.ts';

const chain = (...owners: [string, string][]): OwnerChain => ({
  owners: owners.map(([kind, name]) => ({ kind, name })),
  certain: true,
});
const deployment = chain(['ReplicaSet', 'cart-5d4f'], ['Deployment', 'cart']);

function attributesOf(fixture: PodFixture, owners = deployment, options: Partial<IdentityOptions> = {}) {
  const pod = new NodePod(podObject(fixture), { nameFromLabels: false });
  const identities = new Identities({
    nodeName: 'node-1',
    clusterName: undefined,
    labels: [],
    annotations: [],
    serviceNameFromLabels: false,
    ...options,
  });
  return identities.attributesOf(pod, pod.containers[0], owners);
}

test('everything that is said of a container', () => {
  const fixture = {
    labels: { app: 'cart', 'app.kubernetes.io/version': '7' },
    annotations: { team: 'sales', other: 'x' },
  };
  const { service, measured } = attributesOf(fixture, deployment, {
    clusterName: 'prod',
    labels: ['app*'],
    annotations: ['team'],
  });
  assert.deepEqual(service, {
    'service.name': 'cart',
    'service.namespace': 'shop',
    'service.instance.id': 'shop.cart-5d4f-x1.main',
    'service.version': '7',
  });
  assert.deepEqual(measured, {
    'k8s.cluster.name': 'prod',
    'k8s.namespace.name': 'shop',
    'k8s.node.name': 'node-1',
    'k8s.pod.name': 'cart-5d4f-x1',
    'k8s.pod.uid': '2f1c9d1e-aaaa-bbbb-cccc-123456789012',
    'k8s.replicaset.name': 'cart-5d4f',
    'k8s.deployment.name': 'cart',
    'k8s.container.name': 'main',
    'k8s.container.restart_count': 2,
    'container.id': idOf(1),
    'container.image.name': 'example/cart',
    'container.image.tags': ['1.2'],
    'container.image.repo_digests': [`docker.io/example/cart@sha256:${'0'.repeat(64)}`],
    'k8s.pod.label.app': 'cart',
    'k8s.pod.label.app.kubernetes.io/version': '7',
    'k8s.pod.annotation.team': 'sales',
  });
});

test('service.name by its owners', () => {
  const names: [OwnerChain, string][] = [
    [deployment, 'cart'],
    [chain(['ReplicaSet', 'alone']), 'alone'],
    [chain(['StatefulSet', 'db']), 'db'],
    [chain(['DaemonSet', 'logs']), 'logs'],
    [chain(['Job', 'import-29000000'], ['CronJob', 'import']), 'import'],
    [chain(['Job', 'once']), 'once'],
    [chain(['ReplicaSet', 'cart-5d4f'], ['Rollout', 'cart']), 'cart'],
    [chain(['Spark', 'x']), 'x'],
    [chain(), ''],
  ];
  for (const [owners, name] of names) assert.equal(nameOfOwners(owners), name);
  assert.equal(attributesOf({}, chain()).service['service.name'], 'cart-5d4f-x1');
  assert.equal(attributesOf({}, chain(['Spark', 'x'])).measured['k8s.spark.name'], 'x');
});

test('service.name and version: annotations, then labels where they are asked for', () => {
  const labels = { 'app.kubernetes.io/name': 'labelled', 'app.kubernetes.io/version': '7' };
  const annotations = {
    'resource.opentelemetry.io/service.name': 'annotated',
    'resource.opentelemetry.io/service.version': '8',
    'resource.opentelemetry.io/service.namespace': 'sales',
    'resource.opentelemetry.io/deployment.environment.name': 'test',
  };
  assert.equal(attributesOf({ labels }).service['service.name'], 'cart');
  assert.equal(
    attributesOf({ labels }, deployment, { serviceNameFromLabels: true }).service['service.name'],
    'labelled',
  );
  const { service } = attributesOf({ labels, annotations }, deployment, { serviceNameFromLabels: true });
  assert.deepEqual(service, {
    'service.name': 'annotated',
    'service.namespace': 'sales',
    'service.instance.id': 'shop.cart-5d4f-x1.main',
    'service.version': '8',
    'deployment.environment.name': 'test',
  });
  assert.equal(attributesOf({}).service['service.version'], '1.2');
});

test('the name and the tag of an image', () => {
  assert.deepEqual(imageOf('registry:5000/example/cart:1.2@sha256:00'), {
    name: 'registry:5000/example/cart',
    tag: '1.2',
  });
  assert.deepEqual(imageOf('registry:5000/example/cart'), { name: 'registry:5000/example/cart', tag: '' });
  assert.deepEqual(imageOf('cart@sha256:00'), { name: 'cart', tag: '' });
  assert.deepEqual(imageOf('sha256:00'), { name: '', tag: '' });
  assert.deepEqual(imageOf(''), { name: '', tag: '' });
});

function watched(fixture: PodFixture, options: Partial<FilterOptions>, owners = deployment): string {
  const filter = new PodFilter({
    namespaces: [],
    excludeNamespaces: [],
    labelSelector: '',
    workloads: [],
    containers: [],
    excludeContainers: [],
    direction: 'both',
    ...options,
  });
  const pod = new NodePod(podObject(fixture), { nameFromLabels: false });
  const { in: incoming, out } = filter.decide(pod, 'main', owners);
  return `${incoming ? 'in' : ''}${out ? 'out' : ''}`;
}

test('what is watched', () => {
  assert.equal(watched({}, {}), 'inout');
  assert.equal(watched({}, { direction: 'in' }), 'in');
  assert.equal(watched({}, { direction: 'out' }), 'out');
  assert.equal(watched({ annotations: { 'wirespan.io/trace': 'false' } }, {}), '');
  assert.equal(watched({ annotations: { 'wirespan.io/trace': 'true' } }, {}), 'inout');
  for (const [options, no] of [
    [{ namespaces: ['shop', 'x'] }, { namespaces: ['sho'] }],
    [{ namespaces: ['sh*'] }, { namespaces: ['*.shop'] }],
    [{ excludeNamespaces: ['kube-*'] }, { excludeNamespaces: ['*'] }],
    [{ labelSelector: 'app=cart' }, { labelSelector: 'app!=cart' }],
    [{ workloads: ['cart'] }, { workloads: ['car'] }],
    [{ workloads: ['deployment/c*'] }, { workloads: ['statefulset/cart'] }],
    [{ workloads: ['Deployment/cart'] }, { workloads: ['cart-5d4f-x1'] }],
    [{ containers: ['main'] }, { containers: ['sidecar'] }],
    [{ excludeContainers: ['istio-proxy'] }, { excludeContainers: ['ma*'] }],
  ] as const) {
    assert.equal(watched({ labels: { app: 'cart' } }, options), 'inout', JSON.stringify(options));
    assert.equal(watched({ labels: { app: 'cart' } }, no), '', JSON.stringify(no));
  }
  assert.equal(watched({}, { workloads: ['pod/cart-5d4f-x1'] }, chain()), 'inout');
});

test('label selectors, as the API server takes them', () => {
  const labels = { app: 'shop', tier: 'web', 'example.com/zone': 'a' };
  const cases: [string, boolean][] = [
    ['', true],
    ['app=shop', true],
    ['app==shop, tier!=db', true],
    ['app!=shop', false],
    ['other!=x', true],
    ['tier in (web, db)', true],
    ['tier notin (web,db)', false],
    ['other notin (x)', true],
    ['app', true],
    ['!app', false],
    ['!other,example.com/zone=a', true],
    ['other', false],
    ['other=', false],
    ['app in (shop),tier in (db)', false],
  ];
  for (const [text, holds] of cases) {
    const selector = parseLabelSelector(text);
    assert.ok(selector !== undefined, text);
    assert.equal(matchesLabels(selector, labels), holds, text);
  }
  for (const text of [',', 'a=b,', 'a in b', 'a in (b', '=b', 'a=b c', 'a>1', '-a', 'a in (b),,c']) {
    assert.equal(parseLabelSelector(text), undefined, text);
  }
  assert.equal(matchesLabels(parseLabelSelector('toString')!, labels), false);
});
