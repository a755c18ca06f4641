/** Makes small ELF files (System V ABI) for the tests of their reader. */

export interface SampleSymbol {
  name: string;
  /** Version node that defines it. */
  version?: string;
  /** Not defined here but imported. */
  imported?: boolean;
  code?: readonly number[];
}

export interface SampleOptions {
  dynamic?: readonly SampleSymbol[];
  /** In .symtab. */
  local?: readonly SampleSymbol[];
  hash?: 'gnu' | 'sysv';
  needed?: readonly string[];
  runPath?: string;
  soname?: string;
  interpreter?: boolean;
  goNote?: boolean;
  data?: string;
}

/** The whole file is one segment that begins at this address. */
export const BASE = 0x10000;

const FUNCTION = 0x12; // STB_GLOBAL, STT_FUNC

class Writer {
  readonly parts: Buffer[] = [];
  size = 0;

  add(bytes: Buffer): number {
    const padding = (8 - (this.size % 8)) % 8;
    this.parts.push(Buffer.alloc(padding), bytes);
    const at = this.size + padding;
    this.size = at + bytes.length;
    return at;
  }
}

function words(...values: number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) buffer.writeUInt32LE(value >>> 0, index * 4);
  return buffer;
}

function longs(...values: number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 8);
  for (const [index, value] of values.entries()) buffer.writeBigUInt64LE(BigInt(value), index * 8);
  return buffer;
}

class Strings {
  bytes = Buffer.from('\0');

  add(text: string): number {
    const at = this.bytes.length;
    this.bytes = Buffer.concat([this.bytes, Buffer.from(`${text}\0`)]);
    return at;
  }
}

function symbolEntry(name: number, address: number, size: number, imported: boolean): Buffer {
  const entry = Buffer.alloc(24);
  entry.writeUInt32LE(name, 0);
  entry[4] = FUNCTION;
  entry.writeUInt16LE(imported ? 0 : 1, 6);
  entry.writeBigUInt64LE(BigInt(imported ? 0 : address), 8);
  entry.writeBigUInt64LE(BigInt(size), 16);
  return entry;
}

function gnuHashOf(name: string): number {
  let hash = 5381n;
  for (const byte of Buffer.from(name)) hash = (hash * 33n + BigInt(byte)) & 0xffffffffn;
  return Number(hash);
}

function sysvHashOf(name: string): number {
  let hash = 0n;
  for (const byte of Buffer.from(name)) {
    hash = (hash << 4n) + BigInt(byte);
    const top = hash & 0xf0000000n;
    if (top !== 0n) hash ^= top >> 24n;
    hash &= ~top & 0xffffffffn;
  }
  return Number(hash);
}

/** One bucket, a filter that lets everything pass: what matters is the walk. */
function gnuTable(names: readonly string[]): Buffer {
  const hashes = names.map((name, index) => {
    const hash = gnuHashOf(name);
    return index === names.length - 1 ? (hash | 1) >>> 0 : (hash & ~1) >>> 0;
  });
  return Buffer.concat([words(1, 1, 1, 6, 0xffffffff, 0xffffffff, names.length === 0 ? 0 : 1), words(...hashes)]);
}

function sysvTable(names: readonly string[]): Buffer {
  const buckets = [0, 0, 0];
  const chains = [0, ...names.map(() => 0)];
  for (const [index, name] of names.entries()) {
    const bucket = sysvHashOf(name) % buckets.length;
    chains[index + 1] = buckets[bucket]!;
    buckets[bucket] = index + 1;
  }
  return words(buckets.length, chains.length, ...buckets, ...chains);
}

function versionTables(symbols: readonly SampleSymbol[], strings: Strings): { indexes: Buffer; definitions: Buffer } {
  const names = [...new Set(symbols.map((symbol) => symbol.version).filter((version) => version !== undefined))];
  const indexes = Buffer.alloc(2 * (symbols.length + 1));
  for (const [index, symbol] of symbols.entries()) {
    const version = symbol.version === undefined ? 1 : names.indexOf(symbol.version) + 2;
    indexes.writeUInt16LE(version, 2 * (index + 1));
  }
  const definitions = Buffer.concat(
    names.map((name, index) => {
      const definition = Buffer.alloc(28);
      definition.writeUInt16LE(1, 0);
      definition.writeUInt16LE(index + 2, 4); // vd_ndx
      definition.writeUInt16LE(1, 6);
      definition.writeUInt32LE(20, 12); // vd_aux
      definition.writeUInt32LE(index === names.length - 1 ? 0 : 28, 16); // vd_next
      definition.writeUInt32LE(strings.add(name), 20);
      return definition;
    }),
  );
  return { indexes, definitions };
}

function writeDynamic(writer: Writer, options: SampleOptions, addressOf: (symbol: SampleSymbol) => number): number {
  const symbols = options.dynamic ?? [];
  const strings = new Strings();
  const entries = symbols.map((symbol) =>
    symbolEntry(strings.add(symbol.name), addressOf(symbol), symbol.code?.length ?? 0, symbol.imported === true),
  );
  const { indexes, definitions } = versionTables(symbols, strings);
  const tags: number[] = [];
  for (const name of options.needed ?? []) tags.push(1, strings.add(name));
  if (options.soname !== undefined) tags.push(14, strings.add(options.soname));
  if (options.runPath !== undefined) tags.push(29, strings.add(options.runPath));
  const names = symbols.map((symbol) => symbol.name);
  const place = (bytes: Buffer) => BASE + writer.add(bytes);
  if (options.hash === 'sysv') tags.push(4, place(sysvTable(names)));
  else tags.push(0x6ffffef5, place(gnuTable(names)));
  tags.push(5, place(strings.bytes), 10, strings.bytes.length);
  tags.push(6, place(Buffer.concat([Buffer.alloc(24), ...entries])));
  if (definitions.length > 0) {
    tags.push(0x6ffffff0, place(indexes), 0x6ffffffc, place(definitions), 0x6ffffffd, definitions.length / 28);
  }
  tags.push(0, 0);
  return writer.add(longs(...tags));
}

function writeSections(
  writer: Writer,
  symbols: readonly SampleSymbol[],
  addressOf: (symbol: SampleSymbol) => number,
): number {
  const strings = new Strings();
  const entries = symbols.map((symbol) =>
    symbolEntry(strings.add(symbol.name), addressOf(symbol), symbol.code?.length ?? 0, symbol.imported === true),
  );
  const table = Buffer.concat([Buffer.alloc(24), ...entries]);
  const tableAt = writer.add(table);
  const stringsAt = writer.add(strings.bytes);
  const section = (type: number, offset: number, size: number, link: number) => {
    const header = Buffer.alloc(64);
    header.writeUInt32LE(type, 4);
    header.writeBigUInt64LE(BigInt(offset), 24);
    header.writeBigUInt64LE(BigInt(size), 32);
    header.writeUInt32LE(link, 40);
    return header;
  };
  const headers = [
    Buffer.alloc(64),
    section(2, tableAt, table.length, 2),
    section(3, stringsAt, strings.bytes.length, 0),
  ];
  return writer.add(Buffer.concat(headers));
}

function programHeader(type: number, flags: number, offset: number, size: number): Buffer {
  const header = Buffer.alloc(56);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(flags, 4);
  header.writeBigUInt64LE(BigInt(offset), 8);
  header.writeBigUInt64LE(BigInt(BASE + offset), 16);
  header.writeBigUInt64LE(BigInt(size), 32);
  return header;
}

export function makeElf(options: SampleOptions): Buffer {
  const writer = new Writer();
  writer.add(Buffer.alloc(64 + 56 * 4));
  const code = new Map<SampleSymbol, number>();
  for (const symbol of [...(options.dynamic ?? []), ...(options.local ?? [])]) {
    if (symbol.imported !== true) code.set(symbol, BASE + writer.add(Buffer.from(symbol.code ?? [0xc3])));
  }
  const addressOf = (symbol: SampleSymbol) => code.get(symbol) ?? 0;
  writer.add(Buffer.from(options.data ?? ''));
  const dynamicAt = writeDynamic(writer, options, addressOf);
  const dynamicSize = writer.size - dynamicAt;
  const note = options.goNote === true ? writer.add(Buffer.concat([words(4, 4, 4), Buffer.from('Go\0\0abcd')])) : 0;
  const sectionsAt = options.local === undefined ? 0 : writeSections(writer, options.local, addressOf);
  const file = Buffer.concat(writer.parts);
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]).copy(file);
  file.writeUInt16LE(3, 16); // ET_DYN
  file.writeUInt16LE(62, 18);
  file.writeBigUInt64LE(64n, 32);
  file.writeBigUInt64LE(BigInt(sectionsAt), 40);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(4, 56);
  file.writeUInt16LE(64, 58);
  file.writeUInt16LE(sectionsAt === 0 ? 0 : 3, 60);
  programHeader(1, 5, 0, file.length).copy(file, 64);
  programHeader(2, 6, dynamicAt, dynamicSize).copy(file, 64 + 56);
  programHeader(note === 0 ? 0 : 4, 4, note, 24).copy(file, 64 + 112);
  programHeader(options.interpreter === true ? 3 : 0, 4, 0, 0).copy(file, 64 + 168);
  return file;
}
