import { closeSync, fstatSync } from 'node:fs';
import { type Limits, readerLimits } from '../config/limits.ts';
import { CappedFile, openRegular, type Tally } from '../files/read.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import { ElfFile } from './elf.ts';
import { type FoundPlace, isCheap, type Judgement, Libraries } from './libraries.ts';
import type { ProbedFileStatus } from './probe-status.ts';

/** Names a BPF program. */
export interface ProgramName {
  readonly provider: string;
  readonly program: string;
}

/** The ways to the kernel, and to where a file is mapped from: of the addon, or of a test. */
export interface ProbeBackend {
  /**
   * Puts a program of a provider on a place of a file.
   * @returns an id for `detach` @throws Error that says why not
   */
  attach(path: string, fileOffset: number, cookie: number, program: ProgramName): number;
  detach(id: number): unknown;
  /** `major:minor:inode` of an open file as /proc/PID/maps has it. @throws Error */
  identify(fd: number): string;
}

/** One file that was looked into: one inode, whatever its names. */
export interface KnownFile {
  readonly key: string;
  /** As a process sees it, for people. */
  path: string;
  judgement: Judgement;
  /** Its number: the lower half of the attach cookies, which a secret record's `library` says. */
  cookie: number;
  /** The attachments, one for each place; empty when it is not probed. */
  probes: readonly number[];
  /** Why it could not be attached. */
  error: string | undefined;
  attachedAtMs: number;
  /** Size and time of last change when it was looked into. */
  content: string;
  /** Folders the file wants its libraries from (DT_RUNPATH, DT_RPATH). */
  runPath: string[];
  /** Processes that map it. */
  readonly users: Set<number>;
  /** Names under which it stands in a library folder of a live file system. */
  readonly places: Set<string>;
  /** How it can be opened again, the last way that worked. */
  way: string;
  /** Undefined until asked for; empty when the file does not say. */
  version: string | undefined;
  /** Whose processes brought it. */
  readonly container: string;
  /** It was looked into with less work than it may take, and nothing was found: it is looked into again when there is time. */
  unfinished: boolean;
  /** How often its symbols took too long. */
  slowTries: number;
}

/** A file that is to be looked into. */
export interface FileToExamine {
  /** Where it can be opened, such as /proc/7/map_files/... */
  readonly way: string;
  /** As a process sees it. */
  readonly path: string;
  /** Whose it is; empty: no container's. */
  readonly container: string;
  /** What it must be; not given: whatever it is. */
  readonly key?: string;
  /** `way` can lead to no other file than that of `key`. */
  readonly exact?: boolean;
  /** No more than the little that most files take: its owner has used up its share of work. */
  readonly hurried?: boolean;
}

export type ProbeNotice =
  | { event: 'attached'; path: string; library: string; emulated: boolean }
  | { event: 'detached'; path: string; library: string }
  | { event: 'failed'; path: string; library: string; error: string };

/** A file's number has the lower half of an attach cookie, the place's parameter what a number can hold above it. */
const COOKIE_FILES = 2 ** 32;
const MAX_PARAMETER = 0xffff;

export function isProbed(file: KnownFile): boolean {
  return file.probes.length > 0;
}

/** @throws Error when the place's parameter cannot be passed on */
function cookieOf(file: KnownFile, { parameter = 0 }: FoundPlace): number {
  if (!Number.isInteger(parameter) || parameter < 0 || parameter > MAX_PARAMETER) {
    throw new Error(`the parameter of a place must be from 0 to ${MAX_PARAMETER}, not ${parameter}`);
  }
  return parameter * COOKIE_FILES + file.cookie;
}

/** So often a file is looked into that takes too long. */
const SLOW_TRIES = 10;

/** A file is kept probed at least this long, however short its process lived: the next one comes soon. */
const KEEP_MS = 30_000;

/**
 * The files that were looked into, by inode, and the probes on them. One attachment per inode, however many names, mounts and processes
 * share it.
 */
export class ProbedFiles {
  readonly #backend: ProbeBackend;
  readonly #limits: Limits;
  readonly #counts: ReasonCounts;
  readonly #notify: (notice: ProbeNotice) => void;
  readonly #now: () => number;
  readonly #tally: Tally;
  /** What is known of TLS libraries. */
  readonly libraries: Libraries;
  readonly #files = new Map<string, KnownFile>();
  readonly #attachedOf = new Map<string, number>();
  #nextCookie = 1;
  #attached = 0;

  constructor(
    backend: ProbeBackend,
    libraries: Libraries | undefined,
    limits: Limits,
    counts: ReasonCounts,
    tally: Tally,
    notify: (notice: ProbeNotice) => void,
    now: () => number,
  ) {
    this.#backend = backend;
    this.libraries = libraries ?? new Libraries();
    this.#limits = limits;
    this.#counts = counts;
    this.#tally = tally;
    this.#notify = notify;
    this.#now = now;
  }

  get(key: string): KnownFile | undefined {
    return this.#files.get(key);
  }

  values(): IterableIterator<KnownFile> {
    return this.#files.values();
  }

  /** @param cookie of one of its probes */
  byCookie(cookie: number): KnownFile | undefined {
    for (const file of this.#files.values()) if (file.cookie === cookie % COOKIE_FILES) return file;
    return undefined;
  }

  /** How many are probed. */
  get attached(): number {
    return this.#attached;
  }

  /**
   * Opens a file, looks into it and probes it, unless its inode is known and unchanged.
   * @returns undefined when it cannot be opened or is another file
   */
  examine(asked: FileToExamine): KnownFile | undefined {
    const { way, key } = asked;
    const fd = openRegular(way, this.#tally);
    if (fd === undefined) return undefined;
    try {
      const stat = fstatSync(fd, { bigint: true });
      const identity = asked.exact && key !== undefined ? key : this.#backend.identify(fd);
      if (key !== undefined && identity !== key) return undefined;
      const content = `${stat.size}:${stat.mtimeNs}`;
      const known = this.#files.get(identity);
      if (known?.content === content && (!known.unfinished || asked.hurried)) {
        known.way = way;
        if (known.judgement.verdict === 'probe' && !isProbed(known)) this.#attach(known, fd); // another try
        return known;
      }
      if (known !== undefined) this.#detach(known); // its bytes have changed under the probe
      return this.#add(identity, asked, content, fd, known);
    } catch {
      return undefined;
    } finally {
      closeSync(fd);
    }
  }

  /** Forgets what nobody maps and what stands in no library folder; its probe goes. */
  sweep(): void {
    const before = this.#now() - KEEP_MS;
    for (const file of this.#files.values()) {
      if (file.users.size > 0 || file.places.size > 0 || (isProbed(file) && file.attachedAtMs > before)) continue;
      this.#detach(file);
      this.#files.delete(file.key);
    }
  }

  /** The version that a file's library says it is. Slow the first time. */
  versionOf(file: KnownFile): string | undefined {
    if (file.judgement.verdict === 'probe' && file.version === undefined) {
      file.version = this.#reopened(file, (elf) => this.libraries.versionOf(elf, file.judgement)) ?? '';
    }
    return file.version === '' ? undefined : file.version;
  }

  /** The library that an executable without symbols carries, by its strings. Slow. */
  traceOf(file: KnownFile): string | undefined {
    return this.#reopened(file, (elf) => this.libraries.traceOf(elf));
  }

  /** All files with a library that can be probed, and who maps them. */
  statuses(): ProbedFileStatus[] {
    const found: ProbedFileStatus[] = [];
    for (const file of this.#files.values()) {
      if (file.judgement.verdict !== 'probe') continue;
      found.push({
        path: file.path,
        library: file.judgement.library,
        version: this.versionOf(file),
        cookie: file.cookie,
        emulated: isCheap(file.judgement),
        probed: isProbed(file),
        error: file.error,
        pids: [...file.users],
      });
    }
    return found;
  }

  /** Takes all probes off. */
  clear(): void {
    for (const file of this.#files.values()) this.#detach(file);
    this.#files.clear();
  }

  #add(key: string, asked: FileToExamine, content: string, fd: number, before: KnownFile | undefined): KnownFile {
    const { path, way, container, hurried = false } = asked;
    const reader = new CappedFile(fd, hurried ? readerLimits.elfHurried : readerLimits.elf, this.#tally);
    const elf = ElfFile.open(reader.readAt);
    const judgement: Judgement = elf === undefined ? { verdict: 'none' } : this.libraries.judge(elf, path);
    const cut = judgement.verdict === 'none' ? reader.capped : undefined;
    const slowTries = (before?.content === content ? before.slowTries : 0) + (cut === 'time' ? 1 : 0);
    const unfinished = cut !== undefined && (hurried || (cut === 'time' && slowTries < SLOW_TRIES));
    if (cut !== undefined && !unfinished)
      count(this.#tally.counts, cut === 'time' ? 'elf_time_limit' : 'elf_bytes_limit');
    const file: KnownFile = {
      key,
      path,
      judgement,
      cookie: this.#nextCookie++,
      probes: [],
      error: undefined,
      attachedAtMs: 0,
      content,
      runPath: elf?.runPath ?? [],
      users: before?.users ?? new Set(),
      places: before?.places ?? new Set(),
      way,
      version: undefined,
      container: before?.container ?? container,
      unfinished,
      slowTries,
    };
    this.#makeRoom();
    this.#files.set(key, file);
    this.#attach(file, fd);
    return file;
  }

  #attach(file: KnownFile, fd: number): void {
    const { judgement } = file;
    if (judgement.verdict !== 'probe') return;
    const { library, places } = judgement;
    if (this.#attached >= this.#limits.probeAttachments) {
      count(this.#counts, 'probe_attachments_limit');
      file.error = `the limit of ${this.#limits.probeAttachments} probed files is reached`;
      return;
    }
    const ofContainer = this.#attachedOf.get(file.container) ?? 0;
    if (file.container !== '' && ofContainer >= readerLimits.containerAttachments) {
      count(this.#counts, 'container_attachments_limit');
      file.error = `the limit of ${readerLimits.containerAttachments} probed files of one container is reached`;
      return;
    }
    try {
      // By descriptor: exactly the file whose instructions were checked, even when its name is gone or means another by now.
      file.probes = this.#attachAll(`/proc/self/fd/${fd}`, file, places);
      file.error = undefined;
      file.attachedAtMs = this.#now();
      this.#attached++;
      this.#attachedOf.set(file.container, ofContainer + 1);
      this.#notify({ event: 'attached', path: file.path, library, emulated: isCheap(judgement) });
    } catch (error) {
      count(this.#counts, 'probe_attach_failed');
      const message = error instanceof Error ? error.message : String(error);
      if (file.error !== message) this.#notify({ event: 'failed', path: file.path, library, error: message });
      file.error = message;
    }
  }

  /** All places of a file, or none. @throws Error that says why not */
  #attachAll(path: string, file: KnownFile, places: readonly FoundPlace[]): number[] {
    const probes: number[] = [];
    try {
      for (const place of places) {
        const program = { provider: place.provider.name, program: place.program };
        probes.push(this.#backend.attach(path, place.fileOffset, cookieOf(file, place), program));
      }
      return probes;
    } catch (error) {
      for (const probe of probes) this.#backend.detach(probe);
      throw error;
    }
  }

  #detach(file: KnownFile): void {
    if (!isProbed(file)) return;
    for (const probe of file.probes) this.#backend.detach(probe);
    file.probes = [];
    this.#attached--;
    const left = (this.#attachedOf.get(file.container) ?? 1) - 1;
    if (left > 0) this.#attachedOf.set(file.container, left);
    else this.#attachedOf.delete(file.container);
    const library = file.judgement.verdict === 'probe' ? file.judgement.library : '';
    this.#notify({ event: 'detached', path: file.path, library });
  }

  /** Files that are neither probed nor used by a known process go first; they are only looked into again. */
  #makeRoom(): void {
    if (this.#files.size < this.#limits.probeFiles) return;
    count(this.#counts, 'probe_files_limit');
    let first: KnownFile | undefined;
    for (const file of this.#files.values()) {
      if (isProbed(file)) continue;
      first ??= file;
      if (file.users.size === 0 && file.places.size === 0) {
        first = file;
        break;
      }
    }
    if (first !== undefined) this.#files.delete(first.key);
  }

  #reopened<T>(file: KnownFile, read: (elf: ElfFile) => T | undefined): T | undefined {
    const fd = openRegular(file.way, this.#tally);
    if (fd === undefined) return undefined;
    try {
      if (this.#backend.identify(fd) !== file.key) return undefined;
      const elf = ElfFile.open(new CappedFile(fd, readerLimits.elf, this.#tally).readAt);
      return elf === undefined ? undefined : read(elf);
    } catch {
      return undefined;
    } finally {
      closeSync(fd);
    }
  }
}
