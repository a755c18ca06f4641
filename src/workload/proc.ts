import { readlinkSync } from 'node:fs';
import { readerLimits } from '../config/limits.ts';
import { newTally, readText, type Tally } from '../files/read.ts';
import { type CgroupIdentity, parseCgroup, unknownCgroup } from './cgroup-path.ts';
import { emptyEnvironment, type ServiceEnvironment, serviceEnvironmentOf } from './environment.ts';
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

/** Characters of a program's name; a title may be as long as the command line. */
const MAX_PROGRAM = 1024;

/** Of a command line; what names the program stands at the front. */
const MAX_WORDS = 4096;

/** USER_HZ: the unit of times in /proc, 100 a second on every kernel of a processor of src/arch/. */
const NS_PER_TICK = 10_000_000;

/**
 * @param procRoot `/proc`, or where that of the host is mounted
 * @param brief without the environment and the command line, which may be long
 * @returns `undefined` when the process is gone. Parts that may not be read (another user's, without CAP_SYS_PTRACE) stay empty.
 */
export function readProcess(
  procRoot: string,
  pid: number,
  tally: Tally = newTally(),
  brief = false,
): ProcessFacts | undefined {
  const directory = `${procRoot}/${pid}`;
  const stat = readText(`${directory}/stat`, readerLimits.smallFileBytes, tally, 'stat_bytes_limit');
  if (stat === undefined) return undefined;
  const executable = withoutDeletedMark(readLink(`${directory}/exe`) ?? '');
  const line = brief
    ? ''
    : readText(`${directory}/cmdline`, readerLimits.commandLineBytes, tally, 'command_line_bytes_limit');
  const words = splitWords(line ?? '');
  const { comm, startNs } = parseStat(stat);
  const program = programName(executable || (words[0] ?? ''), words, readLink(`${directory}/cwd`), comm);
  return {
    pid,
    comm,
    startNs,
    executable,
    program: program.slice(0, MAX_PROGRAM),
    cgroup: readCgroup(procRoot, pid, tally),
    environment: brief ? emptyEnvironment : serviceEnvironmentOf(`${directory}/environ`, tally),
  };
}

/** The cgroup of a process. */
export function readCgroup(procRoot: string, pid: number, tally: Tally = newTally()): CgroupIdentity {
  const text = readText(`${procRoot}/${pid}/cgroup`, readerLimits.smallFileBytes, tally, 'cgroup_bytes_limit');
  return text === undefined ? unknownCgroup : parseCgroup(text);
}

/**
 * Whose share of work a process uses: its container, else its service, else the two upper folders of its cgroup, such as a user's slice. A process
 * without privileges cannot leave it. Empty where processes are in no cgroup.
 */
export function ownerOf({ path, containerId, unit, pod }: CgroupIdentity): string {
  return containerId ?? pod?.uid ?? unit ?? path.split('/', 3).join('/');
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
  const words = text.split('\0', MAX_WORDS);
  while (words.length > 0 && words.at(-1) === '') words.pop();
  return words;
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // Gone, a kernel thread, or not ours to read.
    return undefined;
  }
}
