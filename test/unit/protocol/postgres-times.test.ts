import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { c, converse, PostgresBench, s, started, steps } from '../../support/protocols/postgres.ts';

describe('postgres: times, bytes and places', () => {
  test('a query', () => {
    const query = c.query('SELECT 1');
    const answer = [s.rowDescription('x'), s.row('1'), s.row('2'), s.complete('SELECT 2')];
    const bench = new PostgresBench().run(steps(started));
    bench.feed(FROM_CLIENT, query.subarray(0, 3), 100);
    bench.feed(FROM_CLIENT, query.subarray(3), 110);
    bench.feed(FROM_SERVER, answer[0]!.subarray(0, 2), 120);
    bench.feed(FROM_SERVER, Buffer.concat([answer[0]!.subarray(2), answer[1]!.subarray(0, 3)]), 130);
    bench.feed(FROM_SERVER, Buffer.concat([answer[1]!.subarray(3), answer[2]!, answer[3]!.subarray(0, 5)]), 140);
    bench.feed(FROM_SERVER, Buffer.concat([answer[3]!.subarray(5), s.ready()]), 150);
    const [e] = bench.exchanges;
    assert.ok(e !== undefined);
    assert.deepEqual([e.startUs, e.responseStartUs, e.firstRowUs, e.endUs], [100, 120, 130, 150]);
    assert.deepEqual([e.requestBytes, e.responseBytes], [query.length, Buffer.concat(answer).length]);
    const offset = c.startup().length;
    assert.deepEqual([e.traceOffset, e.streamOffset], [offset, offset]);
    assert.deepEqual([e.system, e.prepared, e.namespace, e.transaction], ['postgresql', false, 'db', 'idle']);
  });

  test('the statements of one query begin with its first byte and end each with its own completion', () => {
    const query = c.query('SELECT 1; SELECT 2');
    const one = [s.rowDescription('x'), s.row('1'), s.complete('SELECT 1')];
    const bench = converse([
      ['C', query],
      ['S', ...one],
      ['S', ...one, s.ready()],
    ]);
    const offset = c.startup().length;
    assert.deepEqual(
      bench.exchanges.map((e) => [
        e.startUs,
        e.responseStartUs,
        e.endUs,
        e.requestBytes,
        e.traceOffset,
        e.streamOffset,
      ]),
      [
        [3, 4, 4, query.length, offset, offset],
        [3, 5, 5, 0, offset, offset + 1],
      ],
    );
  });

  test('in a pipeline each statement begins with its Execute', () => {
    const lead = [c.parse('', 'SELECT 1'), c.bind('', '')];
    const bench = converse([
      ['C', ...lead],
      ['C', c.execute(), c.bind('', '')],
      ['C', c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.row('1'), s.complete('SELECT 1'), s.bindComplete],
      ['S', s.row('1'), s.complete('SELECT 1'), s.ready()],
    ]);
    const offset = c.startup().length + Buffer.concat(lead).length;
    const next = offset + c.execute().length + c.bind('', '').length;
    assert.deepEqual(
      bench.exchanges.map((e) => [e.startUs, e.endUs, e.requestBytes, e.responseBytes, e.streamOffset]),
      [
        [
          4,
          6,
          Buffer.concat([...lead, c.execute()]).length,
          10 + s.row('1').length + s.complete('SELECT 1').length,
          offset,
        ],
        [
          5,
          7,
          Buffer.concat([c.bind('', ''), c.execute()]).length,
          5 + s.row('1').length + s.complete('SELECT 1').length,
          next,
        ],
      ],
    );
    assert.deepEqual(
      bench.exchanges.map((e) => e.batchCount),
      [1, 1],
    );
  });

  test('a portal in parts: from its first Execute to its completion, with the bytes of all', () => {
    const bench = converse([
      ['C', c.parse('', 'SELECT * FROM t'), c.bind('', ''), c.execute('', 1), c.flush],
      ['S', s.parseComplete, s.bindComplete, s.row('1'), s.suspended],
      ['C', c.execute('', 1), c.sync],
      ['S', s.row('2'), s.complete('SELECT 1'), s.ready()],
    ]);
    const [e] = bench.exchanges;
    assert.deepEqual([e?.startUs, e?.firstRowUs, e?.endUs, e?.returnedRows], [3, 4, 6, 2]);
    const sent = [c.parse('', 'SELECT * FROM t'), c.bind('', ''), c.execute('', 1), c.execute('', 1)];
    assert.equal(e?.requestBytes, Buffer.concat(sent).length);
  });

  test('copied data counts as the statement’s', () => {
    const bench = converse([
      ['C', c.query('COPY t FROM STDIN')],
      ['S', s.copyIn],
      ['C', c.copyData('1\n'), c.copyDone],
      ['S', s.complete('COPY 1'), s.ready()],
      ['C', c.query('COPY t TO STDOUT')],
      ['S', s.copyOut, s.copyData('1\n')],
      ['S', s.copyDone, s.complete('COPY 1'), s.ready()],
    ]);
    const [into, out] = bench.exchanges;
    assert.equal(
      into?.requestBytes,
      c.query('COPY t FROM STDIN').length + c.copyData('1\n').length + c.copyDone.length,
    );
    assert.deepEqual([out?.responseStartUs, out?.firstRowUs, out?.endUs], [8, 8, 9]);
  });

  test('copied data counts as the statement’s when the copy fails, or ends with its connection', () => {
    const [sent, data] = [c.query('COPY t FROM STDIN'), c.copyData('1\n')];
    const bench = converse([
      ['C', sent],
      ['S', s.copyIn],
      ['C', data, c.copyFail('no more')],
      ['S', s.error('57014'), s.ready()],
      ['C', sent],
      ['S', s.copyIn],
      ['C', data],
      ['S', s.error('22P02'), s.ready()],
      // On its way when the server had refused the copy: nobody's.
      ['C', data, c.copyDone],
      ['C', sent],
      ['S', s.copyIn],
      ['C', data, data],
    ]);
    bench.close('reset');
    assert.deepEqual(
      bench.exchanges.map((e) => e.requestBytes - sent.length),
      [data.length + c.copyFail('no more').length, data.length, 2 * data.length],
    );
  });

  test('prepared: by name, or in an earlier series of messages', () => {
    const bench = converse([
      ['C', c.parse('', 'SELECT 1'), c.bind('', ''), c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.complete('SELECT 0'), s.ready()],
      ['C', c.bind('', ''), c.execute(), c.sync],
      ['S', s.bindComplete, s.complete('SELECT 0'), s.ready()],
      ['C', c.parse('n', 'SELECT 1'), c.bind('', 'n'), c.execute(), c.sync],
      ['S', s.parseComplete, s.bindComplete, s.complete('SELECT 0'), s.ready()],
    ]);
    assert.deepEqual(
      bench.exchanges.map((e) => e.prepared),
      [false, true, true],
    );
  });
});
