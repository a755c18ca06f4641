import type { Config } from '../config/schema.ts';

export type Perspective = 'client' | 'server' | 'both';

export interface CommonOptions {
  /** File, environment and command line merged: the command line wins, then the file, then the environment. */
  readonly config: Config;
  /** NSS key log to read secrets from. */
  readonly keylogFile: string | undefined;
  /** Where the statistics go at exit: a file, or `-` for standard output. */
  readonly statsTarget: string | undefined;
  /** Where to write what was captured. */
  readonly pcapngFile: string | undefined;
  /** Which ends of an exchange become spans; `undefined`: what suits the source and the protocol. */
  readonly perspective: Perspective | undefined;
}

/** `config.capture.cgroup` carries --cgroup, `config.outputs` every --output. */
export interface AgentOptions extends CommonOptions {}

export interface ReplayOptions extends CommonOptions {
  /** At least one; `-`, at most once, is standard input. */
  readonly files: readonly string[];
}

export interface DoctorOptions {
  readonly json: boolean;
}
