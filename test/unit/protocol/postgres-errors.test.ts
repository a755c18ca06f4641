import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_SERVER } from '../../../src/flow/connection.ts';
import { isFailure, placeOfError, readError } from '../../../src/protocol/postgres/error.ts';
import {
  c,
  converse,
  PostgresBench,
  type Segment,
  s,
  started,
  steps,
  string,
} from '../../support/protocols/postgres.ts';

const one = s.complete('SELECT 1');

/** What a text that fails becomes; `done` of its statements were answered before. */
function failing(text: string, done: number, code: string, ...fields: string[]) {
  const bench = converse([
    ['C', c.query(text)],
    ['S', ...Array<Buffer>(done).fill(one), s.error(code, 'ERROR', fields), s.ready()],
  ]);
  assert.deepEqual(bench.counters.parseErrors, {});
  return { lines: bench.lines, notRun: bench.counters.incomplete.not_run ?? 0, exchanges: bench.exchanges };
}

describe('postgres: which statement of a text failed', () => {
  const text = 'SELECT a; SELECT b; SELCT c';

  test('a syntax error refuses the whole text, and says where it is', () => {
    const { lines, notRun, exchanges } = failing(text, 0, '42601', 'P21', 'Fscan.l');
    assert.deepEqual(lines, ['SELCT c -> error 42601 -1/-1 batch=2/3']);
    assert.equal(notRun, 2);
    assert.equal(exchanges[0]?.requestBytes, c.query(text).length);
    assert.equal(exchanges[0]?.streamOffset, exchanges[0]!.traceOffset + 2);
    assert.deepEqual(failing(text, 0, '42601', 'P12').lines, ['SELECT b -> error 42601 -1/-1 batch=1/3']);
    assert.deepEqual(failing(text, 0, '42601', 'P1').lines, ['SELECT a -> error 42601 -1/-1 batch=0/3']);
    assert.deepEqual(failing(text, 0, '42601', 'P28').lines, ['SELCT c -> error 42601 -1/-1 batch=2/3'], 'at its end');
    assert.deepEqual(failing(`${text};`, 0, '42601', 'P29').lines, ['SELCT c -> error 42601 -1/-1 batch=2/3']);
  });

  test('places are counted in characters', () => {
    // Each of these takes two bytes, or four.
    const wide = 'SELECT "ä😀ö"; SELECT "ü"; SELCT "ß"';
    const characters = [...wide.slice(0, wide.indexOf('SELCT'))].length;
    assert.deepEqual(failing(wide, 0, '42601', `P${characters + 1}`).lines, [
      'SELCT "ß" -> error 42601 -1/-1 batch=2/3',
    ]);
    assert.deepEqual(failing(wide, 0, '42601', `P${characters - 1}`).lines, [
      'SELECT "ü" -> error 42601 -1/-1 batch=1/3',
    ]);
  });

  test('when it is run, it is the one that is answered', () => {
    assert.deepEqual(failing(text, 0, '22012').lines, ['SELECT a -> error 22012 -1/-1 batch=0/3']);
    const second = failing(text, 1, '42P01', 'P18', 'Fparse_relation.c');
    assert.deepEqual(second.lines, ['SELECT a -> ok -1/1 batch=0/3', 'SELECT b -> error 42P01 -1/-1 batch=1/3']);
    assert.equal(second.notRun, 1);
    assert.deepEqual(failing(text, 0, '25P02', 'Fpostgres.c').lines, ['SELECT a -> error 25P02 -1/-1 batch=0/3']);
  });

  test('of an error of the whole text that has no place nothing is said but that', () => {
    for (const fields of [['Fmbutils.c'], []]) {
      const { lines, notRun, exchanges } = failing(text, 0, '22021', ...fields);
      assert.deepEqual(lines, ['(none) -> error 22021 -1/-1']);
      assert.equal(notRun, 3);
      assert.equal(exchanges[0]?.requestBytes, c.query(text).length);
    }
    assert.deepEqual(failing(text, 0, '42601', 'Fgram.y').lines, ['(none) -> error 42601 -1/-1']);
    assert.deepEqual(failing('SELECT a', 0, '22021', 'Fmbutils.c').lines, ['SELECT a -> error 22021 -1/-1']);
  });

  test('an error whose place was not read', () => {
    const long = s.error('42601', 'ERROR', [`D${'x'.repeat(5000)}`, 'P12']);
    const parts: Segment[] = [
      ['S', long.subarray(0, 2000)],
      ['S', long.subarray(2000), s.ready()],
    ];
    assert.deepEqual(converse([['C', c.query(text)], ...parts]).lines, ['(none) -> error 42601 -1/-1']);
    const bench = new PostgresBench().run(steps([...started, ['C', c.query(text)]]));
    const error = s.error('42601', 'ERROR', [`D${'x'.repeat(500)}`, 'P12']);
    bench.feed(FROM_SERVER, error.subarray(0, 100), 10);
    bench.layer.gap(FROM_SERVER, 100, 11);
    bench.feed(FROM_SERVER, Buffer.concat([error.subarray(200), s.ready()]), 12);
    assert.deepEqual(bench.close().lines, ['(none) -> error 42601 -1/-1']);
  });

  test('what a text that failed had set is undone', () => {
    const segments: Segment[] = [
      ['C', c.query('SET search_path TO app; SELECT 1; SELCT')],
      ['S', s.error('42601', 'ERROR', ['P35']), s.ready()],
      ['C', c.query('SELECT 1')],
      ['S', one, s.ready()],
    ];
    assert.deepEqual(
      converse(segments).exchanges.map((e) => e.namespace),
      ['db', 'db'],
    );
  });

  test('fields of any order and content', () => {
    const body = Buffer.concat([string('Mx'), string('P7'), string('C42601'), Buffer.of(0)]);
    assert.equal(readError(body, 0, body.length), '42601');
    assert.equal(placeOfError(body, 0, body.length, [6, 9]), 1);
    for (let end = 0; end < body.length; end++) assert.ok([-1, 1].includes(placeOfError(body, 0, end, [6, 9])));
    const bad = Buffer.concat([string('Pseven'), string('Fx.c'), Buffer.of(0)]);
    assert.equal(placeOfError(bad, 0, bad.length, [6, 9]), 0);
  });
});

describe('postgres: which codes are errors', () => {
  for (const [code, isError] of [
    ['00000', false],
    ['01004', false],
    ['02000', true],
    ['03000', true],
    ['42P01', true],
    ['P0001', true],
    ['57014', true],
    // An ErrorResponse without a code.
    ['', true],
  ] as const) {
    test(`${code || 'none'}: ${isError}`, () => assert.equal(isFailure(code), isError));
  }
});
