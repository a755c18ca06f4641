/** Which pods are watched: what is not makes no span, and its packets are not even captured; who talks to it is watched none the less. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type Server, startNodeServer } from '../support/http/servers.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { type AgentAccount, agentAccount, type NodeAgentOptions, startNodeAgent } from '../support/kubernetes/agent.ts';
import { createNamespace, createNode, createWorkload } from '../support/kubernetes/objects.ts';
import { PodNetwork, type SimulatedNode, type SimulatedPod } from '../support/kubernetes/pods.ts';
import { type Cluster, startCluster } from '../support/kubernetes/server.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import type { Agent, Stats } from '../support/programs/agent.ts';
import { Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

interface KubernetesStats extends Stats {
  kubernetes: {
    waits: Record<string, number>;
    informers: { name: string; synced: boolean; lastError?: string; restarts: number }[];
  };
}

suite('which pods are watched', () => {
  const cleanup = new Cleanup();
  let cluster: Cluster;
  let account: AgentAccount;
  let node: SimulatedNode;
  /** By name: a server in each of them, and room for clients. */
  const pods = {} as Record<'plain' | 'ignored' | 'other' | 'host' | 'ignoredHost', SimulatedPod>;
  const servers = {} as Record<keyof typeof pods, Server>;

  before(async () => {
    cluster = await startCluster(cleanup);
    const { api } = cluster;
    account = await agentAccount(cleanup, cluster);
    for (const name of ['shop', 'other']) await createNamespace(api, name);
    node = await (await PodNetwork.open(cleanup, api)).node('node-a');
    await createNode(api, node.name, [node.address]);
    const shop = await createWorkload(api, 'StatefulSet', { name: 'plain', namespace: 'shop' });
    const off = { 'wirespan.io/trace': 'false' };
    pods.plain = await node.pod({
      name: 'plain-0',
      namespace: 'shop',
      owner: shop,
      labels: { app: 'plain' },
      containers: [{ name: 'main' }, { name: 'proxy' }],
    });
    pods.ignored = await node.pod({ name: 'ignored', namespace: 'shop', annotations: off, runtime: 'cri-o' });
    pods.other = await node.pod({ name: 'other', namespace: 'other', labels: { app: 'other' } });
    pods.host = await node.pod({ name: 'host', namespace: 'shop', hostNetwork: true });
    pods.ignoredHost = await node.pod({
      name: 'ignored-host',
      namespace: 'shop',
      hostNetwork: true,
      annotations: off,
      driver: 'cgroupfs',
    });
    for (const name of Object.keys(pods) as (keyof typeof pods)[]) {
      const pod = pods[name];
      const host = name === 'host' || name === 'ignoredHost' ? '127.0.0.1' : pod.ip;
      servers[name] = await startNodeServer(cleanup, { host, prefix: pod.prefix(), tls: name === 'ignored' });
    }
  });
  after(async () => {
    await cleanup.run();
    await assertKernelClean();
  });

  const curl = async (from: SimulatedPod, container: string, ...words: string[]) => {
    const [command, ...args] = [...from.prefix(container), 'curl', '-sk', '-o', '/dev/null', ...words];
    await run(command!, args);
  };
  const start = (own: Cleanup, options: Partial<NodeAgentOptions> = {}) =>
    startNodeAgent(own, node, { kubeconfig: account.kubeconfig, ...options });
  /** `KIND service path`, sorted. */
  const facts = (spans: readonly FlatSpan[]) =>
    spans
      .map(({ kind, resource, attributes }) => {
        const path = String(attributes['url.path'] ?? new URL(String(attributes['url.full'])).pathname);
        return `${kind} ${resource['service.name']} ${path}`;
      })
      .sort();
  const stop = async (agent: Agent) => {
    const { spans, stats } = await agent.stop();
    assert.deepEqual([stats.packets.lost, stats.spans.dropped], [0, {}]);
    return { spans: facts(spans), stats: stats as KubernetesStats, all: spans };
  };

  test('a pod that says so has no spans; both directions of those who talk to it are seen, also over loopback', async (t) => {
    const own = cleanupAfter(t);
    // The whole machine, so that what comes over loopback is usually captured at its sender alone.
    const agent = await start(own, { wholeMachine: true, settings: ['namespaces: [shop]'] });
    // The agent hears of who is ignored by the first of these.
    for (const name of ['first', 'second', 'third']) {
      const path = `/echo?${name}`;
      const body = ['-d', 'x'.repeat(3000)];
      await curl(pods.plain, 'main', ...body, `${servers.ignored.url}${path}`);
      await curl(pods.ignored, 'main', ...body, `${servers.plain.url}${path}`);
      await curl(pods.host, 'main', ...body, `${servers.ignoredHost.url}${path}`);
      await curl(pods.ignoredHost, 'main', ...body, `${servers.host.url}${path}`);
      await curl(pods.ignored, 'main', ...body, `${servers.ignored.url}${path}`);
      await curl(pods.other, 'main', ...body, `${servers.other.url}${path}`);
    }
    await agent.waitForSpans(12);
    const { spans, all } = await stop(agent);
    assert.deepEqual(spans, [
      ...Array(3).fill('CLIENT host /echo'),
      ...Array(3).fill('CLIENT plain /echo'),
      ...Array(3).fill('SERVER host /echo'),
      ...Array(3).fill('SERVER plain /echo'),
    ]);
    for (const { attributes } of all) {
      const {
        'http.response.status_code': status,
        'http.request.body.size': sent,
        'http.response.body.size': received,
      } = attributes;
      assert.deepEqual(
        [status, sent, received, attributes['wirespan.exchange.incomplete']],
        [200, 3000, 3000, undefined],
      );
    }
  });

  test('the packets of an ignored pod are not captured', async (t) => {
    const own = cleanupAfter(t);
    const agent = await start(own);
    const requests = 300;
    const many = Array.from({ length: requests }, (_, i) => [
      '-o',
      '/dev/null',
      `${servers.other.url}/bytes/${1000 + i}`,
    ]).flat();
    await curl(pods.ignored, 'main', `${servers.other.url}/bytes/1`);
    await agent.waitForSpans(1);
    // New connections, from a process that the agent has not seen either, to a server that is ignored too.
    for (let i = 0; i < 20; i++) await curl(pods.ignored, 'main', `${servers.ignored.url}/bytes/${i}`);
    await curl(
      pods.ignored,
      'main',
      `${servers.ignored.url}/bytes/0`,
      ...many.map((word) => word.replace(servers.other.url, servers.ignored.url)),
    );
    await curl(pods.plain, 'main', `${servers.other.url}/bytes/2`);
    await agent.waitForSpans(3);
    const { spans, stats } = await stop(agent);
    assert.deepEqual(spans, ['CLIENT plain /bytes/2', 'SERVER other /bytes/1', 'SERVER other /bytes/2']);
    // Some are of the first connections of each ignored container, until it is known as one.
    assert.ok(stats.connections.tcp <= 6, `${stats.connections.tcp} connections`);
    assert.ok(stats.packets.captured < 100, `${stats.packets.captured} packets`);
  });

  test('namespaces, labels, owners, containers, directions', async (t) => {
    for (const [settings, expected] of [
      [['exclude_namespaces: [shop]'], ['SERVER other']],
      [['namespaces: ["oth*"]'], ['SERVER other']],
      [['label_selector: "app in (plain)"'], ['CLIENT plain main', 'CLIENT plain proxy']],
      [['workloads: [statefulset/plain]', 'containers: [proxy]'], ['CLIENT plain proxy']],
      [['exclude_containers: [proxy]', 'direction: out'], ['CLIENT plain main']],
      [['direction: in'], ['SERVER other']],
    ] as const) {
      await t.test(settings.join(', '), async (inner) => {
        const own = cleanupAfter(inner);
        const agent = await start(own, { settings });
        for (const container of ['main', 'proxy', 'main', 'proxy'])
          await curl(pods.plain, container, `${servers.other.url}/bytes/3`);
        const kinds = new Set(expected);
        await agent.waitForSpans(expected[0].startsWith('SERVER') ? 4 : 2 * kinds.size);
        const { all } = await stop(agent);
        const seen = all.map(
          ({ kind, resource }) =>
            `${kind} ${resource['service.name']}${kind === 'CLIENT' ? ` ${resource['k8s.container.name']}` : ''}`,
        );
        assert.deepEqual([...new Set(seen)].sort(), [...kinds].sort());
        assert.equal(seen.length, expected[0].startsWith('SERVER') ? 4 : 2 * kinds.size);
      });
    }
  });

  test('a filter by namespace leaves out the end that is in it, and counts it', async (t) => {
    const own = cleanupAfter(t);
    const config = 'filters:\n  exclude:\n    - {namespace: sh*, path: /bytes/*}\n';
    const agent = await start(own, { config });
    for (const container of ['main', 'proxy']) {
      const urls = ['/bytes/3', '/bytes/4', '/echo'].map((path) => `${servers.other.url}${path}`);
      await curl(pods.plain, container, ...urls.flatMap((url) => ['-o', '/dev/null', url]).slice(2));
    }
    await agent.waitForSpans(8);
    const { spans, stats } = await stop(agent);
    const served = ['/bytes/3', '/bytes/4', '/echo'].flatMap((path) => Array(2).fill(`SERVER other ${path}`));
    assert.deepEqual(spans, [...Array(2).fill('CLIENT plain /echo'), ...served]);
    assert.deepEqual(stats.spans.leftOut, { filtered: 4 });
  });

  test('a container that the API server tells of later: its spans wait; of one that it never tells of, not for ever', async (t) => {
    const own = cleanupAfter(t);
    const agent = await start(own, { settings: ['wait_ms: 3000'] });
    const two = [{ name: 'main' }, { name: 'proxy' }];
    const late = await node.pod({ name: 'late', namespace: 'shop', containers: two, untold: true });
    const never = await node.pod({ name: 'never', namespace: 'shop', containers: two, untold: true });
    await curl(late, 'proxy', `${servers.other.url}/bytes/4`);
    await curl(never, 'proxy', `${servers.other.url}/bytes/5`);
    const seenEarly = (await agent.spans()).length;
    await late.told();
    const spans = await agent.waitForSpans(4);
    const of = (path: string) =>
      spans.find(({ kind, attributes }) => kind === 'CLIENT' && String(attributes['url.full']).endsWith(path))
        ?.resource;
    assert.deepEqual([of('/4')?.['k8s.pod.name'], of('/4')?.['k8s.container.name']], ['late', 'proxy']);
    // The path of its cgroup says which pod it is.
    assert.deepEqual(
      [of('/5')?.['k8s.pod.name'], of('/5')?.['k8s.container.name'], of('/5')?.['service.name']],
      ['never', undefined, 'never'],
    );
    assert.equal(of('/5')?.['container.id'], never.containerId('proxy'));
    assert.equal(seenEarly, 0);
    const { stats } = await stop(agent);
    assert.deepEqual(stats.kubernetes.waits, { waited: 2, timeout: 1 });
    for (const pod of [late, never]) await pod.remove();
  });

  test('without the right to ask, the agent goes on with what it sees, and says so; with it, it catches up', async (t) => {
    const own = cleanupAfter(t);
    await account.allow(false);
    const agent = await start(own, { settings: ['wait_ms: 100'] });
    await curl(pods.plain, 'main', `${servers.other.url}/bytes/6`);
    const [client] = await agent.waitForSpans(2, ({ kind }) => kind === 'CLIENT' || kind === 'SERVER');
    assert.equal(client?.resource['k8s.pod.name'], undefined);
    assert.match(agent.running.stderr, /the API server cannot be asked.*403 pods is forbidden/);
    await account.allow(true);
    await until(async () => {
      await curl(pods.plain, 'main', `${servers.other.url}/bytes/7`);
      const named = (await agent.spans()).filter(({ resource }) => resource['service.name'] === 'plain');
      return named.length > 0 || undefined;
    }, 'a span with its name');
    const { stats } = await stop(agent);
    assert.ok(stats.kubernetes.informers[0]!.restarts >= 1);
  });
});
