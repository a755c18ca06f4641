import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { goCached } from '../programs/go.ts';
import { npmPackages } from '../programs/npm.ts';
import { run } from '../programs/process.ts';
import { pythonPackages } from '../programs/python.ts';
import type { RedisServer } from './server.ts';

const FOLDER = fileURLToPath(new URL('clients', import.meta.url));

const nodePackages = (): Promise<string> => npmPackages('redis-clients-node', FOLDER);
const pythonPath = (): Promise<string> => pythonPackages('redis-clients', FOLDER, 'redis');
const goProgram = (): Promise<string> => goCached('redis-clients', join(FOLDER, 'go'), 'clients');

/** How a client speaks. */
export interface ClientRun {
  client: 'node_redis' | 'python_redis' | 'go_redis';
  tls: boolean;
  /** The version of the protocol; go-redis always speaks 3. */
  resp: 2 | 3;
}

export const CLIENT_RUNS: readonly ClientRun[] = [false, true].flatMap((tls) => [
  ...([2, 3] as const).flatMap((resp) =>
    (['node_redis', 'python_redis'] as const).map((client) => ({ client, tls, resp })),
  ),
  { client: 'go_redis' as const, tls, resp: 3 as const },
]);

/** Makes ready what the clients need, so that no test's time goes into it. */
export async function prepareClients(): Promise<void> {
  await Promise.all([nodePackages(), pythonPath()]);
  await goProgram();
}

/**
 * Runs a client through its script; fails with what it says.
 *
 * @param within before the command line, such as that of a cgroup
 */
export async function runClient(
  server: RedisServer,
  { client, tls, resp }: ClientRun,
  within: readonly string[] = [],
): Promise<void> {
  const { host, tlsPort, certificate } = server;
  const port = tls ? tlsPort : server.port;
  const task = JSON.stringify({ host, port, tls, resp, ca: certificate.certFile });
  const { words, env } = await commandOf(client, task, [host, String(port), tls ? 'tls' : 'plain']);
  const [command, ...args] = [...within, ...words];
  await run(command!, args, { env });
}

async function commandOf(
  client: ClientRun['client'],
  task: string,
  plainWords: readonly string[],
): Promise<{ words: readonly string[]; env: Record<string, string> }> {
  switch (client) {
    case 'node_redis':
      return {
        words: [process.execPath, join(FOLDER, 'node-redis.mjs'), task],
        env: { CLIENT_PACKAGES: await nodePackages() },
      };
    case 'python_redis':
      return {
        words: ['python3', join(FOLDER, 'python_redis.py'), task],
        env: { PYTHONPATH: await pythonPath(), PYTHONDONTWRITEBYTECODE: '1' },
      };
    case 'go_redis':
      return { words: [await goProgram(), ...plainWords], env: {} };
    default:
      return client satisfies never;
  }
}
