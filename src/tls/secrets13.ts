import { createHash, type Hash, hash } from 'node:crypto';
import type { KeyLogLabel } from '../secrets/keylog.ts';
import { earlyName, handshakeName, randomName, type SecretName, type SecretStore } from '../secrets/store.ts';
import { MESSAGE_HASH } from './hello.ts';
import { deriveSecret, HASH_LENGTH, masterSecret, NODE_HASH } from './key-schedule.ts';
import type { CipherSuite } from './suites.ts';

/** The labels of RFC 8446 7.1 by those of the key log. */
const DERIVATION = {
  CLIENT_EARLY_TRAFFIC_SECRET: 'c e traffic',
  CLIENT_HANDSHAKE_TRAFFIC_SECRET: 'c hs traffic',
  SERVER_HANDSHAKE_TRAFFIC_SECRET: 's hs traffic',
  CLIENT_TRAFFIC_SECRET_0: 'c ap traffic',
  SERVER_TRAFFIC_SECRET_0: 's ap traffic',
  EXPORTER_SECRET: 'exp master',
} as const;
export type Tls13Label = keyof typeof DERIVATION;

/**
 * The secrets of one TLS 1.3 handshake: from a handshake secret, which the transcript hash finds, and the transcript; or, where there
 * is none, from a key log, which the client random finds.
 */
export class Tls13Secrets {
  readonly suite: CipherSuite;
  /** What the store calls the secrets that help here. */
  readonly names: readonly SecretName[];
  readonly #store: SecretStore;
  readonly #clientRandom: Buffer;
  readonly #onSecret: (label: KeyLogLabel, secret: Buffer) => void;
  readonly #clientHelloHash: Buffer;
  readonly #helloHash: Buffer;
  readonly #transcript: Hash;
  readonly #secrets = new Map<Tls13Label, Buffer>();
  #handshakeSecret: Buffer | undefined;
  #transcriptDone = false;

  /**
   * @param hellos ClientHello, ServerHello; or ClientHello, HelloRetryRequest, ClientHello, ServerHello: whole messages with header
   * @param onSecret told of each secret once, for a key log
   */
  constructor(
    suite: CipherSuite,
    hellos: readonly Buffer[],
    clientRandom: Buffer,
    store: SecretStore,
    onSecret: (label: KeyLogLabel, secret: Buffer) => void,
  ) {
    this.suite = suite;
    this.#store = store;
    this.#clientRandom = clientRandom;
    this.#onSecret = onSecret;
    const algorithm = NODE_HASH[suite.hash];
    this.#clientHelloHash = hash(algorithm, hellos[0]!, 'buffer');
    this.#transcript = createHash(algorithm);
    if (hellos.length > 2) {
      // RFC 8446 4.4.1: before a HelloRetryRequest the first ClientHello is replaced by a message of its hash.
      this.#transcript.update(Buffer.from([MESSAGE_HASH, 0, 0, HASH_LENGTH[suite.hash]]));
      this.#transcript.update(this.#clientHelloHash);
    } else {
      this.#transcript.update(hellos[0]!);
    }
    for (const hello of hellos.slice(1)) this.#transcript.update(hello);
    this.#helloHash = this.#transcript.copy().digest();
    this.names = [handshakeName(this.#helloHash), randomName(clientRandom), earlyName(this.#clientHelloHash)];
  }

  /** Bytes of the server's handshake messages after the ServerHello. */
  addToTranscript(bytes: Buffer, start: number, end: number): void {
    if (!this.#transcriptDone) this.#transcript.update(bytes.subarray(start, end));
  }

  /** The server's Finished is in the transcript: with the handshake secret, the application secrets follow (RFC 8446 7.1). */
  finishServerFlight(): void {
    if (this.#transcriptDone) return;
    this.#transcriptDone = true;
    const context = this.#transcript.digest();
    if (this.#handshakeSecret === undefined) return;
    const hash = this.suite.hash;
    const master = masterSecret(hash, this.#handshakeSecret);
    for (const label of ['EXPORTER_SECRET', 'SERVER_TRAFFIC_SECRET_0', 'CLIENT_TRAFFIC_SECRET_0'] as const) {
      this.#set(label, deriveSecret(hash, master, DERIVATION[label], context));
    }
    master.fill(0);
    this.#handshakeSecret.fill(0);
    this.#handshakeSecret = undefined;
  }

  /** The secret as far as it is known by now: derived, or from a key log. Borrowed. */
  get(label: Tls13Label): Buffer | undefined {
    const known = this.#secrets.get(label);
    if (known !== undefined) return known;
    if (label === 'CLIENT_EARLY_TRAFFIC_SECRET') this.#deriveEarly();
    else this.#deriveHandshake();
    const derived = this.#secrets.get(label);
    if (derived !== undefined) return derived;
    const logged = this.#store.get(randomName(this.#clientRandom), label);
    if (logged === undefined || logged.length !== HASH_LENGTH[this.suite.hash]) return undefined;
    const secret = Buffer.from(logged);
    this.#set(label, secret);
    return secret;
  }

  /** No longer needed. */
  forget(label: Tls13Label): void {
    this.#secrets.get(label)?.fill(0);
  }

  release(): void {
    for (const secret of this.#secrets.values()) secret.fill(0);
    this.#secrets.clear();
    this.#handshakeSecret?.fill(0);
    this.#handshakeSecret = undefined;
  }

  #deriveEarly(): void {
    const early = this.#store.get(earlyName(this.#clientHelloHash), 'TLS13_EARLY');
    if (early === undefined) return;
    const secret = deriveSecret(this.suite.hash, early, DERIVATION.CLIENT_EARLY_TRAFFIC_SECRET, this.#clientHelloHash);
    this.#set('CLIENT_EARLY_TRAFFIC_SECRET', secret);
  }

  #deriveHandshake(): void {
    if (this.#handshakeSecret !== undefined || this.#transcriptDone) return;
    const handshake = this.#store.get(handshakeName(this.#helloHash), 'TLS13_HANDSHAKE');
    if (handshake === undefined) return;
    this.#handshakeSecret = Buffer.from(handshake);
    for (const label of ['CLIENT_HANDSHAKE_TRAFFIC_SECRET', 'SERVER_HANDSHAKE_TRAFFIC_SECRET'] as const) {
      if (this.#secrets.has(label)) continue;
      this.#set(label, deriveSecret(this.suite.hash, handshake, DERIVATION[label], this.#helloHash));
    }
  }

  #set(label: Tls13Label, secret: Buffer): void {
    this.#secrets.set(label, secret);
    this.#onSecret(label, secret);
  }
}
