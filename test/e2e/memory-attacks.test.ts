/**
 * One process without privileges tries to fill the agent's memory, in six ways. The agent runs in a control group with the memory that it
 * is said to need, so that the kernel would kill it: it gives up the connections that hold the most, and nothing else.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { newCgroup, newMemoryCgroup } from '../support/kernel/cgroup.ts';
import { startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until } from '../support/programs/net.ts';
import { root } from '../support/programs/paths.ts';
import { start } from '../support/programs/process.ts';

const LIMIT_MIB = 512;
const ATTACK_MS = 240_000;
/** After an attack the agent holds little: its own memory comes back to what it was, but for code that was compiled and the C library's rest. */
const GIVEN_BACK_MIB = 50;

interface Counted {
  connections: { givenUp: Record<string, number> };
  memory: Record<string, number>;
  incomplete: Record<string, number>;
  internalErrors: Record<string, number>;
}

/** Own memory of a process in MiB: what is mapped from files, and the rings that it shares with the kernel, are not. */
async function ownMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^RssAnon:\s+(\d+)/m.exec(status)![1]) / 1024;
}

/** Asks the agent how it is, again and again. @returns a function that ends that and says how long the slowest answer took */
function watchHealth(port: number): () => Promise<number> {
  let over = false;
  let slowestMs = 0;
  const asking = (async () => {
    while (!over) {
      const begun = performance.now();
      const response = await fetch(`http://127.0.0.1:${port}/healthz`);
      await response.arrayBuffer();
      slowestMs = Math.max(slowestMs, performance.now() - begun);
      await sleep(50);
    }
  })();
  return async () => {
    over = true;
    await asking;
    return slowestMs;
  };
}

async function attack(cleanup: Cleanup, which: string): Promise<Counted> {
  const watched = await newCgroup(cleanup);
  const limited = await newMemoryCgroup(cleanup, LIMIT_MIB);
  const port = await freePort();
  const agent = await startAgent(cleanup, {
    prefix: limited.prefix,
    args: ['--cgroup', watched.path, '--listen', `127.0.0.1:${port}`],
  });
  const pid = agent.running.pid;
  const beforeMib = await ownMib(pid);
  const [command, ...words] = [
    ...watched.prefix,
    process.execPath,
    join(root, 'test/support/hostile/memory-attack.mjs'),
    which,
  ];
  const attacker = start(cleanup, command!, words);
  const health = watchHealth(port);
  await attacker.waitFor('stdout', /^\{.*\}\n/m, ATTACK_MS);
  const slowestMs = await health();
  const { ok } = JSON.parse(attacker.stdout) as { ok: number };
  await attacker.stop('SIGTERM');
  let afterMib = Number.POSITIVE_INFINITY;
  await until(
    async () => {
      afterMib = await ownMib(pid);
      return afterMib < beforeMib + GIVEN_BACK_MIB ? true : undefined;
    },
    'memory is given back',
    40_000,
  ).catch((error: Error) => {
    throw new Error(`${error.message}: ${beforeMib} MiB before, ${afterMib} MiB after`);
  });
  const { spans, stats } = await agent.stop();
  const peakMib = stats.peakRssBytes / 1024 / 1024;
  console.error(
    `${which}: peak ${peakMib.toFixed(0)} MiB, own ${beforeMib.toFixed(0)} -> ${afterMib.toFixed(0)} MiB, slowest answer ${slowestMs.toFixed(0)} ms`,
  );
  assert.ok(peakMib < LIMIT_MIB, `${peakMib} MiB at the most`);
  assert.equal(stats.packets.lost, 0, 'the attack is slow enough for the ring');
  const exact = spans.filter(({ attributes }) =>
    String(attributes['url.path'] ?? attributes['url.full']).includes('/ok/'),
  );
  assert.equal(exact.length, 2 * ok, 'both ends of every request of the other connection');
  for (const { attributes } of exact) {
    assert.equal(attributes['http.response.status_code'], 200);
    assert.equal(attributes['wirespan.exchange.incomplete'], undefined);
  }
  // When its process ends, all that it asked for ends at once: more than an output takes. That is after the others, and counted.
  for (const reason of Object.keys(stats.spans.dropped)) assert.equal(reason, 'output_full');
  const dropped = Object.values(stats.spans.dropped).reduce((sum, n) => sum + n, 0);
  assert.equal(stats.spans.made, stats.spans.exported + dropped, 'every span is counted once');
  const counted = stats as unknown as Counted;
  assert.deepEqual(counted.internalErrors, {});
  return counted;
}

suite('memory of the agent, while one process attacks it', { timeout: 1_800_000 }, () => {
  for (const which of ['heads', 'h2cont', 'pgprep'] as const) {
    test(`${which}: what holds the most is given up`, async (t) => {
      const { connections, memory } = await attack(cleanupAfter(t), which);
      assert.ok((connections.givenUp.memory ?? 0) > 0);
      assert.equal(memory.connection, connections.givenUp.memory);
    });
  }

  for (const which of ['pipe', 'h2streams'] as const) {
    test(`${which}: what waits in it ends with that reason`, async (t) => {
      const { connections, incomplete } = await attack(cleanupAfter(t), which);
      assert.ok((connections.givenUp.memory ?? 0) > 0);
      assert.ok((incomplete.memory ?? 0) > 0);
    });
  }

  test('pgcache: a cache has a bound in bytes', async (t) => {
    const { connections } = await attack(cleanupAfter(t), 'pgcache');
    assert.deepEqual(connections.givenUp, {});
  });
});
