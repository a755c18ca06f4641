/**
 * TLS: the bytes of a connection go in, its application data comes out, in order, each byte authenticated.
 *
 * Theory of operation. Each direction is a RecordStream, which finds records and opens them; the Handshake reads the messages and sets the
 * streams' keys; this file decides what is fed to the streams, and when.
 *
 * A direction whose keys are not known waits: its stream takes nothing, and what arrives is held in a queue that keeps the order of both
 * directions. When the secret comes, the queue is drained in that order. A side that need not wait goes on without delay.
 *
 * Nothing is guessed: a wrong secret fails at the first record's tag, and the connection ends with a reason.
 */
import type { Limits } from '../config/limits.ts';
import type { Connection, Direction, EndReason, Layer } from '../flow/connection.ts';
import { Charge } from '../memory/budget.ts';
import { TLS_COST } from '../memory/cost.ts';
import type { LayerContext } from '../protocol/layer.ts';
import type { SecretStore } from '../secrets/store.ts';
import { count } from '../telemetry/counters.ts';
import { Handshake, type HandshakeHost, type Side } from './handshake.ts';
import { type PendingEvent, PendingQueue } from './pending.ts';
import type { UndecryptableReason } from './reasons.ts';
import type { RecordSink } from './record-stream.ts';

export { detectTls } from './detect.ts';

export interface TlsOptions {
  readonly secrets: SecretStore;
  /** Makes the layer that takes the application data; called when the first of it is there. */
  readonly next: (context: LayerContext) => Layer;
  /** Gets each secret as soon as it is known, as a key-log line. */
  readonly onKeyLog?: (connection: Connection, line: string) => void;
  /** Why a connection's secret did not come, in place of `no_secret`. */
  readonly explainMissingSecret?: (connection: Connection) => string | undefined;
}

/** @returns the layer for one connection whose first bytes are TLS */
export function createTlsLayer(context: LayerContext, options: TlsOptions): Layer {
  return new TlsLayer(context, options);
}

class TlsLayer implements Layer, RecordSink, HandshakeHost {
  readonly connection: Connection;
  readonly limits: Limits;
  readonly #context: LayerContext;
  readonly #options: TlsOptions;
  readonly #handshake: Handshake;
  readonly #sides: readonly [Side, Side];
  readonly #pending = new PendingQueue();
  readonly #charge: Charge;

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
  #wake: (() => void) | undefined;

  constructor(context: LayerContext, options: TlsOptions) {
    this.#context = context;
    this.#options = options;
    this.connection = context.connection;
    this.limits = context.limits;
    this.#charge = new Charge(context.memory);
    this.#handshake = new Handshake(this, this);
    this.#sides = this.#handshake.sides;
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
    this.#take(direction, bytes, start, end, timeUs);
    this.#settle();
  }

  #take(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number) {
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
    if (this.#pending.isEmpty && !this.#sides[direction].stream.waiting) this.#takeGap(direction, length);
    else {
      this.#queue(direction, { kind: 'gap', order: this.#pending.nextOrder(), timeUs, length });
      this.#drain();
    }
    this.#settle();
  }

  end(direction: Direction, reason: EndReason, timeUs: number) {
    this.#nowUs = timeUs;
    if (this.#ended || this.#pending.isEmpty) this.#takeEnd(direction, reason, timeUs);
    else {
      this.#queue(direction, { kind: 'end', order: this.#pending.nextOrder(), timeUs, reason });
      this.#drain();
    }
    this.#settle();
  }

  close(reason: EndReason, timeUs: number): void {
    if (this.#closed) return;
    this.#nowUs = timeUs;
    this.#closed = true;
    if (!this.#ended) {
      if (reason === 'memory') this.#count('memory');
      else if (!this.#pending.isEmpty) this.#count(this.#missingSecretReason());
      else if (!this.#decrypted) this.#count(this.#reasonOfEnd(reason));
    }
    const next = this.#next;
    this.#release();
    this.#handshake.unwatch();
    this.#handshake.forget();
    next?.close(reason, timeUs);
    this.#settle();
  }

  #reasonOfEnd(reason: EndReason): UndecryptableReason {
    if (this.#handshake.isRefused) return 'handshake_refused';
    return reason === 'shutdown' ? 'shutdown' : 'closed_in_handshake';
  }

  tick(timeUs: number): void {
    if (this.#closed) return;
    this.#nowUs = timeUs;
    if (!this.#ended && !this.#pending.isEmpty && this.#isOverdue(timeUs)) {
      this.#giveUpWaiting();
      this.#settle();
    }
    if (this.#nextWantsTicks) this.#next?.tick?.(timeUs);
  }

  // --- RecordSink: what the streams find -------------------------------------------------------------------------------------------

  clearRecord(direction: Direction, type: number, bytes: Buffer, start: number, end: number): void {
    this.#handshake.record(direction, type, bytes, start, end);
  }

  hello2(bytes: Buffer, start: number, end: number): void {
    this.#handshake.hello2(bytes, start, end);
  }

  protectedRecord(direction: Direction, type: number, bytes: Buffer, start: number, end: number): void {
    this.#handshake.record(direction, type, bytes, start, end);
  }

  unreadableRecord(direction: Direction): 'skip' | 'wait' {
    return this.#handshake.unreadable(direction);
  }

  keysConfirmed(_direction: Direction): void {
    if (this.#decrypted || this.#reason !== undefined) return;
    this.#decrypted = true;
    this.#context.counters.connections.decrypted++;
  }

  applicationData(direction: Direction, bytes: Buffer, start: number, end: number, firstUs: number): void {
    // RFC 8446 5.1: application data is none before the handshake's end, but for early data. What is authentic is passed on.
    this.#nextLayer().data(direction, bytes, start, end, this.#nowUs, firstUs);
  }

  lossAhead(direction: Direction): void {
    this.#next?.lossAhead?.(direction);
  }

  lost(direction: Direction, length: number): void {
    this.#nextLayer().gap(direction, length, this.#nowUs);
  }

  failed(_direction: Direction, reason: UndecryptableReason): void {
    this.#fail(this.#handshake.isUnseen ? 'opened_before_agent' : reason);
  }

  // --- HandshakeHost: what the handshake needs ----------------------------------------------------------------------------------------

  get secrets(): SecretStore {
    return this.#options.secrets;
  }

  get onKeyLog(): TlsOptions['onKeyLog'] {
    return this.#options.onKeyLog;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Few connections wait: those that do not need no function of their own. */
  get wake(): () => void {
    this.#wake ??= () => this.#secretCame();
    return this.#wake;
  }

  hasHeld(direction: Direction): boolean {
    return this.#pending.has(direction);
  }

  fail(reason: UndecryptableReason): void {
    this.#fail(reason);
  }

  finish(): void {
    if (this.#pending.isEmpty) this.#context.finish?.();
  }

  // --- Feeding and waiting -----------------------------------------------------------------------------------------------------------

  #feed(side: Side, bytes: Buffer, start: number, end: number): number {
    this.#busy = true;
    try {
      return side.stream.feed(bytes, start, end, this.#nowUs);
    } catch (error) {
      this.#fail('internal_error');
      throw error;
    } finally {
      this.#busy = false;
      if (this.#ended) this.#release();
    }
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
      const direction = this.#pending.next([this.#handshake.holdsBack(client), this.#handshake.holdsBack(server)]);
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

  #takeGap(direction: Direction, length: number): void {
    this.#busy = true;
    this.#handshake.gap(this.#sides[direction], length);
    this.#busy = false;
    if (this.#ended) this.#release();
  }

  #takeEnd(direction: Direction, reason: EndReason, timeUs: number): void {
    if (!this.#ended) {
      this.#busy = true;
      this.#sides[direction].stream.end();
      this.#busy = false;
    }
    this.#next?.end(direction, reason, timeUs);
  }

  /** A secret that this connection watches came. What goes wrong here must not harm the connection that brought it. */
  #secretCame() {
    if (this.#closed || this.#busy) return;
    if (this.#ended) return this.#secretCameTooLate();
    try {
      this.#handshake.retryAll();
      if (this.#ended) this.#release();
      this.#drain();
    } catch (error) {
      this.#context.internalError?.(error);
      this.#fail('internal_error');
    }
    this.#settle();
  }

  #secretCameTooLate(): void {
    const { undecryptable } = this.#context.counters.connections;
    this.#handshake.unwatch();
    if (this.#reason === undefined) return;
    undecryptable[this.#reason] = (undecryptable[this.#reason] ?? 1) - 1;
    if (undecryptable[this.#reason] === 0) delete undecryptable[this.#reason];
    this.#reason = undefined;
    this.#count('secret_too_late');
  }

  /** Charges what is held between calls. */
  #settle(): void {
    const open = this.#ended ? 0 : TLS_COST;
    this.#charge.set(open + this.#handshake.cost + this.#pending.bytes);
  }

  // --- Above and the end ---------------------------------------------------------------------------------------------------------------

  #nextLayer(): Layer {
    if (this.#next !== undefined) return this.#next;
    const outer = this.#context;
    this.#next = this.#options.next({
      connection: outer.connection,
      limits: outer.limits,
      counters: outer.counters,
      memory: outer.memory,
      emit: (exchange) => outer.emit(exchange),
      mute: () => this.#mutedFromAbove(),
      wantTicks: (wanted) => {
        this.#nextWantsTicks = wanted;
        this.#announceWaiting();
      },
      replaceLayer: (layer) => {
        if (this.#next !== undefined) this.#next = layer;
      },
    });
    return this.#next;
  }

  /** The protocol inside is not wanted: nothing more is decrypted, and the end is still reported. */
  #mutedFromAbove(): void {
    this.#ended = true;
    this.#stopStreams();
    this.#context.mute();
    if (!this.#busy) this.#release();
  }

  /** Each connection counts once: as decrypted, or under the reason why it was not read, or not to its end. */
  #count(reason: string): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    const { connections } = this.#context.counters;
    if (this.#decrypted) connections.decrypted--;
    this.#decrypted = false;
    count(connections.undecryptable, reason);
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
    next?.close(reason === 'pending_limit' ? 'evicted' : 'unreadable', this.#nowUs);
    if (!this.#busy) this.#release();
  }

  #stopStreams(): void {
    for (const { stream } of this.#sides) stream.discarding = true;
  }

  /** Zeroes keys and drops bytes. Watching for a late secret goes on until `close`. */
  #release(): void {
    this.#ended = true;
    this.#handshake.release();
    this.#dropPending(this.#pending.bytes);
    this.#announceWaiting();
  }
}
