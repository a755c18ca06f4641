/**
 * Statements full of secrets, by pg and pg-copy-streams or by mysql2 and mariadb: in literals of every form, comments, bound parameters, copied
 * rows, results and errors. Argument: JSON of {dialect, host, port, user, password, database, ca, secret, card}; each statement gets a secret of its
 * own, which begins with `secret`. Says how many statements it has sent.
 */
import { readFileSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { load } from './common.mjs';

const { dialect, ca, secret, card, ...connection } = JSON.parse(process.argv[2]);
let sent = 0;
const planted = () => `${secret}-${sent}`;
const spaced = card.replace(/(.{4})(?!$)/g, '$1 ');
const dashed = card.replace(/(.{4})(?!$)/g, '$1-');

/** Runs one that may fail. */
async function attempt(run, text, values) {
  sent++;
  try {
    return await run(text, values);
  } catch {
    return undefined;
  }
}

async function postgres() {
  const { Client } = load('pg');
  const { from } = load('pg-copy-streams');
  const client = new Client({ ...connection, ssl: { ca: readFileSync(ca) } });
  client.on('error', () => {});
  await client.connect();
  const query = (text, values) => attempt((...words) => client.query(...words), text, values);
  await query('CREATE TABLE cards (id int PRIMARY KEY, number text UNIQUE)');
  await query(`INSERT INTO cards VALUES (1, '${card}')`);
  await query(`INSERT INTO cards VALUES (2, E'${spaced}\\n'), (3, $tag$${dashed}$tag$), (4, U&'${planted()}')`);
  await query(`SELECT ${card} = id, ${card}.5, '${planted()}'::text FROM cards`);
  // The server says the value in its error, the second one in its detail.
  await query(`INSERT INTO cards VALUES (5, '${card}')`);
  await query(`SELECT '${planted()}'::int`);
  await query(`SELECT '${planted()}' FRM cards`);
  await query(`SELECT '${planted()}`);
  await query(`SELECT "${planted()}`);
  await query(`CREATE ROLE planted PASSWORD '${planted()}'`);
  await query(`ALTER ROLE planted PASSWORD '${planted()}'`);
  await query(`SELECT 1 /* ${planted()} /* nested ${card} */ */ -- ${planted()}`);
  await query(`SELECT 1 /*traceparent='${planted()}'*/`);
  await query(`DO $$ BEGIN PERFORM '${planted()}'; END $$`);
  await query(`NOTIFY channel, '${planted()}'`);
  await query('PREPARE find AS SELECT * FROM cards WHERE number = $1');
  await query(`EXECUTE find('${card}')`);
  await query('DROP ROLE planted');
  await query('SELECT number FROM cards WHERE number = $1', [card]);
  await query('SELECT $1::text || $2::text AS token', [planted(), card]);
  await query('SELECT $1::int', [planted()]);
  sent++;
  const rows = client.query(from('COPY cards FROM STDIN'));
  await pipeline(async function* () {
    yield `6\t${planted()}\n7\t${card}x\n`;
  }, rows);
  await query('SELECT * FROM cards');
  await client.end();
}

async function mysql() {
  const ssl = { ca: readFileSync(ca) };
  const client = await load('mysql2/promise').createConnection({ ...connection, ssl, multipleStatements: true });
  client.on('error', () => {});
  const query = (text) => attempt((words) => client.query(words), text);
  const execute = (text, values) => attempt((...words) => client.execute(...words), text, values);
  await query('CREATE TABLE cards (id int PRIMARY KEY, number varchar(200) UNIQUE)');
  await query(
    `INSERT INTO cards VALUES (1, '${card}'), (2, "${spaced}"), (3, _utf8mb4'${dashed}'), (4, N'${planted()}')`,
  );
  await query(`SELECT ${card} = id, ${card}.5, 'it\\'s ${planted()}', "say \\"${planted()}\\"" FROM cards`);
  await query(`INSERT INTO cards VALUES (5, '${card}')`);
  await query(`SELECT '${planted()}' FRM cards`);
  await query(`SELECT '${planted()}`);
  await query(`SELECT "${planted()}`);
  await query(`CREATE USER planted IDENTIFIED BY '${planted()}'`);
  await query(`SET PASSWORD FOR planted = PASSWORD('${planted()}')`);
  await query('DROP USER planted');
  await query(`SET @token = '${planted()}'`);
  await query(`SELECT 1 # ${planted()}`);
  await query(`SELECT 1 /* ${planted()} ${card} */ -- ${planted()}`);
  await query(`SELECT /*!50000 '${planted()}', */ 1`);
  await query(`SELECT '${planted()}'; SELECT "${card}"`);
  sent++;
  await query(`PREPARE find FROM 'SELECT * FROM cards WHERE number = "${card}"'`);
  await query('EXECUTE find');
  await execute('SELECT number FROM cards WHERE number = ?', [card]);
  await execute('SELECT concat(?, ?) AS token', [planted(), card]);
  await execute('INSERT INTO cards VALUES (?, ?)', [1, planted()]);
  await query('SELECT * FROM cards');
  await client.end();
  const bulk = await load('mariadb').createConnection({ ...connection, ssl });
  sent++;
  await bulk.batch('INSERT INTO cards VALUES (?, ?)', [
    [8, planted()],
    [9, `${card}y`],
  ]);
  await bulk.end();
}

await (dialect === 'mysql' ? mysql() : postgres());
console.log(sent);
