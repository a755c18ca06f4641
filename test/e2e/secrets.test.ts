import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import {
  PROCESS_EXEC,
  SECRET,
  SECRET_TLS12_MASTER,
  SECRET_TLS13_EARLY,
  SECRET_TLS13_HANDSHAKE,
} from '../../src/capture/records.ts';
import { openProbes, probeBackend, type SecretProbes } from '../../src/secrets/native-probes.ts';
import { ProbeManager } from '../../src/secrets/probes.ts';
import { clientScript } from '../support/http/clients.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { type Certificate, selfSigned } from '../support/programs/certificate.ts';
import { Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePort, until, waitForPort } from '../support/programs/net.ts';
import { type ProcessOptions, Running, start } from '../support/programs/process.ts';

const LIBRARY = '/usr/lib/x86_64-linux-gnu/libcrypto.so.3';
const SSL_LIBRARY = '/usr/lib/x86_64-linux-gnu/libssl.so.3';

interface Secret {
  pid: number;
  kind: number;
  library: number;
  secret: Buffer;
  context: Buffer;
}

function secretsOf(records: Buffer): Secret[] {
  const found: Secret[] = [];
  for (let at = 0; at < records.length; at += SECRET.size) {
    const bytes = (from: number, length: number) => Buffer.from(records.subarray(at + from, at + from + length));
    found.push({
      pid: records.readUInt32LE(at + SECRET.tgid),
      kind: records[at + SECRET.kind]!,
      library: Number(records.readBigUInt64LE(at + SECRET.library)),
      secret: bytes(SECRET.secret, records[at + SECRET.secretLength]!),
      context: bytes(SECRET.context, records[at + SECRET.contextLength]!),
    });
  }
  return found;
}

/** RFC 8446 section 7.1: HKDF-Expand-Label of one hash length, which is one block of HKDF-Expand. */
function expandLabel(secret: Buffer, label: string, context: Buffer): string {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([
    Buffer.from([0, secret.length, name.length]),
    name,
    Buffer.from([context.length]),
    context,
    Buffer.from([1]),
  ]);
  return createHmac(secret.length === 48 ? 'sha384' : 'sha256', secret)
    .update(info)
    .digest('hex');
}

/** The line of a key log that the secret must stand behind. */
function isLogged(secret: Secret, keyLog: string): boolean {
  const has = (line: RegExp) => line.test(keyLog);
  if (secret.kind === SECRET_TLS13_HANDSHAKE) {
    const server = expandLabel(secret.secret, 's hs traffic', secret.context);
    const client = expandLabel(secret.secret, 'c hs traffic', secret.context);
    return (
      has(new RegExp(`^SERVER_HANDSHAKE_TRAFFIC_SECRET [0-9a-f]{64} ${server}$`, 'im')) &&
      has(new RegExp(`^CLIENT_HANDSHAKE_TRAFFIC_SECRET [0-9a-f]{64} ${client}$`, 'im'))
    );
  }
  if (secret.kind === SECRET_TLS13_EARLY) {
    const early = expandLabel(secret.secret, 'c e traffic', secret.context);
    return has(new RegExp(`^CLIENT_EARLY_TRAFFIC_SECRET [0-9a-f]{64} ${early}$`, 'im'));
  }
  assert.equal(secret.kind, SECRET_TLS12_MASTER);
  const random = secret.context.toString('hex', 32);
  return has(new RegExp(`^CLIENT_RANDOM ${random} ${secret.secret.toString('hex')}$`, 'im'));
}

interface Watch {
  probes: SecretProbes;
  manager: ProbeManager;
  /** As the kernel's record of it would. */
  started(pid: number): void;
}

async function watch(
  cleanup: Cleanup,
  options: { allowMulti?: boolean; allowSleepable?: boolean } = {},
): Promise<Watch> {
  const probes = openProbes(options);
  cleanup.add(() => probes.close());
  const manager = new ProbeManager(probeBackend(probes));
  cleanup.add(() => manager.stop());
  await manager.start();
  const started = (pid: number) =>
    manager.processEvent({ timeUs: 0, pid, processStartNs: 0, reason: PROCESS_EXEC, comm: '', filename: '' });
  return { probes, manager, started };
}

/** Waits until the program has been executed: until then the child is a copy of this process. */
async function executed(running: Running, program: string): Promise<number> {
  const isExecuted = () => readFileSync(`/proc/${running.pid}/cmdline`, 'latin1').startsWith(program) || undefined;
  await until(isExecuted, `${program} to run`);
  return running.pid;
}

interface OpenSsl {
  port: number;
  pid: number;
}

async function startOpenSsl(
  cleanup: Cleanup,
  { certFile, keyFile }: Certificate,
  options: ProcessOptions & { args?: string[]; onStart?: (pid: number) => void } = {},
): Promise<OpenSsl> {
  const port = await freePort();
  const server = start(
    cleanup,
    'openssl',
    ['s_server', '-accept', `127.0.0.1:${port}`, '-cert', certFile, '-key', keyFile, '-quiet', ...(options.args ?? [])],
    options,
  );
  const pid = await executed(server, 'openssl');
  options.onStart?.(pid);
  await waitForPort(port);
  return { port, pid };
}

interface Handshake {
  /** Of the client. */
  pid: number;
  keyLog: string;
}

/** One handshake by openssl s_client. */
async function handshake(folder: string, port: number, args: readonly string[] = []): Promise<Handshake> {
  const keyLog = join(folder, `keys-${port}-${Math.random()}`);
  const all = ['s_client', '-connect', `127.0.0.1:${port}`, '-keylogfile', keyLog, ...args];
  const client = new Running('openssl', all, { input: '' });
  const { exitCode, stderr } = await client.exited;
  assert.equal(exitCode, 0, stderr);
  return { pid: client.pid, keyLog: readFileSync(keyLog, 'latin1') };
}

/** The probes see every process of the machine: only those of the test count. */
function drain(probes: SecretProbes, ...pids: number[]): Secret[] {
  return secretsOf(probes.drain()).filter(({ pid }) => pids.includes(pid));
}

function assertAllLogged(secrets: readonly Secret[], keyLog: string): void {
  for (const secret of secrets) {
    assert.ok(
      isLogged(secret, keyLog),
      `a secret of kind ${secret.kind} of process ${secret.pid} is not in the key log`,
    );
  }
}

after(assertKernelClean);

for (const allowMulti of [true, false]) {
  const how = allowMulti ? 'the kernel’s best links' : 'perf events';
  test(`every secret of OpenSSL is the key log's, attached by ${how}`, async (t) => {
    const cleanup = cleanupAfter(t);
    const { probes, manager } = await watch(cleanup, { allowMulti });
    if (!allowMulti) assert.equal(probes.info().multi, false);
    const folder = await cleanup.temporaryFolder();
    const certificate = await selfSigned(cleanup);
    const server = await startOpenSsl(cleanup, certificate);
    const cases: [string[], number, number][] = [
      [['-tls1_3', '-ciphersuites', 'TLS_AES_256_GCM_SHA384'], SECRET_TLS13_HANDSHAKE, 48],
      [['-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256'], SECRET_TLS13_HANDSHAKE, 32],
      [['-tls1_3', '-curves', 'P-521:P-256'], SECRET_TLS13_HANDSHAKE, 48],
      [['-tls1_2'], SECRET_TLS12_MASTER, 48],
      [['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-SHA'], SECRET_TLS12_MASTER, 48],
    ];
    for (const [args, kind, length] of cases) {
      const { keyLog, pid } = await handshake(folder, server.port, args);
      const secrets = drain(probes, pid, server.pid);
      const pids = secrets.map((secret) => secret.pid).sort((a, b) => a - b);
      assert.deepEqual(
        pids,
        [pid, server.pid].sort((a, b) => a - b),
        `one of each, with ${args.join(' ')}`,
      );
      for (const secret of secrets) {
        assert.equal(secret.kind, kind);
        assert.equal(secret.secret.length, length);
        if (probes.info().cookies) assert.equal(manager.pathOfCookie(secret.library), LIBRARY);
      }
      assertAllLogged(secrets, keyLog);
    }
    assert.deepEqual(
      Object.values(probes.info().lost).filter((lost) => lost > 0),
      [],
    );
  });
}

// The kernel takes cold pages out of memory; those of a library's strings are not in every process in the first place.
for (const options of [{}, { allowMulti: false }, { allowSleepable: false }]) {
  test(`strings that are not in memory are waited for, or counted: ${JSON.stringify(options)}`, async (t) => {
    const cleanup = cleanupAfter(t);
    const { probes } = await watch(cleanup, options);
    const server = await startOpenSsl(cleanup, await selfSigned(cleanup));
    const handshakes = 200;
    const client = start(cleanup, 'python3', [clientScript('cold-pages.py'), `${server.port}`, `${handshakes}`]);
    const { exitCode, stdout, stderr } = await client.exited;
    assert.deepEqual([exitCode, stdout], [0, `${handshakes}\n`], stderr);
    const found = drain(probes, client.pid).length;
    const { lost, sleepable } = probes.info();
    const counted = Object.values(lost).reduce((sum, n) => sum + n, 0);
    t.diagnostic(`${found} of ${handshakes} secrets, ${JSON.stringify(lost)}`);
    assert.equal(sleepable, options.allowSleepable ?? true);
    if (sleepable) assert.deepEqual([found, counted], [handshakes, 0]);
    // Other derivations of the process count as well: which they were could not be read.
    else assert.ok(found + counted >= handshakes);
  });
}

test('resumption and early data', async (t) => {
  const cleanup = cleanupAfter(t);
  const { probes } = await watch(cleanup);
  const folder = await cleanup.temporaryFolder();
  const certificate = await selfSigned(cleanup);
  const server = await startOpenSsl(cleanup, certificate, { args: ['-early_data', '-no_anti_replay'], stdin: 'open' });
  const session = join(folder, 'session');
  // The ticket comes after the handshake: the client must stay for it.
  const client = start(
    cleanup,
    'openssl',
    ['s_client', '-connect', `127.0.0.1:${server.port}`, '-tls1_3', '-sess_out', session],
    { stdin: 'open' },
  );
  await until(() => (existsSync(session) && statSync(session).size > 0) || undefined, 'a session ticket');
  client.child.stdin?.end();
  await client.exited;
  const early = join(folder, 'early');
  writeFileSync(early, 'early data');
  probes.drain();
  const args = ['-tls1_3', '-sess_in', session, '-early_data', early];
  const { keyLog, pid } = await handshake(folder, server.port, args);
  const secrets = drain(probes, pid, server.pid);
  assertAllLogged(secrets, keyLog);
  assert.deepEqual(secrets.map(({ kind }) => kind).sort(), [
    SECRET_TLS13_HANDSHAKE,
    SECRET_TLS13_HANDSHAKE,
    SECRET_TLS13_EARLY,
    SECRET_TLS13_EARLY,
  ]);
});

for (const version of ['TLSv1.3', 'TLSv1.2']) {
  test(`a static OpenSSL: Node as server, curl as client, ${version}`, async (t) => {
    const cleanup = cleanupAfter(t);
    const { probes, manager } = await watch(cleanup);
    const folder = await cleanup.temporaryFolder();
    const { certFile, keyFile } = await selfSigned(cleanup);
    const port = await freePort();
    const keyLogs = [join(folder, 'server.keys'), join(folder, 'client.keys')];
    const script = `require('node:https').createServer({ cert: fs.readFileSync('${certFile}'), key: fs.readFileSync('${keyFile}'), maxVersion: '${version}' }, (q, s) => s.end('hi')).listen(${port}, '127.0.0.1')`;
    const server = start(cleanup, process.execPath, [`--tls-keylog=${keyLogs[0]}`, '-e', script]);
    await waitForPort(port);
    const curl = new Running('curl', ['-sk', `https://127.0.0.1:${port}/`], { env: { SSLKEYLOGFILE: keyLogs[1] } });
    assert.equal((await curl.exited).stdout, 'hi');
    const secrets = drain(probes, curl.pid, server.pid);
    assert.equal(secrets.length, 2);
    // Node appends to its log without waiting for it: all lines of a handshake come at some time after it.
    const lines = version === 'TLSv1.3' ? 5 : 1;
    const serverLog = await until(() => {
      const text = existsSync(keyLogs[0]!) ? readFileSync(keyLogs[0]!, 'latin1') : '';
      return text.split('\n').length > lines ? text : undefined;
    }, "the server's key log");
    assertAllLogged(secrets, serverLog);
    assertAllLogged(secrets, readFileSync(keyLogs[1]!, 'latin1'));
    assert.equal(manager.statusOf(server.pid).state, 'probed');
    assert.equal(manager.statusOf(server.pid).version, process.versions.openssl);
  });
}

test('a private copy of the library that is started later, then replaced while it runs', async (t) => {
  const cleanup = cleanupAfter(t);
  const { probes, manager, started } = await watch(cleanup);
  const folder = await cleanup.temporaryFolder();
  const certificate = await selfSigned(cleanup);
  const copies = join(folder, 'lib');
  mkdirSync(copies);
  copyFileSync(LIBRARY, join(copies, 'libcrypto.so.3'));
  const env = { LD_LIBRARY_PATH: copies };
  const before = manager.list().length;
  const first = await startOpenSsl(cleanup, certificate, { env, onStart: started });
  assert.equal(manager.list().length, before + 1);
  const ofServer = async ({ port, pid }: OpenSsl) => {
    const client = await handshake(folder, port, ['-tls1_3']);
    const secrets = drain(probes, pid, client.pid);
    assertAllLogged(secrets, client.keyLog);
    return secrets.filter((secret) => secret.pid === pid);
  };
  const [secret] = await ofServer(first);
  assert.ok(secret);
  if (probes.info().cookies) assert.equal(manager.pathOfCookie(secret.library), join(copies, 'libcrypto.so.3'));

  // As a package manager does it: a new file takes the name over.
  copyFileSync(LIBRARY, join(copies, 'new'));
  renameSync(join(copies, 'new'), join(copies, 'libcrypto.so.3'));
  const second = await startOpenSsl(cleanup, certificate, { env, onStart: started });
  const [fromOld] = await ofServer(first);
  const [fromNew] = await ofServer(second);
  assert.ok(fromOld && fromNew);
  if (probes.info().cookies) assert.notEqual(fromOld.library, fromNew.library);
  await manager.rescan();
  assert.equal(manager.statusOf(first.pid).state, 'probed', 'its library has no name any more');
  assert.equal(manager.statusOf(second.pid).state, 'probed');
});

test('a process whose library was deleted before the probes came', async (t) => {
  const cleanup = cleanupAfter(t);
  const folder = await cleanup.temporaryFolder();
  const certificate = await selfSigned(cleanup);
  const copies = join(folder, 'lib');
  mkdirSync(copies);
  copyFileSync(LIBRARY, join(copies, 'libcrypto.so.3'));
  const server = await startOpenSsl(cleanup, certificate, { env: { LD_LIBRARY_PATH: copies } });
  copyFileSync(LIBRARY, join(copies, 'new'));
  renameSync(join(copies, 'new'), join(copies, 'libcrypto.so.3'));
  const { probes } = await watch(cleanup);
  const { keyLog } = await handshake(folder, server.port, ['-tls1_3']);
  const secrets = drain(probes, server.pid);
  assert.equal(secrets.length, 1);
  assertAllLogged(secrets, keyLog);
});

/** Shell lines that give a process a mount namespace in which the library folder holds files of its own. */
const PRIVATE_MOUNTS: [string, (folder: string) => string][] = [
  [
    'a tmpfs over the library folder',
    (folder) =>
      `mkdir ${folder}/t && mount -t tmpfs none ${folder}/t && cp ${LIBRARY} ${SSL_LIBRARY} ${folder}/t/ && mount --bind ${folder}/t/libcrypto.so.3 ${LIBRARY}`,
  ],
  [
    'an overlay whose lower folder has the library',
    (folder) =>
      `mkdir ${folder}/o && mount -t tmpfs none ${folder}/o && mkdir ${folder}/o/l ${folder}/o/u ${folder}/o/w ${folder}/o/m && cp ${LIBRARY} ${SSL_LIBRARY} ${folder}/o/l/ && mount -t overlay none -o lowerdir=${folder}/o/l,upperdir=${folder}/o/u,workdir=${folder}/o/w ${folder}/o/m && mount --bind ${folder}/o/m/libcrypto.so.3 ${LIBRARY}`,
  ],
];

for (const [name, mounts] of PRIVATE_MOUNTS) {
  test(`a process in its own mount namespace: ${name}`, async (t) => {
    const cleanup = cleanupAfter(t);
    const { probes, manager, started } = await watch(cleanup);
    const folder = await cleanup.temporaryFolder();
    const { certFile, keyFile } = await selfSigned(cleanup);
    const port = await freePort();
    const before = manager.list().length;
    const command = `${mounts(folder)} && exec openssl s_server -accept 127.0.0.1:${port} -cert ${certFile} -key ${keyFile} -quiet`;
    const server = start(cleanup, 'unshare', ['-m', '--propagation', 'private', 'sh', '-c', command]);
    const pid = await executed(server, 'openssl');
    started(pid);
    await waitForPort(port);
    assert.equal(manager.list().length, before + 1);
    const { keyLog } = await handshake(folder, port, ['-tls1_3']);
    const secrets = drain(probes, pid);
    assertAllLogged(secrets, keyLog);
    assert.equal(secrets.length, 1, 'one attachment per inode');
    assert.equal(manager.statusOf(pid).state, 'probed');
  });
}

test('an unused file loses its probe', async (t) => {
  const cleanup = cleanupAfter(t);
  const probes = openProbes();
  cleanup.add(() => probes.close());
  let nowMs = Date.now();
  const manager = new ProbeManager({ ...probeBackend(probes), now: () => nowMs });
  cleanup.add(() => manager.stop());
  const folder = await cleanup.temporaryFolder();
  const certificate = await selfSigned(cleanup);
  copyFileSync(LIBRARY, join(folder, 'libcrypto.so.3'));
  const own = new Cleanup();
  const server = await startOpenSsl(own, certificate, { env: { LD_LIBRARY_PATH: folder } });
  await manager.start();
  const attached = probes.info().attached;
  assert.equal(dirname(manager.statusOf(server.pid).library ?? ''), folder);
  await own.run();
  nowMs += 60_000;
  await manager.rescan();
  assert.equal(probes.info().attached, attached - 1);
  manager.stop();
  assert.equal(probes.info().attached, 0);
});
