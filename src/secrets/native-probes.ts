import { bpfObjectPath, native } from '../capture/native.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import type { ProbeBackend, ProgramName } from './probed-files.ts';
import type { SecretProvider } from './provider.ts';
import * as list from './providers.ts';

export interface ProgramInfo {
  name: string;
  id: number;
  /** 0 unless the kernel counts (kernel.bpf_stats_enabled). */
  runCount: number;
  runTimeNs: number;
}

/** What the loaded programs and their attachments are. */
export interface ProbesInfo {
  /** By uprobe_multi links, else by perf events. */
  multi: boolean;
  /** A secret record's `library` is the attach cookie; else it is 0. */
  cookies: boolean;
  /** They may wait for pages of the traced process that are not in memory; else what stands there is lost, and counted. */
  sleepable: boolean;
  attached: number;
  /** Secrets handed to the ring, and those lost by reason. */
  emitted: number;
  lost: ReasonCounts;
  programs: ProgramInfo[];
}

/** The object of one provider in the addon. Everything it holds in the kernel goes with close(), and with the process. */
interface NativeProbes {
  /** @returns its id @throws Error with `errno`, that says what failed and what to do */
  attach(program: string, path: string, fileOffset: number, cookie: number): number;
  /** The kernel takes up to 100 ms for it, on another thread. @returns false when there was none of this id */
  detach(id: number): boolean;
  info(): ProbesInfo;
  drain(): Buffer;
  close(): void;
}

interface Addon {
  Probes: new (options: {
    objectPath: string;
    programs: readonly string[];
    secretRingFd: number;
    allowMulti: boolean;
    allowSleepable: boolean;
  }) => NativeProbes;
  identifyMapped(fd: number): string;
}

export interface OpenProbesOptions {
  /** The capture's ring of secrets, which they go to; not given: rings of their own for drain(). */
  readonly secretRingFd?: number | undefined;
  /** False takes perf events even where the kernel has uprobe_multi links. */
  readonly allowMulti?: boolean;
  /** False takes programs that wait for no page, as kernels before 6.0 do. */
  readonly allowSleepable?: boolean;
  /** Not given: all. */
  readonly providers?: readonly SecretProvider[];
  /** Where the BPF object of a provider is. */
  readonly objectPath?: (name: string) => string;
}

/** The programs of all providers in the kernel, and their uprobes. */
export class SecretProbes {
  readonly #objects: ReadonlyMap<string, NativeProbes>;
  /** Why the programs of a provider cannot be loaded here. */
  readonly #refused: ReadonlyMap<string, Error>;
  readonly #attached = new Map<number, { object: NativeProbes; id: number }>();
  #nextId = 1;

  constructor(objects: ReadonlyMap<string, NativeProbes>, refused: ReadonlyMap<string, Error>) {
    this.#objects = objects;
    this.#refused = refused;
  }

  /**
   * Puts a program on a file, for every process that maps it now or later.
   * @param path is followed; `/proc/self/fd/N` means exactly the file that is open as N
   * @returns its id
   * @throws Error that says what failed and what to do
   */
  attach(path: string, fileOffset: number, cookie: number, { provider, program }: ProgramName): number {
    const object = this.#objects.get(provider);
    if (object === undefined) throw this.#refused.get(provider) ?? new Error(`no provider ${provider} is loaded`);
    const id = this.#nextId++;
    this.#attached.set(id, { object, id: object.attach(program, path, fileOffset, cookie) });
    return id;
  }

  /** @returns false when there was none of this id */
  detach(id: number): boolean {
    const found = this.#attached.get(id);
    this.#attached.delete(id);
    return found?.object.detach(found.id) ?? false;
  }

  /** Of all providers: what every one of them can, and the sum of what they did. */
  info(): ProbesInfo {
    const infos = [...this.#objects.values()].map((object) => object.info());
    const lost: ReasonCounts = {};
    for (const info of infos) for (const [reason, n] of Object.entries(info.lost)) count(lost, reason, n);
    const sum = (of: (info: ProbesInfo) => number) => infos.reduce((all, info) => all + of(info), 0);
    return {
      multi: infos.every(({ multi }) => multi),
      cookies: infos.every(({ cookies }) => cookies),
      sleepable: infos.every(({ sleepable }) => sleepable),
      attached: sum(({ attached }) => attached),
      emitted: sum(({ emitted }) => emitted),
      lost,
      programs: infos.flatMap(({ programs }) => programs),
    };
  }

  /** Secret records of rings of their own; empty when the ring is the capture's. */
  drain(): Buffer {
    return Buffer.concat([...this.#objects.values()].map((object) => object.drain()));
  }

  close(): void {
    this.#attached.clear();
    for (const object of this.#objects.values()) object.close();
  }
}

/**
 * Loads the programs of all providers. One that the kernel refuses costs only its own libraries, whose files then say why.
 * @throws Error when none can be loaded, that says what failed and which capabilities are needed
 */
export function openProbes(options: OpenProbesOptions = {}): SecretProbes {
  const { Probes } = native<Addon>();
  const objects = new Map<string, NativeProbes>();
  const refused = new Map<string, Error>();
  const { providers = Object.values(list), objectPath = bpfObjectPath } = options;
  for (const { name, programs } of providers) {
    try {
      const object = new Probes({
        objectPath: objectPath(name),
        programs,
        secretRingFd: options.secretRingFd ?? -1,
        allowMulti: options.allowMulti ?? true,
        allowSleepable: options.allowSleepable ?? true,
      });
      objects.set(name, object);
    } catch (error) {
      refused.set(name, error instanceof Error ? error : new Error(String(error)));
    }
  }
  const [why] = refused.values();
  if (objects.size === 0 && why !== undefined) throw why;
  return new SecretProbes(objects, refused);
}

/**
 * The open file as /proc/PID/maps names it, `major:minor:inode`. On overlay and btrfs file systems that is not what fstat(2) says.
 * @throws Error when the file cannot be mapped
 */
export function identifyMapped(fd: number): string {
  return native<Addon>().identifyMapped(fd);
}

/** What ProbeManager needs of the addon. */
export function probeBackend(probes: SecretProbes): ProbeBackend {
  return {
    attach: (path, fileOffset, cookie, program) => probes.attach(path, fileOffset, cookie, program),
    detach: (id) => probes.detach(id),
    identify: identifyMapped,
  };
}
