import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached, contentHash } from '../programs/cache.ts';
import { goCached } from '../programs/go.ts';
import { npmPackages } from '../programs/npm.ts';
import { run, runAnyway } from '../programs/process.ts';
import { pythonPackages } from '../programs/python.ts';

const FOLDER = fileURLToPath(new URL('drivers', import.meta.url));

/** Where a driver connects to, and what it does there. */
export interface DriverTask {
  host: string;
  port: number;
  user: string;
  password: string;
  tls: boolean;
  /** The server's certificate, which is its own authority. */
  ca: string;
  /** TLS without PostgreSQL's SSLRequest before it. */
  direct?: boolean;
  /** Each feature runs in the database `PREFIX_FEATURE`, which must be there; with `users` as the user of that name, in the database PREFIX. */
  prefix: string;
  users: boolean;
  /** Of a large result, for servers that make them slowly. */
  rows?: number;
  features: readonly string[];
}

export interface Driver {
  name: string;
  /** Its TLS is OpenSSL 3, whose secrets are seen; else the server's must be. */
  openSsl: boolean;
  features: readonly string[];
  /** Those of them that the server in Go can answer. */
  onGoMySql?: readonly string[];
  /** Environment and words of the command line. */
  command(task: DriverTask): Promise<{ words: string[]; env?: Record<string, string> }>;
}

const packages = (): Promise<string> => pythonPackages('sql-drivers', FOLDER, 'psycopg');

function nodeScript(name: string) {
  return async (task: DriverTask) => ({
    words: [process.execPath, join(FOLDER, `${name}.mjs`), JSON.stringify(task)],
    env: await driverPackages(),
  });
}

function pythonScript(name: string) {
  return async (task: DriverTask) => ({
    words: ['python3', join(FOLDER, `${name}.py`), JSON.stringify(task)],
    env: { PYTHONPATH: await packages(), PYTHONDONTWRITEBYTECODE: '1' },
  });
}

const goProgram = (): Promise<string> => goCached('sql-drivers', join(FOLDER, 'go'), 'drivers');

function goDriver(kind: string) {
  return async (task: DriverTask) => ({ words: [await goProgram(), kind, JSON.stringify(task)] });
}

/** Of Maven Central, with the SHA-256 of each. */
const JARS = [
  [
    'org.postgresql:postgresql:42.7.14',
    'postgresql-42.7.14.jar',
    '73914527305a40cce504b0d3d90b23caf565136912d607ae8ae7c5895512332c',
  ],
  [
    'com.mysql:mysql-connector-j:9.7.0',
    'mysql-connector-j-9.7.0.jar',
    '0353648eaa1c91e0f4020c959abf756bc866ffd583df22ae6b6f6e0cbd43eb44',
  ],
] as const;

/** The class path of the Java drivers and of our program, which is compiled when it is not in the cache. */
async function javaClasses(): Promise<string> {
  const source = join(FOLDER, 'java/Drivers.java');
  const hash = await contentHash([source]);
  const jars = await cached(
    `sql-drivers-jars-${createHash('sha256').update(JSON.stringify(JARS)).digest('hex').slice(0, 12)}`,
    JARS[1][1],
    async (work) => {
      for (const [artifact, file, sha256] of JARS) {
        const goal = ['dependency:copy', `-Dartifact=${artifact}`, `-DoutputDirectory=${work}`];
        await run('mvn', ['-q', '-B', ...goal], { cwd: work, timeoutMs: 300_000 });
        const bytes = await readFile(join(work, file));
        assert.equal(createHash('sha256').update(bytes).digest('hex'), sha256, `${file} is not what it should be`);
      }
    },
  );
  const classes = await cached(`sql-drivers-java-${hash}`, 'Drivers.class', async (work) => {
    await mkdir(join(work, 'sources'));
    await cp(source, join(work, 'sources/Drivers.java'));
    const words = ['-cp', join(jars, '*'), '-d', work, join(work, 'sources/Drivers.java')];
    await run('javac', words, { timeoutMs: 120_000 });
  });
  return `${classes}:${join(jars, '*')}`;
}

function javaDriver(kind: string) {
  return async ({ host, port, user, password, tls, ca, prefix, users, features }: DriverTask) => ({
    words: [
      ...['java', '-Xshare:auto', '-XX:TieredStopAtLevel=1', '-cp', await javaClasses(), 'Drivers', kind, host],
      ...[String(port), user, password, tls ? 'tls' : 'plain', ca, prefix],
      ...[users ? 'users' : 'databases', ...features],
    ],
  });
}

const COMMON = ['plain', 'prepared', 'errors', 'transaction', 'large', 'binary', 'nulls', 'cancel', 'pool'] as const;
const without = (...left: string[]) => COMMON.filter((feature) => !left.includes(feature));

export const POSTGRES_DRIVERS: readonly Driver[] = [
  {
    name: 'psql',
    openSsl: true,
    features: [...without('binary', 'pool'), 'cursor', 'copy', 'multi', 'notify'],
    command: nodeScript('psql'),
  },
  {
    name: 'node_pg',
    openSsl: true,
    features: [...COMMON, 'cursor', 'copy', 'multi', 'notify'],
    command: nodeScript('node-pg'),
  },
  {
    name: 'postgres_js',
    openSsl: true,
    features: [...COMMON, 'pipeline', 'cursor', 'copy', 'multi', 'notify'],
    command: nodeScript('postgres-js'),
  },
  {
    name: 'psycopg3',
    openSsl: true,
    features: [...COMMON, 'pipeline', 'cursor', 'copy', 'multi', 'notify', 'newest'],
    command: pythonScript('psycopg3'),
  },
  {
    name: 'asyncpg',
    openSsl: true,
    features: [...COMMON, 'pipeline', 'cursor', 'copy', 'multi', 'notify'],
    command: pythonScript('asyncpg_driver'),
  },
  {
    name: 'pgx',
    openSsl: false,
    features: [...COMMON, 'pipeline', 'copy', 'multi', 'notify'],
    command: goDriver('pgx'),
  },
  {
    name: 'pgjdbc',
    openSsl: false,
    features: [...COMMON, 'pipeline', 'cursor', 'copy', 'multi'],
    command: javaDriver('postgresql'),
  },
];

export const MYSQL_DRIVERS: readonly Driver[] = [
  {
    name: 'mariadb_cli',
    openSsl: true,
    features: [...without('pool'), 'multi', 'call', 'infile', 'compress', 'session'],
    onGoMySql: ['plain', 'errors', 'transaction', 'binary', 'call', 'session'],
    command: nodeScript('mariadb-cli'),
  },
  {
    name: 'mysql2',
    openSsl: true,
    features: [...COMMON, 'multi', 'call', 'infile', 'compress', 'session'],
    onGoMySql: [...COMMON, 'multi', 'call', 'compress'],
    command: nodeScript('mysql2'),
  },
  {
    name: 'mariadb_js',
    openSsl: true,
    features: [...COMMON, 'pipeline', 'bulk', 'multi', 'call', 'infile', 'compress', 'session'],
    onGoMySql: [...without('large'), 'pipeline', 'multi', 'call'],
    command: nodeScript('mariadb-connector'),
  },
  {
    name: 'pymysql',
    openSsl: true,
    features: [...COMMON, 'multi', 'call', 'infile', 'session'],
    onGoMySql: [...COMMON, 'multi', 'call', 'session'],
    command: pythonScript('pymysql_driver'),
  },
  {
    name: 'go_mysql',
    openSsl: false,
    features: [...COMMON, 'longdata', 'multi', 'call', 'infile', 'compress'],
    onGoMySql: [...COMMON, 'longdata', 'multi', 'compress'],
    command: goDriver('mysql'),
  },
  {
    name: 'connector_j',
    openSsl: false,
    features: [...COMMON, 'cursor', 'bulk', 'multi', 'call', 'compress', 'session'],
    onGoMySql: [...COMMON, 'bulk', 'multi', 'call', 'compress', 'session'],
    command: javaDriver('mysql'),
  },
];

/** Makes ready what the drivers need, so that no test's time goes into it. */
export async function prepareDrivers(): Promise<void> {
  await Promise.all([npmPackages('sql-drivers-node', FOLDER), packages()]);
  await Promise.all([goProgram(), javaClasses()]);
}

/** When a driver was at a feature, in milliseconds since the epoch. */
export interface FeatureTime {
  feature: string;
  startMs: number;
  endMs: number;
}

/**
 * Runs a driver through its task; fails with what it says of the features that failed.
 * @param within before the command line, such as that of a cgroup
 */
export async function runDriver(
  driver: Driver,
  task: DriverTask,
  within: readonly string[] = [],
): Promise<FeatureTime[]> {
  const { words, env } = await driver.command(task);
  const [command, ...args] = [...within, ...words];
  const { exitCode, stdout, stderr } = await runAnyway(command!, args, { timeoutMs: 120_000, ...(env ? { env } : {}) });
  const done = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as FeatureTime & { ok: boolean; error?: string });
  const failures = done.filter(({ ok }) => !ok).map(({ feature, error }) => `${feature}: ${error}`);
  assert.ok(
    exitCode === 0 && done.length === task.features.length && failures.length === 0,
    `${driver.name} ended with ${exitCode} after ${done.length} of ${task.features.length} features\n${failures.join('\n')}\n${stderr}`,
  );
  return done;
}

/** The environment and the words that run one of the Python scripts. */
export async function pythonProgram(name: string): Promise<{ words: string[]; env: Record<string, string> }> {
  const env = { PYTHONPATH: await packages(), PYTHONDONTWRITEBYTECODE: '1' };
  return { words: ['python3', join(FOLDER, `${name}.py`)], env };
}

/** The environment in which a Node script finds the drivers' packages. */
export async function driverPackages(): Promise<{ DRIVER_PACKAGES: string }> {
  return { DRIVER_PACKAGES: await npmPackages('sql-drivers-node', FOLDER) };
}

/** The same as pythonProgram of a Node script. */
export async function nodeProgram(name: string): Promise<{ words: string[]; env: Record<string, string> }> {
  return { words: [process.execPath, join(FOLDER, `${name}.mjs`)], env: await driverPackages() };
}
