import { readSync } from 'node:fs';
import { thisMachine } from '../arch/machine.ts';

/**
 * The little of an ELF file (System V ABI, gabi) that placing a probe needs, read piece by piece: program headers, the
 * dynamic section, one symbol through its hash table, else through the section headers' symbol table. A file of a hundred megabytes
 * costs about ten small reads. Whatever the file says, nothing throws, every loop has a cap, and what cannot be read is not there.
 */

/** Reads into all of `buffer` from `position` of the file. @returns bytes read, less at the end or when it cannot be read */
export type ReadAt = (buffer: Buffer, position: number) => number;

/** A reader of an open file. It keeps the descriptor only by number: the caller closes it. */
export function readerOf(fd: number): ReadAt {
  return (buffer, position) => {
    try {
      return readSync(fd, buffer, 0, buffer.length, position);
    } catch {
      return 0;
    }
  };
}

export interface ElfSymbol {
  /** Virtual address. */
  address: number;
  /** Bytes; 0 when the table does not say. */
  size: number;
  /** Of its definition, such as `OPENSSL_3.0.0`. */
  version: string | undefined;
}

interface Segment {
  type: number;
  flags: number;
  offset: number;
  address: number;
  fileSize: number;
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const PT_NOTE = 4;
const PF_X = 1;

const DT_NEEDED = 1;
const DT_HASH = 4;
const DT_STRTAB = 5;
const DT_SYMTAB = 6;
const DT_STRSZ = 10;
const DT_SONAME = 14;
const DT_RPATH = 15;
const DT_RUNPATH = 29;
const DT_GNU_HASH = 0x6ffffef5;
const DT_VERSYM = 0x6ffffff0;
const DT_VERDEF = 0x6ffffffc;
const DT_VERDEFNUM = 0x6ffffffd;

const SHT_SYMTAB = 2;
const STT_FUNC = 2;
const SYMBOL_SIZE = 24;

const MAX_PROGRAM_HEADERS = 256;
const MAX_SECTION_HEADERS = 4096;
/** Of one header of either kind: 56 and 64 bytes in every file that a linker has made. */
const MAX_HEADER_SIZE = 256;
const MAX_DYNAMIC_ENTRIES = 1024;
const MAX_NEEDED = 256;
const MAX_NAME_BYTES = 4096;
const MAX_CHAIN_STEPS = 16_384;
const MAX_VERSIONS = 1024;
const MAX_SYMTAB_BYTES = 64 * 1024 * 1024;
const MAX_STRTAB_BYTES = 256 * 1024 * 1024;
const MAX_NAME_OCCURRENCES = 64;
const SCAN_BYTES = 1024 * 1024;
/** One for all scans, none of which runs within another: garbage of this size is not collected while the agent has little to do. */
const scanned = Buffer.allocUnsafeSlow(SCAN_BYTES);

/** A 64-bit integer; beyond 2^53 the largest safe one, which no file is long enough for. */
function u64(buffer: Buffer, offset: number): number {
  const high = buffer.readUInt32LE(offset + 4);
  return high > 0x1fffff ? Number.MAX_SAFE_INTEGER : high * 2 ** 32 + buffer.readUInt32LE(offset);
}

/** gabi, "Hash Table Section". */
function sysvHash(name: string): number {
  let hash = 0;
  for (let index = 0; index < name.length; index++) {
    hash = (hash << 4) + name.charCodeAt(index);
    const top = hash & 0xf0000000;
    hash = (hash ^ (top >>> 24)) & ~top;
  }
  return hash >>> 0;
}

/** The hash of DT_GNU_HASH: h * 33 + c. */
function gnuHash(name: string): number {
  let hash = 5381;
  for (let index = 0; index < name.length; index++) hash = (Math.imul(hash, 33) + name.charCodeAt(index)) >>> 0;
  return hash;
}

export class ElfFile {
  readonly #read: ReadAt;
  readonly #segments: Segment[] = [];
  readonly #dynamic = new Map<number, number>();
  readonly #neededOffsets: number[] = [];
  #sectionHeaders = { offset: 0, size: 0, count: 0 };

  private constructor(read: ReadAt) {
    this.#read = read;
  }

  /**
   * @param machine e_machine that the file must have
   * @returns undefined when it is not an ELF file of this processor that can be read
   */
  static open(read: ReadAt, machine = thisMachine().elfMachine): ElfFile | undefined {
    const file = new ElfFile(read);
    const header = file.#bytes(0, 64);
    if (header === undefined || header.readUInt32BE(0) !== 0x7f454c46) return undefined;
    // ELFCLASS64, ELFDATA2LSB
    if (header[4] !== 2 || header[5] !== 1 || header.readUInt16LE(18) !== machine) return undefined;
    file.#sectionHeaders = {
      offset: u64(header, 40),
      size: header.readUInt16LE(58),
      count: Math.min(header.readUInt16LE(60), MAX_SECTION_HEADERS),
    };
    file.#readSegments(u64(header, 32), header.readUInt16LE(54), header.readUInt16LE(56));
    file.#readDynamic();
    return file;
  }

  /** It names a dynamic linker: it can load libraries. */
  get isDynamicallyLinked(): boolean {
    return this.#segments.some((segment) => segment.type === PT_INTERP);
  }

  /** Its note of the Go linker. */
  get isGo(): boolean {
    return this.#segments.some((segment) => {
      if (segment.type !== PT_NOTE) return false;
      const note = this.#bytes(segment.offset, Math.min(segment.fileSize, 1024), 16);
      for (let at = 0, steps = 0; note !== undefined && at + 16 <= note.length && steps < 16; steps++) {
        const nameSize = note.readUInt32LE(at);
        const descriptionSize = note.readUInt32LE(at + 4);
        if (nameSize === 4 && note.toString('latin1', at + 12, at + 16) === 'Go\0\0') return true;
        at += 12 + Math.ceil(nameSize / 4) * 4 + Math.ceil(descriptionSize / 4) * 4;
      }
      return false;
    });
  }

  get soname(): string | undefined {
    const offset = this.#dynamic.get(DT_SONAME);
    return offset === undefined ? undefined : this.#dynamicString(offset);
  }

  /** Names of the libraries it is linked with, as they stand in the file. */
  get needed(): string[] {
    return this.#neededOffsets.map((offset) => this.#dynamicString(offset)).filter((name) => name !== undefined);
  }

  /** Folders of DT_RUNPATH and DT_RPATH, `$ORIGIN` not replaced. */
  get runPath(): string[] {
    const folders: string[] = [];
    for (const tag of [DT_RUNPATH, DT_RPATH]) {
      const offset = this.#dynamic.get(tag);
      const text = offset === undefined ? undefined : this.#dynamicString(offset);
      if (text !== undefined) folders.push(...text.split(':').filter((folder) => folder !== ''));
    }
    return folders;
  }

  /** Offset in the file of a virtual address of code; undefined when no executable segment holds it. */
  codeOffset(address: number): number | undefined {
    const segment = this.#segments.find(
      ({ type, flags, address: start, fileSize }) =>
        type === PT_LOAD && (flags & PF_X) !== 0 && address >= start && address < start + fileSize,
    );
    return segment === undefined ? undefined : segment.offset + (address - segment.address);
  }

  /** Bytes of code at a virtual address, less at the end of the segment. */
  codeAt(address: number, length: number): Buffer {
    const segment = this.#segmentOf(address);
    const offset = this.codeOffset(address);
    if (segment === undefined || offset === undefined) return Buffer.alloc(0);
    const available = Math.min(length, segment.address + segment.fileSize - address);
    return this.#bytes(offset, available, 1) ?? Buffer.alloc(0);
  }

  /** A function that the file defines for others (.dynsym), by its hash table. */
  dynamicFunction(name: string): ElfSymbol | undefined {
    const table = this.#dynamicOffset(DT_SYMTAB);
    if (table === undefined) return undefined;
    const index = this.#dynamic.has(DT_GNU_HASH) ? this.#findByGnuHash(table, name) : this.#findBySysvHash(table, name);
    if (index === undefined) return undefined;
    const entry = this.#bytes(table + index * SYMBOL_SIZE, SYMBOL_SIZE);
    const symbol = entry === undefined ? undefined : this.#functionOf(entry);
    return symbol === undefined ? undefined : { ...symbol, version: this.#versionOf(index) };
  }

  /**
   * Functions of the symbol table that the section headers name (.symtab), which is what `strip` removes.
   * The names are looked for first, so that a file without the first of them costs one pass over its string table.
   */
  staticFunctions(names: readonly string[]): Map<string, ElfSymbol> {
    const found = new Map<string, ElfSymbol>();
    const tables = this.#symbolTable();
    if (tables === undefined || names.length === 0) return found;
    const wanted = new Map<number, string>();
    for (const [index, name] of names.entries()) {
      const places = this.#stringPlaces(tables.strings, tables.stringsSize, name);
      if (index === 0 && places.length === 0) return found;
      for (const place of places) wanted.set(place, name);
    }
    this.#scan(tables.symbols, Math.min(tables.symbolsSize, MAX_SYMTAB_BYTES), SYMBOL_SIZE, (chunk) => {
      for (let at = 0; at + SYMBOL_SIZE <= chunk.length; at += SYMBOL_SIZE) {
        const name = wanted.get(chunk.readUInt32LE(at));
        if (name === undefined || found.has(name)) continue;
        const symbol = this.#functionOf(chunk.subarray(at, at + SYMBOL_SIZE));
        if (symbol !== undefined) found.set(name, symbol);
      }
      return found.size < names.length;
    });
    return found;
  }

  /** Whether the string table of .symtab holds the text, as a whole name or as a part of one. */
  hasStaticName(text: string): boolean {
    const tables = this.#symbolTable();
    return tables !== undefined && this.#search(tables.strings, tables.stringsSize, Buffer.from(text), 1).length > 0;
  }

  /**
   * The first match of `pattern` in the file's read-only data.
   * @param marker the bytes that a match begins with
   * @param maxBytes how much to look through at most
   */
  findInData(marker: string, pattern: RegExp, maxBytes: number): RegExpExecArray | undefined {
    let left = maxBytes;
    for (const segment of this.#segments) {
      if (segment.type !== PT_LOAD || left <= 0) continue;
      const size = Math.min(segment.fileSize, left);
      left -= size;
      for (const offset of this.#search(segment.offset, size, Buffer.from(marker), MAX_NAME_OCCURRENCES)) {
        const match = pattern.exec(this.#bytes(offset, 128, 1)?.toString('latin1') ?? '');
        if (match !== null) return match;
      }
    }
    return undefined;
  }

  #readSegments(offset: number, size: number, count: number): void {
    if (size < 56 || size > MAX_HEADER_SIZE) return;
    const number = Math.min(count, MAX_PROGRAM_HEADERS);
    const table = this.#bytes(offset, number * size, 56) ?? Buffer.alloc(0);
    for (let at = 0; at + 56 <= table.length; at += size) {
      this.#segments.push({
        type: table.readUInt32LE(at),
        flags: table.readUInt32LE(at + 4),
        offset: u64(table, at + 8),
        address: u64(table, at + 16),
        fileSize: u64(table, at + 32),
      });
    }
  }

  #readDynamic(): void {
    const segment = this.#segments.find(({ type }) => type === PT_DYNAMIC);
    if (segment === undefined) return;
    const table = this.#bytes(segment.offset, Math.min(segment.fileSize, MAX_DYNAMIC_ENTRIES * 16), 16);
    for (let at = 0; table !== undefined && at + 16 <= table.length; at += 16) {
      const tag = u64(table, at);
      const value = u64(table, at + 8);
      if (tag === 0) return;
      if (tag === DT_NEEDED && this.#neededOffsets.length < MAX_NEEDED) this.#neededOffsets.push(value);
      else if (!this.#dynamic.has(tag)) this.#dynamic.set(tag, value);
    }
  }

  /** DT_GNU_HASH: a Bloom filter of words, buckets of first symbols, and each symbol's hash with the lowest bit at a chain's end. */
  #findByGnuHash(symbols: number, name: string): number | undefined {
    const table = this.#dynamicOffset(DT_GNU_HASH);
    const header = table === undefined ? undefined : this.#bytes(table, 16);
    if (table === undefined || header === undefined) return undefined;
    const buckets = header.readUInt32LE(0);
    const first = header.readUInt32LE(4);
    const words = header.readUInt32LE(8);
    if (buckets === 0 || words === 0) return undefined;
    const hash = gnuHash(name);
    const filter = this.#bytes(table + 16 + (Math.floor(hash / 64) % words) * 8, 8);
    if (filter === undefined) return undefined;
    const isSet = (bit: number) => (filter.readUInt32LE(bit >= 32 ? 4 : 0) & (1 << (bit % 32))) !== 0;
    if (!isSet(hash % 64) || !isSet((hash >>> header.readUInt32LE(12)) % 64)) return undefined;
    const bucketsAt = table + 16 + words * 8;
    const bucket = this.#bytes(bucketsAt + (hash % buckets) * 4, 4)?.readUInt32LE(0) ?? 0;
    if (bucket < first) return undefined;
    for (let index = bucket, steps = 0; steps < MAX_CHAIN_STEPS; index++, steps++) {
      const entry = this.#bytes(bucketsAt + buckets * 4 + (index - first) * 4, 4)?.readUInt32LE(0);
      if (entry === undefined) return undefined;
      if ((entry | 1) >>> 0 === (hash | 1) >>> 0 && this.#isNamed(symbols, index, name)) return index;
      if ((entry & 1) !== 0) return undefined;
    }
    return undefined;
  }

  #findBySysvHash(symbols: number, name: string): number | undefined {
    const table = this.#dynamicOffset(DT_HASH);
    const header = table === undefined ? undefined : this.#bytes(table, 8);
    if (table === undefined || header === undefined) return undefined;
    const buckets = header.readUInt32LE(0);
    const chains = header.readUInt32LE(4);
    if (buckets === 0) return undefined;
    let index = this.#bytes(table + 8 + (sysvHash(name) % buckets) * 4, 4)?.readUInt32LE(0) ?? 0;
    for (let steps = 0; index !== 0 && index < chains && steps < MAX_CHAIN_STEPS; steps++) {
      if (this.#isNamed(symbols, index, name)) return index;
      index = this.#bytes(table + 8 + (buckets + index) * 4, 4)?.readUInt32LE(0) ?? 0;
    }
    return undefined;
  }

  #isNamed(symbols: number, index: number, name: string): boolean {
    const offset = this.#bytes(symbols + index * SYMBOL_SIZE, 4)?.readUInt32LE(0);
    const strings = this.#dynamicOffset(DT_STRTAB);
    if (offset === undefined || strings === undefined) return false;
    return this.#bytes(strings + offset, name.length + 1)?.toString('latin1') === `${name}\0`;
  }

  /** The version that defines a symbol: DT_VERSYM's index, looked up in DT_VERDEF. */
  #versionOf(index: number): string | undefined {
    const versions = this.#dynamicOffset(DT_VERSYM);
    const definitions = this.#dynamicOffset(DT_VERDEF);
    if (versions === undefined || definitions === undefined) return undefined;
    const version = (this.#bytes(versions + index * 2, 2)?.readUInt16LE(0) ?? 0) & 0x7fff;
    if (version < 2) return undefined; // VER_NDX_LOCAL, VER_NDX_GLOBAL
    const count = Math.min(this.#dynamic.get(DT_VERDEFNUM) ?? MAX_VERSIONS, MAX_VERSIONS);
    for (let at = definitions, steps = 0; steps < count; steps++) {
      const definition = this.#bytes(at, 20);
      if (definition === undefined) return undefined;
      if (definition.readUInt16LE(4) === version) {
        const name = this.#bytes(at + definition.readUInt32LE(12), 4);
        return name === undefined ? undefined : this.#dynamicString(name.readUInt32LE(0));
      }
      const next = definition.readUInt32LE(16);
      if (next === 0) return undefined;
      at += next;
    }
    return undefined;
  }

  #symbolTable(): { symbols: number; symbolsSize: number; strings: number; stringsSize: number } | undefined {
    const { offset, size, count } = this.#sectionHeaders;
    if (size < 64 || size > MAX_HEADER_SIZE || count === 0) return undefined;
    const table = this.#bytes(offset, count * size, 64) ?? Buffer.alloc(0);
    for (let at = 0; at + 64 <= table.length; at += size) {
      if (table.readUInt32LE(at + 4) !== SHT_SYMTAB) continue;
      const link = table.readUInt32LE(at + 40) * size; // sh_link: its string table
      if (link + 64 > table.length) return undefined;
      return {
        symbols: u64(table, at + 24),
        symbolsSize: u64(table, at + 32),
        strings: u64(table, link + 24),
        stringsSize: Math.min(u64(table, link + 32), MAX_STRTAB_BYTES),
      };
    }
    return undefined;
  }

  /** Where names equal to `name` may begin in a string table; a name may be the tail of a longer one. */
  #stringPlaces(offset: number, size: number, name: string): number[] {
    return this.#search(offset, size, Buffer.from(`${name}\0`), MAX_NAME_OCCURRENCES).map((place) => place - offset);
  }

  /** Positions in the file of `bytes` within a range. */
  #search(offset: number, size: number, bytes: Buffer, limit: number): number[] {
    const places: number[] = [];
    const take = (chunk: Buffer, position: number): boolean => {
      for (let at = chunk.indexOf(bytes); at >= 0 && places.length < limit; at = chunk.indexOf(bytes, at + 1)) {
        places.push(position + at);
      }
      return places.length < limit;
    };
    this.#scan(offset, size, 1, take, bytes.length - 1);
    return places;
  }

  /**
   * Calls `take` with the bytes of a range, in chunks of whole units, until it returns false.
   * @param take gets a chunk, borrowed, and its position in the file
   * @param overlap bytes of a chunk that stand at the front of the next one, too
   */
  #scan(
    offset: number,
    size: number,
    unit: number,
    take: (chunk: Buffer, position: number) => boolean,
    overlap = 0,
  ): void {
    const room = SCAN_BYTES - (SCAN_BYTES % unit);
    let kept = 0;
    for (let done = 0; done < size; ) {
      const wanted = Math.min(room - kept, size - done);
      const read = this.#read(scanned.subarray(kept, kept + wanted), offset + done);
      if (read <= 0) return;
      const filled = kept + read;
      if (!take(scanned.subarray(0, filled), offset + done - kept) || read < wanted) return;
      done += read;
      kept = Math.min(overlap, filled);
      scanned.copyWithin(0, filled - kept, filled);
    }
  }

  #functionOf(entry: Buffer): ElfSymbol | undefined {
    const address = u64(entry, 8);
    // st_info's type, st_shndx (0: defined elsewhere)
    if ((entry[4]! & 0xf) !== STT_FUNC || entry.readUInt16LE(6) === 0) return undefined;
    return this.codeOffset(address) === undefined ? undefined : { address, size: u64(entry, 16), version: undefined };
  }

  #segmentOf(address: number): Segment | undefined {
    return this.#segments.find(
      ({ type, address: start, fileSize }) => type === PT_LOAD && address >= start && address < start + fileSize,
    );
  }

  #dynamicOffset(tag: number): number | undefined {
    const address = this.#dynamic.get(tag);
    const segment = address === undefined ? undefined : this.#segmentOf(address);
    return segment === undefined || address === undefined ? undefined : segment.offset + (address - segment.address);
  }

  #dynamicString(offset: number): string | undefined {
    const strings = this.#dynamicOffset(DT_STRTAB);
    const size = this.#dynamic.get(DT_STRSZ) ?? 0;
    if (strings === undefined || offset >= size) return undefined;
    const bytes = this.#bytes(strings + offset, Math.min(size - offset, MAX_NAME_BYTES), 1);
    const end = bytes?.indexOf(0) ?? -1;
    return bytes === undefined || end < 0 ? undefined : bytes.toString('utf8', 0, end);
  }

  /** @returns undefined when fewer than `minimum` (all, when not given) of the bytes are there */
  #bytes(position: number, length: number, minimum = length): Buffer | undefined {
    if (position < 0 || position + length > Number.MAX_SAFE_INTEGER || length < minimum) return undefined;
    const buffer = Buffer.alloc(length);
    const read = this.#read(buffer, position);
    return read < minimum ? undefined : buffer.subarray(0, read);
  }
}
