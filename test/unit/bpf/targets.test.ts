/** What of the BPF programs and of their build depends on the processor. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { functionsOf } from '../../support/kernel/bpf-object.ts';
import { root } from '../../support/programs/paths.ts';

interface Target {
  readonly name: string;
  readonly headers: string;
}

// Plain JavaScript, which has no declarations.
const { TARGETS, targetOf } = (await import(new URL('../../../native/arch/targets.mjs', import.meta.url).href)) as {
  TARGETS: Readonly<Record<string, Target>>;
  targetOf: (arch: string) => Target;
};
const { bpfFlags, bpfSources } = (await import(new URL('../../../native/build.mjs', import.meta.url).href)) as {
  bpfFlags: (source: string, target: Target, headers: string) => string[];
  bpfSources: () => string[];
};

/** The C library's headers of another processor are seldom there; those that the programs include differ in nothing they use. */
const headers = TARGETS.x64!.headers;

function compile(source: string, flags: string[], output: string) {
  const { status, stderr } = spawnSync('clang', [...flags, '-c', source, '-o', output], { encoding: 'utf8' });
  return { ok: status === 0, stderr };
}

test('every program compiles for every known processor', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'wirespan-targets-'));
  t.after(() => rmSync(folder, { recursive: true }));
  assert.ok(bpfSources().length >= 3);
  for (const target of Object.values(TARGETS)) {
    for (const source of bpfSources()) {
      const output = join(folder, `${basename(source)}.o`);
      const { ok, stderr } = compile(source, bpfFlags(source, target, headers), output);
      assert.ok(ok, `${basename(source)} for ${target.name}:\n${stderr}`);
      assert.ok(functionsOf(readFileSync(output)).length > 0);
    }
  }
});

test('a processor whose registers are not known is refused', () => {
  const source = join(root, 'bpf/arch/registers.h');
  const flags = ['-x', 'c', '-target', 'bpf', '-idirafter', headers, '-D__TARGET_ARCH_riscv', '-fsyntax-only'];
  const { status, stderr } = spawnSync('clang', [...flags, source], { encoding: 'utf8' });
  assert.notEqual(status, 0);
  assert.match(stderr, /no registers are known for this processor: add a file to bpf\/arch\//);
});

test('set-up says on which processors Wirespan runs', () => {
  assert.equal(targetOf('x64').name, 'x86-64');
  assert.throws(() => targetOf('arm64'), /Wirespan runs on x86-64 only; this Node is for arm64/);
  assert.throws(() => targetOf('riscv64'), /Wirespan runs on x86-64 only; this Node is for riscv64/);
});

test('editors find how every source is compiled', () => {
  const entries = JSON.parse(readFileSync(join(root, 'compile_commands.json'), 'utf8')) as { file: string }[];
  const listed = entries.map(({ file }) => file);
  for (const source of bpfSources()) assert.ok(listed.includes(source), source);
  assert.ok(listed.includes(join(root, 'native/addon.cc')));
});
