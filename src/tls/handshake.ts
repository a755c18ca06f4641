/**
 * The handshake: what the messages say, and from it the keys that each direction needs next.
 *
 *   TLS 1.3  client: [early ->] handshake -> application -> (KeyUpdate) application ...
 *            server: handshake -> application -> (KeyUpdate) application ...
 *   TLS 1.2  ChangeCipherSpec -> keys of the last handshake, again at each renegotiation
 */

import type { Limits } from '../config/limits.ts';
import { type Connection, type Direction, FROM_CLIENT, FROM_SERVER } from '../flow/connection.ts';
import { formatKeyLogLine, type KeyLogLabel } from '../secrets/keylog.ts';
import { randomName, type SecretName, type SecretStore } from '../secrets/store.ts';
import { HandshakeReader, type HandshakeSink } from './handshake-reader.ts';
import * as hello from './hello.ts';
import { randomOfHello2 } from './hello2.ts';
import type { Opener } from './opener.ts';
import type { UndecryptableReason } from './reasons.ts';
import { ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE, type RecordSink, RecordStream } from './record-stream.ts';
import { Tls12Secrets } from './secrets12.ts';
import {
  CLIENT_APPLICATION,
  CLIENT_EARLY,
  CLIENT_HANDSHAKE,
  SERVER_APPLICATION,
  SERVER_HANDSHAKE,
  Tls13Secrets,
} from './secrets13.ts';
import { cipherSuiteName, cipherSuites } from './suites.ts';

/** The keys that a direction has to get before it can go on. */
type Need =
  | 'nothing'
  /** Client: what the server answers decides. */
  | 'hello'
  /** Client: EncryptedExtensions say whether early data counts. */
  | 'early_decision'
  | 'early'
  | 'handshake'
  | 'application'
  /** TLS 1.2: the master secret. */
  | 'master';

type Phase = 'clear' | 'early' | 'handshake' | 'application';

/** What the layer knows of one direction. */
export interface Side {
  readonly direction: Direction;
  readonly stream: RecordStream;
  readonly messages: HandshakeReader;
  phase: Phase;
  need: Need;
  /** What to do with records that the next keys do not open: pass over them silently, or as lost. */
  skip: 'no' | 'silent' | 'lossy';
}

const MESSAGE_HEADER_LENGTH = 4;
const TLS_1_3 = 0x0304;
const VERSION_NAMES: Readonly<Record<number, string>> = { 769: '1.0', 770: '1.1', 771: '1.2', 772: '1.3' };
const CLOSE_NOTIFY = 0;
const FATAL = 2;
const OVERHEAD_TLS13 = { tag: 16, shortTag: 8, contentType: 1 } as const;

const HANDSHAKE_SECRET = [CLIENT_HANDSHAKE, SERVER_HANDSHAKE] as const;
const APPLICATION_SECRET = [CLIENT_APPLICATION, SERVER_APPLICATION] as const;

function isWantedWhole(type: number): boolean {
  return (
    type === hello.CLIENT_HELLO ||
    type === hello.SERVER_HELLO ||
    type === hello.ENCRYPTED_EXTENSIONS ||
    type === hello.KEY_UPDATE
  );
}

/** What the handshake needs of the layer around it. */
export interface HandshakeHost {
  readonly connection: Connection;
  readonly limits: Limits;
  readonly secrets: SecretStore;
  readonly onKeyLog: ((connection: Connection, line: string) => void) | undefined;
  /** The connection cannot be read any further: nothing is fed any more. */
  fail(reason: UndecryptableReason): void;
  /** Both ends have said that they send nothing more. */
  finish(): void;
  readonly ended: boolean;
  /** Data of that direction waits. */
  hasHeld(direction: Direction): boolean;
  /** Called when a secret comes that may be needed. */
  readonly wake: () => void;
}

const NOTHING_WATCHED: readonly SecretName[] = [];

export class Handshake implements HandshakeSink {
  readonly sides: readonly [Side, Side];
  readonly #host: HandshakeHost;
  #watched: readonly SecretName[] = NOTHING_WATCHED;

  #clientRandom: Buffer | undefined;
  #offersEarlyData = false;
  /** ClientHello [, HelloRetryRequest, ClientHello], joined, until the ServerHello. */
  #hellos: Buffer | undefined;
  #retried = false;
  #refused = false;
  #tls13: Tls13Secrets | undefined;
  #tls12: Tls12Secrets | undefined;
  /** What the store may still have for it, but for its client random. */
  #left: readonly SecretName[] = NOTHING_WATCHED;

  constructor(host: HandshakeHost, sink: RecordSink) {
    this.#host = host;
    this.sides = [this.#side(FROM_CLIENT, sink), this.#side(FROM_SERVER, sink)];
  }

  /** The connection is older than the capture, and no handshake was seen since: what is there cannot be read. */
  get isUnseen(): boolean {
    return this.#clientRandom === undefined && !this.#host.connection.startSeen;
  }

  /** An end that had no keys yet has sent a fatal alert. */
  get isRefused(): boolean {
    return this.#refused;
  }

  /** A ClientHello in the format of SSL 2.0: it has no extensions, so that TLS 1.3 cannot follow. */
  hello2(bytes: Buffer, start: number, end: number) {
    const random = randomOfHello2(bytes, start, end);
    if (random === undefined) return this.#fail('handshake_malformed');
    this.#clientRandom = random;
    this.#host.connection.tls!.clientRandom ??= random;
  }

  /** A record of any type but application data. */
  record(direction: Direction, type: number, bytes: Buffer, start: number, end: number) {
    // A server may refuse with an alert before it has seen a ClientHello, when none comes in time.
    if (this.#clientRandom === undefined && type !== HANDSHAKE && (type !== ALERT || this.isUnseen)) {
      return this.#fail(this.isUnseen ? 'opened_before_agent' : 'handshake_malformed');
    }
    const side = this.sides[direction];
    if (type === HANDSHAKE) {
      const outcome = side.messages.feed(bytes, start, end, this);
      if (outcome === 'too_large') this.#fail('handshake_malformed');
    } else if (type === CHANGE_CIPHER_SPEC) {
      // RFC 8446 5: in TLS 1.3 it means nothing. Before the ServerHello it can only be that (middlebox compatibility).
      if (this.#tls12 !== undefined) this.#want(side, 'master', 'no');
    } else if (type === ALERT) {
      this.#alert(side, bytes, start, end);
    }
    // Other types, such as heartbeats, carry nothing for us.
  }

  /** Application data came before there are keys. @returns whether it is useless, or waits */
  unreadable(direction: Direction): 'skip' | 'wait' {
    if (direction === FROM_CLIENT && this.#clientRandom !== undefined && this.#tls12 === undefined) {
      // RFC 8446 4.2.10: early data that a HelloRetryRequest refused.
      if (this.#retried) return 'skip';
      if (this.#offersEarlyData) {
        this.#wait(this.sides[FROM_CLIENT], 'hello');
        return 'wait';
      }
    }
    this.#fail(this.isUnseen ? 'opened_before_agent' : 'handshake_malformed');
    return 'skip';
  }

  /**
   * Whether the side stands aside while the other goes on: it waits for what the other direction will bring. A side that waits for a
   * secret keeps its place in the order, so that no response overtakes its request.
   */
  holdsBack(side: Side): boolean {
    if (!side.stream.waiting) return false;
    if (side.need === 'hello' || side.need === 'early_decision') return true;
    return (
      side.need === 'application' && side.direction === FROM_CLIENT && this.sides[FROM_SERVER].phase !== 'application'
    );
  }

  /** A gap of `length` bytes in what the stream was to take next. */
  gap(side: Side, length: number) {
    side.messages.reset();
    if (side.stream.discarding) return;
    if (!side.stream.isKeyed) {
      // TLS 1.2 needs neither certificates nor key exchange: it goes on at the ChangeCipherSpec.
      if (this.#tls12 !== undefined) side.stream.findChangeCipherSpec();
      else this.#fail(this.isUnseen ? 'opened_before_agent' : 'gap_in_handshake');
      return;
    }
    if (this.#tls13 !== undefined && side.phase !== 'application') {
      // The messages that switch the keys may be lost. The application keys can be used if they are known without these messages.
      side.need = 'application';
      if (side.phase === 'early' || !this.#tryKeys(side)) return this.#fail('gap_in_handshake');
    }
    side.stream.gap(length, this.#host.limits.tlsGapTrials);
  }

  /** A secret came: what waited for it goes on. */
  retryAll(): void {
    for (const side of this.sides) if (!this.#host.ended && side.need !== 'nothing') this.#retry(side);
  }

  /** No secret matters any more. */
  unwatch(): void {
    if (this.#watched.length === 0) return;
    for (const name of this.#watched) this.#host.secrets.unwatch(name, this.#host.wake);
    this.#watched = NOTHING_WATCHED;
  }

  /** What is held between calls, with the streams' records (memory/cost.ts). */
  get cost(): number {
    const [client, server] = this.sides;
    const streams = client.stream.cost + server.stream.cost + client.messages.cost + server.messages.cost;
    return streams + (this.#hellos?.length ?? 0) + (this.#tls13?.heldBytes ?? 0);
  }

  /** The connection has ended: the store keeps nothing for it, used or not. */
  forget(): void {
    const { secrets } = this.#host;
    for (const name of this.#left) secrets.forget(name);
    if (this.#clientRandom !== undefined) secrets.forget(randomName(this.#clientRandom));
  }

  /** Zeroes keys and drops bytes. Watching for a late secret goes on until `unwatch`. */
  release(): void {
    for (const side of this.sides) {
      side.stream.release();
      side.messages.reset();
      side.need = 'nothing';
    }
    if (this.#tls13?.isUnused) this.#left = this.#tls13.names;
    this.#tls13?.release(this.#offersEarlyData);
    this.#tls12?.release();
    this.#tls13 = undefined;
    this.#tls12 = undefined;
    this.#hellos = undefined;
  }

  // --- Messages -----------------------------------------------------------------------------------------------------------------

  handshakeBytes(direction: Direction, bytes: Buffer, start: number, end: number): void {
    if (direction === FROM_SERVER && this.sides[FROM_SERVER].phase === 'handshake') {
      this.#tls13?.addToTranscript(bytes, start, end);
    }
  }

  handshakeMessage(direction: Direction, type: number, bytes: Buffer, start: number, end: number): boolean {
    this.#message(this.sides[direction], type, bytes, start, end);
    return !this.#host.ended;
  }

  #alert(side: Side, bytes: Buffer, start: number, end: number): void {
    if (end - start !== 2) return;
    if (bytes[start] !== FATAL && bytes[start + 1] !== CLOSE_NOTIFY) return;
    if (bytes[start] === FATAL && !side.stream.isKeyed) this.#refused = true;
    side.stream.discarding = true;
    // RFC 8446 6.1: no data follows a close_notify. Often nothing else is seen of the end: what then comes is refused with a reset.
    if (this.sides.every(({ stream }) => stream.discarding)) this.#host.finish();
  }

  #message(side: Side, type: number, bytes: Buffer, start: number, end: number) {
    if (this.#clientRandom === undefined && type !== hello.CLIENT_HELLO) {
      return this.#fail(this.isUnseen ? 'opened_before_agent' : 'handshake_malformed');
    }
    switch (type) {
      case hello.CLIENT_HELLO:
        return this.#clientHello(side, bytes, start, end);
      case hello.SERVER_HELLO:
        return this.#serverHello(side, bytes, start, end);
      case hello.ENCRYPTED_EXTENSIONS:
        return this.#encryptedExtensions(side, bytes, start, end);
      case hello.END_OF_EARLY_DATA:
        if (side.phase === 'early') this.#want(side, 'handshake', 'no');
        return;
      case hello.FINISHED:
        return this.#finished(side);
      case hello.KEY_UPDATE:
        return this.#keyUpdate(side);
    }
  }

  #clientHello(side: Side, bytes: Buffer, start: number, end: number) {
    const parsed = hello.parseClientHello(bytes, start + MESSAGE_HEADER_LENGTH, end);
    if (parsed === undefined || side.direction !== FROM_CLIENT || this.#tls13 !== undefined) {
      return this.#fail('handshake_malformed');
    }
    const tls = this.#host.connection.tls!;
    this.#offersEarlyData = parsed.offersEarlyData;
    this.#hellos = joined(this.#retried ? this.#hellos : undefined, bytes, start, end);
    this.#clientRandom = parsed.random;
    // A renegotiation has a random of its own; the first one names the connection.
    tls.clientRandom ??= parsed.random;
    tls.serverName ??= parsed.serverName;
  }

  #serverHello(side: Side, bytes: Buffer, start: number, end: number) {
    const parsed = hello.parseServerHello(bytes, start + MESSAGE_HEADER_LENGTH, end);
    if (parsed === undefined || side.direction !== FROM_SERVER || this.#tls13 !== undefined) {
      return this.#fail('handshake_malformed');
    }
    const tls = this.#host.connection.tls!;
    const version = VERSION_NAMES[parsed.version];
    tls.version = version ?? `0x${parsed.version.toString(16).padStart(4, '0')}`;
    tls.cipherSuite = cipherSuiteName(parsed.cipherSuite);
    if (version === undefined) return this.#fail('unsupported_version');
    const suite = cipherSuites.get(parsed.cipherSuite);
    if (suite === undefined || suite.tls13 !== (parsed.version === TLS_1_3) || parsed.truncatedHmac) {
      return this.#fail('unsupported_cipher_suite');
    }
    if (parsed.compression !== 0) return this.#fail('unsupported_compression');
    if (parsed.version !== TLS_1_3) {
      tls.alpn = parsed.alpn ?? tls.alpn;
      this.#tls12?.release();
      this.#tls12 = new Tls12Secrets(
        suite,
        parsed.version,
        parsed.encryptThenMac && suite.mode === 'cbc',
        this.#clientRandom!,
        parsed.random,
        this.#host.secrets,
        this.#reporter(),
      );
      this.#hellos = undefined;
      return;
    }
    const hellos = this.#hellos;
    if (hellos === undefined || this.#tls12 !== undefined) return this.#fail('handshake_malformed');
    if (parsed.isHelloRetryRequest) {
      if (this.#retried) return this.#fail('handshake_malformed');
      this.#retried = true;
      this.#hellos = joined(hellos, bytes, start, end);
      this.#resume(this.sides[FROM_CLIENT]);
      return;
    }
    const serverHello = bytes.subarray(start, end);
    const random = this.#clientRandom!;
    const { secrets } = this.#host;
    this.#tls13 = new Tls13Secrets(suite, hellos, serverHello, this.#retried, random, secrets, this.#reporter());
    this.#hellos = undefined;
    this.#afterServerHello(parsed.usesPreSharedKey);
  }

  /** TLS 1.3: from here on both sides are encrypted. */
  #afterServerHello(usesPreSharedKey: boolean): void {
    const [client, server] = this.sides;
    const early = this.#offersEarlyData && !this.#retried;
    if (early && usesPreSharedKey) this.#wait(client, 'early_decision');
    // RFC 8446 4.2.10: without the PSK the early data is refused, and sent again.
    else this.#want(client, 'handshake', early ? 'silent' : 'no');
    if (!this.#host.ended) this.#want(server, 'handshake', 'no');
  }

  #encryptedExtensions(side: Side, bytes: Buffer, start: number, end: number) {
    if (this.#tls13 === undefined || side.direction !== FROM_SERVER) return this.#fail('handshake_malformed');
    const parsed = hello.parseEncryptedExtensions(bytes, start + MESSAGE_HEADER_LENGTH, end);
    if (parsed === undefined) return this.#fail('handshake_malformed');
    this.#host.connection.tls!.alpn = parsed.alpn;
    const client = this.sides[FROM_CLIENT];
    if (client.need === 'early_decision') this.#decideEarlyData(client, parsed.acceptsEarlyData);
  }

  #decideEarlyData(client: Side, accepted: boolean) {
    if (!accepted) return this.#want(client, 'handshake', 'silent');
    client.need = 'early';
    if (!this.#tryKeys(client)) this.#want(client, 'handshake', 'lossy');
    else this.#resume(client);
  }

  #finished(side: Side): void {
    // TLS 1.2 needs nothing of it; after post-handshake authentication it changes no keys (RFC 8446 4.6.2).
    if (this.#tls13 === undefined || side.phase !== 'handshake') return;
    if (side.direction === FROM_SERVER) this.#tls13.finishServerFlight();
    this.#want(side, 'application', 'no');
    const other = this.sides[FROM_CLIENT];
    if (!this.#host.ended && side.direction === FROM_SERVER && other.need === 'application') this.#retry(other);
  }

  /** RFC 8446 4.6.3: the sender's next record has the next keys. */
  #keyUpdate(side: Side) {
    if (this.#tls13 === undefined || side.phase !== 'application') return this.#fail('handshake_malformed');
    this.#setTrafficKeys(side, this.#tls13.update(APPLICATION_SECRET[side.direction]), 'application');
  }

  // --- Keys --------------------------------------------------------------------------------------------------------------------------

  /** The side's next records need other keys: takes them, or waits for them. */
  #want(side: Side, need: Need, skip: Side['skip']): void {
    side.need = need;
    side.skip = skip;
    if (this.#tryKeys(side)) this.#resume(side);
    else if (!this.#host.ended) this.#wait(side, need);
  }

  #wait(side: Side, need: Need): void {
    side.need = need;
    side.stream.waiting = true;
    const names = this.#tls13?.names ?? this.#tls12?.names;
    if (names !== undefined && names !== this.#watched) {
      this.unwatch();
      this.#watched = names;
      for (const name of names) this.#host.secrets.watch(name, this.#host.wake);
    }
  }

  /** The side goes on. If it has older data than what is being fed now, that comes first. */
  #resume(side: Side): void {
    side.stream.waiting = false;
    if (this.#host.hasHeld(side.direction)) for (const { stream } of this.sides) stream.interrupted = true;
    if (this.sides.every(({ need }) => need === 'nothing')) this.unwatch();
  }

  #retry(side: Side): void {
    if (this.#tryKeys(side)) this.#resume(side);
  }

  /** Takes the keys that the side needs, if they are known. */
  #tryKeys(side: Side): boolean {
    const { need, direction } = side;
    if (need === 'master') return this.#tryMaster(side);
    const tls13 = this.#tls13;
    if (tls13 === undefined) return false;
    if (need === 'early') return this.#setTrafficKeys(side, tls13.take(CLIENT_EARLY), 'early');
    const application = APPLICATION_SECRET[direction];
    if (need === 'application') return this.#setTrafficKeys(side, tls13.take(application), 'application');
    if (need !== 'handshake') return false;
    if (this.#setTrafficKeys(side, tls13.take(HANDSHAKE_SECRET[direction]), 'handshake')) return true;
    if (this.#host.ended) return false;
    // A key log with the application secrets alone: whatever these do not open is the handshake.
    if (side.skip === 'no') side.skip = 'silent';
    if (!this.#setTrafficKeys(side, tls13.take(application), 'application')) return false;
    const client = this.sides[FROM_CLIENT];
    if (client.need === 'early_decision') this.#want(client, 'handshake', 'silent');
    return true;
  }

  /** @returns whether the side goes on with that opener */
  #setTrafficKeys(side: Side, opener: Opener | 'wait' | 'unsupported', phase: Phase): boolean {
    if (opener === 'wait') return false;
    if (opener === 'unsupported') {
      this.#fail('unsupported_cipher_suite');
      return false;
    }
    const { suite } = this.#tls13!;
    const tag = suite.mode === 'ccm_8' ? OVERHEAD_TLS13.shortTag : OVERHEAD_TLS13.tag;
    side.stream.setKeys(opener, true, tag + OVERHEAD_TLS13.contentType);
    const maxSkipBytes = this.#host.limits.tlsPendingBytesPerConnection;
    if (side.skip !== 'no') side.stream.skipUntilReadable(side.skip === 'lossy', maxSkipBytes);
    side.skip = 'no';
    side.phase = phase;
    side.need = 'nothing';
    return true;
  }

  #tryMaster(side: Side): boolean {
    const tls12 = this.#tls12!;
    const opener = tls12.take(side.direction);
    if (opener === 'wait') return false;
    if (opener === 'unsupported') {
      this.#fail('unsupported_cipher_suite');
      return false;
    }
    side.stream.setKeys(opener, false, tls12.overhead);
    side.phase = 'application';
    side.need = 'nothing';
    return true;
  }

  /** Reports secrets as key-log lines, if they are wanted. */
  #reporter(): ((label: KeyLogLabel, secret: Buffer) => void) | undefined {
    const { connection, onKeyLog } = this.#host;
    const random = this.#clientRandom!;
    if (onKeyLog === undefined) return undefined;
    return (label, secret) => onKeyLog(connection, formatKeyLogLine(label, random, secret));
  }

  #side(direction: Direction, sink: RecordSink): Side {
    return {
      direction,
      stream: new RecordStream(direction, sink),
      messages: new HandshakeReader(direction, isWantedWhole, this.#host.limits.tlsHandshakeMessageBytes),
      phase: 'clear',
      need: 'nothing',
      skip: 'no',
    };
  }

  #fail(reason: UndecryptableReason): void {
    this.#host.fail(reason);
  }
}

/** A copy of bytes[start..end) behind what was kept before. */
function joined(before: Buffer | undefined, bytes: Buffer, start: number, end: number): Buffer {
  const length = before?.length ?? 0;
  const all = Buffer.allocUnsafe(length + end - start);
  before?.copy(all, 0);
  bytes.copy(all, length, start, end);
  return all;
}
