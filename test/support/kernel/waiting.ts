import { readFileSync } from 'node:fs';

const read = (file: string): string => {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
};

/**
 * Milliseconds that the main threads of a process and of its children have stood in line for a processor: what they took in all less this
 * is what they take on a machine that has nothing else to do.
 */
export function waitedForCpuMs(pid: number): number {
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
  // Time on a processor and time in line, in nanoseconds.
  const [, waitedNs = '0'] = read(`/proc/${pid}/schedstat`).split(' ');
  return Number(waitedNs) / 1e6 + children.reduce((sum, child) => sum + waitedForCpuMs(child), 0);
}
