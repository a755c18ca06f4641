import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import { parseSpans } from '../support/otlp/spans.ts';
import { mainCommand } from '../support/programs/paths.ts';

/*
 * The spans of both ends of every capture, as they were when last looked at. A change of the code that is to change no span changes none
 * here. WIRESPAN_UPDATE=1 writes them again: read the difference before you commit it.
 */

const execute = promisify(execFile);
const folder = fileURLToPath(new URL('.', import.meta.url));
const golden = fileURLToPath(new URL('../golden/spans/', import.meta.url));
const captures = ['data', 'faults'].flatMap((name) =>
  readdirSync(join(folder, name))
    .filter((file) => /\.pcap(?:ng)?(?:\.gz)?$/.test(file))
    .sort()
    .map((file) => join(folder, name, file)),
);

/** @returns a line per span, in the order in which they were made */
async function spansOf(capture: string, work: string): Promise<string> {
  const output = join(work, `${basename(capture)}.jsonl`);
  const keyLog = [`${capture}.keylog`, capture.replace(/\.pcap$/, '.keys')].find((file) => existsSync(file));
  const [command, ...words] = [
    ...[...mainCommand(), 'replay', capture, '--perspective', 'both', '--output', `otlp-json=${output}`],
    ...(keyLog === undefined || keyLog === capture ? [] : ['--keylog', keyLog]),
  ];
  await execute(command!, words, { timeout: 120_000 });
  return parseSpans(readFileSync(output, 'utf8'))
    .map((span) => `${JSON.stringify(span)}\n`)
    .join('');
}

describe('golden spans', () => {
  let work = '';
  before(() => {
    work = mkdtempSync(join(tmpdir(), 'wirespan-golden-'));
    mkdirSync(golden, { recursive: true });
  });
  after(() => rmSync(work, { recursive: true }));

  for (const capture of captures) {
    it(`of ${basename(capture)} are the same`, async () => {
      const file = join(golden, `${basename(capture)}.jsonl.gz`);
      const spans = await spansOf(capture, work);
      if (process.env.WIRESPAN_UPDATE === '1') writeFileSync(file, gzipSync(spans, { level: 9 }));
      const expected = gunzipSync(readFileSync(file)).toString();
      const [actualLines, expectedLines] = [spans.split('\n'), expected.split('\n')];
      const at = actualLines.findIndex((line, i) => line !== expectedLines[i]);
      assert.equal(actualLines[at], expectedLines[at], `span ${at + 1} of ${expectedLines.length - 1}`);
      assert.equal(actualLines.length, expectedLines.length);
    });
  }

  it('are of captures that are there', () => {
    const names = captures.map((capture) => `${basename(capture)}.jsonl.gz`);
    assert.deepEqual(readdirSync(golden).sort(), names.sort());
  });
});
