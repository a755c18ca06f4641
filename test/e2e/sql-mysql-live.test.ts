/** What befalls MySQL connections: a server killed in mid-result, a result of a gigabyte, values of many packets, a binary log. */
import assert from 'node:assert/strict';
import { after, suite, type TestContext, test } from 'node:test';
import { type MariaDb, startMariaDb } from '../support/databases/mariadb.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { inside, startAgentOf } from '../support/programs/inside.ts';
import { nodeProgram } from '../support/sql/drivers.ts';
import { incompleteOf, rowsOf, sqlOfPort, textOf } from '../support/sql/spans.ts';

async function setUp(t: TestContext, args: readonly string[] = []) {
  const cleanup = cleanupAfter(t);
  const cgroup = await newCgroup(cleanup);
  const mariadb = await startMariaDb(cleanup, { prefix: cgroup.prefix, args });
  await mariadb.sql('CREATE DATABASE scene');
  return { cleanup, there: inside(cgroup), mariadb, agent: await startAgentOf(cleanup, cgroup) };
}

/** How the programs of MariaDB log in. */
function login({ host, port, user, password, certificate }: MariaDb, tls: boolean) {
  const secure = tls ? [`--ssl-ca=${certificate.certFile}`] : ['--skip-ssl'];
  return {
    words: ['--no-defaults', '-h', host, '-P', String(port), '-u', user, ...secure],
    options: { env: { MYSQL_PWD: password }, timeoutMs: 120_000 },
  };
}

suite('MySQL in trouble', () => {
  after(assertKernelClean);

  for (const tls of [false, true]) {
    const over = tls ? 'over TLS' : 'plain';
    test(`a server that is killed in mid-result, ${over}`, async (t) => {
      const { cleanup, there, mariadb, agent } = await setUp(t);
      const { words, options } = login(mariadb, tls);
      const text = "SELECT seq, repeat('x', 2000), sleep(0.001) FROM seq_1_to_1000000";
      const client = there.start(cleanup, 'mariadb', [...words, '--database=scene', '--quick', '-e', text], options);
      // What the client has written, the server has sent.
      await client.waitFor('stdout', /x{2000}\t0\n/);
      await mariadb.running.stop('SIGKILL');
      await client.exited;
      const [span] = await agent.waitForSpans(1, (each) => textOf(each).startsWith('SELECT seq,'));
      assert.match(incompleteOf(span!), /^connection_(reset|closed)$/);
      assert.equal(span!.status.code, 2);
      assert.ok(Number(span!.attributes['wirespan.db.response.size']) > 10_000);
      const { stats } = await agent.stop();
      assert.deepEqual([stats.parseErrors, stats.packets.lost], [{}, 0]);
    });

    test(`a result of a gigabyte, ${over}: one span, and no memory`, async (t) => {
      const { there, mariadb, agent } = await setUp(t);
      const { words, options } = login(mariadb, tls);
      // At some 200 MB/s: what matters is the size, not whether the agent gets its share of a busy machine.
      const text =
        "SELECT repeat('x', 8192) AS filler, if(seq % 128 = 0, sleep(0.003), 0) AS pause FROM seq_1_to_131072";
      await there.run(
        'sh',
        ['-c', 'exec mariadb "$@" > /dev/null', 'sh', ...words, '--database=scene', '--quick', '-e', text],
        options,
      );
      const spans = await agent.waitForSpans(1, (span) => /seq_1_to/.test(textOf(span)));
      assert.deepEqual(spans.map(rowsOf), [131_072]);
      assert.ok(Number(spans[0]!.attributes['wirespan.db.response.size']) > 2 ** 30);
      const { stats } = await agent.stop();
      t.diagnostic(
        `peak memory ${Math.round(stats.peakRssBytes / 1e6)} MB, ${stats.cpuSeconds.toFixed(1)} CPU seconds`,
      );
      assert.ok(stats.peakRssBytes < 450e6, `${stats.peakRssBytes} bytes of memory`);
      assert.deepEqual([stats.parseErrors, stats.packets.lost], [{}, 0]);
    });

    test(`values and texts of more than one packet, ${over}`, async (t) => {
      const { there, mariadb, agent } = await setUp(t);
      const { words, env } = await nodeProgram('packets');
      const { host, port, user, password, certificate } = mariadb;
      const task = { ...{ host, port, user, password, tls }, database: 'scene', ca: certificate.certFile };
      const [command, ...args] = [...words, JSON.stringify(task)];
      await there.run(command!, args, { env, timeoutMs: 120_000 });
      const { spans: all, stats } = await agent.stop();
      const spans = all.filter(sqlOfPort(port));
      assert.deepEqual(
        spans
          .filter(({ name }) => !name.startsWith('SET'))
          .sort((a, b) => a.startUs - b.startUs)
          .map((span) => [span.name, rowsOf(span), incompleteOf(span), span.status.code]),
        [
          ['CREATE TABLE blobs', 0, '', 0],
          ['INSERT blobs', 1, '', 0],
          ['SELECT blobs', 1, '', 0],
          ['SELECT', 1, '', 0],
          // A text that is longer than the agent reads is not looked into.
          ['scene', 1, '', 0],
          ['DELETE blobs', 1, '', 0],
          ['SELECT', 1, '', 0],
        ],
      );
      assert.deepEqual([stats.parseErrors, stats.incomplete, stats.packets.lost], [{}, {}, 0]);
    });
  }

  test('a binary log is passed over, and counted', async (t) => {
    const { there, mariadb, agent } = await setUp(t, ['--log-bin', '--server-id=1']);
    await mariadb.sql('USE scene; CREATE TABLE item AS SELECT seq FROM seq_1_to_10000');
    const [[first] = []] = await mariadb.sql('SHOW BINARY LOGS');
    for (const tls of [false, true]) {
      const { words, options } = login(mariadb, tls);
      const [defaults, ...rest] = words;
      const remote = [defaults!, '--read-from-remote-server', ...rest, '--result-file=/dev/null', first!];
      await there.run('mariadb-binlog', remote, options);
    }
    const { stats } = await agent.stop();
    assert.equal(stats.connections.opaque.mysql_binlog, 2, JSON.stringify(stats.connections));
    assert.deepEqual(stats.parseErrors, {});
  });
});
