import type { Machine, ProbeReads, ProbeSite } from './types.ts';

/**
 * Where in a function a probe costs least. The kernel emulates a few instructions under a uprobe (arch/x86/kernel/uprobes.c: `push` of a
 * register, conditional jumps; also jmp, call and nop, which no function here begins with) and single-steps all others, which costs
 * about 35 times as much in a virtual machine. So the first such instruction is taken that is reached in a straight line while the
 * arguments still stand in their registers; else the entry.
 *
 * A probe in the middle of an instruction would crash the program: what the decoder does not know ends the search.
 */

/** What one instruction is to the search. */
interface Instruction {
  length: number;
  emulated: boolean;
  /** Registers written, a bit per number: 0 rax, 1 rcx, 2 rdx, 3 rbx, 4 rsp, 5 rbp, 6 rsi, 7 rdi, 8 to 15 r8 to r15. */
  writes: number;
  /** Control may go elsewhere or does not come back. */
  ends: boolean;
}

const RAX = 1 << 0;
const RCX = 1 << 1;
const RDX = 1 << 2;
const RSP = 1 << 4;
const RSI = 1 << 6;
const RDI = 1 << 7;

const R8 = 1 << 8;
const R9 = 1 << 9;

/** The integer arguments (System V x86-64 ABI, 3.2.3). */
const ARGUMENTS = [RDI, RSI, RDX, RCX, R8, R9] as const;

/** Longest function start that is looked through. */
export const PROLOGUE_BYTES = 64;

const MAX_INSTRUCTION_BYTES = 15;

/** Lengths of immediates by operand. */
const NO_IMMEDIATE = 0;

/** How an instruction with a ModRM byte uses its operands. */
type Use = 'none' | 'register' | 'memory' | 'both';

interface Prefixes {
  rex: number;
  operand16: boolean;
  /** 0xf3 or 0xf2, 0 for none. */
  repeat: number;
  length: number;
}

/** @returns undefined for what is not plain code of a compiler, such as lock or address-size prefixes */
function prefixesAt(code: Uint8Array, start: number): Prefixes | undefined {
  const prefixes: Prefixes = { rex: 0, operand16: false, repeat: 0, length: 0 };
  for (let at = start; at < code.length && at - start < 5; at++) {
    const byte = code[at]!;
    if (byte === 0x66) prefixes.operand16 = true;
    else if (byte === 0xf2 || byte === 0xf3) prefixes.repeat = byte;
    else if (byte === 0x64 || byte === 0x65 || byte === 0x2e || byte === 0x3e)
      continue; // segment, in front of nops and TLS accesses
    else {
      const isRex = byte >= 0x40 && byte <= 0x4f;
      if (isRex) prefixes.rex = byte;
      prefixes.length = at - start + (isRex ? 1 : 0);
      return prefixes;
    }
  }
  return undefined;
}

/** Length of ModRM, SIB and displacement (Intel SDM, 2.1.3 and 2.1.5); 0 when the code ends before it. */
function modrmLength(code: Uint8Array, at: number): number {
  if (at >= code.length) return 0;
  const modrm = code[at]!;
  const mod = modrm >> 6;
  const rm = modrm & 7;
  if (mod === 3) return 1;
  let length = 1;
  let base = rm;
  if (rm === 4) {
    if (at + 1 >= code.length) return 0;
    base = code[at + 1]! & 7;
    length++;
  }
  if (mod === 1) length += 1;
  else if (mod === 2 || (mod === 0 && base === 5)) length += 4;
  return length;
}

/** A register by its number; of an 8-bit operand without REX, 4 to 7 are ah, ch, dh, bh. */
function registerBit(number: number, extension: number, byteOperand: boolean, rex: number): number {
  const low = byteOperand && rex === 0 && number >= 4 ? number - 4 : number;
  return 1 << (low + (extension !== 0 ? 8 : 0));
}

/** What an instruction with ModRM at `at` is. @param use which operand it writes */
function withModrm(
  code: Uint8Array,
  start: number,
  at: number,
  prefixes: Prefixes,
  use: Use,
  immediate: number,
  byteOperand: boolean,
): Instruction | undefined {
  const length = modrmLength(code, at);
  if (length === 0) return undefined;
  const modrm = code[at]!;
  let writes = 0;
  if (use === 'register' || use === 'both') {
    writes |= registerBit((modrm >> 3) & 7, prefixes.rex & 4, byteOperand, prefixes.rex);
  }
  if ((use === 'memory' || use === 'both') && modrm >> 6 === 3) {
    writes |= registerBit(modrm & 7, prefixes.rex & 1, byteOperand, prefixes.rex);
  }
  return { length: at - start + length + immediate, emulated: false, writes, ends: false };
}

function plain(length: number, writes = 0): Instruction {
  return { length, emulated: false, writes, ends: false };
}

/** The two-byte opcodes, 0f xx. */
function decodeExtended(code: Uint8Array, start: number, at: number, prefixes: Prefixes): Instruction | undefined {
  const opcode = code[at];
  if (opcode === undefined) return undefined;
  const modrm = (use: Use, immediate = NO_IMMEDIATE, byteOperand = false) =>
    withModrm(code, start, at + 1, prefixes, use, immediate, byteOperand);
  if (opcode === 0x1e && prefixes.repeat === 0xf3 && code[at + 1] === 0xfa) return plain(at + 2 - start); // endbr64
  if (opcode === 0x1f) return modrm('none'); // nop r/m
  if (opcode >= 0x80 && opcode <= 0x8f) {
    // jcc rel32; with an operand-size prefix the kernel refuses it
    return { length: at + 5 - start, emulated: !prefixes.operand16, writes: 0, ends: true };
  }
  if (opcode >= 0x40 && opcode <= 0x4f) return modrm('register'); // cmovcc
  if (opcode >= 0x90 && opcode <= 0x9f) return modrm('memory', NO_IMMEDIATE, true); // setcc
  if (opcode === 0xb6 || opcode === 0xb7 || opcode === 0xbe || opcode === 0xbf || opcode === 0xaf)
    return modrm('register'); // movzx, movsx, imul
  // movups, movaps, xorps, pxor, movdqa, movdqu and their stores: vector registers only
  if ([0x10, 0x11, 0x28, 0x29, 0x57, 0x6f, 0x7f, 0xef].includes(opcode)) return modrm('none');
  return undefined;
}

/** Group opcodes whose ModRM's middle bits choose the operation. */
function decodeGroup(code: Uint8Array, start: number, at: number, prefixes: Prefixes): Instruction | undefined {
  const opcode = code[at]!;
  const operation = ((code[at + 1] ?? 0) >> 3) & 7;
  const wide = prefixes.operand16 ? 2 : 4;
  const byteOperand = (opcode & 1) === 0;
  const modrm = (use: Use, immediate: number) => withModrm(code, start, at + 1, prefixes, use, immediate, byteOperand);
  switch (opcode) {
    case 0x80: // add, or, ..., cmp r/m, imm; cmp (7) writes nothing
    case 0x83:
      return withModrm(code, start, at + 1, prefixes, operation === 7 ? 'none' : 'memory', 1, opcode === 0x80);
    case 0x81:
      return modrm(operation === 7 ? 'none' : 'memory', wide);
    case 0xc0: // shifts
    case 0xc1:
      return modrm('memory', 1);
    case 0xd0:
    case 0xd1:
      return modrm('memory', 0);
    case 0xc6: // mov r/m, imm
      return operation === 0 ? modrm('memory', 1) : undefined;
    case 0xc7:
      return operation === 0 ? modrm('memory', wide) : undefined;
    case 0xf6: // test, not, neg; mul and div write rax and rdx
    case 0xf7:
      if (operation < 2) return modrm('none', opcode === 0xf6 ? 1 : wide);
      return operation < 4 ? modrm('memory', 0) : undefined;
    case 0xfe:
      return operation < 2 ? modrm('memory', 0) : undefined;
    case 0xff: // inc, dec; push r/m; calls and jumps are not followed
      if (operation < 2) return modrm('memory', 0);
      if (operation !== 6) return undefined;
      return withModrm(code, start, at + 1, prefixes, 'none', 0, false);
    default:
      return undefined;
  }
}

/** The arithmetic block 00 to 3f: eight operations in six forms each. */
function decodeArithmetic(code: Uint8Array, start: number, at: number, prefixes: Prefixes): Instruction | undefined {
  const opcode = code[at]!;
  const compares = opcode >> 3 === 7;
  switch (opcode & 7) {
    case 0:
    case 1:
      return withModrm(code, start, at + 1, prefixes, compares ? 'none' : 'memory', 0, (opcode & 1) === 0);
    case 2:
    case 3:
      return withModrm(code, start, at + 1, prefixes, compares ? 'none' : 'register', 0, (opcode & 1) === 0);
    case 4:
      return plain(at + 2 - start, compares ? 0 : RAX);
    case 5:
      return plain(at + 1 + (prefixes.operand16 ? 2 : 4) - start, compares ? 0 : RAX);
    default:
      return undefined;
  }
}

/** One instruction of compiled 64-bit code. @returns undefined when it is not known, or not whole */
function decode(code: Uint8Array, start: number): Instruction | undefined {
  const prefixes = prefixesAt(code, start);
  if (prefixes === undefined) return undefined;
  const at = start + prefixes.length;
  const opcode = code[at];
  if (opcode === undefined) return undefined;
  const { rex } = prefixes;
  const wide = prefixes.operand16 ? 2 : 4;
  const modrm = (use: Use, immediate = NO_IMMEDIATE, byteOperand = false) =>
    withModrm(code, start, at + 1, prefixes, use, immediate, byteOperand);

  if (opcode === 0x0f) return decodeExtended(code, start, at + 1, prefixes);
  if (opcode < 0x40) return decodeArithmetic(code, start, at, prefixes);
  if (opcode >= 0x50 && opcode <= 0x57) {
    // The kernel emulates `push reg` without prefix or with 41 (REX.B) alone.
    const emulated = prefixes.length === 0 || (prefixes.length === 1 && rex === 0x41);
    return { length: at + 1 - start, emulated, writes: RSP, ends: false };
  }
  if (opcode >= 0x58 && opcode <= 0x5f)
    return plain(at + 1 - start, RSP | registerBit(opcode & 7, rex & 1, false, rex)); // pop
  if (opcode >= 0x70 && opcode <= 0x7f)
    return { length: at + 2 - start, emulated: !prefixes.operand16, writes: 0, ends: true }; // jcc rel8
  if (opcode >= 0xb0 && opcode <= 0xb7) return plain(at + 2 - start, registerBit(opcode & 7, rex & 1, true, rex));
  if (opcode >= 0xb8 && opcode <= 0xbf) {
    return plain(at + 1 - start + ((rex & 8) !== 0 ? 8 : wide), registerBit(opcode & 7, rex & 1, false, rex));
  }
  switch (opcode) {
    case 0x63: // movsxd
    case 0x8b:
    case 0x8d: // lea
      return modrm('register');
    case 0x8a:
      return modrm('register', NO_IMMEDIATE, true);
    case 0x69: // imul r, r/m, imm
      return modrm('register', wide);
    case 0x6b:
      return modrm('register', 1);
    case 0x68: // push imm32
      return plain(at + 1 + wide - start, RSP);
    case 0x6a: // push imm8
      return plain(at + 2 - start, RSP);
    case 0x84: // test
    case 0x85:
      return modrm('none');
    case 0x86: // xchg
    case 0x87:
      return modrm('both', NO_IMMEDIATE, opcode === 0x86);
    case 0x88:
      return modrm('memory', NO_IMMEDIATE, true);
    case 0x89:
      return modrm('memory');
    case 0x90:
      return (rex & 1) === 0 ? plain(at + 1 - start) : undefined; // with REX.B it is xchg r8, rax
    case 0xa8:
      return plain(at + 2 - start);
    case 0xa9:
      return plain(at + 1 + wide - start);
    default:
      return decodeGroup(code, start, at, prefixes);
  }
}

/** Of what a program reads, the registers. */
function registersOf({ arguments: count, stack = false }: ProbeReads): number {
  return ARGUMENTS.slice(0, count).reduce((all, register) => all | register, stack ? RSP : 0);
}

/** See Machine. PROLOGUE_BYTES of the code are enough. */
export function chooseProbeSite(code: Uint8Array, reads: ProbeReads, size = 0): ProbeSite | undefined {
  const kept = registersOf(reads);
  const end = Math.min(code.length, PROLOGUE_BYTES, size > 0 ? size : PROLOGUE_BYTES);
  if (end === 0 || code[0] === 0xcc) return undefined; // int3
  const limited = code.subarray(0, Math.min(code.length, end + MAX_INSTRUCTION_BYTES));
  for (let at = 0; at < end; ) {
    const instruction = decode(limited, at);
    if (instruction === undefined || at + instruction.length > end || instruction.length > MAX_INSTRUCTION_BYTES) break;
    if (instruction.emulated) return { offset: at, emulated: true };
    if (instruction.ends || (instruction.writes & kept) !== 0) break;
    at += instruction.length;
  }
  return { offset: 0, emulated: false };
}

/** x86-64: EM_X86_64 of the psABI. */
export const x8664: Machine = {
  name: 'x86-64',
  arch: 'x64',
  elfMachine: 62,
  triplet: 'x86_64-linux-gnu',
  prologueBytes: PROLOGUE_BYTES,
  chooseProbeSite,
};
