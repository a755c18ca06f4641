/** Secrets that programs send each other stand in no output of the agent: neither in spans nor in what it says of itself. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { startAgent } from '../support/agent.ts';
import { newCgroup } from '../support/cgroup.ts';
import { cleanupAfter } from '../support/cleanup.ts';
import { assertKernelClean } from '../support/kernel.ts';
import { mainFile } from '../support/paths.ts';
import { run, start } from '../support/process.ts';
import { startNodeServer } from '../support/servers.ts';
import { startSink } from '../support/sink.ts';

/** Each is planted once, somewhere else. */
const planted = (place: string) => `PLANTED-${place}-5f1c2e`;

const QUERY_KEYS = [
  'X-Amz-Signature',
  'X-Amz-Credential',
  'X-Amz-Security-Token',
  'AWSAccessKeyId',
  'Signature',
  'sig',
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
  response.end('${planted('response-body')}');
});
server.listen(0, '127.0.0.1', () => console.log('listening ' + server.address().port));
`;

suite('planted secrets', () => {
  after(assertKernelClean);

  test('none is in the console, OTLP, OTLP/JSON, the messages at debug level or the statistics', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const folder = await cleanup.temporaryFolder();
    const dump = join(folder, 'otlp.bin');
    const sink = await startSink(cleanup, 0, dump);
    const inGroup = (command: string, args: readonly string[], env: Record<string, string> = {}) => {
      const [shell, ...rest] = [...cgroup.prefix, command, ...args];
      return start(cleanup, shell!, rest, { env });
    };
    const plain = inGroup(process.execPath, ['--input-type=module', '-e', SERVER], { TOKEN: planted('environment') });
    const port = Number((await plain.waitFor('stdout', /listening (\d+)/))[1]);
    const tls = await startNodeServer(cleanup, { prefix: cgroup.prefix });
    const agent = await startAgent(cleanup, {
      args: ['--cgroup', cgroup.path, '--output', 'otlp', '--output', 'console', '--log-level', 'debug'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint },
    });
    const query = QUERY_KEYS.map((key) => `${key}=${planted(key)}`).join('&');
    const args = (base: string) => [
      ...['-sk', '-o', '/dev/null', '-X', 'POST', '--data', planted('request-body')],
      ...['-H', `Authorization: Bearer ${planted('authorization')}`, '-H', `Proxy-Authorization: ${planted('proxy')}`],
      ...['-H', `Cookie: a=${planted('cookie')}`, '-H', `X-Api-Key: ${planted('request-field')}`],
      `${base}/echo?a=visible&${query}`,
    ];
    const curls = [
      args(`http://127.0.0.1:${port}`),
      args(tls.url),
      // The absolute form, as to a proxy, with a name and a password.
      [
        ...[
          '-s',
          '-o',
          '/dev/null',
          '--request-target',
          `http://user:${planted('userinfo')}@example.com/x?sig=${planted('absolute')}`,
        ],
        `http://127.0.0.1:${port}/`,
      ],
      ['-s', '-o', '/dev/null', '-H', `Authorization: ${planted('with-garbage')}`, `http://127.0.0.1:${port}/garbage`],
    ];
    for (const each of curls) await inGroup('curl', each).exited;
    await agent.waitForSpans(6);
    const { stdout, stderr, stats, spans } = await agent.stop();

    const otlp = await readFile(dump, 'latin1');
    // What shall be seen is there, in each of them: so the traffic was read.
    assert.ok(stats.spans.made >= 6 && stats.spans.made === stats.spans.exported, JSON.stringify(stats.spans));
    const outputs = { console: stdout, stderr, stats: JSON.stringify(stats), json: JSON.stringify(spans), otlp };
    for (const name of ['console', 'json', 'otlp'] as const) {
      assert.match(outputs[name], /a=visible/, name);
      assert.match(outputs[name], /REDACTED/, name);
      assert.match(outputs[name], /example\.com/, name);
    }
    for (const [name, text] of Object.entries(outputs)) {
      assert.deepEqual(text.match(/PLANTED-[\w-]+/g) ?? [], [], name);
    }
    assert.match(stderr, / debug /);
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
