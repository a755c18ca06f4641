/** Writes HTTP/2: frames as RFC 9113 describes them, and an HPACK encoder of its own. */
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { createHttp2Protocol } from '../../../src/protocol/http2/protocol.ts';
import { Bench, keepHeaders, type Step } from './cases.ts';

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const PADDED = 8;
export const PRIORITY_FLAG = 0x20;

export const CANCEL = 8;
export const REFUSED = 7;

export function frame(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, body]);
}

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
  return bytes;
}

export const data = (id: number, content: string | Buffer, flags = 0): Buffer => frame(0, flags, id, content);
export const headers = (id: number, block: Buffer, flags = END_HEADERS): Buffer => frame(1, flags, id, block);
export const priority = (id: number): Buffer => frame(2, 0, id, Buffer.from([0, 0, 0, 0, 16]));
export const rst = (id: number, code: number): Buffer => frame(3, 0, id, uint32(code));
export const settings = (...pairs: [id: number, value: number][]): Buffer =>
  frame(4, 0, 0, Buffer.concat(pairs.map(([id, value]) => Buffer.concat([Buffer.from([0, id]), uint32(value)]))));
export const settingsAck = frame(4, ACK, 0);
export const ping = frame(6, 0, 0, '12345678');
export const goAway = (lastId: number, code: number, debug = ''): Buffer =>
  frame(7, 0, 0, Buffer.concat([uint32(lastId, code), Buffer.from(debug)]));
export const windowUpdate = (id: number): Buffer => frame(8, 0, id, uint32(1000));
export const continuation = (id: number, block: Buffer, flags = 0): Buffer => frame(9, flags, id, block);

/** Payload with so many octets of padding. */
export function padded(payload: Buffer | string, padding: number): Buffer {
  return Buffer.concat([Buffer.from([padding]), Buffer.from(payload as string, 'latin1'), Buffer.alloc(padding)]);
}

export type FieldLine = readonly [name: string, value: string, how?: 'index' | 'literal' | 'never'];

/** RFC 7541 appendix A, the entries that this encoder knows. */
const STATIC: Record<string, number> = {
  ':authority': 1,
  ':method GET': 2,
  ':method': 2,
  ':method POST': 3,
  ':path /': 4,
  ':path': 4,
  ':scheme http': 6,
  ':scheme': 6,
  ':scheme https': 7,
  ':status 200': 8,
  ':status': 8,
  ':status 204': 9,
  ':status 404': 13,
  ':status 500': 14,
  'content-type': 31,
  'user-agent': 58,
};

export function integer(value: number, bits: number, first: number): Buffer {
  const mask = (1 << bits) - 1;
  if (value < mask) return Buffer.from([first | value]);
  const bytes = [first | mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

export function literalString(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([integer(bytes.length, 7, 0), bytes]);
}

/** An HPACK encoder with a dynamic table; without Huffman, which other tests have from nghttp2. */
export class Encoder {
  maxBytes = 4096;
  private readonly table: [string, string][] = [];

  encode(fields: readonly FieldLine[]): Buffer {
    return Buffer.concat(fields.map((field) => this.field(field)));
  }

  resize(maxBytes: number): Buffer {
    this.maxBytes = maxBytes;
    this.evict();
    return integer(maxBytes, 5, 0x20);
  }

  private field([name, value, how = 'index']: FieldLine): Buffer {
    const fixed = STATIC[`${name} ${value}`];
    if (how === 'index') {
      if (fixed !== undefined) return integer(fixed, 7, 0x80);
      const at = this.table.findIndex(([n, v]) => n === name && v === value);
      if (at >= 0) return integer(62 + at, 7, 0x80);
    }
    let index = STATIC[name] ?? 0;
    const named = this.table.findIndex(([n]) => n === name);
    if (index === 0 && named >= 0) index = 62 + named;
    const [bits, first] = how === 'index' ? [6, 0x40] : [4, how === 'never' ? 0x10 : 0];
    const parts = [integer(index, bits, first)];
    if (index === 0) parts.push(literalString(name));
    parts.push(literalString(value));
    if (how === 'index') {
      this.table.unshift([name, value]);
      this.evict();
    }
    return Buffer.concat(parts);
  }

  private evict(): void {
    const size = (): number => this.table.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
    while (size() > this.maxBytes) this.table.pop();
  }
}

export const request = (path: string, ...more: FieldLine[]): FieldLine[] => [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'a.example'],
  [':path', path, 'literal'],
  ...more,
];
export const response = (status: number, ...more: FieldLine[]): FieldLine[] => [[':status', String(status)], ...more];

export const http2 = createHttp2Protocol({ keepHeaders });

/** A conversation in the making: two encoders, and the steps so far. Times are the numbers of the steps, from 1. */
export class Script {
  readonly steps: Step[] = [];
  readonly client = new Encoder();
  readonly server = new Encoder();

  constructor(begins = true) {
    if (begins) this.c(PREFACE, settings()).s(settings(), settingsAck).c(settingsAck);
  }

  c(...frames: Buffer[]): this {
    return this.add(FROM_CLIENT, frames);
  }

  s(...frames: Buffer[]): this {
    return this.add(FROM_SERVER, frames);
  }

  gap(direction: Direction, length: number): this {
    this.steps.push({ kind: 'gap', direction, length, timeUs: this.steps.length + 1 });
    return this;
  }

  /** A request header list in one frame. */
  ask(id: number, fields: readonly FieldLine[], flags = END_HEADERS | END_STREAM): Buffer {
    return headers(id, this.client.encode(fields), flags);
  }

  answer(id: number, fields: readonly FieldLine[], flags = END_HEADERS | END_STREAM): Buffer {
    return headers(id, this.server.encode(fields), flags);
  }

  private add(direction: Direction, frames: Buffer[]): this {
    this.steps.push({ kind: 'data', direction, bytes: Buffer.concat(frames), timeUs: this.steps.length + 1 });
    return this;
  }

  run(options: ConstructorParameters<typeof Bench>[1] = {}): Bench {
    return new Bench(http2.create, options).run(this.steps);
  }
}

/** Everything but times and offsets. */
export function facts(bench: Bench): string[] {
  return bench.exchanges.map((e) => {
    const parts = [e.method, e.target, '->', e.statusCode, `${e.requestBodyBytes}/${e.responseBodyBytes}`];
    if (e.incomplete !== undefined) parts.push(e.incomplete);
    if (e.errorCode !== '') parts.push(e.errorCode);
    return parts.join(' ');
  });
}
