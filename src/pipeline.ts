/**
 * The stages in their order, from a capture source's records to the outputs:
 *
 *     packet -> flow -> proxy -> detect -> (tls -> proxy -> detect ->) protocol -> exchange -> span -> outputs
 *
 * One pipeline serves the live agent and replay; they differ only in the source of the records and in the clock.
 */
import type { CaptureSink, PacketRecord, ProcessRecord, SecretRecord, SocketRecord } from './capture/records.ts';
import type { Exchange } from './exchange/exchange.ts';
import type { Feed } from './export/feed.ts';
import type { Output } from './export/output.ts';
import type { Views } from './export/views.ts';
import type { Connection, EndReason, Layer } from './flow/connection.ts';
import { type FlowControl, FlowTable } from './flow/table.ts';
import { Charge, type MemoryBudget, unlimitedMemory } from './memory/budget.ts';
import { EXCHANGE_COST } from './memory/cost.ts';
import type { PcapngSink } from './pcapng/sink.ts';
import { createDetectLayer } from './protocol/detect.ts';
import type { LayerContext, Protocol } from './protocol/layer.ts';
import { createProxyLayer } from './protocol/proxy/layer.ts';
import { type AllLimits, exchangeCost } from './protocol/registry.ts';
import type { SecretStore } from './secrets/store.ts';
import type { SpanBuilder } from './span/builder.ts';
import { WaitingRoom, type WaitingRoomOptions } from './span/waiting.ts';
import { type Counters, count } from './telemetry/counters.ts';
import { createTlsLayer, detectTls } from './tls/layer.ts';

/**
 * Bytes of spans of exchanges that a limit ends between two ticks: a full pipeline, which is less than the queue of an output takes; of what is
 * given up for memory little, since there may be more of it at once, and its spans take time.
 */
const MAX_GIVEN_UP_BYTES = { limit: 24 * 1024 * 1024, memory: 4 * 1024 * 1024 } as const;
/** What both spans of an exchange have beside its texts. */
const SPANS_BYTES = 600;

const GIVEN_UP = { client: 'given_up', server: 'given_up' } as const;

/** Who wants to know of sockets and processes: the owners of sockets, the uprobes. */
export interface ProcessObserver {
  socket?(record: SocketRecord): void;
  process?(record: ProcessRecord): void;
  /** No connection uses these sockets any more. */
  forgetSocket?(cookie: number): void;
}

export interface PipelineOptions {
  readonly limits: AllLimits;
  readonly counters: Counters;
  /** Shared by all that grows with its input. */
  readonly memory?: MemoryBudget;
  readonly secrets: SecretStore;
  /** The protocols looked for, in plain text and inside TLS. */
  readonly protocols: readonly Protocol[];
  readonly spans: SpanBuilder;
  readonly outputs: readonly Output[];
  /** Makes what outputs and the feed show of an exchange. */
  readonly views: Views;
  /** Gets every exchange, also those that become no spans. */
  readonly feed?: Feed | undefined;
  readonly observers?: readonly ProcessObserver[];
  readonly pcapng?: PcapngSink | undefined;
  /** The kernel need not send packets of this socket any more. */
  readonly mute?: (socketCookie: number) => void;
  /** Where exchanges wait until the owners of their sockets are known; `counts` say how many did. */
  readonly waiting?: Pick<WaitingRoomOptions, 'resources' | 'limit' | 'counts'> | undefined;
  /** Why a connection's secret cannot be had, as far as the owner of its sockets tells; a reason for `undecryptable`. */
  readonly explainMissingSecret?: (connection: Connection) => string | undefined;
  /** Called with each error that no stage should have thrown. */
  readonly onInternalError?: (error: unknown) => void;
}

/**
 * No record may end the process. What a stage throws in spite of all is counted in `internalErrors` and costs the smallest thing that
 * it came from: an exchange, a connection, a packet.
 */
export class Pipeline implements CaptureSink {
  readonly #options: PipelineOptions;
  readonly #flows: FlowTable;
  readonly #tls: Protocol;
  readonly #memory: MemoryBudget;
  /** Of the exchanges that a limit has ended since the last tick. */
  #givenUpBytes = 0;
  /** What waits for export and for the packet file: both have caps of their own. */
  readonly #waitsForOutput: Charge;
  readonly #waiting: WaitingRoom | undefined;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#memory = options.memory ?? unlimitedMemory();
    this.#waitsForOutput = new Charge(this.#memory.open());
    this.#tls = { name: 'tls', detect: detectTls, create: (context) => this.#detectInTls(context) };
    const candidates = [this.#tls, ...options.protocols];
    this.#flows = new FlowTable({
      limits: options.limits,
      counters: options.counters,
      memory: this.#memory,
      open: (connection, control) => this.#detect(this.#context(connection, control), candidates),
      ...(options.mute === undefined ? {} : { mute: options.mute }),
      onConnectionEnd: (connection, reason) => this.#forget(connection, reason),
      onLayerError: (error) => this.#failed('connection', error),
    });
    this.#waiting =
      options.waiting &&
      new WaitingRoom({
        ...options.waiting,
        memory: this.#memory,
        costOf: exchangeCost,
        deliver: (exchange) => this.#deliver(exchange),
        released: (connection) => this.#forgetSockets(connection),
      });
  }

  packet(record: PacketRecord): void {
    try {
      const verdict = this.#flows.packet(record);
      const { pcapng } = this.#options;
      // After the stages: secrets that this very packet brought to light stand ahead of it in the file.
      if (pcapng !== undefined && !verdict.duplicateView) pcapng.packet(record, verdict.connection);
      if (this.#memory.isExceeded) this.#memory.relieve(record.timeUs);
    } catch (error) {
      this.#failed('packet', error);
    }
  }

  socket(record: SocketRecord): void {
    try {
      for (const observer of this.#options.observers ?? []) observer.socket?.(record);
      this.#flows.socket(record);
    } catch (error) {
      this.#failed('socket', error);
    }
  }

  process(record: ProcessRecord): void {
    try {
      for (const observer of this.#options.observers ?? []) observer.process?.(record);
    } catch (error) {
      this.#failed('process', error);
    }
  }

  secret(record: SecretRecord): void {
    try {
      this.#options.secrets.addKernelSecret(record);
    } catch (error) {
      this.#failed('secret', error);
    }
  }

  /** Time passes; to be called several times a second (live), or as packets' time advances (replay). */
  tick(timeUs: number): void {
    try {
      this.#givenUpBytes = 0;
      this.#options.secrets.advance(timeUs);
      this.#flows.tick(timeUs);
      this.#waiting?.tick();
      this.#options.feed?.tick();
      this.#options.pcapng?.tick(timeUs);
      this.#chargeOutputs();
      this.#memory.relieve(timeUs);
    } catch (error) {
      this.#failed('tick', error);
    }
  }

  /** The capture ended: everything in flight ends with it. */
  finish(reason: EndReason, timeUs: number): void {
    this.#flows.closeAll(reason, timeUs);
    this.#waiting?.flush();
    this.#options.secrets.clear();
  }

  #chargeOutputs(): void {
    let bytes = this.#options.pcapng?.heldBytes ?? 0;
    for (const output of this.#options.outputs) bytes += output.heldBytes;
    this.#waitsForOutput.set(bytes);
  }

  #failed(what: string, error: unknown): void {
    count(this.#options.counters.internalErrors, what);
    this.#options.onInternalError?.(error);
  }

  #detectInTls(context: LayerContext): Layer {
    return this.#createTls(context, (inner) => this.#detect(inner, this.#options.protocols));
  }

  /** A header of the PROXY protocol stands before anything, also inside TLS. */
  #detect(context: LayerContext, candidates: readonly Protocol[]): Layer {
    return createProxyLayer(context, createDetectLayer(context, candidates));
  }

  #createTls(context: LayerContext, next: (inner: LayerContext) => Layer): Layer {
    const { secrets, pcapng, explainMissingSecret } = this.#options;
    return createTlsLayer(context, {
      secrets,
      next,
      ...(pcapng === undefined ? {} : { onKeyLog: (connection, line) => pcapng.secrets(connection, line) }),
      ...(explainMissingSecret === undefined ? {} : { explainMissingSecret }),
    });
  }

  #context(connection: Connection, control: FlowControl): LayerContext {
    const { limits, counters } = this.#options;
    const outer: LayerContext = {
      connection,
      limits,
      counters,
      memory: control.memory,
      emit: (exchange) => this.#emit(exchange, control),
      mute: () => control.mute(),
      wantTicks: (wanted) => control.wantTicks(wanted),
      swapRoles: () => control.swapRoles(),
      finish: () => control.finish(),
      replaceLayer: (layer) => control.replaceLayer(layer),
      startTls: (next) => this.#createTls(outer, next),
      internalError: (error) => this.#failed('connection', error),
    };
    return outer;
  }

  #emit(exchange: Exchange, control: FlowControl): void {
    if (this.#isTooMuch(exchange)) return;
    if (this.#waiting?.hold(exchange)) return;
    // Of a connection with no end that is watched nothing else will be wanted either.
    if (!this.#deliver(exchange) && this.#options.spans.isUnwatched(exchange.connection)) control.mute();
  }

  /**
   * Exchanges that a limit ends all at once make no more spans than so many bytes of them: else they would push spans out of the outputs'
   * queues that were made before.
   */
  #isTooMuch(exchange: Exchange): boolean {
    const { incomplete } = exchange;
    if (incomplete !== 'memory' && incomplete !== 'limit') return false;
    // A span for each end, which repeats the texts.
    this.#givenUpBytes += SPANS_BYTES + 2 * (exchangeCost(exchange) - EXCHANGE_COST);
    if (this.#givenUpBytes <= MAX_GIVEN_UP_BYTES[incomplete]) return false;
    const { counters, feed, views } = this.#options;
    count(counters.spans.leftOut, 'given_up');
    if (feed?.isRead) {
      views.show(exchange, [], GIVEN_UP);
      feed.publish(views);
    }
    return true;
  }

  /** @returns whether there were spans */
  #deliver(exchange: Exchange): boolean {
    const { feed, outputs, spans: builder, views } = this.#options;
    try {
      const spans = builder.build(exchange);
      views.show(exchange, spans, builder.verdict);
      if (feed?.isRead) feed.publish(views);
      if (spans.length === 0) return false;
      for (const output of outputs) output.exchange(exchange, spans, views);
    } catch (error) {
      this.#failed('exchange', error);
    }
    return true;
  }

  #forget(connection: Connection, reason: EndReason): void {
    // Given up here, not closed: the sockets live on, and what they send next makes a new connection of the same owners.
    if (reason === 'idle' || reason === 'evicted' || reason === 'memory') return;
    if (!this.#waiting?.holds(connection)) this.#forgetSockets(connection);
  }

  #forgetSockets({ client, server }: Connection): void {
    for (const observer of this.#options.observers ?? []) {
      if (observer.forgetSocket === undefined) continue;
      if (client.socket !== 0) observer.forgetSocket(client.socket);
      if (server.socket !== 0) observer.forgetSocket(server.socket);
    }
  }
}
