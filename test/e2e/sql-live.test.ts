/** What befalls SQL connections: ends in mid-result, results of a gigabyte, connections older than the agent, replication. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { startMariaDb } from '../support/databases/mariadb.ts';
import { type Postgres, startPostgres } from '../support/databases/postgres.ts';
import { type Cgroup, newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { type Inside, inside, startAgentOf } from '../support/programs/inside.ts';
import { until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';
import { nodeProgram, pythonProgram } from '../support/sql/drivers.ts';
import { incompleteOf, namespaceOf, rowsOf, sqlOfPort, textOf } from '../support/sql/spans.ts';

interface Setting {
  cleanup: Cleanup;
  cgroup: Cgroup;
  there: Inside;
  postgres: Postgres;
}

async function setUp(t: { after(step: () => Promise<void>): void }, config: readonly string[] = []): Promise<Setting> {
  const cleanup = cleanupAfter(t);
  const cgroup = await newCgroup(cleanup);
  const postgres = await startPostgres(cleanup, { prefix: cgroup.prefix, config });
  return { cleanup, cgroup, there: inside(cgroup), postgres };
}

suite('PostgreSQL in trouble', () => {
  after(assertKernelClean);

  for (const tls of [false, true]) {
    const over = tls ? 'over TLS' : 'plain';
    test(`a server that is killed in mid-result, ${over}`, async (t) => {
      const { cleanup, cgroup, there, postgres } = await setUp(t);
      const agent = await startAgentOf(cleanup, cgroup);
      const text = "SELECT g, repeat('x', 2000), pg_sleep(0.001) FROM generate_series(1, 1000000) g";
      const client = there.start(cleanup, 'psql', ['-Xqc', text], { env: postgres.env({ tls }) });
      const victim = await until(async () => {
        const since = "now() - query_start > '2 s'";
        const asked = `SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT g,%' AND state = 'active' AND ${since}`;
        return Number(await postgres.sql([asked])) || undefined;
      }, 'the statement on its way');
      process.kill(victim, 'SIGKILL');
      await client.exited;
      const [span] = await agent.waitForSpans(1, (each) => textOf(each).startsWith('SELECT g,'));
      assert.match(incompleteOf(span!), /^connection_(reset|closed)$/);
      assert.equal(span!.status.code, 2);
      assert.ok(Number(span!.attributes['wirespan.db.response.size']) > 100_000);
      assert.ok(rowsOf(span!) < 1_000_000, `${rowsOf(span!)} rows`);
      assert.ok(span!.endUs - span!.startUs > 1_900_000);
      // The server comes up again, and so do its spans.
      await until(async () => {
        const { exitCode } = await there.runAnyway('psql', ['-Xqc', 'SELECT 1 AS again'], {
          env: postgres.env({ tls }),
        });
        return exitCode === 0 || undefined;
      }, 'the server again');
      await agent.waitForSpans(1, (each) => textOf(each) === 'SELECT ? AS again');
      const { stats } = await agent.stop();
      assert.deepEqual([stats.parseErrors, stats.packets.lost], [{}, 0]);
    });

    test(`a client that is killed in mid-COPY, ${over}`, async (t) => {
      const { cleanup, cgroup, there, postgres } = await setUp(t);
      await postgres.sql(['CREATE TABLE item (id int, name text)']);
      const agent = await startAgentOf(cleanup, cgroup);
      const client = there.start(cleanup, 'psql', ['-Xqc', 'COPY item FROM STDIN'], {
        env: postgres.env({ tls }),
        stdin: 'open',
      });
      client.child.stdin!.on('error', () => {});
      client.child.stdin!.write(Array.from({ length: 50_000 }, (_, id) => `${id}\tname ${id}\n`).join(''));
      await until(async () => {
        const taken = await postgres.sql(['SELECT sum(bytes_processed) FROM pg_stat_progress_copy']);
        return Number(taken) > 200_000 || undefined;
      }, 'the half of it at the server');
      client.child.kill('SIGKILL');
      await client.exited;
      const logged = await postgres.waitForStatements(
        1,
        ({ text, state }) => text.startsWith('COPY') && state !== '00000',
      );
      const [span, ...others] = await agent.waitForSpans(1, (each) => textOf(each) === 'COPY item FROM STDIN');
      assert.deepEqual(others, []);
      assert.equal(span!.status.code, 2);
      assert.ok(Number(span!.attributes['wirespan.db.request.size']) > 100_000);
      // The server may still say to the closed connection that it failed.
      assert.ok(incompleteOf(span!) !== '' || span!.attributes['db.response.status_code'] === logged[0]!.state);
      const { stats } = await agent.stop();
      assert.deepEqual([stats.parseErrors, stats.packets.lost], [{}, 0]);
    });
  }

  for (const tls of [false, true]) {
    test(`results of a gigabyte, ${tls ? 'over TLS' : 'plain'}: one span each, and no memory`, async (t) => {
      const { cleanup, cgroup, there, postgres } = await setUp(t);
      const agent = await startAgentOf(cleanup, cgroup);
      const rows = 131_072;
      // At some 200 MB/s: what matters is the size, not whether the agent gets its share of a busy machine.
      const pause = 'CASE WHEN g % 128 = 0 THEN pg_sleep(0.003)::text END';
      const source = `SELECT repeat('x', 8192) AS filler, ${pause} AS pause FROM generate_series(1, ${rows}) g`;
      const env = postgres.env({ tls });
      await there.run('sh', ['-c', `exec psql -Xqc "COPY (${source}) TO STDOUT" > /dev/null`], {
        env,
        timeoutMs: 120_000,
      });
      const stream = await pythonProgram('stream');
      await there.run(stream.words[0]!, [...stream.words.slice(1), source], {
        env: { ...env, ...stream.env },
        timeoutMs: 120_000,
      });
      const spans = await agent.waitForSpans(2, (span) => /generate_series/.test(textOf(span)));
      assert.equal(spans.length, 2);
      for (const span of spans) {
        assert.equal(rowsOf(span), rows, textOf(span));
        assert.ok(Number(span.attributes['wirespan.db.response.size']) > 2 ** 30);
        assert.equal(incompleteOf(span), '');
      }
      const { stats } = await agent.stop();
      t.diagnostic(
        `peak memory ${Math.round(stats.peakRssBytes / 1e6)} MB, ${stats.cpuSeconds.toFixed(1)} CPU seconds`,
      );
      assert.ok(stats.peakRssBytes < 450e6, `${stats.peakRssBytes} bytes of memory`);
      assert.deepEqual([stats.parseErrors, stats.packets.lost], [{}, 0]);
    });
  }
});

suite('PostgreSQL besides statements', () => {
  after(assertKernelClean);

  test('replication is passed over, and counted', async (t) => {
    const { cleanup, cgroup, there, postgres } = await setUp(t);
    await postgres.sql(['ALTER SYSTEM SET log_connections = on', 'SELECT pg_reload_conf()']);
    const agent = await startAgentOf(cleanup, cgroup);
    const env = postgres.env();
    const target = join(postgres.folder, 'received');
    await run('mkdir', [target]);
    const receiver = there.start(cleanup, 'pg_receivewal', ['-D', target, '--no-sync'], { env });
    await until(async () => {
      const count = await postgres.sql(['SELECT count(*) FROM pg_stat_replication']);
      return count.trim() === '1' || undefined;
    }, 'the receiver of the log');
    await postgres.sql(['CREATE TABLE written AS SELECT g FROM generate_series(1, 100000) g']);
    await there.run('pg_basebackup', ['-D', join(postgres.folder, 'copy'), '--no-sync', '-X', 'stream', '-c', 'fast'], {
      env: postgres.env({ tls: true }),
    });
    // What is no replication goes on beside it.
    await there.run('psql', ['-Xqc', 'SELECT 1 AS beside'], { env });
    await agent.waitForSpans(1, (span) => textOf(span) === 'SELECT ? AS beside');
    await receiver.stop('SIGINT');
    const { stats, spans } = await agent.stop();
    const log = await readFile(join(postgres.folder, 'log', 'server.csv'), 'utf8');
    const replications = log.match(/replication connection authorized/g)?.length ?? 0;
    // One of pg_receivewal, two of pg_basebackup.
    assert.ok(replications >= 3, `${replications} in the server's log`);
    assert.deepEqual(stats.connections.opaque, { postgresql_replication: replications });
    assert.deepEqual(stats.parseErrors, {});
    t.diagnostic(JSON.stringify(stats.connections.opaque));
    t.diagnostic([...new Set(spans.map(textOf))].join(' | '));
  });

  test('texts as they were written, where the configuration wants them', async (t) => {
    const { cleanup, cgroup, there, postgres } = await setUp(t);
    const config = join(postgres.folder, 'wirespan.yaml');
    await writeFile(config, 'sql:\n  raw_text: true\n');
    const agent = await startAgentOf(cleanup, cgroup, ['--config', config]);
    const texts = [
      "SELECT /* why */ 'a''b' AS quoted",
      "SELECT E'\\'' AS escaped, $tag$x$tag$ AS tagged",
      'SELECT -- the end\n1.5e3',
    ];
    for (const text of texts) await there.run('psql', ['-Xqc', text], { env: postgres.env({ tls: true }) });
    const spans = await agent.waitForSpans(3, sqlOfPort(postgres.port));
    const logged = (await postgres.waitForStatements(3, ({ text }) => texts.includes(text))).map(({ text }) => text);
    assert.deepEqual(spans.map(textOf).sort(), [...logged].sort());
  });

  test("the context of a comment is the span's", async (t) => {
    const { cleanup, cgroup, there, postgres } = await setUp(t);
    const agent = await startAgentOf(cleanup, cgroup);
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    await there.run('psql', ['-Xqc', `SELECT 1 AS traced /*traceparent='${traceparent}'*/`], {
      env: postgres.env({ tls: true }),
    });
    const [span] = await agent.waitForSpans(1, sqlOfPort(postgres.port));
    assert.deepEqual([span!.traceId, span!.parentSpanId], traceparent.split('-').slice(1, 3));
    assert.equal(textOf(span!), 'SELECT ? AS traced');
  });
});

suite('connections that are older than the agent', () => {
  after(assertKernelClean);
  const ROUNDS = 4;

  for (const kind of ['postgresql', 'mysql'] as const) {
    test(`${kind}: joined at once, with what can be known`, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const options = { prefix: cgroup.prefix };
      const server = await (kind === 'postgresql' ? startPostgres(cleanup, options) : startMariaDb(cleanup, options));
      const { host, port, user, password } = server;
      const database = kind === 'postgresql' ? 'postgres' : 'mysql';
      const program = await nodeProgram('older');
      const task = JSON.stringify({ host, port, user, password, database });
      const client = inside(cgroup).start(cleanup, program.words[0]!, [...program.words.slice(1), kind, task], {
        env: program.env,
        stdin: 'open',
      });
      await client.waitFor('stdout', /^ready$/m);
      const agent = await startAgentOf(cleanup, cgroup);
      for (let round = 1; round <= ROUNDS; round++) {
        client.child.stdin!.write('\n');
        await client.waitFor('stdout', new RegExp(`^done ${round}$`, 'm'));
      }
      const { spans: all, stats } = await agent.stop();
      const spans = all.filter(sqlOfPort(server.port));
      const count = (wanted: string) => spans.filter((span) => textOf(span) === wanted).length;
      const select = kind === 'postgresql' ? '$1::int' : '?';
      t.diagnostic(
        JSON.stringify([...new Set(spans.map((s) => `${textOf(s)}|${s.name}|${namespaceOf(s)}|${rowsOf(s)}`))]),
      );
      assert.deepEqual([count('SELECT ? AS simple'), count(`SELECT ${select} AS late, ?`)], [ROUNDS, ROUNDS]);
      // The first of all may be what the connection is recognised by; its text was never seen.
      assert.ok(count('') === ROUNDS || count('') === ROUNDS - 1, `${count('')} statements that were prepared before`);
      assert.deepEqual([stats.parseErrors, stats.packets.lost], [{}, 0]);
    });
  }
});
