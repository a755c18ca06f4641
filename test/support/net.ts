import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { timeScale } from './paths.ts';

/** Ports that nobody listens on, each given once. They are held open together, so that no two are the same. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  return Promise.all(
    servers.map(async (server) => {
      const address = server.address();
      server.close();
      await once(server, 'close');
      if (address === null || typeof address === 'string') throw new Error('no port was given');
      return address.port;
    }),
  );
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port!;
}

/** Waits until a TCP port accepts. */
export async function waitForPort(port: number, host = '127.0.0.1', timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs * timeScale;
  for (;;) {
    const socket = connect({ port, host });
    try {
      await once(socket, 'connect');
      return;
    } catch (error) {
      if (performance.now() > deadline) throw new Error(`nothing listens on ${host}:${port}`, { cause: error });
    } finally {
      socket.destroy();
    }
    await sleep(20);
  }
}

/**
 * Asks again until the answer is good.
 * @param question returns `undefined` for "not yet"
 * @param what names it in the failure
 */
export async function until<T>(
  question: () => T | undefined | Promise<T | undefined>,
  what: string,
  timeoutMs = 15_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs * timeScale;
  for (;;) {
    const answer = await question();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs * timeScale} ms: ${what}`);
    await sleep(50);
  }
}
