import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Connection } from '../../../src/flow/connection.ts';
import { keysHeld } from '../../../src/tls/addon.ts';
import { detectTls } from '../../../src/tls/layer.ts';
import {
  type Chunk,
  type Recording,
  Replay,
  recordNode,
  seededRandom,
  splitRandomly,
} from '../../support/tls/records.ts';

const only12 = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
const only13 = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' } as const;
const cbc = { ...only12, ciphers: 'ECDHE-RSA-AES128-SHA256' } as const;

async function recordings(): Promise<[string, Recording][]> {
  return [
    ['TLS 1.2', await recordNode({ server: only12, client: only12 })],
    ['TLS 1.2 CBC', await recordNode({ server: cbc, client: cbc })],
    ['TLS 1.3', await recordNode({ server: only13, client: only13 })],
  ];
}

/** What was received is what was sent, with holes where gaps were reported: never another byte. */
function assertOnlyTruth(recording: Recording, replay: Replay, exact: boolean): void {
  const outcome = replay.outcome;
  for (const direction of [0, 1] as const) {
    const sent = recording.sent[direction];
    const received = outcome.received[direction];
    let lost = 0;
    for (const gap of outcome.gaps) if (gap.direction === direction) lost += gap.length;
    if (lost === 0) {
      assert.ok(sent.subarray(0, received.length).equals(received), `direction ${direction}`);
      continue;
    }
    if (exact) assert.equal(received.length + lost, sent.length, `direction ${direction}: the length of the gap`);
    // One gap per test: a prefix and a suffix.
    let prefix = 0;
    while (prefix < received.length && sent[prefix] === received[prefix]) prefix++;
    const suffix = received.length - prefix;
    assert.ok(sent.subarray(sent.length - suffix).equals(received.subarray(prefix)), `direction ${direction}`);
  }
}

describe('gaps', () => {
  test('a piece is missing anywhere after the handshake', async () => {
    for (const [name, recording] of await recordings()) {
      const random = seededRandom(42);
      let recovered = 0;
      for (let round = 0; round < 300; round++) {
        const chunks = splitRandomly(recording.chunks, 1 + Math.floor(random() * 3000), random);
        const first = Math.floor(chunks.length * 0.4 + random() * chunks.length * 0.6);
        const missing = chunks[Math.min(first, chunks.length - 1)]!;
        const replay = new Replay();
        replay.store.addKeyLogText(recording.keyLog);
        for (const chunk of chunks) {
          if (chunk === missing) replay.layer.gap(chunk.direction, chunk.bytes.length, replay.timeUs++);
          else replay.data(chunk.direction, chunk.bytes);
        }
        const { connections } = replay.finish().counters;
        const reasons = Object.keys(connections.undecryptable);
        assert.equal(connections.decrypted + reasons.length, 1, 'each connection counts once');
        assert.ok(
          reasons.every((reason) => reason === 'gap_in_handshake' || reason === 'gap_unrecoverable'),
          reasons.join(),
        );
        if (reasons.length === 0) recovered++;
        assertOnlyTruth(recording, replay, false);
        assert.equal(keysHeld(), 0);
      }
      assert.ok(recovered > 200, `${name}: only ${recovered} of 300 recovered`);
    }
  });

  test('the length of a gap is exact for AEAD suites, inside a record and across several', async () => {
    const recording = await recordNode({ server: only13, client: only13 });
    const bulk = recording.chunks.findIndex(({ direction, bytes }) => direction === 1 && bytes.length > 16_000);
    assert.ok(bulk > 0);
    for (const [from, length] of [
      [0, 5],
      [3, 1],
      [100, 1000],
      [0, 16_401],
      [5, 16_396],
      [16_000, 1000],
      [100, 30_000],
    ] as const) {
      const replay = new Replay();
      replay.store.addKeyLogText(recording.keyLog);
      // All of the server's data from there on in one piece, as its records lie.
      const rest = Buffer.concat(
        recording.chunks
          .slice(bulk)
          .filter((c) => c.direction === 1)
          .map((c) => c.bytes),
      );
      replay.all(recording.chunks.slice(0, bulk));
      replay.data(1, rest.subarray(0, from));
      replay.layer.gap(1, length, replay.timeUs++);
      replay.data(1, rest.subarray(from + length));
      const outcome = replay.finish();
      assert.deepEqual(outcome.counters.connections.undecryptable, {}, `gap of ${length} at ${from}`);
      const lost = outcome.gaps.reduce((sum, gap) => sum + gap.length, 0);
      assert.equal(outcome.received[1].length + lost, recording.sent[1].length, `gap of ${length} at ${from}`);
    }
  });

  test('TLS 1.2 survives a gap in the certificates, TLS 1.3 does not', async () => {
    for (const [options, reason] of [
      [only12, undefined],
      [only13, 'gap_in_handshake'],
    ] as const) {
      const recording = await recordNode({ server: options, client: options });
      const at = recording.chunks.findIndex(({ direction }) => direction === 1);
      const flight = recording.chunks[at]!.bytes;
      const replay = new Replay();
      replay.store.addKeyLogText(recording.keyLog.replace(/^.*TRAFFIC_SECRET_0.*\n/gm, ''));
      replay.all(recording.chunks.slice(0, at)).data(1, flight.subarray(0, 400));
      replay.layer.gap(1, 200, replay.timeUs++);
      replay.data(1, flight.subarray(600)).all(recording.chunks.slice(at + 1));
      const outcome = replay.finish();
      assert.deepEqual(outcome.counters.connections.undecryptable, reason === undefined ? {} : { [reason]: 1 });
      if (reason === undefined) assert.ok(outcome.received[1].equals(recording.sent[1]));
      else assert.deepEqual(outcome.events, []);
    }
  });
});

describe('hostile input', () => {
  test('a flipped bit lets nothing through', async () => {
    for (const [name, recording] of await recordings()) {
      const random = seededRandom(99);
      for (let round = 0; round < 300; round++) {
        const chunks: Chunk[] = recording.chunks.map((chunk) => ({ ...chunk, bytes: Buffer.from(chunk.bytes) }));
        const { bytes } = chunks[Math.floor(random() * chunks.length)]!;
        const at = Math.floor(random() * bytes.length);
        bytes[at]! ^= 1 << Math.floor(random() * 8);
        const replay = new Replay();
        replay.store.addKeyLogText(recording.keyLog);
        const outcome = replay.all(chunks).finish();
        for (const direction of [0, 1] as const) {
          const { length } = outcome.received[direction];
          const expected = recording.sent[direction].subarray(0, length);
          assert.ok(expected.equals(outcome.received[direction]), `${name}, byte ${at}`);
        }
        const { decrypted, tls, undecryptable } = outcome.counters.connections;
        assert.equal(tls, decrypted + Object.keys(undecryptable).length, 'each connection counts once');
        assert.equal(keysHeld(), 0);
      }
    }
  });

  test('what lies inside is told that the rest cannot be read, not that a limit was reached', async () => {
    const recording = await recordNode();
    const chunks: Chunk[] = recording.chunks.map((chunk) => ({ ...chunk, bytes: Buffer.from(chunk.bytes) }));
    const { bytes } = chunks.findLast(({ bytes: own, direction }) => direction === 1 && own.length > 100)!;
    bytes[bytes.length - 1]! ^= 1;
    const replay = new Replay();
    replay.store.addKeyLogText(recording.keyLog);
    const { counters, events } = replay.all(chunks).finish();
    assert.deepEqual(counters.connections.undecryptable, { record_authentication_failed: 1 });
    assert.equal(events.at(-1), 'close unreadable');
  });

  test('a handshake that the end of the capture cuts is told from one that its ends cut', async () => {
    const recording = await recordNode({ server: only13, client: only13 });
    for (const [reason, counted] of [
      ['shutdown', 'shutdown'],
      ['fin', 'closed_in_handshake'],
    ] as const) {
      const replay = new Replay();
      replay.data(0, recording.chunks[0]!.bytes);
      assert.deepEqual(replay.finish(reason).counters.connections.undecryptable, { [counted]: 1 });
    }
  });

  test('the connection may end anywhere', async () => {
    for (const [, recording] of await recordings()) {
      const all = splitRandomly(recording.chunks, 400, seededRandom(3));
      for (let n = 0; n <= all.length; n += 7) {
        const replay = new Replay();
        replay.store.addKeyLogText(recording.keyLog);
        const outcome = replay.all(all.slice(0, n)).finish('reset');
        for (const direction of [0, 1] as const) {
          const { length } = outcome.received[direction];
          assert.ok(recording.sent[direction].subarray(0, length).equals(outcome.received[direction]));
        }
        const { decrypted, undecryptable } = outcome.counters.connections;
        assert.ok(decrypted === 1 || undecryptable.closed_in_handshake === 1);
        assert.equal(keysHeld(), 0);
      }
    }
  });

  test('garbage never throws and holds little', () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 600 }),
      // What looks like records.
      fc
        .tuple(fc.integer({ min: 19, max: 25 }), fc.integer({ min: 0, max: 4 }), fc.uint8Array({ maxLength: 300 }))
        .map(([type, minor, body]) => Uint8Array.from([type, 3, minor, body.length >> 8, body.length & 255, ...body])),
      // What looks like handshake messages.
      fc
        .tuple(fc.constantFrom(1, 2, 8, 20, 24), fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 300 }))
        .map(([type, body, claimed]) =>
          Uint8Array.from([22, 3, 3, 0, body.length + 4, type, 0, claimed >> 8, claimed & 255, ...body]),
        ),
    );
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.tuple(fc.constantFrom(0 as const, 1 as const), piece) },
      { weight: 1, arbitrary: fc.tuple(fc.constantFrom(0 as const, 1 as const), fc.integer({ min: 1, max: 5000 })) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.boolean(), (steps, startSeen) => {
        const replay = new Replay({ startSeen });
        for (const [direction, what] of steps) {
          if (typeof what === 'number') replay.layer.gap(direction, what, replay.timeUs++);
          else replay.data(direction, Buffer.from(what));
        }
        const outcome = replay.finish();
        assert.deepEqual(outcome.received, [Buffer.alloc(0), Buffer.alloc(0)]);
        assert.ok(replay.store.pendingBytes === 0);
      }),
      { numRuns: 2000 },
    );
    assert.equal(keysHeld(), 0);
  });

  test('garbage after a good handshake', async () => {
    const recording = await recordNode({ server: only13, client: only13 });
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }),
        fc.constantFrom(0 as const, 1 as const),
        (pieces, direction) => {
          const replay = new Replay();
          replay.store.addKeyLogText(recording.keyLog);
          replay.all(recording.chunks.slice(0, -2));
          for (const bytes of pieces) replay.data(direction, Buffer.from(bytes));
          const outcome = replay.finish();
          const { length } = outcome.received[direction];
          assert.ok(recording.sent[direction].subarray(0, length).equals(outcome.received[direction]));
        },
      ),
      { numRuns: 300 },
    );
    assert.equal(keysHeld(), 0);
  });

  test('one byte at a time costs no more than it must', async () => {
    const recording = await recordNode({
      dialogue: async (_client, server) => {
        await server.say('x'.repeat(500_000));
      },
    });
    const pieces = splitRandomly(recording.chunks, 1, seededRandom(1));
    const replay = new Replay();
    replay.store.addKeyLogText(recording.keyLog);
    const begin = process.cpuUsage();
    const outcome = replay.all(pieces).finish();
    const { user } = process.cpuUsage(begin);
    assert.equal(outcome.received[1].length, 500_000);
    assert.ok(user < 5_000_000, `${user} us of CPU for ${pieces.length} bytes`);
  });
});

describe('connections older than the capture', () => {
  test('application data first', async () => {
    for (const [, recording] of await recordings()) {
      const replay = new Replay({ startSeen: false });
      replay.store.addKeyLogText(recording.keyLog);
      const outcome = replay.all(recording.chunks.slice(-6)).finish();
      assert.deepEqual(outcome.counters.connections.undecryptable, { opened_before_agent: 1 });
      assert.deepEqual(outcome.events, []);
      assert.equal(outcome.muted, true);
    }
  });

  test('a ClientHello without a SYN is as good', async () => {
    for (const [, recording] of await recordings()) {
      const replay = new Replay({ startSeen: false });
      replay.store.addKeyLogText(recording.keyLog);
      const outcome = replay.all(recording.chunks).finish();
      assert.deepEqual(outcome.counters.connections.undecryptable, {});
      assert.ok(outcome.received[1].equals(recording.sent[1]));
    }
  });
});

describe('detection', () => {
  const connection = (startSeen: boolean) => ({ startSeen }) as Connection;

  test('hellos, whole and cut', async () => {
    for (const [, recording] of await recordings()) {
      for (const direction of [0, 1] as const) {
        const { bytes } = recording.chunks.find((chunk) => chunk.direction === direction)!;
        for (let length = 0; length <= 64; length++) {
          const said = detectTls(direction, bytes, 0, length, connection(true));
          assert.equal(said, length < 10 ? 'maybe' : 'yes', `${length} bytes`);
        }
        // In the other direction it is none.
        assert.equal(detectTls(direction === 0 ? 1 : 0, bytes, 0, 64, connection(true)), 'no');
      }
    }
  });

  test('application data, only where the start was not seen', () => {
    const record = Buffer.concat([Buffer.from([23, 3, 3, 0, 30]), Buffer.alloc(30)]);
    assert.equal(detectTls(0, record, 0, record.length, connection(false)), 'yes');
    assert.equal(detectTls(0, record, 0, record.length, connection(true)), 'no');
    const wrong = Buffer.concat([record, Buffer.from('GET')]);
    assert.equal(detectTls(0, wrong, 0, wrong.length, connection(false)), 'no');
  });

  test('other protocols', () => {
    for (const text of [
      'GET / HTTP/1.1\r\n',
      'HTTP/1.1 200 OK\r\n',
      'PRI * HTTP/2.0\r\n',
      '\x00\x00\x00\x08\x04\xd2\x16\x2f',
      'SSH-2.0-x',
    ]) {
      for (const startSeen of [true, false]) {
        const bytes = Buffer.from(text, 'latin1');
        assert.equal(detectTls(0, bytes, 0, bytes.length, connection(startSeen)), 'no', text);
      }
    }
  });
});
