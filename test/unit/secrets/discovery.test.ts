import assert from 'node:assert/strict';
import {
  appendFileSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PROCESS_EXEC, PROCESS_FIRST_SOCKET, type ProcessRecord } from '../../../src/capture/records.ts';
import { defaultLimits, type Limits } from '../../../src/config/limits.ts';
import { libraryFolders, libraryPathOf, readMaps, resolveInRoot, startTimeOf } from '../../../src/secrets/discovery.ts';
import type { ProbeNotice } from '../../../src/secrets/probed-files.ts';
import { ProbeManager } from '../../../src/secrets/probes.ts';
import { makeElf } from '../../support/kernel/elf-samples.ts';

const TEST_JE = [0x48, 0x85, 0xff, 0x74, 0x13, 0x31, 0xc0, 0xc3];
const CRYPTO = makeElf({ dynamic: [{ name: 'EVP_KDF_derive', version: 'OPENSSL_3.0.0', code: TEST_JE }] });
const PLAIN = makeElf({ dynamic: [{ name: 'main' }] });
const LIBRARY = '/usr/lib/x86_64-linux-gnu/libcrypto.so.3';

/** A machine in a folder: root folders of containers, and a /proc whose processes the test starts and ends. */
class Machine {
  readonly folder: string;
  readonly proc: string;
  readonly attached = new Map<number, { inode: string; offset: number; cookie: number }>();
  readonly notices: ProbeNotice[] = [];
  attachments = 0;
  nowMs = Date.now() + 3_600_000;
  failure: string | undefined;
  #nextId = 1;

  constructor(t: TestContext) {
    this.folder = mkdtempSync(join(tmpdir(), 'wirespan-discovery-'));
    t.after(() => rmSync(this.folder, { recursive: true, force: true }));
    this.proc = join(this.folder, 'proc');
    mkdirSync(this.proc);
    this.root('host');
  }

  root(name: string): string {
    const path = join(this.folder, name);
    mkdirSync(join(path, 'usr/lib/x86_64-linux-gnu'), { recursive: true });
    return path;
  }

  file(path: string, content: Buffer, root = 'host'): string {
    const full = join(this.folder, root, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, content);
    return full;
  }

  key(fullPath: string): string {
    return `fe:00:${statSync(fullPath).ino}`;
  }

  /** @param files paths inside the root that the process maps, its program first */
  start(
    pid: number,
    files: readonly string[],
    options: { root?: string; startTime?: number; environ?: string } = {},
  ): void {
    const root = join(this.folder, options.root ?? 'host');
    const folder = join(this.proc, String(pid));
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(join(folder, 'map_files'), { recursive: true });
    mkdirSync(join(folder, 'ns'));
    symlinkSync(`mnt:[${options.root ?? 'host'}]`, join(folder, 'ns/mnt'));
    symlinkSync(root, join(folder, 'root'));
    const stat = `${pid} (a) b) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 ${options.startTime ?? 100} 0 0\n`;
    writeFileSync(join(folder, 'stat'), stat);
    writeFileSync(join(folder, 'environ'), options.environ ?? '');
    writeFileSync(join(folder, 'maps'), '7ffd1000-7ffd2000 r-xp 00000000 00:00 0                 [vdso]\n');
    for (const file of files) this.map(pid, file, options.root);
  }

  /** Maps one more file. `path (deleted)` maps what is found at `from`. */
  map(pid: number, path: string, root = 'host', from = join(this.folder, root, path)): void {
    const folder = join(this.proc, String(pid));
    const index = this.#nextId++;
    const range = `${(0x400000 + index * 0x1000).toString(16)}-${(0x401000 + index * 0x1000).toString(16)}`;
    const before = readMapsText(folder);
    writeFileSync(join(folder, 'maps'), `${range} r-xp 00000000 fe:00 ${statSync(from).ino}   ${path}\n${before}`);
    symlinkSync(from, join(folder, 'map_files', range));
  }

  end(pid: number): void {
    rmSync(join(this.proc, String(pid)), { recursive: true });
  }

  manager(t: TestContext, limits: Partial<Limits> = {}): ProbeManager {
    const manager = new ProbeManager({
      attach: (path, offset, cookie) => {
        if (this.failure !== undefined) throw new Error(this.failure);
        const id = this.#nextId++;
        this.attachments++;
        this.attached.set(id, { inode: this.key(readlinkSync(path)), offset, cookie });
        return id;
      },
      detach: (id) => this.attached.delete(id),
      identify: (fd) => `fe:00:${fstatSync(fd).ino}`,
      procRoot: this.proc,
      limits: { ...defaultLimits, ...limits },
      notify: (notice) => this.notices.push(notice),
      now: () => this.nowMs,
    });
    t.after(() => manager.stop());
    return manager;
  }

  inodes(): string[] {
    return [...this.attached.values()].map(({ inode }) => inode).sort();
  }
}

function readMapsText(folder: string): string {
  try {
    return readFileSync(join(folder, 'maps'), 'latin1');
  } catch {
    return '';
  }
}

function event(pid: number, reason: ProcessRecord['reason'] = PROCESS_EXEC): ProcessRecord {
  return { timeUs: 0, pid, processStartNs: 0, reason, comm: 'x', filename: '' };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 400, `never: ${what}`);
    await sleep(10);
  }
}

test('maps: code of files, each once, deleted ones marked', (t) => {
  const machine = new Machine(t);
  machine.start(5, []);
  const mapsOf = (text: string) => {
    writeFileSync(join(machine.proc, '5/maps'), text);
    return readMaps(machine.proc, 5);
  };
  const maps = mapsOf(
    [
      '00400000-00401000 r--p 00000000 fe:00 10                                 /bin/a b',
      '00401000-00402000 r-xp 00001000 fe:00 10                                 /bin/a b',
      '00403000-00404000 r-xp 00001000 fe:00 10                                 /bin/a b',
      '7f0000000000-7f0000001000 r-xp 00000000 00:2f 4503599627370497           /usr/lib/x.so (deleted)',
      '7f0000002000-7f0000003000 rwxp 00000000 00:00 0 ',
      '7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                          [vdso]',
      'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]',
      '',
    ].join('\n'),
  );
  assert.deepEqual(maps, [
    { range: '401000-402000', key: 'fe:00:10', path: '/bin/a b', deleted: false },
    { range: '7f0000000000-7f0000001000', key: '00:2f:4503599627370497', path: '/usr/lib/x.so', deleted: true },
  ]);
  assert.deepEqual(mapsOf('garbage\n\n-- r-xp x\n'), []);
});

test('what /proc says of this process', () => {
  const maps = readMaps('/proc', process.pid);
  assert.ok(maps?.some(({ path }) => path === process.execPath));
  assert.match(startTimeOf('/proc', process.pid) ?? '', /^\d+$/);
  assert.equal(readMaps('/proc', 0x7fffffff), undefined);
  assert.equal(startTimeOf('/proc', 0x7fffffff), undefined);
});

test('links are followed inside the root', (t) => {
  const machine = new Machine(t);
  const root = join(machine.folder, 'host');
  machine.file('/opt/real/libcrypto.so.3.1', CRYPTO);
  symlinkSync('/opt/real', join(root, 'lib64'));
  symlinkSync('libcrypto.so.3.1', join(root, 'opt/real/libcrypto.so.3'));
  symlinkSync('loop', join(root, 'loop'));
  symlinkSync('../../../../../opt', join(root, 'usr/up'));
  assert.equal(resolveInRoot(root, '/lib64/libcrypto.so.3'), '/opt/real/libcrypto.so.3.1');
  assert.equal(resolveInRoot(root, '/usr/up/real'), '/opt/real');
  assert.equal(resolveInRoot(root, '/loop'), undefined);
  assert.equal(resolveInRoot(root, '/nothing/here'), undefined);
  machine.file('/etc/ld.so.conf.d/x.conf', Buffer.from('# comment\n/opt/real\n'));
  assert.deepEqual(libraryFolders(root).sort(), ['/opt/real', '/usr/lib', '/usr/lib/x86_64-linux-gnu']);
});

test('of an environment only LD_LIBRARY_PATH is taken', (t) => {
  const machine = new Machine(t);
  const path = (environ: string) => {
    machine.start(5, [], { environ });
    return libraryPathOf(machine.proc, 5);
  };
  assert.deepEqual(path('A=1\0LD_LIBRARY_PATH=/a:/b;c\0B=2\0'), ['/a', '/b']);
  assert.deepEqual(path('XLD_LIBRARY_PATH=/a\0'), []);
  assert.deepEqual(libraryPathOf(machine.proc, 6), []);
});

test('at the start: one attachment per inode, of libraries in use and of those that stand ready', async (t) => {
  const machine = new Machine(t);
  const library = machine.file(LIBRARY, CRYPTO);
  const node = machine.file(
    '/usr/bin/node',
    makeElf({
      local: [
        { name: 'EVP_KDF_derive', code: TEST_JE },
        { name: 'EVP_KDF_fetch' },
        { name: 'OSSL_PARAM_construct_utf8_string' },
      ],
    }),
  );
  machine.file('/usr/bin/plain', PLAIN);
  machine.root('container');
  const other = machine.file(LIBRARY, CRYPTO, 'container');
  machine.file('/bin/sleep', PLAIN, 'container');
  machine.start(10, ['/usr/bin/plain', LIBRARY]);
  machine.start(11, ['/usr/bin/plain', LIBRARY]);
  machine.start(12, ['/usr/bin/node']);
  machine.start(13, ['/bin/sleep'], { root: 'container' });
  const manager = machine.manager(t);
  await manager.start();
  assert.deepEqual(machine.inodes(), [library, node, other].map((path) => machine.key(path)).sort());
  assert.equal(manager.statusOf(10).state, 'probed');
  assert.equal(manager.statusOf(10).library, LIBRARY);
  assert.equal(manager.statusOf(12).library, '/usr/bin/node');
  assert.equal(manager.statusOf(13).state, 'no_tls_library');
  assert.deepEqual(manager.libraryOf(11), { name: 'OpenSSL 3', path: LIBRARY, probed: true, detail: '' });
  assert.equal(manager.libraryOf(13), undefined);
  const mapped = manager.list().find(({ pids }) => pids.length === 2);
  assert.deepEqual(mapped?.pids.sort(), [10, 11]);
  assert.equal(manager.pathOfCookie(mapped.cookie), LIBRARY);
  manager.stop();
  assert.equal(machine.attached.size, 0);
});

test('a replaced library: the new file is probed at the next exec, the old one while it is mapped', async (t) => {
  const machine = new Machine(t);
  const library = machine.file(LIBRARY, CRYPTO);
  machine.file('/usr/bin/curl', PLAIN);
  machine.start(10, ['/usr/bin/curl', LIBRARY]);
  const manager = machine.manager(t);
  await manager.start();
  const oldKey = machine.key(library);
  const kept = join(machine.folder, 'kept');
  renameSync(library, kept);
  writeFileSync(library, CRYPTO);
  machine.start(20, ['/usr/bin/curl']); // the program has just begun: its libraries are not mapped
  machine.nowMs += 1000;
  manager.processEvent(event(20));
  assert.deepEqual(machine.inodes(), [oldKey, machine.key(library)].sort());
  machine.end(10);
  machine.nowMs += 60_000;
  await manager.rescan();
  assert.deepEqual(machine.inodes(), [machine.key(library)]);
  assert.ok(machine.notices.some((notice) => notice.event === 'detached'));
});

test('a library that is loaded later, a renamed copy, and one whose name is gone', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/python3', PLAIN);
  const manager = machine.manager(t);
  await manager.start();
  machine.start(30, ['/usr/bin/python3']);
  manager.processEvent(event(30));
  assert.equal(machine.attached.size, 0);
  const wheel = machine.file('/venv/psycopg.libs/libcrypto-3b1f9c.so.3', CRYPTO);
  machine.map(30, '/venv/psycopg.libs/libcrypto-3b1f9c.so.3');
  manager.processEvent(event(30, PROCESS_FIRST_SOCKET));
  assert.deepEqual(machine.inodes(), [machine.key(wheel)]);

  machine.start(31, ['/usr/bin/python3']);
  const gone = machine.file('/tmp/was/libcrypto.so.3', CRYPTO);
  machine.map(31, '/usr/lib/libcrypto.so.3 (deleted)', 'host', gone);
  manager.processEvent(event(31, PROCESS_FIRST_SOCKET));
  assert.deepEqual(machine.inodes(), [machine.key(wheel), machine.key(gone)].sort());
  assert.equal(manager.statusOf(31).library, '/usr/lib/libcrypto.so.3');
});

test('a new program is looked at again and again for what it loads', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/ruby', PLAIN);
  const late = machine.file('/gems/openssl.so', CRYPTO);
  const manager = machine.manager(t);
  await manager.start();
  machine.start(40, ['/usr/bin/ruby']);
  manager.processEvent(event(40));
  machine.map(40, '/gems/openssl.so');
  machine.nowMs += 20;
  await until(() => machine.attached.size === 1, 'the first look');
  assert.deepEqual(machine.inodes(), [machine.key(late)]);
});

test('folders that a program takes its libraries from', async (t) => {
  const machine = new Machine(t);
  const beside = machine.file('/opt/app/lib/libcrypto.so.3', CRYPTO);
  const chosen = machine.file('/private/libcrypto.so.3', CRYPTO);
  machine.file('/opt/app/bin/app', makeElf({ runPath: '$ORIGIN/../lib' }));
  machine.file('/usr/bin/curl', PLAIN);
  const manager = machine.manager(t);
  await manager.start();
  machine.start(50, ['/opt/app/bin/app']);
  manager.processEvent(event(50));
  assert.deepEqual(machine.inodes(), [machine.key(beside)]);
  machine.start(51, ['/usr/bin/curl'], { environ: 'LD_LIBRARY_PATH=/private\0' });
  manager.processEvent(event(51));
  assert.deepEqual(machine.inodes(), [machine.key(beside), machine.key(chosen)].sort());
});

test('a file whose bytes change in place is looked into again', async (t) => {
  const machine = new Machine(t);
  const library = machine.file(LIBRARY, CRYPTO);
  machine.file('/bin/x', PLAIN);
  machine.start(10, ['/bin/x']);
  const manager = machine.manager(t);
  await manager.start();
  assert.equal(machine.attachments, 1);
  appendFileSync(library, 'more');
  utimesSync(library, 1, 1);
  await manager.rescan();
  assert.equal(machine.attachments, 2);
  assert.equal(machine.attached.size, 1);
  writeFileSync(library, PLAIN);
  await manager.rescan();
  assert.equal(machine.attached.size, 0);
});

test('other TLS libraries and failures are named', async (t) => {
  const machine = new Machine(t);
  machine.file(LIBRARY, CRYPTO);
  machine.file('/usr/lib/libgnutls.so.30', PLAIN);
  machine.file('/usr/bin/wget', PLAIN);
  machine.file('/usr/bin/prog', makeElf({ goNote: true }));
  machine.start(10, ['/usr/bin/wget', '/usr/lib/libgnutls.so.30']);
  machine.start(11, ['/usr/bin/prog']);
  machine.start(12, ['/usr/bin/wget', LIBRARY, '/usr/lib/libgnutls.so.30']);
  machine.failure = 'perf_event_open: not permitted';
  const manager = machine.manager(t);
  await manager.start();
  assert.equal(manager.statusOf(10).state, 'unsupported_library');
  assert.match(manager.statusOf(10).detail, /GnuTLS/);
  assert.match(manager.statusOf(11).detail, /Go/);
  assert.deepEqual(manager.statusOf(12), {
    library: LIBRARY,
    state: 'no_probe',
    detail: 'perf_event_open: not permitted',
  });
  assert.deepEqual(manager.libraryOf(12)?.probed, false);
  assert.equal(machine.notices.filter((notice) => notice.event === 'failed').length, 1, 'said once');
  machine.failure = undefined;
  await manager.rescan();
  assert.equal(manager.statusOf(12).state, 'probed');
});

test('a process id that is used again is another process', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/a', PLAIN);
  const copy = machine.file('/private/libcrypto.so.3', CRYPTO);
  machine.start(10, ['/usr/bin/a'], { startTime: 1 });
  const manager = machine.manager(t);
  await manager.start();
  machine.start(10, ['/usr/bin/a', '/private/libcrypto.so.3'], { startTime: 2 });
  await manager.rescan();
  assert.deepEqual(machine.inodes(), [machine.key(copy)]);
});

test('caps: what passes one is counted', async (t) => {
  const machine = new Machine(t);
  const files = Array.from({ length: 8 }, (_, index) => `/x/libcrypto-${index}.so.3`);
  for (const file of files) machine.file(file, CRYPTO);
  machine.file('/bin/x', PLAIN);
  machine.start(10, ['/bin/x', ...files]);
  const manager = machine.manager(t, { probeAttachments: 3, probeProcesses: 2, probeQueue: 2, probeReadsPerSecond: 3 });
  await manager.start();
  assert.equal(machine.attached.size, 3);
  assert.ok((manager.counts.probe_attachments_limit ?? 0) >= 5);
  for (let pid = 20; pid < 30; pid++) {
    machine.start(pid, ['/bin/x']);
    manager.processEvent(event(pid));
  }
  assert.equal(manager.counts.probe_queue_full, 8);
  assert.ok((manager.counts.probe_processes_limit ?? 0) > 0);
});

test('processes that vanish, or that may not be read, end in nothing', async (t) => {
  const machine = new Machine(t);
  machine.file(LIBRARY, CRYPTO);
  machine.start(10, []);
  for (const name of ['maps', 'stat', 'environ']) rmSync(join(machine.proc, '10', name));
  machine.start(11, [LIBRARY]);
  rmSync(join(machine.proc, '11/map_files'), { recursive: true });
  machine.start(12, [LIBRARY]);
  rmSync(join(machine.proc, '12/root'));
  const manager = machine.manager(t);
  await manager.start();
  assert.equal(machine.attached.size, 1, 'by its name, without map_files');
  manager.processEvent(event(10));
  manager.processEvent(event(99));
  manager.processEvent(event(99, PROCESS_FIRST_SOCKET));
  assert.equal(manager.statusOf(99).state, 'no_tls_library');
  rmSync(machine.proc, { recursive: true });
  await manager.rescan();
  assert.deepEqual(
    manager.list().flatMap(({ pids }) => pids),
    [],
  );
  manager.stop();
  manager.processEvent(event(10));
  assert.equal(machine.attached.size, 0);
});
