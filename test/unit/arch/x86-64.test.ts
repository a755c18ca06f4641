import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { chooseProbeSite, PROLOGUE_BYTES } from '../../../src/arch/x86-64.ts';
import { ElfFile, readerOf } from '../../../src/secrets/elf.ts';

/** As a program asks that reads four arguments. */
const choose = (code: Uint8Array, size?: number) => chooseProbeSite(code, { arguments: 4 }, size);

function bytes(hex: string): Buffer {
  return Buffer.from(hex.replace(/ /g, ''), 'hex');
}

/** Function beginnings, as disassemblers show them. */
const SITES: [string, string, number, boolean][] = [
  ['OpenSSL 3 by gcc -O2', '4885ff 7413 488b07', 3, true],
  ['Node 18: a copy of the argument first', '4889f8 4885ff 7410', 6, true],
  ['Node 26: a frame pointer', '55 4889e5 4885ff 7410', 0, true],
  ['with -fcf-protection', 'f30f1efa 4885ff 7413', 7, true],
  ['OpenSSL 1.1.1: room on the stack first', '4883ec08 85f6 7420', 6, true],
  ['push r15', '4157 4156 4155', 0, true],
  ['endbr64, push rbp', 'f30f1efa 55 4889e5', 4, true],
  ['Go: stack check with jbe', '4c8d6424f8 4d3b6610 7657', 9, true],
  ['a near jump', '4885ff 0f84a0000000', 3, true],
  ['a compare with memory', '48833f00 7505', 4, true],
  ['a compare with an immediate', '4881fa00010000 7705', 7, true],
  ['a load of another register', '488b07 488b4010 50', 7, true],
  ['rip-relative load', '488b05112233 44 53', 7, true],
  ['nop with operand', '0f1f440000 55', 5, true],
  ['two-byte nop', '6690 55', 2, true],
  ['xor of a scratch register', '31c0 4885ff 7413', 5, true],
  ['movzx', '0fb64710 84c0 7413', 6, true],
  ['movabs', '48b81122334455667788 55', 10, true],
  ['test of an immediate', 'f6471001 7405', 4, true],
  ['vector code', '660fefc0 0f114424f0 55', 9, true],
  ['an argument is overwritten first', '488b3f 4885ff 7413', 0, false],
  ['lea into rsi', '488d7708 55', 0, false],
  ['xor of rdx', '31d2 55', 0, false],
  ['mov of an immediate into ecx', 'b901000000 55', 0, false],
  ['mov into ch', 'b501 55', 0, false],
  ['mov into dil, with REX', '40b701 55', 0, false],
  ['mov into bh leaves rdi alone', 'b701 55', 2, true],
  ['xchg with an argument', '4887f8 55', 0, false],
  ['cmov into rdx', '480f44d0 55', 0, false],
  ['setcc on cl', '0f94c1 55', 0, false],
  ['pop of rdi', '5f 55', 0, false],
  ['shift of rcx', '48c1e104 55', 0, false],
  ['a call', 'e800000000 55', 0, false],
  ['a jump', 'eb02 55', 0, false],
  ['a return', 'c3 55', 0, false],
  ['a system call', '0f05 55', 0, false],
  ['mul writes rdx', '48f7e0 55', 0, false],
  ['a VEX instruction is not known', 'c5f877 55', 0, false],
  ['a lock prefix is not known', 'f0480fc107 55', 0, false],
  ['jcc with an operand-size prefix is not emulated', '667410 55', 0, false],
  ['push with REX.W is not emulated', '4850 55', 2, true],
];

for (const [name, hex, offset, emulated] of SITES) {
  test(`probe site: ${name}`, () => {
    assert.deepEqual(choose(bytes(hex)), { offset, emulated });
    // What follows the function does not matter.
    assert.deepEqual(choose(Buffer.concat([bytes(hex), Buffer.alloc(100, 0x90)])), { offset, emulated });
  });
}

test('a function that is cut anywhere is probed where its known part allows, never in an instruction', () => {
  for (const [name, hex, offset] of SITES) {
    const code = bytes(hex);
    for (let length = 0; length < code.length; length++) {
      const site = choose(code.subarray(0, length));
      if (length === 0) assert.equal(site, undefined);
      else assert.ok(site?.offset === 0 || site?.offset === offset, `${name} at ${length}`);
    }
  }
});

test('the site lies inside the function', () => {
  const code = bytes('4885ff c3 55');
  assert.deepEqual(choose(code, 4), { offset: 0, emulated: false });
  assert.deepEqual(choose(bytes('4885ff 7413'), 4), { offset: 0, emulated: false });
  assert.deepEqual(choose(bytes('4885ff 7413'), 5), { offset: 3, emulated: true });
});

test('a breakpoint of someone else is left alone', () => {
  assert.equal(choose(bytes('cc 55')), undefined);
});

test('the search has an end', () => {
  assert.deepEqual(choose(Buffer.alloc(4096, 0x90)), { offset: 0, emulated: false });
});

test('any bytes give a site within them', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (code, size) => {
      const site = choose(code, size);
      if (site === undefined) return;
      assert.ok(site.offset < Math.min(code.length, PROLOGUE_BYTES));
      if (!site.emulated) assert.equal(site.offset, 0);
    }),
    { numRuns: 2000 },
  );
});

/** Opcode bytes at a site that the kernel emulates. */
function isEmulated(code: Buffer): boolean {
  const [first, second] = code;
  if (first === 0x0f) return second! >= 0x80 && second! <= 0x8f;
  if (first === 0x41) return second! >= 0x50 && second! <= 0x57;
  return (first! >= 0x50 && first! <= 0x57) || (first! >= 0x70 && first! <= 0x7f);
}

for (const path of [process.execPath, '/usr/bin/node', '/usr/lib/x86_64-linux-gnu/libcrypto.so.3']) {
  // The first is always there; the others when the machine has them.
  if (path !== process.execPath && !existsSync(path)) continue;
  test(`EVP_KDF_derive of ${path} has a cheap site`, () => {
    const fd = openSync(path, 'r');
    try {
      const elf = ElfFile.open(readerOf(fd));
      const symbol = elf?.dynamicFunction('EVP_KDF_derive');
      assert.ok(elf && symbol);
      const code = elf.codeAt(symbol.address, PROLOGUE_BYTES);
      const site = choose(code, symbol.size);
      assert.equal(site?.emulated, true);
      assert.ok(isEmulated(code.subarray(site.offset)));
    } finally {
      closeSync(fd);
    }
  });
}

test('what a program reads decides where its probe may be', () => {
  const writesR8 = bytes('4d31c0 55'); // xor r8, r8; push rbp
  assert.deepEqual(chooseProbeSite(writesR8, { arguments: 4 }), { offset: 3, emulated: true });
  assert.deepEqual(chooseProbeSite(writesR8, { arguments: 5 }), { offset: 0, emulated: false });
  const movesStack = bytes('4883ec08 4885ff 7413'); // sub rsp, 8; test rdi, rdi; je
  assert.deepEqual(chooseProbeSite(movesStack, { arguments: 1 }), { offset: 7, emulated: true });
  assert.deepEqual(chooseProbeSite(movesStack, { arguments: 1, stack: true }), { offset: 0, emulated: false });
  const writesRdi = bytes('4831ff 55'); // xor rdi, rdi; push rbp
  assert.deepEqual(chooseProbeSite(writesRdi, { arguments: 0 }), { offset: 3, emulated: true });
  assert.deepEqual(chooseProbeSite(writesRdi, { arguments: 1 }), { offset: 0, emulated: false });
});
