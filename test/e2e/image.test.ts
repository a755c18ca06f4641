/**
 * The image and the pod of the chart's DaemonSet, run as a kubelet with containerd and runc would run them: with the capabilities, the
 * seccomp profile, the mounts and the account that the chart gives, and nothing else.
 */
import assert from 'node:assert/strict';
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { findCgroupRoot } from '../../src/capture/cgroup.ts';
import { capabilityUses } from '../../src/doctor/capabilities.ts';
import type { Report } from '../../src/doctor/report.ts';
import { objectsOf, renderChart } from '../support/chart/chart.ts';
import { startNginx } from '../support/http/nginx.ts';
import { startNodeServer, startPythonServer } from '../support/http/servers.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { joinedNamespace, type Namespaces } from '../support/kernel/netns.ts';
import type { KubernetesObject } from '../support/kubernetes/api.ts';
import { createNamespace, createNode, createPod, createWorkload } from '../support/kubernetes/objects.ts';
import { type Image, machineImage, type PodEnvironment, type PodSpec, startPod } from '../support/kubernetes/pod.ts';
import { type Cluster, startCluster } from '../support/kubernetes/server.ts';
import { startSink } from '../support/otlp/sink.ts';
import { parseSpans } from '../support/otlp/spans.ts';
import { Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { mainFile } from '../support/programs/paths.ts';
import { run, runAnyway } from '../support/programs/process.ts';

const NODE = 'node-a';
const PORT = 9464;
const CONTAINER = 'f'.repeat(64);

suite('the image', () => {
  const cleanup = new Cleanup();
  let image: Image;
  let network: Namespaces;
  let cluster: Cluster;

  before(async () => {
    image = await machineImage(cleanup);
    network = await joinedNamespace(cleanup);
    cluster = await startCluster(cleanup, network.here.v4);
    await createNamespace(cluster.api, 'wirespan');
    await createNamespace(cluster.api, 'shop');
    await createNode(cluster.api, NODE, [network.here.v4]);
  });
  after(async () => {
    await cleanup.run();
    await assertKernelClean();
  });

  /** What a folder of the image holds. */
  const paths = (folder: string): string[] => readdirSync(join(image.rootfs, folder));

  /** The pod of the DaemonSet, after the chart's objects that it needs have been created, and where it runs. */
  async function chartPod(
    scope: Cleanup,
    values: object,
  ): Promise<{ spec: PodSpec; testSpec: PodSpec; environment: PodEnvironment }> {
    const folder = await scope.temporaryFolder();
    await writeFile(join(folder, 'values.yaml'), JSON.stringify(values));
    const objects = objectsOf(await renderChart(['--values', join(folder, 'values.yaml')]));
    for (const object of objects) {
      if (!/^(?:ServiceAccount|ClusterRole|ClusterRoleBinding)$/.test(object.kind)) continue;
      await cluster.api.create(object);
      scope.add(() => cluster.api.delete(object));
    }
    // What the kubelet projects into the pod.
    const serviceAccount = join(folder, 'account');
    await mkdir(serviceAccount);
    await writeFile(join(serviceAccount, 'token'), await cluster.tokenOf('wirespan', 'wirespan'));
    await writeFile(join(serviceAccount, 'ca.crt'), readFileSync(cluster.caFile));
    await writeFile(join(serviceAccount, 'namespace'), 'wirespan');
    const daemonSet = objects.find(({ kind }) => kind === 'DaemonSet') as KubernetesObject & {
      spec: { template: { spec: PodSpec } };
    };
    return {
      spec: daemonSet.spec.template.spec,
      testSpec: (objects.find(({ kind }) => kind === 'Pod') as KubernetesObject & { spec: PodSpec }).spec,
      environment: {
        image,
        objects,
        nodeName: NODE,
        networkNamespace: `/run/netns/${network.name}`,
        serviceAccount,
        env: { KUBERNETES_SERVICE_HOST: cluster.host, KUBERNETES_SERVICE_PORT: String(cluster.port) },
      },
    };
  }

  test('holds Node, the agent, the libraries they need, and no other program', (t) => {
    const files = readdirSync(image.rootfs, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const paths = files.map((entry) => join(entry.parentPath, entry.name).slice(image.rootfs.length));
    const programs = paths.filter((path) => {
      try {
        accessSync(join(image.rootfs, path), constants.X_OK);
      } catch {
        return false;
      }
      return !/\.so(\.\d+)*$/.test(path) && !path.endsWith('.node');
    });
    assert.deepEqual(programs.filter((path) => !path.startsWith('/app/node_modules/')).sort(), [
      '/app/dist/main.js',
      '/usr/local/bin/node',
    ]);
    assert.deepEqual(
      programs.filter((path) => readFileSync(join(image.rootfs, path)).subarray(0, 4).toString('latin1') === '\x7fELF'),
      ['/usr/local/bin/node'],
    );
    // The options of its first line are those of every start.
    const [ofDist, ofImage] = [mainFile, join(image.rootfs, 'app/dist/main.js')].map(
      (file) => readFileSync(file, 'utf8').split('\n')[0],
    );
    assert.equal(ofImage, ofDist?.replace('/usr/bin/env -S node', '/usr/local/bin/node'));
    assert.deepEqual(image.entrypoint, ['/usr/local/bin/wirespan']);
    // What is only needed to build it.
    const packages = readdirSync(join(image.rootfs, 'app/node_modules'));
    assert.ok(packages.includes('@opentelemetry'));
    assert.deepEqual(
      packages.filter((name) => /^(?:typescript|@biomejs|fast-check|node-addon-api)$/.test(name)),
      [],
    );
    t.diagnostic(`${paths.length} files`);
  });

  test('holds NOTICE, which names all that is in it of others, and the texts of their licences', () => {
    const notice = readFileSync(join(image.rootfs, 'app/NOTICE'), 'utf8');
    assert.ok(paths('app/licenses').includes('LGPL-3.0.txt'));
    for (const name of paths('var/lib/dpkg/status.d')) {
      assert.ok(notice.includes(`\n  ${name} (`), name);
      assert.ok(paths(`usr/share/doc/${name}`).includes('copyright'), name);
    }
    assert.ok(paths('usr/share/doc/node').includes('LICENSE'));
    const manifests = readdirSync(join(image.rootfs, 'app/node_modules'), { recursive: true, encoding: 'utf8' })
      .filter((path) => /(?:^|node_modules\/)(?:@[^/]+\/)?[^/]+\/package\.json$/.test(path))
      .map((path) => JSON.parse(readFileSync(join(image.rootfs, 'app/node_modules', path), 'utf8')))
      .filter(({ name, version }) => name !== undefined && version !== undefined);
    assert.ok(manifests.length > 100);
    for (const { name, version } of manifests)
      assert.ok(notice.includes(`\n  ${name} ${version}: `), `${name} ${version}`);
  });

  test('as a pod of the chart: everybody’s TLS is seen, pods have their names, spans arrive', async (t) => {
    const cleanup = cleanupAfter(t);
    const sink = await startSink(cleanup, 0, undefined, network.here.v4);
    const { spec, testSpec, environment } = await chartPod(cleanup, {
      otlp: { endpoint: sink.endpoint },
      config: { outputs: ['otlp', 'otlp-json'], log: { level: 'debug' }, export: { batch_delay_ms: 100 } },
    });
    // A pod of this node, in the cgroups that containerd makes for it.
    const deployment = await createWorkload(cluster.api, 'Deployment', { name: 'web', namespace: 'shop' });
    const owner = await createWorkload(cluster.api, 'ReplicaSet', {
      name: 'web-5d4f',
      namespace: 'shop',
      owner: deployment,
    });
    const pod = await createPod(cluster.api, {
      ...{ name: 'web-5d4f-x', namespace: 'shop', owner, node: NODE, ip: '10.244.0.5' },
      containers: [{ name: 'main', id: `containerd://${CONTAINER}` }],
    });
    const slice = `kubepods-besteffort-pod${pod.metadata.uid?.replaceAll('-', '_')}.slice`;
    await newCgroup(cleanup, slice);
    const { prefix } = await newCgroup(cleanup, `${slice}/cri-containerd-${CONTAINER}.scope`);

    const web = await startNodeServer(cleanup, { prefix });
    const agent = await startPod(cleanup, spec, environment);
    await agent.running.waitFor('stderr', /ready: /);
    const base = `http://${network.there.v4}:${PORT}`;
    const readyz = await until(async () => {
      const response = await fetch(`${base}/readyz`).catch(() => undefined);
      return response?.ok ? response.text() : undefined;
    }, 'readiness');
    assert.match(readyz, /informer/);
    assert.equal((await fetch(`${base}/healthz`)).status, 200);
    assert.match(await (await fetch(`${base}/metrics`)).text(), /^# TYPE wirespan_/m);
    // What `helm test` runs, with an address in place of the Service's name.
    const args = [network.there.v4, String(PORT), '60000'];
    const asked = await (await startPod(cleanup, testSpec, { ...environment, args })).running.exited;
    assert.deepEqual(
      [asked.exitCode, asked.stdout.trim().split('\n').at(-1)],
      [0, '1 of 1 agents are ready'],
      asked.stderr,
    );

    const nginx = await startNginx(cleanup);
    const python = await startPythonServer(cleanup, { env: { OTEL_SERVICE_NAME: 'ordering' } });
    const urls = [
      `https://127.0.0.1:${nginx.tls13Port}/hello`,
      `https://127.0.0.1:${nginx.tls12Port}/hello`,
      `http://127.0.0.1:${nginx.plainPort}/hello`,
      `${web.url}/bytes/1`,
      `${python.url}/bytes/1`,
    ];
    for (const url of urls) await run('curl', ['-sk', '-o', '/dev/null', url]);
    const ports = new Set(urls.map((url) => Number(new URL(url).port)));
    const ours = () =>
      parseSpans(agent.running.stdout).filter(({ attributes }) => ports.has(attributes['server.port'] as number));
    const spans = await until(() => (ours().length >= 2 * urls.length ? ours() : undefined), 'the spans').catch(
      (error: unknown) => {
        throw new Error(`${ours().length} spans came\n${agent.running.stderr}`, { cause: error });
      },
    );
    assert.deepEqual(
      spans.map((span) => `${span.attributes['server.port']} ${span.kind} ${span.resource['service.name']}`).sort(),
      [...ports].flatMap((port) => [`${port} CLIENT curl`, `${port} SERVER ${nameOf(port)}`]).sort(),
    );
    function nameOf(port: number): string {
      if (port === web.port) return 'web';
      return port === python.port ? 'ordering' : 'nginx';
    }
    const [ofPod] = spans.filter(({ kind, attributes }) => kind === 'SERVER' && attributes['server.port'] === web.port);
    const { resource } = ofPod!;
    assert.deepEqual(
      ['k8s.namespace.name', 'k8s.deployment.name', 'k8s.pod.name', 'k8s.node.name', 'container.id'].map(
        (key) => resource[key],
      ),
      ['shop', 'web', 'web-5d4f-x', NODE, CONTAINER],
    );
    await until(
      async () => ((await sink.totals()).spans >= spans.length ? true : undefined),
      'the spans at the backend',
    );

    // What the chart promises of its container.
    const pid = agentPid(agent.id);
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(status)?.[1];
    const mask = capabilityUses.reduce((bits, { bit }) => bits | (1n << BigInt(bit)), 0n);
    for (const set of ['CapPrm', 'CapEff', 'CapBnd']) assert.equal(BigInt(`0x${field(set)}`), mask, set);
    assert.equal(BigInt(`0x${field('CapAmb')}`), 0n);
    assert.deepEqual([field('NoNewPrivs'), field('Seccomp')], ['1', '2']);
    const powerless = ['setpriv', '--inh-caps=-all', '--bounding-set=-all', 'head', '-c1', `/proc/${pid}/environ`];
    assert.match((await runAnyway(powerless[0]!, powerless.slice(1))).stderr, /Permission denied/);
    const write = await agent.exec('node', '--eval', "require('fs').writeFileSync('/tmp/x', '')");
    assert.match(write.stderr, /EROFS/);
    const doctor = await agent.exec('wirespan', 'doctor', '--json');
    assert.equal(doctor.exitCode, 0, doctor.stdout + doctor.stderr);
    const { checks } = JSON.parse(doctor.stdout) as Report;
    assert.deepEqual(
      checks.filter(({ state }) => state === 'no' || state === 'limited'),
      [],
    );

    // The kubelet's signal.
    const { exitCode, stderr } = await agent.running.stop('SIGTERM', 30_000);
    assert.equal(exitCode, 0, stderr);
    assert.doesNotMatch(stderr, /"level":"(?:warn|error)"|forbidden/);
    await assertKernelClean();
  });

  test('one capability less: the error names it, and what it is for', async (t) => {
    const cleanup = cleanupAfter(t);
    const { spec, environment } = await chartPod(cleanup, { config: { outputs: ['none'] } });
    const given = spec.containers[0]!.securityContext.capabilities.add!;
    assert.deepEqual(given.map((name) => `CAP_${name}`).sort(), capabilityUses.map(({ name }) => name).sort());
    for (const without of capabilityUses) {
      const capabilities = given.filter((name) => `CAP_${name}` !== without.name);
      const agent = await startPod(cleanup, spec, { ...environment, capabilities });
      if (without.required) {
        const { exitCode, stderr } = await agent.running.exited;
        assert.equal(exitCode, 1, stderr);
        assert.match(stderr, new RegExp(`missing: ${without.name} \\(${without.use}\\)`));
      } else {
        await agent.running.waitFor('stderr', /ready: /);
        const { stderr } = await agent.running.stop('SIGTERM', 30_000);
        assert.match(stderr, new RegExp(`less is seen without some capabilities.*${without.name}`));
      }
    }
  });
});

/** The process of a container, by its cgroup: the first that is in there. */
function agentPid(id: string): number {
  const root = findCgroupRoot();
  return Number(readFileSync(join(root, id, 'cgroup.procs'), 'utf8').split('\n')[0]);
}
