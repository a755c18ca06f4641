/** Conversations of PostgreSQL 15 in which what was asked for is not what was done. The server's own log says what is right. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SqlExchange } from '../../src/exchange/sql.ts';
import { replaySql } from './mysql-replay.ts';

/** `namespace: text | rows affected | error`, with the place in its text where there are several statements. */
function line(e: SqlExchange): string {
  const place = e.batchCount === 1 ? '' : ` | ${e.batchIndex + 1} of ${e.batchCount}`;
  const text = e.statement?.text || `(${e.statement?.summary})`;
  return `${e.namespace}: ${text} | ${e.returnedRows} ${e.affectedRows}${e.failed ? ` | ${e.statusCode}` : ''}${place}`;
}

async function linesOf(name: string, notRun = 0): Promise<string[]> {
  const { exchanges, counters } = await replaySql(`../faults/${name}`, () => true, false);
  assert.deepEqual([counters.parseErrors, counters.incomplete.not_run ?? 0], [{}, notRun]);
  return exchanges.map(line);
}

test('Parse of a name that exists is refused, and the old statement runs', async () => {
  assert.deepEqual((await linesOf('postgres-parse-of-name-that-exists.pcap')).slice(-2), [
    'postgres: SELECT x FROM b | -1 -1 | 42P05',
    'postgres: SELECT x FROM a | 2 -1',
  ]);
});

test('no word of a literal leaves while standard_conforming_strings may change', async () => {
  assert.deepEqual(await linesOf('postgres-strings-setting-in-flight.pcap'), [
    'postgres: SET standard_conforming_strings=off | -1 -1',
    'postgres: SET escape_string_warning=off | -1 -1',
    'postgres: (SELECT) | 1 -1',
    'postgres: SET standard_conforming_strings=on | -1 -1',
    'postgres: SET standard_conforming_strings=off | -1 -1',
    'postgres: (SELECT) | 1 -1',
  ]);
});

test('the search path follows set_config', async () => {
  assert.deepEqual((await linesOf('postgres-set-config-search-path.pcap')).slice(-4), [
    'postgres: SET search_path TO sa | -1 -1',
    'postgres|sa: SELECT ? | 1 -1',
    'postgres|sa: SELECT pg_catalog.set_config(?,?,?) | 1 -1',
    'postgres|sb: SELECT current_schema() | 1 -1',
  ]);
});

test('a syntax error is the statement’s in whose place it is', async () => {
  assert.deepEqual(await linesOf('postgres-error-of-whole-text.pcap', 3), [
    'postgres: SELCT ? | -1 -1 | 42601 | 3 of 3',
    'postgres: SELECT ?; | 1 -1 | 1 of 3',
    'postgres: SELECT ?/?; | -1 -1 | 22012 | 2 of 3',
  ]);
});
