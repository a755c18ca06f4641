import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Step } from '../../support/protocols/cases.ts';
import { c, converse, PostgresBench, type Segment, s, started, steps } from '../../support/protocols/postgres.ts';

interface Case {
  readonly name: string;
  readonly segments: readonly Segment[];
  readonly expected: readonly string[];
  /** counters.incomplete; none of it where it is not said. */
  readonly incomplete?: Readonly<Record<string, number>>;
  /** What is sent is in answer to what was received: other cuts of the same bytes would be another conversation. */
  readonly last?: boolean;
}

const cases: readonly Case[] = [
  {
    name: 'a simple query',
    segments: [
      ['C', c.query("SELECT * FROM t WHERE name = 'secret'")],
      ['S', s.rowDescription('a', 'b'), s.row('1', null), s.row('2', 'x'), s.complete('SELECT 2'), s.ready()],
    ],
    expected: ['SELECT * FROM t WHERE name = ? -> ok 2/-1'],
  },
  {
    name: 'several statements in one query',
    segments: [
      ['C', c.query('INSERT INTO t VALUES (1), (2); SELECT 1; DELETE FROM t')],
      ['S', s.complete('INSERT 0 2'), s.rowDescription('x'), s.row('1'), s.complete('SELECT 1')],
      ['S', s.complete('DELETE 2'), s.ready()],
    ],
    expected: [
      'INSERT INTO t VALUES (?), (?) -> ok -1/2 batch=0/3',
      'SELECT ? -> ok 1/-1 batch=1/3',
      'DELETE FROM t -> ok -1/2 batch=2/3',
    ],
  },
  {
    name: 'an error in the middle of a query: what follows never runs',
    segments: [
      ['C', c.query('UPDATE t SET a = 1; SELECT 1/0; SELECT 3; SELECT 4')],
      ['S', s.complete('UPDATE 7'), s.rowDescription('x'), s.error('22012'), s.ready()],
    ],
    expected: ['UPDATE t SET a = ? -> ok -1/7 batch=0/4', 'SELECT ?/? -> error 22012 -1/-1 batch=1/4'],
    incomplete: { not_run: 2 },
  },
  {
    name: 'empty queries',
    segments: [
      ['C', c.query('')],
      ['S', s.emptyQuery, s.ready()],
      ['C', c.query(' ; -- nothing')],
      ['S', s.emptyQuery, s.ready()],
      ['C', c.parse('', ''), c.bind('', ''), c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.emptyQuery, s.ready()],
    ],
    expected: [],
  },
  {
    name: 'the extended protocol, the statement without a name',
    segments: [
      [
        'C',
        c.parse('', 'SELECT a FROM t WHERE b = $1'),
        c.bind('', '', 'secret'),
        c.describe('P'),
        c.execute(),
        c.sync,
      ],
      ['S', s.parseComplete, s.bindComplete, s.rowDescription('a'), s.row('1'), s.complete('SELECT 1'), s.ready()],
    ],
    expected: ['SELECT a FROM t WHERE b = $1 -> ok 1/-1'],
  },
  {
    name: 'statements with names, prepared once and run often',
    segments: [
      ['C', c.parse('a', 'SELECT 1'), c.describe('S', 'a'), c.parse('b', 'UPDATE t SET a = $1'), c.sync],
      ['S', s.parseComplete, s.parameters, s.rowDescription('x'), s.parseComplete, s.ready()],
      ['C', c.bind('', 'a'), c.execute(), c.sync],
      ['S', s.bindComplete, s.complete('SELECT 0'), s.ready()],
      ['C', c.bind('', 'b', '1'), c.execute(), c.bind('', 'a'), c.execute(), c.bind('', 'b', '2'), c.execute(), c.sync],
      ['S', s.bindComplete, s.complete('UPDATE 1'), s.bindComplete, s.row('1'), s.complete('SELECT 1')],
      ['S', s.bindComplete, s.complete('UPDATE 0'), s.ready()],
      ['C', c.close('S', 'a'), c.sync],
      ['S', s.closeComplete, s.ready()],
      ['C', c.bind('', 'a'), c.execute(), c.sync],
      ['S', s.error('26000'), s.ready()],
    ],
    expected: [
      'SELECT ? -> ok 0/-1',
      'UPDATE t SET a = $1 -> ok -1/1',
      'SELECT ? -> ok 1/-1',
      'UPDATE t SET a = $1 -> ok -1/0',
      '(none) -> error 26000 -1/-1',
    ],
  },
  {
    name: 'a pipeline goes on after Flush; what follows an error is discarded up to the next Sync',
    segments: [
      ['C', c.parse('', 'SELECT 1'), c.bind('', ''), c.execute(), c.flush],
      ['S', s.parseComplete, s.bindComplete, s.complete('SELECT 0')],
      [
        'C',
        c.parse('', 'SELECT 1/0'),
        c.bind('', ''),
        c.execute(),
        c.parse('', 'SELECT 3'),
        c.bind('', ''),
        c.execute(),
        c.sync,
      ],
      ['C', c.parse('', 'SELECT 4'), c.bind('', ''), c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.error('22012'), s.ready()],
      ['S', s.parseComplete, s.bindComplete, s.complete('SELECT 0'), s.ready()],
    ],
    expected: ['SELECT ? -> ok 0/-1', 'SELECT ?/? -> error 22012 -1/-1', 'SELECT ? -> ok 0/-1'],
    incomplete: { not_run: 1 },
  },
  {
    name: 'the error comes before the rest of the pipeline',
    segments: [
      ['C', c.parse('', 'SELECT 1/0'), c.bind('', ''), c.execute(), c.flush],
      ['S', s.parseComplete, s.bindComplete, s.error('22012')],
      ['C', c.parse('x', 'SELECT 2'), c.bind('', 'x'), c.execute(), c.query('SELECT 3'), c.sync],
      ['S', s.ready()],
      ['C', c.query('SELECT 5')],
      ['S', s.rowDescription('x'), s.row('5'), s.complete('SELECT 1'), s.ready()],
    ],
    expected: ['SELECT ?/? -> error 22012 -1/-1', 'SELECT ? -> ok 1/-1'],
    incomplete: { not_run: 2 },
  },
  {
    name: 'a statement that cannot be parsed, bound or described fails, though it never ran',
    segments: [
      ['C', c.parse('', 'SELEC 1'), c.bind('', ''), c.execute(), c.sync],
      ['S', s.error('42601'), s.ready()],
      ['C', c.parse('n', 'SELECT $1::int'), c.sync],
      ['S', s.parseComplete, s.ready()],
      ['C', c.bind('', 'n', 'x'), c.execute(), c.bind('', 'n', '1'), c.execute(), c.sync],
      ['S', s.error('22P02'), s.ready()],
      ['C', c.describe('S', 'n'), c.sync],
      ['S', s.error('0A000'), s.ready()],
    ],
    expected: [
      'SELEC ? -> error 42601 -1/-1',
      'SELECT $1::int -> error 22P02 -1/-1',
      'SELECT $1::int -> error 0A000 -1/-1',
    ],
    incomplete: { not_run: 1 },
  },
  {
    name: 'a portal that is run in parts is one statement',
    segments: [
      ['C', c.parse('', 'SELECT * FROM t'), c.bind('p', ''), c.execute('p', 2), c.flush],
      ['S', s.parseComplete, s.bindComplete, s.row('1'), s.row('2'), s.suspended],
      ['C', c.execute('p', 2), c.flush],
      ['S', s.row('3'), s.row('4'), s.suspended],
      ['C', c.execute('p', 2), c.sync],
      ['S', s.row('5'), s.complete('SELECT 1'), s.ready()],
    ],
    expected: ['SELECT * FROM t -> ok 5/-1'],
  },
  {
    name: 'portals that are left half-way: closed, replaced, ended with their transaction',
    segments: [
      ['C', c.query('BEGIN')],
      ['S', s.complete('BEGIN'), s.ready('T')],
      ['C', c.parse('a', 'SELECT * FROM a'), c.parse('b', 'SELECT * FROM b'), c.parse('d', 'SELECT * FROM d'), c.sync],
      ['S', s.parseComplete, s.parseComplete, s.parseComplete, s.ready('T')],
      ['C', c.bind('', 'a'), c.execute('', 1), c.sync],
      ['S', s.bindComplete, s.row('1'), s.suspended, s.ready('T')],
      ['C', c.bind('', 'b'), c.execute('', 1), c.bind('pd', 'd'), c.execute('pd', 1), c.close('P', 'pd'), c.sync],
      [
        'S',
        s.bindComplete,
        s.row('1'),
        s.suspended,
        s.bindComplete,
        s.row('1'),
        s.suspended,
        s.closeComplete,
        s.ready('T'),
      ],
      ['C', c.query('COMMIT')],
      ['S', s.complete('COMMIT'), s.ready()],
    ],
    expected: [
      'BEGIN -> ok -1/-1',
      'SELECT * FROM a -> ok 1/-1',
      'SELECT * FROM d -> ok 1/-1',
      'COMMIT -> ok -1/-1',
      'SELECT * FROM b -> ok 1/-1',
    ],
  },
  {
    name: 'statements prepared before they could be seen: what the completion tells',
    segments: [
      ['C', c.bind('', 'old', 'x'), c.execute(), c.sync],
      ['S', s.bindComplete, s.complete('INSERT 0 3'), s.ready()],
    ],
    expected: ['(INSERT) -> ok -1/3'],
  },
  {
    name: 'rows: changed, returned by a change, created, fetched, none',
    segments: [
      ['C', c.query('UPDATE t SET a = 1 RETURNING a')],
      ['S', s.rowDescription('a'), s.row('1'), s.row('1'), s.complete('UPDATE 2'), s.ready()],
      ['C', c.query('DELETE FROM t WHERE NOT a RETURNING a')],
      ['S', s.rowDescription('a'), s.complete('DELETE 0'), s.ready()],
      ['C', c.query('CREATE TABLE u AS SELECT 1')],
      ['S', s.complete('SELECT 10'), s.ready()],
      ['C', c.query('FETCH 2 FROM cur')],
      ['S', s.rowDescription('a'), s.row('1'), s.row('2'), s.complete('FETCH 2'), s.ready()],
      ['C', c.query('MOVE 2 FROM cur')],
      ['S', s.complete('MOVE 2'), s.ready()],
      ['C', c.query('SHOW search_path')],
      ['S', s.rowDescription('search_path'), s.row('x'), s.complete('SHOW'), s.ready()],
      ['C', c.query('MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE')],
      ['S', s.complete('MERGE 4'), s.ready()],
    ],
    expected: [
      'UPDATE t SET a = ? RETURNING a -> ok 2/2',
      'DELETE FROM t WHERE NOT a RETURNING a -> ok 0/0',
      'CREATE TABLE u AS SELECT ? -> ok -1/10',
      'FETCH ? FROM cur -> ok 2/-1',
      'MOVE ? FROM cur -> ok -1/-1',
      'SHOW search_path -> ok 1/-1',
      'MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE -> ok -1/4',
    ],
  },
  {
    name: 'COPY in, by a query',
    segments: [
      ['C', c.query('COPY t FROM STDIN; SELECT 1')],
      ['S', s.copyIn],
      ['C', c.copyData('1\n'), c.copyData('2\n'), c.copyDone],
      ['S', s.complete('COPY 2'), s.rowDescription('x'), s.row('1'), s.complete('SELECT 1'), s.ready()],
      ['C', c.query('COPY t FROM STDIN')],
      ['S', s.copyIn],
      ['C', c.copyData('1\n'), c.copyFail('enough')],
      ['S', s.error('57014'), s.ready()],
    ],
    expected: [
      'COPY t FROM STDIN -> ok -1/2 batch=0/2',
      'SELECT ? -> ok 1/-1 batch=1/2',
      'COPY t FROM STDIN -> error 57014 -1/-1',
    ],
  },
  {
    name: 'COPY in, extended: the Sync that was sent with it is ignored by the server',
    segments: [
      ['C', c.parse('', 'COPY t FROM STDIN'), c.bind('', ''), c.describe('P'), c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.noData, s.copyIn],
      ['C', c.copyData('1\n'), c.copyDone, c.sync],
      ['S', s.complete('COPY 1'), s.ready()],
      ['C', c.query('SELECT 1')],
      ['S', s.rowDescription('x'), s.complete('SELECT 0'), s.ready()],
    ],
    expected: ['COPY t FROM STDIN -> ok -1/1', 'SELECT ? -> ok 0/-1'],
  },
  {
    name: 'COPY in whose data is sent before the answer, and which fails',
    segments: [
      ['C', c.query('COPY nosuch FROM STDIN'), c.copyData('1\n'), c.copyDone],
      ['S', s.error('42P01'), s.ready()],
      ['C', c.query('COPY t FROM STDIN'), c.copyData('1\n'), c.copyDone],
      ['S', s.copyIn, s.complete('COPY 1'), s.ready()],
    ],
    expected: ['COPY nosuch FROM STDIN -> error 42P01 -1/-1', 'COPY t FROM STDIN -> ok -1/1'],
  },
  {
    name: 'COPY out',
    segments: [
      ['C', c.query('COPY t TO STDOUT')],
      ['S', s.copyOut, s.copyData('1\n'), s.copyData('2\n'), s.copyDone, s.complete('COPY 2'), s.ready()],
    ],
    expected: ['COPY t TO STDOUT -> ok 2/2'],
  },
  {
    name: 'function calls',
    segments: [
      ['C', c.functionCall],
      ['S', s.functionResult, s.ready()],
      ['C', c.functionCall],
      ['S', s.error('42883'), s.ready()],
    ],
    expected: ['(none) -> ok -1/-1', '(none) -> error 42883 -1/-1'],
  },
  {
    name: 'notices, notifications and parameters anywhere between answers',
    segments: [
      ['S', s.notification],
      ['C', c.query('SELECT 1')],
      ['S', s.notice, s.rowDescription('x'), s.notice, s.row('1'), s.notification, s.complete('SELECT 1')],
      ['S', s.status('TimeZone', 'UTC'), s.ready()],
      ['S', s.notification, s.notice],
      ['C', c.parse('', 'SELECT 1'), c.bind('', ''), c.execute(), c.sync],
      ['S', s.notice, s.parseComplete, s.notice, s.bindComplete, s.notification, s.complete('SELECT 0'), s.ready()],
    ],
    expected: ['SELECT ? -> ok 1/-1', 'SELECT ? -> ok 0/-1'],
  },
  {
    name: 'a commit that fails at Sync is no statement',
    segments: [
      ['C', c.parse('', 'INSERT INTO t VALUES ($1)'), c.bind('', '', '1'), c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.complete('INSERT 0 1'), s.error('23503'), s.ready()],
    ],
    expected: ['INSERT INTO t VALUES ($1) -> ok -1/1'],
  },
  {
    name: 'the server ends the connection',
    segments: [
      ['C', c.query('SELECT pg_sleep(1000)')],
      ['S', s.error('57P01', 'FATAL')],
    ],
    expected: ['SELECT pg_sleep(?) -> error 57P01 -1/-1'],
    last: true,
  },
];

const NEXT: readonly Segment[] = [
  ['C', c.query('VALUES (1)')],
  ['S', s.rowDescription('x'), s.row('1'), s.complete('SELECT 1'), s.ready()],
];
const NEXT_LINE = 'VALUES (?) -> ok 1/-1';

function check(c_: Case, bench: PostgresBench, expected: readonly string[], how: string): void {
  assert.deepEqual(bench.lines, expected, how);
  assert.deepEqual(bench.counters.parseErrors, {}, how);
  assert.deepEqual(bench.counters.incomplete, c_.incomplete ?? {}, how);
  assert.equal(bench.counters.exchanges.postgresql ?? 0, expected.length, how);
}

/** All ways to cut one segment in two, then every byte alone. */
function* splits(all: readonly Step[]): Generator<Step[]> {
  for (const [at, step] of all.entries()) {
    if (step.kind !== 'data') continue;
    for (let cut = 1; cut < step.bytes.length; cut++) {
      const first = { ...step, bytes: step.bytes.subarray(0, cut) };
      const second = { ...step, bytes: step.bytes.subarray(cut) };
      yield [...all.slice(0, at), first, second, ...all.slice(at + 1)];
    }
  }
  yield all.flatMap((step): Step[] =>
    step.kind === 'data' ? Array.from(step.bytes, (byte) => ({ ...step, bytes: Buffer.from([byte]) })) : [step],
  );
}

describe('postgres', () => {
  for (const each of cases) {
    test(each.name, () => {
      check(each, converse(each.segments), each.expected, 'whole');
      for (const cut of splits(steps([...started, ...each.segments]))) {
        check(each, new PostgresBench().run(cut).close(), each.expected, `cut: ${cut.length}`);
      }
      if (each.last !== true) check(each, converse([...each.segments, ...NEXT]), [...each.expected, NEXT_LINE], 'more');
    });
  }

  test('nothing of passwords, values and error texts is in an exchange', () => {
    for (const each of cases) {
      const seen = JSON.stringify(converse(each.segments).exchanges);
      assert.ok(!/secret/.test(seen), each.name);
    }
  });

  test('several requests and several answers in one segment each', () => {
    const query = c.query('SELECT 1');
    const answer = Buffer.concat([s.rowDescription('x'), s.row('1'), s.complete('SELECT 1'), s.ready()]);
    const bench = converse([
      ['C', query, query, query],
      ['S', answer, answer, answer],
    ]);
    assert.deepEqual(bench.lines, Array(3).fill('SELECT ? -> ok 1/-1'));
  });
});
