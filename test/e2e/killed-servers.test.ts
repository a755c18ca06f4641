/**
 * Servers of HTTP/2 and gRPC that are killed while much is open on one connection: each stream and each call ends once, as its client says
 * it did. The kernel ends the connections of a killed process with a FIN, or with a reset where the process had not read everything.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, suite, test } from 'node:test';
import {
  assertExactCalls,
  clients,
  type Ended,
  lineOf,
  lineOfEnd,
  startGrpcServer,
  watchedCalls,
} from '../support/grpc/grpc.ts';
import { clientScript } from '../support/http/clients.ts';
import { assertExact, watched } from '../support/http/http2-peers.ts';
import { type Server, startHttp2Server } from '../support/http/servers.ts';
import { assertSameLines, servers, targetHas } from '../support/http/spans.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { type Running, run, start } from '../support/programs/process.ts';

const WAYS = [
  { way: 'with a FIN', reason: 'connection_closed' },
  { way: 'with a reset', reason: 'connection_reset' },
] as const;
type Reason = (typeof WAYS)[number]['reason'];

/** Bytes that nobody has read yet, on all connections of a port of this machine. */
async function unread(port: number): Promise<number> {
  const { stdout } = await run('ss', ['-Htn', 'state', 'established', `( sport = :${port} or dport = :${port} )`]);
  return stdout
    .trim()
    .split('\n')
    .reduce((sum, line) => sum + Number(line.split(/\s+/)[0]), 0);
}

/** Kills it once the client has all that the server has sent, and the server has said `word` for that many that it will not answer. */
async function killServer(
  server: Pick<Server, 'running' | 'port'>,
  client: Running,
  reason: Reason,
  word: string,
  count: number,
) {
  const { running, port } = server;
  await client.waitFor('stdout', /^so far\n/);
  const said = () => running.stdout.split('\n').filter((line) => line === word).length;
  await until(() => said() === count || undefined, 'all that the server does not answer');
  await until(async () => ((await unread(port)) === 0 ? true : undefined), 'all is read');
  if (reason === 'connection_reset') {
    running.child.kill('SIGSTOP');
    const stopped = async () => / T /.test(await readFile(`/proc/${running.pid}/stat`, 'utf8')) || undefined;
    await until(stopped, 'the server stands still');
    client.child.stdin?.write('more\n');
    await until(async () => ((await unread(port)) > 0 ? true : undefined), 'something that the server does not read');
  }
  running.child.kill('SIGKILL');
}

suite('kill -9 of a server', () => {
  after(assertKernelClean);

  for (const tls of [true, false]) {
    for (const { way, reason } of WAYS) {
      test(`gRPC, ${tls ? 'over TLS' : 'plain'}, ${way}: open calls are UNAVAILABLE for the client, each once`, async (t) => {
        const cleanup = cleanupAfter(t);
        const { secure, agent: startAgent } = await watchedCalls(cleanup, tls);
        const server = await startGrpcServer(cleanup, secure);
        const agent = await startAgent();
        const calls = [
          { path: '/test.Calls/Unary', count: 10, ask: { bytes: 50 } },
          { path: '/test.Calls/Unary', count: 40, ask: { hang: true } },
          { path: '/test.Calls/Download', count: 40, ask: { hang: true, replies: 5 } },
          { path: '/test.Calls/Chat', count: 20, requests: 3, open: true },
        ];
        const tell = { responses: 10 + 40 * 5 + 20 * 3, ended: 10 };
        const words = [process.execPath, clientScript('grpc.mjs'), `127.0.0.1:${server.port}`];
        const certFile = secure.certificate?.certFile ?? '-';
        const [command, ...args] = [...secure.prefix, ...words, certFile, JSON.stringify({ calls, tell })];
        const client = start(cleanup, command!, args, { stdin: 'open' });
        await killServer(server, client, reason, 'hangs', 80);
        const { exitCode, stdout, stderr } = await client.exited;
        assert.equal(exitCode, 0, stderr);
        const ends = JSON.parse(stdout.slice('so far\n'.length)) as Ended[];
        await agent.waitForSpans(2 * 110);
        const stopped = await agent.stop();
        assertExactCalls(stopped, 110, { [reason]: 100 });
        assertSameLines(clients(stopped.spans).map(lineOf), ends.map(lineOfEnd));
        assert.equal(ends.filter(({ status }) => status === 14).length, 100);
        // The server itself said nothing of how they went.
        const unsaid = (line: string): string => line.replace('UNAVAILABLE', 'undefined');
        assertSameLines(servers(stopped.spans).map(lineOf), ends.map(lineOfEnd).map(unsaid));
        for (const { kind, attributes, status } of stopped.spans) {
          const failed = kind === 'CLIENT' ? 'UNAVAILABLE' : reason;
          const expected = attributes['rpc.status_code'] === 'OK' ? [undefined, 0] : [failed, 2];
          assert.deepEqual([attributes['error.type'], status.code], expected);
        }
      });

      test(`HTTP/2, ${tls ? 'over TLS' : 'plain'}, ${way}: open streams end once, and say so`, async (t) => {
        const cleanup = cleanupAfter(t);
        const { prefix, agent: startAgent } = await watched(cleanup);
        const server = await startHttp2Server(cleanup, { prefix, tls });
        const agent = await startAgent();
        const asks = [
          { path: '/bytes/30', count: 10 },
          { path: '/hold/0', count: 200 },
          { path: '/hold/100', count: 200 },
        ];
        const tell = { bytes: 10 * 30 + 200 * 100, ended: 10 };
        const words = [process.execPath, clientScript('http2.mjs'), server.url, JSON.stringify({ asks, tell })];
        const [command, ...args] = [...prefix, ...words];
        const client = start(cleanup, command!, args, { stdin: 'open' });
        await killServer(server, client, reason, 'holds', 400);
        const { exitCode, stdout, stderr } = await client.exited;
        assert.equal(exitCode, 0, stderr);
        const { 200: whole, ...cut } = JSON.parse(stdout.slice('so far\n'.length)) as Record<string, number>;
        // Node has codes of its own for what was never sent.
        assert.deepEqual([whole, Object.values(cut)], [10, [400]]);
        await agent.waitForSpans(2 * 410);
        const stopped = await agent.stop();
        assertExact(stopped, 410, { [reason]: 400 });
        for (const span of stopped.spans) {
          const { attributes, status } = span;
          const held = targetHas(span, '/hold/');
          assert.deepEqual([attributes['error.type'], status.code], held ? [reason, 2] : [undefined, 0]);
          const answered = targetHas(span, '/hold/0') ? undefined : 200;
          assert.equal(attributes['http.response.status_code'], answered);
          if (targetHas(span, '/hold/100')) assert.equal(attributes['http.response.body.size'], 100);
        }
      });
    }
  }
});
