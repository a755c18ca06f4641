import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SqlExchange } from '../../src/exchange/sql.ts';
import { defaultAllLimits } from '../../src/protocol/registry.ts';
import { MYSQL_CAPTURES, type MysqlFacts, readMysqlFacts, type StatementFacts } from './mysql-expected.ts';
import { replaySql } from './mysql-replay.ts';

const facts = readMysqlFacts().captures;

function factOf(e: SqlExchange): StatementFacts {
  return {
    text: e.statement?.text ?? '',
    prepared: e.prepared,
    rows: e.returnedRows,
    affected: e.affectedRows,
    error: Number(e.statusCode),
  };
}

function asFacts(exchanges: readonly SqlExchange[]): MysqlFacts {
  const streams = new Map<number, StatementFacts[]>();
  for (const exchange of exchanges) {
    const { id } = exchange.connection;
    streams.set(id, [...(streams.get(id) ?? []), factOf(exchange)]);
  }
  return { streams: [...streams.values()] };
}

/** White space around a text is none of the statement. */
function trimmed({ streams }: MysqlFacts): MysqlFacts {
  return { streams: streams.map((stream) => stream.map((fact) => ({ ...fact, text: fact.text.trim() }))) };
}

for (const name of MYSQL_CAPTURES) {
  test(`${name}: every statement, row and change that tshark sees`, async () => {
    const { exchanges, counters } = await replaySql(name);
    assert.deepEqual(trimmed(asFacts(exchanges)), trimmed(facts[name]!), JSON.stringify(counters));
    assert.deepEqual([counters.parseErrors, counters.incomplete, counters.sql], [{}, {}, {}]);
    for (const e of exchanges) {
      assert.ok(e.startUs > 0 && e.startUs <= e.responseStartUs && e.responseStartUs <= e.endUs);
      assert.equal(e.firstRowUs > 0, e.returnedRows > 0);
    }
  });

  test(`${name}: joined at any packet, the statements that begin later are all there`, async () => {
    const { exchanges: all, packets } = await replaySql(name);
    for (let first = 1; first < packets; first++) {
      const { exchanges, counters, firstUs } = await replaySql(name, (packet) => packet >= first);
      assert.deepEqual(counters.parseErrors, {}, `from ${first}`);
      // A first command that is longer than what detection holds may be passed over.
      const begun = all.filter((e) => e.startUs >= firstUs);
      const passedOver = begun.length - exchanges.length;
      const mayBe = (begun[0]?.requestBytes ?? 0) > defaultAllLimits.detectionBytes ? 1 : 0;
      assert.ok(passedOver >= 0 && passedOver <= mayBe, `from ${first}: ${exchanges.length} of ${begun.length}`);
      const later = begun.slice(passedOver);
      for (const [i, e] of exchanges.entries()) {
        // What was prepared before has no text.
        const { text, ...seen } = factOf(e);
        const { text: whole, ...fact } = factOf(later[i]!);
        assert.deepEqual(seen, fact, `from ${first}, statement ${i}`);
        assert.equal(text, text === '' && e.prepared ? '' : whole);
      }
    }
  });

  test(`${name}: without any one packet, at most one statement is not whole`, async () => {
    const whole = await replaySql(name);
    const all = whole.exchanges.map((e) => JSON.stringify(factOf(e)));
    for (let lost = 4; lost < whole.packets; lost++) {
      const { exchanges } = await replaySql(name, (packet) => packet !== lost);
      const left = exchanges.filter((e) => e.incomplete === undefined).map((e) => JSON.stringify(factOf(e)));
      const missing = all.filter((fact, i) => !left.includes(fact) && all.indexOf(fact) === i);
      // Without the answer to a preparation, the executions have no text.
      assert.ok(missing.length <= 1, `without ${lost}: ${missing.join(' ')}`);
    }
  });
}
