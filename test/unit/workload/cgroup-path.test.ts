import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCgroup } from '../../../src/workload/cgroup-path.ts';

const id = '3f0a6c1d9b2e4f58a7c6d5e4f3b2a1908f7e6d5c4b3a29180716253443526170';
const outer = 'a'.repeat(64);

const containers: readonly (readonly [string, string])[] = [
  ['Docker, cgroupfs driver', `0::/docker/${id}`],
  ['Docker, systemd driver', `0::/system.slice/docker-${id}.scope`],
  [
    'containerd in Kubernetes, systemd driver',
    `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-${id}.scope`,
  ],
  ['containerd in Kubernetes, cgroupfs driver', `0::/kubepods/burstable/pod2f1c9d1e-aaaa-bbbb-cccc-123456789012/${id}`],
  [
    'containerd with a systemd path',
    `0::/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:${id}`,
  ],
  ['CRI-O', `0::/kubepods.slice/kubepods-pod1.slice/crio-${id}.scope`],
  ['CRI-O, a container that makes groups of its own', `0::/kubepods.slice/crio-${id}.scope/container`],
  ['Podman', `0::/machine.slice/libpod-${id}.scope/container`],
  ['version 1', `12:pids:/docker/${id}\n1:name=systemd:/docker/${id}\n0::/`],
  ['hybrid', `5:memory:/docker/${id}\n0::/system.slice/docker.service`],
  ['a container in a container', `0::/docker/${outer}/kubelet/kubepods/pod1/${id}`],
  ['seen from another cgroup namespace', `0::/../../kubepods.slice/cri-containerd-${id}.scope`],
];

for (const [name, text] of containers) {
  test(`container id: ${name}`, () => assert.equal(parseCgroup(`${text}\n`).containerId, id));
}

test('container id: Amazon ECS', () => {
  const task = '0123456789abcdef0123456789abcdef';
  assert.equal(parseCgroup(`0::/ecs/${task}/${task}-1234567890`).containerId, `${task}-1234567890`);
});

test('no container id: a monitor beside its container, a short or long number, a unit', () => {
  for (const path of [
    `/machine.slice/libpod-conmon-${id}.scope`,
    `/kubepods.slice/crio-conmon-${id}.scope`,
    `/docker/${id.slice(1)}`,
    `/docker/${id}0`,
    `/docker/${id.toUpperCase()}`,
    '/system.slice/nginx.service',
  ]) {
    assert.equal(parseCgroup(`0::${path}`).containerId, undefined, path);
  }
});

const units: readonly (readonly [string, string | undefined])[] = [
  ['0::/system.slice/nginx.service', 'nginx'],
  ['0::/system.slice/system-postgresql.slice/postgresql@15-main.service', 'postgresql@15-main'],
  ['0::/system.slice/php8.2-fpm.service/worker', 'php8.2-fpm'],
  ['0::/system.slice/my\\x2dshop.service', 'my-shop'],
  ['9:name=systemd:/system.slice/cron.service\n0::/', 'cron'],
  ['0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service', 'shop'],
  ['0::/user.slice/user-1000.slice/user@1000.service/init.scope', undefined],
  ['0::/user.slice/user-1000.slice/session-3.scope', undefined],
  ['0::/init.scope', undefined],
  ['0::/', undefined],
  ['0::/system.slice/.service', undefined],
  [`0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:${id}`, undefined],
  [`0::/docker/${id}/system.slice/nginx.service`, 'nginx'],
];

for (const [text, unit] of units) {
  test(`unit of ${text.replace(/\n/g, ' ').slice(0, 80)}`, () => assert.equal(parseCgroup(text).unit, unit));
}

test('garbage says nothing', () => {
  for (const text of ['', '\n\n', 'x', '0:', '0::', '::::', '0::relative', '\0\0']) {
    assert.deepEqual(
      parseCgroup(text),
      { path: '', containerId: undefined, unit: undefined, pod: undefined },
      JSON.stringify(text),
    );
  }
});

const uid = '2f1c9d1e-aaaa-bbbb-cccc-123456789012';
const uid_ = uid.replaceAll('-', '_');
const manifest = '6576683a93d91d8e2119df2c2755f2f1';

/** Path, and the uid where it is another. All are those of the container `id` in the pod `uid`. */
const pods: readonly (readonly [string, string, string?])[] = [
  ...(['burstable', 'besteffort'] as const).flatMap((qos): [string, string][] => [
    [
      `systemd, ${qos}`,
      `/kubepods.slice/kubepods-${qos}.slice/kubepods-${qos}-pod${uid_}.slice/cri-containerd-${id}.scope`,
    ],
    [`cgroupfs, ${qos}`, `/kubepods/${qos}/pod${uid}/${id}`],
    [
      `CRI-O, systemd, ${qos}`,
      `/kubepods.slice/kubepods-${qos}.slice/kubepods-${qos}-pod${uid_}.slice/crio-${id}.scope`,
    ],
    [`CRI-O, cgroupfs, ${qos}`, `/kubepods/${qos}/pod${uid}/crio-${id}`],
    [
      `Docker, systemd, ${qos}`,
      `/kubepods.slice/kubepods-${qos}.slice/kubepods-${qos}-pod${uid_}.slice/docker-${id}.scope`,
    ],
  ]),
  ['systemd, guaranteed', `/kubepods.slice/kubepods-pod${uid_}.slice/cri-containerd-${id}.scope`],
  ['cgroupfs, guaranteed', `/kubepods/pod${uid}/${id}`],
  [
    'CRI-O, a container that makes groups of its own',
    `/kubepods.slice/kubepods-pod${uid_}.slice/crio-${id}.scope/container`,
  ],
  ['systemd within a container', `/kubepods/pod${uid}/${id}/system.slice/nginx.service`],
  [
    'containerd, a systemd path for cgroupfs',
    `/system.slice/containerd.service/kubepods-burstable-pod${uid_}.slice:cri-containerd:${id}`,
  ],
  ['CRI-O, the same', `/system.slice/crio.service/kubepods-pod${uid_}.slice:crio:${id}`],
  [
    'kind, systemd',
    `/docker/${outer}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${uid_}.slice/cri-containerd-${id}.scope`,
  ],
  ['kind, cgroupfs', `/system.slice/docker-${outer}.scope/kubelet/kubepods/besteffort/pod${uid}/${id}`],
  ['k3s in Docker', `/docker/${outer}/kubepods/besteffort/pod${uid}/${id}`],
  ['k3s under systemd', `/system.slice/k3s.service/kubepods/besteffort/pod${uid}/${id}`],
  [
    'a pod of a cluster in a pod',
    `/kubepods/pod${uid.replace('2f', '3f')}/${outer}/kubepods/burstable/pod${uid}/${id}`,
  ],
  ['a container that the pod has made', `/kubepods/pod${uid}/${id}/docker/${outer}`],
  [
    'a static pod',
    `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${manifest}.slice/cri-containerd-${id}.scope`,
    manifest,
  ],
  ['a static pod, cgroupfs', `/kubepods/burstable/pod${manifest}/${id}`, manifest],
  [
    'seen from a sibling pod',
    `/../../kubepods-besteffort.slice/kubepods-besteffort-pod${uid_}.slice/cri-containerd-${id}.scope`,
  ],
  ['seen from a container beside it', `/../cri-containerd-${id}.scope`, ''],
  ['CRI-O, seen from a container beside it', `/../crio-${id}.scope`, ''],
];

for (const [name, path, otherUid] of pods) {
  const expected = { uid: otherUid ?? uid, containerId: id };
  test(`pod: ${name}`, () => assert.deepEqual(parseCgroup(`0::${path}\n`).pod, expected));
  test(`pod: ${name}, hybrid`, () => {
    assert.deepEqual(parseCgroup(`4:memory:${path}\n1:name=systemd:${path}\n0::/\n`).pod, expected);
    assert.deepEqual(parseCgroup(`4:memory:${path}\n0::/system.slice/containerd.service\n`).pod, expected);
  });
}

test("no container: a pod's own group, its monitor", () => {
  const slice = `/kubepods.slice/kubepods-pod${uid_}.slice`;
  assert.deepEqual(parseCgroup(`0::${slice}`).pod, { uid, containerId: undefined });
  assert.deepEqual(parseCgroup(`0::${slice}/crio-conmon-${id}.scope`).pod, { uid, containerId: undefined });
});

test('no pod: containers of the machine, names that only look like one', () => {
  for (const path of [
    `/docker/${id}`,
    `/system.slice/docker-${id}.scope`,
    `/machine.slice/libpod-${id}.scope`,
    `/kubepods.slice/kubepods-burstable.slice/${id}`,
    `/tripod${uid}/x`,
    `/kubepods/pod${uid}0/x`,
    '/kubepods/podinfo/x',
  ]) {
    assert.equal(parseCgroup(`0::${path}`).pod, undefined, path);
  }
});
