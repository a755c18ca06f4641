/** The Collector configuration that we ship starts in a real Collector and passes spans on. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { cleanupAfter } from '../support/cleanup.ts';
import { collectorProgram } from '../support/collector.ts';
import { exportSpans, someSpan } from '../support/export.ts';
import { freePort, until, waitForPort } from '../support/net.ts';
import { root } from '../support/paths.ts';
import { run, start } from '../support/process.ts';
import { startSink } from '../support/sink.ts';

test('agent-to-gateway.yaml: what comes in over OTLP goes out to the backend', async (t) => {
  const cleanup = cleanupAfter(t);
  const program = await collectorProgram();
  const config = join(root, 'collector-config', 'agent-to-gateway.yaml');
  const sink = await startSink(cleanup);
  const port = await freePort();
  const env = { LISTEN_ADDRESS: '127.0.0.1', LISTEN_PORT: String(port), BACKEND_ENDPOINT: `127.0.0.1:${sink.port}` };
  await run(program, ['validate', '--config', config], { env });
  // The port of its own metrics is fixed by default, and may be taken.
  const collector = start(cleanup, program, ['--config', config, '--set=service.telemetry.metrics.level=none'], {
    env,
  });
  await waitForPort(port).catch((error: unknown) => {
    throw new Error(collector.stderr, { cause: error });
  });
  const spans = Array.from({ length: 300 }, (_, index) => someSpan(index));
  assert.equal(await exportSpans(`http://127.0.0.1:${port}`, spans), 0);
  const totals = await until(async () => {
    const now = await sink.totals();
    return now.spans >= spans.length ? now : undefined;
  }, '300 spans at the backend');
  assert.equal(totals.spans, spans.length);
});
