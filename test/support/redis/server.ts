import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Certificate, selfSigned } from '../programs/certificate.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { freePort, until, waitForPort } from '../programs/net.ts';
import { Running, run, start } from '../programs/process.ts';

/** A line of MONITOR. */
export interface MonitoredCommand {
  /** The number of its database. */
  database: string;
  /** IP address and port of the client; `lua` for what a script ran. */
  client: string;
  /** In capitals, as is all that MONITOR does not spell. */
  name: string;
  arguments: string[];
}

export interface RedisServer {
  running: Running;
  host: string;
  port: number;
  tlsPort: number;
  certificate: Certificate;
  folder: string;
  /** Runs a command over the server's own socket, which no packet passes. @returns what redis-cli prints */
  call(...words: string[]): Promise<string>;
  /** From now on, until `end` is called: all commands of TCP clients that the server ran, in their order. */
  monitor(): Promise<{ end(): Promise<MonitoredCommand[]> }>;
}

export interface RedisOptions {
  /** More options of the command line. */
  args?: readonly string[];
  /** Runs before the server on its command line, such as that of a cgroup. */
  prefix?: readonly string[];
}

/** Starts Debian's redis-server of its own, in a temporary folder, plain and with TLS. */
export async function startRedis(
  cleanup: Cleanup,
  { args = [], prefix = [] }: RedisOptions = {},
): Promise<RedisServer> {
  const folder = await cleanup.temporaryFolder();
  const certificate = await selfSigned(cleanup);
  const [port, tlsPort] = [await freePort(), await freePort()];
  const socket = join(folder, 'socket');
  const file = join(folder, 'redis.conf');
  await writeFile(
    file,
    [
      ...[`port ${port}`, `tls-port ${tlsPort}`, 'bind 127.0.0.1', `dir ${folder}`, `unixsocket ${socket}`],
      ...[`tls-cert-file ${certificate.certFile}`, `tls-key-file ${certificate.keyFile}`, 'tls-auth-clients no'],
      ...[`tls-ca-cert-file ${certificate.certFile}`, 'save ""', 'appendonly no', 'daemonize no'],
      ...['proto-max-bulk-len 512mb', 'enable-debug-command yes', 'repl-diskless-sync-delay 0', ''],
    ].join('\n'),
  );
  await chmod(file, 0o600);
  const [command, ...words] = [...prefix, 'redis-server', file, ...args];
  const running = new Running(command!, words, { cwd: folder });
  cleanup.add(() => running.stop());
  await waitForPort(port).catch((error: unknown) => {
    throw new Error(`Redis did not come up\n${running.stdout}`, { cause: error });
  });
  const call = async (...more: string[]) => (await run('redis-cli', ['-s', socket, ...more])).stdout.trimEnd();
  return {
    ...{ running, host: '127.0.0.1', port, tlsPort, certificate, folder, call },
    async monitor() {
      const monitor = start(cleanup, 'redis-cli', ['-s', socket, 'MONITOR'], {});
      await monitor.waitFor('stdout', /^OK$/m);
      return {
        async end() {
          // The last line is there when that of a command of ours is.
          const mark = `end-${process.pid}-${Date.now()}`;
          await call('ECHO', mark);
          await until(() => (monitor.stdout.includes(mark) ? true : undefined), 'the end of MONITOR');
          await monitor.stop('SIGTERM').catch(() => {});
          return parseMonitor(monitor.stdout);
        },
      };
    },
  };
}

const LINE = /^\d+\.\d+ \[(\d+) ([^\]]+)\] (.*)$/;
const ARGUMENT = /"((?:[^"\\]|\\.)*)"/g;

/** Commands over the server's own socket are not among them. */
function parseMonitor(text: string): MonitoredCommand[] {
  const commands: MonitoredCommand[] = [];
  for (const line of text.split('\n')) {
    const match = LINE.exec(line);
    if (match === null || match[2]!.startsWith('unix:')) continue;
    const [name = '', ...words] = [...match[3]!.matchAll(ARGUMENT)].map(([, word]) => word!);
    commands.push({ database: match[1]!, client: match[2]!, name: name.toUpperCase(), arguments: words });
  }
  return commands;
}
