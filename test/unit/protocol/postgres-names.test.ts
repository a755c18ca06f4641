import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { c, converse, PostgresBench, type Segment, s, started, steps } from '../../support/protocols/postgres.ts';

const A = 'SELECT x FROM a';
const B = 'SELECT x FROM b';
const run = (name = '', portal = ''): Buffer[] => [c.bind(portal, name), c.execute(portal)];
const prepare = (name: string, text: string): Buffer[] => [c.parse(name, text), ...run(name)];
const ran = [s.bindComplete, s.complete('SELECT 1')];
const prepared = [s.parseComplete, ...ran];

/** Segments in one flight and answers, as what was sent and answered at once; and the same when everything is sent first. */
function both(...exchanges: readonly (readonly [Buffer[], Buffer[]])[]): string[][] {
  const waiting = exchanges.flatMap(([sent, answered]): Segment[] => [
    ['C', ...sent],
    ['S', ...answered],
  ]);
  const ahead: Segment[] = [
    ['C', ...exchanges.flatMap(([sent]) => sent)],
    ['S', ...exchanges.flatMap(([, got]) => got)],
  ];
  return [waiting, ahead].map((segments) => {
    const bench = converse(segments);
    assert.deepEqual(bench.counters.parseErrors, {});
    return bench.lines.map((line) => line.replace(/ (?:0|-1)\/(?:-1|1)$/, ''));
  });
}

function check(expected: readonly string[], ...exchanges: readonly (readonly [Buffer[], Buffer[]])[]): void {
  for (const lines of both(...exchanges)) assert.deepEqual(lines, expected);
}

describe('postgres: what a name stands for is what the server accepted', () => {
  test('Parse of a name that exists is refused, and the old text runs', () =>
    check(
      [`${A} -> ok`, `${B} -> error 42P05`, `${A} -> ok`],
      [
        [...prepare('s', A), c.sync],
        [...prepared, s.ready()],
      ],
      [
        [c.parse('s', B), c.sync],
        [s.error('42P05'), s.ready()],
      ],
      [
        [...run('s'), c.sync],
        [...ran, s.ready()],
      ],
    ));

  test('Parse with an error leaves a free name free', () =>
    check(
      ['SELEC -> error 42601', '(none) -> error 26000', `${A} -> ok`],
      [
        [c.parse('s', 'SELEC'), c.sync],
        [s.error('42601'), s.ready()],
      ],
      [
        [...run('s'), c.sync],
        [s.error('26000'), s.ready()],
      ],
      [
        [...prepare('s', A), c.sync],
        [...prepared, s.ready()],
      ],
    ));

  test('Parse that is discarded behind an error, up to Sync', () =>
    check(
      [`${A} -> ok`, 'SELECT ?/? -> error 22012', `${A} -> ok`],
      [
        [...prepare('s', A), c.sync],
        [...prepared, s.ready()],
      ],
      [
        [...prepare('', 'SELECT 1/0'), c.close('S', 's'), c.parse('s', B), ...run('s'), c.sync],
        [s.parseComplete, s.bindComplete, s.error('22012'), s.ready()],
      ],
      [
        [...run('s'), c.sync],
        [...ran, s.ready()],
      ],
    ));

  test('Close, and Parse again', () =>
    check(
      [`${A} -> ok`, `${B} -> ok`],
      [
        [...prepare('s', A), c.sync],
        [...prepared, s.ready()],
      ],
      [
        [c.close('S', 's'), ...prepare('s', B), c.sync],
        [s.closeComplete, ...prepared, s.ready()],
      ],
    ));

  test('Close and Parse in flight, and Bind behind the answer to the first', () => {
    const bench = converse([
      ['C', ...prepare('s', A), c.sync],
      ['S', ...prepared, s.ready()],
      ['C', c.close('S', 's'), c.parse('s', B), c.flush],
      ['S', s.closeComplete],
      ['C', ...run('s'), c.sync],
      ['S', s.parseComplete, ...ran, s.ready()],
    ]);
    assert.deepEqual(bench.lines, [`${A} -> ok -1/1`, `${B} -> ok -1/1`]);
  });

  test('the unnamed one: a refused Parse drops it, a discarded one does not', () => {
    check(
      ['SELEC -> error 42601', '(none) -> error 26000'],
      [
        [c.parse('', A), c.sync],
        [s.parseComplete, s.ready()],
      ],
      [
        [c.parse('', 'SELEC'), c.sync],
        [s.error('42601'), s.ready()],
      ],
      [
        [...run(), c.sync],
        [s.error('26000'), s.ready()],
      ],
    );
    check(
      ['(none) -> error 26000', `${A} -> ok`],
      [
        [c.parse('', A), c.sync],
        [s.parseComplete, s.ready()],
      ],
      [
        [...run('nope'), c.parse('', B), c.sync],
        [s.error('26000'), s.ready()],
      ],
      [
        [...run(), c.sync],
        [...ran, s.ready()],
      ],
    );
  });

  test('a Query drops the unnamed one, unless it is discarded', () => {
    check(
      ['SELECT ? -> ok', '(SELECT) -> ok'],
      [
        [c.parse('', A), c.sync],
        [s.parseComplete, s.ready()],
      ],
      [[c.query('SELECT 1')], [s.complete('SELECT 1'), s.ready()]],
      [
        [...run(), c.sync],
        [...ran, s.ready()],
      ],
    );
    check(
      ['(none) -> error 26000', `${A} -> ok`],
      [
        [c.parse('', A), c.sync],
        [s.parseComplete, s.ready()],
      ],
      [
        [...run('nope'), c.query('SELECT 1'), c.sync],
        [s.error('26000'), s.ready()],
      ],
      [
        [...run(), c.sync],
        [...ran, s.ready()],
      ],
    );
  });

  test('a portal keeps what it was made of', () =>
    check(
      ['BEGIN -> ok', `${A} -> ok`],
      [[c.query('BEGIN')], [s.complete('BEGIN'), s.ready('T')]],
      [
        [c.parse('s', A), c.bind('p', 's'), c.sync],
        [s.parseComplete, s.bindComplete, s.ready('T')],
      ],
      [
        [c.close('S', 's'), c.parse('s', B), c.sync],
        [s.closeComplete, s.parseComplete, s.ready('T')],
      ],
      [
        [c.execute('p'), c.sync],
        [s.complete('SELECT 1'), s.ready('T')],
      ],
    ));

  test('Bind to a portal that exists is refused, and the old one runs', () =>
    check(
      ['BEGIN -> ok', 'SAVEPOINT x -> ok', `${B} -> error 42P03`, 'ROLLBACK TO x -> ok', `${A} -> ok`],
      [[c.query('BEGIN')], [s.complete('BEGIN'), s.ready('T')]],
      [
        [c.parse('a', A), c.parse('b', B), c.bind('p', 'a'), c.sync],
        [s.parseComplete, s.parseComplete, s.bindComplete, s.ready('T')],
      ],
      [[c.query('SAVEPOINT x')], [s.complete('SAVEPOINT'), s.ready('T')]],
      [
        [c.bind('p', 'b'), c.sync],
        [s.error('42P03'), s.ready('E')],
      ],
      [[c.query('ROLLBACK TO x')], [s.complete('ROLLBACK'), s.ready('T')]],
      [
        [c.execute('p'), c.sync],
        [s.complete('SELECT 1'), s.ready('T')],
      ],
    ));

  for (const end of ['COMMIT', 'ROLLBACK']) {
    test(`portals end with their transaction: ${end}`, () =>
      check(
        ['BEGIN -> ok', `${end} -> ok`, '(none) -> error 34000'],
        [[c.query('BEGIN')], [s.complete('BEGIN'), s.ready('T')]],
        [
          [c.parse('s', A), c.bind('p', 's'), c.sync],
          [s.parseComplete, s.bindComplete, s.ready('T')],
        ],
        [[c.query(end)], [s.complete(end), s.ready()]],
        [
          [c.execute('p'), c.sync],
          [s.error('34000'), s.ready()],
        ],
      ));
  }

  test('portals of a series without BEGIN end at Sync', () =>
    check(
      ['DECLARE p CURSOR WITH HOLD FOR SELECT y FROM c -> ok', '(SELECT) -> ok'],
      [
        [c.parse('s', A), c.bind('p', 's'), c.sync],
        [s.parseComplete, s.bindComplete, s.ready()],
      ],
      [[c.query('DECLARE p CURSOR WITH HOLD FOR SELECT y FROM c')], [s.complete('DECLARE CURSOR'), s.ready()]],
      [
        [c.execute('p'), c.sync],
        [s.complete('SELECT 1'), s.ready()],
      ],
    ));

  test('CLOSE and DECLARE of SQL take the names of portals', () =>
    check(
      ['BEGIN -> ok', 'CLOSE p -> ok', 'DECLARE p CURSOR FOR SELECT y FROM c -> ok', '(SELECT) -> ok'],
      [[c.query('BEGIN')], [s.complete('BEGIN'), s.ready('T')]],
      [
        [c.parse('s', A), c.bind('p', 's'), c.sync],
        [s.parseComplete, s.bindComplete, s.ready('T')],
      ],
      [[c.query('CLOSE p')], [s.complete('CLOSE CURSOR'), s.ready('T')]],
      [[c.query('DECLARE p CURSOR FOR SELECT y FROM c')], [s.complete('DECLARE CURSOR'), s.ready('T')]],
      [
        [c.execute('p'), c.sync],
        [s.complete('SELECT 1'), s.ready('T')],
      ],
    ));

  for (const [text, tag] of [
    ['DEALLOCATE s', 'DEALLOCATE'],
    ['DEALLOCATE PREPARE "s"', 'DEALLOCATE'],
    ['DEALLOCATE S', 'DEALLOCATE'],
    ['DEALLOCATE ALL', 'DEALLOCATE ALL'],
    ['DEALLOCATE PREPARE ALL', 'DEALLOCATE ALL'],
    ['DISCARD ALL', 'DISCARD ALL'],
  ] as const) {
    test(`${text} drops it, when it succeeds`, () => {
      check(
        [`${text} -> ok`, '(none) -> error 26000', `${B} -> ok`],
        [
          [c.parse('s', A), c.sync],
          [s.parseComplete, s.ready()],
        ],
        [[c.query(text)], [s.complete(tag), s.ready()]],
        [
          [...run('s'), c.sync],
          [s.error('26000'), s.ready()],
        ],
        [
          [...prepare('s', B), c.sync],
          [...prepared, s.ready()],
        ],
      );
      check(
        [`${text} -> error 25001`, `${A} -> ok`],
        [
          [c.parse('s', A), c.sync],
          [s.parseComplete, s.ready()],
        ],
        [[c.query(text)], [s.error('25001'), s.ready()]],
        [
          [...run('s'), c.sync],
          [...ran, s.ready()],
        ],
      );
    });
  }

  for (const text of ['DEALLOCATE "S"', 'DEALLOCATE other', 'DISCARD PLANS', 'DISCARD TEMP']) {
    test(`${text} leaves it`, () =>
      check(
        [`${text} -> ok`, `${A} -> ok`],
        [
          [c.parse('s', A), c.sync],
          [s.parseComplete, s.ready()],
        ],
        [[c.query(text)], [s.complete(text.startsWith('DEALLOCATE') ? 'DEALLOCATE' : text), s.ready()]],
        [
          [...run('s'), c.sync],
          [...ran, s.ready()],
        ],
      ));
  }

  test('PREPARE of SQL gives a name that Bind takes, with what is prepared', () => {
    const bench = converse([
      ['C', c.query("PREPARE s (int) AS SELECT x FROM b WHERE y = $1 AND z = 'v'")],
      ['S', s.complete('PREPARE'), s.ready()],
      ['C', c.bind('', 's', '1'), c.execute(), c.sync],
      ['S', ...ran, s.ready()],
    ]);
    assert.deepEqual(bench.lines, [
      'PREPARE s (int) AS SELECT x FROM b WHERE y = $1 AND z = ? -> ok -1/-1',
      'SELECT x FROM b WHERE y = $1 AND z = ? -> ok -1/1',
    ]);
  });

  test('PREPARE of a name that exists is refused', () =>
    check(
      [`PREPARE s AS ${B} -> error 42P05`, `${A} -> ok`],
      [
        [c.parse('s', A), c.sync],
        [s.parseComplete, s.ready()],
      ],
      [[c.query(`PREPARE s AS ${B}`)], [s.error('42P05'), s.ready()]],
      [
        [...run('s'), c.sync],
        [...ran, s.ready()],
      ],
    ));

  test('a text that was not understood may prepare and drop: its tag tells', () =>
    check(
      ['(PREPARE SELECT) -> ok', '(SELECT) -> ok'],
      [
        [c.parse('s', A), c.sync],
        [s.parseComplete, s.ready()],
      ],
      [[c.query('PREPARE x AS SELECT $a$ b')], [s.complete('DEALLOCATE ALL'), s.ready()]],
      [
        [...run('s'), c.sync],
        [...ran, s.ready()],
      ],
    ));

  test('of long names the server looks at 63 bytes', () => {
    const long = 'n'.repeat(63);
    check(
      [`${A} -> ok`, `${B} -> error 42P05`, `${A} -> ok`],
      [
        [...prepare(`${long}1`, A), c.sync],
        [...prepared, s.ready()],
      ],
      [
        [c.parse(`${long}2`, B), c.sync],
        [s.error('42P05'), s.ready()],
      ],
      [
        [...run(`${long}3`), c.sync],
        [...ran, s.ready()],
      ],
    );
  });

  test('PREPARE within PREPARE, however deep', () => {
    const text = `${'PREPARE a AS '.repeat(20_000)}SELECT 1`;
    const bench = new PostgresBench().run(
      steps([...started, ['C', c.query(text)], ['S', s.error('42601'), s.ready()]]),
    );
    assert.equal(bench.close().exchanges.length, 1);
  });
});
