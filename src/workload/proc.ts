import { closeSync, openSync, readlinkSync, readSync } from 'node:fs';
import { type CgroupIdentity, parseCgroup, unknownCgroup } from './cgroup-path.ts';
import { emptyEnvironment, parseEnvironment, type ServiceEnvironment } from './environment.ts';
import { baseName, programName, withoutDeletedMark } from './program-name.ts';

/** What /proc says of one process, read in one go. Holds nothing of its environment but OpenTelemetry's two variables. */
export interface ProcessFacts {
  readonly pid: number;
  /** Since boot; 0 when not known. */
  readonly startNs: number;
  /** Path in the process's own mount namespace, empty when not known. */
  readonly executable: string;
  readonly comm: string;
  /** The script's, the module's or the executable's name; empty when not known. */
  readonly program: string;
  readonly cgroup: CgroupIdentity;
  readonly environment: ServiceEnvironment;
}

/** ARG_MAX allows megabytes; what names the program stands at the front. */
const MAX_COMMAND_LINE_BYTES = 64 * 1024;
const MAX_ENVIRONMENT_BYTES = 4 * 1024 * 1024;
const MAX_SMALL_FILE_BYTES = 16 * 1024;
const FIRST_BUFFER_BYTES = 64 * 1024;

/** USER_HZ: the unit of times in /proc, 100 a second on every x86-64 kernel. */
const NS_PER_TICK = 10_000_000;

/** One buffer for every read: zeroed after an environment was in it. Grows to the largest environment seen. */
let buffer = Buffer.alloc(FIRST_BUFFER_BYTES);

/**
 * @param procRoot `/proc`, or where that of the host is mounted
 * @returns `undefined` when the process is gone. Parts that may not be read (another user's, without CAP_SYS_PTRACE) stay empty.
 */
export function readProcess(procRoot: string, pid: number): ProcessFacts | undefined {
  const directory = `${procRoot}/${pid}`;
  const stat = readText(`${directory}/stat`, MAX_SMALL_FILE_BYTES);
  if (stat === undefined) return undefined;
  const executable = withoutDeletedMark(readLink(`${directory}/exe`) ?? '');
  const words = splitWords(readText(`${directory}/cmdline`, MAX_COMMAND_LINE_BYTES) ?? '');
  const cgroup = readText(`${directory}/cgroup`, MAX_SMALL_FILE_BYTES);
  return {
    pid,
    ...parseStat(stat),
    executable,
    program: programName(executable || (words[0] ?? ''), words, readLink(`${directory}/cwd`)),
    cgroup: cgroup === undefined ? unknownCgroup : parseCgroup(cgroup),
    environment: readEnvironment(`${directory}/environ`),
  };
}

/** What remains to be said of a process that was gone before it could be read. */
export function factsWithoutProc(pid: number, startNs: number, comm: string, executable: string): ProcessFacts {
  return {
    pid,
    startNs,
    executable,
    comm,
    program: executable === '' ? programOfComm(comm) : baseName(executable),
    cgroup: unknownCgroup,
    environment: emptyEnvironment,
  };
}

/** Node names its main thread, and so its process: `MainThread` in version 24, `node-MainThread` in 26. */
function programOfComm(comm: string): string {
  return comm === 'MainThread' || comm === 'node-MainThread' ? 'node' : comm;
}

/** proc_pid_stat(5): `PID (COMM) STATE ...`; COMM may hold anything, `)` too; field 22 is the start time in ticks since boot. */
function parseStat(text: string): { comm: string; startNs: number } {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return { comm: '', startNs: 0 };
  const startTicks = Number(text.slice(close + 2).split(' ')[19]);
  return { comm: text.slice(open + 1, close), startNs: Number.isFinite(startTicks) ? startTicks * NS_PER_TICK : 0 };
}

/** NUL after each word. A process that writes a title over its command line may leave NULs behind it. */
function splitWords(text: string): string[] {
  const words = text.split('\0');
  while (words.length > 0 && words.at(-1) === '') words.pop();
  return words;
}

function readEnvironment(path: string): ServiceEnvironment {
  const length = readInto(path, MAX_ENVIRONMENT_BYTES);
  if (length <= 0) return emptyEnvironment;
  try {
    return parseEnvironment(buffer, length);
  } finally {
    buffer.fill(0, 0, length);
  }
}

function readText(path: string, limit: number): string | undefined {
  const length = readInto(path, limit);
  return length < 0 ? undefined : buffer.toString('utf8', 0, length);
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // Gone, a kernel thread, or not ours to read.
    return undefined;
  }
}

/** @returns bytes read into `buffer`, at most `limit`; -1 when the file cannot be read */
function readInto(path: string, limit: number): number {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch {
    return -1;
  }
  let length = 0;
  try {
    while (length < limit) {
      if (length === buffer.length) growBuffer();
      const read = readSync(descriptor, buffer, length, Math.min(buffer.length, limit) - length, null);
      if (read === 0) break;
      length += read;
    }
    return length;
  } catch {
    // The process ended between open and read (ESRCH). What was read may be half an environment.
    buffer.fill(0, 0, length);
    return -1;
  } finally {
    closeSync(descriptor);
  }
}

function growBuffer(): void {
  const grown = Buffer.alloc(buffer.length * 2);
  buffer.copy(grown);
  buffer.fill(0);
  buffer = grown;
}
