import {
  closeSync,
  constants,
  fstatSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isOwnFile } from '../files/output-file.ts';

const MAX_HOLDER_BYTES = 64;

/**
 * Makes a folder this process's own. A process that has ended, however, holds nothing.
 *
 * @returns gives it back
 * @throws Error that names the process that uses it
 */
export function lockFolder(folder: string): () => void {
  const lock = join(folder, 'lock');
  const own = join(folder, `lock.${process.pid}`);
  // Left by a process that had the same id and was killed, or put there by others.
  rmSync(own, { force: true });
  writeFileSync(own, processName(process.pid) ?? '', { mode: 0o600, flag: 'wx' });
  try {
    for (let tries = 0; ; tries++) {
      try {
        linkSync(own, lock);
        return () => unlinkSync(lock);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || tries === 2) throw error;
        const holder = holderOf(lock);
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

/** What a lock says, if it is a file of ours: what others have put there locks nothing. Two names are those of one that is just being made. */
function holderOf(lock: string): string {
  let fd: number;
  try {
    fd = openSync(lock, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return '';
  }
  try {
    const stat = fstatSync(fd);
    stat.nlink = Math.min(stat.nlink, 1);
    const bytes = Buffer.alloc(MAX_HOLDER_BYTES);
    return isOwnFile(stat) ? bytes.toString('latin1', 0, readSync(fd, bytes, 0, MAX_HOLDER_BYTES, 0)) : '';
  } finally {
    closeSync(fd);
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
