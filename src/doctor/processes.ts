import { closeSync, openSync } from 'node:fs';
import { type CodeMapping, listProcesses, readMaps } from '../secrets/discovery.ts';
import { ElfFile, readerOf } from '../secrets/elf.ts';
import { judge, libraryByStrings, openSslVersion } from '../secrets/libraries.ts';
import { readProcess } from '../workload/proc.ts';
import type { ProcessCheck } from './report.ts';

/** What one file is, whichever processes map it. */
type Finding = Omit<ProcessCheck, 'pid' | 'name'>;

/** To look for traces of a library in a large executable takes tens of milliseconds; in all of them, no longer than this. */
const STRING_SEARCH_MS = 4000;

/**
 * The TLS library of each running process, by the same judgement as the agent's.
 *
 * @param procRoot `/proc`
 */
export function checkProcesses(procRoot = '/proc'): ProcessCheck[] {
  const findings = new Map<string, Finding | undefined>();
  const searchUntilMs = performance.now() + STRING_SEARCH_MS;
  const processes: ProcessCheck[] = [];
  for (const pid of listProcesses(procRoot)) {
    if (pid === process.pid) continue;
    const facts = readProcess(procRoot, pid);
    const mappings = readMaps(procRoot, pid);
    // Ended meanwhile, or a thread of the kernel.
    if (facts === undefined || mappings?.length === 0) continue;
    const name = facts.program || facts.comm;
    if (mappings === undefined) {
      processes.push({ pid, name, state: 'unreadable', detail: 'its memory map may not be read' });
      continue;
    }
    const found = findLibrary(procRoot, pid, mappings, facts.executable, findings, searchUntilMs);
    processes.push({ pid, name, ...found });
  }
  return processes;
}

/** The best that its files say: a library that can be probed before one that cannot. */
function findLibrary(
  procRoot: string,
  pid: number,
  mappings: readonly CodeMapping[],
  executable: string,
  findings: Map<string, Finding | undefined>,
  searchUntilMs: number,
): Finding {
  let unsupported: Finding | undefined;
  let unreadable = false;
  for (const mapping of mappings) {
    const known = findings.has(mapping.key);
    const finding = known
      ? findings.get(mapping.key)
      : lookInto(procRoot, pid, mapping, mapping.path === executable, searchUntilMs);
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

/** @returns `undefined` when the file has nothing to do with TLS */
function lookInto(
  procRoot: string,
  pid: number,
  mapping: CodeMapping,
  isExecutable: boolean,
  searchUntilMs: number,
): Finding | undefined {
  const descriptor = openMapped(procRoot, pid, mapping, isExecutable);
  if (descriptor === undefined) return { state: 'unreadable', detail: mapping.path };
  try {
    const elf = ElfFile.open(readerOf(descriptor));
    if (elf === undefined) return undefined;
    const judgement = judge(elf, mapping.path);
    const library = mapping.path;
    if (judgement.verdict === 'unsupported') {
      return { state: 'unsupported_library', library, version: judgement.library, detail: judgement.detail };
    }
    if (judgement.verdict === 'probe') {
      const version = openSslVersion(elf);
      const cost = judgement.emulated
        ? 'cheap: the instruction is emulated'
        : 'dear: the instruction is single-stepped';
      return {
        state: 'probeable',
        library,
        version: version === undefined ? judgement.library : `OpenSSL ${version}`,
        detail: `can be probed at 0x${judgement.fileOffset.toString(16)} (${cost})`,
      };
    }
    const traces = isExecutable && performance.now() < searchUntilMs ? libraryByStrings(elf) : undefined;
    if (traces === undefined) return undefined;
    return { state: 'unsupported_library', library, version: traces, detail: 'has no symbol to probe' };
  } finally {
    closeSync(descriptor);
  }
}

/** The very file that is mapped, also when its path names another one by now or none. */
function openMapped(procRoot: string, pid: number, mapping: CodeMapping, isExecutable: boolean): number | undefined {
  const directory = `${procRoot}/${pid}`;
  const paths = [`${directory}/map_files/${mapping.range}`];
  if (isExecutable) paths.push(`${directory}/exe`);
  if (!mapping.deleted) paths.push(`${directory}/root${mapping.path}`);
  for (const path of paths) {
    try {
      return openSync(path, 'r');
    } catch {
      // map_files wants more rights than the others.
    }
  }
  return undefined;
}
