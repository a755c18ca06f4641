import { PROCESS_EXEC, type ProcessRecord, type SocketRecord } from '../capture/records.ts';
import { defaultLimits, type Limits } from '../config/limits.ts';
import type { Resource, ResourceResolver } from '../span/resource.ts';
import type { Host } from './host.ts';
import { factsWithoutProc, type ProcessFacts, readProcess } from './proc.ts';
import { resourceOfProcess } from './resource.ts';

export interface WorkloadsOptions {
  readonly host: Host;
  /** Version of this program, for telemetry.distro.version. */
  readonly agentVersion: string;
  /** Where the host's /proc is; its process ids must be those of the kernel's records: the initial pid namespace. */
  readonly procRoot?: string;
  readonly limits?: Pick<Limits, 'workloadProcesses' | 'workloadSockets'>;
  /** Milliseconds, of any origin. */
  readonly now?: () => number;
}

/** What was looked up and what had to be forgotten. */
export interface WorkloadCounts {
  processesRead: number;
  /** Gone before it could be read: named by what the kernel said. */
  processesVanished: number;
  /** Programs started so fast that they are read at their first socket only. */
  readsPutOff: number;
  processesEvicted: number;
  socketsEvicted: number;
}

/** One process between its start, or its last exec, and the next one. */
interface Workload {
  readonly facts: ProcessFacts;
  readonly resource: Resource;
}

/** Start times of one process: the kernel's is in nanoseconds, that of /proc in ticks of 10 ms. */
const START_TOLERANCE_NS = 20_000_000;

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
    processesEvicted: 0,
    socketsEvicted: 0,
  };
  readonly #host: Host;
  readonly #agentVersion: string;
  readonly #procRoot: string;
  readonly #limits: Pick<Limits, 'workloadProcesses' | 'workloadSockets'>;
  readonly #now: () => number;
  /** By process id, in the order of the last record. */
  readonly #processes = new Map<number, Workload>();
  /** Executables of processes that were not read at their exec, in case they are gone at their first socket. */
  readonly #putOff = new Map<number, ProcessRecord>();
  readonly #sockets = new Map<number, Workload>();
  #reads: number = EXEC_READS_PER_SECOND;
  #readsMs: number;

  constructor(options: WorkloadsOptions) {
    this.#host = options.host;
    this.#agentVersion = options.agentVersion;
    this.#procRoot = options.procRoot ?? '/proc';
    this.#limits = options.limits ?? defaultLimits;
    this.#now = options.now ?? (() => performance.now());
    this.#readsMs = this.#now();
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
    if (!this.#sockets.has(record.cookie)) {
      this.counts.socketsEvicted += makeRoom(this.#sockets, this.#limits.workloadSockets);
    }
    this.#sockets.set(record.cookie, workload);
  }

  forgetSocket(cookie: number): void {
    this.#sockets.delete(cookie);
  }

  resourceOf(cookie: number): Resource | undefined {
    return this.#sockets.get(cookie)?.resource;
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
    let facts = readProcess(this.#procRoot, pid);
    const isSame = facts !== undefined && sameStart(facts.startNs, startNs);
    if (facts !== undefined && isSame && facts.program !== '') {
      this.counts.processesRead++;
    } else {
      this.counts.processesVanished++;
      const known = factsWithoutProc(pid, startNs, comm, filename);
      // Gone, or its id is another process's by now; or it has ended and nobody has waited for it, then its cgroup is all that is left.
      facts = isSame && facts !== undefined ? { ...known, cgroup: facts.cgroup } : known;
    }
    return { facts, resource: resourceOfProcess(facts, this.#host, this.#agentVersion) };
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
