/**
 * Flights of statements that change how later ones are read, named and placed, against a real server: its log and what it answers are the
 * truth. The bytes of both directions are read as the agent reads them, without a capture between.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import type { SqlExchange } from '../../src/exchange/sql.ts';
import { type LoggedStatement, type Postgres, startPostgres } from '../support/databases/postgres.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { c, PostgresBench, type Segment, steps } from '../support/protocols/postgres.ts';
import { statementsOf } from '../support/sql/spans.ts';

const SESSIONS = 60;
const FLIGHTS = 12;

/** The same numbers for the same seed (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const STRINGS = 'standard_conforming_strings';
const SETTINGS = [
  ...['on', 'off'].flatMap((value) => [
    `SET ${STRINGS} = ${value}`,
    `SET LOCAL ${STRINGS} TO ${value}`,
    `SELECT pg_catalog.set_config('${STRINGS}', '${value}', false)`,
    `SELECT set_config('${STRINGS}', '${value}', true)`,
    `SELECT strings_${value}()`,
    `DO $$ BEGIN SET ${STRINGS} = ${value}; END $$`,
  ]),
  `RESET ${STRINGS}`,
  ...['sa', 'sb', '"s C"'].flatMap((schema) => [
    `SET search_path TO ${schema}, public`,
    `SET LOCAL search_path TO ${schema}`,
    `SELECT set_config('search_path', '${schema}, public', false)`,
    `SELECT set_config('search_path', '${schema}', true)`,
  ]),
  'SELECT path_sb()',
  "UPDATE pg_settings SET setting = 'sa' WHERE name = 'search_path'",
  'RESET search_path',
  'RESET ALL',
  'DISCARD ALL',
];
const TRANSACTIONS = ['BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT a', 'ROLLBACK TO a', 'RELEASE a', 'COMMIT AND CHAIN'];
const NAMES = ['', 's1', 's2'];
/** What SQL prepares has a name of its own: EXECUTE of a SAVEPOINT that Parse has named ends the session (PostgreSQL 15). */
const OTHERS = [
  ...['PREPARE s3 AS SELECT 1 AS p', 'DEALLOCATE s3', 'DEALLOCATE s1', 'DEALLOCATE ALL', 'EXECUTE s3'],
  ...['SELECT 1/0', 'SELCT 1'],
];

class Session {
  readonly bench = new PostgresBench();
  readonly socket: Socket;
  private received: Buffer[] = [];
  private readonly segments: Segment[] = [];
  private marks = 0;
  private readonly below: (below: number) => number;

  constructor(socket: Socket, seed: number) {
    this.socket = socket;
    this.below = random(seed);
    socket.on('data', (bytes) => this.received.push(bytes));
  }

  /** A text; a marker stands in each of its literals, as the author meant them under one of the rules. */
  text(): string {
    const kind = this.below(10);
    if (kind < 4) return this.pick(SETTINGS);
    if (kind < 6) return this.pick(TRANSACTIONS);
    if (kind < 7) return this.pick(OTHERS);
    const mark = `zq${this.marks++}qz`;
    return this.pick([
      `SELECT 'a\\'b ${mark} c\\'d'`,
      `SELECT 'c:\\', '${mark}', 'd'`,
      `SELECT '${mark}' AS plain`,
      `SELECT e'a\\'${mark}', 'é ${mark}'`,
    ]);
  }

  pick<T>(all: readonly T[]): T {
    return all[this.below(all.length)]!;
  }

  /** Messages of one flight, and how many ReadyForQuery answer them. */
  flight(): { messages: Buffer[]; ready: number } {
    const messages: Buffer[] = [];
    let ready = 0;
    let open = false;
    const end = () => {
      if (open) messages.push(c.sync);
      if (open) ready++;
      open = false;
    };
    for (let count = 1 + this.below(5); count > 0; count--) {
      if (this.below(2) === 0) {
        end();
        messages.push(c.query(this.text()));
        ready++;
        continue;
      }
      const name = this.pick(NAMES);
      if (this.below(6) === 0) messages.push(c.close('S', name));
      if (this.below(3) > 0) messages.push(c.parse(name, this.text()));
      messages.push(c.bind('', this.below(8) === 0 ? 's3' : name), c.execute());
      open = true;
      if (this.below(2) === 0) end();
    }
    end();
    return { messages, ready };
  }

  /** Sends a flight and waits for the whole answer. */
  async send(messages: readonly Buffer[], ready: number): Promise<Buffer> {
    this.received = [];
    const flight = Buffer.concat(messages);
    this.socket.write(flight);
    while (readies(Buffer.concat(this.received)) < ready) {
      await once(this.socket, 'data', { signal: AbortSignal.timeout(30_000) });
    }
    const answer = Buffer.concat(this.received);
    this.segments.push(['C', flight], ['S', answer]);
    return answer;
  }

  async run(flights: number): Promise<SqlExchange[]> {
    await this.send([c.startup({ user: 'trusted', database: 'postgres' })], 1);
    const paths: string[] = [];
    for (let count = 0; count < flights; count++) {
      const { messages, ready } = this.flight();
      await this.send(messages, ready);
      paths.push(firstValue(await this.send([c.query("SELECT current_setting('search_path') AS path")], 1)));
    }
    this.socket.end(c.terminate);
    this.bench.run(steps(this.segments)).close();
    this.checkPaths(paths);
    return this.bench.exchanges;
  }

  /** The namespace of each question for the search path is what it answered, or the database alone. */
  private checkPaths(paths: readonly string[]): void {
    const asked = this.bench.exchanges.filter((e) => e.statement?.text.endsWith(' AS path') === true);
    assert.equal(asked.length, paths.length);
    for (const [index, { namespace, failed }] of asked.entries()) {
      if (failed || namespace === 'postgres') continue;
      const first = paths[index]!.split(',')[0]!.replaceAll('"', '');
      assert.equal(namespace, `postgres|${first}`);
    }
  }
}

/** How many ReadyForQuery are among the messages. */
function readies(bytes: Buffer): number {
  let count = 0;
  for (let at = 0; at + 5 <= bytes.length; at += 1 + bytes.readUInt32BE(at + 1)) if (bytes[at] === 0x5a) count++;
  return count;
}

/** The value of the first row, empty when there is none. */
function firstValue(bytes: Buffer): string {
  for (let at = 0; at + 5 <= bytes.length; at += 1 + bytes.readUInt32BE(at + 1)) {
    if (bytes[at] === 0x44) return bytes.toString('utf8', at + 11, at + 11 + bytes.readInt32BE(at + 7));
  }
  return '';
}

/** What of a logged text may leave: each of its statements by either rule; of what PREPARE named, the statement. */
function mayLeave({ text, state }: LoggedStatement): string[] {
  const whole = text.replace(/^PREPARE s3 AS /, '');
  const found = [text, whole].flatMap((each) =>
    statementsOf('postgresql', each, true).map((statement) => statement.text),
  );
  return state === '42601' || text.includes("\\'") || found.length === 0 ? [...found, 'SELECT ?', ''] : found;
}

/** A server with what the flights call. */
async function setUp(cleanup: Cleanup): Promise<Postgres> {
  const postgres = await startPostgres(cleanup);
  const language = 'LANGUAGE sql';
  const set = (name: string, value: string) => `$$ SELECT pg_catalog.set_config('${name}', '${value}', false) $$`;
  await postgres.sql([
    ...['sa', 'sb', '"s C"'].map((schema) => `CREATE SCHEMA ${schema}`),
    ...['on', 'off'].map(
      (value) => `CREATE FUNCTION strings_${value}() RETURNS text AS ${set(STRINGS, value)} ${language}`,
    ),
    `CREATE FUNCTION path_sb() RETURNS text AS ${set('search_path', 'sb, public')} ${language}`,
  ]);
  return postgres;
}

suite('Settings that change in flight', () => {
  test(`no literal leaves, and texts and search paths are the server's, in ${SESSIONS} sessions`, async (t) => {
    const postgres = await setUp(cleanupAfter(t));
    const sessions: { port: number; exchanges: SqlExchange[] }[] = [];
    for (let seed = 1; seed <= SESSIONS; seed++) {
      const socket = connect(postgres.port, '127.0.0.1');
      await once(socket, 'connect');
      const port = socket.localPort!;
      sessions.push({ port, exchanges: await new Session(socket, seed).run(FLIGHTS) });
    }
    const log = await postgres.allStatements();
    let withText = 0;
    let all = 0;
    let placed = 0;
    for (const { port, exchanges } of sessions) {
      const own = log.filter((each) => each.port === port);
      assert.equal(exchanges.length, own.length, `of port ${port}`);
      for (const [index, exchange] of exchanges.entries()) {
        const logged = own[index]!;
        const said = JSON.stringify(exchange.statement ?? '');
        assert.equal(exchange.statusCode || '00000', logged.state, `${logged.text}: ${said}`);
        // Where the server refuses a text, it read it by the other rule than its author.
        if (logged.state !== '42601') assert.doesNotMatch(said, /zq\d+qz/, logged.text);
        const text = exchange.statement?.text ?? '';
        if (text !== '') assert.ok(mayLeave(logged).includes(text), `${logged.text}: ${text}`);
        all++;
        if (text !== '') withText++;
        if (exchange.namespace.includes('|')) placed++;
      }
    }
    t.diagnostic(`${all} statements, ${withText} with their text, ${placed} with a schema`);
    assert.ok(withText > all * 0.7, `${withText} of ${all} statements have their text`);
    assert.ok(placed > all * 0.1, `${placed} of ${all} statements have a schema`);
  });
});
