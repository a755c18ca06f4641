import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cached, contentHash } from './cache.ts';
import { run, runAnyway } from './process.ts';

/** Long enough for a cold build on two cores. */
const BUILD_TIMEOUT_MS = 30 * 60_000;

/**
 * Builds a Go program.
 * @param sources a folder with go.mod and go.sum; it is copied, as the go command writes into it
 * @param output the file to make
 * @param what a package path, or `.`
 */
export async function goBuild(
  sources: string,
  output: string,
  what: string,
  flags: readonly string[] = [],
): Promise<void> {
  const version = await runAnyway('go', ['version']).catch(() => undefined);
  if (version?.exitCode !== 0) {
    throw new Error(
      'Go (1.25 or newer) is needed to build the programs that the tests talk to: see https://go.dev/doc/install',
    );
  }
  const work = await mkdtemp(join(tmpdir(), 'wirespan-go-'));
  try {
    await cp(sources, work, { recursive: true });
    await run('go', ['build', '-trimpath', ...flags, '-o', output, what], {
      cwd: work,
      env: { CGO_ENABLED: '0' },
      timeoutMs: BUILD_TIMEOUT_MS,
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The program in a folder of sources, built when it is not in the cache. */
export async function goCached(name: string, sources: string, program: string): Promise<string> {
  const files = (await readdir(sources)).sort().map((file) => join(sources, file));
  const folder = await cached(`${name}-go-${await contentHash(files)}`, program, (work) =>
    goBuild(sources, join(work, program), '.'),
  );
  return join(folder, program);
}
