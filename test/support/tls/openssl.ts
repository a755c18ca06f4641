/** Conversations between openssl s_client and s_server, for what Node's own TLS cannot be made to do. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as setTimeoutPromise } from 'node:timers/promises';
import { listen, type Recording, recordingProxy, rsaCertificate, temporaryPath } from './records.ts';

export interface Line {
  client?: string;
  server?: string;
  /** A command of s_client or s_server, not data. */
  command?: boolean;
}

export interface OpensslOptions {
  server: string[];
  client: string[];
  script?: Line[];
  /** Sent as early data of a second, resumed connection. */
  earlyData?: string;
  earlyRefused?: boolean;
  /** Further arguments of the client, by connection. */
  firstClient?: string[];
  secondClient?: string[];
  /** Arguments of the server for the second connection, when it is another one. */
  secondServer?: string[];
}

const DEFAULT_SCRIPT: Line[] = [
  { client: 'hello from the client\n' },
  { server: 'hello from the server\n' },
  { client: `${'more '.repeat(500)}\n` },
  { server: `${'less '.repeat(900)}\n` },
];

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A child whose output can be awaited. */
class Process {
  readonly child: ChildProcess;
  output = '';
  #wake: () => void = () => {};

  constructor(args: string[]) {
    this.child = spawn('openssl', args, { stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on('data', (bytes: Buffer) => {
        this.output += bytes.toString('latin1');
        this.#wake();
      });
    }
    this.child.on('close', () => this.#wake());
  }

  write(text: string): void {
    this.child.stdin!.write(text);
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const deadline = Date.now() + 60_000;
    while (!condition()) {
      if (Date.now() > deadline || (this.child.exitCode !== null && !condition())) {
        throw new Error(`openssl: no ${what} in:\n${this.output}`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 50);
      });
    }
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const closed = new Promise((resolve) => this.child.once('close', resolve));
    this.child.kill();
    await closed;
  }
}

let counter = 0;

/** @returns the recording of the last connection */
export async function recordOpenssl(options: OpensslOptions): Promise<Recording> {
  const { keyFile, certFile } = rsaCertificate();
  const keyLogFile = temporaryPath(`keys-${counter++}`);
  const sessionFile = temporaryPath(`session-${counter}`);
  const earlyFile = temporaryPath(`early-${counter}`);
  const port = await freePort();
  const proxy = await recordingProxy(port);
  const certificate = options.server.includes('-nocert') ? [] : ['-key', keyFile, '-cert', certFile];
  const startServer = async (own: string[]) => {
    for (;;) {
      const process = new Process(['s_server', '-accept', String(port), ...certificate, ...own]);
      const taken = () => process.output.includes('Address already in use');
      await process.until(() => process.output.includes('ACCEPT') || taken(), 'start of the server');
      if (!taken()) return process;
      // The port of a short connection of somebody else's, since it was found free.
      await process.stop();
      await setTimeoutPromise(200);
    }
  };
  const startClient = (more: string[]) =>
    new Process([
      's_client',
      '-connect',
      `127.0.0.1:${proxy.port}`,
      '-keylogfile',
      keyLogFile,
      ...options.client,
      ...more,
    ]);
  let server = await startServer(options.server);
  const started: Process[] = [server];
  try {
    const early = options.earlyData;
    if (early !== undefined) {
      const first = startClient(['-sess_out', sessionFile, ...(options.firstClient ?? [])]);
      started.push(first);
      await first.until(
        () => existsSync(sessionFile) && readFileSync(sessionFile, 'latin1').includes('END'),
        'session',
      );
      first.write('Q\n');
      await first.until(() => first.child.exitCode !== null, 'end');
      rmSync(keyLogFile, { force: true });
      writeFileSync(earlyFile, early);
      if (options.secondServer !== undefined) {
        await server.stop();
        server = await startServer(options.secondServer);
        started.push(server);
      }
    }
    const resumed =
      early === undefined ? [] : ['-sess_in', sessionFile, '-early_data', earlyFile, ...(options.secondClient ?? [])];
    const client = startClient(resumed);
    started.push(client);
    await client.until(
      () => client.output.includes('read R BLOCK') || client.output.includes('Verify return code'),
      'handshake',
    );
    const verdict = `Early data was ${options.earlyRefused === true ? 'rejected' : 'accepted'}`;
    if (early !== undefined) await client.until(() => client.output.includes(verdict), verdict);
    const sent: [string, string] = [early !== undefined && options.earlyRefused !== true ? early : '', ''];
    for (const line of options.script ?? DEFAULT_SCRIPT) await speak(line, client, server, proxy.chunks, sent);
    client.write('Q\n');
    await client.until(() => client.child.exitCode !== null, 'end');
    await new Promise((resolve) => setTimeout(resolve, 20));
    return {
      chunks: proxy.chunks.at(-1)!,
      keyLog: readFileSync(keyLogFile, 'latin1'),
      sent: [Buffer.from(sent[0]), Buffer.from(sent[1])],
    };
  } finally {
    for (const process of started) await process.stop();
    proxy.close();
  }
}

async function speak(
  line: Line,
  client: Process,
  server: Process,
  chunks: { length: number }[],
  sent: [string, string],
) {
  const [from, to, direction] = line.client !== undefined ? [client, server, 0] : [server, client, 1];
  const text = line.client ?? line.server ?? '';
  const before = chunks.at(-1)?.length ?? 0;
  from.write(text);
  if (line.command === true) {
    // What a command makes the peers exchange has no text: wait for packets, then for quiet.
    await from.until(() => (chunks.at(-1)?.length ?? 0) > before, `packets after ${text.trim()}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    return;
  }
  (sent as string[])[direction as number] += text;
  await to.until(() => to.output.includes(text), 'text at the other end');
}
