/**
 * `node orders.mjs CERT KEY DATABASE-AS-JSON`: GET /orders/N reads an order and notes the visit. Every fifth order is of a campaign whose
 * table is not there: 500. See shop.ts.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { serve } from './serve.mjs';

const { Pool } = createRequire(`${process.env.DRIVER_PACKAGES}/package.json`)('pg');
const { ca, ...database } = JSON.parse(process.argv[4]);
const pool = new Pool({ ...database, max: 4, idleTimeoutMillis: 0, ssl: { ca: readFileSync(ca) } });

serve(async (request, response) => {
  const id = Number(request.url.split('/').at(-1));
  const { traceparent } = request.headers;
  // https://google.github.io/sqlcommenter/
  const comment = traceparent === undefined ? '' : ` /*traceparent='${traceparent}'*/`;
  try {
    const { rows } = await pool.query(`SELECT item, price(item) AS price FROM orders WHERE id = $1${comment}`, [id]);
    await pool.query(`INSERT INTO visits (order_id) VALUES ($1)${comment}`, [id]);
    if (id % 5 === 0) await pool.query(`SELECT discount FROM campaigns WHERE order_id = $1${comment}`, [id]);
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(rows));
  } catch {
    response.writeHead(500).end();
  }
});
