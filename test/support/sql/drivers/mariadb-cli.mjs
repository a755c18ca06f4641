/** MariaDB by its command-line client. */
import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, main, sleep } from './common.mjs';

function client(database, settings, input, { args = [], interruptAfterMs } = {}) {
  const { host, port, user, password, tls, ca } = settings;
  const words = [
    '--no-defaults',
    '-h',
    host,
    '-P',
    String(port),
    '-u',
    user,
    '-BN',
    '--force',
    '--local-infile=1',
    ...args,
  ];
  const secure = tls ? [`--ssl-ca=${ca}`, '--ssl-verify-server-cert'] : ['--skip-ssl'];
  const env = { ...process.env, MYSQL_PWD: password };
  const child = spawn('mariadb', [...words, ...secure, database], { env, stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  child.stderr.on('data', (text) => {
    errors += text;
  });
  child.stdin.end(input);
  if (interruptAfterMs) sleep(interruptAfterMs).then(() => child.kill('SIGINT'));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve({ output, errors }));
  });
}

const script =
  (texts, options = {}) =>
  async (database, settings) => {
    const { output, errors } = await client(database, settings, texts.map((text) => `${text};\n`).join(''), options);
    if (options.error) expect(errors.includes(options.error), `${options.error} in ${errors}`);
    else expect(errors === '', `no error, not ${errors}`);
    if (options.lines) expect(output.split('\n').length - 1 === options.lines, `${options.lines} lines`);
  };

const LARGE = "SELECT seq, repeat('x', 100) AS filler FROM seq_1_to_20000";

await main({
  plain: script([
    'CREATE TABLE item (id int PRIMARY KEY, name varchar(50))',
    "INSERT INTO item VALUES (1, 'one'), (2, 'it\\'s two'), (3, 'three')",
    'SELECT id, name FROM item WHERE name = "it\'s two"',
    "UPDATE item SET name = 'changed' WHERE id > 1",
    'DELETE FROM item WHERE id = 3',
    'SELECT count(*) FROM item',
  ]),
  prepared: script([
    "PREPARE add_up FROM 'SELECT ? + ? AS total'",
    'SET @a = 1, @b = 2',
    'EXECUTE add_up USING @a, @b',
    'EXECUTE add_up USING @b, @b',
    'DEALLOCATE PREPARE add_up',
  ]),
  errors: script(
    [
      'CREATE TABLE item (id int PRIMARY KEY)',
      'SELECT nope FROM nowhere',
      'SELEC 1',
      'INSERT INTO item VALUES (1), (1)',
      'SELECT 1 AS fine',
    ],
    { error: '1062' },
  ),
  transaction: script([
    'CREATE TABLE item (id int PRIMARY KEY)',
    ...['BEGIN', 'INSERT INTO item VALUES (1)', 'COMMIT'],
    ...['START TRANSACTION', 'INSERT INTO item VALUES (2)', 'ROLLBACK'],
    'SELECT count(*) FROM item',
  ]),
  large: script([LARGE], { lines: 20_000 }),
  binary: script([
    'CREATE TABLE blobs (data blob)',
    "INSERT INTO blobs VALUES (x'00ff27225c')",
    'SELECT data FROM blobs',
  ]),
  nulls: script(['SELECT NULL, 1 FROM seq_1_to_3'], { lines: 3 }),
  cancel: script(['SELECT sleep(20) FROM seq_1_to_2'], { interruptAfterMs: 500, error: 'interrupted' }),
  multi: script(
    [
      'DELIMITER //\nSELECT 1 AS a; SELECT 2 AS b; SELECT 3 AS c //\nSELECT 1 AS good; SELECT nope AS bad //\nDELIMITER ',
    ],
    {
      error: '1054',
    },
  ),
  call: script([
    'DELIMITER //\nCREATE PROCEDURE twice (IN n int) BEGIN SELECT n AS once; SELECT n * 2 AS doubled; END //\nDELIMITER ',
    'CALL twice(21)',
    'SELECT 1 AS after_call',
  ]),
  async infile(database, settings) {
    const file = join(tmpdir(), `wirespan-lines-${process.pid}`);
    writeFileSync(file, Array.from({ length: 1000 }, (_, id) => `${id}\tname ${id}\n`).join(''));
    try {
      await script([
        'CREATE TABLE item (id int, name varchar(50))',
        `LOAD DATA LOCAL INFILE '${file}' INTO TABLE item`,
      ])(database, settings);
    } finally {
      rmSync(file);
    }
  },
  compress: script([LARGE, 'SELECT 1 AS small'], { args: ['--compress'], lines: 20_001 }),
  session: async (database, settings) =>
    script([`USE ${database.replace(/_session$/, '_plain')}`, 'SELECT count(*) AS elsewhere FROM item'])(
      database,
      settings,
    ),
});
