/**
 * TLS: the bytes of a connection go in, its application data comes out, in order, each byte authenticated.
 *
 * Theory of operation. Each direction is a RecordStream. The hellos say version and suite; then a direction needs keys, one set after
 * the other:
 *
 *   TLS 1.3  client: [early ->] handshake -> application -> (KeyUpdate) application ...
 *            server: handshake -> application -> (KeyUpdate) application ...
 *   TLS 1.2  ChangeCipherSpec -> keys of the last handshake, again at each renegotiation
 *
 * A direction whose keys are not known waits: its stream takes nothing, and what arrives is held in a queue that keeps the order of both
 * directions. When the secret comes, the queue is drained in that order. A side that need not wait goes on without delay.
 *
 * Nothing is guessed: a wrong secret fails at the first record's tag, and the connection ends with a reason.
 */
import {
  type Connection,
  type Direction,
  type EndReason,
  FROM_CLIENT,
  FROM_SERVER,
  type Layer,
} from '../flow/connection.ts';
import type { LayerContext } from '../protocol/layer.ts';
import { formatKeyLogLine, type KeyLogLabel } from '../secrets/keylog.ts';
import type { SecretName, SecretStore } from '../secrets/store.ts';
import { count } from '../telemetry/counters.ts';
import { HandshakeReader, type HandshakeSink } from './handshake_reader.ts';
import * as hello from './hello.ts';
import { nextTrafficSecret, tls13TrafficKeys, wipeKeys } from './key_schedule.ts';
import { Opener } from './opener.ts';
import { type PendingEvent, PendingQueue } from './pending.ts';
import type { UndecryptableReason } from './reasons.ts';
import { ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE, type RecordSink, RecordStream } from './record_stream.ts';
import { Tls12Secrets } from './secrets12.ts';
import { type Tls13Label, Tls13Secrets } from './secrets13.ts';
import { cipherSuiteName, cipherSuites } from './suites.ts';

export { detectTls } from './detect.ts';

export interface TlsOptions {
  readonly secrets: SecretStore;
  /** Makes the layer that takes the application data; called when the first of it is there. */
  readonly next: (context: LayerContext) => Layer;
  /** Told of each secret as soon as it is known, as a key-log line. */
  readonly onKeyLog?: (connection: Connection, line: string) => void;
  /** Why a connection's secret did not come, in place of `no_secret`. */
  readonly explainMissingSecret?: (connection: Connection) => string | undefined;
}

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

interface Side {
  readonly direction: Direction;
  readonly stream: RecordStream;
  readonly messages: HandshakeReader;
  phase: Phase;
  need: Need;
  /** What to do with records that the next keys do not open: pass over them silently, or as lost. */
  skip: 'no' | 'silent' | 'lossy';
  /** TLS 1.3: the present application traffic secret, for KeyUpdate. */
  trafficSecret: Buffer | undefined;
}

const TLS_1_3 = 0x0304;
const VERSION_NAMES: Readonly<Record<number, string>> = { 769: '1.0', 770: '1.1', 771: '1.2', 772: '1.3' };
const CLOSE_NOTIFY = 0;
const FATAL = 2;
const OVERHEAD_TLS13 = { tag: 16, shortTag: 8, contentType: 1 } as const;

const HANDSHAKE_LABEL = ['CLIENT_HANDSHAKE_TRAFFIC_SECRET', 'SERVER_HANDSHAKE_TRAFFIC_SECRET'] as const;
const APPLICATION_LABEL = ['CLIENT_TRAFFIC_SECRET_0', 'SERVER_TRAFFIC_SECRET_0'] as const;

function isWantedWhole(type: number): boolean {
  return (
    type === hello.CLIENT_HELLO ||
    type === hello.SERVER_HELLO ||
    type === hello.ENCRYPTED_EXTENSIONS ||
    type === hello.KEY_UPDATE
  );
}

/** @returns the layer for one connection whose first bytes are TLS */
export function createTlsLayer(context: LayerContext, options: TlsOptions): Layer {
  return new TlsLayer(context, options);
}

class TlsLayer implements Layer, RecordSink {
  readonly #context: LayerContext;
  readonly #options: TlsOptions;
  readonly #sides: readonly [Side, Side];
  readonly #sinks: readonly [HandshakeSink, HandshakeSink];
  readonly #pending = new PendingQueue();
  readonly #wake = () => this.#secretCame();
  #watched: readonly SecretName[] = [];

  #clientRandom: Buffer | undefined;
  #offersEarlyData = false;
  /** ClientHello [, HelloRetryRequest, ClientHello], until the ServerHello. */
  #hellos: Buffer[] = [];
  #retried = false;
  #tls13: Tls13Secrets | undefined;
  #tls12: Tls12Secrets | undefined;

  #next: Layer | undefined;
  #nextWantsTicks = false;
  #wantsTicks = false;
  #nowUs = 0;
  #busy = false;
  /** No data is taken any more. */
  #ended = false;
  #closed = false;
  #decrypted = false;
  #reason: string | undefined;

  constructor(context: LayerContext, options: TlsOptions) {
    this.#context = context;
    this.#options = options;
    this.#sides = [this.#side(FROM_CLIENT), this.#side(FROM_SERVER)];
    this.#sinks = [this.#handshakeSink(FROM_CLIENT), this.#handshakeSink(FROM_SERVER)];
    context.counters.connections.tls++;
    context.connection.tls = {
      version: '',
      cipherSuite: '',
      serverName: undefined,
      alpn: undefined,
      clientRandom: undefined,
    };
  }

  // --- Layer: what arrives ---------------------------------------------------------------------------------------------------------

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number) {
    if (this.#ended) return;
    this.#nowUs = timeUs;
    if (!this.#pending.isEmpty) {
      if (this.#isOverdue(timeUs)) return this.#giveUpWaiting();
      this.#hold(direction, bytes, start, end, timeUs);
      return this.#drain();
    }
    const side = this.#sides[direction];
    const position = this.#feed(side, bytes, start, end);
    if (this.#ended) return;
    if (position < end || side.stream.waiting) this.#holdRest(side, bytes, position, end, timeUs);
    if (!this.#pending.isEmpty) this.#drain();
  }

  gap(direction: Direction, length: number, timeUs: number) {
    if (this.#ended) return;
    this.#nowUs = timeUs;
    if (this.#pending.isEmpty && !this.#sides[direction].stream.waiting) return this.#takeGap(direction, length);
    this.#queue(direction, { kind: 'gap', order: this.#pending.nextOrder(), timeUs, length });
    this.#drain();
  }

  end(direction: Direction, reason: EndReason, timeUs: number) {
    this.#nowUs = timeUs;
    if (this.#ended || (this.#pending.isEmpty && !this.#sides[direction].stream.waiting)) {
      return this.#takeEnd(direction, reason, timeUs);
    }
    if (this.#pending.isEmpty) return this.#takeEnd(direction, reason, timeUs);
    this.#queue(direction, { kind: 'end', order: this.#pending.nextOrder(), timeUs, reason });
    this.#drain();
  }

  close(reason: EndReason, timeUs: number): void {
    if (this.#closed) return;
    this.#nowUs = timeUs;
    this.#closed = true;
    if (!this.#ended) {
      if (!this.#pending.isEmpty) this.#count(this.#missingSecretReason());
      else if (!this.#decrypted) this.#count('closed_in_handshake');
    }
    const next = this.#next;
    this.#release();
    this.#unwatch();
    next?.close(reason, timeUs);
  }

  tick(timeUs: number): void {
    if (this.#closed) return;
    this.#nowUs = timeUs;
    if (!this.#ended && !this.#pending.isEmpty && this.#isOverdue(timeUs)) this.#giveUpWaiting();
    if (this.#nextWantsTicks) this.#next?.tick?.(timeUs);
  }

  // --- RecordSink: what the streams find -------------------------------------------------------------------------------------------

  clearRecord(direction: Direction, type: number, bytes: Buffer, start: number, end: number) {
    if (this.#clientRandom === undefined && type !== HANDSHAKE) {
      return this.#isOld() ? this.#fail('opened_before_agent') : this.#handleEarlyRefusal(direction, type);
    }
    this.#record(direction, type, bytes, start, end);
  }

  protectedRecord(direction: Direction, type: number, bytes: Buffer, start: number, end: number): void {
    this.#record(direction, type, bytes, start, end);
  }

  unreadableRecord(direction: Direction): 'skip' | 'wait' {
    if (direction === FROM_CLIENT && this.#clientRandom !== undefined && this.#tls12 === undefined) {
      // RFC 8446 4.2.10: early data that a HelloRetryRequest refused.
      if (this.#retried) return 'skip';
      if (this.#offersEarlyData) {
        this.#wait(this.#sides[FROM_CLIENT], 'hello');
        return 'wait';
      }
    }
    this.#fail(this.#clientRandom === undefined && this.#isOld() ? 'opened_before_agent' : 'handshake_malformed');
    return 'skip';
  }

  keysConfirmed(_direction: Direction): void {
    if (this.#decrypted) return;
    this.#decrypted = true;
    this.#context.counters.connections.decrypted++;
  }

  applicationData(direction: Direction, bytes: Buffer, start: number, end: number): void {
    // RFC 8446 5.1: application data is none before the handshake's end, but for early data. What is authentic is passed on.
    this.#nextLayer().data(direction, bytes, start, end, this.#nowUs);
  }

  lost(direction: Direction, length: number): void {
    this.#nextLayer().gap(direction, length, this.#nowUs);
  }

  failed(_direction: Direction, reason: UndecryptableReason): void {
    const old = this.#clientRandom === undefined && this.#isOld();
    this.#fail(old ? 'opened_before_agent' : reason);
  }

  // --- Feeding and waiting -----------------------------------------------------------------------------------------------------------

  #feed(side: Side, bytes: Buffer, start: number, end: number): number {
    this.#busy = true;
    const position = side.stream.feed(bytes, start, end);
    this.#busy = false;
    if (this.#ended) this.#release();
    return position;
  }

  /** Holds what a stream did not take: a record that it had gathered, and the bytes behind it. */
  #holdRest(side: Side, bytes: Buffer, position: number, end: number, timeUs: number): void {
    const held = side.stream.takeHeld();
    if (held !== undefined) this.#hold(side.direction, held, 0, held.length, timeUs);
    if (position < end && !this.#ended) this.#hold(side.direction, bytes, position, end, timeUs);
  }

  #hold(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number): void {
    if (start >= end) return;
    const copy = Buffer.allocUnsafeSlow(end - start);
    bytes.copy(copy, 0, start, end);
    this.#queue(direction, { kind: 'data', order: this.#pending.nextOrder(), timeUs, bytes: copy, position: 0 });
  }

  #queue(direction: Direction, event: PendingEvent): void {
    const before = this.#pending.bytes;
    this.#pending.push(direction, event);
    this.#account(before);
  }

  /** Keeps the account of the bytes held, and ends the connection when they are too many. */
  #account(before: number): void {
    const change = this.#pending.bytes - before;
    if (change <= 0) {
      this.#options.secrets.releasePending(-change);
    } else if (!this.#options.secrets.reservePending(change)) {
      this.#dropPending(before);
      this.#fail('pending_limit');
    } else if (this.#pending.bytes > this.#context.limits.tlsPendingBytesPerConnection) {
      this.#giveUpWaiting();
    }
    this.#announceWaiting();
  }

  #dropPending(reserved: number): void {
    this.#pending.clear();
    this.#options.secrets.releasePending(reserved);
  }

  /** Takes what waits, in the order of arrival, as far as the directions can proceed. */
  #drain(): void {
    if (this.#busy) return;
    while (!this.#ended) {
      const [client, server] = this.#sides;
      const direction = this.#pending.next([this.#holdsBack(client), this.#holdsBack(server)]);
      if (direction === undefined || this.#sides[direction].stream.waiting) break;
      const before = this.#pending.bytes;
      const event = this.#pending.shift(direction)!;
      this.#options.secrets.releasePending(before - this.#pending.bytes);
      this.#nowUs = event.timeUs;
      if (event.kind === 'gap') this.#takeGap(direction, event.length);
      else if (event.kind === 'end') this.#takeEnd(direction, event.reason, event.timeUs);
      else this.#takeHeldData(this.#sides[direction], event);
    }
    this.#announceWaiting();
  }

  /**
   * Whether the side stands aside while the other goes on: it waits for what the other direction will bring. A side that waits for a
   * secret keeps its place in the order, so that no response overtakes its request.
   */
  #holdsBack(side: Side): boolean {
    if (!side.stream.waiting) return false;
    if (side.need === 'hello' || side.need === 'early_decision') return true;
    return (
      side.need === 'application' && side.direction === FROM_CLIENT && this.#sides[FROM_SERVER].phase !== 'application'
    );
  }

  #takeHeldData(side: Side, event: PendingEvent & { kind: 'data' }): void {
    event.position = this.#feed(side, event.bytes, event.position, event.bytes.length);
    if (this.#ended) return;
    const held = side.stream.takeHeld();
    const rest = event.bytes.subarray(event.position);
    if (held === undefined && rest.length === 0) return;
    const bytes = held === undefined ? rest : Buffer.concat([held, rest]);
    const before = this.#pending.bytes;
    this.#pending.unshift(side.direction, { ...event, bytes, position: 0 });
    this.#account(before);
  }

  #isOverdue(timeUs: number): boolean {
    return timeUs - this.#pending.oldestUs > this.#context.limits.tlsPendingUs;
  }

  #giveUpWaiting(): void {
    this.#fail(this.#missingSecretReason());
  }

  #missingSecretReason(): string {
    return this.#options.explainMissingSecret?.(this.#context.connection) ?? 'no_secret';
  }

  #announceWaiting(): void {
    const waiting = !this.#ended && !this.#pending.isEmpty;
    this.#context.connection.awaitingSecret = waiting;
    const wanted = waiting || this.#nextWantsTicks;
    if (wanted === this.#wantsTicks) return;
    this.#wantsTicks = wanted;
    this.#context.wantTicks(wanted);
  }

  #takeGap(direction: Direction, length: number) {
    const side = this.#sides[direction];
    side.messages.reset();
    if (side.stream.discarding) return;
    if (!side.stream.isKeyed) {
      // Certificates and key exchange are not needed: TLS 1.2 goes on at the ChangeCipherSpec.
      if (this.#tls12 === undefined)
        this.#fail(this.#clientRandom === undefined && this.#isOld() ? 'opened_before_agent' : 'gap_in_handshake');
      else side.stream.findChangeCipherSpec();
      return this.#releaseIfEnded();
    }
    if (this.#tls13 !== undefined && side.phase !== 'application') {
      // The messages that switch the keys may be lost. The application keys are of use if they are known without these messages.
      const secret = side.phase === 'handshake' ? this.#tls13.get(APPLICATION_LABEL[direction]) : undefined;
      if (secret === undefined) {
        this.#fail('gap_in_handshake');
        return this.#releaseIfEnded();
      }
      side.need = 'application';
      this.#tryKeys(side);
    }
    side.stream.gap(length, this.#context.limits.tlsGapTrials);
  }

  #takeEnd(direction: Direction, reason: EndReason, timeUs: number): void {
    if (!this.#ended) {
      this.#busy = true;
      this.#sides[direction].stream.end();
      this.#busy = false;
    }
    this.#next?.end(direction, reason, timeUs);
  }

  // --- Records and handshake messages ------------------------------------------------------------------------------------------------

  #record(direction: Direction, type: number, bytes: Buffer, start: number, end: number): void {
    const side = this.#sides[direction];
    if (type === HANDSHAKE) {
      const outcome = side.messages.feed(bytes, start, end, this.#sinks[direction]);
      if (outcome === 'too_large') this.#fail('handshake_malformed');
    } else if (type === CHANGE_CIPHER_SPEC) {
      // RFC 8446 5: in TLS 1.3 it means nothing. Before the ServerHello it can only be that (middlebox compatibility).
      if (this.#tls12 !== undefined) this.#want(side, 'master', 'no');
    } else if (type === ALERT) {
      this.#alert(side, bytes, start, end);
    }
    // Other types, such as heartbeats, carry nothing for us.
  }

  #alert(side: Side, bytes: Buffer, start: number, end: number): void {
    if (end - start !== 2) return;
    if (bytes[start] === FATAL || bytes[start + 1] === CLOSE_NOTIFY) side.stream.discarding = true;
  }

  #handshakeSink(direction: Direction): HandshakeSink {
    return {
      handshakeBytes: (_type, bytes, start, end) => {
        if (direction === FROM_SERVER && this.#sides[FROM_SERVER].phase === 'handshake') {
          this.#tls13?.addToTranscript(bytes, start, end);
        }
      },
      handshakeMessage: (type, message) => {
        this.#message(this.#sides[direction], type, message);
        return !this.#ended;
      },
    };
  }

  #message(side: Side, type: number, message: Buffer | undefined) {
    if (this.#clientRandom === undefined && type !== hello.CLIENT_HELLO) {
      return this.#fail(this.#isOld() ? 'opened_before_agent' : 'handshake_malformed');
    }
    switch (type) {
      case hello.CLIENT_HELLO:
        return this.#clientHello(side, message!);
      case hello.SERVER_HELLO:
        return this.#serverHello(side, message!);
      case hello.ENCRYPTED_EXTENSIONS:
        return this.#encryptedExtensions(side, message!);
      case hello.END_OF_EARLY_DATA:
        if (side.phase === 'early') this.#want(side, 'handshake', 'no');
        return;
      case hello.FINISHED:
        return this.#finished(side);
      case hello.KEY_UPDATE:
        return this.#keyUpdate(side);
    }
  }

  #clientHello(side: Side, message: Buffer) {
    const parsed = hello.parseClientHello(message.subarray(4));
    if (parsed === undefined || side.direction !== FROM_CLIENT || this.#tls13 !== undefined) {
      return this.#fail('handshake_malformed');
    }
    const tls = this.#context.connection.tls!;
    this.#offersEarlyData = parsed.offersEarlyData;
    this.#hellos = this.#retried ? [...this.#hellos, Buffer.from(message)] : [Buffer.from(message)];
    this.#clientRandom = parsed.random;
    // A renegotiation has a random of its own; the first one names the connection.
    tls.clientRandom ??= parsed.random;
    tls.serverName ??= parsed.serverName;
  }

  #serverHello(side: Side, message: Buffer) {
    const parsed = hello.parseServerHello(message.subarray(4));
    if (parsed === undefined || side.direction !== FROM_SERVER || this.#tls13 !== undefined) {
      return this.#fail('handshake_malformed');
    }
    const tls = this.#context.connection.tls!;
    const version = VERSION_NAMES[parsed.version];
    tls.version = version ?? `0x${parsed.version.toString(16).padStart(4, '0')}`;
    tls.cipherSuite = cipherSuiteName(parsed.cipherSuite);
    if (version === undefined) return this.#fail('unsupported_version');
    const suite = cipherSuites.get(parsed.cipherSuite);
    if (suite === undefined || suite.tls13 !== (parsed.version === TLS_1_3) || parsed.truncatedHmac) {
      return this.#fail('unsupported_cipher_suite');
    }
    if (parsed.compression !== 0) return this.#fail('unsupported_compression');
    this.#hellos.push(Buffer.from(message));
    if (parsed.version !== TLS_1_3) {
      tls.alpn = parsed.alpn ?? tls.alpn;
      this.#tls12?.release();
      this.#tls12 = new Tls12Secrets(
        suite,
        parsed.version,
        parsed.encryptThenMac && suite.mode === 'cbc',
        this.#clientRandom!,
        parsed.random,
        this.#options.secrets,
        (random, master) => this.#report('CLIENT_RANDOM', random, master),
      );
      this.#hellos = [];
      return;
    }
    if (parsed.isHelloRetryRequest) {
      if (this.#retried || this.#tls12 !== undefined) return this.#fail('handshake_malformed');
      this.#retried = true;
      this.#resume(this.#sides[FROM_CLIENT]);
      return;
    }
    if (this.#tls12 !== undefined) return this.#fail('handshake_malformed');
    const random = this.#clientRandom!;
    this.#tls13 = new Tls13Secrets(suite, this.#hellos, random, this.#options.secrets, (label, secret) =>
      this.#report(label, random, secret),
    );
    this.#hellos = [];
    this.#afterServerHello(parsed.usesPreSharedKey);
  }

  /** TLS 1.3: from here on both sides are encrypted. */
  #afterServerHello(usesPreSharedKey: boolean): void {
    const [client, server] = this.#sides;
    const early = this.#offersEarlyData && !this.#retried;
    if (early && usesPreSharedKey) this.#wait(client, 'early_decision');
    // RFC 8446 4.2.10: without the PSK the early data is refused, and sent again.
    else this.#want(client, 'handshake', early ? 'silent' : 'no');
    if (!this.#ended) this.#want(server, 'handshake', 'no');
  }

  #encryptedExtensions(side: Side, message: Buffer) {
    if (this.#tls13 === undefined || side.direction !== FROM_SERVER) return this.#fail('handshake_malformed');
    const parsed = hello.parseEncryptedExtensions(message.subarray(4));
    if (parsed === undefined) return this.#fail('handshake_malformed');
    this.#context.connection.tls!.alpn = parsed.alpn;
    const client = this.#sides[FROM_CLIENT];
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
    const other = this.#sides[FROM_CLIENT];
    if (!this.#ended && side.direction === FROM_SERVER && other.need === 'application') this.#retry(other);
  }

  /** RFC 8446 4.6.3: the sender's next record has the next keys. */
  #keyUpdate(side: Side) {
    if (this.#tls13 === undefined || side.phase !== 'application' || side.trafficSecret === undefined) {
      return this.#fail('handshake_malformed');
    }
    const next = nextTrafficSecret(this.#tls13.suite.hash, side.trafficSecret);
    this.#setTrafficKeys(side, next, 'application');
  }

  // --- Keys --------------------------------------------------------------------------------------------------------------------------

  /** The side's next records need other keys: takes them, or waits for them. */
  #want(side: Side, need: Need, skip: Side['skip']): void {
    side.need = need;
    side.skip = skip;
    if (this.#tryKeys(side)) this.#resume(side);
    else if (!this.#ended) this.#wait(side, need);
  }

  #wait(side: Side, need: Need): void {
    side.need = need;
    side.stream.waiting = true;
    const names = this.#tls13?.names ?? this.#tls12?.names;
    if (names !== undefined && names !== this.#watched) {
      this.#unwatch();
      this.#watched = names;
      for (const name of names) this.#options.secrets.watch(name, this.#wake);
    }
  }

  #unwatch(): void {
    for (const name of this.#watched) this.#options.secrets.unwatch(name, this.#wake);
    this.#watched = [];
  }

  /** The side goes on. If it has older data than what is being fed now, that comes first. */
  #resume(side: Side): void {
    side.stream.waiting = false;
    if (this.#pending.has(side.direction)) for (const { stream } of this.#sides) stream.interrupted = true;
    if (this.#sides.every(({ need }) => need === 'nothing')) this.#unwatch();
  }

  #retry(side: Side): void {
    if (this.#tryKeys(side)) this.#resume(side);
  }

  /** A secret that this connection watches came. */
  #secretCame() {
    if (this.#closed || this.#busy) return;
    if (this.#ended) return this.#secretCameTooLate();
    for (const side of this.#sides) if (!this.#ended && side.need !== 'nothing') this.#retry(side);
    this.#releaseIfEnded();
    this.#drain();
  }

  #secretCameTooLate(): void {
    const { undecryptable } = this.#context.counters.connections;
    this.#unwatch();
    if (this.#reason === undefined) return;
    undecryptable[this.#reason] = (undecryptable[this.#reason] ?? 1) - 1;
    if (undecryptable[this.#reason] === 0) delete undecryptable[this.#reason];
    this.#reason = undefined;
    this.#count('secret_too_late');
  }

  /** Takes the keys that the side needs, if they are known. */
  #tryKeys(side: Side): boolean {
    const { need, direction } = side;
    if (need === 'master') return this.#tryMaster(side);
    const tls13 = this.#tls13;
    if (tls13 === undefined) return false;
    if (need === 'early') return this.#tryTrafficSecret(side, 'CLIENT_EARLY_TRAFFIC_SECRET', 'early');
    if (need === 'application') return this.#tryTrafficSecret(side, APPLICATION_LABEL[direction], 'application');
    if (need !== 'handshake') return false;
    if (this.#tryTrafficSecret(side, HANDSHAKE_LABEL[direction], 'handshake')) return true;
    // A key log with the application secrets alone: whatever these do not open is the handshake.
    if (side.skip === 'no') side.skip = 'silent';
    if (!this.#tryTrafficSecret(side, APPLICATION_LABEL[direction], 'application')) {
      return false;
    }
    const client = this.#sides[FROM_CLIENT];
    if (client.need === 'early_decision') this.#want(client, 'handshake', 'silent');
    return true;
  }

  #tryTrafficSecret(side: Side, label: Tls13Label, phase: Phase): boolean {
    const secret = this.#tls13!.get(label);
    if (secret === undefined) return false;
    this.#setTrafficKeys(side, Buffer.from(secret), phase);
    this.#tls13!.forget(label);
    return !this.#ended;
  }

  /** @param secret becomes the side's */
  #setTrafficKeys(side: Side, secret: Buffer, phase: Phase) {
    const { suite } = this.#tls13!;
    const keys = tls13TrafficKeys(suite, secret);
    const opener = Opener.create(suite, TLS_1_3, false, keys);
    wipeKeys(keys);
    side.trafficSecret?.fill(0);
    side.trafficSecret = secret;
    if (opener === undefined) return this.#fail('unsupported_cipher_suite');
    const tag = suite.mode === 'ccm_8' ? OVERHEAD_TLS13.shortTag : OVERHEAD_TLS13.tag;
    side.stream.setKeys(opener, true, tag + OVERHEAD_TLS13.contentType);
    const maxSkipBytes = this.#context.limits.tlsPendingBytesPerConnection;
    if (side.skip !== 'no') side.stream.skipUntilReadable(side.skip === 'lossy', maxSkipBytes);
    side.skip = 'no';
    side.phase = phase;
    side.need = 'nothing';
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

  #report(label: KeyLogLabel, clientRandom: Buffer, secret: Buffer): void {
    this.#options.onKeyLog?.(this.#context.connection, formatKeyLogLine(label, clientRandom, secret));
  }

  // --- Above and the end ---------------------------------------------------------------------------------------------------------------

  #nextLayer(): Layer {
    if (this.#next !== undefined) return this.#next;
    const outer = this.#context;
    this.#next = this.#options.next({
      connection: outer.connection,
      limits: outer.limits,
      counters: outer.counters,
      emit: (exchange) => outer.emit(exchange),
      mute: () => this.#mutedFromAbove(),
      wantTicks: (wanted) => {
        this.#nextWantsTicks = wanted;
        this.#announceWaiting();
      },
    });
    return this.#next;
  }

  /** The protocol inside is of no use: nothing more is decrypted, the end is still told. */
  #mutedFromAbove(): void {
    this.#ended = true;
    this.#stopStreams();
    this.#context.mute();
  }

  #side(direction: Direction): Side {
    return {
      direction,
      stream: new RecordStream(direction, this),
      messages: new HandshakeReader(isWantedWhole, this.#context.limits.tlsHandshakeMessageBytes),
      phase: 'clear',
      need: 'nothing',
      skip: 'no',
      trafficSecret: undefined,
    };
  }

  #isOld(): boolean {
    return !this.#context.connection.startSeen;
  }

  /** The server refuses before there was a ClientHello that we saw: nothing to read. */
  #handleEarlyRefusal(_direction: Direction, _type: number): void {
    this.#fail('handshake_malformed');
  }

  #count(reason: string): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    count(this.#context.counters.connections.undecryptable, reason);
  }

  /** The connection cannot be read any further. Within a stream's callback: what it uses is released when it returns. */
  #fail(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#count(reason);
    this.#stopStreams();
    this.#context.mute();
    const next = this.#next;
    this.#next = undefined;
    this.#nextWantsTicks = false;
    next?.close('evicted', this.#nowUs);
    if (!this.#busy) this.#release();
  }

  #stopStreams(): void {
    for (const { stream } of this.#sides) stream.discarding = true;
  }

  #releaseIfEnded(): void {
    if (this.#ended && !this.#busy) this.#release();
  }

  /** Zeroes keys and drops bytes. Watching for a late secret goes on until `close`. */
  #release(): void {
    this.#ended = true;
    for (const side of this.#sides) {
      side.stream.release();
      side.messages.reset();
      side.trafficSecret?.fill(0);
      side.trafficSecret = undefined;
      side.need = 'nothing';
    }
    this.#tls13?.release();
    this.#tls12?.release();
    this.#tls13 = undefined;
    this.#tls12 = undefined;
    this.#hellos = [];
    this.#dropPending(this.#pending.bytes);
    this.#announceWaiting();
  }
}
