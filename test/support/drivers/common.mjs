/**
 * The frame of every driver's script. The one argument is JSON: {host, port, user, password, tls, ca, prefix, features}. Each feature gets
 * a database of its own, `PREFIX_FEATURE`, by which its statements are told from all others in the server's log and among the spans.
 */
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

/** Loads a package from the folder that holds the installed drivers. */
export const load = process.env.DRIVER_PACKAGES
  ? createRequire(`${process.env.DRIVER_PACKAGES}/package.json`)
  : () => {
      throw new Error('DRIVER_PACKAGES is not set');
    };

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
    const line = { feature: name, ok: true };
    try {
      const run = features[name];
      if (run === undefined) throw new Error('no such feature');
      const late = sleep(30_000, 'late', { ref: false });
      if ((await Promise.race([run(`${settings.prefix}_${name}`, settings), late])) === 'late')
        throw new Error('took too long');
    } catch (error) {
      failed = true;
      line.ok = false;
      line.error = String(error?.stack ?? error);
    }
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
  process.exit(failed ? 1 : 0);
}

export { sleep };
