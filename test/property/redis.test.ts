import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../src/flow/connection.ts';
import type { RedisExchange } from '../../src/protocol/redis/exchange.ts';
import type { Step } from '../support/protocols/cases.ts';
import { command, describeExchange, RedisBench } from '../support/protocols/redis.ts';

const LIMITS = {
  redisParseErrors: 4,
  redisPipelineDepth: 16,
  redisQueuedCommands: 4,
  redisEarlyBytes: 4096,
  redisReplyDepth: 3,
};
const direction = fc.constantFrom<Direction>(FROM_CLIENT, FROM_SERVER);

const TOKENS = [
  ...[
    ['PING'],
    ['SET', 'k', 'v'],
    ['SELECT', '3'],
    ['MULTI'],
    ['EXEC'],
    ['DISCARD'],
    ['RESET'],
    ['SUBSCRIBE', 'a', 'b'],
  ],
  ...[
    ['UNSUBSCRIBE'],
    ['CLIENT', 'REPLY', 'SKIP'],
    ['CLIENT', 'REPLY', 'OFF'],
    ['CLIENT', 'REPLY', 'ON'],
    ['HELLO', '3'],
  ],
  ...[['FCALL', 'f', '0'], ['QUIT'], ['SET', 'k', 'x'.repeat(100)]],
].map((words) => command(...words));
const ANSWERS = [
  ...[
    '+OK\r\n',
    '+QUEUED\r\n',
    '-ERR x\r\n',
    ':1\r\n',
    '$3\r\nabc\r\n',
    '$-1\r\n',
    '*-1\r\n',
    '*2\r\n:1\r\n*1\r\n+x\r\n',
  ],
  ...[
    '>2\r\n+message\r\n:1\r\n',
    '>3\r\n+subscribe\r\n+a\r\n:1\r\n',
    '|1\r\n+a\r\n:1\r\n',
    '%1\r\n+a\r\n_\r\n',
    '*?\r\n:1\r\n.\r\n',
  ],
  ...[
    '$?\r\n;2\r\nab\r\n;0\r\n',
    '!5\r\nERR x\r\n',
    '*1\r\n*1\r\n*1\r\n*1\r\n',
    '$1000000000000\r\n',
    '*3\r\n$9\r\nsubscribe\r\n+a\r\n:1\r\n',
  ],
];
const wire = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc
    .array(fc.constantFrom(...TOKENS, ...ANSWERS, 'PING\r\n', 'get k\r\n'), { maxLength: 8 })
    .map((all) => Buffer.from(all.join(''))),
  fc
    .tuple(fc.array(fc.constantFrom(...TOKENS, ...ANSWERS), { minLength: 1, maxLength: 4 }), fc.nat(), fc.nat(255))
    .map(([tokens, at, value]) => {
      const bytes = Buffer.from(tokens.join(''));
      bytes[at % bytes.length] = value;
      return bytes.subarray(0, bytes.length - (at % 3));
    }),
);
const timeUs = fc.integer({ min: 0, max: 5_000_000 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('data' as const), direction, bytes: wire, timeUs }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('gap' as const),
      direction,
      length: fc.integer({ min: 1, max: 200 }),
      timeUs,
    }),
  },
);

test('garbage never throws, holds no more than the limits, and each command ends once', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), fc.boolean(), (steps, startSeen, half) => {
      const bench = new RedisBench({ startSeen, limits: LIMITS });
      const layer = bench.layer as unknown as { heldBytes: number; heldObjects: number };
      for (const one of steps) {
        bench.run([one]);
        assert.ok(layer.heldBytes <= 1024 + LIMITS.redisEarlyBytes, `${layer.heldBytes} bytes held`);
        assert.ok(layer.heldObjects <= LIMITS.redisPipelineDepth + LIMITS.redisQueuedCommands);
      }
      if (half) bench.layer.end(FROM_SERVER, 'fin', 1e10);
      bench.close('fin', 1e10);
      const { exchanges, counters } = bench;
      assert.equal(counters.exchanges.redis ?? 0, exchanges.length);
      assert.equal(new Set(exchanges.map(({ streamOffset }) => streamOffset)).size, exchanges.length);
      assert.ok((counters.parseErrors.redis ?? 0) <= LIMITS.redisParseErrors + 1);
      for (const {
        statusCode,
        command: { name },
        argument,
      } of exchanges) {
        assert.match(statusCode, /^(?:[A-Z][A-Z0-9_]*)?$/);
        assert.match(name, /^[A-Za-z_. ]+$/);
        assert.match(argument, /^\w*$/);
      }
    }),
    { numRuns: 3000 },
  );
});

/** What a server answers to the k-th command: its word tells which one it was. */
const answer = (k: number): string => `-E${k} x\r\n`;

interface Model {
  readonly steps: Step[];
  /** By the place of the command in the client's stream. */
  readonly numbers: ReadonlyMap<number, number>;
}

/** A client that sends `writes[i]` commands at once and waits for all answers. */
function conversation(writes: readonly number[]): Model {
  const steps: Step[] = [];
  const numbers = new Map<number, number>();
  let offset = 0;
  let k = 0;
  for (const count of writes) {
    let sent = '';
    let answers = '';
    for (let i = 0; i < count; i++, k++) {
      numbers.set(offset + sent.length, k);
      sent += command('SET', `key${k}`, 'v'.repeat(k % 7));
      answers += answer(k);
    }
    offset += sent.length;
    steps.push({ kind: 'data', direction: FROM_CLIENT, bytes: Buffer.from(sent), timeUs: steps.length + 1 });
    steps.push({ kind: 'data', direction: FROM_SERVER, bytes: Buffer.from(answers), timeUs: steps.length + 1 });
  }
  return { steps, numbers };
}

/** Whether it is the answer to its own command. */
function isOwn(exchange: RedisExchange, numbers: ReadonlyMap<number, number>): boolean {
  return exchange.statusCode === `E${numbers.get(exchange.streamOffset)}`;
}

const writes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 12 });

test('every command has its own answer, however the bytes are cut', () => {
  fc.assert(
    fc.property(writes, fc.infiniteStream(fc.integer({ min: 1, max: 30 })), (counts, sizes) => {
      const { steps, numbers } = conversation(counts);
      const bench = new RedisBench();
      for (const one of steps) {
        if (one.kind !== 'data') continue;
        for (let at = 0; at < one.bytes.length; ) {
          const size = sizes.next().value as number;
          bench.feed(one.direction, one.bytes.subarray(at, at + size), one.timeUs);
          at += size;
        }
      }
      bench.close('fin', 1e9);
      assert.equal(bench.exchanges.length, numbers.size);
      for (const exchange of bench.exchanges) assert.ok(isOwn(exchange, numbers), describeExchange(exchange));
      assert.deepEqual(bench.counters.incomplete, {});
    }),
    { numRuns: 500 },
  );
});

test('after holes no command has the answer of another one, and the last ones are whole again', () => {
  fc.assert(
    fc.property(writes, fc.array(fc.nat(), { minLength: 1, maxLength: 4 }), fc.boolean(), (counts, lost, startSeen) => {
      // Two writes that nothing is lost of: what was lost before must be behind them.
      const { steps, numbers } = conversation([...counts, 1, 2, 1]);
      const gaps = new Set(lost.map((place) => place % (2 * counts.length)));
      const bench = new RedisBench({ startSeen });
      bench.run(
        steps.map((one, i): Step => {
          if (!gaps.has(i) || one.kind !== 'data') return one;
          return { kind: 'gap', direction: one.direction, length: one.bytes.length, timeUs: one.timeUs };
        }),
      );
      bench.close('fin', 1e9);
      for (const exchange of bench.exchanges) {
        if (exchange.responseStartUs !== 0) assert.ok(isOwn(exchange, numbers), describeExchange(exchange));
      }
      assert.ok(bench.exchanges.slice(-1).every((exchange) => isOwn(exchange, numbers)));
    }),
    { numRuns: 2000 },
  );
});

test('a transaction gives each command the outcome that EXEC has for it', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 10 }), fc.boolean(), (outcomes, isPipelined) => {
      const bench = new RedisBench();
      const sent = [command('MULTI'), ...outcomes.map((_, k) => command('LPOP', `k${k}`)), command('EXEC')];
      const elements = outcomes.map((ok, k) => (ok ? `$2\r\nv${k}\r\n` : answer(k))).join('');
      const answers = ['+OK\r\n', ...outcomes.map(() => '+QUEUED\r\n'), `*${outcomes.length}\r\n${elements}`];
      if (isPipelined) bench.feed(FROM_CLIENT, sent.join(''), 1).feed(FROM_SERVER, answers.join(''), 2);
      else {
        for (const [i, one] of sent.entries())
          bench.feed(FROM_CLIENT, one, 2 * i).feed(FROM_SERVER, answers[i]!, 2 * i + 1);
      }
      bench.close('fin', 100);
      const found = bench.exchanges.map(({ command: { name }, statusCode }) => `${name} ${statusCode}`);
      assert.deepEqual(found, ['MULTI ', ...outcomes.map((ok, k) => `LPOP ${ok ? '' : `E${k}`}`), 'EXEC ']);
      assert.equal(bench.exchanges.at(-1)!.batchSize, outcomes.length >= 2 ? outcomes.length : 1);
    }),
    { numRuns: 300 },
  );
});
