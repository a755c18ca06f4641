import { readFileSync } from 'node:fs';

/**
 * Memory of this process that nobody else has, in bytes: heap, buffers, stacks (RssAnon of proc_pid_status(5)). RSS has twice the ring, which
 * is mapped twice in a row and charged to the kernel once, and the files of Node and its libraries, which all processes share.
 */
export function ownMemoryBytes(): number | undefined {
  try {
    const kilobytes = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}
