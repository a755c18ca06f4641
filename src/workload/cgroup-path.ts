/** What the cgroup path of a process says: its container and its systemd unit. */
export interface CgroupIdentity {
  /** Path in the cgroup v2 hierarchy, else in systemd's own; empty when neither is there. */
  readonly path: string;
  readonly containerId: string | undefined;
  /** Name of the systemd service without `.service`. */
  readonly unit: string | undefined;
  /** The Kubernetes pod that it is in. */
  readonly pod: PodPath | undefined;
}

/** What a cgroup path says of a Kubernetes pod, the innermost one. */
export interface PodPath {
  /**
   * metadata.uid, with dashes; of a static pod, the hash of its manifest, which its mirror has in annotations. Empty where the path does not
   * say it: seen from a cgroup namespace within the pod.
   */
  readonly uid: string;
  /** The container below the pod: not one that it has made within itself. */
  readonly containerId: string | undefined;
}

export const unknownCgroup: CgroupIdentity = { path: '', containerId: undefined, unit: undefined, pod: undefined };

/**
 * The component of a pod, below that of its quality of service or not: `kubepods-burstable-podUID.slice` (systemd driver, dashes of the
 * uid as `_`), `podUID` (cgroupfs driver), either with the prefix of a `--cgroup-root` such as kind's `kubelet-`, or in one component with
 * its container (`kubepods-podUID.slice:cri-containerd:ID`).
 */
const podPart = /(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?::.*)?$/;

/** Prefixes of the runtimes that run nothing but pods. */
const criPart = /(?:^|:)(?:cri-containerd|crio)[-:]/;

/**
 * The last part of a component that names a container: 64 hexadecimal digits (Docker, containerd, CRI-O, Podman), alone (cgroupfs
 * driver), as `RUNTIME-ID.scope` (systemd driver) or `SLICE:RUNTIME:ID` (containerd with a systemd-style path), or a task and a
 * number (Amazon ECS: `ID-NUMBER`).
 */
const containerPart = /^(?:.*[-:])?([0-9a-f]{64})(?:\.scope)?$|^([0-9a-f]{32}-[0-9]{6,10})$/;

/** Monitors of a container, which stand beside it under its id. */
const monitorPart = /(?:^|-)conmon-[0-9a-f]{64}/;

/** Units that hold whole sessions of a user, not one service. */
const sessionUnit = /^(?:user@.*|user-runtime-dir@.*|systemd-.*@.*)$/;

/**
 * @param text /proc/PID/cgroup: lines `HIERARCHY:CONTROLLERS:PATH`, `0::PATH` being version 2 (cgroups(7)). Where both versions
 *   are mounted a process may stand in its place in one of them only.
 */
export function parseCgroup(text: string): CgroupIdentity {
  const paths: string[] = [];
  let path = '';
  for (const line of text.split('\n')) {
    const [, hierarchy, controllers, linePath] = /^(\d+):([^:]*):(\/.*)$/.exec(line) ?? [];
    if (hierarchy === undefined || linePath === undefined || linePath === '/') continue;
    if (hierarchy === '0') {
      path = linePath;
      paths.unshift(linePath);
    } else {
      if (controllers === 'name=systemd' && path === '') path = linePath;
      paths.push(linePath);
    }
  }
  const containerId = firstOf(paths, containerOf);
  return { path, containerId, unit: unitOf(path), pod: firstOf(paths, podOf) };
}

function firstOf<T>(paths: readonly string[], find: (path: string) => T | undefined): T | undefined {
  for (const path of paths) {
    const found = find(path);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The innermost container: containers may run in containers. */
function containerOf(path: string): string | undefined {
  return firstOf(path.split('/').reverse(), containerIn);
}

function containerIn(part: string): string | undefined {
  const match = containerPart.exec(part);
  return match === null || monitorPart.test(part) ? undefined : (match[1] ?? match[2]);
}

/** The innermost pod, and the first container from it on. */
export function podOf(path: string): PodPath | undefined {
  const parts = path.split('/');
  for (let i = parts.length - 1; i >= 0; i--) {
    const uid = podPart.exec(parts[i]!)?.[1];
    if (uid !== undefined) {
      return { uid: uid.replaceAll('_', '-'), containerId: firstOf(parts.slice(i), containerIn) };
    }
  }
  const part = parts.find((each) => criPart.test(each) && containerIn(each) !== undefined);
  return part === undefined ? undefined : { uid: '', containerId: containerIn(part) };
}

/** The innermost service, unless a container stands deeper: then the service is the container runtime's. */
function unitOf(path: string): string | undefined {
  for (const part of path.split('/').reverse()) {
    if (containerPart.test(part)) return undefined;
    const name = part.endsWith('.service') ? part.slice(0, -'.service'.length) : '';
    if (name !== '' && !sessionUnit.test(name)) return unescapeUnit(name);
  }
  return undefined;
}

/** systemd.unit(5), "String Escaping for Inclusion in Unit Names": bytes outside of the allowed set stand as `\xNN`. */
function unescapeUnit(name: string): string {
  if (!name.includes('\\x')) return name;
  return name.replace(/\\x([0-9a-f]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}
