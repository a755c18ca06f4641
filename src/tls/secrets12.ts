import type { Direction } from '../flow/connection.ts';
import { randomName, type SecretName, type SecretStore } from '../secrets/store.ts';
import { result, suiteNumber, tls } from './addon.ts';
import { Opener } from './opener.ts';
import type { CipherSuite } from './suites.ts';

/** What one TLS 1.2 (or 1.1, 1.0) handshake agreed on, and the keys that follow from it. A renegotiation makes another. */
export class Tls12Secrets {
  readonly suite: CipherSuite;
  readonly names: readonly SecretName[];
  readonly #version: number;
  readonly #encryptThenMac: boolean;
  readonly #clientRandom: Buffer;
  readonly #serverRandom: Buffer;
  readonly #store: SecretStore;
  readonly #onMaster: ((label: 'CLIENT_RANDOM', master: Buffer) => void) | undefined;
  readonly #openers: [Opener | undefined, Opener | undefined] = [undefined, undefined];
  #derived = false;

  constructor(
    suite: CipherSuite,
    version: number,
    encryptThenMac: boolean,
    clientRandom: Buffer,
    serverRandom: Buffer,
    store: SecretStore,
    onMaster: ((label: 'CLIENT_RANDOM', master: Buffer) => void) | undefined,
  ) {
    this.suite = suite;
    this.#version = version;
    this.#encryptThenMac = encryptThenMac;
    this.#clientRandom = clientRandom;
    this.#serverRandom = serverRandom;
    this.#store = store;
    this.#onMaster = onMaster;
    this.names = [randomName(clientRandom)];
  }

  /**
   * The opener of a direction, which the caller then owns.
   * @returns 'wait' while the master secret is not known, 'unsupported' when OpenSSL lacks the cipher
   */
  take(direction: Direction): Opener | 'wait' | 'unsupported' {
    if (!this.#derived) {
      const master = this.#store.get(this.names[0]!, 'CLIENT_RANDOM');
      if (master === undefined) return 'wait';
      this.#derived = true;
      const seed = Buffer.concat([this.#serverRandom, this.#clientRandom]);
      const etm = this.#encryptThenMac ? 1 : 0;
      if (tls().tls12Openers(suiteNumber(this.suite), this.#version, etm, master, seed) !== 0) {
        this.#openers[0] = new Opener(result[0]!);
        this.#openers[1] = new Opener(result[1]!);
      }
      this.#onMaster?.('CLIENT_RANDOM', master);
    }
    const opener = this.#openers[direction];
    this.#openers[direction] = undefined;
    return opener ?? 'unsupported';
  }

  /** Bytes that a record has beyond header and plaintext; about, where there is padding. */
  get overhead(): number {
    const { mode, macKeyLength } = this.suite;
    if (mode === 'cbc') return 16 + macKeyLength + 8;
    return mode === 'chacha20_poly1305' ? 16 : mode === 'ccm_8' ? 16 : 24;
  }

  /** Cleanses all, the secret in the store included. The openers stay with those who took them. */
  release(): void {
    if (this.#derived) for (const name of this.names) this.#store.forget(name);
    for (const side of [0, 1] as const) {
      this.#openers[side]?.release();
      this.#openers[side] = undefined;
    }
  }
}
