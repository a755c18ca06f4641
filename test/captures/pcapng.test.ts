/** Files of every kind of PcapNG block, in both byte orders: what we read of them, and what tshark does. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { readCaptureFile } from '../../src/capture/file.ts';
import { type FileHandler, PcapngReader } from '../../src/pcapng/reader.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';
import { type Frame, LINK_ETHERNET, PcapngBlocks, pcapFile } from '../support/wire/capture-files.ts';
import { inParts, readAll } from '../support/wire/captures.ts';
import { tsharkFields } from '../support/wire/tshark.ts';
import { PCAPNG_CASES, type PcapngCase } from './pcapng-cases.ts';
import { PACKETS } from './pcapng-parts.ts';

const little = new PcapngBlocks(false);
const big = new PcapngBlocks(true);
const ORDERS = { 'little-endian': [little, big], 'big-endian': [big, little] } as const;

/** Link types by Wireshark's own numbers (wiretap/wtap.h). */
const WIRESHARK_LINK_TYPES: Record<string, number> = { '1': 1, '15': 0, '45': 147 };

function fileOf({ blocks }: PcapngCase, order: keyof typeof ORDERS): Buffer {
  return Buffer.concat(blocks(...ORDERS[order]));
}

function nameOf(bytes: Buffer): string {
  const found = Object.entries(PACKETS).find(([, packet]) => packet.subarray(0, bytes.length).equals(bytes));
  return found?.[0] ?? `${bytes.toString('hex')}`;
}

/** Every frame of a file, in the form of the cases. */
function framesOf(file: Buffer): string[] {
  const list: string[] = [];
  const handler: FileHandler = {
    frame: (linkType, timeUs, bytes, start, end, original) => {
      const name = nameOf(bytes.subarray(start, end));
      list.push(`${linkType} ${timeText(timeUs)} ${name} ${end - start}/${original}`);
    },
    secrets: () => undefined,
  };
  assert.equal(new PcapngReader(2 ** 20).read(file, 0, handler), file.length);
  return list;
}

/** The same without names, as tshark has it. */
async function framesOfTshark(path: string): Promise<string[]> {
  const fields = ['frame.encap_type', 'frame.time_epoch', 'frame.cap_len', 'frame.len'] as const;
  // Custom blocks are frames to it, too, of no link type.
  const packets = await tsharkFields(path, 'frame.encap_type', fields);
  return packets.map((packet) => {
    const [link, time, captured, length] = fields.map((field) => packet[field][0]);
    return `${WIRESHARK_LINK_TYPES[link!]} ${microseconds(time)} ${captured}/${length}`;
  });
}

/** @param time seconds with nine digits behind the point */
function microseconds(time: string | undefined): string {
  const [seconds, fraction = ''] = time?.split('.') ?? [];
  return timeText(Number(seconds) * 1e6 + Number(fraction.padEnd(9, '0')) / 1000);
}

/** Microseconds since 1970, quarters of them included: a double holds no less. */
function timeText(timeUs: number): string {
  return Number.isNaN(timeUs)
    ? '-'
    : timeUs
        .toFixed(2)
        .replace(/(\.\d*?)0+$/, '$1')
        .replace(/\.$/, '');
}

describe('PcapNG files of every kind', () => {
  for (const each of PCAPNG_CASES) {
    for (const order of Object.keys(ORDERS) as (keyof typeof ORDERS)[]) {
      it(`${each.name}, ${order}`, async () => {
        const { frames = [], ignored = {}, secrets = [] } = each;
        const file = fileOf(each, order);
        assert.deepEqual(framesOf(file), frames);
        const read = await readAll(inParts(file, file.length));
        assert.equal(read.error, undefined);
        assert.deepEqual(read.result, { format: 'pcapng', packets: frames.length, ignored, bytes: file.length });
        assert.deepEqual(
          read.secrets.map(({ text, after }) => `${after} ${text}`),
          secrets,
        );
        const notIp = Object.values(ignored).reduce((sum, n) => sum + n, 0);
        assert.equal(read.packets.length + notIp, frames.length);
        assert.deepEqual(await readAll(inParts(file, 1)), read);
      });
    }
  }

  for (const order of Object.keys(ORDERS) as (keyof typeof ORDERS)[]) {
    it(`tshark reads the same, ${order}`, async (t) => {
      const folder = await cleanupAfter(t).temporaryFolder();
      // Files one after the other are the sections of one file (3.2).
      const path = join(folder, 'all.pcapng');
      await writeFile(path, Buffer.concat(PCAPNG_CASES.map((each) => fileOf(each, order))));
      const expected = PCAPNG_CASES.flatMap(({ frames = [] }) => frames).map((line) => line.replace(/ [A-Z] /, ' '));
      assert.deepEqual(await framesOfTshark(path), expected);
    });

    it(`capinfos counts the same in each, ${order}`, async (t) => {
      const folder = await cleanupAfter(t).temporaryFolder();
      const paths = PCAPNG_CASES.map((_, i) => join(folder, `${i}.pcapng`));
      for (const [i, each] of PCAPNG_CASES.entries()) await writeFile(paths[i]!, fileOf(each, order));
      const { stdout } = await run('capinfos', ['-T', '-r', '-m', '-c', ...paths]);
      const lines = PCAPNG_CASES.map(({ frames = [] }, i) => `${paths[i]},${frames.length}`);
      assert.deepEqual(stdout.trim().split('\n'), lines);
    });
  }

  it('what editcap makes of a pcap file holds the same packets', async (t) => {
    const folder = await cleanupAfter(t).temporaryFolder();
    const frames = [PACKETS.A, PACKETS.B, PACKETS.C].map((bytes, i): Frame => ({ timeUs: 1.6e15 + i, bytes }));
    await writeFile(join(folder, 'a.pcap'), pcapFile(frames, LINK_ETHERNET));
    await run('editcap', ['-F', 'pcapng', join(folder, 'a.pcap'), join(folder, 'a.pcapng')]);
    const [pcap, pcapng] = await Promise.all(['a.pcap', 'a.pcapng'].map((name) => readAll(join(folder, name))));
    assert.equal(pcap!.packets.length, 3);
    assert.equal(pcapng!.result?.format, 'pcapng');
    assert.deepEqual(pcapng!.packets, pcap!.packets);
  });

  it('an empty pcap file is read', async () => {
    const file = pcapFile([], LINK_ETHERNET);
    const result = await readCaptureFile(inParts(file, file.length), assert.fail, {
      onSecrets: () => assert.fail('no secrets here'),
    });
    assert.deepEqual(result, { format: 'pcap', packets: 0, ignored: {}, bytes: 24 });
  });
});
