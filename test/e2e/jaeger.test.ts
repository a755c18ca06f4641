/** A real backend takes the spans over OTLP/gRPC and shows a request as one trace of two services. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startJaeger } from '../support/backends/jaeger.ts';
import { startNginx } from '../support/http/nginx.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';

test('Jaeger shows curl and nginx in one trace', async (t) => {
  const cleanup = cleanupAfter(t);
  const jaeger = await startJaeger(cleanup);
  const nginx = await startNginx(cleanup);
  // No --output: the endpoint in the environment is what turns the export on.
  const agent = await startAgent(cleanup, { json: false, env: { OTEL_EXPORTER_OTLP_ENDPOINT: jaeger.endpoint } });
  for (let index = 0; index < 5; index++) {
    await run('curl', ['-sk', '-o', '/dev/null', `https://127.0.0.1:${nginx.tls13Port}/orders/${index}`]);
  }
  const traces = await until(async () => {
    if (!(await jaeger.services()).includes('nginx')) return undefined;
    const found = (await jaeger.traces('nginx')).filter((spans) => spans.length === 2);
    return found.length >= 5 ? found : undefined;
  }, 'five traces of two spans in Jaeger');
  assert.equal(traces.length, 5);
  for (const spans of traces) {
    const server = spans.find((span) => span.tags['span.kind'] === 'server');
    const client = spans.find((span) => span.tags['span.kind'] === 'client');
    assert.ok(server && client);
    assert.equal(server.service, 'nginx');
    assert.equal(client.service, 'curl');
    assert.deepEqual(server.references, [{ refType: 'CHILD_OF', traceID: client.traceID, spanID: client.spanID }]);
    assert.match(String(server.tags['url.path']), /^\/orders\/[0-4]$/);
  }
  const { stats } = await agent.stop();
  assert.equal(stats.spans.exported, stats.spans.made);
  await assertKernelClean();
});
