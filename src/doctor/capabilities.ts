/** Capabilities that the agent uses, and what for. Numbers of linux/capability.h. */
interface Use {
  readonly name: string;
  readonly bit: number;
  /** Without it the agent cannot start. */
  readonly required: boolean;
  readonly use: string;
}

export const capabilityUses: readonly Use[] = [
  { name: 'CAP_BPF', bit: 39, required: true, use: 'load BPF programs' },
  { name: 'CAP_NET_ADMIN', bit: 12, required: true, use: 'attach to the cgroup tree' },
  { name: 'CAP_PERFMON', bit: 38, required: true, use: 'probe TLS libraries, see new programs' },
  { name: 'CAP_SYS_PTRACE', bit: 19, required: false, use: 'look into processes of other users' },
  { name: 'CAP_DAC_READ_SEARCH', bit: 2, required: false, use: 'read libraries that other users hide' },
];

const SYS_ADMIN_BIT = 21;

/** CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON (capabilities(7)). */
const includedInSysAdmin: ReadonlySet<string> = new Set(['CAP_BPF', 'CAP_PERFMON']);

export interface CapabilityCheck extends Use {
  readonly effective: boolean;
}

/** @param status text of /proc/self/status */
export function checkCapabilities(status: string): CapabilityCheck[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const has = (bit: number) => ((effective >> BigInt(bit)) & 1n) === 1n;
  return capabilityUses.map((use) => ({
    ...use,
    effective: has(use.bit) || (includedInSysAdmin.has(use.name) && has(SYS_ADMIN_BIT)),
  }));
}

/** @param program path of the executable that would be given them */
export function capabilityRemedy(program: string): string {
  const names = capabilityUses.map(({ name }) => name.toLowerCase()).join(',');
  return `run it as root (sudo), or give this Node, and so every script that it runs, the capabilities: sudo setcap ${names}+ep ${program}`;
}
