/** A TLS library that is not probed: its connections are read by the key log it writes, and otherwise counted under its name. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import type { Report } from '../../src/doctor/report.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent, wirespan } from '../support/programs/agent.ts';
import { selfSigned } from '../support/programs/certificate.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, waitForPort } from '../support/programs/net.ts';
import { type Running, start } from '../support/programs/process.ts';

interface Peers {
  cgroup: string;
  server: Running;
  /** Sends one request on a connection of its own, and returns what came back. */
  ask(): Promise<string>;
  keylog: string;
}

/** GnuTLS on both ends, in a cgroup of their own. */
async function gnutlsPeers(cleanup: Cleanup, version: string, writesKeys: boolean): Promise<Peers> {
  const cgroup = await newCgroup(cleanup);
  const keylog = join(await cleanup.temporaryFolder(), 'keys.log');
  const env = { SSLKEYLOGFILE: writesKeys ? keylog : undefined };
  const certificate = await selfSigned(cleanup);
  const port = await freePort();
  const priority = ['--priority', `NORMAL:-VERS-ALL:+VERS-TLS${version}`];
  const spawn = (command: string, args: readonly string[], environment: Record<string, string | undefined>) => {
    const [shell, ...rest] = [...cgroup.prefix, command, ...args];
    return start(cleanup, shell!, rest, { env: environment, stdin: 'open' });
  };
  const files = ['--x509certfile', certificate.certFile, '--x509keyfile', certificate.keyFile];
  // The client's secrets are those of the connection: one key log is enough.
  const server = spawn('gnutls-serv', ['--http', '--port', String(port), ...files, ...priority], {});
  await waitForPort(port);
  return {
    cgroup: cgroup.path,
    server,
    keylog,
    async ask() {
      const client = spawn('gnutls-cli', ['--insecure', '--port', String(port), ...priority, '127.0.0.1'], env);
      await client.waitFor('stdout', /Simple Client Mode/);
      client.child.stdin?.write('GET /ask HTTP/1.0\r\nHost: localhost\r\n\r\n');
      await client.waitFor('stdout', /HTTP\/1\.0 200 OK/);
      client.child.stdin?.end();
      return (await client.exited).stdout;
    },
  };
}

suite('GnuTLS', () => {
  after(assertKernelClean);

  for (const version of ['1.3', '1.2']) {
    test(`TLS ${version} with --keylog: decrypted`, async (t) => {
      const cleanup = cleanupAfter(t);
      const peers = await gnutlsPeers(cleanup, version, true);
      const agent = await startAgent(cleanup, { args: ['--cgroup', peers.cgroup, '--keylog', peers.keylog] });
      for (let i = 0; i < 3; i++) await peers.ask();
      await agent.waitForSpans(6);
      const { spans, stats } = await agent.stop();
      const facts = spans.map(({ kind, resource, attributes }) =>
        [
          kind,
          resource['service.name'],
          attributes['http.request.method'],
          attributes['http.response.status_code'],
          attributes['tls.protocol.version'],
        ].join(' '),
      );
      assert.deepEqual(facts.sort(), [
        ...Array.from({ length: 3 }, () => `CLIENT gnutls-cli GET 200 ${version}`),
        ...Array.from({ length: 3 }, () => `SERVER gnutls-serv GET 200 ${version}`),
      ]);
      const { tls, decrypted, undecryptable } = stats.connections;
      assert.deepEqual({ tls, decrypted, undecryptable }, { tls: 3, decrypted: 3, undecryptable: {} });
      await assertKernelClean();
    });

    test(`TLS ${version} without a key log: counted under the library's name`, async (t) => {
      const cleanup = cleanupAfter(t);
      const peers = await gnutlsPeers(cleanup, version, false);
      const agent = await startAgent(cleanup, { args: ['--cgroup', peers.cgroup] });
      for (let i = 0; i < 3; i++) await peers.ask();
      const { spans, stats } = await agent.stop();
      const { tls, decrypted, undecryptable } = stats.connections;
      assert.deepEqual(
        { tls, decrypted, undecryptable },
        { tls: 3, decrypted: 0, undecryptable: { 'no_probe: GnuTLS': 3 } },
      );
      assert.deepEqual(spans, []);
      await assertKernelClean();
    });
  }

  test('doctor names the process and its library', async (t) => {
    const peers = await gnutlsPeers(cleanupAfter(t), '1.3', false);
    const { stdout } = await wirespan(['doctor', '--json']);
    const found = (JSON.parse(stdout) as Report).processes.find(({ pid }) => pid === peers.server.pid);
    assert.equal(found?.state, 'unsupported_library');
    assert.match(`${found?.library} ${found?.version} ${found?.detail}`, /libgnutls\S* GnuTLS .*not probed/);
  });
});
