/** The lines of `--output jsonl` and of `GET /exchanges`, against the logs of nginx and PostgreSQL. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import type { ExchangeView } from '../../src/export/view.ts';
import { startPostgres } from '../support/databases/postgres.ts';
import { type AccessLogEntry, startNginx } from '../support/http/nginx.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { inside } from '../support/programs/inside.ts';
import { freePort, until } from '../support/programs/net.ts';

const TOKEN = 'a-token-of-this-test-0123456789';
const REQUESTS = 40;
const STATEMENTS = 20;

interface Reading {
  readonly status: number;
  readonly views: ExchangeView[];
  /** Resolves when the stream has ended in order. */
  readonly ended: Promise<void>;
}

async function configuration(cleanup: Cleanup, text: string): Promise<string> {
  const folder = await cleanup.temporaryFolder();
  const file = join(folder, 'wirespan.yaml');
  await writeFile(join(folder, 'token'), `${TOKEN}\n`, { mode: 0o600 });
  await writeFile(file, text.replace('TOKEN_FILE', join(folder, 'token')));
  return file;
}

/** Reads JSON lines until the stream ends. */
async function readStream(url: string, headers: Record<string, string>): Promise<Reading> {
  const answer = await fetch(url, { headers });
  const views: ExchangeView[] = [];
  const ended = (async () => {
    let rest = '';
    for await (const bytes of answer.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + bytes).split('\n');
      rest = lines.pop()!;
      for (const line of lines) views.push(JSON.parse(line));
    }
    assert.equal(rest, '');
  })();
  return { status: answer.status, views, ended };
}

function checkRequest(view: ExchangeView, logged: AccessLogEntry): void {
  const { details, client, server, tls } = view;
  assert.deepEqual(
    [details.method, details.target, details.statusCode, view.outcome, view.responseBytes],
    [
      logged.request_method,
      logged.request_uri.replace('geheim', 'REDACTED'),
      logged.status,
      String(logged.status),
      logged.body_bytes_sent,
    ],
  );
  assert.deepEqual(
    [client.address, client.port, server.port, client.name, server.name],
    [logged.remote_addr, logged.remote_port, logged.server_port, 'curl', 'nginx'],
  );
  assert.deepEqual(
    [tls === undefined ? '' : `TLSv${tls.version}`, `HTTP/${view.protocolVersion}`],
    [logged.ssl_protocol, logged.server_protocol],
  );
  // The log is written when the response is sent; its times are whole milliseconds.
  assert.ok(Math.abs((view.startUnixUs + view.durationUs) / 1e6 - logged.msec) < 1, 'the time of the log');
  assert.ok(view.durationUs > 0 && view.firstByteUs! <= view.durationUs);
}

suite('exchanges as JSON', () => {
  after(assertKernelClean);

  test('each line is an entry of a log, and each entry a line; the stream has those that sampling leaves out', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const nginx = await startNginx(cleanup, { prefix: cgroup.prefix });
    const postgres = await startPostgres(cleanup, { prefix: cgroup.prefix });
    const port = await freePort();
    const file = join(await cleanup.temporaryFolder(), 'exchanges.jsonl');
    const config = await configuration(
      cleanup,
      `telemetry: {listen: ":${port}", exchanges: true, token_file: TOKEN_FILE}\nfilters: {exclude: [{path: "/missing/*"}]}\n`,
    );
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--config', config, '--output', `jsonl=${file}`],
    });
    const url = `http://127.0.0.1:${port}/exchanges`;
    const stream = await readStream(url, { authorization: `Bearer ${TOKEN}` });
    assert.equal(stream.status, 200);
    assert.equal((await fetch(url)).status, 401);
    assert.equal((await fetch(url, { headers: { authorization: `Bearer ${TOKEN}x` } })).status, 401);
    assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200);

    const paths = ['/hello?sig=geheim', '/orders/17', '/broken', '/missing/1'];
    const urls = Array.from({ length: REQUESTS }, (_, i) => {
      const at = [nginx.plainPort, nginx.tls12Port, nginx.tls13Port][i % 3]!;
      return `http${at === nginx.plainPort ? '' : 's'}://127.0.0.1:${at}${paths[i % paths.length]}`;
    });
    await there.run('curl', ['-sk', ...urls.flatMap((each) => ['-o', '/dev/null', each])]);
    const statements = Array.from({ length: STATEMENTS }, (_, i) => `SELECT ${i} AS n, 'geheim${i}' AS secret`);
    await there.run('psql', ['-Xq', '-o', '/dev/null', ...statements.flatMap((text) => ['-c', text])], {
      env: postgres.env({ tls: true }),
    });

    const entries = await nginx.accessLog(REQUESTS);
    const logged = await postgres.waitForStatements(STATEMENTS, ({ text }) => text.includes('AS secret'));
    await until(async () => stream.views.length >= REQUESTS + STATEMENTS || undefined, 'every exchange in the stream');
    const { stats, spans } = await agent.stop();
    await stream.ended;
    const text = await readFile(file, 'utf8');
    assert.doesNotMatch(text + JSON.stringify(stream.views), /geheim/);
    const views: ExchangeView[] = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));

    // The stream has all, the file those that became spans.
    const keyOf = (view: ExchangeView) => `${view.client.port} ${view.startUnixUs}`;
    const inStream = new Map(stream.views.map((view) => [keyOf(view), view]));
    assert.equal(stream.views.length, stats.exchanges.http! + stats.exchanges.postgresql!);
    const filtered = stream.views.filter(({ client }) => client.leftOut === 'filtered');
    assert.equal(filtered.length, entries.filter(({ request_uri }) => request_uri === '/missing/1').length);
    assert.equal(views.length + filtered.length, stream.views.length);
    for (const view of views) assert.deepEqual(inStream.get(keyOf(view)), view);

    const requests = stream.views.filter(({ protocol }) => protocol === 'http');
    const byPlace = (one: { port: number; ms: number }, other: { port: number; ms: number }) =>
      one.port - other.port || one.ms - other.ms;
    const sorted = requests
      .map((view) => ({ view, port: view.client.port, ms: view.startUnixUs }))
      .sort(byPlace)
      .map(({ view }) => view);
    const entriesSorted = entries
      .map((entry) => ({ entry, port: entry.remote_port, ms: entry.connection_requests }))
      .sort(byPlace)
      .map(({ entry }) => entry);
    assert.equal(sorted.length, entriesSorted.length);
    for (const [i, view] of sorted.entries()) checkRequest(view, entriesSorted[i]!);

    const queries = views.filter(({ protocol }) => protocol === 'postgresql');
    assert.deepEqual(
      queries.map(({ details, outcome, remark, tls, server }) => [
        details.text,
        outcome,
        remark,
        tls?.version,
        server.name,
      ]),
      logged.map(({ database }) => ['SELECT ? AS n, ? AS secret', '1 row', database, '1.3', 'postgres']),
    );
    assert.deepEqual(new Set(queries.map(({ client }) => client.port)), new Set(logged.map((each) => each.port)));

    // And every span is that of a line.
    const ids = views.flatMap(({ client, server }) => [client.spanId, server.spanId].filter((id) => id !== undefined));
    assert.deepEqual(ids.sort(), spans.map(({ spanId }) => spanId).sort());
    assert.equal(stats.spans.made, spans.length);
  });

  test('without a token it is answered on loopback only, to clients that name it', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    for (const [host, status] of [
      ['127.0.0.1', 200],
      ['', 403],
    ] as const) {
      const port = await freePort();
      const config = await configuration(cleanup, `telemetry: {listen: "${host}:${port}", exchanges: true}\n`);
      const agent = await startAgent(cleanup, {
        json: false,
        args: ['--cgroup', cgroup.path, '--config', config, '--output', 'none'],
      });
      const url = `http://127.0.0.1:${port}/exchanges`;
      const answer = await fetch(url);
      assert.equal(answer.status, status);
      const refused = await fetch(url, { headers: { origin: 'http://evil.example' } });
      assert.equal(refused.status, 403);
      await agent.stop();
      if (status === 200) assert.equal(await answer.text(), '', 'the stream ends with the agent');
    }
  });
});
