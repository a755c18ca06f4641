import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { command, RedisBench } from '../../support/protocols/redis.ts';

const held = (bench: RedisBench): number => (bench.layer as unknown as { heldBytes: number }).heldBytes;
const waiting = (bench: RedisBench): number => (bench.layer as unknown as { heldObjects: number }).heldObjects;

describe('redis: limits', () => {
  test('a value of 512 MiB is passed over in both directions, and nothing of it is held', () => {
    const size = 512 * 1024 * 1024;
    const part = Buffer.alloc(1024 * 1024, 'x');
    const bench = new RedisBench();
    const { layer } = bench;
    bench.feed(FROM_CLIENT, `*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$${size}\r\n`, 1);
    for (let i = 0; i < 512; i++) layer.data(FROM_CLIENT, part, 0, part.length, 2);
    assert.ok(held(bench) < 1024);
    bench.feed(FROM_CLIENT, '\r\n', 3).feed(FROM_SERVER, '+OK\r\n', 4);
    bench.feed(FROM_CLIENT, command('GET', 'k'), 5).feed(FROM_SERVER, `$${size}\r\n`, 6);
    for (let i = 0; i < 512; i++) layer.data(FROM_SERVER, part, 0, part.length, 7);
    assert.ok(held(bench) < 1024);
    bench.feed(FROM_SERVER, '\r\n', 8).close('fin', 9);
    assert.deepEqual(bench.emitted, [
      `SET ? ? -> ok db=0 in=${size + 34} out=5 at=0 times=1,4,4`,
      `GET ? -> ok db=0 in=20 out=${size + 14} at=${size + 34} times=5,6,8`,
    ]);
  });

  test('100,000 commands wait for their answers', () => {
    const bench = new RedisBench();
    for (let i = 0; i < 100; i++) bench.feed(FROM_CLIENT, command('GET', 'k').repeat(1000), i);
    assert.equal(waiting(bench), 100_000);
    for (let i = 0; i < 100; i++) bench.feed(FROM_SERVER, '$-1\r\n'.repeat(1000), 100 + i);
    bench.close('fin', 1000);
    assert.equal(bench.exchanges.length, 100_000);
    assert.ok(bench.exchanges.every(({ incomplete }) => incomplete === undefined));
  });

  test('more commands than the limit: all that wait are given up, and a silence brings the rest back', () => {
    const bench = new RedisBench({ limits: { redisPipelineDepth: 16 } });
    bench.feed(FROM_CLIENT, command('PING').repeat(17), 1).feed(FROM_SERVER, '+PONG\r\n'.repeat(17), 2);
    assert.deepEqual(bench.counters.incomplete, { limit: 16 });
    bench.feed(FROM_CLIENT, command('DBSIZE'), 2_000_000).feed(FROM_SERVER, ':1\r\n', 2_000_001).close('fin', 3e6);
    assert.deepEqual(bench.counters.incomplete, { limit: 16, gap: 1 });
    assert.match(bench.emitted.at(-1)!, /^DBSIZE -> ok .* times=2000000,2000001,2000001$/);
  });

  test('a transaction of more commands than the limit', () => {
    const bench = new RedisBench({ limits: { redisQueuedCommands: 2 } });
    bench.feed(FROM_CLIENT, command('MULTI') + command('INCR', 'a').repeat(3) + command('EXEC'), 1);
    bench.feed(FROM_SERVER, `+OK\r\n${'+QUEUED\r\n'.repeat(3)}*3\r\n:1\r\n:2\r\n:3\r\n`, 2).close('fin', 3);
    assert.deepEqual(bench.counters.incomplete, { limit: 1, gap: 2 });
    assert.equal(bench.exchanges.length, 5);
  });

  test('replies nested deeper than the limit end the reading of replies', () => {
    const depth = 64;
    const fine = new RedisBench();
    fine
      .feed(FROM_CLIENT, command('EVAL'), 1)
      .feed(FROM_SERVER, `${'*1\r\n'.repeat(depth)}:1\r\n`, 2)
      .close('fin', 3);
    assert.match(fine.emitted[0]!, /^EVAL -> ok /);
    const deep = new RedisBench();
    deep
      .feed(FROM_CLIENT, command('EVAL'), 1)
      .feed(FROM_SERVER, `${'*1\r\n'.repeat(depth + 1)}:1\r\n`, 2)
      .close('fin', 3);
    assert.match(deep.emitted[0]!, /incomplete=protocol_error$/);
    assert.deepEqual(deep.counters.parseErrors, { redis: 1 });
  });

  test('a server that sends and sends before any command', () => {
    const bench = new RedisBench({ limits: { redisEarlyBytes: 4096 } });
    for (let i = 0; i < 1000; i++) {
      bench.feed(FROM_SERVER, '+OK\r\n', i);
      assert.ok(held(bench) <= 4096 + 64);
    }
    bench.close('fin', 1001);
    assert.deepEqual(bench.counters.incomplete, { request_not_seen: 1000 });
  });

  test('an inline command that never ends', () => {
    const bench = new RedisBench();
    for (let i = 0; i < 100; i++) bench.feed(FROM_CLIENT, 'get '.repeat(256), i);
    assert.ok(held(bench) <= 1024);
    assert.deepEqual(bench.counters.parseErrors, { redis: 1 });
    bench.close('fin', 100);
    assert.deepEqual(bench.emitted, []);
  });

  test('too many errors end the reading of a connection', () => {
    const bench = new RedisBench({ limits: { redisParseErrors: 2 } });
    for (let i = 0; i < 10; i++) {
      bench.feed(FROM_CLIENT, command('PING'), 10 * i).feed(FROM_SERVER, '$1\r\nxx\r\n', 10 * i + 1);
    }
    assert.deepEqual(bench.counters.connections.givenUp, { protocol_error: 1 });
    assert.equal(bench.muted, 1);
    assert.equal(waiting(bench), 0);
    bench.close('fin', 1000);
  });

  test('an array of a million arguments costs nothing', () => {
    const bench = new RedisBench();
    const count = 1_000_000;
    bench.feed(FROM_CLIENT, `*${count + 1}\r\n$3\r\nDEL\r\n`, 1);
    for (let i = 0; i < 100; i++) bench.feed(FROM_CLIENT, '$1\r\nk\r\n'.repeat(count / 100), 2);
    assert.ok(held(bench) < 1024);
    bench.feed(FROM_SERVER, ':1\r\n', 3).close('fin', 4);
    assert.equal(bench.exchanges[0]!.argumentCount, count + 1);
  });
});
