import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readerLimits } from '../../../src/config/limits.ts';
import { WorkBudget } from '../../../src/files/budget.ts';
import { SharedGuard } from '../../../src/files/guard.ts';
import { CappedFile, newTally, openRegular, readFolder, readHead, readLines } from '../../../src/files/read.ts';
import { readMaps } from '../../../src/secrets/discovery.ts';
import { ElfFile } from '../../../src/secrets/elf.ts';
import { programName } from '../../../src/workload/program-name.ts';

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'wirespan-read-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('the head of a file, and what a longer one is counted as', (t) => {
  const path = join(folderOf(t), 'a');
  const tally = newTally();
  for (const [size, expected] of [
    [0, 0],
    [9, 0],
    [10, 0],
    [11, 1],
    [200_000, 2],
  ] as const) {
    writeFileSync(path, Buffer.alloc(size, 'x'));
    assert.equal(readHead(path, 10, tally, 'too_long')?.length, Math.min(size, 10));
    assert.equal(tally.counts.too_long ?? 0, expected);
  }
  assert.equal(readHead(join(path, 'none'), 10, tally, 'too_long'), undefined);
  truncateSync(path, 3_000_000_000);
  const before = process.memoryUsage().external;
  assert.equal(readHead(path, 1 << 20, tally, 'too_long')?.length, 1 << 20);
  assert.ok(process.memoryUsage().external - before < 16 << 20);
});

test('lines, wherever the pieces end; one that is too long is passed over', (t) => {
  const path = join(folderOf(t), 'a');
  const lines = ['', 'a', 'x'.repeat(100), '', 'y'.repeat(64 * 1024 - 1), 'z'.repeat(99), 'last'];
  for (let shift = 0; shift < 130; shift++) {
    const all = ['s'.repeat(shift), ...lines];
    writeFileSync(path, all.join('\n'));
    const tally = newTally();
    const found: string[] = [];
    const caps = { maxBytes: 1 << 20, maxLineBytes: 100 };
    const isRead = readLines(path, caps, tally, 'too_long', (bytes, start, end) => {
      found.push(bytes.toString('latin1', start, end));
      return true;
    });
    assert.ok(isRead);
    // A line that lies in one piece costs nothing, however long.
    const short = (each: readonly string[]): readonly string[] => each.filter((line) => line.length <= 100);
    assert.deepEqual(short(found), short(all), `shifted by ${shift}`);
  }
});

test('a pipe, a device, a folder, a link to one: never opened', (t) => {
  const folder = folderOf(t);
  const tally = newTally();
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  symlinkSync('/dev/zero', join(folder, 'link'));
  for (const path of [join(folder, 'pipe'), '/dev/zero', '/dev/tty', folder, join(folder, 'link')]) {
    assert.equal(openRegular(path, tally), undefined, path);
  }
  assert.equal(tally.counts.not_a_regular_file, 5);
  assert.equal(openRegular(join(folder, 'none'), tally), undefined);
  const fd = openRegular(process.execPath, tally);
  assert.ok(fd !== undefined);
  closeSync(fd);
});

test('an ELF file that says it is endless is read no further than its cap', (t) => {
  const path = join(folderOf(t), 'a');
  const header = Buffer.alloc(8192);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  header.writeUInt16LE(3, 16);
  header.writeUInt16LE(62, 18);
  header.writeBigUInt64LE(64n, 32);
  header.writeBigUInt64LE(4096n, 40);
  for (const [size, count, at] of [
    [56, 1, 54],
    [64, 3, 58],
  ] as const) {
    header.writeUInt16LE(size, at);
    header.writeUInt16LE(count, at + 2);
  }
  const section = (index: number, type: number, link: number, offset: bigint, bytes: bigint): void => {
    const start = 4096 + index * 64;
    header.writeUInt32LE(type, start + 4);
    header.writeBigUInt64LE(offset, start + 24);
    header.writeBigUInt64LE(bytes, start + 32);
    header.writeUInt32LE(link, start + 40);
  };
  section(1, 2, 2, 1n << 20n, 1n << 60n);
  section(2, 3, 0, 1n << 30n, 1n << 60n);
  writeFileSync(path, header);
  truncateSync(path, 2 ** 40);
  const fd = openSync(path, 'r');
  t.after(() => closeSync(fd));
  const tally = newTally();
  const file = new CappedFile(fd, { bytes: 8 << 20, ms: 60_000 }, tally);
  assert.equal(ElfFile.open(file.readAt)?.staticFunctions(['EVP_KDF_derive']).size, 0);
  assert.equal(file.capped, 'bytes');
  assert.ok(tally.bytes <= 8 << 20);
  const slow = new CappedFile(fd, { bytes: 1 << 30, ms: -1 }, tally);
  assert.equal(ElfFile.open(slow.readAt), undefined);
  assert.equal(slow.capped, 'time');
  // Headers that are larger than any linker makes them.
  header.writeUInt16LE(65_535, 58);
  header.writeUInt16LE(65_535, 60);
  const before = process.memoryUsage().external;
  assert.equal(ElfFile.open((bytes, at) => header.copy(bytes, 0, at))?.staticFunctions(['x']).size, 0);
  assert.ok(process.memoryUsage().external - before < 16 << 20);
});

test('memory maps of millions of lines, or of more files than are looked into', (t) => {
  const folder = folderOf(t);
  execFileSync('mkdir', [join(folder, '7')]);
  const line = (inode: number): string => `00400000-00401000 r-xp 00000000 fe:00 ${inode} /bin/x\n`;
  const tally = newTally();
  const many = Array.from({ length: 3000 }, (_, index) => line(index + 1)).join('');
  writeFileSync(join(folder, '7/maps'), many);
  assert.equal(readMaps(folder, 7, tally)?.length, readerLimits.mappedFiles);
  assert.equal(tally.counts.mapped_files_limit, 1);
  writeFileSync(join(folder, '7/maps'), line(1) + '0-1 rw-p 0 00:00 0\n'.repeat(2_000_000) + line(2));
  assert.equal(readMaps(folder, 7, tally, 1 << 20)?.length, 1);
  assert.equal(tally.counts.maps_bytes_limit, 1);
});

test('a folder with more entries than are looked at', (t) => {
  const folder = folderOf(t);
  for (let index = 0; index < 20; index++) writeFileSync(join(folder, String(index)), '');
  const tally = newTally();
  let seen = 0;
  readFolder(folder, 20, tally, 'too_many', () => seen++);
  readFolder(folder, 19, tally, 'too_many', () => seen++);
  assert.deepEqual([seen, tally.counts], [39, { too_many: 1 }]);
});

test('shares of work: whoever has used up his waits, and no other', () => {
  let nowMs = 0;
  const budget = new WorkBudget(() => nowMs);
  budget.charge(1, 'a', readerLimits.processBurstMs + 1);
  assert.equal(budget.exhausted(1, 'a'), 'process');
  assert.equal(budget.exhausted(2, 'a'), undefined);
  nowMs += (2 * 1000) / readerLimits.processMsPerSecond + 1;
  assert.equal(budget.exhausted(1, 'a'), undefined);
  for (let pid = 10; pid < 20; pid++) budget.charge(pid, 'b', readerLimits.containerBurstMs / 5);
  assert.equal(budget.exhausted(99, 'b'), 'container');
  assert.equal(budget.exhausted(99, 'c'), undefined);
  let looks = 0;
  while (budget.takeRead('d')) looks++;
  assert.equal(looks, readerLimits.containerReadsPerSecond);
  assert.ok(budget.takeRead('e'));
});

test('what a reader is at is known to who watches it, and left alone by the next one', () => {
  const watching = new SharedGuard();
  let refused = 0;
  const reading = new SharedGuard(watching.memory, ['device 00:99', 'bad'], () => refused++);
  assert.equal(watching.state(), undefined);
  assert.ok(reading.enter('a', 'device 00:2f'));
  assert.deepEqual(watching.state(), { steps: 1, container: 'a', subject: 'device 00:2f' });
  assert.equal(reading.enter('a', 'device 00:99'), false);
  assert.equal(reading.enter('bad', 'process 7'), false);
  assert.equal(refused, 2);
  reading.enter('a', 'x'.repeat(5000));
  assert.equal(watching.state()?.steps, 2);
  reading.leave();
  assert.equal(watching.state(), undefined);
});

test('a title of 64 KiB of digits is no interpreter, and costs nothing', () => {
  const begunMs = performance.now();
  assert.equal(programName('/usr/bin/python3', [`${'1'.repeat(65_000)}x`]).length, 65_001);
  assert.ok(performance.now() - begunMs < 1000);
});
