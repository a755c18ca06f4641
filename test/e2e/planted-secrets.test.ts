/** Secrets that programs send each other stand in no output of the agent: neither in spans nor in what it says of itself. */
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { startMariaDb } from '../support/databases/mariadb.ts';
import { startPostgres } from '../support/databases/postgres.ts';
import { startGrpcServer } from '../support/grpc/grpc.ts';
import { clientScript } from '../support/http/clients.ts';
import { startHttp2Server, startNodeServer, startWebSocketServer } from '../support/http/servers.ts';
import { type Cgroup, newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startSink } from '../support/otlp/sink.ts';
import { type Agent, startAgent } from '../support/programs/agent.ts';
import { selfSigned } from '../support/programs/certificate.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { type Inside, inside } from '../support/programs/inside.ts';
import { freePort } from '../support/programs/net.ts';
import { mainFile } from '../support/programs/paths.ts';
import { run } from '../support/programs/process.ts';
import { nodeProgram } from '../support/sql/drivers.ts';

/** Each is planted once, somewhere else. */
const planted = (place: string) => `PLANTED-${place}-5f1c2e`;
/** A number that cards have, as people write it. */
const CARD = '4111111111111111';
const CARD_WRITTEN = /4111[ -]?1111[ -]?1111[ -]?1111/g;

const QUERY_KEYS = [
  'X-Amz-Signature',
  'X-Amz-Credential',
  'X-Amz-Security-Token',
  'AWSAccessKeyId',
  'Signature',
  'sig',
  'access_token',
  'password',
];

/** Answers with its own secrets in fields and body, and closes on /garbage after something that is no HTTP. */
const SERVER = `
import http from 'node:http';
const server = http.createServer((request, response) => {
  request.resume();
  response.setHeader('Set-Cookie', 'session=${planted('set-cookie')}; HttpOnly');
  response.setHeader('WWW-Authenticate', 'Bearer realm=${planted('challenge')}');
  response.setHeader('X-Api-Key', '${planted('response-field')}');
  if (request.url === '/garbage') return request.socket.end('HTTP/1.1 2x0 ${planted('garbage')}\\r\\n\\r\\n');
  response.end('${planted('response-body')} ${CARD}');
});
server.listen(0, '127.0.0.1', () => console.log('listening ' + server.address().port));
`;

/** Tells more than it is asked for by default. */
const CONFIG = `
http:
  capture_request_headers: [x-request-id]
  redact_paths: ["/reset/{token}"]
  learn_routes: true
sql:
  capture_operation_and_collection: true
metrics:
  durations: true
telemetry:
  otlp: true
`;

interface Observed {
  agent: Agent;
  /** Ends the agent and looks for secrets in all that it has written, in the packet file too when `encrypted`. */
  finish(wanted: { encrypted: boolean; more?: readonly string[] }): Promise<Record<string, string>>;
}

/** Spans for a backend that is away go to files in this folder. */
const configWithSpool = (spool: string) => `${CONFIG}
otlp_copies:
  - {name: away, endpoint: "http://127.0.0.1:1"}
export:
  spool_folder: ${spool}
`;

async function textsIn(folder: string): Promise<string> {
  const names = await readdir(folder);
  return (await Promise.all(names.sort().map((name) => readFile(join(folder, name), 'latin1')))).join('\n');
}

/** An agent with every output there is. */
async function observe(cleanup: Cleanup, cgroup: Cgroup): Promise<Observed> {
  const folder = await cleanup.temporaryFolder();
  const [dump, packets, config] = ['otlp.bin', 'packets.pcapng', 'wirespan.yaml'].map((name) => join(folder, name));
  const spool = join(folder, 'spool');
  await writeFile(config!, configWithSpool(spool));
  const sink = await startSink(cleanup, 0, dump);
  const port = await freePort();
  const agent = await startAgent(cleanup, {
    args: [
      ...['--cgroup', cgroup.path, '--config', config!, '--output', 'otlp', '--output', 'console'],
      ...['--log-level', 'debug', '--pcapng', packets!, '--listen', `127.0.0.1:${port}`],
    ],
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint },
  });
  return {
    agent,
    async finish({ encrypted, more = [] }) {
      const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      assert.match(metrics, /^wirespan_exchanges/m);
      assert.match(metrics, /_duration_seconds_count/);
      const { stdout, stderr, stats, spans } = await agent.stop();
      assert.equal(stats.spans.made, stats.spans.exported);
      assert.match(stderr, / debug /);
      const kept = { recovered: 0, left: stats.spans.made, damagedBytes: 0 };
      assert.deepEqual(stats.otherOutputs['otlp:away'], { exported: 0, dropped: {}, spool: kept });
      const [otlp, pcapng] = await Promise.all([readFile(dump!, 'latin1'), readFile(packets!, 'latin1')]);
      const outputs: Record<string, string> = {
        ...{ console: stdout, stderr, stats: JSON.stringify(stats), json: JSON.stringify(spans), otlp, metrics },
        spool: await textsIn(join(spool, 'otlp-away')),
        ...(encrypted && { pcapng }),
      };
      // Metrics came to the same backend.
      assert.match(otlp, /(?:request|call|operation)\.duration/);
      // The packet file is not empty: it has the traffic, and what opens it.
      assert.match(pcapng, /SERVER_TRAFFIC_SECRET_0/);
      for (const [name, text] of Object.entries(outputs)) {
        assert.deepEqual(text.match(/PLANTED-[\w-]+/g) ?? [], [], name);
        assert.deepEqual(text.match(CARD_WRITTEN) ?? [], [], name);
        for (const secret of more) assert.equal(text.includes(secret), false, `${secret} in ${name}`);
      }
      return outputs;
    },
  };
}

suite('planted secrets', () => {
  after(assertKernelClean);

  /** The outputs that a person or a backend reads. */
  const shown = (outputs: Record<string, string>) => ['console', 'json', 'otlp', 'spool'].map((name) => outputs[name]!);

  test('of HTTP, plain and encrypted: none is in an output', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const plain = there.start(cleanup, process.execPath, ['--input-type=module', '-e', SERVER], {
      env: { TOKEN: planted('environment') },
    });
    const port = Number((await plain.waitFor('stdout', /listening (\d+)/))[1]);
    const tls = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const { agent, finish } = await observe(cleanup, cgroup);
    const query = QUERY_KEYS.map((key) => `${key}=${planted(key)}`).join('&');
    const quiet = ['-sk', '-o', '/dev/null'];
    const args = (base: string) => [
      ...[...quiet, '-X', 'POST', '--data', `${planted('request-body')} ${CARD}`],
      ...['-H', `Authorization: Bearer ${planted('authorization')}`, '-H', `Proxy-Authorization: ${planted('proxy')}`],
      ...['-H', `Cookie: a=${planted('cookie')}`, '-H', `X-Api-Key: ${planted('request-field')}`],
      ...['-H', `traceparent: ${planted('traceparent')}`, '-H', 'X-Request-Id: visible-field'],
      `${base}/echo?a=visible&${query}`,
    ];
    const curls = [
      args(`http://127.0.0.1:${port}`),
      args(tls.url),
      // The absolute form, as to a proxy, with a name and a password.
      [
        ...[
          ...quiet,
          '--request-target',
          `http://user:${planted('userinfo')}@example.com/x?sig=${planted('absolute')}`,
        ],
        `http://127.0.0.1:${port}/`,
      ],
      [...quiet, '-u', `user:${planted('basic')}`, `${tls.url}/reset/${planted('path')}?a=b`],
      [...quiet, '-H', `Authorization: ${planted('with-garbage')}`, `http://127.0.0.1:${port}/garbage`],
    ];
    for (const each of curls) await there.runAnyway('curl', each);
    await agent.waitForSpans(8);
    // What shall be seen is there, in each of them: so the traffic was read.
    for (const text of shown(await finish({ encrypted: false }))) {
      assert.match(text, /a=visible/);
      assert.match(text, /REDACTED/);
      assert.match(text, /example\.com/);
      assert.match(text, /\/reset\/\{token\}/);
    }
  });

  test('of HTTP/2, gRPC and WebSocket over TLS: none is in an output, nor in the packet file', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const there = inside(cgroup);
    const certificate = await selfSigned(cleanup);
    const options = { prefix: cgroup.prefix, certificate };
    const [http2, grpc, webSocket] = await Promise.all([
      startHttp2Server(cleanup, options),
      startGrpcServer(cleanup, options),
      startWebSocketServer(cleanup, options),
    ]);
    const { agent, finish } = await observe(cleanup, cgroup);
    const fields = {
      authorization: `Bearer ${planted('authorization')}`,
      cookie: `a=${planted('cookie')}`,
      'x-api-key': planted('field'),
    };
    const headers = Object.entries(fields).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
    const body = ['--data', `${planted('body')} ${CARD}`];
    const target = `${http2.url}/echo?a=visible&token=${planted('query')}`;
    await there.run('curl', ['-sk', '--http2', '-o', '/dev/null', ...headers, ...body, target]);
    const call = {
      path: '/test.Calls/Chat',
      requests: 2,
      ask: { text: `${planted('message')} ${CARD}` },
      metadata: fields,
    };
    const failing = { ...call, path: '/test.Calls/Missing' };
    await there.run(process.execPath, [
      ...[
        clientScript('grpc.mjs'),
        `${grpc.host}:${grpc.port}`,
        certificate.certFile,
        JSON.stringify({ calls: [call, failing] }),
      ],
    ]);
    const talk = `
      import WebSocket from 'ws';
      const [url, headers, text] = JSON.parse(process.argv[1]);
      const socket = new WebSocket(url, [text.split(' ')[0]], { rejectUnauthorized: false, headers });
      socket.on('open', () => socket.send(text));
      socket.on('message', () => socket.close(1000, text.split(' ')[0]));
    `;
    const base = webSocket.url.replace('https', 'wss');
    const said = [`${base}/echo?a=visible&access_token=${planted('query')}`, fields, `${planted('frame')} ${CARD}`];
    await there.run(process.execPath, ['--input-type=module', '-e', talk, JSON.stringify(said)]);
    await agent.waitForSpans(2 + 4 + 4);
    for (const text of shown(await finish({ encrypted: true }))) {
      assert.match(text, /a=visible/);
      assert.match(text, /test\.Calls\/Chat/);
      assert.match(text, /REDACTED/);
    }
  });

  /** Statements full of secrets, and the agent's outputs without them. */
  async function ofStatements(
    there: Inside,
    { agent, finish }: Observed,
    database: { dialect: string; host: string; port: number; user: string; password: string; ca: string },
  ): Promise<void> {
    const { words, env } = await nodeProgram('planted');
    const [command, ...script] = words;
    const asked = { ...database, database: 'planted', secret: 'PLANTED-sql', card: CARD };
    const { stdout } = await there.run(command!, [...script, JSON.stringify(asked)], { env });
    const statements = Number(stdout);
    assert.ok(statements > 20, stdout);
    await agent.waitForSpans(statements, (span) => span.attributes['db.system.name'] !== undefined);
    for (const text of shown(await finish({ encrypted: true, more: [database.password] }))) {
      assert.match(text, /INSERT cards/);
    }
  }

  test('of PostgreSQL over TLS: none is in an output, nor in the packet file', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const postgres = await startPostgres(cleanup);
    await postgres.sql(['CREATE DATABASE planted']);
    const { host, port, user, password, certificate } = postgres;
    const database = { dialect: 'postgresql', host, port, user, password, ca: certificate.certFile };
    await ofStatements(inside(cgroup), await observe(cleanup, cgroup), database);
  });

  test('of MariaDB over TLS: none is in an output, nor in the packet file', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const mariadb = await startMariaDb(cleanup);
    await mariadb.sql('CREATE DATABASE planted');
    const { host, port, user, password, certificate } = mariadb;
    const database = { dialect: 'mysql', host, port, user, password, ca: certificate.certFile };
    await ofStatements(inside(cgroup), await observe(cleanup, cgroup), database);
  });

  test('a configuration that asks for credentials is refused', async (t) => {
    const folder = await cleanupAfter(t).temporaryFolder();
    const file = join(folder, 'wirespan.yaml');
    for (const [key, field] of [
      ['capture_request_headers', 'Authorization'],
      ['capture_request_headers', 'cookie'],
      ['capture_response_headers', 'Set-Cookie'],
    ]) {
      await writeFile(file, `http:\n  ${key}: [${field}]\n`);
      await assert.rejects(run(process.execPath, [mainFile, 'agent', '--config', file]), /no credential/);
    }
  });
});
