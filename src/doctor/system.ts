import { readFileSync, readlinkSync } from 'node:fs';
import { arch, release } from 'node:os';
import { findMemoryLimit, memoryBudgetBytes } from '../config/memory-limit.ts';
import { capabilityRemedy, checkCapabilities } from './capabilities.ts';
import type { Check } from './report.ts';

/** proc_ns_inum of the first namespaces (include/linux/proc_ns.h): the same on every kernel. */
const INITIAL_PID_NAMESPACE = 'pid:[4026531836]';

const MIB = 1024 * 1024;
/** Its own 130 MiB, the ring, the least budget, and room for garbage. */
const LEAST_MIB = 256;

const LOCKDOWN_PATH = '/sys/kernel/security/lockdown';

/** What the machine and this process's rights are, without loading anything. */
export function checkSystem(): Check[] {
  return [
    { group: 'System', name: 'kernel', state: 'info', detail: `Linux ${release()} ${arch()}` },
    { group: 'System', name: 'Node', state: 'info', detail: `${process.version} ${process.execPath}` },
    checkMemory(),
    checkPidNamespace(),
    ...checkLockdown(),
    ...checkRights(),
  ];
}

/** What the agent would hold at the most of what it sees, with the default of limits.memory_mib. */
function checkMemory(): Check {
  const limit = findMemoryLimit();
  const budget = `${Math.floor(memoryBudgetBytes(0, limit) / MIB)} MiB for what is seen (limits.memory_mib)`;
  const detail =
    limit === undefined
      ? `${budget}; no limit of a control group`
      : `${budget}, of ${Math.floor(limit.bytes / MIB)} MiB by ${limit.source}`;
  const enough = limit === undefined || limit.bytes >= LEAST_MIB * MIB;
  return {
    group: 'System',
    name: 'memory',
    state: enough ? 'ok' : 'limited',
    detail: enough ? detail : `${detail}: the agent needs ${LEAST_MIB} MiB`,
    ...(!enough && { remedy: `give it a memory limit of ${LEAST_MIB} MiB or more` }),
  };
}

function checkPidNamespace(): Check {
  const group = 'System';
  const name = 'process ids';
  let namespace: string;
  try {
    namespace = readlinkSync('/proc/self/ns/pid');
  } catch (error) {
    return { group, name, state: 'limited', detail: `cannot be checked: ${(error as Error).message}` };
  }
  if (namespace === INITIAL_PID_NAMESPACE)
    return { group, name, state: 'ok', detail: 'in the pid namespace of the host' };
  return {
    group,
    name,
    state: 'limited',
    detail: 'in a pid namespace of its own: processes outside of it cannot be named or probed',
    remedy: 'give the container the pid namespace of the host (hostPID: true, --pid=host)',
  };
}

/** kernel_lockdown(7): in the mode `confidentiality` BPF programs may not read memory. */
function checkLockdown(): Check[] {
  let mode: string | undefined;
  try {
    mode = /\[(\w+)\]/.exec(readFileSync(LOCKDOWN_PATH, 'utf8'))?.[1];
  } catch {
    // No lockdown in this kernel, or securityfs is not mounted: then nothing is claimed.
    return [];
  }
  if (mode === undefined) return [];
  const locked = mode === 'confidentiality';
  return [
    {
      group: 'System',
      name: 'lockdown',
      state: locked ? 'no' : 'ok',
      detail: locked ? 'confidentiality: the kernel lets no BPF program read memory' : mode,
      ...(locked && { remedy: 'boot with lockdown=integrity, or without lockdown' }),
    },
  ];
}

function checkRights(): Check[] {
  const status = readFileSync('/proc/self/status', 'utf8');
  const remedy = capabilityRemedy(process.execPath);
  return checkCapabilities(status).map(({ name, effective, required, use }) => ({
    group: 'Rights',
    name,
    state: effective ? 'ok' : required ? 'no' : 'limited',
    detail: effective ? use : `missing: cannot ${use}`,
    ...(!effective && { remedy }),
  }));
}
