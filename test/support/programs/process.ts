import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import type { Cleanup } from './cleanup.ts';
import { PATIENCE_MS, timeScale } from './paths.ts';

export interface ProcessOptions {
  cwd?: string;
  /** Added to this process's environment; `undefined` removes. */
  env?: Record<string, string | undefined>;
  input?: string | Buffer;
  /** `open`: standard input is a pipe that the caller writes to. */
  stdin?: 'open';
  /** Before time scaling. Default PATIENCE_MS. */
  timeoutMs?: number;
}

export interface Result {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Every child that is still alive: a test file that dies must not leave servers behind. */
const alive = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));

/** A started program, with what it has written so far. */
export class Running {
  readonly child: ChildProcess;
  readonly name: string;
  readonly exited: Promise<Result>;
  stdout = '';
  stderr = '';
  #result: Result | undefined;
  #changed: (() => void)[] = [];

  constructor(command: string, args: readonly string[], options: ProcessOptions) {
    this.name = [command, ...args].join(' ');
    const environment = { ...process.env, ...options.env };
    // The test runner's own channel: a Node program started below a test would take itself for a test file.
    delete environment.NODE_TEST_CONTEXT;
    this.child = spawn(command, args, {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: environment,
      stdio: [options.input === undefined && options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    alive.add(this.child);
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#notify();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.#notify();
    });
    if (options.input !== undefined) this.child.stdin?.on('error', () => {}).end(options.input);
    this.exited = new Promise((resolve, reject) => {
      this.child.on('error', (error) => {
        alive.delete(this.child);
        reject(error);
      });
      this.child.on('close', (exitCode, signal) => {
        alive.delete(this.child);
        this.#result = { exitCode, signal, stdout: this.stdout, stderr: this.stderr };
        resolve(this.#result);
        this.#notify();
      });
    });
    // Nobody may be waiting for it: a start that failed is told by whoever does.
    this.exited.catch(() => this.#notify());
  }

  get pid(): number {
    assert.ok(this.child.pid !== undefined, `${this.name} was not started`);
    return this.child.pid;
  }

  #notify(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }

  /** Waits until `stream` matches; fails with all output when the program ends first or the time is up. */
  async waitFor(stream: 'stdout' | 'stderr', pattern: RegExp, timeoutMs = PATIENCE_MS): Promise<RegExpExecArray> {
    const deadline = performance.now() + timeoutMs * timeScale;
    for (;;) {
      const match = pattern.exec(this[stream]);
      if (match) return match;
      const leftMs = deadline - performance.now();
      if (this.#result || leftMs <= 0) {
        const how = this.#result
          ? `ended with ${this.#result.exitCode ?? this.#result.signal}`
          : 'did not answer in time';
        throw new Error(
          `${this.name}: ${how}, waiting for ${pattern}\n--- stdout\n${this.stdout}\n--- stderr\n${this.stderr}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(leftMs, 1_000));
        this.#changed.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** Sends a signal and waits for the end; SIGKILL, and a failure, when that takes too long. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = PATIENCE_MS): Promise<Result> {
    if (this.#result) return this.#result;
    this.child.kill(signal);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.child.kill('SIGKILL');
      // Whoever else holds the pipes is not waited for.
      this.child.stdout?.destroy();
      this.child.stderr?.destroy();
    }, timeoutMs * timeScale);
    const result = await this.exited;
    clearTimeout(timer);
    assert.ok(!late, `${this.name} did not end after ${signal}\n--- stderr\n${this.stderr}`);
    return result;
  }
}

/** Starts a program that is stopped at the end of the test. */
export function start(
  cleanup: Cleanup,
  command: string,
  args: readonly string[],
  options: ProcessOptions = {},
): Running {
  const running = new Running(command, args, options);
  cleanup.add(() => running.stop());
  return running;
}

/** Runs a program to its end, whatever its exit code. */
export async function runAnyway(
  command: string,
  args: readonly string[],
  options: ProcessOptions = {},
): Promise<Result> {
  const running = new Running(command, args, options);
  const timer = setTimeout(() => running.child.kill('SIGKILL'), (options.timeoutMs ?? PATIENCE_MS) * timeScale);
  try {
    return await running.exited;
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a program to its end and fails when it does. */
export async function run(command: string, args: readonly string[], options: ProcessOptions = {}): Promise<Result> {
  const result = await runAnyway(command, args, options);
  if (result.exitCode !== 0) {
    throw new Error(
      `${command} ${args.join(' ')}: ${result.exitCode ?? result.signal}\n--- stdout\n${result.stdout}\n--- stderr\n${result.stderr}`,
    );
  }
  return result;
}
