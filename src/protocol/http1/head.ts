import { BUFFER_COST, bufferCost, headersCost } from '../../memory/cost.ts';
import type { KnownField } from './fields.ts';
import {
  type FieldTable,
  FRAMING_CONTENT_LENGTH,
  FRAMING_EXPECT,
  FRAMING_TRANSFER_ENCODING,
  FRAMING_UPGRADE,
} from './fields.ts';
import {
  COLON,
  CR,
  findRequestLine,
  isBlank,
  LF,
  LINE_NONE,
  methodAt,
  minorVersionAt,
  probeRequest,
  probeResponse,
  requestLine,
  statusAt,
  VERSION_LENGTH,
  withoutControls,
} from './grammar.ts';

export const HEAD_MORE = 0;
export const HEAD_DONE = 1;
/** What stands here is no start line of HTTP/1.x. */
export const HEAD_INVALID = 2;
/** The header block is longer than the limit. */
export const HEAD_LIMIT = 3;
export type HeadOutcome = typeof HEAD_MORE | typeof HEAD_DONE | typeof HEAD_INVALID | typeof HEAD_LIMIT;

/** Shared by all messages without a field that is kept. */
export const NO_HEADERS: ReadonlyMap<string, readonly string[]> = new Map();
const NO_BYTES = Buffer.alloc(0);
const CARRY_BYTES = 512;
/** A start line that is cut is looked at again with each piece until it has this many bytes. */
const START_PROBED_BYTES = 512;
/** 10^15 - 1 is below 2^53. */
const PLAIN_DIGITS = 15;
/** A carry that grew beyond this is not kept for the next message. */
const CARRY_KEPT_BYTES = 4096;
/** Longer blocks of fields are not remembered; nor any more once so many in a row were not like the one before. */
const REMEMBERED_BYTES = 2048;
const MISSES = 4;
/** What a field that is kept costs beside its value, and all of them together; what a line costs that continues one. */
const FIELD_COST = 144;
const FIELDS_COST = 240;
const FOLD_COST = 64;

/** A longer name in the Upgrade field names no known protocol. */
const MAX_UPGRADE_LENGTH = 32;

/** The fields of a message that was read whole, which the next one of its connection often repeats byte for byte. */
interface RememberedFields {
  bytes: Buffer;
  /** 0: nothing is remembered. */
  length: number;
  headers: ReadonlyMap<string, readonly string[]>;
  plainLength: number;
  contentLength: string | undefined;
  transferEncoding: string | undefined;
  expectsContinue: boolean;
  upgrade: string;
  keptBytes: number;
}

/**
 * Reads the head of a message (start line and fields up to the empty line), line by line: a line that lies within one call
 * is parsed where it stands; only a line that is cut by the end of a call is copied, into the carry. So the memory held is
 * that of one line, however long the head is. Fields that are the same bytes as those of the message before are not read again.
 *
 * Tolerant where peers are (RFC 9112 section 2.2): a line ends in LF with or without CR, blanks before a colon are ignored,
 * a line without a colon is passed over and counted in `badLines`.
 */
export class HeadReader {
  outcome: HeadOutcome = HEAD_MORE;
  /** The start line was whole and valid: the fields below hold. */
  started = false;
  method = '';
  target = '';
  /** -1: no digit stands in its place. */
  minorVersion = 1;
  statusCode = 0;
  headers: ReadonlyMap<string, readonly string[]> = NO_HEADERS;
  /** Content-Length when it is one field of plain digits, else -1. */
  plainLength = -1;
  /** Values as they stand, several fields joined by commas; `undefined` without such a field, and beside a plain length. */
  contentLength: string | undefined;
  transferEncoding: string | undefined;
  expectsContinue = false;
  /** The protocol that Upgrade names, in lower case, such as `h2c` (RFC 7540 section 3.2); empty: none. */
  upgrade = '';
  badLines = 0;

  private readonly isRequest: boolean;
  private readonly table: FieldTable;
  private readonly maxBytes: number;
  private headBytes = 0;
  private kept: Map<string, string[]> | undefined;
  /** Of the fields that are kept: values, and what each costs beside them. */
  private keptBytes = 0;
  private lastField: KnownField | undefined;
  private carry = NO_BYTES;
  private carried = 0;
  private remembered: RememberedFields | undefined;
  private rememberedCost = 0;
  private misses = 0;

  constructor(isRequest: boolean, table: FieldTable, maxBytes: number) {
    this.isRequest = isRequest;
    this.table = table;
    this.maxBytes = maxBytes;
  }

  /** What the fields of a head that is done cost together. */
  get headersCost(): number {
    return this.headers.size === 0 ? 0 : FIELDS_COST + this.keptBytes;
  }

  /** Bytes of memory held between calls. */
  get heldBytes(): number {
    return this.carry.length + (this.remembered?.bytes.length ?? 0);
  }

  /** The same with all that it costs (memory/cost.ts): the message at hand, or the last one, which is referred to until the next begins. */
  get cost(): number {
    const texts = this.target.length + (this.contentLength?.length ?? 0) + (this.transferEncoding?.length ?? 0);
    const fields = this.kept === undefined ? 0 : FIELDS_COST + this.keptBytes;
    return bufferCost(this.carry) + this.rememberedCost + texts + fields;
  }

  /** Makes ready for the next message. */
  begin(): void {
    this.outcome = HEAD_MORE;
    this.started = false;
    this.statusCode = 0;
    this.headers = NO_HEADERS;
    this.plainLength = -1;
    this.contentLength = undefined;
    this.transferEncoding = undefined;
    this.expectsContinue = false;
    this.upgrade = '';
    this.badLines = 0;
    this.headBytes = 0;
    this.kept = undefined;
    this.keptBytes = 0;
    this.lastField = undefined;
    this.carried = 0;
    if (this.carry.length > CARRY_KEPT_BYTES) this.carry = NO_BYTES;
  }

  release(): void {
    this.begin();
    this.carry = NO_BYTES;
    this.remembered = undefined;
    this.rememberedCost = 0;
    this.target = '';
  }

  /**
   * Reads bytes[start..end) until the head ends, and sets `outcome`.
   *
   * @returns the position behind what was read: the body's first byte when HEAD_DONE
   */
  consume(bytes: Buffer, start: number, end: number): number {
    // Where the fields begin, when all of them are in this call.
    let fieldsStart = -1;
    let position = start;
    while (position < end) {
      if (this.started && position > start && fieldsStart < 0 && this.headBytes === position - start) {
        if (this.recall(bytes, position, end)) return position + this.remembered!.length;
        fieldsStart = position;
      }
      let lineEnd = position;
      let colon = -1;
      for (; lineEnd < end; lineEnd++) {
        const c = bytes[lineEnd]!;
        if (c === LF) break;
        if (c === COLON && colon < 0) colon = lineEnd;
      }
      this.headBytes += lineEnd - position + 1;
      if (this.headBytes > this.maxBytes) {
        this.outcome = HEAD_LIMIT;
        return end;
      }
      if (lineEnd === end) {
        this.headBytes--;
        this.append(bytes, position, end);
        if (!this.started && this.carried <= START_PROBED_BYTES && !this.canStart()) this.outcome = HEAD_INVALID;
        return end;
      }
      if (this.carried === 0) this.outcome = this.line(bytes, position, lineEnd, colon);
      else this.outcome = this.carriedLine(bytes, position, lineEnd);
      position = lineEnd + 1;
      if (this.outcome !== HEAD_MORE) {
        if (fieldsStart >= 0 && this.outcome === HEAD_DONE) this.remember(bytes, fieldsStart, position);
        return position;
      }
    }
    return position;
  }

  /** Takes the fields of the message before, when the same bytes stand here. */
  private recall(bytes: Buffer, start: number, end: number): boolean {
    const { remembered } = this;
    if (remembered === undefined || remembered.length === 0) return false;
    const { length } = remembered;
    if (this.headBytes + length > this.maxBytes || start + length > end) return false;
    if (remembered.bytes.compare(bytes, start, start + length, 0, length) !== 0) return false;
    this.misses = 0;
    this.headBytes += length;
    this.headers = remembered.headers;
    this.plainLength = remembered.plainLength;
    this.contentLength = remembered.contentLength;
    this.transferEncoding = remembered.transferEncoding;
    this.expectsContinue = remembered.expectsContinue;
    this.upgrade = remembered.upgrade;
    this.keptBytes = remembered.keptBytes;
    this.outcome = HEAD_DONE;
    return true;
  }

  private remember(bytes: Buffer, start: number, end: number): void {
    const length = end - start;
    if (this.misses >= MISSES || this.badLines > 0 || length > REMEMBERED_BYTES) {
      if (this.remembered !== undefined) this.remembered.length = 0;
      return;
    }
    this.misses++;
    let { remembered } = this;
    if (remembered === undefined || remembered.bytes.length < length) {
      // Not at the first message: most connections that have one have no second.
      if (this.misses === 1) return;
      remembered = { ...this.fields(), bytes: Buffer.allocUnsafeSlow(length), length: 0 };
      this.remembered = remembered;
    } else Object.assign(remembered, this.fields());
    bytes.copy(remembered.bytes, 0, start, end);
    remembered.length = length;
    this.rememberedCost = BUFFER_COST + remembered.bytes.length + headersCost(remembered.headers);
  }

  private fields(): Omit<RememberedFields, 'bytes' | 'length'> {
    const { headers, plainLength, contentLength, transferEncoding, expectsContinue, upgrade, keptBytes } = this;
    return { headers, plainLength, contentLength, transferEncoding, expectsContinue, upgrade, keptBytes };
  }

  private append(bytes: Buffer, start: number, end: number): void {
    const length = this.carried + end - start;
    if (length > this.carry.length) {
      const grown = Buffer.allocUnsafeSlow(
        Math.max(CARRY_BYTES, length, Math.min(this.carry.length * 2, this.maxBytes)),
      );
      this.carry.copy(grown, 0, 0, this.carried);
      this.carry = grown;
    }
    bytes.copy(this.carry, this.carried, start, end);
    this.carried = length;
  }

  private carriedLine(bytes: Buffer, start: number, lineEnd: number): HeadOutcome {
    this.append(bytes, start, lineEnd);
    const length = this.carried;
    this.carried = 0;
    const colon = this.carry.indexOf(COLON);
    return this.line(this.carry, 0, length, colon < length ? colon : -1);
  }

  /** So that what is no HTTP does not have to fill the limit first. */
  private canStart(): boolean {
    const probe = this.isRequest ? probeRequest : probeResponse;
    return probe(this.carry, 0, this.carried) !== 'no';
  }

  /** One line without its LF; `colon` is the position of its first colon, -1 without one. */
  private line(bytes: Buffer, start: number, lineEnd: number, colon: number): HeadOutcome {
    const end = lineEnd > start && bytes[lineEnd - 1] === CR ? lineEnd - 1 : lineEnd;
    if (!this.started) return this.startLine(bytes, start, end);
    if (end === start) {
      this.headers = this.kept ?? NO_HEADERS;
      return HEAD_DONE;
    }
    if (isBlank(bytes[start])) this.foldedLine(bytes, start, end);
    else if (colon <= start) {
      this.lastField = undefined;
      this.badLines++;
    } else this.field(bytes, start, colon, end);
    return HEAD_MORE;
  }

  private startLine(bytes: Buffer, start: number, end: number): HeadOutcome {
    this.started = this.isRequest ? this.requestLine(bytes, start, end) : this.statusLine(bytes, start, end);
    return this.started ? HEAD_MORE : HEAD_INVALID;
  }

  private requestLine(bytes: Buffer, start: number, lineEnd: number): boolean {
    if (findRequestLine(bytes, start, lineEnd) === LINE_NONE) return false;
    const { methodEnd, targetStart, targetEnd, minor, hasControls } = requestLine;
    this.method = methodAt(bytes, start, methodEnd)!;
    this.target = hasControls
      ? withoutControls(bytes, targetStart, targetEnd)
      : bytes.toString('latin1', targetStart, targetEnd);
    this.minorVersion = minor;
    return true;
  }

  /** status-line = HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112 section 4). */
  private statusLine(bytes: Buffer, start: number, end: number): boolean {
    if (end - start < VERSION_LENGTH) return false;
    const minor = minorVersionAt(bytes, start);
    const status = minor < 0 ? -1 : statusAt(bytes, start + VERSION_LENGTH, end);
    if (status < 0) return false;
    this.minorVersion = minor;
    this.statusCode = status;
    return true;
  }

  private field(bytes: Buffer, start: number, colon: number, lineEnd: number): void {
    let nameEnd = colon;
    // RFC 9112 section 5.1 forbids blanks before the colon; who reads such a field at all reads it without them.
    while (nameEnd > start && isBlank(bytes[nameEnd - 1])) nameEnd--;
    const field = this.table.find(bytes, start, nameEnd);
    this.lastField = field;
    if (field === undefined) return;
    if (field.framing === FRAMING_CONTENT_LENGTH && this.takePlainLength(field, bytes, colon + 1, lineEnd)) return;
    const value = trimmed(bytes, colon + 1, lineEnd);
    this.keptBytes += FIELD_COST + value.length;
    if (field.framing !== 0) this.framingField(field, value, ', ');
    if (!field.keep) return;
    this.kept ??= new Map();
    const values = this.kept.get(field.name);
    if (values === undefined) this.kept.set(field.name, [value]);
    else values.push(value);
  }

  /** The usual Content-Length, without a string. */
  private takePlainLength(field: KnownField, bytes: Buffer, start: number, end: number): boolean {
    if (field.keep || this.plainLength >= 0 || this.contentLength !== undefined) return false;
    let from = start;
    while (from < end && isBlank(bytes[from])) from++;
    if (from === end || end - from > PLAIN_DIGITS) return false;
    let length = 0;
    for (let i = from; i < end; i++) {
      const digit = bytes[i]! - 0x30;
      if (digit < 0 || digit > 9) return false;
      length = length * 10 + digit;
    }
    this.plainLength = length;
    return true;
  }

  /** obs-fold (RFC 9112 section 5.2): a line that begins with a blank continues the value before it, as if by one space. */
  private foldedLine(bytes: Buffer, start: number, end: number): void {
    const field = this.lastField;
    if (field === undefined) return;
    const more = trimmed(bytes, start, end);
    if (field.framing !== 0) this.framingField(field, more, ' ');
    const values = field.keep ? this.kept?.get(field.name) : undefined;
    if (values === undefined) return;
    const last = values.length - 1;
    this.keptBytes += more.length + FOLD_COST;
    // Nothing that looks into the text as it grows: thousands of lines may follow.
    if (values[last] === '') values[last] = more;
    else if (more !== '') values[last] += ` ${more}`;
  }

  private framingField(field: KnownField, value: string, separator: string): void {
    switch (field.framing) {
      case FRAMING_CONTENT_LENGTH:
        if (this.plainLength >= 0) this.contentLength = String(this.plainLength);
        this.plainLength = -1;
        this.contentLength = this.contentLength === undefined ? value : this.contentLength + separator + value;
        break;
      case FRAMING_TRANSFER_ENCODING:
        this.transferEncoding = this.transferEncoding === undefined ? value : this.transferEncoding + separator + value;
        break;
      case FRAMING_EXPECT:
        if (value.toLowerCase().includes('100-continue')) this.expectsContinue = true;
        break;
      case FRAMING_UPGRADE:
        this.upgrade = value.length > MAX_UPGRADE_LENGTH ? '' : value.toLowerCase();
        break;
    }
  }
}

/** bytes[start..end) without the optional white space around it (RFC 9110 section 5.6.3), as latin1. */
function trimmed(bytes: Buffer, start: number, end: number): string {
  let from = start;
  let to = end;
  while (from < to && isBlank(bytes[from])) from++;
  while (to > from && isBlank(bytes[to - 1])) to--;
  return bytes.toString('latin1', from, to);
}
