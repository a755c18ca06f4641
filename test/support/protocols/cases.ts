import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type Connection,
  type Direction,
  type EndReason,
  FROM_CLIENT,
  FROM_SERVER,
  type Layer,
} from '../../../src/flow/connection.ts';
import type { GrpcExchange } from '../../../src/protocol/grpc/exchange.ts';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import { createHttp1Protocol } from '../../../src/protocol/http1/protocol.ts';
import type { LayerContext } from '../../../src/protocol/layer.ts';
import { type AllLimits, defaultAllLimits } from '../../../src/protocol/registry.ts';
import { type Counters, newCounters } from '../../../src/telemetry/counters.ts';
import { accountable, newAccount } from '../wire/memory.ts';
import { typed } from './exchanges.ts';

/**
 * The golden cases under test/golden: documents of wire bytes and the exchanges that they make. `npm run wire` makes one from a capture.
 *
 *     === name
 *     !nosplit          the case depends on where its segments begin
 *     !inturn           the case depends on who speaks when
 *     !end              nothing can follow on this connection
 *     !joined           the start of the connection was not seen
 *     C bytes           one segment from the client; escapes \r \n \t \0 \\ \xHH
 *     S bytes           one segment from the server
 *     C gap N           N lost bytes;  C end REASON;  close REASON;  tick TIME
 *     @TIME C bytes     at this time; else a step's time is its number from 1
 *     --- METHOD TARGET VERSION -> STATUS in=N out=N at=OFFSET times=START,REQUEST END,RESPONSE START,END field=v,w | field=v incomplete=REASON
 *     exchanges N / parseErrors N / incomplete REASON N / opaque REASON    the counters at the end
 */
export interface Case {
  readonly name: string;
  readonly flags: ReadonlySet<string>;
  readonly steps: readonly Step[];
  readonly expected: readonly string[];
  readonly counters: readonly string[];
}

export type Step =
  | { kind: 'data'; direction: Direction; bytes: Buffer; timeUs: number }
  | { kind: 'gap'; direction: Direction; length: number; timeUs: number }
  | { kind: 'end'; direction: Direction; reason: EndReason; timeUs: number }
  | { kind: 'close'; reason: EndReason; timeUs: number }
  | { kind: 'tick'; timeUs: number };

/** @param file below test/golden */
export function readCases(file: string): Case[] {
  const text = readFileSync(fileURLToPath(new URL(`../../golden/${file}`, import.meta.url)), 'utf8');
  return text
    .split(/^=== /m)
    .slice(1)
    .map((block) => {
      const [name, ...lines] = block.trimEnd().split('\n');
      const flags = new Set<string>();
      const steps: Step[] = [];
      const expected: string[] = [];
      const counters: string[] = [];
      for (const line of lines) {
        if (line === '') continue;
        if (line.startsWith('!')) flags.add(line.slice(1));
        else if (line.startsWith('--- ')) expected.push(unescaped(line.slice(4)).toString('latin1').trimEnd());
        else if (/^(exchanges|parseErrors|incomplete|opaque|unrecognised) /.test(line)) counters.push(line);
        else steps.push(parseStep(line, steps.length + 1));
      }
      return { name: name!, flags, steps, expected, counters };
    });
}

function parseStep(line: string, number: number): Step {
  const match = /^(?:@(\d+) )?(?:([CS]) (?:(gap|end) (\w+)$|(.*))|(close|tick) (\w+))$/s.exec(line);
  if (match === null) throw new Error(`not a step: ${line}`);
  const [, at, side, verb, argument, wire, verbOfBoth, argumentOfBoth] = match;
  const timeUs = at === undefined ? number : Number(at);
  const direction = side === 'C' ? FROM_CLIENT : FROM_SERVER;
  if (verbOfBoth === 'close') return { kind: 'close', reason: argumentOfBoth as EndReason, timeUs };
  if (verbOfBoth === 'tick') return { kind: 'tick', timeUs: Number(argumentOfBoth) };
  if (verb === 'gap') return { kind: 'gap', direction, length: Number(argument), timeUs };
  if (verb === 'end') return { kind: 'end', direction, reason: argument as EndReason, timeUs };
  return { kind: 'data', direction, bytes: unescaped(wire!), timeUs };
}

/** Bytes as `readCases` reads them. */
export function escaped(bytes: Buffer): string {
  let text = '';
  for (const byte of bytes) {
    const short = SHORT[byte];
    if (short !== undefined) text += short;
    else if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  // A space at the end of a line would not be seen.
  return text.endsWith(' ') ? `${text.slice(0, -1)}\\x20` : text;
}

const SHORT: Readonly<Record<number, string>> = { 13: '\\r', 10: '\\n', 9: '\\t', 92: '\\\\' };
const ESCAPES: Record<string, string> = { r: '\r', n: '\n', t: '\t', '0': '\0', '\\': '\\' };

export function unescaped(text: string): Buffer {
  const wire = text.replace(/\\(x([0-9a-f]{2})|.)/g, (_, all: string, hex: string | undefined) =>
    hex === undefined ? ESCAPES[all]! : String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(wire, 'latin1');
}

export const keepHeaders: ReadonlySet<string> = new Set(['host', 'user-agent', 'content-type', 'x-forwarded-for']);

/** A layer with what it did. */
export class Bench {
  readonly counters: Counters = newCounters();
  readonly emitted: string[] = [];
  readonly exchanges: HttpExchange[] = [];
  readonly calls: GrpcExchange[] = [];
  muted = 0;
  ticks = false;
  readonly layer: Layer;
  closed = false;

  constructor(
    make: (context: LayerContext<AllLimits>) => Layer = createHttp1Protocol({ keepHeaders }).create,
    options: { startSeen?: boolean; limits?: Partial<AllLimits>; connection?: Partial<Connection> } = {},
  ) {
    const connection = { ...newConnection(options.startSeen ?? true), ...options.connection };
    const memory = newAccount();
    const layer = make({
      connection,
      memory,
      limits: { ...defaultAllLimits, ...options.limits },
      counters: this.counters,
      emit: (emitted) => {
        const exchange = typed(emitted);
        if (exchange.protocol === 'grpc') {
          this.calls.push(exchange);
          return;
        }
        if (exchange.protocol !== 'http') throw new Error(`an exchange of ${exchange.protocol}`);
        this.exchanges.push(exchange);
        this.emitted.push(describeExchange(exchange));
      },
      mute: () => {
        this.muted++;
      },
      wantTicks: (wanted) => {
        this.ticks = wanted;
      },
    });
    this.layer = accountable(layer, memory);
  }

  run(steps: Iterable<Step>): this {
    play(steps, this);
    return this;
  }

  /** Feeds bytes from the middle of a larger buffer that is destroyed afterwards: what was borrowed too long shows. */
  feed(direction: Direction, bytes: Buffer, timeUs: number): void {
    const chunk = Buffer.concat([Buffer.from('\n\nGET '), bytes, Buffer.from('\r\n\r\nHTTP/1.1 200 \r\n\r\n')]);
    this.layer.data(direction, chunk, 6, 6 + bytes.length, timeUs);
    chunk.fill(0x21);
  }

  close(reason: EndReason, timeUs: number): void {
    if (!this.closed) this.layer.close(reason, timeUs);
    this.closed = true;
  }
}

export function newConnection(startSeen: boolean): Connection {
  return {
    id: 1,
    client: { address: '10.0.0.1', port: 40_000, socket: 0 },
    server: { address: '10.0.0.2', port: 80, socket: 0 },
    startSeen,
    initialSequence: [0, 0],
    startUs: 0,
    tls: undefined,
    awaitingSecret: false,
    spanState: undefined,
  };
}

function describeFields(fields: ReadonlyMap<string, readonly string[]>): string {
  return [...fields]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, values]) => `${name}=${values.join(',')} `)
    .join('');
}

export function describeExchange(e: HttpExchange): string {
  const times = `${e.startUs},${e.requestEndUs},${e.responseStartUs},${e.endUs}`;
  const sizes = `in=${e.requestBodyBytes} out=${e.responseBodyBytes} at=${e.streamOffset}`;
  const fields = `${describeFields(e.requestHeaders)}| ${describeFields(e.responseHeaders)}`;
  const incomplete = e.incomplete === undefined ? '' : `incomplete=${e.incomplete}`;
  return `${e.method} ${e.target} ${e.version} -> ${e.statusCode} ${sizes} times=${times} ${fields}${incomplete}`.trimEnd();
}

/** What steps are done to. */
export interface Player {
  readonly layer: Layer;
  feed(direction: Direction, bytes: Buffer, timeUs: number): unknown;
  close(reason: EndReason, timeUs: number): unknown;
}

/** Does the steps to a layer, in their order. */
export function play(steps: Iterable<Step>, player: Player): void {
  for (const step of steps) {
    switch (step.kind) {
      case 'data':
        player.feed(step.direction, step.bytes, step.timeUs);
        break;
      case 'gap':
        player.layer.gap(step.direction, step.length, step.timeUs);
        break;
      case 'end':
        player.layer.end(step.direction, step.reason, step.timeUs);
        break;
      case 'tick':
        player.layer.tick?.(step.timeUs);
        break;
      case 'close':
        player.close(step.reason, step.timeUs);
        break;
    }
  }
}

/** All ways to cut one segment in two, then every byte alone. */
export function* splits(steps: readonly Step[], stride: number): Generator<Step[]> {
  for (const [at, step] of steps.entries()) {
    if (step.kind !== 'data') continue;
    for (let cut = 1; cut < step.bytes.length; cut += stride) {
      const first = { ...step, bytes: step.bytes.subarray(0, cut) };
      const second = { ...step, bytes: step.bytes.subarray(cut) };
      yield [...steps.slice(0, at), first, second, ...steps.slice(at + 1)];
    }
  }
  yield steps.flatMap((step): Step[] =>
    step.kind === 'data' ? Array.from(step.bytes, (byte) => ({ ...step, bytes: Buffer.from([byte]) })) : [step],
  );
}
