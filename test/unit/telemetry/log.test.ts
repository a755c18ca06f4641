import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Log, type LogOptions } from '../../../src/telemetry/log.ts';

function capture(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const clock = { ms: Date.UTC(2026, 0, 2, 3, 4, 5, 6) };
  const log = new Log({
    level: 'info',
    format: 'text',
    write: (line) => lines.push(line),
    now: () => clock.ms,
    ...options,
  });
  return { log, lines, clock };
}

test('text: time, level, message, fields', () => {
  const { log, lines } = capture();
  log.warn('export failed', { code: 14, target: 'http://a:4317', reason: 'no route', left: undefined });
  assert.deepEqual(lines, [
    '2026-01-02T03:04:05.006Z warn  export failed code=14 target=http://a:4317 reason="no route"\n',
  ]);
});

test('json: one object per line; fields cannot take the place of the message', () => {
  const { log, lines } = capture({ format: 'json' });
  log.error('a\nb', { code: 1, message: 'other' });
  assert.equal(lines.length, 1);
  assert.equal(lines[0]?.indexOf('\n'), lines[0]!.length - 1);
  assert.deepEqual(JSON.parse(lines[0]!), {
    code: 1,
    message: 'a\nb',
    time: '2026-01-02T03:04:05.006Z',
    level: 'error',
  });
});

test('what is below the level is not written', () => {
  const { log, lines } = capture({ level: 'warn' });
  log.info('a');
  log.debug('b');
  log.warn('c');
  log.error('d');
  assert.deepEqual(
    lines.map((line) => line.at(-2)),
    ['c', 'd'],
  );
});

test('control characters and turned text never reach the terminal', () => {
  const { log, lines } = capture();
  log.info('x\u001b[31m\r\n', { comm: 'a\u0007\u202eb' });
  log.plain('ready\u001b[2J');
  assert.equal(lines[0]?.slice(25), 'info  x\\u001b[31m\\u000d\\u000a comm="a\\u0007\\u202eb"\n');
  assert.equal(lines[1], 'ready\\u001b[2J\n');
});

test('a message that keeps coming is counted, and the count is written', () => {
  const { log, lines, clock } = capture();
  for (let n = 0; n < 100; n++) log.warn('lost', { n });
  log.warn('other');
  assert.equal(lines.length, 6);
  clock.ms += 10_000;
  log.warn('lost', { n: 100 });
  assert.match(lines[6] ?? '', /warn {2}lost repeated=95$/m);
  assert.match(lines[7] ?? '', /lost n=100$/m);
  for (let n = 0; n < 7; n++) log.warn('lost');
  log.flush();
  assert.match(lines.at(-1) ?? '', /lost repeated=3$/m);
  const written = lines.length;
  log.flush();
  assert.equal(lines.length, written);
});

test('what kept coming is told when it comes no more', () => {
  const { log, lines, clock } = capture();
  for (let n = 0; n < 100; n++) log.warn('lost', { n });
  log.settle();
  assert.equal(lines.length, 5);
  clock.ms += 10_000;
  log.settle();
  assert.match(lines[5] ?? '', /warn {2}lost repeated=95$/m);
  log.settle();
  log.flush();
  assert.equal(lines.length, 6);
});

test('control characters stay escaped in json, too', () => {
  const { log, lines } = capture({ format: 'json' });
  log.warn('a', { comm: 'x\u001b[31m\u009b1m\u202eb' });
  assert.doesNotMatch(lines[0]!.slice(0, -1), /[\p{Cc}\u202e]/u);
  assert.equal((JSON.parse(lines[0]!) as { comm: string }).comm, 'x\u001b[31m\u009b1m\u202eb');
});

test('the table of messages is bounded, and a message that leaves it is not lost', () => {
  const { log, lines } = capture();
  for (let n = 0; n < 8; n++) log.warn('first');
  for (let n = 0; n < 1000; n++) log.warn(`message ${n}`);
  assert.equal(lines.filter((line) => line.includes('first repeated=3')).length, 1);
  assert.equal(lines.length, 5 + 1 + 1000);
});
