/** What is known of the TLS libraries of processes, for people and for reasons. */

export type ProcessState = 'probed' | 'no_probe' | 'unsupported_library' | 'no_tls_library';

export interface ProcessStatus {
  /** Path of the library, or of the executable that carries it. */
  library: string | undefined;
  version?: string;
  state: ProcessState;
  /** Why, for people. */
  detail: string;
}

/** The TLS library of a process, for the reason why a connection could not be read. */
export interface ProcessLibrary {
  /** Such as `OpenSSL 3`, `GnuTLS`. */
  name: string;
  path: string;
  probed: boolean;
  detail: string;
}

export interface ProbedFileStatus {
  path: string;
  library: string;
  version: string | undefined;
  cookie: number;
  /** The kernel emulates the probed instruction: the probe is cheap. */
  emulated: boolean;
  probed: boolean;
  error: string | undefined;
  pids: number[];
}

/** The status of a process in which nothing was found. */
export const NOTHING: ProcessStatus = {
  library: undefined,
  state: 'no_tls_library',
  detail: 'no TLS library was found in it',
};
