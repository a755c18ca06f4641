/**
 * What a large cluster costs an agent: ten thousand pods on a hundred nodes, kept by a real API server. Start-up, memory and processor time of
 * one agent, with and without the cluster, at rest and while pods change.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { agentAccount } from '../support/kubernetes/agent.ts';
import type { KubernetesObject } from '../support/kubernetes/api.ts';
import {
  createEndpointSlice,
  createNamespace,
  createNode,
  createService,
  createWorkload,
  inParallel,
  type PodOptions,
  setPodStatus,
} from '../support/kubernetes/objects.ts';
import { type Cluster, startCluster } from '../support/kubernetes/server.ts';
import { type Agent, startAgent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { cpuSeconds, sleep } from './lib.ts';

const NODES = 100;
const NAMESPACES = 20;
const PODS_OF_WORKLOAD = 5;
const AT_ONCE = 24;
const SETTLE_MS = 5000;
const CHURN_MS = 20_000;
/** Status updates per second: each pod of the cluster once in under two minutes, far more than a quiet cluster has. */
const UPDATES_PER_SECOND = 100;

export interface KubernetesFigures {
  pods: number;
  /** Of one pod as the API server sends it. */
  podBytes: number;
  without: Footprint & { readyMs: number };
  with: Footprint & {
    readyMs: number;
    syncedMs: number;
    startCpuSeconds: number;
    restCpuPercent: number;
    churnCpuPercent: number;
  };
}

interface Footprint {
  /** VmRSS and VmHWM: what the kernel counts, in which the packet ring, mapped twice in a row, stands twice. */
  residentMib: number;
  peakMib: number;
  /** Of it, memory that is the process's own, and the ring once. */
  anonymousMib: number;
  ringMib: number;
}

async function footprint(pid: number): Promise<Footprint> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1');
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  const smaps = await readFile(`/proc/${pid}/smaps`, 'latin1');
  const ring = [...smaps.matchAll(/anon_inode:bpf-map[\s\S]*?\nRss:\s+(\d+)/g)].reduce(
    (sum, match) => sum + Number(match[1]),
    0,
  );
  const mib = (value: number) => value / 1024;
  return {
    residentMib: mib(kib('VmRSS')),
    peakMib: mib(kib('VmHWM')),
    anonymousMib: mib(kib('RssAnon')),
    ringMib: mib(ring / 2),
  };
}

/** As large as pods are in practice: environment, volumes, probes, tolerations, labels; managedFields the server adds. */
function podObject({ name, namespace, node, owner, labels }: PodOptions): KubernetesObject {
  const reference = {
    apiVersion: owner!.apiVersion,
    kind: owner!.kind,
    name: owner!.metadata.name,
    uid: owner!.metadata.uid,
    controller: true,
  };
  const probe = {
    httpGet: { path: '/healthz', port: 8080 },
    initialDelaySeconds: 5,
    periodSeconds: 10,
    timeoutSeconds: 1,
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: namespace!,
      labels: {
        ...labels,
        app: owner!.metadata.name,
        'pod-template-hash': '5d4f',
        'app.kubernetes.io/part-of': 'bench',
        'app.kubernetes.io/version': '1.2.3',
      },
      annotations: { 'prometheus.io/scrape': 'true', 'checksum/config': 'd'.repeat(64) },
      ownerReferences: [reference as never],
    },
    spec: {
      nodeName: node,
      containers: [
        {
          name: 'main',
          image: `registry.example.com/team/${owner!.metadata.name}:1.2.3`,
          env: Array.from({ length: 25 }, (_, i) => ({
            name: `SETTING_NUMBER_${i}`,
            value: `the value of setting ${i} of ${name}`,
          })),
          ports: [{ name: 'http', containerPort: 8080 }],
          readinessProbe: probe,
          livenessProbe: probe,
          resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '256Mi' } },
          volumeMounts: Array.from({ length: 6 }, (_, i) => ({
            name: `volume-${i}`,
            mountPath: `/etc/settings/number-${i}`,
          })),
        },
      ],
      volumes: Array.from({ length: 6 }, (_, i) => ({
        name: `volume-${i}`,
        configMap: { name: `settings-${i}`, optional: true },
      })),
      tolerations: Array.from({ length: 4 }, (_, i) => ({
        key: `dedicated-${i}`,
        operator: 'Exists',
        effect: 'NoSchedule',
      })),
    },
  };
}

function placed(i: number): PodOptions {
  const workload = Math.floor(i / PODS_OF_WORKLOAD);
  const containerId = i.toString(16).padStart(64, '0');
  return {
    name: `app-${workload}-5d4f-x${i % PODS_OF_WORKLOAD}`,
    namespace: `team-${workload % NAMESPACES}`,
    node: `node-${i % NODES}`,
    ip: `10.${128 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
    hostIp: `10.1.0.${i % NODES}`,
    containers: [{ name: 'main', id: `containerd://${containerId}` }],
  };
}

async function fill(
  cluster: Cluster,
  pods: number,
): Promise<{ all: { object: KubernetesObject; options: PodOptions }[]; podBytes: number }> {
  const { api } = cluster;
  const range = (n: number) => Array.from({ length: n }, (_, i) => i);
  await inParallel(range(NAMESPACES), AT_ONCE, (i) => createNamespace(api, `team-${i}`));
  await inParallel(range(NODES), AT_ONCE, (i) => createNode(api, `node-${i}`, [`10.1.0.${i}`]));
  const all: { object: KubernetesObject; options: PodOptions }[] = [];
  await inParallel(range(Math.ceil(pods / PODS_OF_WORKLOAD)), AT_ONCE, async (workload) => {
    const name = `app-${workload}`;
    const namespace = `team-${workload % NAMESPACES}`;
    const deployment = await createWorkload(api, 'Deployment', { name, namespace });
    const owner = await createWorkload(api, 'ReplicaSet', { name: `${name}-5d4f`, namespace, owner: deployment });
    const own: KubernetesObject[] = [];
    for (let i = workload * PODS_OF_WORKLOAD; i < Math.min((workload + 1) * PODS_OF_WORKLOAD, pods); i++) {
      const options = { ...placed(i), owner };
      const object = await setPodStatus(api, await api.create(podObject(options)), options);
      own.push(object);
      all.push({ object, options });
    }
    await createService(api, { name, namespace, ports: [{ port: 80, targetPort: 8080 }] });
    const endpoints = own.map((pod) => ({ ip: (pod.status as { podIP: string }).podIP, pod }));
    await createEndpointSlice(api, { name: `${name}-1`, namespace, service: name, ports: [{ port: 8080 }], endpoints });
  });
  const { object } = all[0]!;
  return { all, podBytes: JSON.stringify(await api.get(object)).length };
}

async function settings(cleanup: Cleanup, lines: string): Promise<string> {
  const file = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
  await writeFile(file, lines);
  return file;
}

async function watched(agent: Agent, work: () => Promise<unknown>): Promise<number> {
  const before = cpuSeconds(agent.running.pid);
  const begun = performance.now();
  await work();
  return (100 * (cpuSeconds(agent.running.pid) - before)) / ((performance.now() - begun) / 1000);
}

export async function kubernetesBench({ pods }: { pods: number }): Promise<KubernetesFigures> {
  const cleanup = new Cleanup();
  try {
    const cluster = await startCluster(cleanup);
    const account = await agentAccount(cleanup, cluster);
    const { all, podBytes } = await fill(cluster, pods);

    const alone = await startAgent(cleanup, { json: false, args: ['--output', 'none'] });
    await sleep(SETTLE_MS);
    const without = { readyMs: alone.readyMs, ...(await footprint(alone.running.pid)) };
    await alone.stop();

    const port = await freePort();
    const lines = `kubernetes:\n  kubeconfig: ${account.kubeconfig}\n  node_name: node-7\ntelemetry:\n  listen: 127.0.0.1:${port}\n`;
    const begun = performance.now();
    const agent = await startAgent(cleanup, {
      json: false,
      args: ['--output', 'none', '--config', await settings(cleanup, lines)],
    });
    const ready = async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok || undefined;
    await until(ready, 'informers that have synced', 120_000);
    const syncedMs = performance.now() - begun;
    const startCpuSeconds = cpuSeconds(agent.running.pid);
    await sleep(SETTLE_MS);
    const restCpuPercent = await watched(agent, () => sleep(SETTLE_MS));
    const churnCpuPercent = await watched(agent, () => churn(cluster, all));
    const figures = {
      readyMs: agent.readyMs,
      syncedMs,
      startCpuSeconds,
      restCpuPercent,
      churnCpuPercent,
      ...(await footprint(agent.running.pid)),
    };
    await agent.stop();
    return { pods, podBytes, without, with: figures };
  } finally {
    await cleanup.run();
  }
}

/** Pods become ready and unready, as fast as was said or as the API server takes it. */
async function churn(
  cluster: Cluster,
  all: readonly { object: KubernetesObject; options: PodOptions }[],
): Promise<void> {
  const endMs = performance.now() + CHURN_MS;
  for (let n = 0; performance.now() < endMs; n++) {
    const nextMs = performance.now() + 100;
    const some = Array.from({ length: UPDATES_PER_SECOND / 10 }, (_, i) => all[(n * 37 + i * 101) % all.length]!);
    const conditions = [
      { type: 'Ready', status: n % 2 === 0 ? 'True' : 'False', lastTransitionTime: new Date().toISOString() },
    ];
    await inParallel(some, AT_ONCE, ({ object }) => cluster.api.patch(object, { status: { conditions } }, 'status'));
    await sleep(Math.max(0, nextMs - performance.now()));
  }
}

export function printKubernetes({ pods, podBytes, without, with: w }: KubernetesFigures): void {
  const mib = (value: number) => `${value.toFixed(0)} MiB`;
  const memory = (each: Footprint) =>
    `resident ${mib(each.residentMib)} (at most ${mib(each.peakMib)}), of it own ${mib(each.anonymousMib)}, ring ${mib(each.ringMib)} counted twice`;
  console.log(
    `kubernetes: ${pods} pods of ${podBytes} bytes on ${NODES} nodes, ${Math.ceil(pods / PODS_OF_WORKLOAD)} Deployments and Services`,
  );
  console.log(`  without a cluster   ready after ${without.readyMs.toFixed(0)} ms; ${memory(without)}`);
  console.log(
    `  with it             ready after ${w.readyMs.toFixed(0)} ms, all known after ${(w.syncedMs / 1000).toFixed(1)} s and ${w.startCpuSeconds.toFixed(1)} s of CPU; ${memory(w)}`,
  );
  const megabytes = ((w.anonymousMib + w.ringMib) * 1024 * 1024) / 1e6;
  console.log(
    `  memory              ${megabytes.toFixed(0)} MB of its own, the ring among it (at most 150 MB); the rest of what is resident is the file of Node`,
  );
  console.log(
    `  CPU                 ${w.restCpuPercent.toFixed(1)} % of a core at rest, ${w.churnCpuPercent.toFixed(1)} % with up to ${UPDATES_PER_SECOND} changes of pods a second`,
  );
}
