/** PostgreSQL: psql in plain text, and a session within TLS 1.2. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startPostgres } from '../../support/databases/postgres.ts';
import { run, runAnyway } from '../../support/programs/process.ts';
import { pythonProgram } from '../../support/sql/drivers.ts';
import { LINK_ETHERNET, pcapFile } from '../../support/wire/capture-files.ts';
import { type Recording, record } from './recorder.ts';

/** A transaction that fails in its middle, and the same statements each on its own. */
const STATEMENTS = `BEGIN;
DELETE FROM guest WHERE name = 'Anna';
DELETE FROM guest WHERE name = 'Boris';
DELETE FROM guest WHERE name = 'Clara';
DELETE FROM guest WHERE name = 'Dirk';
COMMIT;
BEGIN;
INSERT INTO guest VALUES ('Anna', 'anna@mail.example');
INSERT INTO guest VALUES ('Boris', 'boris@mail.example');
SELECT 1/0;
INSERT INTO guest VALUES ('Clara', 'clara@mail.example');
INSERT INTO guest VALUES ('Dirk', 'dirk@mail.example');
SELECT * FROM guest;
COMMIT;
BEGIN;
INSERT INTO guest VALUES ('Anna', 'anna@mail.example');
COMMIT;
INSERT INTO guest VALUES ('Boris', 'boris@mail.example');
SELECT 1/0;
INSERT INTO guest VALUES ('Clara', 'clara@mail.example');
INSERT INTO guest VALUES ('Dirk', 'dirk@mail.example');
SELECT * FROM guest;
`;

/** psql asks for TLS, is refused, logs in by SCRAM and runs a script. */
const failedTransaction: Recording = {
  name: 'postgresql-failed-transaction.pcap.gz',
  async make(cleanup) {
    const postgres = await startPostgres(cleanup, { config: ['ssl = off'] });
    const names = ['Anna', 'Boris', 'Clara', 'Dirk', 'Emil', 'Fatima', 'Georg', 'Hanna'];
    await postgres.sql([
      'CREATE TABLE guest (name text, mail text)',
      `INSERT INTO guest VALUES ${names.map((name) => `('${name}', '${name.toLowerCase()}@mail.example')`).join(', ')}`,
    ]);
    const frames = await record(cleanup, postgres.port, async () => {
      await run('psql', ['-X', '-q'], { env: { ...postgres.env(), PGSSLMODE: 'prefer' }, input: STATEMENTS });
    });
    return { file: pcapFile(frames, LINK_ETHERNET) };
  },
};

/** libpq 18, which psycopg brings, writes down the secrets. */
const SESSION = `
import sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    connection.execute("SET client_min_messages TO WARNING;")
    try:
        connection.execute("CREATE TABLE foo(num id);")
        raise SystemExit("there is a type id")
    except psycopg.errors.UndefinedObject:
        pass
    connection.execute("CREATE TABLE foo(num integer);")
    connection.execute("INSERT INTO foo(num) VALUES (2), (3);")
    assert len(connection.execute("SELECT * FROM foo;").fetchall()) == 2
`;

const withinTls: Recording = {
  name: 'postgresql-tls12.pcap.gz',
  async make(cleanup) {
    const postgres = await startPostgres(cleanup, { config: [`ssl_ciphers = 'ECDHE-ECDSA-AES256-GCM-SHA384'`] });
    await postgres.sql(['CREATE DATABASE testdb']);
    const folder = await cleanup.temporaryFolder();
    const keyLog = join(folder, 'secrets');
    await writeFile(join(folder, 'session.py'), SESSION);
    const { host, port, user, password } = postgres;
    const server = `host=${host} port=${port} user=${user} password=${password} dbname=testdb gssencmode=disable`;
    const tls = `sslmode=require ssl_max_protocol_version=TLSv1.2 sslkeylogfile=${keyLog}`;
    const { env } = await pythonProgram('psycopg3');
    const frames = await record(cleanup, port, async () => {
      await run('python3', [join(folder, 'session.py'), `${server} ${tls}`], { env });
    });
    return { file: pcapFile(frames, LINK_ETHERNET), keyLog: await readFile(keyLog, 'utf8') };
  },
};

/** Statements of one pipeline. */
const BENCH = `\\set id random(0, 19)
\\startpipeline
BEGIN;
UPDATE item SET name = 'bench' WHERE id = :id;
SELECT count(*) FROM item;
END;
\\endpipeline
`;

/** PostgreSQL 18, and what several drivers send beyond single queries. */
const drivers: Recording = {
  name: 'postgresql18-drivers.pcap.gz',
  async make(cleanup) {
    const postgres = await startPostgres(cleanup, { version: '18' });
    const bench = join(await cleanup.temporaryFolder(), 'bench.sql');
    await writeFile(bench, BENCH);
    const { host, port, user, password } = postgres;
    const { env } = await pythonProgram('psycopg3');
    const inPlain = { env: postgres.env() };
    const script = fileURLToPath(new URL('postgres-drivers.py', import.meta.url));
    const frames = await record(cleanup, port, async () => {
      await run('python3', [script, host, String(port), user, password], { env });
      await runAnyway('psql', ['-Xqc', 'select 1; select 2; select 1/0; select 3'], inPlain);
      await run('psql', ['-Xqc', 'begin; select 1; commit; select 4'], inPlain);
      await run('pgbench', ['--initialize', '--init-steps=dtpf', '--quiet'], inPlain);
      const words = ['--no-vacuum', '--protocol=extended', '--client=2', '--transactions=5', `--file=${bench}`];
      await run('pgbench', words, inPlain);
    });
    return { file: pcapFile(frames, LINK_ETHERNET) };
  },
};

export const POSTGRES_RECORDINGS: readonly Recording[] = [failedTransaction, withinTls, drivers];
