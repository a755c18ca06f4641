import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  SECRET_TLS12_MASTER,
  SECRET_TLS13_EARLY,
  SECRET_TLS13_HANDSHAKE,
  type SecretRecord,
} from '../../../src/capture/records.ts';
import { keysHeld } from '../../../src/tls/addon.ts';
import { deriveSecret } from '../../support/tls/key-schedule.ts';
import { recordOpenssl } from '../../support/tls/openssl.ts';
import { type Chunk, type Recording, Replay, recordNode } from '../../support/tls/records.ts';

const only12 = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
const only13 = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' } as const;

function kernelSecret(kind: SecretRecord['kind'], secret: Buffer, context: Buffer, timeUs = 1): SecretRecord {
  return { timeUs, pid: 1, kind, library: 1, secret: Buffer.from(secret), context: Buffer.from(context) };
}

/** The first handshake message of a direction, header included. */
function firstMessage(chunks: readonly Chunk[], direction: number): Buffer {
  const bytes = Buffer.concat(chunks.filter((chunk) => chunk.direction === direction).map((chunk) => chunk.bytes));
  return bytes.subarray(5, 5 + 4 + bytes.readUIntBE(6, 3));
}

function masterOf(recording: Recording): SecretRecord {
  const [, random, master] = recording.keyLog.split(/\s+/);
  const serverRandom = firstMessage(recording.chunks, 1).subarray(6, 38);
  return kernelSecret(
    SECRET_TLS12_MASTER,
    Buffer.from(master!, 'hex'),
    Buffer.concat([serverRandom, Buffer.from(random!, 'hex')]),
  );
}

/** @param kept secrets of a key log, which have no age and no end */
function assertWhole(recording: Recording, replay: Replay, kept = 0): void {
  const outcome = replay.finish();
  assert.deepEqual(outcome.counters.connections.undecryptable, {});
  assert.ok(outcome.received[0].equals(recording.sent[0]));
  assert.ok(outcome.received[1].equals(recording.sent[1]));
  assert.equal(replay.store.pendingBytes, 0);
  assert.equal(outcome.connection.awaitingSecret, false);
  assert.equal(replay.wantsTicks, false);
  assert.equal(keysHeld(), 0);
  assert.equal(replay.store.size, kept, 'nothing is kept for a connection that has ended');
}

describe('secrets from the kernel', () => {
  test('TLS 1.2: the master secret, named by both randoms', async () => {
    const recording = await recordNode({ server: only12, client: only12 });
    const replay = new Replay();
    replay.store.addKernelSecret(masterOf(recording));
    assertWhole(recording, replay.all(recording.chunks));
    assert.deepEqual(replay.outcome.keyLog, [recording.keyLog.trim()]);
  });

  test('TLS 1.3: the handshake secret, named by the hash of the hellos, gives all others', async () => {
    // With a PSK and no key exchange, the secrets before the transcript are known: RFC 8446 7.1.
    const psk = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
    const common = ['-psk', psk.toString('hex'), '-tls1_3', '-allow_no_dhe_kex'];
    for (const [suite, hash, length] of [
      ['TLS_AES_128_GCM_SHA256', 'SHA256', 32],
      ['TLS_CHACHA20_POLY1305_SHA256', 'SHA256', 32],
    ] as const) {
      const recording = await recordOpenssl({
        server: [...common, '-nocert', '-curves', 'P-384', '-ciphersuites', suite],
        client: [...common, '-curves', 'P-256', '-ciphersuites', suite],
      });
      const zeros = Buffer.alloc(length);
      const empty = createHash(hash).digest();
      const early = createHmac(hash, zeros).update(psk).digest();
      const secret = createHmac(hash, deriveSecret(hash, early, 'derived', empty))
        .update(zeros)
        .digest();
      const hellos = [firstMessage(recording.chunks, 0), firstMessage(recording.chunks, 1)];
      const helloHash = createHash(hash).update(hellos[0]!).update(hellos[1]!).digest();

      for (const when of ['before', 'after'] as const) {
        const replay = new Replay();
        const record = kernelSecret(SECRET_TLS13_HANDSHAKE, secret, helloHash);
        if (when === 'before') replay.store.addKernelSecret(record);
        replay.all(recording.chunks);
        assert.equal(replay.outcome.connection.awaitingSecret, when === 'after');
        if (when === 'after') replay.store.addKernelSecret(record);
        assertWhole(recording, replay);
        const truth = recording.keyLog.split('\n').filter((line) => /^(?!#)\S/.test(line));
        assert.deepEqual(new Set(replay.outcome.keyLog), new Set(truth));
        assert.equal(replay.outcome.keyLog.length, 5);
      }
    }
  });

  test('what is no secret is refused and counted', () => {
    const replay = new Replay();
    replay.store.addKernelSecret(kernelSecret(SECRET_TLS12_MASTER, Buffer.alloc(48), Buffer.alloc(63)));
    replay.store.addKernelSecret(kernelSecret(SECRET_TLS12_MASTER, Buffer.alloc(32), Buffer.alloc(64)));
    replay.store.addKernelSecret(kernelSecret(SECRET_TLS13_HANDSHAKE, Buffer.alloc(32), Buffer.alloc(48)));
    replay.store.addKernelSecret(kernelSecret(SECRET_TLS13_EARLY, Buffer.alloc(20), Buffer.alloc(20)));
    assert.equal(replay.outcome.counters.secrets.malformed, 4);
    assert.equal(replay.store.size, 0);
  });
});

describe('waiting for a secret', () => {
  for (const [version, options] of [
    ['1.2', { server: only12, client: only12 }],
    ['1.3', { server: only13, client: only13 }],
  ] as const) {
    test(`TLS ${version}: it comes after all data, and nothing changes but the time`, async () => {
      const recording = await recordNode(options);
      const early = new Replay();
      early.store.addKeyLogText(recording.keyLog);
      early.all(recording.chunks);
      const replay = new Replay();
      replay.all(recording.chunks);
      assert.equal(replay.outcome.events.length, 0);
      assert.equal(replay.outcome.connection.awaitingSecret, true);
      assert.equal(replay.wantsTicks, true);
      assert.ok(replay.store.pendingBytes > 40_000);
      replay.store.addKeyLogText(recording.keyLog);
      // Requests and responses come in the same order.
      assert.deepEqual(replay.outcome.events, early.outcome.events);
      early.finish();
      assertWhole(recording, replay, 1);
    });

    test(`TLS ${version}: its lines come one by one in between`, async () => {
      const recording = await recordNode(options);
      const lines = recording.keyLog.split('\n').reverse();
      const replay = new Replay();
      recording.chunks.forEach(({ direction, bytes }, i) => {
        replay.data(direction, bytes);
        replay.store.addKeyLogLine(lines[i] ?? '');
      });
      for (const line of lines.slice(recording.chunks.length)) replay.store.addKeyLogLine(line);
      assertWhole(recording, replay, 1);
    });

    test(`TLS ${version}: the ends of both directions wait too`, async () => {
      const recording = await recordNode(options);
      const replay = new Replay().all(recording.chunks);
      replay.layer.end(0, 'fin', replay.timeUs++);
      replay.layer.end(1, 'fin', replay.timeUs++);
      assert.deepEqual(replay.outcome.events, []);
      replay.store.addKeyLogText(recording.keyLog);
      assert.deepEqual(replay.outcome.events.slice(-2), ['0 end', '1 end']);
      replay.layer.close('fin', replay.timeUs);
      assert.equal(replay.outcome.events.at(-1), 'close fin');
    });

    test(`TLS ${version}: it never comes`, async () => {
      const recording = await recordNode(options);
      const replay = new Replay();
      replay.all(recording.chunks);
      replay.layer.tick?.(replay.timeUs + replay.limits.tlsPendingUs + 1);
      assert.deepEqual(replay.outcome.counters.connections.undecryptable, { no_secret: 1 });
      assert.equal(replay.outcome.muted, true);
      assert.equal(replay.store.pendingBytes, 0);
      assert.equal(replay.wantsTicks, false);
      const outcome = replay.finish();
      assert.deepEqual(outcome.counters.connections.undecryptable, { no_secret: 1 });
      assert.deepEqual(outcome.events, []);
      assert.equal(outcome.counters.connections.decrypted, 0);
    });

    test(`TLS ${version}: it comes too late`, async () => {
      const recording = await recordNode(options);
      const replay = new Replay();
      replay.all(recording.chunks);
      replay.layer.tick?.(replay.timeUs + replay.limits.tlsPendingUs + 1);
      replay.store.addKeyLogText(recording.keyLog);
      assert.deepEqual(replay.outcome.counters.connections.undecryptable, { secret_too_late: 1 });
      assert.deepEqual(replay.finish().events, []);
      assert.equal(keysHeld(), 0);
    });

    test(`TLS ${version}: too much to hold for one connection`, async () => {
      const recording = await recordNode(options);
      const replay = new Replay({
        limits: { tlsPendingBytesPerConnection: 10_000 },
        explainMissingSecret: () => 'why',
      });
      replay.all(recording.chunks);
      assert.deepEqual(replay.outcome.counters.connections.undecryptable, { why: 1 });
      assert.equal(replay.store.pendingBytes, 0);
      replay.finish();
    });

    test(`TLS ${version}: too much to hold for all connections`, async () => {
      const recording = await recordNode(options);
      const replay = new Replay({ limits: { tlsPendingBytes: 10_000 } });
      replay.all(recording.chunks);
      assert.deepEqual(replay.outcome.counters.connections.undecryptable, { pending_limit: 1 });
      assert.equal(replay.store.pendingBytes, 0);
      replay.finish();
    });

    test(`TLS ${version}: a wrong secret yields nothing`, async () => {
      const recording = await recordNode(options);
      for (const label of new Set(recording.keyLog.match(/^\S+/gm))) {
        const replay = new Replay();
        replay.store.addKeyLogText(
          recording.keyLog.replace(new RegExp(`^(${label} \\S+ )(\\S\\S)`, 'gm'), (_, before: string, byte: string) => {
            return before + (Number.parseInt(byte, 16) ^ 1).toString(16).padStart(2, '0');
          }),
        );
        const outcome = replay.all(recording.chunks).finish();
        const expected = label === 'EXPORTER_SECRET' ? {} : { record_authentication_failed: 1 };
        assert.deepEqual(outcome.counters.connections.undecryptable, expected, label);
        if (label === 'CLIENT_RANDOM') assert.deepEqual(outcome.events, []);
        assert.ok(recording.sent[0].subarray(0, outcome.received[0].length).equals(outcome.received[0]));
        assert.ok(recording.sent[1].subarray(0, outcome.received[1].length).equals(outcome.received[1]));
        assert.equal(keysHeld(), 0);
      }
    });
  }

  test('TLS 1.3: application secrets alone are enough', async () => {
    const recording = await recordNode({ server: only13, client: only13 });
    const replay = new Replay();
    replay.store.addKeyLogText(recording.keyLog.replace(/^.*HANDSHAKE.*\n/gm, ''));
    assertWhole(recording, replay.all(recording.chunks), 1);
  });
});
