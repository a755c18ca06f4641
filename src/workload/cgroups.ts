import { statSync } from 'node:fs';
import { join } from 'node:path';
import { readerLimits } from '../config/limits.ts';
import { newTally, readFolder } from '../files/read.ts';
import { type CgroupIdentity, parseCgroup } from './cgroup-path.ts';

/** A machine with some hundred containers has some thousand. */
const MAX_DIRECTORIES = 50_000;
/** Going through all takes 10 us for each: a container that makes thousands of its own would hold up all others. */
const SCAN_INTERVAL_MS = 1000;
const SLICE_MS = 20;
/** Of the time that scans take, so many times is none begun. */
const REST_FACTOR = 20;

/**
 * Cgroups by their ids, which are the inode numbers of their directories. For the sockets of processes that are gone before anybody could
 * look at them: their container is still there.
 */
export class CgroupDirectories {
  readonly #root: string;
  readonly #now: () => number;
  #found = new Map<number, CgroupIdentity>();
  /** What a scan under way has found, and directories that it has not looked into. */
  #finding = new Map<number, CgroupIdentity>();
  readonly #left: string[] = [];
  #restUntilMs = Number.NEGATIVE_INFINITY;

  /**
   * @param root where the cgroup v2 hierarchy is mounted
   * @param now milliseconds, of any origin
   */
  constructor(root: string, now: () => number = () => performance.now()) {
    this.#root = root;
    this.#now = now;
  }

  /** @returns `undefined` when there is none with this id, or none that was there a moment ago */
  byId(id: number): CgroupIdentity | undefined {
    const found = this.#found.get(id);
    if (found !== undefined || id === 0) return found;
    if (this.#now() < this.#restUntilMs) return undefined;
    this.#scan();
    return this.#found.get(id) ?? this.#finding.get(id);
  }

  /** One slice. What is nearer to the root comes first: containers before what they have made within themselves. */
  #scan(): void {
    const begunMs = performance.now();
    if (this.#left.length === 0) {
      this.#finding = new Map();
      this.#left.push('/');
    }
    let next = 0;
    while (next < this.#left.length && performance.now() - begunMs < SLICE_MS) this.#take(this.#left[next++]!);
    this.#left.splice(0, next);
    if (this.#left.length === 0) this.#found = this.#finding;
    const restMs = (performance.now() - begunMs) * REST_FACTOR;
    this.#restUntilMs = this.#now() + (this.#left.length === 0 ? Math.max(SCAN_INTERVAL_MS, restMs) : restMs);
  }

  #take(path: string): void {
    if (this.#finding.size >= MAX_DIRECTORIES) return;
    try {
      this.#finding.set(statSync(join(this.#root, path)).ino, parseCgroup(`0::${path}`));
      const take = (name: string): void => {
        if (this.#left.length < MAX_DIRECTORIES) this.#left.push(join(path, name));
      };
      const folder = join(this.#root, path);
      readFolder(folder, readerLimits.folderEntries, newTally(), 'folder_entries_limit', (entry) => {
        if (entry.isDirectory()) take(entry.name);
      });
    } catch {
      // Removed in the meantime.
    }
  }
}
