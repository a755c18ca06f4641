/**
 * What a reader is at, kept where another thread sees it: a file system that never answers holds the reader for ever, and the thread that starts another
 * one must know what to leave alone.
 */
export interface Guard {
  /**
   * The next thing is begun, and may take for ever.
   * @param container whose it is
   * @param subject a process, a device, a folder
   * @returns false when it is to be left alone
   */
  enter(container: string, subject: string): boolean;
  /** It is done. */
  leave(): void;
}

/** For a reader that nobody watches. */
export const unwatched: Guard = { enter: () => true, leave: () => {} };

const TEXT_BYTES = 1024;
/** Int32 words before the text. */
const LENGTH = 0;
const STEPS = 1;
const HEADER_BYTES = 8;

/** What one reader is at, in memory that two threads share. */
export class SharedGuard implements Guard {
  readonly memory: SharedArrayBuffer;
  readonly #header: Int32Array;
  readonly #text: Buffer;
  readonly #leftAlone: ReadonlySet<string>;
  readonly #onRefused: () => void;

  /** @param leftAlone containers and subjects */
  constructor(memory?: SharedArrayBuffer, leftAlone: readonly string[] = [], onRefused: () => void = () => {}) {
    this.memory = memory ?? new SharedArrayBuffer(HEADER_BYTES + TEXT_BYTES);
    this.#header = new Int32Array(this.memory, 0, HEADER_BYTES / 4);
    this.#text = Buffer.from(this.memory, HEADER_BYTES);
    this.#leftAlone = new Set(leftAlone);
    this.#onRefused = onRefused;
  }

  enter(container: string, subject: string): boolean {
    if (this.#leftAlone.size > 0 && (this.#leftAlone.has(subject) || this.#leftAlone.has(container))) {
      this.#onRefused();
      return false;
    }
    const length = this.#text.write(`${container}\n${subject}`, 'utf8');
    Atomics.store(this.#header, LENGTH, length);
    Atomics.add(this.#header, STEPS, 1);
    return true;
  }

  leave(): void {
    Atomics.store(this.#header, LENGTH, 0);
    Atomics.add(this.#header, STEPS, 1);
  }

  /** For the thread that watches: how many steps were made, and what the reader is at; undefined when it waits. */
  state(): { steps: number; container: string; subject: string } | undefined {
    const length = Atomics.load(this.#header, LENGTH);
    if (length === 0) return undefined;
    const text = this.#text.toString('utf8', 0, length);
    const line = text.indexOf('\n');
    return { steps: Atomics.load(this.#header, STEPS), container: text.slice(0, line), subject: text.slice(line + 1) };
  }
}
