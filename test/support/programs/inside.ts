import type { Cgroup } from '../kernel/cgroup.ts';
import { type Agent, startAgent } from './agent.ts';
import type { Cleanup } from './cleanup.ts';
import { type ProcessOptions, type Result, type Running, run, runAnyway, start } from './process.ts';

/** Runs and starts programs in a cgroup. */
export interface Inside {
  run(command: string, args: readonly string[], options?: ProcessOptions): Promise<Result>;
  runAnyway(command: string, args: readonly string[], options?: ProcessOptions): Promise<Result>;
  start(cleanup: Cleanup, command: string, args: readonly string[], options?: ProcessOptions): Running;
}

export function inside(cgroup: Cgroup): Inside {
  const words = (command: string, args: readonly string[]) => {
    const [first, ...rest] = [...cgroup.prefix, command, ...args];
    return [first!, rest] as const;
  };
  return {
    run: (command, args, options) => run(...words(command, args), options),
    runAnyway: (command, args, options) => runAnyway(...words(command, args), options),
    start: (cleanup, command, args, options) => start(cleanup, ...words(command, args), options),
  };
}

/** An agent that sees nothing but a cgroup, so that its counts are exact. */
export function startAgentOf(cleanup: Cleanup, cgroup: Cgroup, args: readonly string[] = []): Promise<Agent> {
  return startAgent(cleanup, { args: ['--cgroup', cgroup.path, ...args] });
}
