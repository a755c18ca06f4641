/** Requests whose beginning or end is missing: killed programs, and connections that are older than the agent. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { startNginx } from '../support/http/nginx.ts';
import { startNodeServer } from '../support/http/servers.ts';
import { assertPairs, ofPorts, servers, targetHas, targetOf } from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { start } from '../support/programs/process.ts';

suite('kill -9', () => {
  after(assertKernelClean);

  for (const tls of [true, false]) {
    test(`of a client and of a server in the middle of a ${tls ? 'TLS' : 'plain'} response, and of a client in its request`, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
      const server = await startNodeServer(cleanup, { tls, prefix: cgroup.prefix });
      const curl = (...args: string[]) => {
        const [command, ...rest] = [...cgroup.prefix, 'curl', '-skN', ...args];
        return start(cleanup, command!, rest);
      };

      const upload = join(await cleanup.temporaryFolder(), 'upload');
      await writeFile(upload, Buffer.alloc(1_000_000));
      const sender = curl(
        '--limit-rate',
        '100k',
        '--data-binary',
        `@${upload}`,
        '-v',
        `${server.url}/echo?killed-in-request`,
      );
      await sender.waitFor('stderr', /> POST [^\n]*\n(?:[^\n]*\n)*?> \r?\n/);
      const client = curl(`${server.url}/trickle/5000?client-killed`);
      const asker = curl(`${server.url}/trickle/5000?server-killed`);
      for (const running of [client, asker]) await running.waitFor('stdout', /0123456789/);
      process.kill(sender.pid, 'SIGKILL');
      process.kill(client.pid, 'SIGKILL');
      await agent.waitForSpans(4, ofPorts(server.port));
      process.kill(server.running.pid, 'SIGKILL');
      await asker.exited;
      await agent.waitForSpans(6, ofPorts(server.port));
      const { spans, stats } = await agent.stop();

      assertPairs(spans);
      for (const span of spans) {
        const { 'http.response.status_code': status, 'http.request.body.size': bytes } = span.attributes;
        if (targetHas(span, 'killed-in-request')) {
          // Node answers half a request, unless the kernel has reset its connection before.
          if (status !== 400)
            assert.match(`${status} ${span.attributes['error.type']}`, /^undefined connection_(reset|closed)$/);
          assert.ok(Number(bytes) < 1_000_000, `${bytes} bytes of the request`);
          continue;
        }
        assert.equal(status, 200);
        assert.match(String(span.attributes['error.type']), /^connection_(reset|closed)$/);
        assert.equal(span.status.code, 2);
      }
      assert.deepEqual(servers(spans).map(targetOf).sort(), [
        '/echo?killed-in-request',
        '/trickle/5000?client-killed',
        '/trickle/5000?server-killed',
      ]);
      const { connection_reset: reset = 0, connection_closed: closed = 0, ...others } = stats.incomplete;
      const cut = servers(spans).filter((span) => span.attributes['wirespan.exchange.incomplete'] !== undefined);
      assert.ok(cut.length >= 2);
      assert.deepEqual([reset + closed, others], [cut.length, {}]);
    });
  }
});

suite('a connection that is older than the agent', () => {
  after(assertKernelClean);

  test('is read from its next request on when it is plain', async (t) => {
    const cleanup = cleanupAfter(t);
    const nginx = await startNginx(cleanup);
    // This process is the client: the connection is its own.
    const kept = new http.Agent({ keepAlive: true, maxSockets: 1 });
    cleanup.add(() => kept.destroy());
    const ports = new Set<number | undefined>();
    const ask = async (path: string): Promise<void> => {
      const request = http.get({ host: '127.0.0.1', port: nginx.plainPort, path, agent: kept });
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      ports.add(response.socket.localPort);
      response.resume();
      await once(response, 'end');
    };
    await ask('/orders/before');
    const agent = await startAgent(cleanup);
    const targets = Array.from({ length: 5 }, (_, index) => `/orders/after-${index}`);
    for (const target of targets) await ask(target);
    assert.equal(ports.size, 1, 'it was one connection');
    await agent.waitForSpans(2 * targets.length, ofPorts(nginx.plainPort));
    const { spans: all } = await agent.stop();
    const spans = all.filter(ofPorts(nginx.plainPort));
    assertPairs(spans);
    assert.deepEqual(
      servers(spans)
        .sort((a, b) => a.startUs - b.startUs)
        .map((span) => [targetOf(span), span.attributes['http.response.status_code'], span.resource['service.name']]),
      targets.map((target) => [target, 200, 'nginx']),
    );
    for (const span of spans.filter(({ kind }) => kind === 'CLIENT')) {
      assert.equal(span.resource['process.pid'], process.pid);
    }
  });
});
