import { accessSync, constants, readFileSync } from 'node:fs';
import { findCgroupRoot } from './cgroup.ts';
import { LiveCapture } from './live.ts';
import { native } from './native.ts';

export interface Feature {
  name: string;
  ok: boolean;
  /** Why not, or what was found. */
  detail: string;
}

/** Bits of linux/capability.h, in the order of their numbers. */
const CAPABILITIES = [
  ['DAC_READ_SEARCH', 2],
  ['NET_ADMIN', 12],
  ['SYS_PTRACE', 19],
  ['SYS_ADMIN', 21],
  ['SYS_RESOURCE', 24],
  ['PERFMON', 38],
  ['BPF', 39],
] as const;

/** The effective capabilities that matter here. `name` is without CAP_. */
export function effectiveCapabilities(status: string = readFileSync('/proc/self/status', 'utf8')): Feature[] {
  const mask = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return CAPABILITIES.map(([name, bit]) => {
    const ok = ((mask >> BigInt(bit)) & 1n) === 1n;
    return { name, ok, detail: ok ? 'effective' : 'not effective' };
  });
}

/**
 * What the capture needs of this machine, each found out by doing it and taking it back at once: `btf`, `cgroup_v2`, `ring_buffer`,
 * `cgroup_skb`, `sock_create`, `raw_tp`, `capture_programs` (loaded, socket storage included; not attached), `socket_iterator` (optional:
 * without it the owners of old sockets are found by pidfd_getfd). Never throws.
 */
export function probeFeatures(cgroupPath?: string): Feature[] {
  const features: Feature[] = [
    attempt('btf', () => {
      accessSync('/sys/kernel/btf/vmlinux', constants.R_OK);
      return '/sys/kernel/btf/vmlinux';
    }),
  ];
  let path = '';
  features.push(
    attempt('cgroup_v2', () => {
      path = cgroupPath ?? findCgroupRoot();
      return path;
    }),
  );
  for (const name of ['ring_buffer', 'cgroup_skb', 'sock_create', 'raw_tp']) {
    features.push(
      attempt(name, () => {
        const { probeFeature } = native<{ probeFeature(name: string, cgroupPath: string): string | undefined }>();
        const why = probeFeature(name, path);
        if (why !== undefined) throw new Error(why);
        return 'works';
      }),
    );
  }
  let capture: LiveCapture | undefined;
  features.push(
    attempt('capture_programs', () => {
      capture = LiveCapture.open({ cgroupPath: path, packetRingBytes: 4096 });
      return 'accepted by the kernel';
    }),
    attempt('socket_iterator', () => {
      if (capture === undefined) throw new Error('not tried: the capture programs do not load');
      return capture.scansByIterator() ? 'works' : 'not in this kernel; pidfd_getfd is used instead';
    }),
  );
  capture?.stop();
  return features;
}

function attempt(name: string, action: () => string): Feature {
  try {
    return { name, ok: true, detail: action() };
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}
