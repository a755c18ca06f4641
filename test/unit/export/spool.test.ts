import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { Spool, type SpooledBatch } from '../../../src/export/spool.ts';
import { HEADER_BYTES } from '../../../src/export/spool-segment.ts';
import { Log } from '../../../src/telemetry/log.ts';

const MIB = 1024 * 1024;

describe('spool', () => {
  let folder: string;
  let lost: Record<string, number>;
  let lines: string[];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'wirespan-spool-'));
    lost = {};
    lines = [];
  });

  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function open(maxBytes = 64 * MIB, where = folder): Spool {
    return new Spool({
      folder: where,
      maxBytes,
      log: new Log({ level: 'debug', format: 'text', write: (line) => lines.push(line) }),
      onLost: (reason, spans) => {
        lost[reason] = (lost[reason] ?? 0) + spans;
      },
    });
  }

  function store(spool: Spool, payload: Buffer, spans = 1): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!spool.store({ payload, spans, byteLength: payload.length }, resolve)) reject(new Error('refused'));
    });
  }

  async function takeAll(spool: Spool): Promise<SpooledBatch[]> {
    const taken: SpooledBatch[] = [];
    for (let batch = await spool.take(); batch !== undefined; batch = await spool.take()) taken.push(batch);
    return taken;
  }

  const texts = (batches: SpooledBatch[]): string[] => batches.map(({ payload }) => String(payload));
  const files = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.spool'));

  it('gives back what it took, the oldest first, and leaves nothing behind', async () => {
    const spool = open();
    for (const text of ['one', 'two', 'three']) await store(spool, Buffer.from(text), 5);
    assert.equal(spool.spans, 15);
    const taken = await takeAll(spool);
    assert.deepEqual(texts(taken), ['one', 'two', 'three']);
    assert.deepEqual(
      taken.map(({ spans, byteLength }) => [spans, byteLength]),
      [
        [5, 3],
        [5, 3],
        [5, 5],
      ],
    );
    for (const { record } of taken) spool.acknowledge(record);
    assert.equal(spool.spans, 0);
    await spool.close(1000);
    assert.deepEqual(readdirSync(folder), []);
    assert.deepEqual(lost, {});
  });

  it('writes files that only their owner can read', async () => {
    const below = join(folder, 'a', 'b');
    const spool = open(64 * MIB, below);
    await store(spool, Buffer.from('x'));
    assert.equal(statSync(below).mode & 0o777, 0o700);
    for (const name of readdirSync(below)) assert.equal(statSync(join(below, name)).mode & 0o777, 0o600, name);
    await spool.close(1000);
  });

  it('goes on with what an earlier process left, without what was delivered', async () => {
    const first = open();
    for (const text of ['one', 'two', 'three', 'four']) await store(first, Buffer.from(text), 2);
    const [, two] = await takeAll(first);
    first.acknowledge(two!.record);
    await first.close(1000);
    const second = open();
    assert.equal(second.recovered, 6);
    assert.equal(second.damagedBytes, 0);
    await store(second, Buffer.from('five'), 2);
    const taken = await takeAll(second);
    assert.deepEqual(texts(taken), ['one', 'three', 'four', 'five']);
    for (const { record } of taken) second.acknowledge(record);
    await second.close(1000);
    assert.deepEqual(files(), []);
    assert.equal(open().recovered, 0);
  });

  it('recognises what was not wholly written, wherever the write was torn', async () => {
    const spool = open();
    const payloads = ['first record', 'second', 'the third one'].map((text) => Buffer.from(text));
    for (const payload of payloads) await store(spool, payload);
    await spool.close(1000);
    const [name] = files();
    const whole = readFileSync(join(folder, name!));
    const ends = payloads.map((_, i) =>
      payloads.slice(0, i + 1).reduce((sum, payload) => sum + HEADER_BYTES + payload.length, 0),
    );
    assert.equal(whole.length, ends[2]);
    for (let length = 0; length <= whole.length; length++) {
      writeFileSync(join(folder, name!), whole.subarray(0, length), { mode: 0o600 });
      const torn = open();
      const expected = ends.filter((end) => end <= length).length;
      assert.equal(torn.recovered, expected, `cut at ${length}`);
      assert.equal(torn.damagedBytes, length - (ends[expected - 1] ?? 0), `cut at ${length}`);
      assert.deepEqual(texts(await takeAll(torn)), payloads.slice(0, expected).map(String));
      await torn.close(1000);
      rmSync(join(folder, name!), { force: true });
    }
    assert.deepEqual(lost, {});
  });

  it('never gives back what is not what it took, whatever befalls the file', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { minLength: 1, maxLength: 6 }),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        async (payloads, changes) => {
          lost = {};
          const spool = open();
          for (const payload of payloads) await store(spool, Buffer.from(payload), 3);
          await spool.close(1000);
          const path = join(folder, files()[0]!);
          const bytes = readFileSync(path);
          for (const [at, value] of changes) bytes[at % bytes.length] = value;
          writeFileSync(path, bytes);
          const damaged = open();
          const { recovered } = damaged;
          const taken = await takeAll(damaged);
          const known = new Set(payloads.map((payload) => Buffer.from(payload).toString('hex')));
          for (const { payload, spans } of taken) {
            assert.ok(known.has((payload as Buffer).toString('hex')));
            assert.equal(spans, 3);
          }
          assert.equal(recovered, 3 * taken.length + (lost.spool_damaged ?? 0));
          for (const { record } of taken) damaged.acknowledge(record);
          await damaged.close(1000);
          assert.deepEqual(files(), []);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keeps within its bytes: the oldest file goes, and its spans are counted', async () => {
    const spool = open(4 * MIB);
    const payload = Buffer.alloc(300_000, 'x');
    for (let i = 0; i < 40; i++) {
      await store(spool, payload, 10);
      assert.ok(spool.bytes <= 4 * MIB);
      assert.ok(files().reduce((sum, name) => sum + statSync(join(folder, name)).size, 0) <= 5 * MIB);
    }
    assert.equal(spool.spans + lost.spool_full!, 400);
    assert.ok(spool.spans >= 90, String(spool.spans));
    const taken = await takeAll(spool);
    assert.equal(10 * taken.length, spool.spans);
    await spool.close(1000);
  });

  it('counts once what is in memory while its file makes room', async () => {
    const spool = open(4 * MIB);
    const payload = Buffer.alloc(900_000, 'x');
    await store(spool, payload, 10);
    const taken = await spool.take();
    for (let i = 0; i < 12; i++) await store(spool, payload, 10);
    spool.acknowledge(taken!.record);
    assert.equal(spool.spans + (lost.spool_full ?? 0), 120);
    await spool.close(1000);
  });

  it('takes no more than a bound of bytes that wait for the disk', async () => {
    const spool = open(256 * MIB);
    const payload = Buffer.alloc(3 * MIB);
    let taken = 0;
    while (spool.store({ payload, spans: 1, byteLength: payload.length }, () => {})) taken++;
    assert.equal(taken, 5);
    await spool.close(5000);
    assert.equal(open(256 * MIB).recovered, 5);
  });

  it('counts what a disk refuses, rests, and goes on reading', async () => {
    if (!existsSync('/dev/full')) return;
    const spool = open();
    await store(spool, Buffer.from('one'));
    const [name] = files();
    const taken = await spool.take();
    assert.equal(String(taken!.payload), 'one');
    spool.acknowledge(taken!.record);
    assert.equal(name, '00000001.spool');
    // The next file is there already, and is not one of ours: it is not written to.
    symlinkSync('/etc/hostname', join(folder, '00000002.spool'));
    await store(spool, Buffer.from('two'), 7);
    assert.deepEqual(lost, { spool_failed: 7 });
    assert.equal(
      spool.store({ payload: Buffer.from('three'), spans: 1, byteLength: 5 }, () => {}),
      false,
    );
    assert.match(lines.join(''), /the spool cannot be written to; spans were dropped .*EEXIST/);
    await spool.close(1000);
  });

  it('is for one process at a time, and not held by one that has ended', async () => {
    const spool = open();
    assert.throws(() => open(), new RegExp(`process ${process.pid} uses it: each agent needs a folder of its own`));
    await spool.close(1000);
    // The same id, of a process that began at another time.
    writeFileSync(join(folder, 'lock'), `${process.pid} 1`);
    await open().close(1000);
    writeFileSync(join(folder, 'lock'), '');
    await open().close(1000);
    assert.deepEqual(readdirSync(folder), []);
  });

  it('ends at the deadline, and counts what was not written', async () => {
    const spool = open();
    assert.ok(spool.store({ payload: Buffer.alloc(MIB), spans: 4, byteLength: MIB }, () => {}));
    await spool.close(0);
    assert.ok(lost.deadline === 4 || open().recovered === 4);
  });

  it('says why a folder cannot be used', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    assert.throws(() => open(MIB, file), /EEXIST|ENOTDIR/);
    chmodSync(file, 0o600);
  });

  it('takes nothing for its own that others could have put there', async () => {
    const first = open();
    await store(first, Buffer.from('true'), 3);
    await first.close(5000);
    const own = readFileSync(join(folder, '00000001.spool'));
    const elsewhere = join(mkdtempSync(join(tmpdir(), 'wirespan-elsewhere-')), 'x');
    writeFileSync(elsewhere, own, { mode: 0o600 });
    symlinkSync(elsewhere, join(folder, '00000002.spool'));
    linkSync(elsewhere, join(folder, '00000003.spool'));
    writeFileSync(join(folder, '00000004.spool'), own);
    chmodSync(join(folder, '00000004.spool'), 0o666);
    mkdirSync(join(folder, '00000005.spool'));
    writeFileSync(join(folder, '99999999.spool'), own);
    chmodSync(join(folder, '99999999.spool'), 0o666);
    symlinkSync(elsewhere, join(folder, 'lock'));
    const spool = open();
    assert.equal(spool.recovered, 3);
    assert.equal(lines.filter((line) => line.includes('is not the agent’s own')).length, 5);
    await store(spool, Buffer.from('more'));
    assert.ok(files().includes('00000006.spool'));
    await spool.close(5000);
    assert.deepEqual(readFileSync(elsewhere), own, 'what a link leads to is as it was');
  });

  it('passes over files that are none of its own', async () => {
    for (const name of ['x.spool', '1.spool', 'README', '00000000.spool']) writeFileSync(join(folder, name), 'x');
    appendFileSync(join(folder, '00000007.spool'), 'garbage');
    const spool = open();
    assert.equal(spool.recovered, 0);
    assert.equal(spool.damagedBytes, 7);
    await store(spool, Buffer.from('one'));
    assert.ok(files().includes('00000008.spool'));
    truncateSync(join(folder, 'x.spool'), 0);
    await spool.close(1000);
  });
});
