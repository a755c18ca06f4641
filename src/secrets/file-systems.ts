import type { Guard } from '../files/guard.ts';
import type { Tally } from '../files/read.ts';
import { fileSystemOf, LibraryFolder, libraryFolders, resolveInRoot, stampOf } from './discovery.ts';
import type { ProbedFiles } from './probed-files.ts';

/** Library folders are looked at at most this often per file system, however many programs start. */
const FOLDERS_EVERY_MS = 5;
const MAX_EXTRA_FOLDERS = 1024;

/** What the processes of one mount namespace and root folder see. */
interface FileSystem {
  pids: Set<number>;
  folders: LibraryFolder[];
  /** Paths of libraries to what they were when last looked at, and whose they are. */
  libraries: Map<string, { stamp: string; key: string }>;
  checkedAtMs: number;
}

/**
 * The TLS libraries in the library folders of every file system that a known process lives in. They are probed whether or not somebody
 * maps them, so that a program finds its library probed when it starts.
 */
export class FileSystems {
  readonly #proc: string;
  readonly #files: ProbedFiles;
  readonly #now: () => number;
  readonly #guard: Guard;
  readonly #tally: Tally;
  readonly #byId = new Map<string, FileSystem>();
  /** Folders of DT_RUNPATH and LD_LIBRARY_PATH, by file system and path. */
  readonly #extraFolders = new Map<string, LibraryFolder>();

  constructor(procRoot: string, files: ProbedFiles, guard: Guard, tally: Tally, now: () => number) {
    this.#proc = procRoot;
    this.#files = files;
    this.#guard = guard;
    this.#tally = tally;
    this.#now = now;
  }

  ids(): string[] {
    return [...this.#byId.keys()];
  }

  /** A process lives in it. */
  join(id: string, pid: number): void {
    let fileSystem = this.#byId.get(id);
    if (fileSystem === undefined) {
      fileSystem = { pids: new Set(), folders: [], libraries: new Map(), checkedAtMs: 0 };
      this.#byId.set(id, fileSystem);
    }
    fileSystem.pids.add(pid);
  }

  leave(id: string, pid: number): void {
    this.#byId.get(id)?.pids.delete(pid);
  }

  /** One of the processes that live in it. */
  memberOf(id: string): number | undefined {
    return this.#byId.get(id)?.pids.values().next().value;
  }

  clear(): void {
    this.#byId.clear();
    this.#extraFolders.clear();
  }

  /**
   * Probes new and changed libraries in the library folders; forgets a file system in which nobody lives any more.
   * @param container whose it is
   * @param thorough also find the folders again, and look at every library whether or not its folder has changed
   * @param pid a process that lives in it just now
   */
  check(id: string, container: string, thorough: boolean, pid?: number): void {
    const fileSystem = this.#byId.get(id);
    const now = this.#now();
    if (fileSystem === undefined || (!thorough && Math.abs(now - fileSystem.checkedAtMs) < FOLDERS_EVERY_MS)) return;
    const root = this.#rootOf(id, fileSystem, pid);
    if (root === undefined) {
      this.#forget(id, fileSystem);
      return;
    }
    fileSystem.checkedAtMs = now;
    if (!this.#guard.enter(container, `folders of ${id}`)) return;
    if (thorough || fileSystem.folders.length === 0) {
      const known = new Map(fileSystem.folders.map((folder) => [folder.path, folder]));
      fileSystem.folders = libraryFolders(root, this.#tally).map(
        (path) => known.get(path) ?? new LibraryFolder(path, this.#files.libraries),
      );
    }
    let changed = thorough;
    for (const folder of fileSystem.folders) {
      if (this.#guard.enter(container, `${folder.path} of ${id}`) && folder.refresh(root, now, this.#tally))
        changed = true;
    }
    if (changed) this.#examine(id, fileSystem, root, container);
  }

  /** Probes the libraries of a folder that one process wants libraries from. They stay probed while they are used. */
  checkExtra(id: string, container: string, pid: number, path: string): void {
    const root = `${this.#proc}/${pid}/root`;
    if (!this.#guard.enter(container, `${path} of ${id}`)) return;
    const resolved = resolveInRoot(root, path);
    if (resolved === undefined) return;
    const folderId = `${id} ${resolved}`;
    let folder = this.#extraFolders.get(folderId);
    if (folder === undefined) {
      const oldest = this.#extraFolders.size >= MAX_EXTRA_FOLDERS ? this.#extraFolders.keys().next().value : undefined;
      if (oldest !== undefined) this.#extraFolders.delete(oldest);
      folder = new LibraryFolder(resolved, this.#files.libraries);
      this.#extraFolders.set(folderId, folder);
    }
    folder.refresh(root, this.#now(), this.#tally);
    // Looked into each time: nothing says when the probe of such a file has gone.
    for (const library of folder.libraries(root))
      this.#files.examine({ way: root + library, path: library, container });
  }

  #examine(id: string, fileSystem: FileSystem, root: string, container: string): void {
    const folders = fileSystem.folders.filter(({ path }) => this.#guard.enter(container, `${path} of ${id}`));
    const present = new Set(folders.flatMap((folder) => folder.libraries(root)));
    for (const [path, { key }] of fileSystem.libraries) {
      if (present.has(path)) continue;
      fileSystem.libraries.delete(path);
      this.#files.get(key)?.places.delete(`${id} ${path}`);
    }
    for (const path of present) {
      const stamp = stampOf(root + path);
      const before = fileSystem.libraries.get(path);
      const settled = before !== undefined && this.#files.get(before.key)?.error === undefined;
      if (stamp === undefined || (settled && before.stamp === stamp)) continue;
      const file = this.#files.examine({ way: root + path, path, container });
      if (file === undefined) continue;
      if (before !== undefined && before.key !== file.key) this.#files.get(before.key)?.places.delete(`${id} ${path}`);
      file.places.add(`${id} ${path}`);
      fileSystem.libraries.set(path, { stamp, key: file.key });
    }
  }

  /** How the file system can be reached: through one of its processes that lives, and still lives in it. */
  #rootOf(id: string, fileSystem: FileSystem, pid: number | undefined): string | undefined {
    if (pid !== undefined) return `${this.#proc}/${pid}/root`;
    for (const candidate of fileSystem.pids) {
      if (fileSystemOf(this.#proc, candidate) === id) return `${this.#proc}/${candidate}/root`;
      fileSystem.pids.delete(candidate);
    }
    return undefined;
  }

  #forget(id: string, fileSystem: FileSystem): void {
    for (const [path, { key }] of fileSystem.libraries) this.#files.get(key)?.places.delete(`${id} ${path}`);
    this.#byId.delete(id);
    for (const folderId of this.#extraFolders.keys())
      if (folderId.startsWith(`${id} `)) this.#extraFolders.delete(folderId);
  }
}
