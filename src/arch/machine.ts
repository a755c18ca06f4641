import type { Machine } from './types.ts';
import { x8664 } from './x86-64.ts';

/**
 * What depends on the processor, one file of this folder for each: how code looks, and how files and folders name the processor. The
 * registers are those of bpf/arch/, the flags of the build those of native/arch/.
 */

export const machines: readonly Machine[] = [x8664];

/** @param arch as Node names it @throws Error for people when nothing is known of this processor */
export function machineOf(arch: string): Machine {
  const found = machines.find((machine) => machine.arch === arch);
  if (found !== undefined) return found;
  const known = machines.map(({ name }) => name).join(', ');
  throw new Error(`TLS libraries are probed on ${known} only; the code of ${arch} is not known (src/arch/)`);
}

let ofThisProcess: Machine | undefined;

/** The processor that this process runs on. @throws Error for people when nothing is known of it */
export function thisMachine(): Machine {
  ofThisProcess ??= machineOf(process.arch);
  return ofThisProcess;
}
