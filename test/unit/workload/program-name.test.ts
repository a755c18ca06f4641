import assert from 'node:assert/strict';
import { test } from 'node:test';
import { programName } from '../../../src/workload/program-name.ts';

/** Executable, command line, name; a fourth column is the working directory. */
const cases: readonly (readonly [string, string, string, string?])[] = [
  ['/usr/sbin/nginx', 'nginx: worker process', 'nginx'],
  ['/usr/bin/curl (deleted)', 'curl -s https://shop/', 'curl'],
  ['/usr/local/bin/shop', '', 'shop'],
  ['/memfd:runner', 'runner', 'runner'],
  ['', 'whatever', ''],

  ['/usr/bin/node', 'node /srv/shop/server.js --port 80', 'server'],
  ['/usr/bin/node', 'node --max-old-space-size=512 -r dotenv/config --import ./otel.mjs api.mts', 'api'],
  ['/usr/bin/node', 'node /srv/shop/dist/index.js', 'shop'],
  ['/usr/bin/node', 'node index.js', 'shop', '/srv/shop'],
  ['/usr/bin/node', 'node .', 'shop', '/srv/shop'],
  ['/usr/bin/node', 'node index.js', 'index'],
  ['/usr/bin/node', 'node /index.js', 'index'],
  ['/usr/bin/node', 'node -e setInterval(()=>{},1) x.js', 'node'],
  ['/usr/bin/node', 'node', 'node'],
  ['/usr/bin/node', 'node -- -odd.js', '-odd'],
  ['/opt/nodejs', 'nodejs /srv/https-server.js', 'https-server'],
  ['/usr/bin/node', 'node /app/node_modules/.bin/next start', 'next'],
  ['/usr/bin/bun', 'bun run --preload ./a.ts serve.ts', 'serve'],
  ['/usr/bin/deno', 'deno run --allow-net -c deno.json main.ts', 'main'],
  ['/usr/bin/deno', 'deno eval console.log(1)', 'deno'],

  ['/usr/bin/python3.11', 'python3 -m http.server 8000', 'http.server'],
  ['/usr/bin/python3.11', 'python3 -um uvicorn app:app', 'uvicorn'],
  ['/usr/bin/python3.11', 'python3 -uBmflask run', 'flask'],
  ['/usr/bin/python3.11', 'python3 -W ignore -X dev /srv/orders.py', 'orders'],
  ['/usr/bin/python3.11', 'python3 -Wignore orders.py', 'orders'],
  ['/usr/bin/python3.11', 'python3 -c import-time -m x', 'python3.11'],
  ['/usr/bin/python3.11', 'python3 - x.py', 'python3.11'],
  ['/usr/bin/python3.11', '/usr/bin/python3 /usr/local/bin/gunicorn shop:app', 'gunicorn'],
  ['/usr/bin/python3.11', 'python3 /srv/shop/__main__.py', 'shop'],
  ['/usr/local/bin/pypy3', 'pypy3 web.py', 'web'],

  ['/usr/bin/ruby3.1', 'ruby -I lib -rbundler/setup bin/rails server', 'rails'],
  ['/usr/bin/perl', 'perl -T -Ilib /srv/cgi.pl', 'cgi'],
  ['/usr/bin/perl', 'perl -we print', 'perl'],
  ['/usr/bin/php8.2', 'php -S 0.0.0.0:80 -t public router.php', 'router'],
  ['/usr/bin/php8.2', 'php -d memory_limit=1G artisan serve', 'artisan'],
  ['/usr/sbin/php-fpm8.2', 'php-fpm: pool www', 'php-fpm8.2'],
  ['/usr/lib/jvm/bin/java', 'java -Xmx1g -cp /a:/b -Dx=y com.acme.shop.Main --serve', 'com.acme.shop.Main'],
  ['/usr/lib/jvm/bin/java', 'java -javaagent:/a.jar -jar /opt/shop.jar', 'shop'],
  ['/usr/lib/jvm/bin/java', 'java --module-path mods -m shop.web/com.acme.Main', 'shop.web'],
  ['/usr/lib/jvm/bin/java', 'java @/etc/shop.args', 'java'],
  ['/usr/bin/dotnet', 'dotnet exec --depsfile x.json /app/Shop.Api.dll', 'Shop.Api'],
  ['/usr/bin/bash', 'bash -e /opt/poll.sh', 'poll'],
  ['/usr/bin/bash', 'bash -ec curl', 'bash'],
  ['/usr/bin/bash', '-bash', 'bash'],
  ['/usr/bin/bash', 'bash /dev/fd/63', 'bash'],

  ['/bin/busybox', 'wget -q http://shop/', 'wget'],
  ['/bin/busybox', '/bin/nc shop 80', 'nc'],
  ['/lib64/ld-linux-x86-64.so.2', '/lib64/ld-linux-x86-64.so.2 --library-path /x /opt/bin/shop serve', 'shop'],
  ['/lib/ld-musl-x86_64.so.1', 'ld.so node /srv/api.js', 'api'],
];

for (const [executable, line, expected, directory] of cases) {
  test(`${executable || '(no executable)'}: ${line || '(no command line)'}`, () => {
    const words = line === '' ? [] : line.split(' ');
    assert.equal(programName(executable, words, directory), expected);
  });
}

test('an executable that is several programs is named as it was called', () => {
  const rdb = '/usr/bin/redis-check-rdb';
  for (const [executable, words, comm, expected] of [
    [rdb, ['/usr/bin/redis-server 127.0.0.1:6379'], 'redis-server', 'redis-server'],
    [rdb, ['redis-server', '--port', '0'], 'redis-server', 'redis-server'],
    [rdb, ['redis-check-rdb', 'dump.rdb'], 'redis-check-rdb', 'redis-check-rdb'],
    [rdb, ['redis-sentinel *:26379 [sentinel]'], 'redis-sentinel', 'redis-sentinel'],
    ['/usr/sbin/mariadbd', ['/usr/sbin/mysqld', '--port=3307'], 'mysqld', 'mysqld'],
    [
      '/usr/lib/multi-call',
      ['/usr/bin/a-name-of-more-than-15-bytes'],
      'a-name-of-more-',
      'a-name-of-more-than-15-bytes',
    ],
    // One witness alone: a title, a renamed thread, a process of which only one is known.
    [rdb, ['shop'], 'redis-check-rdb', 'redis-check-rdb'],
    [rdb, ['redis-check-rdb'], 'worker', 'redis-check-rdb'],
    [rdb, [], 'redis-server', 'redis-check-rdb'],
    [rdb, [''], '', 'redis-check-rdb'],
    ['/usr/sbin/php-fpm8.2', ['php-fpm: pool www'], 'php-fpm8.2', 'php-fpm8.2'],
    ['/usr/sbin/nginx', ['nginx: worker process'], 'nginx', 'nginx'],
    // An interpreter is named by its script, and else by itself.
    ['/usr/bin/python3.11', ['python3', '-c', 'x'], 'python3', 'python3.11'],
    ['/usr/bin/dash', ['sh', '/opt/poll.sh'], 'sh', 'poll'],
  ] as const) {
    assert.equal(programName(executable, words, undefined, comm), expected, words.join(' '));
  }
});

test('a title that a server wrote over its command line', () => {
  assert.equal(programName('/usr/bin/python3.11', ['gunicorn: worker [shop]']), 'gunicorn');
  assert.equal(programName('/usr/bin/ruby3.1', ['puma 6.4.2 (tcp://0.0.0.0:3000) [shop]']), 'puma');
  assert.equal(programName('/usr/bin/node', ['npm start']), 'npm');
  assert.equal(programName('/usr/bin/node', ['shop']), 'shop');
  assert.equal(programName('/usr/bin/node', ['node']), 'node');
});

test('hostile command lines end in some name', () => {
  for (const words of [
    [''],
    ['', ''],
    ['node', ''],
    ['node', '/'],
    ['node', '-r'],
    ['node', '--'],
    Array(100_000).fill('-x'),
  ]) {
    assert.equal(programName('/usr/bin/node', words), 'node');
  }
});
