/** Conversations of MySQL and MariaDB in which it takes more than the order of packets to know what belongs to what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SqlExchange } from '../../src/exchange/sql.ts';
import { replaySql } from './mysql-replay.ts';

/** `namespace: text | rows affected | error`, with the place in its text where there are several statements. */
function line(e: SqlExchange): string {
  const place = e.batchCount === 1 ? '' : ` | ${e.batchIndex + 1} of ${e.batchCount}`;
  return `${e.namespace}: ${e.statement?.text} | ${e.returnedRows} ${e.affectedRows}${e.failed ? ` | ${e.statusCode}` : ''}${place}`;
}

async function linesOf(name: string): Promise<string[]> {
  const { exchanges, counters } = await replaySql(`../faults/${name}`, () => true, false);
  assert.deepEqual([counters.parseErrors, counters.incomplete, counters.sql], [{}, {}, {}]);
  return exchanges.map(line);
}

test('COM_SET_OPTION allows several statements in one text', async () => {
  assert.deepEqual(await linesOf('mysql-set-option.pcap'), [
    'shop: SELECT ? AS a; | 1 -1 | 1 of 3',
    'shop: INSERT INTO t VALUES (?); | -1 1 | 2 of 3',
    'shop: SELECT ? AS b UNION SELECT ? | 2 -1 | 3 of 3',
  ]);
});

test('LOAD DATA LOCAL INFILE twice in one text', async () => {
  assert.deepEqual(await linesOf('mysql-infile-twice.pcap'), [
    'shop: LOAD DATA LOCAL INFILE ? INTO TABLE t; | -1 2 | 1 of 3',
    'shop: LOAD DATA LOCAL INFILE ? INTO TABLE t; | -1 3 | 2 of 3',
    'shop: SELECT COUNT(*) FROM t | 1 -1 | 3 of 3',
    'shop: SELECT ? | 1 -1',
  ]);
});

test('results of what EXECUTE calls belong to it', async () => {
  assert.deepEqual(await linesOf('mysql-execute-call.pcap'), [
    'shop: DROP PROCEDURE IF EXISTS two; | -1 0 | 1 of 2',
    'shop: CREATE PROCEDURE two() BEGIN SELECT ?; SELECT ?,? UNION SELECT ?,?; END | -1 0 | 2 of 2',
    'shop: CALL two(); | 3 0 | 1 of 2',
    'shop: SELECT ? UNION SELECT ? UNION SELECT ? | 3 -1 | 2 of 2',
    'shop: EXECUTE IMMEDIATE ?; | 3 0 | 1 of 2',
    'shop: SELECT ? UNION SELECT ? UNION SELECT ? | 3 -1 | 2 of 2',
    'shop: BEGIN NOT ATOMIC SELECT ?; SELECT ?; END | 2 0',
    'shop: PREPARE p FROM ? | -1 0',
    'shop: EXECUTE p; | 3 0 | 1 of 2',
    'shop: SELECT ? | 1 -1 | 2 of 2',
  ]);
});

test('without a database once it is dropped', async () => {
  assert.deepEqual(await linesOf('mysql-drop-own-database.pcap'), [
    'shop: CREATE DATABASE IF NOT EXISTS gone | -1 1',
    'shop: USE gone | -1 0',
    'gone: SELECT ? | 1 -1',
    'gone: DROP DATABASE gone | -1 0',
    ': SELECT DATABASE() | 1 -1',
  ]);
});
