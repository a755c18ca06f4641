import type { Limits } from '../config/limits.ts';
import type { WorkBudget } from '../files/budget.ts';
import type { Guard } from '../files/guard.ts';
import type { Tally } from '../files/read.ts';
import type { Libraries } from './libraries.ts';
import type { ProbeBackend, ProbeNotice } from './probed-files.ts';

export interface ProbeManagerOptions extends ProbeBackend {
  procRoot?: string;
  limits?: Limits;
  notify?: (notice: ProbeNotice) => void;
  /** Milliseconds since the Unix epoch. */
  now?: () => number;
  /** Whose a process is, such as a container's id; empty: no container's. */
  containerOf?: (pid: number) => string;
  budget?: WorkBudget;
  guard?: Guard;
  tally?: Tally;
  /** What is known of TLS libraries; not given: all providers. */
  libraries?: Libraries;
}
