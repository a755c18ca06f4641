/** PostgreSQL by pg: the simple query protocol for plain texts, the extended one for texts with parameters. */
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BLOB, expect, fails, load, main, sleep } from './common.mjs';

const { Client, Pool } = load('pg');
const Cursor = load('pg-cursor');
const { from: copyFrom, to: copyTo } = load('pg-copy-streams');

const config = (database, { host, port, user, password, tls, ca, direct }) => ({
  ...{ host, port, user, password, database },
  ssl: tls ? { ca: readFileSync(ca) } : false,
  ...(direct ? { sslnegotiation: 'direct' } : {}),
});

const connected = (work) => async (database, settings) => {
  const client = new Client(config(database, settings));
  client.on('error', () => {});
  await client.connect();
  try {
    await work(client, database, settings);
  } finally {
    await client.end();
  }
};

await main({
  plain: connected(async (client) => {
    await client.query('CREATE TABLE item (id int PRIMARY KEY, name text)');
    await client.query("INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')");
    const { rows } = await client.query("SELECT id, name FROM item WHERE name = 'it''s two'");
    expect(rows.length === 1, 'one row');
    await client.query("UPDATE item SET name = 'changed' WHERE id > 1");
    await client.query('DELETE FROM item WHERE id = 3');
    await client.query('');
    await client.query('SELECT count(*) FROM item');
  }),
  prepared: connected(async (client) => {
    await client.query('CREATE TABLE item (id int PRIMARY KEY, name text)');
    for (let id = 0; id < 10; id++)
      await client.query({ name: 'put', text: 'INSERT INTO item VALUES ($1, $2)', values: [id, `n${id}`] });
    for (let id = 0; id < 10; id++) {
      const { rows } = await client.query({ name: 'get', text: 'SELECT name FROM item WHERE id >= $1', values: [id] });
      expect(rows.length === 10 - id, `${10 - id} rows`);
    }
    await client.query('SELECT $1::int + $2::int AS sum', [1, 2]);
  }),
  errors: connected(async (client) => {
    await client.query('CREATE TABLE item (id int PRIMARY KEY)');
    await fails(client.query('SELECT nope FROM nowhere'));
    await fails(client.query('SELEC 1'));
    await fails(client.query('INSERT INTO item VALUES (1), (1)'));
    await fails(client.query('SELECT 1 / $1::int', [0]));
    await fails(client.query('SELECT nope FROM nowhere WHERE x = $1', [1]));
    await client.query('SELECT 1 AS fine');
  }),
  transaction: connected(async (client) => {
    await client.query('CREATE TABLE item (id int PRIMARY KEY)');
    for (const end of ['COMMIT', 'ROLLBACK']) {
      await client.query('BEGIN');
      await client.query('INSERT INTO item VALUES ($1)', [end.length]);
      await client.query(end);
    }
    await client.query('BEGIN');
    await fails(client.query('SELECT nope'));
    await fails(client.query('SELECT 1 AS in_failed'));
    await client.query('ROLLBACK');
    const { rows } = await client.query('SELECT count(*)::int AS n FROM item');
    expect(rows[0].n === 1, 'one row');
  }),
  large: connected(async (client) => {
    const text = "SELECT g, repeat('x', 100) AS filler FROM generate_series(1, 20000) g";
    expect((await client.query(text)).rows.length === 20_000, '20,000 rows');
    expect((await client.query(`${text} WHERE g > $1`, [0])).rows.length === 20_000, '20,000 rows');
  }),
  binary: connected(async (client) => {
    await client.query('CREATE TABLE blobs (data bytea)');
    await client.query('INSERT INTO blobs VALUES ($1)', [BLOB]);
    const { rows } = await client.query('SELECT data FROM blobs WHERE length(data) > $1', [1]);
    await client.query({
      text: 'SELECT data AS in_binary FROM blobs WHERE length(data) > $1',
      values: [1],
      binary: true,
    });
    expect(BLOB.equals(rows[0].data), 'the same bytes');
  }),
  nulls: connected(async (client) => {
    await client.query('CREATE TABLE item (a int, b text)');
    await client.query('INSERT INTO item VALUES ($1, $2)', [null, null]);
    await client.query('INSERT INTO item VALUES (NULL, NULL)');
    expect((await client.query('SELECT a, b, NULL FROM item')).rows.length === 2, 'two rows');
  }),
  cancel: connected(async (client, database, settings) => {
    const query = new (load('pg').Query)('SELECT pg_sleep(20)');
    const ended = new Promise((resolve, reject) => query.on('end', resolve).on('error', reject));
    ended.catch(() => {});
    client.query(query);
    await sleep(200);
    new Client(config(database, { ...settings, tls: false, direct: false })).cancel(client, query);
    expect((await fails(ended)).code === '57014', 'that it was cancelled');
    await client.query('SELECT 1 AS after_cancel');
  }),
  async pool(database, settings) {
    const pool = new Pool({ ...config(database, settings), max: 4 });
    await Promise.all(Array.from({ length: 40 }, (_, index) => pool.query('SELECT $1::int AS pooled', [index])));
    await pool.end();
  },
  cursor: connected(async (client) => {
    const cursor = client.query(new Cursor('SELECT g FROM generate_series(1, $1::int) g', [20]));
    let count = 0;
    for (let rows = await cursor.read(7); rows.length > 0; rows = await cursor.read(7)) count += rows.length;
    expect(count === 20, '20 rows');
    await cursor.close();
    // Given up before its end.
    const other = client.query(new Cursor('SELECT g AS partly FROM generate_series(1, $1::int) g', [20]));
    await other.read(5);
    await other.close();
    await client.query('SELECT 1 AS after_cursor');
  }),
  copy: connected(async (client) => {
    await client.query('CREATE TABLE item (id int, name text)');
    const lines = Array.from({ length: 1000 }, (_, id) => `${id}\tname ${id}\n`);
    await pipeline(Readable.from([lines.join('')]), client.query(copyFrom('COPY item FROM STDIN')));
    let bytes = 0;
    for await (const chunk of client.query(copyTo('COPY item TO STDOUT'))) bytes += chunk.length;
    expect(bytes === lines.join('').length, 'the same bytes');
    await fails(pipeline(Readable.from(['1\t2\t3\n']), client.query(copyFrom('COPY item FROM STDIN'))));
    await client.query('SELECT count(*) FROM item');
  }),
  multi: connected(async (client) => {
    const results = await client.query(
      'SELECT 1 AS a; SELECT g AS b FROM generate_series(1, 3) g; CREATE TABLE made (id int)',
    );
    expect(results.length === 3, 'three results');
    await fails(client.query('SELECT 1 AS good; SELECT nope AS bad; SELECT 3 AS never'));
  }),
  notify: connected(async (client) => {
    let heard = 0;
    client.on('notification', () => {
      heard += 1;
    });
    await client.query('LISTEN news');
    await client.query("NOTIFY news, 'something'");
    await client.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
    await client.query('SELECT 1 AS after_notice');
    expect(heard === 1, 'one notification');
  }),
});
