/**
 * A TCP connection as its two ends keep it (RFC 9293, RFC 5961), among packets that are not theirs or not new: what is delivered is what was sent.
 * The window that each end announces is small, so that little ahead of it is refused.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { defaultAllLimits } from '../../src/protocol/registry.ts';
import { FlowHarness } from '../support/wire/flows.ts';
import type { PacketOptions } from '../support/wire/packets.ts';

const WINDOW = 400;
const SCALE = 2;
type Side = 0 | 1;

/** Bytes that tell their place: no run of eight comes twice. */
function streamOf(length: number, side: Side): Buffer {
  const stream = Buffer.alloc(length + 4);
  for (let at = 0; at < length; at += 4) stream.writeUInt32BE((at * 2654435761 + side * 77777 + 1) >>> 0, at);
  return stream.subarray(0, length);
}

interface Captured extends PacketOptions {
  side: Side;
  timeUs: number;
  /** New data that an end has sent. */
  own?: boolean;
}

/** Both ends, and what a capture between them has. */
class Conversation {
  readonly packets: Captured[] = [];
  readonly streams: readonly [Buffer, Buffer];
  private readonly isn: readonly [number, number];
  /** Offsets, by direction: sent, received without a hole, acknowledged. */
  private readonly sent: [number, number] = [0, 0];
  private readonly received: [number, number] = [0, 0];
  private readonly acked: [number, number] = [0, 0];
  /** Up to where the capture knows of the stream, by its bytes or by their acknowledgement. */
  private readonly known: [number, number] = [0, 0];
  private readonly ahead: [Set<number>, Set<number>] = [new Set(), new Set()];
  private timeUs = 1_000_000;

  constructor(isn: readonly [number, number], lengths: readonly [number, number]) {
    this.isn = isn;
    this.streams = [streamOf(lengths[0], 0), streamOf(lengths[1], 1)];
    const tcpOptions = Buffer.from([3, 3, SCALE, 0]);
    this.capture({ side: 0, seq: isn[0], flags: 'S', window: WINDOW, tcpOptions });
    this.capture({ side: 1, seq: isn[1], ack: isn[0] + 1, flags: 'S', window: WINDOW, tcpOptions });
    this.acknowledge(1, true);
  }

  capture(packet: Omit<Captured, 'timeUs'>, afterUs = 50): void {
    this.timeUs += afterUs;
    this.packets.push({ window: WINDOW >> SCALE, ...packet, timeUs: this.timeUs });
  }

  wait(us: number): void {
    this.timeUs += us;
  }

  private place(side: Side, offset: number): number {
    return (this.isn[side] + 1 + offset) >>> 0;
  }

  private other(side: Side): Side {
    return side === 0 ? 1 : 0;
  }

  /** The receiver of direction `side` says what it has. */
  acknowledge(side: Side, captured: boolean): void {
    const by = this.other(side);
    this.acked[side] = this.received[side];
    if (captured) {
      this.known[side] = Math.max(this.known[side], this.received[side]);
      this.capture({ side: by, seq: this.place(by, this.sent[by]), ack: this.place(side, this.received[side]) });
    }
  }

  /** Sends from `offset`. @param fate whether the receiver gets it, and whether the capture does */
  send(side: Side, offset: number, wanted: number, fate: { arrives: boolean; captured: boolean }): void {
    const end = Math.min(offset + wanted, this.streams[side].length, this.acked[side] + WINDOW);
    if (end <= offset) return;
    const ack = this.place(this.other(side), this.received[this.other(side)]);
    this.acked[this.other(side)] = this.received[this.other(side)];
    const payload = this.streams[side].subarray(offset, end);
    if (fate.captured)
      this.capture({ side, seq: this.place(side, offset), ack, payload, own: true, flags: end % 3 === 0 ? '-' : '' });
    if (fate.captured) this.known[side] = Math.max(this.known[side], end);
    this.sent[side] = Math.max(this.sent[side], end);
    if (!fate.arrives) return;
    for (let at = offset; at < end; at++) this.ahead[side].add(at);
    while (this.ahead[side].has(this.received[side])) this.received[side]++;
  }

  sendNew(side: Side, length: number, fate: { arrives: boolean; captured: boolean }): void {
    this.send(side, this.sent[side], length, fate);
  }

  retransmit(side: Side, length: number, fate: { arrives: boolean; captured: boolean }): void {
    if (this.sent[side] > this.acked[side]) {
      this.send(side, this.acked[side], Math.min(length, this.sent[side] - this.acked[side]), fate);
    }
  }

  /** An idle end asks, with a byte of garbage (RFC 9293 3.8.4). */
  probe(side: Side): void {
    if (this.sent[side] !== this.acked[side] || this.sent[side] === 0) return;
    // A byte alone that was lost, and its acknowledgement: nobody can tell what then comes in its place.
    if (this.sent[side] - this.known[side] === 1) return;
    this.wait(1_000_000);
    const ack = this.place(this.other(side), this.acked[this.other(side)]);
    this.capture({ side, seq: this.place(side, this.sent[side] - 1), ack, payload: Buffer.of(0xff), flags: '-' });
    this.acknowledge(side, true);
  }

  /** A packet that seems to come from `side`, and is not heeded at the other end; which answers with what it has, unless it must not. */
  stray(side: Side, kind: string, by: number, lossless: boolean): void {
    const { received } = this;
    const edge = this.acked[side] + WINDOW;
    // Where the stream's own bytes are missing from the capture, nobody can tell whether what is acknowledged was the stray one.
    const beyond = lossless ? edge : Math.max(edge, this.streams[side].length + 2);
    const ack = this.place(this.other(side), this.acked[this.other(side)]);
    const at = (offset: number): number => this.place(side, offset);
    switch (kind) {
      case 'old reset':
        // Behind the window there is no answer; between what is acknowledged and what has arrived there is one.
        this.capture({ side, seq: at(received[side] - 1 - (by % 5000)), flags: 'R' });
        if (received[side] - 1 - (by % 5000) >= this.acked[side]) this.acknowledge(side, true);
        return;
      case 'reset in the window': {
        const offset = received[side] + 1 + (by % WINDOW);
        // Nor is it told from that of an end that has gone, whose last data are lost on the way: it would come again.
        if (offset > edge || offset === this.sent[side]) return;
        // With SACK the end of what has arrived ahead would do.
        if (this.ahead[side].has(offset - 1) && !this.ahead[side].has(offset)) return;
        this.capture({ side, seq: at(offset), flags: 'R' });
        this.acknowledge(side, true);
        return;
      }
      case 'reset beyond':
        this.capture({ side, seq: at(edge + 1 + (by % 2_000_000)), flags: 'R' });
        return;
      case 'SYN':
        this.capture({
          side,
          seq: (this.isn[side] + by + 100_000) >>> 0,
          flags: 'S',
          payload: by % 2 ? 'fast open' : '',
        });
        this.acknowledge(side, true);
        return;
      case 'SYN-ACK':
        this.capture({ side, seq: (this.isn[side] + by + 100_000) >>> 0, ack: (ack + by) >>> 0, flags: 'S' });
        this.acknowledge(side, true);
        return;
      case 'data beyond':
        this.capture({ side, seq: at(beyond + (by % 1_000_000)), ack, payload: Buffer.alloc(2 + (by % 50), 0xee) });
        this.acknowledge(side, true);
        return;
      case 'FIN beyond':
        this.capture({ side, seq: at(edge + 1 + (by % 1_000_000)), ack, flags: 'F' });
        this.acknowledge(side, true);
        return;
      case 'copy': {
        const old = this.packets[by % this.packets.length]!;
        this.capture({ ...old, own: false });
        return;
      }
    }
  }

  /** The capture has what was captured last the other way round: an acknowledgement before its data. */
  swapLast(): void {
    const [data, ack] = this.packets.slice(-2) as [Captured, Captured];
    if (data.side === ack.side || ack.payload !== undefined || ack.flags !== undefined || !data.own) return;
    if (ack.timeUs - data.timeUs > defaultAllLimits.reassemblyReorderUs / 2) return;
    const { timeUs } = data;
    this.packets.splice(-2, 2, { ...ack, timeUs }, { ...data, timeUs: ack.timeUs });
  }

  /** All arrives in the end. */
  complete(): void {
    const well = { arrives: true, captured: true };
    for (let round = 0; round < 1000; round++) {
      let left = false;
      for (const side of [0, 1] as const) {
        this.retransmit(side, 100, well);
        this.sendNew(side, 100, well);
        this.acknowledge(side, true);
        left ||= this.received[side] < this.streams[side].length;
      }
      if (!left) break;
    }
    for (const side of [0, 1] as const) {
      const ack = this.place(this.other(side), this.received[this.other(side)] + side);
      this.capture({ side, seq: this.place(side, this.sent[side]), ack, flags: 'F' });
    }
  }
}

const strays = [
  'old reset',
  'reset in the window',
  'reset beyond',
  'SYN',
  'SYN-ACK',
  'data beyond',
  'FIN beyond',
  'copy',
];
const step = fc.record({
  what: fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom('send', 'send', 'acknowledge', 'retransmit', 'probe', 'swap', 'wait') },
    { weight: 2, arbitrary: fc.constantFrom(...strays) },
  ),
  side: fc.constantFrom<Side>(0, 1),
  length: fc.integer({ min: 1, max: 120 }),
  by: fc.nat(10_000_000),
  arrives: fc.integer({ min: 0, max: 4 }).map((n) => n > 0),
  captured: fc.integer({ min: 0, max: 4 }).map((n) => n > 0),
});
const isnArbitrary = fc.oneof(fc.nat(0xffff_ffff), fc.integer({ min: 0xffff_fe00, max: 0xffff_ffff }));
const scenario = fc.record({
  isn: fc.tuple(isnArbitrary, isnArbitrary),
  lengths: fc.tuple(fc.integer({ min: 8, max: 1500 }), fc.integer({ min: 8, max: 1500 })),
  steps: fc.array(step, { maxLength: 60 }),
});

function converse(
  { isn, lengths, steps }: typeof scenario extends fc.Arbitrary<infer T> ? T : never,
  lossless: boolean,
): Conversation {
  const talk = new Conversation(isn, lengths);
  for (const { what, side, length, by, ...fate } of steps) {
    const captured = lossless || fate.captured;
    // What is lost on the way to the capture has not arrived either.
    const arrives = fate.arrives;
    if (what === 'send') talk.sendNew(side, length, { arrives, captured });
    else if (what === 'retransmit') talk.retransmit(side, length, { arrives, captured });
    else if (what === 'acknowledge') talk.acknowledge(side, captured);
    else if (what === 'probe') talk.probe(side);
    else if (what === 'swap') talk.swapLast();
    else if (what === 'wait') talk.wait(by % 1_000_000);
    else talk.stray(side, what, by, lossless);
  }
  talk.complete();
  return talk;
}

function replay(talk: Conversation): FlowHarness {
  const flows = new FlowHarness();
  for (const { side, ...packet } of talk.packets) {
    flows.table.tick(packet.timeUs);
    if (side === 0) flows.client(packet);
    else flows.server(packet);
  }
  flows.table.closeAll('shutdown', talk.packets.at(-1)!.timeUs + defaultAllLimits.resetDoubtUs / 2);
  return flows;
}

describe('a TCP connection among packets that its ends do not heed', () => {
  it('comes out whole when all of it was captured', () => {
    fc.assert(
      fc.property(scenario, (all) => {
        const talk = converse(all, true);
        const flows = replay(talk);
        assert.equal(flows.layers.length, 1);
        for (const side of [0, 1] as const) assert.deepEqual(flows.layer.bytes(side), talk.streams[side]);
        assert.deepEqual(flows.layer.gaps, [0, 0]);
        assert.equal(flows.layer.log.at(-1), 'close fin');
        assert.equal(flows.table.heldBytes, 0);
      }),
      { numRuns: 1000 },
    );
  });

  it('never yields a byte that was not sent in its place when packets are missing from the capture', () => {
    fc.assert(
      fc.property(scenario, (all) => {
        const talk = converse(all, false);
        const flows = replay(talk);
        for (const layer of flows.layers) {
          const offsets: [number, number] = [0, 0];
          for (const entry of layer.log) {
            if (entry.startsWith('close') || /^. end [a-z]+$/.test(entry)) continue;
            const side = entry.startsWith('>') ? 0 : 1;
            const gap = /^. gap (\d+)$/.exec(entry);
            const bytes = Buffer.from(gap === null ? entry.slice(2) : '', 'latin1');
            // Of a connection that was joined late the place is not known, but what is long enough to tell it is there.
            if (layer.connection.startSeen) {
              const sent = talk.streams[side].subarray(offsets[side], offsets[side] + bytes.length);
              assert.deepEqual(bytes, sent, `${side} at ${offsets[side]}`);
            } else if (bytes.length >= 8 && bytes[0] !== 0xee) {
              assert.ok(talk.streams[side].includes(bytes));
            }
            offsets[side] += gap === null ? bytes.length : Number(gap[1]);
          }
          for (const side of [0, 1] as const) assert.ok(offsets[side] <= talk.streams[side].length, `${offsets[side]}`);
        }
        assert.equal(flows.table.heldBytes, 0);
      }),
      { numRuns: 1000 },
    );
  });
});
