/**
 * Wire documents of any protocol, in the format of cases.ts: the segments of one connection and the exchanges that they make. Bytes inside TLS
 * stand in them as plain text. They pass the PROXY layer and the detection first, as in the pipeline.
 *
 *     --- PROTOCOL FACTS    one exchange; its facts are those of the describing function of its protocol
 */
import type { Exchange } from '../../../src/exchange/exchange.ts';
import { type Direction, FROM_CLIENT, type Layer } from '../../../src/flow/connection.ts';
import { createDetectLayer } from '../../../src/protocol/detect.ts';
import type { LayerContext } from '../../../src/protocol/layer.ts';
import { createProxyLayer } from '../../../src/protocol/proxy/layer.ts';
import { defaultAllLimits } from '../../../src/protocol/registry.ts';
import { newCounters, type ReasonCounts } from '../../../src/telemetry/counters.ts';
import { views } from '../spans/fixtures.ts';
import { newAccount } from '../wire/memory.ts';
import { newProtocols } from '../wire/protocols.ts';
import { type Case, describeExchange, escaped, newConnection, play, type Step } from './cases.ts';
import { typed } from './exchanges.ts';
import { callFacts } from './grpc.ts';
import { describe as describeMysql } from './mysql.ts';
import { describeStatement } from './postgres.ts';
import { describeExchange as describeCommand } from './redis.ts';
import { describe as describeWebSocket } from './websocket.ts';

export const protocols = newProtocols();

/** @returns what a document says of an exchange */
function describeAny(exchange: Exchange): string {
  const { relayedFor } = exchange.connection;
  const client = relayedFor === undefined ? '' : ` for=${relayedFor.address}:${relayedFor.port}`;
  return `${exchange.protocol} ${facts(exchange)}${client}`;
}

/** Those of other protocols say what their view says. */
function facts(emitted: Exchange): string {
  const exchange = typed(emitted);
  switch (exchange.protocol) {
    case 'http':
      return describeExchange(exchange);
    case 'grpc':
      return callFacts([exchange])[0]!;
    case 'websocket':
      return describeWebSocket(exchange);
    case 'mysql':
      return describeMysql(exchange);
    case 'postgresql':
      return describeStatement(exchange);
    case 'redis':
      return describeCommand(exchange);
    default:
      return describeView(emitted);
  }
}

const all = views();

function describeView(exchange: Exchange): string {
  all.show(exchange, [], { client: 'perspective', server: 'perspective' });
  const { summary, outcome, error, incomplete, requestBytes, responseBytes } = all.view;
  const result = outcome ?? error ?? '?';
  const why = incomplete === undefined ? '' : ` incomplete=${incomplete}`;
  return `${summary} -> ${result} in=${requestBytes} out=${responseBytes}${why}`;
}

/** A connection through all layers but TLS, and what came of it. */
export class WireRun {
  readonly emitted: string[] = [];
  readonly #counters = newCounters();
  #layer: Layer;
  #closed = false;

  constructor(startSeen: boolean) {
    const context: LayerContext = {
      connection: newConnection(startSeen),
      memory: newAccount(),
      limits: defaultAllLimits,
      counters: this.#counters,
      emit: (exchange) => this.emitted.push(describeAny(exchange)),
      mute: () => undefined,
      wantTicks: () => undefined,
      replaceLayer: (layer) => {
        this.#layer = layer;
      },
      // What follows in a document is plain text.
      startTls: (next) => next(context),
    };
    this.#layer = createProxyLayer(context, createDetectLayer(context, protocols));
  }

  run(steps: Iterable<Step>): this {
    const layer = () => this.#layer;
    play(steps, {
      // Detection, or a change of protocol, replaces it on the way.
      get layer() {
        return layer();
      },
      feed: (direction, bytes, timeUs) => this.#feed(direction, bytes, timeUs),
      close: (reason, timeUs) => this.#close(reason, timeUs),
    });
    return this;
  }

  close(): this {
    this.#close('fin', 1e9);
    return this;
  }

  /** What was counted besides exchanges, as lines of a document. */
  get counted(): string[] {
    const { parseErrors, incomplete, connections } = this.#counters;
    const lines = (what: string, counts: ReasonCounts) =>
      Object.entries(counts).map(([why, n]) => `${what} ${why} ${n}`);
    return [
      ...lines('parseErrors', parseErrors),
      ...lines('incomplete', incomplete),
      ...lines('opaque', connections.opaque),
      ...lines('unrecognised', connections.unrecognised),
    ].sort();
  }

  /** The bytes lie in the middle of a larger buffer that is destroyed afterwards: what was borrowed too long shows. */
  #feed(direction: Direction, bytes: Buffer, timeUs: number): void {
    const chunk = Buffer.concat([Buffer.from('GET '), bytes, Buffer.from('\r\n\r\n')]);
    this.#layer.data(direction, chunk, 4, 4 + bytes.length, timeUs);
    chunk.fill(0x21);
  }

  #close(reason: 'fin' | Parameters<Layer['close']>[0], timeUs: number): void {
    if (!this.#closed) this.#layer.close(reason, timeUs);
    this.#closed = true;
  }
}

/** @returns a case as a document has it, with what comes of its steps */
export function formatCase({ name, flags, steps }: Pick<Case, 'name' | 'flags' | 'steps'>): string {
  const { emitted, counted } = new WireRun(!flags.has('joined')).run(steps).close();
  return [
    `=== ${name}`,
    ...[...flags].map((flag) => `!${flag}`),
    ...steps.map((step, i) => formatStep(step, i + 1)),
    ...emitted.map((line) => `--- ${escaped(Buffer.from(line, 'latin1'))}`),
    ...counted,
    '',
  ].join('\n');
}

function formatStep(step: Step, number: number): string {
  const at = step.timeUs === number ? '' : `@${step.timeUs} `;
  if (step.kind === 'tick') return `tick ${step.timeUs}`;
  if (step.kind === 'close') return `${at}close ${step.reason}`;
  const who = step.direction === FROM_CLIENT ? 'C' : 'S';
  if (step.kind === 'gap') return `${at}${who} gap ${step.length}`;
  if (step.kind === 'end') return `${at}${who} end ${step.reason}`;
  return `${at}${who} ${escaped(step.bytes)}`;
}
