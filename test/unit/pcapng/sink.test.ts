import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { DIRECTION_EGRESS, DIRECTION_INGRESS, type PacketRecord } from '../../../src/capture/records.ts';
import { defaultLimits, type Limits } from '../../../src/config/limits.ts';
import type { Connection } from '../../../src/flow/connection.ts';
import { BLOCK_DECRYPTION_SECRETS, BLOCK_ENHANCED_PACKET } from '../../../src/pcapng/blocks.ts';
import { openPcapng } from '../../../src/pcapng/file.ts';
import { PcapngSink } from '../../../src/pcapng/sink.ts';
import { identityClock } from '../../../src/telemetry/clock.ts';
import { Log } from '../../../src/telemetry/log.ts';
import { inParts, type ReadFile, readAll } from '../../support/wire/captures.ts';
import { FlowHarness } from '../../support/wire/flows.ts';
import { packetRecord } from '../../support/wire/packets.ts';

const directory = mkdtempSync(join(tmpdir(), 'pcapng-'));
after(() => rmSync(directory, { recursive: true }));

const data = join(import.meta.dirname, '..', '..', 'captures', 'data');
const NOW_US = 1_700_000_000_000_000;

class Harness {
  readonly written: Buffer[] = [];
  behind = false;
  readonly sink: PcapngSink;

  constructor(limits: Partial<Limits> = {}) {
    this.sink = new PcapngSink({
      write: (bytes) => this.written.push(bytes),
      limits: { ...defaultLimits, ...limits },
      clock: identityClock,
      isBehind: () => this.behind,
    });
  }

  /** A packet that can be told by its sequence number. */
  packet(seq: number, timeUs: number, connection?: Connection): void {
    this.sink.packet(packetRecord({ seq, timeUs: NOW_US + timeUs, payload: 'x' }), connection);
  }

  get file(): Buffer {
    return Buffer.concat(this.written);
  }

  async read(): Promise<ReadFile> {
    const read = await readAll(inParts(this.file, 1 << 20));
    assert.equal(read.error, undefined);
    return read;
  }

  /** Sequence numbers of the packets, `secret` for blocks of secrets, in the order of the file. */
  async order(): Promise<(number | string)[]> {
    const { packets, secrets } = await this.read();
    const list: (number | string)[] = packets.map(({ bytes }) => bytes.readUInt32BE(24));
    for (const { text, after: index } of secrets.toReversed()) list.splice(index, 0, text.trim());
    return list;
  }
}

function connection(awaitingSecret = false): Connection {
  return {
    id: 1,
    client: { address: '10.0.0.1', port: 1, socket: 0 },
    server: { address: '10.0.0.2', port: 2, socket: 0 },
    startSeen: true,
    initialSequence: [0, 0],
    startUs: 0,
    tls: undefined,
    awaitingSecret,
    spanState: undefined,
  };
}

/** One column per field, one row per frame, as tshark reads the file. */
function tshark(file: string, fields: string[], filter = ''): string[][] {
  const args = ['-n', '-r', file, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])];
  if (filter !== '') args.push('-Y', filter);
  const out = execFileSync('tshark', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t'));
}

describe('PcapngSink', () => {
  it('writes packets in the order of their time, within its window', async () => {
    const harness = new Harness({ pcapngReorderUs: 100 });
    for (const [seq, timeUs] of [
      [1, 0],
      [3, 60],
      [2, 50],
      [4, 60],
      [6, 500],
      [5, 450],
      [7, 10],
    ] as const) {
      harness.packet(seq, timeUs);
    }
    harness.sink.finish(0);
    assert.deepEqual(await harness.order(), [1, 2, 3, 4, 7, 5, 6]);
    assert.equal(harness.sink.written, 7);
  });

  it('gives what is due to the writer at each tick', async () => {
    const harness = new Harness({ pcapngReorderUs: 100 });
    harness.packet(1, 0);
    harness.sink.tick(NOW_US + 99);
    assert.deepEqual(await harness.order(), []);
    harness.sink.tick(NOW_US + 100);
    assert.deepEqual(await harness.order(), [1]);
  });

  it('makes only the connection that lacks its secret wait', async () => {
    const harness = new Harness({ pcapngReorderUs: 0 });
    const waiting = connection();
    harness.packet(1, 0, waiting);
    waiting.awaitingSecret = true;
    harness.packet(2, 10, waiting);
    harness.packet(3, 20, connection());
    harness.packet(4, 30, waiting);
    harness.sink.secrets(waiting, 'CLIENT_RANDOM 00 11');
    waiting.awaitingSecret = false;
    harness.packet(5, 40, waiting);
    harness.sink.finish(0);
    assert.deepEqual(await harness.order(), [1, 3, 'CLIENT_RANDOM 00 11', 2, 4, 5]);
  });

  it('puts a secret ahead of packets that only wait to be put in order', async () => {
    const harness = new Harness({ pcapngReorderUs: 1000 });
    harness.packet(1, 0);
    harness.sink.secrets(connection(), 'X 1 2\n');
    harness.sink.finish(0);
    assert.deepEqual(await harness.order(), ['X 1 2', 1]);
  });

  it('does not wait for ever', async () => {
    const harness = new Harness({ pcapngReorderUs: 0, pcapngPendingUs: 1000 });
    const waiting = connection(true);
    harness.packet(1, 0, waiting);
    harness.sink.tick(NOW_US + 999);
    assert.deepEqual(await harness.order(), []);
    harness.sink.tick(NOW_US + 1000);
    assert.deepEqual(await harness.order(), [1]);
    harness.packet(2, 1100, waiting);
    harness.sink.finish(0);
    assert.deepEqual(await harness.order(), [1, 2]);
  });

  it('does not wait with more than it may hold', async () => {
    const harness = new Harness({ pcapngReorderUs: 0, pcapngPendingBytes: 1000 });
    for (let i = 0; i < 100; i++) harness.packet(i, i, connection(true));
    harness.sink.tick(NOW_US + 100);
    const early = (await harness.order()).length;
    assert.ok(early > 80 && early < 100, `${early}`);
    harness.sink.finish(0);
    assert.equal((await harness.order()).length, 100);
  });

  it('holds no more than it may, also of packets of one time', async () => {
    const harness = new Harness({ pcapngPendingBytes: 10_000 });
    for (let seq = 1; seq <= 1000; seq++) harness.packet(seq, 0);
    assert.ok(harness.sink.written > 850, `${harness.sink.written} were written`);
    harness.packet(1001, -1);
    harness.sink.finish(0);
    const order = await harness.order();
    assert.equal(order.length, 1001);
    assert.deepEqual(
      order.slice(0, 800),
      order.slice(0, 800).toSorted((a, b) => Number(a) - Number(b)),
    );
  });

  it('drops what the writer cannot take, and says so at the end', async () => {
    const harness = new Harness();
    harness.packet(1, 0);
    harness.behind = true;
    harness.packet(2, 1);
    harness.behind = false;
    harness.sink.finish(7);
    assert.deepEqual(harness.sink.dropped, { writer_behind: 1 });
    const path = join(directory, 'dropped.pcapng');
    writeFileSync(path, harness.file);
    const [row] = tshark(path, ['frame.number']);
    assert.deepEqual(row, ['1']);
    const info = execFileSync('tshark', ['-r', path, '-q', '-z', 'io,stat,0'], { encoding: 'utf8' });
    assert.match(info, /1/);
    assert.ok(harness.file.includes('not written: 1 writer_behind'));
    // isb_ifrecv 9, isb_ifdrop 8.
    assert.ok(harness.file.includes(Buffer.from('0400080009000000000000000500080008000000', 'hex')));
  });

  it('stays off once it is off', () => {
    const harness = new Harness();
    harness.packet(1, 0);
    harness.packet(2, 0, connection(true));
    harness.sink.turnOff();
    harness.packet(3, 0);
    harness.sink.secrets(connection(), 'X');
    harness.sink.tick(NOW_US * 2);
    harness.sink.finish(0);
    assert.deepEqual(harness.sink.dropped, { off: 3 });
    assert.equal(harness.written.length, 0);
  });

  it('cuts what is larger than a packet can be, as the network would', async () => {
    const payload = Buffer.alloc(150_000, 'abcdefghijk');
    for (const [from, to] of [
      ['10.0.0.1', '10.0.0.2'],
      ['fe80::1', 'fe80::2'],
    ] as const) {
      const base = { from, to, cookie: 5, direction: DIRECTION_EGRESS, ipLength: 0, timeUs: NOW_US } as const;
      const harness = new Harness();
      const flows = new FlowHarness();
      // One record of 150,000 bytes, then a packet in two pieces.
      const whole = packetRecord({ ...base, seq: 1000, ack: 1, flags: 'F', payload });
      const pieceOne = packetRecord({ ...base, seq: 2000, ack: 1, payload: payload.subarray(0, 70_000) });
      const pieceTwo = packetRecord({
        ...base,
        seq: 2000,
        ack: 1,
        payload: payload.subarray(0, 30_000),
        payloadSkip: 70_000,
      });
      for (const record of [whole, pieceOne, pieceTwo]) harness.sink.packet(record, undefined);
      harness.sink.finish(0);
      const { packets } = await harness.read();
      assert.deepEqual(
        packets.map(({ packetLength, end }) => packetLength === end && end <= 65_535),
        Array(6).fill(true),
      );
      for (const record of packets.slice(0, 3)) flows.packet({ ...record, cookie: 0 });
      flows.table.closeAll('shutdown', 0);
      assert.deepEqual(flows.layer.bytes(flows.layer.connection.client.address === from ? 0 : 1), payload);
      const path = join(directory, 'large.pcapng');
      writeFileSync(path, harness.file);
      const rows = tshark(path, ['tcp.seq_raw', 'tcp.len', 'tcp.flags.fin', 'ip.checksum.status', '_ws.malformed']);
      const fins = rows.map((row) => row[2]);
      assert.deepEqual(
        rows.map((row) => [Number(row[0]), Number(row[1])]),
        [
          [1000, 65_000],
          [66_000, 65_000],
          [131_000, 20_000],
          [2000, 65_000],
          [67_000, 5000],
          [72_000, 30_000],
        ],
      );
      assert.deepEqual(fins.map(Number), [0, 0, 1, 0, 0, 0]);
    }
  });

  it('drops the jumbo payload option from what it cuts', async () => {
    const jumbo = { type: 0, bytes: Buffer.from([0, 0, 0xc2, 4, 0, 1, 0x86, 0xa0]) };
    const record = packetRecord({
      from: 'fe80::1',
      to: 'fe80::2',
      cookie: 5,
      direction: DIRECTION_EGRESS,
      ipLength: 0,
      extensionHeaders: [jumbo],
      payload: Buffer.alloc(70_000, 'z'),
      timeUs: NOW_US,
    });
    const harness = new Harness();
    harness.sink.packet(record, undefined);
    harness.sink.finish(0);
    const { packets } = await harness.read();
    assert.deepEqual(
      packets.map(({ bytes }) => [bytes[6], bytes.readUInt16BE(4), bytes.length]),
      [
        [6, 65_020, 65_060],
        [6, 5020, 5060],
      ],
    );
  });
});

describe('the file as tshark reads it', () => {
  it('has the packets, times to the nanosecond, lengths and directions', async () => {
    const harness = new Harness();
    const expected: string[][] = [];
    for (let i = 0; i < 500; i++) {
      const timeUs = NOW_US + i * 137 + (i % 4) * 0.25;
      const direction = i % 2 === 0 ? DIRECTION_EGRESS : DIRECTION_INGRESS;
      const v6 = i % 3 === 0 ? { from: '2001:db8::1', to: '2001:db8::2' } : {};
      harness.sink.packet(
        packetRecord({ ...v6, seq: i, payload: 'p'.repeat(i % 7), timeUs, direction, cookie: 1 }),
        undefined,
      );
      const ns = String(BigInt(NOW_US + i * 137) * 1000n + BigInt((i % 4) * 250));
      const length = (i % 3 === 0 ? 60 : 40) + (i % 7);
      expected.push([`${ns.slice(0, -9)}.${ns.slice(-9)}`, String(length), String(i % 2 === 0 ? 2 : 1), String(i)]);
    }
    harness.sink.finish(0);
    const path = join(directory, 'times.pcapng');
    writeFileSync(path, harness.file);
    assert.deepEqual(
      tshark(path, ['frame.time_epoch', 'frame.len', 'frame.packet_flags_direction', 'tcp.seq_raw']).map((row) => [
        row[0],
        row[1],
        String(Number(row[2])),
        row[3],
      ]),
      expected,
    );
    const { packets } = await harness.read();
    assert.deepEqual(
      packets.map(({ timeUs }) => timeUs),
      Array.from({ length: 500 }, (_, i) => NOW_US + i * 137 + (i % 4) * 0.25),
    );
  });

  it('decrypts with the secrets inside, though they came late', async () => {
    const path = join(data, 'tls12-secrets-in-file.pcapng.gz');
    const { packets, secrets } = await readAll(path);
    const harness = new Harness();
    // Both connections of that file: they lack their secret from the first packet on, and get it at the end.
    const byPort = new Map<number, Connection>();
    const connectionOf = (record: PacketRecord): Connection => {
      const ports = [record.bytes.readUInt16BE(20), record.bytes.readUInt16BE(22)];
      const port = Math.max(...ports);
      const found = byPort.get(port) ?? connection(true);
      byPort.set(port, found);
      return found;
    };
    for (const record of packets) harness.sink.packet(record, connectionOf(record));
    for (const { text } of secrets) harness.sink.secrets(connection(), text);
    for (const found of byPort.values()) found.awaitingSecret = false;
    harness.sink.tick(packets.at(-1)!.timeUs + 1);
    harness.sink.finish(0);
    const copy = join(directory, 'decrypted.pcapng');
    writeFileSync(copy, harness.file);
    const fields = ['http.request.method', 'http.response.code'];
    const exchanges = tshark(copy, fields, 'http').sort();
    assert.deepEqual(exchanges, tshark(path, fields, 'http').sort());
    assert.equal(exchanges.length, 4);
    const types = blockTypes(harness.file);
    assert.ok(types.lastIndexOf(BLOCK_DECRYPTION_SECRETS) < types.indexOf(BLOCK_ENHANCED_PACKET));
  });
});

function blockTypes(file: Buffer): number[] {
  const types: number[] = [];
  for (let at = 0; at < file.length; at += file.readUInt32LE(at + 4)) types.push(file.readUInt32LE(at));
  return types;
}

describe('PcapngFile', () => {
  const lines: string[] = [];
  const log = new Log({ level: 'info', format: 'text', write: (line) => lines.push(line) });
  const options = { limits: defaultLimits, clock: identityClock, log };

  it('writes a file for its owner only', async () => {
    const path = join(directory, 'own.pcapng');
    const file = openPcapng(path, options)!;
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    for (let i = 0; i < 20_000; i++) {
      file.sink.packet(packetRecord({ seq: i, timeUs: NOW_US + i, payload: 'x'.repeat(1000) }), undefined);
      if (i % 500 === 0) await file.ready();
    }
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', onWarning);
    assert.deepEqual(warnings, []);
    await file.finish(3);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const { packets, error } = await readAll(path);
    assert.equal(error, undefined);
    assert.equal(packets.length, 20_000);
    assert.deepEqual(file.sink.dropped, {});
  });

  it('says at once that a file cannot be made', () => {
    assert.throws(
      () => openPcapng(join(directory, 'none', 'x'), options),
      /--pcapng: cannot write .*: there is no such folder/,
    );
    assert.equal(openPcapng(undefined, options), undefined);
  });

  it('turns itself off when the disk is full', async () => {
    lines.length = 0;
    const file = openPcapng('/dev/full', options)!;
    for (let i = 0; i < 10_000; i++) {
      file.sink.packet(packetRecord({ seq: i, timeUs: NOW_US + i * 100, payload: 'x'.repeat(100) }), undefined);
      if (i % 1000 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await file.ready();
    await file.finish(0);
    assert.match(lines.join(''), /cannot be written any more.*the disk is full/);
    assert.ok(file.sink.dropped.off! > 0);
    assert.match(lines.join(''), /packets are missing in the pcapng file/);
  });

  it('is readable though it was never finished', async () => {
    const path = join(directory, 'unfinished.pcapng');
    const file = openPcapng(path, options)!;
    file.sink.packet(packetRecord({ timeUs: NOW_US }), undefined);
    file.sink.tick(NOW_US + 1_000_000);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal((await readAll(path)).packets.length, 1);
    assert.ok(readFileSync(path).length > 0);
    await file.finish(0);
  });
});
