/** A provider of a library that does not exist, through the whole chain: what a new one has to bring, and that nothing else names it. */
import assert from 'node:assert/strict';
import { fstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { thisMachine } from '../../../src/arch/machine.ts';
import { SECRET_TLS12_MASTER, type SecretRecord } from '../../../src/capture/records.ts';
import { defaultLimits } from '../../../src/config/limits.ts';
import { Libraries } from '../../../src/secrets/libraries.ts';
import type { ProbeNotice, ProgramName } from '../../../src/secrets/probed-files.ts';
import { ProbeManager } from '../../../src/secrets/probes.ts';
import type { Finding, SecretProvider } from '../../../src/secrets/provider.ts';
import * as list from '../../../src/secrets/providers.ts';
import { randomName, SecretStore } from '../../../src/secrets/store.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { makeElf } from '../../support/kernel/elf-samples.ts';
import { root } from '../../support/programs/paths.ts';

const providers: readonly SecretProvider[] = Object.values(list);
const PUSH = [0x55, 0x48, 0x89, 0xe5, 0xc3];
/** What code search looks for in a stripped file: two functions in one, the second without a symbol. */
const HIDDEN = [0x0f, 0x0b, 0x54, 0x4f, 0x59, 0x21];

/** Reads TLS 1.2 from an exported function, and with another program from a place that only its bytes show. */
const toy: SecretProvider = {
  name: 'toy',
  library: 'ToyTLS',
  programs: ['toy_master', 'toy_hidden'],
  secrets: [SECRET_TLS12_MASTER],
  isLibraryName: (name) => /^libtoy\.so/.test(name),
  recognise(elf) {
    const symbol = elf.dynamicFunction('toy_prf');
    if (symbol === undefined) return undefined;
    const code = elf.codeAt(symbol.address, thisMachine().prologueBytes);
    const site = thisMachine().chooseProbeSite(code, { arguments: 6, stack: true }, symbol.size);
    const fileOffset = elf.codeOffset(symbol.address);
    if (site === undefined || fileOffset === undefined) return undefined;
    const places = [
      { program: 'toy_master', fileOffset: fileOffset + site.offset, emulated: site.emulated },
      { program: 'toy_hidden', fileOffset: fileOffset + 1, emulated: false, parameter: 7 },
    ];
    return { verdict: 'probe', library: 'ToyTLS 1', places };
  },
  search(elf): Finding | undefined {
    const found = elf.staticFunctions(['main']).get('main');
    const code = found === undefined ? Buffer.alloc(0) : elf.codeAt(found.address, 64);
    const at = code.indexOf(Buffer.from(HIDDEN));
    const fileOffset = found === undefined || at < 0 ? undefined : elf.codeOffset(found.address + at + HIDDEN.length);
    if (fileOffset === undefined) return undefined;
    return {
      verdict: 'probe',
      library: 'ToyTLS static',
      places: [{ program: 'toy_hidden', fileOffset, emulated: true }],
    };
  },
  versionOf: (elf) => elf.findInData('ToyTLS ', /^ToyTLS (\d+\.\d+)/, 1 << 20)?.[1],
  traces: [{ marker: 'toytls!', pattern: /^toytls!/, library: 'ToyTLS without symbols' }],
};

const SHARED = makeElf({ dynamic: [{ name: 'toy_prf', code: PUSH }], data: 'ToyTLS 1.4\0' });
const STATIC = makeElf({ local: [{ name: 'main', code: [...HIDDEN, ...PUSH] }] });
/** OpenSSL's and the toy's function in one file, as of a program that carries two libraries. */
const BOTH = makeElf({
  dynamic: [
    { name: 'toy_prf', code: PUSH },
    { name: 'EVP_KDF_derive', version: 'OPENSSL_3.0.0', code: [0x48, 0x85, 0xff, 0x74, 0x13, 0xc3] },
  ],
});

interface Attached {
  path: string;
  offset: number;
  cookie: number;
  program: ProgramName;
}

/** A machine with one file system, whose processes map what the test says. */
class Machine {
  readonly attached = new Map<number, Attached>();
  readonly notices: ProbeNotice[] = [];
  /** Programs that the kernel does not put anywhere. */
  readonly refused = new Set<string>();
  readonly #folder: string;
  #nextId = 1;

  constructor(t: TestContext) {
    this.#folder = mkdtempSync(join(tmpdir(), 'wirespan-provider-'));
    t.after(() => rmSync(this.#folder, { recursive: true, force: true }));
    mkdirSync(join(this.#folder, 'proc'));
    mkdirSync(join(this.#folder, 'root/usr/lib'), { recursive: true });
  }

  file(path: string, content: Buffer): void {
    mkdirSync(dirname(join(this.#folder, 'root', path)), { recursive: true });
    writeFileSync(join(this.#folder, 'root', path), content);
  }

  start(pid: number, path: string): void {
    const folder = join(this.#folder, 'proc', String(pid));
    const file = join(this.#folder, 'root', path);
    mkdirSync(join(folder, 'map_files'), { recursive: true });
    mkdirSync(join(folder, 'ns'));
    symlinkSync('mnt:[1]', join(folder, 'ns/mnt'));
    symlinkSync(join(this.#folder, 'root'), join(folder, 'root'));
    writeFileSync(join(folder, 'stat'), `${pid} (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0\n`);
    writeFileSync(join(folder, 'environ'), '');
    writeFileSync(join(folder, 'maps'), `400000-401000 r-xp 00000000 fe:00 ${statSync(file).ino}   ${path}\n`);
    symlinkSync(file, join(folder, 'map_files/400000-401000'));
  }

  manager(t: TestContext, known: readonly SecretProvider[]): ProbeManager {
    const manager = new ProbeManager({
      attach: (path, offset, cookie, program) => {
        if (this.refused.has(program.program)) throw new Error(`no room for ${program.program}`);
        const id = this.#nextId++;
        this.attached.set(id, { path, offset, cookie, program });
        return id;
      },
      detach: (id) => this.attached.delete(id),
      identify: (fd) => `fe:00:${fstatSync(fd).ino}`,
      procRoot: join(this.#folder, 'proc'),
      limits: defaultLimits,
      notify: (notice) => this.notices.push(notice),
      libraries: new Libraries(known),
    });
    t.after(() => manager.stop());
    return manager;
  }

  programs(): string[] {
    return [...this.attached.values()].map(({ program }) => `${program.provider}/${program.program}`).sort();
  }
}

test('a library that only a new provider knows is probed with its programs, as one file', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/shop', SHARED);
  machine.start(7, '/usr/bin/shop');
  const without = machine.manager(t, providers);
  await without.start();
  assert.equal(without.statusOf(7).state, 'no_tls_library');
  assert.equal(machine.attached.size, 0);

  const manager = machine.manager(t, [...providers, toy]);
  await manager.start();
  assert.deepEqual(machine.programs(), ['toy/toy_hidden', 'toy/toy_master']);
  assert.equal(manager.attached, 1);
  assert.deepEqual(manager.statusOf(7), {
    library: '/usr/bin/shop',
    version: '1.4',
    state: 'probed',
    detail: 'ToyTLS 1',
  });
  assert.deepEqual(machine.notices, [
    { event: 'attached', path: '/usr/bin/shop', library: 'ToyTLS 1', emulated: false },
  ]);
  const [status] = manager.list();
  assert.equal(status?.emulated, false, 'one of its places is not');
  manager.stop();
  assert.equal(machine.attached.size, 0);
});

test('each place has the number of its file and a parameter of its own, and a secret leads back to the file', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/shop', SHARED);
  machine.start(7, '/usr/bin/shop');
  const manager = machine.manager(t, [toy]);
  await manager.start();
  const byProgram = new Map([...machine.attached.values()].map((each) => [each.program.program, each]));
  const file = manager.list()[0]!.cookie;
  assert.equal(byProgram.get('toy_master')?.cookie, file);
  assert.equal(byProgram.get('toy_hidden')?.cookie, 7 * 2 ** 32 + file);
  assert.equal(byProgram.get('toy_hidden')!.offset, byProgram.get('toy_master')!.offset + 1);

  // What its program would emit: the store takes it, and a connection finds it by its random.
  const random = Buffer.alloc(32, 9);
  const record: SecretRecord = {
    timeUs: 1,
    pid: 7,
    kind: toy.secrets[0]!,
    library: byProgram.get('toy_hidden')!.cookie,
    secret: Buffer.alloc(48, 5),
    context: Buffer.concat([Buffer.alloc(32, 1), random]),
  };
  assert.equal(manager.pathOfCookie(record.library), '/usr/bin/shop');
  const store = new SecretStore(defaultLimits, newCounters());
  store.addKernelSecret(record);
  assert.deepEqual(store.get(randomName(random), 'CLIENT_RANDOM'), Buffer.alloc(48, 5));
});

test('its library is probed in a library folder before any process maps it', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/true', makeElf({}));
  machine.file('/usr/lib/libtoy.so.1', SHARED);
  machine.file('/usr/lib/libother.so.1', SHARED);
  machine.start(8, '/usr/bin/true');
  await machine.manager(t, [...providers, toy]).start();
  assert.deepEqual(
    machine.notices.map(({ path }) => path),
    ['/usr/lib/libtoy.so.1'],
  );
});

test('a place without a symbol is found by a search of code, which no known file pays for', async (t) => {
  const machine = new Machine(t);
  const searched: string[] = [];
  const counting: SecretProvider = {
    ...toy,
    search: (elf, path) => {
      searched.push(path);
      return toy.search?.(elf, path);
    },
  };
  for (const [pid, path, content] of [
    [1, '/usr/bin/static', STATIC],
    [2, '/usr/bin/shared', SHARED],
    [3, '/usr/lib/libgnutls.so.30', makeElf({})],
  ] as const) {
    machine.file(path, content);
    machine.start(pid, path);
  }
  const manager = machine.manager(t, [...providers, counting]);
  await manager.start();
  assert.deepEqual(searched, ['/usr/bin/static']);
  assert.equal(manager.statusOf(1).detail, 'ToyTLS static');
  assert.equal(manager.statusOf(3).state, 'unsupported_library');
});

test('a file with two libraries is probed for both', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/both', BOTH);
  machine.start(7, '/usr/bin/both');
  const manager = machine.manager(t, [...providers, toy]);
  await manager.start();
  assert.deepEqual(machine.programs(), ['openssl/wirespan_kdf', 'toy/toy_hidden', 'toy/toy_master']);
  assert.equal(manager.statusOf(7).detail, 'OpenSSL 3, ToyTLS 1');
  assert.equal(manager.libraryOf(7)?.name, 'OpenSSL 3, ToyTLS 1');
});

test('all places of a file are probed, or none', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/lib/libtoy.so.1', SHARED);
  machine.start(7, '/usr/lib/libtoy.so.1');
  machine.refused.add('toy_hidden');
  const manager = machine.manager(t, [toy]);
  await manager.start();
  assert.equal(machine.attached.size, 0);
  assert.equal(manager.attached, 0);
  assert.deepEqual(manager.libraryOf(7), {
    name: 'ToyTLS 1',
    path: '/usr/lib/libtoy.so.1',
    probed: false,
    detail: 'no room for toy_hidden',
  });
  assert.ok(manager.counts.probe_attach_failed! > 0);
  machine.refused.clear();
  await manager.rescan();
  assert.equal(machine.attached.size, 2, 'tried again');
});

test('a parameter that a cookie cannot carry is refused', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/shop', SHARED);
  machine.start(7, '/usr/bin/shop');
  const broken: SecretProvider = {
    ...toy,
    recognise: () => ({
      verdict: 'probe',
      library: 'ToyTLS 1',
      places: [{ program: 'toy_master', fileOffset: 64, emulated: true, parameter: 0x10000 }],
    }),
  };
  const manager = machine.manager(t, [broken]);
  await manager.start();
  assert.match(manager.libraryOf(7)!.detail, /parameter of a place must be from 0 to 65535, not 65536/);
});

test('a library without anything to probe is named by the traces of its provider', async (t) => {
  const machine = new Machine(t);
  machine.file('/usr/bin/stripped', makeElf({ data: 'toytls! built today\0' }));
  machine.start(7, '/usr/bin/stripped');
  const manager = machine.manager(t, [...providers, toy]);
  await manager.start();
  assert.equal(manager.statusOf(7, true).state, 'unsupported_library');
  assert.match(manager.statusOf(7, true).detail, /ToyTLS without symbols/);
});

for (const provider of providers) {
  test(`the provider ${provider.name} is whole`, () => {
    const folder = join(root, 'src/secrets', provider.name);
    const source = readFileSync(join(folder, `${provider.name}.bpf.c`), 'utf8');
    for (const program of provider.programs)
      assert.match(source, new RegExp(`^SEC\\("uprobe"\\)\\nint ${program}\\(`, 'm'));
    assert.ok(provider.programs.length > 0 && provider.secrets.length > 0 && provider.library !== '');
    assert.ok(statSync(join(root, `dist/bpf/${provider.name}.bpf.o`)).size > 0);
    assert.match(readFileSync(join(root, 'docs/concepts/tls.md'), 'utf8'), new RegExp(`\\b${provider.library}\\b`));
  });
}

test('names of providers and of their programs are used once', () => {
  for (const names of [providers.map(({ name }) => name), providers.flatMap(({ programs }) => programs)]) {
    assert.equal(new Set(names).size, names.length);
  }
});
