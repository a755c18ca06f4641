import { hash } from 'node:crypto';
import type { KeyLogLabel } from '../secrets/keylog.ts';
import { earlyName, handshakeName, randomName, type SecretName, type SecretStore } from '../secrets/store.ts';
import { suiteNumber, tls } from './addon.ts';
import { Opener } from './opener.ts';
import type { CipherSuite } from './suites.ts';

/** The numbers of native/key_schedule.h. */
export const CLIENT_EARLY = 0;
export const CLIENT_HANDSHAKE = 1;
export const SERVER_HANDSHAKE = 2;
export const CLIENT_APPLICATION = 3;
export const SERVER_APPLICATION = 4;
const EXPORTER = 5;

export type TrafficSecret =
  | typeof CLIENT_EARLY
  | typeof CLIENT_HANDSHAKE
  | typeof SERVER_HANDSHAKE
  | typeof CLIENT_APPLICATION
  | typeof SERVER_APPLICATION;

const LABELS = [
  'CLIENT_EARLY_TRAFFIC_SECRET',
  'CLIENT_HANDSHAKE_TRAFFIC_SECRET',
  'SERVER_HANDSHAKE_TRAFFIC_SECRET',
  'CLIENT_TRAFFIC_SECRET_0',
  'SERVER_TRAFFIC_SECRET_0',
  'EXPORTER_SECRET',
] as const;

const HASH_LENGTH = { SHA256: 32, SHA384: 48 } as const;
const NODE_HASH = { SHA256: 'sha256', SHA384: 'sha384' } as const;
/** Where the addon writes a hash or a secret that is wanted here. */
const scratch = Buffer.allocUnsafeSlow(64);
/** What the addon answers when it does not know the secret, and when OpenSSL lacks the cipher. */
const NOT_KNOWN = -1;
const UNSUPPORTED = 0;

/**
 * The secrets of one TLS 1.3 handshake: from a handshake secret, which the transcript hash finds, and the transcript; or, where there
 * is none, from a key log, which the client random finds. The addon derives and keeps them (native/key_schedule.h): none becomes an
 * object here, but for a key log that is written.
 */
export class Tls13Secrets {
  readonly suite: CipherSuite;
  readonly #store: SecretStore;
  readonly #hellos: Buffer;
  readonly #clientRandom: Buffer;
  readonly #onSecret: ((label: KeyLogLabel, secret: Buffer) => void) | undefined;
  readonly #handshakeName: SecretName;
  #schedule: number;
  #names: readonly SecretName[] | undefined;
  #derives = false;
  #transcriptDone = false;

  /**
   * @param hellos the ClientHello; or ClientHello, HelloRetryRequest, ClientHello (`retried`): whole messages with header, joined
   * @param onSecret gets each secret once, for a key log
   */
  constructor(
    suite: CipherSuite,
    hellos: Buffer,
    serverHello: Buffer,
    retried: boolean,
    clientRandom: Buffer,
    store: SecretStore,
    onSecret: ((label: KeyLogLabel, secret: Buffer) => void) | undefined,
  ) {
    this.suite = suite;
    this.#store = store;
    this.#hellos = hellos;
    this.#clientRandom = clientRandom;
    this.#onSecret = onSecret;
    this.#schedule = tls().tls13Schedule(suiteNumber(suite), hellos, serverHello, retried ? 1 : 0, scratch);
    if (this.#schedule === 0) throw new Error('no key schedule');
    this.#handshakeName = handshakeName(scratch, HASH_LENGTH[suite.hash]);
  }

  /** Bytes of the messages that it keeps. */
  get heldBytes(): number {
    return this.#hellos.length;
  }

  /** What the store calls the secrets that help here. */
  get names(): readonly SecretName[] {
    this.#names ??= [this.#handshakeName, randomName(this.#clientRandom), earlyName(this.#clientHelloHash())];
    return this.#names;
  }

  /** The store's handshake secret, if there is one, was not asked for. */
  get isUnused(): boolean {
    return !this.#derives;
  }

  /** Bytes of the server's handshake messages after the ServerHello. */
  addToTranscript(bytes: Buffer, start: number, end: number): void {
    if (!this.#transcriptDone) tls().tls13Transcript(this.#schedule, bytes, start, end);
  }

  /** The server's Finished is in the transcript: with the handshake secret, the application secrets follow (RFC 8446 7.1). */
  finishServerFlight(): void {
    if (this.#transcriptDone) return;
    this.#transcriptDone = true;
    tls().tls13Finish(this.#schedule, this.#onSecret === undefined ? 0 : 1);
    if (!this.#derives) return;
    for (const which of [EXPORTER, SERVER_APPLICATION, CLIENT_APPLICATION]) this.#report(which);
  }

  /**
   * The opener for what is protected by that secret, if it is known by now: derived, or from a key log.
   * @returns 'unsupported' when OpenSSL lacks the cipher
   */
  take(which: TrafficSecret): Opener | 'wait' | 'unsupported' {
    let handle = tls().tls13Opener(this.#schedule, which);
    if (handle === NOT_KNOWN && this.#learn(which)) handle = tls().tls13Opener(this.#schedule, which);
    if (handle === NOT_KNOWN) return 'wait';
    return handle === UNSUPPORTED ? 'unsupported' : new Opener(handle);
  }

  /** RFC 8446 4.6.3: the keys that follow those of the last `take`. */
  update(which: typeof CLIENT_APPLICATION | typeof SERVER_APPLICATION): Opener | 'wait' | 'unsupported' {
    return tls().tls13Update(this.#schedule, which) === 0 ? 'wait' : this.take(which);
  }

  /**
   * Cleanses all secrets, those in the store included. The openers stay with those who took them.
   * @param offersEarlyData the client has derived an early secret, whether or not its server took it
   */
  release(offersEarlyData = false): void {
    if (this.#derives) this.#store.forget(this.#handshakeName);
    if (offersEarlyData) this.#store.forget(earlyName(this.#clientHelloHash()));
    if (this.#schedule !== 0) tls().tls13Release(this.#schedule);
    this.#schedule = 0;
  }

  /** Looks for a secret that is not known. @returns whether it is now */
  #learn(which: TrafficSecret): boolean {
    return (which === CLIENT_EARLY ? this.#deriveEarly() : this.#deriveHandshake(which)) || this.#fromKeyLog(which);
  }

  #deriveEarly(): boolean {
    const context = this.#clientHelloHash();
    const early = this.#store.get(earlyName(context), 'TLS13_EARLY');
    if (early === undefined || tls().tls13Early(this.#schedule, early, context) === 0) return false;
    this.#report(CLIENT_EARLY);
    return true;
  }

  #deriveHandshake(which: TrafficSecret): boolean {
    if (this.#derives || this.#transcriptDone) return false;
    const handshake = this.#store.get(this.#handshakeName, 'TLS13_HANDSHAKE');
    if (handshake === undefined || tls().tls13Handshake(this.#schedule, handshake) === 0) return false;
    this.#derives = true;
    this.#report(CLIENT_HANDSHAKE);
    this.#report(SERVER_HANDSHAKE);
    return which === CLIENT_HANDSHAKE || which === SERVER_HANDSHAKE;
  }

  #fromKeyLog(which: TrafficSecret): boolean {
    const logged = this.#store.get(randomName(this.#clientRandom), LABELS[which]);
    if (logged === undefined || tls().tls13Give(this.#schedule, which, logged) === 0) return false;
    this.#report(which);
    return true;
  }

  #clientHelloHash(): Buffer {
    const length = 4 + this.#hellos.readUIntBE(1, 3);
    return hash(NODE_HASH[this.suite.hash], this.#hellos.subarray(0, length), 'buffer');
  }

  #report(which: number): void {
    if (this.#onSecret === undefined) return;
    const length = tls().tls13Secret(this.#schedule, which, scratch);
    if (length > 0) this.#onSecret(LABELS[which]!, scratch.subarray(0, length));
    scratch.fill(0);
  }
}
