import { native } from '../capture/native.ts';
import type { CipherSuite } from './suites.ts';

/** The decryption part of the addon; native/aead.h says what each call does. */
interface NativeTls {
  tlsRegister(output: Uint8Array, result: Int32Array): void;
  tlsOpener(
    kind: number,
    version: number,
    cipher: string,
    digest: string,
    key: Uint8Array,
    iv: Uint8Array,
    macKey: Uint8Array,
  ): number;
  tlsOpen(handle: number, input: Uint8Array, start: number, end: number): number;
  tlsTry(handle: number, input: Uint8Array, start: number, end: number, trials: number): number;
  tlsSkip(handle: number, records: number): void;
  tlsRelease(handle: number): void;
  tlsOpeners(): number;
  tlsHmac(digest: string, key: Uint8Array, data: Uint8Array, output: Uint8Array): number;
}

/** What ended a call of `Opener.open`; the numbers are those of native/aead.h. */
export const OPEN_NEED_MORE = 0;
export const OPEN_OTHER_TYPE = 1;
export const OPEN_AUTHENTICATION_FAILED = 2;
export const OPEN_UNEXPECTED_HEADER = 3;
export const OPEN_OUTPUT_FULL = 4;
export const OPEN_MALFORMED = 5;

/** Room for the plaintext of one call: several of the largest records. */
const OUTPUT_BYTES = 256 * 1024;

const CONSUMED = 0;
const RECORDS = 1;
const APP_LENGTH = 2;
const OTHER_TYPE = 3;
const OTHER_LENGTH = 4;
const SKIPPED = 5;

let addon: NativeTls | undefined;
/** Where every opener writes: read within the call that decrypted, as the next one overwrites it. */
const output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
const result = new Int32Array(6);

function tls(): NativeTls {
  if (addon === undefined) {
    const loaded = native<NativeTls>();
    loaded.tlsRegister(output, result);
    addon = loaded;
  }
  return addon;
}

/** The keys of one direction. */
export interface RecordKeys {
  readonly key: Buffer;
  readonly iv: Buffer;
  readonly macKey: Buffer;
}

const NO_BYTES = Buffer.alloc(0);
const KINDS = { gcm: 0, ccm: 1, ccm_8: 2, chacha20_poly1305: 3, cbc: 4 } as const;
const CBC_ENCRYPT_THEN_MAC = 5;

/**
 * Opens the records of one direction under one set of keys. Keyed once in native memory; `release` must be called, it cleanses them.
 * What the last call of any opener yielded is read from the static getters below, before the next call.
 */
export class Opener {
  #handle: number;

  private constructor(handle: number) {
    this.#handle = handle;
  }

  /**
   * @param version of the protocol, 0x0304 for TLS 1.3
   * @returns undefined when OpenSSL lacks the cipher
   */
  static create(suite: CipherSuite, version: number, encryptThenMac: boolean, keys: RecordKeys): Opener | undefined {
    const kind = suite.mode === 'cbc' && encryptThenMac ? CBC_ENCRYPT_THEN_MAC : KINDS[suite.mode];
    const handle = tls().tlsOpener(kind, version, suite.cipher, suite.macHash, keys.key, keys.iv, keys.macKey);
    return handle === 0 ? undefined : new Opener(handle);
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

/** Openers held by this thread: for tests and for the agent's own metrics. */
export function openersHeld(): number {
  return tls().tlsOpeners();
}

export type HashName = 'MD5' | 'SHA1' | 'SHA256' | 'SHA384';

const macOutput = Buffer.allocUnsafeSlow(64);

/**
 * HMAC in native memory: createHmac costs several times as much.
 * @param length how many of its bytes are wanted; not given: all
 * @returns a Buffer of its own
 */
export function hmac(hash: HashName, key: Buffer, data: Buffer, length?: number): Buffer {
  const whole = tls().tlsHmac(hash, key, data, macOutput);
  if (whole === 0) throw new Error(`HMAC-${hash} failed`);
  const wanted = length ?? whole;
  // From Node's pool: a buffer with memory of its own costs more than the HMAC, and its holder zeroes it in either.
  const mac = Buffer.allocUnsafe(wanted);
  for (let i = 0; i < wanted; i++) mac[i] = macOutput[i]!;
  macOutput.fill(0);
  return mac;
}

export { NO_BYTES };
