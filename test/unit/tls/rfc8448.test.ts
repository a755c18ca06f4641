import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { SECRET_TLS13_EARLY, SECRET_TLS13_HANDSHAKE } from '../../../src/capture/records.ts';
import { parseClientHello } from '../../../src/tls/hello.ts';
import { deriveSecret, masterSecret, tls13TrafficKeys } from '../../../src/tls/key-schedule.ts';
import { hmac, openersHeld, type RecordKeys } from '../../../src/tls/opener.ts';
import { cipherSuites } from '../../../src/tls/suites.ts';
import { type Chunk, Replay, seededRandom, splitRandomly } from './support.ts';

/** The values of a trace, by name. */
function trace(name: string): (field: string) => Buffer {
  const path = new URL(`../../golden/rfc8448/${name}.json`, import.meta.url);
  const fields = JSON.parse(readFileSync(path, 'utf8')) as Record<string, string>;
  return (field) => {
    const value = fields[field];
    assert.ok(value !== undefined, `no ${field}`);
    return Buffer.from(value, 'hex');
  };
}

const suite = cipherSuites.get(0x1301)!;
const simple = trace('simple-1-rtt');
const resumed = trace('resumed-0-rtt');
const retried = trace('hello-retry-request');

/** Encrypts as RFC 8446 5.2 says, with the keys of the trace. */
class Sealer {
  readonly #key: Buffer;
  readonly #iv: Buffer;
  #sequence = 0;

  constructor(key: Buffer, iv: Buffer) {
    this.#key = key;
    this.#iv = iv;
  }

  seal(type: number, content: Buffer, padding = 0): Buffer {
    const plain = Buffer.concat([content, Buffer.from([type]), Buffer.alloc(padding)]);
    const header = Buffer.from([23, 3, 3, (plain.length + 16) >> 8, (plain.length + 16) & 255]);
    const nonce = Buffer.from(this.#iv);
    nonce[11]! ^= this.#sequence++;
    const cipher = createCipheriv('aes-128-gcm', this.#key, nonce).setAAD(header);
    return Buffer.concat([header, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }
}

function clear(message: Buffer): Buffer {
  return Buffer.concat([Buffer.from([22, 3, 3, message.length >> 8, message.length & 255]), message]);
}

/** The simple handshake on the wire; application data as in the trace: 50 bytes that count up, in both directions. */
function wire(): Chunk[] {
  const server = new Sealer(simple('serverHandshakeKey'), simple('serverHandshakeIv'));
  const client = new Sealer(simple('clientHandshakeKey'), simple('clientHandshakeIv'));
  const serverApp = new Sealer(simple('serverKey'), simple('serverIv'));
  const clientApp = new Sealer(simple('clientKey'), simple('clientIv'));
  const flight = ['encryptedExtensions', 'certificate', 'certificateVerify', 'serverFinished'].map(simple);
  const changeCipherSpec = Buffer.from([20, 3, 3, 0, 1, 1]);
  return [
    { direction: 0, bytes: clear(simple('clientHello')) },
    // Compatibility mode (RFC 8446 D.4) adds a ChangeCipherSpec to each direction.
    { direction: 1, bytes: Buffer.concat([clear(simple('serverHello')), changeCipherSpec]) },
    { direction: 1, bytes: server.seal(22, Buffer.concat(flight)) },
    { direction: 0, bytes: Buffer.concat([changeCipherSpec, client.seal(22, simple('clientFinished'))]) },
    { direction: 0, bytes: clientApp.seal(23, counting) },
    { direction: 1, bytes: serverApp.seal(23, counting, 100) },
    { direction: 0, bytes: clientApp.seal(21, Buffer.from([1, 0])) },
    { direction: 1, bytes: serverApp.seal(21, Buffer.from([1, 0])) },
  ];
}
const counting = Buffer.from(Array.from({ length: 50 }, (_, i) => i));
const LABELS = [
  'CLIENT_HANDSHAKE_TRAFFIC_SECRET',
  'SERVER_HANDSHAKE_TRAFFIC_SECRET',
  'EXPORTER_SECRET',
  'SERVER_TRAFFIC_SECRET_0',
  'CLIENT_TRAFFIC_SECRET_0',
];

describe('RFC 8448', () => {
  test('section 3: the key schedule', () => {
    const helloHash = createHash('sha256').update(simple('clientHello')).update(simple('serverHello')).digest();
    assert.deepEqual(helloHash, simple('helloHash'));
    const secret = simple('handshakeSecret');
    const clientHandshake = deriveSecret('SHA256', secret, 'c hs traffic', helloHash);
    const serverHandshake = deriveSecret('SHA256', secret, 's hs traffic', helloHash);
    assert.deepEqual(clientHandshake, simple('CLIENT_HANDSHAKE_TRAFFIC_SECRET'));
    assert.deepEqual(serverHandshake, simple('SERVER_HANDSHAKE_TRAFFIC_SECRET'));
    assert.deepEqual(masterSecret('SHA256', secret), simple('masterSecret'));
    for (const [traffic, key, iv] of [
      ['CLIENT_HANDSHAKE_TRAFFIC_SECRET', 'clientHandshakeKey', 'clientHandshakeIv'],
      ['SERVER_HANDSHAKE_TRAFFIC_SECRET', 'serverHandshakeKey', 'serverHandshakeIv'],
      ['CLIENT_TRAFFIC_SECRET_0', 'clientKey', 'clientIv'],
      ['SERVER_TRAFFIC_SECRET_0', 'serverKey', 'serverIv'],
    ] as const) {
      const keys = tls13TrafficKeys(suite, simple(traffic));
      assert.deepEqual(keys.key, simple(key));
      assert.deepEqual(keys.iv, simple(iv));
    }
  });

  test('section 3: from the handshake secret to the data, whole and at every cut', () => {
    const chunks = wire();
    const cuts = [1 << 20, 1, 3, 50];
    for (const maxLength of cuts) {
      const replay = new Replay();
      replay.store.addKernelSecret({
        timeUs: 1,
        pid: 1,
        kind: SECRET_TLS13_HANDSHAKE,
        library: 1,
        secret: simple('handshakeSecret'),
        context: simple('helloHash'),
      });
      const outcome = replay.all(splitRandomly(chunks, maxLength, seededRandom(1))).finish();
      assert.deepEqual(outcome.counters.connections.undecryptable, {});
      assert.deepEqual(outcome.received, [counting, counting]);
      assert.equal(outcome.connection.tls?.serverName, 'server');
      const random = simple('clientHello').subarray(6, 38).toString('hex');
      const lines = LABELS.map((label) => `${label} ${random} ${simple(label).toString('hex')}`);
      assert.deepEqual(outcome.keyLog.toSorted(), lines.toSorted());
    }
    assert.equal(openersHeld(), 0);
  });

  test('section 4: the early traffic secret', () => {
    const early = hmac('SHA256', Buffer.alloc(32), resumed('psk'));
    assert.deepEqual(early, resumed('earlySecret'));
    const hash = createHash('sha256').update(resumed('clientHello')).digest();
    const secret = deriveSecret('SHA256', early, 'c e traffic', hash);
    assert.deepEqual(secret, resumed('CLIENT_EARLY_TRAFFIC_SECRET'));
  });

  test('section 4: early data waits for the answer, and is read with the early secret', () => {
    const hello = resumed('clientHello');
    assert.equal(parseClientHello(hello.subarray(4))?.offersEarlyData, true);
    const hash = createHash('sha256').update(hello).digest();
    const early = tls13TrafficKeys(suite, resumed('CLIENT_EARLY_TRAFFIC_SECRET'));
    // The server's half of the trace's second connection is made here: a ServerHello that takes the PSK, and a flight.
    const body = simple('serverHello').subarray(4);
    const extensions = Buffer.concat([body.subarray(40), Buffer.from('002900020000', 'hex')]);
    const rest = Buffer.concat([body.subarray(0, 38), Buffer.from([0, extensions.length]), extensions]);
    const serverHello = Buffer.concat([Buffer.from([2, 0, 0, rest.length]), rest]);
    const helloHash = createHash('sha256').update(hello).update(serverHello).digest();
    const handshakeSecret = Buffer.alloc(32, 7);
    const keysOf = (label: string, context: Buffer, secret: Buffer = handshakeSecret) =>
      tls13TrafficKeys(suite, deriveSecret('SHA256', secret, label, context));
    const flight = Buffer.concat([
      Buffer.from('08000006' + '0004002a0000', 'hex'), // EncryptedExtensions with early_data
      Buffer.concat([Buffer.from([20, 0, 0, 32]), Buffer.alloc(32)]),
    ]);
    const flightHash = createHash('sha256').update(hello).update(serverHello).update(flight).digest();
    const master = masterSecret('SHA256', handshakeSecret);
    const sealer = ({ key, iv }: RecordKeys) => new Sealer(key, iv);
    const earlySealer = sealer(early);
    const chunks: Chunk[] = [
      { direction: 0, bytes: clear(hello) },
      { direction: 0, bytes: earlySealer.seal(23, Buffer.from('early request')) },
      { direction: 1, bytes: clear(serverHello) },
      { direction: 1, bytes: sealer(keysOf('s hs traffic', helloHash)).seal(22, flight) },
      {
        direction: 1,
        bytes: sealer(keysOf('s ap traffic', flightHash, master)).seal(23, Buffer.from('early response')),
      },
      { direction: 0, bytes: earlySealer.seal(22, Buffer.from([5, 0, 0, 0])) },
      {
        direction: 0,
        bytes: sealer(keysOf('c hs traffic', helloHash)).seal(
          22,
          Buffer.concat([Buffer.from([20, 0, 0, 32]), Buffer.alloc(32)]),
        ),
      },
      {
        direction: 0,
        bytes: sealer(keysOf('c ap traffic', flightHash, master)).seal(23, Buffer.from(', late request')),
      },
    ];
    for (const when of ['before', 'after'] as const) {
      const replay = new Replay();
      const give = () => {
        const common = { timeUs: 1, pid: 1, library: 1 };
        replay.store.addKernelSecret({
          ...common,
          kind: SECRET_TLS13_EARLY,
          secret: resumed('earlySecret'),
          context: hash,
        });
        const secret = Buffer.from(handshakeSecret);
        replay.store.addKernelSecret({ ...common, kind: SECRET_TLS13_HANDSHAKE, secret, context: helloHash });
      };
      if (when === 'before') give();
      replay.all(chunks);
      if (when === 'after') give();
      assert.deepEqual(replay.outcome.events, ['0 data', '1 data', '0 data'], when);
      const outcome = replay.finish();
      assert.deepEqual(outcome.counters.connections.undecryptable, {});
      assert.equal(outcome.received[0].toString(), 'early request, late request');
      assert.equal(outcome.received[1].toString(), 'early response');
    }
    assert.equal(openersHeld(), 0);
  });

  test('section 5: after a HelloRetryRequest the secret is named by the hash of all four hellos', () => {
    const handshakeSecret = Buffer.alloc(32, 9);
    const helloHash = retried('helloHash');
    const { key, iv } = tls13TrafficKeys(suite, deriveSecret('SHA256', handshakeSecret, 's hs traffic', helloHash));
    const encryptedExtensions = Buffer.from('0800000d' + '000b00100007000504' + '74657374', 'hex');
    const chunks: Chunk[] = [
      { direction: 0, bytes: clear(retried('clientHello1')) },
      { direction: 1, bytes: clear(retried('helloRetryRequest')) },
      { direction: 0, bytes: clear(retried('clientHello2')) },
      { direction: 1, bytes: clear(retried('serverHello')) },
      { direction: 1, bytes: new Sealer(key, iv).seal(22, encryptedExtensions) },
    ];
    for (const maxLength of [1 << 20, 1, 60]) {
      const replay = new Replay();
      const record = { timeUs: 1, pid: 1, kind: SECRET_TLS13_HANDSHAKE, library: 1, context: helloHash } as const;
      replay.store.addKernelSecret({ ...record, secret: Buffer.from(handshakeSecret) });
      const outcome = replay.all(splitRandomly(chunks, maxLength, seededRandom(1))).finish();
      assert.deepEqual(outcome.counters.connections.undecryptable, {});
      assert.equal(outcome.counters.connections.decrypted, 1);
      assert.equal(outcome.connection.tls?.alpn, 'test');
    }
    assert.equal(openersHeld(), 0);
  });
});
