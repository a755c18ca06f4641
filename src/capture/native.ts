import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * What the addon exports, typed. Each area of the addon has its own interface in the file that uses it; that file narrows `native()`
 * to it. Here is only what belongs to none.
 */
export interface NativeLayout {
  /** See protectMemory(). */
  protectMemory(): void;
  /** See exitAtOnce(). */
  exitAtOnce(code: number): never;
  /** See releaseMemory(). */
  releaseFreeMemory(): void;
  /** Offsets of bpf/events.h by struct, in the shape of the constants of records.ts. */
  recordLayout(): Record<'HEADER' | 'PACKET' | 'SOCKET' | 'PROCESS' | 'SECRET', Record<string, number>>;
}

/** Folder of what the native build makes: the same from src/ and from dist/, both of which lie beside it. */
const ADDON_PATH = '../../dist/native/wirespan.node';

/** The BPF objects: the same from src/ and from dist/. */
export function bpfObjectPath(name: string): string {
  return fileURLToPath(new URL(`../../dist/bpf/${name}.bpf.o`, import.meta.url));
}

let loaded: unknown;

/**
 * Loads the addon on first use, so that commands that need nothing native start without it.
 * @throws Error when it was not built or belongs to another Node version
 */
export function native<T = NativeLayout>(): T {
  if (loaded === undefined) {
    try {
      loaded = createRequire(import.meta.url)(ADDON_PATH);
    } catch (error) {
      const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
      throw new Error(`cannot load the native addon (${why}); build it with: node native/build.mjs`);
    }
  }
  return loaded as T;
}

/**
 * Keeps the memory of this process, which holds keys and traffic, out of core dumps and away from other processes of the same user:
 * PR_SET_DUMPABLE 0 (prctl(2), ptrace(2)) and RLIMIT_CORE 0 (getrlimit(2)).
 * @throws Error when the kernel refuses
 */
export function protectMemory(): void {
  native().protectMemory();
}

/** Ends the process as it stands, without waiting for any thread (_exit(2)). What it holds in the kernel goes with it. */
export function exitAtOnce(code: number): never {
  return native().exitAtOnce(code);
}

/**
 * Gives back to the system what was needed for a moment only, such as the lists of a large cluster. V8 collects when it allocates, which an agent
 * on a quiet node hardly does, and the C library keeps what it has. Takes as long as a full collection: tens of milliseconds.
 */
export function releaseMemory(): void {
  // The one way to V8's collector that Node has.
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  native().releaseFreeMemory();
}
