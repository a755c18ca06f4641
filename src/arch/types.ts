/** A place in a function for a uprobe. */
export interface ProbeSite {
  /** Bytes from the function's entry; always the first byte of an instruction. */
  readonly offset: number;
  /** The kernel emulates the instruction there: the probe is cheap. */
  readonly emulated: boolean;
}

/** What a program reads at its probe: the site must come before the function changes it. */
export interface ProbeReads {
  /** The first integer arguments, as many as this: at most six. */
  readonly arguments: number;
  /** Arguments on the stack, by the stack pointer. */
  readonly stack?: boolean;
}

export interface Machine {
  /** For people. */
  readonly name: string;
  /** Node's name (process.arch). */
  readonly arch: string;
  /** e_machine of ELF files (gabi, "ELF Header"). */
  readonly elfMachine: number;
  /** Debian's name in the paths of library folders (multiarch). */
  readonly triplet: string;
  /** As many first bytes of a function as chooseProbeSite() looks at. */
  readonly prologueBytes: number;
  /**
   * Chooses where to probe a function.
   * @param code its first bytes
   * @param size of the function, 0 when it is not known: the site is never beyond it
   * @returns undefined when not even the first instruction is one (no code, or somebody else's breakpoint)
   */
  chooseProbeSite(code: Uint8Array, reads: ProbeReads, size?: number): ProbeSite | undefined;
}
