/**
 * Finds the Node that runs Wirespan. The machine's own may be too old, or may lack its headers (the addon is compiled against
 * them, OpenSSL's included); then the tested release is taken from the npm registry, as a package that holds nothing but the
 * official binary and its headers.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cacheFolder, npm, run, SetupError, say } from './common.mjs';

/** The release that is tested, and that the image holds. */
export const TESTED = '24.21.0';
/** As `engines` in package.json: below it sources in TypeScript do not run. */
const OLDEST = [22, 19];

/** Whether the Node that runs this script can build and run everything. */
function ownNodeWillDo() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) return false;
  const include = join(dirname(process.execPath), '..', 'include', 'node');
  return existsSync(join(include, 'node_api.h')) && existsSync(join(include, 'openssl', 'evp.h'));
}

function works(node) {
  return existsSync(node) && spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout?.trim() === `v${TESTED}`;
}

/** @returns {string} the path of a Node that will do, downloaded when there is none */
export function ensureNode() {
  if (ownNodeWillDo()) return process.execPath;
  const home = join(cacheFolder, `node-${TESTED}`);
  const node = join(home, 'bin', 'node');
  // Not run on every start: the folder gets its name only after its Node has been seen to work.
  if (existsSync(node)) return node;
  say(`this is Node ${process.versions.node}; fetching Node ${TESTED} into ${home}`);
  mkdirSync(cacheFolder, { recursive: true });
  const work = mkdtempSync(join(cacheFolder, 'node-'));
  const wanted = `node-linux-${process.arch}@${TESTED}`;
  try {
    if (!npm(['pack', wanted, `--pack-destination=${work}`], { cwd: work })) {
      throw new SetupError(`could not fetch ${wanted}; install Node ${TESTED} or run with any Node >= 22.19`);
    }
    const tarball = readdirSync(work).find((name) => name.endsWith('.tgz'));
    if (!tarball || !run('tar', ['-xzf', tarball, '--no-same-owner'], { cwd: work })) {
      throw new SetupError('could not unpack the Node package');
    }
    if (!works(join(work, 'package', 'bin', 'node')))
      throw new SetupError(`the fetched Node ${TESTED} does not run on this machine`);
    try {
      renameSync(join(work, 'package'), home);
    } catch (error) {
      // Someone else was faster: theirs is as good.
      if (!existsSync(node)) throw error;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return node;
}
