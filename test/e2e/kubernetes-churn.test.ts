/**
 * Pods that come and go at the same few addresses under traffic, and an API server that is killed meanwhile: no span has another pod's name.
 * The truth is in the target of each request, which names the pod that asked and the one that was asked.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, suite, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { type Sample, scrape } from '../support/backends/metrics.ts';
import { startNodeServer } from '../support/http/servers.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { type AgentAccount, agentAccount, startNodeAgent } from '../support/kubernetes/agent.ts';
import { createNamespace, createNode } from '../support/kubernetes/objects.ts';
import { PodNetwork, type SimulatedNode, type SimulatedPod } from '../support/kubernetes/pods.ts';
import { type Cluster, startCluster } from '../support/kubernetes/server.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import type { Agent, Stats } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

/** Addresses that pods take turns at, on each node. */
const ADDRESSES = 3;
const GENERATIONS = 16;

const byInformer = (samples: readonly Sample[], name: string): Record<string, number> =>
  Object.fromEntries(
    samples.filter((sample) => sample.name === name).map(({ labels, value }) => [labels.informer!, value]),
  );

interface Ready {
  status: string;
  informers: { name: string; synced: boolean; connected: boolean; restarts: number; lastError?: string }[];
}

suite('pods that come and go', () => {
  const cleanup = new Cleanup();
  let cluster: Cluster;
  let account: AgentAccount;
  let nodes: { a: SimulatedNode; b: SimulatedNode };
  let agents: { a: Agent; b: Agent };
  let telemetryPort: number;
  /** Requests made, by target. */
  const made = new Map<string, number>();

  before(async () => {
    cluster = await startCluster(cleanup);
    account = await agentAccount(cleanup, cluster);
    await createNamespace(cluster.api, 'churn');
    const network = await PodNetwork.open(cleanup, cluster.api);
    nodes = { a: await network.node('node-a'), b: await network.node('node-b') };
    for (const { name, address } of Object.values(nodes)) await createNode(cluster.api, name, [address]);
    telemetryPort = await freePort();
    // Long: it is how late the API server may tell of a container on a busy machine.
    const options = { kubeconfig: account.kubeconfig, settings: ['wait_ms: 30000'] };
    agents = {
      a: await startNodeAgent(cleanup, nodes.a, {
        ...options,
        config: `telemetry:\n  listen: 127.0.0.1:${telemetryPort}\n`,
      }),
      b: await startNodeAgent(cleanup, nodes.b, options),
    };
  });
  after(async () => {
    await cleanup.run();
    await assertKernelClean();
  });

  const podAt = (node: SimulatedNode, name: string, ip: string) =>
    node.pod({
      name,
      namespace: 'churn',
      ip,
      qos: 'burstable',
      runtime: name.length % 2 === 0 ? 'containerd' : 'cri-o',
    });

  async function serve(pod: SimulatedPod, own: Cleanup): Promise<string> {
    const server = await startNodeServer(own, { host: pod.ip, port: 8080, prefix: pod.prefix(), tls: false });
    return server.url;
  }

  /** Asks and notes it: once with a connection for each request, once with one for all. */
  async function ask(from: SimulatedPod, to: SimulatedPod, url: string): Promise<void> {
    const target = `/bytes/7?from=${from.name}&to=${to.name}`;
    const [command, ...args] = [
      ...from.prefix(),
      'curl',
      '-s',
      ...Array(3)
        .fill(['-o', '/dev/null', url + target])
        .flat(),
    ];
    await run(command!, args);
    made.set(target, (made.get(target) ?? 0) + 3);
  }

  const ready = async (): Promise<Ready> =>
    (await (await fetch(`http://127.0.0.1:${telemetryPort}/readyz`)).json()) as Ready;

  test('servers and clients take each other’s addresses', async () => {
    const clientIps = Array.from({ length: ADDRESSES }, () => nodes.a.nextAddress());
    const serverIps = Array.from({ length: ADDRESSES }, () => nodes.b.nextAddress());
    // One line for each address: its pods come one after the other, the lines go on beside each other.
    const line = async (n: number) => {
      let client = await podAt(nodes.a, `c${n}-first`, clientIps[n]!);
      for (let generation = 0; generation < GENERATIONS; generation++) {
        const own = new Cleanup();
        const server = await podAt(nodes.b, `s${n}-${generation}`, serverIps[n]!);
        const url = await serve(server, own);
        await ask(client, server, url);
        if (generation % 2 === 1) {
          await client.remove(generation % 4 === 1);
          client = await podAt(nodes.a, `c${n}-${generation}`, clientIps[n]!);
          await ask(client, server, url);
        }
        await server.remove(generation % 3 !== 2);
        await own.run().catch(() => {});
      }
      await client.remove();
    };
    await Promise.all(Array.from({ length: ADDRESSES }, (_, n) => line(n)));
  });

  test('an API server that is killed and comes back under traffic', async () => {
    const own = new Cleanup();
    const client = await podAt(nodes.a, 'steady-client', nodes.a.nextAddress());
    const server = await podAt(nodes.b, 'steady-server', nodes.b.nextAddress());
    const url = await serve(server, own);
    await ask(client, server, url);
    await cluster.apiServer.kill();
    const before = await until(async () => {
      const state = await ready();
      return state.informers.every(({ restarts }) => restarts >= 1) ? state : undefined;
    }, 'restarts of all informers');
    // It knows what it knew, and is of use.
    assert.equal(before.status, 'ready');
    for (const { synced, lastError } of before.informers) assert.ok(synced && lastError !== undefined);
    await ask(client, server, url);
    // A container that is started again while nobody can tell of it has its pod's name by its cgroup.
    await client.restart();
    await ask(client, server, url);
    await cluster.apiServer.start();
    const next = await podAt(nodes.b, 'after-outage', nodes.b.nextAddress());
    const nextUrl = await serve(next, own);
    await until(async () => {
      await ask(client, next, nextUrl);
      return (await agents.b.spans()).some(({ resource }) => resource['k8s.pod.name'] === 'after-outage') || undefined;
    }, 'a span of a pod that came after the outage');
    // The metrics say the same, once all informers are back.
    const back = await until(async () => {
      const { informers } = await ready();
      const samples = await scrape(`http://127.0.0.1:${telemetryPort}`);
      const said = ['synced', 'restarts_total'].map((what) => byInformer(samples, `wirespan_informer_${what}`));
      const known = informers.map(({ name, restarts }) => [name, restarts]);
      const same = isDeepStrictEqual(said[1], Object.fromEntries(known));
      return same && informers.every(({ connected }) => connected)
        ? { synced: said[0]!, restarts: said[1]! }
        : undefined;
    }, 'watches of all informers, and metrics that tell of them');
    const all = ['node_pods', 'pods', 'services', 'endpointslices', 'nodes'];
    assert.deepEqual(back.synced, Object.fromEntries(all.map((name) => [name, 1])));
    for (const name of all) assert.ok(back.restarts[name]! >= 1, JSON.stringify(back.restarts));
    await own.run();
  });

  test('a token that is replaced', async () => {
    const { restarts } = (await ready()).informers[0]!;
    // The old one is of an account that is gone: all tokens of it are void. The same name stands for another account now.
    const accountObject = {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'agent', namespace: 'wirespan' },
    };
    await cluster.api.delete(accountObject);
    await cluster.api.create(accountObject);
    await cluster.apiServer.restart();
    await until(async () => ((await ready()).informers[0]!.restarts > restarts ? true : undefined), 'a restart');
    await writeFile(account.tokenFile, await cluster.tokenOf('wirespan', 'agent'));
    const own = new Cleanup();
    const client = await podAt(nodes.a, 'new-token-client', nodes.a.nextAddress());
    const server = await podAt(nodes.b, 'new-token-server', nodes.b.nextAddress());
    const url = await serve(server, own);
    await until(async () => {
      await ask(client, server, url);
      return (
        (await agents.a.spans()).some(({ resource }) => resource['k8s.pod.name'] === 'new-token-client') || undefined
      );
    }, 'a span of a pod that came after the token');
    await own.run();
  });

  test('every request has its two spans, of the pods that its target names, and of no other', async () => {
    const requests = [...made.values()].reduce((sum, n) => sum + n, 0);
    const targetOf = ({ attributes }: FlatSpan) =>
      attributes['url.query'] === undefined
        ? String(attributes['url.full']).split('?')[1]!
        : String(attributes['url.query']);
    await Promise.all([agents.a.waitForSpans(requests), agents.b.waitForSpans(requests)]);
    const named = { own: 0, peer: 0, all: 0 };
    for (const [end, agent] of [
      ['CLIENT', agents.a],
      ['SERVER', agents.b],
    ] as const) {
      const { spans, stats } = await agent.stop();
      assert.deepEqual([stats.packets.lost, stats.spans.dropped], [0, {}]);
      assert.equal(spans.length, requests);
      const counted = new Map<string, number>();
      for (const span of spans) {
        const query = new URLSearchParams(targetOf(span));
        const target = `/bytes/7?${targetOf(span)}`;
        counted.set(target, (counted.get(target) ?? 0) + 1);
        assert.equal(span.kind, end);
        const [own, peer] =
          end === 'CLIENT' ? [query.get('from'), query.get('to')] : [query.get('to'), query.get('from')];
        const pod = span.resource['k8s.pod.name'];
        const other = span.attributes['service.peer.name'];
        if (/^c\d/.test(query.get('from') ?? '')) {
          named.all++;
          if (pod !== undefined) named.own++;
          if (other !== undefined) named.peer++;
        }
        assert.ok(pod === own || pod === undefined, `${target}: the span of ${end} is from ${pod}`);
        assert.ok(other === peer || other === undefined, `${target}: at the other end of ${end} is ${other}`);
      }
      assert.deepEqual(Object.fromEntries(counted), Object.fromEntries(made));
      const { kubernetes } = stats as Stats & { kubernetes: object };
      assert.ok(kubernetes);
    }
    // Not by saying nothing. Each pod is known by its cgroup, unless that was gone before anybody looked; and most by their addresses: not
    // when they had used one before it was known to be theirs.
    assert.ok(named.own > 0.9 * named.all, JSON.stringify(named));
    assert.ok(named.peer > 0.5 * named.all, JSON.stringify(named));
  });
});
