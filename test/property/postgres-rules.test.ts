/** Flights of settings and statements, against a model of what the server does with them: no literal ever leaves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { c, PostgresBench, type Segment, s, started, steps } from '../support/protocols/postgres.ts';

const STRINGS = 'standard_conforming_strings';

/** One message or series of the client: sets the rule by a form that shows it or hides it, or has literals. */
interface Op {
  readonly kind: 'on' | 'off' | 'literal' | 'fail';
  /** How a setting is written. */
  readonly form: number;
  readonly extended: boolean;
  /** Waits for the answers to all before. */
  readonly waits: boolean;
}

const FORMS = [
  (value: string) => `SET ${STRINGS} = ${value}`,
  (value: string) => `SELECT set_config('${STRINGS}', '${value}', false)`,
  (value: string) => `SELECT f_${value}()`,
  (value: string) => `DO $$ BEGIN PERFORM f_${value}(); END $$`,
  (value: string) => `INSERT INTO triggers_${value} VALUES (1)`,
];

const op: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom('on' as const, 'off' as const, 'literal' as const, 'literal' as const, 'fail' as const),
  form: fc.nat(FORMS.length - 1),
  extended: fc.boolean(),
  waits: fc.boolean(),
});

/** Literals with the marker, as the server reads them by the rule that holds when it comes to them. */
const literals = (on: boolean, mark: string): string =>
  on ? `SELECT 'c:\\', '${mark}', 'd'` : `SELECT 'a\\'b ${mark} c\\'d'`;

test('no literal leaves, whatever is on its way', () => {
  let certain = 0;
  fc.assert(
    fc.property(fc.array(op, { minLength: 1, maxLength: 12 }), fc.boolean(), (ops, late) => {
      const segments: Segment[] = [...started];
      let on = true;
      let sent: Buffer[] = [];
      let answers: Buffer[] = [];
      const flush = () => {
        if (sent.length === 0) return;
        segments.push(['C', ...sent], ['S', ...answers]);
        sent = [];
        answers = [];
      };
      for (const [index, { kind, form, extended, waits }] of ops.entries()) {
        if (waits) flush();
        const text = kind === 'literal' ? literals(on, `zq${index}qz`) : FORMS[form]!(kind === 'fail' ? 'off' : kind);
        sent.push(...(extended ? [c.parse('', text), c.bind('', ''), c.execute(), c.sync] : [c.query(text)]));
        if (extended) answers.push(s.parseComplete, s.bindComplete);
        const changes = kind === 'on' ? !on : kind === 'off' && on;
        if (changes) on = !on;
        const status = changes ? [s.status(STRINGS, on ? 'on' : 'off')] : [];
        const done = kind === 'fail' ? s.error('42501') : s.complete('SELECT 1');
        // Before PostgreSQL 14 it is said at once.
        answers.push(...(late ? [done, ...status] : [...status, done]), s.ready());
      }
      flush();
      const { exchanges } = new PostgresBench().run(steps(segments)).close();
      assert.equal(exchanges.length, ops.length);
      for (const [index, { statement }] of exchanges.entries()) {
        assert.doesNotMatch(JSON.stringify(statement), /zq\d+qz/);
        // What is sent when all is answered is read by the rule that the server has said.
        if (ops[index]!.waits || index === 0) assert.notEqual(statement?.text, '');
        if (statement?.text !== '') certain++;
      }
    }),
    { numRuns: 2000 },
  );
  assert.ok(certain > 5000);
});
