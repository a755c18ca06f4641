import assert from 'node:assert/strict';
import { test } from 'node:test';
import { machineOf, machines, thisMachine } from '../../../src/arch/machine.ts';
import { ElfFile, type ReadAt } from '../../../src/secrets/elf.ts';
import { makeElf } from '../../support/kernel/elf-samples.ts';

test('each processor has names of its own', () => {
  for (const key of ['name', 'arch', 'elfMachine', 'triplet'] as const) {
    assert.equal(new Set(machines.map((machine) => machine[key])).size, machines.length, key);
  }
  assert.equal(thisMachine(), machineOf(process.arch));
});

test('an unknown processor is a clear error', () => {
  const message = /^TLS libraries are probed on x86-64 only; the code of riscv64 is not known \(src\/arch\/\)$/;
  assert.throws(() => machineOf('riscv64'), { message });
});

test('a file is of the processor that is asked for', () => {
  const file = makeElf({});
  const read: ReadAt = (buffer, position) => (position >= file.length ? 0 : file.copy(buffer, 0, position));
  assert.ok(ElfFile.open(read));
  assert.equal(ElfFile.open(read, 183), undefined);
  file.writeUInt16LE(183, 18); // EM_AARCH64
  assert.equal(ElfFile.open(read), undefined);
  assert.ok(ElfFile.open(read, 183));
});
