/**
 * What the frames of the functions in a BPF object are, from its instructions: ELF (System V gabi; relocations of the BPF psABI,
 * Documentation/bpf/llvm_reloc.rst) and the instruction set (RFC 9669).
 */

export interface BpfFunction {
  readonly name: string;
  readonly section: string;
  /** The deepest byte below the frame pointer that it touches or hands out. */
  readonly frame: number;
  /** Functions of the object that it calls. */
  readonly calls: readonly string[];
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly link: number;
  readonly info: number;
  readonly bytes: Buffer;
}

interface ElfSymbol {
  readonly name: string;
  readonly kind: number;
  readonly section: number;
  readonly value: number;
  readonly size: number;
}

const SHT_SYMTAB = 2;
const SHT_REL = 9;
const SHF_EXECINSTR = 4;
const STT_FUNC = 2;
const R_BPF_64_32 = 10;

const INSTRUCTION = 8;
const FRAME_POINTER = 10;
const LDX = 1;
const ST = 2;
const STX = 3;
const ADD_IMMEDIATE = 0x07;
const ADD_REGISTER = 0x0f;
const MOV_REGISTER = 0xbf;
const LOAD_IMMEDIATE_64 = 0x18;
const CALL = 0x85;
const BPF_TO_BPF = 1;

function textAt(strings: Buffer, at: number): string {
  return strings.toString('latin1', at, strings.indexOf(0, at));
}

function sectionsOf(file: Buffer): Section[] {
  const table = Number(file.readBigUInt64LE(40));
  const size = file.readUInt16LE(58);
  const headers = Array.from({ length: file.readUInt16LE(60) }, (_, i) =>
    file.subarray(table + i * size, table + (i + 1) * size),
  );
  const bytesOf = (header: Buffer) => {
    const offset = Number(header.readBigUInt64LE(24));
    return file.subarray(offset, offset + Number(header.readBigUInt64LE(32)));
  };
  const names = bytesOf(headers[file.readUInt16LE(62)]!);
  return headers.map((header) => ({
    name: textAt(names, header.readUInt32LE(0)),
    type: header.readUInt32LE(4),
    flags: Number(header.readBigUInt64LE(8)),
    link: header.readUInt32LE(40),
    info: header.readUInt32LE(44),
    bytes: bytesOf(header),
  }));
}

function symbolsOf(sections: readonly Section[]): ElfSymbol[] {
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  if (table === undefined) throw new Error('no symbols');
  const names = sections[table.link]!.bytes;
  return Array.from({ length: table.bytes.length / 24 }, (_, i) => {
    const symbol = table.bytes.subarray(i * 24, (i + 1) * 24);
    return {
      name: textAt(names, symbol.readUInt32LE(0)),
      kind: symbol[4]! & 15,
      section: symbol.readUInt16LE(6),
      value: Number(symbol.readBigUInt64LE(8)),
      size: Number(symbol.readBigUInt64LE(16)),
    };
  });
}

/** The frame of one function: in one pass over its instructions, with the registers that are the frame pointer plus a constant. */
export function frameOf(code: Buffer): number {
  const offsets = new Map<number, number>([[FRAME_POINTER, 0]]);
  let deepest = 0;
  const touch = (register: number, offset: number) => {
    const base = offsets.get(register);
    if (base !== undefined) deepest = Math.max(deepest, -(base + offset));
  };
  for (let at = 0; at < code.length; at += INSTRUCTION) {
    const operation = code[at]!;
    const kind = operation & 7;
    const to = code[at + 1]! & 15;
    const from = code[at + 1]! >> 4;
    const offset = code.readInt16LE(at + 2);
    const immediate = code.readInt32LE(at + 4);
    if (kind === LDX) touch(from, offset);
    if (kind === ST || kind === STX) touch(to, offset);
    const base = offsets.get(operation === MOV_REGISTER ? from : to);
    if (operation === MOV_REGISTER && offset === 0 && base !== undefined) {
      offsets.set(to, base);
    } else if (operation === ADD_IMMEDIATE && base !== undefined) {
      offsets.set(to, base + immediate);
      touch(to, 0);
    } else if (operation === ADD_REGISTER && base !== undefined) {
      // An index into a variable: no deeper than its beginning.
    } else if (kind === LDX || kind >= 4 || operation === LOAD_IMMEDIATE_64) {
      if (to !== FRAME_POINTER && kind !== 5 && kind !== 6) offsets.delete(to);
    }
    if (operation === CALL) for (let register = 0; register <= 5; register++) offsets.delete(register);
    if (operation === LOAD_IMMEDIATE_64) at += INSTRUCTION;
  }
  return deepest;
}

/** All functions of an object file. */
export function functionsOf(file: Buffer): BpfFunction[] {
  const sections = sectionsOf(file);
  const symbols = symbolsOf(sections);
  const functionAt = (section: number, address: number) =>
    symbols.find(({ kind, section: its, value }) => kind === STT_FUNC && its === section && value === address)?.name;
  return symbols
    .filter(({ kind, section }) => kind === STT_FUNC && (sections[section]?.flags ?? 0) & SHF_EXECINSTR)
    .map(({ name, section, value, size }) => {
      const code = sections[section]!.bytes.subarray(value, value + size);
      const calls = new Set<string>();
      const add = (called: string | undefined) => {
        if (called === undefined) throw new Error(`${name} calls what is no function`);
        calls.add(called);
      };
      const relocated = new Set<number>();
      for (const relocations of sections.filter(({ type, info }) => type === SHT_REL && info === section)) {
        for (let at = 0; at < relocations.bytes.length; at += 16) {
          const place = Number(relocations.bytes.readBigUInt64LE(at));
          if (place < value || place >= value + size || relocations.bytes.readUInt32LE(at + 8) !== R_BPF_64_32)
            continue;
          const symbol = symbols[relocations.bytes.readUInt32LE(at + 12)]!;
          relocated.add(place - value);
          // A static function by its section, with its place in the instruction.
          if (symbol.kind === STT_FUNC) add(symbol.name);
          else add(functionAt(symbol.section, (code.readInt32LE(place - value + 4) + 1) * INSTRUCTION));
        }
      }
      for (let at = 0; at < code.length; at += code[at] === LOAD_IMMEDIATE_64 ? 2 * INSTRUCTION : INSTRUCTION) {
        if (code[at] !== CALL || code[at + 1]! >> 4 !== BPF_TO_BPF || relocated.has(at)) continue;
        add(functionAt(section, value + at + (code.readInt32LE(at + 4) + 1) * INSTRUCTION));
      }
      return { name, section: sections[section]!.name, frame: frameOf(code), calls: [...calls] };
    });
}

/** A function and all that it calls, however deep. */
export function reachable(all: readonly BpfFunction[], name: string, found = new Map<string, BpfFunction>()) {
  const here = all.find((other) => other.name === name);
  if (here === undefined) throw new Error(`no function ${name}`);
  if (found.has(name)) return found;
  found.set(name, here);
  for (const called of here.calls) reachable(all, called, found);
  return found;
}
