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
    assert.deepEqual(parseCgroup(text), { path: '', containerId: undefined, unit: undefined }, JSON.stringify(text));
  }
});
