import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Api } from '../../../../src/workload/kubernetes/api.ts';
import { type KubeConfig, loadClient } from '../../../../src/workload/kubernetes/client.ts';
import { Informer, type InformerOptions } from '../../../../src/workload/kubernetes/informer.ts';
import { readKubeConfig } from '../../../../src/workload/kubernetes/kubeconfig.ts';
import { ClusterObject } from '../../../../src/workload/kubernetes/objects.ts';
import { FakeApi } from '../../../support/kubernetes/fake.ts';
import { type Cleanup, cleanupAfter } from '../../../support/programs/cleanup.ts';
import { until } from '../../../support/programs/net.ts';

const client = await loadClient();
const PODS = '/api/v1/pods';

class Thing extends ClusterObject {}

function pod(name: string, more: object = {}) {
  return { metadata: { name, namespace: 'shop', uid: name, ...more } };
}

/** A kubeconfig that leads to the fake. */
function configOf(fake: FakeApi, user: object = {}): KubeConfig {
  const config = new client.KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: 'fake', server: fake.url, skipTLSVerify: true }],
    users: [{ name: 'me', ...user }],
    contexts: [{ name: 'it', cluster: 'fake', user: 'me' }],
    currentContext: 'it',
  });
  return config;
}

interface Started {
  informer: Informer<Thing>;
  /** `+name`, `~name`, `-name`. */
  events: string[];
  gone: number[];
  errors: { message: string; retryMs: number }[];
  counts: Record<string, number>;
}

function startInformer(
  cleanup: Cleanup,
  fake: FakeApi,
  more: Partial<InformerOptions<Thing>> = {},
  api = new Api({ configure: () => configOf(fake) }),
): Started {
  const events: string[] = [];
  const gone: number[] = [];
  const errors: Started['errors'] = [];
  const counts: Record<string, number> = {};
  const informer = new Informer<Thing>({
    name: 'pods',
    path: PODS,
    client,
    api,
    record: (object) => new Thing(object),
    added: ({ name }) => events.push(`+${name}`),
    changed: ({ name }) => events.push(`~${name}`),
    removed: ({ name }, goneMs) => {
      events.push(`-${name}`);
      gone.push(goneMs);
    },
    limit: 1000,
    counts,
    onError: (_, { message }, retryMs) => errors.push({ message, retryMs }),
    backoffMs: [10, 80],
    ...more,
  });
  cleanup.add(async () => {
    await informer.stop();
    api.close();
  });
  informer.start();
  return { informer, events, gone, errors, counts };
}

const soon = (condition: () => boolean, what: string) => until(async () => condition() || undefined, what);

test('the library loads without its models, and without a second HTTP client', async () => {
  const { stdout } = await import('../../../support/programs/process.ts').then(({ run }) =>
    run(process.execPath, [
      '--input-type=module',
      '-e',
      `import { registerHooks } from 'node:module';
       const loaded = [];
       registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context); } });
       const { loadClient } = await import(${JSON.stringify(new URL('../../../../src/workload/kubernetes/client.ts', import.meta.url).href)});
       await loadClient();
       console.log(loaded.filter((url) => /client-node\\/dist\\/gen\\/(?!rxjsStub)|\\/undici\\//.test(url)).length, loaded.filter((url) => /client-node/.test(url)).length);`,
    ]),
  );
  const [left, loaded] = stdout.trim().split(' ').map(Number);
  assert.equal(left, 0);
  assert.ok(loaded! > 5, stdout);
});

test('lists in pages, then watches from there', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  for (let i = 0; i < 250; i++) fake.set(PODS, pod(`p${i}`));
  const { informer, events, counts } = startInformer(cleanup, fake, { fieldSelector: 'spec.nodeName=node-1' });
  await informer.whenSynced;
  assert.equal(events.length, 250);
  assert.equal(informer.health.objects, 250);
  await soon(() => fake.watches === 1, 'the watch');
  fake.set(PODS, pod('late'));
  fake.set(PODS, pod('p7', { labels: { a: 'b' } }));
  fake.delete(PODS, pod('p9'));
  await soon(() => events.length === 253, 'three changes');
  assert.deepEqual(events.slice(250), ['+late', '~p7', '-p9']);
  assert.equal(informer.get('shop', 'late')?.name, 'late');
  const [watch] = fake.requestsTo(PODS, true);
  assert.equal(fake.requestsTo(PODS, false).length, 3);
  assert.deepEqual(
    fake.requests.map(({ query }) => query.get('fieldSelector')),
    Array(4).fill('spec.nodeName=node-1'),
  );
  assert.equal(watch?.query.get('allowWatchBookmarks'), 'true');
  assert.deepEqual(counts, {});
  const { synced, connected, lastError, restarts } = informer.health;
  assert.deepEqual(
    { synced, connected, lastError, restarts },
    { synced: true, connected: true, lastError: undefined, restarts: 0 },
  );
});

test('a server that is killed and comes back: what happened in between is told, nothing is listed again', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  fake.set(PODS, pod('a'));
  fake.set(PODS, pod('b'));
  let lists = 0;
  const { informer, events, errors } = startInformer(cleanup, fake, { listed: () => lists++ });
  await soon(() => fake.watches === 1, 'the watch');
  await fake.kill();
  await soon(() => errors.length >= 3, 'errors');
  assert.equal(informer.health.connected, false);
  assert.equal(informer.health.synced, true);
  assert.match(informer.health.lastError ?? '', /ECONNREFUSED|ECONNRESET|aborted|socket hang up/);
  // It still knows what it knew.
  assert.equal(informer.get('shop', 'a')?.name, 'a');
  fake.set(PODS, pod('c'));
  fake.delete(PODS, pod('a'));
  await fake.start();
  await soon(() => events.length === 4, 'what happened');
  assert.deepEqual(events, ['+a', '+b', '+c', '-a']);
  assert.deepEqual([fake.requestsTo(PODS, false).length, lists], [1, 1]);
  await soon(() => informer.health.connected, 'the watch');
  assert.ok(informer.health.restarts >= 3);
});

test('it waits longer and longer, never twice the same time, and not for ever', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  fake.refuseWith = 403;
  const { informer, errors } = startInformer(cleanup, fake, { random: () => 0.5 });
  await soon(() => errors.length >= 7, 'seven refusals');
  assert.deepEqual(
    errors.slice(0, 6).map(({ retryMs }) => retryMs),
    [10, 20, 40, 80, 80, 80],
  );
  assert.equal(errors[0]?.message, '403 refused with 403');
  assert.deepEqual([informer.health.synced, informer.health.lastError], [false, '403 refused with 403']);
  fake.refuseWith = 0;
  fake.set(PODS, pod('a'));
  await informer.whenSynced;
  const spread = startInformer(
    cleanup,
    await new FakeApi().start(cleanup).then((other) => Object.assign(other, { refuseWith: 500 })),
  );
  await soon(() => spread.errors.length >= 6, 'six refusals');
  assert.ok(new Set(spread.errors.map(({ retryMs }) => retryMs)).size > 2);
  for (const [i, { retryMs }] of spread.errors.entries()) {
    const delayMs = Math.min(10 * 2 ** i, 80);
    assert.ok(retryMs >= delayMs * 0.5 && retryMs <= delayMs * 1.5, `${retryMs} after ${delayMs}`);
  }
});

test('history that does not reach back: all is listed again, and what went is told, as of when it may have gone', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  for (const name of ['a', 'b', 'c']) fake.set(PODS, pod(name));
  let nowMs = 1_000_000;
  const { events, gone, informer } = startInformer(cleanup, fake, { now: () => nowMs });
  await soon(() => fake.watches === 1 && informer.health.connected, 'the watch');
  nowMs = 2_000_000;
  await fake.kill();
  fake.delete(PODS, pod('b'));
  fake.set(PODS, pod('d'));
  fake.forgetHistory();
  await fake.start();
  await soon(() => events.length === 5, 'the difference');
  assert.deepEqual([...events.slice(0, 3), ...events.slice(3).sort()], ['+a', '+b', '+c', '+d', '-b']);
  // When contact was lost, not when it was found out.
  assert.deepEqual(gone, [1_000_000]);
  assert.equal(fake.requestsTo(PODS, false).length, 2);
  assert.equal(informer.health.objects, 3);
});

test('a watch that ends in order is begun again without an error, and from a bookmark', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  fake.set(PODS, pod('a'));
  const { informer, events, errors } = startInformer(cleanup, fake);
  await soon(() => fake.watches === 1 && informer.health.connected, 'the watch');
  fake.bookmark();
  await soon(() => informer.health.connected, 'the bookmark');
  // Its history before the bookmark is of no use any more.
  fake.set(PODS, pod('b'));
  await soon(() => events.length === 2, 'an event');
  fake.forgetHistory();
  fake.endWatches();
  await until(
    async () => (fake.requestsTo(PODS, true).length === 2 && fake.watches === 1) || undefined,
    'the next watch',
    10_000,
  );
  assert.deepEqual(errors, []);
  assert.equal(fake.requestsTo(PODS, false).length, 1);
});

test('a server that hangs is given up after the time for a bookmark', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  fake.set(PODS, pod('a'));
  const api = new Api({ configure: () => configOf(fake), watchIdleMs: 150, timeoutMs: 150 });
  const { informer, errors, events } = startInformer(cleanup, fake, {}, api);
  await informer.whenSynced;
  fake.hangs = true;
  await soon(() => errors.length >= 2, 'two errors');
  assert.match(errors[0]!.message, /silent for 0.15 s/);
  fake.hangs = false;
  fake.set(PODS, pod('b'));
  await soon(() => events.includes('+b'), 'what happened');
});

test('a token that was replaced is read again when the old one is refused', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  fake.set(PODS, pod('a'));
  const file = join(await cleanup.temporaryFolder(), 'token');
  await writeFile(file, 'first');
  fake.token = 'first';
  const user = { authProvider: { name: 'tokenFile', config: { tokenFile: file } } };
  const api = new Api({ configure: () => configOf(fake, user) });
  const { informer, events, errors } = startInformer(cleanup, fake, {}, api);
  await informer.whenSynced;
  await soon(() => fake.watches === 1, 'the watch');
  fake.token = 'second';
  fake.breakOff();
  await soon(() => errors.some(({ message }) => message.startsWith('401')), 'a refusal');
  await writeFile(file, 'second');
  await soon(() => fake.watches === 1, 'the watch');
  fake.set(PODS, pod('b'));
  await soon(() => events.includes('+b'), 'a change');
});

test('kubeconfig files: tokens in files, relative to it; what is none', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  const folder = await cleanup.temporaryFolder();
  const file = join(folder, 'kubeconfig');
  await writeFile(join(folder, 'token'), 'secret');
  const cluster = { server: fake.url, 'insecure-skip-tls-verify': true };
  const config = {
    clusters: [{ name: 'c', cluster }],
    users: [{ name: 'u', user: { tokenFile: 'token' } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  };
  await writeFile(file, JSON.stringify(config));
  fake.token = 'secret';
  fake.set(PODS, pod('a'));
  const api = new Api({ configure: () => readKubeConfig(client, file) });
  const names: string[] = [];
  await api.list(PODS, {}, (object) => names.push(new Thing(object).name));
  assert.deepEqual(names, ['a']);
  assert.throws(
    () => readKubeConfig(client, join(folder, 'none')),
    /kubernetes.kubeconfig: .*none cannot be read: ENOENT/,
  );
  await writeFile(file, JSON.stringify({ ...config, 'current-context': 'y' }));
  assert.throws(() => readKubeConfig(client, file), /names no current cluster/);
  await writeFile(file, '{');
  assert.throws(() => readKubeConfig(client, file), /cannot be read/);
});

test('a token file that is missing ends nothing', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  fake.set(PODS, pod('a'));
  const file = join(await cleanup.temporaryFolder(), 'token');
  const user = { authProvider: { name: 'tokenFile', config: { tokenFile: file } } };
  const { errors, informer } = startInformer(cleanup, fake, {}, new Api({ configure: () => configOf(fake, user) }));
  await soon(() => errors.length >= 2, 'errors');
  assert.match(errors[0]!.message, /ENOENT/);
  await writeFile(file, 'x');
  await informer.whenSynced;
});

test('stopped means stopped: no request, no event, no error', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  fake.set(PODS, pod('a'));
  const { informer, events, errors } = startInformer(cleanup, fake);
  await soon(() => fake.watches === 1, 'the watch');
  await informer.stop();
  await soon(() => fake.watches === 0, 'the end of the watch');
  const requests = fake.requests.length;
  fake.set(PODS, pod('b'));
  fake.endWatches();
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(fake.requests.length, requests);
  assert.deepEqual([events, errors], [['+a'], []]);
  const waiting = startInformer(cleanup, Object.assign(fake, { refuseWith: 500 }));
  await soon(() => waiting.errors.length >= 1, 'an error');
  await waiting.informer.stop();
  const { length } = waiting.errors;
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(waiting.errors.length, length);
});

test('what is beyond the limit is not kept, and counted; a handler that fails costs its event', async (t) => {
  const cleanup = cleanupAfter(t);
  const fake = await new FakeApi().start(cleanup);
  for (let i = 0; i < 5; i++) fake.set(PODS, pod(`p${i}`));
  const { informer, events, counts } = startInformer(cleanup, fake, { limit: 3 });
  await soon(() => fake.watches === 1, 'the watch');
  fake.set(PODS, pod('more'));
  fake.set(PODS, pod('p1', { labels: {} }));
  await soon(() => events.includes('~p1'), 'the change');
  assert.deepEqual(events, ['+p0', '+p1', '+p2', '~p1']);
  assert.deepEqual(counts, { over_limit: 3 });
  assert.equal(informer.health.objects, 3);
  const failing = startInformer(cleanup, fake, {
    added: () => {
      throw new Error('no');
    },
  });
  await failing.informer.whenSynced;
  assert.deepEqual(failing.counts, { handler_failed: 6 });
});
