/** A provider of a library that does not exist, in the kernel: built, loaded, put on a running program, and heard. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { thisMachine } from '../../src/arch/machine.ts';
import { SECRET, SECRET_TLS12_MASTER } from '../../src/capture/records.ts';
import { Libraries } from '../../src/secrets/libraries.ts';
import { openProbes, probeBackend } from '../../src/secrets/native-probes.ts';
import { ProbeManager } from '../../src/secrets/probes.ts';
import type { ProbePlace, SecretProvider } from '../../src/secrets/provider.ts';
import * as list from '../../src/secrets/providers.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { until } from '../support/programs/net.ts';
import { root } from '../support/programs/paths.ts';

const PARAMETER = 7;

/** The provider that a folder src/secrets/toy/ would hold. */
const toy: SecretProvider = {
  name: 'toy',
  library: 'ToyTLS',
  programs: ['toy_secret', 'toy_early'],
  secrets: [SECRET_TLS12_MASTER],
  isLibraryName: () => false,
  recognise: () => undefined,
  search(elf) {
    const symbols = elf.staticFunctions(this.programs);
    const machine = thisMachine();
    const places: ProbePlace[] = [];
    for (const [program, { address, size }] of symbols) {
      const reads = program === 'toy_early' ? { arguments: 6, stack: true } : { arguments: 3 };
      const site = machine.chooseProbeSite(elf.codeAt(address, machine.prologueBytes), reads, size);
      const fileOffset = elf.codeOffset(address);
      if (site === undefined || fileOffset === undefined) return undefined;
      const parameter = program === 'toy_early' ? PARAMETER : 0;
      places.push({ program, fileOffset: fileOffset + site.offset, emulated: site.emulated, parameter });
    }
    return places.length === 2 ? { verdict: 'probe', library: 'ToyTLS', places } : undefined;
  },
  versionOf: () => undefined,
  traces: [],
};

const sources = join(root, 'test/support/toy-library');

/** Builds the program and the provider's BPF object, as the build would. */
async function buildToy(folder: string): Promise<{ program: string; object: string }> {
  const { bpfFlags } = await import(new URL('../../native/build.mjs', import.meta.url).href);
  const { targetOf } = await import(new URL('../../native/arch/targets.mjs', import.meta.url).href);
  const source = join(sources, 'toy.bpf.c');
  const object = join(folder, 'toy.bpf.o');
  execFileSync('clang', [...(bpfFlags(source, targetOf()) as string[]), '-c', source, '-o', object]);
  const program = join(folder, 'toy');
  execFileSync('gcc', ['-O2', '-o', program, join(sources, 'toy.c')]);
  return { program, object };
}

function secretsOf(records: Buffer) {
  const found = [];
  for (let at = 0; at < records.length; at += SECRET.size) {
    const secret = records.subarray(at + SECRET.secret, at + SECRET.secret + records[at + SECRET.secretLength]!);
    const context = records.subarray(at + SECRET.context, at + SECRET.context + records[at + SECRET.contextLength]!);
    found.push({
      pid: records.readUInt32LE(at + SECRET.tgid),
      kind: records[at + SECRET.kind],
      library: Number(records.readBigUInt64LE(at + SECRET.library)),
      parameter: context[0],
      secret: secret.toString('latin1'),
      random: context.toString('latin1', 32),
    });
  }
  return found;
}

after(assertKernelClean);

for (const allowMulti of [true, false]) {
  test(`a provider's programs tell what a program passes on (${allowMulti ? 'the best links' : 'perf events'})`, async (t) => {
    const cleanup = cleanupAfter(t);
    const { program, object } = await buildToy(await cleanup.temporaryFolder());
    const child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
    cleanup.add(() => child.kill('SIGKILL'));
    let lines = 0;
    child.stdout.on('data', (bytes: Buffer) => {
      lines += bytes.toString('latin1').split('\n').length - 1;
    });
    // Until it is executed the child is a copy of this process.
    await until(() => readFileSync(`/proc/${child.pid}/cmdline`, 'latin1').startsWith(program) || undefined, program);

    const providers = [...Object.values(list), toy];
    const objectPath = (name: string) => (name === 'toy' ? object : join(root, `dist/bpf/${name}.bpf.o`));
    const probes = openProbes({ providers, objectPath, allowMulti });
    cleanup.add(() => probes.close());
    const manager = new ProbeManager({ ...probeBackend(probes), libraries: new Libraries(providers) });
    cleanup.add(() => manager.stop());
    await manager.start();
    assert.equal(manager.statusOf(child.pid!).state, 'probed');

    child.stdin.write('ab\ncd\n');
    await until(() => lines === 2 || undefined, 'the program to use its library twice');
    const ours = secretsOf(probes.drain()).filter(({ pid }) => pid === child.pid);
    const { cookies } = probes.info();
    const expected = [
      ['a', 'b', 0],
      ['b', 'b', PARAMETER],
      ['c', 'd', 0],
      ['d', 'd', PARAMETER],
    ] as const;
    assert.deepEqual(
      ours.map(({ secret, random, parameter }) => [secret, random, parameter]),
      expected.map(([secret, random, parameter]) => [secret.repeat(48), random.repeat(32), cookies ? parameter : 0]),
    );
    for (const { kind, library } of ours) {
      assert.equal(kind, SECRET_TLS12_MASTER);
      if (cookies) assert.equal(manager.pathOfCookie(library), program);
    }
    assert.ok(probes.info().programs.some(({ name }) => name === 'toy_early'));
    assert.ok(Object.values(probes.info().lost).every((n) => n === 0));
  });
}

test('a provider whose programs the kernel refuses costs only its own library', (t) => {
  const cleanup = cleanupAfter(t);
  const objectPath = (name: string) => join(root, `dist/bpf/${name}.bpf.o`);
  const probes = openProbes({ providers: [toy, ...Object.values(list)], objectPath });
  cleanup.add(() => probes.close());
  assert.throws(() => probes.attach('/proc/self/exe', 0, 1, { provider: 'toy', program: 'toy_secret' }), /toy\.bpf\.o/);
  assert.ok(probes.info().programs.some(({ name }) => name === 'wirespan_kdf'));
  assert.throws(() => openProbes({ providers: [toy], objectPath }), /toy\.bpf\.o/);
});
