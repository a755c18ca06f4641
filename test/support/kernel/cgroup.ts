import { existsSync } from 'node:fs';
import { mkdir, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findCgroupRoot } from '../../../src/capture/cgroup.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { until } from '../programs/net.ts';

export interface Cgroup {
  path: string;
  /** What to put before a command to run it, and its children, in there. */
  prefix: readonly string[];
}

/** Version 1 of the memory controller, on machines that have both versions. */
const MEMORY_V1 = '/sys/fs/cgroup/memory';
let made = 0;

async function makeCgroup(cleanup: Cleanup, hierarchy: string, name: string): Promise<Cgroup> {
  const path = join(hierarchy, name);
  await mkdir(path);
  // Its last process may be gone for all but the kernel.
  cleanup.add(() =>
    until(
      () =>
        rmdir(path).then(
          () => true,
          () => undefined,
        ),
      `${path} is empty`,
    ),
  );
  return { path, prefix: ['sh', '-c', `echo $$ > ${path}/cgroup.procs && exec "$0" "$@"`] };
}

/** @returns a name that no other test uses */
function nextName(): string {
  made += 1;
  return `wirespan-test-${process.pid}-${made}`;
}

/** Makes a directory of the cgroup v2 hierarchy, removed at the end: make it before the programs that go there. Needs root. */
export function newCgroup(cleanup: Cleanup, name: string = nextName()): Promise<Cgroup> {
  return makeCgroup(cleanup, findCgroupRoot(), name);
}

/** As `newCgroup`, with so much memory: the kernel kills what needs more. Uses version 1 where the controller belongs to it. */
export async function newMemoryCgroup(cleanup: Cleanup, mib: number): Promise<Cgroup> {
  const version1 = existsSync(MEMORY_V1);
  const cgroup = await makeCgroup(cleanup, version1 ? MEMORY_V1 : findCgroupRoot(), nextName());
  await writeFile(join(cgroup.path, version1 ? 'memory.limit_in_bytes' : 'memory.max'), String(mib * 1024 * 1024));
  return cgroup;
}
