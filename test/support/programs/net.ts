import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { PATIENCE_MS, timeScale } from './paths.ts';

/**
 * Where the ports for servers are taken from: below those that the kernel gives to clients (32768 on), none of whose connections can so
 * take a port between its choice and the start of its server; and tshark takes none of them for some protocol.
 */
const FIRST_PORT = 22_300;
const PORTS = 2_400;
/** Test files that run at the same time begin at different places. */
let nextPort = (process.pid * 37) % PORTS;

async function isFree(port: number, host: string): Promise<boolean> {
  const server = createServer().listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    // Without IPv6 there is nobody who could have it there.
    return (error as NodeJS.ErrnoException).code === 'EADDRNOTAVAIL';
  }
  server.close();
  await once(server, 'close');
  return true;
}

/** A port that nobody listens on, on either loopback address. Each is given once. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < PORTS; tries++) {
    const port = FIRST_PORT + nextPort;
    nextPort = (nextPort + 1) % PORTS;
    if ((await isFree(port, '127.0.0.1')) && (await isFree(port, '::1'))) return port;
  }
  throw new Error(`no port from ${FIRST_PORT} to ${FIRST_PORT + PORTS - 1} is free`);
}

export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  return ports;
}

/** Waits until a TCP port accepts. */
export async function waitForPort(port: number, host = '127.0.0.1', timeoutMs = PATIENCE_MS): Promise<void> {
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
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + timeoutMs * timeScale;
  for (;;) {
    const answer = await question();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs * timeScale} ms: ${what}`);
    await sleep(50);
  }
}
