/** Run time of our BPF programs, from the kernel's own statistics (kernel.bpf_stats_enabled). */
import { readFile, writeFile } from 'node:fs/promises';
import type { Cleanup } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';

const SWITCH = '/proc/sys/kernel/bpf_stats_enabled';

interface ProgramInfo {
  name?: string;
  type: string;
  run_time_ns?: number;
  run_cnt?: number;
}

/** Switches the statistics on until the cleanup, and returns a reader of the totals over all cgroup and uprobe programs. */
export async function enable(cleanup: Cleanup): Promise<() => Promise<{ runTimeNs: number; runCount: number }>> {
  const before = (await readFile(SWITCH, 'latin1')).trim();
  await writeFile(SWITCH, '1');
  cleanup.add(() => writeFile(SWITCH, before));
  return async () => {
    const { stdout } = await run('bpftool', ['-j', 'prog', 'show']);
    const programs = (JSON.parse(stdout) as ProgramInfo[]).filter((program) =>
      ['cgroup_skb', 'cgroup_sock', 'cgroup_sock_addr', 'kprobe', 'raw_tracepoint'].includes(program.type),
    );
    return {
      runTimeNs: programs.reduce((sum, program) => sum + (program.run_time_ns ?? 0), 0),
      runCount: programs.filter((p) => p.type === 'cgroup_skb').reduce((sum, p) => sum + (p.run_cnt ?? 0), 0),
    };
  };
}
