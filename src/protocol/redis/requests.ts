import { type Command, findCommand, OTHER } from './commands.ts';
import { NEED_MORE, NO_NUMBER, NumberReader } from './number.ts';

/** Takes the commands of the client. */
export interface RequestSink {
  /** A command is whole: the reader's fields describe it. */
  request(): void;
  /** What stands where a command must begin is none. */
  requestMalformed(): void;
}

const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
const TAB = 0x09;
const ARRAY = 0x2a; // *
const BULK = 0x24; // $

/** Between two commands. */
const IDLE = 0;
/** Within `*N\r\n` or `$N\r\n`. */
const HEADER = 1;
/** Within an argument, and within the CR LF behind it. */
const ARGUMENT = 2;
const ARGUMENT_END = 3;
const INLINE = 4;

const NOTHING = Buffer.alloc(0);
/** The name and two arguments are read, of each so much. */
const KEPT_ARGUMENTS = 3;
const KEPT_BYTES = 64;
/** `*`, 15 digits, CR LF. */
const HEADER_BYTES = 18;
/** So much of an inline command is read. */
const INLINE_KEPT_BYTES = 256;
/** "PROTO_INLINE_MAX_SIZE": a server refuses longer ones. */
const INLINE_BYTES = 65_536;

/**
 * Finds the commands in the client's bytes (RESP: arrays of bulk strings, or inline). One that is whole in the bytes at hand is read where it
 * lies. Of others the first arguments are copied, the rest is passed over by its length, a hole in it included.
 */
export class RequestReader {
  /** Where the next command begins is known. */
  synced: boolean;
  /** Of the command that is reported: when its first byte was seen, its place in the stream, its size in bytes. */
  startUs = 0;
  offset = 0;
  size = 0;
  command: Command = OTHER;
  argumentCount = 0;
  /** It came in one write with the command before it: nothing separates them but the limits of segments. */
  continues = false;
  isInline = false;
  /** Time of the bytes at hand. */
  nowUs = 0;
  /** Bytes of the stream so far, lost ones included. */
  streamBytes = 0;
  private readonly sink: RequestSink;
  private readonly number = new NumberReader();
  private stopped = false;
  /** A further command in these bytes belongs to the same write. */
  private joined = false;
  /** Where the arguments behind the name lie: in `bytes`, or in `kept`. */
  private bytes: Buffer = NOTHING;
  private readonly starts = [0, 0, 0];
  private readonly ends = [0, 0, 0];
  /** Of a command that is not whole. */
  private state = IDLE;
  private header: Buffer = NOTHING;
  private headerLength = 0;
  private missing = 0;
  /** Arguments that are still to come; -1 before their number is known. */
  private left = -1;
  private index = 0;
  private kept: Buffer = NOTHING;

  constructor(sink: RequestSink, synced: boolean) {
    this.sink = sink;
    this.synced = synced;
  }

  /** The next byte begins a command. */
  get atBoundary(): boolean {
    return this.synced && this.state === IDLE;
  }

  /** Bytes held between calls. */
  get heldBytes(): number {
    return this.header.length + this.kept.length;
  }

  /** An argument of the command that is reported, from 1 on; up to 64 bytes of it, undefined when it is longer or was lost. */
  argument(index: 1 | 2): string | undefined {
    if (index >= this.argumentCount) return undefined;
    const start = this.starts[index]!;
    const end = this.ends[index]!;
    return end - start > KEPT_BYTES ? undefined : this.bytes.toString('latin1', start, end);
  }

  /** @param firstUs when the first of these bytes was seen */
  feed(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const base = this.streamBytes - start;
    this.streamBytes += end - start;
    this.nowUs = timeUs;
    this.joined = this.state !== IDLE;
    let position = start;
    while (position < end && this.synced && !this.stopped) {
      if (this.state === IDLE) {
        this.startUs = firstUs;
        this.offset = base + position;
        this.continues = this.joined;
        this.joined = true;
        const next = bytes[position] === ARRAY ? this.readWhole(bytes, position, end) : NEED_MORE;
        if (next === NO_NUMBER) {
          this.fail();
          return;
        }
        if (next === NEED_MORE) this.begin(bytes[position]!);
        else {
          position = next;
          continue;
        }
      }
      position = this.goOn(bytes, position, end);
    }
    // What is borrowed must not be kept.
    if (this.state === IDLE) this.bytes = NOTHING;
  }

  /** Bytes that nobody reads: where they stand in the stream still counts. */
  skip(length: number, timeUs: number): void {
    this.streamBytes += length;
    this.nowUs = timeUs;
  }

  /** @returns whether the place in the stream is still known */
  gap(length: number, timeUs: number): boolean {
    this.skip(length, timeUs);
    if (!this.synced) return false;
    if (this.state === ARGUMENT && this.missing >= length) {
      this.missing -= length;
      this.size += length;
      // Longer than what is kept: not known.
      if (this.index < KEPT_ARGUMENTS) this.ends[this.index] = this.starts[this.index]! + KEPT_BYTES + 1;
      if (this.missing === 0) this.endArgument();
      return true;
    }
    this.lose();
    return false;
  }

  lose(): void {
    this.synced = false;
    this.forget();
  }

  /** A command begins with the next byte. */
  resync(): void {
    this.forget();
    this.synced = true;
  }

  /** Reads no more. */
  stop(): void {
    this.stopped = true;
    this.forget();
  }

  private forget(): void {
    this.state = IDLE;
    this.headerLength = 0;
    this.missing = 0;
    this.bytes = NOTHING;
    this.kept = NOTHING;
    this.header = NOTHING;
  }

  private fail(): void {
    this.lose();
    this.sink.requestMalformed();
  }

  /** Reads a command that is whole. @returns where the next one begins, NEED_MORE or NO_NUMBER */
  private readWhole(bytes: Buffer, start: number, end: number): number {
    const { number, starts, ends } = this;
    const count = number.read(bytes, start + 1, end);
    if (count < -1) return count;
    let at = number.next;
    for (let i = 0; i < count; i++) {
      if (at >= end) return NEED_MORE;
      if (bytes[at] !== BULK) return NO_NUMBER;
      const length = number.read(bytes, at + 1, end);
      if (length < -1) return length;
      if (length < 0) return NO_NUMBER;
      const from = number.next;
      at = from + length + 2;
      if (at > end) return NEED_MORE;
      if (bytes[at - 2] !== CR || bytes[at - 1] !== LF) return NO_NUMBER;
      if (i < KEPT_ARGUMENTS) {
        starts[i] = from;
        ends[i] = at - 2;
      }
    }
    this.bytes = bytes;
    this.argumentCount = count;
    this.size = at - start;
    this.isInline = false;
    if (count > 0) this.tell();
    else this.joined = this.continues;
    return at;
  }

  /** A command that is not whole. */
  private begin(first: number): void {
    this.size = 0;
    this.left = -1;
    this.index = 0;
    this.headerLength = 0;
    this.isInline = first !== ARRAY;
    if (this.isInline) {
      this.state = INLINE;
      if (this.kept.length < INLINE_KEPT_BYTES) this.kept = Buffer.allocUnsafeSlow(INLINE_KEPT_BYTES);
    } else {
      this.state = HEADER;
      if (this.kept.length === 0) this.kept = Buffer.allocUnsafeSlow(KEPT_ARGUMENTS * KEPT_BYTES);
    }
    for (let i = 0; i < KEPT_ARGUMENTS; i++) this.starts[i] = this.ends[i] = i * KEPT_BYTES;
    if (this.header.length === 0) this.header = Buffer.allocUnsafeSlow(HEADER_BYTES);
  }

  private goOn(bytes: Buffer, position: number, end: number): number {
    switch (this.state) {
      case HEADER:
        return this.gatherHeader(bytes, position, end);
      case ARGUMENT: {
        const part = Math.min(this.missing, end - position);
        this.keep(bytes, position, part);
        this.size += part;
        this.missing -= part;
        if (this.missing === 0) this.endArgument();
        return position + part;
      }
      case ARGUMENT_END: {
        if (bytes[position] !== (this.missing === 2 ? CR : LF)) {
          this.fail();
          return end;
        }
        this.size++;
        if (--this.missing === 0) this.nextArgument();
        return position + 1;
      }
      default:
        return this.gatherInline(bytes, position, end);
    }
  }

  private gatherHeader(bytes: Buffer, position: number, end: number): number {
    const { header, number } = this;
    let at = position;
    while (at < end) {
      if (this.headerLength === HEADER_BYTES) break;
      const byte = bytes[at++]!;
      header[this.headerLength++] = byte;
      this.size++;
      if (byte === LF) break;
    }
    const value = number.read(header, 1, this.headerLength);
    if (value === NEED_MORE && this.headerLength < HEADER_BYTES) return at;
    if (value < -1 || (this.left >= 0 && (header[0] !== BULK || value < 0))) {
      this.fail();
      return end;
    }
    this.headerLength = 0;
    if (this.left < 0) {
      this.argumentCount = value;
      this.left = value;
      if (value <= 0) {
        this.state = IDLE;
        this.joined = this.continues;
      }
    } else {
      this.missing = value;
      this.state = ARGUMENT;
      if (value === 0) this.endArgument();
    }
    return at;
  }

  private keep(bytes: Buffer, position: number, length: number): void {
    const { index, ends, starts } = this;
    if (index >= KEPT_ARGUMENTS) return;
    const kept = ends[index]! - starts[index]!;
    const room = Math.max(0, KEPT_BYTES - kept);
    bytes.copy(this.kept, ends[index]!, position, position + Math.min(room, length));
    ends[index] = ends[index]! + Math.min(length, KEPT_BYTES + 1 - kept);
  }

  private endArgument(): void {
    this.state = ARGUMENT_END;
    this.missing = 2;
  }

  private nextArgument(): void {
    this.index++;
    if (--this.left > 0) {
      this.state = HEADER;
      return;
    }
    this.state = IDLE;
    this.bytes = this.kept;
    this.tell();
  }

  private gatherInline(bytes: Buffer, position: number, end: number): number {
    let at = position;
    for (; at < end; at++) {
      const byte = bytes[at]!;
      if (byte === LF) break;
      if ((byte < SPACE && byte !== TAB && byte !== CR) || this.size + at - position >= INLINE_BYTES) {
        this.fail();
        return end;
      }
      const length = this.size + at - position;
      if (length < INLINE_KEPT_BYTES) this.kept[length] = byte;
    }
    this.size += at - position;
    if (at === end) return end;
    const length = Math.min(this.size, INLINE_KEPT_BYTES);
    this.size++;
    this.state = IDLE;
    this.bytes = this.kept;
    this.splitInline(length);
    // An empty line is no command: it has no answer.
    if (this.argumentCount > 0) this.tell();
    else this.joined = this.continues;
    return at + 1;
  }

  /** Words between white space; one that begins with a quotation mark ends with it. Those beyond what is kept are not counted. */
  private splitInline(length: number): void {
    const { kept, starts, ends } = this;
    let count = 0;
    let at = 0;
    for (;;) {
      while (at < length && kept[at]! <= SPACE) at++;
      if (at >= length) break;
      const start = at;
      const quote = kept[at] === 0x22 || kept[at] === 0x27 ? kept[at] : 0;
      if (quote !== 0) {
        at++;
        while (at < length && kept[at] !== quote) at += kept[at] === 0x5c ? 2 : 1;
        at = Math.min(at + 1, length);
      } else while (at < length && kept[at]! > SPACE) at++;
      if (count < KEPT_ARGUMENTS) {
        starts[count] = quote === 0 ? start : start + 1;
        ends[count] = Math.max(starts[count]!, quote === 0 ? at : at - 1);
      }
      count++;
    }
    this.argumentCount = count;
  }

  private tell(): void {
    const { bytes, starts, ends } = this;
    let command = ends[0]! - starts[0]! > KEPT_BYTES ? OTHER : findCommand(bytes, starts[0]!, ends[0]!);
    if (command.subcommands !== undefined && this.argumentCount > 1 && ends[1]! - starts[1]! <= KEPT_BYTES) {
      command = command.subcommands.find(bytes, starts[1]!, ends[1]!) ?? command;
    }
    this.command = command;
    this.sink.request();
  }
}
