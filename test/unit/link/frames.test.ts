import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FrameReader } from '../../../src/link/frames.ts';
import {
  ETHERNET,
  ethernet,
  encapsulations as frames,
  hex,
  inner,
  ip4,
  ip6,
  encapsulated as packet,
  RAW,
  SLL2,
  udp,
  vxlan,
} from '../../support/wire/encapsulations.ts';
import { ipPacket } from '../../support/wire/packets.ts';

const packet6 = ipPacket({ from: 'fd00::1', to: 'fd00::2', payload: 'hello, world' });

interface Read {
  packets: { timeUs: number; bytes: Buffer; length: number }[];
  ignored: Record<string, number>;
}

interface Frame {
  linkType?: number;
  bytes: Buffer;
  timeUs?: number;
  /** On the wire. */
  length?: number;
}

function read(frames: readonly Frame[], limits = { ipFragmentBytes: 1 << 20, ipFragmentUs: 30_000_000 }): Read {
  const result: Read = { packets: [], ignored: {} };
  const reader = new FrameReader(limits, {
    packet: (timeUs, bytes, start, end, length) =>
      result.packets.push({ timeUs, bytes: Buffer.from(bytes.subarray(start, end)), length }),
    ignored: (reason, n) => {
      result.ignored[reason] = (result.ignored[reason] ?? 0) + n;
    },
  });
  for (const { linkType = ETHERNET, bytes, timeUs = 0, length = bytes.length } of frames) {
    // Bytes around the frame belong to no one.
    const around = Buffer.concat([Buffer.alloc(3, 0x45), bytes, Buffer.alloc(5, 0x45)]);
    reader.frame(linkType, timeUs, around, 3, 3 + bytes.length, length);
  }
  reader.finish();
  return result;
}

describe('FrameReader', () => {
  for (const [name, linkType, bytes] of frames) {
    it(`finds the packet in ${name}`, () => {
      assert.deepEqual(read([{ linkType, bytes }]), {
        packets: [{ timeUs: 0, bytes: packet, length: packet.length }],
        ignored: {},
      });
    });
  }

  it('finds IPv6 in IPv4', () => {
    assert.deepEqual(read([{ linkType: RAW, bytes: ip4(41, packet6) }]).packets[0]!.bytes, packet6);
  });

  it('never reads past what was captured, wherever a frame is cut', () => {
    for (const [name, linkType, whole] of frames) {
      for (let captured = 0; captured <= whole.length; captured++) {
        const { packets, ignored } = read([{ linkType, bytes: whole.subarray(0, captured), length: whole.length }]);
        assert.equal(
          packets.length + Object.values(ignored).reduce((sum, n) => sum + n, 0),
          1,
          `${name} at ${captured}`,
        );
        const [found] = packets;
        // Nothing but the beginning of the packet, or of the one around it, which the decoder does not take for TCP.
        if (found !== undefined && found.bytes.length > 9 && found.bytes[9] === 6) {
          assert.deepEqual(found.bytes, packet.subarray(0, found.bytes.length), `${name} at ${captured}`);
          assert.equal(found.length, packet.length, `${name} at ${captured}`);
        }
      }
    }
  });

  it('leaves padding of the link out of what a tunnel carries', () => {
    const bytes = Buffer.concat([ethernet('0800', ip4(17, vxlan(inner))), Buffer.alloc(9)]);
    assert.deepEqual(read([{ bytes }]).packets, [{ timeUs: 0, bytes: packet, length: packet.length }]);
  });

  it('leaves what carries no IP packet as it is', () => {
    const others = [
      ip4(17, udp(53, packet)),
      ip4(17, vxlan(ethernet('0806', Buffer.alloc(28)))),
      ip4(17, udp(4789, Buffer.concat([hex('00000000 00000100'), inner]))),
      ip4(17, udp(6081, Buffer.concat([hex('40006558 00000100'), inner]))),
      ip4(47, Buffer.concat([hex('3081 880b 00000000 00000000'), packet])),
      ip4(1, Buffer.alloc(8)),
      ip4(17, hex('1234')),
      ip6(59, Buffer.alloc(0)),
    ];
    for (const bytes of others) {
      assert.deepEqual(read([{ linkType: RAW, bytes }]), {
        packets: [{ timeUs: 0, bytes, length: bytes.length }],
        ignored: {},
      });
    }
    let deep = packet;
    for (let i = 0; i < 9; i++) deep = ip4(4, deep);
    assert.equal(read([{ linkType: RAW, bytes: deep }]).packets[0]!.bytes.length, packet.length + 20);
  });

  it('says why a frame is of no use', () => {
    const ignored: [number, Buffer, string][] = [
      [ETHERNET, ethernet('0806', Buffer.alloc(28)), 'not_ip'],
      [ETHERNET, ethernet('8863', packet), 'not_ip'],
      [ETHERNET, ethernet('8864 11 00 0001 0036 c021', packet), 'not_ip'],
      [ETHERNET, ethernet('0026 424203', packet), 'not_ip'],
      [ETHERNET, ethernet('8100 0007 '.repeat(20), packet), 'not_ip'],
      [ETHERNET, ethernet('8847', Buffer.alloc(80)), 'not_ip'],
      [ETHERNET, Buffer.alloc(13), 'truncated_headers'],
      [SLL2, Buffer.concat([hex('0806'), Buffer.alloc(18), packet]), 'not_ip'],
      [147, packet, 'link_type'],
      [239, hex('02000000 0000 0000'), 'not_ip'],
    ];
    for (const [linkType, bytes, reason] of ignored)
      assert.deepEqual(read([{ linkType, bytes }]).ignored, { [reason]: 1 });
  });
});

const big = ipPacket({ payload: Buffer.from(Array.from({ length: 500 }, (_, i) => i & 0xff)) });
big.writeUInt16BE(7, 4);

/** The fragments of an IPv4 packet, of `sizes` bytes each, in multiples of eight; the last one has what is left. */
function fragments4(whole: Buffer, sizes: readonly number[], id = 7): Buffer[] {
  const payload = whole.subarray(20);
  const cuts = [0];
  for (const size of sizes) cuts.push(cuts.at(-1)! + size);
  return cuts.map((from, i) => {
    const to = cuts[i + 1] ?? payload.length;
    return ip4(whole[9]!, payload.subarray(from, to), (to < payload.length ? 0x2000 : 0) | (from / 8), id);
  });
}

function fragments6(whole: Buffer, sizes: readonly number[]): Buffer[] {
  return fragments4(Buffer.concat([ip4(6, Buffer.alloc(0)), whole.subarray(40)]), sizes).map((fragment) => {
    const field = fragment.readUInt16BE(6);
    const header = Buffer.alloc(8);
    header[0] = 6;
    header.writeUInt16BE(((field & 0x1fff) << 3) | (field >> 13), 2);
    header.writeUInt32BE(99, 4);
    const packet = ip6(44, Buffer.concat([header, fragment.subarray(20)]));
    whole.copy(packet, 7, 7, 40);
    return packet;
  });
}

const raw = (packets: readonly Buffer[], timeUs = 0): Frame[] =>
  packets.map((bytes) => ({ linkType: RAW, bytes, timeUs }));

describe('FrameReader: fragments', () => {
  it('puts them together in any order, with copies', () => {
    const parts = fragments4(big, [104, 208, 48]);
    const orders = [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [1, 3, 0, 2],
      [0, 0, 1, 1, 2, 2, 3],
    ];
    for (const order of orders) {
      const { packets, ignored } = read(raw(order.map((i) => parts[i]!)));
      assert.deepEqual(packets, [{ timeUs: 0, bytes: big, length: big.length }], order.join());
      assert.deepEqual(ignored, {});
    }
  });

  it('puts those of IPv6 together, below other headers, and leaves a packet that is its own only fragment', () => {
    const whole = ipPacket({ from: 'fd00::1', to: 'fd00::2', payload: 'x'.repeat(300) });
    assert.deepEqual(read(raw(fragments6(whole, [96, 96]))).packets, [
      { timeUs: 0, bytes: whole, length: whole.length },
    ]);
    const atomic = ip6(44, Buffer.concat([hex('06000000 00000063'), whole.subarray(40)]));
    assert.deepEqual(read(raw([atomic])).packets[0]!.bytes, atomic);
    const options = hex('2c00 0104 00000000');
    const below = fragments6(whole, [96]).map((fragment) => {
      const packet = Buffer.concat([fragment.subarray(0, 40), options, fragment.subarray(40)]);
      packet[6] = 60;
      packet.writeUInt16BE(packet.length - 40, 4);
      return packet;
    });
    const expected = Buffer.concat([whole.subarray(0, 40), hex('0600 0104 00000000'), whole.subarray(40)]);
    expected[6] = 60;
    expected.writeUInt16BE(expected.length - 40, 4);
    assert.deepEqual(read(raw(below)).packets[0]!.bytes, expected);
  });

  it('looks into a tunnel whose packet came in fragments', () => {
    const outer = ip4(17, vxlan(inner));
    assert.deepEqual(read(raw(fragments4(outer, [32]))).packets, [{ timeUs: 0, bytes: packet, length: packet.length }]);
  });

  it('keeps those of different packets apart', () => {
    const other = Buffer.from(big);
    other.writeUInt16BE(8, 4);
    const [a, b] = [fragments4(big, [104]), fragments4(big, [208], 8)];
    const { packets } = read(raw([a[0]!, b[0]!, b[1]!, a[1]!]));
    assert.deepEqual(
      packets.map(({ bytes }) => bytes),
      [other, big],
    );
  });

  it('keeps the captured beginning when a fragment was cut', () => {
    const parts = fragments4(big, [104, 208]);
    const cut = { linkType: RAW, bytes: parts[1]!.subarray(0, 60), length: parts[1]!.length };
    const { packets } = read([...raw([parts[0]!]), cut, ...raw([parts[2]!])]);
    assert.deepEqual(packets, [{ timeUs: 0, bytes: big.subarray(0, 20 + 104 + 40), length: big.length }]);
  });

  it('counts those that never become a packet', () => {
    const parts = fragments4(big, [104, 208]);
    assert.deepEqual(read(raw(parts.slice(1))).ignored, { ip_fragment: 2 });
    assert.deepEqual(read([...raw(parts.slice(0, 2)), ...raw(parts.slice(2), 31_000_000)]).ignored, { ip_fragment: 3 });
    const limits = { ipFragmentBytes: 2000, ipFragmentUs: 30_000_000 };
    const many = Array.from({ length: 20 }, (_, id) => fragments4(big, [104], id)[0]!);
    assert.deepEqual(read(raw(many), limits), { packets: [], ignored: { ip_fragment: 20 } });
  });

  it('takes nothing from fragments that contradict each other', () => {
    const evil = (from: number, bytes: number, more: boolean) =>
      ip4(6, Buffer.alloc(bytes, 0xbb), (more ? 0x2000 : 0) | (from / 8));
    const parts = fragments4(big, [104, 208]);
    for (const wrong of [
      evil(96, 16, true),
      evil(0, 112, true),
      evil(304, 16, true),
      evil(104, 8, false),
      evil(600, 8, true),
    ]) {
      const { packets, ignored } = read(raw([parts[0]!, parts[2]!, wrong, parts[1]!]));
      assert.deepEqual([packets, ignored], [[], { ip_fragment: 4 }]);
    }
    assert.deepEqual(read(raw([ip4(6, Buffer.alloc(64), 0x1fff)])).ignored, { ip_fragment: 1 });
  });

  it('keeps every byte of the payload, however it was cut and mixed (property)', () => {
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 64 }), { maxLength: 20 });
    fc.assert(
      fc.property(cuts, fc.infiniteStream(fc.integer({ min: 0, max: 1000 })), (at, order) => {
        const sorted = at.sort((a, b) => a - b).map((eighths) => eighths * 8);
        const parts = fragments4(
          big,
          sorted.map((cut, i) => cut - (sorted[i - 1] ?? 0)),
        );
        const mixed = parts.map((part) => [order.next().value!, part] as const).sort(([a], [b]) => a - b);
        assert.deepEqual(read(raw(mixed.map(([, part]) => part))), {
          packets: [{ timeUs: 0, bytes: big, length: big.length }],
          ignored: {},
        });
      }),
      { numRuns: 200 },
    );
  });

  it('takes any bytes without an error, once each (property)', () => {
    const bytes = fc.uint8Array({ maxLength: 120 }).map((array) => Buffer.from(array));
    const start = fc.constantFrom(...frames.map(([, linkType, frame]) => ({ linkType, frame })));
    fc.assert(
      fc.property(start, fc.nat(40), bytes, ({ linkType, frame }, keep, rest) => {
        const { packets, ignored } = read([{ linkType, bytes: Buffer.concat([frame.subarray(0, keep), rest]) }]);
        assert.equal(packets.length + Object.values(ignored).reduce((sum, n) => sum + n, 0), 1);
      }),
      { numRuns: 2000 },
    );
  });
});
