/** gRPC-Web over HTTP/1.1 and HTTP/2, plain and over TLS, in binary and in text: what client and server found in its frames is what was traced. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import {
  assertErrors,
  assertExactCalls,
  assertServer,
  type Calls,
  clients,
  type Ended,
  lineOf,
  lineOfCall,
  lineOfEnd,
  sizesOf,
  sizesOfCall,
} from '../support/grpc/grpc.ts';
import { clientScript } from '../support/http/clients.ts';
import { watched } from '../support/http/http2-peers.ts';
import { type AnsweredCall, type Server, serverScript, startServer } from '../support/http/servers.ts';
import { assertSameLines, servers } from '../support/http/spans.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';

type WebCall = Calls & { type: string; accept?: string; compress?: boolean };
type WebEnded = Ended & { bytes: number };

const BINARY = 'application/grpc-web+proto';
const TEXT = 'application/grpc-web-text';

/** Those of one content type; statuses behind messages and without any, in the trailer frame and in the header fields. */
const callsOf = (type: string): WebCall[] => [
  { path: '/test.Calls/Unary', count: 20, type, ask: { bytes: 301 } },
  { path: '/test.Calls/Unary', count: 3, type, ask: { bytes: 0 } },
  ...[1, 5, 13, 14].map((status) => ({ path: '/test.Calls/Unary', count: 2, type, ask: { status, replies: 0 } })),
  { path: '/test.Calls/Unary', count: 2, type, ask: { status: 7, early: true } },
  { path: '/test.Calls/Upload', count: 5, type, requests: 40, ask: { bytes: 100_000 } },
  { path: '/test.Calls/Download', count: 5, type, ask: { replies: 40, bytes: 5000 } },
  { path: '/test.Calls/Download', count: 2, type, ask: { replies: 4, status: 15 } },
  { path: '/test.Calls/Download', count: 2, type, compress: true, requests: 3, ask: { replies: 4, bytes: 2000 } },
];
const CALLS: readonly WebCall[] = [
  ...callsOf(BINARY),
  ...callsOf(TEXT),
  // Asked in binary, answered in text, and the other way about.
  { path: '/test.Calls/Mixed', count: 2, type: BINARY, accept: `${TEXT}+proto`, ask: { replies: 3, bytes: 50 } },
  { path: '/test.Calls/Mixed', count: 2, type: TEXT, accept: BINARY, ask: { replies: 3, status: 2 } },
];

const startGrpcWebServer = (
  cleanup: Cleanup,
  version: string,
  tls: boolean,
  prefix: readonly string[],
): Promise<Server> =>
  startServer(cleanup, [process.execPath, serverScript('grpc-web-server.mjs')], { tls, prefix }, [version]);

suite('gRPC-Web', () => {
  after(assertKernelClean);

  for (const version of ['1.1', '2']) {
    for (const tls of [false, true]) {
      test(`HTTP/${version}, ${tls ? 'over TLS' : 'plain'}: messages, bytes and statuses as both ends count them`, async (t) => {
        const cleanup = cleanupAfter(t);
        const { prefix, inside, agent: start } = await watched(cleanup);
        const server = await startGrpcWebServer(cleanup, version, tls, prefix);
        const agent = await start();
        const script = [process.execPath, clientScript('grpc-web.mjs')];
        const ends = JSON.parse(await inside(...script, server.url, version, JSON.stringify(CALLS))) as WebEnded[];
        await agent.waitForSpans(2 * ends.length);
        const stopped = await agent.stop();
        assertExactCalls(stopped, ends.length);
        const answered = server.log() as unknown as AnsweredCall[];
        assert.equal(answered.length, ends.length);
        assertSameLines(servers(stopped.spans).map(lineOf), answered.map(lineOfCall));
        assertSameLines(servers(stopped.spans).map(sizesOf), answered.map(sizesOfCall));
        assertSameLines(clients(stopped.spans).map(lineOf), ends.map(lineOfEnd));
        assertSameLines(
          clients(stopped.spans).map((span) => `${lineOf(span)} ${span.attributes['wirespan.rpc.response.size']}`),
          ends.map((end) => `${lineOfEnd(end)} ${end.bytes}`),
        );
        assertErrors(stopped.spans);
        assertServer(stopped.spans, server.port, tls);
        const compressed = (end: 'request' | 'response') => (span: FlatSpan) =>
          Number(span.attributes[`wirespan.rpc.${end}.compressed_messages`] ?? 0);
        const sum = (numbers: number[]) => numbers.reduce((total, n) => total + n, 0);
        const asked = sum(servers(stopped.spans).map(compressed('request')));
        assert.deepEqual([asked, sum(clients(stopped.spans).map(compressed('response')))], [2 * 2 * 3, 2 * 2 * 4]);
        const connections = version === '2' ? 1 : 4;
        assert.deepEqual(
          [stopped.stats.connections.tcp, stopped.stats.connections.tls],
          [connections, tls ? connections : 0],
        );
      });
    }
  }
});
