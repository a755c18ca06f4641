import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { native } from '../../../src/capture/native.ts';
import {
  type CaptureSink,
  DIRECTION_EGRESS,
  HEADER,
  PACKET,
  PROCESS,
  PROCESS_EXEC,
  RECORD_PACKET,
  RECORD_PROCESS,
  RECORD_SECRET,
  RECORD_SOCKET,
  SECRET,
  SECRET_TLS12_MASTER,
  SOCKET,
  SOCKET_OWNER_KNOWN,
} from '../../../src/capture/records.ts';
import { walkChunk } from '../../../src/capture/walk.ts';

/** A record of `size` bytes and what follows it, rounded up to 8. */
function record(type: number, size: number, fill: (bytes: Buffer) => void, extra = 0): Buffer {
  const bytes = Buffer.alloc((size + extra + 7) & ~7);
  bytes.writeUInt32LE(bytes.length, HEADER.length);
  bytes.writeUInt16LE(type, HEADER.type);
  bytes.writeBigUInt64LE(9_000_000_000_123n, HEADER.timeNs);
  fill(bytes);
  return bytes;
}

function packet(payload: Buffer): Buffer {
  const fill = (bytes: Buffer) => {
    bytes.writeBigUInt64LE(0x1_0000_0007n, PACKET.cookie);
    bytes.writeUInt32LE(4_026_531_833, PACKET.netns);
    bytes.writeUInt32LE(3, PACKET.ifindex);
    bytes.writeUInt32LE(payload.length + 5, PACKET.packetLength);
    bytes.writeUInt32LE(payload.length, PACKET.captured);
    bytes.writeUInt32LE(65_536, PACKET.payloadSkip);
    bytes[PACKET.direction] = DIRECTION_EGRESS;
    payload.copy(bytes, PACKET.size);
  };
  return record(RECORD_PACKET, PACKET.size, fill, payload.length);
}

function socket(): Buffer {
  return record(RECORD_SOCKET, SOCKET.size, (bytes) => {
    bytes.writeUInt16LE(SOCKET_OWNER_KNOWN, HEADER.flags);
    bytes.writeBigUInt64LE(11n, SOCKET.cookie);
    bytes.writeBigUInt64LE(12n, SOCKET.peerCookie);
    bytes.writeBigUInt64LE(13n, SOCKET.cgroupId);
    bytes.writeBigUInt64LE(14n, SOCKET.processStartNs);
    bytes.writeUInt32LE(15, SOCKET.tgid);
    bytes.writeUInt32LE(16, SOCKET.netns);
    bytes.write('sixteen-bytes-ab', SOCKET.comm); // not terminated
  });
}

function processExec(): Buffer {
  return record(RECORD_PROCESS, PROCESS.size, (bytes) => {
    bytes.writeBigUInt64LE(21n, PROCESS.processStartNs);
    bytes.writeUInt32LE(22, PROCESS.tgid);
    bytes.writeUInt32LE(PROCESS_EXEC, PROCESS.reason);
    bytes.write('curl', PROCESS.comm);
    bytes.write('/usr/bin/curl', PROCESS.filename);
  });
}

function secret(): Buffer {
  return record(RECORD_SECRET, SECRET.size, (bytes) => {
    bytes.writeUInt32LE(31, SECRET.tgid);
    bytes[SECRET.kind] = SECRET_TLS12_MASTER;
    bytes[SECRET.secretLength] = 48;
    bytes[SECRET.contextLength] = 64;
    bytes.writeBigUInt64LE(32n, SECRET.library);
    bytes.fill(0xaa, SECRET.secret, SECRET.secret + 48);
    bytes.fill(0xbb, SECRET.context, SECRET.context + 64);
  });
}

/** A sink that writes down what it is given. */
function collect(): { sink: CaptureSink; events: unknown[] } {
  const events: unknown[] = [];
  const sink: CaptureSink = {
    packet: ({ bytes, start, end, ...rest }) => events.push({ ...rest, payload: bytes.toString('latin1', start, end) }),
    socket: (value) => events.push(value),
    process: (value) => events.push(value),
    secret: (value) => events.push(value),
  };
  return { sink, events };
}

const PACKET_EVENT = {
  timeUs: 9_000_000_000.123,
  cookie: 0x1_0000_0007,
  netns: 4_026_531_833,
  ifindex: 3,
  direction: DIRECTION_EGRESS,
  packetLength: 10,
  payloadSkip: 65_536,
  payload: 'hello',
};

describe('walkChunk', () => {
  it('has the layout that the addon was compiled with', () => {
    assert.deepEqual(native().recordLayout(), { HEADER, PACKET, SOCKET, PROCESS, SECRET });
  });

  it('reads every kind of record, in order', () => {
    const chunk = Buffer.concat([
      socket(),
      packet(Buffer.from('hello')),
      processExec(),
      secret(),
      packet(Buffer.from('hello')),
    ]);
    const { sink, events } = collect();
    assert.equal(walkChunk(chunk, chunk.length, sink), 0);
    assert.deepEqual(events, [
      {
        timeUs: 9_000_000_000.123,
        cookie: 11,
        peerCookie: 12,
        cgroupId: 13,
        processStartNs: 14,
        pid: 15,
        netns: 16,
        comm: 'sixteen-bytes-ab',
        ownerKnown: true,
        own: false,
      },
      PACKET_EVENT,
      {
        timeUs: 9_000_000_000.123,
        pid: 22,
        processStartNs: 21,
        reason: PROCESS_EXEC,
        comm: 'curl',
        filename: '/usr/bin/curl',
      },
      {
        timeUs: 9_000_000_000.123,
        pid: 31,
        kind: SECRET_TLS12_MASTER,
        library: 32,
        secret: Buffer.alloc(48, 0xaa),
        context: Buffer.alloc(64, 0xbb),
      },
      PACKET_EVENT,
    ]);
  });

  it('leaves no secret in the chunk', () => {
    const chunk = secret();
    walkChunk(chunk, chunk.length, collect().sink);
    assert.equal(chunk.indexOf(0xaa), -1);
  });

  it('leaves no secret of a kind or a length that it does not know either', () => {
    for (const [at, value] of [
      [SECRET.kind, 99],
      [SECRET.secretLength, 255],
      [SECRET.contextLength, 255],
    ] as const) {
      const chunk = secret();
      chunk[at] = value;
      const { sink, events } = collect();
      assert.equal(walkChunk(chunk, chunk.length, sink), 0);
      assert.deepEqual(events, []);
      assert.equal(chunk.indexOf(0xaa), -1);
    }
  });

  it('reads a chunk at every length, and says what is left', () => {
    const parts = [packet(Buffer.from('hello')), socket(), packet(Buffer.from('hello'))];
    const chunk = Buffer.concat(parts);
    for (let length = 0; length <= chunk.length; length++) {
      const { sink, events } = collect();
      const rest = walkChunk(chunk, length, sink);
      let whole = 0;
      let bytes = 0;
      while (whole < parts.length && bytes + parts[whole]!.length <= length) bytes += parts[whole++]!.length;
      assert.equal(events.length, whole);
      assert.equal(rest, length - bytes);
    }
  });

  it('reads a chunk that lies anywhere in memory', () => {
    const bytes = packet(Buffer.from('hello'));
    for (let offset = 0; offset < 8; offset++) {
      const chunk = Buffer.concat([Buffer.alloc(offset), bytes]).subarray(offset);
      const { sink, events } = collect();
      assert.equal(walkChunk(chunk, chunk.length, sink), 0);
      assert.deepEqual(events, [PACKET_EVENT]);
    }
  });

  it('stops at lengths that cannot be', () => {
    const good = packet(Buffer.from('hello'));
    for (const [at, value] of [
      [HEADER.length, 0],
      [HEADER.length, 15],
      [HEADER.length, 57],
      [HEADER.length, good.length + 8],
      [HEADER.length, 0xffff_ffff],
      [PACKET.captured, good.length],
      [PACKET.captured, 0xffff_ffff],
    ] as const) {
      const bad = Buffer.from(good);
      bad.writeUInt32LE(value, at);
      const chunk = Buffer.concat([good, bad]);
      const { sink, events } = collect();
      assert.equal(walkChunk(chunk, chunk.length, sink), bad.length);
      assert.deepEqual(events, [PACKET_EVENT]);
    }
    for (const type of [RECORD_PACKET, RECORD_SOCKET, RECORD_PROCESS, RECORD_SECRET]) {
      const short = record(type, HEADER.size, () => {});
      assert.equal(walkChunk(short, short.length, collect().sink), HEADER.size);
    }
  });

  it('skips types that it does not know', () => {
    const chunk = Buffer.concat([record(999, 40, () => {}), packet(Buffer.from('hello'))]);
    const { sink, events } = collect();
    assert.equal(walkChunk(chunk, chunk.length, sink), 0);
    assert.deepEqual(events, [PACKET_EVENT]);
  });

  it('survives garbage', () => {
    const arbitrary = fc.uint8Array({ maxLength: 1024 });
    fc.assert(
      fc.property(arbitrary, fc.nat({ max: 2000 }), (bytes, length) => {
        const chunk = Buffer.from(bytes);
        const sink = collect().sink;
        const { packet: inner } = sink;
        sink.packet = (value) => {
          assert.ok(value.start <= value.end && value.end <= chunk.length);
          inner(value);
        };
        const rest = walkChunk(chunk, length, sink);
        assert.ok(rest >= 0 && rest <= chunk.length);
      }),
    );
  });
});
