/**
 * Makes the captures below data/ again, from real servers and clients: all of them, or those that are named; then writes down what tshark
 * says of them. Needs root, and what the live tests need.
 *
 *     npm run record -- [NAME...]
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { embeddedPostgres } from '../../support/databases/postgres.ts';
import { goPeers } from '../../support/http/http2-peers.ts';
import { Cleanup } from '../../support/programs/cleanup.ts';
import { driverPackages, pythonProgram } from '../../support/sql/drivers.ts';
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
  // There is no network in there.
  await Promise.all([goPeers(), driverPackages(), pythonProgram('psycopg3'), embeddedPostgres()]);
  const words = ['--net', process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const made = spawnSync('unshare', words, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } }).status === 0;
  const written =
    made &&
    ['facts.ts', 'mysql-facts.ts', 'postgres-facts.ts'].every((script) => {
      const path = fileURLToPath(new URL(`../${script}`, import.meta.url));
      return spawnSync(process.execPath, [path], { stdio: 'inherit' }).status === 0;
    });
  process.exitCode = written ? 0 : 1;
}
