import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../src/flow/connection.ts';
import type { WebSocketExchange } from '../../src/protocol/websocket/exchange.ts';
import { MAX_HEADER_BYTES } from '../../src/protocol/websocket/frames.ts';
import { createWebSocketLayer, type WebSocketLayer } from '../../src/protocol/websocket/layer.ts';
import { Bench, type Step } from '../support/protocols/cases.ts';
import { ANSWER, aside, c, code, frame, REQUEST, run, s } from '../support/protocols/websocket.ts';
import { exchange } from '../support/spans/fixtures.ts';

const LIMITS = { httpParseErrors: 4 };
const direction = fc.constantFrom<Direction>(FROM_CLIENT, FROM_SERVER);
const TOKENS: readonly Buffer[] = ([FROM_CLIENT, FROM_SERVER] as const).flatMap((from) => [
  frame(from, 1, 'text'),
  frame(from, 1, 'a', { fin: false }),
  frame(from, 0, 'b', { fin: false }),
  frame(from, 0, 'c'),
  frame(from, 2, Buffer.alloc(200), { rsv1: true }),
  frame(from, 2, Buffer.alloc(70_000)).subarray(0, 20),
  frame(from, 9, 'ping'),
  frame(from, 10),
  frame(from, 8, code(1001, 'bye')),
  frame(from, 8),
  frame(from, 3, 'reserved'),
]);

const wire = fc.oneof(
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  fc.array(fc.constantFrom(...TOKENS), { maxLength: 6 }).map((tokens) => Buffer.concat(tokens)),
  fc
    .tuple(fc.array(fc.constantFrom(...TOKENS), { minLength: 1, maxLength: 4 }), fc.nat(), fc.nat(255))
    .map(([tokens, at, value]) => {
      const bytes = Buffer.concat(tokens);
      bytes[at % bytes.length] = value;
      return bytes;
    }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({ kind: fc.constant('data' as const), direction, bytes: wire, timeUs: fc.nat() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('gap' as const),
      direction,
      length: fc.integer({ min: -1, max: 300 }),
      timeUs: fc.nat(),
    }),
  },
);

test('garbage never throws, holds two headers at most, and makes one exchange', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, half) => {
      const all: WebSocketExchange[] = [];
      const bench = new Bench(
        (context) => createWebSocketLayer(aside(context, [], all), exchange({ connection: context.connection })),
        { limits: LIMITS },
      );
      const layer = bench.layer as WebSocketLayer;
      let given = 0;
      for (const one of steps) {
        bench.run([one]);
        given += one.kind === 'data' ? one.bytes.length : one.kind === 'gap' ? Math.max(0, one.length) : 0;
        assert.ok(layer.heldBytes <= 2 * MAX_HEADER_BYTES);
      }
      if (half) layer.end(FROM_SERVER, 'fin', 1e10);
      bench.close('fin', 1e10);
      const { exchanges, incomplete } = bench.counters;
      assert.deepEqual([all.length, exchanges], [1, { websocket: 1 }]);
      const { client, server, closeCode, incomplete: reason } = all[0]!;
      assert.deepEqual(incomplete, reason === undefined ? {} : { [reason]: 1 });
      assert.ok(client.bytes + server.bytes <= given);
      assert.ok(closeCode >= 0 && closeCode <= 65_535);
      assert.ok((bench.counters.parseErrors.websocket ?? 0) <= LIMITS.httpParseErrors + 1);
    }),
    { numRuns: 3000 },
  );
});

const message = fc.record({
  from: direction,
  fragments: fc.array(fc.nat({ max: 300 }), { minLength: 1, maxLength: 4 }),
  binary: fc.boolean(),
  compressed: fc.boolean(),
  pings: fc.boolean(),
});

test('any conversation, cut anywhere, is counted exactly', () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 1000, max: 4999 }),
      (messages, sizes, value) => {
        const streams: [Buffer[], Buffer[]] = [[], []];
        const counts: [number, number][] = [
          [0, 0],
          [0, 0],
        ];
        for (const { from, fragments, binary, compressed, pings } of messages) {
          fragments.forEach((length, i) => {
            const opcode = i > 0 ? 0 : binary ? 2 : 1;
            const shape = { fin: i === fragments.length - 1, rsv1: compressed && i === 0 };
            streams[from].push(frame(from, opcode, Buffer.alloc(length, i), shape));
            if (pings) streams[from].push(frame(from, 9, 'ping'));
            counts[from]![1] += length;
          });
          counts[from]![0]++;
        }
        streams[FROM_CLIENT].push(frame(FROM_CLIENT, 8, code(value)));
        streams[FROM_SERVER].push(frame(FROM_SERVER, 8, code(value)));
        const cut = (bytes: Buffer, make: (part: Buffer) => Step): Step[] => {
          const steps: Step[] = [];
          for (let at = 0, i = 0; at < bytes.length; at += sizes[i++ % sizes.length]!) {
            steps.push(make(bytes.subarray(at, at + sizes[i % sizes.length]!)));
          }
          return steps;
        };
        const { seen, bench } = run(
          [
            ...cut(REQUEST, c),
            ...cut(Buffer.concat([ANSWER, ...streams[FROM_SERVER]]), s),
            ...cut(Buffer.concat(streams[FROM_CLIENT]), c),
          ],
          {},
          false,
        );
        const [client, server] = counts.map(([n, bytes]) => `${n}/${bytes}`);
        const compressed = messages.some((each) => each.compressed) ? ' compressed' : '';
        assert.deepEqual(seen, [`client ${client} server ${server} ${value} server${compressed}`]);
        assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
      },
    ),
    { numRuns: 500 },
  );
});
