import { chmod, chown, copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Certificate, selfSigned } from '../programs/certificate.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { freePort, waitForPort } from '../programs/net.ts';
import { Running, run } from '../programs/process.ts';
import { asUser, userIds } from './user.ts';

/** The operating system's user that the server runs as. */
const SYSTEM_USER = 'mysql';

/** An entry of the general log. */
export interface LogEntry {
  /** The connection's id. */
  thread: number;
  /** `Connect`, `Query`, `Prepare`, `Execute`, `Init DB`, `Quit`, `Close stmt`, ... */
  command: string;
  /** Of `Execute` in MariaDB: the text with the values put in. */
  argument: string;
  /** The current database, as the entries so far of this connection have it. */
  database: string;
}

/** A statement that ended, as the performance schema has it. */
export interface EndedStatement {
  thread: number;
  /** `statement/sql/select`, `statement/com/Execute`, ... */
  event: string;
  database: string;
  /** Cut to 4,096 bytes. */
  text: string;
  durationMs: number;
  rowsSent: number;
  rowsAffected: number;
  /** 0 for success. */
  errorNumber: number;
}

export interface MariaDb {
  running: Running;
  port: number;
  host: string;
  certificate: Certificate;
  user: string;
  password: string;
  folder: string;
  socket: string;
  /** Runs statements over the server's own socket; returns rows of columns. */
  sql(text: string): Promise<string[][]>;
  /** What the general log has of TCP connections that logged in as `user`. */
  log(): Promise<LogEntry[]>;
  /** Every statement that ended, in this order. */
  ended(): Promise<EndedStatement[]>;
  /** Empties both. */
  forget(): Promise<void>;
}

export interface MariaDbOptions {
  /** More options of the command line. */
  args?: readonly string[];
  /** Runs before the server on its command line, such as that of a cgroup. */
  prefix?: readonly string[];
}

const ESCAPES: Record<string, string> = { n: '\n', t: '\t', '0': '\0', '\\': '\\' };

/** What the client writes in batch mode. */
function batchRows(text: string): string[][] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) =>
      line.split('\t').map((value) => value.replace(/\\(.)/g, (_, escaped: string) => ESCAPES[escaped] ?? escaped)),
    );
}

function options(folder: string, port: number, certificate: Certificate): string[] {
  return [
    '--no-defaults',
    `--datadir=${join(folder, 'data')}`,
    `--socket=${join(folder, 'socket')}`,
    `--pid-file=${join(folder, 'data', 'pid')}`,
    `--port=${port}`,
    '--bind-address=127.0.0.1',
    '--skip-name-resolve',
    `--init-file=${join(folder, 'init.sql')}`,
    `--ssl-cert=${certificate.certFile}`,
    `--ssl-key=${certificate.keyFile}`,
    '--general-log=1',
    '--log-output=TABLE',
    '--performance-schema=ON',
    '--performance-schema-consumer-events-statements-current=ON',
    '--performance-schema-consumer-events-statements-history-long=ON',
    '--performance-schema-instrument=statement/%=ON',
    '--performance-schema-events-statements-history-long-size=20000',
    '--performance-schema-max-sql-text-length=4096',
    '--local-infile=1',
    '--max-allowed-packet=256M',
    '--innodb-buffer-pool-size=64M',
    '--innodb-flush-log-at-trx-commit=0',
    '--character-set-server=utf8mb4',
    '--max-connections=200',
  ];
}

const ENDED = `SELECT THREAD_ID, EVENT_NAME, IFNULL(CURRENT_SCHEMA, ''), IFNULL(SQL_TEXT, ''), TIMER_WAIT / 1e9, ROWS_SENT, ROWS_AFFECTED, MYSQL_ERRNO
  FROM performance_schema.events_statements_history_long ORDER BY TIMER_START`;

/** Starts a MariaDB of its own, in a temporary folder, with TLS offered and every statement logged. */
export async function startMariaDb(
  cleanup: Cleanup,
  { args = [], prefix = [] }: MariaDbOptions = {},
): Promise<MariaDb> {
  const folder = await cleanup.temporaryFolder();
  const ids = await userIds(SYSTEM_USER);
  await chown(folder, ids.uid, ids.gid);
  await mkdir(join(folder, 'data'), { mode: 0o700 });
  await chown(join(folder, 'data'), ids.uid, ids.gid);
  const made = await selfSigned(cleanup);
  const certificate = { certFile: made.certFile, keyFile: join(folder, 'key.pem') };
  await copyFile(made.keyFile, certificate.keyFile);
  await chmod(certificate.keyFile, 0o600);
  await chown(certificate.keyFile, ids.uid, ids.gid);
  const user = 'admin';
  const password = 'Correct-Horse-7';
  await writeFile(
    join(folder, 'init.sql'),
    `GRANT ALL ON *.* TO '${user}'@'127.0.0.1' IDENTIFIED BY '${password}' WITH GRANT OPTION;\n`,
  );
  const install = ['--no-defaults', `--datadir=${join(folder, 'data')}`, '--skip-test-db'];
  const [installer, ...words] = asUser(ids, [
    ...['mariadb-install-db', ...install, '--auth-root-authentication-method=normal'],
    ...['--innodb-flush-log-at-trx-commit=0', '--innodb-buffer-pool-size=16M'],
  ]);
  await run(installer!, words, { cwd: folder, timeoutMs: 120_000 });
  const port = await freePort();
  const [command, ...rest] = [...prefix, ...asUser(ids, ['mariadbd', ...options(folder, port, certificate), ...args])];
  const running = new Running(command!, rest, { cwd: folder });
  cleanup.add(() => running.stop());
  await waitForPort(port).catch((error: unknown) => {
    throw new Error(`MariaDB did not come up\n${running.stderr}`, { cause: error });
  });
  const socket = join(folder, 'socket');
  const sql = async (text: string) => {
    const { stdout } = await run('mariadb', ['--no-defaults', '-S', socket, '-u', 'root', '-BN', '-e', text]);
    return batchRows(stdout);
  };
  return {
    ...{ running, port, host: '127.0.0.1', certificate, user, password, folder, socket, sql },
    log: async () => logOf(await sql('SELECT thread_id, command_type, argument FROM mysql.general_log'), user),
    ended: async () =>
      (await sql(ENDED)).map(([thread, event, database, text, ms, sent, affected, error]) => ({
        ...{ thread: Number(thread), event: event!, database: database!, text: text! },
        ...{
          durationMs: Number(ms),
          rowsSent: Number(sent),
          rowsAffected: Number(affected),
          errorNumber: Number(error),
        },
      })),
    async forget() {
      await sql('TRUNCATE mysql.general_log; TRUNCATE performance_schema.events_statements_history_long');
    },
  };
}

/** Follows each connection's current database through the log. */
function logOf(rows: readonly (readonly string[])[], user: string): LogEntry[] {
  const databases = new Map<number, string>();
  const entries: LogEntry[] = [];
  for (const [id, command = '', argument = ''] of rows) {
    const thread = Number(id);
    if (command === 'Connect') {
      const match = /^(.*)@127\.0\.0\.1(?: on (\S*))?/.exec(argument);
      if (match?.[1] === user) databases.set(thread, match[2] ?? '');
    }
    const database = databases.get(thread);
    if (database === undefined) continue;
    if (command === 'Init DB') databases.set(thread, argument);
    entries.push({ thread, command, argument, database });
  }
  return entries;
}
