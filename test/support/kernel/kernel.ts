import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root, timeScale } from '../programs/paths.ts';
import { run } from '../programs/process.ts';

/** The kernel keeps 15 characters of a name. */
const KERNEL_NAME_LENGTH = 15;

interface KernelObject {
  id: number;
  type?: string;
  name?: string;
  /** Of a link. */
  prog_id?: number;
  /** Of a program. */
  map_ids?: number[];
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

/** Ids of what living processes hold by a file descriptor, from /proc/PID/fdinfo. A link's holder holds its program too. */
function heldIds(): { prog_id: Set<number>; map_id: Set<number>; link_id: Set<number> } {
  const held = { prog_id: new Set<number>(), map_id: new Set<number>(), link_id: new Set<number>() };
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        if (!readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('anon_inode:bpf')) continue;
        const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
        for (const match of info.matchAll(/^(prog_id|map_id|link_id):\s*(\d+)$/gm)) {
          held[match[1] as keyof typeof held].add(Number(match[2]));
        }
      }
    } catch {
      // The process or the descriptor is gone.
    }
  }
  return held;
}

/** What of ours is in the kernel and is held by no living process: another agent that runs beside the tests leaves nothing behind. */
async function leftovers(): Promise<string[]> {
  const names = ourNames();
  const programs = await bpftool('prog', 'show');
  const maps = await bpftool('map', 'show');
  const links = await bpftool('link', 'show');
  // After the lists: what has come meanwhile is in neither, and what has gone meanwhile is looked at once more by the caller.
  const held = heldIds();
  const left = programs.filter((program) => names.has(program.name ?? '') && !held.prog_id.has(program.id));
  const ids = new Set(left.map((program) => program.id));
  const heldMaps = new Set([
    ...held.map_id,
    ...programs.filter(({ id }) => held.prog_id.has(id)).flatMap(({ map_ids }) => map_ids ?? []),
  ]);
  return [
    ...left.map((program) => `program ${program.id} ${program.type} ${program.name}`),
    ...maps
      .filter((map) => names.has(map.name ?? '') && !heldMaps.has(map.id))
      .map((map) => `map ${map.id} ${map.type} ${map.name}`),
    ...links
      .filter((link) => ids.has(link.prog_id ?? -1))
      .map((link) => `link ${link.id} ${link.type} of program ${link.prog_id}`),
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
