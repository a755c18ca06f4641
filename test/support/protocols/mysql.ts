import assert from 'node:assert/strict';
import type { SqlExchange } from '../../../src/exchange/sql.ts';
import { type Connection, type Direction, FROM_CLIENT, FROM_SERVER, type Layer } from '../../../src/flow/connection.ts';
import type { LayerContext } from '../../../src/protocol/layer.ts';
import { createMysqlProtocol } from '../../../src/protocol/mysql/protocol.ts';
import * as wire from '../../../src/protocol/mysql/wire.ts';
import { type AllLimits, defaultAllLimits } from '../../../src/protocol/registry.ts';
import { type Counters, newCounters } from '../../../src/telemetry/counters.ts';
import { accountable, newAccount } from '../wire/memory.ts';
import { newSqlAnalyser } from '../wire/protocols.ts';
import { newConnection, play, type Step } from './cases.ts';
import { typed } from './exchanges.ts';

/** Packets as servers and clients write them, by the names of the protocol's documentation; and a layer with what it did. */

export const analyser = newSqlAnalyser('mysql');
export const mysql = createMysqlProtocol({ analyser });

// --- Data types ------------------------------------------------------------------------------------------------------------------------

export function u16(value: number): Buffer {
  return Buffer.from([value & 0xff, (value >> 8) & 0xff]);
}

export function u24(value: number): Buffer {
  return Buffer.from([value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

export function lengthEncoded(value: number): Buffer {
  if (value < 251) return Buffer.from([value]);
  if (value < 0x10000) return Buffer.concat([Buffer.from([0xfc]), u16(value)]);
  if (value < 0x1000000) return Buffer.concat([Buffer.from([0xfd]), u24(value)]);
  return Buffer.concat([Buffer.from([0xfe]), u32(value), u32(Math.floor(value / 2 ** 32))]);
}

export function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([lengthEncoded(bytes.length), bytes]);
}

/** Packets of one payload, with their headers. */
export function packet(sequence: number, ...parts: readonly (Buffer | string | number)[]): Buffer {
  const payload = Buffer.concat(
    parts.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part))),
  );
  const packets: Buffer[] = [];
  for (let at = 0, n = sequence; ; at += wire.MAX_PACKET, n++) {
    const length = Math.min(payload.length - at, wire.MAX_PACKET);
    packets.push(u24(length), Buffer.from([n & 0xff]), payload.subarray(at, at + length));
    if (length < wire.MAX_PACKET) return Buffer.concat(packets);
  }
}

// --- Connection phase --------------------------------------------------------------------------------------------------------------------

const {
  CLIENT_LONG_PASSWORD,
  CLIENT_PROTOCOL_41,
  CLIENT_SECURE_CONNECTION,
  CLIENT_PLUGIN_AUTH,
  CLIENT_CONNECT_WITH_DB,
} = wire;
/** What every client and server of this century can. */
export const BASE =
  CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH | wire.CLIENT_TRANSACTIONS;
export const MODERN =
  BASE | wire.CLIENT_DEPRECATE_EOF | wire.CLIENT_MULTI_STATEMENTS | wire.CLIENT_SESSION_TRACK | CLIENT_CONNECT_WITH_DB;
export const AUTOCOMMIT = 2;
/** The status of a result that another one follows. */
export const MORE = AUTOCOMMIT | wire.SERVER_MORE_RESULTS_EXISTS;

export interface Peer {
  capabilities?: number;
  /** MariaDB's. */
  extended?: number;
}

export function greeting({
  capabilities = -1,
  extended = 0,
  version = '8.0.36',
  collation = 255,
}: Peer & { version?: string; collation?: number } = {}): Buffer {
  const fixed = [u32(7), 'abcdefgh', 0, u16(capabilities), collation, u16(AUTOCOMMIT), u16(capabilities >>> 16), 21];
  return packet(
    0,
    10,
    `${version}\0`,
    ...fixed,
    Buffer.alloc(6),
    u32(extended),
    'ijklmnopqrst\0',
    'caching_sha2_password\0',
  );
}

export function hello(peer: Peer & { database?: string; collation?: number; sequence?: number } = {}): Buffer {
  const { capabilities = MODERN, extended = 0, database = 'shop', collation = 255, sequence = 1 } = peer;
  const fixed = [u32(capabilities), u32(1 << 24), collation, Buffer.alloc(19), u32(extended)];
  const named = (capabilities & CLIENT_CONNECT_WITH_DB) === 0 ? '' : `${database}\0`;
  return packet(sequence, ...fixed, 'root\0', string('secret-answer'), named, 'caching_sha2_password\0');
}

export function sslRequest(capabilities = MODERN): Buffer {
  return packet(1, u32(capabilities | wire.CLIENT_SSL), u32(1 << 24), 255, Buffer.alloc(23));
}

// --- Generic responses -------------------------------------------------------------------------------------------------------------------

export interface Status {
  status?: number;
  header?: number;
  affected?: number;
  /** Session state changes, as they stand in the packet. */
  changes?: Buffer;
}

export function okPayload({ status = AUTOCOMMIT, header = 0, affected = 0, changes }: Status = {}): Buffer {
  const flags = changes === undefined ? status : status | wire.SERVER_SESSION_STATE_CHANGED;
  const tail = changes === undefined ? [] : [string(''), string(changes)];
  return Buffer.concat([Buffer.from([header]), lengthEncoded(affected), lengthEncoded(0), u16(flags), u16(0), ...tail]);
}

export function ok(sequence: number, options: Status = {}): Buffer {
  return packet(sequence, okPayload(options));
}

export function eof(sequence: number, status = AUTOCOMMIT): Buffer {
  return packet(sequence, 0xfe, u16(0), u16(status));
}

export function err(sequence: number, code: number, state = '42S02'): Buffer {
  return packet(sequence, 0xff, u16(code), `#${state}the secret value 4711 is wrong`);
}

export function schemaChange(name: string): Buffer {
  return Buffer.concat([Buffer.from([1]), string(string(name))]);
}

export function variableChange(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), string(Buffer.concat([string(name), string(value)]))]);
}

// --- Result sets -------------------------------------------------------------------------------------------------------------------------

export function column(name = 'id'): Buffer {
  const strings = ['def', 'shop', 't', 't', name, name].map(string);
  return Buffer.concat([
    ...strings,
    Buffer.from([0x0c]),
    u16(63),
    u32(11),
    Buffer.from([3]),
    u16(0),
    Buffer.from([0, 0, 0]),
  ]);
}

export interface ResultOptions extends Status {
  deprecateEof?: boolean;
  rows?: readonly Buffer[];
  columns?: number;
  first?: number;
  /** Optional metadata's flag after the column count. */
  metadata?: number;
}

export const ROW = Buffer.concat([string('1'), string('secret-value')]);

/** A result set with sequence numbers from `first`; `next` of it is the number after it. */
export function resultPackets(options: ResultOptions = {}): Buffer[] {
  const { deprecateEof = true, rows = [ROW], columns = 2, first = 1, metadata, status = AUTOCOMMIT } = options;
  const payloads: Buffer[] = [
    Buffer.concat([lengthEncoded(columns), Buffer.from(metadata === undefined ? [] : [metadata])]),
  ];
  if (metadata !== 0) for (let i = 0; i < columns; i++) payloads.push(column(`c${i}`));
  const end = Buffer.concat([Buffer.from([0xfe]), u16(0), u16(status)]);
  if (!deprecateEof) payloads.push(end);
  payloads.push(...rows, deprecateEof ? okPayload({ ...options, header: 0xfe }) : end);
  let sequence = first;
  return payloads.map((payload) => {
    const bytes = packet(sequence, payload);
    sequence += 1 + Math.floor(payload.length / wire.MAX_PACKET);
    return bytes;
  });
}

export function result(options: ResultOptions = {}): Buffer {
  return Buffer.concat(resultPackets(options));
}

// --- Commands ----------------------------------------------------------------------------------------------------------------------------

export function query(text: string | Buffer): Buffer {
  return packet(0, wire.COM_QUERY, text);
}

export function prepare(text: string): Buffer {
  return packet(0, wire.COM_STMT_PREPARE, text);
}

export function prepared(id: number, parameters: number, columns: number, deprecateEof = true): Buffer {
  const payloads: Buffer[] = [
    Buffer.concat([Buffer.from([0]), u32(id), u16(columns), u16(parameters), Buffer.from([0]), u16(0)]),
  ];
  const end = Buffer.concat([Buffer.from([0xfe]), u16(0), u16(AUTOCOMMIT)]);
  for (const count of [parameters, columns]) {
    for (let i = 0; i < count; i++) payloads.push(column('?'));
    if (count > 0 && !deprecateEof) payloads.push(end);
  }
  return Buffer.concat(payloads.map((payload, i) => packet(i + 1, payload)));
}

export function execute(id: number, { cursor = 0, parameters = '' as Buffer | string } = {}): Buffer {
  return packet(0, wire.COM_STMT_EXECUTE, u32(id), cursor, u32(1), parameters);
}

export function fetch(id: number, rows = 10): Buffer {
  return packet(0, wire.COM_STMT_FETCH, u32(id), u32(rows));
}

/** A command of which only the statement's number matters. */
export function onStatement(command: number, id: number, rest: Buffer | string = ''): Buffer {
  return packet(0, command, u32(id), rest);
}

// --- The layer under test ----------------------------------------------------------------------------------------------------------------

export type Talk = readonly (readonly [who: 'C' | 'S', bytes: Buffer])[];

/** The handshake of a client that can what most can, then what follows. */
export function session(
  talk: Talk,
  peer: Parameters<typeof hello>[0] = {},
  server: Parameters<typeof greeting>[0] = {},
): Talk {
  return [['S', greeting(server)], ['C', hello(peer)], ['S', ok(2)], ...talk];
}

export class MysqlBench {
  readonly counters: Counters = newCounters();
  readonly exchanges: SqlExchange[] = [];
  readonly connection: Connection;
  readonly limits: AllLimits;
  readonly layer: Layer;
  muted = 0;
  tlsAsked = 0;
  private timeUs = 0;
  private closed = false;

  constructor(
    options: {
      startSeen?: boolean;
      limits?: Partial<AllLimits>;
      tls?: (next: (c: LayerContext<AllLimits>) => Layer, c: LayerContext<AllLimits>) => Layer;
    } = {},
    make: (context: LayerContext<AllLimits>) => Layer = mysql.create,
  ) {
    this.connection = newConnection(options.startSeen ?? true);
    this.limits = { ...defaultAllLimits, ...options.limits };
    const memory = newAccount();
    const context: LayerContext<AllLimits> = {
      memory,
      connection: this.connection,
      limits: this.limits,
      counters: this.counters,
      emit: (emitted) => {
        const exchange = typed(emitted);
        if (exchange.protocol !== 'mysql') throw new Error(`an exchange of ${exchange.protocol}`);
        this.exchanges.push(exchange);
      },
      mute: () => {
        this.muted++;
      },
      wantTicks: () => undefined,
      startTls: (next) => {
        this.tlsAsked++;
        const inner = { ...context };
        delete (inner as { startTls?: unknown }).startTls;
        return options.tls === undefined ? next(inner) : options.tls(next, inner);
      },
    };
    this.layer = accountable(make(context), memory);
  }

  /** Each piece one microsecond after the one before it. */
  talk(talk: Talk): this {
    for (const [who, bytes] of talk) this.feed(who === 'C' ? FROM_CLIENT : FROM_SERVER, bytes, ++this.timeUs);
    return this;
  }

  /** Feeds bytes from the middle of a larger buffer that is destroyed afterwards: what was borrowed too long shows. */
  feed(direction: Direction, bytes: Buffer, timeUs: number): void {
    const chunk = Buffer.concat([Buffer.alloc(5, 0xfe), bytes, Buffer.alloc(5, 0xfe)]);
    this.layer.data(direction, chunk, 5, 5 + bytes.length, timeUs);
    chunk.fill(0x21);
    this.timeUs = Math.max(this.timeUs, timeUs);
  }

  gap(who: 'C' | 'S', length: number): this {
    this.layer.gap(who === 'C' ? FROM_CLIENT : FROM_SERVER, length, ++this.timeUs);
    return this;
  }

  run(steps: Iterable<Step>): this {
    play(steps, this);
    return this;
  }

  close(reason: Parameters<Layer['close']>[0] = 'fin', timeUs = this.timeUs + 1): this {
    if (!this.closed) this.layer.close(reason, timeUs);
    this.closed = true;
    return this;
  }

  /** What tests compare: all but the times. */
  get said(): string[] {
    return this.exchanges.map(describe);
  }
}

/** `summary | database transaction | rows affected | flags`: what is unusual stands among the flags. */
export function describe(e: SqlExchange): string {
  const flags = [
    e.prepared ? 'prepared' : '',
    e.failed ? `failed=${e.statusCode}` : '',
    e.sqlState && e.sqlState !== '42S02' ? `state=${e.sqlState}` : '',
    e.batchCount === 1 ? '' : `batch=${e.batchIndex}/${e.batchCount}`,
    e.batchSize === 1 ? '' : `size=${e.batchSize}`,
    e.system === 'mysql' ? '' : e.system,
    e.traceparent === '' ? '' : `traceparent=${e.traceparent}`,
    e.tracestate === '' ? '' : `tracestate=${e.tracestate}`,
    e.incomplete === undefined ? '' : `incomplete=${e.incomplete}`,
  ].filter((flag) => flag !== '');
  const what = e.statement?.summary ?? '-';
  return [what, `${e.namespace} ${e.transaction}`.trim() || '-', `${e.returnedRows} ${e.affectedRows}`, ...flags].join(
    ' | ',
  );
}

/** The same conversation with each direction's bytes cut in two at every place, and byte by byte. */
export function* splits(talk: Talk): Generator<Talk> {
  yield talk.flatMap(([who, bytes]) => [...bytes].map((byte) => [who, Buffer.from([byte])] as const));
  for (let i = 0; i < talk.length; i++) {
    const [who, bytes] = talk[i]!;
    for (let at = 1; at < bytes.length; at++) {
      yield [...talk.slice(0, i), [who, bytes.subarray(0, at)], [who, bytes.subarray(at)], ...talk.slice(i + 1)];
    }
  }
}

/** A whole connection: the handshake, what follows it, the end. */
export function converse(...of: Parameters<typeof session>): MysqlBench {
  return new MysqlBench().talk(session(...of)).close();
}

/** Asserts what a connection says, whole and at every split, without an error and without a loss. */
export function assertSaid(talk: Talk, said: readonly string[]): void {
  for (const pieces of [talk, ...splits(talk)]) {
    const { said: actual, counters } = new MysqlBench().talk(pieces).close();
    assert.deepEqual(actual, said);
    assert.deepEqual([counters.incomplete, counters.parseErrors], [{}, {}]);
  }
}
