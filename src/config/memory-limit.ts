/** How much memory this process may have, and what of it the pipeline may fill. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const MIB = 1024 * 1024;
/** Without any limit. */
const DEFAULT_BUDGET_BYTES = 256 * MIB;
/** What is seen at the same time may cost a quarter: the rest is the process itself, garbage, and what the kernel charges for it. */
const SHARE = 1 / 4;
const LEAST_BUDGET_BYTES = 32 * MIB;
const MOST_BUDGET_BYTES = 1024 * MIB;
/** Version 1 says "no limit" with a number near 2^63. */
const NO_LIMIT = 2 ** 60;

export interface MemoryLimit {
  readonly bytes: number;
  /** Where it stands: a file, or the variable. */
  readonly source: string;
}

/**
 * The variable in which a container learns its memory limit in bytes (downward API, resourceFieldRef `limits.memory`): where the node's cgroup
 * tree lies over the container's own, its files do not say it.
 */
export const MEMORY_LIMIT_VARIABLE = 'WIRESPAN_MEMORY_LIMIT';

/** @returns the least of the limits of this process's control groups and of the variable; undefined without any */
export function findMemoryLimit(
  environment: Readonly<Record<string, string | undefined>> = process.env,
  read: (path: string) => string | undefined = readIfThere,
): MemoryLimit | undefined {
  const found: MemoryLimit[] = [];
  const told = Number(environment[MEMORY_LIMIT_VARIABLE]?.trim() || Number.NaN);
  if (told > 0) found.push({ bytes: told, source: MEMORY_LIMIT_VARIABLE });
  const mounts = read('/proc/self/mounts') ?? '';
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const unified = controllers === '';
    if (!unified && !controllers.split(',').includes('memory')) continue;
    const root = mountOf(mounts, unified);
    if (root === undefined) continue;
    for (const folder of upwards(path)) {
      for (const name of unified ? ['memory.max', 'memory.high'] : ['memory.limit_in_bytes']) {
        const source = join(root, folder, name);
        const bytes = Number.parseInt(read(source) ?? '', 10);
        if (bytes > 0 && bytes < NO_LIMIT) found.push({ bytes, source });
      }
    }
  }
  return found.reduce<MemoryLimit | undefined>(
    (least, next) => (next.bytes < (least?.bytes ?? Infinity) ? next : least),
    undefined,
  );
}

/** @param memoryMib of the configuration, 0: chosen by the limit */
export function memoryBudgetBytes(memoryMib: number, limit: MemoryLimit | undefined): number {
  if (memoryMib > 0) return memoryMib * MIB;
  if (limit === undefined) return DEFAULT_BUDGET_BYTES;
  return Math.min(MOST_BUDGET_BYTES, Math.max(LEAST_BUDGET_BYTES, Math.floor(limit.bytes * SHARE)));
}

/** The folder, and all above it. */
function upwards(path: string): string[] {
  const folders: string[] = [];
  for (let folder = path; ; folder = join(folder, '..')) {
    folders.push(folder);
    if (folder === '/') return folders;
  }
}

function mountOf(mounts: string, unified: boolean): string | undefined {
  for (const line of mounts.split('\n')) {
    const [, path, type, options] = line.split(' ');
    if (path === undefined || options === undefined) continue;
    if (unified ? type === 'cgroup2' : type === 'cgroup' && options.split(',').includes('memory')) return path;
  }
  return undefined;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
