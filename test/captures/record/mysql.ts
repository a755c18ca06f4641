/** MariaDB's protocol in plain text: the command line client, and prepared statements of mysql2. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { startMariaDb } from '../../support/databases/mariadb.ts';
import { run } from '../../support/programs/process.ts';
import { driverPackages } from '../../support/sql/drivers.ts';
import { LINK_ETHERNET, pcapFile } from '../../support/wire/capture-files.ts';
import { LOOPBACK_MTU, type Recording, record, setMtu } from './recorder.ts';

/**
 * At a terminal, the client first asks for the server's version; at `use` it sends COM_INIT_DB, and asks for tables and (COM_FIELD_LIST)
 * columns to complete names with.
 */
const STATEMENTS = `use shop;
create table pet (id BIGINT(10) UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, kind VARCHAR(64) NOT NULL, name VARCHAR(64) NULL DEFAULT NULL) ENGINE = MYISAM;
insert into pet (kind, name) values ("dog", "Waldi");
insert into pet (kind, name) values ("cat", "Mimi");
select * from pet;
delete from pet where name like '%al%';
delete from pet where id = 1;
select count(*) from pet;
select * from pet;
delete from pet;
drop table pet;
`;

const textQueries: Recording = {
  name: 'mysql-text-queries.pcap.gz',
  async make(cleanup) {
    const mariadb = await startMariaDb(cleanup);
    await mariadb.sql('CREATE DATABASE shop; CREATE TABLE shop.owner (id int, name varchar(50))');
    const { host, port, user, password } = mariadb;
    const frames = await record(cleanup, port, async () => {
      const server = ['--no-defaults', '-h', host, '-P', String(port), '-u', user, `-p${password}`, '--skip-ssl'];
      await run('script', ['-qec', ['mariadb', ...server].join(' '), '/dev/null'], { input: STATEMENTS });
    });
    return { file: pcapFile(frames, LINK_ETHERNET) };
  },
};

/** What is used of mysql2, which is not a dependency of the project. */
interface Prepared {
  execute(values: readonly unknown[]): Promise<unknown>;
  close(): Promise<void>;
}
interface Connection {
  prepare(text: string): Promise<Prepared>;
  end(): Promise<void>;
}
interface Mysql2 {
  createConnection(options: object): Promise<Connection>;
}

const COLUMNS = ['first_text', 'second_text', 'third_text', 'a_number', 'a_time', 'a_double', 'last_text'];
const LONG_BYTES = 65_000;
/** Columns that no statement names: what is said of them fills packets. */
const MORE_COLUMNS = Array.from({ length: 180 }, (_, i) => `one_more_${i} int`);

/** One statement that inserts, three times, once with a value of 65 KB; one that reads all. */
const prepared: Recording = {
  name: 'mysql-prepared-big-values.pcap.gz',
  async make(cleanup) {
    await setMtu(LOOPBACK_MTU);
    const mariadb = await startMariaDb(cleanup);
    const types = ['text', 'varchar(50)', 'varchar(50)', 'bigint', 'datetime', 'double', 'mediumtext'];
    const columns = [...COLUMNS.map((name, i) => `${name} ${types[i]}`), ...MORE_COLUMNS].join(', ');
    await mariadb.sql(`CREATE DATABASE demo; CREATE TABLE demo.lots (${columns})`);
    const { DRIVER_PACKAGES } = await driverPackages();
    const mysql = createRequire(join(DRIVER_PACKAGES, 'package.json'))('mysql2/promise') as Mysql2;
    const { host, port, user, password } = mariadb;
    const insert = `\n\tINSERT INTO demo.lots\n\t\t(${COLUMNS.join(',\n\t\t ')})\n\tVALUES ( ${COLUMNS.map(() => '?').join(', ')} )`;
    const frames = await record(cleanup, port, async () => {
      const connection = await mysql.createConnection({ host, port, user, password, database: 'demo' });
      const put = await connection.prepare(insert);
      await put.execute(['one', 'a', 'b', 1, '2026-01-02 03:04:05', 0.5, 'short']);
      await put.execute([null, 'c', null, -2, null, null, '']);
      await put.execute(['three', 'd', 'e', 3, '2026-03-04 05:06:07', 1e100, 'much of it '.repeat(LONG_BYTES / 11)]);
      const read = await connection.prepare('SELECT * FROM demo.lots');
      await read.execute([]);
      await put.close();
      await read.close();
      await connection.end();
    });
    return { file: pcapFile(frames, LINK_ETHERNET) };
  },
};

export const MYSQL_RECORDINGS: readonly Recording[] = [textQueries, prepared];
