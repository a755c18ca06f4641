/** MySQL and MariaDB by mysql2: COM_QUERY by query(), prepared statements by execute(). */
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { BLOB, expect, fails, load, main, sleep } from './common.mjs';

const mysql = load('mysql2/promise');

const config = (database, { host, port, user, password, tls, ca }, more = {}) => ({
  ...{ host, port, user, password, database },
  ...(tls ? { ssl: { ca: readFileSync(ca), verifyIdentity: true } } : {}),
  ...more,
});

const connected =
  (work, more = {}) =>
  async (database, settings) => {
    const connection = await mysql.createConnection(config(database, settings, more));
    connection.on('error', () => {});
    try {
      await work(connection, database, settings);
    } finally {
      await connection.end().catch(() => {});
    }
  };

const plain = async (c) => {
  await c.query('CREATE TABLE item (id int PRIMARY KEY, name varchar(50))');
  await c.query("INSERT INTO item VALUES (1, 'one'), (2, 'it\\'s two'), (3, 'three')");
  const [rows] = await c.query('SELECT id, name FROM item WHERE name = "it\'s two"');
  expect(rows.length === 1, 'one row');
  await c.query("UPDATE item SET name = 'changed' WHERE id > 1");
  await c.query('DELETE FROM item WHERE id = 3');
  await c.query('SELECT count(*) FROM item');
};

const large = async (c, _database, { rows: count = 20_000 }) => {
  const text = `WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 100)
    SELECT a.n, repeat('x', 100) AS filler FROM seq a, seq b LIMIT ${Math.min(count, 10_000)}`;
  expect((await c.query(text))[0].length === Math.min(count, 10_000), 'all rows');
  expect((await c.execute(text))[0].length === Math.min(count, 10_000), 'all rows');
};

await main({
  plain: connected(plain),
  prepared: connected(async (c) => {
    await c.query('CREATE TABLE item (id int PRIMARY KEY, name varchar(50))');
    for (let id = 0; id < 10; id++) await c.execute('INSERT INTO item VALUES (?, ?)', [id, `n${id}`]);
    for (let id = 0; id < 10; id++) {
      const [rows] = await c.execute('SELECT name FROM item WHERE id >= ?', [id]);
      expect(rows.length === 10 - id, `${10 - id} rows`);
    }
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
  large: connected(large),
  binary: connected(async (c) => {
    await c.query('CREATE TABLE blobs (data longblob)');
    await c.execute('INSERT INTO blobs VALUES (?)', [BLOB]);
    await c.query('INSERT INTO blobs VALUES (?)', [BLOB.subarray(0, 1000)]);
    const [rows] = await c.execute('SELECT data FROM blobs WHERE length(data) > ?', [2000]);
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
    const other = await mysql.createConnection(config(database, settings));
    await other.query(`KILL QUERY ${c.threadId}`);
    await other.end();
    await slept.catch(() => {});
    await c.query('SELECT 1 AS after_cancel');
  }),
  async pool(database, settings) {
    const pool = mysql.createPool(config(database, settings, { connectionLimit: 4 }));
    await Promise.all(Array.from({ length: 40 }, (_, index) => pool.execute('SELECT ? AS pooled', [index])));
    await pool.end();
  },
  multi: connected(
    async (c) => {
      const [results] = await c.query('SELECT 1 AS a; SELECT 2 AS b UNION SELECT 3; CREATE TABLE made (id int)');
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
  infile: connected(async (c) => {
    await c.query('CREATE TABLE item (id int, name varchar(50))');
    const lines = Array.from({ length: 1000 }, (_, id) => `${id}\tname ${id}\n`);
    await c.query({
      sql: "LOAD DATA LOCAL INFILE 'lines' INTO TABLE item",
      infileStreamFactory: () =>
        Readable.from([lines.slice(0, 500), lines.slice(500)].map((part) => Buffer.from(part.join('')))),
    });
    const [[{ n }]] = await c.query('SELECT count(*) AS n FROM item');
    expect(n === 1000, '1,000 rows');
  }),
  compress: connected(
    async (c, database, settings) => {
      await plain(c);
      await large(c, database, settings);
      await c.execute('SELECT ? AS squeezed', ['x'.repeat(50_000)]);
    },
    { compress: true },
  ),
  session: connected(async (c, database) => {
    await c.ping();
    await c.query(`USE ${database.replace(/_session$/, '_plain')}`);
    await c.query('SELECT count(*) AS elsewhere FROM item');
    await c.changeUser({ database });
    await c.query('SELECT 1 AS after_change');
    await c.reset?.();
    await c.query('SELECT 1 AS after_reset');
  }),
});
