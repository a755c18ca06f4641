import { Reader } from '../../../src/bytes/reader.ts';

/** A decoder of OTLP trace requests for tests, written from opentelemetry-proto's .proto files, apart from any encoder. */
export type Decoded = string | number | boolean | bigint | Decoded[] | { [name: string]: Decoded };

type Kind = 'string' | 'hex' | 'uint' | 'int64' | 'bool' | 'double' | 'fixed64' | 'fixed32' | Schema;
interface Schema {
  readonly [field: number]: readonly [name: string, kind: Kind, repeated?: 'repeated'];
}

const anyValue: Record<number, readonly [string, Kind, 'repeated'?]> = {
  1: ['stringValue', 'string'],
  2: ['boolValue', 'bool'],
  3: ['intValue', 'int64'],
  4: ['doubleValue', 'double'],
};
anyValue[5] = ['arrayValue', { 1: ['values', anyValue, 'repeated'] }];
const keyValue: Schema = { 1: ['key', 'string'], 2: ['value', anyValue] };
const span: Schema = {
  1: ['traceId', 'hex'],
  2: ['spanId', 'hex'],
  3: ['traceState', 'string'],
  4: ['parentSpanId', 'hex'],
  5: ['name', 'string'],
  6: ['kind', 'uint'],
  7: ['startTimeUnixNano', 'fixed64'],
  8: ['endTimeUnixNano', 'fixed64'],
  9: ['attributes', keyValue, 'repeated'],
  10: ['droppedAttributesCount', 'uint'],
  12: ['droppedEventsCount', 'uint'],
  14: ['droppedLinksCount', 'uint'],
  15: ['status', { 2: ['message', 'string'], 3: ['code', 'uint'] }],
  16: ['flags', 'fixed32'],
};
const request: Schema = {
  1: [
    'resourceSpans',
    {
      1: ['resource', { 1: ['attributes', keyValue, 'repeated'], 2: ['droppedAttributesCount', 'uint'] }],
      2: [
        'scopeSpans',
        {
          1: ['scope', { 1: ['name', 'string'], 2: ['version', 'string'] }],
          2: ['spans', span, 'repeated'],
        },
        'repeated',
      ],
    },
    'repeated',
  ],
};

/** @throws Error for anything that is not exactly one request */
export function decodeRequest(bytes: Buffer): Request {
  return decode(new Reader(bytes), request) as unknown as Request;
}

export interface DecodedSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: bigint;
  endTimeUnixNano: bigint;
  attributes: { key: string; value: { [kind: string]: Decoded } }[];
  flags: number;
}

export interface Request {
  resourceSpans: {
    resource: { attributes: { key: string; value: { [kind: string]: Decoded } }[] };
    scopeSpans: { scope: { name: string; version: string }; spans: DecodedSpan[] }[];
  }[];
}

export function spansOf(decoded: Request): DecodedSpan[] {
  return decoded.resourceSpans.flatMap((group) => group.scopeSpans.flatMap((scope) => scope.spans));
}

function decode(reader: Reader, schema: Schema): { [name: string]: Decoded } {
  const message: { [name: string]: Decoded } = {};
  while (!reader.isEmpty) {
    const tag = Number(varint(reader));
    const field = schema[tag >>> 3];
    if (field === undefined) throw new Error(`field ${tag >>> 3} is not known here`);
    const [name, kind, repeated] = field;
    const value = decodeValue(reader, kind, tag & 7);
    if (reader.failed) throw new Error(`${name} is cut short`);
    // Scalars of their default value may be written or left out: both mean the same.
    const isDefault = value === 0 && (kind === 'uint' || kind === 'fixed32');
    if (repeated !== undefined) {
      const list = message[name] ?? [];
      (list as Decoded[]).push(value);
      message[name] = list;
    } else if (name in message) throw new Error(`${name} comes twice`);
    else if (!isDefault && !(typeof value === 'object' && Object.keys(value).length === 0)) message[name] = value;
  }
  return message;
}

function decodeValue(reader: Reader, kind: Kind, wireType: number): Decoded {
  const expected = kind === 'fixed64' || kind === 'double' ? 1 : kind === 'fixed32' ? 5 : isVarint(kind) ? 0 : 2;
  if (wireType !== expected) throw new Error(`wire type ${wireType}, expected ${expected}`);
  switch (kind) {
    case 'uint':
      return Number(varint(reader));
    case 'int64':
      return BigInt.asIntN(64, varint(reader));
    case 'bool':
      return varint(reader) !== 0n;
    case 'fixed32':
      return reader.take(4).readUInt32LE();
    case 'fixed64':
      return reader.take(8).readBigUInt64LE();
    case 'double':
      return reader.take(8).readDoubleLE();
    case 'hex':
      return reader.take(Number(varint(reader))).toString('hex');
    case 'string':
      return new TextDecoder('utf-8', { fatal: true }).decode(reader.take(Number(varint(reader))));
    default: {
      const length = Number(varint(reader));
      const sub = reader.sub(length);
      if (sub.failed) throw new Error('a message is cut short');
      return decode(sub, kind);
    }
  }
}

function isVarint(kind: Kind): boolean {
  return kind === 'uint' || kind === 'int64' || kind === 'bool';
}

function varint(reader: Reader): bigint {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = reader.u8();
    if (reader.failed) throw new Error('a varint is cut short');
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}
