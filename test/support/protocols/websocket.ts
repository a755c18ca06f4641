/** WebSocket frames, and a connection that carries them. */

import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import type { Http1Layer } from '../../../src/protocol/http1/layer.ts';
import { createHttp1Protocol } from '../../../src/protocol/http1/protocol.ts';
import type { LayerContext } from '../../../src/protocol/layer.ts';
import type { AllLimits } from '../../../src/protocol/registry.ts';
import type { WebSocketExchange } from '../../../src/protocol/websocket/exchange.ts';
import { createWebSocketLayer } from '../../../src/protocol/websocket/layer.ts';
import { Bench, keepHeaders, type Step } from './cases.ts';
import { typed } from './exchanges.ts';

export interface FrameShape {
  fin?: boolean;
  rsv1?: boolean;
  /** Default: a key that changes every octet. */
  key?: readonly [number, number, number, number];
  /** Octets of the extended length, when it is to be longer than it needs to be. */
  extended?: 0 | 2 | 8;
}

const KEY = [0x12, 0xfe, 0x81, 0x0a] as const;

/** One frame; those of the client are masked. */
export function frame(
  direction: Direction,
  opcode: number,
  payload: string | Buffer = '',
  { fin = true, rsv1 = false, key = KEY, extended }: FrameShape = {},
): Buffer {
  const content = Buffer.from(payload);
  const { length } = content;
  const more = extended ?? (length > 0xffff ? 8 : length > 125 ? 2 : 0);
  const masked = direction === FROM_CLIENT;
  const header = Buffer.alloc(2 + more);
  header[0] = (fin ? 0x80 : 0) | (rsv1 ? 0x40 : 0) | opcode;
  header[1] = (masked ? 0x80 : 0) | (more === 8 ? 127 : more === 2 ? 126 : length);
  if (more === 2) header.writeUInt16BE(length, 2);
  if (more === 8) header.writeBigUInt64BE(BigInt(length), 2);
  if (!masked) return Buffer.concat([header, content]);
  for (let i = 0; i < length; i++) content[i]! ^= key[i & 3]!;
  return Buffer.concat([header, Buffer.from(key), content]);
}

export const fromClient = (opcode: number, payload?: string | Buffer, shape?: FrameShape): Buffer =>
  frame(FROM_CLIENT, opcode, payload, shape);
export const fromServer = (opcode: number, payload?: string | Buffer, shape?: FrameShape): Buffer =>
  frame(FROM_SERVER, opcode, payload, shape);

/** The payload of a Close frame. */
export function code(value: number, reason = ''): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return Buffer.concat([bytes, Buffer.from(reason)]);
}

export const REQUEST = Buffer.from(
  'GET /chat?room=7 HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n',
);
export const ANSWER = Buffer.from(
  'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\n',
);

/** Makes the HTTP/1.1 layer with WebSocket behind it; what comes out of the latter is described in `seen`. */
export function overHttp1(
  seen: string[],
  all: WebSocketExchange[] = [],
): (context: LayerContext<AllLimits>) => Http1Layer {
  const protocol = createHttp1Protocol({ keepHeaders, upgrades: { websocket: createWebSocketLayer } });
  return (context) => protocol.create(aside(context, seen, all)) as Http1Layer;
}

/** A context that takes WebSocket exchanges aside. */
export function aside(
  context: LayerContext<AllLimits>,
  seen: string[],
  all: WebSocketExchange[] = [],
): LayerContext<AllLimits> {
  return {
    ...context,
    emit(emitted) {
      const exchange = typed(emitted);
      if (exchange.protocol !== 'websocket') {
        context.emit(exchange);
        return;
      }
      seen.push(describe(exchange));
      all.push(exchange);
    },
  };
}

/** `client MESSAGES/BYTES server MESSAGES/BYTES CODE BY ...`. */
export function describe(exchange: WebSocketExchange): string {
  const { client, server, closeCode, closedBy, compressed, incomplete } = exchange;
  const counts = `client ${client.messages}/${client.bytes} server ${server.messages}/${server.bytes}`;
  return `${counts} ${closeCode} ${closedBy}${compressed ? ' compressed' : ''} ${incomplete ?? ''}`.trimEnd();
}

export interface Outcome {
  bench: Bench;
  seen: string[];
  all: WebSocketExchange[];
}

/** Runs steps behind the handshake, whose two steps are at 1 and 2. */
export function run(steps: readonly Step[], limits: Partial<AllLimits> = {}, handshake = true): Outcome {
  const seen: string[] = [];
  const all: WebSocketExchange[] = [];
  const bench = new Bench(overHttp1(seen, all), { limits });
  if (handshake) bench.run([c(REQUEST, 1), s(ANSWER, 2)]);
  bench.run(steps);
  return { bench, seen, all };
}

export const c = (bytes: Buffer, timeUs = 10): Step => ({ kind: 'data', direction: FROM_CLIENT, bytes, timeUs });
export const s = (bytes: Buffer, timeUs = 10): Step => ({ kind: 'data', direction: FROM_SERVER, bytes, timeUs });
export const gap = (direction: Direction, length: number, timeUs = 10): Step => ({
  kind: 'gap',
  direction,
  length,
  timeUs,
});
export const fin = (direction: Direction, timeUs = 10): Step => ({ kind: 'end', direction, reason: 'fin', timeUs });
export const close = (reason: 'fin' | 'reset' | 'idle' | 'shutdown' | 'evicted', timeUs = 10): Step => ({
  kind: 'close',
  reason,
  timeUs,
});
