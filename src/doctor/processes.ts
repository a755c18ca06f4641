import { closeSync } from 'node:fs';
import { readerLimits } from '../config/limits.ts';
import { type Guard, unwatched } from '../files/guard.ts';
import { CappedFile, newTally, openRegular, type Tally } from '../files/read.ts';
import { byImportance, type CodeMapping, listProcesses, readMaps } from '../secrets/discovery.ts';
import { ElfFile } from '../secrets/elf.ts';
import { isCheap, type Judgement, Libraries } from '../secrets/libraries.ts';
import { count } from '../telemetry/counters.ts';
import { readProcess } from '../workload/proc.ts';
import type { ProcessCheck } from './report.ts';

/** What one file is, whichever processes map it. */
type Finding = Omit<ProcessCheck, 'pid' | 'name'>;

/** To look for traces of a library in a large executable takes tens of milliseconds; in all of them, no longer than this. */
const STRING_SEARCH_MS = 4000;

/** How long the files of one process may take. */
const PROCESS_MS = 1000;

export interface ProcessesOptions {
  readonly tally?: Tally;
  /** Called for each process before it is looked at. */
  readonly guard?: Guard;
  /** Processes to leave out. */
  readonly skip?: ReadonlySet<number>;
  /** Gets each as soon as it is known. */
  readonly tell?: (check: ProcessCheck) => void;
}

/** What a run over all processes carries along. */
interface Search {
  readonly procRoot: string;
  readonly tally: Tally;
  readonly findings: Map<string, Finding | undefined>;
  readonly libraries: Libraries;
  /** Until when executables are looked through for the traces of a library. */
  readonly searchUntilMs: number;
}

/**
 * The TLS library of each running process, by the same judgement as the agent's, and read with the same caps.
 *
 * @param procRoot `/proc`
 */
export function checkProcesses(procRoot = '/proc', options: ProcessesOptions = {}): ProcessCheck[] {
  const search: Search = {
    procRoot,
    tally: options.tally ?? newTally(),
    findings: new Map(),
    libraries: new Libraries(),
    searchUntilMs: performance.now() + STRING_SEARCH_MS,
  };
  const guard = options.guard ?? unwatched;
  const processes: ProcessCheck[] = [];
  for (const pid of listProcesses(procRoot)) {
    if (pid === process.pid || options.skip?.has(pid)) continue;
    guard.enter('', String(pid));
    const found = checkProcess(search, pid);
    if (found === undefined) continue;
    processes.push(found);
    options.tell?.(found);
  }
  guard.leave();
  return processes;
}

function checkProcess(search: Search, pid: number): ProcessCheck | undefined {
  const facts = readProcess(search.procRoot, pid, search.tally);
  const mappings = readMaps(search.procRoot, pid, search.tally);
  // Ended meanwhile, or a thread of the kernel.
  if (facts === undefined || mappings?.length === 0) return undefined;
  const name = facts.program || facts.comm;
  if (mappings === undefined) return { pid, name, state: 'unreadable', detail: 'its memory map may not be read' };
  return { pid, name, ...findLibrary(search, pid, byImportance(mappings, search.libraries), facts.executable) };
}

/** The best that its files say: a library that can be probed before one that cannot. */
function findLibrary(search: Search, pid: number, mappings: readonly CodeMapping[], executable: string): Finding {
  const { findings } = search;
  const untilMs = performance.now() + PROCESS_MS;
  let unsupported: Finding | undefined;
  let unreadable = false;
  for (const mapping of mappings) {
    const known = findings.has(mapping.key);
    if (!known && performance.now() > untilMs) {
      count(search.tally.counts, 'process_budget');
      return unsupported ?? { state: 'unreadable', detail: 'its files take too long to look into' };
    }
    const finding = known ? findings.get(mapping.key) : lookInto(search, pid, mapping, mapping.path === executable);
    if (finding?.state === 'unreadable') {
      unreadable = true;
      continue; // Another process may show it.
    }
    findings.set(mapping.key, finding);
    if (finding?.state === 'probeable') return finding;
    if (finding?.state === 'unsupported_library') unsupported ??= finding;
  }
  if (unsupported !== undefined) return unsupported;
  if (unreadable) return { state: 'unreadable', detail: 'a file that it maps may not be read' };
  return { state: 'no_tls_library', detail: 'no TLS library was recognised' };
}

/** The version of what can be probed, and where it is. */
function probeable(elf: ElfFile, judgement: Judgement & { verdict: 'probe' }, libraries: Libraries) {
  const { library, places } = judgement;
  const version = libraries.versionOf(elf, judgement);
  const cost = isCheap(judgement) ? 'cheap: the instruction is emulated' : 'dear: the instruction is single-stepped';
  const at = places.map(({ fileOffset }) => `0x${fileOffset.toString(16)}`).join(', ');
  return {
    version: version === undefined ? library : `${places[0]?.provider.library} ${version}`,
    detail: `can be probed at ${at} (${cost})`,
  };
}

/** @returns `undefined` when the file has nothing to do with TLS */
function lookInto(search: Search, pid: number, mapping: CodeMapping, isExecutable: boolean): Finding | undefined {
  const descriptor = openMapped(search, pid, mapping, isExecutable);
  if (descriptor === undefined) return { state: 'unreadable', detail: mapping.path };
  try {
    const file = new CappedFile(descriptor, readerLimits.elf, search.tally);
    const elf = ElfFile.open(file.readAt);
    if (elf === undefined) return undefined;
    const judgement = search.libraries.judge(elf, mapping.path);
    if (file.capped !== undefined)
      count(search.tally.counts, file.capped === 'time' ? 'elf_time_limit' : 'elf_bytes_limit');
    const library = mapping.path;
    if (judgement.verdict === 'unsupported') {
      return { state: 'unsupported_library', library, version: judgement.library, detail: judgement.detail };
    }
    if (judgement.verdict === 'probe') {
      return { state: 'probeable', library, ...probeable(elf, judgement, search.libraries) };
    }
    const traces = isExecutable && performance.now() < search.searchUntilMs ? search.libraries.traceOf(elf) : undefined;
    if (traces === undefined) return undefined;
    return { state: 'unsupported_library', library, version: traces, detail: 'has no symbol to probe' };
  } finally {
    closeSync(descriptor);
  }
}

/** The very file that is mapped, also when its path names another one by now or none. */
function openMapped(search: Search, pid: number, mapping: CodeMapping, isExecutable: boolean): number | undefined {
  const directory = `${search.procRoot}/${pid}`;
  const paths = [`${directory}/map_files/${mapping.range}`];
  if (isExecutable) paths.push(`${directory}/exe`);
  if (!mapping.deleted) paths.push(`${directory}/root${mapping.path}`);
  // map_files wants more rights than the others.
  for (const path of paths) {
    const fd = openRegular(path, search.tally);
    if (fd !== undefined) return fd;
  }
  return undefined;
}
