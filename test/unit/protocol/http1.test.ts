import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { Bench, type Case, readCases, type Step } from '../../support/protocols/cases.ts';

const FILES = ['framing.txt', 'endings.txt', 'gaps.txt'];

for (const file of FILES) {
  describe(`http1 ${file}`, () => {
    for (const c of readCases(`http1/${file}`)) {
      test(c.name, () => {
        const bench = replay(c, c.steps);
        assert.deepEqual(bench.emitted, c.expected);
        checkCounters(c, bench);
        if (!c.flags.has('nosplit')) for (const steps of splits(c.steps)) checkLike(c, steps);
        if (!c.flags.has('end')) checkTrailing(c);
        if (!c.flags.has('inturn') && mayBeBatched(c)) checkBatched(c);
      });
    }
  });
}

function replay(c: Case, steps: Iterable<Step>): Bench {
  const bench = new Bench(undefined, { startSeen: !c.flags.has('joined') }).run(steps);
  bench.close('fin', 1e9);
  return bench;
}

function checkLike(c: Case, steps: Step[]): void {
  const bench = replay(c, steps);
  assert.deepEqual(bench.emitted, c.expected, `split: ${JSON.stringify(steps.map(label))}`);
  checkCounters(c, bench);
}

function label(step: Step): string {
  return step.kind === 'data' ? step.bytes.toString('latin1') : step.kind;
}

/** All ways to cut one segment in two, then every byte alone. */
function* splits(steps: readonly Step[]): Generator<Step[]> {
  for (const [at, step] of steps.entries()) {
    if (step.kind !== 'data') continue;
    for (let cut = 1; cut < step.bytes.length; cut++) {
      const first = { ...step, bytes: step.bytes.subarray(0, cut) };
      const second = { ...step, bytes: step.bytes.subarray(cut) };
      yield [...steps.slice(0, at), first, second, ...steps.slice(at + 1)];
    }
  }
  yield steps.flatMap((step): Step[] =>
    step.kind === 'data' ? Array.from(step.bytes, (byte) => ({ ...step, bytes: Buffer.from([byte]) })) : [step],
  );
}

const NEXT_REQUEST = Buffer.from('GET /next HTTP/1.1\r\n\r\n');
const NEXT_RESPONSE = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext');
const AFTER_US = 1e8 * 9;

/** One more exchange on the same connection comes out whole, and nothing before it changes. */
function checkTrailing(c: Case): void {
  const bench = replay(c, [
    ...c.steps,
    { kind: 'data', direction: FROM_CLIENT, bytes: NEXT_REQUEST, timeUs: AFTER_US },
    { kind: 'data', direction: FROM_SERVER, bytes: NEXT_RESPONSE, timeUs: AFTER_US + 1 },
  ]);
  assert.deepEqual(bench.emitted.slice(0, -1), c.expected);
  assert.match(bench.emitted.at(-1) ?? '', /^GET \/next 1\.1 -> 200 in=0 out=4 /);
}

function mayBeBatched(c: Case): boolean {
  return !c.flags.has('nosplit') && !c.flags.has('end') && !c.steps.some((s) => s.kind !== 'data' || s.timeUs > 100);
}

/** All of the client's bytes and one more request in one segment, then all of the server's: only the times may differ. */
function checkBatched(c: Case): void {
  const of = (direction: number): Buffer =>
    Buffer.concat(c.steps.map((s) => (s.kind === 'data' && s.direction === direction ? s.bytes : Buffer.alloc(0))));
  const bench = replay(c, [
    { kind: 'data', direction: FROM_CLIENT, bytes: Buffer.concat([of(FROM_CLIENT), NEXT_REQUEST]), timeUs: 1 },
    { kind: 'data', direction: FROM_SERVER, bytes: Buffer.concat([of(FROM_SERVER), NEXT_RESPONSE]), timeUs: 2 },
  ]);
  const timeless = (line: string): string => line.replace(/ times=\S+/, '');
  assert.deepEqual(bench.emitted.slice(0, -1).map(timeless), c.expected.map(timeless));
  assert.match(bench.emitted.at(-1) ?? '', /^GET \/next 1\.1 -> 200 in=0 out=4 /);
}

function checkCounters(c: Case, bench: Bench): void {
  const { exchanges, incomplete, parseErrors } = bench.counters;
  assert.equal(exchanges.http ?? 0, c.expected.length);
  for (const line of c.counters) {
    const [name, ...rest] = line.split(' ');
    if (name === 'exchanges') assert.equal(exchanges.http ?? 0, Number(rest[0]), line);
    else if (name === 'parseErrors') assert.equal(parseErrors.http ?? 0, Number(rest[0]), line);
    else if (name === 'incomplete') assert.equal(incomplete[rest[0]!] ?? 0, Number(rest[1]), line);
  }
  const opaque = c.counters.filter((line) => line.startsWith('opaque ')).map((line) => line.slice('opaque '.length));
  assert.deepEqual(Object.keys(bench.counters.connections.opaque), opaque);
  if (!c.counters.some((line) => line.startsWith('parseErrors'))) assert.equal(parseErrors.http ?? 0, 0);
  const whole = c.expected.every((line) => !line.includes('incomplete='));
  if (whole && !c.counters.some((line) => line.startsWith('incomplete'))) assert.deepEqual(incomplete, {});
}
