/** 3DES, which no OpenSSL of today negotiates: sessions written byte by byte, as RFC 5246 and RFC 2246 describe them. */
import assert from 'node:assert/strict';
import { createCipheriv, createHash, createHmac } from 'node:crypto';
import { test } from 'node:test';
import { cipherSuites } from '../../../src/tls/suites.ts';
import { type Chunk, Replay } from '../../support/tls/records.ts';

const MASTER = Buffer.alloc(48, 0x5a);
const RANDOMS = [Buffer.alloc(32, 0xc1), Buffer.alloc(32, 0x5e)] as const;
const [HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA] = [22, 20, 23];
const ENCRYPT_THEN_MAC = 22;

const uint16 = (n: number): Buffer => Buffer.of(n >> 8, n & 0xff);
const uint24 = (n: number): Buffer => Buffer.concat([Buffer.of(n >> 16), uint16(n & 0xffff)]);

function pHash(hash: string, secret: Buffer, seed: Buffer, length: number): Buffer {
  const blocks: Buffer[] = [];
  let a = seed;
  for (let have = 0; have < length; have += blocks.at(-1)!.length) {
    a = createHmac(hash, secret).update(a).digest();
    blocks.push(createHmac(hash, secret).update(a).update(seed).digest());
  }
  return Buffer.concat(blocks).subarray(0, length);
}

/** The PRF for "key expansion" (RFC 5246 section 5; before TLS 1.2 RFC 2246 section 5). */
function keyBlock(version: number, length: number): Buffer {
  const seed = Buffer.concat([Buffer.from('key expansion'), RANDOMS[1], RANDOMS[0]]);
  if (version >= 0x303) return pHash('sha256', MASTER, seed, length);
  const md5 = pHash('md5', MASTER.subarray(0, 24), seed, length);
  const sha1 = pHash('sha1', MASTER.subarray(24), seed, length);
  return md5.map((byte, i) => byte ^ sha1[i]!) as Buffer;
}

/** One direction that is protected by 3DES and HMAC-SHA1. */
class Writer {
  private sequence = 0n;
  private readonly version: number;
  private readonly macKey: Buffer;
  private readonly key: Buffer;
  private iv: Buffer;
  private readonly macLast: boolean;

  constructor(version: number, side: 0 | 1, macLast: boolean) {
    const ivLength = version === 0x301 ? 8 : 0;
    const block = keyBlock(version, 2 * (20 + 24 + ivLength));
    this.version = version;
    this.macKey = block.subarray(20 * side, 20 * side + 20);
    this.key = block.subarray(40 + 24 * side, 64 + 24 * side);
    this.iv = block.subarray(88 + ivLength * side, 88 + ivLength * (side + 1));
    this.macLast = macLast;
  }

  record(type: number, content: Buffer): Buffer {
    const head = Buffer.concat([Buffer.of(type), uint16(this.version)]);
    const sequence = Buffer.alloc(8);
    sequence.writeBigUInt64BE(this.sequence++);
    const mac = (bytes: Buffer): Buffer =>
      createHmac('sha1', this.macKey)
        .update(Buffer.concat([sequence, head, uint16(bytes.length), bytes]))
        .digest();
    const plain = this.macLast ? content : Buffer.concat([content, mac(content)]);
    const padding = 7 - (plain.length % 8);
    const explicit =
      this.version === 0x301 ? Buffer.alloc(0) : createHash('md5').update(sequence).digest().subarray(0, 8);
    const cipher = createCipheriv('des-ede3-cbc', this.key, this.version === 0x301 ? this.iv : explicit);
    cipher.setAutoPadding(false);
    const encrypted = cipher.update(Buffer.concat([plain, Buffer.alloc(padding + 1, padding)]));
    // RFC 2246 section 6.2.3.2: the next record's IV is the last block of this one.
    this.iv = encrypted.subarray(-8);
    let fragment = Buffer.concat([explicit, encrypted]);
    if (this.macLast) fragment = Buffer.concat([fragment, mac(fragment)]);
    return Buffer.concat([head, uint16(fragment.length), fragment]);
  }
}

function hello(type: 1 | 2, version: number, suite: number, macLast: boolean): Buffer {
  const extensions = macLast ? Buffer.concat([uint16(4), uint16(ENCRYPT_THEN_MAC), uint16(0)]) : Buffer.alloc(0);
  const suites =
    type === 1
      ? Buffer.concat([uint16(2), uint16(suite), Buffer.of(1, 0)])
      : Buffer.concat([uint16(suite), Buffer.of(0)]);
  const body = Buffer.concat([uint16(version), RANDOMS[type - 1]!, Buffer.of(0), suites, extensions]);
  return plainRecord(HANDSHAKE, version, Buffer.concat([Buffer.of(type), uint24(body.length), body]));
}

function plainRecord(type: number, version: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.of(type), uint16(version), uint16(content.length), content]);
}

const REQUEST = Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
const RESPONSE = Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n${'0123456789'.repeat(50)}`);

function session(version: number, suite: number, macLast: boolean): Chunk[] {
  const writers = [new Writer(version, 0, macLast), new Writer(version, 1, macLast)] as const;
  const finished = Buffer.concat([Buffer.of(20), uint24(12), Buffer.alloc(12, 7)]);
  const flight = (side: 0 | 1): Chunk => ({
    direction: side,
    bytes: Buffer.concat([
      plainRecord(CHANGE_CIPHER_SPEC, version, Buffer.of(1)),
      writers[side].record(HANDSHAKE, finished),
    ]),
  });
  return [
    { direction: 0, bytes: hello(1, version, suite, macLast) },
    { direction: 1, bytes: hello(2, version, suite, macLast) },
    { direction: 1, bytes: plainRecord(HANDSHAKE, version, Buffer.of(14, 0, 0, 0)) },
    flight(0),
    flight(1),
    { direction: 0, bytes: writers[0].record(APPLICATION_DATA, REQUEST) },
    { direction: 1, bytes: writers[1].record(APPLICATION_DATA, RESPONSE.subarray(0, 101)) },
    { direction: 1, bytes: writers[1].record(APPLICATION_DATA, RESPONSE.subarray(101)) },
  ];
}

const suites = [...cipherSuites].filter(([, { cipher }]) => cipher === 'DES-EDE3-CBC');

test('3DES: every suite, every version, MAC before and behind the encryption', () => {
  assert.equal(suites.length, 18);
  for (const [number, { name }] of suites) {
    for (const [version, text] of [
      [0x303, '1.2'],
      [0x302, '1.1'],
      [0x301, '1.0'],
    ] as const) {
      for (const macLast of [false, true]) {
        const replay = new Replay();
        replay.store.addKeyLogText(`CLIENT_RANDOM ${RANDOMS[0].toString('hex')} ${MASTER.toString('hex')}`);
        const outcome = replay.all(session(version, number, macLast)).finish();
        const what = `${name} ${text} ${macLast}`;
        assert.deepEqual(outcome.counters.connections.undecryptable, {}, what);
        assert.deepEqual([outcome.connection.tls?.version, outcome.connection.tls?.cipherSuite], [text, name]);
        assert.ok(outcome.received[0].equals(REQUEST), what);
        assert.ok(outcome.received[1].equals(RESPONSE), what);
      }
    }
  }
});
