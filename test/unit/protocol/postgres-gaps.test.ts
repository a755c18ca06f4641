import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import type { PostgresLayer } from '../../../src/protocol/postgres/layer.ts';
import type { Step } from '../../support/protocols/cases.ts';
import { c, converse, PostgresBench, type Segment, s, started, steps } from '../../support/protocols/postgres.ts';

const query = (text: string): Segment => ['C', c.query(text)];
const answer = (rows = 1): Segment => [
  'S',
  s.rowDescription('x'),
  ...Array.from({ length: rows }, (_, i) => s.row(String(i))),
  s.complete(`SELECT ${rows}`),
  s.ready(),
];
const NEXT: readonly Segment[] = [query('VALUES (1)'), answer(), query('VALUES (2)'), answer()];
const NEXT_LINES = ['VALUES (?) -> ok 1/-1', 'VALUES (?) -> ok 1/-1'];

const CUT: Direction[] = [FROM_CLIENT, FROM_SERVER];

/** The conversation with one segment lost. */
function without(segments: readonly Segment[], lost: number): Step[] {
  return steps([...started, ...segments]).map((step, index) =>
    index === lost + started.length && step.kind === 'data'
      ? { kind: 'gap', direction: step.direction, length: step.bytes.length, timeUs: step.timeUs }
      : step,
  );
}

function lose(segments: readonly Segment[], lost: number): PostgresBench {
  return new PostgresBench().run(without(segments, lost)).close();
}

describe('postgres: holes', () => {
  test('a query is lost: its answer is nobody’s, the next statements are whole', () => {
    const bench = lose([query('SELECT 1'), answer(), ...NEXT], 0);
    assert.deepEqual(bench.lines, NEXT_LINES);
    assert.deepEqual(bench.counters.incomplete, { request_not_seen: 1 });
    assert.deepEqual(bench.counters.parseErrors, {});
  });

  test('an answer is lost: its statement is incomplete, the next are whole', () => {
    const bench = lose([query('SELECT 1'), answer(), ...NEXT], 1);
    assert.deepEqual(bench.lines, ['SELECT ? -> open -1/-1 incomplete=gap', ...NEXT_LINES]);
    assert.deepEqual(bench.counters.incomplete, { gap: 1 });
  });

  test('a part of an answer is lost, not its CommandComplete: it says all but when the answer began', () => {
    const parts: Segment[] = [
      ['S', s.rowDescription('x')],
      ['S', s.row('1'), s.row('2')],
      ['S', s.row('3'), s.complete('SELECT 3'), s.ready()],
    ];
    for (const [lost, responseStartUs] of [
      [1, 0],
      [2, 4],
    ] as const) {
      const bench = lose([query('TABLE t'), ...parts, ...NEXT], lost);
      assert.deepEqual(bench.lines, ['TABLE t -> ok 3/-1', ...NEXT_LINES], `lost: ${lost}`);
      const [e] = bench.exchanges;
      assert.deepEqual([e?.startUs, e?.responseStartUs, e?.endUs], [3, responseStartUs, 6]);
      assert.deepEqual(bench.counters.incomplete, {});
    }
    const extended: Segment[] = [
      ['C', c.parse('', 'TABLE t'), c.bind('', ''), c.describe('P'), c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.rowDescription('x'), s.row('1')],
      ['S', s.row('2').subarray(3), s.complete('SELECT 2'), s.ready()],
    ];
    assert.deepEqual(lose([...extended, ...NEXT], 1).lines, ['TABLE t -> ok 2/-1', ...NEXT_LINES]);
    // Which of two statements it completed is not known.
    const two: Segment[] = [['C', c.bind('', 'n'), c.execute(), c.bind('', 'n'), c.execute(), c.sync]];
    two.push(['S', s.bindComplete, s.complete('SELECT 0')], ['S', s.bindComplete, s.complete('SELECT 0'), s.ready()]);
    assert.deepEqual(
      lose([...two, ...NEXT], 1).exchanges.map((e) => e.incomplete),
      ['gap', 'gap', undefined, undefined],
    );
  });

  test('the end of an answer is lost', () => {
    const bench = lose(
      [query('SELECT 1'), ['S', s.rowDescription('x')], ['S', s.row('1'), s.complete('SELECT 1'), s.ready()], ...NEXT],
      2,
    );
    assert.deepEqual(bench.lines, ['SELECT ? -> open -1/-1 incomplete=gap', ...NEXT_LINES]);
  });

  test('statements of one query that were not reached before the hole are incomplete, too', () => {
    const bench = lose(
      [
        query('SELECT 1; SELECT 2; SELECT 3'),
        ['S', s.complete('SELECT 0')],
        ['S', s.complete('SELECT 0')],
        ['S', s.complete('SELECT 0'), s.ready()],
        ...NEXT,
      ],
      2,
    );
    assert.deepEqual(bench.lines, [
      'SELECT ? -> ok 0/-1 batch=0/3',
      'SELECT ? -> open -1/-1 batch=1/3 incomplete=gap',
      'SELECT ? -> open -1/-1 batch=2/3 incomplete=gap',
      ...NEXT_LINES,
    ]);
  });

  test('a hole within a row, within copied data, within the values of Bind costs nothing', () => {
    const row = s.row('x'.repeat(3000));
    const bind = c.bind('', 'n', 'x'.repeat(3000));
    const data = c.copyData('x'.repeat(3000));
    const bench = new PostgresBench().run(
      steps([...started, ['C', c.parse('n', 'SELECT $1'), c.sync], ['S', s.parseComplete, s.ready()]]),
    );
    const holed = (direction: Direction, before: Buffer[], big: Buffer, after: Buffer[], timeUs: number): void => {
      bench.feed(direction, Buffer.concat([...before, big.subarray(0, 1000)]), timeUs);
      bench.layer.gap(direction, 1500, timeUs);
      bench.feed(direction, Buffer.concat([big.subarray(2500), ...after]), timeUs);
    };
    holed(FROM_CLIENT, [], bind, [c.execute(), c.sync], 10);
    holed(FROM_SERVER, [s.bindComplete], row, [s.row('2'), s.complete('SELECT 2'), s.ready()], 11);
    bench.run(steps([query('COPY t FROM STDIN'), ['S', s.copyIn]], 12));
    holed(FROM_CLIENT, [], data, [c.copyDone], 14);
    bench.run(steps([['S', s.complete('COPY 1'), s.ready()], ...NEXT], 15)).close();
    assert.deepEqual(bench.lines, ['SELECT $1 -> ok 2/-1', 'COPY t FROM STDIN -> ok -1/1', ...NEXT_LINES]);
    assert.deepEqual(bench.counters.incomplete, {});
  });

  test('a hole within a text costs the text, not the statement', () => {
    const text = c.query(`SELECT '${'x'.repeat(3000)}'`);
    for (const behind of [0, 200]) {
      const bench = new PostgresBench().run(steps(started));
      bench.feed(FROM_CLIENT, text.subarray(0, 1000), 10);
      bench.layer.gap(FROM_CLIENT, text.length - 1000 + behind, 11);
      bench.run(steps([answer(), ...NEXT], 12)).close();
      assert.deepEqual(bench.lines, ['(SELECT) -> ok 1/-1', ...NEXT_LINES], `behind: ${behind}`);
      assert.deepEqual(bench.counters.parseErrors, {});
    }
  });

  test('a pipeline: the answers to a series are lost with it, the next series is whole', () => {
    const series: Segment = ['C', c.bind('', 'n'), c.execute(), c.bind('', 'n'), c.execute(), c.sync];
    const answers: Segment = [
      'S',
      s.bindComplete,
      s.complete('SELECT 0'),
      s.bindComplete,
      s.complete('SELECT 0'),
      s.ready(),
    ];
    const prepare: Segment[] = [
      ['C', c.parse('n', 'SELECT 1'), c.sync],
      ['S', s.parseComplete, s.ready()],
    ];
    const bench = lose([...prepare, series, answers, series, answers], 3);
    const gap = 'SELECT ? -> open -1/-1 incomplete=gap';
    assert.deepEqual(bench.lines, [gap, gap, 'SELECT ? -> ok 0/-1', 'SELECT ? -> ok 0/-1']);
  });

  test('several series at once, and one answer lost: which, nobody can say, until it is quiet', () => {
    const bench = new PostgresBench().run(steps(started));
    bench.run(steps([['C', c.query('SELECT 1'), c.query('SELECT 2'), c.query('SELECT 3')]], 10));
    bench.layer.gap(FROM_SERVER, 20, 11);
    bench.run(steps([answer(), answer(), query('SELECT 4'), answer()], 12));
    const late: Step[] = steps(NEXT, 5_000_000);
    bench.run(late).close();
    const gap = 'SELECT ? -> open -1/-1 incomplete=gap';
    assert.deepEqual(bench.lines, [gap, gap, gap, gap, ...NEXT_LINES]);
  });

  test('a series that was sent just before the answer to the one before it, and captured just behind it', () => {
    const bench = new PostgresBench().run(steps(started));
    const prepare = (name: string): Segment => ['C', c.parse(name, 'SELECT 1'), c.describe('S', name), c.sync];
    const prepared: Segment = ['S', s.parseComplete, s.rowDescription('x'), s.ready()];
    bench.run([
      ...steps([prepare('a')], 10),
      ...steps([prepared], 12),
      ...steps([prepare('b')], 11),
      ...steps([prepared], 13),
      ...steps(NEXT, 14),
    ]);
    bench.close();
    assert.deepEqual(bench.lines, NEXT_LINES);
    assert.deepEqual(bench.counters.incomplete, {});
  });

  test('a query that is held up in reassembly until its answer has passed by does not take the next one', () => {
    const bench = new PostgresBench().run(steps(started));
    bench.run([...steps([answer()], 12), ...steps([query('SELECT 1')], 10), ...steps(NEXT, 14)]).close();
    assert.deepEqual(bench.lines, ['SELECT ? -> open -1/-1 incomplete=gap', ...NEXT_LINES]);
    assert.deepEqual(bench.counters.incomplete, { request_not_seen: 1, gap: 1 });
  });

  test('a lost Sync does not hide what follows', () => {
    const bench = lose(
      [
        ['C', c.parse('', 'SELEC'), c.bind('', ''), c.execute()],
        ['C', c.sync],
        ['S', s.error('42601'), s.ready()],
        ...NEXT,
      ],
      1,
    );
    assert.deepEqual(bench.lines, ['SELEC -> error 42601 -1/-1', ...NEXT_LINES]);
  });

  test('any one segment lost costs at most the statement that it belongs to', () => {
    const segments: Segment[] = [];
    for (let i = 0; i < 4; i++) {
      segments.push(
        query(`SELECT ${i}`),
        ['S', s.rowDescription('x')],
        ['S', s.row('1'), s.complete('SELECT 1'), s.ready()],
      );
      segments.push(['C', c.parse('', 'TABLE t')], ['C', c.bind('', ''), c.execute(), c.sync]);
      segments.push(['S', s.parseComplete, s.bindComplete, s.row('1')], ['S', s.complete('SELECT 1'), s.ready()]);
    }
    segments.push(...NEXT);
    for (let lost = 0; lost < segments.length - 4; lost++) {
      const bench = lose(segments, lost);
      const whole = bench.exchanges.filter((e) => e.incomplete === undefined).length;
      assert.ok(whole >= 4 * 2 + 2 - 1, `segment ${lost}: ${whole}`);
      assert.deepEqual(bench.lines.slice(-2), NEXT_LINES, `segment ${lost}`);
      assert.deepEqual(bench.counters.parseErrors, {}, `segment ${lost}`);
      const { gap = 0, request_not_seen = 0 } = bench.counters.incomplete;
      assert.ok(gap + request_not_seen <= 2, `segment ${lost}`);
    }
  });

  test('the start of the connection is lost', () => {
    for (const lost of [0, 1]) {
      const all = steps([...started, ...NEXT]);
      const step = all[lost]!;
      assert.ok(step.kind === 'data');
      all[lost] = { kind: 'gap', direction: step.direction, length: step.bytes.length, timeUs: step.timeUs };
      const bench = new PostgresBench().run(all).close();
      assert.deepEqual(bench.lines, NEXT_LINES);
    }
  });
});

describe('postgres: joined in mid-connection', () => {
  const joined = (segments: readonly Segment[]): PostgresBench =>
    new PostgresBench({ startSeen: false }).run(steps(segments)).close();

  test('with a query', () => {
    const bench = joined(NEXT);
    assert.deepEqual(bench.lines, NEXT_LINES);
    assert.deepEqual(
      bench.exchanges.map((e) => [e.namespace, e.transaction]),
      [
        ['', ''],
        ['', 'idle'],
      ],
    );
  });

  test('with a statement that was prepared before', () => {
    const run: Segment = ['C', c.bind('', 'S_1', 'x'), c.execute(), c.sync];
    const bench = joined([run, ['S', s.bindComplete, s.row('1'), s.complete('SELECT 1'), s.ready()], ...NEXT]);
    assert.deepEqual(bench.lines, ['(SELECT) -> ok 1/-1', ...NEXT_LINES]);
    assert.deepEqual(bench.counters.sql, { statement_not_seen: 1 });
    assert.equal(bench.exchanges[0]?.prepared, true);
  });

  test('within an answer, and within copied data', () => {
    const rows: Segment = ['S', s.row('x'.repeat(50)).subarray(7), s.row('2'), s.complete('SELECT 9'), s.ready()];
    assert.deepEqual(joined([rows, ...NEXT]).lines, NEXT_LINES);
    const data: Segment = ['C', c.copyData('xyz').subarray(3), c.copyData('x'), c.copyDone];
    assert.deepEqual(joined([data, ['S', s.complete('COPY 5'), s.ready()], ...NEXT]).lines, NEXT_LINES);
  });

  test('at its very beginning', () => {
    assert.deepEqual(joined([...started, ...NEXT]).lines, NEXT_LINES);
    assert.equal(joined([...started, ...NEXT]).exchanges[0]?.namespace, 'db');
  });

  test('text whose encoding is not known leaves only when it is ASCII', () => {
    const bench = joined([query("SELECT 'é'"), answer(), query("SELECT 'e'"), answer()]);
    assert.deepEqual(bench.lines, ['(SELECT) -> ok 1/-1', 'SELECT ? -> ok 1/-1']);
  });
});

describe('postgres: ends', () => {
  const open: Segment[] = [query('SELECT 1; SELECT 2'), ['S', s.rowDescription('x'), s.row('1')]];

  test('of the connection, with a statement under way: what had not begun did not run', () => {
    for (const [reason, incomplete] of [
      ['fin', 'connection_closed'],
      ['reset', 'connection_reset'],
      ['shutdown', 'shutdown'],
      ['idle', 'timeout'],
      ['evicted', 'limit'],
    ] as const) {
      const bench = new PostgresBench().run(steps([...started, ...open])).close(reason, 99);
      assert.deepEqual(bench.lines, [`SELECT ? -> open -1/-1 batch=0/2 incomplete=${incomplete}`]);
      assert.equal(bench.exchanges[0]?.endUs, 99);
      assert.deepEqual(bench.counters.incomplete, { [incomplete]: 1, not_run: 1 });
    }
  });

  test('of the client’s side: the server may still answer; of the server’s: it will not', () => {
    const bench = new PostgresBench().run(steps([...started, query('SELECT 1')]));
    bench.layer.end(FROM_CLIENT, 'fin', 50);
    bench.run(steps([answer()], 60)).close();
    assert.deepEqual(bench.lines, ['SELECT ? -> ok 1/-1']);
    const ended = new PostgresBench().run(steps([...started, query('SELECT 1')]));
    ended.layer.end(FROM_SERVER, 'reset', 50);
    assert.deepEqual(ended.lines, ['SELECT ? -> open -1/-1 incomplete=connection_reset']);
    ended.close();
    assert.equal(ended.exchanges.length, 1);
  });

  test('with portals half-way, and in mid-copy', () => {
    const suspended = converse([
      ['C', c.parse('', 'TABLE t'), c.bind('', ''), c.execute('', 1), c.flush],
      ['S', s.parseComplete, s.bindComplete, s.row('1'), s.suspended],
    ]);
    assert.deepEqual(suspended.lines, ['TABLE t -> ok 1/-1']);
    const copy = new PostgresBench().run(
      steps([...started, query('COPY t FROM STDIN'), ['S', s.copyIn], ['C', c.copyData('1')]]),
    );
    assert.deepEqual(copy.close('reset').lines, ['COPY t FROM STDIN -> open -1/-1 incomplete=connection_reset']);
  });
});

describe('postgres: limits', () => {
  test('a text that is too long is passed over; its statement stays', () => {
    const long = `SELECT '${'x'.repeat(5000)}'`;
    const limits = { sqlTextBytes: 1000 };
    const segments: Segment[] = [
      query(long),
      answer(),
      ['C', c.parse('', long), c.bind('', ''), c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.complete('SELECT 0'), s.ready()],
      ...NEXT,
    ];
    const bench = new PostgresBench({ limits });
    let held = 0;
    for (const step of steps([...started, ...segments])) {
      assert.ok(step.kind === 'data');
      for (let at = 0; at < step.bytes.length; at += 100) {
        bench.feed(step.direction, step.bytes.subarray(at, at + 100), step.timeUs);
        held = Math.max(held, (bench.layer as PostgresLayer).heldBytes);
      }
    }
    bench.close();
    assert.deepEqual(bench.lines, ['(SELECT) -> ok 1/-1', '(SELECT) -> ok 0/-1', ...NEXT_LINES]);
    assert.deepEqual(bench.counters.sql, { text_limit: 2 });
    assert.ok(held <= 1256, `${held}`);
  });

  test('prepared statements and portals: those used least recently make room, counted', () => {
    const limits = { sqlPreparedStatements: 4, sqlPortals: 2 };
    const segments: Segment[] = [];
    const execute = (name: string): void => {
      segments.push(
        ['C', c.bind('', name), c.execute(), c.sync],
        ['S', s.bindComplete, s.complete('SELECT 0'), s.ready()],
      );
    };
    for (let i = 0; i < 10; i++) {
      segments.push(['C', c.parse(`n${i}`, `TABLE t${i}`), c.sync], ['S', s.parseComplete, s.ready()]);
      execute('n0');
    }
    execute('n1');
    const bench = converse(segments, { limits });
    assert.deepEqual(bench.lines.slice(0, 10), Array(10).fill('TABLE t0 -> ok 0/-1'));
    assert.equal(bench.lines[10], '(SELECT) -> ok 0/-1');
    assert.deepEqual(bench.counters.sql, { statement_evicted: 6, statement_not_seen: 1 });
    const portals: Segment[] = [
      ['C', c.parse('', 'TABLE t'), c.sync],
      ['S', s.parseComplete, s.ready('T')],
    ];
    for (let i = 0; i < 4; i++) {
      portals.push(
        ['C', c.bind(`p${i}`, ''), c.execute(`p${i}`, 1), c.sync],
        ['S', s.bindComplete, s.row('1'), s.suspended, s.ready('T')],
      );
    }
    const cursors = converse(portals, { limits });
    assert.equal(cursors.exchanges.length, 4);
    assert.ok(cursors.counters.sql.portal_evicted! >= 2);
  });

  test('too many requests without an answer are given up', () => {
    const bench = new PostgresBench({ limits: { sqlPipelineDepth: 16 } }).run(steps(started));
    bench.run(
      steps(
        Array.from({ length: 40 }, () => ['C', c.bind('', 'n'), c.execute()] as const),
        10,
      ),
    );
    assert.ok((bench.layer as PostgresLayer).heldObjects <= 16);
    bench.close();
    assert.equal(bench.exchanges.length, 40);
    assert.ok(bench.exchanges.every((e) => e.incomplete !== undefined));
  });

  test('a connection that is not understood is given up', () => {
    for (const direction of CUT) {
      const bench = new PostgresBench({ limits: { sqlParseErrors: 3 } }).run(steps(started));
      for (let i = 0; i < 10; i++) {
        bench.run(steps([query('SELECT 1')], 10 * i));
        bench.feed(direction, Buffer.from('?garbage'), 10 * i);
        bench.run(steps([answer()], 10 * i + 5));
      }
      bench.close();
      assert.equal(bench.muted, 1);
      assert.equal(bench.counters.parseErrors.postgresql, 4);
    }
  });
});
