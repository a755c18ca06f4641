import { linkSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes a folder this process's own. A process that has ended, however, holds nothing.
 *
 * @returns gives it back
 * @throws Error that names the process that uses it
 */
export function lockFolder(folder: string): () => void {
  const lock = join(folder, 'lock');
  const own = join(folder, `lock.${process.pid}`);
  writeFileSync(own, processName(process.pid) ?? '', { mode: 0o600 });
  try {
    for (let tries = 0; ; tries++) {
      try {
        linkSync(own, lock);
        return () => unlinkSync(lock);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || tries === 2) throw error;
        const holder = readFileSync(lock, 'utf8');
        const pid = Number.parseInt(holder, 10);
        if (holder !== '' && processName(pid) === holder) {
          throw new Error(`process ${pid} uses it: each agent needs a folder of its own`);
        }
        unlinkSync(lock);
      }
    }
  } finally {
    unlinkSync(own);
  }
}

/** A process's id is used again, its id with its start time is not: field 22 of proc_pid_stat(5). */
function processName(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is a name in parentheses, which may hold anything.
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return `${pid} ${startTime}`;
  } catch {
    return undefined;
  }
}
