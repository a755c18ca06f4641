import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { readCaptureFile } from '../../src/capture/file.ts';
import { type FileHandler, PcapngReader } from '../../src/pcapng/reader.ts';
import { inParts, readAll } from '../support/captures.ts';

const directory = join(import.meta.dirname, 'data', 'pcapng_suite');
const files = readdirSync(directory).filter((file) => file.endsWith('.pcapng'));

/** Packet blocks that the text beside a file announces. */
function announced(file: string): number {
  const text = readFileSync(join(directory, file.replace('.pcapng', '.txt')), 'utf8');
  return [...text.matchAll(/^\t(EPB|SPB|PB): (\d+)/gm)].reduce((sum, match) => sum + Number(match[2]), 0);
}

/** A digest of every frame: the same for both byte orders. */
function frames(file: string): string[] {
  const list: string[] = [];
  const handler: FileHandler = {
    frame: (linkType, timeUs, bytes, start, end, originalLength) =>
      list.push(`${linkType} ${timeUs} ${originalLength} ${bytes.toString('hex', start, end)}`),
    secrets: () => assert.fail('no secrets here'),
  };
  const bytes = readFileSync(join(directory, file));
  assert.equal(new PcapngReader(2 ** 20).read(bytes, 0, handler), bytes.length);
  return list;
}

describe('the PcapNG conformance files', () => {
  it('are all there', () => assert.equal(files.length, 48));

  for (const file of files) {
    it(`${file} is read whole`, async () => {
      const path = join(directory, file);
      const read = await readAll(path);
      assert.equal(read.error, undefined);
      assert.equal(read.result?.packets, announced(file));
      const ignored = Object.values(read.result.ignored).reduce((sum, n) => sum + n, 0);
      assert.equal(read.packets.length + ignored, announced(file));
      assert.equal(read.result.bytes, readFileSync(path).length);
      const byteByByte = await readAll(inParts(readFileSync(path), 1));
      assert.deepEqual(byteByByte, read);
    });
  }

  for (const file of files.filter((name) => name.startsWith('output_be'))) {
    it(`${file} holds the same in both byte orders`, () => {
      assert.deepEqual(frames(file.replace('_be_', '_le_')), frames(file));
    });
  }

  it('an empty pcap file is read', async () => {
    const result = await readCaptureFile(join(directory, 'empty.pcap'), assert.fail, {
      onSecrets: () => assert.fail('no secrets here'),
    });
    assert.deepEqual(result, { format: 'pcap', packets: 0, ignored: {}, bytes: 24 });
  });
});
