import { native } from '../capture/native.ts';
import type { CipherSuite } from './suites.ts';

/** The part of the addon that opens records; native/aead.h, native/key_schedule.h and native/addon_tls.cc say what each call does. */
export interface NativeTls {
  tlsRegister(output: Uint8Array, result: Int32Array): void;
  tlsOpen(handle: number, input: Uint8Array, start: number, end: number): number;
  tlsTry(handle: number, input: Uint8Array, start: number, end: number, trials: number): number;
  tlsSkip(handle: number, records: number): void;
  tlsRelease(handle: number): void;
  tlsHeld(): number;
  tlsSuite(
    kind: number,
    cipher: string,
    macDigest: string,
    keyLength: number,
    macKeyLength: number,
    sha384: number,
  ): number;
  tls12Openers(suite: number, version: number, encryptThenMac: number, master: Uint8Array, seed: Uint8Array): number;
  tls13Schedule(
    suite: number,
    hellos: Uint8Array,
    serverHello: Uint8Array,
    retried: number,
    helloHash: Uint8Array,
  ): number;
  tls13Handshake(schedule: number, handshakeSecret: Uint8Array): number;
  tls13Early(schedule: number, earlySecret: Uint8Array, clientHelloHash: Uint8Array): number;
  tls13Give(schedule: number, which: number, secret: Uint8Array): number;
  tls13Transcript(schedule: number, bytes: Uint8Array, start: number, end: number): void;
  tls13Finish(schedule: number, withExporter: number): number;
  tls13Opener(schedule: number, which: number): number;
  tls13Update(schedule: number, which: number): number;
  tls13Secret(schedule: number, which: number, into: Uint8Array): number;
  tls13Release(schedule: number): void;
}

/** Room for the plaintext of one call: several of the largest records. */
const OUTPUT_BYTES = 256 * 1024;

let addon: NativeTls | undefined;
/** Where every call writes bytes: read before the next one, which overwrites them. */
export const output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
/** Where every call writes numbers. */
export const result = new Int32Array(6);

export function tls(): NativeTls {
  if (addon === undefined) {
    const loaded = native<NativeTls>();
    loaded.tlsRegister(output, result);
    addon = loaded;
  }
  return addon;
}

const KINDS = { gcm: 0, ccm: 1, ccm_8: 2, chacha20_poly1305: 3, cbc: 4 } as const;
const suiteNumbers = new Map<CipherSuite, number>();

/** What the addon calls the suite. */
export function suiteNumber(suite: CipherSuite): number {
  let number = suiteNumbers.get(suite);
  if (number === undefined) {
    const { mode, cipher, macHash, keyLength, macKeyLength, hash } = suite;
    number = tls().tlsSuite(KINDS[mode], cipher, macHash, keyLength, macKeyLength, hash === 'SHA384' ? 1 : 0);
    suiteNumbers.set(suite, number);
  }
  return number;
}

/** Openers and key schedules held by this thread: for tests and for the agent's own metrics. */
export function keysHeld(): number {
  return tls().tlsHeld();
}
