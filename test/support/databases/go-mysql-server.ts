import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from '../programs/cache.ts';
import { type Certificate, selfSigned } from '../programs/certificate.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { goBuild } from '../programs/go.ts';
import { root } from '../programs/paths.ts';
import { type Running, start } from '../programs/process.ts';

const SOURCES = join(root, 'test/support/databases/go-mysql-server');

/** A statement that ended, as the server itself counted it. */
export interface AnsweredStatement {
  /** Of the client. */
  port: number;
  database: string;
  prepared: boolean;
  /** As the client sent it; of a text with several statements, this one and the semicolon after it. */
  text: string;
  durationMs: number;
  rows: number;
  affected: number;
  /** 0 for success. */
  errorNumber: number;
}

export interface GoMySql {
  running: Running;
  port: number;
  host: string;
  certificate: Certificate;
  /** Logs in by mysql_native_password; `sha2` by caching_sha2_password, which needs TLS. Both have the same password. */
  user: string;
  password: string;
  ended(): AnsweredStatement[];
}

/** The path of the server, built when it is not in the cache (a minute, 200 MB of Go modules). */
async function program(): Promise<string> {
  const hash = createHash('sha256');
  for (const name of ['main.go', 'go.sum']) hash.update(await readFile(join(SOURCES, name)));
  const folder = await cached(`go-mysql-server-${hash.digest('hex').slice(0, 12)}`, 'go-mysql-server', (work) =>
    goBuild(SOURCES, join(work, 'go-mysql-server'), '.', ['-ldflags=-s -w']),
  );
  return join(folder, 'go-mysql-server');
}

/**
 * Starts a server that speaks MySQL 8's protocol, with these databases in memory and Go's TLS offered.
 * @param prefix runs before it on its command line, such as that of a cgroup
 */
export async function startGoMySql(
  cleanup: Cleanup,
  databases: readonly string[],
  prefix: readonly string[] = [],
): Promise<GoMySql> {
  const certificate = await selfSigned(cleanup);
  const [command, ...words] = [...prefix, await program()];
  const running = start(cleanup, command!, [...words, certificate.certFile, certificate.keyFile, ...databases]);
  const port = Number((await running.waitFor('stdout', /^listening (\d+)\n/))[1]);
  return {
    ...{ running, port, host: '127.0.0.1', certificate, user: 'admin', password: 'Correct-Horse-7' },
    ended: () =>
      running.stdout
        .slice(0, running.stdout.lastIndexOf('\n') + 1)
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line) as AnsweredStatement),
  };
}
