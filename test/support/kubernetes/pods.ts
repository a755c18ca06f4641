/**
 * The parts of kubelet, container runtime, network plugin and kube-proxy: pods in network namespaces on a bridge per node, in cgroups
 * named as a runtime names them, and Services by address translation. Needs root.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findCgroupRoot } from '../../../src/capture/cgroup.ts';
import { Cleanup } from '../programs/cleanup.ts';
import { until } from '../programs/net.ts';
import { run } from '../programs/process.ts';
import type { KubernetesApi, KubernetesObject } from './api.ts';
import {
  type ContainerOptions,
  createEndpointSlice,
  createPod,
  createService,
  type PodOptions,
  setPodStatus,
} from './objects.ts';

export type Runtime = 'containerd' | 'cri-o' | 'docker';

export interface SimulatedPodOptions
  extends Pick<PodOptions, 'name' | 'namespace' | 'labels' | 'annotations' | 'owner' | 'hostNetwork'> {
  /** Names and images; default: one, `main`. */
  containers?: readonly Omit<ContainerOptions, 'id'>[];
  runtime?: Runtime;
  /** Who makes the cgroups, which decides their names. Default systemd. */
  driver?: 'systemd' | 'cgroupfs';
  qos?: 'guaranteed' | 'burstable' | 'besteffort';
  /** Default: the node's next one. */
  ip?: string;
  /** The API server is told of the containers only when told() is called. */
  untold?: boolean;
}

/** What a kubelet makes for all pods: by the systemd driver, and by that for cgroupfs. */
const SHARED_CGROUPS = ['kubepods.slice', 'kubepods'].flatMap((top) => [
  top,
  ...['burstable', 'besteffort'].map((qos) => (top === 'kubepods' ? `${top}/${qos}` : `${top}/kubepods-${qos}.slice`)),
]);

let networks = 0;

/** Nodes on one machine: a bridge and a subtree of the cgroup hierarchy for each. What goes between nodes is routed. */
export class PodNetwork {
  readonly #cleanup: Cleanup;
  readonly #api: KubernetesApi;
  readonly #id: string;
  readonly #subnet: string;
  readonly #chain: string;
  readonly #root: string;
  #nodes = 0;
  /** Of the nodes. */
  readonly #addresses: string[] = [];

  private constructor(cleanup: Cleanup, api: KubernetesApi) {
    networks += 1;
    this.#cleanup = cleanup;
    this.#api = api;
    this.#id = `${process.pid.toString(36)}${networks.toString(36)}`;
    this.#subnet = `10.${100 + ((process.pid * 7 + networks) % 100)}`;
    this.#chain = `WIRESPAN-${this.#id}`;
    this.#root = join(findCgroupRoot(), `wirespan-nodes-${this.#id}`);
  }

  static async open(cleanup: Cleanup, api: KubernetesApi): Promise<PodNetwork> {
    const network = new PodNetwork(cleanup, api);
    await network.#begin();
    return network;
  }

  async #begin(): Promise<void> {
    const forward = '/proc/sys/net/ipv4/ip_forward';
    const before = await readFile(forward, 'utf8');
    await writeFile(forward, '1');
    this.#cleanup.add(() => writeFile(forward, before));
    await mkdir(this.#root);
    this.#cleanup.add(() => removed(this.#root));
    const nat = (...args: string[]) => run('iptables', ['-w', '60', '-t', 'nat', ...args]);
    await nat('-N', this.#chain);
    this.#cleanup.add(async () => {
      await nat('-F', this.#chain);
      await nat('-X', this.#chain);
    });
    // From pods, and from what runs in the network of the node itself.
    for (const hook of ['PREROUTING', 'OUTPUT']) {
      await nat('-A', hook, '-j', this.#chain);
      this.#cleanup.add(() => nat('-D', hook, '-j', this.#chain));
    }
  }

  /**
   * A Service before one pod, made as the endpoints controller and kube-proxy would.
   * @param ports of the Service and of the pod
   */
  async service(
    name: string,
    pod: SimulatedPod,
    ports: readonly (readonly [number, number])[],
    type: 'ClusterIP' | 'NodePort' = 'ClusterIP',
  ): Promise<{ address: string; nodePort: number }> {
    const { namespace } = pod.object.metadata;
    const named = { name, namespace: namespace! };
    const made = await createService(this.#api, {
      ...named,
      type,
      ports: ports.map(([port, targetPort]) => ({ port, targetPort })),
    });
    await createEndpointSlice(this.#api, {
      ...named,
      name: `${name}-1`,
      service: name,
      ports: ports.map(([port, target]) => ({ port: target, name: `port-${port}` })),
      endpoints: [{ ip: pod.ip, node: pod.node.name, pod: pod.object }],
    });
    const spec = made.spec as { clusterIP: string; ports: { nodePort?: number }[] };
    for (const [i, [port, target]] of ports.entries()) {
      await this.#translate(spec.clusterIP, port, `${pod.ip}:${target}`);
      const { nodePort } = spec.ports[i]!;
      if (nodePort === undefined) continue;
      for (const address of this.#addresses) await this.#translate(address, nodePort, `${pod.ip}:${target}`);
    }
    return { address: spec.clusterIP, nodePort: spec.ports[0]?.nodePort ?? 0 };
  }

  /** What is sent to `address:port` goes to `to`, as kube-proxy has it. */
  async #translate(address: string, port: number, to: string): Promise<void> {
    const rule = ['-d', `${address}/32`, '-p', 'tcp', '--dport', String(port), '-j', 'DNAT', '--to-destination', to];
    await run('iptables', ['-w', '60', '-t', 'nat', '-A', this.#chain, ...rule]);
  }

  async node(name: string): Promise<SimulatedNode> {
    this.#nodes += 1;
    const bridge = `wsb${this.#id}${this.#nodes}`;
    const subnet = `${this.#subnet}.${this.#nodes}`;
    // With an address of its own: it would take one of a pod's, and lose it with the pod.
    await run('ip', ['link', 'add', bridge, 'address', macOf(`${subnet}.1`), 'type', 'bridge']);
    this.#cleanup.add(() => run('ip', ['link', 'delete', bridge]));
    await run('ip', ['addr', 'add', `${subnet}.1/24`, 'dev', bridge]);
    await run('ip', ['link', 'set', bridge, 'up']);
    const cgroup = join(this.#root, name);
    for (const directory of ['', ...SHARED_CGROUPS]) {
      const path = join(cgroup, directory);
      await mkdir(path);
      this.#cleanup.add(() => removed(path));
    }
    this.#addresses.push(`${subnet}.1`);
    return new SimulatedNode({ cleanup: this.#cleanup, api: this.#api, name, bridge, subnet, cgroup });
  }
}

interface NodeParts {
  cleanup: Cleanup;
  api: KubernetesApi;
  name: string;
  bridge: string;
  subnet: string;
  cgroup: string;
}

export class SimulatedNode {
  readonly parts: NodeParts;
  #addresses = 1;

  constructor(parts: NodeParts) {
    this.parts = parts;
  }

  get name(): string {
    return this.parts.name;
  }

  /** Of the node itself. */
  get address(): string {
    return `${this.parts.subnet}.1`;
  }

  /** The subtree that its agent watches. */
  get cgroup(): string {
    return this.parts.cgroup;
  }

  nextAddress(): string {
    this.#addresses += 1;
    return `${this.parts.subnet}.${this.#addresses}`;
  }

  /** Makes it known to the API server, then its network and cgroups, then tells of its containers. */
  async pod(options: SimulatedPodOptions): Promise<SimulatedPod> {
    const pod = new SimulatedPod(this, options);
    await pod.begin();
    return pod;
  }
}

let pods = 0;

export class SimulatedPod {
  readonly node: SimulatedNode;
  readonly ip: string;
  readonly #options: SimulatedPodOptions;
  readonly #cleanup = new Cleanup();
  readonly #namespace: string;
  /** By name: id and directory. */
  readonly #containers = new Map<string, { id: string; cgroup: string }>();
  #object: KubernetesObject | undefined;
  #slice = '';
  #gone = false;

  constructor(node: SimulatedNode, options: SimulatedPodOptions) {
    pods += 1;
    this.node = node;
    this.#options = options;
    this.ip = options.hostNetwork ? node.address : (options.ip ?? node.nextAddress());
    this.#namespace = `wsp${process.pid.toString(36)}${pods.toString(36)}`;
    node.parts.cleanup.add(() => this.#undo());
  }

  get object(): KubernetesObject {
    return this.#object!;
  }

  get uid(): string {
    return this.object.metadata.uid!;
  }

  get name(): string {
    return this.#options.name;
  }

  async begin(): Promise<void> {
    const { api } = this.node.parts;
    this.#object = await createPod(api, {
      ...this.#told(),
      phase: 'Pending',
      containers: this.#declared().map((each) => ({ ...each })),
    });
    if (!this.#options.hostNetwork) await this.#joinNetwork();
    await this.#makeSlice();
    for (const { name } of this.#declared()) await this.#makeContainer(name);
    if (!this.#options.untold) await this.told();
  }

  /** The kubelet says which containers there are. */
  async told(): Promise<void> {
    this.#object = await setPodStatus(this.node.parts.api, this.object, this.#told());
  }

  containerId(name = 'main'): string {
    return this.#containers.get(name)!.id;
  }

  /** What to put before a command to run it in a container. */
  prefix(name = 'main'): string[] {
    const { cgroup } = this.#containers.get(name)!;
    const network = this.#options.hostNetwork ? '' : `ip netns exec ${this.#namespace} `;
    return ['sh', '-c', `echo $$ > ${cgroup}/cgroup.procs && exec ${network}"$0" "$@"`];
  }

  /** All its processes end, and it begins anew under another id. The API server hears of it with told(). */
  async restart(name = 'main'): Promise<void> {
    const { cgroup } = this.#containers.get(name)!;
    await emptied(cgroup);
    await rmdir(cgroup);
    await this.#makeContainer(name);
  }

  /** All of it ends. @param told the API server has heard of it by then; `false`: it hears of it only after */
  async remove(told = true): Promise<void> {
    const { api } = this.node.parts;
    if (told) await api.delete(this.object);
    await this.#undo();
    if (!told) await api.delete(this.object);
  }

  #declared(): readonly Omit<ContainerOptions, 'id'>[] {
    return this.#options.containers ?? [{ name: 'main' }];
  }

  #told(): PodOptions {
    const { containers: _, runtime = 'containerd', driver, qos, untold, ip, ...named } = this.#options;
    const started = this.#declared().map((each) => {
      const known = this.#containers.get(each.name);
      return { ...each, ...(known === undefined ? {} : { id: `${runtime}://${known.id}` }) };
    });
    return { ...named, node: this.node.name, ip: this.ip, hostIp: this.node.address, containers: started };
  }

  async #joinNetwork(): Promise<void> {
    const { bridge } = this.node.parts;
    const [outer, inner] = [`wpo${this.#namespace.slice(3)}`, 'eth0'];
    const ip = (...args: string[]) => run('ip', args);
    await ip('netns', 'add', this.#namespace);
    this.#cleanup.add(() => ip('netns', 'delete', this.#namespace));
    await ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', this.#namespace);
    // A namespace is gone some time after it was deleted: until then somebody would answer at an address that is another pod's.
    this.#cleanup.add(() => ip('link', 'delete', outer));
    await ip('link', 'set', outer, 'master', bridge, 'up');
    const inside = (...args: string[]) => ip('-n', this.#namespace, ...args);
    // By the address, as network plugins do it: who has an address next is reached without asking anew.
    await inside('link', 'set', inner, 'address', macOf(this.ip));
    await inside('addr', 'add', `${this.ip}/24`, 'dev', inner);
    await inside('link', 'set', inner, 'up');
    await inside('link', 'set', 'lo', 'up');
    await inside('route', 'add', 'default', 'via', this.node.address);
  }

  async #makeSlice(): Promise<void> {
    const { qos = 'besteffort', driver = 'systemd' } = this.#options;
    const part = qos === 'guaranteed' ? '' : qos;
    const uid = driver === 'systemd' ? this.uid.replaceAll('-', '_') : this.uid;
    const steps =
      driver === 'cgroupfs'
        ? ['kubepods', ...(part ? [part] : []), `pod${uid}`]
        : [
            'kubepods.slice',
            ...(part ? [`kubepods-${part}.slice`] : []),
            `kubepods-${part ? `${part}-` : ''}pod${uid}.slice`,
          ];
    const path = join(this.node.cgroup, ...steps);
    await mkdir(path);
    this.#cleanup.add(() => removed(path));
    this.#slice = path;
  }

  async #makeContainer(name: string): Promise<void> {
    const { runtime = 'containerd', driver = 'systemd' } = this.#options;
    const id = randomBytes(32).toString('hex');
    const prefix = { containerd: 'cri-containerd', 'cri-o': 'crio', docker: 'docker' }[runtime];
    const directory = driver === 'systemd' ? `${prefix}-${id}.scope` : runtime === 'cri-o' ? `crio-${id}` : id;
    const cgroup = join(this.#slice, directory);
    await mkdir(cgroup);
    this.#cleanup.add(() => removed(cgroup));
    this.#containers.set(name, { id, cgroup });
  }

  async #undo(): Promise<void> {
    if (this.#gone) return;
    this.#gone = true;
    for (const { cgroup } of this.#containers.values()) await emptied(cgroup).catch(() => {});
    await this.#cleanup.run();
  }
}

function macOf(ip: string): string {
  return ['0a', '58', ...ip.split('.').map((part) => Number(part).toString(16).padStart(2, '0'))].join(':');
}

/** Ends all processes of a cgroup. */
async function emptied(cgroup: string): Promise<void> {
  await until(async () => {
    const pids = (await readFile(join(cgroup, 'cgroup.procs'), 'utf8')).split('\n').filter(Boolean).map(Number);
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
    return pids.length === 0 || undefined;
  }, `the end of all processes in ${cgroup}`);
}

/** Its last process may be gone for all but the kernel. */
async function removed(path: string): Promise<void> {
  await until(
    () =>
      rmdir(path).then(
        () => true,
        (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? true : undefined),
      ),
    `${path} is empty`,
  );
}
