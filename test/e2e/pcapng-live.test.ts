/** The file that the agent writes is an oracle for its spans: tshark, with no key log, reads the same exchanges from it. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { curlLoad, nodeLoad } from '../support/http/clients.ts';
import { startNginx } from '../support/http/nginx.ts';
import { portsOf } from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import type { FlatSpan } from '../support/otlp/spans.ts';
import { replay } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { startAgentOf } from '../support/programs/inside.ts';
import { waitForPort } from '../support/programs/net.ts';
import { type HttpMessage, tsharkHttp } from '../support/wire/tshark.ts';

const REQUESTS = 400;

const targetOf = (span: FlatSpan) =>
  `${span.attributes['url.path']}${span.attributes['url.query'] === undefined ? '' : `?${span.attributes['url.query']}`}`;

/** Requests and responses of each stream, paired in order: what a passive reader without our code makes of them. */
function exchangesOf(messages: readonly HttpMessage[]): string[] {
  const streams = new Map<number, { requests: string[]; statuses: number[] }>();
  for (const message of messages) {
    const stream = streams.get(message.stream) ?? { requests: [], statuses: [] };
    streams.set(message.stream, stream);
    if (message.method !== undefined) stream.requests.push(`${message.method} ${message.target}`);
    else if (message.status !== undefined) stream.statuses.push(message.status);
  }
  return [...streams.values()]
    .flatMap(({ requests, statuses }) => requests.map((request, at) => `${request} ${statuses[at]}`))
    .sort();
}

test('tshark decrypts what was written and finds the exchanges of the spans; so does a replay', async (t) => {
  const cleanup = cleanupAfter(t);
  const cgroup = await newCgroup(cleanup);
  const { prefix } = cgroup;
  const nginx = await startNginx(cleanup, { workers: 2, prefix });
  for (const port of portsOf(nginx)) await waitForPort(port);
  const file = join(await cleanup.temporaryFolder(), 'live.pcapng');
  const agent = await startAgentOf(cleanup, cgroup, ['--pcapng', file]);
  const plain = `http://127.0.0.1:${nginx.plainPort}`;
  const tls12 = `https://127.0.0.1:${nginx.tls12Port}`;
  const tls13 = `https://127.0.0.1:${nginx.tls13Port}`;
  const mixed = { bases: [plain, tls12, tls13], concurrency: 8, newConnectionEvery: 4 };
  await nodeLoad({ ...mixed, count: REQUESTS - 100, prefix: 'n' }, prefix);
  await curlLoad(tls13, 50, 'c13', prefix);
  await curlLoad(tls12, 50, 'c12', prefix);

  const ports = new Set<unknown>([nginx.plainPort, nginx.tls12Port, nginx.tls13Port]);
  const ours = (span: FlatSpan) => ports.has(span.attributes['server.port']);
  await agent.waitForSpans(2 * REQUESTS, ours);
  const { spans, stats } = await agent.stop();
  const served = (list: readonly FlatSpan[]) =>
    list
      .filter((span) => ours(span) && span.kind === 'SERVER')
      .map(
        (span) =>
          `${span.attributes['http.request.method']} ${targetOf(span)} ${span.attributes['http.response.status_code']}`,
      )
      .sort();
  const expected = served(spans);
  assert.equal(expected.length, REQUESTS);
  assert.equal(stats.packets.lost, 0);

  const filter = [...ports].map((port) => `tcp.port==${port}`).join(' or ');
  assert.deepEqual(exchangesOf(await tsharkHttp(file, [], `(${filter})`)), expected);
  const replayed = await replay(cleanup, [file, '--perspective', 'both']);
  assert.deepEqual(served(replayed.spans), expected);
  // The same ids as live: they come from the connection and the offset in it, not from who computes them.
  const ids = (list: readonly FlatSpan[]) =>
    list
      .filter((span) => ours(span) && span.kind === 'SERVER')
      .map((span) => `${span.traceId} ${span.spanId} ${span.parentSpanId}`)
      .sort();
  assert.deepEqual(ids(replayed.spans), ids(spans));
  await assertKernelClean();
});
