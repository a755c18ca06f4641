/** The live agent and its backends: what it made of real traffic is what they have, what waits on disk, and what is counted. */
import assert from 'node:assert/strict';
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { startJaeger } from '../support/backends/jaeger.ts';
import { curlLoad } from '../support/http/clients.ts';
import { type Nginx, startNginx } from '../support/http/nginx.ts';
import { type Cgroup, newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { GrpcBackend, HttpBackend, textOf } from '../support/otlp/backend.ts';
import { startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until, waitForPort } from '../support/programs/net.ts';

/** nginx in a group of its own, so that what the agent counts is exact whatever else runs on this machine. */
async function server(cleanup: Cleanup): Promise<{ nginx: Nginx; group: Cgroup; base: string }> {
  const group = await newCgroup(cleanup);
  const nginx = await startNginx(cleanup, { prefix: group.prefix });
  await waitForPort(nginx.tls13Port);
  return { nginx, group, base: `https://127.0.0.1:${nginx.tls13Port}` };
}

/** Arguments of an agent that watches the group and exports as `config` says. */
async function watching(cleanup: Cleanup, group: Cgroup, config: object): Promise<string[]> {
  const file = join(await cleanup.temporaryFolder(), 'wirespan.yaml');
  await writeFile(file, JSON.stringify(config));
  return ['--output', 'otlp', '--config', file, '--cgroup', group.path];
}

async function spoolBytes(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => []);
  const sizes = await Promise.all(names.map((name) => stat(join(folder, name)).then(({ size }) => size)));
  return sizes.reduce((sum, size) => sum + size, 0);
}

suite('delivery of the live agent', () => {
  after(assertKernelClean);

  test('over http/protobuf, of which it sees nothing itself', async (t) => {
    const cleanup = cleanupAfter(t);
    const backend = await new HttpBackend().start(cleanup);
    const nginx = await startNginx(cleanup);
    await waitForPort(nginx.tls13Port);
    // It watches the whole machine here.
    const agent = await startAgent(cleanup, {
      args: ['--output', 'otlp'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
    });
    const ours = () =>
      backend.kept.filter((span) => /\/orders\/own-/.test(textOf(span, 'url.path') + textOf(span, 'url.full')));
    for (let round = 0; round < 3; round++) {
      await curlLoad(`https://127.0.0.1:${nginx.tls13Port}`, 10, `own-${round}`);
      await until(() => (ours().length === 20 * (round + 1) ? true : undefined), `${20 * (round + 1)} spans`);
    }
    const { stats, spans } = await agent.stop();
    assert.equal(stats.spans.exported, stats.spans.made);
    assert.equal(backend.spans, stats.spans.made);
    const port = String(backend.port);
    assert.deepEqual(
      spans.filter(
        ({ attributes }) => String(attributes['server.port']) === port || attributes['url.path'] === '/v1/traces',
      ),
      [],
    );
  });

  test('overload: the oldest go, are counted, and the newest arrive', async (t) => {
    const cleanup = cleanupAfter(t);
    const { group, base } = await server(cleanup);
    const backend = new GrpcBackend();
    backend.port = await freePort();
    const args = await watching(cleanup, group, {
      otlp: { endpoint: backend.endpoint },
      export: { queue_spans: 200, batch_spans: 20, flush_deadline_ms: 60_000 },
    });
    const agent = await startAgent(cleanup, { args });
    await curlLoad(base, 1, 'first', group.prefix);
    // Until the first failure as many batches as may be are under way, and not one at a time.
    await agent.running.waitFor('stderr', /trying again/);
    await curlLoad(base, 600, 'n', group.prefix);
    await agent.waitForSpans(1202);
    await backend.start(cleanup);
    const { stats } = await agent.stop();
    const { made, exported, dropped } = stats.spans;
    assert.equal(made, 1202);
    assert.equal(exported, backend.spans);
    assert.deepEqual(dropped, { queue_full: 1202 - exported });
    assert.ok(exported > 160 && exported <= 220, String(exported));
    const indexes = backend.kept
      .flatMap((span) => /n-(\d+)/.exec(textOf(span, 'url.path'))?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
    assert.deepEqual(
      indexes,
      Array.from({ length: indexes.length }, (_, i) => 600 - indexes.length + i),
    );
  });

  test('an outage longer than memory allows: the spool has it, and gives it when the backend is back', async (t) => {
    const cleanup = cleanupAfter(t);
    const { group, base } = await server(cleanup);
    const backend = new GrpcBackend();
    backend.port = await freePort();
    const folder = join(await cleanup.temporaryFolder(), 'spool');
    const args = await watching(cleanup, group, {
      otlp: { endpoint: backend.endpoint, headers: { authorization: 'planted-token' } },
      export: { queue_spans: 100, batch_spans: 20, flush_deadline_ms: 60_000, spool_folder: folder },
    });
    const agent = await startAgent(cleanup, { args });
    await curlLoad(base, 500, 'n', group.prefix);
    await agent.waitForSpans(1000);
    const files = await readdir(join(folder, 'otlp'));
    for (const name of files) {
      assert.equal((await stat(join(folder, 'otlp', name))).mode & 0o777, 0o600);
      // No more than what stands in spans.
      const text = await readFile(join(folder, 'otlp', name), 'latin1');
      assert.doesNotMatch(text, /planted-token/);
    }
    assert.ok(files.some((name) => name.endsWith('.spool')));
    await backend.start(cleanup);
    await until(() => (backend.spans === 1000 ? true : undefined), 'all spans', 60_000);
    const { stats } = await agent.stop();
    assert.deepEqual(
      [stats.spans.made, stats.spans.exported, stats.spans.dropped, stats.spans.spool],
      [1000, 1000, {}, { recovered: 0, left: 0, damagedBytes: 0 }],
    );
    assert.deepEqual(await readdir(join(folder, 'otlp')), []);
  });

  test('killed in an outage: the next run delivers what was written, without what was torn', async (t) => {
    const cleanup = cleanupAfter(t);
    const { group, base } = await server(cleanup);
    const backend = new GrpcBackend();
    backend.port = await freePort();
    const folder = join(await cleanup.temporaryFolder(), 'spool');
    const args = await watching(cleanup, group, {
      otlp: { endpoint: backend.endpoint },
      export: { queue_spans: 100, batch_spans: 20, spool_folder: folder, flush_deadline_ms: 60_000 },
    });
    const agent = await startAgent(cleanup, { args });
    await curlLoad(base, 500, 'n', group.prefix);
    const made = await agent.waitForSpans(1000);
    const spool = join(folder, 'otlp');
    // Until then the export thread may not have begun: as many batches as may be are under way, and not one at a time.
    await agent.running.waitFor('stderr', /trying again/);
    // Nothing more comes to disk once it has stopped growing.
    let before = -1;
    await until(async () => {
      const now = await spoolBytes(spool);
      const isStill = now === before && now > 0;
      before = now;
      return isStill ? true : undefined;
    }, 'a spool that has stopped growing');
    await agent.running.stop('SIGKILL');
    const last = (await readdir(spool))
      .filter((name) => name.endsWith('.spool'))
      .sort()
      .at(-1)!;
    await truncate(join(spool, last), (await stat(join(spool, last))).size - 100);

    await backend.start(cleanup);
    const second = await startAgent(cleanup, { args });
    const { stats } = await second.stop();
    const { recovered, left, damagedBytes } = stats.spans.spool!;
    assert.ok(damagedBytes > 0);
    assert.equal(recovered + stats.spans.made, stats.spans.exported + left);
    assert.deepEqual(stats.spans.dropped, {});
    // Of 1,000 as many as fit into memory were lost with it, and the torn batch.
    assert.ok(recovered >= 1000 - 100 - 2 * 20 - 20, String(recovered));
    const third = left > 0 ? await startAgent(cleanup, { args }) : undefined;
    await until(() => (backend.spans === recovered ? true : undefined), `${recovered} spans`);
    await third?.stop();
    const known = new Set(made.map(({ traceId, spanId }) => traceId + spanId));
    for (const id of backend.received.keys()) assert.ok(known.has(id));
  });

  test('two agents give the same ids to the same traffic', async (t) => {
    const cleanup = cleanupAfter(t);
    const { group, base } = await server(cleanup);
    const backends = await Promise.all([new GrpcBackend().start(cleanup), new HttpBackend().start(cleanup)]);
    const agents = await Promise.all(
      backends.map(async ({ endpoint }, i) => {
        const protocol = i === 0 ? 'grpc' : 'http/protobuf';
        return startAgent(cleanup, {
          args: await watching(cleanup, group, { otlp: { endpoint, protocol } }),
          json: false,
        });
      }),
    );
    await curlLoad(base, 20, 'n', group.prefix);
    await until(() => (backends.every(({ spans }) => spans >= 40) ? true : undefined), 'the spans of both agents');
    for (const agent of agents) {
      const { stats } = await agent.stop();
      assert.deepEqual([stats.spans.made, stats.spans.exported], [40, 40]);
    }
    const [one, other] = backends.map(({ received }) => [...received.keys()].sort());
    assert.deepEqual(one, other);
  });

  test('a batch that is sent again, because its answer was lost, is one batch to Jaeger', async (t) => {
    const cleanup = cleanupAfter(t);
    const jaeger = await startJaeger(cleanup);
    const { group, base } = await server(cleanup);
    const backend = await new GrpcBackend().start(cleanup);
    const client = new grpc.Client(jaeger.endpoint.replace('http://', ''), grpc.credentials.createInsecure());
    cleanup.add(() => client.close());
    const asIs = (bytes: Buffer): Buffer => bytes;
    const path = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
    let answers = 0;
    backend.behave = (call, respond) => {
      client.makeUnaryRequest(path, asIs, asIs, call.request, (error) => {
        assert.equal(error, null);
        if (answers++ % 2 === 0) respond({ code: grpc.status.UNAVAILABLE, details: 'after all' });
        else respond(null, Buffer.alloc(0));
      });
    };
    const args = await watching(cleanup, group, {
      otlp: { endpoint: backend.endpoint },
      export: { batch_spans: 20, in_flight: 2, flush_deadline_ms: 60_000 },
    });
    const agent = await startAgent(cleanup, { args, json: false });
    await curlLoad(base, 20, 'n', group.prefix);
    const { stats } = await agent.stop();
    assert.deepEqual([stats.spans.exported, backend.spans], [40, 40]);
    const sent = backend.requests.reduce((sum, { spans }) => sum + spans, 0);
    assert.ok(sent > 40, String(sent));
    const traces = await jaeger.traces('nginx');
    assert.equal(traces.length, 20);
    for (const spans of traces) assert.equal(spans.length, 2, JSON.stringify(spans));
  });
});
