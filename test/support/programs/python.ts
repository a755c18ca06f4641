import { join } from 'node:path';
import { cached, contentHash } from './cache.ts';
import { run } from './process.ts';

/**
 * The packages of a folder's requirements.txt, installed for this machine's Python when they are not in the cache.
 *
 * @param needed one of the packages
 * @returns for PYTHONPATH
 */
export async function pythonPackages(name: string, folder: string, needed: string): Promise<string> {
  const { stdout } = await run('python3', ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])']);
  const requirements = join(folder, 'requirements.txt');
  const cacheName = `${name}-python${stdout.trim()}-${await contentHash([requirements])}`;
  return cached(cacheName, needed, async (work) => {
    const flags = [
      '--require-hashes',
      '--only-binary=:all:',
      '--disable-pip-version-check',
      '--no-warn-script-location',
    ];
    const words = ['-m', 'pip', 'install', '--quiet', ...flags, '--root-user-action=ignore', '--target', work];
    await run('python3', [...words, '-r', requirements], { timeoutMs: 300_000 });
  });
}
