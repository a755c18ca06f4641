/**
 * HPACK (RFC 7541) as a passive observer reads it.
 *
 * Only fields that are wanted become strings. Of all others the dynamic table keeps the size, which it needs to evict as the peer does.
 *
 * Honest after a loss: header blocks that were not seen may have inserted any number of entries, and evicted as many. So everything
 * older than the loss is forgotten. Entries inserted since are counted from the newest, and their indexes are right whatever was lost;
 * an index beyond them is a field of which nothing is known. For how long the peer keeps an entry is its own business: it never refers
 * to one that it evicted, so evicting later than it does no harm, and evicting earlier makes a field unknown.
 */

import { BUFFER_COST } from '../../memory/cost.ts';
import type { HeaderList } from './headers.ts';
import { decoded, decodeHuffman } from './huffman.ts';
import {
  type Field,
  type FieldNames,
  STATIC_ENTRIES,
  UNKNOWN_FIELD,
  unwantedField,
  type WantedName,
  wantedField,
} from './names.ts';

/** SETTINGS_HEADER_TABLE_SIZE before anything else was said (RFC 9113 section 6.5.2). */
const INITIAL_TABLE_BYTES = 4096;
const INDEXED = 0x80;
const INCREMENTAL = 0x40;
const SIZE_UPDATE = 0x20;
/** Longer values are not remembered. */
const REMEMBERED_BYTES = 128;
const FIRST_CAPACITY = 32;
/** A field's object, and the header of its value. */
const ENTRY_COST = 72;

/** The newest literal of a name: peers that do not index it send the same octets again and again. */
interface Remembered {
  readonly bytes: Buffer;
  length: number;
  huffman: boolean;
  field: Field;
}

export class HpackDecoder {
  private readonly names: FieldNames;
  private readonly fixed: readonly (Field | undefined)[];
  private readonly capBytes: number;
  /** A ring of fields; `newest` is the place of index 62. Its length is a power of 2. */
  private entries: (Field | undefined)[] = [];
  private newest = 0;
  private count = 0;
  private bytes = 0;
  private maxBytes: number;
  /** Entries may be evicted here that the peer still has. */
  private capped = false;
  /** There may be entries of which nothing is known, behind the known ones. */
  private lossy = false;
  private readonly remembered: (Remembered | undefined)[] = [];
  private rememberedCost = 0;
  /** The position behind what integer() read. */
  private next = 0;

  /** @param capBytes the most that the table may hold, whatever the peers agree on */
  constructor(names: FieldNames, capBytes: number) {
    this.names = names;
    this.fixed = names.fixed;
    this.capBytes = capBytes;
    this.maxBytes = Math.min(INITIAL_TABLE_BYTES, capBytes);
    this.capped = INITIAL_TABLE_BYTES > capBytes;
  }

  /** Entries and bytes (section 4.1) that are known. */
  get tableEntries(): number {
    return this.count;
  }

  get tableBytes(): number {
    return this.bytes;
  }

  /** What its entries cost (memory/cost.ts): their size has 32 bytes for each, an object and its place need more. */
  get cost(): number {
    return this.bytes + this.count * ENTRY_COST + this.entries.length * 8 + this.rememberedCost;
  }

  /** @returns the field at an index of the dynamic table (62 is the newest), if it is known */
  entry(index: number): Field | undefined {
    const age = index - STATIC_ENTRIES - 1;
    if (age < 0 || age >= this.count) return undefined;
    return this.entries[(this.newest - age) & (this.entries.length - 1)];
  }

  /** A header block, or part of one, was not seen: what it did to the table is not known, nor whether it changed its size. */
  lose(): void {
    this.clear();
    this.lossy = true;
    this.maxBytes = this.capBytes;
  }

  release(): void {
    this.clear();
    this.entries = [];
    this.remembered.length = 0;
    this.rememberedCost = 0;
  }

  /**
   * Reads the header block in bytes[start..end) into `list`.
   *
   * @returns false when it ends in the middle of a field or is no HPACK; the fields before that place have been read
   */
  decode(bytes: Buffer, start: number, end: number, list: HeaderList): boolean {
    let at = start;
    while (at < end) {
      const first = bytes[at]!;
      if (first >= INDEXED) {
        let index = first & 0x7f;
        at++;
        if (index === 0x7f) {
          index = this.integer(bytes, at, end, 0x7f);
          at = this.next;
        }
        const field = index <= STATIC_ENTRIES ? (index < 0 ? undefined : this.fixed[index]) : this.entry(index);
        if (field !== undefined) list.take(field);
        else if (index > STATIC_ENTRIES && this.lossy) list.take(UNKNOWN_FIELD);
        else return false;
      } else if (first >= INCREMENTAL || first < SIZE_UPDATE) {
        at = this.literal(bytes, at, end, list);
        if (at < 0) return false;
      } else {
        const size = this.integerAt(bytes, at, end, 0x1f);
        at = this.next;
        if (size < 0) return false;
        this.resize(size);
      }
    }
    return true;
  }

  /** Section 6.2: literals with incremental indexing (01), without indexing (0000), never indexed (0001). @returns behind it, or -1 */
  private literal(bytes: Buffer, start: number, end: number, list: HeaderList): number {
    const insert = bytes[start]! >= INCREMENTAL;
    const index = this.integerAt(bytes, start, end, insert ? 0x3f : 0x0f);
    if (index < 0) return -1;
    let at = this.next;
    let name: WantedName | undefined;
    let nameLength: number;
    let known = true;
    if (index === 0) {
      const nameHuffman = at < end && (bytes[at]! & 0x80) !== 0;
      const length = this.integerAt(bytes, at, end, 0x7f);
      const from = this.next;
      at = from + length;
      if (length < 0 || at > end) return -1;
      nameLength = nameHuffman ? decodeHuffman(bytes, from, at) : length;
      if (nameLength < 0) return -1;
      name = nameHuffman ? this.names.find(decoded, 0, nameLength) : this.names.find(bytes, from, at);
    } else {
      const named = index <= STATIC_ENTRIES ? this.fixed[index] : this.entry(index);
      if (named === undefined && !this.lossy) return -1;
      name = named?.name;
      nameLength = named?.nameLength ?? 0;
      known = named !== undefined && named.role !== UNKNOWN_FIELD.role;
    }
    const huffman = at < end && (bytes[at]! & 0x80) !== 0;
    const length = this.integerAt(bytes, at, end, 0x7f);
    const from = this.next;
    const to = from + length;
    if (length < 0 || to > end) return -1;
    if (name !== undefined) {
      const field = this.wanted(name, bytes, from, to, huffman);
      if (field === undefined) return -1;
      list.take(field);
      if (insert) this.insert(field);
    } else {
      if (!known) list.take(UNKNOWN_FIELD);
      if (insert) {
        const valueLength = huffman ? decodeHuffman(bytes, from, to) : length;
        if (valueLength < 0) return -1;
        const field = unwantedField(nameLength, valueLength);
        this.insert(known ? field : { ...UNKNOWN_FIELD, size: field.size });
      }
    }
    return to;
  }

  /** The field of a literal value. */
  private wanted(name: WantedName, bytes: Buffer, start: number, end: number, huffman: boolean): Field | undefined {
    const length = end - start;
    const remembered = this.remembered[name.index];
    if (
      remembered !== undefined &&
      remembered.length === length &&
      remembered.huffman === huffman &&
      sameBytes(remembered.bytes, bytes, start, length)
    ) {
      return remembered.field;
    }
    let field: Field;
    if (huffman) {
      const octets = decodeHuffman(bytes, start, end);
      if (octets < 0) return undefined;
      field = wantedField(name, decoded.toString('latin1', 0, octets), octets);
    } else field = wantedField(name, bytes.toString('latin1', start, end), length);
    if (length <= REMEMBERED_BYTES) this.remember(name, bytes, start, end, huffman, field);
    return field;
  }

  private remember(name: WantedName, bytes: Buffer, start: number, end: number, huffman: boolean, field: Field): void {
    let remembered = this.remembered[name.index];
    const length = end - start;
    if (remembered === undefined || remembered.bytes.length < length) {
      const room = Math.min(REMEMBERED_BYTES, (length + 31) & ~31);
      if (remembered === undefined) this.rememberedCost += 2 * REMEMBERED_BYTES + BUFFER_COST;
      remembered = { bytes: Buffer.allocUnsafeSlow(room), length, huffman, field };
      this.remembered[name.index] = remembered;
    }
    bytes.copy(remembered.bytes, 0, start, end);
    remembered.length = length;
    remembered.huffman = huffman;
    remembered.field = field;
  }

  /** Section 4.4. */
  private insert(field: Field): void {
    this.evictTo(this.maxBytes - field.size);
    if (field.size > this.maxBytes) return;
    if (this.count === this.entries.length) this.grow();
    this.newest = (this.newest + 1) & (this.entries.length - 1);
    this.entries[this.newest] = field;
    this.count++;
    this.bytes += field.size;
  }

  private grow(): void {
    const grown: (Field | undefined)[] = new Array(Math.max(FIRST_CAPACITY, this.entries.length * 2)).fill(undefined);
    for (let age = 0; age < this.count; age++) {
      grown[this.count - 1 - age] = this.entries[(this.newest - age) & (this.entries.length - 1)];
    }
    this.entries = grown;
    this.newest = this.count - 1;
  }

  private evictTo(bytes: number): void {
    if (this.bytes <= bytes) return;
    while (this.count > 0 && this.bytes > bytes) {
      const oldest = (this.newest - this.count + 1) & (this.entries.length - 1);
      this.bytes -= this.entries[oldest]!.size;
      this.entries[oldest] = undefined;
      this.count--;
    }
    if (this.capped) this.lossy = true;
  }

  /** Section 6.3. The peers agreed on it in SETTINGS; whether they did need not be checked here. */
  private resize(size: number): void {
    this.maxBytes = Math.min(size, this.capBytes);
    this.capped = size > this.capBytes;
    this.evictTo(this.maxBytes);
    // What was lost lies behind what is known: without any entry nothing does.
    if (size === 0) this.lossy = false;
  }

  private clear(): void {
    this.entries.fill(undefined);
    this.count = 0;
    this.bytes = 0;
  }

  private integerAt(bytes: Buffer, at: number, end: number, mask: number): number {
    this.next = at + 1;
    if (at >= end) return -1;
    const value = bytes[at]! & mask;
    return value < mask ? value : this.integer(bytes, at + 1, end, mask);
  }

  /** Section 5.1, behind a prefix of ones. @returns -1 when it is cut, or larger than anything here can be */
  private integer(bytes: Buffer, start: number, end: number, prefix: number): number {
    let value = prefix;
    let at = start;
    for (let shift = 0; at < end && shift <= 28; shift += 7) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        this.next = at;
        return value > 0xffff_ffff ? -1 : value;
      }
    }
    this.next = at;
    return -1;
  }
}

function sameBytes(known: Buffer, bytes: Buffer, start: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}
