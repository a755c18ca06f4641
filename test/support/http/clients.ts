import { fileURLToPath } from 'node:url';
import { run } from '../programs/process.ts';

/** The path of a client script. */
export const clientScript = (name: string) => fileURLToPath(new URL(`clients/${name}`, import.meta.url));

export interface Load {
  /** Addresses that take turns, such as `https://127.0.0.1:8443`. */
  bases: readonly string[];
  count: number;
  concurrency: number;
  /** Every n-th request opens a connection of its own; the others share kept ones. */
  newConnectionEvery: number;
  /** Stands in every target. */
  prefix: string;
}

/** Runs a client, behind a prefix such as that of a cgroup. */
function runClient(prefix: readonly string[], words: readonly string[], input?: string) {
  const [command, ...args] = [...prefix, ...words];
  return run(command!, args, { timeoutMs: 120_000, ...(input === undefined ? {} : { input }) });
}

/** Sends requests from a Node process and returns the number of answers by status. Targets: /orders/P-N, /missing/P-N. */
export async function nodeLoad(load: Load, prefix: readonly string[] = []): Promise<Record<string, number>> {
  const { stdout } = await runClient(prefix, [process.execPath, clientScript('load.mjs'), JSON.stringify(load)]);
  return JSON.parse(stdout) as Record<string, number>;
}

/** Sends requests from a Python process. Targets: /orders/P-N?from=python. */
export async function pythonLoad(
  base: string,
  count: number,
  name: string,
  prefix: readonly string[] = [],
): Promise<void> {
  await runClient(prefix, ['python3', clientScript('python-load.py'), base, String(count), name]);
}

/** Sends requests from one curl process, on one connection. Targets: /orders/P-N?from=curl. */
export async function curlLoad(
  base: string,
  count: number,
  name: string,
  prefix: readonly string[] = [],
): Promise<void> {
  const config = Array.from(
    { length: count },
    (_, index) => `url = "${base}/orders/${name}-${index}?from=curl"\noutput = /dev/null\n`,
  );
  await runClient(prefix, ['curl', '-gsk', '-K', '-'], config.join(''));
}

export interface Ask {
  method: string;
  target: string;
  /** Of the request; 0 for none. */
  bodyBytes: number;
}

/** The clients that send a list of requests on one connection, by the service.name that they are seen under. */
export const CLIENTS: Record<string, (base: string, asks: readonly Ask[]) => Promise<unknown>> = {
  curl: askByCurl,
  'ask-node': (base, asks) => run(process.execPath, [clientScript('ask-node.mjs'), base, JSON.stringify(asks)]),
  'ask-python': (base, asks) => run('python3', [clientScript('ask-python.py'), base, JSON.stringify(asks)]),
};

async function askByCurl(base: string, asks: readonly Ask[]): Promise<void> {
  const parts = asks.map(({ method, target, bodyBytes }) => [
    `url = "${base}${target}"\noutput = /dev/null\nsilent\ninsecure\ngloboff\n`,
    method === 'HEAD' ? 'head\n' : `request = ${method}\n`,
    bodyBytes > 0 ? `header = "Expect:"\ndata-binary = "${'y'.repeat(bodyBytes)}"\n` : '',
  ]);
  await run('curl', ['-K', '-'], { input: parts.map((part) => part.join('')).join('next\n') });
}
