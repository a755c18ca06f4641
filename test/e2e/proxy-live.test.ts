/** Servers behind the PROXY protocol: nginx, plain and TLS, HTTP/1.1 and 2, and MariaDB, against what they log of their clients. */
import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { after, suite, test } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { startMariaDb } from '../support/databases/mariadb.ts';
import { startNginx } from '../support/http/nginx.ts';
import { ofPorts, servers, targetOf } from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { selfSigned } from '../support/programs/certificate.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { startAgentOf } from '../support/programs/inside.ts';
import { freePorts, waitForPort } from '../support/programs/net.ts';
import { run } from '../support/programs/process.ts';
import { textOf } from '../support/sql/spans.ts';

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');

function version2(command: number, family: number, body: Buffer): Buffer {
  const fixed = Buffer.from([0x20 | command, family, body.length >> 8, body.length & 0xff]);
  return Buffer.concat([SIGNATURE, fixed, body]);
}

const IPV4 = Buffer.from('cb007109c63364010f1201bb', 'hex');
const IPV6 = Buffer.from('20010db8000000000000000000000007fe800000000000000000000000000001d43101bb', 'hex');
// AUTHORITY and NOOP; nginx of that age reads no header of more than 107 bytes in front of TLS.
const TLVS = Buffer.from('02000c73686f702e6578616d706c650400050000000000', 'hex');

const HEADERS: readonly Buffer[] = [
  Buffer.from('PROXY TCP4 203.0.113.7 198.51.100.1 40007 443\r\n'),
  Buffer.from('PROXY TCP6 2001:db8::8 ::1 40008 443\r\n'),
  Buffer.from('PROXY UNKNOWN\r\n'),
  version2(1, 0x11, IPV4),
  version2(1, 0x21, Buffer.concat([IPV6, TLVS])),
  version2(0, 0, Buffer.alloc(0)),
];

/** A connection that begins with the header: in one packet with what follows, ahead of it, or some time before. */
async function relayed(port: number, header: Buffer, how: 'together' | 'apart' | 'early'): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.setNoDelay(true);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  if (how === 'together') {
    socket.cork();
    socket.write(header);
    return socket;
  }
  // TLS and HTTP/2 write past the socket's own queue.
  await new Promise((resolve) => socket.write(header, resolve));
  if (how === 'early') await new Promise((resolve) => setTimeout(resolve, 20));
  return socket;
}

/** Two requests on one connection. */
async function ask(socket: Socket | TLSSocket, port: number, path: string): Promise<void> {
  let text = '';
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1');
  });
  for (const last of [false, true]) {
    text = '';
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: ${last ? 'close' : 'keep-alive'}\r\n\r\n`,
    );
    socket.uncork();
    while (!text.endsWith('hello\n')) await new Promise((resolve) => socket.once('data', resolve));
  }
  await new Promise((resolve) => socket.once('close', resolve).end());
}

/** One request by prior knowledge. */
async function askHttp2(socket: Socket, port: number, path: string): Promise<void> {
  const session = connectHttp2(`http://127.0.0.1:${port}`, { createConnection: () => socket });
  const stream = session.request({ ':path': path });
  stream.resume();
  await new Promise((resolve, reject) => stream.once('close', resolve).once('error', reject));
  await new Promise<void>((resolve) => session.close(resolve));
}

suite('behind the PROXY protocol', () => {
  after(assertKernelClean);

  test('nginx: as many requests as it logs, of the clients that it logs', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const certificate = await selfSigned(cleanup);
    const [plain, secure, prior] = (await freePorts(3)) as [number, number, number];
    const nginx = await startNginx(cleanup, {
      prefix: cgroup.prefix,
      http: `
        server {
          listen 127.0.0.1:${plain} proxy_protocol;
          listen 127.0.0.1:${secure} ssl proxy_protocol;
          listen 127.0.0.1:${prior} http2 proxy_protocol;
          ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};
          set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;
          location / { return 200 "hello\\n"; }
        }`,
    });
    for (const port of [plain, secure, prior]) await waitForPort(port);
    const agent = await startAgentOf(cleanup, cgroup);
    let requests = 0;
    for (const [i, header] of HEADERS.entries()) {
      for (const how of ['apart', 'early'] as const) {
        await ask(await relayed(plain, header, how === 'apart' ? 'together' : how), plain, `/plain/${i}`);
        const below = await relayed(secure, header, how);
        const tls = connectTls({ socket: below, rejectUnauthorized: false });
        await new Promise((resolve, reject) => tls.once('secureConnect', resolve).once('error', reject));
        await ask(tls, secure, `/tls/${i}`);
        await askHttp2(await relayed(prior, header, how), prior, `/http2/${i}`);
        requests += 5;
      }
    }
    const url = `http://127.0.0.1:${plain}/curl`;
    await run('curl', ['-s', '--haproxy-protocol', '-o', '/dev/null', url, '-o', '/dev/null', url]);
    await run('curl', ['-sk', '--haproxy-protocol', '-o', '/dev/null', `https://127.0.0.1:${secure}/curl-tls`]);
    requests += 3;
    const ours = ofPorts(plain, secure, prior);
    await agent.waitForSpans(requests, ours);
    const { spans, stats } = await agent.stop();
    const log = await nginx.accessLog(requests);
    const line = (path: string, status: unknown, address: unknown): string =>
      `${path} ${String(status)} ${String(address)}`;
    assert.deepEqual(
      servers(spans.filter(ours))
        .map((span) =>
          line(targetOf(span), span.attributes['http.response.status_code'], span.attributes['client.address']),
        )
        .sort(),
      log.map((entry) => line(entry.request_uri, entry.status, entry.remote_addr)).sort(),
    );
    for (const span of servers(spans.filter(ours))) {
      assert.equal(span.attributes['network.peer.address'], '127.0.0.1');
      const logged = log.find(
        (entry) => entry.request_uri === targetOf(span) && entry.remote_port === span.attributes['client.port'],
      );
      if (span.attributes['client.address'] !== '127.0.0.1') assert.ok(logged, JSON.stringify(span.attributes));
    }
    assert.deepEqual([stats.parseErrors, stats.connections.unrecognised], [{}, {}]);
  });

  for (const tls of [false, true]) {
    test(`MariaDB, ${tls ? 'over TLS' : 'plain'}, which greets before it reads the header`, async (t) => {
      const cleanup = cleanupAfter(t);
      const cgroup = await newCgroup(cleanup);
      const mariadb = await startMariaDb(cleanup, {
        prefix: cgroup.prefix,
        args: ['--proxy-protocol-networks=127.0.0.1'],
      });
      await mariadb.sql(
        "CREATE USER relayed@'203.0.113.9' IDENTIFIED BY 'a'; CREATE USER relayed@'2001:db8::7' IDENTIFIED BY 'a'",
      );
      const relays = [
        version2(1, 0x11, IPV4),
        version2(1, 0x21, IPV6),
        Buffer.from('PROXY TCP4 203.0.113.9 127.0.0.1 9 3306\r\n'),
      ];
      const agent = await startAgentOf(cleanup, cgroup, ['--perspective', 'both']);
      for (const [i, header] of relays.entries()) {
        const port = await startRelay(cleanup, header, mariadb.port);
        const secure = tls ? ['--ssl'] : ['--skip-ssl'];
        await run('mariadb', [
          '--no-defaults',
          '-h',
          '127.0.0.1',
          '-P',
          String(port),
          '-u',
          'relayed',
          '-pa',
          ...secure,
          '-e',
          `SELECT ${i} AS number_${i}`,
        ]);
      }
      const own = (span: { kind: string; attributes: Record<string, unknown> }): boolean =>
        span.kind === 'SERVER' && span.attributes['server.port'] === mariadb.port;
      const wanted = (text: string): boolean => text.startsWith('SELECT ? AS number_');
      await agent.waitForSpans(relays.length, (span) => own(span) && wanted(textOf(span)));
      const { spans, stats } = await agent.stop();
      assert.deepEqual(
        spans
          .filter((span) => own(span) && wanted(textOf(span)))
          .map(({ attributes }) => [
            attributes['client.address'],
            attributes['client.port'],
            attributes['network.peer.address'],
          ]),
        [
          ['203.0.113.9', 3858, '127.0.0.1'],
          ['2001:db8::7', 54_321, '127.0.0.1'],
          ['203.0.113.9', 9, '127.0.0.1'],
        ],
      );
      const connects = await mariadb.sql(
        "SELECT argument FROM mysql.general_log WHERE command_type = 'Connect' AND argument LIKE 'relayed@%'",
      );
      assert.deepEqual(
        connects.map(([argument]) => /@(\S+)/.exec(argument!)?.[1]),
        ['203.0.113.9', '2001:db8::7', '203.0.113.9'],
      );
      assert.deepEqual([stats.parseErrors, stats.internalErrors], [{}, {}]);
    });
  }
});

/** Hands bytes on as they are, behind a header. */
async function startRelay(cleanup: Cleanup, header: Buffer, target: number): Promise<number> {
  const relay = createServer((client) => {
    const server = connect(target, '127.0.0.1');
    server.write(header);
    client.pipe(server).pipe(client);
    for (const socket of [client, server]) socket.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  cleanup.add(() => new Promise((resolve) => relay.close(resolve)));
  const address = relay.address();
  return typeof address === 'object' && address !== null ? address.port : assert.fail();
}
