import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClusterNode, EndpointSlice, Service } from '../../../../src/workload/kubernetes/objects.ts';
import type { OwnerChain } from '../../../../src/workload/kubernetes/owners.ts';
import { Peers } from '../../../../src/workload/kubernetes/peers.ts';
import { Pod } from '../../../../src/workload/kubernetes/pod.ts';
import { owner, type PodFixture, podObject } from '../../../support/kubernetes/fixtures.ts';

const T0 = Date.parse('2026-01-01T00:10:00Z');
const limits = { kubernetesDeparted: 100, kubernetesDepartedUs: 300_000_000 };

const pod = (name: string, fixture: PodFixture = {}) =>
  new Pod(podObject({ name, uid: name, owner: owner('StatefulSet', name.replace(/-\d+$/, '')), ...fixture }), {
    nameFromLabels: false,
  });

function service(name: string, ips: readonly string[], more: object = {}, namespace = 'shop'): Service {
  return new Service({ metadata: { name, namespace }, spec: { clusterIPs: ips, ...more } });
}

function slice(
  of: string,
  name: string,
  pods: readonly string[],
  others: readonly string[] = [],
  port = 8080,
): EndpointSlice {
  return new EndpointSlice({
    metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': of } },
    ports: [{ port }],
    endpoints: [
      ...pods.map((each) => ({ addresses: ['10.9.9.9'], targetRef: { kind: 'Pod', name: each } })),
      ...others.map((address) => ({ addresses: [address] })),
    ],
  });
}

const node = (name: string, addresses: readonly string[]) =>
  new ClusterNode({
    metadata: { name },
    status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address })) },
  });

function directory(
  chainOf = ({ owner: of }: Pod): OwnerChain => ({ owners: of === undefined ? [] : [of], certain: true }),
) {
  let nowMs = T0;
  const peers = new Peers({ chainOf, limits, now: () => nowMs });
  return {
    peers,
    at: (ms: number) => {
      nowMs = ms;
    },
    say: (address: string, port = 0, ms = nowMs) => {
      const found = peers.find(address, port, ms);
      return (
        found &&
        `${found.name}${found.namespace && `.${found.namespace}`}${found.serviceName && ` by ${found.serviceName}`}`
      );
    },
  };
}

test('a pod by each of its addresses', () => {
  const { peers, say } = directory();
  peers.setPod(pod('cart-0', { ips: ['10.0.0.5', 'fd00::5'] }));
  assert.deepEqual([say('10.0.0.5'), say('fd00::5', 8080), say('10.0.0.6')], ['cart.shop', 'cart.shop', undefined]);
  // Before it was there.
  assert.equal(say('10.0.0.5', 0, Date.parse('2025-12-31T23:59:59Z')), undefined);
  peers.setPod(pod('cart-0', { ips: ['10.0.0.6'] }));
  assert.deepEqual([say('10.0.0.5'), say('10.0.0.6')], [undefined, 'cart.shop']);
});

test('a pod that is gone keeps its address for connections that began before', () => {
  const { peers, say, at } = directory();
  peers.setPod(pod('cart-0'));
  at(T0 + 5000);
  peers.removePod(pod('cart-0'), T0 + 5000);
  assert.deepEqual([say('10.0.0.5', 0, T0), say('10.0.0.5', 0, T0 + 5000)], ['cart.shop', undefined]);
  peers.setPod(pod('other-0'));
  assert.deepEqual([say('10.0.0.5', 0, T0), say('10.0.0.5')], ['cart.shop', 'other.shop']);
  at(T0 + 400_000);
  peers.tick();
  assert.equal(say('10.0.0.5', 0, T0), undefined);
});

test('one of the same name that takes its place is another', () => {
  const { peers, say, at } = directory();
  peers.setPod(pod('db-0', { uid: 'first' }));
  at(T0 + 1000);
  peers.setPod(pod('db-0', { uid: 'second', ips: ['10.0.0.9'] }));
  assert.deepEqual([say('10.0.0.5', 0, T0), say('10.0.0.5'), say('10.0.0.9')], ['db.shop', undefined, 'db.shop']);
  // What is said late of the first one does not touch the second.
  peers.removePod(pod('db-0', { uid: 'first' }), T0 + 2000);
  assert.equal(say('10.0.0.9'), 'db.shop');
});

test('of one whose place was taken while nobody watched, not even the name says how long it had its address', () => {
  const { peers, say, at } = directory();
  peers.setPod(pod('db-0', { uid: 'first' }));
  at(T0 + 60_000);
  peers.setPod(pod('db-0', { uid: 'second', ips: ['10.0.0.9'] }), T0 + 1000);
  peers.setPod(pod('other-0'));
  assert.deepEqual(
    [T0, T0 + 1000, T0 + 59_000, T0 + 60_000].map((ms) => say('10.0.0.5', 0, ms)),
    ['db.shop', undefined, undefined, 'other.shop'],
  );
});

test('a pod that ended before takes its address from nobody when it is heard of later', () => {
  const { peers, say } = directory();
  const finished = [{ name: 'main', state: { terminated: { finishedAt: '2026-01-01T00:01:00Z' } } }];
  const job = pod('job-0', { phase: 'Succeeded', status: { containerStatuses: finished } });
  peers.setPod(pod('cart-0', { start: '2026-01-01T00:05:00Z' }));
  peers.setPod(job);
  peers.setPod(job);
  assert.deepEqual(
    [say('10.0.0.5'), say('10.0.0.5', 0, Date.parse('2026-01-01T00:06:00Z'))],
    ['cart.shop', 'cart.shop'],
  );
  peers.removePod(job, T0);
  assert.equal(say('10.0.0.5'), 'cart.shop');
  peers.removePod(pod('cart-0'), T0 - 1000);
  assert.equal(say('10.0.0.5'), undefined);
});

test('a pod that has ended has no address, even before it is deleted', () => {
  const { peers, say } = directory();
  peers.setPod(pod('job-0'));
  const ended = {
    containerStatuses: [{ name: 'main', state: { terminated: { finishedAt: '2026-01-01T00:09:00Z' } } }],
  };
  peers.setPod(pod('job-0', { phase: 'Succeeded', status: ended }));
  assert.deepEqual([say('10.0.0.5'), say('10.0.0.5', 0, Date.parse('2026-01-01T00:08:00Z'))], [undefined, 'job.shop']);
});

test('nodes; pods in their network by ports that they declare, others by their host ports', () => {
  const { peers, say } = directory();
  peers.setNode(node('node-1', ['192.168.0.1', 'fd02::1']));
  peers.setPod(
    pod('proxy-0', { ips: ['192.168.0.1'], hostNetwork: true, ports: [{ containerPort: 9100, hostPort: 9100 }] }),
  );
  peers.setPod(pod('dns-0', { ports: [{ containerPort: 53, hostPort: 5353 }] }));
  assert.equal(say('192.168.0.1', 9100), 'proxy.shop');
  assert.equal(say('192.168.0.1', 5353), 'dns.shop');
  assert.equal(say('192.168.0.1', 22), 'node-1');
  // A client's port says nothing.
  assert.equal(say('192.168.0.1'), 'node-1');
  assert.equal(say('fd02::1'), 'node-1');
  peers.removePod(pod('proxy-0', { ips: ['192.168.0.1'], hostNetwork: true, ports: [{ hostPort: 9100 }] }), T0);
  assert.equal(say('192.168.0.1', 9100), 'node-1');
  peers.setNode(node('node-1', ['192.168.0.2']));
  assert.deepEqual([say('192.168.0.1'), say('192.168.0.2')], [undefined, 'node-1']);
  peers.removeNode(node('node-1', []));
  assert.equal(say('192.168.0.2'), undefined);
});

test('a Service by what stands behind it, or by itself', () => {
  const { peers, say } = directory();
  peers.setService(service('cart', ['10.96.0.9', 'fd01::9']));
  assert.equal(say('10.96.0.9', 80), 'cart.shop by cart');
  peers.setPod(pod('basket-0', { ips: ['10.0.0.5'] }));
  peers.setPod(
    pod('basket-1', { ips: ['10.0.0.6'], annotations: { 'resource.opentelemetry.io/service.namespace': 'shop' } }),
  );
  peers.setSlice(slice('cart', 'cart-1', ['basket-0']));
  peers.setSlice(slice('cart', 'cart-2', ['basket-1', 'unknown-0']));
  assert.equal(say('10.96.0.9', 80), 'basket.shop by cart');
  assert.equal(say('fd01::9', 443), 'basket.shop by cart');
  peers.setPod(pod('other-0', { ips: ['10.0.0.7'] }));
  peers.setSlice(slice('cart', 'cart-2', ['other-0']));
  assert.equal(say('10.96.0.9', 80), 'cart.shop by cart');
  peers.removeSlice(slice('cart', 'cart-2', []));
  assert.equal(say('10.96.0.9', 80), 'basket.shop by cart');
  peers.removeService(service('cart', []));
  assert.equal(say('10.96.0.9', 80), undefined);
  // It is there again, and so is what was behind it.
  peers.setService(service('cart', ['10.96.0.10']));
  assert.equal(say('10.96.0.10', 80), 'basket.shop by cart');
});

test('slices that come before their Service', () => {
  const { peers, say } = directory();
  peers.setPod(pod('basket-0'));
  peers.setSlice(slice('cart', 'cart-1', ['basket-0']));
  peers.setSlice(slice('cart', 'cart-2', ['gone-0']));
  peers.removeSlice(slice('cart', 'cart-2', []));
  peers.setService(service('cart', ['10.96.0.9']));
  assert.equal(say('10.96.0.9'), 'basket.shop by cart');
});

test('NodePorts, external and load balancer addresses', () => {
  const { peers, say } = directory();
  peers.setNode(node('node-1', ['192.168.0.1']));
  peers.setService(
    service('cart', ['10.96.0.9'], { externalIPs: ['203.0.113.7'], ports: [{ port: 80, nodePort: 30080 }] }),
  );
  assert.deepEqual([say('192.168.0.1', 30080), say('203.0.113.7', 80)], ['cart.shop by cart', 'cart.shop by cart']);
  // Only at a node.
  assert.equal(say('8.8.8.8', 30080), undefined);
  peers.setService(service('cart', ['10.96.0.9'], { ports: [{ port: 80, nodePort: 30081 }] }));
  assert.deepEqual(
    [say('192.168.0.1', 30080), say('192.168.0.1', 30081), say('203.0.113.7')],
    ['node-1', 'cart.shop by cart', undefined],
  );
});

test('a Service before something outside of the cluster, by both of its addresses', () => {
  const { peers, say } = directory();
  peers.setService(service('billing-db', ['10.96.0.11']));
  peers.setSlice(slice('billing-db', 'x', [], ['172.16.0.9'], 5432));
  assert.equal(say('10.96.0.11', 5432), 'billing-db.shop by billing-db');
  assert.equal(say('172.16.0.9', 5432), 'billing-db.shop by billing-db');
  assert.equal(say('172.16.0.9', 22), undefined);
  peers.setSlice(slice('billing-db', 'x', [], ['172.16.0.10'], 5432));
  assert.deepEqual([say('172.16.0.9', 5432), say('172.16.0.10', 5432)], [undefined, 'billing-db.shop by billing-db']);
});

test('an address that another Service has taken over stays its', () => {
  const { peers, say } = directory();
  peers.setService(service('old', ['10.96.0.9']));
  peers.setService(service('new', ['10.96.0.9']));
  peers.removeService(service('old', ['10.96.0.9']));
  assert.equal(say('10.96.0.9'), 'new.shop by new');
});

test('names: of a Service, of something outside, of neither', () => {
  const { peers } = directory();
  peers.setPod(pod('basket-0'));
  peers.setService(service('cart', ['10.96.0.9']));
  peers.setSlice(slice('cart', 'cart-1', ['basket-0']));
  const nameOf = (host: string) => {
    const found = peers.findName(host);
    return found && `${found.name}/${found.namespace}/${found.watched}`;
  };
  assert.equal(nameOf('cart.shop.svc.cluster.local'), 'basket/shop/true');
  assert.equal(nameOf('cart.shop.svc'), 'basket/shop/true');
  assert.equal(nameOf('gone.shop.svc.cluster.local'), undefined);
  assert.equal(nameOf('API.Stripe.com.'), 'api.stripe.com//false');
  for (const host of ['cart', 'localhost', '10.0.0.1', 'fd00::1', '', 'a_b.c', 'x..y'])
    assert.equal(nameOf(host), undefined, host);
});

test('one object as long as it says the same; another when the owner turns out to be another', () => {
  let certain = false;
  const { peers } = directory(({ owner: of }) => ({
    owners: [certain ? { kind: 'CronJob', name: 'nightly' } : of!],
    certain,
  }));
  const job = (more: PodFixture = {}) => pod('nightly-1', { owner: owner('Job', 'nightly-1'), ...more });
  peers.setPod(job());
  const first = peers.find('10.0.0.5', 0, T0);
  assert.equal(first?.name, 'nightly-1');
  assert.equal(peers.find('10.0.0.5', 0, T0), first);
  certain = true;
  const { revision } = peers;
  peers.ownerResolved('Job-nightly-1');
  assert.notEqual(peers.revision, revision);
  assert.equal(peers.find('10.0.0.5', 0, T0)?.name, 'nightly');
});
