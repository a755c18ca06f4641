/** PostgreSQL by psql. */
import { spawn } from 'node:child_process';
import { expect, main, sleep } from './common.mjs';

/** Runs psql with a script; resolves with its output. */
function psql(database, settings, script, { args = [], input, interruptAfterMs } = {}) {
  const { host, port, user, password, tls, ca, direct } = settings;
  const env = {
    ...process.env,
    ...{ PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: database },
    ...{ PGSSLMODE: tls ? 'verify-full' : 'disable', PGSSLROOTCERT: ca, PGGSSENCMODE: 'disable' },
    ...(direct ? { PGSSLNEGOTIATION: 'direct' } : {}),
  };
  const commands = script.flatMap((text) => ['-c', text]);
  const child = spawn('psql', ['-XqAt', ...args, ...commands], { env, stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  child.stderr.on('data', (text) => {
    errors += text;
  });
  child.stdin.end(input ?? '');
  if (interruptAfterMs) sleep(interruptAfterMs).then(() => child.kill('SIGINT'));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve({ output, errors }));
  });
}

const script =
  (texts, options = {}) =>
  async (database, settings) => {
    const { output, errors } = await psql(database, settings, texts, options);
    if (!options.mayFail) expect(errors === '', `no error, not ${errors}`);
    if (options.lines) expect(output.split('\n').length - 1 === options.lines, `${options.lines} lines`);
    if (options.error) expect(errors.includes(options.error), `${options.error} in ${errors}`);
  };

const LINES = Array.from({ length: 1000 }, (_, id) => `${id}\tname ${id}\n`).join('');

await main({
  plain: script([
    'CREATE TABLE item (id int PRIMARY KEY, name text)',
    "INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')",
    "SELECT id, name FROM item WHERE name = 'it''s two'",
    "UPDATE item SET name = 'changed' WHERE id > 1",
    'DELETE FROM item WHERE id = 3',
    'SELECT count(*) FROM item',
  ]),
  prepared: script([
    'CREATE TABLE item (id int PRIMARY KEY, name text)',
    'PREPARE put AS INSERT INTO item VALUES ($1, $2)',
    ...Array.from({ length: 10 }, (_, id) => `EXECUTE put (${id}, 'n${id}')`),
    'DEALLOCATE put',
  ]),
  errors: script(
    [
      'CREATE TABLE item (id int PRIMARY KEY)',
      'SELECT nope FROM nowhere',
      'SELEC 1',
      'INSERT INTO item VALUES (1), (1)',
      'SELECT 1 / 0 AS zero',
      'SELECT 1 AS fine',
    ],
    { mayFail: true, error: 'division by zero' },
  ),
  transaction: script(
    [
      'CREATE TABLE item (id int PRIMARY KEY)',
      ...['BEGIN', 'INSERT INTO item VALUES (1)', 'COMMIT'],
      ...['BEGIN', 'INSERT INTO item VALUES (2)', 'ROLLBACK'],
      ...['BEGIN', 'SELECT nope', 'SELECT 1 AS in_failed', 'ROLLBACK'],
      'SELECT count(*) FROM item',
    ],
    { mayFail: true, error: 'aborted' },
  ),
  large: script(["SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g"], { lines: 20_000 }),
  nulls: script(['SELECT NULL, NULL::int FROM generate_series(1, 3)'], { lines: 3 }),
  cancel: script(['SELECT pg_sleep(20)'], { mayFail: true, interruptAfterMs: 500, error: 'canceling statement' }),
  // psql declares a cursor and fetches from it.
  cursor: script(['SELECT g FROM generate_series(1, 20) g'], { args: ['-v', 'FETCH_COUNT=7'], lines: 20 }),
  copy: async (database, settings) => {
    await script(['CREATE TABLE item (id int, name text)'])(database, settings);
    await script(['COPY item FROM STDIN'], { input: LINES })(database, settings);
    await script(['COPY item TO STDOUT'], { lines: 1000 })(database, settings);
    await script(['COPY item FROM STDIN'], { input: 'x\ty\n', mayFail: true, error: 'invalid input' })(
      database,
      settings,
    );
  },
  multi: script(
    [
      'SELECT 1 AS a; SELECT g AS b FROM generate_series(1, 3) g; CREATE TABLE made (id int)',
      'SELECT 1 AS good; SELECT nope AS bad; SELECT 3 AS never',
      ' ; ; ',
    ],
    { mayFail: true, error: 'nope' },
  ),
  notify: script(['LISTEN news', "NOTIFY news, 'something'", "DO $$ BEGIN RAISE LOG 'hello'; END $$"]),
});
