import { type Dirent, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type CgroupIdentity, parseCgroup } from './cgroup-path.ts';

/** A machine with some hundred containers has some thousand. */
const MAX_DIRECTORIES = 50_000;
/** Going through all takes 10 us for each. */
const SCAN_INTERVAL_MS = 1000;

/**
 * Cgroups by their ids, which are the inode numbers of their directories. For the sockets of processes that are gone before anybody could
 * look at them: their container is still there.
 */
export class CgroupDirectories {
  readonly #root: string;
  readonly #now: () => number;
  #found = new Map<number, CgroupIdentity>();
  #scannedMs = Number.NEGATIVE_INFINITY;

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
    if (this.#now() - this.#scannedMs < SCAN_INTERVAL_MS) return undefined;
    this.#found = this.#scan();
    this.#scannedMs = this.#now();
    return this.#found.get(id);
  }

  #scan(): Map<number, CgroupIdentity> {
    const found = new Map<number, CgroupIdentity>();
    const queue = ['/'];
    for (let path = queue.pop(); path !== undefined && found.size < MAX_DIRECTORIES; path = queue.pop()) {
      try {
        found.set(statSync(join(this.#root, path)).ino, parseCgroup(`0::${path}`));
        for (const entry of directoriesIn(join(this.#root, path))) queue.push(join(path, entry.name));
      } catch {
        // Removed in the meantime.
      }
    }
    return found;
  }
}

function directoriesIn(path: string): Dirent[] {
  return readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
}
