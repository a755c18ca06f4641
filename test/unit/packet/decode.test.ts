import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DIRECTION_EGRESS, type PacketRecord } from '../../../src/capture/records.ts';
import { formatAddress } from '../../../src/packet/address.ts';
import { decodePacket, FIN, newSegment, SYN } from '../../../src/packet/decode.ts';
import { ipPacket, type PacketOptions, packetRecord } from '../../support/wire/packets.ts';

function decode(options: PacketOptions) {
  const record = packetRecord(options);
  const segment = newSegment();
  const result = decodePacket(record, segment);
  const payload = record.bytes.toString('latin1', segment.payloadStart, segment.payloadEnd);
  return { record, segment, result, payload };
}

const hopByHop = { type: 0, bytes: Buffer.alloc(8) };
const routing = { type: 43, bytes: Buffer.from([0, 2, ...Buffer.alloc(22)]) };
const fragment = (offset: number) => ({ type: 44, bytes: Buffer.from([0, 0, offset >> 8, offset & 0xff, 0, 0, 0, 1]) });
const authentication = { type: 51, bytes: Buffer.from([0, 4, ...Buffer.alloc(22)]) };

describe('decodePacket', () => {
  it('finds the segment of an IPv4 packet', () => {
    const { result, segment, payload, record } = decode({ seq: 4_000_000_000, ack: 3_000_000_000, payload: 'hello' });
    assert.equal(result, 'ok');
    assert.equal(payload, 'hello');
    assert.deepEqual(
      [segment.srcPort, segment.dstPort, segment.seq, segment.ack, segment.window, segment.payloadLength],
      [40_000, 80, 4_000_000_000, 3_000_000_000, 65_535, 5],
    );
    assert.equal(formatAddress(record.bytes, segment.srcAddressStart, segment.addressLength), '10.0.0.1');
    assert.equal(formatAddress(record.bytes, segment.dstAddressStart, segment.addressLength), '10.0.0.2');
  });

  it('passes over IP and TCP options', () => {
    const { result, payload } = decode({ ipOptions: Buffer.alloc(8), tcpOptions: Buffer.alloc(12), payload: 'hello' });
    assert.equal(result, 'ok');
    assert.equal(payload, 'hello');
  });

  it('takes the length from the capture where the IP header has none', () => {
    for (const from of ['10.0.0.1', 'fe80::1']) {
      const { result, payload } = decode({ from, to: from, ipLength: 0, payload: 'x'.repeat(100_000) });
      assert.equal(result, 'ok');
      assert.equal(payload.length, 100_000);
    }
  });

  it('leaves out what the link padded', () => {
    const packet = Buffer.concat([ipPacket({ payload: 'ab' }), Buffer.alloc(4)]);
    const record: PacketRecord = { ...packetRecord(), bytes: packet, start: 0, end: packet.length, packetLength: 46 };
    const segment = newSegment();
    assert.equal(decodePacket(record, segment), 'ok');
    assert.equal(packet.toString('latin1', segment.payloadStart, segment.payloadEnd), 'ab');
    assert.equal(segment.payloadLength, 2);
  });

  it('walks IPv6 extension headers', () => {
    for (const extensionHeaders of [[], [hopByHop], [hopByHop, routing, fragment(1)], [authentication, hopByHop]]) {
      const { result, payload, segment, record } = decode({
        from: '2001:db8::1',
        to: '2001:db8::2:0:0:3',
        extensionHeaders,
        payload: 'hello',
      });
      assert.equal(result, 'ok');
      assert.equal(payload, 'hello');
      assert.equal(formatAddress(record.bytes, segment.dstAddressStart, segment.addressLength), '2001:db8::2:0:0:3');
    }
  });

  it('says what a capture has cut', () => {
    const { result, segment, payload } = decode({ payload: 'hello', snapLength: 43 });
    assert.equal(result, 'ok');
    assert.equal(payload, 'hel');
    assert.equal(segment.payloadLength, 5);
    const bare = decode({ payload: 'hello', tcpOptions: Buffer.alloc(8), snapLength: 40 });
    assert.equal(bare.result, 'ok');
    assert.equal(bare.payload, '');
    assert.equal(bare.segment.payloadLength, 5);
  });

  it('places the pieces of a packet that is larger than a record', () => {
    const first = packetRecord({ payload: 'abcdef', seq: 10, flags: 'F', cookie: 1, direction: DIRECTION_EGRESS });
    first.end -= 3;
    const segment = newSegment();
    assert.equal(decodePacket(first, segment), 'ok');
    assert.deepEqual([segment.seq, segment.payloadLength, segment.flags & FIN], [10, 3, 0]);
    const options = { payload: 'def', seq: 10, flags: 'F', cookie: 1, payloadSkip: 3, ipLength: 46 } as const;
    const second = packetRecord({ ...options, direction: DIRECTION_EGRESS });
    assert.equal(decodePacket(second, segment), 'ok');
    assert.deepEqual([segment.seq, segment.payloadLength, segment.flags & FIN], [13, 3, FIN]);
    const offloaded = packetRecord({ ...options, ipLength: 0, direction: DIRECTION_EGRESS });
    assert.equal(decodePacket(offloaded, segment), 'ok');
    assert.deepEqual([segment.seq, segment.payloadLength, segment.flags & FIN], [13, 3, FIN]);
    const syn = packetRecord({ ...options, flags: 'S', direction: DIRECTION_EGRESS });
    assert.equal(decodePacket(syn, segment), 'ok');
    assert.deepEqual([segment.seq, segment.flags & SYN], [14, 0]);
  });

  it('says why a packet is of no use', () => {
    assert.equal(decode({ fragmentField: 1 }).result, 'ip_fragment');
    assert.equal(decode({ fragmentField: 0x2000, payload: 'a' }).result, 'ok');
    const v6 = { from: '::1', to: '::1' };
    assert.equal(decode({ ...v6, extensionHeaders: [fragment(8)] }).result, 'ip_fragment');
    assert.equal(decode({ ...v6, extensionHeaders: Array(12).fill(hopByHop) }).result, 'too_many_extension_headers');
    assert.equal(decode({ ...v6, extensionHeaders: [{ type: 50, bytes: Buffer.alloc(8) }] }).result, 'not_tcp');
    assert.equal(decode({ ipLength: 10 }).result, 'malformed_ip');
    assert.equal(decode({ ipLength: 30 }).result, 'malformed_tcp');
    for (let length = 0; length < 40; length++) {
      assert.equal(decode({ snapLength: length }).result, 'truncated_headers', `IPv4 cut at ${length}`);
    }
    for (let length = 0; length < 68; length++) {
      const cut = decode({ ...v6, extensionHeaders: [hopByHop], snapLength: length });
      assert.equal(cut.result, 'truncated_headers', `IPv6 cut at ${length}`);
    }
    const record = packetRecord();
    record.bytes[record.start] = 0x55;
    assert.equal(decodePacket(record, newSegment()), 'not_ip');
    record.bytes[record.start] = 0x43;
    assert.equal(decodePacket(record, newSegment()), 'malformed_ip');
    record.bytes[record.start] = 0x45;
    record.bytes[record.start + 9] = 17;
    assert.equal(decodePacket(record, newSegment()), 'not_tcp');
  });
});

describe('formatAddress', () => {
  const cases: [string, string][] = [
    ['00000000000000000000000000000000', '::'],
    ['00000000000000000000000000000001', '::1'],
    ['20010db8000000000000000000000000', '2001:db8::'],
    ['20010db8000000010000000000000001', '2001:db8:0:1::1'],
    ['20010db8000000000001000000000000', '2001:db8:0:0:1::'],
    ['20010db8000100000001000100010001', '2001:db8:1:0:1:1:1:1'],
    ['00000000000000000000ffffc0a80001', '192.168.0.1'],
    ['fe80000000000000abcdef0123456789', 'fe80::abcd:ef01:2345:6789'],
  ];
  for (const [hex, text] of cases) {
    it(`writes ${text} as RFC 5952 has it`, () => {
      assert.equal(formatAddress(Buffer.from(hex, 'hex'), 0, 16), text);
    });
  }
});
