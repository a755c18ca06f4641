import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root, timeScale } from './paths.ts';
import { run } from './process.ts';

/** The kernel keeps 15 characters of a name. */
const KERNEL_NAME_LENGTH = 15;

interface KernelObject {
  id: number;
  type?: string;
  name?: string;
  prog_id?: number;
  pids?: { pid: number; comm: string }[];
}

/** Names of the programs and maps that the BPF sources define, as the kernel shows them. */
export function ourNames(): Set<string> {
  const names = new Set<string>();
  const folder = join(root, 'bpf');
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.c') || name.endsWith('.h'))) {
    const text = readFileSync(join(folder, file), 'utf8');
    // SEC("kind/...") [int] name(...), also through BPF_PROG(name, ...) and the like.
    for (const match of text.matchAll(/SEC\("[^"]+"\)\s*(?:(?:static|int|long)\s+)*(?:BPF_\w+\(\s*)?(\w+)\s*[(,]/g))
      names.add(match[1]!);
    for (const match of text.matchAll(/\}\s*(\w+)\s+SEC\("\.maps"\)/g)) names.add(match[1]!);
  }
  assert.ok(names.size > 0, 'no program or map was found in the BPF sources');
  return new Set([...names].map((name) => name.slice(0, KERNEL_NAME_LENGTH)));
}

async function bpftool(...args: string[]): Promise<KernelObject[]> {
  const { stdout } = await run('bpftool', ['-j', ...args]);
  const value: unknown = JSON.parse(stdout || '[]');
  return Array.isArray(value) ? (value as KernelObject[]) : [];
}

/** What of ours is in the kernel and is held by no living process. */
async function leftovers(): Promise<string[]> {
  const names = ourNames();
  // An object that another running agent holds is not one that was left behind.
  const held = (object: KernelObject) => (object.pids ?? []).some(({ pid }) => existsSync(`/proc/${pid}`));
  const programs = await bpftool('prog', 'show');
  const ours = programs.filter((program) => names.has(program.name ?? '') && !held(program));
  const ids = new Set(ours.map((program) => program.id));
  const maps = (await bpftool('map', 'show')).filter((map) => names.has(map.name ?? '') && !held(map));
  const links = (await bpftool('link', 'show')).filter((link) => ids.has(link.prog_id ?? -1) && !held(link));
  return [
    ...ours.map((program) => `program ${program.id} ${program.type} ${program.name}`),
    ...maps.map((map) => `map ${map.id} ${map.type} ${map.name}`),
    ...links.map((link) => `link ${link.id} ${link.type} of program ${link.prog_id}`),
  ];
}

/** Fails when a program, map or link of ours is left. The kernel frees them a moment after their holder has ended. */
export async function assertKernelClean(): Promise<void> {
  const deadline = performance.now() + 5_000 * timeScale;
  let left = await leftovers();
  while (left.length > 0 && performance.now() < deadline) {
    await sleep(100);
    left = await leftovers();
  }
  assert.deepEqual(left, [], 'left in the kernel');
}
