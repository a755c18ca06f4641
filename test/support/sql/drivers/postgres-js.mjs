/** PostgreSQL by postgres.js: pipelines by itself, prepares every statement with parameters. */
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BLOB, expect, fails, load, main, sleep } from './common.mjs';

const postgres = load('postgres');

const connected =
  (work, more = {}) =>
  async (database, { host, port, user, password, tls, ca }) => {
    const sql = postgres({
      ...{ host, port, user, password, database, max: 1, onnotice: () => {} },
      ssl: tls ? { ca: readFileSync(ca) } : false,
      ...more,
    });
    try {
      await work(sql);
    } finally {
      await sql.end({ timeout: 5 });
    }
  };

await main({
  plain: connected(async (sql) => {
    await sql`CREATE TABLE item (id int PRIMARY KEY, name text)`.simple();
    await sql.unsafe("INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')");
    expect((await sql.unsafe("SELECT id, name FROM item WHERE name = 'it''s two'")).length === 1, 'one row');
    await sql`UPDATE item SET name = 'changed' WHERE id > 1`.simple();
    await sql`DELETE FROM item WHERE id = 3`;
    await sql`SELECT count(*) FROM item`;
  }),
  prepared: connected(async (sql) => {
    await sql`CREATE TABLE item (id int PRIMARY KEY, name text)`;
    for (let id = 0; id < 10; id++) await sql`INSERT INTO item VALUES (${id}, ${`n${id}`})`;
    for (let id = 0; id < 10; id++) await sql`SELECT name FROM item WHERE id >= ${id}`;
  }),
  errors: connected(async (sql) => {
    await sql`CREATE TABLE item (id int PRIMARY KEY)`;
    await fails(sql`SELECT nope FROM nowhere`);
    await fails(sql`SELEC 1`.simple());
    await fails(sql`INSERT INTO item VALUES (${1}), (${1})`);
    await fails(sql`SELECT 1 / ${0}::int`);
    await sql`SELECT 1 AS fine`;
  }),
  transaction: connected(async (sql) => {
    await sql`CREATE TABLE item (id int PRIMARY KEY)`;
    await sql.begin(async (inside) => {
      await inside`INSERT INTO item VALUES (${1})`;
      await inside.savepoint(async (deeper) => {
        await deeper`INSERT INTO item VALUES (${2})`;
      });
    });
    await fails(
      sql.begin(async (inside) => {
        await inside`INSERT INTO item VALUES (${3})`;
        throw new Error('no');
      }),
    );
    await sql`SELECT count(*) FROM item`;
  }),
  large: connected(async (sql) => {
    const rows = await sql`SELECT g, repeat('x', 100) AS filler FROM generate_series(1, ${20_000}::int) g`;
    expect(rows.length === 20_000, '20,000 rows');
  }),
  binary: connected(async (sql) => {
    await sql`CREATE TABLE blobs (data bytea)`;
    await sql`INSERT INTO blobs VALUES (${BLOB})`;
    expect(BLOB.equals((await sql`SELECT data FROM blobs`)[0].data), 'the same bytes');
  }),
  nulls: connected(async (sql) => {
    await sql`CREATE TABLE item (a int, b text)`;
    await sql`INSERT INTO item VALUES (${null}, ${null})`;
    await sql`SELECT a, b, NULL FROM item`;
  }),
  cancel: connected(async (sql) => {
    const query = sql`SELECT pg_sleep(20)`;
    query.catch(() => {});
    query.execute();
    await sleep(300);
    query.cancel();
    expect((await fails(query)).code === '57014', 'that it was cancelled');
    await sql`SELECT 1 AS after_cancel`;
  }),
  pool: connected(
    async (sql) => {
      await Promise.all(Array.from({ length: 40 }, (_, index) => sql`SELECT ${index}::int AS pooled`));
    },
    { max: 4 },
  ),
  pipeline: connected(async (sql) => {
    await sql`CREATE TABLE item (id int PRIMARY KEY)`;
    // One connection: all are sent before the first is answered. One fails; each has its own Sync.
    const all = Array.from({ length: 50 }, (_, index) => sql`INSERT INTO item VALUES (${index === 25 ? 24 : index})`);
    const ends = await Promise.allSettled(all);
    expect(ends.filter(({ status }) => status === 'rejected').length === 1, 'one failure');
  }),
  cursor: connected(async (sql) => {
    let count = 0;
    await sql`SELECT g FROM generate_series(1, 20) g`.cursor(7, (rows) => {
      count += rows.length;
    });
    expect(count === 20, '20 rows');
    for await (const _ of sql`SELECT g AS partly FROM generate_series(1, 20) g`.cursor(5)) break;
    await sql`SELECT 1 AS after_cursor`;
  }),
  copy: connected(async (sql) => {
    await sql`CREATE TABLE item (id int, name text)`;
    const text = Array.from({ length: 1000 }, (_, id) => `${id}\tname ${id}\n`).join('');
    await pipeline(Readable.from([text]), await sql`COPY item FROM STDIN`.writable());
    let bytes = 0;
    for await (const chunk of await sql`COPY item TO STDOUT`.readable()) bytes += chunk.length;
    expect(bytes === text.length, 'the same bytes');
  }),
  multi: connected(async (sql) => {
    await sql`SELECT 1 AS a; SELECT g AS b FROM generate_series(1, 3) g; CREATE TABLE made (id int)`.simple();
  }),
  notify: connected(
    async (sql) => {
      let heard;
      const hears = new Promise((resolve) => {
        heard = resolve;
      });
      await sql.listen('news', heard);
      await sql.notify('news', 'something');
      await hears;
    },
    { max: 2 },
  ),
});
