/** Every kind of TLS that OpenSSL can be made to speak, live: a request through each of them is a pair of spans. */
import assert from 'node:assert/strict';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { assertPairs, ofPorts, servers, targetOf } from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { type Agent, startAgent } from '../support/programs/agent.ts';
import { selfSigned } from '../support/programs/certificate.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, waitForPort } from '../support/programs/net.ts';
import { Running, runAnyway, start } from '../support/programs/process.ts';

const PSK = '0123456789abcdef0123456789abcdef';

/** OpenSSL's name of a cipher of TLS 1.2 and what the span calls it. */
const TLS12: readonly (readonly [string, string])[] = [
  ['AES128-GCM-SHA256', 'TLS_RSA_WITH_AES_128_GCM_SHA256'],
  ['AES256-GCM-SHA384', 'TLS_RSA_WITH_AES_256_GCM_SHA384'],
  ['AES128-CCM', 'TLS_RSA_WITH_AES_128_CCM'],
  ['AES256-CCM8', 'TLS_RSA_WITH_AES_256_CCM_8'],
  ['AES128-SHA', 'TLS_RSA_WITH_AES_128_CBC_SHA'],
  ['AES256-SHA256', 'TLS_RSA_WITH_AES_256_CBC_SHA256'],
  ['DHE-RSA-AES128-GCM-SHA256', 'TLS_DHE_RSA_WITH_AES_128_GCM_SHA256'],
  ['DHE-RSA-AES256-CCM', 'TLS_DHE_RSA_WITH_AES_256_CCM'],
  ['DHE-RSA-AES256-SHA', 'TLS_DHE_RSA_WITH_AES_256_CBC_SHA'],
  ['DHE-RSA-CHACHA20-POLY1305', 'TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256'],
  ['ECDHE-RSA-AES128-GCM-SHA256', 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256'],
  ['ECDHE-RSA-AES256-GCM-SHA384', 'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384'],
  ['ECDHE-RSA-AES128-SHA256', 'TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256'],
  ['ECDHE-RSA-AES256-SHA384', 'TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384'],
  ['ECDHE-RSA-CHACHA20-POLY1305', 'TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256'],
  ['ECDHE-ECDSA-AES256-GCM-SHA384', 'TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384'],
  ['ECDHE-ECDSA-AES128-CCM8', 'TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8'],
  ['PSK-AES128-GCM-SHA256', 'TLS_PSK_WITH_AES_128_GCM_SHA256'],
  ['PSK-AES128-CBC-SHA', 'TLS_PSK_WITH_AES_128_CBC_SHA'],
  ['PSK-CHACHA20-POLY1305', 'TLS_PSK_WITH_CHACHA20_POLY1305_SHA256'],
  ['DHE-PSK-AES256-GCM-SHA384', 'TLS_DHE_PSK_WITH_AES_256_GCM_SHA384'],
  ['ECDHE-PSK-AES256-CBC-SHA384', 'TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA384'],
  ['RSA-PSK-AES256-GCM-SHA384', 'TLS_RSA_PSK_WITH_AES_256_GCM_SHA384'],
];
const TLS13 = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_128_CCM_SHA256',
  'TLS_AES_128_CCM_8_SHA256',
];

interface Watched {
  agent: Agent;
  port: number;
  /** Of the watched cgroup. */
  prefix: readonly string[];
  folder: string;
  server: Running;
}

/** `openssl s_server`, which answers `GET /...` by a page about the connection unless its standard input does, and an agent that watches it and its clients. */
async function watchedServer(cleanup: Cleanup, args: readonly string[], stdin?: 'open'): Promise<Watched> {
  const folder = await cleanup.temporaryFolder();
  const cgroup = await newCgroup(cleanup);
  const rsa = await selfSigned(cleanup, 'rsa');
  const port = await freePort();
  const [command, ...rest] = [
    ...[...cgroup.prefix, 'openssl', 's_server', ...(stdin ? [] : ['-www']), '-quiet', '-accept', `127.0.0.1:${port}`],
    ...['-cert', rsa.certFile, '-key', rsa.keyFile, ...args],
  ];
  const server = start(cleanup, command!, rest, stdin ? { stdin } : {});
  await waitForPort(port);
  const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
  return { agent, port, prefix: cgroup.prefix, folder, server };
}

/** One request by s_client, to the end of the connection. */
async function ask(
  { prefix, port }: Watched,
  target: string,
  args: readonly string[],
  request?: string,
): Promise<void> {
  const [command, ...rest] = [...prefix, 'openssl', 's_client', '-connect', `127.0.0.1:${port}`, '-quiet', ...args];
  const input = request ?? `GET ${target} HTTP/1.0\r\n\r\n`;
  const { stdout, stderr } = await runAnyway(command!, rest, { input });
  assert.match(stdout, /^HTTP\/1\.0 200 ok/m, `${target}: ${stderr}`);
}

/** The versions, suites and targets of the SERVER spans, in the order of their requests, each with its CLIENT span. */
async function seen({ agent, port }: Watched, count: number): Promise<string[]> {
  await agent.waitForSpans(2 * count, ofPorts(port));
  const { spans, stats } = await agent.stop();
  assertPairs(spans);
  assert.deepEqual([stats.connections.undecryptable, stats.incomplete, stats.parseErrors], [{}, {}, {}]);
  assert.equal(stats.packets.lost, 0);
  return servers(spans)
    .sort((a, b) => a.startUs - b.startUs)
    .map((span) => {
      assert.equal(span.attributes['http.response.status_code'], 200);
      assert.equal(span.resource['service.name'], 'openssl');
      return `${span.attributes['tls.protocol.version']} ${span.attributes['tls.cipher']} ${targetOf(span)}`;
    });
}

suite('TLS of OpenSSL', () => {
  after(assertKernelClean);

  test('every cipher suite', async (t) => {
    const cleanup = cleanupAfter(t);
    const ec = await selfSigned(cleanup, 'ec');
    const watched = await watchedServer(cleanup, [
      ...['-dcert', ec.certFile, '-dkey', ec.keyFile, '-psk', PSK],
      ...['-cipher', 'ALL:PSK:@SECLEVEL=0', '-ciphersuites', TLS13.join(':')],
    ]);
    const expected: string[] = [];
    for (const suite of TLS13) {
      await ask(watched, `/${suite}`, ['-tls1_3', '-ciphersuites', suite, '-cipher', 'ALL:@SECLEVEL=0']);
      expected.push(`1.3 ${suite} /${suite}`);
    }
    for (const [cipher, suite] of TLS12) {
      const psk = cipher.includes('PSK') ? ['-psk', PSK] : [];
      await ask(watched, `/${cipher}`, ['-tls1_2', '-cipher', `${cipher}:@SECLEVEL=0`, ...psk]);
      expected.push(`1.2 ${suite} /${cipher}`);
      if (!suite.includes('CBC')) continue;
      await ask(watched, `/${cipher}?mac-then-encrypt`, [
        '-tls1_2',
        '-no_etm',
        '-cipher',
        `${cipher}:@SECLEVEL=0`,
        ...psk,
      ]);
      expected.push(`1.2 ${suite} /${cipher}?mac-then-encrypt`);
    }
    assert.deepEqual(await seen(watched, expected.length), expected);
  });

  test('sessions that are resumed, HelloRetryRequest, client certificates', async (t) => {
    const cleanup = cleanupAfter(t);
    const own = await selfSigned(cleanup, 'rsa');
    const watched = await watchedServer(cleanup, ['-verify', '1', '-groups', 'X25519']);
    const session = (name: string) => join(watched.folder, name);
    const expected: string[] = [];
    const asked = async (version: string, target: string, args: readonly string[], request?: string): Promise<void> => {
      await ask(watched, target, args, request);
      const suite = version === '1.3' ? 'TLS_AES_256_GCM_SHA384' : 'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384';
      expected.push(`${version} ${suite} ${target}`);
    };
    await asked('1.2', '/ticket/first', ['-tls1_2', '-sess_out', session('ticket')]);
    await asked('1.2', '/ticket/again', ['-tls1_2', '-sess_in', session('ticket')]);
    await asked('1.2', '/id/first', ['-tls1_2', '-no_ticket', '-sess_out', session('id')]);
    await asked('1.2', '/id/again', ['-tls1_2', '-no_ticket', '-sess_in', session('id')]);
    await asked('1.2', '/certificate', ['-tls1_2', '-cert', own.certFile, '-key', own.keyFile]);
    await asked('1.3', '/certificate', ['-tls1_3', '-cert', own.certFile, '-key', own.keyFile]);
    await asked('1.3', '/retry', ['-tls1_3', '-groups', 'P-256:X25519']);
    await asked('1.3', '/psk/first', ['-tls1_3', '-sess_out', session('psk')]);
    assert.ok(existsSync(session('psk')) && statSync(session('psk')).size > 0, 'no ticket came');
    await asked('1.3', '/psk/again', ['-tls1_3', '-sess_in', session('psk')]);
    await asked('1.3', '/psk/without-dhe', ['-tls1_3', '-sess_in', session('psk'), '-allow_no_dhe_kex']);
    assert.deepEqual(await seen(watched, expected.length), expected);
  });

  test('a request that is early data', async (t) => {
    const cleanup = cleanupAfter(t);
    const watched = await watchedServer(cleanup, ['-early_data', '-no_anti_replay'], 'open');
    const session = join(watched.folder, 'session');
    const request = join(watched.folder, 'request');
    writeFileSync(request, `GET /early HTTP/1.1\r\nHost: localhost:${watched.port}\r\n\r\n`);
    for (const [target, args] of [
      ['/first', ['-sess_out', session]],
      ['/early', ['-sess_in', session, '-early_data', request]],
    ] as const) {
      const [command, ...rest] = [
        ...watched.prefix,
        'openssl',
        's_client',
        '-connect',
        `127.0.0.1:${watched.port}`,
        '-tls1_3',
      ];
      const client = new Running(command!, [...rest, '-ign_eof', ...args], { stdin: 'open' });
      cleanup.add(() => client.stop('SIGKILL'));
      if (target === '/first')
        client.child.stdin?.write(`GET ${target} HTTP/1.1\r\nHost: localhost:${watched.port}\r\n\r\n`);
      // The server's standard input is what it answers.
      await watched.server.waitFor('stdout', new RegExp(`GET ${target} HTTP`));
      watched.server.child.stdin?.write('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n');
      await client.waitFor('stdout', /^hi$/m);
      if (target === '/early') assert.match(client.stdout, /Early data was accepted/);
      await client.stop('SIGTERM');
    }
    assert.deepEqual(await seen(watched, 2), [
      '1.3 TLS_AES_256_GCM_SHA384 /first',
      '1.3 TLS_AES_256_GCM_SHA384 /early',
    ]);
  });

  test('new keys in mid-connection: KeyUpdate and renegotiation', async (t) => {
    const cleanup = cleanupAfter(t);
    const watched = await watchedServer(cleanup, ['-client_renegotiation']);
    for (const [version, command, target] of [
      ['-tls1_3', 'K', '/after-key-update'],
      ['-tls1_2', 'R', '/after-renegotiation'],
    ] as const) {
      const args = ['s_client', '-connect', `127.0.0.1:${watched.port}`, version];
      const [program, ...rest] = [...watched.prefix, 'openssl', ...args];
      const client = new Running(program!, rest, { stdin: 'open' });
      cleanup.add(() => client.stop('SIGKILL'));
      await client.waitFor('stdout', /Verify return code/);
      // A letter alone at the beginning of what is read at once is a command of s_client.
      client.child.stdin?.write(`${command}\n`);
      await client.waitFor('stderr', command === 'K' ? /KEYUPDATE/ : /RENEGOTIATING/);
      client.child.stdin?.write(`GET ${target} HTTP/1.0\r\n\r\n`);
      await client.waitFor('stdout', /^HTTP\/1\.0 200 ok/m);
      await client.exited;
    }
    assert.deepEqual(
      (await seen(watched, 2)).map((line) => line.replace(/TLS_\S+ /, '')),
      ['1.3 /after-key-update', '1.2 /after-renegotiation'],
    );
  });
});
