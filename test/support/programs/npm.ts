import { createHash } from 'node:crypto';
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from './cache.ts';
import { run } from './process.ts';

/**
 * The folder that holds the node_modules of a manifest with a lock file, installed when it is not in the cache. No script of any
 * package is run.
 * @param name of the folder in the cache; a hash of the lock file is added
 * @param folder holds package.json and package-lock.json
 */
export async function npmPackages(name: string, folder: string): Promise<string> {
  const lock = await readFile(join(folder, 'package-lock.json'));
  const hash = createHash('sha256').update(lock).digest('hex').slice(0, 12);
  return cached(`${name}-${hash}`, 'node_modules/.package-lock.json', async (work) => {
    for (const file of ['package.json', 'package-lock.json']) await copyFile(join(folder, file), join(work, file));
    // The one that runs us when there is one, else the one in PATH.
    const cli = process.env.npm_execpath;
    const [command, ...before] = cli?.endsWith('npm-cli.js') ? [process.execPath, cli] : ['npm'];
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    await run(command!, [...before, 'ci', ...flags], { cwd: work, timeoutMs: 300_000 });
  });
}
