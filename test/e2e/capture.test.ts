import assert from 'node:assert/strict';
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { findCgroupRoot } from '../../src/capture/cgroup.ts';
import { LiveCapture } from '../../src/capture/live.ts';
import { walkChunk } from '../../src/capture/walk.ts';
import { Recorder } from './capture-recorder.ts';

assert.equal(process.getuid?.(), 0, 'the capture tests need root');

const run = promisify(execFile);
const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'wirespan-capture-'));
const bodyPath = join(folder, 'body');
const body = Buffer.alloc(MIB);
for (let i = 0, hash = Buffer.from('seed'); i < MIB; i += 32) {
  hash = createHash('sha256').update(hash).digest();
  hash.copy(body, i);
}
writeFileSync(bodyPath, body);
after(() => rmSync(folder, { recursive: true, force: true }));

/** Answers every request with its own body. */
const SERVER = `
  const server = require('node:http').createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => response.end(Buffer.concat(parts)));
  });
  server.listen({ port: 0, host: '::', backlog: 1024 }, () => console.log(server.address().port));
`;

const servers = new Set<ChildProcess>();
afterEach(async () => {
  for (const child of servers) await stopServer({ child });
});

async function startServer(prefix: string[] = []): Promise<{ child: ChildProcess; port: number }> {
  const [command, ...rest] = [...prefix, process.execPath, '-e', SERVER];
  const child = spawn(command!, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
  servers.add(child);
  const [line] = await once(child.stdout!, 'data');
  return { child, port: Number(String(line)) };
}

async function stopServer(server: { child: ChildProcess }): Promise<void> {
  if (!servers.delete(server.child)) return;
  const exited = once(server.child, 'exit');
  server.child.kill('SIGKILL');
  await exited;
}

/** @returns the pid of curl, which posted the body and got it back */
async function post(url: string, prefix: string[] = [], options: string[] = []): Promise<number> {
  const arguments_ = ['-sS', '--noproxy', '*', '-H', 'Expect:', '--data-binary', `@${bodyPath}`, ...options, url];
  const [command, ...rest] = [...prefix, 'curl', ...arguments_];
  const promise = run(command!, rest, { encoding: 'buffer', maxBuffer: 4 * MIB });
  const { stdout } = await promise;
  assert.ok(body.equals(stdout)); // not deepEqual: it would print a megabyte
  return promise.child.pid!;
}

interface Running {
  capture: LiveCapture;
  recorder: Recorder;
}

function startCapture(options: Partial<Parameters<typeof LiveCapture.open>[0]> = {}): Running {
  const capture = LiveCapture.open({ cgroupPath: findCgroupRoot(), ...options });
  const recorder = new Recorder();
  capture.start((chunk, length) => assert.equal(walkChunk(chunk, length, recorder), 0));
  return { capture, recorder };
}

/** Stops it, after which nothing of it may be left in the kernel. */
async function stopCapture({ capture }: Running): Promise<void> {
  const ids = new Set(capture.programs().map((program) => program.id));
  assert.equal(ids.size, 6);
  await capture.stop();
  // The kernel frees a raw tracepoint's program a moment after its link.
  for (let tries = 0; ; tries++) {
    const programs = JSON.parse(execFileSync('bpftool', ['-j', 'prog', 'show'], { encoding: 'utf8' })) as {
      id: number;
    }[];
    const links = JSON.parse(execFileSync('bpftool', ['-j', 'link', 'show'], { encoding: 'utf8' })) as {
      prog_id: number;
    }[];
    const left = [...programs.map(({ id }) => id), ...links.map((link) => link.prog_id)].filter((id) => ids.has(id));
    if (left.length === 0) return;
    assert.ok(tries < 50, `left in the kernel: ${left}`);
    await setTimeout(100);
  }
}

function netnsInode(pid: number | 'self'): number {
  return Number(/\d+/.exec(execFileSync('readlink', [`/proc/${pid}/ns/net`], { encoding: 'utf8' }))?.[0]);
}

/** Both streams whole, each byte once, both ends known. */
function checkExchange(recorder: Recorder, port: number, clientPid: number, serverPid: number): void {
  const request = recorder.stream(port, false);
  const response = recorder.stream(port, true);
  assert.ok(body.equals(request.subarray(request.indexOf('\r\n\r\n') + 4)));
  assert.ok(response.includes('Content-Length: 1048576'));
  assert.ok(body.equals(response.subarray(response.indexOf('\r\n\r\n') + 4)));

  const packets = recorder.of(port).filter((packet) => packet.payload.length > 0);
  const clientCookies = new Set(
    packets.filter((packet) => packet.destination.endsWith(`:${port}`)).map((packet) => packet.cookie),
  );
  const serverCookies = new Set(
    packets.filter((packet) => packet.source.endsWith(`:${port}`)).map((packet) => packet.cookie),
  );
  assert.ok(packets.every((packet) => packet.egress));
  // Of packets without data, only those that begin or end something: SYN, FIN, RST.
  assert.ok(recorder.of(port).every((packet) => packet.payload.length > 0 || (packet.flags & 7) !== 0));
  assert.equal(clientCookies.size, 1);
  assert.equal(serverCookies.size, 1);
  const client = recorder.owner([...clientCookies][0]!);
  const server = recorder.owner([...serverCookies][0]!);
  assert.equal(client?.pid, clientPid);
  assert.equal(client.comm, 'curl');
  assert.equal(server?.pid, serverPid);
  assert.equal(recorder.sockets.find((record) => record.cookie === server.cookie)?.peerCookie, client.cookie);
  assert.equal(recorder.unannounced.size, 0);
  assert.ok(
    recorder.processes.some((record) => record.reason === 1 && record.pid === clientPid && record.comm === 'curl'),
  );
  assert.ok(
    recorder.processes.some(
      (record) => record.reason === 0 && record.pid === clientPid && record.filename.endsWith('/curl'),
    ),
  );
}

describe('live capture', { timeout: 120_000 }, () => {
  for (const [name, host] of [
    ['IPv4 loopback', '127.0.0.1'],
    ['IPv6 loopback', '[::1]'],
  ] as const) {
    it(`delivers every byte of both directions once over ${name}, with its owners`, async () => {
      const running = startCapture();
      const server = await startServer();
      const pid = await post(`http://${host}:${server.port}/`);
      await stopCapture(running);
      checkExchange(running.recorder, server.port, pid, server.child.pid!);
      assert.deepEqual(running.capture.lost(), {});
      const { netns } = running.recorder.of(server.port)[0]!;
      assert.equal(netns, netnsInode('self'));
    });
  }

  it('knows the owner of a server that is older than the capture', async () => {
    const server = await startServer();
    const running = startCapture();
    const found = running.capture.scanSockets();
    assert.ok(found.some((record) => record.pid === server.child.pid && record.ownerKnown));
    const pid = await post(`http://127.0.0.1:${server.port}/`);
    await stopCapture(running);
    checkExchange(running.recorder, server.port, pid, server.child.pid!);
  });

  it('learns the owner of an older server from its first packet, even without a scan', async () => {
    const server = await startServer();
    const running = startCapture();
    const pid = await post(`http://127.0.0.1:${server.port}/`);
    await stopCapture(running);
    checkExchange(running.recorder, server.port, pid, server.child.pid!);
  });

  it('does not see its own sockets, nor the other ends of their connections', async () => {
    const server = await startServer();
    const running = startCapture();
    const response = await fetch(`http://127.0.0.1:${server.port}/`, { method: 'POST', body: 'mine' });
    assert.equal(await response.text(), 'mine');
    await assert.rejects(fetch('http://127.0.0.1:9/'));
    const pid = await post(`http://[::1]:${server.port}/`);
    await stopCapture(running);
    checkExchange(running.recorder, server.port, pid, server.child.pid!);
    assert.deepEqual(running.recorder.of(9), []);
    assert.equal(running.recorder.sockets.filter((record) => record.pid === process.pid).length, 0);
  });

  it('delivers only SYN, FIN and RST of a muted socket, and nothing of an excluded port', async () => {
    const excluded = await startServer();
    const server = await startServer();
    const running = startCapture({ excludedPorts: [excluded.port] });
    const mute = running.recorder.socket.bind(running.recorder);
    running.recorder.socket = (record) => {
      mute(record);
      running.capture.mute(record.cookie);
    };
    await post(`http://127.0.0.1:${excluded.port}/`);
    // Slow, so that the mute is in force for most of it.
    await post(`http://127.0.0.1:${server.port}/`, [], ['--limit-rate', '500K']);
    await stopCapture(running);
    assert.deepEqual(running.recorder.of(excluded.port), []);
    const packets = running.recorder.of(server.port);
    assert.ok(
      packets.some((packet) => (packet.flags & 1) !== 0),
      'the FIN is there',
    );
    assert.ok(packets.reduce((sum, packet) => sum + packet.payload.length, 0) < MIB);
  });

  it('counts what the ring could not hold', async () => {
    const running = startCapture({ packetRingBytes: 65_536 });
    const server = await startServer();
    const blocked = post(`http://127.0.0.1:${server.port}/`);
    await blocked;
    const lost = running.capture.lost();
    await stopCapture(running);
    assert.ok((lost.packet_ring_full ?? 0) > 0);
    const total = running.capture.lost();
    await running.capture.stop();
    assert.deepEqual(running.capture.lost(), total, 'the same after a second stop');
  });

  it('gives timers and sockets their turn while there is more to deliver than can be read', async () => {
    const server = await startServer();
    const capture = LiveCapture.open({ cgroupPath: findCgroupRoot() });
    let inTurn = 0;
    const turns: number[] = [];
    capture.start(() => inTurn++);
    // Blocks this thread, so that many chunks wait for it.
    const urls = Array.from({ length: 20 }, () => `http://127.0.0.1:${server.port}/`);
    const post20 = ['-sS', '--noproxy', '*', '-H', 'Expect:', '--data-binary', `@${bodyPath}`, ...urls];
    execFileSync('curl', post20, { maxBuffer: 64 * MIB });
    const deadline = performance.now() + 20_000;
    while (turns.reduce((sum, chunks) => sum + chunks, 0) < 30 && performance.now() < deadline) {
      await setImmediate();
      turns.push(inTurn);
      inTurn = 0;
    }
    await capture.stop();
    const chunks = turns.reduce((sum, number) => sum + number, 0);
    assert.ok(chunks >= 30, `${chunks} chunks of what should have been 40 MiB`);
    assert.ok(Math.max(...turns) <= 2, `${Math.max(...turns)} chunks in one turn of the loop`);
  });

  it('can be started and stopped again and again', async () => {
    for (let i = 0; i < 3; i++) await stopCapture(startCapture());
  });

  // A large stack for new threads, so that there is room for everything but the reader's.
  const withLargeStacks = ['--stack=1073741824', process.execPath, '--stack-size=900'];
  for (const [lacking, limit, message] of [
    ['descriptors', "'--nofile=' + limit + ':'", /cannot make descriptors to wait on: Too many open files/],
    ['threads', "'--as=' + (mapped + 96 * 2 ** 20) + ':'", /cannot start the thread that reads the BPF rings/],
  ] as const) {
    it(`gives everything back when it cannot start for want of ${lacking}`, async () => {
      const module = (name: string) => JSON.stringify(new URL(`../../src/capture/${name}.ts`, import.meta.url).href);
      const script = `
        import { execFileSync } from 'node:child_process';
        import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
        import { setTimeout } from 'node:timers/promises';
        import { findCgroupRoot } from ${module('cgroup')};
        import { LiveCapture } from ${module('live')};
        // Without the one by which they are listed.
        const open = () => readdirSync('/proc/self/fd').filter((fd) => {
          try {
            return readlinkSync('/proc/self/fd/' + fd) !== '';
          } catch {
            return false;
          }
        }).map(Number).sort((a, b) => a - b);
        const capture = LiveCapture.open({ cgroupPath: findCgroupRoot(), packetRingBytes: 4096 });
        // What the first output and the first child leave open, and files of modules that are not closed yet.
        console.log('begin', String(execFileSync('echo')));
        let before = open();
        for (let same = 0; same < 5; ) {
          await setTimeout(20);
          const now = open();
          same = String(now) === String(before) ? same + 1 : 0;
          before = now;
        }
        // Two are left.
        let limit = 0;
        for (let left = 0; left < 2; limit++) if (!before.includes(limit)) left++;
        const mapped = Number(readFileSync('/proc/self/statm', 'latin1').split(' ')[0]) * 4096;
        execFileSync('prlimit', ['--pid', String(process.pid), ${limit}]);
        try {
          capture.start(() => {});
        } catch (error) {
          console.log(error.message);
        }
        console.log(open().filter((fd) => !before.includes(fd)).length, 'more');
        // Nothing keeps the process from ending.`;
      const { stdout } = await run('prlimit', [...withLargeStacks, '--input-type=module', '-e', script], {
        timeout: 30_000,
      });
      assert.match(stdout, message);
      assert.match(stdout, /^0 more$/m, stdout);
    });
  }

  it('says what to do when it may not', async () => {
    const script = `
      import { LiveCapture } from ${JSON.stringify(new URL('../../src/capture/live.ts', import.meta.url).href)};
      try { LiveCapture.open({ cgroupPath: ${JSON.stringify(findCgroupRoot())} }); } catch (error) { console.log(error.message); }`;
    const arguments_ = ['--reuid=65534', '--clear-groups', process.execPath, '--input-type=module', '-e', script];
    const { stdout } = await run('setpriv', arguments_).catch((error: { stdout: string }) => error);
    // Where the checkout is not readable for everyone, nothing can be said about it here.
    assert.match(stdout, /capabilities BPF, PERFMON and NET_ADMIN/);
  });
});

describe('live capture across network namespaces', { timeout: 120_000 }, () => {
  const name = `wirespan-${process.pid}`;
  const net = process.pid % 250; // so that what a killed run left behind is not in the way
  const inside = ['ip', 'netns', 'exec', name];
  const ip = (...words: string[]) => execFileSync('ip', words);

  before(() => {
    ip('netns', 'add', name);
    ip('link', 'add', `ws${process.pid}`, 'type', 'veth', 'peer', 'name', 'inside', 'netns', name);
    ip('addr', 'add', `10.203.${net}.1/24`, 'dev', `ws${process.pid}`);
    ip('addr', 'add', `fd07:${net}::1/64`, 'dev', `ws${process.pid}`, 'nodad');
    ip('link', 'set', `ws${process.pid}`, 'up');
    ip('-n', name, 'addr', 'add', `10.203.${net}.2/24`, 'dev', 'inside');
    ip('-n', name, 'addr', 'add', `fd07:${net}::2/64`, 'dev', 'inside', 'nodad');
    ip('-n', name, 'link', 'set', 'inside', 'up');
    ip('-n', name, 'link', 'set', 'lo', 'up');
  });
  after(() => ip('netns', 'del', name));

  for (const host of [`10.203.${net}.1`, `[fd07:${net}::1]`]) {
    it(`delivers every byte once and joins both ends over a veth pair to ${host}`, async () => {
      const running = startCapture();
      const server = await startServer();
      const pid = await post(`http://${host}:${server.port}/`, inside);
      await stopCapture(running);
      checkExchange(running.recorder, server.port, pid, server.child.pid!);
      const namespaces = new Set(running.recorder.of(server.port).map((packet) => packet.netns));
      assert.equal(namespaces.size, 2);
      assert.ok(namespaces.has(netnsInode('self')));
    });
  }

  it('keeps the loopback addresses of two namespaces apart', async () => {
    const running = startCapture();
    const server = await startServer(inside);
    const pid = await post(`http://127.0.0.1:${server.port}/`, inside);
    await stopCapture(running);
    checkExchange(running.recorder, server.port, pid, server.child.pid!);
  });

  it('delivers packets beyond 64 KiB (BIG TCP) in pieces', async () => {
    ip('-n', name, 'link', 'set', 'dev', 'lo', 'gso_max_size', '185000', 'gro_max_size', '185000');
    const running = startCapture();
    const server = await startServer(inside);
    const pid = await post(`http://[::1]:${server.port}/`, inside);
    await stopCapture(running);
    checkExchange(running.recorder, server.port, pid, server.child.pid!);
    assert.ok(running.recorder.of(server.port).some((packet) => packet.continued));
  });
});
