/** Redis, live: every command that MONITOR has is a span, with its database, in the server's order. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { type Stopped, startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { run, runAnyway } from '../support/programs/process.ts';
import { CLIENT_RUNS, prepareClients, runClient } from '../support/redis/clients.ts';
import { type MonitoredCommand, type RedisServer, startRedis } from '../support/redis/server.ts';

/** Commands that the server runs and MONITOR does not show: CMD_SKIP_MONITOR and CMD_ADMIN. */
const UNMONITORED = /^(?:MONITOR|CONFIG|ACL|CLIENT (?:KILL|LIST|PAUSE|UNPAUSE|NO-EVICT)|DEBUG|SHUTDOWN|RESET|QUIT)\b/;
/** Errors of commands that were refused before they ran. */
const REFUSED = /^(?:NOAUTH|NOPERM|LOADING)$/;

const operationOf = (span: FlatSpan): string => String(span.attributes['db.operation.name']).toUpperCase();
const statusOf = (span: FlatSpan): string => String(span.attributes['db.response.status_code'] ?? '');

const ofRedis =
  (...ports: readonly number[]) =>
  (span: FlatSpan): boolean =>
    span.attributes['db.system.name'] === 'redis' && ports.includes(Number(span.attributes['server.port']));

/** In the order in which they were sent; those of one write as they lie in it. */
function inOrder(spans: readonly FlatSpan[]): FlatSpan[] {
  const index = (span: FlatSpan) => Number(span.attributes['wirespan.db.batch.index'] ?? 0);
  return [...spans].sort((a, b) => a.startUs - b.startUs || index(a) - index(b));
}

/** Database and first word of the name: what MONITOR and a span both say. */
function lineOf(span: FlatSpan): string {
  return `${span.attributes['db.namespace'] ?? '?'} ${operationOf(span).split(' ')[0]}`;
}

/** What the server must have shown to MONITOR. */
function isMonitored(span: FlatSpan): boolean {
  if (UNMONITORED.test(operationOf(span)) || REFUSED.test(statusOf(span))) return false;
  // Refused, too: names that the server does not know, or not yet.
  if (/^CLIENT (?:SETINFO|MAINT_NOTIFICATIONS)$/.test(operationOf(span))) return statusOf(span) !== 'ERR';
  return operationOf(span) !== '_OTHER';
}

/** Without what scripts ran, and what a connection sent after it had subscribed in RESP2, which is passed over. */
function expectedLines(commands: readonly MonitoredCommand[], resp: 2 | 3): string[] {
  const subscribed = new Set<string>();
  const lines: string[] = [];
  for (const { client, database, name } of commands) {
    if (client === 'lua' || subscribed.has(client)) continue;
    if (resp === 2 && name === 'SUBSCRIBE') subscribed.add(client);
    lines.push(`${database} ${name}`);
  }
  return lines;
}

function countsOf(lines: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const line of lines) counts[line] = (counts[line] ?? 0) + 1;
  return Object.fromEntries(Object.entries(counts).sort());
}

function assertUnharmed({ stats }: Stopped): void {
  assert.deepEqual([stats.packets.lost, stats.parseErrors, stats.internalErrors], [0, {}, {}]);
  assert.deepEqual([stats.connections.undecryptable, stats.connections.unrecognised], [{}, {}]);
  assert.equal(stats.spans.made, stats.spans.exported);
}

/** Errors that the server has counted, by their first word (INFO errorstats). */
async function errorsOf(server: RedisServer): Promise<Record<string, number>> {
  const text = await server.call('INFO', 'errorstats');
  return Object.fromEntries(
    [...text.matchAll(/^errorstat_(\w+):count=(\d+)/gm)].map(([, word, n]) => [word!, Number(n)]),
  );
}

suite('Redis, live', () => {
  before(prepareClients);
  after(assertKernelClean);

  test('Node redis, Python redis, go-redis, RESP2 and RESP3, plain and over TLS', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, path } = await newCgroup(cleanup);
    const server = await startRedis(cleanup, { prefix });
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    for (const one of CLIENT_RUNS) {
      await server.call('FLUSHALL');
      await server.call('SCRIPT', 'FLUSH');
      await server.call('CONFIG', 'RESETSTAT');
      const before = (await agent.spans()).length;
      const monitor = await server.monitor();
      await runClient(server, one, prefix);
      const expected = expectedLines(await monitor.end(), one.resp);
      const errors = await errorsOf(server);
      const spans = await until(
        async () => {
          const own = (await agent.spans()).slice(before).filter(ofRedis(server.port, server.tlsPort));
          return own.filter(isMonitored).length >= expected.length ? own : undefined;
        },
        `${expected.length} spans of ${JSON.stringify(one)}`,
      );
      const label = `${one.client} RESP${one.resp} ${one.tls ? 'TLS' : 'plain'}`;
      t.diagnostic(`${label}: ${expected.length} commands of MONITOR, ${spans.length} spans`);
      assert.deepEqual(inOrder(spans).filter(isMonitored).map(lineOf), expected, label);
      assert.deepEqual(countsOf(spans.map(statusOf).filter((word) => word !== '')), countsOfWords(errors), label);
      assert.ok(
        spans.every((span) => span.kind === 'CLIENT' && span.attributes['wirespan.exchange.incomplete'] === undefined),
      );
      assert.equal(
        spans.every((span) => (span.attributes['tls.protocol.version'] !== undefined) === one.tls),
        true,
      );
      const writes = spans.filter((span) => span.attributes['wirespan.db.batch.count'] !== undefined);
      assert.ok(writes.length >= 100, `${label}: ${writes.length} commands in pipelines`);
    }
    assertUnharmed(await agent.stop());
  });

  test('redis-benchmark with pipelines, plain and over TLS', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, path } = await newCgroup(cleanup);
    const server = await startRedis(cleanup, { prefix });
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    for (const tls of [false, true]) {
      const before = (await agent.spans()).length;
      const monitor = await server.monitor();
      await run(prefix[0]!, [
        ...prefix.slice(1),
        'redis-benchmark',
        ...[
          '-h',
          server.host,
          '-p',
          String(tls ? server.tlsPort : server.port),
          '-q',
          '-c',
          '10',
          '-P',
          '100',
          '-n',
          '10000',
        ],
        ...['-t', 'ping_inline,ping_mbulk,set,get,incr,lpush,lpop,hset,mset'],
        ...(tls ? ['--tls', '--cacert', server.certificate.certFile] : []),
      ]);
      const expected = expectedLines(await monitor.end(), 2);
      const spans = await until(async () => {
        const own = (await agent.spans()).slice(before).filter(ofRedis(server.port, server.tlsPort));
        return own.filter(isMonitored).length >= expected.length ? own : undefined;
      }, `${expected.length} spans`);
      t.diagnostic(
        `redis-benchmark -P 100 ${tls ? 'TLS' : 'plain'}: ${expected.length} commands of MONITOR, ${spans.length} spans`,
      );
      assert.ok(expected.length >= 90_000);
      assert.deepEqual(countsOf(spans.filter(isMonitored).map(lineOf)), countsOf(expected));
    }
    assertUnharmed(await agent.stop());
  });

  test('redis-cli: databases, transactions, blocking commands; no credential in any span', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, path } = await newCgroup(cleanup);
    const server = await startRedis(cleanup, { prefix });
    const secret = 'Correct-Horse-7';
    await server.call('ACL', 'SETUSER', 'planted', 'on', `>${secret}`, '~*', '&*', '+@all');
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    const monitor = await server.monitor();
    const lines = [
      ...[
        'SET a 1',
        'SELECT 3',
        'SET a 2',
        'GET a',
        'MULTI',
        'INCR a',
        'SELECT 4',
        'LPUSH l 1',
        'EXEC',
        'LPUSH l 2',
        'MULTI',
      ],
      ...[
        'INCR a',
        'DISCARD',
        'MULTI',
        'GET',
        'EXEC',
        'BLPOP none 1',
        `AUTH planted ${secret}`,
        'AUTH planted wrong-Secret-8',
      ],
      ...[`HELLO 3 AUTH planted ${secret}`, 'SET b 3', 'SUBSCRIBE channel'],
    ];
    const base = ['-h', server.host, '-p', String(server.port)];
    const cli = await runAnyway(prefix[0]!, [...prefix.slice(1), 'timeout', '5', 'redis-cli', ...base], {
      input: `${lines.join('\n')}\n`,
    });
    assert.notEqual(cli.stdout, '');
    const expected = expectedLines(await monitor.end(), 3);
    const spans = await until(async () => {
      const own = (await agent.spans()).filter(ofRedis(server.port));
      return own.filter(isMonitored).length >= expected.length ? own : undefined;
    }, `${expected.length} spans`);
    // GET without a key is refused before it is queued.
    const ran = inOrder(spans).filter((span) => isMonitored(span) && statusOf(span) !== 'ERR');
    assert.deepEqual(ran.map(lineOf), expected);
    const blocking = spans.find((span) => operationOf(span) === 'BLPOP')!;
    assert.ok(blocking.endUs - blocking.startUs >= 1_000_000);
    assert.equal(
      spans.find((span) => operationOf(span) === 'EXEC' && statusOf(span) === '')!.attributes[
        'db.operation.batch.size'
      ],
      3,
    );
    const words = spans.map((span) => [operationOf(span), statusOf(span)].join(' ').trim());
    for (const word of ['EXEC EXECABORT', 'GET ERR', 'AUTH WRONGPASS'])
      assert.ok(words.includes(word), `${word}: ${words}`);
    const stopped = await agent.stop();
    assert.doesNotMatch(JSON.stringify(stopped.spans), /Correct-Horse|wrong-Secret|planted/);
    assert.equal(stopped.stats.incomplete.not_run, 1);
    assertUnharmed(stopped);
  });

  test('pub/sub in RESP2, MONITOR and replicas are passed over after their start', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, path } = await newCgroup(cleanup);
    const server = await startRedis(cleanup, { prefix });
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    const base = ['-h', server.host, '-p', String(server.port)];
    await runAnyway(prefix[0]!, [...prefix.slice(1), 'timeout', '1', 'redis-cli', ...base, 'SUBSCRIBE', 'channel']);
    await runAnyway(prefix[0]!, [...prefix.slice(1), 'timeout', '1', 'redis-cli', ...base, 'MONITOR']);
    const replica = await startRedis(cleanup, { prefix, args: ['--replicaof', server.host, String(server.port)] });
    await server.call('SET', 'replicated', 'x'.repeat(100_000));
    await until(async () => ((await replica.call('EXISTS', 'replicated')) === '1' ? true : undefined), 'replication');
    await agent.waitForSpans(3, (span) => /^(?:SUBSCRIBE|MONITOR|PSYNC)$/.test(operationOf(span)));
    const stopped = await agent.stop();
    const names = stopped.spans.filter(ofRedis(server.port)).map((span) => operationOf(span));
    assert.deepEqual(names.sort(), ['MONITOR', 'PING', 'PSYNC', 'REPLCONF', 'REPLCONF', 'SUBSCRIBE']);
    assert.deepEqual(stopped.stats.connections.opaque, { redis_pubsub: 1, redis_monitor: 1, redis_replication: 1 });
    assertUnharmed(stopped);
  });

  test('a cluster: CLUSTERDOWN, MOVED and ASK', async (t) => {
    const cleanup = cleanupAfter(t);
    const { prefix, path } = await newCgroup(cleanup);
    const options = { prefix, args: ['--cluster-enabled', 'yes', '--cluster-require-full-coverage', 'no'] };
    const [one, two] = [await startRedis(cleanup, options), await startRedis(cleanup, options)];
    const agent = await startAgent(cleanup, { args: ['--cgroup', path] });
    const ask = (server: RedisServer, ...words: string[]) =>
      runAnyway(prefix[0]!, [...prefix.slice(1), 'redis-cli', '-h', server.host, '-p', String(server.port), ...words]);
    await ask(one, 'GET', 'foo');
    await one.call('CLUSTER', 'ADDSLOTSRANGE', '0', '8191');
    await two.call('CLUSTER', 'ADDSLOTSRANGE', '8192', '16383');
    await one.call('CLUSTER', 'MEET', two.host, String(two.port));
    for (const server of [one, two]) {
      await until(async () => {
        const info = await server.call('CLUSTER', 'INFO');
        return /cluster_state:ok/.test(info) && /cluster_slots_assigned:16384/.test(info) ? true : undefined;
      }, 'the cluster');
    }
    // Slot 12182 is the second node's.
    await ask(one, '-c', 'SET', 'foo', '1');
    const [first, second] = [await one.call('CLUSTER', 'MYID'), await two.call('CLUSTER', 'MYID')];
    await one.call('CLUSTER', 'SETSLOT', '12182', 'IMPORTING', second);
    await two.call('CLUSTER', 'SETSLOT', '12182', 'MIGRATING', first);
    await ask(two, '-c', 'GET', '{foo}none');
    const wanted = ['GET ASK', 'GET CLUSTERDOWN', 'SET MOVED'];
    const spans = await agent.waitForSpans(6, (span) => /^(?:GET|SET|ASKING)$/.test(operationOf(span)));
    const words = spans
      .filter(ofRedis(one.port, two.port))
      .map((span) => `${operationOf(span)} ${statusOf(span)}`.trim());
    assert.deepEqual(words, ['GET CLUSTERDOWN', 'SET MOVED', 'SET', 'GET ASK', 'ASKING', 'GET']);
    assert.ok(
      spans
        .filter((span) => wanted.includes(`${operationOf(span)} ${statusOf(span)}`))
        .every(({ status }) => status.code === 2),
    );
    const stopped = await agent.stop();
    // The nodes' own connections to each other.
    const { no_match = 0, ...unrecognised } = stopped.stats.connections.unrecognised;
    assert.ok(no_match >= 2);
    assertUnharmed({
      ...stopped,
      stats: { ...stopped.stats, connections: { ...stopped.stats.connections, unrecognised } },
    });
  });
});

const countsOfWords = (errors: Record<string, number>) => Object.fromEntries(Object.entries(errors).sort());
