import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { constants, gunzipSync, gzipSync } from 'node:zlib';
import { decompressed } from '../../../src/capture/gzip.ts';
import { inParts } from '../../support/wire/captures.ts';

interface Outcome {
  bytes: Buffer;
  trailing: number;
  error: Error | undefined;
}

async function read(input: Buffer, partSize: number): Promise<Outcome> {
  const parts: Buffer[] = [];
  let trailing = 0;
  // What is lent is taken back.
  const borrowed = Buffer.alloc(partSize);
  async function* source(): AsyncIterable<Buffer> {
    for await (const part of inParts(input, partSize)) {
      part.copy(borrowed);
      yield borrowed.subarray(0, part.length);
      borrowed.fill(0x21);
    }
  }
  let error: Error | undefined;
  try {
    for await (const part of decompressed(source(), () => trailing++)) parts.push(Buffer.from(part));
  } catch (thrown) {
    error = thrown as Error;
  }
  return { bytes: Buffer.concat(parts), trailing, error };
}

const SIZES = [1, 3, 1000, 1 << 20];
const REPEATED = 'all work and no play ';
/** More than one piece of output, and a little for single bytes, each of which is a turn of the event loop. */
const long = Buffer.concat([randomBytes(3000), Buffer.alloc(700_000, REPEATED), randomBytes(3000)]);
const short = Buffer.concat([randomBytes(60), Buffer.alloc(7000, REPEATED), randomBytes(60)]);
const textFor = (size: number): Buffer => (size < 1000 ? short : long);
const other = Buffer.from('the second member');

test('bytes behind the last member are passed over, told once, and cost nothing that came before', async () => {
  const tails = ['x', 'garbage\n', '\x1f\x8b', '\x1f\x00', '\x1f\x8b\x07', 'x'.repeat(100_000), '{"a":1}'];
  for (const tail of tails) {
    for (const size of SIZES) {
      if (size === 1 && tail.length > 1000) continue;
      const text = textFor(size);
      const two = Buffer.concat([gzipSync(text), gzipSync(other)]);
      const { bytes, trailing, error } = await read(Buffer.concat([two, Buffer.from(tail, 'latin1')]), size);
      assert.ok(bytes.equals(Buffer.concat([text, other])), `${JSON.stringify(tail.slice(0, 10))} ${size}`);
      // The beginning of one more member is a member that is cut.
      const isCut = tail === '\x1f\x8b';
      assert.deepEqual([trailing, error?.message], isCut ? [0, 'unexpected end of file'] : [1, undefined]);
    }
  }
});

test('zeros behind the last member, as tapes and block devices leave them, are nothing', async () => {
  for (const size of SIZES) {
    const { bytes, trailing, error } = await read(Buffer.concat([gzipSync(other), Buffer.alloc(513)]), size);
    assert.deepEqual([bytes, trailing, error], [other, 0, undefined]);
  }
});

test('members that are cut deliver all that can be read of them, then fail', async () => {
  for (const size of SIZES) {
    const first = gzipSync(textFor(size));
    const whole = Buffer.concat([first, gzipSync(other)]);
    const cuts = [
      20,
      100,
      1000,
      first.length - 9,
      first.length - 1,
      first.length + 1,
      first.length + 5,
      whole.length - 1,
    ];
    for (const cut of cuts.filter((each) => each < whole.length)) {
      const input = whole.subarray(0, cut);
      const expected = gunzipSync(input, { finishFlush: constants.Z_SYNC_FLUSH });
      const { bytes, trailing, error } = await read(input, size);
      assert.ok(bytes.equals(expected), `${cut} ${size}: ${bytes.length} of ${expected.length}`);
      assert.deepEqual([trailing, error?.message], [0, 'unexpected end of file']);
    }
  }
});

test('a member whose checksum is wrong is read, then an error', async () => {
  const first = gzipSync(long);
  const damaged = Buffer.concat([first, gzipSync(other)]);
  damaged[first.length - 6]! ^= 1; // its checksum
  const { bytes, error } = await read(damaged, 1000);
  assert.ok(bytes.equals(long));
  assert.equal(error?.message, 'incorrect data check');
});

test('what is not compressed passes as it is', async () => {
  for (const input of [Buffer.alloc(0), Buffer.from('x'), Buffer.from('\x1f'), Buffer.from('plain\n'.repeat(1000))])
    for (const size of SIZES) assert.deepEqual((await read(input, size)).bytes, input);
});
