import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { ElfFile, type ReadAt, readerOf } from '../../../src/secrets/elf.ts';
import { isCheap, Libraries } from '../../../src/secrets/libraries.ts';
import { openssl } from '../../../src/secrets/openssl/provider.ts';
import { BASE, makeElf, type SampleOptions } from '../../support/kernel/elf-samples.ts';

const libraries = new Libraries();

interface Reads {
  calls: number;
  bytes: number;
}

function readerOfBytes(file: Buffer, reads: Reads = { calls: 0, bytes: 0 }): ReadAt {
  return (buffer, position) => {
    reads.calls++;
    reads.bytes += buffer.length;
    return position >= file.length ? 0 : file.copy(buffer, 0, position);
  };
}

function open(options: SampleOptions): ElfFile {
  const elf = ElfFile.open(readerOfBytes(makeElf(options)));
  assert.ok(elf);
  return elf;
}

const TEST_JE = [0x48, 0x85, 0xff, 0x74, 0x13, 0x31, 0xc0, 0xc3];
const DERIVE = { name: 'EVP_KDF_derive', code: TEST_JE };
const COMPANIONS = [{ name: 'EVP_KDF_fetch' }, { name: 'OSSL_PARAM_construct_utf8_string' }];

for (const hash of ['gnu', 'sysv'] as const) {
  test(`finds an exported function by its ${hash} hash table, with its version`, () => {
    const names = ['SSL_new', 'EVP_MD_fetch', 'EVP_KDF_derive', 'EVP_KDF_fetch'];
    const elf = open({ hash, dynamic: names.map((name) => ({ name, version: 'OPENSSL_3.0.0', code: TEST_JE })) });
    for (const name of names) {
      const symbol = elf.dynamicFunction(name);
      assert.equal(symbol?.version, 'OPENSSL_3.0.0');
      assert.equal(symbol.size, TEST_JE.length);
      assert.deepEqual([...elf.codeAt(symbol.address, TEST_JE.length)], TEST_JE);
      assert.equal(elf.codeOffset(symbol.address), symbol.address - BASE);
    }
    assert.equal(elf.dynamicFunction('EVP_KDF_deriv'), undefined);
    assert.equal(elf.dynamicFunction('EVP_KDF_derive2'), undefined);
  });

  test(`an imported function is not one that the file has (${hash})`, () => {
    const elf = open({ hash, dynamic: [{ name: 'EVP_KDF_derive', imported: true }] });
    assert.equal(elf.dynamicFunction('EVP_KDF_derive'), undefined);
  });
}

test('finds local functions in .symtab, also as the tail of a longer name', () => {
  const elf = open({ local: [{ name: 'my_EVP_KDF_derive' }, DERIVE, ...COMPANIONS] });
  const found = elf.staticFunctions(['EVP_KDF_derive', 'EVP_KDF_fetch', 'nothing']);
  assert.deepEqual([...found.keys()].sort(), ['EVP_KDF_derive', 'EVP_KDF_fetch']);
  assert.deepEqual([...elf.codeAt(found.get('EVP_KDF_derive')!.address, 4)], TEST_JE.slice(0, 4));
  assert.equal(elf.dynamicFunction('EVP_KDF_derive'), undefined);
});

test('reads what the dynamic section names, and the notes', () => {
  const elf = open({
    needed: ['libssl.so.3', 'libc.so.6'],
    runPath: '$ORIGIN/../lib:/opt/lib',
    soname: 'x.so',
    interpreter: true,
    goNote: true,
    data: 'OpenSSL 3.5.8 5 Aug 2026\0',
  });
  assert.deepEqual(elf.needed, ['libssl.so.3', 'libc.so.6']);
  assert.deepEqual(elf.runPath, ['$ORIGIN/../lib', '/opt/lib']);
  assert.equal(elf.soname, 'x.so');
  assert.equal(elf.isDynamicallyLinked, true);
  assert.equal(elf.isGo, true);
  assert.equal(openssl.versionOf(elf), '3.5.8');
  assert.equal(open({}).isGo, false);
});

test('the version of the symbol decides, then what comes with it', () => {
  const verdict = (options: SampleOptions, path = '/usr/lib/libcrypto.so.3') => libraries.judge(open(options), path);
  const three = verdict({ dynamic: [{ ...DERIVE, version: 'OPENSSL_3.0.0' }] });
  assert.equal(three.verdict, 'probe');
  const four = verdict({ dynamic: [{ ...DERIVE, version: 'OPENSSL_4.0.0' }] });
  assert.equal(four.verdict, 'probe');
  // Red Hat's 1.1.1 exports a function of this name with another signature.
  const backported = verdict({ dynamic: [{ ...DERIVE, version: 'OPENSSL_1_1_1b' }, ...COMPANIONS] });
  assert.equal(backported.verdict, 'unsupported');
  assert.equal(verdict({ dynamic: [DERIVE, ...COMPANIONS] }, '/usr/bin/node').verdict, 'probe');
  assert.equal(verdict({ dynamic: [DERIVE] }, '/usr/bin/other').verdict, 'unsupported');
  assert.equal(verdict({ local: [DERIVE, ...COMPANIONS] }, '/usr/bin/static').verdict, 'probe');
  assert.equal(verdict({ local: [DERIVE] }, '/usr/bin/static').verdict, 'unsupported');
  assert.equal(verdict({}, '/usr/bin/true').verdict, 'none');
  const go = verdict({ goNote: true }, '/usr/bin/go-program');
  assert.deepEqual(go.verdict === 'unsupported' && go.library, 'Go (crypto/tls)');
  const gnutls = verdict({}, '/usr/lib/libgnutls.so.30.34.3');
  assert.deepEqual(gnutls.verdict === 'unsupported' && gnutls.library, 'GnuTLS');
  const old = verdict({}, '/usr/lib/libcrypto.so.1.1');
  assert.deepEqual(old.verdict === 'unsupported' && old.library, 'OpenSSL 1');
});

test('the probe is placed by file offset', () => {
  const elf = open({ dynamic: [{ ...DERIVE, version: 'OPENSSL_3.0.0' }] });
  const judgement = libraries.judge(elf, 'libcrypto.so.3');
  assert.ok(judgement.verdict === 'probe');
  assert.equal(judgement.places[0]?.fileOffset, elf.dynamicFunction('EVP_KDF_derive')!.address - BASE + 3);
  assert.equal(isCheap(judgement), true);
});

test('other files are no ELF files', () => {
  for (const bytes of [Buffer.alloc(0), Buffer.from('#!/bin/sh\n'), Buffer.alloc(64)]) {
    assert.equal(ElfFile.open(readerOfBytes(bytes)), undefined);
  }
  const big = makeElf({});
  big[5] = 2; // big-endian
  assert.equal(ElfFile.open(readerOfBytes(big)), undefined);
  const arm = makeElf({});
  arm.writeUInt16LE(183, 18);
  assert.equal(ElfFile.open(readerOfBytes(arm)), undefined);
});

/** Everything there is to ask. */
function askAll(elf: ElfFile | undefined): void {
  if (elf === undefined) return;
  libraries.judge(elf, '/usr/lib/libcrypto.so.3');
  elf.staticFunctions(['EVP_KDF_derive']);
  void [elf.needed, elf.runPath, elf.soname, elf.isGo, elf.isDynamicallyLinked, openssl.versionOf(elf)];
}

const RICH: SampleOptions = {
  dynamic: [
    { ...DERIVE, version: 'OPENSSL_3.0.0' },
    { name: 'EVP_KDF_fetch', version: 'OPENSSL_3.0.0' },
  ],
  local: [DERIVE, ...COMPANIONS],
  needed: ['libc.so.6'],
  runPath: '/x',
  goNote: true,
  interpreter: true,
  data: 'OpenSSL 3.0.0 1 Jan 2022\0',
};

test('a file that is cut anywhere gives a clear answer', () => {
  for (const hash of ['gnu', 'sysv'] as const) {
    const file = makeElf({ ...RICH, hash });
    for (let length = 0; length < file.length; length++) askAll(ElfFile.open(readerOfBytes(file.subarray(0, length))));
  }
});

test('a hash chain without end is given up', () => {
  const sysv = makeElf({ hash: 'sysv', dynamic: [{ name: 'a' }, { name: 'b' }] });
  // Every bucket leads to symbol 1, and symbol 1's chain to itself.
  const table = sysv.indexOf(Buffer.from([3, 0, 0, 0, 3, 0, 0, 0]));
  assert.ok(table > 0);
  for (const index of [0, 1, 2]) sysv.writeUInt32LE(1, table + 8 + index * 4);
  sysv.writeUInt32LE(1, table + 8 + 12 + 4);
  const reads = { calls: 0, bytes: 0 };
  assert.equal(ElfFile.open(readerOfBytes(sysv, reads))?.dynamicFunction('EVP_KDF_derive'), undefined);
  assert.ok(reads.calls < 100_000, `${reads.calls} reads`);

  // A chain of DT_GNU_HASH whose end bit never comes, in a file that seems to have no end.
  const gnu = makeElf({ dynamic: [{ name: 'a' }] });
  const endless: ReadAt = (buffer, position) => {
    reads.calls++;
    if (position < gnu.length) return gnu.copy(buffer, 0, position) || 0;
    buffer.fill(0);
    return buffer.length;
  };
  const chain = gnu.indexOf(Buffer.from([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0])) + 28;
  gnu.writeUInt32LE(0, chain);
  reads.calls = 0;
  assert.equal(ElfFile.open(endless)?.dynamicFunction('EVP_KDF_derive'), undefined);
  assert.ok(reads.calls < 100_000, `${reads.calls} reads`);
});

test('bytes changed at random never throw and never make it read without bound', () => {
  const files = [makeElf(RICH), makeElf({ ...RICH, hash: 'sysv' })];
  fc.assert(
    fc.property(
      fc.nat(1),
      fc.array(fc.tuple(fc.nat(files[0]!.length - 1), fc.oneof(fc.nat(255), fc.constant(255))), { maxLength: 12 }),
      (which, changes) => {
        const file = Buffer.from(files[which]!);
        for (const [at, value] of changes) if (at >= 4 && at < file.length) file[at] = value;
        const reads = { calls: 0, bytes: 0 };
        askAll(ElfFile.open(readerOfBytes(file, reads)));
        assert.ok(reads.calls < 500_000, `${reads.calls} reads`);
      },
    ),
    { numRuns: 500 },
  );
});

test('this Node and its OpenSSL', () => {
  const fd = openSync(process.execPath, 'r');
  try {
    const elf = ElfFile.open(readerOf(fd));
    assert.ok(elf);
    const judgement = libraries.judge(elf, process.execPath);
    assert.ok(judgement.verdict === 'probe');
    assert.equal(isCheap(judgement), true);
    assert.equal(openssl.versionOf(elf), process.versions.openssl);
  } finally {
    closeSync(fd);
  }
});
