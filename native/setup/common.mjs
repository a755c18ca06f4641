/**
 * Shared by the set-up steps. Plain JavaScript without dependencies: it runs on the machine's own Node, from version 20 on, before
 * anything is installed.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** What is downloaded or built once per machine is kept here, outside the checkout, one folder per name and version. */
export const cacheFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'wirespan');

/** A failure that is shown to the user as it is, without a stack. */
export class SetupError extends Error {}

/** Set-up speaks on standard error only: standard output belongs to the program that is started. */
export function say(line) {
  process.stderr.write(`wirespan set-up: ${line}\n`);
}

/**
 * Runs a program to its end; its output goes to standard error.
 * @param {string} command @param {string[]} args @param {{cwd?: string, env?: NodeJS.ProcessEnv}} [options]
 * @returns {boolean} whether it exited with 0
 */
export function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, ...options, stdio: ['ignore', 2, 2] });
  if (error) throw new SetupError(`cannot run ${command}: ${error.message}`);
  return status === 0;
}

/**
 * Runs a talkative program to its end and keeps what it says.
 * @returns {{ok: boolean, output: string}}
 */
export function runQuietly(command, args, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    maxBuffer: 1 << 26,
    encoding: 'utf8',
    ...options,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (error) throw new SetupError(`cannot run ${command}: ${error.message}`);
  return { ok: status === 0, output: `${stdout}${stderr}` };
}

/** The full path of a program, looked up in PATH and in the folders of system programs, or undefined. */
export function findCommand(name) {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']) {
    const path = join(folder || '.', name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** The command line that runs npm: the one that runs us when there is one, else the one in PATH. */
export function npmCommand() {
  const cli = process.env.npm_execpath;
  if (cli?.endsWith('npm-cli.js')) return [process.execPath, cli];
  const npm = findCommand('npm');
  if (!npm)
    throw new SetupError('npm was not found in PATH; it comes with Node (Debian and Ubuntu: apt-get install npm)');
  return [npm];
}

/** Runs npm; no lifecycle script of any package is run. */
export function npm(args, options) {
  const [command, ...before] = npmCommand();
  return run(command, [...before, ...args, '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], options);
}

/**
 * Fingerprint of the names and contents of files below folders of the checkout.
 * @param {string[]} folders relative to the checkout; a missing one counts as empty
 * @param {(path: string) => boolean} wanted by path relative to the checkout
 * @param {string[]} extra further text that matters
 */
export function fingerprint(folders, wanted, extra = []) {
  const hash = createHash('sha256').update(JSON.stringify(extra));
  const visit = (folder) => {
    let entries = [];
    try {
      entries = readdirSync(join(root, folder), { withFileTypes: true });
    } catch {
      return;
    }
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) visit(path);
      else if (wanted(path))
        hash
          .update(`${path}\0`)
          .update(readFileSync(join(root, path)))
          .update('\0');
    }
  };
  for (const folder of folders) visit(folder);
  return hash.digest('hex');
}

/** A JSON file's value, or undefined when it is missing or broken. */
export function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}
