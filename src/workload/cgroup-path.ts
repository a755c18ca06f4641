/** What the cgroup path of a process says: its container and its systemd unit. */
export interface CgroupIdentity {
  /** Path in the cgroup v2 hierarchy, else in systemd's own; empty when neither is there. */
  readonly path: string;
  readonly containerId: string | undefined;
  /** Name of the systemd service without `.service`. */
  readonly unit: string | undefined;
}

export const unknownCgroup: CgroupIdentity = { path: '', containerId: undefined, unit: undefined };

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
  return { path, containerId, unit: unitOf(path) };
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
  for (const part of path.split('/').reverse()) {
    const match = containerPart.exec(part);
    if (match !== null && !monitorPart.test(part)) return match[1] ?? match[2];
  }
  return undefined;
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
