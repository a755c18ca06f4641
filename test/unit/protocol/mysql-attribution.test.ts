import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { attribute, type Yield, Yields } from '../../../src/protocol/mysql/attribution.ts';

const { ONE, ROWS, OK, CALL, ANY } = Yields;
/** `R` a result set, `.` an OK packet. */
const of = (results: string): boolean[] => [...results].map((each) => each === 'R');

/** How many results each statement has, `?` where that is not proven, then `!` and those before the error. */
function said(kinds: readonly Yield[], results: string, error = false): string {
  const { complete, failed } = attribute(kinds, of(results), error);
  const counts = complete.map((share) => (share === undefined ? '?' : String(share.to - share.from))).join(' ');
  return error ? `${counts} !${failed === undefined ? '?' : failed.to - failed.from}`.trim() : counts;
}

describe('results of several statements', () => {
  const cases: [kinds: readonly Yield[], results: string, wanted: string][] = [
    [[ANY, ROWS], 'RR.R', '3 1'],
    [[ANY, ROWS], 'RR', '1 1'],
    [[ANY, OK], 'R.', '1 1'],
    [[ANY, ANY], 'RR.', '1 2'],
    [[ANY, ANY], 'RR.RR.', '3 3'],
    [[ANY, ONE, ANY], 'R.RR.', '? ? ?'],
    [[ANY, ROWS, ANY], 'R.RR.', '2 1 2'],
    [[ANY, ANY, ANY], 'R.R.', '? ? ?'],
    [[CALL, CALL], 'R..', '2 1'],
    [[ANY, ROWS], 'R.', ''],
    [[OK], 'R', ''],
  ];
  for (const [kinds, results, wanted] of cases) {
    test(`${kinds.join()} answered by ${results}`, () => assert.equal(said(kinds, results), wanted));
  }
});

describe('results before an error', () => {
  const cases: [kinds: readonly Yield[], results: string, wanted: string][] = [
    [[ANY, ROWS], '', '!0'],
    [[ANY, ROWS], 'R', '!?'],
    [[ANY, ROWS], 'R.', '2 !0'],
    [[CALL, ROWS], 'R', '!1'],
    [[ANY, OK, OK], '..', '1 1 !0'],
    [[ONE, CALL, ONE], 'RRR', '1 !2'],
    [[ANY, CALL], 'RRR.', '4 !0'],
    [[OK], '.', ''],
  ];
  for (const [kinds, results, wanted] of cases) {
    test(`${kinds.join()} answered by ${results} and an error`, () => {
      const got = said(kinds, results, true);
      assert.equal(got, wanted === '' ? '!?' : wanted);
    });
  }
});

test('what is proven is what has happened', () => {
  const statement = fc.oneof(
    fc.record({ kind: fc.constantFrom(ONE, ROWS, ANY), results: fc.constant('R') }),
    fc.record({ kind: fc.constantFrom(ONE, OK, ANY, CALL), results: fc.constant('.') }),
    fc.record({
      kind: fc.constantFrom(CALL, ANY),
      results: fc.nat({ max: 3 }).map((rows) => `${'R'.repeat(rows)}.`),
    }),
  );
  fc.assert(
    fc.property(fc.array(statement, { minLength: 1, maxLength: 7 }), fc.nat(), (statements, n) => {
      const kinds = statements.map(({ kind }) => kind);
      const results = statements.map((each) => each.results);
      const whole = attribute(kinds, of(results.join('')), false);
      assert.equal(whole.complete.length, kinds.length);
      let at = 0;
      for (const [i, share] of whole.complete.entries()) {
        if (share !== undefined) assert.deepEqual(share, { from: at, to: at + results[i]!.length });
        at += results[i]!.length;
      }
      // The same with an error in one of them, behind some of its result sets.
      const bad = n % kinds.length;
      const before = results.slice(0, bad).join('');
      const begun = results[bad]!.length > 1 ? results[bad]!.slice(0, n % results[bad]!.length) : '';
      const { complete, failed } = attribute(kinds, of(before + begun), true);
      assert.ok(complete.length <= bad);
      if (failed !== undefined) {
        assert.equal(complete.length, bad);
        assert.deepEqual(failed, { from: before.length, to: before.length + begun.length });
      }
    }),
    { numRuns: 3000 },
  );
});
