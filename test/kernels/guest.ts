/** Runs in the guest of vm-run.sh: a short live test. Prints one JSON object, or fails. */
import assert from 'node:assert/strict';
import { release } from 'node:os';
import { startNodeServer } from '../support/http/servers.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent, wirespan } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';

const cleanup = new Cleanup();
try {
  const doctor = await wirespan(['doctor', '--json']);
  const { checks } = JSON.parse(doctor.stdout) as { checks: { name: string; state: string; detail: string }[] };
  const unfit = checks.filter((check) => check.state === 'no').map((check) => `${check.name}: ${check.detail}`);
  assert.deepEqual(
    { exitCode: doctor.exitCode, unfit },
    { exitCode: 0, unfit: [] },
    `doctor: ${unfit.join('\n')}\n${doctor.stderr}`,
  );

  const server = await startNodeServer(cleanup);
  const agent = await startAgent(cleanup);
  const curl = (version: string, target: string) =>
    run('curl', ['-sk', '--tls-max', version, `${server.url}${target}`, '-o', '/dev/null', '-w', '%{http_code}']);
  for (const [version, target] of [
    ['1.3', '/bytes/100'],
    ['1.2', '/status/503'],
    ['1.3', '/bytes/300000'],
  ] as const) {
    await curl(version, target);
  }
  const ofServer = await agent.waitForSpans(3, (span) => span.kind === 'SERVER');
  const { spans, stats } = await agent.stop();

  assert.deepEqual(
    ofServer.map((span) => [span.attributes['url.path'], span.attributes['http.response.status_code']]),
    [
      ['/bytes/100', 200],
      ['/status/503', 503],
      ['/bytes/300000', 200],
    ],
  );
  for (const span of ofServer) {
    assert.equal(span.resource['process.pid'], server.running.pid);
    const client = spans.find((other) => other.kind === 'CLIENT' && other.spanId === span.parentSpanId);
    assert.equal(client?.traceId, span.traceId, 'the client span of the pair');
    assert.equal(client?.resource['process.executable.name'], 'curl');
  }
  assert.equal(stats.packets.lost, 0);
  await cleanup.run();
  await assertKernelClean();
  process.stdout.write(
    `${JSON.stringify({ kernel: release(), readyMs: Math.round(agent.readyMs), spans: spans.length, stats })}\n`,
  );
} finally {
  await cleanup.run();
}
