import { PROCESS_EXEC, type ProcessRecord, type SocketRecord } from '../capture/records.ts';
import { defaultLimits, type Limits } from '../config/limits.ts';
import { type Knowledge, type Resource, type ResourceResolver, type Watched, watchedFully } from '../span/resource.ts';
import { type CgroupIdentity, type PodPath, podOf, unknownCgroup } from './cgroup-path.ts';
import type { Host } from './host.ts';
import type { ContainerIdentity, PodDirectory } from './pods.ts';
import { factsWithoutProc, type ProcessFacts, readProcess } from './proc.ts';
import { PodResources, resourceOfProcess } from './resource.ts';

export interface WorkloadsOptions {
  readonly host: Host;
  /** Version of this program, for telemetry.distro.version. */
  readonly agentVersion: string;
  /** Where the host's /proc is; its process ids must be those of the kernel's records: the initial pid namespace. */
  readonly procRoot?: string;
  /** Default: reads it at once. */
  readonly reader?: FactsReader;
  readonly limits?: Pick<Limits, 'workloadProcesses' | 'workloadSockets'>;
  /** Milliseconds, of any origin. */
  readonly now?: () => number;
  readonly kubernetes?: KubernetesOptions | undefined;
}

/** Reads what /proc says of a process, maybe elsewhere. */
export interface FactsReader {
  /**
   * @param late called with what was found when it takes too long
   * @returns `undefined` when the process is gone
   */
  facts(pid: number, late: (facts: ProcessFacts | undefined) => void): ProcessFacts | undefined | 'late';
}

export interface KubernetesOptions {
  readonly pods: PodDirectory;
  /** How long it is worth waiting for what the directory does not know of a container. */
  readonly waitMs: number;
  /** The cgroup with this id, for processes that are gone before they could be asked. */
  readonly cgroupById: (id: number) => CgroupIdentity | undefined;
  /** Sockets made in the cgroup with this id from now on are of no interest, or are so again. */
  readonly ignoreCgroup: (id: number, ignored: boolean) => void;
}

/** What was looked up and what had to be forgotten. */
export interface WorkloadCounts {
  processesRead: number;
  /** Gone before it could be read: named by what the kernel said. */
  processesVanished: number;
  /** Programs started so fast that they are read at their first socket only. */
  readsPutOff: number;
  /** Named by what the kernel said at first: /proc took too long. */
  readsLate: number;
  processesEvicted: number;
  socketsEvicted: number;
}

/** One process between its start, or its last exec, and the next one. */
interface Workload {
  facts: ProcessFacts;
  resource: Resource;
  /** In Kubernetes: who its container is, as the directory of pods said at this revision; and until when that is waited for. */
  identity: ContainerIdentity | undefined;
  revision: number;
  readonly waitUntilMs: number;
}

/** Start times of one process: the kernel's is in nanoseconds, that of /proc in ticks of 10 ms. */
const START_TOLERANCE_NS = 20_000_000;

/** The root of the cgroup v2 hierarchy, where processes are that are in none of it: with version 1 all of them. */
const ROOT_CGROUP = 1;

/** A read costs about 0.1 ms; a machine that compiles starts a thousand programs a second, of which hardly one opens a socket. */
const EXEC_READS_PER_SECOND = 200;

/**
 * Who owns a socket: turns the kernel's records of sockets and processes into one Resource per process, shared by all its sockets.
 *
 * /proc is read while the record is handled, since a program such as curl is gone a few milliseconds later: once per process
 * (process id and start time), again after an exec. A reader of /proc, so no stage of the data's path; never throws.
 */
export class Workloads implements ResourceResolver {
  readonly counts: WorkloadCounts = {
    processesRead: 0,
    processesVanished: 0,
    readsPutOff: 0,
    readsLate: 0,
    processesEvicted: 0,
    socketsEvicted: 0,
  };
  readonly #host: Host;
  readonly #agentVersion: string;
  readonly #reader: FactsReader;
  readonly #limits: Pick<Limits, 'workloadProcesses' | 'workloadSockets'>;
  readonly #now: () => number;
  readonly #kubernetes: KubernetesOptions | undefined;
  readonly #podResources: PodResources;
  /** Ids of cgroups that are ignored, with a process that was in them. */
  readonly #ignored = new Map<number, Workload>();
  #ignoredRevision = 0;
  /** By id, of containers: what runs in one for a moment only is known by those that went before. */
  readonly #podCgroups = new Map<number, CgroupIdentity>();
  /** By process id, in the order of the last record. */
  readonly #processes = new Map<number, Workload>();
  /** Executables of processes that were not read at their exec, in case they are gone at their first socket. */
  readonly #putOff = new Map<number, ProcessRecord>();
  readonly #sockets = new Map<number, Workload>();
  #reads: number = EXEC_READS_PER_SECOND;
  #readsMs: number;

  get knowsPods(): boolean {
    return this.#kubernetes !== undefined;
  }

  constructor(options: WorkloadsOptions) {
    this.#host = options.host;
    this.#agentVersion = options.agentVersion;
    const procRoot = options.procRoot ?? '/proc';
    this.#reader = options.reader ?? { facts: (pid) => readProcess(procRoot, pid) };
    this.#limits = options.limits ?? defaultLimits;
    this.#now = options.now ?? (() => performance.now());
    this.#readsMs = this.#now();
    this.#kubernetes = options.kubernetes;
    this.#podResources = new PodResources(options.host, options.agentVersion);
  }

  /** A process has executed a program or makes its first socket. */
  process(record: ProcessRecord): void {
    if (record.reason !== PROCESS_EXEC) {
      this.#workloadOf(record.pid, record.processStartNs, record.comm);
      return;
    }
    this.#processes.delete(record.pid);
    this.#putOff.delete(record.pid);
    if (this.#mayReadNow()) {
      this.#remember(record.pid, this.#read(record.pid, record.processStartNs, record.comm, record.filename));
      return;
    }
    this.counts.readsPutOff++;
    makeRoom(this.#putOff, this.#limits.workloadProcesses);
    this.#putOff.set(record.pid, record);
  }

  /** The owner of a socket, or a better one. A socket without a known owner has no resource. */
  socket(record: SocketRecord): void {
    if (!record.ownerKnown || record.pid <= 0) {
      this.#sockets.delete(record.cookie);
      return;
    }
    const workload = this.#workloadOf(record.pid, record.processStartNs, record.comm);
    if (this.#kubernetes !== undefined) this.#place(workload, record.cgroupId, this.#kubernetes);
    if (!this.#sockets.has(record.cookie)) {
      this.counts.socketsEvicted += makeRoom(this.#sockets, this.#limits.workloadSockets);
    }
    this.#sockets.set(record.cookie, workload);
  }

  forgetSocket(cookie: number): void {
    this.#sockets.delete(cookie);
  }

  resourceOf(cookie: number): Resource | undefined {
    const workload = this.#sockets.get(cookie);
    if (workload !== undefined && this.#kubernetes !== undefined) this.#identify(workload, this.#kubernetes);
    return workload?.resource;
  }

  knowledgeOf(cookie: number): Knowledge {
    const workload = this.#sockets.get(cookie);
    return workload === undefined || this.#kubernetes === undefined
      ? 'known'
      : this.#knowledge(workload, this.#kubernetes);
  }

  watchedOf(cookie: number): Watched {
    const workload = this.#sockets.get(cookie);
    return workload === undefined || this.#kubernetes === undefined
      ? watchedFully
      : this.#watched(workload, this.#kubernetes);
  }

  /** What is watched may have changed: to be called now and then. */
  tick(): void {
    const kubernetes = this.#kubernetes;
    if (kubernetes === undefined || kubernetes.pods.revision === this.#ignoredRevision) return;
    this.#ignoredRevision = kubernetes.pods.revision;
    for (const [cgroupId, workload] of this.#ignored) {
      if (this.#isIgnored(workload, kubernetes)) continue;
      this.#ignored.delete(cgroupId);
      kubernetes.ignoreCgroup(cgroupId, false);
    }
  }

  pidOf(cookie: number): number | undefined {
    return this.#sockets.get(cookie)?.facts.pid;
  }

  #workloadOf(pid: number, startNs: number, comm: string): Workload {
    const known = this.#processes.get(pid);
    if (known !== undefined && sameStart(known.facts.startNs, startNs)) {
      this.#processes.delete(pid);
      this.#processes.set(pid, known);
      return known;
    }
    const executed = this.#putOff.get(pid);
    this.#putOff.delete(pid);
    const filename = executed !== undefined && sameStart(executed.processStartNs, startNs) ? executed.filename : '';
    const workload = this.#read(pid, startNs, comm, filename);
    this.#remember(pid, workload);
    return workload;
  }

  /** @param filename as given to execve(2), for when the process is gone already */
  #read(pid: number, startNs: number, comm: string, filename: string): Workload {
    const late = (found: ProcessFacts | undefined): void => this.#learn(workload, found, startNs);
    const found = this.#reader.facts(pid, late);
    const known = factsWithoutProc(pid, startNs, comm, filename);
    const facts = this.#told(found === 'late' ? undefined : found, known, startNs);
    const workload: Workload = {
      facts,
      resource: resourceOfProcess(facts, this.#host, this.#agentVersion),
      identity: undefined,
      revision: 0,
      waitUntilMs: this.#now() + (this.#kubernetes?.waitMs ?? 0),
    };
    return workload;
  }

  /** Which facts count: of the same process, and whole. @param known what the kernel said */
  #told(found: ProcessFacts | undefined, known: ProcessFacts, startNs: number): ProcessFacts {
    const isSame = found !== undefined && sameStart(found.startNs, startNs);
    if (found !== undefined && isSame && found.program !== '') {
      this.counts.processesRead++;
      return found;
    }
    this.counts.processesVanished++;
    // Gone, or its id is another process's by now; or it has ended and nobody has waited for it, then its cgroup is all that is left.
    return isSame && found !== undefined ? { ...known, cgroup: found.cgroup } : known;
  }

  /** The reader was late: what follows is named by what it found. */
  #learn(workload: Workload, found: ProcessFacts | undefined, startNs: number): void {
    if (found === undefined || !sameStart(found.startNs, startNs) || found.program === '') return;
    this.counts.readsLate++;
    const { cgroup } = workload.facts;
    workload.facts = found.cgroup === unknownCgroup ? { ...found, cgroup } : found;
    workload.resource = resourceOfProcess(workload.facts, this.#host, this.#agentVersion);
    workload.identity = undefined;
    workload.revision = 0;
  }

  /** Finds the pod of a process by its socket's cgroup where /proc could not say, and ignores the cgroup of one that is not watched. */
  #place(workload: Workload, cgroupId: number, kubernetes: KubernetesOptions): void {
    const { cgroup } = workload.facts;
    if (cgroup.pod !== undefined) {
      this.#rememberCgroup(cgroupId, cgroup, cgroup.pod);
    } else if (cgroup === unknownCgroup) {
      const found = this.#podCgroups.get(cgroupId) ?? kubernetes.cgroupById(cgroupId);
      if (found !== undefined) {
        workload.facts = { ...workload.facts, cgroup: found };
        workload.resource = resourceOfProcess(workload.facts, this.#host, this.#agentVersion);
        workload.revision = 0;
      }
    }
    if (cgroupId <= ROOT_CGROUP || this.#ignored.has(cgroupId) || !this.#isIgnored(workload, kubernetes)) return;
    for (const oldest of this.#ignored.keys()) {
      if (this.#ignored.size < this.#limits.workloadProcesses) break;
      this.#ignored.delete(oldest);
      kubernetes.ignoreCgroup(oldest, false);
    }
    this.#ignored.set(cgroupId, workload);
    kubernetes.ignoreCgroup(cgroupId, true);
  }

  /** With version 1 all sockets are of the root, and where both are mounted the pods may stand apart in version 1 only: the id then names none. */
  #rememberCgroup(cgroupId: number, cgroup: CgroupIdentity, pod: PodPath): void {
    if (cgroupId <= ROOT_CGROUP || this.#podCgroups.has(cgroupId) || podOf(cgroup.path)?.uid !== pod.uid) return;
    makeRoom(this.#podCgroups, this.#limits.workloadProcesses);
    this.#podCgroups.set(cgroupId, cgroup);
  }

  /** Asks who its container is, when there may be another answer than last time. */
  #identify(workload: Workload, { pods }: KubernetesOptions): void {
    if (workload.revision === pods.revision) return;
    workload.revision = pods.revision;
    const path = workload.facts.cgroup.pod;
    const identity = path === undefined ? undefined : pods.find(path);
    // A pod that is gone, and forgotten, is still what it was.
    if (identity === undefined || identity === workload.identity) return;
    workload.identity = identity;
    workload.resource = this.#podResources.resourceOf(workload.facts, identity);
  }

  #knowledge(workload: Workload, kubernetes: KubernetesOptions): Knowledge {
    this.#identify(workload, kubernetes);
    if (workload.facts.cgroup.pod === undefined || workload.identity?.certain) return 'known';
    return this.#now() < workload.waitUntilMs ? 'pending' : 'given_up';
  }

  #watched(workload: Workload, kubernetes: KubernetesOptions): Watched {
    this.#identify(workload, kubernetes);
    return workload.identity?.watched ?? kubernetes.pods.outsidePods;
  }

  #isIgnored(workload: Workload, kubernetes: KubernetesOptions): boolean {
    const watched = this.#watched(workload, kubernetes);
    return !watched.in && !watched.out && this.#knowledge(workload, kubernetes) === 'known';
  }

  #remember(pid: number, workload: Workload): void {
    this.#processes.delete(pid);
    this.counts.processesEvicted += makeRoom(this.#processes, this.#limits.workloadProcesses);
    this.#processes.set(pid, workload);
  }

  /** A bucket of EXEC_READS_PER_SECOND, filled by time. */
  #mayReadNow(): boolean {
    const nowMs = this.#now();
    const filled = this.#reads + ((nowMs - this.#readsMs) / 1000) * EXEC_READS_PER_SECOND;
    this.#reads = Math.min(EXEC_READS_PER_SECOND, filled);
    this.#readsMs = nowMs;
    if (this.#reads < 1) return false;
    this.#reads--;
    return true;
  }
}

function sameStart(aNs: number, bNs: number): boolean {
  return aNs === 0 || bNs === 0 || Math.abs(aNs - bNs) < START_TOLERANCE_NS;
}

/** Removes the oldest entries until there is room for one more. @returns how many */
function makeRoom<Key>(map: Map<Key, unknown>, limit: number): number {
  let removed = 0;
  for (const key of map.keys()) {
    if (map.size < limit) break;
    map.delete(key);
    removed++;
  }
  return removed;
}
