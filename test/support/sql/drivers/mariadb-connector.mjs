/** MariaDB by its own connector: pipelines, bulk executions, cached metadata. */
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BLOB, expect, fails, load, main, sleep } from './common.mjs';

const mariadb = load('mariadb');

const config = (database, { host, port, user, password, tls, ca }, more = {}) => ({
  ...{ host, port, user, password, database, trace: false },
  ...(tls ? { ssl: { ca: readFileSync(ca) } } : {}),
  ...more,
});

const connected =
  (work, more = {}) =>
  async (database, settings) => {
    const connection = await mariadb.createConnection(config(database, settings, more));
    connection.on('error', () => {});
    try {
      await work(connection, database, settings);
    } finally {
      await connection.end().catch(() => {});
    }
  };

const LARGE = "SELECT seq, repeat('x', 100) AS filler FROM seq_1_to_20000";

await main({
  plain: connected(async (c) => {
    await c.query('CREATE TABLE item (id int PRIMARY KEY, name varchar(50))');
    await c.query("INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')");
    await c.query("SELECT id, name FROM item WHERE name = 'it''s two'");
    await c.query("UPDATE item SET name = 'changed' WHERE id > 1");
    await c.query('DELETE FROM item WHERE id = 3');
    await c.query('SELECT count(*) FROM item');
  }),
  prepared: connected(async (c) => {
    await c.query('CREATE TABLE item (id int PRIMARY KEY, name varchar(50))');
    const put = await c.prepare('INSERT INTO item VALUES (?, ?)');
    for (let id = 0; id < 10; id++) await put.execute([id, `n${id}`]);
    put.close();
    for (let id = 0; id < 10; id++) await c.execute('SELECT name FROM item WHERE id >= ?', [id]);
  }),
  errors: connected(async (c) => {
    await c.query('CREATE TABLE item (id int PRIMARY KEY)');
    await fails(c.query('SELECT nope FROM nowhere'));
    await fails(c.query('SELEC 1'));
    await fails(c.query('INSERT INTO item VALUES (1), (1)'));
    await c.execute('INSERT INTO item VALUES (?)', [7]);
    await fails(c.execute('INSERT INTO item VALUES (?)', [7]));
    await c.query('SELECT 1 AS fine');
  }),
  transaction: connected(async (c) => {
    await c.query('CREATE TABLE item (id int PRIMARY KEY)');
    await c.beginTransaction();
    await c.execute('INSERT INTO item VALUES (?)', [1]);
    await c.commit();
    await c.beginTransaction();
    await c.execute('INSERT INTO item VALUES (?)', [2]);
    await c.rollback();
    await c.query('SELECT count(*) FROM item');
  }),
  large: connected(async (c) => {
    expect((await c.query(LARGE)).length === 20_000, '20,000 rows');
    expect((await c.execute(LARGE)).length === 20_000, '20,000 rows');
    let count = 0;
    for await (const _ of c.queryStream(LARGE)) count += 1;
    expect(count === 20_000, '20,000 rows');
  }),
  binary: connected(async (c) => {
    await c.query('CREATE TABLE blobs (data longblob)');
    await c.execute('INSERT INTO blobs VALUES (?)', [BLOB]);
    const rows = await c.execute('SELECT data FROM blobs WHERE length(data) > ?', [2000]);
    expect(BLOB.equals(rows[0].data), 'the same bytes');
  }),
  nulls: connected(async (c) => {
    await c.query('CREATE TABLE item (a int, b varchar(50))');
    await c.execute('INSERT INTO item VALUES (?, ?)', [null, null]);
    await c.query('SELECT a, b, NULL FROM item');
    await c.execute('SELECT a, b, NULL FROM item');
  }),
  cancel: connected(async (c, database, settings) => {
    const slept = c.query('SELECT sleep(20) FROM (SELECT 1 AS one UNION SELECT 2) AS two');
    slept.catch(() => {});
    await sleep(300);
    const other = await mariadb.createConnection(config(database, settings));
    await other.query(`KILL QUERY ${c.threadId}`);
    await other.end();
    await slept.catch(() => {});
    await c.query('SELECT 1 AS after_cancel');
  }),
  async pool(database, settings) {
    const pool = mariadb.createPool(config(database, settings, { connectionLimit: 4, minimumIdle: 4 }));
    await Promise.all(Array.from({ length: 40 }, (_, index) => pool.execute('SELECT ? AS pooled', [index])));
    await pool.end();
  },
  pipeline: connected(async (c) => {
    // All are sent before the first is answered.
    const all = Array.from({ length: 30 }, (_, index) =>
      c.query(index === 15 ? 'SELECT nope' : `SELECT ${index} AS piped`),
    );
    const ends = await Promise.allSettled(all);
    expect(ends.filter(({ status }) => status === 'rejected').length === 1, 'one failure');
  }),
  bulk: connected(async (c) => {
    await c.query('CREATE TABLE item (id int PRIMARY KEY, name varchar(50))');
    const rows = Array.from({ length: 500 }, (_, id) => [id, id % 10 === 0 ? null : `name ${id}`]);
    const { affectedRows } = await c.batch('INSERT INTO item VALUES (?, ?)', rows);
    expect(affectedRows === 500, '500 rows');
    await fails(c.batch('INSERT INTO item VALUES (?, ?)', rows.slice(0, 3)));
    await c.query('SELECT count(*) FROM item');
  }),
  multi: connected(
    async (c) => {
      const results = await c.query('SELECT 1 AS a; SELECT 2 AS b UNION SELECT 3; CREATE TABLE made (id int)');
      expect(results.length === 3, 'three results');
      await fails(c.query('SELECT 1 AS good; SELECT nope AS bad; SELECT 3 AS never'));
    },
    { multipleStatements: true },
  ),
  call: connected(async (c) => {
    await c.query('CREATE PROCEDURE twice (IN n int) BEGIN SELECT n AS once; SELECT n * 2 AS doubled; END');
    await c.query('CALL twice(21)');
    await c.execute('CALL twice(?)', [21]);
    await c.query('SELECT 1 AS after_call');
  }),
  infile: connected(
    async (c) => {
      await c.query('CREATE TABLE item (id int, name varchar(50))');
      const file = join(tmpdir(), `wirespan-lines-${process.pid}`);
      writeFileSync(file, Array.from({ length: 1000 }, (_, id) => `${id}\tname ${id}\n`).join(''));
      await c.query(`LOAD DATA LOCAL INFILE '${file}' INTO TABLE item`);
      writeFileSync(file, '');
      await c.query(`LOAD DATA LOCAL INFILE '${file}' INTO TABLE item`);
      await fails(c.query(`LOAD DATA LOCAL INFILE '${file}-missing' INTO TABLE item`));
      await c.query('SELECT count(*) FROM item');
      (await import('node:fs')).rmSync(file);
    },
    { permitLocalInfile: true },
  ),
  compress: connected(
    async (c) => {
      await c.query(LARGE);
      await c.execute('SELECT ? AS squeezed', ['x'.repeat(50_000)]);
      await c.query('SELECT 1 AS small');
    },
    { compress: true },
  ),
  session: connected(async (c, database, { user, password }) => {
    await c.ping();
    await c.query(`USE ${database.replace(/_session$/, '_plain')}`);
    await c.query('SELECT count(*) AS elsewhere FROM item');
    await c.reset();
    await c.changeUser({ user, password, database });
    await c.query('SELECT 1 AS after_change');
  }),
});
