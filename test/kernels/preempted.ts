/**
 * Runs in the guest of vm-run.sh: new TLS connections of many processes, on a kernel that preempts its tasks anywhere. Prints one JSON object, or
 * fails when a secret was lost or mixed up with another's.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { startNginx } from '../support/http/nginx.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';

const WORKERS = 4;
const CLIENTS = 8;
const SECONDS = process.argv[2] ?? '30';
const PREEMPTION = '/sys/kernel/debug/sched/preempt';

const cleanup = new Cleanup();
try {
  writeFileSync(PREEMPTION, 'full');
  assert.match(readFileSync(PREEMPTION, 'latin1'), /\(full\)/);
  const nginx = await startNginx(cleanup, {
    workers: WORKERS,
    server: 'ssl_session_tickets off; ssl_session_cache off; keepalive_timeout 0;',
  });
  const agent = await startAgent(cleanup);
  const clients = Array.from({ length: CLIENTS }, (_, i) => {
    const [version, port] = i % 4 === 0 ? ['-tls1_2', nginx.tls12Port] : ['-tls1_3', nginx.tls13Port];
    const to = ['-connect', `127.0.0.1:${port}`, '-www', '/hello'];
    // It ends with a whole connection, and says how many there were.
    return run('openssl', ['s_time', ...to, '-new', '-time', SECONDS, version!], { timeoutMs: 300_000 });
  });
  let connections = 0;
  for (const { stdout } of await Promise.all(clients)) {
    connections += Number(/^(\d+) connections in \d+ real seconds/m.exec(stdout)?.[1]);
  }
  assert.ok(connections > 0);
  await nginx.running.stop('SIGQUIT');
  const { spans, stats } = await agent.stop();
  // A line that ends up in the test's own output when this fails.
  process.stderr.write(`${JSON.stringify({ expected: connections, ...stats })}\n`);
  assert.equal(stats.packets.lost, 0, 'packets and secrets');
  const { tls, decrypted, undecryptable } = stats.connections;
  assert.deepEqual({ tls, decrypted, undecryptable }, { tls: connections, decrypted: connections, undecryptable: {} });
  for (const kind of ['SERVER', 'CLIENT']) {
    assert.equal(spans.filter((span) => span.kind === kind).length, connections, `${kind} spans`);
  }
  await cleanup.run();
  await assertKernelClean();
  process.stdout.write(`${JSON.stringify({ kernel: release(), connections, stats })}\n`);
} finally {
  await cleanup.run();
}
