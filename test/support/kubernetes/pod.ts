/**
 * Runs the first container of a pod as a kubelet with containerd and runc would: its own root file system, read-only, the capabilities,
 * the seccomp profile, the namespaces and the mounts that the pod asks for, and nothing else.
 */
import { readFileSync } from 'node:fs';
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from '../programs/cache.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { goBuild } from '../programs/go.ts';
import { root } from '../programs/paths.ts';
import { type Running, run, runAnyway, start } from '../programs/process.ts';
import type { KubernetesObject } from './api.ts';

const CONTAINERD_VERSION = '2.4.2';

export interface PodSpec {
  hostPID?: boolean;
  automountServiceAccountToken?: boolean;
  securityContext: { seccompProfile?: { type: string }; runAsUser?: number; runAsGroup?: number };
  containers: Container[];
  volumes?: Volume[];
}

interface Container {
  name: string;
  command?: string[];
  args?: string[];
  env?: {
    name: string;
    value?: string;
    valueFrom?: { fieldRef?: { fieldPath: string }; resourceFieldRef?: { resource: string } };
  }[];
  resources?: { limits?: { memory?: string } };
  securityContext: {
    allowPrivilegeEscalation: boolean;
    readOnlyRootFilesystem: boolean;
    runAsUser?: number;
    runAsGroup?: number;
    capabilities: { drop: string[]; add?: string[] };
  };
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
}

interface Volume {
  name: string;
  configMap?: { name: string };
  hostPath?: { path: string };
}

/** The parts of an image that its pods take over. */
export interface Image {
  rootfs: string;
  entrypoint: readonly string[];
  command: readonly string[];
  env: readonly string[];
}

export interface PodEnvironment {
  image: Image;
  /** Where the pod's ConfigMaps are found. */
  objects: readonly KubernetesObject[];
  nodeName: string;
  /** Path of the pod's network namespace. */
  networkNamespace: string;
  /** A folder with `token`, `ca.crt` and `namespace`, as they are projected. */
  serviceAccount?: string;
  /** Beside what the pod says, such as where the API server is. */
  env?: Readonly<Record<string, string>>;
  /** Instead of those that the container adds. */
  capabilities?: readonly string[];
  /** Instead of the pod's arguments. */
  args?: readonly string[];
}

/** The path of the program that writes runtime specifications, built when it is not in the cache. */
async function ociProgram(): Promise<string> {
  const folder = await cached(`containerd-spec-${CONTAINERD_VERSION}`, 'spec', (work) =>
    goBuild(join(root, 'test/support/kubernetes/oci'), join(work, 'spec'), '.', ['-ldflags=-s -w']),
  );
  return join(folder, 'spec');
}

let made = 0;

export interface PodRun {
  running: Running;
  /** The container's name for runc. */
  id: string;
  /** As `kubectl exec`. */
  exec(...command: string[]): ReturnType<typeof runAnyway>;
}

/** Starts the container. It is removed at the end. Needs root and runc. */
export async function startPod(cleanup: Cleanup, spec: PodSpec, environment: PodEnvironment): Promise<PodRun> {
  made += 1;
  const id = `wirespan-test-${process.pid}-${made}`;
  const bundle = await cleanup.temporaryFolder();
  const container = spec.containers[0]!;
  const { securityContext } = container;
  if (securityContext.capabilities.drop.join() !== 'ALL') throw new Error('expected a container that drops ALL');
  const mounts = await mountsOf(bundle, spec, environment);
  const request = {
    ID: id,
    Rootfs: environment.image.rootfs,
    ReadOnlyRootfs: securityContext.readOnlyRootFilesystem,
    Args: [
      ...(container.command ?? environment.image.entrypoint),
      ...(environment.args ?? container.args ?? (container.command === undefined ? environment.image.command : [])),
    ],
    Env: [
      ...environment.image.env,
      ...Object.entries(environment.env ?? {}).map(([name, value]) => `${name}=${value}`),
      ...(container.env ?? []).map((each) => `${each.name}=${textOf(each, container, environment)}`),
    ],
    UID: securityContext.runAsUser ?? spec.securityContext.runAsUser ?? 0,
    GID: securityContext.runAsGroup ?? spec.securityContext.runAsGroup ?? 0,
    Capabilities: (environment.capabilities ?? securityContext.capabilities.add ?? []).map((name) => `CAP_${name}`),
    NoNewPrivileges: !securityContext.allowPrivilegeEscalation,
    RuntimeDefault: spec.securityContext.seccompProfile?.type === 'RuntimeDefault',
    HostPID: spec.hostPID === true,
    NetworkNamespace: environment.networkNamespace,
    Mounts: mounts,
    Cgroup: `/${id}`,
  };
  const { stdout } = await run(await ociProgram(), [], { input: JSON.stringify(request) });
  await writeFile(join(bundle, 'config.json'), stdout);
  const runc = (...args: string[]) => ['--root', join(bundle, 'state'), ...args];
  cleanup.add(() => runAnyway('runc', runc('delete', '--force', id)));
  // Without a terminal runc gives the container these streams, and signals that it gets itself.
  const running = start(cleanup, 'runc', runc('run', '--bundle', bundle, id));
  return {
    running,
    id,
    exec: (...command) => runAnyway('runc', runc('exec', id, ...command), { timeoutMs: 60_000 }),
  };
}

function textOf(
  variable: NonNullable<Container['env']>[number],
  { resources }: Container,
  { nodeName }: PodEnvironment,
): string {
  if (variable.valueFrom?.resourceFieldRef?.resource === 'limits.memory') {
    return String(Number.parseInt(resources!.limits!.memory!, 10) * 1024 * 1024);
  }
  if (variable.valueFrom?.fieldRef?.fieldPath === 'spec.nodeName') return nodeName;
  if (variable.valueFrom !== undefined) throw new Error(`${variable.name}: nobody here knows its source`);
  return variable.value ?? '';
}

interface Mount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

async function mountsOf(bundle: string, spec: PodSpec, environment: PodEnvironment): Promise<Mount[]> {
  const bind = (destination: string, source: string, readOnly: boolean): Mount => ({
    destination,
    source,
    type: 'bind',
    options: ['rbind', 'rprivate', readOnly ? 'ro' : 'rw'],
  });
  const mounts = [bind('/etc/resolv.conf', '/etc/resolv.conf', true), bind('/etc/hosts', '/etc/hosts', true)];
  for (const { name, mountPath, readOnly } of spec.containers[0]!.volumeMounts ?? []) {
    const volume = spec.volumes?.find((each) => each.name === name);
    if (volume?.hostPath !== undefined) {
      mounts.push(bind(mountPath, volume.hostPath.path, readOnly === true));
    } else if (volume?.configMap !== undefined) {
      const wanted = volume.configMap.name;
      const map = environment.objects.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === wanted);
      const folder = join(bundle, name);
      await mkdir(folder);
      for (const [file, text] of Object.entries((map?.data ?? {}) as Record<string, string>)) {
        await writeFile(join(folder, file), text);
      }
      mounts.push(bind(mountPath, folder, true));
    } else throw new Error(`${name}: a volume of a kind that nobody here knows`);
  }
  if (spec.automountServiceAccountToken !== false && environment.serviceAccount !== undefined) {
    mounts.push(bind('/var/run/secrets/kubernetes.io/serviceaccount', environment.serviceAccount, true));
  }
  return mounts;
}

/**
 * The image: its root file system, made of this machine's files by the script that the Dockerfile runs, and how it starts. The script sees
 * of the checkout what the Dockerfile's stage is given, with what is built already.
 */
export async function machineImage(cleanup: Cleanup): Promise<Image> {
  const folder = await cleanup.temporaryFolder();
  const [context, rootfs] = [join(folder, 'context'), join(folder, 'rootfs')];
  const ignored = readFileSync(join(root, '.dockerignore'), 'utf8').trim().split('\n');
  if (ignored.shift() !== '*') throw new Error('expected a .dockerignore that begins with *');
  for (const line of [...ignored, '!dist']) {
    await cp(join(root, line.slice(1)), join(context, line.slice(1)), { recursive: true, preserveTimestamps: true });
  }
  await symlink(join(root, 'node_modules'), join(context, 'node_modules'));
  await run(process.execPath, [join(context, 'native/setup/rootfs.mjs'), rootfs], { timeoutMs: 300_000 });
  return { rootfs, ...startOf(readFileSync(join(root, 'Dockerfile'), 'utf8')) };
}

/** What the last stage of a Dockerfile says of its start. */
function startOf(dockerfile: string): Omit<Image, 'rootfs'> {
  const stage = dockerfile.slice(dockerfile.lastIndexOf('\nFROM ')).replace(/\\\n/g, ' ');
  const list = (word: string) =>
    JSON.parse(new RegExp(`^${word} (\\[.*\\])$`, 'm').exec(stage)?.[1] ?? '[]') as string[];
  const env = /^ENV (.*)$/m.exec(stage)?.[1]?.trim().split(/\s+/) ?? [];
  return { entrypoint: list('ENTRYPOINT'), command: list('CMD'), env };
}
