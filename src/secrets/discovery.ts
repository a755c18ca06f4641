import { closeSync, lstatSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { dirname, posix } from 'node:path';
import { thisMachine } from '../arch/machine.ts';
import { readerLimits } from '../config/limits.ts';
import { readEnvironment } from '../files/environ.ts';
import { newTally, openRegular, readFolder, readHead, readLines, type Tally } from '../files/read.ts';
import { count } from '../telemetry/counters.ts';
import type { Libraries } from './libraries.ts';

/**
 * Reads what /proc and library folders say about the files that processes run. A process may end between any two reads: everything
 * here answers "nothing" then, and never throws. What it says is as long as its process wants: each read has its cap.
 */

/** A file mapped as code: one line of /proc/PID/maps (proc(5)). */
export interface CodeMapping {
  /** `start-end` as map_files names it. */
  range: string;
  /** `major:minor:inode` as it stands in the line: the same for every process that maps the file. */
  key: string;
  /** As seen in the process's mount namespace, without ` (deleted)`. */
  path: string;
  deleted: boolean;
}

const MAPS_LINE = /^([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(.+)$/;
const DELETED = ' (deleted)';
const LINES_PER_LOOK_AT_CLOCK = 64;
const MAX_LINKS = 40;
/** Parts of one path that are looked up, links followed, and bytes of a path (PATH_MAX). */
const MAX_PARTS = 1024;
const MAX_PATH = 4096;
/** Folders that are named but not there cost a look each. */
const MAX_FOLDER_TRIES = 256;
const SPACE = 0x20;
const EXECUTABLE = 0x78;

/** File-backed code of a maps file, each file once. */
class CodeMappings {
  readonly byKey = new Map<string, CodeMapping>();
  readonly #tally: Tally;
  readonly #untilMs = performance.now() + readerLimits.mapsMs;
  #lines = 0;

  constructor(tally: Tally) {
    this.#tally = tally;
  }

  /** @returns false when it is enough */
  take(bytes: Buffer, start: number, end: number): boolean {
    // The kernel writes the lines while it is asked, and waits for a process that changes its memory.
    if (++this.#lines % LINES_PER_LOOK_AT_CLOCK === 0 && performance.now() > this.#untilMs) {
      count(this.#tally.counts, 'maps_time_limit');
      return false;
    }
    // `start-end rwxp ...`: most lines are not of code, and are passed over before they are text.
    if (bytes[bytes.indexOf(SPACE, start) + 3] !== EXECUTABLE) return true;
    const match = MAPS_LINE.exec(bytes.toString('latin1', start, end));
    if (match === null || match[4] === '0') return true; // no inode: [vdso] and such
    const key = `${match[3]}:${match[4]}`;
    if (this.byKey.has(key)) return true;
    if (this.byKey.size >= readerLimits.mappedFiles) {
      count(this.#tally.counts, 'mapped_files_limit');
      return false;
    }
    const deleted = match[5]!.endsWith(DELETED);
    const path = deleted ? match[5]!.slice(0, -DELETED.length) : match[5]!;
    // map_files drops leading zeros, maps pads to eight digits.
    const strip = (address: string) => address.replace(/^0+(?=.)/, '');
    this.byKey.set(key, { range: `${strip(match[1]!)}-${strip(match[2]!)}`, key, path, deleted });
    return true;
  }
}

/** @returns undefined when there is no such process, or it may not be read */
export function readMaps(
  procRoot: string,
  pid: number,
  tally: Tally = newTally(),
  maxBytes: number = readerLimits.mapsBytes,
): CodeMapping[] | undefined {
  const found = new CodeMappings(tally);
  const caps = { maxBytes, maxLineBytes: readerLimits.mapsLineBytes };
  const isRead = readLines(`${procRoot}/${pid}/maps`, caps, tally, 'maps_bytes_limit', (bytes, start, end) =>
    found.take(bytes, start, end),
  );
  return isRead ? [...found.byKey.values()] : undefined;
}

/** The program first, then what is a TLS library by its name, then all others: when not all may be looked into, these were. */
export function byImportance(mappings: readonly CodeMapping[], libraries: Libraries): CodeMapping[] {
  const [program, ...others] = mappings;
  if (program === undefined) return [];
  const isTls = ({ path }: CodeMapping): boolean => libraries.isTlsByName(path);
  const tls = others.filter(isTls);
  return [program, ...tls, ...(tls.length === 0 ? others : others.filter((each) => !isTls(each)))];
}

export function listProcesses(procRoot: string): number[] {
  try {
    return readdirSync(procRoot)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}

/** Field 22 of /proc/PID/stat: with the process id it names a process for good. */
export function startTimeOf(procRoot: string, pid: number, tally: Tally = newTally()): string | undefined {
  const text = readHead(`${procRoot}/${pid}/stat`, readerLimits.smallFileBytes, tally, 'stat_bytes_limit')?.toString(
    'latin1',
  );
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19];
}

/** Mount namespace and root folder of a process: those with the same text see the same files. */
export function fileSystemOf(procRoot: string, pid: number): string | undefined {
  try {
    return `${readlinkSync(`${procRoot}/${pid}/ns/mnt`)} ${readlinkSync(`${procRoot}/${pid}/root`)}`;
  } catch {
    return undefined;
  }
}

/** The folders of the process's LD_LIBRARY_PATH; nothing else of its environment is kept. */
export function libraryPathOf(procRoot: string, pid: number, tally: Tally = newTally()): string[] {
  const value = readEnvironment(`${procRoot}/${pid}/environ`, ['LD_LIBRARY_PATH'], tally)?.get('LD_LIBRARY_PATH');
  const folders = (value ?? '').split(/[:;]/).filter((folder) => folder.startsWith('/'));
  if (folders.length <= readerLimits.libraryFolders) return folders;
  count(tally.counts, 'library_folders_limit');
  return folders.slice(0, readerLimits.libraryFolders);
}

/**
 * Where a path leads when `root` is the root folder: links in it are followed as the process inside would, whereas the kernel would
 * take an absolute one from our own root.
 * @returns the path inside `root` without links, or undefined when there is nothing
 */
export function resolveInRoot(root: string, path: string): string | undefined {
  const left = path.split('/').reverse();
  let resolved = '/';
  for (let links = 0, parts = 0; left.length > 0; ) {
    const part = left.pop()!;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      resolved = dirname(resolved);
      continue;
    }
    const next = posix.join(resolved, part);
    if (++parts > MAX_PARTS) return undefined;
    try {
      if (lstatSync(root + next).isSymbolicLink()) {
        if (++links > MAX_LINKS) return undefined;
        const target = readlinkSync(root + next);
        if (target.startsWith('/')) resolved = '/';
        left.push(...target.split('/').reverse());
        continue;
      }
    } catch {
      return undefined;
    }
    resolved = next;
  }
  return resolved;
}

/** The processor's folders before those of all. */
const standardFolders = (triplet: string) => [
  `/lib/${triplet}`,
  `/usr/lib/${triplet}`,
  '/lib64',
  '/usr/lib64',
  '/lib',
  '/usr/lib',
  '/usr/local/lib',
  '/usr/local/lib64',
  `/usr/local/lib/${triplet}`,
  '/usr/local/ssl/lib',
  '/usr/local/ssl/lib64',
];

/** The folders that /etc/ld.so.conf names, with what it includes (ldconfig(8)). */
function configuredFolders(root: string, tally: Tally): string[] {
  const folders: string[] = [];
  const files = ['/etc/ld.so.conf'];
  try {
    const names: string[] = [];
    readFolder(`${root}/etc/ld.so.conf.d`, readerLimits.folderEntries, tally, 'folder_entries_limit', ({ name }) => {
      if (name.endsWith('.conf') && names.length < readerLimits.loaderConfigurationFiles) names.push(name);
    });
    files.push(...names.sort().map((name) => `/etc/ld.so.conf.d/${name}`));
  } catch {
    // most images have none
  }
  for (const file of files) folders.push(...foldersNamedBy(root, file, tally));
  return folders;
}

function foldersNamedBy(root: string, file: string, tally: Tally): string[] {
  const path = resolveInRoot(root, file);
  const fd = path === undefined ? undefined : openRegular(root + path, tally);
  if (fd === undefined) return [];
  try {
    const bytes = readHead(
      `/proc/self/fd/${fd}`,
      readerLimits.loaderConfigurationBytes,
      tally,
      'loader_configuration_limit',
    );
    const lines = bytes?.toString('latin1').split('\n') ?? [];
    return lines.map((line) => line.trim()).filter((line) => line.startsWith('/') && line.length < MAX_PATH);
  } finally {
    closeSync(fd);
  }
}

/** The library folders of a file system, without links, each once. @param root such as /proc/1/root */
export function libraryFolders(root: string, tally: Tally = newTally()): string[] {
  const found = new Set<string>();
  let tries = 0;
  for (const folder of [...standardFolders(thisMachine().triplet), ...new Set(configuredFolders(root, tally))]) {
    if (found.size >= readerLimits.libraryFolders || ++tries > MAX_FOLDER_TRIES) {
      count(tally.counts, 'library_folders_limit');
      break;
    }
    const path = resolveInRoot(root, folder);
    if (path !== undefined) found.add(path);
  }
  return [...found];
}

/** Says whether a file is still the same: its own device and inode as stat(2) has them, size and time of last change. */
export function stampOf(path: string): string | undefined {
  try {
    const stat = statSync(path, { bigint: true });
    return stat.isFile() ? `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}` : undefined;
  } catch {
    return undefined;
  }
}

/** A folder that changed this recently may change again within the same tick of its clock. */
const UNSETTLED_MS = 50;

/** The TLS libraries of one folder, read again only when the folder has changed. */
export class LibraryFolder {
  readonly path: string;
  readonly #libraries: Libraries;
  #modified = '';
  #names: string[] = [];

  constructor(path: string, libraries: Libraries) {
    this.path = path;
    this.#libraries = libraries;
  }

  /**
   * @param root where the file system is seen
   * @param nowMs Unix time
   * @returns whether the folder's entries may have changed since the last call
   */
  refresh(root: string, nowMs: number, tally: Tally = newTally()): boolean {
    try {
      const stat = statSync(root + this.path, { bigint: true });
      const modified = `${stat.dev}:${stat.ino}:${stat.mtimeNs}`;
      if (modified === this.#modified) return false;
      this.#names = libraryNames(root + this.path, tally, this.#libraries);
      this.#modified = Math.abs(nowMs - Number(stat.mtimeMs)) < UNSETTLED_MS ? '' : modified;
      return true;
    } catch {
      const changed = this.#names.length > 0;
      this.#names = [];
      this.#modified = '';
      return changed;
    }
  }

  /** Paths of the libraries inside the root, links followed, each once. */
  libraries(root: string): string[] {
    const paths = this.#names.map((name) => resolveInRoot(root, posix.join(this.path, name)));
    return [...new Set(paths.filter((path) => path !== undefined))];
  }
}

/** Names of libraries in a folder; when there are too many, those with the shortest names, `libcrypto.so.3` among them. */
function libraryNames(folder: string, tally: Tally, libraries: Libraries): string[] {
  const names: string[] = [];
  readFolder(folder, readerLimits.folderEntries, tally, 'folder_entries_limit', ({ name }) => {
    if (libraries.isLibraryName(name)) names.push(name);
  });
  if (names.length <= readerLimits.librariesPerFolder) return names;
  count(tally.counts, 'libraries_per_folder_limit');
  return names.sort((a, b) => a.length - b.length || (a < b ? -1 : 1)).slice(0, readerLimits.librariesPerFolder);
}
