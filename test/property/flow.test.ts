import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  DIRECTION_EGRESS,
  DIRECTION_INGRESS,
  DIRECTION_UNKNOWN,
  type PacketDirection,
  type PacketRecord,
} from '../../src/capture/records.ts';
import { FlowHarness } from '../support/wire/flows.ts';

const RUNS = { numRuns: 300 };
/** Initial sequence numbers, with the wrap-around within reach. */
const isnArbitrary = fc.oneof(fc.nat(0xffff_ffff), fc.integer({ min: 0xffff_ff00, max: 0xffff_ffff }));
const streamArbitrary = fc.uint8Array({ minLength: 1, maxLength: 400 }).map((bytes) => Buffer.from(bytes));

interface Piece {
  offset: number;
  length: number;
}

/** Cuts that cover a stream, in order. */
function cut(length: number, cuts: number[]): Piece[] {
  const points = [...new Set([0, ...cuts.map((at) => at % length), length])].sort((a, b) => a - b);
  return points.slice(1).map((end, i) => ({ offset: points[i]!, length: end - points[i]! }));
}

function send(flows: FlowHarness, isn: number, stream: Buffer, piece: Piece): void {
  const payload = stream.subarray(piece.offset, piece.offset + piece.length);
  flows.client({ seq: (isn + 1 + piece.offset) >>> 0, payload });
}

describe('reassembly', () => {
  it('gives back the stream from any cutting, order, duplication and overlap', () => {
    fc.assert(
      fc.property(
        isnArbitrary,
        streamArbitrary,
        fc.array(fc.nat(), { maxLength: 30 }),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 60 })), { maxLength: 30 }),
        fc.infiniteStream(fc.nat(1_000_000)),
        (isn, stream, cuts, extras, order) => {
          const pieces = cut(stream.length, cuts);
          for (const [at, length] of extras) {
            const offset = at % stream.length;
            pieces.push({ offset, length: Math.min(length, stream.length - offset) });
          }
          const shuffled = pieces
            .map((piece) => ({ piece, key: order.next().value as number }))
            .sort((a, b) => a.key - b.key);
          const flows = new FlowHarness();
          flows.client({ seq: isn, flags: 'S' });
          for (const { piece } of shuffled) send(flows, isn, stream, piece);
          flows.client({ seq: (isn + 1 + stream.length) >>> 0, flags: 'F' });
          assert.deepEqual(flows.layer.bytes(0), stream);
          assert.deepEqual(flows.layer.gaps, [0, 0]);
          assert.equal(flows.layer.log.at(-1), '> end fin');
          assert.equal(flows.table.heldBytes, 0);
          assert.equal(flows.counters.reassembly.overlap_differs, undefined);
        },
      ),
      RUNS,
    );
  });

  it('accounts for every byte when segments are missing, cut short, or the caps are small', () => {
    fc.assert(
      fc.property(
        isnArbitrary,
        streamArbitrary,
        fc.array(fc.nat(), { minLength: 1, maxLength: 30 }),
        fc.infiniteStream(fc.record({ key: fc.nat(1000), keep: fc.boolean(), snap: fc.nat(60) })),
        fc.integer({ min: 300, max: 5000 }),
        fc.constantFrom('fin', 'reset', 'shutdown'),
        (isn, stream, cuts, choices, cap, ending) => {
          const flows = new FlowHarness({ reassemblyBytesPerDirection: cap, reassemblyBytes: cap });
          flows.client({ seq: isn, flags: 'S' });
          const chosen = cut(stream.length, cuts)
            .map((piece) => ({ piece, choice: choices.next().value! }))
            .filter(({ choice }) => choice.keep)
            .sort((a, b) => a.choice.key - b.choice.key);
          for (const { piece, choice } of chosen) {
            const payload = stream.subarray(piece.offset, piece.offset + piece.length);
            flows.client({ seq: (isn + 1 + piece.offset) >>> 0, payload, snapLength: 40 + choice.snap });
            assert.ok(flows.table.heldBytes <= cap + 460);
          }
          const end = (isn + 1 + stream.length) >>> 0;
          if (ending === 'fin') flows.client({ seq: end, flags: 'F' });
          if (ending === 'reset') flows.server({ seq: 0, ack: end, flags: 'R' });
          flows.table.closeAll('shutdown', 2_000_000);
          if (flows.layers.length === 0) {
            assert.ok(chosen.length === 0 && ending !== 'fin');
            return;
          }
          const seen = flows.layer.bytes(0).length + flows.layer.gaps[0];
          const last = Math.max(0, ...chosen.map(({ piece }) => piece.offset + piece.length));
          assert.equal(seen, ending === 'fin' ? stream.length : last);
          assert.equal(flows.layer.log.at(-1)?.startsWith('close'), true);
          assert.equal(flows.table.heldBytes, 0);
        },
      ),
      RUNS,
    );
  });

  it('survives anything: packets of few addresses, ports and numbers, in any order', () => {
    const near = fc.oneof(
      fc.integer({ min: 0, max: 40 }),
      fc.integer({ min: 0xffff_fff0, max: 0xffff_ffff }),
      fc.nat(),
    );
    const packet = fc.record({
      side: fc.boolean(),
      seq: near,
      ack: near,
      flags: fc.constantFrom('', '', '', 'S', 'SA', 'F', 'R', 'SF', 'SR', 'SFR'),
      payload: fc.string({ maxLength: 12 }),
      cookie: fc.integer({ min: 0, max: 4 }),
      direction: fc.constantFrom(DIRECTION_EGRESS, DIRECTION_INGRESS),
      srcPort: fc.integer({ min: 1, max: 2 }),
      step: fc.nat(3_000_000),
      action: fc.integer({ min: 0, max: 20 }),
    });
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 80 }), (packets) => {
        const flows = new FlowHarness({
          connections: 3,
          lingeringConnections: 2,
          reassemblyBytes: 2000,
          reassemblyBytesPerDirection: 1000,
          reassemblyWindowBytes: 1000,
        });
        let timeUs = 0;
        for (const { side, cookie, direction, step, action, ...rest } of packets) {
          timeUs += step;
          const seenAt: PacketDirection = cookie === 0 ? DIRECTION_UNKNOWN : direction;
          const options = { ...rest, timeUs, cookie, direction: seenAt };
          if (side) flows.client({ ...options, dstPort: 3 });
          else flows.client({ ...options, srcPort: 3, dstPort: rest.srcPort });
          if (action === 0) flows.table.tick(timeUs);
          if (action === 1) flows.layers.at(-1)?.control.mute();
          if (action === 2) flows.layers.at(-1)?.control.wantTicks(true);
          assert.ok(flows.table.size <= 3);
          assert.ok(flows.table.heldBytes <= 2000);
        }
        flows.table.closeAll('shutdown', timeUs);
        assert.equal(flows.table.size, 0);
        assert.equal(flows.table.heldBytes, 0);
        assert.equal(flows.ended.length, flows.counters.connections.tcp);
        for (const layer of flows.layers) {
          assert.ok(layer.log.at(-1)?.startsWith('close'));
          assert.equal(layer.log.filter((entry) => entry.startsWith('> end')).length, 1);
          assert.equal(layer.log.filter((entry) => entry.startsWith('< end')).length, 1);
        }
      }),
      { numRuns: 1500 },
    );
  });

  it('survives bytes that are no packets', () => {
    const start = fc.constantFrom(0x45, 0x46, 0x60, 0x4f, 0x00);
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 120 }), fc.nat(200), (first, rest, wire) => {
        const bytes = Buffer.from([first, ...rest]);
        if (bytes.length > 9) bytes[first === 0x60 ? 6 : 9] = 6;
        const flows = new FlowHarness();
        const record: PacketRecord = {
          timeUs: 1,
          cookie: 0,
          netns: 0,
          ifindex: 0,
          direction: DIRECTION_UNKNOWN,
          packetLength: wire,
          payloadSkip: 0,
          bytes,
          start: 0,
          end: bytes.length,
        };
        flows.packet(record);
        flows.packet({ ...record, cookie: 1, direction: DIRECTION_EGRESS, payloadSkip: wire });
        flows.table.closeAll('shutdown', 2);
      }),
      { numRuns: 2000 },
    );
  });
});
