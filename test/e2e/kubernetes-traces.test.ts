/**
 * Two nodes of a cluster with a real API server, an agent on each, one Jaeger: what pods say to each other through Services is one trace with
 * both workloads named.
 */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type Jaeger, type JaegerSpan, startJaeger } from '../support/backends/jaeger.ts';
import { type Postgres, startPostgres } from '../support/databases/postgres.ts';
import { type Nginx, startNginx } from '../support/http/nginx.ts';
import { startNodeServer } from '../support/http/servers.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { joinedNamespace } from '../support/kernel/netns.ts';
import { agentAccount, startNodeAgent } from '../support/kubernetes/agent.ts';
import type { KubernetesObject } from '../support/kubernetes/api.ts';
import { createNamespace, createNode, createWorkload, type WorkloadKind } from '../support/kubernetes/objects.ts';
import { PodNetwork, type SimulatedNode, type SimulatedPod } from '../support/kubernetes/pods.ts';
import { type Cluster, startCluster } from '../support/kubernetes/server.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import type { Agent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { until, waitForPort } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

const SHOP = 'shop';

suite('pods of two nodes', () => {
  const cleanup = new Cleanup();
  let cluster: Cluster;
  let jaeger: Jaeger;
  let nodes: { a: SimulatedNode; b: SimulatedNode };
  let agents: { a: Agent; b: Agent };
  let web: SimulatedPod;
  let cart: SimulatedPod;
  let database: SimulatedPod;
  let nginx: Nginx;
  let postgres: Postgres;
  let addresses: { cart: string; database: string };
  let nodePort: number;

  const workload = (kind: WorkloadKind, name: string, owner?: KubernetesObject, namespace = SHOP) =>
    createWorkload(cluster.api, kind, { name, namespace, ...(owner && { owner }) });

  before(async () => {
    [cluster, jaeger] = await Promise.all([startCluster(cleanup), startJaeger(cleanup)]);
    const { api } = cluster;
    const account = await agentAccount(cleanup, cluster);
    await createNamespace(api, SHOP);
    const network = await PodNetwork.open(cleanup, api);
    nodes = { a: await network.node('node-a'), b: await network.node('node-b') };
    for (const { name, address } of Object.values(nodes)) await createNode(api, name, [address]);

    const deployment = await workload('Deployment', 'web');
    const replicaSet = await workload('ReplicaSet', 'web-5d4f', deployment);
    const cartDeployment = await workload('Deployment', 'cart');
    const cartReplicaSet = await workload('ReplicaSet', 'cart-77b9', cartDeployment);
    const orders = await workload('StatefulSet', 'orders-db');
    web = await nodes.a.pod({
      name: 'web-5d4f-x1',
      namespace: SHOP,
      owner: replicaSet,
      qos: 'burstable',
      labels: { 'pod-template-hash': '5d4f', 'wirespan.test/team': 'storefront' },
      annotations: { 'wirespan.test/contact': 'desk 7', 'other.test/contact': 'nobody' },
    });
    cart = await nodes.b.pod({
      name: 'cart-77b9-y1',
      namespace: SHOP,
      owner: cartReplicaSet,
      runtime: 'cri-o',
      qos: 'guaranteed',
      labels: { 'app.kubernetes.io/version': '7', 'pod-template-hash': '77b9' },
      annotations: { 'resource.opentelemetry.io/deployment.environment.name': 'test' },
      containers: [{ name: 'nginx', image: 'example.com/cart:2.1' }],
    });
    database = await nodes.b.pod({
      name: 'orders-db-0',
      namespace: SHOP,
      owner: orders,
      runtime: 'docker',
      driver: 'cgroupfs',
    });
    nginx = await startNginx(cleanup, { host: cart.ip, prefix: cart.prefix('nginx') });
    for (const port of [nginx.plainPort, nginx.tls13Port]) await waitForPort(port, cart.ip);
    postgres = await startPostgres(cleanup, { host: database.ip, prefix: database.prefix() });
    const ports = [
      [80, nginx.plainPort],
      [443, nginx.tls13Port],
    ] as const;
    const cartService = await network.service('cart', cart, ports, 'NodePort');
    nodePort = cartService.nodePort;
    const databaseService = await network.service('orders', database, [[5432, postgres.port]]);
    addresses = { cart: cartService.address, database: databaseService.address };

    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: jaeger.endpoint };
    const { kubeconfig } = account;
    const options = {
      kubeconfig,
      env,
      args: ['--output', 'otlp'],
      settings: ['cluster_name: test', 'labels: ["wirespan.test/*"]', 'annotations: [wirespan.test/contact]'],
    };
    agents = { a: await startNodeAgent(cleanup, nodes.a, options), b: await startNodeAgent(cleanup, nodes.b, options) };
  });
  after(async () => {
    await cleanup.run();
    await assertKernelClean();
  });

  /** A machine that is not of the cluster and reaches its pods. */
  async function outsider() {
    const outside = await joinedNamespace(cleanup);
    await run('ip', ['-n', outside.name, 'route', 'add', 'default', 'via', outside.here.v4]);
    return outside;
  }
  const curl = (pod: SimulatedPod, ...words: string[]) => {
    const [command, ...args] = [...pod.prefix(), 'curl', '-sk', '-o', '/dev/null', ...words];
    return run(command!, args);
  };
  const pathOf = ({ attributes }: FlatSpan) =>
    String(attributes['url.path'] ?? new URL(String(attributes['url.full'])).pathname);
  const spansTo = (agent: Agent, path: string, count: number) =>
    agent.waitForSpans(count, (span) =>
      span.attributes['url.full'] !== undefined || span.attributes['url.path'] !== undefined
        ? pathOf(span).startsWith(path)
        : false,
    );
  const peerOf = ({ attributes }: FlatSpan) => [
    attributes['service.peer.name'],
    attributes['service.peer.namespace'],
    attributes['peer.service'],
  ];

  test('HTTP through a Service, plain and inside TLS: one trace, both workloads named, in Jaeger, too', async () => {
    for (const [i, url] of [`http://${addresses.cart}`, 'http://cart', 'https://cart'].entries()) {
      await curl(
        web,
        '--resolve',
        `cart:80:${addresses.cart}`,
        '--resolve',
        `cart:443:${addresses.cart}`,
        `${url}/orders/a${i}`,
      );
    }
    const clients = await spansTo(agents.a, '/orders/a', 3);
    const servers = await spansTo(agents.b, '/orders/a', 3);
    assert.equal(clients.length, 3);
    assert.equal(servers.length, 3);
    for (const client of clients) {
      const server = servers.find((each) => pathOf(each) === pathOf(client));
      assert.deepEqual([client.kind, server?.kind], ['CLIENT', 'SERVER']);
      assert.deepEqual([server?.traceId, server?.parentSpanId], [client.traceId, client.spanId]);
      assert.deepEqual(peerOf(client), ['cart', SHOP, 'cart']);
      assert.deepEqual(peerOf(server!), ['web', SHOP, 'web']);
      // The wire says the name, or the address of the Service alone.
      assert.equal(client.attributes['server.address'], 'cart');
      assert.equal(client.attributes['network.peer.address'], addresses.cart);
      assert.equal(server?.attributes['client.address'], web.ip);
    }
    const { resource: client } = clients[0]!;
    const { resource: server } = servers[0]!;
    assert.deepEqual(
      Object.fromEntries(Object.entries(client).filter(([key]) => /^(?:service|k8s|container)\./.test(key))),
      {
        'service.name': 'web',
        'service.namespace': SHOP,
        'service.instance.id': 'shop.web-5d4f-x1.main',
        'service.version': '1',
        'k8s.cluster.name': 'test',
        'k8s.namespace.name': SHOP,
        'k8s.node.name': 'node-a',
        'k8s.pod.name': 'web-5d4f-x1',
        'k8s.pod.uid': web.uid,
        // What the configuration names, and nothing else.
        'k8s.pod.label.wirespan.test/team': 'storefront',
        'k8s.pod.annotation.wirespan.test/contact': 'desk 7',
        'k8s.replicaset.name': 'web-5d4f',
        'k8s.deployment.name': 'web',
        'k8s.container.name': 'main',
        'k8s.container.restart_count': 0,
        'container.id': web.containerId(),
        'container.image.name': 'example.com/test',
        'container.image.tags': ['1'],
      },
    );
    assert.equal(server['service.name'], 'cart');
    assert.equal(server['service.version'], '7');
    assert.equal(server['deployment.environment.name'], 'test');
    assert.equal(server['container.id'], cart.containerId('nginx'));
    assert.deepEqual([server['k8s.node.name'], server['host.name']], ['node-b', 'node-b']);

    const traces = await until(async () => {
      const found = (await jaeger.traces('cart')).filter((spans) => spans.length === 2);
      return found.length >= 3 ? found : undefined;
    }, 'three traces of two spans in Jaeger');
    for (const spans of traces) {
      const of = (kind: string) => spans.find(({ tags }) => tags['span.kind'] === kind) as JaegerSpan;
      assert.deepEqual([of('client').service, of('server').service], ['web', 'cart']);
      assert.equal(of('server').references[0]?.spanID, of('client').spanID);
      assert.equal(of('client').processTags['k8s.deployment.name'], 'web');
      assert.equal(of('server').processTags['k8s.pod.uid'], cart.uid);
    }
  });

  test('SQL through a Service: one span, at the client, that names the Service', async () => {
    const statements = 5;
    const [command, ...args] = [
      ...web.prefix(),
      'psql',
      '-XqAt',
      ...Array.from({ length: statements }, (_, i) => ['-c', `SELECT ${i} AS kubernetes`]).flat(),
    ];
    await run(command!, args, { env: { ...postgres.env(), PGHOST: addresses.database, PGPORT: '5432' } });
    const isOurs = (span: FlatSpan) => String(span.attributes['db.query.text']).endsWith('AS kubernetes');
    const spans = await agents.a.waitForSpans(statements, isOurs);
    assert.equal(spans.length, statements);
    for (const span of spans) {
      assert.equal(span.kind, 'CLIENT');
      assert.equal(span.attributes['server.address'], 'orders');
      assert.deepEqual(peerOf(span), ['orders-db', SHOP, 'orders-db']);
      assert.equal(span.resource['service.name'], 'web');
    }
    assert.deepEqual((await agents.b.spans()).filter(isOurs), []);
  });

  test('SQL of a client that no agent sees: the span is the database’s', async () => {
    const outside = await outsider();
    const [command, ...args] = [...outside.prefix, 'psql', '-XqAt', '-c', 'SELECT 1 AS outside'];
    await run(command!, args, { env: postgres.env() });
    const [span] = await agents.b.waitForSpans(
      1,
      ({ attributes }) => attributes['db.query.text'] === 'SELECT ? AS outside',
    );
    assert.equal(span?.kind, 'SERVER');
    assert.deepEqual(
      [span.resource['k8s.statefulset.name'], span.resource['k8s.pod.name']],
      ['orders-db', 'orders-db-0'],
    );
    assert.equal(span.attributes['client.address'], outside.there.v4);
    assert.equal(span.attributes['service.peer.name'], undefined);
  });

  test('the port of a node, the address of a pod on the same node, a name outside of the cluster', async () => {
    await curl(web, `http://${nodes.b.address}:${nodePort}/orders/node-port`);
    const [atNode] = await spansTo(agents.a, '/orders/node-port', 1);
    assert.deepEqual(peerOf(atNode!), ['cart', SHOP, 'cart']);
    assert.equal(atNode?.attributes['server.address'], 'cart');

    const tester = await nodes.b.pod({ name: 'tester', namespace: SHOP });
    await curl(tester, `http://${cart.ip}:${nginx.plainPort}/orders/same-node`);
    const [client, server] = await spansTo(agents.b, '/orders/same-node', 2);
    assert.deepEqual([client?.kind, server?.kind], ['CLIENT', 'SERVER']);
    assert.deepEqual([server?.traceId, server?.parentSpanId], [client?.traceId, client?.spanId]);
    assert.deepEqual([peerOf(client!)[0], peerOf(server!)[0]], ['cart', 'tester']);

    const outside = await outsider();
    const shop = await startNodeServer(cleanup, { host: outside.there.v4, prefix: outside.prefix, tls: false });
    await curl(
      web,
      '--resolve',
      `api.example.com:${shop.port}:${shop.host}`,
      `http://api.example.com:${shop.port}/bytes/1`,
    );
    const [external] = await spansTo(agents.a, '/bytes/1', 1);
    assert.deepEqual(peerOf(external!), ['api.example.com', undefined, 'api.example.com']);
  });

  test('owners of all kinds, containers of all kinds, pods in the network of their node', async () => {
    const cronJob = await workload('CronJob', 'report');
    const job = await workload('Job', 'report-29000000', cronJob);
    const daemonSet = await workload('DaemonSet', 'collect');
    const clients = [
      await nodes.a.pod({
        name: 'report-29000000-z1',
        namespace: SHOP,
        owner: job,
        driver: 'cgroupfs',
        qos: 'guaranteed',
      }),
      await nodes.a.pod({
        name: 'collect-k2',
        namespace: SHOP,
        owner: daemonSet,
        hostNetwork: true,
        runtime: 'cri-o',
        driver: 'cgroupfs',
      }),
      await nodes.a.pod({
        name: 'alone',
        namespace: SHOP,
        runtime: 'docker',
        containers: [{ name: 'setup', kind: 'init' }, { name: 'main' }, { name: 'proxy', kind: 'sidecar' }],
      }),
    ];
    await curl(clients[0]!, `http://${addresses.cart}/orders/job`);
    await curl(clients[1]!, `http://${addresses.cart}/orders/daemon`);
    for (const name of ['setup', 'main', 'proxy']) {
      const [command, ...args] = [
        ...clients[2]!.prefix(name),
        'curl',
        '-s',
        '-o',
        '/dev/null',
        `http://${addresses.cart}/orders/alone-${name}`,
      ];
      await run(command!, args);
    }
    const of = async (path: string) => (await spansTo(agents.a, path, 1))[0]!;
    const { resource } = await of('/orders/job');
    assert.deepEqual(
      [resource['service.name'], resource['k8s.cronjob.name'], resource['k8s.job.name']],
      ['report', 'report', 'report-29000000'],
    );
    const daemon = await of('/orders/daemon');
    assert.deepEqual([daemon.resource['service.name'], daemon.resource['k8s.daemonset.name']], ['collect', 'collect']);
    assert.equal(daemon.attributes['service.peer.name'], 'cart');
    for (const name of ['setup', 'main', 'proxy']) {
      const alone = (await of(`/orders/alone-${name}`)).resource;
      assert.deepEqual([alone['service.name'], alone['k8s.container.name']], ['alone', name]);
    }
    const [fromJob] = await spansTo(agents.b, '/orders/job', 1);
    assert.equal(fromJob?.attributes['service.peer.name'], 'report');
    // What comes from a node's address may be any of what runs there. Here both nodes are one machine, which chose its address.
    const [fromNode] = await spansTo(agents.b, '/orders/daemon', 1);
    const node = Object.values(nodes).find(({ address }) => address === fromNode?.attributes['client.address']);
    assert.equal(fromNode?.attributes['service.peer.name'], node?.name);
  });

  test('a container that is started again has another id under the same pod', async () => {
    const before = web.containerId();
    await web.restart();
    await web.told();
    assert.notEqual(web.containerId(), before);
    await curl(web, `http://${addresses.cart}/orders/restarted`);
    const [span] = await spansTo(agents.a, '/orders/restarted', 1);
    assert.deepEqual([span?.resource['container.id'], span?.resource['k8s.pod.uid']], [web.containerId(), web.uid]);
  });

  test('at the end: everything was exported, nothing was lost, the informers are in step', async () => {
    for (const agent of Object.values(agents)) {
      const { stats } = await agent.stop();
      assert.equal(stats.spans.exported, stats.spans.made);
      assert.deepEqual([stats.spans.dropped, stats.packets.lost], [{}, 0]);
      const { kubernetes } = stats as unknown as {
        kubernetes: { informers: { name: string; synced: boolean; restarts: number }[] };
      };
      assert.deepEqual(
        kubernetes.informers.map(({ name, synced, restarts }) => `${name} ${synced} ${restarts}`),
        ['node_pods', 'pods', 'services', 'endpointslices', 'nodes'].map((name) => `${name} true 0`),
      );
    }
  });
});
