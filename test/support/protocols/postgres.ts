import type { SqlExchange } from '../../../src/exchange/sql.ts';
import {
  type Connection,
  type Direction,
  type EndReason,
  FROM_CLIENT,
  FROM_SERVER,
  type Layer,
} from '../../../src/flow/connection.ts';
import type { LayerContext } from '../../../src/protocol/layer.ts';
import { createPostgresProtocol } from '../../../src/protocol/postgres/protocol.ts';
import { type AllLimits, defaultAllLimits } from '../../../src/protocol/registry.ts';
import { SqlAnalyser } from '../../../src/sql/analyser.ts';
import { type Counters, newCounters } from '../../../src/telemetry/counters.ts';
import { accountable, newAccount } from '../wire/memory.ts';
import { newConnection, play, type Step } from './cases.ts';
import { typed } from './exchanges.ts';

// --- Bytes of messages, by the names of "Message Formats" ----------------------------------------------------------------------------

export function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

export function string(text: string): Buffer {
  return Buffer.from(`${text}\0`, 'utf8');
}

export function message(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type, 'latin1'), int32(body.length + 4), body]);
}

export function packet(code: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([int32(body.length + 8), int32(code), body]);
}

const values = (row: readonly (string | null)[]): Buffer[] => [
  int16(row.length),
  ...row.map((value) =>
    value === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(value)), Buffer.from(value)]),
  ),
];

/** From the client. */
export const c = {
  sslRequest: packet(80_877_103),
  gssencRequest: packet(80_877_104),
  cancelRequest: packet(80_877_102, int32(4711), int32(12)),
  startup: (parameters: Readonly<Record<string, string>> = { user: 'u', database: 'db' }, version = 0x30000) =>
    packet(
      version,
      ...Object.entries(parameters).flatMap(([name, value]) => [string(name), string(value)]),
      Buffer.of(0),
    ),
  password: (text: string) => message('p', string(text)),
  query: (text: string) => message('Q', string(text)),
  parse: (name: string, text: string) => message('P', string(name), string(text), int16(0)),
  bind: (portal: string, name: string, ...row: (string | null)[]) =>
    message('B', string(portal), string(name), int16(0), ...values(row), int16(0)),
  describe: (what: 'S' | 'P', name = '') => message('D', Buffer.from(what), string(name)),
  execute: (portal = '', rows = 0) => message('E', string(portal), int32(rows)),
  close: (what: 'S' | 'P', name = '') => message('C', Buffer.from(what), string(name)),
  sync: message('S'),
  flush: message('H'),
  terminate: message('X'),
  copyData: (text: string) => message('d', Buffer.from(text)),
  copyDone: message('c'),
  copyFail: (text: string) => message('f', string(text)),
  functionCall: message('F', int32(1234), int16(0), int16(0), int16(0)),
};

/** From the server. */
export const s = {
  authentication: (code: number, ...parts: Buffer[]) => message('R', int32(code), ...parts),
  ok: message('R', int32(0)),
  keyData: message('K', int32(4711), int32(12)),
  status: (name: string, value: string) => message('S', string(name), string(value)),
  negotiate: message('v', int32(0x30000), int32(0)),
  ready: (state: 'I' | 'T' | 'E' = 'I') => message('Z', Buffer.from(state)),
  rowDescription: (...names: string[]) =>
    message('T', int16(names.length), ...names.map((name) => Buffer.concat([string(name), Buffer.alloc(18)]))),
  row: (...row: (string | null)[]) => message('D', ...values(row)),
  complete: (tag: string) => message('C', string(tag)),
  emptyQuery: message('I'),
  parseComplete: message('1'),
  bindComplete: message('2'),
  closeComplete: message('3'),
  noData: message('n'),
  parameters: message('t', int16(1), int32(23)),
  suspended: message('s'),
  error: (code: string, severity = 'ERROR', more: readonly string[] = []) =>
    message(
      'E',
      string(`S${severity}`),
      string(`V${severity}`),
      string(`C${code}`),
      string('Mthe secret value 42 is wrong'),
      ...more.map(string),
      Buffer.of(0),
    ),
  notice: message('N', string('SWARNING'), string('C25001'), string('Mtext'), Buffer.of(0)),
  notification: message('A', int32(1), string('channel'), string('payload')),
  copyIn: message('G', Buffer.of(0), int16(1), int16(0)),
  copyOut: message('H', Buffer.of(0), int16(1), int16(0)),
  copyBoth: message('W', Buffer.of(0), int16(0)),
  copyData: (text: string) => message('d', Buffer.from(text)),
  copyDone: message('c'),
  functionResult: message('V', int32(-1)),
};

/** The answer to StartupMessage. */
export const welcome: readonly Buffer[] = [
  s.ok,
  s.status('client_encoding', 'UTF8'),
  s.status('standard_conforming_strings', 'on'),
  s.keyData,
  s.ready(),
];

// --- Conversations ---------------------------------------------------------------------------------------------------------------------

/** One segment from the client, or from the server; its time is its number from 1. */
export type Segment = readonly ['C' | 'S', ...Buffer[]];

export function steps(segments: readonly Segment[], firstUs = 1): Step[] {
  return segments.map(([from, ...parts], index) => ({
    kind: 'data',
    direction: from === 'C' ? FROM_CLIENT : FROM_SERVER,
    bytes: Buffer.concat(parts),
    timeUs: firstUs + index,
  }));
}

export const started: readonly Segment[] = [
  ['C', c.startup()],
  ['S', ...welcome],
];

export interface BenchOptions {
  readonly startSeen?: boolean;
  readonly limits?: Partial<AllLimits>;
  readonly connection?: Partial<Connection>;
  readonly startTls?: LayerContext<AllLimits>['startTls'];
}

export function newAnalyser(): SqlAnalyser {
  return new SqlAnalyser({ dialect: 'postgresql', maxTextBytes: 2048, rawText: false, ignore: [] });
}

/** A layer with what it did. */
export class PostgresBench {
  readonly counters: Counters = newCounters();
  readonly exchanges: SqlExchange[] = [];
  readonly layer: Layer;
  muted = 0;
  private closed = false;

  constructor(
    options: BenchOptions = {},
    make: (context: LayerContext<AllLimits>) => Layer = createPostgresProtocol(newAnalyser()).create,
  ) {
    const { startTls } = options;
    const memory = newAccount();
    const layer = make({
      memory,
      connection: { ...newConnection(options.startSeen ?? true), ...options.connection },
      limits: { ...defaultAllLimits, ...options.limits },
      counters: this.counters,
      emit: (emitted) => {
        const exchange = typed(emitted);
        if (exchange.protocol !== 'postgresql') throw new Error(`an exchange of ${exchange.protocol}`);
        this.exchanges.push(exchange);
      },
      mute: () => {
        this.muted++;
      },
      wantTicks: () => undefined,
      ...(startTls === undefined ? {} : { startTls }),
    });
    this.layer = accountable(layer, memory);
  }

  run(steps: Iterable<Step>): this {
    play(steps, this);
    return this;
  }

  /** Feeds bytes from the middle of a larger buffer that is destroyed afterwards: what was borrowed too long shows. */
  feed(direction: Direction, bytes: Buffer, timeUs: number): void {
    const chunk = Buffer.concat([Buffer.from('Q\0\0\0\x09x'), bytes, Buffer.from('Z\0\0\0\x05I\0')]);
    this.layer.data(direction, chunk, 6, 6 + bytes.length, timeUs);
    chunk.fill(0x21);
  }

  close(reason: EndReason = 'fin', timeUs = 1e9): this {
    if (!this.closed) this.layer.close(reason, timeUs);
    this.closed = true;
    return this;
  }

  /** One line per exchange, without its times. */
  get lines(): string[] {
    return this.exchanges.map(describeStatement);
  }
}

/** A conversation after the start of its connection, to its end. */
export function converse(segments: readonly Segment[], options: BenchOptions = {}): PostgresBench {
  return new PostgresBench(options).run(steps([...started, ...segments])).close();
}

/** `text -> outcome returned/affected`, then what is out of the ordinary. */
export function describeStatement(e: SqlExchange): string {
  const text = e.statement === undefined ? '(none)' : e.statement.text.replace(/;$/, '') || `(${e.statement.summary})`;
  const outcome = e.failed ? `error ${e.statusCode}` : e.incomplete === undefined ? 'ok' : 'open';
  const batch = e.batchCount > 1 ? ` batch=${e.batchIndex}/${e.batchCount}` : '';
  const incomplete = e.incomplete === undefined ? '' : ` incomplete=${e.incomplete}`;
  return `${text} -> ${outcome} ${e.returnedRows}/${e.affectedRows}${batch}${incomplete}`;
}
