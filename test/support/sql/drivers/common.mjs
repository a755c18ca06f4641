/**
 * The frame of every driver's script. The one argument is JSON: {host, port, user, password, tls, ca, prefix, users, features}. Each feature
 * has a name of its own, `PREFIX_FEATURE`, by which its statements are told from all others in the server's log: its database, or (with
 * `users`) its user, of the database PREFIX. A line of JSON per feature says when it began and ended.
 */
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

/** Loads a package from the folder that holds the installed drivers. */
export const load = process.env.DRIVER_PACKAGES
  ? createRequire(`${process.env.DRIVER_PACKAGES}/package.json`)
  : () => {
      throw new Error('DRIVER_PACKAGES is not set');
    };

/** Between two features. */
const PAUSE_MS = 20;

/** Bytes of every value. */
export const BLOB = Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7) % 256));

/** Fails unless the statement fails. */
export async function fails(promise) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`did not fail: ${JSON.stringify(answer)?.slice(0, 200)}`);
}

export function expect(condition, what) {
  if (!condition) throw new Error(`expected ${what}`);
}

/**
 * Runs the wanted features, one after the other.
 * @param features name to a function of (database, settings)
 */
export async function main(features) {
  const settings = JSON.parse(process.argv[2]);
  let failed = false;
  for (const name of settings.features) {
    const line = { feature: name, ok: true, startMs: Date.now() };
    const own = `${settings.prefix}_${name}`;
    const [database, mine] = settings.users ? [settings.prefix, { ...settings, user: own }] : [own, settings];
    try {
      const run = features[name];
      if (run === undefined) throw new Error('no such feature');
      const late = sleep(30_000, 'late', { ref: false });
      if ((await Promise.race([run(database, mine), late])) === 'late') throw new Error('took too long');
    } catch (error) {
      failed = true;
      line.ok = false;
      line.error = String(error?.stack ?? error);
    }
    line.endMs = Date.now();
    // What is told by its time keeps its distance.
    await sleep(PAUSE_MS);
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
  process.exit(failed ? 1 : 0);
}

export { sleep };
