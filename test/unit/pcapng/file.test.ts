import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { readCaptureFile } from '../../../src/capture/file.ts';
import { LINK_RAW, PcapngBlocks } from '../../support/wire/capture-files.ts';
import { inParts, readAll } from '../../support/wire/captures.ts';
import { FlowHarness } from '../../support/wire/flows.ts';
import { ipPacket } from '../../support/wire/packets.ts';

const data = join(import.meta.dirname, '..', '..', 'captures', 'data');

const noSecrets = (): void => assert.fail('no secrets here');

interface PcapOptions {
  bigEndian?: boolean;
  magic?: number;
  linkType?: number;
  snapLength?: number;
}

/** A classic capture file. */
function pcap(
  frames: { frame: Buffer; seconds?: number; fraction?: number; original?: number }[],
  options: PcapOptions = {},
): Buffer {
  const words = (list: number[]): Buffer => {
    const bytes = Buffer.alloc(list.length * 4);
    list.forEach((word, i) => {
      if (options.bigEndian) bytes.writeUInt32BE(word >>> 0, i * 4);
      else bytes.writeUInt32LE(word >>> 0, i * 4);
    });
    return bytes;
  };
  const version = options.bigEndian ? 0x0002_0004 : 0x0004_0002;
  const head = [options.magic ?? 0xa1b2c3d4, version, 0, 0, options.snapLength ?? 65_535, options.linkType ?? 101];
  const records = frames.map(({ frame, seconds = 1, fraction = 2, original }) =>
    Buffer.concat([words([seconds, fraction, frame.length, original ?? frame.length]), frame]),
  );
  return Buffer.concat([words(head), ...records]);
}

const read = (bytes: Buffer, parts = 1 << 20) => readAll(inParts(bytes, parts));
const packet = ipPacket({ payload: 'hello' });
const ethernet = (...types: number[]): Buffer =>
  Buffer.concat([
    Buffer.alloc(12),
    ...types.map((type, i) => Buffer.from([type >> 8, type & 0xff, ...(i < types.length - 1 ? [0, 7] : [])])),
    packet,
  ]);

describe('readCaptureFile: pcap', () => {
  it('reads both byte orders, microseconds and nanoseconds', async () => {
    for (const bigEndian of [false, true]) {
      const micro = await read(pcap([{ frame: packet, seconds: 1_700_000_000, fraction: 123_456 }], { bigEndian }));
      assert.equal(micro.packets[0]!.timeUs, 1_700_000_000_123_456);
      const nano = pcap([{ frame: packet, seconds: 1_700_000_000, fraction: 123_456_750 }], {
        bigEndian,
        magic: 0xa1b23c4d,
      });
      assert.equal((await read(nano)).packets[0]!.timeUs, 1_700_000_000_123_456 + 0.75);
      assert.deepEqual(micro.packets[0]!.bytes, packet);
    }
  });

  it('reads at every split', async () => {
    const file = pcap([{ frame: packet }, { frame: ipPacket({ payload: 'x' }) }]);
    const whole = await read(file);
    assert.equal(whole.packets.length, 2);
    for (let size = 1; size < file.length; size++) assert.deepEqual(await read(file, size), whole);
  });

  it('keeps the length on the wire of a packet that was cut', async () => {
    const { packets } = await read(pcap([{ frame: packet.subarray(0, 42), original: packet.length }]));
    assert.deepEqual([packets[0]!.packetLength, packets[0]!.end], [45, 42]);
  });

  it('says where a file is broken, after delivering what came before', async () => {
    const good = pcap([{ frame: packet }]);
    for (let length = good.length + 1; length < good.length + 16 + packet.length; length++) {
      const file = pcap([{ frame: packet }, { frame: packet }]).subarray(0, length);
      const { packets, error } = await read(file);
      assert.equal(packets.length, 1);
      assert.match(
        error!.message,
        /^standard input: at byte 85: the file ends inside a record: \d+ of at least \d+ bytes/,
      );
    }
    const wild = Buffer.concat([good, Buffer.alloc(16, 0xff)]);
    assert.match((await read(wild)).error!.message, /at byte 85: a packet has the impossible length 4294967295/);
    assert.equal((await read(wild)).packets.length, 1);
  });

  it('refuses what it does not know, with a reason', async () => {
    const cases: [Buffer, RegExp][] = [
      [Buffer.alloc(0), /the file is empty/],
      [Buffer.from('abc'), /too short/],
      [Buffer.from('GET / HTTP/1.1\r\n\r\n'), /neither pcap nor pcapng: the file begins with 47455420/],
      [pcap([], { magic: 0xa1b2cd34 }), /"modified" pcap format is not supported/],
      [pcap([], { magic: 0xa1b2cd34, bigEndian: true }), /"modified" pcap format is not supported/],
      [pcap([]).fill(9, 4, 6), /pcap version 2313 is not known/],
    ];
    for (const [bytes, message] of cases) assert.match((await read(bytes)).error!.message, message);
    await assert.rejects(
      readCaptureFile('/nonexistent.pcap', assert.fail, { onSecrets: noSecrets }),
      /^Error: \/nonexistent.pcap: there is no such file/,
    );
  });

  it('finds the IP packet under every link type', async () => {
    const sll = Buffer.concat([Buffer.alloc(14), Buffer.from([8, 0]), packet]);
    const sll2 = Buffer.concat([Buffer.from([8, 0]), Buffer.alloc(18), packet]);
    const frames: [number, Buffer][] = [
      [0, Buffer.concat([Buffer.from([2, 0, 0, 0]), packet])],
      [1, ethernet(0x0800)],
      [1, ethernet(0x8100, 0x0800)],
      [1, ethernet(0x88a8, 0x8100, 0x0800)],
      [12, packet],
      [14, packet],
      [101, packet],
      [108, Buffer.concat([Buffer.from([0, 0, 0, 2]), packet])],
      [113, sll],
      [228, packet],
      [276, sll2],
    ];
    for (const [linkType, frame] of frames) {
      const { packets } = await read(pcap([{ frame }], { linkType }));
      assert.deepEqual(packets[0]?.bytes, packet, `link type ${linkType}`);
      assert.equal(packets[0].packetLength, packet.length);
    }
    const v6 = ipPacket({ from: '::1', to: '::1' });
    assert.deepEqual((await read(pcap([{ frame: v6 }], { linkType: 229 }))).packets[0]?.bytes, v6);
  });

  it('counts frames without IP', async () => {
    assert.deepEqual((await read(pcap([{ frame: ethernet(0x0806) }], { linkType: 1 }))).result?.ignored, { not_ip: 1 });
    assert.deepEqual((await read(pcap([{ frame: packet }], { linkType: 147 }))).result?.ignored, { link_type: 1 });
    const short = pcap([{ frame: packet.subarray(0, 5) }], { linkType: 1 });
    assert.deepEqual((await read(short)).result?.ignored, { truncated_headers: 1 });
  });

  it('makes chunks of bounded size, and larger ones for larger packets', async () => {
    const frames = [
      ...Array(50).fill({ frame: packet }),
      { frame: ipPacket({ payload: 'x'.repeat(5000) }) },
      { frame: packet },
    ];
    const lengths: number[] = [];
    const file = pcap(frames);
    await readCaptureFile(inParts(file, 100), (_chunk, length) => lengths.push(length), {
      onSecrets: noSecrets,
      chunkBytes: 1024,
    });
    assert.ok(lengths.filter((length) => length > 1024).length === 1);
    assert.ok(lengths.length > 5);
  });

  it('delivers what somebody is writing as it comes', async () => {
    let delivered = 0;
    const whole = pcap(Array(3).fill({ frame: packet }));
    async function* source(): AsyncIterable<Buffer> {
      const record = (whole.length - 24) / 3;
      for (let i = 0; i < 3; i++) {
        yield whole.subarray(i === 0 ? 0 : 24 + i * record, 24 + (i + 1) * record);
        assert.equal(delivered, i + 1);
      }
    }
    await readCaptureFile(source(), () => delivered++, { onSecrets: noSecrets, live: true });
    assert.equal(delivered, 3);
  });
});

describe('readCaptureFile: gzip', () => {
  it('lets go of the source when it gives up in its middle', async () => {
    let ended = false;
    async function* source(): AsyncIterable<Buffer> {
      try {
        // Numbers that do not compress: there is always more of them to come.
        for (let i = 0; ; i++) {
          const noise = Buffer.alloc(4096, createHash('sha512').update(String(i)).digest());
          yield i === 0 ? gzipSync(noise) : noise;
          await setImmediate();
        }
      } finally {
        ended = true;
      }
    }
    await assert.rejects(
      readCaptureFile(source(), () => {}, { onSecrets: noSecrets }),
      /neither pcap nor pcapng/,
    );
    for (let turn = 0; turn < 10 && !ended; turn++) await setImmediate();
    assert.ok(ended);
  });

  it('is told by its content', async () => {
    const file = pcap([{ frame: packet }, { frame: packet }]);
    const compressed = gzipSync(file);
    for (const size of [1, 7, 1 << 20]) assert.equal((await read(compressed, size)).packets.length, 2);
    const twoMembers = Buffer.concat([gzipSync(file.subarray(0, 50)), gzipSync(file.subarray(50))]);
    assert.equal((await read(twoMembers)).packets.length, 2);
  });

  it('that is cut or damaged is an error after what came before', async () => {
    const random = Array.from({ length: 200 }, (_, i) => ({ frame: ipPacket({ payload: `${i}`.repeat(40), seq: i }) }));
    const compressed = gzipSync(pcap(random));
    const cut = await read(compressed.subarray(0, compressed.length - 30));
    assert.match(cut.error!.message, /damaged gzip data \(unexpected end of file\)/);
    assert.ok(cut.packets.length > 0);
    const damaged = Buffer.from(compressed);
    damaged[20] = damaged[20]! ^ 0xff;
    assert.match((await read(damaged)).error!.message, /damaged gzip data/);
  });
});

describe('readCaptureFile: pcapng', () => {
  it('hands over secrets in their place', async () => {
    const { packets, secrets, error } = await readAll(join(data, 'tls12-secrets-in-file.pcapng.gz'));
    assert.equal(error, undefined);
    assert.equal(packets.length, 16);
    assert.equal(secrets.length, 2);
    for (const { text } of secrets) assert.match(text, /^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}\r?\n/m);
    assert.ok(secrets[0]!.after < secrets[1]!.after && secrets[1]!.after < packets.length);
  });

  it('says where a file is broken, at any cut and for any damage', async () => {
    const blocks = new PcapngBlocks(false);
    const file = Buffer.concat([
      blocks.sectionHeader([[4, 'what wrote it']]),
      blocks.interfaceDescription({ linkType: LINK_RAW, options: [[2, 'eth0']] }),
      ...[1n, 2n, 3n, 4n].map((time) => blocks.enhancedPacket({ time, bytes: packet, options: [[1, 'a comment']] })),
    ]);
    for (let length = 0; length < file.length; length += 3) {
      const { error, packets } = await read(file.subarray(0, length));
      if (error === undefined) assert.ok(packets.length < 5);
      else assert.match(error.message, /at byte \d+: /);
    }
    for (let i = 0; i < file.length; i++) {
      const damaged = Buffer.from(file);
      damaged[i] = damaged[i]! ^ 0xa5;
      const { error } = await read(damaged);
      if (error !== undefined) assert.match(error.message, /at byte \d+: /);
    }
  });

  it('refuses a block beyond the limit', async () => {
    const file = gunzipSync(readFileSync(join(data, 'tls12-secrets-in-file.pcapng.gz')));
    const { error } = await readAll(inParts(file, 1000), { maxBlockBytes: 200 });
    assert.match(error!.message, /at byte \d+: a block of \d+ bytes is beyond the limit of 200/);
  });
});

describe('recordings through the flow table', () => {
  it('finds the one segment that a capture lost', async () => {
    const path = join(data, 'http-1000-requests-one-lost-segment.pcap.gz');
    const flows = new FlowHarness();
    for (const packetRecord of (await readAll(path)).packets) flows.packet(packetRecord);
    flows.table.closeAll('shutdown', 0);
    assert.equal(flows.counters.packets.captured, 4007);
    assert.equal(flows.layers.length, 1);
    assert.equal(flows.counters.reassembly.gap, 1);
    assert.ok(flows.layer.gaps[1] > 0 && flows.layer.gaps[1] < 1500);
    assert.equal(flows.layer.bytes(0).toString('latin1').match(/^GET /gm)?.length, 1000);
    assert.equal(
      flows.layer
        .bytes(1)
        .toString('latin1')
        .match(/HTTP\/1\.[01] /g)?.length,
      999,
    );
  });

  it('reads loopback link types', async () => {
    for (const [file, connections] of [
      ['http2-continuation.pcap.gz', 1],
      ['grpc-server-streaming.pcapng.gz', 1],
    ] as const) {
      const flows = new FlowHarness();
      for (const packetRecord of (await readAll(join(data, file))).packets) flows.packet(packetRecord);
      flows.table.closeAll('shutdown', 0);
      assert.equal(flows.layers.length, connections, file);
      assert.equal(flows.layer.connection.startSeen, true);
      assert.match(flows.layer.bytes(0).toString('latin1'), /^PRI \* HTTP\/2\.0/);
      assert.equal(flows.counters.reassembly.gap, undefined);
    }
  });
});
