/**
 * Makes the captures below data/ again, from real servers and clients: all of them, or those that are named. Needs root, and what the live
 * tests need. What tshark says of them is written by facts.ts, mysql-facts.ts and postgres-facts.ts.
 *
 *     npm run record -- [NAME...]
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Cleanup } from '../../support/cleanup.ts';
import { ETHERNET_MTU, save, setMtu } from './recorder.ts';
import { RECORDINGS } from './recordings.ts';

/** Says that this process runs in a network namespace that nobody else is in. */
const INSIDE = 'WIRESPAN_RECORDING';

async function makeAll(names: readonly string[]): Promise<void> {
  const unknown = names.filter((name) => !RECORDINGS.some((recording) => recording.name === name));
  if (unknown.length > 0) {
    const known = RECORDINGS.map(({ name }) => name).join('\n');
    throw new Error(`unknown recording: ${unknown.join(' ')}; there are\n${known}`);
  }
  for (const recording of RECORDINGS.filter(({ name }) => names.length === 0 || names.includes(name))) {
    const cleanup = new Cleanup();
    try {
      await setMtu(ETHERNET_MTU);
      await save(recording, cleanup);
      process.stdout.write(`${recording.name}\n`);
    } finally {
      await cleanup.run();
    }
  }
}

if (process.env[INSIDE] === '1') {
  await makeAll(process.argv.slice(2));
} else {
  const words = ['--net', process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const { status } = spawnSync('unshare', words, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  process.exitCode = status ?? 1;
}
