import { type Direction, FROM_CLIENT } from '../flow/connection.ts';
import { bufferCost } from '../memory/cost.ts';
import { detectHello2, hello2Length, mayBeHello2 } from './hello2.ts';
import {
  OPEN_AUTHENTICATION_FAILED,
  OPEN_MALFORMED,
  OPEN_NEED_MORE,
  OPEN_OTHER_TYPE,
  OPEN_OUTPUT_FULL,
  OPEN_UNEXPECTED_HEADER,
  Opener,
} from './opener.ts';
import type { UndecryptableReason } from './reasons.ts';

export const CHANGE_CIPHER_SPEC = 20;
export const ALERT = 21;
export const HANDSHAKE = 22;
export const APPLICATION_DATA = 23;

export const RECORD_HEADER_LENGTH = 5;
const CHANGE_CIPHER_SPEC_RECORD_LENGTH = 6;
/** RFC 5246 6.2.3; RFC 8446 5.2 allows 2^14 + 256. */
export const MAX_FRAGMENT_LENGTH = 2 ** 14 + 2048;
const MAX_RECORD_LENGTH = RECORD_HEADER_LENGTH + MAX_FRAGMENT_LENGTH;
/** Bytes looked through for a record boundary: whatever record the gap cut, the next ones lie within. */
const RESYNC_BYTES = 4 * MAX_RECORD_LENGTH;
/** A partial buffer above this is not kept for the next partial record. */
const KEPT_BUFFER_BYTES = 2048;

/** What comes out of a record stream, within `feed` and `end`. All bytes are borrowed. */
export interface RecordSink {
  /** A record that is not encrypted. */
  clearRecord(direction: Direction, type: number, bytes: Buffer, start: number, end: number): void;
  /** The client's first message, in the format of SSL 2.0 (hello2.ts): bytes[start..end) is all of it. */
  hello2(bytes: Buffer, start: number, end: number): void;
  /** Application data came before the stream has keys. @returns whether to pass over it or to wait */
  unreadableRecord(direction: Direction): 'skip' | 'wait';
  /** Authenticated application data: one record or several. @param firstUs when the first byte of the first record was fed */
  applicationData(direction: Direction, bytes: Buffer, start: number, end: number, firstUs: number): void;
  /** An authenticated record of another type. */
  protectedRecord(direction: Direction, type: number, bytes: Buffer, start: number, end: number): void;
  /** The first record under some keys was authentic. */
  keysConfirmed(direction: Direction): void;
  /** Something was lost: `lost` says how much, when the next record is found. */
  lossAhead(direction: Direction): void;
  /** About so many bytes of application data were lost: exact for AEAD suites without padding, an estimate for CBC. */
  lost(direction: Direction, length: number): void;
  failed(direction: Direction, reason: UndecryptableReason): void;
}

/** The search for a record that the present keys open. */
interface Search {
  /** Records begin where expected: those that do not open are passed over whole. Else every byte may begin one. */
  readonly aligned: boolean;
  /** Record numbers tried beyond the present one. */
  readonly trials: number;
  /** Whether what is passed over is reported as lost. */
  readonly report: boolean;
  readonly reason: UndecryptableReason;
  lostBytes: number;
  lostRecords: number;
  bytesLeft: number;
}

/**
 * The record layer of one direction: finds records in the byte stream and opens them.
 *
 * Whole records are opened where they lie. Only a record that its segment cuts is gathered, in a buffer that grows with what arrives.
 * After a gap inside a record, that record is passed over and the next one is where it was announced. After a gap that swallowed a
 * header, each place that looks like a header is tried, with the next record numbers, until a record authenticates: a false
 * header cannot.
 */
export class RecordStream {
  readonly direction: Direction;
  /** Nothing is taken: the layer holds what comes. */
  waiting = false;
  /** Everything is passed over: after close_notify. */
  discarding = false;
  /** Set by the layer within a callback: `feed` returns after the present record. */
  interrupted = false;

  readonly #sink: RecordSink;
  #opener: Opener | undefined;
  #isTls13 = false;
  #overhead = 0;
  #confirmed = false;
  #partial: Buffer | undefined;
  #partialLength = 0;
  /** When the first byte of the gathered record was fed, and that of the record at hand. */
  #partialSinceUs = 0;
  #recordSinceUs = 0;
  /** Of the gathered bytes: how many the present feed found there, when the last of these were fed; and the present time. */
  #foundBytes = 0;
  #foundUs = 0;
  #nowUs = 0;
  /** Bytes of a cut record that still come and are not needed. */
  #skipBytes = 0;
  #search: Search | undefined;
  #findsChangeCipherSpec = false;
  /** The next record is the client's first. */
  #mayBeHello2: boolean;

  constructor(direction: Direction, sink: RecordSink) {
    this.direction = direction;
    this.#mayBeHello2 = direction === FROM_CLIENT;
    this.#sink = sink;
  }

  get isKeyed(): boolean {
    return this.#opener !== undefined;
  }

  /** Takes over the opener; the one before is released. @param overhead bytes a record has beyond header and plaintext */
  setKeys(opener: Opener, isTls13: boolean, overhead: number): void {
    this.#opener?.release();
    this.#opener = opener;
    this.#isTls13 = isTls13;
    this.#overhead = overhead;
    this.#confirmed = false;
    this.#search = undefined;
    this.waiting = false;
  }

  /** Passes over records that the keys do not open, until one does (RFC 8446 4.2.10: early data that cannot be read). */
  skipUntilReadable(report: boolean, maxBytes: number): void {
    const reason = 'record_authentication_failed';
    this.#search = { aligned: true, trials: 0, report, reason, lostBytes: 0, lostRecords: 0, bytesLeft: maxBytes };
  }

  /** Looks for the next ChangeCipherSpec: what comes before it was cut by a gap and is not needed. */
  findChangeCipherSpec(): void {
    this.#findsChangeCipherSpec = true;
    this.#dropPartial();
    this.#skipBytes = 0;
  }

  /** @returns the position up to which the bytes were taken: less than `end` when the stream waits or was interrupted */
  feed(bytes: Buffer, start: number, end: number, timeUs: number): number {
    let position = start;
    this.interrupted = false;
    this.#recordSinceUs = timeUs;
    this.#foundUs = this.#nowUs;
    this.#foundBytes = this.#partialLength;
    this.#nowUs = timeUs;
    while (!this.waiting && !this.interrupted) {
      if (this.discarding) return end;
      const before = position;
      const partialBefore = this.#partialLength;
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, end - position);
        this.#skipBytes -= skipped;
        position += skipped;
      }
      if (this.#partialLength > 0) {
        position = this.#fillPartial(bytes, position, end);
        this.#recordSinceUs = timeUs;
        if (this.#partialLength > 0 && position >= end) return end;
      } else {
        if (position >= end) return end;
        position = this.#records(bytes, position, end);
        if (!this.waiting && !this.interrupted && !this.discarding && position < end) {
          this.#append(bytes, position, end);
          position = end;
        }
      }
      const stuck = position === before && this.#partialLength === partialBefore;
      if (stuck && !this.waiting && !this.interrupted) this.#fail('record_malformed', position);
    }
    return position;
  }

  /** A whole record that could not be opened when the stream began to wait, as bytes to feed again; undefined when there is none. */
  takeHeld(): Buffer | undefined {
    if (this.#partialLength < this.#partialTarget()) return undefined;
    const held = Buffer.from(this.#partial!.subarray(0, this.#partialLength));
    this.#dropPartial();
    return held;
  }

  /** What the gathered record costs (memory/cost.ts). */
  get cost(): number {
    return bufferCost(this.#partial);
  }

  /** A gap in an encrypted stream. @param trials record numbers to try */
  gap(length: number, trials: number): void {
    if (this.discarding) return;
    const search = this.#search;
    let lostBytes = search?.lostBytes ?? 0;
    let lostRecords = search?.lostRecords ?? 0;
    const cutRecordLeft = search === undefined ? this.#cutRecordLeft() : -1;
    if (this.#skipBytes > 0) {
      // In the rest of a record that is counted as lost already.
      const within = Math.min(this.#skipBytes, length);
      this.#skipBytes -= within;
      lostBytes += length - within;
    } else if (cutRecordLeft >= length) {
      // The gap lies within one record: the next one begins where this one ends.
      this.#opener!.skip(1);
      lostRecords++;
      lostBytes += this.#partialTarget();
      this.#skipBytes = cutRecordLeft - length;
    } else {
      lostBytes += this.#partialLength + length;
    }
    this.#dropPartial();
    if (search === undefined) this.#sink.lossAhead(this.direction);
    this.#search = {
      aligned: false,
      trials,
      report: search?.report ?? true,
      reason: 'gap_unrecoverable',
      lostBytes,
      lostRecords,
      bytesLeft: RESYNC_BYTES,
    };
  }

  /** No more bytes: what is known to be lost is reported. */
  end(): void {
    const search = this.#search;
    this.#search = undefined;
    if (search !== undefined) this.#reportLoss(search);
  }

  /** Cleanses keys, drops bytes. */
  release(): void {
    this.#opener?.release();
    this.#opener = undefined;
    this.discarding = true;
    this.#dropPartial();
    this.#partial = undefined;
    this.#search = undefined;
  }

  /** Bytes of the gathered record that are still to come; -1 while its header is not there. */
  #cutRecordLeft(): number {
    return this.#partialLength < RECORD_HEADER_LENGTH ? -1 : this.#partialTarget() - this.#partialLength;
  }

  /** The length at which the partial buffer holds a whole record, or its header. */
  #partialTarget(): number {
    if (this.#findsChangeCipherSpec) return Math.max(this.#partialLength, CHANGE_CIPHER_SPEC_RECORD_LENGTH);
    if (this.#partialLength < RECORD_HEADER_LENGTH) return RECORD_HEADER_LENGTH;
    if (this.#mayBeHello2 && mayBeHello2(this.#partial![0]!)) return hello2Length(this.#partial!, 0);
    return RECORD_HEADER_LENGTH + this.#partial!.readUInt16BE(3);
  }

  #dropPartial(): void {
    this.#partialLength = 0;
    if (this.#partial !== undefined && this.#partial.length > KEPT_BUFFER_BYTES) this.#partial = undefined;
  }

  #append(bytes: Buffer, start: number, end: number): void {
    if (this.#partialLength === 0) this.#partialSinceUs = this.#recordSinceUs;
    const needed = this.#partialLength + end - start;
    if (this.#partial === undefined || this.#partial.length < needed) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(2 * needed, 2 * MAX_RECORD_LENGTH), 64));
      if (this.#partial !== undefined) this.#partial.copy(larger, 0, 0, this.#partialLength);
      this.#partial = larger;
    }
    bytes.copy(this.#partial, this.#partialLength, start, end);
    this.#partialLength = needed;
  }

  /** Adds to the gathered record and opens it once it is whole. */
  #fillPartial(bytes: Buffer, start: number, end: number): number {
    let position = start;
    for (;;) {
      const target = this.#partialTarget();
      const taken = Math.min(target - this.#partialLength, end - position);
      if (taken > 0) {
        this.#append(bytes, position, position + taken);
        position += taken;
      }
      if (this.#partialLength < target) return position;
      if (target === RECORD_HEADER_LENGTH && this.#partialTarget() > target && this.#headerPlausible()) continue;
      break;
    }
    const partial = this.#partial!;
    const length = this.#partialLength;
    this.#recordSinceUs = this.#partialSinceUs;
    const consumed = this.#records(partial, 0, length);
    if (this.discarding) {
      this.#dropPartial();
    } else if (consumed > 0) {
      // A search may stop anywhere within; else all was taken.
      if (consumed < length) {
        this.#partialSinceUs = this.#sinceOf(consumed);
        partial.copyWithin(0, consumed, length);
      }
      this.#foundBytes = Math.max(0, this.#foundBytes - consumed);
      this.#partialLength = length - consumed;
      if (this.#partialLength === 0) this.#dropPartial();
    }
    return position;
  }

  /** When a byte of the gathered ones was fed: exact for the first and for those of the present feed, else no earlier than it was. */
  #sinceOf(position: number): number {
    if (position === 0) return this.#partialSinceUs;
    return position >= this.#foundBytes ? this.#nowUs : this.#foundUs;
  }

  /** An implausible header goes to `#records` at once, which says what that means. */
  #headerPlausible(): boolean {
    return this.#isRecordHeader(this.#partial!, 0);
  }

  #isRecordHeader(bytes: Buffer, at: number): boolean {
    const type = bytes[at]!;
    return (
      type >= CHANGE_CIPHER_SPEC &&
      type <= 24 &&
      bytes[at + 1] === 3 &&
      bytes[at + 2]! <= 4 &&
      bytes.readUInt16BE(at + 3) <= MAX_FRAGMENT_LENGTH
    );
  }

  /** Deals with the whole records of bytes[start..end). @returns the position behind the last one */
  #records(bytes: Buffer, start: number, end: number): number {
    let position = start;
    while (!this.waiting && !this.interrupted && !this.discarding) {
      const before = position;
      if (this.#findsChangeCipherSpec) position = this.#toChangeCipherSpec(bytes, position, end);
      else if (this.#opener === undefined) position = this.#clear(bytes, position, end);
      else if (this.#search !== undefined) position = this.#find(this.#opener, this.#search, bytes, position, end);
      else position = this.#open(this.#opener, bytes, position, end);
      if (position === before) break;
    }
    return position;
  }

  /** One record that is not encrypted. */
  #clear(bytes: Buffer, position: number, end: number): number {
    if (end - position < RECORD_HEADER_LENGTH) return position;
    if (this.#mayBeHello2) {
      if (mayBeHello2(bytes[position]!)) return this.#hello2(bytes, position, end);
      this.#mayBeHello2 = false;
    }
    if (!this.#isRecordHeader(bytes, position)) return this.#fail('record_malformed', position);
    const next = position + RECORD_HEADER_LENGTH + bytes.readUInt16BE(position + 3);
    if (next > end) return position;
    const type = bytes[position]!;
    if (type !== APPLICATION_DATA) {
      this.#sink.clearRecord(this.direction, type, bytes, position + RECORD_HEADER_LENGTH, next);
      return next;
    }
    if (this.#sink.unreadableRecord(this.direction) === 'skip') return next;
    return position;
  }

  #hello2(bytes: Buffer, position: number, end: number): number {
    const next = position + hello2Length(bytes, position);
    if (detectHello2(bytes, position, end) === 'no') return this.#fail('record_malformed', position);
    if (next > end) return position;
    this.#mayBeHello2 = false;
    this.#sink.hello2(bytes, position, next);
    return next;
  }

  /** All whole records up to the first that is no application data. */
  #open(opener: Opener, bytes: Buffer, start: number, end: number): number {
    const status = opener.open(bytes, start, end);
    const consumed = Opener.consumed;
    this.#deliver(status);
    switch (status) {
      case OPEN_NEED_MORE:
      case OPEN_OTHER_TYPE:
      case OPEN_OUTPUT_FULL:
        return consumed;
      case OPEN_UNEXPECTED_HEADER:
        return this.#unexpected(bytes, consumed, end);
      case OPEN_AUTHENTICATION_FAILED:
        return this.#fail('record_authentication_failed', consumed);
      default:
        return this.#fail('record_malformed', consumed);
    }
  }

  /** Hands on what the last call of the opener yielded. */
  #deliver(status: number): void {
    const output = Opener.output;
    const appLength = Opener.appLength;
    const otherType = Opener.otherType;
    const otherLength = Opener.otherLength;
    if (!this.#confirmed && Opener.records > 0) {
      this.#confirmed = true;
      this.#sink.keysConfirmed(this.direction);
    }
    if (appLength > 0) this.#sink.applicationData(this.direction, output, 0, appLength, this.#recordSinceUs);
    if (status === OPEN_OTHER_TYPE && !this.discarding) {
      this.#sink.protectedRecord(this.direction, otherType, output, appLength, appLength + otherLength);
    }
  }

  /** A record that is not encrypted between those that are. */
  #unexpected(bytes: Buffer, position: number, end: number): number {
    const type = bytes[position]!;
    if (!this.#isTls13 || type < CHANGE_CIPHER_SPEC || type > ALERT || !this.#isRecordHeader(bytes, position)) {
      return this.#fail('record_malformed', position);
    }
    const length = bytes.readUInt16BE(position + 3);
    const next = position + RECORD_HEADER_LENGTH + length;
    if (next > end) return position;
    // RFC 8446 5: a ChangeCipherSpec of one byte is dropped. An alert comes in the clear from a peer that has no keys yet.
    if (type === ALERT) this.#sink.clearRecord(this.direction, type, bytes, position + RECORD_HEADER_LENGTH, next);
    else if (length !== 1 || bytes[position + RECORD_HEADER_LENGTH] !== 1) this.#fail('record_malformed', position);
    return next;
  }

  /** Tries the record at `position`, under `search`. */
  #find(opener: Opener, search: Search, bytes: Buffer, position: number, end: number): number {
    if (end - position < RECORD_HEADER_LENGTH) return position;
    const length = bytes.readUInt16BE(position + 3);
    const next = position + RECORD_HEADER_LENGTH + length;
    if (this.#couldBeEncrypted(bytes, position)) {
      if (next > end) return position;
      const status = opener.tryOpen(bytes, position, next, this.#trials(search));
      if (status === OPEN_MALFORMED) return this.#fail('record_malformed', position);
      if (status === OPEN_NEED_MORE || status === OPEN_OTHER_TYPE) {
        this.#search = undefined;
        search.lostRecords += Opener.skipped;
        // What was passed over on the way here may have come long before.
        if (bytes === this.#partial) this.#recordSinceUs = this.#sinceOf(position);
        // The report comes before the data, whose place in the shared output it does not touch.
        this.#reportLoss(search);
        if (!this.discarding) this.#deliver(status);
        return next;
      }
    } else if (search.aligned) {
      return this.#unexpected(bytes, position, end);
    }
    const passed = search.aligned ? next - position : 1;
    search.lostBytes += passed;
    search.lostRecords += search.aligned ? 1 : 0;
    search.bytesLeft -= passed;
    return search.bytesLeft < 0 ? this.#fail(search.reason, position) : position + passed;
  }

  #couldBeEncrypted(bytes: Buffer, at: number): boolean {
    const type = bytes[at]!;
    const length = bytes.readUInt16BE(at + 3);
    const typeFits = this.#isTls13 ? type === APPLICATION_DATA : type >= CHANGE_CIPHER_SPEC && type <= APPLICATION_DATA;
    return typeFits && bytes[at + 1] === 3 && bytes[at + 2]! <= 3 && length > 0 && length <= MAX_FRAGMENT_LENGTH;
  }

  /** No more records were lost than fit into the lost bytes. */
  #trials(search: Search): number {
    return Math.min(search.trials, Math.floor(search.lostBytes / (RECORD_HEADER_LENGTH + this.#overhead)));
  }

  #reportLoss(search: Search): void {
    if (!search.report || search.lostBytes === 0) return;
    const overhead = search.lostRecords * (RECORD_HEADER_LENGTH + this.#overhead);
    const length = search.lostBytes - overhead;
    if (length > 0) this.#sink.lost(this.direction, length);
  }

  /** RFC 5246 7.1: a record of its own with one byte of value 1. */
  #toChangeCipherSpec(bytes: Buffer, start: number, end: number): number {
    for (let at = start; at + CHANGE_CIPHER_SPEC_RECORD_LENGTH <= end; at++) {
      if (bytes[at] !== CHANGE_CIPHER_SPEC || bytes[at + 1] !== 3) continue;
      if (bytes[at + 2]! <= 3 && bytes.readUInt16BE(at + 3) === 1 && bytes[at + 5] === 1) {
        this.#findsChangeCipherSpec = false;
        return at;
      }
    }
    return Math.max(start, end - CHANGE_CIPHER_SPEC_RECORD_LENGTH + 1);
  }

  #fail(reason: UndecryptableReason, position: number): number {
    this.#sink.failed(this.direction, reason);
    this.discarding = true;
    return position;
  }
}
