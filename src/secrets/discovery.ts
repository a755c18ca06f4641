import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { dirname, posix } from 'node:path';
import { isCryptoLibraryName } from './libraries.ts';

/**
 * Reads what /proc and library folders say about the files that processes run. A process may end between any two reads: everything
 * here answers "nothing" then, and never throws.
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

const MAPS_LINE = /^([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(.+)$/gm;
const DELETED = ' (deleted)';
const MAX_MAPPINGS = 4096;
const MAX_FOLDER_ENTRIES = 65_536;
const MAX_LINKS = 40;

/** File-backed code of a maps file, each file once. */
export function parseMaps(text: string): CodeMapping[] {
  const byKey = new Map<string, CodeMapping>();
  for (const match of text.matchAll(MAPS_LINE)) {
    if (match[4] === '0' || byKey.size >= MAX_MAPPINGS) continue; // no inode: [vdso] and such
    const key = `${match[3]}:${match[4]}`;
    if (byKey.has(key)) continue;
    const deleted = match[5]!.endsWith(DELETED);
    const path = deleted ? match[5]!.slice(0, -DELETED.length) : match[5]!;
    // map_files drops leading zeros, maps pads to eight digits.
    const strip = (address: string) => address.replace(/^0+(?=.)/, '');
    byKey.set(key, { range: `${strip(match[1]!)}-${strip(match[2]!)}`, key, path, deleted });
  }
  return [...byKey.values()];
}

/** @returns undefined when there is no such process, or it may not be read */
export function readMaps(procRoot: string, pid: number): CodeMapping[] | undefined {
  try {
    return parseMaps(readFileSync(`${procRoot}/${pid}/maps`, 'latin1'));
  } catch {
    return undefined;
  }
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
export function startTimeOf(procRoot: string, pid: number): string | undefined {
  try {
    const text = readFileSync(`${procRoot}/${pid}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
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
export function libraryPathOf(procRoot: string, pid: number): string[] {
  try {
    const environment = readFileSync(`${procRoot}/${pid}/environ`, 'latin1');
    const entry = `\0${environment}`.split('\0LD_LIBRARY_PATH=')[1];
    const value = entry?.slice(0, entry.includes('\0') ? entry.indexOf('\0') : entry.length) ?? '';
    return value.split(/[:;]/).filter((folder) => folder.startsWith('/'));
  } catch {
    return [];
  }
}

/**
 * Where a path leads when `root` is the root folder: links in it are followed as the process inside would, whereas the kernel would
 * take an absolute one from our own root.
 * @returns the path inside `root` without links, or undefined when there is nothing
 */
export function resolveInRoot(root: string, path: string): string | undefined {
  const left = path.split('/').reverse();
  let resolved = '/';
  for (let links = 0; left.length > 0; ) {
    const part = left.pop()!;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      resolved = dirname(resolved);
      continue;
    }
    const next = posix.join(resolved, part);
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

const STANDARD_FOLDERS = [
  '/lib/x86_64-linux-gnu',
  '/usr/lib/x86_64-linux-gnu',
  '/lib64',
  '/usr/lib64',
  '/lib',
  '/usr/lib',
  '/usr/local/lib',
  '/usr/local/lib64',
  '/usr/local/lib/x86_64-linux-gnu',
  '/usr/local/ssl/lib',
  '/usr/local/ssl/lib64',
];

const MAX_FOLDERS = 64;
const MAX_CONFIGURATION_FILES = 64;

/** The folders that /etc/ld.so.conf names, with what it includes (ldconfig(8)). */
function configuredFolders(root: string): string[] {
  const folders: string[] = [];
  const files = ['/etc/ld.so.conf'];
  try {
    for (const name of readdirSync(`${root}/etc/ld.so.conf.d`).sort()) {
      if (name.endsWith('.conf') && files.length < MAX_CONFIGURATION_FILES) files.push(`/etc/ld.so.conf.d/${name}`);
    }
  } catch {
    // most images have none
  }
  for (const file of files) {
    const path = resolveInRoot(root, file);
    if (path === undefined) continue;
    try {
      if (!statSync(root + path).isFile()) continue;
      const lines = readFileSync(root + path, 'latin1')
        .slice(0, 65_536)
        .split('\n');
      folders.push(...lines.map((line) => line.trim()).filter((line) => line.startsWith('/')));
    } catch {
      // gone meanwhile
    }
  }
  return folders;
}

/** The library folders of a file system, without links, each once. @param root such as /proc/1/root */
export function libraryFolders(root: string): string[] {
  const found = new Set<string>();
  for (const folder of [...STANDARD_FOLDERS, ...configuredFolders(root)]) {
    const path = resolveInRoot(root, folder);
    if (path !== undefined && found.size < MAX_FOLDERS) found.add(path);
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

/** The libcrypto files of one folder, read again only when the folder has changed. */
export class LibraryFolder {
  readonly path: string;
  #modified = '';
  #names: string[] = [];

  constructor(path: string) {
    this.path = path;
  }

  /**
   * @param root where the file system is seen
   * @param nowMs Unix time
   * @returns whether the folder's entries may have changed since the last call
   */
  refresh(root: string, nowMs: number): boolean {
    try {
      const stat = statSync(root + this.path, { bigint: true });
      const modified = `${stat.dev}:${stat.ino}:${stat.mtimeNs}`;
      if (modified === this.#modified) return false;
      this.#names = readdirSync(root + this.path)
        .slice(0, MAX_FOLDER_ENTRIES)
        .filter(isCryptoLibraryName);
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
