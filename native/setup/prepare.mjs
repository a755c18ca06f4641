/** The whole set-up, and the way from it to the program that was asked for. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { targetOf } from '../arch/targets.mjs';
import { ensureBuilt, environmentOf } from './build.mjs';
import { SetupError, say } from './common.mjs';
import { ensureNode } from './node.mjs';
import { ensurePackages } from './packages.mjs';

/**
 * Makes everything ready. Exits with a message when it cannot.
 * @param {{needs?: import('./packages.mjs').Need[], purpose?: string, addonIsOptional?: boolean}} [options] system packages beyond those of
 * the build; whether to go on without the addon where no compiler is there and none can be installed
 * @returns {string} the Node to run with
 */
export function prepare({ needs = [], purpose = '', addonIsOptional = false } = {}) {
  try {
    checkMachine();
    ensurePackages(needs, purpose);
    const node = ensureNode();
    ensureBuilt(node, { addonIsOptional });
    return node;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(error.message);
    process.exit(1);
  }
}

/** @throws {SetupError} where Wirespan does not run */
function checkMachine() {
  if (process.platform !== 'linux') throw new SetupError(`Wirespan runs on Linux only, not on ${process.platform}`);
  try {
    targetOf();
  } catch (error) {
    throw new SetupError(error.message);
  }
}

/** A terminal's Ctrl-C reaches npm and its whole process group, and npm passes it on once more: within this time it is one signal. */
const SAME_SIGNAL_MS = 300;

/**
 * Runs a script in the place of this process: same standard streams, directory, signals and exit code.
 * The script gets a session of its own, so that a terminal's Ctrl-C reaches it through here only, and once: a second signal means
 * "at once" to the agent.
 * @param {string} node @param {string[]} args
 */
export function replaceBy(node, args) {
  const child = spawn(node, args, { stdio: 'inherit', env: environmentOf(node), detached: true });
  let lastMs = -Infinity;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2']) {
    process.on(signal, () => {
      const nowMs = performance.now();
      if (nowMs - lastMs > SAME_SIGNAL_MS) child.kill(signal);
      lastMs = nowMs;
    });
  }
  return new Promise(() => {
    child.on('error', (error) => {
      say(`cannot run ${node}: ${error.message}`);
      process.exit(1);
    });
    child.on('exit', (code, signal) => process.exit(signal ? 128 + constants.signals[signal] : (code ?? 1)));
  });
}
