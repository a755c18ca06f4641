import { captureLimits } from '../config/limits.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import { isHierarchyRoot } from './cgroup.ts';
import { KernelClock } from './kernel-clock.ts';
import { bpfObjectPath, native } from './native.ts';
import type { SocketRecord } from './records.ts';
import type { CaptureCapabilities, CaptureRings, CaptureSource, OnChunk, RingUsage } from './source.ts';
import { walkChunk } from './walk.ts';

export interface LiveCaptureOptions {
  /** Directory of the cgroup v2 whose sockets are watched; findCgroupRoot() for all. */
  cgroupPath: string;
  /**
   * No sender on this machine is outside of `cgroupPath`, so what arrives over a loopback interface need never be looked at twice.
   * Default: whether it is the root of the hierarchy.
   */
  wholeTree?: boolean;
  /** A power of two, at least 4096. */
  packetRingBytes?: number;
  /** Connections with one of these ports at either end are not captured and not counted. */
  excludedPorts?: readonly number[];
  /** How often the rings are read while there is traffic. */
  pollMs?: number;
}

export interface ProgramStats {
  name: string;
  id: number;
  /** 0 unless enableStats() was called or the kernel's statistics are on anyway. */
  runCount: number;
  runTimeNs: number;
}

interface CaptureSession {
  readonly secretRingFd: number;
  readonly agentPid: number;
  attach(): void;
  start(
    chunks: Buffer[],
    pollMs: number,
    onChunk: (index: number, length: number) => void,
    /** There is more: nothing comes until resume(). */
    onMore: () => void,
    onFinished: () => void,
  ): void;
  resume(onChunk: (index: number, length: number) => void): void;
  stop(): void;
  close(): void;
  mute(cookie: number): number;
  ignoreListener(address: string, port: number): number;
  ignoreCgroup(id: number, ignored: boolean): number;
  losses(): number[];
  rings(): number[] | undefined;
  programs(): ProgramStats[];
  enableStats(): void;
  scan(objectPath: string | undefined): Buffer;
}

interface NativeCapture {
  CaptureSession: new (options: {
    objectPath: string;
    cgroupPath: string;
    wholeTree: boolean;
    packetRingBytes: number;
    excludedPorts: readonly number[];
  }) => CaptureSession;
}

/** By LOSS_* of bpf/socket_state.h. */
const LOSS_REASONS = [
  'packet_ring_full',
  'control_ring_full',
  'load_bytes_failed',
  'headers_unreadable',
  'packet_too_large',
  'socket_storage_failed',
  // Counted by the addon's reader, after those.
  'record_malformed',
] as const;

const EPERM = 1;
const EACCES = 13;

/**
 * The packets of all sockets below a cgroup, and who owns them, live from the kernel. Nothing of it stays in the kernel when the process
 * ends, however it ends.
 */
export class LiveCapture implements CaptureSource {
  readonly capabilities: CaptureCapabilities = { sockets: true, processes: true, mute: true, ignore: true };
  readonly clock = new KernelClock();
  private readonly session: CaptureSession;
  private readonly options: Required<LiveCaptureOptions>;
  private chunks: Buffer[] = [];
  private readonly end = Promise.withResolvers<void>();
  private started = false;
  private finalLosses: number[] | undefined;
  private scanByIterator = true;

  private constructor(session: CaptureSession, options: Required<LiveCaptureOptions>) {
    this.session = session;
    this.options = options;
  }

  /**
   * Loads the programs into the kernel. They run from start() on.
   * @throws Error for people: what failed, why, what to do
   */
  static open(given: LiveCaptureOptions): LiveCapture {
    const options: Required<LiveCaptureOptions> = {
      cgroupPath: given.cgroupPath,
      wholeTree: given.wholeTree ?? isHierarchyRoot(given.cgroupPath),
      packetRingBytes: given.packetRingBytes ?? captureLimits.packetRingBytes,
      excludedPorts: given.excludedPorts ?? [],
      pollMs: given.pollMs ?? captureLimits.pollMs,
    };
    checkOptions(options);
    const { CaptureSession } = native<NativeCapture>();
    const { cgroupPath, wholeTree, packetRingBytes, excludedPorts } = options;
    const objectPath = bpfObjectPath('capture');
    const session = explained(
      () => new CaptureSession({ objectPath, cgroupPath, wholeTree, packetRingBytes, excludedPorts }),
    );
    return new LiveCapture(session, options);
  }

  /** For the object with the probes, which writes its secrets into the same ring (bpf_map__reuse_fd). */
  get secretRingFd(): number {
    return this.session.secretRingFd;
  }

  /** The agent's process id as the records give it: in the initial pid namespace. Other than process.pid in a container's own. */
  get agentPid(): number {
    return this.session.agentPid;
  }

  /** Everything was delivered, after stop(). */
  get finished(): Promise<void> {
    return this.end.promise;
  }

  /**
   * Attaches the programs and begins to deliver.
   * @throws Error for people
   */
  start(onChunk: OnChunk): void {
    if (this.started) throw new Error('the capture has been started already');
    this.chunks = Array.from({ length: captureLimits.chunks }, () => Buffer.allocUnsafeSlow(captureLimits.chunkBytes));
    const deliver = (index: number, length: number) => onChunk(this.chunks[index]!, length);
    // Timers and sockets have their turn before the next chunks.
    const more = (): void => void setImmediate(() => this.session.resume(deliver));
    explained(() => this.session.start(this.chunks, this.options.pollMs, deliver, more, this.end.resolve));
    this.started = true;
    try {
      explained(() => this.session.attach());
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Finds the owners of sockets that exist already, for later packets, accepted sockets of older listeners included, and returns those it
   * found. Call it after start(): what is made from then on is known anyway. Blocks for some milliseconds.
   */
  scanSockets(): SocketRecord[] {
    let bytes: Buffer;
    try {
      bytes = this.session.scan(this.scanByIterator ? bpfObjectPath('scan') : undefined);
    } catch (error) {
      if (!this.scanByIterator) throw error;
      this.scanByIterator = false; // this kernel's iterators lack what it needs (before 5.12)
      bytes = this.session.scan(undefined);
    }
    const found: SocketRecord[] = [];
    const ignore = () => {};
    walkChunk(bytes, bytes.length, {
      packet: ignore,
      socket: (record) => found.push(record),
      process: ignore,
      secret: ignore,
    });
    return found;
  }

  /** How scanSockets() works here: by an iterator in the kernel, or from user space. Found out by scanning once. */
  scansByIterator(): boolean {
    this.scanSockets();
    return this.scanByIterator;
  }

  /** Nobody wants the data of this socket: of its packets only SYN, FIN and RST are delivered from now on. */
  mute(cookie: number): void {
    this.session.mute(cookie);
  }

  /**
   * This process listens there: of connections to it nothing is captured, from their first packet on, also where the client is on this
   * machine. What the programs know of sockets by themselves they know only once one has sent.
   * @param address an IPv4 or IPv6 address of this machine
   */
  ignoreListener(address: string, port: number): void {
    this.session.ignoreListener(address, port);
  }

  /**
   * Nobody wants anything of sockets that are made in this cgroup from now on, and not in those below it: they are not even announced.
   * Their peers are captured as if they were on another machine. Those that exist already go on.
   * @param id the inode number of its directory; not that of the root, to which the kernel's own sockets belong
   */
  ignoreCgroup(id: number, ignored: boolean): void {
    this.session.ignoreCgroup(id, ignored);
  }

  /** What could not be captured, by reason. Its last values stay after stop(). */
  lost(): ReasonCounts {
    const counts: ReasonCounts = {};
    const values = this.finalLosses ?? this.session.losses();
    for (const [index, value] of values.entries()) if (value > 0) count(counts, LOSS_REASONS[index]!, value);
    return counts;
  }

  /** How full the rings are. @returns undefined before start() and once the reader has ended */
  rings(): CaptureRings | undefined {
    const numbers = this.session.rings();
    if (numbers === undefined) return undefined;
    const usage = (at: number): RingUsage => ({
      read: numbers[at]!,
      waiting: numbers[at + 1]!,
      size: numbers[at + 2]!,
    });
    return { packets: usage(0), control: usage(3), secrets: usage(6) };
  }

  /** The programs in the kernel, with what they cost. */
  programs(): ProgramStats[] {
    return this.session.programs();
  }

  /** Has the kernel account for the time of all BPF programs, until stop(). Costs some 20 ns per run. */
  enableStats(): void {
    explained(() => this.session.enableStats());
  }

  /** Detaches, delivers what is still in the rings, and takes everything out of the kernel. */
  async stop(): Promise<void> {
    if (this.finalLosses === undefined) {
      this.session.stop();
      this.finalLosses = this.session.losses();
      if (!this.started) this.close();
    }
    await this.finished;
  }

  private close(): void {
    this.session.close();
    this.end.resolve();
  }
}

function checkOptions(options: Required<LiveCaptureOptions>): void {
  const size = options.packetRingBytes;
  if (!Number.isInteger(size) || size < 4096 || size > 2 ** 30 || (size & (size - 1)) !== 0) {
    throw new Error(`packetRingBytes must be a power of two from 4096 to 1 GiB, not ${size}`);
  }
  const port = options.excludedPorts.find((value) => !Number.isInteger(value) || value < 0 || value > 65_535);
  if (port !== undefined) throw new Error(`an excluded port must be a number from 0 to 65535, not ${port}`);
}

/** Adds to an error of the kernel what to do about it. */
function explained<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    const errno = error instanceof Error && 'errno' in error ? error.errno : undefined;
    if (!(error instanceof Error) || (errno !== EPERM && errno !== EACCES)) throw error;
    throw new Error(
      `${error.message}\nThis needs root, or the capabilities BPF, PERFMON and NET_ADMIN, before Linux 5.11 also SYS_RESOURCE. ` +
        '`wirespan doctor` says which are missing.',
      { cause: error },
    );
  }
}
