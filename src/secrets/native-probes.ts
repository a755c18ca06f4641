import { fileURLToPath } from 'node:url';
import { native } from '../capture/native.ts';
import type { ReasonCounts } from '../telemetry/counters.ts';
import type { ProbeBackend } from './probed-files.ts';

/** What the loaded program and its attachments are. */
export interface ProbesInfo {
  /** By uprobe_multi links, else by perf events. */
  multi: boolean;
  /** A secret record's `library` is the attach cookie; else it is 0. */
  cookies: boolean;
  /** It may wait for pages of the traced process that are not in memory; else what stands there is lost, and counted. */
  sleepable: boolean;
  attached: number;
  /** Secrets handed to the ring, and those lost by reason. */
  emitted: number;
  lost: ReasonCounts;
  programName: string;
  programId: number;
  /** 0 unless the kernel counts (kernel.bpf_stats_enabled). */
  runCount: number;
  runTimeNs: number;
}

/** The uprobes of the addon. Everything it holds in the kernel goes with close(), and with the process. */
export interface NativeProbes {
  /**
   * Puts the probe on a file, for every process that maps it now or later.
   * @param path is followed; `/proc/self/fd/N` means exactly the file that is open as N
   * @returns its id
   * @throws Error with `errno`, that says what failed and what to do
   */
  attach(path: string, fileOffset: number, cookie: number): number;
  /** The kernel takes up to 100 ms for it, on another thread. @returns false when there was none of this id */
  detach(id: number): boolean;
  info(): ProbesInfo;
  /** Secret records of the ring of its own; empty when the ring is the capture's. */
  drain(): Buffer;
  close(): void;
}

interface Addon {
  Probes: new (options: {
    objectPath: string;
    secretRingFd: number;
    allowMulti: boolean;
    allowSleepable: boolean;
  }) => NativeProbes;
  identifyMapped(fd: number): string;
}

/**
 * Loads bpf/secrets.bpf.c.
 * @param secretRingFd the capture's ring of secrets, which they go to; not given: a ring of its own for `drain`
 * @param allowMulti false takes perf events even where the kernel has uprobe_multi links
 * @param allowSleepable false takes a program that waits for no page, as kernels before 6.0 do
 * @throws Error that says what failed and which capabilities are needed
 */
export function openProbes(
  options: { secretRingFd?: number; allowMulti?: boolean; allowSleepable?: boolean } = {},
): NativeProbes {
  const objectPath = fileURLToPath(new URL('../../dist/bpf/secrets.bpf.o', import.meta.url));
  return new (native<Addon>().Probes)({
    objectPath,
    secretRingFd: options.secretRingFd ?? -1,
    allowMulti: options.allowMulti ?? true,
    allowSleepable: options.allowSleepable ?? true,
  });
}

/**
 * The open file as /proc/PID/maps names it, `major:minor:inode`. On overlay and btrfs file systems that is not what fstat(2) says.
 * @throws Error when the file cannot be mapped
 */
export function identifyMapped(fd: number): string {
  return native<Addon>().identifyMapped(fd);
}

/** What ProbeManager needs of the addon. */
export function probeBackend(probes: NativeProbes): ProbeBackend {
  return {
    attach: (path, fileOffset, cookie) => probes.attach(path, fileOffset, cookie),
    detach: (id) => probes.detach(id),
    identify: identifyMapped,
  };
}
