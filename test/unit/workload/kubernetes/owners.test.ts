import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError, METADATA_ONLY } from '../../../../src/workload/kubernetes/api.ts';
import type { ApiObject } from '../../../../src/workload/kubernetes/objects.ts';
import { Owners, type OwnersOptions } from '../../../../src/workload/kubernetes/owners.ts';
import { Pod } from '../../../../src/workload/kubernetes/pod.ts';
import { owner, type PodFixture, podObject } from '../../../support/kubernetes/fixtures.ts';
import { until } from '../../../support/programs/net.ts';

const pod = (fixture: PodFixture) => new Pod(podObject(fixture), { nameFromLabels: false });

function owners(answers: Record<string, ApiObject | Error>, more: Partial<OwnersOptions> = {}) {
  const asked: string[] = [];
  const resolved: string[] = [];
  const counts: Record<string, number> = {};
  const made = new Owners({
    api: {
      get: async (path, _, accept) => {
        assert.equal(accept, METADATA_ONLY);
        asked.push(path);
        const answer = answers[path] ?? new ApiError(404, 'not found');
        if (answer instanceof Error) throw answer;
        return answer;
      },
    },
    limit: 100,
    counts,
    resolved: (uid) => resolved.push(uid),
    backoffMs: [5, 20],
    ...more,
  });
  return { made, asked, resolved, counts };
}

const metadata = (uid: string, above?: ReturnType<typeof owner>): ApiObject => ({
  metadata: { uid, ...(above && { ownerReferences: [{ ...above, controller: true }] }) },
});
const names = ({ owners: all }: { owners: readonly { kind: string; name: string }[] }) =>
  all.map(({ kind, name }) => `${kind}/${name}`);
const idle = ({ made }: { made: Owners }) => until(async () => made.waiting === 0 || undefined, 'answers');

test('what needs no question', () => {
  const { made, asked } = owners({});
  for (const [fixture, expected] of [
    [{}, []],
    [{ owner: owner('StatefulSet', 'db') }, ['StatefulSet/db']],
    [{ owner: owner('DaemonSet', 'logs') }, ['DaemonSet/logs']],
    [{ owner: owner('Spark', 'x') }, ['Spark/x']],
    [{ owner: { ...owner('Job', 'x'), apiVersion: 'example.com/v1' } }, ['Job/x']],
    [{ owner: { ...owner('Node', 'node-1'), apiVersion: 'v1' } }, []],
  ] as const) {
    const chain = made.chainOf(pod(fixture));
    assert.deepEqual([names(chain), chain.certain], [expected, true]);
  }
  assert.deepEqual(asked, []);
});

test('the owner of a ReplicaSet and of a Job, asked for once', async () => {
  const all = owners({
    '/apis/apps/v1/namespaces/shop/replicasets/cart-5d4f': metadata(
      'ReplicaSet-cart-5d4f',
      owner('Deployment', 'cart'),
    ),
    '/apis/apps/v1/namespaces/shop/replicasets/rolled-5d4f': metadata(
      'ReplicaSet-rolled-5d4f',
      owner('Rollout', 'rolled'),
    ),
    '/apis/apps/v1/namespaces/shop/replicasets/alone': metadata('ReplicaSet-alone'),
    '/apis/batch/v1/namespaces/shop/jobs/import-29000000': metadata('Job-import-29000000', owner('CronJob', 'import')),
    '/apis/batch/v1/namespaces/shop/jobs/once-20260101': metadata('Job-once-20260101'),
  });
  const hash = { 'pod-template-hash': '5d4f' };
  const pods: [Pod, string[], string[]][] = [
    [
      pod({ owner: owner('ReplicaSet', 'cart-5d4f'), labels: hash }),
      ['ReplicaSet/cart-5d4f', 'Deployment/cart'],
      ['ReplicaSet/cart-5d4f', 'Deployment/cart'],
    ],
    [
      pod({ owner: owner('ReplicaSet', 'rolled-5d4f') }),
      ['ReplicaSet/rolled-5d4f'],
      ['ReplicaSet/rolled-5d4f', 'Rollout/rolled'],
    ],
    [pod({ owner: owner('ReplicaSet', 'alone') }), ['ReplicaSet/alone'], ['ReplicaSet/alone']],
    [
      pod({ owner: owner('Job', 'import-29000000') }),
      ['Job/import-29000000', 'CronJob/import'],
      ['Job/import-29000000', 'CronJob/import'],
    ],
    // By its name it might have been a CronJob's.
    [pod({ owner: owner('Job', 'once-20260101') }), ['Job/once-20260101', 'CronJob/once'], ['Job/once-20260101']],
  ];
  for (const [each, guess] of pods) {
    const chain = all.made.chainOf(each);
    assert.deepEqual([names(chain), chain.certain], [guess, false]);
    all.made.chainOf(each);
  }
  await idle(all);
  for (const [each, , truth] of pods) {
    const chain = all.made.chainOf(each);
    assert.deepEqual([names(chain), chain.certain], [truth, true]);
  }
  assert.equal(all.asked.length, 5);
  assert.equal(all.resolved.length, 5);
  assert.deepEqual(all.counts, {});
});

test('an owner that is gone, was replaced or is forbidden: its name has to do', async () => {
  const path = (name: string) => `/apis/apps/v1/namespaces/shop/replicasets/${name}`;
  const all = owners({
    [path('other-5d4f')]: metadata('another'),
    [path('secret-5d4f')]: new ApiError(403, 'forbidden'),
  });
  for (const name of ['gone', 'other', 'secret']) {
    all.made.chainOf(pod({ owner: owner('ReplicaSet', `${name}-5d4f`), labels: { 'pod-template-hash': '5d4f' } }));
  }
  await idle(all);
  for (const name of ['gone', 'other', 'secret']) {
    const chain = all.made.chainOf(
      pod({ owner: owner('ReplicaSet', `${name}-5d4f`), labels: { 'pod-template-hash': '5d4f' } }),
    );
    assert.deepEqual([names(chain), chain.certain], [[`ReplicaSet/${name}-5d4f`, `Deployment/${name}`], true]);
  }
  assert.deepEqual(all.counts, { owner_unknown: 3 });
  assert.equal(all.asked.length, 3);
});

test('an API server that is away is asked again, more and more slowly', async () => {
  const answers: Record<string, ApiObject | Error> = {};
  const path = (i: number) => `/apis/batch/v1/namespaces/shop/jobs/job-${i}`;
  for (let i = 0; i < 10; i++) answers[path(i)] = new Error('connect ECONNREFUSED');
  const errors: number[] = [];
  const all = owners(answers, { onError: (_, retryMs) => errors.push(retryMs), random: () => 0.5 });
  for (let i = 0; i < 10; i++) all.made.chainOf(pod({ owner: owner('Job', `job-${i}`) }));
  await until(async () => errors.length >= 4 || undefined, 'four failures');
  assert.deepEqual(errors.slice(0, 4), [5, 10, 20, 20]);
  for (let i = 0; i < 10; i++) answers[path(i)] = metadata(`Job-job-${i}`);
  await idle(all);
  assert.equal(all.resolved.length, 10);
});

test('as many as the limit allows wait and are remembered', async () => {
  const all = owners({}, { limit: 3, api: { get: () => new Promise<ApiObject>(() => {}) } });
  for (let i = 0; i < 20; i++) all.made.chainOf(pod({ owner: owner('Job', `job-${i}`) }));
  // Four are under way.
  assert.deepEqual([all.made.waiting, all.counts], [7, { owner_queue_full: 13 }]);
  all.made.stop();
});
