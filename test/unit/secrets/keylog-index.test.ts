import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { KeyLogIndex } from '../../../src/secrets/keylog-index.ts';
import { KeyLogLines } from '../../../src/secrets/keylog-lines.ts';

const folder = mkdtempSync(join(tmpdir(), 'keylog-'));
after(() => rmSync(folder, { recursive: true }));

const hex = (text: string): string => createHash('sha256').update(text).digest('hex');
const line = (label: string, random: string): string => `${label} ${random} ${hex(label + random)}`;

describe('lines of a key log', () => {
  test('at every split, with any line end, with what is no line between them', () => {
    const long = 'x'.repeat(5000);
    const text = `a\r\n\nbb\0b\n${long}\nccc\n${long}CLIENT_RANDOM\n\n last`;
    const bytes = Buffer.from(text);
    // A line that is too long is one line, of which the beginning is kept.
    const expected = ['a\r', 'bb\0b', long.slice(0, 2048), 'ccc', long.slice(0, 2048), ' last'];
    const cut = (parts: readonly Buffer[]): void => {
      const lines: string[] = [];
      const reader = new KeyLogLines((one, offset) => {
        lines.push(one);
        assert.equal(text.slice(offset, offset + one.length), one);
      });
      for (const part of parts) reader.push(part);
      reader.finish();
      assert.deepEqual(lines, expected);
    };
    cut([bytes]);
    for (let at = 0; at <= bytes.length; at += at < 40 || bytes.length - at < 40 ? 1 : 31)
      cut([bytes.subarray(0, at), bytes.subarray(at)]);
    cut(Array.from(bytes, (byte) => Buffer.of(byte)));
  });
});

describe('an index of a key log', () => {
  const file = join(folder, 'log');

  function index(text: string, maxEntries = 1 << 20): KeyLogIndex {
    writeFileSync(file, text);
    const made = new KeyLogIndex(file, maxEntries);
    const lines = new KeyLogLines((one, offset) => void made.add(one, offset));
    lines.push(Buffer.from(text));
    lines.finish();
    return made;
  }

  function lookUp(made: KeyLogIndex, random: string): string[] {
    const found: string[] = [];
    made.lookUp(Buffer.from(random, 'hex'), (one) => found.push(one.trim()));
    return found;
  }

  test('finds all lines of a random, together or apart, in any order and case, and no others', () => {
    const randoms = Array.from({ length: 3000 }, (_, i) => hex(String(i)));
    // Randoms that begin alike have one key.
    for (let i = 0; i < 40; i++) randoms.push(`abcdef${hex(`k${i}`).slice(6)}`);
    const ofOne = (random: string): string[] => [
      line('CLIENT_HANDSHAKE_TRAFFIC_SECRET', random),
      line('SERVER_HANDSHAKE_TRAFFIC_SECRET', random),
      line('CLIENT_TRAFFIC_SECRET_0', random),
    ];
    const together = randoms.flatMap(ofOne);
    const apart = [0, 1, 2].flatMap((i) => randoms.map((random) => ofOne(random)[i]!));
    const shouted = together.map((one) => one.replace(/ .*/, (values) => values.toUpperCase()));
    for (const lines of [together, apart, shouted]) {
      const made = index(`# comment\n${lines.join('\r\n')}`);
      for (const random of randoms)
        assert.deepEqual(
          lookUp(made, random).map((one) => one.toLowerCase()),
          ofOne(random).map((one) => one.toLowerCase()),
        );
      assert.deepEqual(lookUp(made, hex('another')), []);
      assert.deepEqual(lookUp(made, `abcdef${'0'.repeat(58)}`), []);
      made.close();
    }
  });

  test('says which lines name no random, and counts what finds no place', () => {
    const made = index([1, 2, 3, 4].map((i) => line('CLIENT_TRAFFIC_SECRET_0', hex(`${i}`))).join('\n'), 3);
    assert.equal(made.dropped, 1);
    assert.equal(lookUp(made, hex('3')).length, 1);
    assert.deepEqual(lookUp(made, hex('4')), []);
    for (const other of ['', '# x', 'RSA 01234567 00', 'CLIENT_RANDOM 00 00', '\0'.repeat(100)])
      assert.equal(made.add(other, 0), false);
    made.close();
  });
});

describe('replay with a key log', () => {
  const data = (name: string): string => fileURLToPath(new URL(`../../captures/data/${name}`, import.meta.url));
  const main = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));
  const capture = 'tls13-key-log.pcap.gz';
  const secrets = readFileSync(data(`${capture}.keylog`), 'latin1');

  /** Connections that were decrypted, and the statistics of secrets. */
  function replay(keylog: string, heapMb = 64): { decrypted: number; secrets: Record<string, number>; stderr: string } {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [
        `--max-old-space-size=${heapMb}`,
        main,
        'replay',
        data(capture),
        '--keylog',
        keylog,
        '--output',
        'none',
        '--stats',
        '-',
      ],
      { encoding: 'utf8', timeout: 240_000 },
    );
    assert.equal(status, 0, stderr);
    const stats = JSON.parse(stdout) as { connections: { decrypted: number }; secrets: Record<string, number> };
    return { decrypted: stats.connections.decrypted, secrets: stats.secrets, stderr };
  }

  test('of more than two gigabytes: nothing is held that is not needed', () => {
    const file = join(folder, 'large');
    const lines = secrets.trimEnd().split('\n');
    writeFileSync(file, `${lines.slice(0, 2).join('\n')}\n`);
    // A hole that reads as one line of zeros; no string can hold the file.
    truncateSync(file, 2_200_000_000);
    appendFileSync(file, `\n${lines.slice(2).join('\r\n')}`);
    const outcome = replay(file);
    assert.ok(outcome.decrypted > 0);
    assert.deepEqual(outcome.secrets, { key_log_line_malformed: 1, received: lines.length });
    rmSync(file);
  });

  test('of very many connections, of which the first and the last are wanted', () => {
    const file = join(folder, 'many');
    const lines = secrets.trimEnd().split('\n');
    writeFileSync(file, `${lines.slice(0, 2).join('\n')}\n`);
    const secret = 'ab'.repeat(32);
    for (let block = 0; block < 30; block++) {
      let text = '';
      for (let i = 0; i < 10_000; i++) {
        const n = (block * 10_000 + i).toString(16).padStart(8, '0');
        // Randoms whose beginnings differ, and many of which begin alike.
        text += `SERVER_TRAFFIC_SECRET_0 ${n.slice(2)}${n.repeat(7)}00 ${secret}\n`;
      }
      appendFileSync(file, text);
    }
    appendFileSync(file, lines.slice(2).join('\n'));
    const outcome = replay(file);
    assert.ok(outcome.decrypted > 0);
    assert.deepEqual(outcome.secrets, { received: lines.length });
    rmSync(file);
  });

  test('compressed, also with bytes behind its end', () => {
    const file = join(folder, 'log.gz');
    const plain = join(folder, 'plain');
    writeFileSync(plain, secrets);
    const { decrypted } = replay(plain);
    for (const tail of ['', 'garbage']) {
      writeFileSync(file, Buffer.concat([gzipSync(secrets), Buffer.from(tail)]));
      const outcome = replay(file);
      assert.equal(outcome.decrypted, decrypted);
      assert.equal(/passed over/.test(outcome.stderr), tail !== '');
    }
  });
});
