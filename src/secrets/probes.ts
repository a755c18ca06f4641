import { posix } from 'node:path';
import { PROCESS_EXEC, type ProcessRecord } from '../capture/records.ts';
import { defaultLimits, type Limits, readerLimits } from '../config/limits.ts';
import { WorkBudget } from '../files/budget.ts';
import { type Guard, unwatched } from '../files/guard.ts';
import { newTally, type Tally } from '../files/read.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import {
  byImportance,
  type CodeMapping,
  fileSystemOf,
  libraryPathOf,
  listProcesses,
  readMaps,
  resolveInRoot,
  startTimeOf,
} from './discovery.ts';
import { FileSystems } from './file-systems.ts';
import type { ProbeManagerOptions } from './probe-options.ts';
import { NOTHING, type ProbedFileStatus, type ProcessLibrary, type ProcessStatus } from './probe-status.ts';
import { isProbed, type KnownFile, ProbedFiles } from './probed-files.ts';

/*
 * Which files must carry the probe, and when.
 *
 * A uprobe belongs to an inode: once attached it serves every process that maps the file, at once and in any namespace. A program may
 * be over 10 ms after it started, so its library must be probed before it starts: the libcrypto files in the library folders of every
 * known file system are probed even when nobody maps them. A new program (exec) makes those folders be looked at again, which costs a
 * stat each as long as nothing has changed in them, then its executable (a static OpenSSL, such as Node's) and the folders it wants its
 * libraries from. What it loads later is found in its maps: at its first socket, and some times in its first two seconds. A slow
 * round over all processes finds the rest, and what is no longer used.
 *
 * A process decides what there is to read: how many files it maps, how large they are. So a look ends after some milliseconds and goes on
 * later, and each process and container has a share of work (files/budget.ts). One that has used it up waits; others do not.
 */

/** When the maps of a new program are read, after its start. */
const LOOKS_MS = [20, 100, 500, 2000] as const;
const ROUND_MS = 5000;
/** Of a round: processes whose start time is checked and whose maps are read again although they are known, so that a round stays cheap. */
const CHECKS_PER_ROUND = 512;
const READS_PER_ROUND = 64;
/** How soon a look goes on that was not finished. */
const GO_ON_MS = 20;

interface KnownProcess {
  startTime: string;
  fileSystem: string;
  container: string;
  /** The file at its lowest address: its program. */
  executable: string;
  files: Set<string>;
}

interface Look {
  pid: number;
  startedAtMs: number;
}

export class ProbeManager {
  /** What was left out, by reason. */
  readonly counts: ReasonCounts = {};
  readonly #proc: string;
  readonly #limits: Limits;
  readonly #now: () => number;
  readonly #files: ProbedFiles;
  readonly #processes = new Map<number, KnownProcess>();
  readonly #fileSystems: FileSystems;
  readonly #containerOf: (pid: number) => string;
  readonly #budget: WorkBudget;
  readonly #guard: Guard;
  readonly #tally: Tally;
  /** Processes whose look is to go on. */
  readonly #unfinished = new Set<number>();
  /** One queue per delay, each in order of time. */
  readonly #looks: Look[][] = LOOKS_MS.map(() => []);
  #timer: NodeJS.Timeout | undefined;
  #roundTimer: NodeJS.Timeout | undefined;
  #round: Promise<void> | undefined;
  #nextCheck = 0;
  #tokens: number;
  #tokensAtMs: number;
  #stopped = false;

  constructor(options: ProbeManagerOptions) {
    this.#proc = options.procRoot ?? '/proc';
    this.#limits = options.limits ?? defaultLimits;
    this.#now = options.now ?? Date.now;
    this.#tokens = this.#limits.probeReadsPerSecond;
    this.#tokensAtMs = this.#now();
    this.#containerOf = options.containerOf ?? (() => '');
    this.#budget = options.budget ?? new WorkBudget();
    this.#guard = options.guard ?? unwatched;
    this.#tally = options.tally ?? newTally();
    const notify = options.notify ?? (() => {});
    this.#files = new ProbedFiles(
      options,
      options.libraries,
      this.#limits,
      this.counts,
      this.#tally,
      notify,
      this.#now,
    );
    this.#fileSystems = new FileSystems(this.#proc, this.#files, this.#guard, this.#tally, this.#now);
  }

  /** How many files are probed. */
  get attached(): number {
    return this.#files.attached;
  }

  /** Looks at every process and probes what they use. When it is done, every file that is in use now is probed. */
  async start(): Promise<void> {
    await this.rescan();
    this.#planRound();
  }

  /** A program was started, or a process makes its first socket. Cheap: bounded work, and less of it when events come in masses. */
  processEvent(record: ProcessRecord): void {
    if (this.#stopped) return;
    const { pid } = record;
    if (record.reason === PROCESS_EXEC) this.#forget(pid); // its old program's files
    const container = this.#containerOf(pid);
    const mayLook = this.#budget.takeRead(container) ? this.#takeToken() : false;
    if (record.reason === PROCESS_EXEC) {
      if (mayLook) this.#examineNew(pid, container);
      this.#enqueue(0, { pid, startedAtMs: this.#now() });
    } else if (!mayLook) {
      this.#enqueue(0, { pid, startedAtMs: this.#now() });
    } else if (this.#readProcess(pid, container)) {
      // The folders it takes libraries from later are those of its file system.
      const known = this.#processes.get(pid);
      if (known !== undefined)
        this.#charged(pid, container, () => this.#fileSystems.check(known.fileSystem, container, false));
    }
  }

  /** One round over all processes and library folders, in slices. A call during a round waits for that round. */
  rescan(): Promise<void> {
    this.#round ??= this.#runRound().finally(() => {
      this.#round = undefined;
    });
    return this.#round;
  }

  /** @returns undefined when nothing of TLS is known of the process */
  libraryOf(pid: number): ProcessLibrary | undefined {
    const file = this.#tlsFileOf(pid);
    if (file === undefined || file.judgement.verdict === 'none') return undefined;
    const { judgement } = file;
    const detail = judgement.verdict === 'unsupported' ? judgement.detail : (file.error ?? '');
    return { name: judgement.library, path: file.path, probed: isProbed(file), detail };
  }

  /** @param deep also look through the executable for a library without symbols, which takes some tens of milliseconds */
  statusOf(pid: number, deep = false): ProcessStatus {
    const file = this.#tlsFileOf(pid);
    if (file === undefined) return deep ? this.#traceOf(pid) : NOTHING;
    const { judgement } = file;
    if (judgement.verdict === 'none') return NOTHING;
    if (judgement.verdict === 'unsupported') {
      return { library: file.path, state: 'unsupported_library', detail: `${judgement.library}: ${judgement.detail}` };
    }
    const version = this.#files.versionOf(file);
    const state = isProbed(file) ? 'probed' : 'no_probe';
    const detail = isProbed(file) ? judgement.library : (file.error ?? 'not attached');
    return { library: file.path, state, detail, ...(version === undefined ? {} : { version }) };
  }

  /** All files with a library that can be probed, and who maps them. */
  list(): ProbedFileStatus[] {
    return this.#files.statuses();
  }

  /** The file whose probe a secret record's `library` names. */
  pathOfCookie(cookie: number): string | undefined {
    return this.#files.byCookie(cookie)?.path;
  }

  /** Takes all probes off and looks at nothing any more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#roundTimer);
    for (const queue of this.#looks) queue.length = 0;
    this.#unfinished.clear();
    this.#files.clear();
    this.#processes.clear();
    this.#fileSystems.clear();
  }

  // --- New programs ---

  /** At exec: nothing but the executable is mapped yet. */
  #examineNew(pid: number, container: string): void {
    const fileSystem = fileSystemOf(this.#proc, pid);
    if (fileSystem === undefined) return;
    this.#fileSystems.join(fileSystem, pid);
    this.#charged(pid, container, () => this.#fileSystems.check(fileSystem, container, false, pid));
    if (!this.#readProcess(pid, container)) return;
    this.#charged(pid, container, () => this.#checkWanted(pid, container, fileSystem));
  }

  /** The folders that a program names. */
  #checkWanted(pid: number, container: string, fileSystem: string): void {
    const executable = this.#executableOf(pid);
    const origin = posix.dirname(executable?.path ?? '/');
    const named = executable?.runPath.map((folder) => folder.replace(/\$\{?ORIGIN\}?/g, origin)) ?? [];
    const wanted = [...named, ...libraryPathOf(this.#proc, pid, this.#tally)];
    if (wanted.length > readerLimits.libraryFolders) count(this.#tally.counts, 'library_folders_limit');
    for (const folder of wanted.slice(0, readerLimits.libraryFolders)) {
      if (folder.startsWith('/')) this.#fileSystems.checkExtra(fileSystem, container, pid, posix.normalize(folder));
    }
  }

  /** What it takes is work of the process. Left out while its share is used up. */
  #charged(pid: number, container: string, work: () => void): void {
    const exhausted = this.#budget.exhausted(pid, container);
    if (exhausted === 'process') {
      count(this.#tally.counts, 'process_budget');
      return;
    }
    const begunMs = performance.now();
    work();
    this.#guard.leave();
    this.#budget.charge(pid, container, performance.now() - begunMs);
  }

  #executableOf(pid: number): KnownFile | undefined {
    const known = this.#processes.get(pid);
    return known === undefined ? undefined : this.#files.get(known.executable);
  }

  #enqueue(stage: number, look: Look): void {
    const queue = this.#looks[stage];
    if (queue === undefined) return;
    if (queue.length >= this.#limits.probeQueue) {
      count(this.counts, 'probe_queue_full');
      return;
    }
    queue.push(look);
    this.#planLooks();
  }

  #planLooks(): void {
    if (this.#timer !== undefined || this.#stopped) return;
    let next = Number.POSITIVE_INFINITY;
    for (const [stage, queue] of this.#looks.entries()) {
      if (queue[0] !== undefined) next = Math.min(next, queue[0].startedAtMs + LOOKS_MS[stage]!);
    }
    if (this.#unfinished.size > 0) next = Math.min(next, this.#now() + GO_ON_MS);
    if (next === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(() => this.#look(), Math.max(1, next - this.#now()));
    this.#timer.unref();
  }

  #look(): void {
    this.#timer = undefined;
    const now = this.#now();
    const untilMs = performance.now() + readerLimits.lookMs;
    for (const [stage, queue] of this.#looks.entries()) {
      let done = 0;
      while (done < queue.length && queue[done]!.startedAtMs + LOOKS_MS[stage]! <= now) {
        if (performance.now() > untilMs) break;
        const look = queue[done++]!;
        const container = this.#processes.get(look.pid)?.container ?? this.#containerOf(look.pid);
        if (!this.#budget.takeRead(container) || !this.#takeToken()) {
          count(this.counts, 'probe_looks_skipped');
          this.#enqueue(stage + 1, look);
        } else if (this.#readProcess(look.pid, container)) {
          this.#enqueue(stage + 1, look);
        }
      }
      queue.splice(0, done);
    }
    this.#goOn();
    this.#planLooks();
  }

  /** Goes on with what is not wholly looked at, as far as the shares of work allow: one slice. @returns whether there was something to do */
  #goOn(): boolean {
    const untilMs = performance.now() + readerLimits.lookMs;
    let worked = false;
    for (const pid of [...this.#unfinished]) {
      const container = this.#processes.get(pid)?.container ?? '';
      if (this.#budget.exhausted(pid, container) !== undefined) continue;
      this.#unfinished.delete(pid);
      this.#readProcess(pid, container);
      worked = true;
      if (performance.now() > untilMs) break;
    }
    return worked;
  }

  #postpone(pid: number): void {
    if (this.#unfinished.size >= this.#limits.probeQueue) count(this.counts, 'probe_queue_full');
    else this.#unfinished.add(pid);
    this.#planLooks();
  }

  /** Looks at processes are limited per second, so that a storm of short programs cannot take the agent's time. */
  #takeToken(): boolean {
    const now = this.#now();
    const perSecond = this.#limits.probeReadsPerSecond;
    this.#tokens = Math.min(perSecond, this.#tokens + (Math.max(0, now - this.#tokensAtMs) * perSecond) / 1000);
    this.#tokensAtMs = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  // --- Processes -------------------------------------------------------------------------------------------------------------------

  /**
   * Reads the maps of a process and looks into the files that are new: as many as there is time for, and the rest later.
   * @returns false when it is gone or maps nothing
   */
  #readProcess(pid: number, container = this.#processes.get(pid)?.container ?? this.#containerOf(pid)): boolean {
    const exhausted = this.#budget.exhausted(pid, container);
    if (exhausted === 'process') {
      count(this.#tally.counts, 'process_budget');
      this.#postpone(pid);
      return true;
    }
    if (exhausted === 'container') count(this.#tally.counts, 'container_budget');
    if (!this.#guard.enter(container, `process ${pid}`)) return false;
    const begunMs = performance.now();
    const result = this.#lookAt(pid, container, begunMs + readerLimits.lookMs, exhausted !== undefined);
    this.#guard.leave();
    this.#budget.charge(pid, container, performance.now() - begunMs);
    if (result === 'unfinished') this.#postpone(pid);
    return result !== 'gone';
  }

  #lookAt(pid: number, container: string, untilMs: number, hurried: boolean): 'gone' | 'done' | 'unfinished' {
    const maxBytes = hurried ? readerLimits.mapsBytesHurried : readerLimits.mapsBytes;
    const maps = readMaps(this.#proc, pid, this.#tally, maxBytes);
    if (maps === undefined || maps.length === 0) {
      this.#forget(pid);
      return 'gone';
    }
    const known = this.#processes.get(pid) ?? this.#remember(pid, container);
    if (known === undefined) return 'gone';
    known.executable = maps[0]!.key;
    return this.#useFiles(pid, known, maps, untilMs, hurried) ? 'done' : 'unfinished';
  }

  /** @returns false when something is left to be looked into */
  #useFiles(pid: number, known: KnownProcess, maps: CodeMapping[], untilMs: number, hurried: boolean): boolean {
    const keys = new Set<string>();
    let isDone = true;
    for (const mapping of byImportance(maps, this.#files.libraries)) {
      let file = this.#knownFile(mapping, hurried);
      if (file === undefined && performance.now() > untilMs) isDone = false;
      else file ??= this.#lookInto(pid, known.container, mapping, hurried);
      if (file === undefined) continue;
      if (file.unfinished) isDone = false;
      keys.add(file.key);
      file.users.add(pid);
    }
    for (const key of known.files) if (!keys.has(key)) this.#files.get(key)?.users.delete(pid);
    known.files = keys;
    return isDone;
  }

  #remember(pid: number, container: string): KnownProcess | undefined {
    const startTime = startTimeOf(this.#proc, pid, this.#tally);
    const fileSystem = fileSystemOf(this.#proc, pid);
    if (startTime === undefined || fileSystem === undefined) return undefined;
    if (this.#processes.size >= this.#limits.probeProcesses) {
      count(this.counts, 'probe_processes_limit');
      const oldest = this.#processes.keys().next().value;
      if (oldest !== undefined) this.#forget(oldest);
    }
    const known: KnownProcess = { startTime, fileSystem, container, executable: '', files: new Set() };
    this.#processes.set(pid, known);
    this.#fileSystems.join(fileSystem, pid);
    return known;
  }

  #forget(pid: number): void {
    this.#unfinished.delete(pid);
    const known = this.#processes.get(pid);
    if (known === undefined) return;
    this.#processes.delete(pid);
    for (const key of known.files) this.#files.get(key)?.users.delete(pid);
    this.#fileSystems.leave(known.fileSystem, pid);
  }

  /** The file of a mapping whose inode was looked into. */
  #knownFile(mapping: CodeMapping, hurried: boolean): KnownFile | undefined {
    const known = this.#files.get(mapping.key);
    if (known === undefined || (known.unfinished && !hurried)) return undefined;
    // An inode number is used again when its file is gone; that of a probed file cannot be.
    return known.path === mapping.path || isProbed(known) ? known : undefined;
  }

  #lookInto(pid: number, container: string, mapping: CodeMapping, hurried: boolean): KnownFile | undefined {
    const { path, key, deleted, range } = mapping;
    if (!this.#guard.enter(container, `device ${key.slice(0, key.lastIndexOf(':'))}`)) return undefined;
    const asked = { path, key, container, hurried };
    const own = `${this.#proc}/${pid}`;
    const byRange = this.#files.examine({ ...asked, way: `${own}/map_files/${range}`, exact: true });
    if (byRange !== undefined || deleted) {
      if (byRange !== undefined && !isProbed(byRange)) byRange.path = path;
      return byRange ?? this.#files.examine({ ...asked, way: `${own}/exe` });
    }
    // map_files needs more capabilities (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE) than a name.
    const resolved = resolveInRoot(`${own}/root`, path);
    const byName =
      resolved === undefined ? undefined : this.#files.examine({ ...asked, way: `${own}/root${resolved}` });
    const file = byName ?? this.#files.examine({ ...asked, way: `${own}/exe` });
    if (file !== undefined && !isProbed(file)) file.path = path;
    return file;
  }

  /** Of the files of a process the one that says most: probed before known before unsupported. */
  #tlsFileOf(pid: number): KnownFile | undefined {
    if (!this.#processes.has(pid) && !this.#stopped) this.#readProcess(pid);
    let best: KnownFile | undefined;
    for (const key of this.#processes.get(pid)?.files ?? []) {
      const file = this.#files.get(key);
      if (file === undefined || file.judgement.verdict === 'none') continue;
      if (isProbed(file)) return file;
      if (best === undefined || file.judgement.verdict === 'probe') best = file;
    }
    return best;
  }

  #traceOf(pid: number): ProcessStatus {
    const executable = this.#executableOf(pid);
    const library = executable === undefined ? undefined : this.#files.traceOf(executable);
    if (executable === undefined || library === undefined) return NOTHING;
    const detail = `its strings name ${library}; it has no symbols by which to probe it`;
    return { library: executable.path, state: 'unsupported_library', detail };
  }

  #planRound(): void {
    if (this.#stopped) return;
    this.#roundTimer = setTimeout(() => this.rescan().then(() => this.#planRound()), ROUND_MS);
    this.#roundTimer.unref();
  }

  async #runRound(): Promise<void> {
    const pids = listProcesses(this.#proc);
    const alive = new Set(pids);
    for (const pid of this.#processes.keys()) if (!alive.has(pid)) this.#forget(pid);
    await this.#inSlices(
      pids.filter((pid) => !this.#processes.has(pid)),
      (pid) => this.#readProcess(pid),
    );
    await this.#inSlices(this.#turn(pids), (pid, index) => this.#recheck(pid, index < READS_PER_ROUND));
    await this.#inSlices(this.#fileSystems.ids(), (id) => this.#checkFolders(id));
    if (!this.#stopped) this.#files.sweep();
    // Until nothing is left to be looked at, but by those who have no share of work left.
    while (!this.#stopped && this.#goOn()) await new Promise((resolve) => setImmediate(resolve));
  }

  #checkFolders(id: string): void {
    const pid = this.#fileSystems.memberOf(id);
    const container = (pid === undefined ? undefined : this.#processes.get(pid)?.container) ?? '';
    // One without a process is forgotten.
    if (pid === undefined) this.#fileSystems.check(id, container, true);
    else this.#charged(pid, container, () => this.#fileSystems.check(id, container, true));
  }

  /** The processes whose turn it is to be checked again. */
  #turn(pids: number[]): number[] {
    const start = pids.length === 0 ? 0 : this.#nextCheck % pids.length;
    this.#nextCheck = start + READS_PER_ROUND;
    return [...pids.slice(start), ...pids.slice(0, start)].slice(0, CHECKS_PER_ROUND);
  }

  #recheck(pid: number, read: boolean): void {
    const known = this.#processes.get(pid);
    if (known === undefined) return;
    const same = startTimeOf(this.#proc, pid, this.#tally) === known.startTime;
    if (!same) this.#forget(pid); // the id was used again
    if (!same || read) this.#readProcess(pid);
  }

  async #inSlices<T>(items: readonly T[], handle: (item: T, index: number) => void): Promise<void> {
    let untilMs = performance.now() + readerLimits.lookMs;
    for (const [index, item] of items.entries()) {
      if (this.#stopped) return;
      handle(item, index);
      if (performance.now() < untilMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      untilMs = performance.now() + readerLimits.lookMs;
    }
  }
}
