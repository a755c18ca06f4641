/** The Helm chart, judged by Helm and by a real API server. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { collectorProgram } from '../support/backends/collector.ts';
import { chartFolder, goldens, objectsOf, renderChart, renderedFiles, renderGolden } from '../support/chart/chart.ts';
import { helmProgram } from '../support/chart/helm.ts';
import { prometheusOperatorDefinitions } from '../support/chart/prometheus-operator.ts';
import { KubernetesError, type KubernetesObject } from '../support/kubernetes/api.ts';
import { createNamespace } from '../support/kubernetes/objects.ts';
import { type Cluster, startCluster } from '../support/kubernetes/server.ts';
import { Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { root } from '../support/programs/paths.ts';
import { type Result, run, runAnyway, start } from '../support/programs/process.ts';

const NAMESPACE = 'wirespan';

const isTest = ({ metadata }: KubernetesObject) => metadata.annotations?.['helm.sh/hook'] === 'test';
const named = (objects: readonly KubernetesObject[], kind: string, name: string) => {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  assert.ok(found, `no ${kind} ${name}`);
  return found;
};
/** The pods that a DaemonSet or a Deployment would make. */
const podOf = ({ metadata, spec }: KubernetesObject): KubernetesObject => {
  const { template } = spec as { template: { metadata: { labels: Record<string, string> }; spec: object } };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...template.metadata, name: `${metadata.name}-pod` },
    spec: template.spec,
  };
};

suite('the chart by itself', () => {
  test('helm lint finds nothing', async () => {
    const helm = await helmProgram();
    const values = goldens.map(({ name }) => join(root, `test/golden/chart/${name}.values.yaml`));
    for (const file of [join(chartFolder, 'values.yaml'), ...values]) {
      const { stdout } = await run(helm, ['lint', '--strict', chartFolder, '--values', file]);
      assert.match(stdout, /1 chart\(s\) linted, 0 chart\(s\) failed/);
      assert.doesNotMatch(stdout, /\[(?:WARNING|ERROR)\]/);
    }
  });

  test('the plain manifests and the golden files are what Helm renders; npm run chart makes them again', async () => {
    const outdated = [...(await renderedFiles())].filter(
      ([file, text]) => readFileSync(join(root, file), 'utf8') !== text,
    );
    assert.deepEqual(
      outdated.map(([file]) => file),
      [],
    );
  });

  const wrong: [string, string[], RegExp][] = [
    ['a key that is none', ['image.tags=1'], /image.*'tags'/s],
    ['a key of the agent that is none', ['config.http.rutes=x'], /config.*http.*'rutes'/s],
    ['a value of the agent that is none', ['config.capture.ring_mib=0'], /config.*capture.*ring_mib.*minimum/s],
    ['a wrong type', ['telemetry.port=http'], /telemetry.*port.*integer/s],
    ['a digest that is none', ['image.digest=latest'], /image.*digest.*pattern/s],
    ['an endpoint that is none', ['otlp.endpoint=jaeger:4317'], /otlp.*endpoint.*pattern/s],
    ['a kernel that is none', ['oldestKernel=old'], /oldestKernel.*pattern/s],
    ['a gateway to nowhere', ['gateway.enabled=true'], /gateway\.jaeger, gateway\.tempo: one of them/],
  ];
  for (const [what, sets, message] of wrong) {
    test(`${what}: the error names it`, async () => {
      await assert.rejects(renderChart(sets.flatMap((set) => ['--set', set])), message);
    });
  }

  test('numbers of configuration keep their digits, and the port is the chart’s', async () => {
    const set = 'config.limits.reassembly_bytes=268435456,config.telemetry.listen=127.0.0.1:1';
    const map = named(objectsOf(await renderChart(['--set', set])), 'ConfigMap', 'wirespan');
    assert.deepEqual((map.data as Record<string, string>)['config.yaml']?.split('\n'), [
      ...['limits:', '  reassembly_bytes: 268435456', 'telemetry:', '  listen: :9464', ''],
    ]);
  });

  test('the gateway’s configuration is one that the Collector takes', async (t) => {
    const folder = await cleanupAfter(t).temporaryFolder();
    const objects = objectsOf(await renderGolden(goldens[0]!));
    const data = named(objects, 'ConfigMap', 'wirespan-tracer-gateway').data as Record<string, string>;
    const { spec } = podOf(named(objects, 'Deployment', 'wirespan-tracer-gateway')) as unknown as {
      spec: { containers: { args: string[]; env: { name: string; value: string }[] }[] };
    };
    const [{ args, env }] = spec.containers as [(typeof spec.containers)[0]];
    for (const [name, text] of Object.entries(data)) await writeFile(join(folder, name), text);
    await run(await collectorProgram(), ['validate', ...args.map((arg) => arg.replace('/etc/gateway', folder))], {
      env: Object.fromEntries(env.map(({ name, value }) => [name, value])),
    });
  });
});

suite('the chart in a cluster', () => {
  const cleanup = new Cleanup();
  let cluster: Cluster;
  let helm: (...args: string[]) => Promise<Result>;

  before(async () => {
    cluster = await startCluster(cleanup);
    const program = await helmProgram();
    helm = (...args) =>
      run(program, [...args, '--namespace', NAMESPACE, '--kubeconfig', cluster.kubeconfig], { timeoutMs: 60_000 });
    for (const definition of await prometheusOperatorDefinitions()) await cluster.api.create(definition);
    await createNamespace(cluster.api, NAMESPACE);
    // New kinds are served a moment after their definition.
    await until(
      () => cluster.api.request('GET', '/apis/monitoring.coreos.com/v1/podmonitors').catch(() => undefined),
      'the kinds of the Prometheus Operator',
    );
  });
  after(() => cleanup.run());

  const renders = [
    {
      name: 'the plain manifests',
      text: async () => readFileSync(join(root, 'charts/manifests/wirespan.yaml'), 'utf8'),
    },
    ...goldens.map((golden) => ({ name: golden.name, text: () => renderGolden(golden) })),
  ];
  for (const { name, text } of renders) {
    test(`the server takes every object: ${name}`, async () => {
      const objects = objectsOf(await text());
      assert.ok(objects.length > 3);
      for (const object of objects) {
        if (object.kind === 'Namespace') continue;
        // A pod with its name is admitted only where there is one.
        if (object.kind === 'PriorityClass') await cluster.api.create(object);
        else await cluster.api.create(object, { dryRun: true });
        if (object.kind === 'DaemonSet' || object.kind === 'Deployment') {
          await cluster.api.create(podOf(object), { dryRun: true });
        }
      }
    });
  }

  test('of what Pod Security calls privileged the agent uses what the documentation names; all else is restricted', async () => {
    const level = async (enforce: string) => {
      const name = `pods-${enforce}`;
      const labels = { 'pod-security.kubernetes.io/enforce': enforce };
      await cluster.api.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
      return (pod: KubernetesObject) =>
        cluster.api.create({ ...pod, metadata: { ...pod.metadata, namespace: name } }, { dryRun: true });
    };
    const objects = objectsOf(await renderChart(['--set', 'gateway.enabled=true,gateway.jaeger=jaeger:4317']));
    const restricted = await level('restricted');
    await restricted(podOf(named(objects, 'Deployment', 'wirespan-gateway')));
    await restricted(objects.find(isTest)!);
    const baseline = await level('baseline');
    await assert.rejects(baseline(podOf(named(objects, 'DaemonSet', 'wirespan'))), (error) => {
      assert.ok(error instanceof KubernetesError && error.status === 403);
      assert.match(error.message, /hostPID=true/);
      assert.match(error.message, /hostPath volumes \(volume \\?"cgroup\\?"\)/);
      assert.match(error.message, /non-default capabilities/);
      assert.doesNotMatch(error.message, /hostNetwork|hostIPC|privileged|seccomp|hostPort/);
      return true;
    });
    await (await level('privileged'))(podOf(named(objects, 'DaemonSet', 'wirespan')));
  });

  test('install, upgrade, rollback, uninstall', async () => {
    const { stdout } = await helm('install', 'wirespan', chartFolder, '--set', 'image.registry=registry.example.com');
    assert.match(stdout, /rollout status daemonset\/wirespan/);
    assert.match(stdout, /no otlp\.endpoint is set/);
    const daemonSet = {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: 'wirespan', namespace: NAMESPACE },
    };
    const checksum = async () =>
      podOf(await cluster.api.get<KubernetesObject>(daemonSet)).metadata.annotations?.['checksum/config'];
    const first = await checksum();
    const upgrade = await helm(
      ...['upgrade', 'wirespan', chartFolder, '--reuse-values', '--set', 'config.log.level=debug'],
      ...['--set', 'gateway.enabled=true,gateway.jaeger=jaeger:4317,podMonitor.enabled=true'],
    );
    assert.match(upgrade.stdout, /Spans go to http:\/\/wirespan-gateway\.wirespan:4317/);
    assert.notEqual(await checksum(), first, 'another configuration starts the agents again');
    const gateway = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'wirespan-gateway', namespace: NAMESPACE },
    };
    await cluster.api.get(gateway);
    await helm('rollback', 'wirespan', '1');
    assert.equal(await checksum(), first);
    await assert.rejects(cluster.api.get(gateway), /404/);
    const { stdout: history } = await helm('history', 'wirespan', '--output', 'json');
    assert.equal((JSON.parse(history) as unknown[]).length, 3);
    await helm('uninstall', 'wirespan');
    await assert.rejects(cluster.api.get(daemonSet), /404/);
  });

  test('the account may do what its role says and no more', async () => {
    await helm('install', 'wirespan', chartFolder);
    const rules = async (account: string) => {
      const api = cluster.apiOf(await cluster.tokenOf(NAMESPACE, account));
      const kind = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectRulesReview' };
      const { status } = await api.request<{
        status: { resourceRules: { verbs: string[]; apiGroups: string[]; resources: string[] }[] };
      }>('POST', '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews', { ...kind, spec: { namespace: 'default' } });
      return status.resourceRules.flatMap(({ verbs, apiGroups, resources }) =>
        resources.flatMap((resource) => verbs.map((verb) => `${verb} ${apiGroups.join()}/${resource}`)),
      );
    };
    const other = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'other', namespace: NAMESPACE } };
    await cluster.api.create(other);
    const found = await until(async () => {
      // Whatever every account may do.
      const all = new Set(await rules('other'));
      const own = (await rules('wirespan')).filter((rule) => !all.has(rule)).sort();
      return own.length > 0 ? own : undefined;
    }, 'the role counts');
    assert.deepEqual(found, [
      ...['get apps/replicasets', 'get batch/jobs'],
      ...['list /nodes', 'list /pods', 'list /services', 'list discovery.k8s.io/endpointslices'],
      ...['watch /nodes', 'watch /pods', 'watch /services', 'watch discovery.k8s.io/endpointslices'],
    ]);
    const account = cluster.apiOf(await cluster.tokenOf(NAMESPACE, 'wirespan'));
    await account.request('GET', '/api/v1/nodes');
    await assert.rejects(account.request('GET', '/api/v1/secrets'), /403/);
    await helm('uninstall', 'wirespan');
  });

  test('helm test ends as its pod does', async () => {
    await helm('install', 'wirespan', chartFolder);
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'wirespan-test', namespace: NAMESPACE } };
    for (const [phase, exitCode] of [
      ['Succeeded', 0],
      ['Failed', 1],
    ] as const) {
      const program = await helmProgram();
      const args = ['test', 'wirespan', '--namespace', NAMESPACE, '--kubeconfig', cluster.kubeconfig];
      const testing = runAnyway(program, args, { timeoutMs: 60_000 });
      // There is no kubelet: the test plays it.
      await until(() => cluster.api.patch(pod, { status: { phase } }, 'status').catch(() => undefined), 'the pod');
      const result = await testing;
      assert.equal(result.exitCode, exitCode, result.stdout + result.stderr);
      if (phase === 'Failed') await cluster.api.delete(pod);
    }
    await helm('uninstall', 'wirespan');
  });
});

suite('what helm test runs', () => {
  const script = readFileSync(join(chartFolder, 'files/ready.mjs'), 'utf8');

  async function ask(cleanup: Cleanup, status: number): Promise<Result> {
    const server = `
      const server = require('node:http').createServer((request, response) => {
        response.writeHead(request.url === '/readyz' ? ${status} : 404).end('programs attached');
      });
      server.listen(0, '127.0.0.1', () => console.log(server.address().port));`;
    const running = start(cleanup, process.execPath, ['--eval', server]);
    const [port = ''] = await running.waitFor('stdout', /^\d+/);
    const args = ['--input-type=module', '--eval', script, '127.0.0.1', port, '3000'];
    return runAnyway(process.execPath, args, { timeoutMs: 60_000 });
  }

  test('is content with agents that are ready, and shows what they say', async (t) => {
    const { exitCode, stdout } = await ask(cleanupAfter(t), 200);
    assert.equal(exitCode, 0, stdout);
    assert.match(stdout, /\/readyz: 200 programs attached\n1 of 1 agents are ready\n$/);
  });

  test('is not with one that is not', async (t) => {
    const { exitCode, stdout } = await ask(cleanupAfter(t), 503);
    assert.equal(exitCode, 1, stdout);
    assert.match(stdout, /\/readyz: 503 programs attached\n0 of 1 agents are ready\n$/);
  });
});
