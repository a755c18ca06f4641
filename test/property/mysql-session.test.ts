/**
 * Random conversations against a model of the server: what it is sent, in which mode it is, what it answers. Texts hold words that only a
 * literal has: none may leave. Databases and texts of prepared statements are right, or not said.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import * as wire from '../../src/protocol/mysql/wire.ts';
import {
  AUTOCOMMIT,
  err,
  execute,
  MODERN,
  MysqlBench,
  ok,
  onStatement,
  packet,
  prepare,
  prepared,
  query,
  result,
  session,
  type Talk,
} from '../support/protocols/mysql.ts';

const PLANTED = 'planted';
const { SERVER_MORE_RESULTS_EXISTS, SERVER_STATUS_DB_DROPPED, SERVER_STATUS_NO_BACKSLASH_ESCAPES } = wire;

/** One statement: how it is written depends on the mode that the server will be in. */
type Action =
  | { do: 'select'; shape: number }
  | { do: 'mode'; literal: boolean; how: number }
  | { do: 'routine'; literal: boolean; how: number }
  | { do: 'during'; literal: boolean }
  | { do: 'use' | 'drop'; database: string; how: number; fails: boolean }
  | { do: 'rows' };
type Command =
  | { send: 'text'; actions: Action[] }
  | { send: 'prepare'; table: number; fails: boolean }
  | { send: 'execute'; which: number }
  | { send: 'close'; which: number }
  | { send: 'last' }
  | { send: 'reset' };

const databases = fc.constantFrom('shop', 'one', 'two');
const how = fc.nat({ max: 3 });
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('select' as const), shape: how }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('mode' as const), literal: fc.boolean(), how }) },
  fc.record({ do: fc.constant('routine' as const), literal: fc.boolean(), how }),
  fc.record({ do: fc.constant('during' as const), literal: fc.boolean() }),
  fc.record({ do: fc.constantFrom('use' as const, 'drop' as const), database: databases, how, fails: fc.boolean() }),
  fc.record({ do: fc.constant('rows' as const) }),
);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.array(action, { minLength: 1, maxLength: 4 }).map((actions) => ({ send: 'text' as const, actions })),
  },
  {
    weight: 2,
    arbitrary: fc.record({ send: fc.constant('prepare' as const), table: fc.nat({ max: 99 }), fails: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ send: fc.constantFrom('execute' as const, 'close' as const), which: fc.nat({ max: 3 }) }),
  },
  fc.record({ send: fc.constantFrom('last' as const, 'reset' as const) }),
);

/** What a span has to say of a statement: its database, and for prepared ones its text. */
interface Wanted {
  namespace: string;
  text: string | undefined;
}

/** MariaDB, as far as it matters here. */
class Server {
  literal = false;
  /** What the status flag says, which is not always the mode. */
  flag = false;
  database = 'shop';
  readonly prepared = new Map<number, string>();
  last: number | undefined;
  next = 1;
  readonly wanted: Wanted[] = [];
  readonly talk: [who: 'C' | 'S', bytes: Buffer][] = [];

  private status(more: boolean, extra = 0, flag = this.flag): number {
    return (
      AUTOCOMMIT | (more ? SERVER_MORE_RESULTS_EXISTS : 0) | (flag ? SERVER_STATUS_NO_BACKSLASH_ESCAPES : 0) | extra
    );
  }

  run(each: Command): void {
    switch (each.send) {
      case 'text':
        this.text(each.actions);
        break;
      case 'prepare': {
        const sql = `SELECT a FROM t${each.table}`;
        if (each.fails) {
          this.last = undefined;
          this.wanted.push({ namespace: this.database, text: sql });
          this.talk.push(['C', prepare(sql)], ['S', err(1, 1146)]);
          break;
        }
        this.last = this.next++;
        this.prepared.set(this.last, sql);
        this.talk.push(['C', prepare(sql)], ['S', prepared(this.last, 0, 1)]);
        break;
      }
      case 'execute':
      case 'last': {
        const id = each.send === 'last' ? this.last : this.idOf(each.which);
        const text = id === undefined ? undefined : this.prepared.get(id);
        this.wanted.push({ namespace: this.database, text });
        const answer = text === undefined ? err(1, 1243, 'HY000') : result({ status: this.status(false) });
        this.talk.push(['C', execute(each.send === 'last' ? wire.LAST_PREPARED : id!)], ['S', answer]);
        break;
      }
      case 'close': {
        const id = this.idOf(each.which);
        this.prepared.delete(id);
        if (this.last === id) this.last = undefined;
        this.talk.push(['C', onStatement(wire.COM_STMT_CLOSE, id)]);
        break;
      }
      case 'reset':
        this.prepared.clear();
        this.last = undefined;
        this.literal = false;
        this.flag = false;
        this.talk.push(['C', packet(0, wire.COM_RESET_CONNECTION)], ['S', ok(1, { status: this.status(false) })]);
        break;
    }
  }

  private idOf(which: number): number {
    return Math.max(1, this.next - 1 - which);
  }

  private text(actions: readonly Action[]): void {
    const texts: string[] = [];
    const pieces: Buffer[] = [];
    let sequence = 1;
    for (const [i, each] of actions.entries()) {
      const more = i + 1 < actions.length;
      this.wanted.push({ namespace: this.database, text: undefined });
      const { sql, answer, failed } = this.statement(each, more, sequence);
      texts.push(sql);
      pieces.push(answer);
      sequence += each.do === 'select' || each.do === 'rows' ? 5 : 1;
      if (failed) {
        texts.push(...actions.slice(i + 1).map(() => 'SELECT 1'));
        break;
      }
    }
    this.talk.push(['C', query(texts.join('; '))], ['S', Buffer.concat(pieces)]);
  }

  private statement(each: Action, more: boolean, sequence: number): { sql: string; answer: Buffer; failed?: boolean } {
    const said = (extra = 0, flag = this.flag): Buffer => ok(sequence, { status: this.status(more, extra, flag) });
    switch (each.do) {
      case 'rows':
        return { sql: 'EXECUTE p', answer: result({ first: sequence, status: this.status(more) }) };
      case 'select':
        return { sql: this.select(each.shape), answer: result({ first: sequence, status: this.status(more) }) };
      case 'mode': {
        const value = each.literal ? "'NO_BACKSLASH_ESCAPES'" : "''";
        const sql = [
          `SET sql_mode = ${value}`,
          `SET @a = 1, @@session.sql_mode := ${value}`,
          'SET sql_mode = @saved',
          `EXECUTE IMMEDIATE 'SET sql_mode = ${value.replaceAll("'", "''")}'`,
        ][each.how]!;
        this.literal = each.literal;
        this.flag = each.literal;
        return { sql, answer: said() };
      }
      case 'routine':
        // The mode is restored, the flag is not.
        this.flag = each.literal;
        return { sql: ['CALL p()', 'DO f()', 'INSERT INTO t VALUES (1)', 'SET @x = f()'][each.how]!, answer: said() };
      case 'during':
        return { sql: `SET STATEMENT sql_mode = ${each.literal ? 1 : 2} FOR DO 1`, answer: said(0, each.literal) };
      case 'use': {
        if (each.fails) return { sql: `USE ${each.database}`, answer: err(sequence, 1049), failed: true };
        this.database = each.database;
        const name = each.database;
        const sql = [`USE ${name}`, `USE \`${name}\``, `EXECUTE IMMEDIATE 'USE ${name}'`, `/*!40000 USE ${name} */`][
          each.how
        ]!;
        return { sql, answer: said() };
      }
      case 'drop': {
        const name = each.database;
        if (each.fails) return { sql: `DROP DATABASE ${name}`, answer: err(sequence, 1008), failed: true };
        if (this.database === name) this.database = '';
        const sql = [
          `DROP DATABASE ${name}`,
          `DROP SCHEMA IF EXISTS \`${name}\``,
          `EXECUTE IMMEDIATE 'DROP DATABASE ${name}'`,
          'CALL clean()',
        ];
        return { sql: sql[each.how]!, answer: said(SERVER_STATUS_DB_DROPPED) };
      }
    }
  }

  /** A SELECT that is right in the server's mode, and gives the word away in the other one, or in none. */
  private select(shape: number): string {
    if (shape === 0) return `SELECT '${PLANTED}', 1`;
    if (shape === 1) return `SELECT 1 /*!99999 ${PLANTED} */, /*!80000 ${PLANTED}, */ 2`;
    return this.literal ? `SELECT 'a\\', '${PLANTED}', 'b\\'` : `SELECT 'a\\'b ${PLANTED} c', '${PLANTED}'`;
  }
}

/** Each group in one flight: all commands, then all answers. */
function flights(talk: Talk, sizes: readonly number[]): Talk {
  const all: [who: 'C' | 'S', bytes: Buffer][] = [];
  let n = 0;
  for (let at = 0; at < talk.length; n++) {
    const end = Math.min(talk.length, at + 2 * sizes[n % sizes.length]!);
    const group = talk.slice(at, end);
    for (const who of ['C', 'S'] as const) {
      const bytes = Buffer.concat(group.filter(([from]) => from === who).map(([, each]) => each));
      if (bytes.length > 0) all.push([who, bytes]);
    }
    at = end;
  }
  return all;
}

const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 5 });

test('no literal leaves, and databases and prepared texts are right or not said', () => {
  let said = 0;
  let texts = 0;
  fc.assert(
    fc.property(fc.array(command, { minLength: 1, maxLength: 12 }), sizes, (commands, groups) => {
      const server = new Server();
      for (const each of commands) server.run(each);
      const bench = new MysqlBench()
        .talk(
          session(
            flights(server.talk, groups),
            { capabilities: MODERN & ~wire.CLIENT_SESSION_TRACK },
            { version: '11.4.2-MariaDB' },
          ),
        )
        .close();
      assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
      for (const e of bench.exchanges) {
        const { effect: _, ...shown } = e.statement ?? { effect: undefined };
        assert.doesNotMatch(JSON.stringify(shown), /planted/);
        if (e.statement?.text) texts++;
      }
      // Statements of a text that cannot be told apart are one exchange: then no other can be counted.
      if (bench.exchanges.length !== server.wanted.length) return;
      for (const [i, { namespace, text }] of server.wanted.entries()) {
        const e = bench.exchanges[i]!;
        if (e.namespace !== '') assert.equal(e.namespace, namespace, `statement ${i}`);
        if (e.namespace !== '') said++;
        if (e.prepared && text !== undefined && !e.failed) assert.equal(e.statement?.text || text, text);
        if (e.prepared && text === undefined && !e.failed) assert.equal(e.statement, undefined);
      }
    }),
    { numRuns: 2500 },
  );
  // It is known of most.
  assert.ok(said > 2500 && texts > 2500, `${said} databases, ${texts} texts`);
});
