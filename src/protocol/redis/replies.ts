import { NEED_MORE, NumberReader } from './number.ts';
import {
  ARRAY,
  ATTRIBUTE,
  BLOB,
  BULK_ERROR,
  BULK_STRING,
  CHUNK,
  END,
  FORMS,
  LINE,
  MAP,
  NULL,
  PUSH,
  SET,
  SIMPLE_ERROR,
  SIMPLE_STRING,
} from './reply-types.ts';
import { errorWord, OTHER_PUSH, pushWord, statusWord } from './reply-words.ts';

/** Takes the replies of the server. */
export interface ReplySink {
  /** A reply begins with this byte. @returns false when it must not be read now: `feed` ends before it */
  begins(type: number): boolean;
  /** A reply is whole: the reader's fields describe it. */
  reply(): void;
  /** The same of an element of a reply, where `wantsElements` is set. */
  element(): void;
  /** What comes out of band is whole: a push of RESP3. `word` is its kind. */
  pushed(): void;
  /** What stands where a reply must begin is none. */
  replyMalformed(): void;
}

const CR = 0x0d;
const LF = 0x0a;
const UNKNOWN_LENGTH = 0x3f; // ?
const NOTHING = Buffer.alloc(0);
/** So much of a line, or of an error or the first string of a push, is read. */
const KEPT_BYTES = 64;

/** The next bytes: begin a value, end a line that is passed over, belong to a blob, to the CR LF behind it. */
const VALUE = 0;
const REST_OF_LINE = 1;
const BYTES = 2;
const BYTES_END = 3;

/**
 * Finds the replies in the server's bytes, RESP2 and RESP3. Nothing of a reply is kept but the beginning of a line that is not whole; bulk
 * strings are passed over by their length, a hole in them included.
 */
export class ReplyReader {
  /** Where the next reply begins is known. */
  synced: boolean;
  /** Of the reply or element that is reported: its first byte, whether it is an error, a null; the first word of an error or line. */
  type = 0;
  isError = false;
  isNull = false;
  word = '';
  /** Elements of the aggregate that is reported; -1 where they are not counted in advance. */
  elements = 0;
  /** When its first byte was seen, and its size in bytes. */
  startUs = 0;
  size = 0;
  /** Time of the bytes at hand, and bytes of the stream so far, lost ones included. */
  nowUs = 0;
  streamBytes = 0;
  /** Whether the elements of the reply that begins are reported one by one. */
  wantsElements = false;
  private readonly sink: ReplySink;
  private readonly maxDepth: number;
  private readonly number = new NumberReader();
  private stopped = false;
  private state = VALUE;
  private missing = 0;
  private line: Buffer = NOTHING;
  private lineLength = 0;
  /** Bytes of the blob or line that are to be read for `word`. */
  private wanted = 0;
  /** A string of unknown length: its chunks follow. */
  private inChunks = false;
  /** The aggregates around the next value: values that are still to come in each, and the type. */
  private depth = 0;
  private readonly left: number[] = [];
  private readonly types: number[] = [];
  /** Of the whole reply, while its elements are read. */
  private outerType = 0;
  outerElements = 0;
  /** A reply has begun. */
  private begun = false;
  private pushWord = '';

  /** @param maxDepth of aggregates within each other */
  constructor(sink: ReplySink, maxDepth: number, synced: boolean) {
    this.sink = sink;
    this.maxDepth = maxDepth;
    this.synced = synced;
  }

  /** The next byte begins a reply. */
  get atBoundary(): boolean {
    return this.synced && !this.begun;
  }

  get heldBytes(): number {
    return this.line.length;
  }

  /** @returns where reading ended: before `end` when the sink refused the reply that begins there */
  feed(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): number {
    this.nowUs = timeUs;
    let position = start;
    while (position < end && this.synced && !this.stopped) {
      if (!this.begun) {
        if (!this.sink.begins(bytes[position]!)) break;
        // The sink may have given up.
        if (this.stopped || !this.synced) break;
        this.begun = true;
        this.startUs = firstUs;
        this.size = 0;
        this.depth = 0;
      }
      const before = position;
      position = this.state === VALUE ? this.readValue(bytes, position, end) : this.goOn(bytes, position, end);
      this.size += position - before;
      this.finishValues();
    }
    this.streamBytes += position - start;
    return position;
  }

  skip(length: number, timeUs: number): void {
    this.streamBytes += length;
    this.nowUs = timeUs;
  }

  /** @returns whether the place in the stream is still known */
  gap(length: number, timeUs: number): boolean {
    this.skip(length, timeUs);
    if (!this.synced) return false;
    if (this.state === BYTES && this.missing >= length) {
      this.missing -= length;
      this.size += length;
      if (this.wanted > 0) this.lineLength = 0;
      this.wanted = 0;
      if (this.missing === 0) this.endBytes();
      return true;
    }
    this.lose();
    return false;
  }

  lose(): void {
    this.synced = false;
    this.forget();
  }

  /** A reply begins with the next byte. */
  resync(): void {
    this.forget();
    this.synced = true;
  }

  stop(): void {
    this.stopped = true;
    this.forget();
  }

  private forget(): void {
    this.begun = false;
    this.state = VALUE;
    this.depth = 0;
    this.lineLength = 0;
    this.wanted = 0;
    this.inChunks = false;
    this.whole = false;
    this.wantsElements = false;
    this.line = NOTHING;
  }

  /** A value was read to its end: what it belongs to may be whole with it. */
  private whole = false;

  /** At the beginning of a value. */
  private readValue(bytes: Buffer, position: number, end: number): number {
    if (this.lineLength > 0) return this.gather(bytes, position, end);
    const type = bytes[position]!;
    const form = FORMS[type]!;
    if (form === 0 || (this.inChunks && type !== CHUNK) || (!this.inChunks && type === CHUNK)) return this.fail(end);
    if (form === LINE) {
      const lf = lineEnd(bytes, position, end);
      if (lf < 0) return this.gather(bytes, position, end);
      if (!this.endLine(bytes, position, lf)) return this.fail(end);
      return lf + 1;
    }
    if (position + 1 < end && bytes[position + 1] === UNKNOWN_LENGTH) {
      if (position + 3 >= end) return this.gather(bytes, position, end);
      if (bytes[position + 2] !== CR || bytes[position + 3] !== LF || !this.beginUnknown(type)) return this.fail(end);
      return position + 4;
    }
    const value = this.number.read(bytes, position + 1, end);
    if (value === NEED_MORE) return this.gather(bytes, position, end);
    if (value < -1 || !this.beginLength(type, value)) return this.fail(end);
    const { next } = this.number;
    if (this.state !== BYTES || this.wanted > 0 || this.missing + 2 > end - next) return next;
    // All of it is here.
    const last = next + this.missing + 1;
    if (bytes[last - 1] !== CR || bytes[last] !== LF) return this.fail(end);
    this.missing = 0;
    this.state = VALUE;
    if (!this.inChunks) this.whole = true;
    return last + 1;
  }

  /** A line that is not whole: its beginning is copied. */
  private gather(bytes: Buffer, position: number, end: number): number {
    if (this.line.length === 0) this.line = Buffer.allocUnsafeSlow(KEPT_BYTES);
    const { line } = this;
    let at = position;
    while (at < end) {
      if (this.lineLength === KEPT_BYTES) {
        // Only texts and numbers are as long.
        if (FORMS[line[0]!] !== LINE) return this.fail(end);
        this.state = REST_OF_LINE;
        return at;
      }
      const byte = bytes[at++]!;
      line[this.lineLength++] = byte;
      if (byte !== LF) continue;
      const length = this.lineLength;
      this.lineLength = 0;
      // It is whole now: read as if it had come so.
      if (this.readValue(line, 0, length) !== length || this.lineLength > 0) return this.fail(end);
      return at;
    }
    return at;
  }

  private goOn(bytes: Buffer, position: number, end: number): number {
    switch (this.state) {
      case REST_OF_LINE: {
        if (this.line[0] === END) return this.fail(end);
        let at = position;
        while (at < end && bytes[at] !== LF) at++;
        if (at === end) return end;
        const length = this.lineLength;
        this.lineLength = 0;
        this.state = VALUE;
        this.take(this.line[0]!, this.line, 1, length);
        this.whole = true;
        return at + 1;
      }
      case BYTES: {
        const part = Math.min(this.missing, end - position);
        if (this.wanted > 0) this.wantBytes(bytes, position, part);
        this.missing -= part;
        if (this.missing === 0) this.endBytes();
        return position + part;
      }
      default:
        if (bytes[position] !== (this.missing === 2 ? CR : LF)) return this.fail(end);
        if (--this.missing === 0) {
          this.state = VALUE;
          if (!this.inChunks) this.whole = true;
        }
        return position + 1;
    }
  }

  private fail(end: number): number {
    this.lose();
    this.sink.replyMalformed();
    return end;
  }

  /** @param lf the line's last byte */
  private endLine(bytes: Buffer, start: number, lf: number): boolean {
    if (bytes[lf - 1] !== CR) return false;
    const type = bytes[start]!;
    if (type === END) {
      if (lf !== start + 2 || this.depth === 0 || this.left[this.depth - 1] !== Number.POSITIVE_INFINITY) return false;
      this.endAggregate();
      this.whole = true;
      return true;
    }
    this.take(type, bytes, start + 1, lf - 1);
    this.whole = true;
    return true;
  }

  /** What a line says. */
  private take(type: number, bytes: Buffer, start: number, end: number): void {
    if (!this.isTold) return;
    this.describe(type);
    if (this.outerType === PUSH) this.word = pushWord(bytes, start, end);
    else if (type === SIMPLE_ERROR) this.word = errorWord(bytes, start, end);
    else if (type === SIMPLE_STRING) this.word = statusWord(bytes, start, end);
  }

  /** The value that begins is one whose facts are wanted: a reply, an element of it, or the kind of a push. */
  private get isTold(): boolean {
    const { depth } = this;
    return depth === 0 || (depth === 1 && (this.wantsElements || (this.outerType === PUSH && this.pushWord === '')));
  }

  private describe(type: number): void {
    this.type = type;
    this.isError = type === SIMPLE_ERROR || type === BULK_ERROR;
    this.isNull = type === NULL;
    this.word = '';
    this.elements = 0;
  }

  /** @returns false when it cannot be */
  private beginLength(type: number, value: number): boolean {
    if (this.isTold) this.describe(type);
    if (FORMS[type] === BLOB) {
      if (value < 0) {
        if (type !== BULK_STRING) return false;
        if (this.isTold) this.isNull = true;
        this.whole = true;
        return true;
      }
      if (type === CHUNK && value === 0) {
        this.inChunks = false;
        this.whole = true;
        return true;
      }
      this.missing = value;
      this.state = BYTES;
      const wants = type === BULK_ERROR || (this.outerType === PUSH && this.depth === 1 && this.pushWord === '');
      this.wanted = wants && this.isTold ? Math.min(value, KEPT_BYTES) : 0;
      if (value === 0) this.endBytes();
      return true;
    }
    if (value < 0) {
      if (type !== ARRAY) return false;
      if (this.isTold) this.isNull = true;
      this.whole = true;
      return true;
    }
    return this.beginAggregate(type, type === MAP || type === ATTRIBUTE ? 2 * value : value);
  }

  private beginUnknown(type: number): boolean {
    if (this.isTold) this.describe(type);
    if (type === BULK_STRING) {
      this.inChunks = true;
      return true;
    }
    if (type !== ARRAY && type !== MAP && type !== SET) return false;
    return this.beginAggregate(type, Number.POSITIVE_INFINITY);
  }

  private beginAggregate(type: number, values: number): boolean {
    // Pushes stand between replies, attributes before what they describe.
    if (type === PUSH && this.depth > 0) return false;
    if (this.depth === this.maxDepth) return false;
    if (this.depth === 0) {
      this.outerType = type;
      this.outerElements = values === Number.POSITIVE_INFINITY ? -1 : values;
      this.pushWord = '';
    }
    if (values === 0) {
      // An attribute without values is followed by its reply.
      if (type !== ATTRIBUTE) {
        this.elements = 0;
        this.whole = true;
      }
      return true;
    }
    this.left[this.depth] = values;
    this.types[this.depth] = type;
    this.depth++;
    return true;
  }

  /** Bytes for `word`. */
  private wantBytes(bytes: Buffer, position: number, length: number): void {
    if (this.line.length === 0) this.line = Buffer.allocUnsafeSlow(KEPT_BYTES);
    const part = Math.min(this.wanted, length);
    bytes.copy(this.line, this.lineLength, position, position + part);
    this.lineLength += part;
    this.wanted -= part;
  }

  private endBytes(): void {
    if (this.lineLength > 0) {
      const { line, lineLength } = this;
      this.word = this.outerType === PUSH ? pushWord(line, 0, lineLength) : errorWord(line, 0, lineLength);
      this.lineLength = 0;
    }
    this.state = BYTES_END;
    this.missing = 2;
  }

  /** A value is whole, and maybe the aggregates around it. */
  private finishValues(): void {
    while (this.whole) {
      if (this.depth === 0) {
        this.whole = false;
        this.finishReply();
        return;
      }
      if (this.depth === 1) this.finishElement();
      const inner = this.depth - 1;
      const left = this.left[inner]! - 1;
      this.left[inner] = left;
      if (left > 0) {
        this.whole = false;
        return;
      }
      // An attribute is no value: the one that it describes follows.
      if (this.types[inner] === ATTRIBUTE) {
        this.depth = inner;
        this.whole = false;
        return;
      }
      this.endAggregate();
    }
  }

  /** An aggregate is a value of the one around it, or the reply. */
  private endAggregate(): void {
    this.depth--;
    if (this.isTold) this.describe(this.types[this.depth]!);
    if (this.depth > 0) return;
    this.elements = this.outerElements;
    this.word = this.pushWord;
  }

  private finishElement(): void {
    if (this.outerType === PUSH && this.pushWord === '') this.pushWord = this.word === '' ? OTHER_PUSH : this.word;
    else if (this.wantsElements && this.outerType === ARRAY) this.sink.element();
  }

  private finishReply(): void {
    this.begun = false;
    this.lineLength = 0;
    this.outerType = 0;
    if (this.type === PUSH) this.sink.pushed();
    else this.sink.reply();
    this.wantsElements = false;
  }
}

/** @returns where the LF of the line is that begins at `start`, -1 when it is not there */
function lineEnd(bytes: Buffer, start: number, end: number): number {
  for (let at = start; at < end; at++) if (bytes[at] === LF) return at;
  return -1;
}
