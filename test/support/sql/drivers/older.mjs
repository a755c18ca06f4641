/**
 * A connection that is older than the agent: prepares a statement, says `ready`, and runs a round of statements for each line of standard
 * input, after which it says `done N`. Arguments: `postgresql` or `mysql`, and the JSON that common.mjs describes, with `database`.
 */
import { createInterface } from 'node:readline';
import { load } from './common.mjs';

const { host, port, user, password, database } = JSON.parse(process.argv[3]);
const options = { host, port, user, password, database };

async function postgresql() {
  const client = new (load('pg').Client)(options);
  await client.connect();
  const prepared = { name: 'early', text: 'SELECT $1::int AS early' };
  await client.query({ ...prepared, values: [0] });
  return async (round) => {
    await client.query({ ...prepared, values: [round] });
    await client.query(`SELECT ${round} AS simple`);
    await client.query({ name: `late${round}`, text: `SELECT $1::int AS late, ${round}`, values: [round] });
    await client.query('SELECT g FROM generate_series(1, 100) g');
  };
}

async function mysql() {
  const connection = await load('mysql2/promise').createConnection(options);
  await connection.execute('SELECT ? AS early', [0]);
  return async (round) => {
    await connection.execute('SELECT ? AS early', [round]);
    await connection.query(`SELECT ${round} AS simple`);
    await connection.execute(`SELECT ? AS late, ${round}`, [round]);
    await connection.query('SELECT 1 AS g UNION SELECT 2 UNION SELECT 3');
  };
}

const runRound = await { postgresql, mysql }[process.argv[2]]();
process.stdout.write('ready\n');
let round = 0;
for await (const _ of createInterface({ input: process.stdin })) {
  round += 1;
  await runRound(round);
  process.stdout.write(`done ${round}\n`);
}
process.exit(0);
