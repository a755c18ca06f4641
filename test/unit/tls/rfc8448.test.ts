import assert from 'node:assert/strict';
import { createCipheriv, createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { SECRET_TLS13_EARLY, SECRET_TLS13_HANDSHAKE } from '../../../src/capture/records.ts';
import { defaultLimits } from '../../../src/config/limits.ts';
import { SecretStore } from '../../../src/secrets/store.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { keysHeld } from '../../../src/tls/addon.ts';
import { parseClientHello } from '../../../src/tls/hello.ts';
import { OPEN_OTHER_TYPE, Opener } from '../../../src/tls/opener.ts';
import * as secrets13 from '../../../src/tls/secrets13.ts';
import { cipherSuites } from '../../../src/tls/suites.ts';
import { deriveSecret, expandLabel, masterSecret, trafficKeys } from '../../support/tls/key-schedule.ts';
import { type Chunk, Replay, seededRandom, splitRandomly } from '../../support/tls/records.ts';

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
    const store = new SecretStore(defaultLimits, newCounters());
    const record = { timeUs: 1, pid: 1, kind: SECRET_TLS13_HANDSHAKE, library: 1, context: helloHash } as const;
    store.addKernelSecret({ ...record, secret: simple('handshakeSecret') });
    const told = new Map<string, Buffer>();
    const secrets = new secrets13.Tls13Secrets(
      suite,
      simple('clientHello'),
      simple('serverHello'),
      false,
      simple('clientHello').subarray(6, 38),
      store,
      (label, secret) => told.set(label, Buffer.from(secret)),
    );
    const opens = (which: secrets13.TrafficSecret, keys: string) => {
      const opener = secrets.take(which);
      assert.ok(opener instanceof Opener);
      const record = new Sealer(simple(`${keys}Key`), simple(`${keys}Iv`)).seal(22, counting);
      assert.equal(opener.open(record, 0, record.length), OPEN_OTHER_TYPE);
      assert.deepEqual(Opener.output.subarray(0, Opener.otherLength), counting);
      opener.release();
    };
    assert.equal(secrets.take(secrets13.CLIENT_APPLICATION), 'wait');
    opens(secrets13.SERVER_HANDSHAKE, 'serverHandshake');
    opens(secrets13.CLIENT_HANDSHAKE, 'clientHandshake');
    assert.equal(secrets.take(secrets13.CLIENT_HANDSHAKE), 'wait', 'handshake secrets are used once');
    for (const name of ['encryptedExtensions', 'certificate', 'certificateVerify', 'serverFinished']) {
      const message = simple(name);
      secrets.addToTranscript(message, 0, 1);
      secrets.addToTranscript(message, 1, message.length);
    }
    assert.equal(secrets.take(secrets13.CLIENT_APPLICATION), 'wait');
    secrets.finishServerFlight();
    opens(secrets13.CLIENT_APPLICATION, 'client');
    opens(secrets13.SERVER_APPLICATION, 'server');
    assert.deepEqual([...told.keys()].toSorted(), LABELS.toSorted());
    for (const [label, secret] of told) assert.deepEqual(secret, simple(label), label);
    // The one that the tests of other traces compare with.
    assert.deepEqual(masterSecret('SHA256', simple('handshakeSecret')), simple('masterSecret'));
    secrets.release();
    assert.equal(keysHeld(), 0);
  });

  test('RFC 8446 7.2: the keys after a KeyUpdate', () => {
    const store = new SecretStore(defaultLimits, newCounters());
    const hello = simple('clientHello');
    const random = hello.subarray(6, 38);
    const first = simple('CLIENT_TRAFFIC_SECRET_0');
    store.addKeyLogLine(`CLIENT_TRAFFIC_SECRET_0 ${random.toString('hex')} ${first.toString('hex')}`);
    const secrets = new secrets13.Tls13Secrets(suite, hello, simple('serverHello'), false, random, store, undefined);
    assert.equal(secrets.update(secrets13.CLIENT_APPLICATION), 'wait', 'nothing to update');
    const opener = secrets.take(secrets13.CLIENT_APPLICATION);
    assert.ok(opener instanceof Opener);
    opener.release();
    let secret = first;
    for (let i = 0; i < 2; i++) {
      secret = expandLabel('SHA256', secret, 'traffic upd', Buffer.alloc(0), 32);
      const { key, iv } = trafficKeys(secret);
      const record = new Sealer(key, iv).seal(23, counting);
      const next = secrets.update(secrets13.CLIENT_APPLICATION);
      assert.ok(next instanceof Opener);
      next.open(record, 0, record.length);
      assert.equal(Opener.appLength, counting.length);
      next.release();
    }
    secrets.release();
    assert.equal(keysHeld(), 0);
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
      const pieces = splitRandomly(chunks, maxLength, seededRandom(1));
      replay.all(pieces.slice(0, -1));
      assert.equal(replay.outcome.finished, false, 'one end may still send');
      replay.all(pieces.slice(-1));
      assert.equal(replay.outcome.finished, true, 'both ends have sent close_notify');
      assert.equal(replay.store.size, 1);
      const outcome = replay.finish();
      assert.equal(replay.store.size, 0, 'the secret was forgotten');
      assert.deepEqual(outcome.counters.connections.undecryptable, {});
      assert.deepEqual(outcome.received, [counting, counting]);
      assert.equal(outcome.connection.tls?.serverName, 'server');
      const random = simple('clientHello').subarray(6, 38).toString('hex');
      const lines = LABELS.map((label) => `${label} ${random} ${simple(label).toString('hex')}`);
      assert.deepEqual(outcome.keyLog.toSorted(), lines.toSorted());
    }
    assert.equal(keysHeld(), 0);
  });

  test('RFC 8446 5.1 and 5.4: records without content, with and without padding, between those with', () => {
    const replay = new Replay();
    replay.store.addKernelSecret({
      timeUs: 1,
      pid: 1,
      kind: SECRET_TLS13_HANDSHAKE,
      library: 1,
      secret: simple('handshakeSecret'),
      context: simple('helloHash'),
    });
    const client = new Sealer(simple('clientKey'), simple('clientIv'));
    const nothing = Buffer.alloc(0);
    const records = [
      client.seal(23, nothing),
      client.seal(23, counting),
      ...[client.seal(23, nothing), client.seal(23, nothing, 1), client.seal(23, nothing, 3000)],
      client.seal(23, counting, 7),
    ];
    replay.all([...wire().slice(0, 4), { direction: 0, bytes: Buffer.concat(records) }]);
    const outcome = replay.finish();
    assert.deepEqual(outcome.counters.connections.undecryptable, {});
    assert.deepEqual([outcome.received[0], outcome.gaps], [Buffer.concat([counting, counting]), []]);
    assert.equal(keysHeld(), 0);
  });

  test('section 4: the early traffic secret', () => {
    const hello = resumed('clientHello');
    const early = createHmac('sha256', Buffer.alloc(32)).update(resumed('psk')).digest();
    assert.deepEqual(early, resumed('earlySecret'));
    const context = createHash('sha256').update(hello).digest();
    const store = new SecretStore(defaultLimits, newCounters());
    store.addKernelSecret({ timeUs: 1, pid: 1, kind: SECRET_TLS13_EARLY, library: 1, secret: early, context });
    const told: [string, Buffer][] = [];
    const secrets = new secrets13.Tls13Secrets(
      suite,
      hello,
      simple('serverHello'),
      false,
      hello.subarray(6, 38),
      store,
      (label, secret) => told.push([label, Buffer.from(secret)]),
    );
    const opener = secrets.take(secrets13.CLIENT_EARLY);
    assert.ok(opener instanceof Opener);
    opener.release();
    secrets.release();
    assert.deepEqual(told, [['CLIENT_EARLY_TRAFFIC_SECRET', resumed('CLIENT_EARLY_TRAFFIC_SECRET')]]);
  });

  test('section 4: early data waits for the answer, and is read with the early secret', () => {
    const hello = resumed('clientHello');
    assert.equal(parseClientHello(hello, 4, hello.length)?.offersEarlyData, true);
    const hash = createHash('sha256').update(hello).digest();
    const early = trafficKeys(resumed('CLIENT_EARLY_TRAFFIC_SECRET'));
    // The server's half of the trace's second connection is made here: a ServerHello that takes the PSK, and a flight.
    const body = simple('serverHello').subarray(4);
    const extensions = Buffer.concat([body.subarray(40), Buffer.from('002900020000', 'hex')]);
    const rest = Buffer.concat([body.subarray(0, 38), Buffer.from([0, extensions.length]), extensions]);
    const serverHello = Buffer.concat([Buffer.from([2, 0, 0, rest.length]), rest]);
    const helloHash = createHash('sha256').update(hello).update(serverHello).digest();
    const handshakeSecret = Buffer.alloc(32, 7);
    const keysOf = (label: string, context: Buffer, secret: Buffer = handshakeSecret) =>
      trafficKeys(deriveSecret('SHA256', secret, label, context));
    const flight = Buffer.concat([
      Buffer.from('08000006' + '0004002a0000', 'hex'), // EncryptedExtensions with early_data
      Buffer.concat([Buffer.from([20, 0, 0, 32]), Buffer.alloc(32)]),
    ]);
    const flightHash = createHash('sha256').update(hello).update(serverHello).update(flight).digest();
    const master = masterSecret('SHA256', handshakeSecret);
    const sealer = ({ key, iv }: { key: Buffer; iv: Buffer }) => new Sealer(key, iv);
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
    assert.equal(keysHeld(), 0);
  });

  test('section 5: after a HelloRetryRequest the secret is named by the hash of all four hellos', () => {
    const handshakeSecret = Buffer.alloc(32, 9);
    const helloHash = retried('helloHash');
    const { key, iv } = trafficKeys(deriveSecret('SHA256', handshakeSecret, 's hs traffic', helloHash));
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
    assert.equal(keysHeld(), 0);
  });
});
