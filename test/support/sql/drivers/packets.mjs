/** Values of more than one packet of the MySQL protocol (16 MiB), to and fro. Arguments: the JSON that common.mjs describes, with `database`. */
import { readFileSync } from 'node:fs';
import { expect, load } from './common.mjs';

const { host, port, user, password, database, tls, ca } = JSON.parse(process.argv[2]);
const secure = tls ? { ssl: { ca: readFileSync(ca) } } : {};
const connection = await load('mysql2/promise').createConnection({ host, port, user, password, database, ...secure });
await connection.query('CREATE TABLE IF NOT EXISTS blobs (data longblob)');
const big = Buffer.alloc(20 * 2 ** 20, 'y');
await connection.execute('INSERT INTO blobs VALUES (?)', [big]);
const [[row]] = await connection.query('SELECT data FROM blobs');
expect(big.equals(row.data), 'the same bytes');
// One that fills its packets to the last byte: an empty one follows.
const [[full]] = await connection.query(`SELECT repeat('z', ${2 ** 24 - 1 - 4}) AS full`);
expect(full.full.length === 2 ** 24 - 5, 'all of it');
await connection.query(`SELECT length('${'w'.repeat(17 * 2 ** 20)}') AS long_text`);
await connection.query('DELETE FROM blobs');
await connection.query('SELECT 1 AS after_all');
await connection.end();
