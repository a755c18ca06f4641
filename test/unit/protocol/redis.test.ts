import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { type Case, readCases, type Step, splits } from '../../support/protocols/cases.ts';
import { describeExchange, RedisBench } from '../../support/protocols/redis.ts';

for (const file of ['commands.txt', 'replies.txt', 'connection.txt', 'gaps.txt']) {
  describe(`redis ${file}`, () => {
    for (const c of readCases(`redis/${file}`)) {
      test(c.name, () => {
        const bench = replay(c, c.steps);
        assert.deepEqual(bench.emitted, c.expected);
        checkCounters(c, bench);
        if (!c.flags.has('nosplit')) for (const steps of splits(c.steps, 1)) checkLike(c, steps);
        if (!c.flags.has('end')) checkTrailing(c);
      });
    }
  });
}

function replay(c: Case, steps: Iterable<Step>): RedisBench {
  return new RedisBench({ startSeen: !c.flags.has('joined') }).run(steps).close('fin', 1e9);
}

const withoutBatch = (line: string) => line.replace(/ batch=\S+/, '');

function checkLike(c: Case, steps: readonly Step[]): void {
  const bench = replay(c, steps);
  const label = `split: ${JSON.stringify(steps.map((step) => (step.kind === 'data' ? step.bytes.toString('latin1') : step.kind)))}`;
  const found = bench.exchanges.map((exchange) => describeExchange(exchange, true));
  assert.deepEqual(found, c.expected.map(withoutBatch), label);
  checkCounters(c, bench);
}

function checkCounters(c: Case, bench: RedisBench): void {
  const { exchanges, parseErrors, incomplete, connections } = bench.counters;
  const found = [
    ...Object.entries(parseErrors).map(([, n]) => `parseErrors ${n}`),
    ...Object.entries(incomplete).map(([reason, n]) => `incomplete ${reason} ${n}`),
    ...Object.entries(connections.opaque).map(([reason, n]) => `opaque ${reason} ${n}`),
  ];
  assert.deepEqual(found.sort(), [...c.counters].sort());
  assert.equal(exchanges.redis ?? 0, c.expected.length);
}

/** One more command on the same connection comes out whole, and nothing before it changes. */
function checkTrailing(c: Case): void {
  const bench = replay(c, [
    ...c.steps,
    { kind: 'data', direction: FROM_CLIENT, bytes: Buffer.from('*1\r\n$4\r\nTIME\r\n'), timeUs: 9e8 },
    { kind: 'data', direction: FROM_SERVER, bytes: Buffer.from('*2\r\n:1\r\n:2\r\n'), timeUs: 9e8 + 1 },
  ]);
  const last = bench.emitted.pop();
  assert.match(last ?? '', /^TIME -> ok .* in=14 out=12 /);
  assert.deepEqual(
    bench.emitted.slice(0, -1),
    c.expected.filter((line) => !line.includes('incomplete=connection_')),
  );
}
