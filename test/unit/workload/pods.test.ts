/** Processes in pods: which resource they have, when it is worth waiting for a better one, and which cgroups are ignored. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { SocketRecord } from '../../../src/capture/records.ts';
import { unwatched, watchedFully } from '../../../src/span/resource.ts';
import { type PodPath, parseCgroup } from '../../../src/workload/cgroup-path.ts';
import { CgroupDirectories } from '../../../src/workload/cgroups.ts';
import { clusterPlace } from '../../../src/workload/cluster-place.ts';
import type { ContainerIdentity } from '../../../src/workload/pods.ts';
import { Workloads } from '../../../src/workload/workloads.ts';

const uid = '2f1c9d1e-aaaa-bbbb-cccc-123456789012';
const id = 'a'.repeat(64);
const podCgroup = `0::/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice/cri-containerd-${id}.scope`;

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'pods-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function fake(pid: number, cgroup: string, environ: readonly string[] = [], exe = '/usr/sbin/nginx'): void {
  const directory = join(root, String(pid));
  mkdirSync(directory);
  writeFileSync(join(directory, 'stat'), `${pid} (x) S ${Array(18).fill('0').join(' ')} 100 0 0\n`);
  writeFileSync(join(directory, 'cmdline'), 'nginx\0');
  writeFileSync(join(directory, 'environ'), environ.map((entry) => `${entry}\0`).join(''));
  writeFileSync(join(directory, 'cgroup'), `${cgroup}\n`);
  symlinkSync(exe, join(directory, 'exe'));
}

function socket(cookie: number, pid: number, cgroupId = 77): SocketRecord {
  const rest = { timeUs: 0, peerCookie: 0, netns: 0, comm: 'x', ownerKnown: true, own: false };
  return { ...rest, cookie, pid, cgroupId, processStartNs: 1_000_000_123 };
}

function identity(name: string, more: Partial<ContainerIdentity> = {}): ContainerIdentity {
  return {
    service: { 'service.name': name, 'service.instance.id': 'shop.cart-x.main' },
    measured: { 'k8s.pod.name': 'cart-x', 'container.id': id },
    watched: watchedFully,
    certain: true,
    ...more,
  };
}

function setUp() {
  const state = {
    nowMs: 0,
    revision: 1,
    found: undefined as ContainerIdentity | undefined,
    asked: [] as PodPath[],
    cgroups: new Map<number, string>(),
    ignored: [] as string[],
    outsidePods: watchedFully,
  };
  const workloads = new Workloads({
    host: { name: 'node-1', id: undefined },
    agentVersion: '1',
    procRoot: root,
    now: () => state.nowMs,
    kubernetes: {
      waitMs: 2000,
      pods: {
        get revision() {
          return state.revision;
        },
        get outsidePods() {
          return state.outsidePods;
        },
        find: (path) => {
          state.asked.push(path);
          return state.found;
        },
      },
      cgroupById: (cgroupId) => {
        const path = state.cgroups.get(cgroupId);
        return path === undefined ? undefined : parseCgroup(path);
      },
      ignoreCgroup: (cgroupId, ignored) => state.ignored.push(`${ignored ? '+' : '-'}${cgroupId}`),
    },
  });
  const tell = (found: ContainerIdentity | undefined) => {
    state.found = found;
    state.revision++;
  };
  return { workloads, state, tell };
}

test('a container’s resource: the directory’s, the process’s own word before it, what was measured before that', () => {
  fake(1, podCgroup, ['OTEL_SERVICE_NAME=mine', 'OTEL_RESOURCE_ATTRIBUTES=service.version=9,k8s.pod.name=lie,team=x']);
  const { workloads, tell } = setUp();
  tell(identity('cart'));
  workloads.socket(socket(5, 1));
  assert.deepEqual(workloads.resourceOf(5), {
    name: 'mine',
    attributes: {
      'service.name': 'mine',
      'service.instance.id': 'shop.cart-x.main',
      'os.type': 'linux',
      'service.version': '9',
      team: 'x',
      'host.name': 'node-1',
      'container.id': id,
      'k8s.pod.name': 'cart-x',
      'process.executable.name': 'nginx',
      'process.executable.path': '/usr/sbin/nginx',
      'telemetry.distro.name': 'wirespan',
      'telemetry.distro.version': '1',
    },
  });
});

test('one resource for all alike processes of a container', () => {
  fake(1, podCgroup);
  fake(2, podCgroup);
  fake(3, podCgroup, ['OTEL_SERVICE_NAME=other']);
  const { workloads, tell } = setUp();
  tell(identity('cart'));
  for (const pid of [1, 2, 3]) workloads.socket(socket(pid, pid));
  assert.equal(workloads.resourceOf(1), workloads.resourceOf(2));
  assert.equal(workloads.resourceOf(3)?.name, 'other');
});

test('a pod that is not known is waited for, not for ever; the directory is asked when it has learned something', () => {
  fake(1, podCgroup);
  const { workloads, state, tell } = setUp();
  workloads.socket(socket(5, 1));
  assert.equal(workloads.knowledgeOf(5), 'pending');
  const before = workloads.resourceOf(5);
  assert.equal(before?.name, 'nginx');
  assert.equal(before?.attributes['container.id'], id);
  assert.deepEqual(state.asked, [{ uid, containerId: id }]);
  state.nowMs = 1999;
  assert.equal(workloads.knowledgeOf(5), 'pending');
  state.nowMs = 2000;
  assert.equal(workloads.knowledgeOf(5), 'given_up');
  assert.equal(state.asked.length, 1);
  tell(identity('cart', { certain: false }));
  assert.equal(workloads.knowledgeOf(5), 'given_up');
  assert.equal(workloads.resourceOf(5)?.name, 'cart');
  tell(identity('cart'));
  assert.equal(workloads.knowledgeOf(5), 'known');
  assert.notEqual(workloads.resourceOf(5), before);
  // It is gone, and forgotten: what lives on is still its.
  const last = workloads.resourceOf(5);
  tell(undefined);
  assert.equal(workloads.resourceOf(5), last);
  assert.equal(workloads.knowledgeOf(5), 'known');
});

test('what is in no pod is not waited for', () => {
  fake(1, '0::/system.slice/sshd.service');
  fake(2, `0::/docker/${id}`);
  const { workloads, state } = setUp();
  for (const pid of [1, 2]) workloads.socket(socket(pid, pid));
  assert.deepEqual(
    [workloads.knowledgeOf(1), workloads.knowledgeOf(2), workloads.knowledgeOf(99)],
    ['known', 'known', 'known'],
  );
  assert.deepEqual(state.asked, []);
  assert.equal(workloads.resourceOf(1)?.name, 'sshd');
});

test('a process that was gone before it could be read is found by the cgroup of its socket', () => {
  const { workloads, state, tell } = setUp();
  tell(identity('cart'));
  state.cgroups.set(77, podCgroup);
  workloads.socket(socket(5, 4242));
  assert.equal(workloads.resourceOf(5)?.name, 'cart');
  workloads.socket(socket(6, 4243, 78));
  assert.equal(workloads.resourceOf(6)?.name, 'x');
  // Its cgroup is gone, too, but there was another process in it.
  fake(1, podCgroup);
  workloads.socket(socket(7, 1, 78));
  workloads.socket(socket(8, 4244, 78));
  assert.equal(workloads.resourceOf(8)?.name, 'cart');
});

test('a cgroup that does not name the pod, where version 1 does, tells nothing of others in it', () => {
  const { workloads, state } = setUp();
  state.found = identity('cart');
  fake(1, `1:name=systemd:${podCgroup.slice('0::'.length)}\n0::/system.slice/docker.service`);
  fake(2, `1:name=systemd:${podCgroup.slice('0::'.length)}\n0::/`);
  workloads.socket(socket(5, 1, 78));
  workloads.socket(socket(6, 2, 1));
  assert.deepEqual([workloads.resourceOf(5)?.name, workloads.resourceOf(6)?.name], ['cart', 'cart']);
  workloads.socket(socket(7, 4242, 78));
  workloads.socket(socket(8, 4243, 1));
  assert.deepEqual([workloads.resourceOf(7)?.name, workloads.resourceOf(8)?.name], ['x', 'x']);
});

test('cgroups of what is not watched are ignored, until it is', () => {
  fake(1, podCgroup);
  fake(2, '0::/system.slice/sshd.service');
  const { workloads, state, tell } = setUp();
  workloads.socket(socket(5, 1, 77));
  // Not while it might be another's.
  assert.deepEqual(state.ignored, []);
  tell(identity('cart', { watched: unwatched }));
  workloads.socket(socket(6, 1, 77));
  workloads.socket(socket(7, 1, 77));
  assert.deepEqual(state.ignored, ['+77']);
  assert.deepEqual(workloads.watchedOf(6), unwatched);
  tell(identity('cart', { watched: { in: true, out: false } }));
  workloads.tick();
  assert.deepEqual(state.ignored, ['+77', '-77']);
  assert.deepEqual(workloads.watchedOf(6), { in: true, out: false });
  // The root's is that of the kernel's own sockets.
  state.outsidePods = unwatched;
  workloads.socket(socket(8, 2, 1));
  workloads.socket(socket(9, 2, 88));
  assert.deepEqual(state.ignored, ['+77', '-77', '+88']);
});

test('cgroups by the inodes of their directories', () => {
  let nowMs = 0;
  const deep = join(root, podCgroup.slice('0::/'.length));
  mkdirSync(deep, { recursive: true });
  const directories = new CgroupDirectories(root, () => nowMs);
  const inode = (path: string) => statSync(path).ino;
  assert.equal(directories.byId(inode(deep))?.pod?.uid, uid);
  assert.equal(directories.byId(inode(root))?.path, '');
  const later = join(root, 'later');
  mkdirSync(later);
  // Not more than one look a second.
  assert.equal(directories.byId(inode(later)), undefined);
  nowMs = 1001;
  assert.equal(directories.byId(inode(later))?.path, '/later');
  assert.equal(new CgroupDirectories('/nowhere').byId(5), undefined);
  assert.equal(directories.byId(0), undefined);
});

test('whether there is a cluster to ask', () => {
  const inPod = { KUBERNETES_SERVICE_HOST: '10.96.0.1' };
  const place = (options: object, environment = inPod as Record<string, string>, account = true) =>
    clusterPlace({ enabled: 'auto', ...options }, environment, () => account);
  assert.deepEqual(place({ nodeName: 'n' }), { nodeName: 'n', kubeconfig: undefined, why: undefined });
  assert.deepEqual(place({ nodeName: 'n', kubeconfig: 'f' }, {}), { nodeName: 'n', kubeconfig: 'f', why: undefined });
  for (const [options, environment, account] of [
    [{ nodeName: 'n' }, {}, true],
    [{ nodeName: 'n' }, inPod, false],
    [{}, inPod, true],
    [{ enabled: 'off', nodeName: 'n', kubeconfig: 'f' }, inPod, true],
  ] as const) {
    const { nodeName, why } = place(options, environment, account);
    assert.equal(nodeName, undefined);
    assert.ok(why !== undefined && why !== '');
  }
  assert.throws(() => place({ enabled: 'on', nodeName: 'n' }, {}), /kubernetes: this is no pod/);
  assert.throws(() => place({ enabled: 'on' }), /kubernetes: the name of this node is not known.*NODE_NAME/);
  assert.throws(() => place({ kubeconfig: 'f' }, {}), /the name of this node is not known/);
});
