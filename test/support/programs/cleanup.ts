import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a test has to undo, undone in reverse order. */
export class Cleanup {
  readonly #steps: (() => unknown)[] = [];

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  /** Undoes everything, also after a step has failed; then throws the first failure. */
  async run(): Promise<void> {
    const failures: unknown[] = [];
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /** A new folder, removed at the end. Others may enter it: servers drop their privileges. */
  async temporaryFolder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'wirespan-test-'));
    await chmod(folder, 0o755);
    this.add(() => rm(folder, { recursive: true, force: true }));
    return folder;
  }
}

/** A Cleanup that runs when the test, or the suite whose `after` is given, ends. */
export function cleanupAfter(scope: { after(step: () => Promise<void>): void }): Cleanup {
  const cleanup = new Cleanup();
  scope.after(() => cleanup.run());
  return cleanup;
}
