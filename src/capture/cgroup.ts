import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Where cgroup v2 is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified on hybrid machines, or anywhere else.
 *
 * @param mounts the text of /proc/self/mounts (proc(5): device, mount point, type, options; blanks in octal)
 * @throws Error when it is mounted nowhere
 */
export function findCgroupRoot(mounts: string = readFileSync('/proc/self/mounts', 'utf8')): string {
  const paths: string[] = [];
  for (const line of mounts.split('\n')) {
    const [, path, type] = line.split(' ');
    if (type === 'cgroup2' && path !== undefined) paths.push(unescapeMount(path));
  }
  const usual = paths.find((path) => path === '/sys/fs/cgroup' || path === '/sys/fs/cgroup/unified');
  const found = usual ?? paths[0];
  if (found !== undefined) return found;
  throw new Error(
    'no cgroup v2 hierarchy is mounted, which the packet programs are attached to; ' +
      'mount one (mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2), or in a container mount the host’s /sys/fs/cgroup',
  );
}

/** f_type of statfs(2), from linux/magic.h. */
const CGROUP2_SUPER_MAGIC = 0x63677270;

/**
 * @param path a directory of the cgroup v2 hierarchy, whose subtree is to be watched
 * @returns the same
 * @throws Error for people when it is none
 */
export function checkCgroup(path: string): string {
  let why: string;
  try {
    if (statfsSync(path).type === CGROUP2_SUPER_MAGIC && existsSync(join(path, 'cgroup.procs'))) return path;
    why = 'is no cgroup of version 2';
  } catch (error) {
    why = `cannot be looked at (${(error as NodeJS.ErrnoException).code})`;
  }
  throw new Error(`--cgroup: ${path} ${why}; expected a directory such as ${join(findCgroupRoot(), 'system.slice')}`);
}

/**
 * Whether the directory is the root of the whole hierarchy, so that no socket of the machine is outside of it. What a cgroup namespace
 * shows as its root is not: only the true root has no cgroup.type (Documentation/admin-guide/cgroup-v2.rst).
 */
export function isHierarchyRoot(path: string): boolean {
  return existsSync(join(path, 'cgroup.procs')) && !existsSync(join(path, 'cgroup.type'));
}

function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
