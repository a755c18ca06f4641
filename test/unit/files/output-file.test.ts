import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fstatSync,
  lchownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  checkOutputFile,
  openOutputFile,
  openOutputFolder,
  UnsafePath,
  writeOutputFile,
} from '../../../src/files/output-file.ts';

const SECRET = { mode: 0o600, secret: true };
const PLAIN = { mode: 0o644 };
const NOBODY = 65_534;
const isRoot = process.geteuid?.() === 0;

function folderOf(t: TestContext, mode = 0o755): string {
  const folder = mkdtempSync(join(tmpdir(), 'wirespan-output-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, mode);
  return folder;
}

function write(path: string, text: string, options = SECRET): void {
  const fd = openOutputFile(path, options);
  writeSync(fd, text);
  closeSync(fd);
}

/** What every way of writing does. */
const ways: Readonly<Record<string, (path: string, text: string) => void>> = {
  openOutputFile: (path, text) => write(path, text),
  writeOutputFile: (path, text) => writeOutputFile(path, text, SECRET),
};

for (const [name, way] of Object.entries(ways)) {
  test(`${name}: a new file has its mode whatever the umask lets`, (t) => {
    const folder = folderOf(t);
    const before = process.umask(0);
    t.after(() => process.umask(before));
    way(join(folder, 'a'), 'text');
    assert.equal(statSync(join(folder, 'a')).mode & 0o7777, 0o600);
    assert.equal(readFileSync(join(folder, 'a'), 'utf8'), 'text');
    assert.deepEqual(readdirSync(folder), ['a'], 'nothing else is left behind');
  });

  test(`${name}: a file of an earlier run is replaced`, (t) => {
    const path = join(folderOf(t), 'a');
    way(path, 'a longer text');
    way(path, 'short');
    assert.equal(readFileSync(path, 'utf8'), 'short');
  });

  test(`${name}: whoever has the file open that was there does not see what is written`, (t) => {
    const path = join(folderOf(t, 0o1777), 'a');
    writeFileSync(path, '');
    chmodSync(path, 0o666);
    if (isRoot) chownSync(path, NOBODY, NOBODY);
    const spy = openSync(path, 'r');
    t.after(() => closeSync(spy));
    way(path, 'secret');
    assert.equal(readFileSync(spy, 'utf8'), '');
    const { mode, uid } = statSync(path);
    assert.deepEqual([mode & 0o777, uid], [0o600, process.geteuid?.()]);
  });

  test(`${name}: neither a symbolic nor a hard link leads to another file`, (t) => {
    const folder = folderOf(t, 0o1777);
    const victim = join(folderOf(t), 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, join(folder, 'soft'));
    if (isRoot) lchownSync(join(folder, 'soft'), NOBODY, NOBODY);
    linkSync(victim, join(folder, 'hard'));
    way(join(folder, 'hard'), 'text');
    if (isRoot) way(join(folder, 'soft'), 'text');
    assert.equal(readFileSync(victim, 'utf8'), 'precious');
    assert.equal(readFileSync(join(folder, 'hard'), 'utf8'), 'text');
    if (isRoot) assert.equal(readFileSync(join(folder, 'soft'), 'utf8'), 'text');
  });

  test(`${name}: a link of our own where nobody else may write is followed`, (t) => {
    const folder = folderOf(t);
    const elsewhere = folderOf(t);
    symlinkSync(join(elsewhere, 'b'), join(folder, 'a'));
    way(join(folder, 'a'), 'text');
    assert.equal(readFileSync(join(elsewhere, 'b'), 'utf8'), 'text');
    symlinkSync(elsewhere, join(folder, 'way'));
    way(join(folder, 'way', 'c'), 'text');
    assert.equal(readFileSync(join(elsewhere, 'c'), 'utf8'), 'text');
    symlinkSync('loop', join(folder, 'loop'));
    assert.throws(() => way(join(folder, 'loop'), 'text'), { code: 'ELOOP' });
  });

  test(`${name}: a link on the way that others have made, or could exchange, is refused`, { skip: !isRoot }, (t) => {
    const elsewhere = folderOf(t);
    const loose = folderOf(t, 0o777);
    symlinkSync(elsewhere, join(loose, 'ours'));
    assert.throws(() => way(join(loose, 'ours', 'a'), 'text'), /lies where others may write; name the folder/);
    const sticky = folderOf(t, 0o1777);
    symlinkSync(elsewhere, join(sticky, 'theirs'));
    lchownSync(join(sticky, 'theirs'), NOBODY, NOBODY);
    assert.throws(() => way(join(sticky, 'theirs', 'a'), 'text'), /belongs to user 65534; name the folder/);
    assert.deepEqual(readdirSync(elsewhere), []);
  });

  test(`${name}: where the folder takes no new file, what is there is used if it is ours alone`, {
    skip: !isRoot,
  }, (t) => {
    const path = mounted(t, 'before');
    way(path, 'text');
    assert.equal(readFileSync(path, 'utf8'), 'text');
    chmodSync(path, 0o644);
    assert.throws(() => way(path, 'secret'), /could be read by others, and will hold secrets; remove it/);
    chmodSync(path, 0o622);
    assert.throws(() => way(path, 'secret'), UnsafePath);
    chmodSync(path, 0o600);
    chownSync(path, NOBODY, NOBODY);
    assert.throws(() => way(path, 'secret'), /belongs to others/);
    assert.equal(readFileSync(path, 'utf8'), 'text');
  });

  test(`${name}: devices and pipes are used where nobody else can have put them`, (t) => {
    way('/dev/null', 'text');
    assert.throws(() => way('/dev/full', 'text'), { code: 'ENOSPC' });
    const folder = folderOf(t);
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    assert.throws(() => way(pipe, 'text'), /the pipe has no reader/);
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    t.after(() => closeSync(reader));
    way(pipe, 'text');
    const bytes = Buffer.alloc(10);
    assert.equal(bytes.toString('utf8', 0, readSync(reader, bytes)), 'text');
    chmodSync(folder, 0o777);
    assert.throws(() => way(pipe, 'text'), /others may have put this pipe or device there/);
    assert.throws(() => way(folder, 'text'), { code: 'EISDIR' });
  });

  test(`${name}: what does not exist is said by its code`, (t) => {
    const folder = folderOf(t);
    assert.throws(() => way(join(folder, 'none', 'a'), 'text'), { code: 'ENOENT' });
    writeFileSync(join(folder, 'file'), '');
    assert.throws(() => way(join(folder, 'file', 'a'), 'text'), { code: 'ENOTDIR' });
  });
}

/** A file that is mounted from elsewhere, as volumes of containers are: nothing can take its place. */
function mounted(t: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'wirespan-output-'));
  const path = join(folder, 'target');
  writeFileSync(join(folder, 'source'), text, { mode: 0o600 });
  writeFileSync(path, '');
  execFileSync('mount', ['--bind', join(folder, 'source'), path]);
  t.after(() => {
    execFileSync('umount', [path]);
    rmSync(folder, { recursive: true });
  });
  return path;
}

test('a plain file of ours keeps its mode where it is written in place, and others get one by the umask', {
  skip: !isRoot,
}, (t) => {
  const path = mounted(t, 'before');
  chmodSync(path, 0o640);
  write(path, 'text', PLAIN as typeof SECRET);
  assert.equal(statSync(path).mode & 0o777, 0o640);
});

test('the check before the work leaves everything as it was', (t) => {
  const folder = folderOf(t);
  const path = join(folder, 'a');
  checkOutputFile(path, PLAIN);
  assert.deepEqual(readdirSync(folder), []);
  writeFileSync(path, 'before');
  checkOutputFile(path, PLAIN);
  assert.equal(readFileSync(path, 'utf8'), 'before');
  assert.throws(() => checkOutputFile(join(folder, 'none', 'a'), PLAIN), { code: 'ENOENT' });
  assert.throws(() => checkOutputFile(folder, PLAIN), { code: 'EISDIR' });
  checkOutputFile('/dev/null', PLAIN);
});

test('the descriptors that the process was given are used as they are', (t) => {
  const fd = openSync(join(folderOf(t), 'a'), 'w');
  t.after(() => closeSync(fd));
  for (const path of [`/dev/fd/${fd}`, `/proc/self/fd/${fd}`]) {
    write(path, path);
    assert.equal(fstatSync(fd).size, path.length);
  }
});

test('a folder is made with those above it, and refused when it is another user’s', (t) => {
  const folder = folderOf(t);
  const made = openOutputFolder(join(folder, 'a', 'b'), 0o700);
  assert.equal(statSync(join(folder, 'a', 'b')).mode & 0o777, 0o700);
  writeFileSync(`${made.base}/x`, 'text');
  assert.deepEqual(readdirSync(join(folder, 'a', 'b')), ['x']);
  closeSync(made.fd);
  if (!isRoot) return;
  mkdirSync(join(folder, 'theirs'));
  chownSync(join(folder, 'theirs'), NOBODY, NOBODY);
  assert.throws(() => openOutputFolder(join(folder, 'theirs'), 0o700), /belongs to user 65534/);
  const sticky = folderOf(t, 0o1777);
  symlinkSync(folder, join(sticky, 'link'));
  lchownSync(join(sticky, 'link'), NOBODY, NOBODY);
  assert.throws(() => openOutputFolder(join(sticky, 'link'), 0o700), UnsafePath);
});
