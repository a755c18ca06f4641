/** What belongs to which statement: several statements in one text, files, procedures and what EXECUTE runs. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as wire from '../../../src/protocol/mysql/wire.ts';
import {
  AUTOCOMMIT,
  assertSaid,
  BASE,
  converse,
  eof,
  err,
  execute,
  MODERN,
  MORE,
  MysqlBench,
  ok,
  packet,
  prepare,
  prepared,
  query,
  ROW,
  result,
  resultPackets,
  session,
  type Talk,
  u16,
} from '../../support/protocols/mysql.ts';

const SINGLE = MODERN & ~wire.CLIENT_MULTI_STATEMENTS;
const OLD = BASE | wire.CLIENT_CONNECT_WITH_DB | wire.CLIENT_MULTI_STATEMENTS;

type Answer = { rows: number } | { affected: number } | { error: number };

/** Results of one text, with their sequence numbers; all but the last say that more will come. */
function answers(all: readonly Answer[], deprecateEof = true): Buffer {
  let sequence = 1;
  const pieces: Buffer[] = [];
  for (const [i, one] of all.entries()) {
    const status = i + 1 < all.length ? MORE : AUTOCOMMIT;
    if ('rows' in one) {
      const rows = new Array<Buffer>(one.rows).fill(ROW);
      const packets = resultPackets({ first: sequence, rows, status, deprecateEof });
      pieces.push(...packets);
      sequence += packets.length;
    } else
      pieces.push('error' in one ? err(sequence++, one.error) : ok(sequence++, { affected: one.affected, status }));
  }
  return Buffer.concat(pieces);
}

const rows = (n: number): Answer => ({ rows: n });
const affected = (n: number): Answer => ({ affected: n });
const error = (n: number): Answer => ({ error: n });

interface Case {
  readonly talk: Talk;
  readonly said: readonly string[];
}

function check(cases: Record<string, Case>): void {
  for (const [name, { talk, said }] of Object.entries(cases)) {
    test(name, () => assertSaid(talk, said));
  }
}

/** A text and its results. */
const text = (sql: string, ...all: readonly Answer[]): Talk => [
  ['C', query(sql)],
  ['S', answers(all)],
];

describe('COM_SET_OPTION', () => {
  const on = packet(0, wire.COM_SET_OPTION, u16(0));
  const off = packet(0, wire.COM_SET_OPTION, u16(1));
  const two = text('DELETE FROM a; DELETE FROM b', affected(1), affected(2));
  const one = text('DELETE FROM a; DELETE FROM b', error(1064));
  const both = ['DELETE a | shop idle | -1 1 | batch=0/2', 'DELETE b | shop idle | -1 2 | batch=1/2'];
  const refused = 'DELETE a | shop idle | -1 -1 | failed=1064';
  const single = { capabilities: SINGLE };
  check({
    'allows several statements': { talk: session([['C', on], ['S', eof(1)], ...two], single), said: both },
    'answered by an OK packet': { talk: session([['C', on], ['S', ok(1)], ...two], single), said: both },
    'with the header of EOF': {
      talk: session([['C', on], ['S', ok(1, { header: 0xfe })], ...two], single),
      said: both,
    },
    'takes them back': { talk: session([['C', off], ['S', eof(1)], ...one]), said: [refused] },
    'that fails leaves it': { talk: session([['C', off], ['S', err(1, 1047)], ...two]), said: both },
    'that fails allows nothing': { talk: session([['C', on], ['S', err(1, 1047)], ...one], single), said: [refused] },
    'of another option': {
      talk: session([['C', packet(0, wire.COM_SET_OPTION, u16(7))], ['S', ok(1)], ...two]),
      said: both,
    },
    'stays on when the session is reset': {
      talk: session(
        [['C', on], ['S', eof(1)], ['C', packet(0, wire.COM_RESET_CONNECTION)], ['S', ok(1)], ...two],
        single,
      ),
      said: both,
    },
    'sent together with the text that needs it': {
      talk: session(
        [
          ['C', Buffer.concat([on, two[0]![1]])],
          ['S', Buffer.concat([eof(1), two[1]![1]])],
        ],
        single,
      ),
      said: both,
    },
    'sent together, and refused': {
      talk: session(
        [
          ['C', Buffer.concat([on, one[0]![1]])],
          ['S', Buffer.concat([err(1, 1047), one[1]![1]])],
        ],
        single,
      ),
      said: [refused],
    },
  });
});

describe('LOCAL INFILE', () => {
  const load = "LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
  check({
    'twice in one text': {
      talk: session([
        ['C', query(`${load}; ${load}; SELECT 1`)],
        ['S', packet(1, 0xfb, 'f')],
        ['C', Buffer.concat([packet(2, 'secret'), packet(3)])],
        ['S', Buffer.concat([ok(4, { affected: 2, status: MORE }), packet(5, 0xfb, 'f')])],
        ['C', Buffer.concat([packet(6, 'secret'), packet(7, 'more'), packet(8)])],
        ['S', Buffer.concat([ok(9, { affected: 3, status: MORE }), result({ first: 10 })])],
        ...text('SELECT 1', rows(1)),
      ]),
      said: [
        'LOAD t | shop idle | -1 2 | batch=0/3',
        'LOAD t | shop idle | -1 3 | batch=1/3',
        'SELECT | shop idle | 1 -1 | batch=2/3',
        'SELECT | shop idle | 1 -1',
      ],
    },
    'the first has no content, the second fails': {
      talk: session([
        ['C', query(`${load}; ${load}; SELECT 1`)],
        ['S', packet(1, 0xfb, 'f')],
        ['C', packet(2)],
        ['S', Buffer.concat([ok(3, { status: MORE }), packet(4, 0xfb, 'f')])],
        ['C', Buffer.concat([packet(5, 'secret'), packet(6)])],
        ['S', err(7, 1062, '23000')],
        ...text('SELECT 1', rows(1)),
      ]),
      said: [
        'LOAD t | shop idle | -1 0 | batch=0/3',
        'LOAD t | shop idle | -1 -1 | failed=1062 | state=23000 | batch=1/3',
        'SELECT | shop idle | 1 -1',
      ],
    },
    prepared: {
      talk: session([
        ['C', prepare(load)],
        ['S', prepared(1, 0, 0)],
        ...[2, 0].flatMap(
          (n): Talk => [
            ['C', execute(1)],
            ['S', packet(1, 0xfb, 'f')],
            ['C', packet(2)],
            ['S', ok(3, { affected: n })],
          ],
        ),
      ]),
      said: ['LOAD t | shop idle | -1 2 | prepared', 'LOAD t | shop idle | -1 0 | prepared'],
    },
    'by EXECUTE IMMEDIATE, behind another file': {
      talk: session([
        ['C', query(`${load}; EXECUTE IMMEDIATE 'LOAD DATA LOCAL INFILE ''f'' INTO TABLE t'; SELECT 1`)],
        ['S', packet(1, 0xfb, 'f')],
        ['C', packet(2)],
        ['S', Buffer.concat([ok(3, { affected: 1, status: MORE }), packet(4, 0xfb, 'f')])],
        ['C', packet(5)],
        ['S', Buffer.concat([ok(6, { affected: 4, status: MORE }), result({ first: 7 })])],
      ]),
      said: [
        'LOAD t | shop idle | -1 1 | batch=0/3',
        'EXECUTE IMMEDIATE | shop idle | -1 4 | batch=1/3',
        'SELECT | shop idle | 1 -1 | batch=2/3',
      ],
    },
  });

  test('content of more than 256 packets, whose numbers begin again', () => {
    const content = Array.from({ length: 300 }, (_, i) => packet((i + 2) & 0xff, 'secret line'));
    const bench = converse([
      ['C', query(`${load}; ${load}`)],
      ['S', packet(1, 0xfb, 'f')],
      ['C', Buffer.concat([...content, packet(302 & 0xff)])],
      ['S', Buffer.concat([ok(303 & 0xff, { affected: 300, status: MORE }), packet(304 & 0xff, 0xfb, 'f')])],
      ['C', packet(305 & 0xff)],
      ['S', ok(306 & 0xff)],
    ]);
    assert.deepEqual(bench.said, ['LOAD t | shop idle | -1 300 | batch=0/2', 'LOAD t | shop idle | -1 0 | batch=1/2']);
    assert.deepEqual(bench.counters.parseErrors, {});
  });
});

describe('what EXECUTE runs', () => {
  check({
    'a CALL that is written there': {
      talk: session(text("EXECUTE IMMEDIATE 'CALL two()'; SELECT 1", rows(1), rows(2), affected(0), rows(3))),
      said: ['EXECUTE IMMEDIATE | shop idle | 3 0 | batch=0/2', 'SELECT | shop idle | 3 -1 | batch=1/2'],
    },
    'something that is not': {
      talk: session(text('EXECUTE IMMEDIATE @x; SELECT 1', rows(1), rows(2), affected(0), rows(3))),
      said: ['EXECUTE IMMEDIATE | shop idle | 3 0 | batch=0/2', 'SELECT | shop idle | 3 -1 | batch=1/2'],
    },
    'a CALL that was prepared before': {
      talk: session([
        ...text('PREPARE p FROM "CALL two()"', affected(0)),
        ...text('EXECUTE p; SELECT 1', rows(1), rows(2), affected(0), rows(3)),
      ]),
      said: [
        'PREPARE | shop idle | -1 0',
        'EXECUTE p | shop idle | 3 0 | batch=0/2',
        'SELECT | shop idle | 3 -1 | batch=1/2',
      ],
    },
    'a name that now stands for something else': {
      talk: session([
        ...text("PREPARE p FROM 'CALL two()'", affected(0)),
        ...text("PREPARE `P` FROM 'SELECT 1'", affected(0)),
        ...text('EXECUTE p; SELECT 1', rows(1), rows(3)),
      ]),
      said: [
        'PREPARE | shop idle | -1 0',
        'PREPARE | shop idle | -1 0',
        'EXECUTE p | shop idle | 1 -1 | batch=0/2',
        'SELECT | shop idle | 3 -1 | batch=1/2',
      ],
    },
    'prepared in the same text, from a variable': {
      talk: session(
        text(
          'PREPARE p FROM @v; EXECUTE p; EXECUTE p; SELECT 1',
          affected(0),
          rows(1),
          affected(0),
          rows(2),
          affected(0),
          rows(3),
        ),
      ),
      said: [
        'PREPARE | shop idle | -1 0 | batch=0/4',
        'EXECUTE p | shop idle | 1 0 | batch=1/4',
        'EXECUTE p | shop idle | 2 0 | batch=2/4',
        'SELECT | shop idle | 3 -1 | batch=3/4',
      ],
    },
    'what nobody can tell apart has no numbers': {
      talk: session(text('EXECUTE a; EXECUTE b; EXECUTE c', rows(1), affected(5), rows(2), affected(6))),
      said: [
        'EXECUTE a | shop idle | -1 -1 | batch=0/3',
        'EXECUTE b | shop idle | -1 -1 | batch=1/3',
        'EXECUTE c | shop idle | -1 -1 | batch=2/3',
      ],
    },
    'an error that may be that of two statements is that of none': {
      talk: session(text('EXECUTE a; SELECT 1', rows(1), error(1146))),
      said: ['- | shop idle | -1 -1 | failed=1146 | batch=0/2'],
    },
    'an error that can only be that of the second': {
      talk: session(text('EXECUTE a; SELECT x FROM missing; SELECT 1', rows(1), affected(0), error(1146))),
      said: ['EXECUTE a | shop idle | 1 0 | batch=0/3', 'SELECT missing | shop idle | -1 -1 | failed=1146 | batch=1/3'],
    },
    'SET STATEMENT of a CALL': {
      talk: session(text('SET STATEMENT max_statement_time=1 FOR CALL two(); SELECT 1', rows(1), affected(0), rows(3))),
      said: ['SET STATEMENT | shop idle | 1 0 | batch=0/2', 'SELECT | shop idle | 3 -1 | batch=1/2'],
    },
  });

  test('more results than are held: no numbers, counted', () => {
    const many = Array.from({ length: 12 }, () => affected(1));
    const bench = new MysqlBench({ limits: { mysqlHeldResults: 8 } })
      .talk(session(text(`EXECUTE a; ${'DO 1; '.repeat(10)}SELECT 1`, ...many, rows(1))))
      .close();
    assert.deepEqual(bench.said, ['- | shop idle | -1 -1 | batch=0/12']);
    assert.deepEqual(bench.counters.sql, { results_limit: 1 });
  });
});

describe('procedures and blocks', () => {
  const OUT = AUTOCOMMIT | wire.SERVER_MORE_RESULTS_EXISTS | wire.SERVER_PS_OUT_PARAMS;
  const binary = Buffer.from([0, 0, 1]);
  check({
    'values of OUT parameters are no rows': {
      talk: session([
        ['C', prepare('CALL p(?, ?)')],
        ['S', prepared(1, 2, 0)],
        ['C', execute(1)],
        [
          'S',
          Buffer.concat([
            result({ rows: [binary, binary], status: MORE }),
            result({ rows: [binary], status: OUT, first: 7 }),
            ok(12),
          ]),
        ],
      ]),
      said: ['CALL p | shop idle | 2 0 | prepared'],
    },
    'nor without CLIENT_DEPRECATE_EOF, where the first EOF tells': {
      talk: session(
        [
          ['C', prepare('CALL p(?, ?)')],
          ['S', prepared(1, 2, 0, false)],
          ['C', execute(1)],
          [
            'S',
            Buffer.concat([
              ...resultPackets({ rows: [binary], status: OUT, deprecateEof: false }).slice(0, 5),
              eof(6, MORE),
              ok(7),
            ]),
          ],
        ],
        { capabilities: OLD },
      ),
      said: ['CALL p | shop idle | -1 0 | prepared'],
    },
    'a block before another statement': {
      talk: session(text('BEGIN NOT ATOMIC SELECT 1; SELECT 2; END; SELECT 3', rows(1), rows(1), affected(0), rows(3))),
      said: ['BEGIN | shop idle | 2 0 | batch=0/2', 'SELECT | shop idle | 3 -1 | batch=1/2'],
    },
    'IF and loops outside of routines': {
      talk: session(
        text(
          'IF 1 THEN SELECT 1; SELECT 2; END IF; FOR i IN 1..2 DO SELECT i; END FOR; SELECT 3',
          ...[rows(1), rows(1), affected(0)],
          ...[rows(1), rows(1), affected(0)],
          rows(3),
        ),
      ),
      said: [
        'IF | shop idle | 2 0 | batch=0/3',
        'FOR | shop idle | 2 0 | batch=1/3',
        'SELECT | shop idle | 3 -1 | batch=2/3',
      ],
    },
    'results that one statement cannot have are nobody’s numbers': {
      talk: session(text('SELECT 1', rows(1), rows(2))),
      said: ['SELECT | shop idle | -1 -1'],
    },
    'an error in the third statement is the third’s': {
      talk: session(text('SELECT 1; DELETE FROM t; SELCT 2', rows(1), affected(4), error(1064))),
      said: [
        'SELECT | shop idle | 1 -1 | batch=0/3',
        'DELETE t | shop idle | -1 4 | batch=1/3',
        'SELCT | shop idle | -1 -1 | failed=1064 | batch=2/3',
      ],
    },
  });
});
