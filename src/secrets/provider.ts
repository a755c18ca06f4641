import type { SecretRecord } from '../capture/records.ts';
import type { ElfFile } from './elf.ts';

/** What the secrets of a program are, and by what the store finds them: SECRET_* of bpf/events.h. */
export type SecretKind = SecretRecord['kind'];

/** Where in a file one program of a provider is to be put. */
export interface ProbePlace {
  /** One of the provider's programs. */
  readonly program: string;
  /** In the file, not in memory: the first byte of an instruction. Anywhere else the probe would crash the program. */
  readonly fileOffset: number;
  /** The kernel emulates the instruction: the probe costs little. */
  readonly emulated: boolean;
  /**
   * What the program must know of this place, such as in which registers or where on the stack its values are: place_parameter() of
   * bpf/secret_probe.h. From 0 to 65,535. Kernels before 5.15 have no attach cookies, and the program sees 0.
   */
  readonly parameter?: number;
}

/** What a provider says of a file. */
export type Finding =
  /** Here its secrets pass by. All places are probed, or none. */
  | { readonly verdict: 'probe'; readonly library: string; readonly places: readonly ProbePlace[] }
  /** It is the provider's library, but cannot be probed. */
  | { readonly verdict: 'unsupported'; readonly library: string; readonly detail: string };

/** The text in its data that identifies a library where nothing else does. */
export interface Trace {
  /** The bytes that a match begins with. */
  readonly marker: string;
  readonly pattern: RegExp;
  /** The library, for people. */
  readonly library: string;
}

/**
 * How the TLS secrets of one library are had: which files carry it, where they are probed, and by what programs. It lies in the folder
 * src/secrets/NAME/, with the programs in NAME.bpf.c, and has one line in providers.ts; nothing else names it.
 *
 * What it reads is in the hands of the processes that it watches: a file lies, and is as long as it wants. ElfFile has a cap on each read
 * and never throws; a search of code brings a cap of its own. It keeps no state and sees each file once, in the reader's thread.
 */
export interface SecretProvider {
  /** Its folder and its BPF object. */
  readonly name: string;
  /** The library, for people: what stands before its version. */
  readonly library: string;
  /** Programs in sections "uprobe" of its BPF object. */
  readonly programs: readonly string[];
  /** The kinds of secret that these emit. */
  readonly secrets: readonly SecretKind[];
  /** Whether a file of this name in a library folder is looked into before any process maps it. */
  isLibraryName(name: string): boolean;
  /**
   * By what the file exports and is called: some reads of a few kilobytes.
   * @param path for its name only
   * @returns undefined when it does not know the file
   */
  recognise(elf: ElfFile, path: string): Finding | undefined;
  /**
   * By all that it holds, such as symbols of its own or code: for static executables and stripped libraries. Only of files that nobody
   * recognised, neither by recognise() nor by their name.
   */
  search?(elf: ElfFile, path: string): Finding | undefined;
  /** The version that the file says it is, such as `3.5.8`. May read the whole file. */
  versionOf(elf: ElfFile): string | undefined;
  /** Of a file that carries the library without anything to probe. */
  readonly traces: readonly Trace[];
}
