import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TraceState } from '@opentelemetry/core';
import fc from 'fast-check';
import { KEEP_ALL, readOtelEntry, Threshold, withThreshold } from '../../../src/span/threshold.ts';

/** The table of "TraceState: Probability Sampling", precision 4. */
const TABLE: readonly [number, string][] = [
  [1, '0'],
  [1 / 2, '8'],
  [1 / 3, 'aaab'],
  [1 / 4, 'c'],
  [1 / 5, 'cccd'],
  [1 / 8, 'e'],
  [1 / 10, 'e666'],
  [1 / 16, 'f'],
  [1 / 100, 'fd70a'],
  [1 / 1000, 'ffbe77'],
  [1 / 10_000, 'fff9724'],
  [1 / 100_000, 'ffff583a'],
  [1 / 1_000_000, 'ffffef39'],
];

const value = (threshold: Threshold) => (BigInt(threshold.high) << 32n) | BigInt(threshold.low);
const bits = fc.bigInt({ min: 0n, max: (1n << 56n) - 1n });

describe('rejection thresholds', () => {
  for (const [probability, digits] of TABLE) {
    it(`${probability}: ${digits}`, () => assert.equal(Threshold.ofProbability(probability).digits, digits));
  }

  it('the least probability still keeps something', () => {
    for (const least of [2 ** -56, 1e-18, Number.MIN_VALUE]) {
      const threshold = Threshold.ofProbability(least);
      assert.equal(threshold.rejects(0xff_ffff, 0xffff_ffff), false);
      assert.ok(value(threshold) > (1n << 56n) - (1n << 12n), threshold.digits);
    }
  });

  it('keep the share that was asked for, within the digits that tell', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-9, max: 1, noNaN: true }), (probability) => {
        const kept = Number((1n << 56n) - value(Threshold.ofProbability(probability))) / 2 ** 56;
        assert.ok(Math.abs(kept / probability - 1) < 2 ** -11, `${probability}: ${kept}`);
      }),
    );
  });

  it('compare as the numbers do, and are written so that they are read back', () => {
    fc.assert(
      fc.property(bits, bits, (a, b) => {
        const [first, second] = [new Threshold(a), new Threshold(b)];
        assert.equal(first.rejects(second.high, second.low), b < a);
        assert.equal(first.isAbove(second), a > b);
        assert.equal(value(Threshold.parse(first.digits)!), a);
        assert.equal(first.traceState, `ot=th:${first.digits}`);
      }),
    );
  });

  it('are 1 to 14 hexadecimal digits', () => {
    for (const wrong of ['', 'x', '0x8', '8 ', '-8', '123456789012345'])
      assert.equal(Threshold.parse(wrong), undefined);
    assert.equal(Threshold.parse('C')?.digits, 'c');
  });
});

describe('the entry ot of a tracestate', () => {
  it('is read', () => {
    const read = (entry: string) => {
      const { threshold, randomness } = readOtelEntry(entry);
      return [threshold?.digits, randomness && value(randomness)];
    };
    assert.deepEqual(read('th:8'), ['8', undefined]);
    assert.deepEqual(read('a:b;th:c;rv:00000000000001'), ['c', 1n]);
    assert.deepEqual(read('rv:1;th:'), [undefined, undefined]);
    assert.deepEqual(read(''), [undefined, undefined]);
  });

  const half = Threshold.ofProbability(0.5);
  const cases: [string, Threshold | undefined, string][] = [
    ['', half, 'ot=th:8'],
    ['', undefined, ''],
    ['', KEEP_ALL, 'ot=th:0'],
    ['a=1', half, 'ot=th:8,a=1'],
    ['a=1,b=2', undefined, 'a=1,b=2'],
    ['a=1,ot=rv:00000000000001;th:c,b=2', half, 'ot=rv:00000000000001;th:8,a=1,b=2'],
    ['a=1,ot=rv:00000000000001;th:c', undefined, 'ot=rv:00000000000001,a=1'],
    ['a=1,ot=th:c,b=2', undefined, 'a=1,b=2'],
    ['ot=th:c', undefined, ''],
    ['a=1,ot=th:8', half, 'a=1,ot=th:8'],
    // Beyond 256 characters nothing is said.
    [`ot=p:${'x'.repeat(252)}`, half, ''],
  ];
  for (const [before, threshold, after] of cases) {
    it(`${before.slice(0, 40)} with ${threshold?.digits} is ${after}`, () =>
      assert.equal(withThreshold(before, threshold), after));
  }

  it('keeps what others have said, at most 32 members, and stays a tracestate', () => {
    const member = fc.tuple(fc.stringMatching(/^[a-z][a-z0-9_]{0,8}$/), fc.stringMatching(/^[!-+.-<>-~]{1,10}$/));
    fc.assert(
      fc.property(fc.uniqueArray(member, { selector: ([key]) => key, maxLength: 32 }), bits, (members, number) => {
        const given = new TraceState(members.map(([key, text]) => `${key}=${text}`).join(',')).serialize();
        const after = withThreshold(given, new Threshold(number));
        const [first, ...rest] = after.split(',');
        assert.match(first!, /^ot=.*th:[\da-f]{1,14}$/);
        const others = given.split(',').filter((each) => each !== '' && !each.startsWith('ot='));
        assert.deepEqual(rest, others.slice(0, 31));
      }),
    );
  });
});
