import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { findCgroupRoot } from '../../../src/capture/cgroup.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { until } from '../programs/net.ts';

export interface Cgroup {
  path: string;
  /** What to put before a command to run it, and its children, in there. */
  prefix: readonly string[];
}

let made = 0;

/** Makes a directory of the cgroup v2 hierarchy, removed at the end: make it before the programs that go there. Needs root. */
export async function newCgroup(cleanup: Cleanup, name?: string): Promise<Cgroup> {
  made += 1;
  const path = join(findCgroupRoot(), name ?? `wirespan-test-${process.pid}-${made}`);
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
