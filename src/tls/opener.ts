import { output, result, tls } from './addon.ts';

/** What ended a call of `Opener.open`; the numbers are those of native/aead.h. */
export const OPEN_NEED_MORE = 0;
export const OPEN_OTHER_TYPE = 1;
export const OPEN_AUTHENTICATION_FAILED = 2;
export const OPEN_UNEXPECTED_HEADER = 3;
export const OPEN_OUTPUT_FULL = 4;
export const OPEN_MALFORMED = 5;

const CONSUMED = 0;
const RECORDS = 1;
const APP_LENGTH = 2;
const OTHER_TYPE = 3;
const OTHER_LENGTH = 4;
const SKIPPED = 5;

/**
 * Opens the records of one direction under one set of keys, which are in native memory alone; `release` must be called, it cleanses them.
 * What the last call of any opener yielded is read from the static getters below, before the next call.
 */
export class Opener {
  #handle: number;

  /** @param handle of the addon; the Opener owns it */
  constructor(handle: number) {
    this.#handle = handle;
  }

  /** Opens whole records of bytes[start..end), until one of them is no application data. @returns one of OPEN_* */
  open(bytes: Buffer, start: number, end: number): number {
    return tls().tlsOpen(this.#handle, bytes, start, end);
  }

  /** Opens the record at `start` under the present record number or one of the next `trials`. @returns one of OPEN_* */
  tryOpen(bytes: Buffer, start: number, end: number, trials: number): number {
    return tls().tlsTry(this.#handle, bytes, start, end, trials);
  }

  /** Passes over the numbers of lost records. */
  skip(records: number): void {
    tls().tlsSkip(this.#handle, records);
  }

  release(): void {
    if (this.#handle !== 0) tls().tlsRelease(this.#handle);
    this.#handle = 0;
  }

  /** Plaintext of the last call: application data at 0..appLength, then the content of a record of another type. */
  static get output(): Buffer {
    return output;
  }
  static get consumed(): number {
    return result[CONSUMED]!;
  }
  static get records(): number {
    return result[RECORDS]!;
  }
  static get appLength(): number {
    return result[APP_LENGTH]!;
  }
  static get otherType(): number {
    return result[OTHER_TYPE]!;
  }
  static get otherLength(): number {
    return result[OTHER_LENGTH]!;
  }
  static get skipped(): number {
    return result[SKIPPED]!;
  }
}
