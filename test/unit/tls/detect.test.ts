import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { type Connection, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { createDetectLayer } from '../../../src/protocol/detect.ts';
import type { Detection, Protocol } from '../../../src/protocol/layer.ts';
import { SecretStore } from '../../../src/secrets/store.ts';
import { createTlsLayer, detectTls } from '../../../src/tls/layer.ts';
import { Bench } from '../../support/protocols/cases.ts';
import { type Chunk, listen, Replay, recordingProxy, recordNode, rsaCertificate } from '../../support/tls/records.ts';

const started = { startSeen: true } as Connection;
const joined = { startSeen: false } as Connection;

const record = (type: number, bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from([type, 3, 1, bytes.length >> 8, bytes.length & 0xff]), bytes]);
/** A hello's message, cut into records of `sizes` bytes; the last one takes the rest. */
function cut(message: Buffer, sizes: readonly number[]): Buffer {
  const records: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    records.push(record(22, message.subarray(at, at + size)));
    at += size;
  }
  if (at < message.length) records.push(record(22, message.subarray(at)));
  return Buffer.concat(records);
}
const hello = (type: number): Buffer => Buffer.concat([Buffer.from([type, 0, 0, 60, 3, 3]), Buffer.alloc(58, 0x16)]);
const detect = (direction: 0 | 1, bytes: Buffer, connection = started): Detection =>
  detectTls(direction, bytes, 0, bytes.length, connection);

/** The ways to cut the first bytes of a hello: by the lengths of its first records. */
const CUTS = [[1], [2], [3], [4], [5], [6], [1, 1], [1, 2], [2, 1, 1], [3, 1], [1, 1, 1, 1], Array(64).fill(1)];
const ALERT = record(21, Buffer.from([2, 70]));

/** RFC 5246 E.2: as OpenSSL 1.0 sends it. */
function hello2(challenge = 32, specs = 6, sessionId = 0): Buffer {
  const body = Buffer.alloc(9 + specs + sessionId + challenge, 0x55);
  body.set([1, 3, 3, 0, specs, 0, sessionId, 0, challenge]);
  return Buffer.concat([Buffer.from([0x80 | (body.length >> 8), body.length & 0xff]), body]);
}

describe('TLS is recognised', () => {
  test('however the hello of either end is cut into records, with what follows, and at every byte of it', () => {
    for (const [direction, type] of [
      [FROM_CLIENT, 1],
      [FROM_SERVER, 2],
    ] as const) {
      for (const sizes of CUTS) {
        const bytes = cut(hello(type), sizes as number[]);
        for (const connection of [started, joined]) {
          assert.equal(detect(direction, bytes, connection), 'yes', sizes.join());
          assert.equal(detect(direction, Buffer.concat([bytes, Buffer.from('trailing')]), connection), 'yes');
          let said: Detection = 'maybe';
          for (let n = 1; n <= bytes.length; n++) {
            const now = detect(direction, bytes.subarray(0, n), connection);
            assert.ok(now === said || (said === 'maybe' && now === 'yes'), `${sizes.join()} at ${n}`);
            said = now;
          }
        }
        // The hello of the other end, and no hello.
        assert.equal(detect(direction === 0 ? 1 : 0, bytes), 'no', sizes.join());
        assert.equal(detect(direction, cut(Buffer.concat([Buffer.from([11]), hello(type).subarray(1)]), sizes)), 'no');
      }
    }
  });

  test('not where another record lies within the hello, or an empty one', () => {
    for (const within of [
      record(22, Buffer.alloc(0)),
      ALERT,
      record(20, Buffer.from([1])),
      Buffer.from('GET / HTTP'),
    ]) {
      assert.equal(
        detect(FROM_CLIENT, Buffer.concat([record(22, Buffer.from([1])), within, cut(hello(1), [9])])),
        'no',
      );
    }
  });

  test('by a ClientHello in the format of SSL 2.0, of a connection whose start was seen', () => {
    for (const bytes of [hello2(), hello2(16), hello2(32, 96), hello2(20, 3, 16)]) {
      for (let n = 1; n < 11; n++) assert.equal(detect(FROM_CLIENT, bytes.subarray(0, n)), 'maybe');
      for (let n = 11; n <= bytes.length; n++) assert.equal(detect(FROM_CLIENT, bytes.subarray(0, n)), 'yes');
      assert.equal(detect(FROM_SERVER, bytes), 'no');
      assert.equal(detect(FROM_CLIENT, bytes, joined), 'no');
    }
    for (const bytes of [hello2(15), hello2(33), hello2(32, 4), hello2(32, 0), hello2(32, 3, 5)]) {
      assert.equal(detect(FROM_CLIENT, bytes), 'no');
    }
    const sslv2 = hello2();
    sslv2[3] = 0; // version 0.2: SSL 2.0 itself
    assert.equal(detect(FROM_CLIENT, sslv2), 'no');
  });
});

/** The first record of a direction, its hello cut in another way. */
function recut(chunks: readonly Chunk[], direction: 0 | 1, sizes: readonly number[]): Chunk[] {
  const at = chunks.findIndex((chunk) => chunk.direction === direction);
  return chunks.map((chunk, i) => {
    if (i !== at) return chunk;
    const end = 5 + chunk.bytes.readUInt16BE(3);
    return {
      direction,
      bytes: Buffer.concat([cut(chunk.bytes.subarray(5, end), sizes), chunk.bytes.subarray(end)]),
    };
  });
}

test('real handshakes are read however their hellos are cut', async () => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const only = { minVersion: version, maxVersion: version };
    const recording = await recordNode({ server: only, client: only });
    for (const sizes of CUTS) {
      const replay = new Replay();
      replay.store.addKeyLogText(recording.keyLog);
      const chunks = recut(recut(recording.chunks, 0, sizes as number[]), 1, sizes as number[]);
      const outcome = replay.all(chunks).finish();
      assert.deepEqual(outcome.received, recording.sent, `${version} ${sizes.join()}`);
      assert.equal(outcome.counters.connections.decrypted, 1);
    }
  }
});

test('a connection that begins with a ClientHello in the format of SSL 2.0 is read, however it is split', async () => {
  const only = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
  const recording = await recordNode({ server: only, client: only });
  const [first, ...rest] = recording.chunks;
  const sslv2 = hello2(32);
  first!.bytes.copy(sslv2, sslv2.length - 32, 11, 43); // the challenge is client_random
  const length = 5 + first!.bytes.readUInt16BE(3);
  const bytes = Buffer.concat([sslv2, first!.bytes.subarray(length)]);
  for (const size of [1, 4, 5, 7, sslv2.length]) {
    const replay = new Replay();
    replay.store.addKeyLogText(recording.keyLog);
    for (let at = 0; at < bytes.length; at += size) replay.data(0, bytes.subarray(at, at + size));
    const outcome = replay.all(rest).finish();
    assert.deepEqual(outcome.received, recording.sent, `pieces of ${size}`);
    assert.equal(outcome.counters.connections.decrypted, 1);
  }
  const short = new Replay();
  short.data(0, hello2(16));
  assert.equal(short.outcome.connection.tls?.clientRandom?.toString('hex'), `${'00'.repeat(16)}${'55'.repeat(16)}`);
});

describe('what only looks like TLS', () => {
  const http: Protocol = {
    name: 'other',
    detect: (direction, bytes, start, end) =>
      direction === FROM_CLIENT && bytes.toString('latin1', start, end).startsWith('GET ') ? 'yes' : 'no',
    create: () => ({ data: () => {}, gap: () => {}, end: () => {}, close: () => {} }),
  };
  const bench = (startSeen = true): Bench =>
    new Bench(
      (context) =>
        createDetectLayer(context, [
          {
            name: 'tls',
            detect: detectTls,
            create: (inner) =>
              createTlsLayer(inner, {
                secrets: new SecretStore(inner.limits, inner.counters),
                next: () => http.create(inner),
              }),
          },
          http,
        ]),
      { startSeen, limits: {} },
    );
  const counted = (b: Bench) => {
    b.close('fin', 99);
    const { tls: count, undecryptable, unrecognised, decrypted } = b.counters.connections;
    return { tls: count, decrypted, undecryptable, unrecognised };
  };
  const nothing = { tls: 0, decrypted: 0, undecryptable: {}, unrecognised: {} };

  test('a server that answers with an alert what has only connected: no TLS connection', () => {
    for (const startSeen of [true, false]) {
      for (let size = 1; size <= ALERT.length; size++) {
        const b = bench(startSeen);
        for (let at = 0; at < ALERT.length; at += size) b.feed(FROM_SERVER, ALERT.subarray(at, at + size), 1);
        assert.deepEqual(counted(b), { ...nothing, unrecognised: { alert_alone: 1 } });
      }
    }
    const closeNotify = bench();
    closeNotify.feed(FROM_SERVER, record(21, Buffer.from([1, 0])), 1);
    assert.deepEqual(counted(closeNotify), { ...nothing, unrecognised: { alert_alone: 1 } });
    assert.deepEqual(counted(bench()), nothing);
  });

  test('an alert as the answer to what is no ClientHello', () => {
    const plain = bench();
    plain.feed(FROM_CLIENT, Buffer.from('GET / HTTP/1.1\r\n\r\n'), 1);
    plain.feed(FROM_SERVER, ALERT, 2);
    assert.deepEqual(counted(plain), nothing);
    const scanner = bench();
    scanner.feed(FROM_CLIENT, Buffer.from('\r\n\r\n'), 1);
    scanner.feed(FROM_SERVER, ALERT, 2);
    assert.deepEqual(counted(scanner), { ...nothing, unrecognised: { no_match: 1 } });
    const cutOff = bench();
    cutOff.feed(FROM_CLIENT, hello(1).subarray(0, 3), 1);
    assert.deepEqual(counted(cutOff), { ...nothing, unrecognised: { no_match: 1 } });
  });

  test('a ClientHello that is refused, before or after it came, is a TLS connection that failed', () => {
    const client = cut(hello(1), []);
    for (const order of [
      [FROM_CLIENT, FROM_SERVER],
      [FROM_SERVER, FROM_CLIENT],
    ] as const) {
      const b = bench();
      for (const direction of order) b.feed(direction, direction === FROM_CLIENT ? client : ALERT, 1);
      const { undecryptable, ...rest } = counted(b);
      assert.deepEqual([rest.tls, rest.unrecognised], [1, {}]);
      assert.deepEqual(Object.values(undecryptable), [1]);
    }
  });

  test('a real refusal counts as one', async () => {
    const { key, cert } = rsaCertificate();
    const server = tls.createServer({ key, cert, minVersion: 'TLSv1.3' });
    const port = await listen(server);
    const proxy = await recordingProxy(port);
    try {
      await new Promise<void>((resolve) => {
        const client = tls.connect({
          port: proxy.port,
          host: '127.0.0.1',
          maxVersion: 'TLSv1.2',
          rejectUnauthorized: false,
        });
        client.on('error', () => {});
        client.on('close', () => resolve());
      });
      const b = bench();
      for (const { direction, bytes } of proxy.chunks[0]!) b.feed(direction, bytes, 1);
      assert.deepEqual(counted(b), { ...nothing, tls: 1, undecryptable: { handshake_refused: 1 } });
    } finally {
      proxy.close();
      server.close();
    }
  });
});
